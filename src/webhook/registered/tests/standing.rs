//! What stands, as the scan, `check` and the preview of a mode ask about it.

use super::*;
use crate::fence::testing::workload;
use crate::findings::{Finding, Severity, Sink};
use crate::review::Gvk;
use crate::review::Violation;
use crate::scan::{Bounds, Preview, Scanner};
use crate::webhook::lookup::LookupError;
use crate::webhook::pages::{Ask, List, Listed, Page};

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

/// Lists that never come.
struct Silent;

impl List for Silent {
    fn list<'a>(&'a self, _: &'a Ask) -> BoxFuture<'a, Result<Page, LookupError>> {
        Box::pin(std::future::pending())
    }

    fn serves(&self, _: Listed) -> BoxFuture<'_, Result<bool, LookupError>> {
        Box::pin(std::future::pending())
    }
}

/// It is evaluated as long as it waits, and others are not.
#[tokio::test]
async fn who_sets_a_mode_while_others_are_looked_at_waits_for_nobody() {
    let scene = scene(with_a_pod(), Vec::new());
    let admission = Arc::new(scene.admission.clone());
    let scanner = Scanner::new(admission.clone(), stored(), Arc::new(Silent));
    let preview = Preview::new(admission, scanner);
    let (review, deadline) = (
        sets_a_mode("ai", json!({"name": "ai", "uid": "ns", "resourceVersion": STORED})),
        far(),
    );
    let others = async {
        tokio::join!(
            preview.admit(Webhook::Modes, &review, deadline),
            preview.admit(Webhook::Modes, &review, deadline)
        )
    };
    let third = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        preview.admit(Webhook::Modes, &review, deadline).await
    };
    tokio::select! {
        _ = others => panic!("their lists never come"),
        third = third => assert!(third.allowed(), "{third:?}"),
    }
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

const STORED: &str = "7";

fn stored() -> Arc<Fixed> {
    let stored = json!({"metadata": {"name": "ai", "uid": "ns", "resourceVersion": STORED}});
    Arc::new(with_a_pod().with(Key::Namespace("ai".into()), stored))
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn scanner(scene: &Scene) -> Scanner {
    let there = stored();
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
    let decision = previewed(
        &scene,
        "ai",
        json!({"name": "ai", "uid": "ns", "resourceVersion": STORED}),
    )
    .await;
    assert_eq!(!of_ours(&decision.warnings).is_empty(), told, "{decision:?}");
}

/// What is said where that object called `name` is given a mode.
async fn previewed(scene: &Scene, name: &str, metadata: Value) -> Decision {
    let preview = Preview::new(Arc::new(scene.admission.clone()), scanner(scene));
    let decision = preview.admit(Webhook::Modes, &sets_a_mode(name, metadata), far()).await;
    assert!(decision.allowed(), "{decision:?}");
    decision
}

fn sets_a_mode(name: &str, metadata: Value) -> Review {
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let before = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    let before = set(before, "/metadata/labels", labels);
    let after = set(before.clone(), "/metadata/labels/ringfence.dev~1warn", json!("default"));
    let after = set(after, "/metadata/name", json!(name));
    let mut review = review("UPDATE", "", "Namespace", Some(&after), Some(&before));
    review.request["name"] = json!("ai");
    review
}

/// The webhook's port may be open to more than the API server, and what stands in a namespace is told who may read that.
#[rstest]
#[case::another_version("ai", json!({"name": "ai", "uid": "ns", "resourceVersion": "6"}))]
#[case::no_version("ai", json!({"name": "ai", "uid": "ns"}))]
#[case::another_uid("ai", json!({"name": "ai", "uid": "other", "resourceVersion": STORED}))]
#[case::another_name_before("ai", json!({"name": "tools", "uid": "ns", "resourceVersion": STORED}))]
#[case::another_name_after("tools", json!({"name": "ai", "uid": "ns", "resourceVersion": STORED}))]
#[tokio::test]
async fn who_does_not_know_the_namespace_is_told_nothing_of_what_stands_there(
    #[case] name: &str,
    #[case] metadata: Value,
) {
    let pods = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]);
    let scene = scene(
        with_a_pod(),
        vec![refusing(json!({"matchConstraints": {"resourceRules": pods}}))],
    );
    let decision = previewed(&scene, name, metadata).await;
    assert!(of_ours(&decision.warnings).is_empty(), "{decision:?}");
    // That nothing was looked at is said, and nothing of what there is.
    assert!(
        decision.warnings.iter().all(|said| !said.message.contains("Pod")),
        "{decision:?}"
    );
}
