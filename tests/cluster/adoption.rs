//! An existing account joins its workflow, with what trusts it, and not because of its name.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::{Value, json};

use crate::world::{Actor, SOON, World, all, condition, one, unasked, workflow};
use anyhow::ensure;
use support::eventually;

const KEY: &str = "eks.amazonaws.com/role-arn";

#[tokio::test]
async fn an_account_joins_when_the_platform_says_so_and_it_is_as_declared() {
    let world = World::shared().await;
    let read = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]});
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "identity": {"annotations": [KEY]}, "permissions": [read]}))
        .await;
    let ns = &world.namespace("adopt", &json!({"ringfence.dev/enforce": class})).await;
    let path = one("ServiceAccount", ns, "triage");
    let annotations = json!({KEY: "arn:aws:iam::1:role/former", "example.com/vault": "role-former"});
    let existing = json!({
        "metadata": {"name": "triage", "labels": {"app": "legacy"}, "annotations": annotations},
        "secrets": [{"name": "triage-token-x7"}], "imagePullSecrets": [{"name": "registry"}],
    });
    // As it stood before the fence.
    let earlier = unasked(world.cluster).await;
    earlier.post(&all("ServiceAccount", ns), &existing).await.ok();
    let before = world.admin.read(&path).await.unwrap();
    let token = Api::<ConfigMap>::namespaced(world.cluster.service_account(ns, "triage").await, ns);

    let identity =
        json!({"annotations": {KEY: "arn:aws:iam::1:role/triage"}, "imagePullSecrets": [{"name": "registry"}]});
    let object = workflow(
        "triage",
        &json!({"identity": identity, "permissions": {"rules": [read]}}),
    );
    world.tess.post(&all("AIWorkflow", ns), &object).await.ok();
    world.condition(ns, "triage", "Ready", "False", "NameTaken").await;

    // A tenant may write accounts, and this key all the same not.
    let (_, tenant) = world.tenant(ns).await;
    let adopt = |name: Value| json!({"metadata": {"annotations": {"ringfence.dev/adopt": name}}});
    tenant
        .patch(&path, &adopt(json!("triage")))
        .await
        .refused_by_guard("ringfence-reserved-keys");
    assert_eq!(world.admin.read(&path).await.unwrap(), before);
    let approver = approver(&world, ns, &class).await;
    approver.patch(&path, &adopt(json!("another"))).await.ok();
    world.condition(ns, "triage", "Ready", "False", "NameTaken").await;
    let asked = approver.patch(&path, &adopt(json!("triage"))).await.ok();

    let held = world.condition(ns, "triage", "Programmed", "False", "Conflict").await;
    let message = condition(&held, "Programmed")["message"].as_str().unwrap();
    for part in [
        &format!("metadata.annotations[{KEY}]"),
        "metadata.annotations[example.com/vault]",
        "secrets[triage-token-x7]",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    assert!(
        !message.contains("arn:") && !message.contains("role-former"),
        "no value is repeated: {message}"
    );
    assert_eq!(world.admin.read(&path).await.unwrap(), asked, "nothing is changed");
    let bindings = world.admin.items(&all("RoleBinding", ns)).await.unwrap();
    let ours = |binding: &&Value| binding["metadata"]["annotations"]["ringfence.dev/owner-uid"].is_string();
    assert_eq!(
        bindings.iter().filter(ours).count(),
        0,
        "no right for an account that is not ours"
    );

    // The team makes the two agree, on either side.
    let right = json!({"metadata": {"annotations": {KEY: "arn:aws:iam::1:role/triage", "example.com/vault": null}}, "secrets": null});
    tenant.patch(&path, &right).await.ok();
    let ready = world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    let joined = world.admin.read(&path).await.unwrap();
    assert_eq!(
        joined["metadata"]["uid"], before["metadata"]["uid"],
        "what trusts it by its UID goes on"
    );
    assert_eq!(ready["status"]["serviceAccount"]["uid"], before["metadata"]["uid"]);
    assert_eq!(
        joined["metadata"]["annotations"]["ringfence.dev/owner-uid"],
        ready["metadata"]["uid"]
    );
    assert_eq!(joined["metadata"]["annotations"]["ringfence.dev/adopt"], Value::Null);
    assert_eq!(joined["metadata"]["annotations"][KEY], "arn:aws:iam::1:role/triage");
    assert_eq!(joined["metadata"]["labels"]["app"], Value::Null);
    assert_eq!(
        (&joined["automountServiceAccountToken"], &joined["imagePullSecrets"]),
        (&json!(false), &json!([{"name": "registry"}]))
    );
    tenant.delete(&path).await.refused_by_guard("ringfence-owned-objects");
    // A token from before is the same account's, which holds what is declared from now on.
    eventually(SOON, || async { Ok(token.get("kube-root-ca.crt").await?) }).await;
    eventually(SOON, || async {
        let events = world
            .admin
            .items(&format!("/apis/events.k8s.io/v1/namespaces/{ns}/events"))
            .await?;
        ensure!(
            events.iter().any(|event| event["reason"] == "Adopted"),
            "nobody was told"
        );
        Ok(())
    })
    .await;
    world.tess.delete(&one("AIWorkflow", ns, "triage")).await.ok();
    world.admin.gone(&path).await;
}

/// Holds `approve` on that class, and may write accounts.
async fn approver(world: &World, ns: &str, class: &str) -> Actor {
    let name = support::unique("approver");
    let rules = json!([
        {"apiGroups": ["ringfence.dev"], "resources": ["aiworkflowclasses"], "resourceNames": [class], "verbs": ["approve"]},
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get", "patch"]},
    ]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    world
        .admin
        .post(
            &format!("{rbac}/clusterroles"),
            &json!({"metadata": {"name": name}, "rules": rules}),
        )
        .await
        .ok();
    let binding = json!({
        "metadata": {"name": name}, "subjects": [{"kind": "User", "name": name}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
    });
    world
        .admin
        .post(&format!("{rbac}/clusterrolebindings"), &binding)
        .await
        .ok();
    let actor = Actor::new(world.cluster.user(&name, &[]).await);
    let account = one("ServiceAccount", ns, "triage");
    eventually(SOON, || async { actor.read(&account).await }).await;
    actor
}
