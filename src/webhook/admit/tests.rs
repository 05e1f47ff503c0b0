mod bindings;
mod doors;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rstest::rstest;
use serde_json::json;
use tokio::sync::Barrier;

use super::super::judge::of_policy;
use super::super::lookup::Fixed;
use super::*;
use crate::api::ValidationAction;
use crate::decisions::Recorded;
use crate::fence::Named;
use crate::fence::testing::{facts, owner, owner_reference, pod, review, set, unset, workload};
use crate::policy::{EvalError, Findings, PolicyInput, Verdict};
use crate::review::{Excuse, Violation};

const SCHEDULER: &str = "system:serviceaccount:airflow:scheduler";

/// Policies that say what a test wants, and remember what they were shown.
#[derive(Default)]
struct Scripted {
    findings: Findings,
    error: Option<EvalError>,
    /// `Deny` where there is none.
    action: Option<ValidationAction>,
    asked: AtomicUsize,
    seen: Mutex<Vec<Value>>,
}

impl Policies for Scripted {
    fn evaluate(&self, input: &PolicyInput<'_>, budget: Duration) -> Vec<Verdict> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.seen.lock().unwrap().push(json!({
            "target": format!("{:?}", input.target), "path": input.pod.map(|(path, _)| path), "pod": input.pod.map(|(_, pod)| pod),
            "workflow": input.workflow, "class": input.class, "namespace": input.namespace, "request": input.request,
        }));
        assert!(budget <= Duration::from_secs(5));
        let outcome = self.error.clone().map_or_else(|| Ok(self.findings.clone()), Err);
        vec![Verdict {
            policy: "scripted".into(),
            outcome,
            duration: Duration::ZERO,
        }]
    }

    fn action(&self, _: &str) -> ValidationAction {
        self.action.unwrap_or(ValidationAction::Deny)
    }

    fn revision(&self) -> &str {
        "r1"
    }
}

fn finding(message: &str) -> Violation {
    of_policy("scripted", message.to_owned(), "")
}

fn named(namespace: &str, name: &str) -> Named {
    Named {
        namespace: namespace.into(),
        name: name.into(),
    }
}

/// A cluster in which all is well.
fn cluster() -> Fixed {
    let facts = facts();
    Fixed::default()
        .with(Key::Namespace("ai".into()), facts.namespace.unwrap())
        .with(Key::Workflow(named("ai", "triage")), facts.workflow.unwrap())
        .with(Key::DefaultDeny("ai".into()), facts.default_deny.unwrap())
        .with(Key::Account(named("ai", "triage")), facts.account.unwrap())
        .with(
            Key::Account(named("airflow", "scheduler")),
            json!({"metadata": {"uid": "scheduler-uid"}}),
        )
        .with(Key::Class("default".into()), facts.classes["default"].clone().unwrap())
}

