//! The guard on reserved labels and annotations.

use serde_json::{Value, json};

use crate::api::fate;
use crate::chart::{RINGFENCE, namespace, with_chart};

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
