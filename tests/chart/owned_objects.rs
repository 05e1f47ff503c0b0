//! The guard on what Ringfence made.

use serde_json::{Value, json};

use crate::api::{Api, eventually, fate};
use crate::chart::{RINGFENCE, namespace, with_chart};

const GUARD: &str = "guard ringfence-owned-objects";
const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
const NAMESPACES: &str = "system:serviceaccount:kube-system:namespace-controller";
const TOKENS: &str = "system:serviceaccount:kube-system:tokens-controller";
const ALL_CONTROLLERS: &str = "system:kube-controller-manager";

/// One owned object of each kind: the collection's path, and how a tenant would change what it says.
async fn owned(admin: &Api, ns: &str, name: &str, metadata: Value) -> Vec<(String, Value)> {
    // A role that gives nothing: RBAC's own check of who may bind must not answer before the guard does.
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "test-nothing"});
    let tenant = json!([{"kind": "User", "name": "tenant", "apiGroup": "rbac.authorization.k8s.io"}]);
    let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{ns}");
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let kinds = [
        (
            format!("/api/v1/namespaces/{ns}/serviceaccounts"),
            json!({}),
            json!({"imagePullSecrets": [{"name": "x"}]}),
        ),
        (format!("{rbac}/roles"), json!({}), json!({"rules": rules})),
        (
            format!("{rbac}/rolebindings"),
            json!({"roleRef": role}),
            json!({"subjects": tenant}),
        ),
        (
            format!("/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies"),
            json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}),
            json!({"spec": {"egress": [{}]}}),
        ),
        (
            format!("/apis/ringfence.dev/v1alpha1/namespaces/{ns}/resolvednames"),
            json!({
                "apiVersion": "ringfence.dev/v1alpha1", "kind": "ResolvedNames",
                "spec": {"rules": [{"name": "x", "domains": ["a.example"], "ports": [{"port": 1}]}]},
            }),
            json!({"spec": {"rules": [{"name": "x", "domains": ["b.example"], "ports": [{"port": 1}]}]}}),
        ),
    ];
    let mut made = Vec::new();
    for (path, mut body, change) in kinds {
        body["metadata"] = metadata.clone();
        body["metadata"]["name"] = json!(name);
        let owner = match &metadata["ownerReferences"][0]["uid"] {
            Value::String(uid) => uid,
            _ => "7",
        };
        body["metadata"]["annotations"]["ringfence.dev/owner-uid"] = json!(owner);
        admin.master(RINGFENCE).post(&path, body).await.unwrap();
        made.push((path, change));
    }
    made
}

