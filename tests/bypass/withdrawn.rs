//! Door: what a launcher withdrew runs on, or runs again, by what a tenant may do with workloads and pods.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use support::{Identity, eventually};

use crate::attackers::{force_apply, holder};
use crate::legitimate::has_pods;
use crate::operators::Launched;
use crate::world::{Actor, SOON, World, all, one, pod, tess, workload};

const OLD: &str = "registry.example.com/finance/triage:1.4";
const NEW: &str = "registry.example.com/finance/triage:2";
const REPLICA_SETS: &str = "ringfence-replica-sets";
const LEFT_RUNNING: &str = "ringfence-left-running";

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}})
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("a name")
}

fn image_of(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]["image"]
}

/// The ReplicaSet of a namespace whose template has that image.
async fn set_of(world: &World, ns: &str, image: &str) -> Value {
    eventually(SOON, || async {
        let sets = world.admin.items(&all("ReplicaSet", ns)).await?;
        let set = sets
            .into_iter()
            .find(|set| set["spec"]["template"]["spec"]["containers"][0]["image"] == image);
        set.ok_or_else(|| anyhow::anyhow!("no ReplicaSet of {image}"))
    })
    .await
}

async fn kubectl(world: &World, who: &Identity, ns: &str, arguments: &[&str]) {
    let arguments: Vec<_> = arguments.iter().copied().chain(["--namespace", ns]).collect();
    let done = world.cluster.kubectl_as(who, &arguments).await.unwrap();
    assert!(done.success, "{done}");
}

/// By a pause, by a slower or another strategy: then the next rollout does not come, and pods that are lost come again from the template
/// before it.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_holds_back_what_a_launcher_is_about_to_roll_out() {
    let world = World::shared().await;
    let ns = &world.enforced("held-back").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let on_delete = json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}});
    let slow = json!({"minReadySeconds": 100});
    let changes: [(&str, &[Value]); 5] = [
        (
            "Deployment",
            &[
                json!({"paused": true}),
                slow.clone(),
                json!({"progressDeadlineSeconds": 100_000}),
                json!({"strategy": {"rollingUpdate": {"maxUnavailable": 0}}}),
                json!({"strategy": {"type": "Recreate", "rollingUpdate": null}}),
            ],
        ),
        (
            "StatefulSet",
            &[
                json!({"updateStrategy": {"rollingUpdate": {"partition": 1000}}}),
                json!({"ordinals": {"start": 3}}),
                on_delete.clone(),
                slow.clone(),
            ],
        ),
        ("DaemonSet", &[on_delete, slow.clone()]),
        ("ReplicaSet", &[slow]),
        (
            "Job",
            &[
                json!({"activeDeadlineSeconds": 9}),
                json!({"ttlSecondsAfterFinished": 9}),
            ],
        ),
    ];
    for (kind, changes) in &changes {
        let app = kind.to_lowercase();
        lea.post(&all(kind, ns), &workload(kind, &pod(&app, "triage")))
            .await
            .ok();
        for change in *changes {
            for attacker in [&world.tess, &edith, &world.admin] {
                let answer = attacker.strategic(&one(kind, ns, &app), &json!({"spec": change})).await;
                answer.refused_by("launcher");
            }
        }
    }
    // How much runs, and how much of the past is kept, is free, and so is it to let a rollout go on that a launcher paused.
    for (kind, change) in [
        ("Deployment", json!({"replicas": 2})),
        ("Deployment", json!({"revisionHistoryLimit": 2})),
        ("StatefulSet", json!({"revisionHistoryLimit": 2, "replicas": 2})),
        ("DaemonSet", json!({"revisionHistoryLimit": 2})),
        ("Job", json!({"parallelism": 2})),
        ("Job", json!({"suspend": true})),
    ] {
        let path = one(kind, ns, &kind.to_lowercase());
        world.tess.patch(&path, &json!({"spec": change})).await.ok();
    }
    let launcher = Identity::user("lea", &["system:masters"]);
    kubectl(&world, &launcher, ns, &["rollout", "pause", "deployment/deployment"]).await;
    kubectl(&world, &tess(), ns, &["rollout", "resume", "deployment/deployment"]).await;
    // A launcher's rollout goes through, and what it changes of the pace reaches the ReplicaSet by the controller.
    lea.strategic(&one("Deployment", ns, "deployment"), &image(NEW))
        .await
        .ok();
    lea.patch(
        &one("Deployment", ns, "deployment"),
        &json!({"spec": {"minReadySeconds": 1}}),
    )
    .await
    .ok();
    eventually(SOON, || async {
        let set = set_of(&world, ns, NEW).await;
        ensure!(
            set["spec"]["minReadySeconds"] == 1,
            "{}",
            set["spec"]["minReadySeconds"]
        );
        Ok(())
    })
    .await;
}

