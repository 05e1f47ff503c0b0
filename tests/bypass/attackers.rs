//! What attackers have beyond the scaffold: rights in the whole cluster, and an apply over everybody else's.

use anyhow::ensure;
use axum::http::Method;
use serde_json::{Value, json};
use support::{Identity, eventually, unique};

use crate::world::{Actor, Answer, SOON, World};

/// Somebody with a certificate who holds these rules in the whole cluster, and nothing else.
pub async fn holder(world: &World, rules: &Value) -> Actor {
    let name = unique("holder");
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": name}, "rules": rules});
    world.admin.post(&format!("{rbac}/clusterroles"), &role).await.ok();
    let binding = json!({
        "metadata": {"name": name}, "subjects": [{"kind": "User", "name": name}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
    });
    world
        .admin
        .post(&format!("{rbac}/clusterrolebindings"), &binding)
        .await
        .ok();
    let actor = Actor::new(world.cluster.client(&Identity::user(&name, &[])).await);
    let rule = &rules[0];
    let asked = json!({"spec": {"resourceAttributes": {
        "group": rule["apiGroups"][0], "resource": rule["resources"][0], "verb": rule["verbs"][0],
    }}});
    eventually(SOON, || async {
        let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = actor.post(review, &asked).await;
        ensure!(answer.body["status"]["allowed"] == true, "{}", answer.body);
        Ok(())
    })
    .await;
    actor
}

/// Server-side apply by a field manager of one's own.
pub async fn force_apply(actor: &Actor, path: &str, body: &Value) -> Answer {
    let at = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{at}fieldManager=mallory&force=true");
    let bytes = body.to_string().into_bytes();
    actor
        .bytes(Method::PATCH, &path, "application/apply-patch+yaml", bytes)
        .await
}
