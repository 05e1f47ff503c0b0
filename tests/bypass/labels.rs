//! Door: another workflow's label, or an annotation that no class allows, on a pod that runs: its network, its account and its runtime
//! go by them.
//!
//! Kubernetes changes both beside the pod itself: through its status, and by a Binding, whose labels and annotations are copied onto the
//! pod over what is there.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{Identity, eventually};

use crate::attackers::{forbidden, scan_report, told};
use crate::world::{Actor, BINARY, SOON, World, all, one, pod, workload};

const GUARD: &str = "ringfence-subresources";
const WORKFLOW: &str = "ringfence.dev/workflow";
/// By this one the pod gets a second network interface, past every NetworkPolicy.
const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

fn moved(value: &Value) -> Value {
    json!({"metadata": {"labels": {WORKFLOW: value}}})
}

fn binding(name: &str, metadata: &Value) -> Value {
    let mut binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": "none"},
    });
    for (key, value) in metadata.as_object().into_iter().flatten() {
        binding["metadata"][key] = value.clone();
    }
    binding
}

/// A kubelet, whom RBAC lets do more than any.
async fn kubelet(world: &World) -> Actor {
    Actor::new(
        world
            .cluster
            .impersonate("system:node:none", &["system:nodes", "system:masters"])
            .await,
    )
}

