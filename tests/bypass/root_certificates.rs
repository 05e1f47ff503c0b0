//! Door: the certificates by which a workflow's pods know the API server.

use anyhow::ensure;
use serde_json::{Value, json};
use support::eventually;

use crate::world::{SOON, World, all, one};

const GUARD: &str = "ringfence-root-certificates";
const NAME: &str = "kube-root-ca.crt";

/// A pod that trusts somebody else's certificates tells its token to whoever answers.
///
/// Held by: `ringfence-root-certificates`
#[tokio::test]
async fn a_tenant_says_whom_pods_take_for_the_api_server() {
    let world = World::shared().await;
    let ns = &world.enforced("roots").await;
    let (_, edith) = world.tenant(ns).await;
    let path = one("ConfigMap", ns, NAME);
    let published = eventually(SOON, || async { world.admin.read(&path).await }).await;
    let own = json!({"metadata": {"name": NAME}, "data": {"ca.crt": "mine"}});
    for attacker in [&world.tess, &edith] {
        let mine = json!({"data": {"ca.crt": "mine"}});
        attacker.patch(&path, &mine).await.refused_by_guard(GUARD);
        attacker.delete(&path).await.refused_by_guard(GUARD);
        let of_that_name = format!("{}?fieldSelector=metadata.name%3D{NAME}", all("ConfigMap", ns));
        attacker.delete(&of_that_name).await.refused_by_guard(GUARD);
        let answer = attacker.post(&all("ConfigMap", ns), &own).await;
        assert!(answer.refused_by_guard(GUARD).contains("Fix: "));
    }
    let mut other = own;
    other["metadata"]["name"] = json!("my-root-ca.crt");
    world.tess.post(&all("ConfigMap", ns), &other).await.ok();
    world.tess.delete(&one("ConfigMap", ns, "my-root-ca.crt")).await.ok();
    // Its publisher puts it back.
    world.admin.delete(&path).await.ok();
    eventually(SOON, || async {
        let again = world.admin.read(&path).await?;
        ensure!(again["data"] == published["data"], "{}", again["metadata"]);
        ensure!(
            again["metadata"]["uid"] != published["metadata"]["uid"],
            "not deleted yet"
        );
        Ok(())
    })
    .await;
    let gone: Value = world.admin.delete(&format!("/api/v1/namespaces/{ns}")).await.ok();
    assert_eq!(gone["status"]["phase"], "Terminating");
    world.admin.gone(&path).await;
}
