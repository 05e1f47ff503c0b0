//! Door: a Job runs again what it has run, past what a launcher said, by what its controller keeps on its pods.

use anyhow::ensure;
use serde_json::{Value, json};
use support::eventually;

use crate::attackers::holder;
use crate::legitimate::has_pods;
use crate::world::{SOON, World, all, one, pod, workload};

const GUARD: &str = "ringfence-left-running";
const INDEX: [&str; 3] = [
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/job-index-failure-count",
    "batch.kubernetes.io/job-index-ignored-failure-count",
];

/// Without its finalizer a pod is not counted; with a smaller number of failures an index is tried once more.
///
/// Held by: `ringfence-left-running`
#[tokio::test]
async fn a_tenant_has_a_job_run_again_uncounted() {
    let world = World::shared().await;
    let ns = &world.enforced("again").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let rules = json!([{"apiGroups": [""], "resources": ["pods/status"], "verbs": ["get", "patch"]}]);
    let status = holder(&world, &rules).await;
    let mut made = workload("Job", &pod("once", "triage"));
    made["spec"]["completionMode"] = json!("Indexed");
    made["spec"]["completions"] = json!(1);
    made["spec"]["parallelism"] = json!(1);
    made["spec"]["backoffLimitPerIndex"] = json!(1);
    lea.post(&all("Job", ns), &made).await.ok();
    let first = has_pods(&world, ns, "once", 1).await.remove(0);
    let words = &first["metadata"]["annotations"];
    assert!(INDEX[..2].iter().all(|key| words[key].is_string()), "{words}");
    let path = one("Pod", ns, first["metadata"]["name"].as_str().expect("a name"));
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    let note = |key: &str, value: Value| json!({"metadata": {"annotations": {key: value}}});
    let by_status = format!("{path}/status");
    for (attacker, path) in [(&world.tess, &path), (&edith, &path), (&status, &by_status)] {
        for list in [Value::Null, json!([])] {
            let answer = attacker.patch(path, &finalizers(list)).await;
            let said = answer.refused_by_guard(GUARD);
            assert!(said.contains("would run again"), "{said}");
        }
        for key in INDEX {
            for value in [json!("7"), Value::Null] {
                if value.is_null() && words[key].is_null() {
                    continue;
                }
                let answer = attacker.patch(path, &note(key, value)).await;
                // By its status no annotation of the kind comes onto a pod at all.
                if !answer.message().contains("ringfence-subresources") {
                    answer.refused_by_guard(GUARD);
                }
            }
        }
    }
    // Others come and go, and so do a launcher's finalizers.
    for value in [json!("x"), Value::Null] {
        world
            .tess
            .patch(&path, &note("batch.kubernetes.io/note", value))
            .await
            .ok();
    }
    let own = "batch.kubernetes.io/job-tracking";
    lea.patch(&path, &finalizers(json!([own, "example.com/hold"])))
        .await
        .ok();
    world.tess.patch(&path, &finalizers(json!([own]))).await.ok();
    // It fails, is tried once more, and that is all.
    let failed = json!({"status": {"phase": "Failed"}});
    for count in ["0", "1"] {
        let runs = eventually(SOON, || async {
            let pods = world
                .admin
                .items(&format!("{}?labelSelector=app%3Donce", all("Pod", ns)))
                .await?;
            let mut run = pods
                .into_iter()
                .filter(|pod| pod["metadata"]["annotations"][INDEX[1]] == count);
            run.next()
                .ok_or_else(|| anyhow::anyhow!("none that failed {count} times"))
        })
        .await;
        let path = one("Pod", ns, runs["metadata"]["name"].as_str().expect("a name"));
        world.admin.patch(&format!("{path}/status"), &failed).await.ok();
    }
    eventually(SOON, || async {
        let job = world.admin.read(&one("Job", ns, "once")).await?;
        ensure!(job["status"]["failedIndexes"] == "0", "{}", job["status"]);
        Ok(())
    })
    .await;
}

/// A controller of an Indexed Job forgets which indexes ended beyond the number that it is told, and runs them anew when it is told a larger one.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_has_a_job_forget_what_it_ran() {
    let world = World::shared().await;
    let ns = &world.enforced("forgets").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let mut made = workload("Job", &pod("many", "triage"));
    made["spec"]["completionMode"] = json!("Indexed");
    made["spec"]["completions"] = json!(3);
    made["spec"]["parallelism"] = json!(3);
    lea.post(&all("Job", ns), &made).await.ok();
    has_pods(&world, ns, "many", 3).await;
    let path = one("Job", ns, "many");
    let of = |count: usize| json!({"spec": {"completions": count, "parallelism": count}});
    for attacker in [&world.tess, &edith, &world.admin] {
        attacker.patch(&path, &of(1)).await.refused_by("launcher");
    }
    world.tess.patch(&path, &of(4)).await.ok();
    has_pods(&world, ns, "many", 4).await;
    lea.patch(&path, &of(1)).await.ok();
    world
        .tess
        .delete(&format!("{path}?propagationPolicy=Background"))
        .await
        .ok();
}