/// An enforced namespace with two workflows, and pods of `triage` in it.
async fn place(world: &World, prefix: &str, pods: &[&str]) -> String {
    let ns = world.enforced(prefix).await;
    world.ready(&ns, "triage", &json!({})).await;
    world.ready(&ns, "other", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    for name in pods {
        lea.post(&all("Pod", &ns), &pod(name, "triage")).await.ok();
    }
    ns
}

/// Held by: `fixed-label`
#[tokio::test]
async fn a_tenant_moves_a_running_pod_to_another_workflow() {
    let world = World::shared().await;
    let ns = &place(&world, "labels", &["kept"]).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.person(ns, "edit").await;
    let (_, ada) = world.person(ns, "admin").await;
    let path = one("Pod", ns, "kept");
    for value in [json!("other"), json!("absent"), json!(""), json!(null)] {
        for attacker in [&world.tess, &edith, &ada, &world.admin, &lea] {
            let answer = attacker.patch(&path, &moved(&value)).await;
            answer.refused_by("fixed-label");
        }
    }
    let put = json!([{"op": "remove", "path": "/metadata/labels"}]);
    edith.json_patch(&path, &put).await.refused_by("fixed-label");
    let replaced = async {
        let mut now = world.admin.read(&path).await.unwrap();
        now["metadata"]["labels"][WORKFLOW] = json!("other");
        edith.put(&path, &now).await
    };
    replaced.await.refused_by("fixed-label");
    let pod = world.admin.get(&path).await.ok();
    assert_eq!(pod["metadata"]["labels"][WORKFLOW], "triage");
    let own = json!({"metadata": {"labels": {"team": "x"}}});
    lea.patch(&path, &own).await.ok();
}

/// A pod that no workflow has, because it was there before the fence, is not taken into one.
///
/// Held by: `fixed-label`
#[tokio::test]
async fn a_pod_from_before_the_fence_is_labelled_into_a_workflow() {
    let world = World::shared().await;
    let ns = &world.namespace("before", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let mut old = pod("old", "triage");
    old["metadata"]["labels"] = json!({"app": "old"});
    old["spec"]["serviceAccountName"] = json!("default");
    eventually(SOON, || async {
        let answer = edith.post(&all("Pod", ns), &old).await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
    let path = one("Pod", ns, "old");
    let label = moved(&json!("triage"));
    edith.patch(&path, &label).await.refused_by("approved-namespace");
    world.enforce(ns).await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    for attacker in [&world.tess, &edith, &world.admin, &lea] {
        attacker.patch(&path, &label).await.refused_by("fixed-label");
    }
    let status = format!("{path}/status");
    world.admin.patch(&status, &label).await.refused_by_guard(GUARD);
    edith.delete(&path).await.ok();
}

/// Held by: `ringfence-subresources`, `RBAC`
#[tokio::test]
async fn a_binding_carries_another_label_or_a_network_onto_its_pod() {
    let world = World::shared().await;
    let ns = &place(&world, "bound-labels", &["a", "b"]).await;
    let (_, edith) = world.person(ns, "edit").await;
    let (_, ada) = world.person(ns, "admin").await;
    let attacks = [
        json!({"labels": {WORKFLOW: "other"}}),
        json!({"labels": {WORKFLOW: "triage"}}),
        json!({"labels": {"ringfence.dev/anything": "x"}}),
        json!({"annotations": {"ringfence.dev/owner-uid": "x"}}),
        json!({"annotations": {NETWORKS: "dark"}}),
        json!({"annotations": {"K8s.v1.cni.cncf.io/networks": "dark"}}),
        json!({"annotations": {"sidecar.istio.io/inject": "false"}}),
    ];
    for name in ["a", "b"] {
        let path = one("Pod", ns, name);
        // By both names of the same door.
        let to = match name {
            "a" => format!("{path}/binding"),
            _ => format!("/api/v1/namespaces/{ns}/bindings"),
        };
        for metadata in &attacks {
            let attack = binding(name, metadata);
            world.admin.post(&to, &attack).await.refused_by_guard(GUARD);
            for tenant in [&world.tess, &edith, &ada] {
                forbidden(&tenant.post(&to, &attack).await);
            }
        }
        // A scheduler binds, and the API server adds where the node is.
        let scheduler = world.master("system:kube-scheduler", &[]).await;
        let legitimate = binding(name, &json!({"labels": {"topology.kubernetes.io/zone": "a"}}));
        scheduler.post(&to, &legitimate).await.ok();
        let bound = world.admin.read(&path).await.unwrap();
        assert_eq!(bound["spec"]["nodeName"], "none");
        assert_eq!(bound["metadata"]["labels"][WORKFLOW], "triage");
        assert!(bound["metadata"]["annotations"].get(NETWORKS).is_none(), "{bound}");
    }
}

/// Held by: `ringfence-subresources`, `RBAC`
#[tokio::test]
async fn a_status_carries_another_label_or_a_network_onto_its_pod() {
    let world = World::shared().await;
    let ns = &place(&world, "status-labels", &["a"]).await;
    let (_, edith) = world.person(ns, "edit").await;
    let (_, ada) = world.person(ns, "admin").await;
    let kubelet = kubelet(&world).await;
    let path = format!("{}/status", one("Pod", ns, "a"));
    for attack in [
        moved(&json!("other")),
        moved(&json!(null)),
        json!({"metadata": {"labels": null}}),
        json!({"metadata": {"annotations": {"ringfence.dev/anything": "x"}}}),
        json!({"metadata": {"annotations": {NETWORKS: "dark"}}}),
        json!({"metadata": {"annotations": {"sidecar.istio.io/inject": "false"}}, "status": {"phase": "Running"}}),
    ] {
        for tenant in [&world.tess, &edith, &ada] {
            forbidden(&tenant.patch(&path, &attack).await);
        }
        for holder in [&world.admin, &kubelet] {
            holder.patch(&path, &attack).await.refused_by_guard(GUARD);
            holder.strategic(&path, &attack).await.refused_by_guard(GUARD);
        }
        let mut whole = world.admin.read(&path).await.unwrap();
        whole["metadata"]["labels"][WORKFLOW] = json!("other");
        world.admin.put(&path, &whole).await.refused_by_guard(GUARD);
    }
    // A kubelet reports, and so do network plugins.
    for report in [
        json!({"status": {"phase": "Running", "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}]}}),
        json!({"metadata": {"annotations": {"cni.projectcalico.org/podIP": "10.0.0.7/32"}}}),
        json!({"metadata": {"annotations": {"k8s.v1.cni.cncf.io/network-status": "[]"}}}),
    ] {
        kubelet.strategic(&path, &report).await.ok();
    }
    let now = world.admin.read(&path).await.unwrap();
    assert_eq!(
        (&now["metadata"]["labels"][WORKFLOW], &now["status"]["phase"]),
        (&json!("triage"), &json!("Running"))
    );
}

/// Kubernetes takes nothing along there but what the door is for. Should it begin to, this test fails.
///
/// Held by: `API server`, `RBAC`
#[tokio::test]
async fn a_label_comes_along_with_a_resize_a_debug_container_or_a_scale() {
    let world = World::shared().await;
    let ns = &place(&world, "carried", &["a"]).await;
    let lea = world.master("lea", &[]).await;
    let path = one("Pod", ns, "a");
    let mut carried = moved(&json!("other"));
    carried["metadata"]["annotations"] = json!({NETWORKS: "dark"});
    let with = |spec: Value| {
        let mut object = carried.clone();
        object["spec"] = spec;
        object
    };
    let more = json!({"requests": {"cpu": "150m"}});
    let resized = with(json!({"containers": [{"name": "main", "resources": more}]}));
    forbidden(&world.tess.strategic(&format!("{path}/resize"), &resized).await);
    lea.strategic(&format!("{path}/resize"), &resized).await.ok();
    let swapped =
        with(json!({"containers": [{"name": "main", "image": "docker.io/library/evil:1"}], "nodeName": "none"}));
    for door in ["resize", "ephemeralcontainers"] {
        let door = format!("{path}/{door}");
        forbidden(&world.tess.strategic(&door, &swapped).await);
        lea.strategic(&door, &swapped).await;
    }
    let now = world.admin.read(&path).await.unwrap();
    assert_eq!(now["metadata"]["labels"][WORKFLOW], "triage");
    assert!(now["metadata"]["annotations"].get(NETWORKS).is_none(), "{now}");
    let main = &now["spec"]["containers"][0];
    assert_eq!(
        (
            &main["image"],
            &main["resources"]["requests"]["cpu"],
            now["spec"].get("nodeName")
        ),
        (&crate::world::container("main")["image"], &json!("150m"), None)
    );

    let deployment = workload("Deployment", &pod("app", "triage"));
    lea.post(&all("Deployment", ns), &deployment).await.ok();
    let path = one("Deployment", ns, "app");
    let mut scale = world.admin.read(&format!("{path}/scale")).await.unwrap();
    scale["metadata"]["labels"] = json!({WORKFLOW: "other"});
    scale["spec"]["replicas"] = json!(2);
    world.tess.put(&format!("{path}/scale"), &scale).await.ok();
    let now = world.admin.read(&path).await.unwrap();
    assert_eq!(
        (&now["metadata"]["labels"][WORKFLOW], &now["spec"]["replicas"]),
        (&json!("triage"), &json!(2))
    );
}

/// A Job or a ReplicaSet whose label comes by its status would be taken for one that a launcher made.
///
/// Held by: `ringfence-subresources`, `RBAC`
#[tokio::test]
async fn what_makes_pods_is_labelled_through_its_status() {
    let world = World::shared().await;
    let ns = &world.namespace("status-owner", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let (_, ada) = world.person(ns, "admin").await;
    for kind in [
        "Job",
        "CronJob",
        "ReplicaSet",
        "StatefulSet",
        "DaemonSet",
        "ReplicationController",
    ] {
        let mut object = workload(kind, &pod("app", "triage"));
        object["metadata"]["labels"] = json!({"app": "app"});
        match kind {
            "Job" | "CronJob" => object["spec"]["suspend"] = json!(true),
            "DaemonSet" => {}
            _ => object["spec"]["replicas"] = json!(0),
        }
        edith.post(&all(kind, ns), &object).await.ok();
        let path = one(kind, ns, "app");
        let status = format!("{path}/status");
        let label = moved(&json!("triage"));
        for tenant in [&world.tess, &edith, &ada] {
            forbidden(&tenant.patch(&status, &label).await);
        }
        world.admin.patch(&status, &label).await.refused_by_guard(GUARD);
        edith.patch(&path, &label).await.refused_by("approved-namespace");
        let team = json!({"metadata": {"labels": {"team": "x"}}});
        world.admin.patch(&status, &team).await.ok();
    }
}

/// A kubelet's mirror of a static pod is refused like any pod, and the static pod runs on: whoever writes files of a node is its root.
/// One whose mirror stands is reported, and nothing of it is touched.
///
/// Out of scope: static pods; who may write files on nodes holds them.
#[tokio::test]
async fn a_node_runs_a_static_pod() {
    let world = World::shared().await;
    let ns = &world.namespace("mirrored", &json!({})).await;
    let kubelet = kubelet(&world).await;
    let mirror = |name: &str| {
        let mut mirror = pod(name, "triage");
        mirror["metadata"]["labels"] = json!({"app": name});
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "5f0f6b6f0e4a"});
        mirror["spec"]["nodeName"] = json!("none");
        // The API server refuses a mirror that names an account.
        mirror["spec"]
            .as_object_mut()
            .expect("a spec")
            .remove("serviceAccountName");
        mirror
    };
    kubelet.post(&all("Pod", ns), &mirror("before")).await.ok();
    let enforce = json!({"metadata": {"labels": {"ringfence.dev/enforce": "default"}}});
    let namespace = format!("{}/{ns}", crate::world::NAMESPACES);
    world.admin.patch(&namespace, &enforce).await.ok();
    world.ready(ns, "triage", &json!({})).await;
    kubelet
        .post(&all("Pod", ns), &mirror("after"))
        .await
        .refused_by("declared-workflow");
    let mut labelled = mirror("labelled");
    labelled["metadata"]["labels"] = json!({WORKFLOW: "triage"});
    kubelet.post(&all("Pod", ns), &labelled).await.refused_by("launcher");
    let check = ["check", "namespace", ns, "-o", "json"];
    let said = world
        .cluster
        .ringfence_as(&Identity::Admin, BINARY, &check)
        .await
        .unwrap();
    let report: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let found = report["findings"].as_array().expect("findings").iter();
    let told = found.filter(|finding| finding["kind"] == "Pod" && finding["name"] == "before");
    let rules: Vec<_> = told
        .map(|finding| finding["rule"].as_str().unwrap_or_default())
        .collect();
    assert!(said.code == Some(1) && rules.contains(&"declared-workflow"), "{said}");
    assert!(world.admin.is_there(&one("Pod", ns, "before")).await.unwrap());
}

/// Made while its namespace only warns, with a record that a plugin wrote the annotation by the pod's status. What plugins do report that way
/// is told of nobody.
///
/// Held by: `scan`
#[tokio::test]
async fn a_pod_keeps_its_second_network_behind_a_record_of_its_own() {
    let world = World::shared().await;
    let ns = &world
        .namespace("recorded", &json!({"ringfence.dev/warn": "default"}))
        .await;
    let declared = crate::world::workflow("triage", &json!({}));
    world.tess.post(&all("AIWorkflow", ns), &declared).await.ok();
    world.condition(ns, "triage", "Programmed", "True", "Applied").await;
    let (_, edith) = world.tenant(ns).await;
    let reported = "k8s.v1.cni.cncf.io/network-status";
    for (name, key) in [("second", NETWORKS), ("reports", reported)] {
        let mut made = pod(name, "triage");
        made["metadata"]["annotations"] = json!({key: "x"});
        let fields = json!({"f:metadata": {"f:annotations": {format!("f:{key}"): {}}}});
        edith.post(&all("Pod", ns), &made).await.ok();
        let record = json!([{
            "manager": "multus", "operation": "Update", "subresource": "status", "apiVersion": "v1",
            "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields,
        }]);
        let recorded = json!({"metadata": {"managedFields": record}});
        let stored = edith.patch(&one("Pod", ns, name), &recorded).await.ok();
        assert_eq!(stored["metadata"]["managedFields"], record);
    }
    let enforce = json!({"metadata": {"labels": {"ringfence.dev/enforce": "default"}}});
    let path = format!("{}/{ns}", crate::world::NAMESPACES);
    world.admin.patch(&path, &enforce).await.ok();
    let found = told(&scan_report(&world, &["--namespace", ns]).await);
    assert!(found.contains(&"pod-annotations Pod/second".to_owned()), "{found:?}");
    assert!(!found.contains(&"pod-annotations Pod/reports".to_owned()), "{found:?}");
}
