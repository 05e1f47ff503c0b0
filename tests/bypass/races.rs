//! Door: the moment between two acts: clean when it is made and dirty at once; what was just taken away; what stands from a former life.

use std::time::Duration;

use anyhow::ensure;
use futures::future::join_all;
use serde_json::{Value, json};
use support::eventually;

use crate::world::{CLASSES, NAMESPACES, SOON, World, all, condition, one, pod, workflow, workload};

const EVIL: &str = "docker.io/library/evil:1";

/// Many at once, while it is made and right after.
/// Held by: `launcher`, `approved-images`, `fixed-label`
#[tokio::test]
async fn somebody_dirties_an_object_in_the_moment_in_which_it_is_made() {
    let world = World::shared().await;
    let ns = &world.enforced("dirty").await;
    world.ready(ns, "triage", &json!({})).await;
    world.ready(ns, "other", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, owner) = world.person(ns, "cluster-admin").await;
    for round in 0..4 {
        let name = format!("race-{round}");
        let (pod_path, deployment_path) = (one("Pod", ns, &name), one("Deployment", ns, &name));
        let image = json!({"spec": {"containers": [{"name": "main", "image": EVIL}]}});
        let template = json!({"spec": {"template": image}});
        let moved = json!({"metadata": {"labels": {"ringfence.dev/workflow": "other"}}});
        let clean = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "registry.example.com/finance/triage:7"}]}}}});
        let (made, deployed) = (pod(&name, "triage"), workload("Deployment", &pod(&name, "triage")));
        let create = async {
            lea.post(&all("Pod", ns), &made).await.ok();
            lea.post(&all("Deployment", ns), &deployed).await.ok();
        };
        let attacks = (0..12).map(|_| async {
            lea.strategic(&pod_path, &image).await;
            owner.patch(&pod_path, &moved).await;
            lea.strategic(&deployment_path, &template).await;
            owner.strategic(&deployment_path, &clean).await;
        });
        tokio::join!(create, join_all(attacks));
        lea.strategic(&pod_path, &image).await.refused_by("approved-images");
        owner.patch(&pod_path, &moved).await.refused_by("fixed-label");
        owner.strategic(&deployment_path, &clean).await.refused_by("launcher");
        let pod = world.admin.get(&pod_path).await.ok();
        assert_eq!(
            pod["spec"]["containers"][0]["image"],
            "registry.example.com/finance/triage:1.4"
        );
        assert_eq!(pod["metadata"]["labels"]["ringfence.dev/workflow"], "triage");
        let deployment = world.admin.get(&deployment_path).await.ok();
        assert_eq!(
            deployment["spec"]["template"]["spec"]["containers"][0]["image"],
            "registry.example.com/finance/triage:1.4"
        );
    }
    // A launcher's own change comes through, at once too.
    let newer = json!({"spec": {"containers": [{"name": "main", "image": "registry.example.com/finance/triage:8"}]}});
    lea.strategic(&one("Pod", ns, "race-0"), &newer).await.ok();
}

