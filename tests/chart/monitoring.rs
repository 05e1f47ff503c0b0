//! What the chart makes for a Prometheus operator: only where its kinds are served; alerts that fire when they should, and only then,
//! as the real Prometheus evaluates them; and no metric that Ringfence does not export.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use ringfence::api::{ConditionStatus, ConditionType};
use ringfence::review::{Operation, Outcome};
use ringfence::telemetry::{Controller, EgressMetrics, Metrics, PolicyAction, PolicyOrigin, PolicyState};
use rstest::rstest;
use serde_json::{Value, json};
use support::promql::{Firing, Promql};

use crate::chart::helm;

const SERVED: [&str; 6] = [
    "--api-versions",
    "monitoring.coreos.com/v1",
    "--api-versions",
    "monitoring.coreos.com/v1/ServiceMonitor",
    "--api-versions",
    "monitoring.coreos.com/v1/PrometheusRule",
];

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn groups() -> Value {
    serde_saphyr::from_str::<Value>(&read("charts/ringfence/monitoring/alerts.yaml")).unwrap()["groups"].clone()
}

fn alerts() -> Vec<Value> {
    let groups = groups();
    let groups = groups.as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read("charts/ringfence/monitoring/dashboard.json")).unwrap()
}

/// Expressions of the dashboard's panels.
fn shown() -> Vec<String> {
    let board = dashboard();
    let panels = board["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap().clone());
    targets
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect()
}

/// What the chart renders of monitoring, by kind and name.
async fn rendered(served: &[&str], values: &[&str]) -> BTreeMap<String, Value> {
    let arguments = [&["template", "ringfence"], served].concat();
    let text = helm(&arguments, values).await.unwrap();
    let objects = serde_saphyr::from_multiple::<Value>(&text).unwrap().into_iter();
    let named = objects.filter(|object| !object.is_null()).map(|object| {
        let name = format!(
            "{}/{}",
            object["kind"].as_str().unwrap(),
            object["metadata"]["name"].as_str().unwrap()
        );
        (name, object)
    });
    let of_monitoring = |name: &str| {
        [
            "ServiceMonitor/",
            "PrometheusRule/",
            "ConfigMap/ringfence-dashboard",
            "Service/ringfence-metrics",
        ]
        .iter()
        .any(|start| name.starts_with(start))
    };
    named.filter(|(name, _)| of_monitoring(name)).collect()
}

/// The install of a chart with a kind that is not served fails.
#[tokio::test]
async fn each_part_is_made_where_its_kind_is_served_and_nobody_switched_it_off() {
    assert_eq!(rendered(&[], &[]).await.into_keys().collect::<Vec<_>>(), [""; 0]);
    let all = rendered(&SERVED, &["monitoring.serviceMonitor.labels.release=prometheus"]).await;
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    let expected = [
        "ConfigMap/ringfence-dashboard",
        "PrometheusRule/ringfence",
        "Service/ringfence-metrics",
        "ServiceMonitor/ringfence",
    ];
    assert_eq!(names, expected);
    for (off, left) in [
        (
            "serviceMonitor",
            &["ConfigMap/ringfence-dashboard", "PrometheusRule/ringfence"][..],
        ),
        (
            "prometheusRule",
            &[
                "ConfigMap/ringfence-dashboard",
                "Service/ringfence-metrics",
                "ServiceMonitor/ringfence",
            ],
        ),
        (
            "dashboard",
            &[
                "PrometheusRule/ringfence",
                "Service/ringfence-metrics",
                "ServiceMonitor/ringfence",
            ],
        ),
    ] {
        let found = rendered(&SERVED, &[&format!("monitoring.{off}.enabled=false")]).await;
        assert_eq!(found.into_keys().collect::<Vec<_>>(), left, "without {off}");
    }

    let monitor = &all["ServiceMonitor/ringfence"];
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let service = &all["Service/ringfence-metrics"];
    for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(service["metadata"]["labels"][label], *value, "{label}");
    }
    assert_eq!(
        monitor["spec"]["endpoints"][0]["port"],
        service["spec"]["ports"][0]["name"]
    );
    let board = all["ConfigMap/ringfence-dashboard"]["data"]["ringfence.json"]
        .as_str()
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(board).unwrap(), dashboard());

    let elsewhere = rendered(
        &SERVED,
        &["monitoring.prometheusRule.runbooks=https://docs.example.com/alerts"],
    )
    .await;
    let rules = &elsewhere["PrometheusRule/ringfence"]["spec"]["groups"][0]["rules"];
    assert_eq!(
        rules[0]["annotations"]["runbook_url"],
        "https://docs.example.com/alerts#ringfencenotserving"
    );
    let mut same = groups();
    for rule in same[0]["rules"].as_array_mut().unwrap() {
        let link = rule["annotations"]["runbook_url"].as_str().unwrap();
        rule["annotations"]["runbook_url"] = json!(link.replace("RUNBOOKS", "docs/alerts.md"));
    }
    assert_eq!(all["PrometheusRule/ringfence"]["spec"]["groups"], same);
}

