//! Door: launching through what somebody else made: a controller from before the fence, an owner that no launcher wrote, pods that are
//! adopted. The real controllers of Kubernetes do the work here.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{Identity, eventually, unique};

use crate::operators::OperatorsKind;
use crate::world::{Actor, SOON, World, all, one, pod, workload};

/// Kinds whose controllers make pods here, where there is no node for a DaemonSet.
const MAKERS: [&str; 6] = [
    "CronJob",
    "Deployment",
    "Job",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
];

/// Where a kind is asleep: as it is made, and what wakes it. Both are anybody's who may write it.
fn asleep(mut object: Value) -> Value {
    match object["kind"].as_str() {
        Some("CronJob") => {
            object["spec"]["schedule"] = json!("* * * * *");
            object["spec"]["suspend"] = json!(true);
        }
        Some("Job") => object["spec"]["suspend"] = json!(true),
        Some("Pod") => {}
        _ => object["spec"]["replicas"] = json!(0),
    }
    object
}

/// Wakes an object up. A CronJob's tick comes once a minute: one that missed some runs at once.
async fn wake(world: &World, by: &Actor, kind: &str, ns: &str, name: &str) {
    let path = one(kind, ns, name);
    if kind == "CronJob" {
        let ago = Timestamp::now() - SignedDuration::from_mins(5);
        let missed = json!({"status": {"lastScheduleTime": format!("{ago:.0}")}});
        world.admin.patch(&format!("{path}/status"), &missed).await.ok();
    }
    by.patch(&path, &awake(kind)).await.ok();
}

fn awake(kind: &str) -> Value {
    match kind {
        "CronJob" | "Job" => json!({"spec": {"suspend": false}}),
        _ => json!({"spec": {"replicas": 1}}),
    }
}

async fn enforce(world: &World, ns: &str) {
    world.enforce(ns).await;
    world.ready(ns, "triage", &json!({})).await;
    // An API server may look up the old labels for a moment.
    let mut probe = pod("probe", "triage");
    probe["metadata"]["labels"] = json!({});
    eventually(SOON, || async {
        let answer = world
            .admin
            .post(&format!("{}?dryRun=All", all("Pod", ns)), &probe)
            .await;
        ensure!(answer.message().contains("[declared-workflow]"), "{}", answer.body);
        Ok(())
    })
    .await;
}

/// What the controllers were told when they tried to make something for objects of that name.
async fn told(world: &World, ns: &str, name: &str) -> Result<String> {
    let events = world.admin.items(&format!("/api/v1/namespaces/{ns}/events")).await?;
    let of_name = events.iter().filter(|event| {
        let involved = event["involvedObject"]["name"].as_str().unwrap_or_default();
        involved == name || involved.starts_with(&format!("{name}-"))
    });
    let mut messages: Vec<_> = of_name
        .filter_map(|event| event["message"].as_str())
        .map(str::to_owned)
        .collect();
    // A Deployment's says it in its condition.
    for set in ["ReplicaSet", "Deployment"] {
        for object in world.admin.items(&all(set, ns)).await? {
            let is_of_name = object["metadata"]["name"]
                .as_str()
                .is_some_and(|found| found.starts_with(name));
            if is_of_name {
                messages.push(object["status"]["conditions"].to_string());
            }
        }
    }
    Ok(messages.join("\n"))
}

async fn pods_of(world: &World, ns: &str, app: &str) -> Result<Vec<Value>> {
    let selected = format!("{}?labelSelector=app%3D{app}", all("Pod", ns));
    world.admin.items(&selected).await
}

