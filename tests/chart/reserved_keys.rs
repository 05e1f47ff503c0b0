//! The guard on reserved labels and annotations.

use serde_json::{Value, json};

use crate::api::{Api, eventually, fate};
use crate::chart::{RINGFENCE, namespace, with_chart, with_chart_alone};

const GUARD: &str = "guard ringfence-reserved-keys";
const KINDS: &str = "webhook kinds.ringfence.dev";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn annotated(name: &str, annotations: Value) -> Value {
    json!({"metadata": {"name": name, "annotations": annotations}})
}

#[tokio::test]
async fn only_ringfence_marks_what_it_owns() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "reserved-owner", json!({})).await;
    let mark = json!({"ringfence.dev/owner-uid": "1"});
    let binding = json!({"metadata": {"name": "x", "annotations": mark}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "x"}});
    let policy = json!({"metadata": {"name": "x", "annotations": mark}, "spec": {"podSelector": {}}});
    for (path, body) in [
        (
            format!("/api/v1/namespaces/{ns}/serviceaccounts"),
            annotated("x", mark.clone()),
        ),
        (format!("{RBAC}/namespaces/{ns}/roles"), annotated("x", mark.clone())),
        (format!("{RBAC}/namespaces/{ns}/rolebindings"), binding),
        (
            format!("/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies"),
            policy,
        ),
    ] {
        for user in [admin.user("tenant"), admin.user("approver"), admin.clone()] {
            assert_eq!(fate(user.post(&path, body.clone()).await), GUARD, "{path}");
        }
        assert_eq!(fate(admin.master(RINGFENCE).post(&path, body).await), "done", "{path}");
        let object = format!("{path}/x");
        let change = json!({"metadata": {"annotations": {"ringfence.dev/owner-uid": "2"}}});
        assert_eq!(fate(admin.patch(&object, change).await), GUARD, "{path}");
        assert_eq!(
            fate(
                admin
                    .user("tenant")
                    .patch(&object, json!({"metadata": {"labels": {"a": "b"}}}))
                    .await
            ),
            "done"
        );
        let disown = json!({"metadata": {"annotations": {"ringfence.dev/owner-uid": null}}});
        assert_eq!(
            fate(admin.user("tenant").patch(&object, disown.clone()).await),
            GUARD,
            "{path}"
        );
        assert_eq!(
            fate(admin.user("approver").patch(&object, disown).await),
            "done",
            "{path}"
        );
    }
}

#[tokio::test]
async fn other_keys_need_approve_on_the_class_of_the_namespace() {
    let (admin, _chart) = with_chart().await;
    let plain = namespace(&admin, "reserved-plain", json!({})).await;
    let fenced = namespace(&admin, "reserved-fenced", json!({"ringfence.dev/warn": "default"})).await;
    for (ns, user, expected) in [
        (&plain, "tenant", GUARD),
        (&plain, "default-approver", GUARD),
        (&plain, "approver", "done"),
        (&fenced, "tenant", GUARD),
        (&fenced, "gold-approver", GUARD),
        (&fenced, "default-approver", "done"),
    ] {
        let path = format!("/api/v1/namespaces/{ns}/serviceaccounts");
        let body = annotated(user, json!({"ringfence.dev/adopt": "triage"}));
        assert_eq!(
            fate(admin.user(user).post(&path, body).await),
            expected,
            "{user} in {ns}"
        );
    }
    let account = format!("/api/v1/namespaces/{fenced}/serviceaccounts/default-approver");
    let tenant = admin.user("tenant");
    assert_eq!(
        fate(tenant.patch(&account, json!({"metadata": {"annotations": null}})).await),
        GUARD
    );
    assert_eq!(
        fate(
            tenant
                .patch(&account, json!({"metadata": {"annotations": {"note": "x"}}}))
                .await
        ),
        "done"
    );
    let refusal = tenant
        .patch(&account, json!({"metadata": {"labels": {"ringfence.dev/x": "y"}}}))
        .await
        .unwrap_err();
    for part in [
        "ringfence.dev/x",
        "aiworkflowclasses.ringfence.dev/default",
        "tenant",
        "Fix:",
    ] {
        assert!(
            refusal.message.contains(part),
            "{part} is missing in: {}",
            refusal.message
        );
    }
}

