mod standing;

use std::sync::Mutex;

use rstest::rstest;
use serde_json::json;

use super::super::judge::of_policy;
use super::super::lookup::{Fixed, Key};
use super::super::{Admit, Policies, Pool, Webhook};
use super::*;
use crate::fence::testing::{facts, pod, review, set};
use crate::policy::{EvalError, Findings, PolicySet, Registered};
use crate::telemetry::Metrics;

/// RegoPolicies without a cluster.
struct Served {
    snapshot: Arc<Snapshot>,
    is_newest: bool,
    wrong: Vec<LoadError>,
    vetted: Mutex<Vec<Declared>>,
}

impl RegoPolicies for Served {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    fn at_version<'a>(&'a self, _: EntryId, _: &'a str, _: Instant) -> BoxFuture<'a, Option<Arc<Snapshot>>> {
        Box::pin(std::future::ready(self.is_newest.then(|| Arc::clone(&self.snapshot))))
    }

    fn inventory(&self, kinds: &[InventoryKind], _: &str) -> Result<regorus::Value, String> {
        Err(format!("{} is not synced", kinds[0].kind))
    }

    fn vet(&self, object: Declared, _: Instant) -> BoxFuture<'_, Result<(), Vec<LoadError>>> {
        self.vetted.lock().unwrap().push(object);
        let vetted = if self.wrong.is_empty() {
            Ok(())
        } else {
            Err(self.wrong.clone())
        };
        Box::pin(std::future::ready(vetted))
    }
}

/// A shipped policy that refuses or not.
struct Shipped(bool);

impl Policies for Shipped {
    fn evaluate(&self, _: &PolicyInput<'_>, _: Duration) -> Vec<Verdict> {
        let deny = self.0.then(|| of_policy("shipped", "is refused".to_owned(), ""));
        vec![Verdict {
            policy: "shipped".to_owned(),
            outcome: Ok(Findings {
                deny: deny.into_iter().collect(),
                ..Findings::default()
            }),
            duration: Duration::ZERO,
        }]
    }

    fn action(&self, _: &str) -> ValidationAction {
        ValidationAction::Deny
    }

    fn revision(&self) -> &str {
        "r1"
    }
}