/// The label on the template alone is seen by nobody where nothing is fenced, and would be on every pod.
///
/// Held by: `launcher`, `declared-workflow`, `ringfence-subresources`
#[tokio::test]
async fn a_controller_from_before_the_fence_is_woken_up() {
    let world = World::shared().await;
    let ns = &world.namespace("woken", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let strip = |place: &mut Value| {
        place["metadata"]["labels"]
            .as_object_mut()
            .expect("labels")
            .remove("ringfence.dev/workflow");
    };
    let mut made = Vec::new();
    for kind in MAKERS {
        for on_template in [true, false] {
            let name = format!(
                "{}-{}",
                kind.to_lowercase(),
                if on_template { "marked" } else { "bare" }
            );
            let mut object = asleep(workload(kind, &pod(&name, "triage")));
            strip(&mut object);
            if kind == "CronJob" {
                strip(&mut object["spec"]["jobTemplate"]);
            }
            if !on_template {
                strip(
                    object
                        .pointer_mut(crate::objects::template_of(kind))
                        .expect("a template"),
                );
            }
            edith.post(&all(kind, ns), &object).await.ok();
            made.push((kind, name, on_template));
        }
    }
    enforce(&world, ns).await;
    for (kind, name, _) in &made {
        wake(&world, &edith, kind, ns, name).await;
    }
    // A launcher's own run beside them.
    let lea = world.master("lea", &[]).await;
    for kind in MAKERS {
        let name = format!("own-{}", kind.to_lowercase());
        let own = asleep(workload(kind, &pod(&name, "triage")));
        lea.post(&all(kind, ns), &own).await.ok();
        wake(&world, &edith, kind, ns, &name).await;
    }
    for (kind, name, on_template) in &made {
        let rule = if *on_template && *kind != "CronJob" {
            "[launcher]"
        } else {
            "[declared-workflow]"
        };
        eventually(SOON, || async {
            let told = told(&world, ns, name).await?;
            ensure!(told.contains(rule), "{name} was not refused by {rule}: {told}");
            Ok(())
        })
        .await;
    }
    for kind in MAKERS {
        let name = format!("own-{}", kind.to_lowercase());
        eventually(SOON, || async {
            ensure!(!pods_of(&world, ns, &name).await?.is_empty(), "no pod of {name}");
            Ok(())
        })
        .await;
    }
    for (kind, name, _) in &made {
        assert_eq!(pods_of(&world, ns, name).await.unwrap(), [] as [Value; 0], "{name}");
        // Nor is the chain made to hold.
        let label = json!({"metadata": {"labels": {"ringfence.dev/workflow": "triage"}}});
        let path = one(kind, ns, name);
        for attacker in [&world.tess, &edith, &world.admin] {
            attacker.patch(&path, &label).await.refused_by("launcher");
        }
        if *kind != "Deployment" {
            let status = format!("{path}/status");
            world
                .admin
                .patch(&status, &label)
                .await
                .refused_by_guard("ringfence-subresources");
        }
    }
}

/// A controller of that kind that takes up what has the label `app`, and wants none of it. Suspended or scaled to nothing, it deletes
/// what it adopts, pods first.
fn thief(kind: &str, app: &str) -> Value {
    let mut object = workload(kind, &pod(app, "triage"));
    object["metadata"] = json!({"name": format!("thief-{}", kind.to_lowercase())});
    object["spec"]["template"]["metadata"]["labels"] = json!({"app": app});
    if kind == "Job" {
        object["spec"]["manualSelector"] = json!(true);
        object["spec"]["selector"] = json!({"matchLabels": {"app": app}});
    }
    asleep(object)
}

/// Each kind that adopts, the kind that it adopts, and what its victim must be called.
const THIEVES: [(&str, &str, &str); 5] = [
    ("Deployment", "ReplicaSet", "victim-deployment"),
    ("Job", "Pod", "victim-job"),
    ("ReplicaSet", "Pod", "victim-replicaset"),
    ("ReplicationController", "Pod", "victim-replicationcontroller"),
    ("StatefulSet", "Pod", "thief-statefulset-0"),
];

/// Whether somebody controls it, or took it away.
async fn is_taken(world: &World, kind: &str, ns: &str, name: &str) -> Result<bool> {
    let path = one(kind, ns, name);
    if !world.admin.is_there(&path).await? {
        return Ok(true);
    }
    let metadata = world.admin.read(&path).await?["metadata"].clone();
    Ok(metadata.get("ownerReferences").is_some() || metadata.get("deletionTimestamp").is_some())
}

/// Adopted, a pod is its adopter's to delete, and its chain of owners is another's. A Deployment adopts ReplicaSets.
///
/// Held by: `launcher`, `declared-workflow`
#[tokio::test]
async fn a_controller_from_before_the_fence_adopts_what_is_fenced() {
    let world = World::shared().await;
    let (ns, open) = (
        &world.namespace("adopted", &json!({})).await,
        &world.namespace("open", &json!({})).await,
    );
    let (_, edith) = world.person(ns, "edit").await;
    let (_, olga) = world.person(open, "edit").await;
    for (kind, _, victim) in THIEVES {
        edith.post(&all(kind, ns), &thief(kind, victim)).await.ok();
        olga.post(&all(kind, open), &thief(kind, victim)).await.ok();
    }
    enforce(&world, ns).await;
    for (kind, _, victim) in THIEVES {
        let mut late = thief(kind, victim);
        late["metadata"]["name"] = json!(unique("late"));
        edith.post(&all(kind, ns), &late).await.refused_by("declared-workflow");
    }
    let lea = world.master("lea", &[]).await;
    for (_, kind, name) in THIEVES {
        let victim = asleep(workload(kind, &pod(name, "triage")));
        lea.post(&all(kind, ns), &victim).await.ok();
        let mut plain = victim;
        for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
            if let Some(labels) = plain.pointer_mut(labels) {
                *labels = json!({"app": name});
            }
        }
        let spec = crate::objects::template_of(kind);
        plain.pointer_mut(&format!("{spec}/spec")).expect("a spec")["serviceAccountName"] = json!("default");
        olga.post(&all(kind, open), &plain).await.ok();
    }
    // Where nothing is fenced each takes its victim, so the attack is a real one.
    for (kind, of, name) in THIEVES {
        eventually(SOON, || async {
            ensure!(is_taken(&world, of, open, name).await?, "{kind} took nothing yet");
            Ok(())
        })
        .await;
    }
    // Two seconds of tries: adopted, they would be gone in milliseconds.
    for round in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        for (kind, of, name) in THIEVES {
            let again = json!({"metadata": {"annotations": {"round": round.to_string()}}});
            let path = one(kind, ns, &format!("thief-{}", kind.to_lowercase()));
            edith.patch(&path, &again).await.ok();
            assert!(
                !is_taken(&world, of, ns, name).await.unwrap(),
                "{kind} took {of} {name}"
            );
        }
    }
    // A launcher's ReplicaSet takes up a pod of its own workflow, as it does after it was made again.
    let mut own = workload("ReplicaSet", &pod("heir", "triage"));
    own["spec"]["replicas"] = json!(1);
    lea.post(&all("Pod", ns), &pod("heir", "triage")).await.ok();
    lea.post(&all("ReplicaSet", ns), &own).await.ok();
    eventually(SOON, || async {
        let heir = world.admin.read(&one("Pod", ns, "heir")).await?;
        ensure!(
            heir["metadata"]["ownerReferences"][0]["name"] == "heir",
            "not adopted yet"
        );
        Ok(())
    })
    .await;
}

