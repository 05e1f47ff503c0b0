//! What `/metrics` serves: the names that are promised, and no name of anybody's in a label.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::world::{World, all, pod, workload};

/// Families and their labels: the names are API.
const PROMISED: [(&str, &[&str]); 15] = [
    (
        "ringfence_admission_requests_total",
        &["webhook", "operation", "resource", "decision"],
    ),
    ("ringfence_admission_duration_seconds_bucket", &["webhook", "le"]),
    ("ringfence_policy_evaluation_duration_seconds_bucket", &["policy", "le"]),
    ("ringfence_policy_decisions_total", &["policy", "action"]),
    ("ringfence_exceptions_used_total", &["policy"]),
    ("ringfence_policy_info", &["policy", "revision", "state"]),
    ("ringfence_gate_open", &["gate"]),
    ("ringfence_workflows", &["condition", "status"]),
    ("ringfence_reconcile_total", &["controller"]),
    ("ringfence_reconcile_errors_total", &["controller"]),
    ("ringfence_reconcile_duration_seconds_bucket", &["controller", "le"]),
    ("ringfence_certificate_expiry_timestamp_seconds", &[]),
    ("ringfence_drift_reverted_total", &["kind"]),
    ("ringfence_break_glass_total", &[]),
    ("ringfence_policy_evaluation_duration_seconds_count", &["policy"]),
];

/// Labels by name of each series.
fn series(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, _) = line.rsplit_once(' ').expect("a series and its value");
            let (family, labels) = name.split_once('{').unwrap_or((name, ""));
            let labels = labels
                .trim_end_matches('}')
                .split("\",")
                .filter(|label| !label.is_empty());
            let labels = labels.map(|label| {
                let (key, value) = label.split_once("=\"").expect("a label");
                (key.to_owned(), value.trim_end_matches('"').to_owned())
            });
            (family.to_owned(), labels.collect())
        })
        .collect()
}

#[tokio::test]
async fn what_is_promised_is_served_and_names_nobody() {
    let world = World::shared().await;
    let ns = &world.enforced("metered").await;
    world.ready(ns, "metered-workflow", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    lea.post(
        &all("Job", ns),
        &workload("Job", &pod("metered-job", "metered-workflow")),
    )
    .await
    .ok();
    world
        .admin
        .post(
            &all("Job", ns),
            &workload("Job", &pod("metered-job-2", "metered-workflow")),
        )
        .await
        .refused_by("launcher");
    // An account that is taken off its place, so that drift has been seen once; and a write that fails, so that an error has.
    let warned = &world
        .namespace("metered", &json!({"ringfence.dev/warn": "default"}))
        .await;
    world
        .tess
        .post(
            &all("AIWorkflow", warned),
            &crate::world::workflow("metered-drift", &json!({})),
        )
        .await
        .ok();
    world
        .condition(warned, "metered-drift", "Programmed", "True", "Applied")
        .await;
    world
        .admin
        .delete(&crate::world::one("ServiceAccount", warned, "metered-drift"))
        .await
        .ok();
    support::eventually(crate::world::SOON, || async {
        anyhow::ensure!(
            world.counted("ringfence_drift_reverted_total", &[]).await > 0.0,
            "no drift counted yet"
        );
        Ok(())
    })
    .await;

    let (code, text) = world.ringfence.get("/metrics").await.unwrap();
    assert_eq!(code, 200);
    assert!(text.ends_with("# EOF\n"), "it is cut off: {text}");
    let series = series(&text);
    for (family, labels) in PROMISED {
        let found: Vec<_> = series.iter().filter(|(name, _)| name == family).collect();
        let labels: BTreeSet<&str> = labels.iter().copied().collect();
        // Nothing of the kind may have gone wrong yet; and exceptions are used on a control plane of their own.
        let may_be_absent = matches!(
            family,
            "ringfence_reconcile_errors_total" | "ringfence_exceptions_used_total"
        );
        assert!(!found.is_empty() || may_be_absent, "{family} is not served");
        for (_, carried) in found {
            assert_eq!(
                carried.keys().map(String::as_str).collect::<BTreeSet<_>>(),
                labels,
                "{family}"
            );
        }
    }
    for resource in ["jobs", "namespaces"] {
        let counted = series.iter().any(|(name, labels)| {
            name == "ringfence_admission_requests_total"
                && labels.get("resource").is_some_and(|found| found == resource)
        });
        assert!(counted, "{resource}");
    }

    let mut names = BTreeSet::from(
        [
            "lea",
            "ringfence-admin",
            "metered-job",
            "metered-workflow",
            "metered-drift",
            "triage",
        ]
        .map(str::to_owned),
    );
    names.extend([ns.clone(), warned.clone()]);
    for (family, labels) in &series {
        for value in labels.values() {
            assert!(!names.contains(value), "{family} names {value}");
            assert!(
                !value.contains("metered") && !value.starts_with("system:"),
                "{family} names {value}"
            );
        }
    }
    // A series for each combination of a few words: bounded, however many objects there are.
    let requests = series
        .iter()
        .filter(|(name, _)| name == "ringfence_admission_requests_total")
        .count();
    assert!(requests < 300, "{requests} series");
}
