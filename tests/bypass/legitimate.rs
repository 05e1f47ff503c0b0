//! Door: none. What a cluster lives by goes on under full enforcement, by the real controllers of Kubernetes, whoever is fenced.
//!
//! What goes on while no replica is there is in `down`, tokens for kubelets are in `tokens`, and how tenants scale and suspend is in
//! `launch`. In tests/cluster, `launching` has rollouts and Jobs that end after their workflow, and `people` what tenants do by hand.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use support::{Identity, eventually, unique};

use crate::world::{Actor, NAMESPACES, SOON, World, all, one, pod, workload};

/// The pods of a kind of workload that is called `app`: those that wear that label.
pub async fn pods_of(world: &World, ns: &str, app: &str) -> anyhow::Result<Vec<Value>> {
    let path = format!("{}?labelSelector=app%3D{app}", all("Pod", ns));
    world.admin.items(&path).await
}

pub async fn has_pods(world: &World, ns: &str, app: &str, count: usize) -> Vec<Value> {
    eventually(SOON, || async {
        let pods = pods_of(world, ns, app).await?;
        let there = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        ensure!(there.count() == count, "{} pods of {app}", pods.len());
        Ok(pods)
    })
    .await
}

pub async fn node(world: &World) -> String {
    let name = unique("node");
    world
        .admin
        .post("/api/v1/nodes", &json!({"metadata": {"name": name}}))
        .await
        .ok();
    name
}

/// As the scheduler places it.
pub async fn bind(world: &World, ns: &str, pod: &str, node: &str) {
    let scheduler = world.master("system:kube-scheduler", &[]).await;
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    scheduler
        .post(&format!("{}/binding", one("Pod", ns, pod)), &binding)
        .await
        .ok();
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Each built-in controller makes what a launcher asked for, and changes it as it goes.
/// Legitimate: Deployment, StatefulSet, ReplicaSet, ReplicationController, Job and DaemonSet become pods; `kubectl rollout restart` by a launcher.
#[tokio::test]
async fn every_controller_makes_its_pods_and_a_launcher_restarts_them() {
    let world = World::shared().await;
    let ns = &world.enforced("controllers").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let node = node(&world).await;
    let kinds = [
        "Deployment",
        "StatefulSet",
        "ReplicaSet",
        "ReplicationController",
        "Job",
        "DaemonSet",
    ];
    for kind in kinds {
        let app = kind.to_lowercase();
        let mut made = workload(kind, &pod(&app, "triage"));
        if kind == "DaemonSet" {
            made["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
            let label = json!({"metadata": {"labels": {"kubernetes.io/hostname": node}}});
            world.admin.patch(&format!("/api/v1/nodes/{node}"), &label).await.ok();
        }
        lea.post(&all(kind, ns), &made).await.ok();
    }
    // Its ReplicaSet is called so, and ten characters more, where no part of a host's name may have more than 63.
    let mut long = workload("Deployment", &pod("long", "triage"));
    long["metadata"]["name"] = json!("invoice-triage-of-the-accounting-department-worker-nightly");
    lea.post(&all("Deployment", ns), &long).await.ok();
    for kind in kinds {
        has_pods(&world, ns, &kind.to_lowercase(), 1).await;
    }
    has_pods(&world, ns, "long", 1).await;
    let launcher = Identity::user("lea", &["system:masters"]);
    let restart = ["rollout", "restart", "deployment/deployment", "--namespace", ns];
    let done = world.cluster.kubectl_as(&launcher, &restart).await.unwrap();
    assert!(done.success, "{done}");
    eventually(SOON, || async {
        let sets = world
            .admin
            .items(&format!("{}?labelSelector=app%3Ddeployment", all("ReplicaSet", ns)))
            .await?;
        ensure!(sets.len() == 2, "{} ReplicaSets", sets.len());
        Ok(())
    })
    .await;
    world.admin.delete(&format!("/api/v1/nodes/{node}")).await.ok();
}

/// By the real controller, which writes `scale` as itself.
/// Legitimate: a HorizontalPodAutoscaler of a tenant scales what a launcher started.
#[tokio::test]
async fn an_autoscaler_scales() {
    let world = World::shared().await;
    let ns = &world.enforced("scales").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    lea.post(
        &all("Deployment", ns),
        &workload("Deployment", &pod("served", "triage")),
    )
    .await
    .ok();
    let scaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "served"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "served"}, "minReplicas": 3, "maxReplicas": 5},
    });
    let scalers = format!("/apis/autoscaling/v2/namespaces/{ns}/horizontalpodautoscalers");
    world.tess.post(&scalers, &scaler).await.ok();
    has_pods(&world, ns, "served", 3).await;
    let by_hand = json!({"spec": {"replicas": 4}});
    world
        .tess
        .patch(&format!("{}/scale", one("Deployment", ns, "served")), &by_hand)
        .await
        .ok();
    has_pods(&world, ns, "served", 4).await;
}