/// By the Deployment's old ReplicaSet: scaled up beside a paused Deployment, or left over when it is deleted.
///
/// Held by: `ringfence-replica-sets`
#[tokio::test]
async fn a_tenant_scales_up_what_a_launcher_withdrew() {
    let world = World::shared().await;
    let ns = &world.enforced("withdrawn").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "registry.example.com/finance/triage:2"}]}}}});
    let sets = async |count: usize| {
        eventually(SOON, || async {
            let sets = world.admin.items(&all("ReplicaSet", ns)).await?;
            ensure!(sets.len() == count, "{} ReplicaSets", sets.len());
            Ok(sets)
        })
        .await
    };
    let path = one("Deployment", ns, "app");
    lea.post(
        &all("Deployment", ns),
        &asleep(workload("Deployment", &pod("app", "triage"))),
    )
    .await
    .ok();
    let first = sets(1).await[0]["metadata"]["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    lea.strategic(&path, &image).await.ok();
    sets(2).await;
    let old = one("ReplicaSet", ns, &first);
    let more = json!({"spec": {"replicas": 1}});
    let (_, edith) = world.tenant(ns).await;
    let (_, ada) = world.person(ns, "admin").await;
    let tries = async |when: &str| {
        for attacker in [&world.tess, &edith, &ada, &lea] {
            for at in [old.clone(), format!("{old}/scale")] {
                let answer = attacker.patch(&at, &more).await;
                let message = answer.refused_by_guard("ringfence-replica-sets");
                assert!(message.contains("Fix: scale the Deployment"), "{when}: {message}");
            }
        }
    };
    tries("as it is").await;
    lea.patch(&path, &json!({"spec": {"paused": true}})).await.ok();
    tries("beside a paused Deployment").await;
    world.tess.patch(&path, &json!({"spec": {"paused": false}})).await.ok();
    world.tess.patch(&path, &more).await.ok();
    eventually(SOON, || async {
        let pods = world.admin.items(&all("Pod", ns)).await?;
        ensure!(pods.len() == 1, "the Deployment controller made {} pods", pods.len());
        Ok(())
    })
    .await;
    world
        .admin
        .delete(&format!("{path}?propagationPolicy=Orphan"))
        .await
        .ok();
    world.admin.gone(&path).await;
    tries("when the Deployment is gone").await;
    // Fewer is anybody's, and so is a ReplicaSet that never had a Deployment.
    let fewer = json!({"spec": {"replicas": 0}});
    for set in world.admin.items(&all("ReplicaSet", ns)).await.expect("ReplicaSets") {
        let name = set["metadata"]["name"].as_str().expect("a name");
        world.tess.patch(&one("ReplicaSet", ns, name), &fewer).await.ok();
    }
    let mut own = asleep(workload("ReplicaSet", &pod("own", "triage")));
    own["metadata"]["name"] = json!("own");
    lea.post(&all("ReplicaSet", ns), &own).await.ok();
    world
        .tess
        .patch(&format!("{}/scale", one("ReplicaSet", ns, "own")), &more)
        .await
        .ok();
}

