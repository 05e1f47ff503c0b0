//! Pods that are older than the workflow that they name.

use std::time::Duration;

use serde_json::json;

use crate::world::{SOON, World, all, condition, one, pod, workflow};
use anyhow::ensure;
use support::eventually;

#[tokio::test]
async fn a_recreated_workflow_waits_for_the_pods_of_the_former_one() {
    let world = World::shared().await;
    let ns = &world.enforced("former").await;
    let path = one("AIWorkflow", ns, "triage");
    let former = world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    for name in ["a", "b", "c", "d", "ended"] {
        lea.post(&all("Pod", ns), &pod(name, "triage")).await.ok();
    }
    let ended = json!({"status": {"phase": "Succeeded"}});
    world
        .admin
        .patch(&format!("{}/status", one("Pod", ns, "ended")), &ended)
        .await
        .ok();
    world.admin.delete(&path).await.ok();
    world.admin.gone(&one("ServiceAccount", ns, "triage")).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;

    // The same name and the same account, for another image and another launcher.
    let spec = json!({"images": ["other.example.com/**"], "launchers": [{"user": "mallory"}]});
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("triage", &spec))
        .await
        .ok();
    let held = world
        .condition(ns, "triage", "Accepted", "False", "PredecessorPods")
        .await;
    assert_ne!(held["metadata"]["uid"], former["metadata"]["uid"]);
    let message = condition(&held, "Accepted")["message"].as_str().unwrap();
    assert!(
        message.starts_with("4 older pods (a, b, c and 1 more)"),
        "what has ended does not count: {message}"
    );
    assert_eq!(condition(&held, "Ready")["reason"], "PredecessorPods");
    for kind in ["ServiceAccount", "NetworkPolicy"] {
        let items = world.admin.items(&all(kind, ns)).await.unwrap();
        let made = items
            .iter()
            .filter(|item| item["metadata"]["annotations"]["ringfence.dev/owner-uid"] == held["metadata"]["uid"]);
        assert_eq!(made.count(), 0, "{kind}");
    }

    for name in ["a", "b", "c"] {
        world
            .admin
            .delete(&format!("{}?gracePeriodSeconds=0", one("Pod", ns, name)))
            .await
            .ok();
    }
    eventually(SOON, || async {
        let held = world.admin.read(&path).await?;
        let message = condition(&held, "Accepted")["message"].as_str().unwrap_or_default();
        ensure!(message.starts_with("1 older pods (d)"), "{message}");
        Ok(())
    })
    .await;
    world
        .admin
        .delete(&format!("{}?gracePeriodSeconds=0", one("Pod", ns, "d")))
        .await
        .ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
}

#[tokio::test]
async fn a_team_that_labelled_its_pods_first_is_told_to_restart_them() {
    let world = World::shared().await;
    let ns = &world
        .namespace("brownfield", &json!({"ringfence.dev/warn": "default"}))
        .await;
    let mut old = pod("old", "triage");
    old["spec"]["serviceAccountName"] = json!("default");
    eventually(SOON, || async {
        let answer = world.admin.post(&all("Pod", ns), &old).await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("triage", &json!({})))
        .await
        .ok();
    let held = world
        .condition(ns, "triage", "Accepted", "False", "PredecessorPods")
        .await;
    let message = condition(&held, "Accepted")["message"].as_str().unwrap();
    assert!(message.contains("kubectl rollout restart"), "{message}");
    world
        .admin
        .delete(&format!("{}?gracePeriodSeconds=0", one("Pod", ns, "old")))
        .await
        .ok();
    world.condition(ns, "triage", "Ready", "False", "NotEnforced").await;
    world.admin.read(&one("ServiceAccount", ns, "triage")).await.unwrap();
}

/// Its token would be the new account's.
#[tokio::test]
async fn a_pod_of_another_workflow_that_had_an_account_of_that_name_is_waited_for() {
    let world = World::shared().await;
    let ns = &world.enforced("heir").await;
    let lea = world.master("lea", &[]).await;
    let named = json!({"identity": {"serviceAccountName": "shared"}});
    world.ready(ns, "first", &named).await;
    let mut running = pod("running", "first");
    running["spec"]["serviceAccountName"] = json!("shared");
    lea.post(&all("Pod", ns), &running).await.ok();
    world.tess.delete(&one("AIWorkflow", ns, "first")).await.ok();
    world.admin.gone(&one("ServiceAccount", ns, "shared")).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;

    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("shared", &json!({})))
        .await
        .ok();
    let held = world
        .condition(ns, "shared", "Accepted", "False", "PredecessorPods")
        .await;
    let message = condition(&held, "Accepted")["message"].as_str().unwrap();
    for part in ["1 older pods (running)", "spec.serviceAccountName=shared"] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    assert!(
        !world
            .admin
            .is_there(&one("ServiceAccount", ns, "shared"))
            .await
            .unwrap()
    );
    world
        .admin
        .delete(&format!("{}?gracePeriodSeconds=0", one("Pod", ns, "running")))
        .await
        .ok();
    world.condition(ns, "shared", "Ready", "True", "Fenced").await;
}
