//! Door: what is deleted leaves its pods behind, by what a DELETE says of them or leaves unsaid.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use support::eventually;

use crate::attackers::MAKERS;
use crate::legitimate::has_pods;
use crate::operators::{Launched, apart, launches};
use crate::world::{World, all, one, pod, tess, workload};

const LEFT_RUNNING: &str = "ringfence-left-running";
const OPERATORS_OBJECTS: &str = "ringfence-operators-objects";
/// The garbage collector looks for new kinds twice a minute, and what it could not place it tries again after twice as long each time:
/// a pod whose owner is of a kind that was made just now may wait for twice the time that the kind was unknown.
const COLLECTED: Duration = Duration::from_secs(180);
/// What the API server leaves the pods of where a DELETE says nothing.
const ORPHANS: [&str; 2] = ["Job", "ReplicationController"];

/// Of a Job and a ReplicationController alone the API server lets the pods be, for the sake of clients that are older than the garbage
/// collector.
///
/// Held by: `ringfence-left-running`
#[tokio::test]
async fn a_tenant_deletes_a_job_and_says_nothing_of_its_pods() {
    let world = World::shared().await;
    let ns = &world.enforced("unsaid").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    for kind in MAKERS {
        let app = kind.to_lowercase();
        let mut made = workload(kind, &pod(&app, "triage"));
        if kind == "CronJob" {
            made["spec"]["suspend"] = json!(true);
        }
        lea.post(&all(kind, ns), &made).await.ok();
    }
    for kind in ORPHANS {
        let app = kind.to_lowercase();
        has_pods(&world, ns, &app, 1).await;
        let path = one(kind, ns, &app);
        for attacker in [&world.tess, &edith] {
            for query in ["", "?gracePeriodSeconds=0", "?dryRun=All"] {
                let answer = attacker.delete(&format!("{path}{query}")).await;
                let said = answer.refused_by_guard(LEFT_RUNNING);
                assert!(said.contains("propagationPolicy=Background"), "{said}");
            }
        }
        let answer = edith.delete(&all(kind, ns)).await;
        answer.refused_by_guard(LEFT_RUNNING);
        has_pods(&world, ns, &app, 1).await;
    }
    // Whatever else makes pods takes them along unasked, and these where it is said: as kubectl does by itself.
    for kind in MAKERS.into_iter().filter(|kind| !ORPHANS.contains(kind)) {
        world.tess.delete(&one(kind, ns, &kind.to_lowercase())).await.ok();
    }
    let arguments = ["delete", "job/job", "--wait=false", "--namespace", ns];
    let done = world.cluster.kubectl_as(&tess(), &arguments).await.unwrap();
    assert!(done.success, "{done}");
    edith
        .delete(&format!("{}?orphanDependents=false", all("ReplicationController", ns)))
        .await
        .ok();
    for kind in MAKERS {
        let app = kind.to_lowercase();
        world.admin.gone(&one(kind, ns, &app)).await;
        has_pods(&world, ns, &app, 0).await;
    }
    // In the foreground, and once more while that goes on.
    let job = one("Job", ns, "slow");
    let mut made = workload("Job", &pod("slow", "triage"));
    made["metadata"]["finalizers"] = json!(["example.com/hold"]);
    lea.post(&all("Job", ns), &made).await.ok();
    has_pods(&world, ns, "slow", 1).await;
    world
        .tess
        .delete(&format!("{job}?propagationPolicy=Foreground"))
        .await
        .ok();
    world.tess.delete(&job).await.ok();
    has_pods(&world, ns, "slow", 0).await;
    let let_go = json!({"metadata": {"finalizers": null}});
    world.tess.patch(&job, &let_go).await.ok();
    world.admin.gone(&job).await;
    // Who approves keeps them on purpose.
    lea.post(&all("Job", ns), &workload("Job", &pod("kept", "triage")))
        .await
        .ok();
    has_pods(&world, ns, "kept", 1).await;
    world.admin.delete(&one("Job", ns, "kept")).await.ok();
    world.admin.gone(&one("Job", ns, "kept")).await;
    let kept = has_pods(&world, ns, "kept", 1).await.remove(0);
    assert!(kept["metadata"]["ownerReferences"].is_null(), "{}", kept["metadata"]);
}

/// The pods that an operator made go by the same ownerReferences, and nobody asks the operator.
///
/// Held by: `ringfence-operators-objects`
#[tokio::test]
async fn a_tenant_deletes_an_operators_object_without_its_pods() {
    // In the shared one attacks name owners that never were, and the garbage collector asks for each of those again and again, ten a second
    // in all.
    let world = apart().await;
    let launched = Launched::new(&world, "operators").await;
    let verbs = ["get", "list", "delete", "deletecollection"];
    let of_the_kind = launched.holder(&world, &verbs).await;
    launches(&launched.lea, &launched.ns, &launched.step()).await;
    let Launched {
        ns,
        kind,
        lea,
        flows,
        path: run,
        ..
    } = &launched;
    for path in [run, flows] {
        for query in ["propagationPolicy=Orphan", "orphanDependents=true"] {
            let answer = of_the_kind.delete(&format!("{path}?{query}")).await;
            let said = answer.refused_by_guard(OPERATORS_OBJECTS);
            assert!(said.contains("would stay and run on"), "{said}");
        }
    }
    // What no workflow's is goes as it likes, and what is one's takes its pods along, unasked too.
    lea.post(flows, &kind.object("free")).await.ok();
    of_the_kind
        .delete(&format!("{flows}/free?propagationPolicy=Orphan"))
        .await
        .ok();
    of_the_kind.delete(run).await.ok();
    eventually(COLLECTED, || async {
        let step = one("Pod", ns, "step");
        ensure!(!world.admin.is_there(&step).await?, "{step} is still there");
        Ok(())
    })
    .await;
    // Who approves keeps them on purpose.
    lea.post(flows, &kind.labelled("kept")).await.ok();
    world
        .admin
        .delete(&format!("{flows}/kept?propagationPolicy=Orphan"))
        .await
        .ok();
    world.admin.gone(&format!("{flows}/kept")).await;
}
