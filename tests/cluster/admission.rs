//! What is admitted and what is refused: every built-in kind that makes pods, each rule by its name, each mode.

use anyhow::ensure;
use serde_json::{Value, json};
use support::eventually;

use crate::world::{SOON, WORKLOADS, World, all, container, one, pod, template_of, workload};

const KEY: &str = "sk-proj-0f3c9a71b2d84e65a9c10f3c9a71b2d84e65a9c1";

/// One way to break the fence: what it is called, the rule that refuses, and what is changed in a pod template.
/// A rule, what breaks it, and how.
type Breach = (&'static str, &'static str, fn(&mut Value));

fn breaches() -> Vec<Breach> {
    vec![
        ("undeclared template", "declared-workflow", |template| {
            template["metadata"]["labels"]
                .as_object_mut()
                .unwrap()
                .remove("ringfence.dev/workflow");
        }),
        ("another workflow's template", "declared-workflow", |template| {
            template["metadata"]["labels"]["ringfence.dev/workflow"] = json!("nobody");
        }),
        ("default account", "own-service-account", |template| {
            template["spec"]["serviceAccountName"] = json!("default")
        }),
        ("foreign image", "approved-images", |template| {
            template["spec"]["containers"][0]["image"] = json!("docker.io/library/evil:1");
        }),
        ("foreign image at the start", "approved-images", |template| {
            let mut init = container("init");
            init["image"] = json!("evil");
            template["spec"]["initContainers"] = json!([init]);
        }),
        ("foreign image as a volume", "approved-images", |template| {
            template["spec"]["volumes"] = json!([{"name": "v", "image": {"reference": "docker.io/library/evil:1"}}]);
        }),
        ("escalation", "restricted-pod-security", |template| {
            template["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
        }),
        ("literal key", "no-literal-secrets", |template| {
            template["spec"]["containers"][0]["env"] = json!([{"name": "OPENAI_API_KEY", "value": KEY}]);
        }),
    ]
}

fn dry(kind: &str, namespace: &str) -> String {
    format!("{}?dryRun=All", all(kind, namespace))
}

#[tokio::test]
async fn every_kind_that_makes_pods_is_held_to_the_fence() {
    let world = World::shared().await;
    let ns = &world.enforced("kinds").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let kinds = WORKLOADS.map(async |kind| {
        let good = workload(kind, &pod("good", "triage"));
        lea.post(&dry(kind, ns), &good).await.ok();

        let mut unlabelled = good.clone();
        unlabelled["metadata"]["labels"]
            .as_object_mut()
            .unwrap()
            .remove("ringfence.dev/workflow");
        lea.post(&dry(kind, ns), &unlabelled)
            .await
            .refused_by("declared-workflow");
        world.admin.post(&dry(kind, ns), &good).await.refused_by("launcher");

        for (what, rule, breach) in breaches() {
            // A pod itself never reaches us so: the API server holds it to the standard, as its namespace must ask.
            if (kind, rule) == ("Pod", "restricted-pod-security") {
                continue;
            }
            let mut broken = good.clone();
            breach(broken.pointer_mut(template_of(kind)).unwrap());
            let answer = lea.post(&dry(kind, ns), &broken).await;
            let message = answer.refused_by(rule);
            assert!(!message.contains(KEY), "{kind}, {what}: the message repeats the key");
            assert!(message.contains(&format!("this {kind} ")), "{kind}, {what}: {message}");
        }
        lea.post(&all(kind, ns), &good).await.ok();
    });
    futures::future::join_all(kinds).await;
}

#[tokio::test]
async fn every_reason_is_given_at_once_and_the_message_stays_short() {
    let world = World::shared().await;
    let ns = &world.enforced("reasons").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let mut broken = workload("Job", &pod("broken", "triage"));
    for (_, _, breach) in breaches().into_iter().skip(1) {
        breach(broken.pointer_mut("/spec/template").unwrap());
    }
    let answer = world.admin.post(&dry("Job", ns), &broken).await;
    for rule in [
        "declared-workflow",
        "launcher",
        "own-service-account",
        "approved-images",
        "restricted-pod-security",
        "no-literal-secrets",
    ] {
        answer.refused_by(rule);
    }
    let message = answer.message();
    let numbered = message
        .lines()
        .filter(|line| line.split_once(". [").is_some_and(|(n, _)| n.parse::<u32>().is_ok()))
        .count();
    assert!(message.contains(&format!("({numbered} reasons):")), "{message}");

    let mut many = workload("Job", &pod("many", "triage"));
    let containers: Vec<Value> = (0..100)
        .map(|i| {
            let mut container = container(&format!("c{i}"));
            container["image"] = json!(format!("docker.io/{}/evil:{i}", "x".repeat(150)));
            container
        })
        .collect();
    many["spec"]["template"]["spec"]["containers"] = json!(containers);
    let answer = lea.post(&dry("Job", ns), &many).await;
    let message = answer.refused_by("approved-images");
    assert!(message.len() < (8 << 10) + 200, "{} bytes", message.len());
    let more = message
        .trim_end()
        .rsplit_once("\nand ")
        .and_then(|(_, more)| more.strip_suffix(" more")?.parse::<u32>().ok());
    assert!(more.is_some_and(|more| more > 10), "{message}");
}

#[tokio::test]
async fn a_dry_run_decides_the_same_and_makes_nothing() {
    let world = World::shared().await;
    let ns = &world.enforced("dry").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let good = workload("Job", &pod("good", "triage"));
    let mut broken = good.clone();
    broken["spec"]["template"]["spec"]["containers"][0]["image"] = json!("docker.io/library/evil:1");
    let dry_run = lea.post(&dry("Job", ns), &broken).await;
    let real = lea.post(&all("Job", ns), &broken).await;
    assert_eq!(
        dry_run.refused_by("approved-images"),
        real.refused_by("approved-images")
    );
    lea.post(&dry("Job", ns), &good).await.ok();
    assert!(!world.admin.is_there(&one("Job", ns, "good")).await.unwrap());
    let lines = decisions(&world, ns).await;
    let dry_runs = lines.iter().filter(|line| line.contains("dry_run=true")).count();
    assert!(
        dry_runs >= 2 && lines.len() > dry_runs,
        "both are in the log, told apart: {lines:#?}"
    );
}

/// Lines of the decision log about a namespace.
async fn decisions(world: &World, namespace: &str) -> Vec<String> {
    let log = world.ringfence.log();
    let about = format!("namespace=\"{namespace}\"");
    log.lines()
        .filter(|line| line.contains("decided") && line.contains(&about))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn warn_warns_and_audit_counts() {
    let world = World::shared().await;
    let lea = world.master("lea", &[]).await;
    let mut broken = workload("Job", &pod("broken", "triage"));
    broken["spec"]["suspend"] = json!(true);
    let containers: Vec<Value> = (0..60)
        .map(|i| {
            let mut container = container(&format!("c{i}"));
            container["image"] = json!(format!("docker.io/library/evil:{i}"));
            container
        })
        .collect();
    broken["spec"]["template"]["spec"]["containers"] = json!(containers);
    let good = workload("Job", &pod("good", "triage"));

    let warned = &world
        .namespace("warns", &json!({"ringfence.dev/warn": "default"}))
        .await;
    world
        .tess
        .post(
            &all("AIWorkflow", warned),
            &crate::world::workflow("triage", &json!({})),
        )
        .await
        .ok();
    world.condition(warned, "triage", "Ready", "False", "NotEnforced").await;
    let answer = lea.post(&all("Job", warned), &broken).await;
    let ours: Vec<&String> = answer
        .warnings
        .iter()
        .filter(|warning| warning.starts_with("ringfence: [approved-images]"))
        .collect();
    assert!(ours.len() > 5, "{:?}", answer.warnings);
    assert!(
        answer.warnings.iter().all(|warning| warning.chars().count() <= 256),
        "{:?}",
        answer.warnings
    );
    assert!(
        answer
            .warnings
            .iter()
            .map(|warning| warning.chars().count())
            .sum::<usize>()
            <= 4096
    );
    let last = answer.warnings.last().unwrap();
    assert!(last.starts_with("and ") && last.ends_with(" more"), "{last}");
    answer.ok();
    let fine = lea.post(&dry("Job", warned), &good).await;
    assert_eq!(fine.warnings, [] as [String; 0], "what fits gives no warning");
    let of_nobody = world.admin.post(&dry("Job", warned), &good).await;
    assert!(
        of_nobody.warnings.iter().any(|warning| warning.contains("[launcher]")),
        "{:?}",
        of_nobody.warnings
    );
    of_nobody.ok();

    let audited = &world
        .namespace("audits", &json!({"ringfence.dev/audit": "default"}))
        .await;
    world
        .tess
        .post(
            &all("AIWorkflow", audited),
            &crate::world::workflow("triage", &json!({})),
        )
        .await
        .ok();
    let labels = [
        "decision=\"audit\"",
        "resource=\"jobs\"",
        "operation=\"CREATE\"",
        "webhook=\"label\"",
    ];
    let before = world.counted("ringfence_admission_requests_total", &labels).await;
    let answer = lea.post(&all("Job", audited), &broken).await;
    assert_eq!(answer.warnings, [] as [String; 0]);
    answer.ok();
    assert!(world.counted("ringfence_admission_requests_total", &labels).await > before);
    eventually(SOON, || async {
        let lines = decisions(&world, audited).await;
        let told = lines
            .iter()
            .any(|line| line.contains("verdict=\"audit\"") && line.contains("approved-images"));
        ensure!(told, "the log does not tell of it: {lines:#?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_nobody_approved_runs_no_workflow() {
    let world = World::shared().await;
    let ns = &world.namespace("unapproved", &json!({})).await;
    let account = one("ServiceAccount", ns, "default");
    eventually(SOON, || async { world.admin.read(&account).await }).await;
    let mut labelled = pod("labelled", "triage");
    labelled["spec"]["serviceAccountName"] = json!("default");
    for kind in WORKLOADS {
        let answer = world.admin.post(&dry(kind, ns), &workload(kind, &labelled)).await;
        assert!(
            answer
                .refused_by("approved-namespace")
                .contains(&format!("namespace {ns}")),
            "{}",
            answer.message()
        );
    }
    let config = json!({"metadata": {"name": "labelled", "labels": {"ringfence.dev/workflow": "triage"}}});
    world
        .admin
        .post(&dry("ConfigMap", ns), &config)
        .await
        .refused_by("approved-namespace");
    let mut plain = labelled.clone();
    plain["metadata"]["labels"] = json!({"app": "plain"});
    for kind in WORKLOADS {
        world.admin.post(&dry(kind, ns), &workload(kind, &plain)).await.ok();
    }
}

#[tokio::test]
async fn a_newer_field_is_judged_like_any_other() {
    let world = World::shared().await;
    let ns = &world.enforced("names").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    // The API server drops what it does not know, and tells the caller; a field that it knows and we do not reaches us.
    let mut newer = workload("Deployment", &pod("newer", "triage"));
    newer["spec"]["template"]["spec"]["newerThanAll"] = json!({"image": "docker.io/library/evil:1"});
    let answer = lea.post(&dry("Deployment", ns), &newer).await;
    assert!(
        answer.warnings.iter().any(|warning| warning.contains("newerThanAll")),
        "{:?}",
        answer.warnings
    );
    answer.ok();
}
