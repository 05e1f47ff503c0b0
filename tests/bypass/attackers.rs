//! What attackers have beyond the scaffold: rights in the whole cluster, and an apply over everybody else's; and what they are told.

use anyhow::ensure;
use axum::http::Method;
use serde_json::{Value, json};
use support::{Identity, eventually, unique};

use crate::world::{Actor, Answer, BINARY, SOON, World};

/// Kinds whose controllers make pods.
pub const MAKERS: [&str; 7] = [
    "CronJob",
    "DaemonSet",
    "Deployment",
    "Job",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
];

/// Refused by RBAC, before anybody is asked.
#[track_caller]
pub fn forbidden(answer: &Answer) {
    assert_eq!(answer.code, 403, "{}", answer.body);
    assert!(!answer.message().contains("ringfence"), "by RBAC: {}", answer.message());
}

/// What `ringfence scan` reports to the administrator.
pub async fn scan_report(world: &World, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = ["scan", "-o", "json"].iter().chain(arguments).copied().collect();
    let said = world
        .cluster
        .ringfence_as(&Identity::Admin, BINARY, &arguments)
        .await
        .unwrap();
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// `rule Kind/name`, of each finding of a report.
pub fn told(report: &Value) -> Vec<String> {
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .map(|found| {
            format!(
                "{} {}/{}",
                text(found, "rule"),
                text(found, "kind"),
                text(found, "name")
            )
        })
        .collect()
}

/// Somebody with a certificate who holds these rules in the whole cluster, and nothing else.
pub async fn holder(world: &World, rules: &Value) -> Actor {
    Actor::new(world.cluster.client(&holding(world, rules).await).await)
}

/// See [`holder`]: who that is.
pub async fn holding(world: &World, rules: &Value) -> Identity {
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
    let identity = Identity::user(&name, &[]);
    let actor = Actor::new(world.cluster.client(&identity).await);
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
    identity
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