fn declared(name: &str, body: &str, patch: Value) -> Declared {
    let mut spec = json!({
        "validationActions": ["Deny"],
        "matchConstraints": {"resourceRules": [
            {"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["CREATE", "UPDATE"]},
        ]},
        "rego": {"modules": [{"name": "p.rego", "source": format!("package p\n{body}\n")}]},
    });
    for (key, value) in patch.as_object().into_iter().flatten() {
        spec[key.as_str()] = value.clone();
    }
    Declared {
        name: name.to_owned(),
        uid: name.to_owned(),
        generation: 1,
        spec: serde_json::from_value(spec).unwrap(),
    }
}

fn compiled(name: &str, body: &str, patch: Value) -> Arc<Registered> {
    Arc::new(Registered::compile(&declared(name, body, patch)).unwrap())
}

/// Refuses whatever it is asked about.
fn refusing(patch: Value) -> Arc<Registered> {
    compiled("refuses", "deny contains {\"msg\": \"no\", \"path\": \"spec\"}", patch)
}

fn cluster(labels: Value) -> Fixed {
    let facts = facts();
    let mut namespace = facts.namespace.unwrap();
    namespace["metadata"]["labels"] = labels;
    let class = facts.classes["default"].clone().unwrap();
    Fixed::default()
        .with(Key::Namespace("ai".into()), namespace)
        .with(
            Key::Workflow(Named {
                namespace: "ai".into(),
                name: "triage".into(),
            }),
            facts.workflow.unwrap(),
        )
        .with(Key::Class("default".into()), class)
}

struct Scene {
    admission: Admission,
    served: Arc<Served>,
    metrics: Arc<Metrics>,
    // Its threads end with it.
    _pool: Pool,
}

fn scene(cluster: Fixed, policies: Vec<Arc<Registered>>) -> Scene {
    scene_beside(false, cluster, policies)
}

fn scene_beside(shipped_refuses: bool, cluster: Fixed, policies: Vec<Arc<Registered>>) -> Scene {
    let served = Arc::new(Served {
        snapshot: Arc::new(Snapshot::new(policies)),
        is_newest: true,
        wrong: Vec::new(),
        vetted: Mutex::default(),
    });
    scene_of(shipped_refuses, cluster, served)
}

fn scene_of(shipped_refuses: bool, cluster: Fixed, served: Arc<Served>) -> Scene {
    let metrics = Arc::new(Metrics::new());
    let none = PolicySet::compile(Vec::new(), &Default::default()).unwrap();
    let pool = Pool::new(Arc::new(none), 4, Arc::clone(&metrics));
    let shipped = Arc::new(Shipped(shipped_refuses));
    let admission = Admission::new(Arc::new(cluster), shipped, "ringfence", Arc::clone(&metrics));
    let taken = BTreeSet::from(["taken".to_owned()]);
    Scene {
        admission: admission.with_objects(served.clone(), pool.evaluator(), taken),
        served,
        metrics,
        _pool: pool,
    }
}

impl Scene {
    /// What all webhooks of the registration that ask about it say together.
    async fn decide(&self, review: &Review) -> Decision {
        let mut decision = Decision::default();
        for (entry, version) in self.served.snapshot.entries() {
            let asked = EntryAsked::parse(&entry.id.to_string(), &version).unwrap();
            let deadline = Instant::now() + Duration::from_secs(10);
            decision.add(self.admission.admit(Webhook::Policies(asked), review, deadline).await);
        }
        decision
    }

    async fn counts(&self, line: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let text = self.metrics.encode().unwrap();
            if text.contains(line) {
                return;
            }
            assert!(Instant::now() < until, "{line} is missing in:\n{text}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn made() -> Review {
    review("CREATE", "", "Pod", Some(&pod()), None)
}

#[tokio::test]
async fn a_refusal_names_policy_field_and_fix_and_the_revision_that_decided() {
    let scene = scene(cluster(json!({})), vec![refusing(json!({"remediation": "do it"}))]);
    let decision = scene.decide(&made()).await;
    let [denial] = decision.denials.as_slice() else {
        panic!("{decision:?}")
    };
    assert_eq!((denial.policy.as_str(), denial.path.as_str()), ("refuses", "spec"));
    assert_eq!((denial.message.as_str(), denial.fix.as_str()), ("no", "do it"));
    assert_eq!(decision.revision.as_deref(), Some(scene.served.snapshot.revision()));
}

#[rstest]
#[case::denies("Deny", json!({}), Outcome::Deny)]
#[case::warns("Warn", json!({}), Outcome::Warn)]
#[case::audits("Audit", json!({}), Outcome::Allow)]
#[case::denies_under_enforce("Deny", json!({"ringfence.dev/enforce": "default"}), Outcome::Deny)]
#[case::warns_under_warn("Deny", json!({"ringfence.dev/warn": "default"}), Outcome::Warn)]
#[case::audits_under_audit("Deny", json!({"ringfence.dev/audit": "default"}), Outcome::Allow)]
#[case::the_strongest_mode_counts("Deny", json!({"ringfence.dev/warn": "default", "ringfence.dev/audit": "default"}), Outcome::Warn)]
#[case::never_more_than_its_action("Warn", json!({"ringfence.dev/enforce": "default"}), Outcome::Warn)]
#[tokio::test]
async fn the_weaker_of_action_and_mode_acts(#[case] action: &str, #[case] labels: Value, #[case] outcome: Outcome) {
    let scene = scene(cluster(labels), vec![refusing(json!({"validationActions": [action]}))]);
    assert_eq!(scene.decide(&made()).await.outcome(), outcome);
}

/// Whoever asks is not kept waiting by what cannot refuse: the API server is not even asked for facts before the answer.
#[tokio::test]
async fn what_only_audits_is_judged_behind_the_answer() {
    let gone = Fixed::default().failing(Key::Namespace("ai".into()));
    let scene = scene(gone, vec![refusing(json!({"validationActions": ["Audit"]}))]);
    assert_eq!(scene.decide(&made()).await.outcome(), Outcome::Allow);
    let scene = self::scene(
        cluster(json!({})),
        vec![refusing(json!({"validationActions": ["Audit"]}))],
    );
    assert_eq!(scene.decide(&made()).await.outcome(), Outcome::Allow);
    scene
        .counts(r#"ringfence_policy_decisions_total{policy="refuses",action="audit"} 1"#)
        .await;
}

#[tokio::test]
async fn audits_beyond_what_may_be_behind_are_counted_and_not_made() {
    let scene = scene(
        cluster(json!({})),
        vec![refusing(json!({"validationActions": ["Audit"]}))],
    );
    let objects = scene.admission.objects.as_ref().unwrap();
    let _all = objects.audits.try_acquire_many(u32::try_from(AUDITS).unwrap()).unwrap();
    scene.decide(&made()).await;
    scene.counts("ringfence_audits_skipped_total 1").await;
}

#[rstest]
#[case::fail("Fail", "Deny", Outcome::Deny)]
#[case::fail_warns("Fail", "Warn", Outcome::Warn)]
#[case::ignore("Ignore", "Deny", Outcome::Audit)]
#[tokio::test]
async fn no_verdict_is_what_the_failure_policy_says(
    #[case] failure: &str,
    #[case] action: &str,
    #[case] outcome: Outcome,
) {
    let patch = json!({"failurePolicy": failure, "validationActions": [action]});
    let failing = compiled(
        "fails",
        "deny contains \"x\" if to_number(input.request.uid) == 1",
        patch.clone(),
    );
    let broken = Arc::new(Registered::broken(
        declared("broken", "deny contains \"x\"", patch.clone()),
        "line 3",
    ));
    let shapeless = compiled("shapeless", "deny := count(input.request)", patch.clone());
    let inventory = json!([{"version": "v1", "kind": "ConfigMap", "fields": ["data"]}]);
    let mut unsynced = patch;
    unsynced["inventory"] = inventory;
    let unsynced = compiled("unsynced", "deny contains \"x\" if data.inventory.cluster", unsynced);
    for (policy, why) in [
        (failing, "could not parse string as number"),
        (broken, "the policy cannot be used: see the condition Compiled"),
        (shapeless, "neither a finding nor a collection"),
        (unsynced, "ConfigMap is not synced"),
    ] {
        let name = policy.name().to_owned();
        let good = compiled("good", "deny contains \"x\" if false", json!({}));
        let decision = scene(cluster(json!({})), vec![policy, good]).decide(&made()).await;
        // A tenant can bring this one about, so somebody hears of it.
        let outcome = match outcome {
            Outcome::Audit if name == "unsynced" => Outcome::Warn,
            outcome => outcome,
        };
        assert_eq!(decision.outcome(), outcome, "{name}: {decision:?}");
        let told = [&decision.denials, &decision.warnings, &decision.audits]
            .into_iter()
            .flatten();
        let told: Vec<_> = told.collect();
        assert!(
            told.len() == 1 && told[0].policy == name && told[0].message.contains(why),
            "{told:?}"
        );
    }
}

#[rstest]
#[case::only_its_own_matches(json!({"matchConstraints": {"resourceRules": [
    {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]},
]}}))]
#[case::only_selected_namespaces(json!({"matchConstraints": {
    "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
    "namespaceSelector": {"matchLabels": {"tier": "gold"}},
}}))]
#[tokio::test]
async fn a_broken_policy_answers_where_it_matches_and_nowhere_else(#[case] patch: Value) {
    let broken = Arc::new(Registered::broken(
        declared("broken", "deny contains \"x\"", patch),
        "line 3",
    ));
    let decision = scene(cluster(json!({"tier": "tin"})), vec![broken])
        .decide(&made())
        .await;
    assert_eq!(decision.outcome(), Outcome::Allow, "{decision:?}");
}

