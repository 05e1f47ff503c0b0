//! What stands is left alone.

use std::time::Duration;

use ringfence::plan::owned_name;
use serde_json::{Value, json};

use crate::world::{World, condition, one};

fn spec() -> Value {
    json!({"permissions": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}})
}

/// The four owned objects.
fn owned(ns: &str) -> [String; 4] {
    [
        one("NetworkPolicy", ns, &owned_name(ns, "triage", "allow")),
        one("ServiceAccount", ns, "triage"),
        one("Role", ns, &owned_name(ns, "triage", "role")),
        one("RoleBinding", ns, &owned_name(ns, "triage", "binding")),
    ]
}

#[tokio::test]
async fn what_stands_is_not_written_again() {
    let world = World::shared().await;
    let ns = &world.enforced("steady").await;
    world.ready(ns, "triage", &spec()).await;
    let namespace = format!("/api/v1/namespaces/{ns}");
    let paths: Vec<String> = owned(ns)
        .into_iter()
        .chain([one("NetworkPolicy", ns, "ringfence"), one("AIWorkflow", ns, "triage")])
        .collect();
    let versions = || async {
        let mut versions = Vec::new();
        for path in &paths {
            versions.push((
                path.clone(),
                world.admin.get(path).await.ok()["metadata"]["resourceVersion"].clone(),
            ));
        }
        versions
    };
    let before = versions().await;
    // A label of the namespace's makes every controller look again; nothing of the fence follows from it.
    for round in 0..3 {
        let label = json!({"metadata": {"labels": {"round": round.to_string()}}});
        world.admin.patch(&namespace, &label).await.ok();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(versions().await, before);
    let workflow = world.admin.get(&one("AIWorkflow", ns, "triage")).await.ok();
    assert_eq!(condition(&workflow, "Ready")["status"], "True");
}
