//! Door: what an operator's object made outlives it, by another owner beside it or none; or the object itself outlives its deletion.

use serde_json::{Value, json};

use crate::legitimate::has_pods;
use crate::operators::{Launched, launches};
use crate::world::{World, all, one, pod, workload};

/// The garbage collector takes what has no owner any more; what the controllers of Kubernetes own is guarded beside.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_gives_what_an_operator_made_another_owner() {
    let world = World::shared().await;
    let launched = Launched::new(&world, "outlives").await;
    let of_the_kind = launched.holder(&world, &["get", "patch", "update"]).await;
    let Launched {
        ns,
        kind,
        lea,
        run,
        path: of_flow,
        ..
    } = &launched;
    let (_, edith) = world.tenant(ns).await;
    let mut by_flow = kind.owner(run);
    by_flow["blockOwnerDeletion"] = json!(true);
    let owned = |mut object: Value| {
        object["metadata"]["ownerReferences"] = json!([by_flow]);
        object
    };
    launches(lea, ns, &owned(pod("step", "triage"))).await;
    lea.post(
        &all("Deployment", ns),
        &owned(workload("Deployment", &pod("web", "triage"))),
    )
    .await
    .ok();
    has_pods(&world, ns, "web", 1).await;
    let config = json!({"metadata": {"name": "stays"}});
    let config = world.tess.post(&all("ConfigMap", ns), &config).await.ok();
    let stays = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "stays", "uid": config["metadata"]["uid"]});
    let mut lets_go = by_flow.clone();
    lets_go["controller"] = json!(false);
    let unserved = json!({"apiVersion": "gone.example/v1", "kind": "Nothing", "name": "x", "uid": by_flow["uid"]});
    let owners = |list: Value| json!({"metadata": {"ownerReferences": list}});
    for path in [one("Deployment", ns, "web"), one("Pod", ns, "step")] {
        for attacker in [&world.tess, &edith, &world.admin] {
            for list in [
                json!([by_flow, unserved]),
                json!([by_flow, stays]),
                json!([stays]),
                json!([lets_go]),
                json!([]),
                Value::Null,
            ] {
                let answer = attacker.patch(&path, &owners(list)).await;
                let said = answer.refused_by("launcher");
                assert!(said.contains("would run on"), "{said}");
            }
        }
        // Its operator is a launcher, and gives it away or takes it back.
        for list in [json!([by_flow, stays]), json!([by_flow])] {
            lea.patch(&path, &owners(list)).await.ok();
        }
        // To no longer block what owns it is the collector's work, and anybody's.
        let mut unblocked = by_flow.clone();
        unblocked["blockOwnerDeletion"] = json!(false);
        world.tess.patch(&path, &owners(json!([unblocked]))).await.ok();
    }
    // The object itself: by another owner, and by a finalizer.
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    for attacker in [&of_the_kind, &world.admin] {
        attacker
            .patch(of_flow, &owners(json!([stays])))
            .await
            .refused_by("launcher");
        for one in ["example.com/hold", "foregroundDeletion"] {
            let answer = attacker.patch(of_flow, &finalizers(json!([one]))).await;
            let said = answer.refused_by("launcher");
            assert!(said.contains("after it was deleted"), "{said}");
        }
    }
    lea.patch(of_flow, &finalizers(json!(["example.com/hold"]))).await.ok();
    of_the_kind.patch(of_flow, &finalizers(Value::Null)).await.ok();
    lea.delete(&format!("{of_flow}?propagationPolicy=Background"))
        .await
        .ok();
    world.admin.gone(of_flow).await;
}

/// The garbage collector goes by owners that do not control as well: engines make theirs so.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_takes_what_belongs_to_something_out_of_it() {
    let world = World::shared().await;
    let launched = Launched::new(&world, "belongs").await;
    let Launched { ns, kind, lea, run, .. } = &launched;
    let (_, edith) = world.tenant(ns).await;
    let mut belongs = kind.owner(run);
    belongs["controller"] = json!(false);
    let mut web = workload("Deployment", &pod("web", "triage"));
    web["metadata"]["ownerReferences"] = json!([belongs]);
    lea.post(&all("Deployment", ns), &web).await.ok();
    let mut step = pod("step", "triage");
    step["metadata"]["ownerReferences"] = json!([belongs]);
    launches(lea, ns, &step).await;
    let owners = |list: Value| json!({"metadata": {"ownerReferences": list}});
    let mut otherwise = belongs.clone();
    otherwise["kind"] = json!("Nothing");
    let (deployment, step) = (one("Deployment", ns, "web"), one("Pod", ns, "step"));
    for path in [&deployment, &step] {
        for attacker in [&world.tess, &edith, &world.admin] {
            for list in [json!([]), Value::Null, json!([otherwise])] {
                let answer = attacker.patch(path, &owners(list)).await;
                let said = answer.refused_by("launcher");
                assert!(said.contains("would run on"), "{said}");
            }
        }
        // Who launches gives it away or takes it back.
        for list in [json!([]), json!([belongs])] {
            lea.patch(path, &owners(list)).await.ok();
        }
    }
}