#[tokio::test]
async fn metrics_that_nobody_may_read_are_not_asked_for() {
    let arguments = [&["template", "ringfence"][..], &SERVED].concat();
    let refusal = helm(&arguments, &["networkPolicy.metricsFrom=[]"])
        .await
        .expect_err("nobody may read them");
    assert!(refusal.contains("name the pods of Prometheus there"), "{refusal}");
    let off = [
        "networkPolicy.metricsFrom=[]",
        "monitoring.serviceMonitor.enabled=false",
    ];
    helm(&arguments, &off).await.unwrap();
}

/// Labels that come with a scrape, or that a function of Prometheus makes.
const OF_A_SCRAPE: [&str; 3] = ["job", "namespace", "pod"];

/// Every series that Ringfence exports, by name, with its labels.
fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let (metrics, second) = (Metrics::new(), Duration::from_secs(1));
    metrics.admitted("fence", Some(Operation::Create), "pods", Outcome::Deny, second);
    metrics.evaluated("p", PolicyAction::Deny, second);
    metrics.overrun("p");
    metrics.exception_used("p");
    metrics.set_policies(PolicyOrigin::Files, [("p", "r", PolicyState::Broken)]);
    metrics.set_workflows(ConditionType::Ready, ConditionStatus::True, 1);
    metrics.reconciled(Controller::AIWorkflow, false, second);
    metrics.drift_reverted("NetworkPolicy");
    metrics.scanned(&[("r".to_owned(), 1)].into(), second, true);
    metrics.set_cache("Pod", 1);
    metrics.set_left_out("Pod", 1);
    metrics.set_gate("crds", true);
    let proxy = EgressMetrics::default();
    proxy.connected(second);
    proxy.set_known("pods", 1);
    let text = metrics.encode().unwrap() + &proxy.encode().unwrap();
    let series = text.lines().filter(|line| !line.starts_with('#'));
    series
        .map(|line| {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels
                .trim_end_matches('}')
                .split(',')
                .filter_map(|label| label.split_once('='));
            (name.to_owned(), labels.map(|(label, _)| label.to_owned()).collect())
        })
        .collect()
}

#[test]
fn alerts_and_dashboard_name_what_is_exported() {
    let exported = exported();
    let alerts = alerts();
    let mut expressions: Vec<String> = alerts
        .iter()
        .map(|alert| alert["expr"].as_str().unwrap().to_owned())
        .collect();
    expressions.extend(shown());
    let read = Promql::start().unwrap().read(&expressions).unwrap();
    assert_eq!(read.len(), expressions.len());
    let mut named = BTreeSet::new();
    for (expression, selected) in expressions.iter().zip(read) {
        assert!(!selected.is_empty(), "{expression}: looks at nothing");
        for (metric, by) in selected {
            let labels = exported
                .get(&metric)
                .unwrap_or_else(|| panic!("{expression}: {metric} is not exported"));
            for label in by {
                let label = label.split_once('=').unwrap().0;
                assert!(labels.contains(label), "{expression}: {metric} has no label {label}");
            }
            named.insert(metric);
        }
        // What is summed by is written once, in parentheses.
        for by in expression.split(" by (").skip(1) {
            for label in by.split_once(')').unwrap().0.split(", ") {
                let known = OF_A_SCRAPE.contains(&label) || exported.values().any(|labels| labels.contains(label));
                assert!(known, "{expression}: nothing has the label {label}");
            }
        }
    }
    // A family that nobody looks at is one that somebody forgot.
    let family = |name: &str| {
        let ends = ["_bucket", "_count", "_sum"];
        ends.iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name)
            .to_owned()
    };
    let named: BTreeSet<String> = named.iter().map(|name| family(name)).collect();
    let all: BTreeSet<String> = exported.keys().map(|name| family(name)).collect();
    assert_eq!(all.difference(&named).collect::<Vec<_>>(), [""; 0]);
}

