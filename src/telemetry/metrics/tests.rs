use rstest::rstest;

use super::*;

#[rstest]
#[case("", "pods", "", "pods")]
#[case("", "pods", "resize", "pods/resize")]
#[case("", "pods", "exec", "pods/exec")]
#[case("", "pods", "ephemeralcontainers", "pods/ephemeralcontainers")]
#[case("", "serviceaccounts", "token", "serviceaccounts/token")]
#[case("", "services", "proxy", "services/proxy")]
#[case("", "pods", "proxy", "pods/proxy")]
#[case("apps", "deployments", "", "deployments")]
#[case("apps", "deployments", "scale", "other")]
#[case("evil.example", "pods", "", "other")]
#[case("", "anything-9f3a", "", "other")]
fn resources_are_those_of_a_fixed_list(
    #[case] group: &str,
    #[case] resource: &str,
    #[case] subresource: &str,
    #[case] expected: &str,
) {
    let resource = Gvr {
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
    };
    assert_eq!(resource_label(&resource, subresource), expected);
}

/// Alerts and dashboards are written against these names: a change breaks them in silence.
#[test]
fn names_and_labels_are_those_of_the_contract() {
    let metrics = Metrics::new();
    let second = Duration::from_secs(1);
    metrics.admitted("fence", Some(Operation::Create), "pods", Outcome::Deny, second);
    metrics.admitted("fence", None, "other", Outcome::Fault, second);
    metrics.evaluated("approved-images", PolicyAction::Deny, second);
    metrics.overrun("approved-images");
    metrics.overrun("approved-images");
    metrics.overrun_ended();
    metrics.exception_used("approved-images");
    metrics.set_policies(PolicyOrigin::Objects, [("kept", "r1", PolicyState::Compiled)]);
    metrics.set_policies(PolicyOrigin::Files, [("gone", "r1", PolicyState::Broken)]);
    metrics.set_policies(PolicyOrigin::Files, [("approved-images", "r2", PolicyState::Compiled)]);
    metrics.set_workflows(ConditionType::Ready, ConditionStatus::True, 3);
    metrics.reconciled(Controller::AIWorkflow, false, second);
    metrics.set_certificate_expiry(1_900_000_000);
    metrics.drift_reverted("NetworkPolicy");
    metrics.break_glass();
    metrics.set_gate("crds", true);
    metrics.set_gate("caches", false);
    metrics.scanned(&BTreeMap::from([("solved".to_owned(), 7)]), second, true);
    metrics.scanned(&BTreeMap::from([("approved-images".to_owned(), 2)]), second, false);
    let text = metrics.encode().unwrap();
    for line in [
        r#"ringfence_admission_requests_total{webhook="fence",operation="CREATE",resource="pods",decision="deny"} 1"#,
        r#"ringfence_admission_requests_total{webhook="fence",operation="unknown",resource="other",decision="fault"} 1"#,
        r#"ringfence_admission_duration_seconds_bucket{le="10.0",webhook="fence"} 2"#,
        r#"ringfence_policy_evaluation_duration_seconds_count{policy="approved-images"} 1"#,
        r#"ringfence_policy_decisions_total{policy="approved-images",action="deny"} 1"#,
        r#"ringfence_policy_overruns_total{policy="approved-images"} 2"#,
        r#"ringfence_gate_open{gate="crds"} 1"#,
        r#"ringfence_gate_open{gate="caches"} 0"#,
        "ringfence_policy_overruns_running 1",
        r#"ringfence_exceptions_used_total{policy="approved-images"} 1"#,
        r#"ringfence_policy_info{policy="approved-images",revision="r2",state="compiled"} 1"#,
        r#"ringfence_workflows{condition="Ready",status="True"} 3"#,
        r#"ringfence_reconcile_total{controller="aiworkflow"} 1"#,
        r#"ringfence_reconcile_errors_total{controller="aiworkflow"} 1"#,
        r#"ringfence_reconcile_duration_seconds_count{controller="aiworkflow"} 1"#,
        "ringfence_certificate_expiry_timestamp_seconds 1900000000",
        r#"ringfence_drift_reverted_total{kind="NetworkPolicy"} 1"#,
        "ringfence_break_glass_total 1",
        r#"ringfence_scan_findings{rule="approved-images"} 2"#,
        "ringfence_scan_duration_seconds_count 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("gone") && !text.contains("solved"), "{text}");
    let success = text
        .lines()
        .find_map(|line| line.strip_prefix("ringfence_scan_last_success_timestamp_seconds "));
    assert!(success.unwrap().parse::<i64>().unwrap() > 1_700_000_000, "{text}");
}