/// The declaration, the class, the mode, or the fence under it: gone the moment before, and not one pod more. Nobody waits for a watch.
/// Held by: `declared-workflow`, `approved-namespace`, `approved-images`, `launcher`
#[tokio::test]
async fn somebody_is_quick_after_it_was_taken_away() {
    let world = World::shared().await;
    let lea = world.master("lea", &[]).await;
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "launchers": [{"user": "flux"}]}))
        .await;
    let ns = &world.namespace("quick", &json!({"ringfence.dev/enforce": class})).await;
    let (pods, jobs, path) = (all("Pod", ns), all("Job", ns), one("AIWorkflow", ns, "triage"));
    let flux = world.master("flux", &[]).await;
    let (bare, job) = (pod("late", "triage"), workload("Job", &pod("late", "triage")));
    let dry = |path: &str| format!("{path}?dryRun=All");
    world.ready(ns, "triage", &json!({})).await;
    for _ in 0..5 {
        lea.post(&dry(&pods), &bare).await.ok();
        flux.post(&dry(&jobs), &job).await.ok();

        // A launcher, an image.
        world
            .tess
            .patch(&path, &json!({"spec": {"launchers": [{"user": "olu"}]}}))
            .await
            .ok();
        lea.post(&pods, &bare).await.refused_by("launcher");
        lea.post(&jobs, &job).await.refused_by("launcher");
        world
            .tess
            .patch(
                &path,
                &json!({"spec": {"launchers": [{"user": "lea"}], "images": ["a.example/**"]}}),
            )
            .await
            .ok();
        lea.post(&pods, &bare).await.refused_by("approved-images");
        world
            .tess
            .patch(&path, &json!({"spec": {"images": ["registry.example.com/finance/**"]}}))
            .await
            .ok();

        // What the class gives.
        let at = format!("{CLASSES}/{class}");
        world.admin.patch(&at, &json!({"spec": {"launchers": []}})).await.ok();
        flux.post(&jobs, &job).await.refused_by("launcher");
        world
            .admin
            .patch(
                &at,
                &json!({"spec": {"images": {"allowed": ["a.example/**"]}, "launchers": [{"user": "flux"}]}}),
            )
            .await
            .ok();
        lea.post(&pods, &bare).await.refused_by("declared-workflow");
        world
            .admin
            .patch(&at, &json!({"spec": {"images": {"allowed": ["**"]}}}))
            .await
            .ok();
        world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    }
    // The declaration itself, held by a finalizer, and gone.
    world
        .tess
        .patch(&path, &json!({"metadata": {"finalizers": ["example.com/stay"]}}))
        .await
        .ok();
    world.tess.delete(&path).await.ok();
    lea.post(&jobs, &job).await.refused_by("declared-workflow");
    lea.post(&pods, &bare).await.refused_by("declared-workflow");
    world
        .tess
        .patch(&path, &json!({"metadata": {"finalizers": null}}))
        .await
        .ok();
    lea.post(&jobs, &job).await.refused_by("declared-workflow");
    // The account goes with it, and without one the API server's own plugin refuses a pod.
    assert_eq!(lea.post(&pods, &bare).await.code, 403);
    world.admin.gone(&one("ServiceAccount", ns, "triage")).await;
    world.ready(ns, "triage", &json!({})).await;
    // The class.
    let spec = world.admin.get(&format!("{CLASSES}/{class}")).await.ok()["spec"].clone();
    world.admin.delete(&format!("{CLASSES}/{class}")).await.ok();
    lea.post(&pods, &bare).await.refused_by("declared-workflow");
    lea.post(&jobs, &job).await.refused_by("declared-workflow");
    let again = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": class}, "spec": spec});
    world.admin.post(CLASSES, &again).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    // The mode.
    let off = json!({"metadata": {"labels": {"ringfence.dev/enforce": null}}});
    world.admin.patch(&format!("{NAMESPACES}/{ns}"), &off).await.ok();
    lea.post(&jobs, &job).await.refused_by("approved-namespace");
    lea.post(&pods, &bare).await.refused_by("approved-namespace");
    assert_eq!(world.admin.items(&pods).await.unwrap(), [] as [Value; 0]);
}

/// The same name and the same account, for another image and another launcher, under pods that run.
/// Held by: `operator`
#[tokio::test]
async fn somebody_makes_a_workflow_anew_under_its_running_pods() {
    let world = World::shared().await;
    let ns = &world.enforced("former").await;
    let path = one("AIWorkflow", ns, "triage");
    let former = world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    for name in ["a", "b", "c", "d", "ended"] {
        lea.post(&all("Pod", ns), &pod(name, "triage")).await.ok();
    }
    let ended = json!({"status": {"phase": "Succeeded"}});
    world
        .admin
        .patch(&format!("{}/status", one("Pod", ns, "ended")), &ended)
        .await
        .ok();
    world.admin.delete(&path).await.ok();
    world.admin.gone(&one("ServiceAccount", ns, "triage")).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;

    // The same name and the same account, for another image and another launcher.
    let spec = json!({"images": ["other.example.com/**"], "launchers": [{"user": "mallory"}]});
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("triage", &spec))
        .await
        .ok();
    let held = world
        .condition(ns, "triage", "Accepted", "False", "PredecessorPods")
        .await;
    assert_ne!(held["metadata"]["uid"], former["metadata"]["uid"]);
    let message = condition(&held, "Accepted")["message"].as_str().unwrap();
    assert!(
        message.starts_with("4 older pods (a, b, c and 1 more)"),
        "what has ended does not count: {message}"
    );
    assert_eq!(condition(&held, "Ready")["reason"], "PredecessorPods");
    for kind in ["ServiceAccount", "NetworkPolicy"] {
        let items = world.admin.items(&all(kind, ns)).await.unwrap();
        let made = items
            .iter()
            .filter(|item| item["metadata"]["annotations"]["ringfence.dev/owner-uid"] == held["metadata"]["uid"]);
        assert_eq!(made.count(), 0, "{kind}");
    }

    for name in ["a", "b", "c"] {
        world
            .admin
            .delete(&format!("{}?gracePeriodSeconds=0", one("Pod", ns, name)))
            .await
            .ok();
    }
    eventually(SOON, || async {
        let held = world.admin.read(&path).await?;
        let message = condition(&held, "Accepted")["message"].as_str().unwrap_or_default();
        ensure!(message.starts_with("1 older pods (d)"), "{message}");
        Ok(())
    })
    .await;
    world
        .admin
        .delete(&format!("{}?gracePeriodSeconds=0", one("Pod", ns, "d")))
        .await
        .ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
}

