//! Policies that run away, fail or flood: each ends in a verdict that refuses, in time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringfence::policy::{EvalError, MAX_FINDINGS, PolicyInput, PolicySet, Source, Target};
use rstest::rstest;
use serde_json::{Value, json};

use crate::loading::{input, policy};
use crate::shipped::joined;

fn compile(sources: Vec<Source>) -> PolicySet {
    PolicySet::compile(sources, &BTreeMap::new()).unwrap_or_else(|errors| panic!("{}", joined(&errors)))
}

fn thousand() -> Value {
    json!({"list": (0..1000).collect::<Vec<_>>(), "text": "x".repeat(10_000), "number": 1})
}

const RUNAWAY: &str = "deny contains \"x\" if count([1 | some a in input.request.list; some b in input.request.list; some c in input.request.list; a + b + c == -1]) > 0";

const RUNAWAY_FUNCTION: &str = "deny contains \"x\" if f(input.request.list) > 0\nf(l) := count([1 | some a in l; some b in l; some c in l; a + b + c == -1])";

#[rstest]
#[case::rule(RUNAWAY)]
#[case::function(RUNAWAY_FUNCTION)]
fn a_runaway_comprehension_is_stopped_within_the_budget(#[case] body: &str) {
    let set = compile(vec![policy("runaway", "{}", body)]);
    let budget = Duration::from_millis(300);
    let start = Instant::now();
    let verdicts = set.evaluate(&input(&thousand()), budget);
    assert!(start.elapsed() < budget * 3, "took {:?}", start.elapsed());
    assert_eq!(verdicts[0].outcome, Err(EvalError::Timeout));
    assert!(
        verdicts[0].duration >= Duration::from_millis(50),
        "stopped after {:?}",
        verdicts[0].duration
    );
}

#[test]
fn a_runaway_policy_does_not_silence_the_others() {
    let others = ["a-before", "z-after", "z-later"].map(|name| policy(name, "{}", "deny contains \"x\""));
    let set = compile([policy("runaway", "{}", RUNAWAY)].into_iter().chain(others).collect());
    let verdicts = set.evaluate(&input(&thousand()), Duration::from_secs(1));
    let answers: Vec<_> = verdicts
        .iter()
        .map(|verdict| (verdict.policy.as_str(), verdict.outcome.is_ok()))
        .collect();
    assert_eq!(
        answers,
        [
            ("a-before", true),
            ("runaway", false),
            ("z-after", true),
            ("z-later", true)
        ]
    );
}

#[test]
fn no_time_left_is_no_answer() {
    let set = compile(vec![policy("one", "{}", "deny contains \"x\" if false")]);
    let verdicts = set.evaluate(&input(&json!({})), Duration::ZERO);
    assert_eq!(verdicts[0].outcome, Err(EvalError::Timeout));
}

/// A deny rule that fails would otherwise be a deny rule that does not fire.
#[rstest]
#[case::type_error("deny contains \"x\" if startswith(input.request.number, \"a\")")]
#[case::negated("deny contains \"x\" if not startswith(input.request.number, \"a\")")]
#[case::parse("deny contains \"x\" if to_number(input.request.text) > 3")]
#[case::iteration("deny contains \"x\" if { some c in input.request.text; c == \"y\" }")]
#[case::division("deny contains \"x\" if input.request.number / 0 == 1")]
#[case::conflict("deny contains \"x\" if f(1) == 3\nf(x) := 1\nf(x) := 2")]
#[case::element("deny contains input.request.number")]
#[case::no_message("deny contains {\"path\": input.request.text}")]
fn a_policy_that_fails_gives_an_error_and_never_nothing(#[case] body: &str) {
    let set = compile(vec![policy("one", "{}", body)]);
    let verdicts = set.evaluate(&input(&thousand()), Duration::from_secs(5));
    let error = verdicts[0].outcome.as_ref().expect_err("must be an error");
    assert!(matches!(error, EvalError::Error(_) | EvalError::Shape(_)), "{error}");
    assert!(
        !error.to_string().contains("xxxx"),
        "the error quotes the request: {error}"
    );
}