/// Somebody is woken by it: what it means and what to do is written down.
#[test]
fn each_alert_says_what_it_means_and_where_to_read_on() {
    let page = read("docs/alerts.md");
    let mut sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut names = Vec::new();
    let alerts = alerts();
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        assert!(
            ["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap()),
            "{name}"
        );
        for text in ["summary", "description"] {
            assert!(
                alert["annotations"][text].as_str().unwrap().len() > 20,
                "{name}: {text}"
            );
        }
        let link = alert["annotations"]["runbook_url"].as_str().unwrap();
        assert_eq!(link, format!("RUNBOOKS#{}", name.to_lowercase()));
        names.push(name);
    }
    names.sort_unstable();
    sections.sort_unstable();
    assert_eq!(names, sections, "docs/alerts.md has a section for each alert");
}

/// Two replicas that work.
fn healthy() -> BTreeMap<String, String> {
    let mut series = BTreeMap::new();
    let mut add = |name: String, samples: &str| drop(series.insert(name, samples.to_owned()));
    for pod in ["a", "b"] {
        for gate in ["crds", "caches", "policies", "rego-policies", "certificate"] {
            add(
                format!("ringfence_gate_open{{namespace=\"r\",pod=\"{pod}\",gate=\"{gate}\"}}"),
                "1x120",
            );
        }
        let of_pod = |name: &str| format!("ringfence_{name}{{namespace=\"r\",pod=\"{pod}\"}}");
        add(of_pod("leader"), if pod == "a" { "1x120" } else { "0x120" });
        add(of_pod("certificate_expiry_timestamp_seconds"), "31536000x120");
        add(of_pod("break_glass_total"), "0x120");
        add(of_pod("policy_overruns_running"), "0x120");
        let requests = |decision: &str| {
            format!(
                "ringfence_admission_requests_total{{namespace=\"r\",pod=\"{pod}\",webhook=\"fence\",decision=\"{decision}\"}}"
            )
        };
        add(requests("allow"), "0+60x120");
        add(requests("deny"), "0+6x120");
        for (le, samples) in [("0.05", "0+65x120"), ("2.5", "0+66x120"), ("+Inf", "0+66x120")] {
            let name =
                format!("ringfence_admission_duration_seconds_bucket{{pod=\"{pod}\",webhook=\"fence\",le=\"{le}\"}}");
            // One in 66 is slow, and half of all are fast.
            add(name, if le == "0.05" { "0+66x120" } else { samples });
        }
        add(
            format!("ringfence_policy_info{{pod=\"{pod}\",policy=\"p\",revision=\"r\",state=\"compiled\"}}"),
            "1x120",
        );
        add(of_pod("egress_api_server_last_answer_timestamp_seconds"), "0+60x120");
        let connections = |verdict: &str| {
            format!("ringfence_egress_connections_total{{namespace=\"r\",pod=\"{pod}\",verdict=\"{verdict}\"}}")
        };
        add(connections("allowed"), "0+60x120");
        add(connections("not-declared"), "0+6x120");
        add(connections("too-many"), "0x120");
        for kind in ["v1/Pod", "networking.k8s.io/v1/Ingress"] {
            add(
                format!("ringfence_cache_namespaces_left_out{{pod=\"{pod}\",kind=\"{kind}\"}}"),
                "0x120",
            );
        }
    }
    add(
        "ringfence_workflows{condition=\"Ready\",status=\"True\"}".to_owned(),
        "5x120",
    );
    add(
        "ringfence_workflows{condition=\"Ready\",status=\"False\"}".to_owned(),
        "0x120",
    );
    add(
        "ringfence_reconcile_total{controller=\"aiworkflow\"}".to_owned(),
        "0+5x120",
    );
    add(
        "ringfence_reconcile_errors_total{controller=\"aiworkflow\"}".to_owned(),
        "1x120",
    );
    add(
        "ringfence_drift_reverted_total{namespace=\"r\",pod=\"a\",kind=\"Role\"}".to_owned(),
        "3x120",
    );
    series
}

