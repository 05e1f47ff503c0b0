//! A namespace that was there before: from `audit` over `warn` to `enforce`, told at each step what is in the way, and never
//! stopped.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use support::eventually;

use crate::world::{Actor, Answer, NAMESPACES, SOON, World, all, condition, one, pod, workflow, workload};

/// Names and UIDs of the pods of an application.
async fn pods_of(admin: &Actor, ns: &str, app: &str) -> Result<BTreeMap<String, String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pods = admin
        .items(&format!("{}?labelSelector=app%3D{app}", all("Pod", ns)))
        .await?;
    let there = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    Ok(there
        .map(|pod| (text(&pod["metadata"]["name"]), text(&pod["metadata"]["uid"])))
        .collect())
}

async fn has_pods(admin: &Actor, ns: &str, app: &str, count: usize) -> BTreeMap<String, String> {
    eventually(SOON, || async {
        let pods = pods_of(admin, ns, app).await?;
        ensure!(pods.len() == count, "{app} should have {count} pods: {pods:?}");
        Ok(pods)
    })
    .await
}

/// A workload from before anybody thought of Ringfence: no label, no account of its own.
fn old(kind: &str, name: &str) -> Value {
    let mut template = pod(name, "x");
    template["metadata"]["labels"]
        .as_object_mut()
        .unwrap()
        .remove("ringfence.dev/workflow");
    template["spec"].as_object_mut().unwrap().remove("serviceAccountName");
    workload(kind, &template)
}

fn mode(mode: &str, class: &str) -> Value {
    json!({"metadata": {"labels": {format!("ringfence.dev/{mode}"): class}}})
}

/// The warnings about what stands, which must keep to what an API server forwards.
#[track_caller]
fn told(answer: &Answer) -> Vec<&str> {
    let total: usize = answer.warnings.iter().map(|warning| warning.chars().count()).sum();
    let longest = answer.warnings.iter().map(|warning| warning.chars().count()).max();
    assert!(total <= 4096 && longest.unwrap_or(0) <= 256, "{:?}", answer.warnings);
    let ours = answer
        .warnings
        .iter()
        .filter_map(|warning| warning.strip_prefix("ringfence: "));
    ours.collect()
}

#[track_caller]
fn says(told: &[&str], parts: &[&str]) {
    let is_said = told.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(is_said, "{parts:?} is not said in {told:#?}");
}

