use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::super::*;
use crate::api::Mode;
use crate::fence::testing::{review, set};
use crate::policy::{Declared, PolicyInput, Question, Registered, Snapshot, Target, Verdict};
use crate::review::{Outcome, Review};

const REFUSES: &str = r#"deny contains {"msg": "no", "path": "spec", "fix": "do it"}"#;

fn declared(name: &str, body: &str, patch: &Value) -> Declared {
    let mut spec = json!({
        "description": "Nothing is good", "remediation": "Leave it", "validationActions": ["Deny"],
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

fn compiled(name: &str, body: &str, patch: Value) -> Registered {
    Registered::compile(&declared(name, body, &patch)).unwrap()
}

fn refusing(patch: Value) -> Registered {
    compiled("mine", REFUSES, patch)
}

/// A line of `policies` about that review, in a namespace with these labels.
fn line(review: &Review, labels: Value, modes: &[Mode]) -> Line<'static> {
    let namespace = json!({"metadata": {"name": "ai", "labels": labels}});
    let modes: Vec<_> = modes.iter().map(|mode| (*mode, "default".to_owned())).collect();
    let seen = Seen::of(&Shown {
        target: Target::Pod,
        pod_path: None,
        namespace: review.namespace.as_ref().map(|_| &namespace),
        workflow: None,
        modes: &modes,
        classes: &[],
    });
    let Recorded::Input(input) = Recorded::of(review, Some(&seen)) else {
        panic!("it fits")
    };
    Line {
        webhook: REGISTERED.into(),
        namespace: "ai".into(),
        operation: "CREATE".into(),
        verdict: Outcome::Deny,
        policies: "mine".into(),
        input: Some(input.into()),
        ..Line::default()
    }
}

fn explained_by(policies: Option<Vec<Registered>>, line: Line<'static>) -> Explanation {
    let mut catalogue = Catalogue::default();
    let snapshot = policies.map(|policies| {
        for policy in &policies {
            catalogue.add(policy.name(), Described::of_object(policy, "p.yaml"));
        }
        Snapshot::new(policies.into_iter().map(Arc::new).collect())
    });
    let none = |_: &PolicyInput<'_>| panic!("the shipped policies are not asked");
    let judge = |question: Question| -> Vec<Verdict> {
        let all = 0..question.matches().len();
        all.filter_map(|number| question.judge(number, Duration::from_secs(20)))
            .collect()
    };
    let loaded = Loaded {
        catalogue: &catalogue,
        revision: "shipped",
        action: &|_| crate::api::ValidationAction::Deny,
        judge: &none,
        objects: snapshot.as_ref().map(|snapshot| Objects {
            snapshot,
            judge: &judge,
        }),
    };
    explain(&Logged { timestamp: None, line }, &loaded)
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "evil.example/x"}]}})
}

fn made() -> Review {
    review("CREATE", "", "Pod", Some(&pod()), None)
}

fn effects(explanation: &Explanation) -> Vec<Effect> {
    explanation.policies[0]
        .findings
        .iter()
        .map(|found| found.effect)
        .collect()
}

fn note(explanation: &Explanation) -> &str {
    explanation.policies[0].note.as_deref().unwrap_or_default()
}

#[rstest]
#[case::as_written("Deny", &[], REGISTERED, Effect::Refuses)]
#[case::warns("Warn", &[], REGISTERED, Effect::Warns)]
#[case::enforced("Deny", &[Mode::Enforce], REGISTERED, Effect::Refuses)]
#[case::never_more_than_its_action("Warn", &[Mode::Enforce], REGISTERED, Effect::Warns)]
#[case::under_warn("Deny", &[Mode::Warn, Mode::Audit], REGISTERED, Effect::Warns)]
#[case::under_audit("Deny", &[Mode::Audit], BEHIND, Effect::Audits)]
#[case::audits("Audit", &[], BEHIND, Effect::Audits)]
#[case::was_behind_whatever_it_is_now("Deny", &[], BEHIND, Effect::Audits)]
fn the_weaker_of_action_and_mode_is_told(
    #[case] action: &str,
    #[case] modes: &[Mode],
    #[case] webhook: &'static str,
    #[case] effect: Effect,
) {
    let line = Line {
        webhook: webhook.into(),
        ..line(&made(), json!({}), modes)
    };
    let explanation = explained_by(Some(vec![refusing(json!({"validationActions": [action]}))]), line);
    assert!(
        explanation.replay.done && explanation.notes.is_empty(),
        "{explanation:?}"
    );
    assert_eq!(effects(&explanation), [effect]);
    let [described] = explanation.policies[0].described.as_slice() else {
        panic!("{explanation:?}")
    };
    assert_eq!(
        (described.kind, described.description.as_str()),
        (Kind::RegoPolicy, "Nothing is good")
    );
    let found = &explanation.policies[0].findings[0];
    assert_eq!(
        (found.path.as_str(), found.message.as_str(), found.fix.as_str()),
        ("spec", "no", "do it")
    );
}

#[test]
fn an_exception_by_which_it_passed_is_told() {
    let line = Line {
        verdict: Outcome::Allow,
        exceptions: "vendor".into(),
        ..line(&made(), json!({}), &[Mode::Enforce])
    };
    assert_eq!(
        effects(&explained_by(Some(vec![refusing(json!({}))]), line)),
        [Effect::Excused]
    );
}