#[tokio::test]
async fn the_ceiling_and_reviews_are_not_for_everyone() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "reserved-ceiling", json!({})).await;
    let part = |name: &str| json!({"metadata": {"name": name, "labels": {"ringfence.dev/aggregate-to-ceiling": "true"}}, "rules": []});
    let roles = format!("{RBAC}/clusterroles");
    assert_eq!(fate(admin.user("tenant").post(&roles, part("reserved-a")).await), GUARD);
    assert_eq!(
        fate(admin.user("default-approver").post(&roles, part("reserved-a")).await),
        GUARD
    );
    assert_eq!(
        fate(admin.user("approver").post(&roles, part("reserved-a")).await),
        "done"
    );
    assert_eq!(
        fate(
            admin
                .user("tenant")
                .patch(&format!("{roles}/reserved-a"), json!({"metadata": {"labels": null}}))
                .await
        ),
        GUARD
    );
    assert_eq!(fate(admin.delete(&format!("{roles}/reserved-a")).await), "done");

    let workflows = format!("/apis/ringfence.dev/v1alpha1/namespaces/{ns}/aiworkflows");
    let workflow = |annotations: Value| json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"name": "x", "annotations": annotations}, "spec": {"launchers": [], "images": ["a/b"]}});
    let reviewed = json!({"ringfence.dev/reviewed": "1"});
    assert_eq!(
        fate(admin.user("tenant").post(&workflows, workflow(reviewed.clone())).await),
        GUARD
    );
    assert_eq!(
        fate(admin.user("tenant").post(&workflows, workflow(json!({}))).await),
        KINDS,
        "past the guard"
    );
    admin
        .master(RINGFENCE)
        .post(&workflows, workflow(json!({})))
        .await
        .unwrap();
    let patch = json!({"metadata": {"annotations": reviewed}});
    assert_eq!(
        fate(
            admin
                .user("tenant")
                .patch(&format!("{workflows}/x"), patch.clone())
                .await
        ),
        GUARD
    );
    assert_eq!(
        fate(admin.patch(&format!("{workflows}/x/status"), patch.clone()).await),
        "done"
    );
    assert_eq!(
        fate(admin.user("approver").patch(&format!("{workflows}/x"), patch).await),
        KINDS,
        "past the guard"
    );

    let label = json!({"metadata": {"labels": {"ringfence.dev/anything": "1"}}});
    for path in [
        format!("/api/v1/namespaces/{ns}"),
        format!("/api/v1/namespaces/{ns}/status"),
    ] {
        assert_eq!(
            fate(admin.user("tenant").patch(&path, label.clone()).await),
            GUARD,
            "{path}"
        );
    }
}

#[tokio::test]
async fn big_objects_without_such_keys_pass() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "reserved-big", json!({})).await;
    let many: Value = (0..10_000)
        .map(|i| (format!("k{i}"), json!("v")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let accounts = format!("/api/v1/namespaces/{ns}/serviceaccounts");
    let body = json!({"metadata": {"name": "big", "annotations": many, "labels": many}});
    assert_eq!(fate(admin.user("tenant").post(&accounts, body.clone()).await), "done");
    assert_eq!(
        fate(
            admin
                .user("tenant")
                .patch(&format!("{accounts}/big"), json!({"secrets": [{"name": "x"}]}))
                .await
        ),
        "done"
    );
    let mut forged = body;
    forged["metadata"]["name"] = json!("forged");
    forged["metadata"]["annotations"]["ringfence.dev/adopt"] = json!("x");
    assert_eq!(fate(admin.user("tenant").post(&accounts, forged).await), GUARD);
    assert_eq!(
        fate(
            admin
                .user("tenant")
                .post(&accounts, json!({"metadata": {"generateName": "empty-"}}))
                .await
        ),
        "done"
    );
}

/// Who may write roles and bindings and give away any right, but does not hold `approve`; and who holds both.
async fn with_and_without_approve(admin: &Api, name: &str) -> (Api, Api) {
    let approver = format!("{name}-approver");
    let rbac = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["*"]}]);
    admin.allow(&format!("{name}-rbac"), &[name, &approver], rbac).await;
    let approve = json!([{"apiGroups": ["ringfence.dev"], "resources": ["aiworkflowclasses"], "verbs": ["approve"]}]);
    admin.allow(&format!("{name}-approve"), &[&approver], approve).await;
    eventually("the rights", || async {
        let role = |by: &str| json!({"metadata": {"name": format!("{by}-probe")}, "rules": [{"apiGroups": ["ringfence.dev"], "resources": ["aiworkflowclasses"], "verbs": ["approve"]}]});
        for user in [name, &approver] {
            let path = format!("{RBAC}/clusterroles?dryRun=All");
            let found = fate(admin.user(user).post(&path, role(user)).await);
            if found != "done" {
                return Err(found);
            }
        }
        Ok(())
    })
    .await;
    (admin.user(name), admin.user(&approver))
}

