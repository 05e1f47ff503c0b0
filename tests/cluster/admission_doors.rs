//! Side doors: labels of the namespace itself, and objects that nobody could read any more.

use anyhow::ensure;
use serde_json::json;
use support::{eventually, unique};

use crate::world::{SOON, World, all, one, workflow};

#[tokio::test]
async fn a_tenant_does_not_move_the_fence() {
    let world = World::shared().await;
    let ns = &world.enforced("moves").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, tenant) = world.tenant(ns).await;
    let role = unique("namespaces");
    let rules = json!([{"apiGroups": [""], "resources": ["namespaces", "namespaces/status", "namespaces/finalize"], "verbs": ["get", "update", "patch"]}]);
    let role_object = json!({"metadata": {"name": role}, "rules": rules});
    world
        .admin
        .post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role_object)
        .await
        .ok();
    let whoami = tenant
        .post(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}),
        )
        .await
        .ok();
    let name = whoami["status"]["userInfo"]["username"].clone();
    world.bind(ns, &role, &json!({"kind": "User", "name": name})).await;
    let namespace = format!("/api/v1/namespaces/{ns}");
    eventually(SOON, || async {
        let answer = tenant
            .patch(&namespace, &json!({"metadata": {"labels": {"team": "x"}}}))
            .await;
        ensure!(answer.code == 200, "{}", answer.message());
        Ok(())
    })
    .await;
    for value in [json!(null), json!(""), json!("other")] {
        let moved = json!({"metadata": {"labels": {"ringfence.dev/enforce": value}}});
        tenant
            .patch(&namespace, &moved)
            .await
            .refused_by_guard("ringfence-modes");
        tenant
            .patch(&format!("{namespace}/status"), &moved)
            .await
            .refused_by_guard("ringfence-modes");
    }
    // Not even who may: a class that is not there would fence nothing.
    let absent = json!({"metadata": {"labels": {"ringfence.dev/warn": "absent"}}});
    world
        .admin
        .patch(&namespace, &absent)
        .await
        .refused_by("namespace-mode");
    let found = world.admin.get(&namespace).await.ok();
    assert_eq!(found["metadata"]["labels"]["ringfence.dev/enforce"], "default");

    // Nor does it become one while it is enforced, whoever may write namespaces.
    for (label, rule) in [
        ("owner", "namespace-baseline"),
        ("pod-security.kubernetes.io/enforce", "pod-security"),
    ] {
        let without = json!({"metadata": {"labels": {label: null}}});
        world.admin.patch(&namespace, &without).await.refused_by(rule);
    }

    // A namespace that meets no policy is not enforced.
    let bare = json!({"metadata": {"name": unique("bare"), "labels": {"ringfence.dev/enforce": "default"}}});
    let answer = world.admin.post("/api/v1/namespaces", &bare).await;
    let message = answer.refused_by("namespace-baseline");
    assert!(
        message.contains("owner") && message.contains("pod-security.kubernetes.io/enforce"),
        "{message}"
    );
}

/// An object whose times cannot be read would make every list of its kind unreadable, and Ringfence blind after a restart.
#[tokio::test]
async fn no_object_is_made_unreadable() {
    let world = World::shared().await;
    let ns = &world.namespace("times", &json!({})).await;
    let (_, tenant) = world.tenant(ns).await;
    let fields = json!([{
        "manager": "x", "operation": "Update", "apiVersion": "ringfence.dev/v1alpha1", "time": "9999-12-31T23:59:59Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:images": {}}},
    }]);
    tenant
        .post(&all("AIWorkflow", ns), &workflow("late", &json!({})))
        .await
        .ok();
    let path = one("AIWorkflow", ns, "late");
    let late = json!({"metadata": {"managedFields": fields}});
    tenant
        .patch(&path, &late)
        .await
        .refused_by_guard("ringfence-reserved-keys");
    let mut fields = fields;
    fields[0]["apiVersion"] = json!("v1");
    fields[0]["fieldsV1"] = json!({"f:automountServiceAccountToken": {}});
    let accounts = all("ServiceAccount", ns);
    tenant
        .post(&accounts, &json!({"metadata": {"name": "late"}}))
        .await
        .ok();
    let unmounted = json!({"automountServiceAccountToken": false});
    tenant.patch(&format!("{accounts}/late"), &unmounted).await.ok();
    let late = json!({"metadata": {"managedFields": fields}});
    tenant
        .patch(&format!("{accounts}/late"), &late)
        .await
        .refused_by_guard("ringfence-reserved-keys");
    let plain = json!({"metadata": {"annotations": {"a": "b"}}});
    tenant.patch(&path, &plain).await.ok();
}
