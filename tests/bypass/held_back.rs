//! Door: a rollout or a scaling down that a launcher asks for waits for a pod, or passes it by.

use anyhow::ensure;
use serde_json::{Value, json};
use support::eventually;

use crate::attackers::holder;
use crate::legitimate::{has_pods, node};
use crate::world::{SOON, World, all, one, pod, workload};

const NEW: &str = "registry.example.com/finance/triage:2";
const SUBRESOURCES: &str = "ringfence-subresources";
const REVISIONS: [&str; 2] = ["controller-revision-hash", "pod-template-generation"];

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("a name")
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}})
}

/// No kubelet makes a pod ready here, and a StatefulSet that goes one by one would wait for that.
fn parallel(workload: &mut Value) {
    if workload["kind"] == "StatefulSet" {
        workload["spec"]["podManagementPolicy"] = json!("Parallel");
    }
}

/// Waits until the pod of an app runs what was rolled out.
async fn is_rolled_out(world: &World, ns: &str, app: &str) {
    eventually(SOON, || async {
        let pods = world
            .admin
            .items(&format!("{}?labelSelector=app%3D{app}", all("Pod", ns)))
            .await?;
        let images: Vec<_> = pods
            .iter()
            .map(|pod| pod["spec"]["containers"][0]["image"].clone())
            .collect();
        ensure!(images == [NEW], "{app} runs {images:?}");
        Ok(())
    })
    .await;
}

/// By the labels that tell a pod's revision, which no selector names: the rollout is complete, and what runs is what ran before.
///
/// Held by: `launcher`, `ringfence-subresources`
#[tokio::test]
async fn a_tenant_passes_an_old_pod_off_as_a_new_one() {
    let world = World::shared().await;
    let ns = &world.enforced("revisions").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let node = node(&world).await;
    let label = json!({"metadata": {"labels": {"kubernetes.io/hostname": node}}});
    world.admin.patch(&format!("/api/v1/nodes/{node}"), &label).await.ok();
    let rules = json!([{"apiGroups": [""], "resources": ["pods/status"], "verbs": ["get", "patch"]}]);
    let status = holder(&world, &rules).await;
    for kind in ["StatefulSet", "DaemonSet"] {
        let app = kind.to_lowercase();
        let mut made = workload(kind, &pod(&app, "triage"));
        made["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        parallel(&mut made);
        lea.post(&all(kind, ns), &made).await.ok();
        let old = has_pods(&world, ns, &app, 1).await.remove(0);
        assert!(
            old["metadata"]["labels"][REVISIONS[0]].is_string(),
            "{}",
            old["metadata"]
        );
        let path = one("Pod", ns, name(&old));
        for key in REVISIONS {
            let change = |value: &Value| json!({"metadata": {"labels": {key: value}}});
            let values = [json!("2"), json!(format!("{app}-6d5f4c8b9")), Value::Null];
            let had = |value: &Value| old["metadata"]["labels"][key] == *value;
            for value in values.iter().filter(|value| !had(value)) {
                for attacker in [&world.tess, &edith, &world.admin] {
                    let answer = attacker.patch(&path, &change(value)).await;
                    let said = answer.refused_by("launcher");
                    assert!(said.contains("taken for what was rolled out"), "{said}");
                }
                let answer = status.patch(&format!("{path}/status"), &change(value)).await;
                let said = answer.refused_by_guard(SUBRESOURCES);
                assert!(said.contains("taken for what was rolled out"), "{said}");
            }
        }
        // Labels that no controller asks for come and go, both ways.
        let note = |value: &str| json!({"metadata": {"labels": {"note": value}}});
        world.tess.patch(&path, &note("x")).await.ok();
        status.patch(&format!("{path}/status"), &note("y")).await.ok();
        lea.strategic(&one(kind, ns, &app), &image(NEW)).await.ok();
        is_rolled_out(&world, ns, &app).await;
        lea.delete(&format!("{}?propagationPolicy=Background", one(kind, ns, &app)))
            .await
            .ok();
    }
    world.admin.delete(&format!("/api/v1/nodes/{node}")).await.ok();
}

/// A StatefulSet makes no other pod before the one of that name is gone, and scales no further down.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_holds_a_pod_by_a_finalizer() {
    let world = World::shared().await;
    let ns = &world.enforced("held-pod").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    for kind in ["StatefulSet", "Deployment", "Job"] {
        let app = kind.to_lowercase();
        let mut workload = workload(kind, &pod(&app, "triage"));
        parallel(&mut workload);
        lea.post(&all(kind, ns), &workload).await.ok();
        let made = has_pods(&world, ns, &app, 1).await.remove(0);
        let path = one("Pod", ns, name(&made));
        let own = made["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let with = |more: &str| own.iter().cloned().chain([json!(more)]).collect::<Value>();
        for attacker in [&world.tess, &edith, &world.admin] {
            let answer = attacker.patch(&path, &finalizers(with("example.com/hold"))).await;
            let said = answer.refused_by("launcher");
            assert!(said.contains("holds back the rollout"), "{said}");
        }
        // A launcher's own is anybody's to take off.
        lea.patch(&path, &finalizers(with("example.com/hold"))).await.ok();
        world
            .tess
            .patch(&path, &finalizers(with("example.com/other")))
            .await
            .refused_by("launcher");
        world
            .tess
            .patch(&path, &finalizers(Value::Array(own.clone())))
            .await
            .ok();
    }
    for kind in ["StatefulSet", "Deployment"] {
        let app = kind.to_lowercase();
        let path = one(kind, ns, &app);
        lea.strategic(&path, &image(NEW)).await.ok();
        if kind == "StatefulSet" {
            is_rolled_out(&world, ns, &app).await;
        }
        world.tess.patch(&path, &json!({"spec": {"replicas": 0}})).await.ok();
        has_pods(&world, ns, &app, 0).await;
    }
    // The Job controller's own comes with each pod, and goes by it when the pod does.
    let first = has_pods(&world, ns, "job", 1).await.remove(0);
    assert_eq!(
        first["metadata"]["finalizers"],
        json!(["batch.kubernetes.io/job-tracking"])
    );
    world.tess.delete(&one("Pod", ns, name(&first))).await.ok();
    world.admin.gone(&one("Pod", ns, name(&first))).await;
    let job = format!("{}?propagationPolicy=Background", one("Job", ns, "job"));
    world.tess.delete(&job).await.ok();
    has_pods(&world, ns, "job", 0).await;
}
