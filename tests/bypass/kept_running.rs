//! Door: what a launcher deletes is kept: by a finalizer on what made it, or by the grace of a pod that is deleted beforehand.

use anyhow::ensure;
use axum::http::Method;
use serde_json::{Value, json};
use support::eventually;

use crate::attackers::{MAKERS, holder};
use crate::legitimate::{bind, has_pods, node};
use crate::world::{SOON, World, all, one, pod, workload};

const LEFT_RUNNING: &str = "ringfence-left-running";
const GRACE: &str = "ringfence-grace-periods";
const YEAR: u64 = 31_536_000;

fn finalizers(list: &Value) -> Value {
    json!({"metadata": {"finalizers": list}})
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("a name")
}

/// What is terminating is deleted for its controllers and for the garbage collector, and goes on for its pods.
///
/// Held by: `launcher`, `ringfence-left-running`
#[tokio::test]
async fn a_tenant_keeps_what_a_launcher_deletes_by_a_finalizer() {
    let world = World::shared().await;
    let ns = &world.enforced("finalizer").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    for kind in MAKERS {
        let app = kind.to_lowercase();
        lea.post(&all(kind, ns), &workload(kind, &pod(&app, "triage")))
            .await
            .ok();
        let path = one(kind, ns, &app);
        for attacker in [&world.tess, &edith, &world.admin] {
            let answer = attacker.patch(&path, &finalizers(&json!(["example.com/hold"]))).await;
            let said = answer.refused_by("launcher");
            assert!(said.contains("keeps its pods running"), "{said}");
        }
        // A launcher's own is anybody's to take off.
        lea.patch(&path, &finalizers(&json!(["example.com/hold", "example.com/too"])))
            .await
            .ok();
        let other = finalizers(&json!(["example.com/hold", "example.com/other"]));
        world.tess.patch(&path, &other).await.refused_by("launcher");
        for fewer in [json!(["example.com/hold"]), Value::Null] {
            world.tess.patch(&path, &finalizers(&fewer)).await.ok();
        }
    }
    // That of a Deployment, whose pods outlived it: it is the Deployment controller's.
    let sets = format!("{}?labelSelector=app%3Ddeployment", all("ReplicaSet", ns));
    let set = eventually(SOON, || async {
        let sets = world.admin.items(&sets).await?;
        sets.into_iter().next().ok_or_else(|| anyhow::anyhow!("none yet"))
    })
    .await;
    let path = one("ReplicaSet", ns, name(&set));
    let hold = finalizers(&json!(["example.com/hold"]));
    world.tess.patch(&path, &hold).await.refused_by("launcher");
    // By its status, where somebody may write that.
    let rules = json!([{"apiGroups": ["apps"], "resources": ["replicasets/status"], "verbs": ["get", "patch"]}]);
    let status = holder(&world, &rules).await;
    let answer = status.patch(&format!("{path}/status"), &hold).await;
    answer.refused_by_guard(LEFT_RUNNING);
    for kind in MAKERS {
        let path = one(kind, ns, &kind.to_lowercase());
        lea.delete(&format!("{path}?propagationPolicy=Foreground")).await.ok();
    }
    for kind in MAKERS {
        world.admin.gone(&one(kind, ns, &kind.to_lowercase())).await;
    }
    has_pods(&world, ns, "deployment", 0).await;
}