/// A pause is a switch by convention, as how many there are is: but it holds a rollout back, and stays as long as one of those who applied it
/// says so.
///
/// Held by: `launcher`
#[tokio::test]
async fn somebody_pauses_an_operators_object() {
    let world = World::shared().await;
    let launched = Launched::new(&world, "paused").await;
    let of_the_kind = launched.holder(&world, &["get", "list", "patch"]).await;
    let Launched { kind, lea, path, .. } = launched;
    let pause = |paused: bool| json!({"spec": {"paused": paused}});
    let mut applied = json!({"apiVersion": format!("{}/v1", kind.group), "kind": "Flow", "metadata": {"name": "run"}});
    applied["spec"] = pause(true)["spec"].clone();
    for attacker in [&of_the_kind, &world.admin] {
        attacker.patch(&path, &pause(true)).await.refused_by("launcher");
        force_apply(attacker, &path, &applied).await.refused_by("launcher");
    }
    // A launcher's pause is a launcher's to share, and anybody's to lift.
    lea.patch(&path, &pause(true)).await.ok();
    force_apply(&of_the_kind, &path, &applied).await.refused_by("launcher");
    let scaled = json!({"spec": {"replicas": 2}});
    of_the_kind.patch(&path, &scaled).await.ok();
    of_the_kind.patch(&path, &pause(false)).await.ok();
}

/// Without the newest ReplicaSet a Deployment that is paused, or scaled in that moment, runs the one before.
///
/// Held by: `ringfence-replica-sets`, `ringfence-left-running`
#[tokio::test]
async fn a_tenant_takes_the_newest_template_away() {
    let world = World::shared().await;
    let ns = &world.enforced("newest").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let path = one("Deployment", ns, "app");
    let mut made = workload("Deployment", &pod("app", "triage"));
    made["spec"]["replicas"] = json!(0);
    lea.post(&all("Deployment", ns), &made).await.ok();
    set_of(&world, ns, OLD).await;
    lea.strategic(&path, &image(NEW)).await.ok();
    let newest = set_of(&world, ns, NEW).await;
    // A launcher's own pause is there too.
    lea.patch(&path, &json!({"spec": {"paused": true}})).await.ok();
    let set = one("ReplicaSet", ns, name(&newest));
    let hash = newest["metadata"]["labels"]["pod-template-hash"]
        .as_str()
        .expect("a hash");
    for attacker in [&world.tess, &edith] {
        for query in ["", "?propagationPolicy=Foreground", "?gracePeriodSeconds=0"] {
            let answer = attacker.delete(&format!("{set}{query}")).await;
            let said = answer.refused_by_guard(REPLICA_SETS);
            assert!(said.contains("revisionHistoryLimit"), "{said}");
        }
        let all_of_it = format!("{}?labelSelector=pod-template-hash%3D{hash}", all("ReplicaSet", ns));
        attacker.delete(&all_of_it).await.refused_by_guard(REPLICA_SETS);
        for labels in [
            json!({"app": null}),
            json!({"app": "x"}),
            json!({"pod-template-hash": "1"}),
        ] {
            let change = json!({"metadata": {"labels": labels}});
            attacker.patch(&set, &change).await.refused_by_guard(REPLICA_SETS);
        }
        let change = json!({"metadata": {"ownerReferences": null}});
        attacker.patch(&set, &change).await.refused_by_guard(LEFT_RUNNING);
        // Any other label is what a launcher's tool may select by.
        let change = json!({"metadata": {"labels": {"note": "x"}}});
        attacker.patch(&set, &change).await.refused_by("launcher");
    }
    for note in [json!("x"), Value::Null] {
        let change = json!({"metadata": {"labels": {"note": note}}});
        lea.patch(&set, &change).await.ok();
    }
    // By its status as well, where somebody may write that.
    for (change, guard) in [
        (json!({"labels": {"app": "x"}}), REPLICA_SETS),
        (json!({"ownerReferences": null}), LEFT_RUNNING),
    ] {
        let status = holder_of_status(&world).await;
        let answer = status
            .patch(&format!("{set}/status"), &json!({"metadata": change}))
            .await;
        answer.refused_by_guard(guard);
    }
    world.tess.patch(&path, &json!({"spec": {"replicas": 2}})).await.ok();
    world.tess.patch(&path, &json!({"spec": {"paused": false}})).await.ok();
    for made in has_pods(&world, ns, "app", 2).await {
        assert_eq!(image_of(&made), NEW);
    }
    // The controller itself ends what is old.
    world
        .tess
        .patch(&path, &json!({"spec": {"replicas": 0, "revisionHistoryLimit": 0}}))
        .await
        .ok();
    eventually(SOON, || async {
        let sets = world.admin.items(&all("ReplicaSet", ns)).await?;
        ensure!(sets.len() == 1, "{} ReplicaSets", sets.len());
        Ok(())
    })
    .await;
    // And the garbage collector what is left, one way and the other.
    kubectl(
        &world,
        &tess(),
        ns,
        &["delete", "deployment/app", "--cascade=foreground"],
    )
    .await;
    world.admin.gone(&set).await;
    has_pods(&world, ns, "app", 0).await;
    lea.post(&all("Deployment", ns), &workload("Deployment", &pod("app", "triage")))
        .await
        .ok();
    has_pods(&world, ns, "app", 1).await;
    kubectl(
        &world,
        &tess(),
        ns,
        &["delete", "deployment/app", "--cascade=background"],
    )
    .await;
    has_pods(&world, ns, "app", 0).await;
}

