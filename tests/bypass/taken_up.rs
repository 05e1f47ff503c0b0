//! Door: a label has another pod, or another ReplicaSet, take the place of what a launcher runs: controllers take up what their selector finds.

use anyhow::ensure;
use serde_json::{Value, json};
use support::eventually;

use crate::legitimate::has_pods;
use crate::world::{SOON, World, all, one, pod, workload};

fn labels(labels: &Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

/// The ReplicaSet takes the one with the label for its own, and needs the one fewer that it made.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_labels_a_pod_that_nobody_controls() {
    let world = World::shared().await;
    let ns = &world.enforced("taken-up").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    for app in ["bare", "other"] {
        lea.post(&all("Pod", ns), &pod(app, "triage")).await.ok();
    }
    let set = workload("ReplicaSet", &pod("served", "triage"));
    lea.post(&all("ReplicaSet", ns), &set).await.ok();
    let own = has_pods(&world, ns, "served", 1).await.remove(0);
    let path = one("Pod", ns, "bare");
    for attacker in [&world.tess, &edith, &world.admin] {
        for change in [json!({"app": "served"}), json!({"app": null}), json!({"note": "x"})] {
            let answer = attacker.patch(&path, &labels(&change)).await;
            let said = answer.refused_by("launcher");
            assert!(said.contains("takes something up"), "{said}");
        }
    }
    let note = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/note": "x"}}});
    world.tess.patch(&path, &note).await.ok();
    // What is controlled has its own labels' guard: others come and go.
    let name = own["metadata"]["name"].as_str().expect("a name");
    world
        .tess
        .patch(&one("Pod", ns, name), &labels(&json!({"note": "x"})))
        .await
        .ok();
    // A launcher has it taken up, and one is enough.
    lea.patch(&path, &labels(&json!({"app": "served"}))).await.ok();
    eventually(SOON, || async {
        let taken = world.admin.is_there(&path).await? && {
            let bare = world.admin.read(&path).await?;
            bare["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
        };
        let pods = world
            .admin
            .items(&format!("{}?labelSelector=app%3Dserved", all("Pod", ns)))
            .await?;
        let gone = !pods.iter().any(|pod| pod["metadata"]["name"] == "bare");
        ensure!(taken || gone, "not taken up yet");
        Ok(())
    })
    .await;
    has_pods(&world, ns, "served", 1).await;
}

/// The same of a ReplicaSet, which a Deployment takes up.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_labels_a_replica_set_that_nobody_controls() {
    let world = World::shared().await;
    let ns = &world.enforced("set-taken-up").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let mut set = workload("ReplicaSet", &pod("alone", "triage"));
    set["spec"]["template"]["metadata"]["labels"]["tier"] = json!("x");
    set["spec"]["selector"]["matchLabels"] = json!({"tier": "x"});
    lea.post(&all("ReplicaSet", ns), &set).await.ok();
    let path = one("ReplicaSet", ns, "alone");
    for attacker in [&world.tess, &edith, &world.admin] {
        for change in [json!({"app": "served"}), json!({"note": "x"})] {
            let answer = attacker.patch(&path, &labels(&change)).await;
            answer.refused_by("launcher");
        }
    }
    let scale = json!({"spec": {"replicas": 0}});
    world.tess.patch(&path, &scale).await.ok();
    lea.patch(&path, &labels(&json!({"note": "x"}))).await.ok();
}