/// A yearly job that runs each minute; pausing it is anybody's.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_has_a_cron_job_run_more_often() {
    let world = World::shared().await;
    let ns = &world.enforced("more-often").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let mut yearly = asleep(workload("CronJob", &pod("yearly", "triage")));
    yearly["spec"]["schedule"] = json!("0 0 1 1 *");
    lea.post(&all("CronJob", ns), &yearly).await.ok();
    let path = one("CronJob", ns, "yearly");
    let (_, edith) = world.tenant(ns).await;
    for change in [
        json!({"schedule": "* * * * *"}),
        json!({"timeZone": "Asia/Tokyo"}),
        json!({"concurrencyPolicy": "Forbid"}),
        json!({"startingDeadlineSeconds": 100_000}),
        json!({"jobTemplate": {"spec": {"backoffLimit": 9}}}),
    ] {
        for attacker in [&world.tess, &edith] {
            attacker
                .patch(&path, &json!({"spec": change}))
                .await
                .refused_by("launcher");
        }
    }
    for change in [
        json!({"suspend": false}),
        json!({"failedJobsHistoryLimit": 3}),
        json!({"jobTemplate": {"spec": {"parallelism": 2}}}),
    ] {
        world.tess.patch(&path, &json!({"spec": change})).await.ok();
    }
    lea.patch(&path, &json!({"spec": {"schedule": "0 0 2 1 *"}})).await.ok();
}

/// An annotation of old has the Deployment controller itself write an earlier template, by rights of its own; and it does nothing else before
/// that is done, so that what a launcher scales down runs on.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_has_the_controller_roll_back_to_what_a_launcher_withdrew() {
    const IMAGE: &str = "registry.example.com/finance/triage:2";
    let world = World::shared().await;
    let ns = &world.enforced("rolled-back").await;
    world.ready(ns, "triage", &json!({})).await;
    let open = &world.namespace("open", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": IMAGE}]}}}});
    let back = json!({"metadata": {"annotations": {"deprecated.deployment.rollback.to": "1"}}});
    let current = async |ns: &str| {
        let found = world.admin.read(&one("Deployment", ns, "app")).await.unwrap();
        found["spec"]["template"]["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for place in [ns, open] {
        let mut object = asleep(workload("Deployment", &pod("app", "triage")));
        if place == open {
            for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
                *object.pointer_mut(labels).expect("labels") = json!({"app": "app"});
            }
        }
        let path = one("Deployment", place, "app");
        lea.post(&all("Deployment", place), &object).await.ok();
        let revisions = async |wanted: usize| {
            eventually(SOON, || async {
                let sets = world.admin.items(&all("ReplicaSet", place)).await?;
                ensure!(sets.len() == wanted, "{} ReplicaSets", sets.len());
                Ok(())
            })
            .await;
        };
        revisions(1).await;
        lea.strategic(&path, &image).await.ok();
        revisions(2).await;
    }
    let path = one("Deployment", ns, "app");
    let (_, edith) = world.tenant(ns).await;
    for attacker in [&world.tess, &edith, &world.admin] {
        let answer = attacker.patch(&path, &back).await;
        let said = answer.refused_by("launcher");
        assert!(said.contains("what their tools keep there"), "{said}");
    }
    // Nor does the controller go back when a launcher tells it to in that way.
    world.tess.patch(&one("Deployment", open, "app"), &back).await.ok();
    lea.patch(&path, &back).await.ok();
    eventually(SOON, || async {
        ensure!(current(open).await != IMAGE, "not rolled back where nothing is fenced");
        Ok(())
    })
    .await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(current(ns).await, IMAGE);
    }
    // A launcher takes it back by the template itself, and the annotation is off: the next rollout goes its way.
    let off = json!({"metadata": {"annotations": {"deprecated.deployment.rollback.to": null}}});
    lea.patch(&path, &off).await.ok();
    // What leads nowhere the controller itself takes off.
    let nowhere = json!({"metadata": {"annotations": {"deprecated.deployment.rollback.to": "99"}}});
    lea.patch(&path, &nowhere).await.ok();
    eventually(SOON, || async {
        let now = world.admin.read(&path).await?;
        let left = &now["metadata"]["annotations"]["deprecated.deployment.rollback.to"];
        ensure!(left.is_null(), "still there: {left}");
        Ok(())
    })
    .await;
    let undo = ["rollout", "undo", "deployment/app", "--namespace", ns];
    let tess = world.cluster.kubectl_as(&crate::world::tess(), &undo).await.unwrap();
    assert!(!tess.success && tess.stderr.contains("[launcher]"), "{tess}");
    let launcher = Identity::user("lea", &["system:masters"]);
    let done = world.cluster.kubectl_as(&launcher, &undo).await.unwrap();
    assert!(done.success, "{done}");
    assert_ne!(current(ns).await, IMAGE);
}