#[test]
fn what_makes_the_engine_panic_is_answered_and_the_next_review_is_judged() {
    // With an empty needle the engine's own function panics; ours has its place.
    let set = compile(vec![policy(
        "one",
        "{}",
        "deny contains \"x\" if strings.count(\"abc\", input.request.needle) > 0",
    )]);
    for _ in 0..3 {
        let verdicts = set.evaluate(&input(&json!({"needle": ""})), Duration::from_secs(5));
        assert_eq!(verdicts[0].outcome.as_ref().map(|findings| findings.deny.len()), Ok(1));
        let verdicts = set.evaluate(&input(&json!({"needle": "a"})), Duration::from_secs(5));
        assert_eq!(verdicts[0].outcome.as_ref().map(|findings| findings.deny.len()), Ok(1));
    }
}

#[test]
fn a_flood_of_findings_is_bounded_and_counted() {
    let body =
        "deny contains {\"msg\": \"m\", \"path\": sprintf(\"spec[%d]\", [i])} if some i, _ in input.request.list";
    let set = compile(vec![policy("one", "{}", body)]);
    let verdicts = set.evaluate(&input(&thousand()), Duration::from_secs(10));
    let findings = verdicts[0].outcome.as_ref().expect("findings");
    assert_eq!(
        (findings.deny.len(), findings.omitted),
        (MAX_FINDINGS, 1000 - MAX_FINDINGS)
    );
    assert_eq!(findings.deny[2].path, "spec[2]");
}

#[test]
fn what_a_policy_sees_is_what_is_promised() {
    let body = "deny contains json.marshal(input)";
    let set = compile(vec![policy("one", "{a: 1}", body)]);
    let request =
        json!({"uid": "u", "object": {"kind": "Deployment", "spec": {"template": {"spec": {}, "metadata": {}}}}});
    let pod = request.pointer("/object/spec/template").expect("there");
    let (workflow, class, namespace) = (json!({"w": 1}), json!({"c": 1}), json!({"n": 1}));
    let full = PolicyInput {
        target: Target::Pod,
        request: &request,
        pod: Some(("spec.template", pod)),
        workflow: Some(&workflow),
        class: Some(&class),
        engine: None,
        namespace: Some(&namespace),
    };
    let seen = |input: &PolicyInput<'_>| -> Value {
        let verdicts = set.evaluate(input, Duration::from_secs(5));
        let message = verdicts[0].outcome.as_ref().expect("findings").deny[0].message.clone();
        serde_json::from_str(&message).expect("json")
    };
    let expected = json!({
        "request": request, "review": request, "parameters": {"a": 1}, "pod": pod, "podPath": "spec.template",
        "workflow": workflow, "class": class, "namespace": namespace,
    });
    assert_eq!(seen(&full), expected);
    let bare = json!({"uid": "u"});
    assert_eq!(
        seen(&input(&bare)),
        json!({"request": bare, "review": bare, "parameters": {"a": 1}}),
        "absent is undefined"
    );
}

#[test]
fn a_large_pod_is_judged_by_the_shipped_policies_in_time() {
    let set = PolicySet::embedded(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{}", joined(&errors)));
    let env: Vec<_> = (0..50)
        .map(|i| json!({"name": format!("SETTING_{i}"), "value": format!("value-{i}")}))
        .collect();
    let containers: Vec<_> = (0..20)
        .map(|i| json!({"name": format!("c{i}"), "image": "docker.io/library/a:1", "env": env, "args": ["--a=b"]}))
        .collect();
    let request = json!({"namespace": "ai", "object": {"metadata": {}, "spec": {"containers": containers}}});
    let pod = request.get("object").expect("there");
    let input = PolicyInput {
        pod: Some(("", pod)),
        ..input(&request)
    };
    let start = Instant::now();
    let verdicts = set.evaluate(&input, Duration::from_secs(5));
    assert!(start.elapsed() < Duration::from_secs(2), "took {:?}", start.elapsed());
    for verdict in &verdicts {
        assert!(verdict.outcome.is_ok(), "{verdict:?}");
    }
}