/// A tick that is due at once, because the last one is on record two minutes ago.
/// Legitimate: a CronJob ticks, and its Job and its pod are made by their controllers.
#[tokio::test]
async fn a_cron_job_ticks() {
    let world = World::shared().await;
    let ns = &world.enforced("ticks").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let mut nightly = workload("CronJob", &pod("nightly", "triage"));
    nightly["spec"]["schedule"] = json!("* * * * *");
    nightly["spec"]["suspend"] = json!(true);
    lea.post(&all("CronJob", ns), &nightly).await.ok();
    let path = one("CronJob", ns, "nightly");
    let before = Timestamp::now() - Duration::from_secs(150);
    let last = before.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    world
        .admin
        .patch(
            &format!("{path}/status"),
            &json!({"status": {"lastScheduleTime": last}}),
        )
        .await
        .ok();
    world.tess.patch(&path, &json!({"spec": {"suspend": false}})).await.ok();
    eventually(SOON, || async {
        ensure!(!pods_of(&world, ns, "nightly").await?.is_empty(), "no pod yet");
        Ok(())
    })
    .await;
    world.tess.delete(&path).await.ok();
}

/// By eviction, by a taint, and by `kubectl drain`; the kubelet reports and ends, and what is lost is made again.
/// Legitimate: a node is drained, its taints evict, its kubelet writes status, and a tenant evicts a pod.
#[tokio::test]
async fn a_node_is_drained_and_its_kubelet_reports() {
    let world = World::shared().await;
    let ns = &world.enforced("drains").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let node = node(&world).await;
    let kubelet = world.master(&format!("system:node:{node}"), &["system:nodes"]).await;
    lea.post(
        &all("Deployment", ns),
        &workload("Deployment", &pod("served", "triage")),
    )
    .await
    .ok();
    let first = has_pods(&world, ns, "served", 1).await.remove(0);
    bind(&world, ns, name(&first), &node).await;
    let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    kubelet
        .strategic(&format!("{}/status", one("Pod", ns, name(&first))), &running)
        .await
        .ok();

    let drain = [
        "drain",
        &node,
        "--force",
        "--ignore-daemonsets",
        "--grace-period=0",
        "--timeout=30s",
    ];
    let drained = world.cluster.kubectl(&drain).await.unwrap();
    assert!(drained.success, "{drained}");
    world.admin.gone(&one("Pod", ns, name(&first))).await;
    let second = has_pods(&world, ns, "served", 1).await.remove(0);
    bind(&world, ns, name(&second), &node).await;

    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name(&second)}});
    world
        .tess
        .post(&format!("{}/eviction", one("Pod", ns, name(&second))), &eviction)
        .await
        .ok();
    // On its node it goes when the kubelet has ended it.
    let ended = json!({"status": {"phase": "Succeeded"}});
    kubelet
        .patch(&format!("{}/status", one("Pod", ns, name(&second))), &ended)
        .await
        .ok();
    kubelet
        .delete(&format!("{}?gracePeriodSeconds=0", one("Pod", ns, name(&second))))
        .await
        .ok();
    world.admin.gone(&one("Pod", ns, name(&second))).await;

    let third = has_pods(&world, ns, "served", 1).await.remove(0);
    bind(&world, ns, name(&third), &node).await;
    let taint = json!({"spec": {"taints": [{"key": "example.com/broken", "effect": "NoExecute"}]}});
    world.admin.patch(&format!("/api/v1/nodes/{node}"), &taint).await.ok();
    eventually(SOON, || async {
        let path = one("Pod", ns, name(&third));
        if !world.admin.is_there(&path).await? {
            return Ok(());
        }
        let pod = world.admin.read(&path).await?;
        ensure!(!pod["metadata"]["deletionTimestamp"].is_null(), "it is not evicted yet");
        Ok(())
    })
    .await;
    kubelet
        .delete(&format!("{}?gracePeriodSeconds=0", one("Pod", ns, name(&third))))
        .await;
    has_pods(&world, ns, "served", 1).await;
    world.admin.delete(&format!("/api/v1/nodes/{node}")).await.ok();
}