/// An owner of Ringfence's that lives, so that the real garbage collector leaves what it owns alone.
async fn living_owner(admin: &Api) -> Value {
    let name = support::unique("holder");
    let spec = json!({"images": {"allowed": ["registry.example.com/**"]}});
    let holder = admin
        .master(RINGFENCE)
        .post(
            "/apis/ringfence.dev/v1alpha1/aiworkflowclasses",
            json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": name}, "spec": spec}),
        )
        .await
        .unwrap();
    json!([{"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "name": name, "uid": holder["metadata"]["uid"]}])
}

#[tokio::test]
async fn nobody_else_changes_or_deletes_them() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "owned-tenant", json!({"ringfence.dev/enforce": "default"})).await;
    let owner = living_owner(&admin).await;
    for (path, change) in owned(&admin, &ns, "mine", json!({"ownerReferences": owner})).await {
        let object = format!("{path}/mine");
        // With `approve` or without: the way out is to take `enforce` off, in the open.
        for user in [
            admin.user("tenant"),
            admin.user("approver"),
            admin.clone(),
            admin.master(NAMESPACES),
        ] {
            assert_eq!(fate(user.patch(&object, change.clone()).await), GUARD, "{object}");
            let disown = json!({"metadata": {"annotations": {"ringfence.dev/owner-uid": null}}});
            // Two guards say no to those without approve; which one is named is chance.
            let found = fate(user.patch(&object, disown).await);
            assert!(
                found == GUARD || found == "guard ringfence-reserved-keys",
                "{object}: {found}"
            );
        }
        for user in [
            admin.user("tenant"),
            admin.user("approver"),
            admin.clone(),
            admin.master(TOKENS),
        ] {
            assert_eq!(fate(user.delete(&object).await), GUARD, "{object}");
        }
        assert_eq!(fate(admin.delete(&path).await), GUARD, "the collection {path}");
        assert_eq!(
            fate(admin.master(RINGFENCE).patch(&object, change).await),
            "done",
            "{object}"
        );
        assert_eq!(fate(admin.master(RINGFENCE).delete(&object).await), "done", "{object}");
    }
    let refusal = {
        let owner = json!([{"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "name": "triage", "uid": "7", "controller": true}]);
        let path = format!("/api/v1/namespaces/{ns}/serviceaccounts");
        let account = json!({"metadata": {"name": "named", "annotations": {"ringfence.dev/owner-uid": "7"}, "ownerReferences": owner, "finalizers": ["test/hold"]}});
        admin.master(RINGFENCE).post(&path, account).await.unwrap();
        admin.user("tenant").delete(&format!("{path}/named")).await.unwrap_err()
    };
    for part in ["tenant", "delete", "AIWorkflow triage", "Fix:"] {
        assert!(
            refusal.message.contains(part),
            "{part} is missing in: {}",
            refusal.message
        );
    }
}

/// What has no owner any more is kept by nobody; the default-deny never had one.
#[tokio::test]
async fn what_lost_its_owner_goes_by_the_platforms_word() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "owned-lost", json!({"ringfence.dev/enforce": "default"})).await;
    for (path, change) in owned(&admin, &ns, "lost", json!({})).await {
        let object = format!("{path}/lost");
        let refused = admin.user("tenant").delete(&object).await;
        assert!(
            refused
                .as_ref()
                .is_err_and(|refused| refused.message.contains("the verb approve")),
            "{object}: {refused:?}"
        );
        assert_eq!(
            fate(admin.user("approver").patch(&object, change).await),
            GUARD,
            "{object}"
        );
        assert_eq!(fate(admin.user("approver").delete(&object).await), "done", "{object}");
    }
    let other = namespace(&admin, "owned-other", json!({"ringfence.dev/enforce": "gold"})).await;
    for (path, _) in owned(&admin, &other, "lost", json!({})).await {
        let refused = fate(admin.user("default-approver").delete(&format!("{path}/lost")).await);
        assert_eq!(refused, GUARD, "an approver of another class: {path}");
    }
    for (path, _) in owned(&admin, &ns, "ringfence", json!({})).await {
        let expected = if path.ends_with("networkpolicies") {
            GUARD
        } else {
            "done"
        };
        assert_eq!(
            fate(admin.delete(&format!("{path}/ringfence")).await),
            expected,
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_is_not_owned_or_not_enforced_is_free() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "owned-not", json!({"ringfence.dev/enforce": "default"})).await;
    let warned = namespace(&admin, "owned-warned", json!({"ringfence.dev/warn": "default"})).await;
    let tenant = admin.user("tenant");
    let accounts = format!("/api/v1/namespaces/{ns}/serviceaccounts");
    // The guard comes first, so what a webhook is asked about it has let be.
    let asked = "webhook accounts.ringfence.dev";
    let own = json!({"metadata": {"name": "own"}});
    assert_eq!(fate(tenant.post(&accounts, own.clone()).await), asked);
    admin.master(RINGFENCE).post(&accounts, own).await.unwrap();
    let labels = json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}});
    assert_eq!(
        fate(tenant.patch(&format!("{accounts}/own"), labels.clone()).await),
        asked
    );
    assert_eq!(fate(tenant.delete(&format!("{accounts}/own")).await), "done");
    for (path, change) in owned(&admin, &warned, "mine", json!({})).await {
        // Rights that nobody answers for may go; more they do not become, nor somebody's.
        if path.contains("/rbac") {
            let owner =
                json!([{"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "name": "mine", "uid": "7"}]);
            for change in [change, json!({"metadata": {"ownerReferences": owner}})] {
                let found = fate(admin.patch(&format!("{path}/mine"), change).await);
                assert_eq!(found, "guard ringfence-granted-objects", "{path}");
            }
        }
        assert_eq!(
            fate(tenant.patch(&format!("{path}/mine"), labels.clone()).await),
            "done",
            "{path}"
        );
        assert_eq!(fate(tenant.delete(&format!("{path}/mine")).await), "done", "{path}");
    }
    // Break-glass opens this guard too.
    let made = owned(&admin, &ns, "left", json!({})).await;
    assert_eq!(
        fate(
            admin
                .user("default-approver")
                .patch(
                    &format!("/api/v1/namespaces/{ns}"),
                    json!({"metadata": {"labels": {"ringfence.dev/enforce": null}}})
                )
                .await
        ),
        "done"
    );
    for (path, _) in made {
        eventually("the guard opens", || async {
            let found = fate(tenant.delete(&format!("{path}/left")).await);
            if found == "done" { Ok(()) } else { Err(found) }
        })
        .await;
    }
}

#[tokio::test]
async fn built_in_controllers_do_their_work_and_no_more() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "owned-controllers", json!({"ringfence.dev/enforce": "default"})).await;
    for collector in [COLLECTOR, ALL_CONTROLLERS] {
        let user = admin.master(collector);
        let owner = living_owner(&admin).await;
        for (path, change) in owned(
            &admin,
            &ns,
            "gc",
            json!({"finalizers": ["test/hold"], "ownerReferences": owner}),
        )
        .await
        {
            let object = format!("{path}/gc");
            assert_eq!(fate(user.patch(&object, change).await), GUARD, "{collector} {object}");
            for metadata in [
                json!({"labels": {"a": "b"}}),
                json!({"annotations": {"a": "b"}}),
                json!({"annotations": null, "finalizers": null}),
            ] {
                assert_eq!(
                    fate(user.patch(&object, json!({"metadata": metadata})).await),
                    GUARD,
                    "{collector} {object}"
                );
            }
            assert_eq!(
                fate(
                    user.patch(&object, json!({"metadata": {"ownerReferences": null}}))
                        .await
                ),
                "done",
                "{object}"
            );
            assert_eq!(fate(user.delete(&object).await), "done", "{object}");
            assert_eq!(
                fate(
                    admin
                        .user("tenant")
                        .patch(&object, json!({"metadata": {"finalizers": null}}))
                        .await
                ),
                GUARD,
                "{object}"
            );
            assert_eq!(
                fate(user.patch(&object, json!({"metadata": {"finalizers": null}})).await),
                "done",
                "{object}"
            );
            assert_eq!(admin.get(&object).await.unwrap_err().code, 404, "{object}");
        }
    }
    for (path, _) in owned(&admin, &ns, "cleared", json!({})).await {
        assert_eq!(
            fate(admin.master(NAMESPACES).delete(&path).await),
            "done",
            "the collection {path}"
        );
    }
    owned(&admin, &ns, "tokens", json!({})).await;
    let account = format!("/api/v1/namespaces/{ns}/serviceaccounts/tokens");
    assert_eq!(
        fate(
            admin
                .master(TOKENS)
                .patch(&account, json!({"secrets": [{"name": "x"}]}))
                .await
        ),
        "done"
    );
    assert_eq!(
        fate(
            admin
                .master(TOKENS)
                .patch(&account, json!({"imagePullSecrets": [{"name": "x"}]}))
                .await
        ),
        GUARD
    );
    assert_eq!(
        fate(
            admin
                .master(TOKENS)
                .patch(&account, json!({"metadata": {"labels": {"a": "b"}}}))
                .await
        ),
        GUARD
    );
}

#[tokio::test]
async fn the_real_controllers_collect_and_empty_an_enforced_namespace() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "owned-real", json!({"ringfence.dev/enforce": "default"})).await;
    let maps = format!("/api/v1/namespaces/{ns}/configmaps");
    let holder = admin
        .post(&maps, json!({"metadata": {"name": "holder"}}))
        .await
        .unwrap();
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "holder", "uid": holder["metadata"]["uid"], "controller": true}]);
    let collected = owned(&admin, &ns, "collected", json!({"ownerReferences": owner})).await;
    owned(&admin, &ns, "last", json!({})).await;
    admin.delete(&format!("{maps}/holder")).await.unwrap();
    for (path, _) in collected {
        eventually("garbage collection", || async {
            let found = admin.get(&format!("{path}/collected")).await;
            if found.is_err() {
                Ok(())
            } else {
                Err(format!("{path} is still there"))
            }
        })
        .await;
    }
    let path = format!("/api/v1/namespaces/{ns}");
    admin.delete(&path).await.unwrap();
    eventually("the namespace's end", || async {
        admin
            .get(&path)
            .await
            .map_or(Ok(()), |namespace| Err(namespace["status"].to_string()))
    })
    .await;
}
