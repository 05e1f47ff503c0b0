//! Door: what a launcher made is taken over by a launcher of another workflow, who gives it the other's label, or what is his as an owner.
//!
//! Of a write that gives something another label, the launchers of that one would be asked, and of all else that it changes, too.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::launch::custom_kind;
use crate::legitimate::has_pods;
use crate::world::{Actor, World, all, one, pod, workload};

const LABEL: &str = "ringfence.dev/workflow";

/// A namespace with two workflows: `triage`, and `mine`, which mike launches.
async fn two_workflows(world: &World) -> (String, Actor) {
    let ns = world.enforced("taken-over").await;
    world.ready(&ns, "triage", &json!({})).await;
    world
        .ready(&ns, "mine", &json!({"launchers": [{"user": "mike"}, {"user": "lea"}]}))
        .await;
    (ns, world.master("mike", &[]).await)
}

/// And pauses it, and keeps it by a finalizer, so that no rollout and no deletion ends what runs.
///
/// Held by: `fixed-label`
#[tokio::test]
async fn another_workflows_launcher_relabels_what_a_launcher_made() {
    let world = World::shared().await;
    let (ns, mike) = two_workflows(&world).await;
    let lea = world.master("lea", &[]).await;
    let (group, plural) = custom_kind(&world).await;
    let flow = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Flow", "metadata": {"name": "web", "labels": {LABEL: "triage"}}, "spec": {"image": "x"},
    });
    let flows = format!("/apis/{group}/v1/namespaces/{ns}/{plural}");
    let deployment = workload("Deployment", &pod("web", "triage"));
    let mut anew = workload("Deployment", &pod("web", "mine"));
    anew["spec"]["replicas"] = json!(0);
    let labels = json!({LABEL: "mine"});
    let of_a_deployment = json!({
        "metadata": {"labels": labels, "finalizers": ["a.b/c"]},
        "spec": {"paused": true, "template": {
            "metadata": {"labels": labels}, "spec": {"serviceAccountName": "mine", "serviceAccount": "mine"},
        }},
    });
    let of_a_flow = json!({"metadata": {"labels": labels, "finalizers": ["a.b/c"]}, "spec": {"image": "y"}});
    for (collection, made, take) in [
        (all("Deployment", &ns), &deployment, of_a_deployment),
        (flows.clone(), &flow, of_a_flow),
    ] {
        lea.post(&collection, made).await.ok();
        let path = format!("{collection}/web");
        // Who launches both does not do by accident what is refused to mike.
        for launcher in [&mike, &lea] {
            let answer = launcher.patch(&path, &take).await;
            let said = answer.refused_by("fixed-label");
            assert!(said.contains("belongs to AIWorkflow triage"), "{said}");
        }
    }

    // Deleted, it is made anew; and what an operator made of a label, a launcher takes off.
    lea.delete(&one("Deployment", &ns, "web")).await.ok();
    world.admin.gone(&one("Deployment", &ns, "web")).await;
    mike.post(&all("Deployment", &ns), &anew).await.ok();
    let off = json!({"metadata": {"labels": {LABEL: Value::Null}}});
    let path = format!("{flows}/web");
    mike.patch(&path, &off).await.refused_by("launcher");
    lea.patch(&path, &off).await.ok();
    mike.patch(&path, &json!({"metadata": {"labels": labels}})).await.ok();
}

/// A Deployment scales down what is its own, and waits for that: with a ReplicaSet whose pods another keeps, no rollout ends.
///
/// Held by: `launcher`
#[tokio::test]
async fn another_workflows_launcher_makes_what_a_deployment_takes_for_its_own() {
    let world = World::shared().await;
    let (ns, mike) = two_workflows(&world).await;
    let lea = world.master("lea", &[]).await;
    let made = |name: &str, workflow: &str| {
        let mut made = workload("Deployment", &pod(name, workflow));
        made["spec"]["replicas"] = json!(0);
        made
    };
    let deployments = all("Deployment", &ns);
    let web = lea.post(&deployments, &made("web", "triage")).await.ok();
    let own = mike.post(&deployments, &made("own", "mine")).await.ok();
    let owners = |owner: &Value| {
        json!([{
            "apiVersion": "apps/v1", "kind": "Deployment", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "controller": true,
        }])
    };
    let set = |owners: Value| {
        let mut set = workload("ReplicaSet", &pod("evil", "mine"));
        set["metadata"]["ownerReferences"] = owners;
        set["spec"]["replicas"] = json!(0);
        set
    };
    let sets = all("ReplicaSet", &ns);
    mike.post(&sets, &set(owners(&web))).await.refused_by("launcher");
    let dry = format!("{sets}?dryRun=All");
    mike.post(&dry, &set(owners(&own))).await.ok();
    mike.post(&sets, &set(Value::Null)).await.ok();
    let path = one("ReplicaSet", &ns, "evil");
    let given = json!({"metadata": {"ownerReferences": owners(&web)}});
    mike.patch(&path, &given).await.refused_by("launcher");
}