#[tokio::test]
async fn a_namespace_goes_from_audit_over_warn_to_enforce_and_nothing_stops() {
    let world = World::shared().await;
    let admin = &world.admin;
    let ns = &world.namespace("brownfield", &json!({})).await;
    let path = format!("{NAMESPACES}/{ns}");
    let (_, tenant) = world.tenant(ns).await;
    let lea = world.master("lea", &[]).await;

    // What runs today.
    let mut web = old("Deployment", "web");
    web["spec"]["replicas"] = json!(3);
    // No node makes a pod ready, and a rollout would wait for that.
    web["spec"]["strategy"] = json!({"rollingUpdate": {"maxUnavailable": "100%"}});
    let mut batch = old("Job", "batch");
    batch["spec"]["template"]["spec"]["containers"][0]["image"] = json!("docker.io/library/python:3");
    tenant.post(&all("Deployment", ns), &web).await.ok();
    tenant.post(&all("Job", ns), &batch).await.ok();
    tenant.post(&all("CronJob", ns), &old("CronJob", "nightly")).await.ok();
    admin
        .post(
            &all("NetworkPolicy", ns),
            &json!({"metadata": {"name": "open"}, "spec": {"podSelector": {}, "ingress": [{}]}}),
        )
        .await
        .ok();
    let before = has_pods(admin, ns, "web", 3).await;
    let job_before = has_pods(admin, ns, "batch", 1).await;

    // Each mode tells what enforce would refuse; so does a dry run, which changes nothing.
    let audited = admin.patch(&path, &mode("audit", "default")).await;
    let dry = admin
        .patch(&format!("{path}?dryRun=All"), &mode("warn", "default"))
        .await;
    let warned = admin.patch(&path, &mode("warn", "default")).await;
    assert_eq!(told(&dry), told(&warned));
    assert_eq!(told(&audited), told(&warned));
    audited.ok();
    let lines = told(&warned);
    let head = "[namespace-mode] 3 of the 3 workloads and bare pods here would be refused";
    assert!(lines[0].starts_with(head), "{lines:#?}");
    assert!(
        lines[1].starts_with("[declared-workflow] "),
        "what most of them lack comes first: {lines:#?}"
    );
    says(
        &lines,
        &[
            "[declared-workflow] deployment web (and 2 more): ",
            "Fix: set the label",
        ],
    );
    says(&lines, &["[dedicated-service-account] deployment web (and 2 more): "]);
    says(
        &lines,
        &[
            "[foreign-network-policy] networkpolicy open: spec.ingress: ",
            "opens ingress",
        ],
    );
    warned.ok();
    assert_eq!(pods_of(admin, ns, "web").await.unwrap(), before, "those that run go on");

    // Under warn nothing is refused: what is undeclared can still be scaled, and restarted.
    let scale = |replicas: u32| json!({"spec": {"replicas": replicas}});
    tenant.patch(&one("Deployment", ns, "web"), &scale(4)).await.ok();
    let scaled = has_pods(admin, ns, "web", 4).await;
    assert!(before.iter().all(|pod| scaled.iter().any(|other| other == pod)));

    // Declared, but not yet labelled: the fence is made, and the list is the same.
    for (name, images) in [
        ("web", json!(["registry.example.com/finance/**"])),
        ("batch", json!(["docker.io/library/python"])),
    ] {
        world
            .tess
            .post(&all("AIWorkflow", ns), &workflow(name, &json!({"images": images})))
            .await
            .ok();
        world.condition(ns, name, "Ready", "False", "NotEnforced").await;
    }
    let enforce = format!("{path}?dryRun=All");
    let answer = admin.patch(&enforce, &mode("enforce", "default")).await;
    says(
        &told(&answer),
        &["3 of the 3 workloads", "set ringfence.dev/warn until they are"],
    );

    // One after the other is mended by who may launch it, and leaves the list. A rollout makes new pods, and ends the old ones.
    let fits = |app: &str| json!({"metadata": {"labels": {"app": app, "ringfence.dev/workflow": app}}, "spec": {"serviceAccountName": app, "serviceAccount": null}});
    let mended = json!({"metadata": {"labels": {"ringfence.dev/workflow": "web"}}, "spec": {"template": fits("web")}});
    lea.strategic(&one("Deployment", ns, "web"), &mended).await.ok();
    eventually(SOON, || async {
        let pods = pods_of(admin, ns, "web").await?;
        let all_new = pods.len() == 4 && pods.keys().all(|pod| !scaled.contains_key(pod));
        ensure!(all_new, "the rollout should end: {pods:?}");
        Ok(())
    })
    .await;
    let answer = admin.patch(&enforce, &mode("enforce", "default")).await;
    let lines = told(&answer);
    assert!(lines[0].starts_with("[namespace-mode] 2 of the 3 "), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("deployment web")), "{lines:#?}");
    says(&lines, &["[declared-workflow] cronjob nightly (and 1 more)"]);
    says(&lines, &["[foreign-network-policy]", "for pods of AIWorkflow web"]);
    assert_eq!(
        pods_of(admin, ns, "batch").await.unwrap(),
        job_before,
        "a Job that runs was not touched"
    );

    admin.delete(&one("CronJob", ns, "nightly")).await.ok();
    admin.delete(&one("NetworkPolicy", ns, "open")).await.ok();
    admin
        .delete(&format!("{}?propagationPolicy=Background", one("Job", ns, "batch")))
        .await
        .ok();
    has_pods(admin, ns, "batch", 0).await;
    let mut again = workload("Job", &pod("batch", "batch"));
    again["spec"]["template"]["spec"]["containers"][0]["image"] = json!("docker.io/library/python:3");
    lea.post(&all("Job", ns), &again).await.ok();
    has_pods(admin, ns, "batch", 1).await;

    // Nothing is left to tell: enforced without a word, and without a pod less.
    let (web_before, batch_before) = (
        pods_of(admin, ns, "web").await.unwrap(),
        pods_of(admin, ns, "batch").await.unwrap(),
    );
    let answer = admin.patch(&path, &mode("enforce", "default")).await;
    assert_eq!(told(&answer), [""; 0]);
    answer.ok();
    for name in ["web", "batch"] {
        let ready = world.condition(ns, name, "Ready", "True", "Fenced").await;
        assert_eq!(condition(&ready, "Programmed")["status"], "True");
    }
    assert_eq!(pods_of(admin, ns, "web").await.unwrap(), web_before);
    assert_eq!(pods_of(admin, ns, "batch").await.unwrap(), batch_before);

    // And everything goes on: the controllers scale, replace and roll what fits.
    tenant.patch(&one("Deployment", ns, "web"), &scale(5)).await.ok();
    let five = has_pods(admin, ns, "web", 5).await;
    let victim = five.keys().next().unwrap();
    tenant.delete(&one("Pod", ns, victim)).await.ok();
    eventually(SOON, || async {
        let pods = pods_of(admin, ns, "web").await?;
        ensure!(
            pods.len() == 5 && !pods.contains_key(victim),
            "{victim} should be replaced: {pods:?}"
        );
        Ok(())
    })
    .await;
    // What does not fit is refused now, and only now.
    tenant
        .post(
            &format!("{}?dryRun=All", all("CronJob", ns)),
            &old("CronJob", "nightly"),
        )
        .await
        .refused_by("declared-workflow");
    let refused = admin.items(&all("Event", ns)).await.unwrap();
    let refused: Vec<_> = refused
        .iter()
        .filter(|event| event["reason"] == "FailedCreate")
        .collect();
    assert!(refused.is_empty(), "no controller was ever refused a pod: {refused:?}");
}