#[tokio::test]
async fn a_replica_that_is_behind_does_not_decide() {
    let served = Arc::new(Served {
        snapshot: Arc::new(Snapshot::new(vec![refusing(json!({}))])),
        is_newest: false,
        wrong: Vec::new(),
        vetted: Mutex::default(),
    });
    let decision = scene_of(false, cluster(json!({})), served).decide(&made()).await;
    assert_eq!(decision.fault.map(|fault| fault.cause), Some(FaultCause::Unavailable));
}

#[rstest]
#[case::namespace_gone(Fixed::default())]
#[case::namespace_unreadable(cluster(json!({})).failing(Key::Namespace("ai".into())))]
#[case::class_unreadable(cluster(json!({"ringfence.dev/enforce": "default"})).failing(Key::Class("default".into())))]
#[tokio::test]
async fn a_fact_that_is_missing_is_a_fault(#[case] cluster: Fixed) {
    let decision = scene(cluster, vec![refusing(json!({}))]).decide(&made()).await;
    assert_eq!(decision.outcome(), Outcome::Fault);
}

/// Whoever asks names the workflow, and may have written it: a fault that says so lets nobody pass.
#[rstest]
#[case::too_large(FaultCause::TooLarge)]
#[case::no_room(FaultCause::Crowded)]
#[case::away(FaultCause::Unavailable)]
#[tokio::test]
async fn why_a_fact_is_missing_is_told(#[case] cause: FaultCause) {
    let workflow = Named {
        namespace: "ai".into(),
        name: "triage".into(),
    };
    let lookup = cluster(json!({})).failing_by(Key::Workflow(workflow), cause);
    let decision = scene(lookup, vec![refusing(json!({}))]).decide(&made()).await;
    assert_eq!(decision.fault.map(|fault| fault.cause), Some(cause));
}

