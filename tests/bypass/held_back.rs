//! Door: a rollout or a scaling down that a launcher asks for waits for a pod, or passes it by.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{Identity, eventually, unique};
use tokio::time::{Duration, sleep};

use crate::attackers::{holder, holding};
use crate::legitimate::{has_pods, node, pods_of};
use crate::world::{Actor, SOON, World, all, one, pod, workload};

const NEW: &str = "registry.example.com/finance/triage:2";
const CLAIMS: &str = "ringfence-claims";
/// Scaling down takes a controller a moment, where nothing holds it back.
const HANGS: Duration = Duration::from_secs(3);
/// A DELETE by which an object waits for what it owns.
const WAITING: [&str; 3] = [
    "propagationPolicy=Foreground",
    "propagationPolicy=Orphan",
    "orphanDependents=true",
];
const GRACE: &str = "ringfence-grace-periods";
const LEFT_RUNNING: &str = "ringfence-left-running";
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

/// Among more annotations than are compared one by one, a network plugin could not take back what it reported, and a pod never ended. By those
/// that a class lets everybody write; where there were as many before the fence, the plugin is let all the same.
///
/// Held by: `pod-annotations`
#[tokio::test]
async fn a_tenant_leaves_a_network_plugin_no_annotation() {
    let world = World::shared().await;
    let ns = &world
        .namespace("annotated", &json!({"ringfence.dev/warn": "default"}))
        .await;
    let many = |count: usize| {
        let keys = (0..count).map(|at| (format!("kubectl.kubernetes.io/n{at}"), json!("")));
        json!({"metadata": {"annotations": keys.collect::<serde_json::Map<_, _>>()}})
    };
    let lea = world.master("lea", &[]).await;
    let mut before = pod("before", "triage");
    before["metadata"]["annotations"] = many(1_001)["metadata"]["annotations"].clone();
    before["spec"]["serviceAccountName"] = json!("default");
    lea.post(&all("Pod", ns), &before).await.ok();
    world.enforce(ns).await;
    world.ready(ns, "triage", &json!({})).await;
    lea.post(&all("Pod", ns), &pod("db", "triage")).await.ok();
    let (_, edith) = world.tenant(ns).await;
    let path = one("Pod", ns, "db");
    for attacker in [&world.tess, &edith] {
        attacker.patch(&path, &many(100)).await.ok();
        let answer = attacker.patch(&path, &many(1_001)).await;
        let said = answer.refused_by("pod-annotations");
        assert!(said.contains("512 are the most"), "{said}");
    }
    let plugin = world
        .master("system:serviceaccount:calico-system:calico-cni-plugin", &[])
        .await;
    for pod in ["db", "before"] {
        for address in ["10.0.0.7/32", ""] {
            let report = json!({"metadata": {"annotations": {"cni.projectcalico.org/podIP": address}}});
            let status = format!("{}/status", one("Pod", ns, pod));
            plugin.patch(&status, &report).await.ok();
        }
    }
}

/// Deleted in the foreground, or with what it owns left behind, a pod stays until that is dealt with; and anything may say that a pod owns it,
/// and stay by a finalizer of its own. A StatefulSet or DaemonSet waits, and a Deployment takes up a ReplicaSet that is on its way out.
///
/// Held by: `launcher`, `ringfence-grace-periods`, `ringfence-left-running`
#[tokio::test]
async fn a_tenant_has_a_pod_wait_for_what_it_owns() {
    let world = World::shared().await;
    let ns = &world.enforced("foreground").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let mut made = workload("StatefulSet", &pod("set", "triage"));
    parallel(&mut made);
    lea.post(&all("StatefulSet", ns), &made).await.ok();
    let first = has_pods(&world, ns, "set", 1).await.remove(0);
    let path = one("Pod", ns, name(&first));
    let owned = |called: &str, by: &Value, finalizers: Value| {
        json!({"metadata": {"name": called, "finalizers": finalizers, "ownerReferences": [{
            "apiVersion": "v1", "kind": "Pod", "name": name(by), "uid": by["metadata"]["uid"], "blockOwnerDeletion": true,
        }]}})
    };
    let stays = owned("stays", &first, json!(["example.com/stays"]));
    world.tess.post(&all("ConfigMap", ns), &stays).await.ok();
    let foreground = json!({"metadata": {"finalizers": ["foregroundDeletion"]}});
    for attacker in [&world.tess, &edith] {
        for query in WAITING {
            let answer = attacker.delete(&format!("{path}?{query}")).await;
            let said = answer.refused_by_guard(GRACE);
            assert!(
                said.contains("hold back the rollout") && said.contains("Fix: "),
                "{said}"
            );
        }
        for policy in ["Foreground", "Orphan"] {
            let eviction = json!({
                "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name(&first)},
                "deleteOptions": {"propagationPolicy": policy},
            });
            let answer = attacker.post(&format!("{path}/eviction"), &eviction).await;
            answer.refused_by_guard(GRACE);
        }
        attacker.patch(&path, &foreground).await.refused_by("launcher");
    }
    // Nothing waits for what it owns where it is deleted as usual.
    lea.strategic(&one("StatefulSet", ns, "set"), &image(NEW)).await.ok();
    is_rolled_out(&world, ns, "set").await;
    let second = has_pods(&world, ns, "set", 1).await.remove(0);
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name(&second)},
        "deleteOptions": {"propagationPolicy": "Background"},
    });
    world.tess.post(&format!("{path}/eviction"), &eviction).await.ok();
    eventually(SOON, || async {
        let third = world.admin.read(&path).await?;
        ensure!(third["metadata"]["uid"] != second["metadata"]["uid"], "not made again");
        Ok(())
    })
    .await;
    // What nothing made holds back nothing.
    lea.post(&all("Pod", ns), &pod("alone", "triage")).await.ok();
    let alone = one("Pod", ns, "alone");
    world
        .tess
        .delete(&format!("{alone}?propagationPolicy=Foreground"))
        .await
        .ok();
    world.admin.gone(&alone).await;

    // A ReplicaSet, by itself and by its status.
    lea.post(&all("Deployment", ns), &workload("Deployment", &pod("web", "triage")))
        .await
        .ok();
    let made = has_pods(&world, ns, "web", 1).await.remove(0);
    let set = made["metadata"]["ownerReferences"][0]["name"].as_str().expect("a name");
    let set = one("ReplicaSet", ns, set);
    for attacker in [&world.tess, &edith, &world.admin] {
        attacker.patch(&set, &foreground).await.refused_by("launcher");
    }
    let rules = json!([{"apiGroups": ["apps"], "resources": ["replicasets/status"], "verbs": ["get", "patch"]}]);
    let status = holder(&world, &rules).await;
    let answer = status.patch(&format!("{set}/status"), &foreground).await;
    answer.refused_by_guard(LEFT_RUNNING);
    // All of a Deployment goes in the foreground: the collector itself deletes so what owns something.
    let goes = owned("goes", &made, json!([]));
    world.tess.post(&all("ConfigMap", ns), &goes).await.ok();
    let path = one("Deployment", ns, "web");
    world
        .tess
        .delete(&format!("{path}?propagationPolicy=Foreground"))
        .await
        .ok();
    world.admin.gone(&path).await;
    world.admin.gone(&one("ConfigMap", ns, "goes")).await;
    has_pods(&world, ns, "web", 0).await;
    let off = json!({"metadata": {"finalizers": null}});
    world.tess.patch(&one("ConfigMap", ns, "stays"), &off).await.ok();
}