/// An operator's controller makes pods for objects of its own kind: it launches if it is a launcher, and what Kubernetes makes below
/// such an object is believed as far as that object carries the label, which a launcher gave it.
///
/// Held by: `launcher`
#[tokio::test]
async fn an_operators_object_that_no_launcher_made_owns_what_runs() {
    let world = World::shared().await;
    let ns = &world.enforced("operators").await;
    let argo = &world.namespace("argo", &json!({})).await;
    let account = json!({"metadata": {"name": "controller"}});
    world.admin.post(&all("ServiceAccount", argo), &account).await.ok();
    world.ready(ns, "triage", &json!({})).await;
    let kind = OperatorsKind::new(&world).await;
    world
        .bind(
            ns,
            "edit",
            &json!({"kind": "ServiceAccount", "namespace": argo, "name": "controller"}),
        )
        .await;
    let controller = Actor::new(world.cluster.service_account(argo, "controller").await);
    let pods = all("Pod", ns);
    eventually(SOON, || async { controller.read(&pods).await }).await;
    let lea = world.master("lea", &[]).await;

    let flows = kind.all(ns);
    let unmarked = world.admin.post(&flows, &kind.object("unmarked")).await.ok();
    let marked = kind.labelled("marked");
    world.admin.post(&flows, &marked).await.refused_by("launcher");
    let marked = lea.post(&flows, &marked).await.ok();
    let owned = |mut object: Value, by: &Value| {
        object["metadata"]["ownerReferences"] = json!([kind.owner(by)]);
        object
    };
    let dry = format!("{pods}?dryRun=All");
    for flow in [&unmarked, &marked] {
        let step = owned(pod("step", "triage"), flow);
        controller.post(&dry, &step).await.refused_by("launcher");
    }
    // Engines take orders by annotations and labels too, and what is kept makes pods on. What ends it is for whoever may write it.
    let of_marked = format!("{flows}/marked");
    for words in [
        json!({"annotations": {"retry": "now"}}),
        json!({"labels": {"queue": "fast"}}),
    ] {
        let change = json!({"metadata": words});
        world.admin.patch(&of_marked, &change).await.refused_by("launcher");
        lea.patch(&of_marked, &change).await.ok();
    }
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    let kept = finalizers(json!(["example.com/kept"]));
    world.admin.patch(&of_marked, &kept).await.refused_by("launcher");
    lea.patch(&of_marked, &kept).await.ok();
    world.admin.patch(&of_marked, &finalizers(Value::Null)).await.ok();
    // Built-in controllers below it.
    let deployments = all("Deployment", ns);
    let below = |name: &str, flow: &Value| owned(workload("Deployment", &pod(name, "triage")), flow);
    for actor in [&controller, &lea] {
        let answer = actor.post(&deployments, &below("under-unmarked", &unmarked)).await;
        answer.refused_by("launcher");
    }
    let under_marked = below("under-marked", &marked);
    controller
        .post(&deployments, &under_marked)
        .await
        .refused_by("launcher");
    lea.post(&deployments, &under_marked).await.ok();
    eventually(SOON, || async {
        ensure!(
            !pods_of(&world, ns, "under-marked").await?.is_empty(),
            "no pod of it yet"
        );
        Ok(())
    })
    .await;

    // Named as launcher, it launches by a token of its own.
    let named = json!({"spec": {"launchers": [{"user": "lea"}, {"serviceAccount": {"namespace": argo, "name": "controller"}}]}});
    world.tess.patch(&one("AIWorkflow", ns, "triage"), &named).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    let step = owned(pod("step", "triage"), &marked);
    controller.post(&dry, &step).await.ok();
}