/// What keeps a policy from being asked, earlier requests of the same namespace brought about.
#[rstest]
#[case::does_not_end(EvalError::Unended, "Deny", Outcome::Deny)]
#[case::no_thread(EvalError::NoThread, "Deny", Outcome::Deny)]
#[case::warns(EvalError::NoThread, "Warn", Outcome::Warn)]
#[case::its_own_time(EvalError::Timeout, "Deny", Outcome::Audit)]
fn who_keeps_a_policy_busy_passes_it_with_ignore_neither(
    #[case] error: EvalError,
    #[case] action: &str,
    #[case] outcome: Outcome,
) {
    let patch = json!({"failurePolicy": "Ignore", "validationActions": [action]});
    let (snapshot, review) = (Snapshot::new(vec![refusing(patch)]), made());
    let matches = snapshot.matching(None, &occasion(&review));
    let verdict = Verdict {
        policy: "refuses".into(),
        outcome: Err(error),
        duration: Duration::ZERO,
    };
    let mut decision = Decision::default();
    add(&mut decision, &matches[0], matches[0].action(), verdict);
    assert_eq!(decision.outcome(), outcome, "{decision:?}");
}

#[tokio::test]
async fn policies_see_request_pod_workflow_class_and_namespace() {
    let body = "deny contains sprintf(\"%s %s %s %s %s\", [input.review.uid, input.pod.metadata.labels[\"ringfence.dev/workflow\"], \
                input.workflow.metadata.name, input.class.metadata.name, input.namespace.metadata.name])";
    let policy = compiled("sees", body, json!({}));
    let decision = scene(cluster(json!({"ringfence.dev/enforce": "default"})), vec![policy])
        .decide(&made())
        .await;
    assert_eq!(decision.denials[0].message, "u-1 triage triage default ai");
}

#[rstest]
#[case::of_the_system(|review: &mut Review| review.namespace = Some("kube-system".into()))]
#[case::of_the_release(|review: &mut Review| review.namespace = Some("ringfence".into()))]
#[case::a_lease(|review: &mut Review| review.resource = gvr("coordination.k8s.io", "leases"))]
#[case::who_asks(|review: &mut Review| review.resource = gvr("authentication.k8s.io", "tokenreviews"))]
#[case::a_policy(|review: &mut Review| review.resource = gvr("ringfence.dev", "regopolicies"))]
#[tokio::test]
async fn nobody_is_asked_about_what_must_go_on(#[case] change: fn(&mut Review)) {
    let mut review = made();
    change(&mut review);
    let decision = scene(cluster(json!({})), vec![refusing(json!({}))])
        .decide(&review)
        .await;
    assert_eq!(decision.outcome(), Outcome::Allow);
}

fn gvr(group: &str, resource: &str) -> crate::review::Gvr {
    crate::review::Gvr {
        group: group.into(),
        version: "v1".into(),
        resource: resource.into(),
    }
}

#[tokio::test]
async fn what_only_ends_an_object_is_not_asked_about() {
    let old = set(pod(), "/metadata/finalizers", json!(["x"]));
    let scene = scene(cluster(json!({})), vec![refusing(json!({}))]);
    let ended = review("UPDATE", "", "Pod", Some(&pod()), Some(&old));
    assert_eq!(scene.decide(&ended).await.outcome(), Outcome::Allow);
    let status = set(pod(), "/status", json!({"stored": "x"}));
    let status = review("UPDATE", "", "Pod", Some(&status), Some(&old));
    assert_eq!(
        scene.decide(&status).await.outcome(),
        Outcome::Deny,
        "a status may be what a policy is about"
    );
    let changed = set(pod(), "/metadata/labels/a", json!("b"));
    let changed = review("UPDATE", "", "Pod", Some(&changed), Some(&old));
    assert_eq!(scene.decide(&changed).await.outcome(), Outcome::Deny);
}

/// An exception of a day for pods of that label.
fn exception_of(name: &str, policies: Value) -> Value {
    let ends = Timestamp::now() + jiff::SignedDuration::from_hours(24);
    json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicyException",
        "metadata": {"name": name, "namespace": "ai", "uid": name, "creationTimestamp": Timestamp::now().to_string()},
        "spec": {
            "policies": policies, "reason": "r", "expiresAt": ends.to_string(),
            "objectSelector": {"matchLabels": {"ringfence.dev/workflow": "triage"}},
        },
    })
}