/// By the controller that binds volumes, on the claim and on the volume.
/// Legitimate: a tenant's claim is bound to a volume, and a pod mounts it.
#[tokio::test]
async fn a_claim_is_bound_and_mounted() {
    let world = World::shared().await;
    let ns = &world.enforced("claims").await;
    world.ready(ns, "triage", &json!({})).await;
    let storage = unique("manual");
    let capacity = json!({"storage": "1Gi"});
    let volume = json!({"metadata": {"name": storage}, "spec": {
        "capacity": capacity, "accessModes": ["ReadWriteOnce"], "storageClassName": storage, "hostPath": {"path": "/var/lib/claims"},
    }});
    world.admin.post("/api/v1/persistentvolumes", &volume).await.ok();
    let claims = format!("/api/v1/namespaces/{ns}/persistentvolumeclaims");
    let claim = json!({"metadata": {"name": "models"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": storage, "resources": {"requests": capacity},
    }});
    world.tess.post(&claims, &claim).await.ok();
    eventually(SOON, || async {
        let claim = world.admin.read(&format!("{claims}/models")).await?;
        ensure!(claim["status"]["phase"] == "Bound", "{}", claim["status"]);
        Ok(())
    })
    .await;
    let lea = world.master("lea", &[]).await;
    let mut mounts = pod("mounts", "triage");
    mounts["spec"]["volumes"] = json!([{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}]);
    lea.post(&all("Pod", ns), &mounts).await.ok();
    lea.delete(&format!("{}?gracePeriodSeconds=0", one("Pod", ns, "mounts")))
        .await
        .ok();
    world.tess.delete(&format!("{claims}/models")).await.ok();
    world.admin.gone(&format!("{claims}/models")).await;
    world
        .admin
        .delete(&format!("/api/v1/persistentvolumes/{storage}"))
        .await
        .ok();
}