#[tokio::test]
async fn a_mode_on_what_is_new_or_empty_says_nothing_and_many_are_cut_off() {
    let world = World::shared().await;
    let admin = &world.admin;
    let name = support::unique("fresh");
    let labels = json!({"owner": "ml", "classification": "internal", "pod-security.kubernetes.io/enforce": "restricted", "ringfence.dev/enforce": "default"});
    let answer = admin
        .post(
            &format!("{NAMESPACES}?dryRun=All"),
            &json!({"metadata": {"name": name, "labels": labels}}),
        )
        .await;
    assert_eq!(told(&answer), [""; 0]);
    answer.ok();

    let ns = &world.namespace("crowd", &json!({})).await;
    let path = format!("{NAMESPACES}/{ns}?dryRun=All");
    let answer = admin.patch(&path, &mode("enforce", "default")).await;
    assert_eq!(told(&answer), [""; 0]);
    answer.ok();
    // Suspended, so that no pods come of them.
    let jobs = futures::future::join_all((0..40).map(async |at| {
        let mut job = old("Job", &format!("job-{at:02}"));
        job["spec"]["suspend"] = json!(true);
        job["spec"]["template"]["spec"]["containers"][0]["image"] = json!("docker.io/library/evil");
        admin.post(&all("Job", ns), &job).await.ok()
    }));
    jobs.await;
    let answer = admin.patch(&path, &mode("enforce", "default")).await;
    let lines = told(&answer);
    assert!(lines[0].starts_with("[namespace-mode] 40 of the 40 "), "{lines:#?}");
    says(&lines, &["[declared-workflow] job job-00 (and 39 more): "]);
    answer.ok();
}