/// As if the pod of the template were made: of a new workload, and of one whose template was changed in what is masked alone.
#[rstest]
#[case::made("CREATE", None)]
#[case::changed_where_it_is_masked("UPDATE", Some("hunter3"))]
fn a_template_is_judged_as_its_pod(#[case] operation: &str, #[case] before: Option<&str>) {
    let template = |value: &str| {
        let container = json!({"name": "c", "image": "evil.example/x", "env": [{"name": "A", "value": value}]});
        json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": [container]}}}})
    };
    let old = before.map(template);
    let review = review(
        operation,
        "apps",
        "Deployment",
        Some(&template("hunter2")),
        old.as_ref(),
    );
    let pods = json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]});
    let body = r#"deny contains {"msg": "foreign", "path": "spec.containers[0].image"} if startswith(input.review.object.spec.containers[0].image, "evil")"#;
    let policy = compiled("mine", body, json!({"templates": "Expand", "matchConstraints": pods}));
    let explanation = explained_by(Some(vec![policy]), line(&review, json!({}), &[]));
    let [found] = explanation.policies[0].findings.as_slice() else {
        panic!("{explanation:?}")
    };
    assert_eq!(found.path, "spec.template.spec.containers[0].image");
    assert_eq!(
        (found.message.as_str(), found.fix.as_str()),
        ("foreign (via Deployment/d)", "Leave it")
    );
}

#[test]
fn what_lies_in_no_namespace_is_judged_too() {
    let mut review = review(
        "CREATE",
        "",
        "Namespace",
        Some(&json!({"metadata": {"name": "n", "labels": {"team": "ml"}}})),
        None,
    );
    review.namespace = None;
    review.request = set(review.request, "/namespace", Value::Null);
    let selector = |team: &str| {
        let rules =
            json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["namespaces"], "operations": ["*"]}]);
        json!({"matchConstraints": {"resourceRules": rules, "namespaceSelector": {"matchLabels": {"team": team}}}})
    };
    let selected = explained_by(Some(vec![refusing(selector("ml"))]), line(&review, json!({}), &[]));
    assert_eq!(effects(&selected), [Effect::Refuses], "{selected:?}");
    let other = explained_by(Some(vec![refusing(selector("web"))]), line(&review, json!({}), &[]));
    assert!(
        effects(&other).is_empty() && note(&other).contains("does not match the request"),
        "{other:?}"
    );
}

#[test]
fn one_that_cannot_be_asked_is_described_and_says_why() {
    let inventory = json!([{"group": "", "version": "v1", "kind": "Service", "fields": ["spec"]}]);
    let looks = explained_by(
        Some(vec![refusing(json!({"inventory": inventory}))]),
        line(&made(), json!({}), &[]),
    );
    assert!(
        effects(&looks).is_empty() && note(&looks).contains("spec.inventory"),
        "{looks:?}"
    );
    let broken = Registered::broken(
        declared("mine", "x", &json!({"failurePolicy": "Ignore"})),
        "p.rego:2:1: x",
    );
    let broken = explained_by(Some(vec![broken]), line(&made(), json!({}), &[]));
    assert!(
        effects(&broken).is_empty() && note(&broken).contains("failurePolicy Ignore"),
        "{broken:?}"
    );
    assert_eq!(broken.policies[0].described[0].broken.as_deref(), Some("p.rego:2:1: x"));
    let text = broken.text(false);
    for words in [
        "mine (RegoPolicy, Deny, failurePolicy Ignore, broken)",
        "Error: p.rego:2:1: x",
        "Fix: Leave it",
        "File: p.yaml",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn one_that_is_not_at_hand_is_asked_for() {
    let gone = explained_by(Some(Vec::new()), line(&made(), json!({}), &[]));
    assert!(note(&gone).contains("kubectl get regopolicy mine -o yaml"), "{gone:?}");
    // Neither a built-in rule of that name nor a shipped policy is what decided.
    let named = Line {
        policies: "launcher".into(),
        ..line(&made(), json!({}), &[])
    };
    let none = explained_by(None, named);
    assert!(!none.replay.done && none.policies[0].described.is_empty(), "{none:?}");
    assert!(
        note(&none).contains("kubectl get regopolicies -o yaml > policies.yaml"),
        "{none:?}"
    );
}

#[test]
fn what_else_is_found_is_no_finding_of_the_line() {
    let policies = || {
        vec![
            refusing(json!({})),
            compiled("other", REFUSES, json!({})),
            compiled("audits", REFUSES, json!({"validationActions": ["Audit"]})),
        ]
    };
    let explanation = explained_by(Some(policies()), line(&made(), json!({}), &[]));
    let [more] = explanation.notes.as_slice() else {
        panic!("{explanation:?}")
    };
    assert!(more.contains("same uid") && more.ends_with(": other"), "{more}");
    let changed = Line {
        revision: "0123".into(),
        ..line(&made(), json!({}), &[])
    };
    let explanation = explained_by(Some(vec![refusing(json!({}))]), changed);
    assert!(
        explanation.notes[0].contains("were of revision 0123"),
        "{explanation:?}"
    );
}

#[test]
fn an_input_of_another_version_has_no_facts_and_says_so() {
    let Recorded::Input(input) = Recorded::of(&made(), None) else {
        panic!("it fits")
    };
    let line = Line {
        input: Some(input.into()),
        ..line(&made(), json!({}), &[])
    };
    let explanation = explained_by(Some(vec![refusing(json!({}))]), line);
    assert!(
        !explanation.replay.done && explanation.notes[0].contains("were not asked again"),
        "{explanation:?}"
    );
}