/// The way out, with all replicas alive; `down` has it with none.
/// Legitimate: who holds `approve` takes `enforce` off: it is done, counted, and told by an Event.
#[tokio::test]
async fn the_glass_is_broken_and_that_is_told() {
    let world = World::shared().await;
    let ns = &world.enforced("glass").await;
    world.ready(ns, "triage", &json!({})).await;
    let deny = one("NetworkPolicy", ns, "ringfence");
    assert!(world.admin.is_there(&deny).await.unwrap());
    let before = world.counted("ringfence_break_glass_total", &[]).await;

    let path = format!("{NAMESPACES}/{ns}");
    world
        .admin
        .patch(&path, &json!({"metadata": {"labels": {"ringfence.dev/enforce": null}}}))
        .await
        .ok();
    world.admin.gone(&deny).await;
    let workflow = world
        .condition(ns, "triage", "Ready", "False", "NamespaceNotFenced")
        .await;
    assert_eq!(workflow["status"]["mode"], Value::Null);
    assert!(
        world
            .admin
            .is_there(&one("ServiceAccount", ns, "triage"))
            .await
            .unwrap(),
        "running pods keep their account"
    );
    eventually(SOON, || async {
        let events = world.admin.items(&all("Event", "default")).await?;
        let told = events.iter().any(|event| {
            event["reason"] == "BreakGlass" && event["type"] == "Warning" && event["regarding"]["name"] == *ns
        });
        ensure!(told, "no Event tells of it");
        ensure!(
            world.counted("ringfence_break_glass_total", &[]).await > before,
            "it is not counted"
        );
        Ok(())
    })
    .await;

    world
        .admin
        .patch(
            &path,
            &json!({"metadata": {"labels": {"ringfence.dev/enforce": "default"}}}),
        )
        .await
        .ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    assert!(world.admin.is_there(&deny).await.unwrap());
}

/// Also after the declaration has become stricter than what runs.
/// Legitimate: a Job ends, lets go of its pods and is cleared away, and a namespace is deleted with all that is in it.
#[tokio::test]
async fn a_job_and_a_namespace_come_to_their_end() {
    let world = World::shared().await;
    let ns = &world.enforced("ends").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    lea.post(&all("Job", ns), &workload("Job", &pod("once", "triage")))
        .await
        .ok();
    let made = first_pod(&world.admin, ns).await;
    let name = made["metadata"]["name"].as_str().unwrap();
    assert_eq!(
        made["metadata"]["finalizers"],
        json!(["batch.kubernetes.io/job-tracking"])
    );
    // Stricter than when it was admitted: what is there must still be able to end.
    world
        .tess
        .patch(
            &one("AIWorkflow", ns, "triage"),
            &json!({"spec": {"images": ["registry.example.com/other/**"]}}),
        )
        .await
        .ok();
    // What a kubelet would write.
    let done = json!({"status": {"phase": "Succeeded", "conditions": [{"type": "Ready", "status": "False", "reason": "PodCompleted"}]}});
    world
        .admin
        .patch(&format!("{}/status", one("Pod", ns, name)), &done)
        .await
        .ok();
    eventually(SOON, || async {
        let pod = world.admin.read(&one("Pod", ns, name)).await?;
        ensure!(
            pod["metadata"]["finalizers"].is_null(),
            "the Job controller could not let go: {}",
            pod["metadata"]
        );
        let job = world.admin.read(&one("Job", ns, "once")).await?;
        ensure!(job["status"]["succeeded"] == 1, "{}", job["status"]);
        Ok(())
    })
    .await;
    world
        .tess
        .patch(
            &one("AIWorkflow", ns, "triage"),
            &json!({"spec": {"images": ["registry.example.com/finance/**"]}}),
        )
        .await
        .ok();
    let bare = eventually(SOON, || async {
        let answer = lea.post(&all("Pod", ns), &pod("bare", "triage")).await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(answer)
    });
    bare.await.ok();
    // The controller that clears what has ended away deletes it like anybody, and waits for its pods.
    let clear = json!({"spec": {"ttlSecondsAfterFinished": 0}});
    lea.patch(&one("Job", ns, "once"), &clear).await.ok();
    world.admin.gone(&one("Job", ns, "once")).await;
    world.admin.gone(&one("Pod", ns, name)).await;

    let namespace = format!("/api/v1/namespaces/{ns}");
    world.admin.delete(&namespace).await.ok();
    world.admin.gone(&namespace).await;
}

async fn first_pod(admin: &Actor, namespace: &str) -> Value {
    eventually(SOON, || async {
        let pods = admin.items(&all("Pod", namespace)).await?;
        ensure!(!pods.is_empty(), "no pod yet");
        Ok(pods[0].clone())
    })
    .await
}