/// The same in a class that opens them.
fn excepting(policies: Value) -> Fixed {
    let mut class = facts().classes["default"].clone().unwrap();
    class["spec"]["exceptions"] = json!({"namespaces": ["ai"], "maxDays": 3650});
    cluster(json!({"ringfence.dev/enforce": "default"}))
        .with(Key::Class("default".into()), class)
        .with(
            Key::Exceptions("ai".into()),
            json!({"metadata": {}, "items": [exception_of("x", policies)]}),
        )
}

#[rstest]
#[case::its_own(json!(["refuses"]), false, Outcome::Warn)]
#[case::another(json!(["shipped"]), false, Outcome::Deny)]
#[case::not_what_the_other_registration_refuses(json!(["refuses"]), true, Outcome::Deny)]
#[case::all_that_refuses(json!(["refuses", "shipped"]), true, Outcome::Warn)]
#[tokio::test]
async fn an_exception_covers_what_both_registrations_refuse_or_nothing(
    #[case] policies: Value,
    #[case] shipped: bool,
    #[case] outcome: Outcome,
) {
    let scene = scene_beside(shipped, excepting(policies), vec![refusing(json!({}))]);
    let decision = scene.decide(&made()).await;
    assert_eq!(decision.outcome(), outcome, "{decision:?}");
    // And the same seen from the other registration.
    let deadline = Instant::now() + Duration::from_secs(10);
    let fence = scene.admission.admit(Webhook::Fence, &made(), deadline).await;
    let by_shipped = fence.denials.iter().any(|denial| denial.policy == "shipped");
    assert_eq!(by_shipped, shipped && outcome == Outcome::Deny, "{fence:?}");
}

/// What only warns, or cannot judge and may not, is not what an exception is for.
#[tokio::test]
async fn what_does_not_refuse_keeps_no_exception_from_covering_what_does() {
    let warning = compiled(
        "warns",
        "deny contains \"careful\"",
        json!({"validationActions": ["Warn"]}),
    );
    let lax = json!({"failurePolicy": "Ignore"});
    let failing = compiled("fails", "deny contains \"x\" if to_number(input.request.uid) == 1", lax);
    let scene = scene(
        excepting(json!(["refuses"])),
        vec![refusing(json!({})), warning, failing],
    );
    let decision = scene.decide(&made()).await;
    assert_eq!(decision.outcome(), Outcome::Warn, "{decision:?}");
    let warned: Vec<_> = decision
        .warnings
        .iter()
        .map(|warning| warning.policy.as_str())
        .collect();
    assert_eq!((warned, decision.excused.len()), (vec!["refuses", "warns"], 1));
}

/// They are asked by two webhooks of one registration, because their rules name other groups.
#[rstest]
#[case::one_of_them(json!(["refuses"]), Outcome::Deny)]
#[case::both(json!(["refuses", "elsewhere"]), Outcome::Warn)]
#[tokio::test]
async fn exceptions_of_two_webhooks_do_not_add_up(#[case] policies: Value, #[case] outcome: Outcome) {
    let constraints = json!({"matchConstraints": {"resourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]},
    ]}});
    let elsewhere = compiled("elsewhere", "deny contains \"no\"", constraints);
    let mut cluster = excepting(policies);
    let list = json!({"metadata": {}, "items": [
        exception_of("x", json!(["refuses"])), exception_of("y", json!(["elsewhere"])),
    ]});
    if outcome == Outcome::Deny {
        cluster = cluster.with(Key::Exceptions("ai".into()), list);
    }
    let scene = scene(cluster, vec![refusing(json!({})), elsewhere]);
    assert_eq!(scene.served.snapshot.entries().len(), 2);
    let decision = scene.decide(&made()).await;
    assert_eq!(decision.outcome(), outcome, "{decision:?}");
}

fn written(name: &str) -> Review {
    let object = declared(name, "deny contains \"x\"", json!({})).spec;
    let object = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "metadata": {"name": name, "uid": "u"},
        "spec": object,
    });
    let mut review = review("CREATE", "ringfence.dev", "RegoPolicy", Some(&object), None);
    review.namespace = None;
    review
}