fn firing(changes: &[(&str, &str)], minute: u32) -> Vec<Firing> {
    let mut series = healthy();
    for (name, samples) in changes {
        // Each series whose name begins so; a new one where there is none.
        let found: Vec<String> = series.keys().filter(|key| key.starts_with(name)).cloned().collect();
        for key in &found {
            if samples.is_empty() {
                series.remove(key);
            } else {
                series.insert(key.clone(), (*samples).to_owned());
            }
        }
        if found.is_empty() {
            series.insert((*name).to_owned(), (*samples).to_owned());
        }
    }
    let rules = file("charts/ringfence/monitoring/alerts.yaml");
    Promql::start().unwrap().firing(&rules, &series, minute).unwrap()
}

#[rstest]
#[case::all_is_well(&[], 60, &[])]
#[case::nothing_is_scraped(&[("ringfence_gate_open", "")], 10, &["RingfenceNotServing"])]
#[case::no_replica_is_ready(&[("ringfence_gate_open{namespace=\"r\",pod=\"a\",gate=\"crds\"", "0x120"), ("ringfence_gate_open{namespace=\"r\",pod=\"b\",gate=\"caches\"", "0x120")], 5, &["RingfenceNotServing"])]
#[case::for_a_moment(&[("ringfence_gate_open{namespace=\"r\",pod=\"a\",gate=\"crds\"", "1x20 0 1x99"), ("ringfence_gate_open{namespace=\"r\",pod=\"b\",gate=\"crds\"", "1x20 0 1x99")], 21, &[])]
#[case::one_waits(&[("ringfence_gate_open{namespace=\"r\",pod=\"b\",gate=\"policies\"", "0x120")], 15, &["RingfenceReplicaNotReady"])]
#[case::one_waits_a_moment(&[("ringfence_gate_open{namespace=\"r\",pod=\"b\",gate=\"policies\"", "0x120")], 5, &[])]
#[case::nobody_is_trusted(&[("ringfence_gate_open{namespace=\"r\",pod=\"a\",gate=\"certificate\"", "0x120"), ("ringfence_gate_open{namespace=\"r\",pod=\"b\",gate=\"certificate\"", "0x120")], 5, &["RingfenceNotServing", "RingfenceNotTrusted"])]
#[case::a_registration_was_edited(&[("ringfence_drift_reverted_total{namespace=\"r\",pod=\"a\",kind=\"ValidatingWebhookConfiguration\"}", "_x30 1x90")], 32, &["RingfenceRegistrationEdited"])]
#[case::a_guard_was_edited(&[("ringfence_drift_reverted_total{namespace=\"r\",pod=\"a\",kind=\"ValidatingAdmissionPolicyBinding\"}", "_x30 1x90")], 32, &["RingfenceRegistrationEdited"])]
#[case::and_again(&[("ringfence_drift_reverted_total{namespace=\"r\",pod=\"a\",kind=\"ValidatingWebhookConfiguration\"}", "1x30 2x90")], 32, &["RingfenceRegistrationEdited"])]
#[case::a_new_prometheus_finds_it(&[("ringfence_drift_reverted_total{namespace=\"r\",pod=\"a\",kind=\"ValidatingWebhookConfiguration\"}", "1x120")], 5, &[])]
#[case::in_a_new_pod(&[("ringfence_drift_reverted_total{namespace=\"r\",pod=\"c\",kind=\"Role\"}", "_x40 1x80"), ("ringfence_leader{namespace=\"r\",pod=\"c\"}", "_x37 1x83")], 48, &["RingfenceDriftReverted"])]
#[case::long_ago(&[("ringfence_drift_reverted_total{namespace=\"r\",pod=\"a\",kind=\"ValidatingWebhookConfiguration\"}", "_x30 1x90")], 60, &[])]
#[case::a_certificate_ends(&[("ringfence_certificate_expiry_timestamp_seconds{namespace=\"r\",pod=\"b\"", "1500000x120")], 15, &["RingfenceCertificateExpires"])]
#[case::a_certificate_is_not_made_yet(&[("ringfence_certificate_expiry_timestamp_seconds", "0x120")], 15, &[])]
#[case::no_leader(&[("ringfence_leader", "0x120")], 5, &["RingfenceNoLeader"])]
#[case::leaders_change(&[("ringfence_leader", "1x20 0 1x99")], 21, &[])]
#[case::a_fault(&[("ringfence_admission_requests_total{namespace=\"r\",pod=\"a\",webhook=\"modes\",decision=\"fault\"}", "_x30 1x90")], 32, &["RingfenceFaults"])]
#[case::much_is_refused(&[("ringfence_admission_requests_total{namespace=\"r\",pod=\"a\",webhook=\"fence\",decision=\"deny\"", "0+200x120")], 40, &["RingfenceRefusesMuch"])]
#[case::little_is_asked_and_refused(&[("ringfence_admission_requests_total{namespace=\"r\",pod=\"a\"", "0x120"), ("ringfence_admission_requests_total{namespace=\"r\",pod=\"b\"", "0x120"), ("ringfence_admission_requests_total{namespace=\"r\",pod=\"a\",webhook=\"fence\",decision=\"deny\"", "0x20 1x100")], 40, &[])]
#[case::break_glass(&[("ringfence_break_glass_total{namespace=\"r\",pod=\"a\"", "0x30 1x90")], 32, &["RingfenceBreakGlass"])]
#[case::drift(&[("ringfence_drift_reverted_total{namespace=\"r\",pod=\"a\",kind=\"NetworkPolicy\"}", "_x30 1x90")], 32, &["RingfenceDriftReverted"])]
#[case::a_broken_policy(&[("ringfence_policy_info{pod=\"a\",policy=\"q\",revision=\"r\",state=\"broken\"}", "1x120")], 10, &["RingfencePolicyBroken"])]
#[case::a_namespace_is_left_out(&[("ringfence_cache_namespaces_left_out{pod=\"b\",kind=\"v1/Pod\"", "0x30 1x90")], 33, &["RingfenceInventoryTooLarge"])]
#[case::a_namespace_is_left_out_just_now(&[("ringfence_cache_namespaces_left_out{pod=\"b\",kind=\"v1/Pod\"", "0x30 1x90")], 31, &[])]
#[case::a_namespace_was_left_out(&[("ringfence_cache_namespaces_left_out{pod=\"b\",kind=\"v1/Pod\"", "0x30 1x10 0x80")], 60, &[])]
#[case::a_policy_runs_away(&[("ringfence_policy_overruns_running{namespace=\"r\",pod=\"a\"", "1x120")], 10, &["RingfencePolicyRunsAway"])]
#[case::errors_go_on(&[("ringfence_reconcile_errors_total", "0+1x120")], 30, &["RingfenceReconcileErrors"])]
#[case::one_error(&[("ringfence_reconcile_errors_total", "0x10 1x110")], 30, &[])]
#[case::a_workflow_is_not_ready(&[("ringfence_workflows{condition=\"Ready\",status=\"False\"}", "2x120")], 20, &["RingfenceWorkflowsNotReady"])]
#[case::slow(&[("ringfence_admission_duration_seconds_bucket{pod=\"a\",webhook=\"fence\",le=\"0.05\"", "0+30x120")], 30, &["RingfenceSlow"])]
#[case::a_proxy_hears_nothing(&[("ringfence_egress_api_server_last_answer_timestamp_seconds{namespace=\"r\",pod=\"b\"", "0+60x20 1200x100")], 40, &["RingfenceEgressStale"])]
#[case::a_proxy_heard_nothing_for_a_while(&[("ringfence_egress_api_server_last_answer_timestamp_seconds{namespace=\"r\",pod=\"b\"", "0+60x20 1200x100")], 28, &[])]
#[case::a_proxy_is_full(&[("ringfence_egress_connections_total{namespace=\"r\",pod=\"a\",verdict=\"too-many\"", "0+1x120")], 15, &["RingfenceEgressFull"])]
#[case::a_proxy_was_full_once(&[("ringfence_egress_connections_total{namespace=\"r\",pod=\"a\",verdict=\"too-many\"", "0x20 5x100")], 22, &[])]
#[case::there_is_no_proxy(&[("ringfence_egress", "")], 60, &[])]
fn alerts_fire_when_they_should(#[case] changes: &[(&str, &str)], #[case] minute: u32, #[case] expected: &[&str]) {
    let fired = firing(changes, minute);
    let mut names: Vec<&str> = fired.iter().map(|alert| alert.labels["alertname"].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, expected, "{fired:?}");
    for alert in fired {
        for text in alert.annotations.values() {
            assert!(
                !text.contains("{{") && !text.contains("<no value>") && !text.contains("error expanding"),
                "{text}"
            );
            assert!(
                !text.contains("Pod  ") && !text.contains(" for  "),
                "a label is missing: {text}"
            );
        }
    }
}

/// A case for each: an alert that never fires is none.
#[test]
fn each_alert_has_a_case() {
    let text = read("tests/chart/monitoring.rs");
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        assert!(text.contains(&format!("\"{name}\"")), "{name} has no case that fires");
    }
}
