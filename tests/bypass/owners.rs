//! Door: an owner reference that does not control. Controllers adopt and count by the one that does; the garbage collector follows each.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::owned::{GUARD, owned, spec};
use crate::world::{Actor, SOON, World, all, one, pod, workload};

fn owner(kind: &str, name: &str, uid: &Value) -> Value {
    let version = if kind == "Job" { "batch/v1" } else { "v1" };
    json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid})
}

/// Only the owner that controls says from whom a pod comes.
///
/// Held by: `launcher`
#[tokio::test]
async fn somebody_launches_by_an_owner_that_does_not_control() {
    let world = World::shared().await;
    let ns = &world.enforced("beside").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let job = workload("Job", &pod("real", "triage"));
    let made = lea.post(&all("Job", ns), &job).await.ok();
    let (_, edith) = world.person(ns, "edit").await;
    let name = "system:kube-controller-manager";
    let manager = Actor::new(world.cluster.impersonate(name, &["system:masters"]).await);
    let mut faked = pod("faked", "triage");
    for controls in [json!(false), Value::Null] {
        let mut reference = owner("Job", "real", &made["metadata"]["uid"]);
        reference["controller"] = controls;
        faked["metadata"]["ownerReferences"] = json!([reference]);
        for attacker in [&world.tess, &edith, &world.admin, &manager] {
            let answer = attacker.post(&all("Pod", ns), &faked).await;
            answer.refused_by("launcher");
        }
    }
    // The same pod of the same controllers, controlled.
    faked["metadata"]["ownerReferences"][0]["controller"] = json!(true);
    let dry = format!("{}?dryRun=All", all("Pod", ns));
    manager.post(&dry, &faked).await.ok();
}

/// With a second owner that lives, the garbage collector would leave it when its workflow goes.
///
/// Held by: `ringfence-owned-objects`
#[tokio::test]
async fn somebody_has_what_ringfence_made_outlive_its_workflow() {
    let world = World::shared().await;
    let ns = &world.enforced("outlives").await;
    world.ready(ns, "triage", &spec()).await;
    let (_, owns) = world.person(ns, "cluster-admin").await;
    let anchor = json!({"metadata": {"name": "anchor"}});
    let anchor = owns.post(&all("ConfigMap", ns), &anchor).await.ok();
    let second = owner("ConfigMap", "anchor", &anchor["metadata"]["uid"]);
    for (_, path) in owned(ns) {
        let object = world.admin.read(&path).await.unwrap();
        let both = json!({"metadata": {"ownerReferences": [object["metadata"]["ownerReferences"][0], second]}});
        owns.patch(&path, &both).await.refused_by_guard(GUARD);
    }
    world.tess.delete(&one("AIWorkflow", ns, "triage")).await.ok();
    for (_, path) in owned(ns) {
        world.admin.gone(&path).await;
    }
}

/// By one that is gone a pod ends, as by deleting it, and by one that is there it outlives what made it: what it belongs to is a launcher's to
/// change, and of one that a controller made nobody's.
///
/// Held by: `launcher`, `ringfence-left-running`
#[tokio::test]
async fn a_tenant_keeps_a_pod_by_an_owner_beside_its_job() {
    let world = World::shared().await;
    let ns = &world.enforced("kept").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.person(ns, "edit").await;
    let anchor = edith
        .post(&all("ConfigMap", ns), &json!({"metadata": {"name": unique("anchor")}}))
        .await
        .ok();
    lea.post(&all("Pod", ns), &pod("ends", "triage")).await.ok();
    let dead = owner("ConfigMap", "dead", &json!("11111111-1111-1111-1111-111111111111"));
    let by_dead = json!({"metadata": {"ownerReferences": [dead]}});
    edith
        .patch(&one("Pod", ns, "ends"), &by_dead)
        .await
        .refused_by("launcher");
    lea.patch(&one("Pod", ns, "ends"), &by_dead).await.ok();
    world.admin.gone(&one("Pod", ns, "ends")).await;

    let job = workload("Job", &pod("job", "triage"));
    lea.post(&all("Job", ns), &job).await.ok();
    let of_job = format!("{}?labelSelector=job-name%3Djob", all("Pod", ns));
    let made = eventually(SOON, || async {
        let pods = world.admin.items(&of_job).await?;
        ensure!(pods.len() == 1, "{} pods", pods.len());
        Ok(pods[0].clone())
    })
    .await;
    let path = one("Pod", ns, made["metadata"]["name"].as_str().unwrap());
    let name = anchor["metadata"]["name"].as_str().unwrap();
    let beside = owner("ConfigMap", name, &anchor["metadata"]["uid"]);
    let both = json!({"metadata": {"ownerReferences": [made["metadata"]["ownerReferences"][0], beside]}});
    edith
        .patch(&path, &both)
        .await
        .refused_by_guard("ringfence-left-running");
    // Nor does it become another workflow's, or a controller's that is not of its own.
    let other = json!({"metadata": {"labels": {"ringfence.dev/workflow": "other"}}});
    edith.patch(&path, &other).await.refused_by("fixed-label");
    let job = one("Job", ns, "job");
    lea.delete(&format!("{job}?propagationPolicy=Background")).await.ok();
    for path in [job, path] {
        world.admin.gone(&path).await;
    }
}