#[tokio::test]
async fn a_policy_is_vetted_before_it_is_written_and_each_error_shows_its_line() {
    let served = Arc::new(Served {
        snapshot: Arc::default(),
        is_newest: true,
        wrong: vec![
            LoadError::at("p.rego", 2, Some(7), "expecting a rule"),
            LoadError::file("sample `s`", "Deny is expected, and the policy gives Allow"),
        ],
        vetted: Mutex::default(),
    });
    let scene = scene_of(false, cluster(json!({})), served);
    let deadline = Instant::now() + Duration::from_secs(10);
    let decision = scene.admission.admit(Webhook::Kinds, &written("p"), deadline).await;
    let said: Vec<_> = decision
        .denials
        .iter()
        .map(|denial| format!("{}: {}", denial.path, denial.message))
        .collect();
    assert_eq!(
        said,
        [
            "spec.rego.modules[0].source: p.rego:2:7: expecting a rule, in the line: deny contains \"x\"",
            "sample `s`: Deny is expected, and the policy gives Allow",
        ]
    );
    assert_eq!(scene.served.vetted.lock().unwrap().len(), 1);
    let mut unchanged = written("p");
    unchanged.operation = Operation::Update;
    unchanged.request["oldObject"] = unchanged.request["object"].clone();
    assert!(
        scene
            .admission
            .admit(Webhook::Kinds, &unchanged, deadline)
            .await
            .allowed()
    );
    assert_eq!(
        scene.served.vetted.lock().unwrap().len(),
        1,
        "what is not changed is not vetted"
    );
}

#[tokio::test]
async fn the_names_of_shipped_policies_are_taken() {
    let scene = scene(cluster(json!({})), Vec::new());
    let deadline = Instant::now() + Duration::from_secs(10);
    let decision = scene.admission.admit(Webhook::Kinds, &written("taken"), deadline).await;
    assert!(
        decision.denials[0].message.contains("exceptions name policies by it"),
        "{decision:?}"
    );
    assert!(
        scene
            .admission
            .admit(Webhook::Kinds, &written("free"), deadline)
            .await
            .allowed()
    );
}

#[rstest]
#[case("fail-0123456789abcdef", "0123456789ab", true)]
#[case("ignore-0123456789abcdef", "0123456789ab", true)]
#[case("fail-0123456789abcdef", "0123456789a", false)]
#[case("fail-0123456789abcdef", "0123456789aB", false)]
#[case("fail", "0123456789ab", false)]
#[case("fail-../../../admit/kinds", "0123456789ab", false)]
fn a_path_that_is_not_ours_is_none(#[case] entry: &str, #[case] version: &str, #[case] is_ours: bool) {
    let asked = EntryAsked::parse(entry, version);
    assert_eq!(asked.is_some(), is_ours);
    assert!(asked.is_none_or(|asked| asked.version() == version));
}

/// A line with this can be asked again, with and without modes.
#[rstest]
#[case::no_mode(json!({}), json!([]))]
#[case::modes(
    json!({"ringfence.dev/warn": "default", "ringfence.dev/audit": "default"}),
    json!([{"mode": "Warn", "class": "default"}, {"mode": "Audit", "class": "default"}]),
)]
#[tokio::test]
async fn what_was_seen_is_kept_for_the_line_where_it_records(#[case] labels: Value, #[case] modes: Value) {
    let scene = scene(cluster(labels), vec![refusing(json!({}))]);
    let [(entry, version)] = scene.served.snapshot.entries().try_into().unwrap();
    let asked = EntryAsked::parse(&entry.id.to_string(), &version).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let plain = scene.admission.admit(Webhook::Policies(asked), &made(), deadline).await;
    assert!(plain.seen.is_none() && scene.admission.recorded(&made(), &plain).is_none());
    let records = scene.admission.clone().recording(DecisionInput::Masked);
    let decision = records.admit(Webhook::Policies(asked), &made(), deadline).await;
    assert!(decision.outcome() != Outcome::Allow, "{decision:?}");
    let Some(Recorded::Input(input)) = records.recorded(&made(), &decision) else {
        panic!("it fits")
    };
    let input: Value = serde_json::from_str(&input).unwrap();
    let facts = &input["facts"];
    assert_eq!((&facts["target"], &facts["podPath"]), (&json!("pod"), &json!("")));
    assert_eq!(facts["namespace"]["metadata"]["name"], "ai");
    assert_eq!(facts["workflow"]["metadata"]["name"], "triage");
    assert_eq!(facts["modes"], modes);
    assert_eq!(
        facts["classes"].as_array().unwrap().len(),
        usize::from(modes != json!([]))
    );
}