/// The same of somebody who only came in the wrong order.
/// Legitimate: a team that labelled its pods before it declared them is told to restart them, and is fenced then.
#[tokio::test]
async fn a_team_that_labelled_its_pods_first_restarts_them() {
    let world = World::shared().await;
    let ns = &world
        .namespace("brownfield", &json!({"ringfence.dev/warn": "default"}))
        .await;
    let mut old = pod("old", "triage");
    old["spec"]["serviceAccountName"] = json!("default");
    eventually(SOON, || async {
        let answer = world.admin.post(&all("Pod", ns), &old).await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("triage", &json!({})))
        .await
        .ok();
    let held = world
        .condition(ns, "triage", "Accepted", "False", "PredecessorPods")
        .await;
    let message = condition(&held, "Accepted")["message"].as_str().unwrap();
    assert!(message.contains("to 0 and up again"), "{message}");
    world
        .admin
        .delete(&format!("{}?gracePeriodSeconds=0", one("Pod", ns, "old")))
        .await
        .ok();
    world.condition(ns, "triage", "Ready", "False", "NotEnforced").await;
    world.admin.read(&one("ServiceAccount", ns, "triage")).await.unwrap();
}

/// The token of such a pod would be the new account's.
/// Held by: `operator`
#[tokio::test]
async fn somebody_takes_over_the_account_of_another_workflow_under_its_running_pods() {
    let world = World::shared().await;
    let ns = &world.enforced("heir").await;
    let lea = world.master("lea", &[]).await;
    let named = json!({"identity": {"serviceAccountName": "shared"}});
    world.ready(ns, "first", &named).await;
    let mut running = pod("running", "first");
    running["spec"]["serviceAccountName"] = json!("shared");
    lea.post(&all("Pod", ns), &running).await.ok();
    world.tess.delete(&one("AIWorkflow", ns, "first")).await.ok();
    world.admin.gone(&one("ServiceAccount", ns, "shared")).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;

    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("shared", &json!({})))
        .await
        .ok();
    let held = world
        .condition(ns, "shared", "Accepted", "False", "PredecessorPods")
        .await;
    let message = condition(&held, "Accepted")["message"].as_str().unwrap();
    for part in ["1 older pods (running)", "spec.serviceAccountName=shared"] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    assert!(
        !world
            .admin
            .is_there(&one("ServiceAccount", ns, "shared"))
            .await
            .unwrap()
    );
    world
        .admin
        .delete(&format!("{}?gracePeriodSeconds=0", one("Pod", ns, "running")))
        .await
        .ok();
    world.condition(ns, "shared", "Ready", "True", "Fenced").await;
}

/// The name of an account is somebody's, and becomes free when a workflow is long accepted that waits for it.
/// Held by: `operator`
#[tokio::test]
async fn somebody_waits_for_the_account_of_another_workflow_under_its_running_pods() {
    let world = World::shared().await;
    let ns = &world.enforced("waits").await;
    let lea = world.master("lea", &[]).await;
    let named = json!({"identity": {"serviceAccountName": "shared"}});
    world.ready(ns, "first", &named).await;
    let run = async |name: &str| {
        let mut running = pod(name, "first");
        running["spec"]["serviceAccountName"] = json!("shared");
        lea.post(&all("Pod", ns), &running).await.ok();
    };
    run("older").await;
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let waiting = json!({"identity": {"serviceAccountName": "shared"}, "permissions": {"rules": rules}});
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("second", &waiting))
        .await
        .ok();
    world.condition(ns, "second", "Accepted", "True", "Accepted").await;
    world.condition(ns, "second", "Programmed", "False", "NameTaken").await;
    run("younger").await;
    world.tess.delete(&one("AIWorkflow", ns, "first")).await.ok();

    let account = one("ServiceAccount", ns, "shared");
    for left in [&["older", "younger"][..], &["younger"]] {
        let said = format!("{} pods ({}) of others", left.len(), left.join(", "));
        eventually(SOON, || async {
            let held = world.admin.read(&one("AIWorkflow", ns, "second")).await?;
            let programmed = condition(&held, "Programmed");
            ensure!(programmed["reason"] == "Conflict", "{programmed}");
            let message = programmed["message"].as_str().unwrap_or_default();
            ensure!(message.contains(&said), "{said} is missing in: {message}");
            Ok(())
        })
        .await;
        assert!(!world.admin.is_there(&account).await.unwrap());
        let held = world.admin.read(&one("AIWorkflow", ns, "second")).await.unwrap();
        for kind in ["Role", "RoleBinding", "NetworkPolicy"] {
            let items = world.admin.items(&all(kind, ns)).await.unwrap();
            let made = items
                .iter()
                .filter(|item| item["metadata"]["annotations"]["ringfence.dev/owner-uid"] == held["metadata"]["uid"]);
            // Its network is its own, whoever has the account.
            assert_eq!(made.count(), usize::from(kind == "NetworkPolicy"), "{kind}");
        }
        world
            .admin
            .delete(&format!("{}?gracePeriodSeconds=0", one("Pod", ns, left[0])))
            .await
            .ok();
    }
    world.condition(ns, "second", "Ready", "True", "Fenced").await;
    world.admin.read(&account).await.unwrap();
}