/// A controller adopts what it selects and nobody owns before it does anything else, and ends there where it may not: then nothing is scaled,
/// suspended or rolled out any more, and what a launcher withdraws runs on.
///
/// Held by: `launcher`
#[tokio::test]
async fn another_workflows_launcher_lays_out_what_a_controller_may_not_adopt() {
    let world = &World::shared().await;
    let (ns, mike) = two_workflows(world).await;
    let lea = world.master("lea", &[]).await;
    let made = |kind: &str, name: &str| workload(kind, &pod(name, "triage"));
    lea.post(&all("Deployment", &ns), &made("Deployment", "web")).await.ok();
    for kind in ["ReplicaSet", "StatefulSet", "ReplicationController"] {
        lea.post(&all(kind, &ns), &made(kind, &kind.to_lowercase())).await.ok();
    }
    let job = lea.post(&all("Job", &ns), &made("Job", "once")).await.ok();
    for app in ["web", "replicaset", "statefulset", "replicationcontroller", "once"] {
        has_pods(world, &ns, app, 1).await;
    }

    let mut set = workload("ReplicaSet", &pod("decoy", "mine"));
    set["spec"]["replicas"] = json!(0);
    set["metadata"]["labels"]["app"] = json!("web");
    mike.post(&all("ReplicaSet", &ns), &set).await.ok();
    let decoy = |name: &str, labels: Value| {
        let mut decoy = pod(name, "mine");
        for (key, value) in labels.as_object().into_iter().flatten() {
            decoy["metadata"]["labels"][key] = value.clone();
        }
        decoy
    };
    let by_uid = json!({"batch.kubernetes.io/controller-uid": job["metadata"]["uid"]});
    let decoys = [
        decoy("of-a-job", by_uid),
        decoy("of-a-set", json!({"app": "replicaset"})),
        decoy("statefulset-7", json!({"app": "statefulset"})),
        decoy("of-an-rc", json!({"app": "replicationcontroller"})),
    ];
    for decoy in &decoys {
        mike.post(&all("Pod", &ns), decoy).await.ok();
    }
    // Until the controllers know of them.
    sleep(Duration::from_secs(2)).await;

    let none = json!({"spec": {"replicas": 0}});
    lea.patch(&one("Deployment", &ns, "web"), &none).await.ok();
    for kind in ["ReplicaSet", "StatefulSet", "ReplicationController"] {
        lea.patch(&one(kind, &ns, &kind.to_lowercase()), &none).await.ok();
    }
    let suspended = json!({"spec": {"suspend": true}});
    lea.patch(&one("Job", &ns, "once"), &suspended).await.ok();
    for (app, left) in [
        ("web", 0),
        ("once", 0),
        ("replicaset", 1),
        ("statefulset", 1),
        ("replicationcontroller", 1),
    ] {
        let pods = has_pods(world, &ns, app, left).await;
        let theirs = pods.iter().filter(|pod| pod["metadata"]["labels"][LABEL] == "triage");
        assert!(
            theirs
                .clone()
                .all(|pod| !pod["metadata"]["deletionTimestamp"].is_null()),
            "{app} runs on"
        );
    }
    for path in [
        one("ReplicaSet", &ns, "decoy"),
        one("Pod", &ns, "of-a-job"),
        one("Pod", &ns, "of-a-set"),
    ] {
        let left = world.admin.read(&path).await.expect("what nobody adopts");
        assert!(left["metadata"]["ownerReferences"].is_null(), "{left}");
    }
}

/// One that can be read when it is made, and not when it is taken up, because that is asked about with what it was before: no answer to that
/// would be one.
///
/// Held by: `object-size`
#[tokio::test]
async fn another_workflows_launcher_lays_out_what_is_too_heavy_to_be_adopted() {
    let world = &World::shared().await;
    let (ns, mike) = two_workflows(world).await;
    let lea = world.master("lea", &[]).await;
    lea.post(&all("Deployment", &ns), &workload("Deployment", &pod("web", "triage")))
        .await
        .ok();
    has_pods(world, &ns, "web", 1).await;
    let heavy = |options: usize| {
        let mut set = workload("ReplicaSet", &pod("decoy", "mine"));
        set["spec"]["replicas"] = json!(0);
        set["metadata"]["labels"]["app"] = json!("web");
        set["spec"]["template"]["spec"]["dnsConfig"] = json!({"options": vec![json!({"name": "a"}); options]});
        set
    };
    let sets = all("ReplicaSet", &ns);
    let answer = mike.post(&sets, &heavy(25_000)).await;
    let said = answer.refused_by("object-size");
    assert!(said.contains("bytes of memory"), "{said}");
    mike.post(&sets, &heavy(1000)).await.ok();
    let path = one("ReplicaSet", &ns, "decoy");
    let heavier = heavy(25_000)["spec"].clone();
    mike.patch(&path, &json!({"spec": heavier}))
        .await
        .refused_by("object-size");
    lea.patch(&one("Deployment", &ns, "web"), &json!({"spec": {"replicas": 0}}))
        .await
        .ok();
    has_pods(world, &ns, "web", 0).await;
}