fn with_modes(labels: Value) -> Fixed {
    let labels = restricted(labels);
    let other = json!({"metadata": {"name": "other"}, "spec": {"images": {"allowed": ["docker.io/**"]}}});
    cluster()
        .with(
            Key::Namespace("ai".into()),
            json!({"metadata": {"name": "ai", "uid": "ns-uid", "labels": labels}}),
        )
        .with(Key::Class("other".into()), other)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

async fn decide(lookup: impl Lookup, policies: Arc<Scripted>, webhook: Webhook, review: &Review) -> Decision {
    Admission::new(Arc::new(lookup), policies, "ringfence", Arc::default())
        .admit(webhook, review, soon())
        .await
}

async fn admit(lookup: impl Lookup, review: &Review) -> Decision {
    decide(lookup, Arc::default(), Webhook::Fence, review).await
}

fn by_scheduler() -> Review {
    let mut review = review("CREATE", "", "Pod", Some(&pod()), None);
    review.user.username = SCHEDULER.into();
    review.user.uid = "scheduler-uid".into();
    review.user.extra.insert(
        "authentication.kubernetes.io/credential-id".into(),
        vec!["JTI=1".into()],
    );
    review
}

#[tokio::test]
async fn a_pod_that_fits_passes_and_policies_see_all_of_it() {
    let policies = Arc::<Scripted>::default();
    let review = by_scheduler();
    let decision = decide(cluster(), Arc::clone(&policies), Webhook::Fence, &review).await;
    assert_eq!(decision, Decision::default());
    let facts = facts();
    let expected = json!({
        "target": "Pod", "path": "", "pod": pod(), "workflow": facts.workflow, "class": facts.classes["default"],
        "namespace": facts.namespace, "request": review.request,
    });
    assert_eq!(*policies.seen.lock().unwrap(), [expected]);
}

/// What explains a line later judges by what it holds: all that the policies saw, and nothing where nobody asked for it.
#[rstest]
#[case::pod(Webhook::Fence, review("CREATE", "", "Pod", Some(&pod()), None), Some(json!("")), json!("triage"))]
#[case::job(Webhook::Fence, review("CREATE", "batch", "Job", Some(&workload("j")), None), Some(json!("spec.template")), json!("triage"))]
#[case::namespace(Webhook::Modes, review("CREATE", "", "Namespace", facts().namespace.as_ref(), None), None, Value::Null)]
#[tokio::test]
async fn what_was_seen_is_kept_for_the_line_on_request(
    #[case] webhook: Webhook,
    #[case] review: Review,
    #[case] path: Option<Value>,
    #[case] workflow: Value,
) {
    let admission = |input| {
        let policies = Arc::<Scripted>::default();
        Admission::new(Arc::new(cluster()), policies, "ringfence", Arc::default()).recording(input)
    };
    let none = admission(DecisionInput::None).admit(webhook, &review, soon()).await;
    assert_eq!(none.seen, None);
    let masked = admission(DecisionInput::Masked).admit(webhook, &review, soon()).await;
    let Recorded::Input(input) = Recorded::of(&review, masked.seen.as_ref()) else {
        panic!("it fits")
    };
    let input: Value = serde_json::from_str(&input).unwrap();
    assert_eq!(input["facts"].get("podPath"), path.as_ref());
    assert_eq!(
        input["facts"]["modes"],
        json!([{"mode": "Enforce", "class": "default"}])
    );
    let class = &input["facts"]["classes"][0];
    assert_eq!(
        (&class["name"], &class["class"]["metadata"]["name"]),
        (&json!("default"), &json!("default"))
    );
    assert_eq!(input["facts"]["workflow"]["metadata"]["name"], workflow);
    assert_eq!(class["engine"].is_object(), path.is_some());
    assert_eq!(input["request"]["object"]["metadata"]["name"], review.name());
}

#[tokio::test]
async fn a_template_is_judged_where_it_sits() {
    let policies = Arc::<Scripted>::default();
    let review = review("CREATE", "batch", "Job", Some(&workload("j")), None);
    let decision = decide(cluster(), Arc::clone(&policies), Webhook::Fence, &review).await;
    assert_eq!(decision, Decision::default());
    assert_eq!(policies.seen.lock().unwrap()[0]["path"], "spec.template");
}

#[rstest]
#[case::namespace(Key::Namespace("ai".into()))]
#[case::workflow(Key::Workflow(named("ai", "triage")))]
#[case::default_deny(Key::DefaultDeny("ai".into()))]
#[case::account(Key::Account(named("ai", "triage")))]
#[case::launcher(Key::Account(named("airflow", "scheduler")))]
#[case::class(Key::Class("default".into()))]
#[tokio::test]
async fn each_fact_is_asked_for_and_needed(#[case] key: Key) {
    let failed = admit(cluster().failing(key.clone()), &by_scheduler()).await;
    let fault = failed.fault.clone().unwrap();
    assert_eq!(fault.cause, FaultCause::Unavailable);
    assert!(
        fault.message.contains(&key.to_string()) && !failed.allowed(),
        "{fault:?}"
    );
    let absent = admit(cluster().without(&key), &by_scheduler()).await;
    assert!(
        absent.fault.is_none() && !absent.denials.is_empty(),
        "absent is an answer: {absent:?}"
    );
}

#[tokio::test]
async fn an_owner_is_asked_for_and_so_is_the_one_above_it() {
    let top = owner("apps/v1", "Deployment", "d", Some(workload("d")));
    let set_of_it = set(
        workload("r"),
        "/metadata/ownerReferences",
        json!([owner_reference(&top)]),
    );
    let middle = owner("apps/v1", "ReplicaSet", "r", Some(set_of_it.clone()));
    let made = set(pod(), "/metadata/ownerReferences", json!([owner_reference(&middle)]));
    let mut review = review("CREATE", "", "Pod", Some(&made), None);
    review.user.username = "system:kube-controller-manager".into();
    let (middle, top) = (
        Key::Owner("ai".into(), middle.reference),
        Key::Owner("ai".into(), top.reference),
    );
    let whole = cluster()
        .with(middle.clone(), set_of_it)
        .with(top.clone(), workload("d"));
    assert_eq!(admit(whole.clone(), &review).await, Decision::default());
    for key in [middle, top] {
        assert_eq!(
            admit(whole.clone().without(&key), &review).await.denials.len(),
            1,
            "{key}"
        );
        assert!(admit(whole.clone().failing(key), &review).await.fault.is_some());
    }
}

/// Answers only once all five questions about a pod are in flight.
struct Together {
    fixed: Fixed,
    barrier: Barrier,
}

impl Lookup for Together {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Value>, LookupError>> {
        async move {
            if !matches!(key, Key::Class(_)) {
                self.barrier.wait().await;
            }
            self.fixed.get(key).await
        }
        .boxed()
    }
}

#[tokio::test]
async fn facts_are_asked_for_in_parallel() {
    let lookup = Together {
        fixed: cluster(),
        barrier: Barrier::new(5),
    };
    assert_eq!(admit(lookup, &by_scheduler()).await, Decision::default());
}

/// The workflow of `cluster`, stored as its third generation, with that record of the review.
fn stored_workflow(reviewed: Value) -> Value {
    let workflow = set(facts().workflow.unwrap(), "/metadata/generation", json!(3));
    let workflow = set(workflow, "/metadata/creationTimestamp", json!("2026-01-02T00:00:00Z"));
    set(workflow, "/status", json!({"reviewed": reviewed}))
}

fn registration() -> Value {
    let metadata = json!({"uid": "registration-uid", "creationTimestamp": "2026-01-01T00:00:00Z"});
    let rule = json!({"operations": ["*"], "apiGroups": ["ringfence.dev"], "apiVersions": ["*"], "resources": ["*"]});
    let kinds =
        json!({"name": "kinds.ringfence.dev", "failurePolicy": "Fail", "matchPolicy": "Equivalent", "rules": [rule]});
    json!({"metadata": metadata, "webhooks": [kinds]})
}

#[rstest]
#[case::on_record(json!({"generation": 3, "registrationUID": "former"}), true)]
#[case::edited_under_the_same_registration(json!({"generation": 2, "registrationUID": "registration-uid"}), true)]
#[case::younger_than_the_registration(json!(null), true)]
#[case::edited_while_it_was_away(json!({"generation": 2, "registrationUID": "former"}), false)]
#[tokio::test]
async fn what_nobody_reviewed_launches_nothing(#[case] reviewed: Value, #[case] expected: bool) {
    let on_record = reviewed["generation"] == 3;
    let known = cluster().with(Key::Workflow(named("ai", "triage")), stored_workflow(reviewed));
    let pod = review("CREATE", "", "Pod", Some(&pod()), None);
    let job = review("CREATE", "batch", "Job", Some(&workload("j")), None);
    for review in [&pod, &job] {
        let decision = admit(known.clone().with(Key::Registration, registration()), review).await;
        assert_eq!(decision.allowed(), expected, "{decision:?}");
        let decision = admit(known.clone(), review).await;
        assert_eq!(decision.allowed(), on_record, "without a registration: {decision:?}");
        assert!(
            on_record || decision.denials[0].message.contains("NotReviewed"),
            "{decision:?}"
        );
        let decision = admit(known.clone().failing(Key::Registration), review).await;
        assert_eq!(
            decision.fault.is_some(),
            !on_record,
            "it is asked for only where the record does not tell"
        );
    }
}

#[tokio::test]
async fn what_nobody_reviewed_opens_nothing() {
    let labelled = json!({"metadata": {"name": "p", "labels": {"ringfence.dev/workflow": "triage"}}});
    let known = cluster()
        .with(Key::Pod(named("ai", "p")), labelled)
        .with(Key::Workflow(named("ai", "triage")), stored_workflow(json!(null)));
    let mut exec = review("CONNECT", "", "PodExecOptions", Some(&json!({})), None);
    exec.resource.resource = "pods".into();
    exec.subresource = "exec".into();
    exec.request["name"] = json!("p");
    let said = async |lookup: Fixed| admit(lookup, &exec).await.denials[0].message.clone();
    assert!(said(known.clone()).await.contains("NotReviewed"));
    let reviewed = said(known.with(Key::Registration, registration())).await;
    assert!(reviewed.contains("allows no debugging"), "{reviewed}");
}

#[tokio::test]
async fn an_object_of_our_own_is_judged_by_the_facts_around_it() {
    let decide_kind = async |lookup: Fixed, object: &Value| {
        let mut review = review("CREATE", "ringfence.dev", "AIWorkflow", Some(object), None);
        review.namespace = object["metadata"]["namespace"].as_str().map(str::to_owned);
        decide(lookup, Arc::default(), Webhook::Kinds, &review).await
    };
    let fine = facts().workflow.unwrap();
    assert_eq!(decide_kind(cluster(), &fine).await, Decision::default());
    let unfenced = decide_kind(with_modes(json!({})), &fine).await;
    assert!(
        unfenced.allowed() && unfenced.warnings[0].message.contains("NamespaceNotFenced"),
        "{unfenced:?}"
    );
    let invalid = set(fine.clone(), "/spec/images", json!(["UPPER"]));
    let refused = decide_kind(cluster(), &invalid).await;
    assert_eq!((refused.denials.len(), refused.warnings.len()), (1, 0), "{refused:?}");
    let exempt = set(fine.clone(), "/metadata/namespace", json!("ringfence"));
    assert_eq!(
        decide_kind(cluster(), &exempt).await.denials[0].policy,
        "exempt-namespace",
        "the release namespace"
    );
    let failed = decide_kind(cluster().failing(Key::Namespace("ai".into())), &fine).await;
    assert_eq!(failed.fault.unwrap().cause, FaultCause::Unavailable);
}

struct Silent;

impl Lookup for Silent {
    fn get<'a>(&'a self, _: &'a Key) -> BoxFuture<'a, Result<Option<Value>, LookupError>> {
        std::future::pending().boxed()
    }
}

#[rstest]
#[case::fence(Webhook::Fence, by_scheduler())]
#[case::modes(Webhook::Modes, namespace_with(json!({"ringfence.dev/enforce": "default"})))]
#[tokio::test]
async fn a_silent_api_server_costs_no_more_than_the_deadline(#[case] webhook: Webhook, #[case] review: Review) {
    let admission = Admission::new(
        Arc::new(Silent),
        Arc::new(Scripted::default()),
        "ringfence",
        Arc::default(),
    );
    let decision = admission
        .admit(webhook, &review, Instant::now() + Duration::from_millis(30))
        .await;
    assert_eq!(decision.fault.unwrap().cause, FaultCause::Timeout);
}

#[test]
fn without_time_nothing_is_judged() {
    let judge = Judge::new(Arc::new(Scripted::default()), "ringfence", Arc::default());
    let review = by_scheduler();
    let subject = Subject::of(&review).unwrap().unwrap();
    let fault = judge
        .object(&review, &subject, &facts(), &[], Instant::now())
        .unwrap_err();
    assert_eq!(fault.cause, FaultCause::Timeout);
}

#[rstest]
#[case::enforce(json!({"ringfence.dev/enforce": "default"}), &["no"], &["careful"], &[], 1)]
#[case::warn(json!({"ringfence.dev/warn": "default"}), &[], &["no", "careful"], &[], 1)]
#[case::audit(json!({"ringfence.dev/audit": "default"}), &[], &[], &["no", "careful"], 1)]
#[case::said_once(json!({"ringfence.dev/enforce": "default", "ringfence.dev/warn": "default", "ringfence.dev/audit": "default"}), &["no"], &["careful"], &[], 1)]
#[case::each_class(json!({"ringfence.dev/warn": "default", "ringfence.dev/audit": "other"}), &[], &["no", "careful"], &[], 2)]
#[tokio::test]
async fn findings_go_where_the_mode_says(
    #[case] labels: Value,
    #[case] denials: &[&str],
    #[case] warnings: &[&str],
    #[case] audits: &[&str],
    #[case] evaluations: usize,
) {
    let findings = Findings {
        deny: vec![finding("no")],
        warn: vec![finding("careful")],
        ..Findings::default()
    };
    let policies = Arc::new(Scripted {
        findings,
        ..Scripted::default()
    });
    let decision = decide(
        with_modes(labels),
        Arc::clone(&policies),
        Webhook::Label,
        &by_scheduler(),
    )
    .await;
    let messages = |violations: &[Violation]| violations.iter().map(|v| v.message.clone()).collect::<Vec<_>>();
    assert_eq!(messages(&decision.denials), denials);
    assert_eq!(messages(&decision.warnings), warnings);
    assert_eq!(messages(&decision.audits), audits);
    assert_eq!(policies.asked.load(Ordering::Relaxed), evaluations);
    assert_eq!(decision.fault, None);
}

#[tokio::test]
async fn each_mode_is_judged_by_its_own_class() {
    let narrow = json!({"metadata": {"name": "other"}, "spec": {"images": {"allowed": ["registry.example.com/**"]}}});
    let labels = json!({"ringfence.dev/enforce": "default", "ringfence.dev/audit": "other"});
    let lookup = with_modes(labels).with(Key::Class("other".into()), narrow);
    let decision = admit(lookup, &by_scheduler()).await;
    assert!(decision.allowed() && decision.warnings.is_empty(), "{decision:?}");
    assert_eq!(
        decision.audits.iter().map(|v| v.policy.as_str()).collect::<Vec<_>>(),
        ["declared-workflow", "approved-images"]
    );
}

#[rstest]
#[case::timeout(EvalError::Timeout)]
#[case::error(EvalError::Error("to_number".into()))]
#[case::panic(EvalError::Panic)]
#[case::memory(EvalError::Memory { mebibytes: 300 })]
#[case::shortage(EvalError::NoMemory)]
#[tokio::test]
async fn a_policy_without_verdict_refuses_and_is_named(#[case] error: EvalError) {
    for (labels, refuses) in [
        (json!({"ringfence.dev/enforce": "default"}), true),
        (json!({"ringfence.dev/warn": "default"}), false),
    ] {
        let policies = Arc::new(Scripted {
            error: Some(error.clone()),
            ..Scripted::default()
        });
        let decision = decide(with_modes(labels), policies, Webhook::Fence, &by_scheduler()).await;
        let said = if refuses { &decision.denials } else { &decision.warnings };
        assert_eq!(
            said.iter().map(|v| v.policy.as_str()).collect::<Vec<_>>(),
            ["scripted"],
            "{decision:?}"
        );
        assert_eq!(decision.allowed(), !refuses);
    }
}

/// The weaker of a policy's action and the namespace's mode; an error is what a refusal would be.
#[rstest]
#[case::denies(ValidationAction::Deny, "enforce", [1, 0, 0])]
#[case::warns(ValidationAction::Warn, "enforce", [0, 1, 0])]
#[case::audits(ValidationAction::Audit, "enforce", [0, 0, 1])]
#[case::denies_where_is_warned(ValidationAction::Deny, "warn", [0, 1, 0])]
#[case::audits_where_is_warned(ValidationAction::Audit, "warn", [0, 0, 1])]
#[case::warns_where_is_audited(ValidationAction::Warn, "audit", [0, 0, 1])]
#[tokio::test]
async fn a_policy_does_what_it_is_switched_to(
    #[case] action: ValidationAction,
    #[case] mode: &str,
    #[case] expected: [usize; 3],
    #[values(false, true)] errs: bool,
) {
    let findings = Findings {
        deny: vec![finding("no")],
        ..Findings::default()
    };
    let policies = Arc::new(Scripted {
        findings,
        error: errs.then_some(EvalError::Timeout),
        action: Some(action),
        ..Scripted::default()
    });
    let labels = json!({format!("ringfence.dev/{mode}"): "default"});
    let decision = decide(with_modes(labels), policies, Webhook::Fence, &by_scheduler()).await;
    let count = |list: &[Violation]| list.iter().filter(|v| v.policy == "scripted").count();
    let found = [&decision.denials, &decision.warnings, &decision.audits].map(|list| count(list));
    assert_eq!(found, expected, "{decision:?}");
}

#[tokio::test]
async fn without_a_mode_labelled_objects_are_refused_and_no_policy_is_asked() {
    let policies = Arc::<Scripted>::default();
    let decision = decide(
        with_modes(json!({})),
        Arc::clone(&policies),
        Webhook::Label,
        &by_scheduler(),
    )
    .await;
    assert_eq!(
        decision.denials.iter().map(|v| v.policy.as_str()).collect::<Vec<_>>(),
        ["approved-namespace"]
    );
    assert_eq!(policies.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_release_namespace_is_exempt_too() {
    let mut review = by_scheduler();
    review.namespace = Some("ringfence".into());
    let namespace = json!({"metadata": {"name": "ringfence", "labels": {"ringfence.dev/enforce": "default"}}});
    let decision = admit(cluster().with(Key::Namespace("ringfence".into()), namespace), &review).await;
    assert_eq!(
        decision.denials.iter().map(|v| v.policy.as_str()).collect::<Vec<_>>(),
        ["approved-namespace"]
    );
}

#[rstest]
#[case::ended(review("UPDATE", "", "Pod", Some(&unset(pod(), "/metadata/labels")), Some(&unset(pod(), "/metadata/labels"))))]
#[case::scaled(review("UPDATE", "batch", "Job", Some(&set(workload("j"), "/spec/suspend", json!(true))), Some(&workload("j"))))]
#[case::deleted(review("DELETE", "", "Pod", None, Some(&pod())))]
#[tokio::test]
async fn what_changes_nothing_that_runs_passes_with_the_api_server_away(#[case] review: Review) {
    assert_eq!(admit(Silent, &review).await, Decision::default());
}

#[tokio::test]
async fn what_cannot_be_judged_is_refused() {
    let decision = admit(
        cluster(),
        &review("CONNECT", "", "PodExecOptions", Some(&json!({})), None),
    )
    .await;
    assert_eq!(decision.fault.unwrap().cause, FaultCause::Invalid);
}

/// Adds the level that the API server enforces, so that only the rest is judged.
fn restricted(mut labels: Value) -> Value {
    labels["pod-security.kubernetes.io/enforce"] = json!("restricted");
    labels
}

fn namespace_with(labels: Value) -> Review {
    review(
        "CREATE",
        "",
        "Namespace",
        Some(&json!({"metadata": {"name": "ai", "labels": labels}})),
        None,
    )
}

#[tokio::test]
async fn a_mode_needs_a_class_that_is_there() {
    let decide = |lookup: Fixed, labels: Value| async move {
        let review = namespace_with(labels);
        decide(lookup, Arc::default(), Webhook::Modes, &review).await
    };
    assert_eq!(
        decide(cluster(), restricted(json!({"ringfence.dev/enforce": "default"}))).await,
        Decision::default()
    );
    for label in ["ringfence.dev/enforce", "ringfence.dev/warn", "ringfence.dev/audit"] {
        let mut labels = json!({});
        labels[label] = json!("absent");
        assert_eq!(
            decide(cluster(), labels).await.denials.len(),
            1,
            "whatever the mode: {label}"
        );
    }
    let failing = cluster().failing(Key::Class("default".into()));
    assert_eq!(
        decide(failing, json!({"ringfence.dev/audit": "default"}))
            .await
            .fault
            .unwrap()
            .cause,
        FaultCause::Unavailable
    );
}

#[rstest]
#[case::enforce("ringfence.dev/enforce", 1, 0, 0)]
#[case::warn("ringfence.dev/warn", 0, 1, 0)]
#[case::audit("ringfence.dev/audit", 0, 0, 1)]
#[tokio::test]
async fn policies_judge_a_namespace_by_the_mode_that_is_set(
    #[case] label: &str,
    #[case] denials: usize,
    #[case] warnings: usize,
    #[case] audits: usize,
) {
    let findings = Findings {
        deny: vec![finding("no owner")],
        ..Findings::default()
    };
    let policies = Arc::new(Scripted {
        findings,
        ..Scripted::default()
    });
    let mut labels = json!({});
    labels[label] = json!("default");
    let review = namespace_with(restricted(labels));
    let decision = decide(cluster(), Arc::clone(&policies), Webhook::Modes, &review).await;
    assert_eq!(
        (decision.denials.len(), decision.warnings.len(), decision.audits.len()),
        (denials, warnings, audits)
    );
    let seen = policies.seen.lock().unwrap();
    assert_eq!(
        (&seen[0]["target"], &seen[0]["namespace"]),
        (&json!("Namespace"), review.object().unwrap())
    );
}

/// The standard is weighed by the mode too, and told once where a policy asks for the same label.
#[rstest]
#[case::enforce("ringfence.dev/enforce", [2, 0, 0])]
#[case::warn("ringfence.dev/warn", [0, 2, 0])]
#[case::audit("ringfence.dev/audit", [0, 0, 2])]
#[tokio::test]
async fn a_mode_asks_for_the_standard_that_the_api_server_enforces(#[case] label: &str, #[case] told: [usize; 3]) {
    let mut of_that_label = finding("no level");
    of_that_label.path = "metadata.labels[pod-security.kubernetes.io/enforce]".into();
    let findings = Findings {
        deny: vec![finding("no owner"), of_that_label],
        ..Findings::default()
    };
    let policies = Arc::new(Scripted {
        findings,
        ..Scripted::default()
    });
    let mut labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    labels[label] = json!("default");
    let decision = decide(cluster(), policies, Webhook::Modes, &namespace_with(labels)).await;
    let lists = [&decision.denials, &decision.warnings, &decision.audits];
    assert_eq!(lists.map(Vec::len), told);
    let all: Vec<_> = lists
        .into_iter()
        .flatten()
        .map(|violation| violation.policy.as_str())
        .collect();
    assert_eq!(all, ["pod-security", "scripted"]);
}

#[tokio::test]
async fn an_exempt_namespace_takes_no_mode() {
    for name in ["ringfence", "kube-system"] {
        let object = json!({"metadata": {"name": name, "labels": {"ringfence.dev/audit": "default"}}});
        let review = review("CREATE", "", "Namespace", Some(&object), None);
        let decision = decide(cluster(), Arc::default(), Webhook::Modes, &review).await;
        assert_eq!(decision.denials.len(), 1, "{name}");
    }
}

#[rstest]
#[case::refusals(vec![finding("no")], 2, 0)]
#[case::warnings_only(vec![], 0, 2)]
#[tokio::test]
async fn findings_that_were_cut_off_are_said_to_be(
    #[case] deny: Vec<Violation>,
    #[case] denials: usize,
    #[case] warnings: usize,
) {
    let warn = if deny.is_empty() {
        vec![finding("careful")]
    } else {
        vec![]
    };
    let policies = Arc::new(Scripted {
        findings: Findings { deny, warn, omitted: 7 },
        ..Scripted::default()
    });
    let decision = decide(cluster(), policies, Webhook::Fence, &by_scheduler()).await;
    assert_eq!(
        (decision.denials.len(), decision.warnings.len()),
        (denials, warnings),
        "{decision:?}"
    );
    assert!(
        decision
            .denials
            .iter()
            .chain(&decision.warnings)
            .any(|v| v.message.contains("7 things more"))
    );
}

#[rstest]
#[case::enforce(json!({"ringfence.dev/enforce": "default"}), false, Some("deny"))]
#[case::warn(json!({"ringfence.dev/warn": "default"}), false, Some("warn"))]
#[case::audit(json!({"ringfence.dev/audit": "default"}), false, Some("audit"))]
#[case::dry_run(json!({"ringfence.dev/enforce": "default"}), true, None)]
#[tokio::test]
async fn policies_are_counted_by_what_they_did(
    #[case] labels: Value,
    #[case] dry_run: bool,
    #[case] action: Option<&str>,
) {
    let metrics = Arc::<Metrics>::default();
    let findings = Findings {
        deny: vec![finding("no")],
        ..Findings::default()
    };
    let policies = Arc::new(Scripted {
        findings,
        ..Scripted::default()
    });
    let admission = Admission::new(
        Arc::new(with_modes(labels)),
        policies,
        "ringfence",
        Arc::clone(&metrics),
    );
    let mut review = by_scheduler();
    review.dry_run = dry_run;
    let decision = admission.admit(Webhook::Fence, &review, soon()).await;
    assert_eq!(decision.fault, None);
    let text = metrics.encode().unwrap();
    let counted: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("ringfence_policy_decisions_total{"))
        .collect();
    let expected =
        action.map(|action| format!(r#"ringfence_policy_decisions_total{{policy="scripted",action="{action}"}} 1"#));
    assert_eq!(counted, expected.iter().map(String::as_str).collect::<Vec<_>>());
}

/// The cluster whose class opens exceptions, with this list of them, and policies that refuse.
fn with_exceptions(items: &Value) -> (Fixed, Arc<Scripted>) {
    let mut class = facts().classes["default"].clone().unwrap();
    class["spec"]["exceptions"] = json!({"namespaces": ["ai"], "maxDays": 2});
    let lookup = cluster()
        .with(Key::Class("default".into()), class)
        .with(Key::Exceptions("ai".into()), json!({"metadata": {}, "items": items}));
    let findings = Findings {
        deny: vec![finding("no")],
        ..Findings::default()
    };
    let policies = Arc::new(Scripted {
        findings,
        ..Scripted::default()
    });
    (lookup, policies)
}

fn exception_for(name: &str) -> Value {
    let (made, end) = (Timestamp::now(), Timestamp::now() + Duration::from_secs(3600));
    json!({
        "metadata": {"name": "one", "namespace": "ai", "creationTimestamp": made.to_string()},
        "spec": {"policies": ["scripted"], "names": [name], "reason": "x", "expiresAt": end.to_string()},
    })
}

#[rstest]
#[case::enforce(json!({"ringfence.dev/enforce": "default"}), 1, 0)]
#[case::warn(json!({"ringfence.dev/warn": "default"}), 1, 0)]
#[case::audit(json!({"ringfence.dev/audit": "default"}), 0, 1)]
#[case::each_class_by_itself(json!({"ringfence.dev/enforce": "default", "ringfence.dev/audit": "other"}), 1, 1)]
#[tokio::test]
async fn what_an_exception_excuses_passes_and_is_told(
    #[case] labels: Value,
    #[case] warnings: usize,
    #[case] audits: usize,
) {
    let (lookup, policies) = with_exceptions(&json!([exception_for("p")]));
    let namespace = json!({"metadata": {"name": "ai", "uid": "ns-uid", "labels": restricted(labels)}});
    let other = json!({"metadata": {"name": "other"}, "spec": {"images": {"allowed": ["docker.io/**"]}}});
    let lookup = lookup
        .with(Key::Namespace("ai".into()), namespace)
        .with(Key::Class("other".into()), other);
    let decision = decide(lookup, policies, Webhook::Fence, &by_scheduler()).await;
    assert!(decision.allowed(), "{decision:?}");
    assert_eq!(
        (decision.warnings.len(), decision.audits.len()),
        (warnings, audits),
        "{decision:?}"
    );
    let told = decision.warnings.iter().chain(&decision.audits).next().unwrap();
    assert!(
        told.message.starts_with("excused by RegoPolicyException ai/one until "),
        "{told:?}"
    );
    let used = Excuse {
        exception: "one".into(),
        policy: "scripted".into(),
    };
    assert_eq!(decision.used(), [used]);
}

#[tokio::test]
async fn a_rule_of_the_fence_is_never_excused() {
    let (lookup, policies) = with_exceptions(&json!([exception_for("p")]));
    let mut review = by_scheduler();
    review.user.username = "ann's brother".into();
    let decision = decide(lookup, policies, Webhook::Fence, &review).await;
    assert_eq!(
        decision.denials.iter().map(|v| v.policy.as_str()).collect::<Vec<_>>(),
        ["launcher"]
    );
    assert!(decision.used().is_empty(), "it did not pass by it");
}

#[tokio::test]
async fn a_policy_without_verdict_is_never_excused() {
    let (lookup, _) = with_exceptions(&json!([exception_for("p")]));
    let policies = Arc::new(Scripted {
        error: Some(EvalError::Timeout),
        ..Scripted::default()
    });
    let decision = decide(lookup, policies, Webhook::Fence, &by_scheduler()).await;
    assert_eq!(decision.denials.len(), 1, "{decision:?}");
}

#[tokio::test]
async fn exceptions_are_asked_for_where_the_class_opens_them_and_needed_there() {
    let (lookup, policies) = with_exceptions(&json!([]));
    let failing = lookup.failing(Key::Exceptions("ai".into()));
    let decision = decide(failing.clone(), Arc::clone(&policies), Webhook::Fence, &by_scheduler()).await;
    let fault = decision.fault.unwrap();
    assert!(
        fault.message.contains("RegoPolicyExceptions of namespace ai"),
        "{fault:?}"
    );

    for exceptions in [json!(null), json!({"namespaces": ["elsewhere"], "maxDays": 2})] {
        let mut class = facts().classes["default"].clone().unwrap();
        class["spec"]["exceptions"] = exceptions;
        let closed = failing.clone().with(Key::Class("default".into()), class);
        let decision = decide(closed, Arc::clone(&policies), Webhook::Fence, &by_scheduler()).await;
        assert_eq!(
            (decision.denials.len(), decision.fault),
            (1, None),
            "refused, and nothing was asked"
        );
    }
}

/// A Job's pod has no name that anybody knows beforehand; whoever changes it later is no controller.
#[rstest]
#[case::made(false)]
#[case::changed(true)]
#[tokio::test]
async fn what_controllers_make_is_excused_with_what_they_make_it_of(#[case] changed: bool) {
    let job = owner("batch/v1", "Job", "j", Some(workload("j")));
    let made = set(pod(), "/metadata/ownerReferences", json!([owner_reference(&job)]));
    let review = if changed {
        // Not its labels: for these its owner is asked for, whoever excuses it.
        let new = set(made.clone(), "/spec/activeDeadlineSeconds", json!(9));
        review("UPDATE", "", "Pod", Some(&new), Some(&made))
    } else {
        let mut review = review("CREATE", "", "Pod", Some(&made), None);
        review.user.username = "system:kube-controller-manager".into();
        review
    };
    let key = Key::Owner("ai".into(), job.reference);
    let (lookup, policies) = with_exceptions(&json!([exception_for("w")]));
    let lookup = lookup.with(key.clone(), workload("j"));
    let excused = |lookup: Fixed| decide(lookup, Arc::clone(&policies), Webhook::Fence, &review);
    assert!(excused(lookup.clone()).await.allowed());
    // Another Job of that name, one that is gone, and one that cannot be read: nobody's excuse.
    assert!(!excused(lookup.clone().with(key.clone(), workload("k"))).await.allowed());
    assert!(!excused(lookup.clone().without(&key)).await.allowed());
    let unread = excused(lookup.failing(key)).await;
    assert!(!unread.allowed() && unread.fault.is_none() == changed, "{unread:?}");
}

/// A pod of the Job, which ran that image.
fn ran(image: &str) -> Value {
    let job = owner("batch/v1", "Job", "j", Some(workload("j")));
    let owned = set(pod(), "/metadata/ownerReferences", json!([owner_reference(&job)]));
    set(owned, "/spec/containers/0/image", json!(image))
}

/// An owner is a word that whoever makes an object writes into it.
#[rstest]
#[case::a_pod(owner("batch/v1", "Job", "j", Some(workload("j"))), "ann", None, false)]
#[case::a_pod_that_gets_one(owner("batch/v1", "Job", "j", Some(workload("j"))), "ann", Some(pod()), false)]
#[case::a_pod_that_runs_something_else(
    owner("batch/v1", "Job", "j", Some(workload("j"))),
    "ann",
    Some(ran("registry.example.com/other")),
    false
)]
#[case::by_its_controller(
    owner("batch/v1", "Job", "j", Some(workload("j"))),
    "system:kube-controller-manager",
    None,
    true
)]
#[case::of_what_makes_no_pods(
    owner("batch/v1", "CronJob", "j", Some(workload("j"))),
    "system:kube-controller-manager",
    None,
    false
)]
#[case::of_what_runs_nothing(owner("v1", "ConfigMap", "j", Some(workload("j"))), "ann", None, false)]
#[case::of_an_operators(owner("ray.io/v1", "RayCluster", "j", Some(workload("j"))), "ann", None, true)]
#[tokio::test]
async fn what_says_that_it_belongs_to_something_excused_is_not_excused_with_it(
    #[case] owner: Owner,
    #[case] user: &str,
    #[case] old: Option<Value>,
    #[case] excused: bool,
) {
    let made = set(pod(), "/metadata/ownerReferences", json!([owner_reference(&owner)]));
    let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
    let mut review = review(operation, "", "Pod", Some(&made), old.as_ref());
    review.user.username = user.into();
    let (lookup, policies) = with_exceptions(&json!([exception_for("w")]));
    let lookup = lookup.with(Key::Owner("ai".into(), owner.reference), owner.found.unwrap());
    let decision = decide(lookup, policies, Webhook::Fence, &review).await;
    let refusing: Vec<_> = decision.policies().into_iter().map(str::to_owned).collect();
    assert_eq!(!decision.excused.is_empty(), excused, "{refusing:?} {decision:?}");
}

#[tokio::test]
async fn nothing_excuses_a_namespace() {
    let (lookup, policies) = with_exceptions(&json!([exception_for("ai")]));
    let review = namespace_with(restricted(json!({"ringfence.dev/enforce": "default"})));
    let decision = decide(lookup, policies, Webhook::Modes, &review).await;
    assert_eq!(decision.denials.len(), 1, "{decision:?}");
}