#[tokio::test]
async fn what_ringfence_holds_grows_by_approve_alone() {
    let (admin, _chart) = with_chart_alone().await;
    let (without, with) = with_and_without_approve(&admin, "giver").await;
    let roles = format!("{RBAC}/clusterroles");
    let secrets = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    for part in ["owners", "inventory"] {
        let labels = json!({format!("ringfence.dev/aggregate-to-{part}"): "true"});
        let role = json!({"metadata": {"name": format!("power-{part}"), "labels": labels}, "rules": []});
        admin.post(&roles, role).await.unwrap();
    }
    // Of our own, by name and by label; the last takes the label off in the same write.
    let select = json!({"clusterRoleSelectors": [{"matchLabels": {"anything": "else"}}]});
    for (role, change) in [
        ("ringfence-ceiling-read", json!({"rules": secrets})),
        ("ringfence-ceiling-read", json!({"aggregationRule": select})),
        ("power-owners", json!({"rules": secrets})),
        ("ringfence", json!({"rules": secrets})),
        ("ringfence", json!({"aggregationRule": select})),
        ("ringfence-ceiling", json!({"rules": secrets})),
        ("ringfence-ceiling", json!({"aggregationRule": select})),
        ("ringfence-owners", json!({"aggregationRule": select})),
        ("ringfence-inventory", json!({"aggregationRule": select})),
        ("power-inventory", json!({"rules": secrets})),
        (
            "ringfence-ceiling-read",
            json!({"rules": secrets, "metadata": {"labels": {"ringfence.dev/aggregate-to-ceiling": null}}}),
        ),
    ] {
        let path = format!("{roles}/{role}?dryRun=All");
        assert_eq!(
            fate(without.patch(&path, change.clone()).await),
            GUARD,
            "{role} {change}"
        );
        assert_eq!(fate(with.patch(&path, change.clone()).await), "done", "{role} {change}");
    }
    let anew = json!({"metadata": {"name": "ringfence-owners"}, "rules": secrets});
    assert_eq!(fate(without.post(&format!("{roles}?dryRun=All"), anew).await), GUARD);
    let refusal = without
        .patch(&format!("{roles}/ringfence"), json!({"rules": null}))
        .await
        .unwrap_err();
    assert!(
        refusal.message.contains("verb approve") && refusal.message.contains("Fix:"),
        "{}",
        refusal.message
    );
    // What changes nothing of it goes on, and so do roles that have nothing to do with Ringfence.
    let note = json!({"metadata": {"annotations": {"note": "x"}}});
    for role in [
        "ringfence",
        "ringfence-ceiling",
        "ringfence-ceiling-read",
        "power-owners",
    ] {
        assert_eq!(
            fate(without.patch(&format!("{roles}/{role}?dryRun=All"), note.clone()).await),
            "done",
            "{role}"
        );
    }
    let plain = json!({"metadata": {"name": "power-plain"}, "aggregationRule": select, "rules": secrets});
    assert_eq!(fate(without.post(&roles, plain).await), "done");
    assert_eq!(
        fate(
            without
                .patch(&format!("{roles}/power-plain"), json!({"rules": null}))
                .await
        ),
        "done"
    );
    // The aggregation controller's rights do not stretch to what it never does.
    let controller = admin.master("system:serviceaccount:kube-system:clusterrole-aggregation-controller");
    let path = format!("{roles}/ringfence-ceiling?dryRun=All");
    assert_eq!(fate(controller.patch(&path, json!({"rules": secrets})).await), "done");
    for role in ["power-owners", "power-plain"] {
        admin.delete(&format!("{roles}/{role}")).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_binds_ringfence_without_approve() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "reserved-bindings", json!({})).await;
    let (without, with) = with_and_without_approve(&admin, "binder").await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    let binding = |subjects: Value| json!({"metadata": {"name": "binds"}, "roleRef": role, "subjects": subjects});
    let group = "rbac.authorization.k8s.io";
    let account = json!({"kind": "ServiceAccount", "name": "ringfence", "namespace": "ringfence-system"});
    let other = json!({"kind": "ServiceAccount", "name": "ringfence", "namespace": "elsewhere"});
    for collection in [
        format!("{RBAC}/clusterrolebindings"),
        format!("{RBAC}/namespaces/{ns}/rolebindings"),
    ] {
        let dry = format!("{collection}?dryRun=All");
        for subjects in [
            json!([account]),
            json!([other, account]),
            json!([{"kind": "User", "apiGroup": group, "name": RINGFENCE}]),
            json!([{"kind": "Group", "apiGroup": group, "name": "system:serviceaccounts:ringfence-system"}]),
        ] {
            assert_eq!(
                fate(without.post(&dry, binding(subjects.clone())).await),
                GUARD,
                "{subjects}"
            );
            assert_eq!(
                fate(with.post(&dry, binding(subjects.clone())).await),
                "done",
                "{subjects}"
            );
        }
        let people: Vec<Value> = (0..20_000)
            .map(|i| json!({"kind": "ServiceAccount", "name": format!("p{i}"), "namespace": "x"}))
            .collect();
        for subjects in [json!(null), json!([]), json!([other]), json!(people)] {
            let fate = fate(without.post(&dry, binding(subjects)).await);
            assert_eq!(fate, "done", "{dry}");
        }
        // Added to one that stands; and taken out, with the rest as it was, it gives nobody more.
        assert_eq!(fate(without.post(&collection, binding(json!([other]))).await), "done");
        let path = format!("{collection}/binds");
        let both = json!({"subjects": [other, account]});
        assert_eq!(fate(without.patch(&path, both.clone()).await), GUARD);
        assert_eq!(fate(with.patch(&path, both).await), "done");
        let note = json!({"metadata": {"annotations": {"note": "x"}}});
        assert_eq!(fate(without.patch(&path, note).await), "done");
        assert_eq!(fate(without.patch(&path, json!({"subjects": [other]})).await), "done");
        admin.delete(&path).await.unwrap();
    }
}
