//! What stands, as the scan, `check` and the preview of a mode ask about it.

use super::*;
use crate::fence::testing::workload;
use crate::findings::{Finding, Severity, Sink};
use crate::review::Gvk;
use crate::review::Violation;
use crate::scan::{Bounds, Preview, Scanner};

/// Of the policies of these tests: not of the fence, for which nothing is made in these clusters.
fn of_ours(found: &[Violation]) -> Vec<&Violation> {
    found.iter().filter(|one| one.policy == "refuses").collect()
}

fn review_of(group: &str, kind: &str, resource: &str, object: Value) -> Review {
    let kind = Gvk {
        group: group.into(),
        version: "v1".into(),
        kind: kind.into(),
    };
    let object = object.as_object().unwrap().clone();
    Review::standing(&kind, &gvr(group, resource), Some("ai"), object)
}

fn standing_pod() -> Review {
    review_of("", "Pod", "pods", pod())
}

impl Scene {
    async fn of_standing(&self, review: &Review) -> Decision {
        let deadline = Instant::now() + Duration::from_secs(10);
        self.admission.standing(review, deadline).await.unwrap()
    }
}

#[rstest]
#[case::denies("Deny", json!({}), [1, 0, 0])]
#[case::warns("Warn", json!({}), [0, 1, 0])]
#[case::audits("Audit", json!({}), [0, 0, 1])]
#[case::denies_under_enforce("Deny", json!({"ringfence.dev/enforce": "default"}), [1, 0, 0])]
#[case::warns_under_warn("Deny", json!({"ringfence.dev/warn": "default"}), [0, 1, 0])]
#[tokio::test]
async fn what_stands_is_found_as_strong_as_the_policy_acts(
    #[case] action: &str,
    #[case] labels: Value,
    #[case] wanted: [usize; 3],
) {
    let scene = scene(cluster(labels), vec![refusing(json!({"validationActions": [action]}))]);
    let decision = scene.of_standing(&standing_pod()).await;
    let found = [&decision.denials, &decision.warnings, &decision.audits].map(|list| of_ours(list).len());
    assert_eq!(found, wanted, "{decision:?}");
}

#[rstest]
#[case::selected("gold", 1)]
#[case::not_selected("tin", 0)]
#[tokio::test]
async fn only_selected_namespaces_are_looked_into(#[case] tier: &str, #[case] wanted: usize) {
    let constraints = json!({
        "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
        "namespaceSelector": {"matchLabels": {"tier": "gold"}},
    });
    let policy = refusing(json!({"matchConstraints": constraints}));
    let decision = scene(cluster(json!({"tier": tier})), vec![policy])
        .of_standing(&standing_pod())
        .await;
    assert_eq!(of_ours(&decision.denials).len(), wanted, "{decision:?}");
}

#[tokio::test]
async fn what_makes_pods_is_found_by_its_template_and_a_namespace_as_itself() {
    let pods = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]);
    let expanded = json!({"templates": "Expand", "matchConstraints": {"resourceRules": pods}});
    let decision = scene(cluster(json!({})), vec![refusing(expanded)])
        .of_standing(&review_of("apps", "Deployment", "deployments", workload("d")))
        .await;
    let denials = of_ours(&decision.denials);
    assert!(
        denials.len() == 1
            && denials[0].message.contains("(via Deployment/")
            && denials[0].path.starts_with("spec.template."),
        "{decision:?}"
    );
    let constraints = json!({
        "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["namespaces"], "operations": ["CREATE"]}],
        "namespaceSelector": {"matchLabels": {"tier": "gold"}},
    });
    for (tier, wanted) in [("gold", 1), ("tin", 0)] {
        let namespace = json!({"metadata": {"name": "ai", "labels": {"tier": tier}}});
        let decision = scene(
            cluster(json!({})),
            vec![refusing(json!({"matchConstraints": constraints}))],
        )
        .of_standing(&review_of("", "Namespace", "namespaces", namespace))
        .await;
        assert_eq!(of_ours(&decision.denials).len(), wanted, "{decision:?}");
    }
}

#[tokio::test]
async fn without_a_fact_nothing_is_known_of_what_stands() {
    let scene = scene(Fixed::default(), vec![refusing(json!({}))]);
    let deadline = Instant::now() + Duration::from_secs(10);
    let fault = scene.admission.standing(&standing_pod(), deadline).await.unwrap_err();
    assert_eq!(fault.cause, FaultCause::Unavailable);
}

#[derive(Default)]
struct Heard(Vec<Finding>);

impl Sink for Heard {
    fn found(&mut self, finding: Finding) {
        self.0.push(finding);
    }
}

/// A namespace with a pod in it.
fn with_a_pod() -> Fixed {
    cluster(json!({})).listing("pods", Some("ai"), vec![pod()])
}

fn scanner(scene: &Scene) -> Scanner {
    let there = Arc::new(with_a_pod());
    Scanner::new(Arc::new(scene.admission.clone()), there.clone(), there)
}

#[rstest]
#[case::denies("Deny", true, Some(Severity::Error))]
#[case::warns("Warn", true, Some(Severity::Warning))]
#[case::audits("Audit", true, Some(Severity::Warning))]
#[case::audits_in_a_preview("Audit", false, None)]
#[tokio::test]
async fn a_scan_finds_as_much_as_the_action_is_worth(
    #[case] action: &str,
    #[case] audits: bool,
    #[case] wanted: Option<Severity>,
) {
    let pods = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]);
    let policy = refusing(json!({"validationActions": [action], "matchConstraints": {"resourceRules": pods}}));
    let scene = scene(with_a_pod(), vec![policy]);
    let namespace = json!({"metadata": {"name": "ai", "uid": "ns", "labels": {}}});
    let bounds = Bounds {
        audits,
        ..Bounds::all()
    };
    let mut heard = Heard::default();
    scanner(&scene).look(&namespace, "default", bounds, &mut heard).await;
    let found: Vec<_> = heard.0.iter().filter(|finding| finding.rule == "refuses").collect();
    let severities: Vec<_> = found.iter().map(|finding| finding.severity).collect();
    assert_eq!(severities, wanted.into_iter().collect::<Vec<_>>(), "{found:?}");
}

#[rstest]
#[case::denies("Deny", true)]
#[case::warns("Warn", true)]
#[case::audits("Audit", false)]
#[tokio::test]
async fn who_sets_a_mode_is_told_what_policies_say_of_what_stands(#[case] action: &str, #[case] told: bool) {
    let pods = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]);
    let policy = refusing(json!({"validationActions": [action], "matchConstraints": {"resourceRules": pods}}));
    let scene = scene(with_a_pod(), vec![policy]);
    let preview = Preview::new(Arc::new(scene.admission.clone()), scanner(&scene));
    let secure = json!({"name": "ai", "uid": "ns", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}});
    let before = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": secure});
    let after = set(before.clone(), "/metadata/labels/ringfence.dev~1warn", json!("default"));
    let mut review = review("UPDATE", "", "Namespace", Some(&after), Some(&before));
    review.request["name"] = json!("ai");
    let deadline = Instant::now() + Duration::from_secs(20);
    let decision = preview.admit(Webhook::Modes, &review, deadline).await;
    assert!(decision.allowed(), "{decision:?}");
    assert_eq!(!of_ours(&decision.warnings).is_empty(), told, "{decision:?}");
}