/// By a finalizer of a launcher's own, or one from before the fence: its ReplicaSet would make lost pods again.
///
/// Held by: `launcher`
#[tokio::test]
async fn what_is_being_deleted_launches_on() {
    let world = World::shared().await;
    let ns = &world.enforced("deleted").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let mut made = workload("Deployment", &pod("app", "triage"));
    made["metadata"]["finalizers"] = json!(["example.com/hold"]);
    lea.post(&all("Deployment", ns), &made).await.ok();
    let path = one("Deployment", ns, "app");
    // As long as it stands, what is lost comes again.
    let first = has_pods(&world, ns, "app", 1).await.remove(0);
    world.tess.delete(&one("Pod", ns, name(&first))).await.ok();
    world.admin.gone(&one("Pod", ns, name(&first))).await;
    let second = has_pods(&world, ns, "app", 1).await.remove(0);
    lea.delete(&path).await.ok();
    world.tess.delete(&one("Pod", ns, name(&second))).await.ok();
    eventually(SOON, || async {
        let sets = world.admin.items(&all("ReplicaSet", ns)).await?;
        let told = sets.iter().map(|set| set["status"]["conditions"].to_string());
        let told = told.collect::<String>();
        ensure!(told.contains("is being deleted"), "{told}");
        Ok(())
    })
    .await;
    has_pods(&world, ns, "app", 0).await;
    world.tess.patch(&path, &finalizers(&Value::Null)).await.ok();
    world.admin.gone(&path).await;
    eventually(SOON, || async {
        let sets = world.admin.items(&all("ReplicaSet", ns)).await?;
        ensure!(sets.is_empty(), "{} ReplicaSets", sets.len());
        Ok(())
    })
    .await;
}

/// A pod that is being deleted runs until its grace is over, and is nobody's to delete again.
///
/// Held by: `ringfence-grace-periods`
#[tokio::test]
async fn a_tenant_deletes_a_pod_with_a_year_of_grace() {
    let world = World::shared().await;
    let ns = &world.enforced("grace").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let node = node(&world).await;
    let kubelet = world.master(&format!("system:node:{node}"), &["system:nodes"]).await;
    let mut made = workload("Deployment", &pod("app", "triage"));
    made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(45);
    lea.post(&all("Deployment", ns), &made).await.ok();
    let first = has_pods(&world, ns, "app", 1).await.remove(0);
    let path = one("Pod", ns, name(&first));
    bind(&world, ns, name(&first), &node).await;
    let options = |seconds: u64| json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": seconds});
    let eviction = |of: &str, seconds: u64| {
        json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": of}, "deleteOptions": {"gracePeriodSeconds": seconds},
        })
    };
    for attacker in [&world.tess, &edith] {
        for seconds in [YEAR, 46] {
            let answer = attacker.delete(&format!("{path}?gracePeriodSeconds={seconds}")).await;
            let said = answer.refused_by_guard(GRACE);
            assert!(said.contains("45 at the most") && said.contains("Fix: "), "{said}");
        }
        let body = options(YEAR).to_string().into_bytes();
        let answer = attacker
            .bytes(Method::DELETE, &path, "application/json", body.clone())
            .await;
        answer.refused_by_guard(GRACE);
        let together = format!("{}?labelSelector=app%3Dapp", all("Pod", ns));
        let answer = attacker
            .bytes(Method::DELETE, &together, "application/json", body)
            .await;
        answer.refused_by_guard(GRACE);
        for query in ["", "?dryRun=All"] {
            let answer = attacker
                .post(&format!("{path}/eviction{query}"), &eviction(name(&first), YEAR))
                .await;
            assert!(answer.refused_by_guard(GRACE).contains("3600 at the most"));
        }
    }
    let stays = world.admin.read(&path).await.unwrap();
    assert!(
        stays["metadata"]["deletionTimestamp"].is_null(),
        "{}",
        stays["metadata"]
    );
    // As long as its launcher said, or shorter, anybody may; and who approves may let it run longer.
    for seconds in [45, 1] {
        let dry = format!("{path}?dryRun=All&gracePeriodSeconds={seconds}");
        world.tess.delete(&dry).await.ok();
    }
    world.tess.delete(&format!("{path}?dryRun=All")).await.ok();
    world
        .admin
        .delete(&format!("{path}?dryRun=All&gracePeriodSeconds=600"))
        .await
        .ok();
    world
        .tess
        .post(&format!("{path}/eviction"), &eviction(name(&first), 60))
        .await
        .ok();
    let ending = world.admin.read(&path).await.unwrap();
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 60);
    kubelet.delete(&format!("{path}?gracePeriodSeconds=0")).await.ok();
    world.admin.gone(&path).await;
    world.admin.delete(&format!("/api/v1/nodes/{node}")).await.ok();
}