async fn holder_of_status(world: &World) -> Actor {
    let rules = json!([{"apiGroups": ["apps"], "resources": ["replicasets/status"], "verbs": ["get", "patch"]}]);
    holder(world, &rules).await
}

/// A pod that its controller lets go of, or whose owner somebody changes, stays when the launcher deletes what made it.
///
/// Held by: `launcher`, `ringfence-left-running`
#[tokio::test]
async fn a_tenant_leaves_a_pod_running_that_nobody_owns() {
    let world = World::shared().await;
    let ns = &world.enforced("left").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let config = json!({"metadata": {"name": "stays"}});
    let config = world.tess.post(&all("ConfigMap", ns), &config).await.ok();
    let stays = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "stays", "uid": config["metadata"]["uid"]});
    let kinds = [
        "Deployment",
        "StatefulSet",
        "ReplicationController",
        "ReplicaSet",
        "Job",
    ];
    for kind in kinds {
        let app = kind.to_lowercase();
        lea.post(&all(kind, ns), &workload(kind, &pod(&app, "triage")))
            .await
            .ok();
        let made = has_pods(&world, ns, &app, 1).await.remove(0);
        let path = one("Pod", ns, name(&made));
        // A Job selects by its own UID.
        let selected = if kind == "Job" {
            "batch.kubernetes.io/controller-uid"
        } else {
            "app"
        };
        for attacker in [&world.tess, &edith] {
            for value in [Value::Null, json!("other")] {
                let change = json!({"metadata": {"labels": {selected: value}}});
                let answer = attacker.patch(&path, &change).await;
                let said = answer.refused_by("launcher");
                assert!(said.contains("would run on"), "{said}");
            }
            let mut both = made["metadata"]["ownerReferences"].clone();
            both.as_array_mut().expect("owners").push(stays.clone());
            let mut no_controller = made["metadata"]["ownerReferences"].clone();
            no_controller[0]["controller"] = json!(false);
            for owners in [Value::Null, json!([]), json!([stays]), both, no_controller] {
                let change = json!({"metadata": {"ownerReferences": owners}});
                let answer = attacker.patch(&path, &change).await;
                answer.refused_by_guard(LEFT_RUNNING);
            }
            // Labels that no controller asks for come and go.
            for value in [json!("x"), json!("y"), Value::Null] {
                let change = json!({"metadata": {"labels": {"note": value}}});
                attacker.patch(&path, &change).await.ok();
            }
        }
        let whole = one(kind, ns, &app);
        for attacker in [&world.tess, &edith] {
            for query in ["propagationPolicy=Orphan", "orphanDependents=true"] {
                attacker
                    .delete(&format!("{whole}?{query}"))
                    .await
                    .refused_by_guard(LEFT_RUNNING);
            }
            let change = json!({"metadata": {"finalizers": ["orphan"]}});
            attacker.patch(&whole, &change).await.refused_by_guard(LEFT_RUNNING);
        }
    }
    // A launcher takes a pod out to look at it, and its controller makes another.
    let made = has_pods(&world, ns, "deployment", 1).await.remove(0);
    let path = one("Pod", ns, name(&made));
    let out = json!({"metadata": {"labels": {"app": "looked-at"}}});
    lea.patch(&path, &out).await.ok();
    eventually(SOON, || async {
        let found = world.admin.read(&path).await?;
        ensure!(found["metadata"]["ownerReferences"].is_null(), "not let go of yet");
        Ok(())
    })
    .await;
    has_pods(&world, ns, "deployment", 1).await;
    // Who approves keeps pods on purpose.
    let set = one("StatefulSet", ns, "statefulset");
    world
        .admin
        .delete(&format!("{set}?propagationPolicy=Orphan"))
        .await
        .ok();
    world.admin.gone(&set).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let kept = has_pods(&world, ns, "statefulset", 1).await.remove(0);
    assert!(kept["metadata"]["ownerReferences"].is_null(), "{}", kept["metadata"]);
    // And the others go with what made them.
    for kind in ["Deployment", "ReplicationController", "ReplicaSet", "Job"] {
        let app = kind.to_lowercase();
        let path = one(kind, ns, &app);
        world
            .tess
            .delete(&format!("{path}?propagationPolicy=Background"))
            .await
            .ok();
        has_pods(&world, ns, &app, 0).await;
    }
}
