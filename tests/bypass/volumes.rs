//! Door: data that comes and goes by what a pod mounts.

use serde_json::{Value, json};

use crate::world::{World, all, pod, workload};

const LEVEL: &str = "pod-security.kubernetes.io/enforce";

/// A workflow that the tenant may launch herself.
fn launched_by_tenants() -> Value {
    json!({"launchers": [{"user": "lea"}, {"user": "tess"}]})
}

fn dry(kind: &str, namespace: &str) -> String {
    format!("{}?dryRun=All", all(kind, namespace))
}

/// Where the standard is Baseline, the API server takes all of these but the node's own folders; most dial out from the node.
///
/// Held by: `volumes`
#[tokio::test]
async fn a_pod_mounts_what_the_node_fetches_from_elsewhere() {
    let world = World::shared().await;
    let class = world
        .class(&json!({
            "images": {"allowed": ["**"]}, "podSecurity": "Baseline",
            "volumes": {"types": ["emptyDir", "configMap", "csi"], "csiDrivers": ["secrets-store.csi.k8s.io"]},
        }))
        .await;
    let labels = json!({"ringfence.dev/enforce": class, LEVEL: "baseline"});
    let ns = &world.namespace("mounts", &labels).await;
    world.ready(ns, "triage", &launched_by_tenants()).await;
    let (_, edith) = world.person(ns, "edit").await;
    for source in [
        json!({"nfs": {"server": "203.0.113.7", "path": "/"}}),
        json!({"iscsi": {"targetPortal": "203.0.113.7:3260", "iqn": "iqn.2001-04.com.example:s", "lun": 0}}),
        json!({"rbd": {"monitors": ["203.0.113.7"], "image": "i"}}),
        json!({"cephfs": {"monitors": ["203.0.113.7"]}}),
        json!({"flexVolume": {"driver": "example.com/cifs"}}),
        json!({"gitRepo": {"repository": "https://evil.example/x"}}),
        json!({"csi": {"driver": "nfs.csi.k8s.io", "volumeAttributes": {"server": "203.0.113.7", "share": "/"}}}),
        json!({"persistentVolumeClaim": {"claimName": "shared"}}),
        json!({"image": {"reference": "registry.example.com/finance/triage:1.4"}}),
    ] {
        let mut pod = pod("mounts", "triage");
        let mut volume = source.clone();
        volume["name"] = json!("v");
        pod["spec"]["volumes"] = json!([volume]);
        for attacker in [&world.tess, &edith] {
            attacker.post(&dry("Pod", ns), &pod).await.refused_by("volumes");
            let answer = attacker.post(&dry("Job", ns), &workload("Job", &pod)).await;
            answer.refused_by("volumes");
        }
    }
    let mut own = pod("own", "triage");
    own["spec"]["volumes"] = json!([
        {"name": "a", "emptyDir": {}}, {"name": "b", "csi": {"driver": "secrets-store.csi.k8s.io"}},
    ]);
    world.tess.post(&dry("Pod", ns), &own).await.ok();
}

/// What two workflows of a namespace mount, they share: no object of Kubernetes says who may mount a claim of its namespace. Other
/// namespaces cannot.
///
/// Out of scope: volumes are not declared; a class without `persistentVolumeClaim`, or a namespace for each workflow holds data apart.
#[tokio::test]
async fn two_workflows_mount_one_claim() {
    let world = World::shared().await;
    let ns = &world.enforced("claims").await;
    world.ready(ns, "triage", &launched_by_tenants()).await;
    world.ready(ns, "other", &launched_by_tenants()).await;
    let claims = format!("/api/v1/namespaces/{ns}/persistentvolumeclaims");
    let claim = json!({
        "metadata": {"name": "shared"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    world.tess.post(&claims, &claim).await.ok();
    for workflow in ["triage", "other"] {
        let mut pod = pod(workflow, workflow);
        pod["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "shared"}}]);
        world.tess.post(&dry("Pod", ns), &pod).await.ok();
    }
    // The class is where it is closed, for all kinds of pods.
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "volumes": {"types": ["emptyDir"]}}))
        .await;
    let apart = &world.namespace("apart", &json!({"ringfence.dev/enforce": class})).await;
    world.ready(apart, "triage", &launched_by_tenants()).await;
    let mut pod = pod("x", "triage");
    pod["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "shared"}}]);
    world.tess.post(&dry("Pod", apart), &pod).await.refused_by("volumes");
}

/// The pod says where its code lies, and nobody asks what lies there: by a new word in the ConfigMap it runs something else, inside the same
/// fence. A class without the type `configMap` mounts none.
///
/// Out of scope: whoever may write ConfigMaps of the namespace writes what pods run that mount their code from one
#[tokio::test]
async fn a_tenant_changes_the_code_that_a_workflow_mounts() {
    let world = World::shared().await;
    let ns = &world.enforced("code").await;
    world.ready(ns, "triage", &json!({})).await;
    let code = json!({"metadata": {"name": "code"}, "data": {"run.py": "print('reviewed')"}});
    world.tess.post(&all("ConfigMap", ns), &code).await.ok();
    let mut runs = pod("runs", "triage");
    runs["spec"]["volumes"] = json!([{"name": "code", "configMap": {"name": "code"}}]);
    let lea = world.master("lea", &[]).await;
    let made = lea.post(&all("Pod", ns), &runs).await.ok();
    let path = crate::world::one("ConfigMap", ns, "code");
    let other = json!({"data": {"run.py": "print('not reviewed')"}});
    world.tess.patch(&path, &other).await.ok();
    // She launches nothing by that, and the pod is not another one.
    let now = world.admin.read(&crate::world::one("Pod", ns, "runs")).await.unwrap();
    assert_eq!(now["spec"], made["spec"]);
    world
        .tess
        .post(&dry("Pod", ns), &pod("more", "triage"))
        .await
        .refused_by("launcher");
    // What Kubernetes itself keeps from being changed.
    let fixed = json!({"immutable": true});
    world.tess.patch(&path, &fixed).await.ok();
    let answer = world.tess.patch(&path, &other).await;
    let changed = world.tess.patch(&path, &json!({"data": {"run.py": "again"}})).await;
    assert_eq!((answer.code, changed.code), (200, 422), "{}", changed.message());

    let class = json!({"images": {"allowed": ["**"]}, "volumes": {"types": ["emptyDir"]}});
    let class = world.class(&class).await;
    let strict = &world
        .namespace("strict", &json!({"ringfence.dev/enforce": class}))
        .await;
    world.ready(strict, "triage", &json!({})).await;
    lea.post(&dry("Pod", strict), &runs).await.refused_by("volumes");
}
