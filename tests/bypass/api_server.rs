//! Door: the namespace `default`, where people may write, and where it is told how pods reach the API server.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::grants::may;
use crate::world::{SOON, World, all, one, workflow};

const SERVICE: &str = "/api/v1/namespaces/default/services/kubernetes";

fn declared(ports: &[u16]) -> Value {
    let mut egress = vec![json!({"name": "api", "to": {"apiServer": {}}})];
    egress.extend(ports.iter().map(|port| {
        json!({"name": format!("p{port}"), "to": {"pods": {"selector": {"matchLabels": {"app": "db"}}}}, "ports": [{"port": port}]})
    }));
    json!({"network": {"egress": egress}})
}

/// By who wrote which field of the Service `kubernetes`, deeper than most read; and by taking bindings away that are not theirs. Who withdraws
/// something elsewhere is heard all the same, and the API server stays reachable.
///
/// Held by: `operator`
#[tokio::test]
async fn somebody_of_the_namespace_default_freezes_all_who_talk_to_the_api_server() {
    let world = World::shared().await;
    let ns = &world.enforced("talks").await;
    let (_, dora) = world.person("default", "admin").await;
    let mut spec = declared(&[5432]);
    spec["permissions"] = json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]});
    world.ready(ns, "old", &spec).await;
    let account = format!("system:serviceaccount:{ns}:old");
    assert!(may(&world, &account, "get", "configmaps", ns, "").await);

    let deep = json!([{
        "manager": "x", "operation": "Update", "apiVersion": "v1", "time": "2024-02-29T00:00:00Z", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:annotations": crate::field_managers::deep()}},
    }]);
    dora.patch(SERVICE, &json!({"metadata": {"managedFields": deep}}))
        .await
        .ok();
    let bindings = all("RoleBinding", "default");
    for binding in dora.items(&bindings).await.unwrap() {
        let subjects = binding["subjects"].to_string();
        if subjects.contains("ringfence") {
            let name = binding["metadata"]["name"].as_str().expect("a name");
            dora.delete(&format!("{bindings}/{name}")).await.ok();
        }
    }

    let mut narrower = declared(&[]);
    narrower["permissions"] = Value::Null;
    world
        .tess
        .patch(&one("AIWorkflow", ns, "old"), &json!({"spec": narrower}))
        .await
        .ok();
    eventually(SOON, || async {
        ensure!(
            !may(&world, &account, "get", "configmaps", ns, "").await,
            "the right is still held"
        );
        let policies = json!(world.admin.items(&all("NetworkPolicy", ns)).await?).to_string();
        ensure!(!policies.contains("5432"), "the path is still open: {policies}");
        Ok(())
    })
    .await;
    let service = world.admin.get(SERVICE).await.ok();
    let address = service["spec"]["clusterIPs"][0].as_str().expect("an address");
    let policies = json!(world.admin.items(&all("NetworkPolicy", ns)).await.unwrap()).to_string();
    assert!(policies.contains(address), "{policies}");
    // Nor does it keep a new one from coming.
    let name = unique("new");
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow(&name, &declared(&[])))
        .await
        .ok();
    world.condition(ns, &name, "Ready", "True", "Fenced").await;
    world
        .admin
        .patch(SERVICE, &json!({"metadata": {"managedFields": [{}]}}))
        .await
        .ok();
}