/// A StatefulSet ends its work where a claim of one of its pods is being deleted, or cannot be written.
///
/// Held by: `ringfence-claims`
#[tokio::test]
async fn a_tenant_holds_a_claim_of_a_stateful_set() {
    let world = &World::shared().await;
    let ns = &world.enforced("claims").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let mut set = workload("StatefulSet", &pod("db", "triage"));
    parallel(&mut set);
    set["spec"]["replicas"] = json!(3);
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
    }}]);
    lea.post(&all("StatefulSet", ns), &set).await.ok();
    has_pods(world, ns, "db", 3).await;
    let claim = one("PersistentVolumeClaim", ns, "data-db-0");
    // Who reads all volumes keeps none of them.
    let reader = json!([{"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": ["get", "list", "watch"]}]);
    let identity = holding(world, &reader).await;
    let Identity::User { name, .. } = &identity else {
        panic!("{identity:?}")
    };
    world.bind(ns, "edit", &json!({"kind": "User", "name": name})).await;
    let rhea = Actor::new(world.cluster.client(&identity).await);
    eventually(SOON, || async { rhea.read(&claim).await }).await;
    for attacker in [&edith, &world.tess, &rhea] {
        let held = json!({"metadata": {"finalizers": ["kubernetes.io/pvc-protection", "a.b/hold"]}});
        attacker.patch(&claim, &held).await.refused_by_guard(CLAIMS);
        let owned = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]}});
        attacker.patch(&claim, &owned).await.refused_by_guard(CLAIMS);
        let made = json!({"metadata": {"name": "data-db-7", "finalizers": ["a.b/hold"]}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        }});
        attacker
            .post(&all("PersistentVolumeClaim", ns), &made)
            .await
            .refused_by_guard(CLAIMS);
        for query in WAITING {
            let answer = attacker.delete(&format!("{claim}?{query}")).await;
            let said = answer.refused_by_guard(CLAIMS);
            assert!(said.contains("waits for what it owns"), "{said}");
        }
    }
    // What keeps storage may hold it: so held and deleted, it is what a tenant is after, and nothing is scaled down until it is let go.
    let labelled = json!({"metadata": {"labels": {"tier": "x"}}});
    edith.patch(&claim, &labelled).await.ok();
    let snapshot = json!({"metadata": {"finalizers": ["kubernetes.io/pvc-protection", "snapshot.example.com/source"]}});
    let other = one("PersistentVolumeClaim", ns, "data-db-2");
    for held in [&claim, &other] {
        lea.patch(held, &snapshot).await.ok();
    }
    edith.delete(&claim).await.ok();
    let first = format!("{}?gracePeriodSeconds=0", one("Pod", ns, "db-0"));
    // Its controller may make the pod anew until it has heard of the claim.
    eventually(SOON, || async {
        edith.delete(&first).await;
        sleep(HANGS).await;
        let left = pods_of(world, ns, "db").await?.len();
        ensure!(left == 2, "{left} pods");
        Ok(())
    })
    .await;
    let of_set = one("StatefulSet", ns, "db");
    lea.patch(&of_set, &json!({"spec": {"replicas": 1}})).await.ok();
    sleep(HANGS).await;
    has_pods(world, ns, "db", 2).await;
    for held in [&claim, &other] {
        lea.patch(held, &json!({"metadata": {"finalizers": null}})).await.ok();
    }
    // It tries again later each time, and at once when the set changes.
    eventually(SOON, || async {
        let anew = json!({"metadata": {"labels": {"tried": unique("anew")}}});
        lea.patch(&of_set, &anew).await.ok();
        sleep(Duration::from_secs(1)).await;
        let left = pods_of(world, ns, "db").await?.len();
        ensure!(left == 1, "{left} pods");
        Ok(())
    })
    .await;
}
