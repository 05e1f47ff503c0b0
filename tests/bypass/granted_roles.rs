//! Door: more rights for a workflow by the Role that Ringfence made of a grant, in a namespace that is not fenced.

use serde_json::{Value, json};
use support::eventually;

use crate::world::{Actor, SOON, World, all, one};

fn grants(namespace: &str) -> String {
    format!("/apis/ringfence.dev/v1alpha1/namespaces/{namespace}/aiworkflowgrants")
}

/// What was made of the grant there, of that kind.
async fn granted(admin: &Actor, kind: &str, namespace: &str) -> anyhow::Result<Value> {
    let found = admin.items(&all(kind, namespace)).await?;
    let owned = |object: &&Value| object["metadata"]["ownerReferences"][0]["kind"] == "AIWorkflowGrant";
    let found = found.iter().find(owned).cloned();
    found.ok_or_else(|| anyhow::anyhow!("no {kind} is there yet"))
}

/// Held by: `ringfence-granted-objects`
#[tokio::test]
async fn the_admin_there_widens_the_role_of_a_grant() {
    let world = World::shared().await;
    let (home, vectors) = (
        &world.enforced("home").await,
        &world.namespace("vectors", &json!({})).await,
    );
    let rules = json!([{"apiGroups": [""], "resources": ["services"], "resourceNames": ["qdrant"], "verbs": ["get"]}]);
    let declared = json!({"permissions": {"crossNamespace": [{"namespace": vectors, "rules": rules}]}});
    world
        .tess
        .post(&all("AIWorkflow", home), &crate::world::workflow("triage", &declared))
        .await
        .ok();
    let grant = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowGrant", "metadata": {"name": "readers"},
        "spec": {"from": [{"namespace": home, "name": "triage"}], "rules": rules},
    });
    world.admin.post(&grants(vectors), &grant).await.ok();
    let role = eventually(SOON, || granted(&world.admin, "Role", vectors)).await;
    let binding = eventually(SOON, || granted(&world.admin, "RoleBinding", vectors)).await;
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    let (_, bob) = world.person(vectors, "admin").await;
    for attacker in [&bob, &world.admin] {
        let wider = json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]});
        let answer = attacker.patch(&one("Role", vectors, &name(&role)), &wider).await;
        let message = answer.refused_by_guard("ringfence-granted-objects");
        assert!(message.contains("AIWorkflowGrant readers"), "{message}");
        let more = json!({"subjects": [{"kind": "ServiceAccount", "namespace": vectors, "name": "default"}]});
        attacker
            .patch(&one("RoleBinding", vectors, &name(&binding)), &more)
            .await
            .refused_by_guard("ringfence-granted-objects");
    }
    // The grant is theirs.
    let path = one("Role", vectors, &name(&role));
    world.admin.delete(&format!("{}/readers", grants(vectors))).await.ok();
    world.admin.gone(&path).await;
}
