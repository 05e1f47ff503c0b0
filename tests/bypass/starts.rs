//! Door: an object of Ringfence's own kinds that nobody can read keeps replicas from starting.

use serde_json::json;
use support::ControlPlane;

use crate::field_managers::deep;
use crate::world::{BINARY, World, all, one, unasked, workflow};

/// The first of all that are listed, by the name of its namespace, and written while no guard stood: it is refused otherwise. What it declares
/// holds, and a replica that starts then gets ready.
///
/// Held by: `operator`
#[tokio::test]
async fn a_tenant_keeps_replicas_from_starting() {
    let world = World::shared().await;
    let ns = &world.enforced("0").await;
    world.ready(ns, "a", &json!({})).await;
    let fields = json!([{
        "manager": "x", "operation": "Update", "apiVersion": "ringfence.dev/v1alpha1", "time": "2024-02-29T00:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": deep()}},
    }]);
    let path = one("AIWorkflow", ns, "a");
    let unreadable = json!({"metadata": {"managedFields": fields}});
    let answer = world.tess.patch(&path, &unreadable).await;
    assert!(answer.message().contains("nests deeper"), "{}", answer.message());
    let gap = unasked(world.cluster).await;
    gap.patch(&path, &unreadable).await.ok();
    let first = world
        .admin
        .text("/apis/ringfence.dev/v1alpha1/aiworkflows?limit=1")
        .await;
    assert!(first.contains(&format!(r#""namespace":"{ns}""#)), "it is the first");
    starts(world.cluster).await;
    // What it declares is seen, and what Ringfence says of it is written; and others declare as before.
    gap.patch(&path, &json!({"spec": {"owner": {"team": "x"}}})).await.ok();
    world.condition(ns, "a", "Ready", "True", "Fenced").await;
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("b", &json!({})))
        .await
        .ok();
    world.condition(ns, "b", "Ready", "True", "Fenced").await;
}

/// One more process, which ends with this.
async fn starts(cluster: &ControlPlane) {
    let ports = [(); 2].map(|()| std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port"));
    let [port, metrics] = ports
        .each_ref()
        .map(|port| port.local_addr().expect("an address").port());
    drop(ports);
    let flags = ["--scan-period=0".to_owned()];
    let started = cluster.spawn_ringfence_with(BINARY, port, metrics, &flags).await;
    started.expect("a replica gets ready").kill();
}
