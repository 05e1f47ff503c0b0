use std::time::Duration;

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::policy::EvalError;
use crate::review::Violation;

const NOW: &str = "2026-11-22T12:00:00Z";
const END: &str = "2026-11-23T12:00:00Z";

fn exception(name: &str, policies: &[&str], spec: Value) -> Value {
    let mut whole = json!({
        "metadata": {"name": name, "namespace": "ai", "creationTimestamp": "2026-11-22T00:00:00Z"},
        "spec": {"policies": policies, "reason": "vendor image", "expiresAt": END},
    });
    for (key, value) in spec.as_object().unwrap() {
        whole["spec"][key] = value.clone();
    }
    whole
}

fn list(items: &[Value]) -> Value {
    json!({"kind": "RegoPolicyExceptionList", "metadata": {"continue": ""}, "items": items})
}

fn labels() -> Value {
    json!({"app": "triage", "tier": "batch"})
}

fn exceptions(list: &Value) -> Exceptions {
    let labels = labels();
    let object = Excusable {
        namespace: "ai",
        labels: Some(&labels),
        names: vec!["nightly-1-x", "nightly-1", "nightly"],
    };
    let class = json!({"metadata": {"name": "c"}, "spec": {"exceptions": {"namespaces": ["ai"], "maxDays": 2}}});
    Exceptions::of(Some(list), &object, ("c", Some(&class)), Some(NOW.parse().unwrap()))
}

fn finding(policy: &str, message: &str) -> Violation {
    Violation {
        policy: policy.into(),
        path: "spec".into(),
        value: None,
        message: message.into(),
        fix: "change it.".into(),
    }
}

/// Verdicts of `a`, which warns too, of `b`, which refuses if asked to, of `c`, which finds nothing, and of one that fails.
fn verdicts(b: bool, failing: Option<&str>) -> Vec<Verdict> {
    let verdict = |policy: &str, outcome| Verdict {
        policy: policy.into(),
        outcome,
        duration: Duration::ZERO,
    };
    let refusing = |policy: &str| Findings {
        deny: vec![finding(policy, "no")],
        ..Findings::default()
    };
    let a = Findings {
        warn: vec![finding("a", "careful")],
        ..refusing("a")
    };
    let mut all = vec![verdict("a", Ok(a)), verdict("c", Ok(Findings::default()))];
    all.extend(b.then(|| verdict("b", Ok(refusing("b")))));
    all.extend(failing.map(|policy| verdict(policy, Err(EvalError::Timeout))));
    all
}

fn denied(verdicts: &[Verdict]) -> Vec<(&str, &str)> {
    let denials = verdicts.iter().filter_map(|verdict| verdict.outcome.as_ref().ok());
    denials
        .flat_map(|findings| &findings.deny)
        .map(|v| (v.policy.as_str(), v.fix.as_str()))
        .collect()
}

#[rstest]
#[case::its_name(json!({"names": ["nightly-1-x"]}), true)]
#[case::its_owner(json!({"names": ["nightly-1"]}), true)]
#[case::the_owner_of_that(json!({"names": ["other", "nightly"]}), true)]
#[case::another(json!({"names": ["night", "nightly-"]}), false)]
#[case::its_label(json!({"objectSelector": {"matchLabels": {"app": "triage"}}}), true)]
#[case::all_labels_must_match(json!({"objectSelector": {"matchLabels": {"app": "triage", "tier": "web"}}}), false)]
#[case::expression(json!({"objectSelector": {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["web", "batch"]}]}}), true)]
#[case::other_label(json!({"objectSelector": {"matchLabels": {"app": "other"}}}), false)]
#[case::empty_selector(json!({"objectSelector": {}}), false)]
#[case::nothing(json!({}), false)]
#[case::too_long(json!({"names": ["nightly"], "expiresAt": "2026-11-25T12:00:00Z"}), false)]
#[case::over(json!({"names": ["nightly"], "expiresAt": NOW}), false)]
#[case::newer_than_us(json!({"names": ["nightly"], "operations": ["UPDATE"]}), false)]
#[case::unreadable(json!({"names": "nightly"}), false)]
fn an_exception_is_for_its_objects(#[case] spec: Value, #[case] excused: bool) {
    let mut verdicts = verdicts(false, None);
    let used = exceptions(&list(&[exception("one", &["a"], spec)])).apply(&mut verdicts, &[]);
    let expected = Excuse {
        exception: "one".into(),
        policy: "a".into(),
    };
    assert_eq!(used, if excused { vec![expected] } else { vec![] });
    assert_eq!(denied(&verdicts).is_empty(), excused);
}

#[test]
fn what_is_excused_is_told_and_what_only_warned_still_does() {
    let mut verdicts = verdicts(false, None);
    exceptions(&list(&[exception("one", &["a"], json!({"names": ["nightly"]}))])).apply(&mut verdicts, &[]);
    let findings = verdicts[0].outcome.as_ref().unwrap();
    let told = "excused by RegoPolicyException ai/one until 2026-11-23T12:00:00Z: no";
    assert_eq!(findings.warn, [finding("a", told), finding("a", "careful")]);
    assert!(findings.deny.is_empty());
}

#[test]
fn two_never_add_up() {
    let nightly = json!({"names": ["nightly"]});
    let (only_a, only_b) = (
        exception("only-a", &["a"], nightly.clone()),
        exception("only-b", &["b"], nightly.clone()),
    );
    let mut both = verdicts(true, None);
    let used = exceptions(&list(&[only_a.clone(), only_b.clone()])).apply(&mut both, &[]);
    assert_eq!(used, []);
    let lacking = |name: &str, other: &str| {
        format!(
            "change it; RegoPolicyException ai/{name} excuses all that refuses an object or nothing of it, and not {other}"
        )
    };
    assert_eq!(
        denied(&both),
        [
            ("a", lacking("only-a", "b").as_str()),
            ("b", lacking("only-b", "a").as_str())
        ],
    );

    let whole = exception("whole", &["b", "a", "z"], nightly);
    let mut both = verdicts(true, None);
    let used = exceptions(&list(&[only_a, only_b, whole])).apply(&mut both, &[]);
    assert_eq!(denied(&both), []);
    let used: Vec<_> = used
        .iter()
        .map(|excuse| (excuse.exception.as_str(), excuse.policy.as_str()))
        .collect();
    assert_eq!(used, [("whole", "a"), ("whole", "b")]);
}

#[rstest]
#[case::of_another_policy("z")]
#[case::of_one_that_is_named("b")]
fn what_could_not_be_judged_is_never_excused(#[case] failing: &str) {
    let one = exception("one", &["a", "b"], json!({"names": ["nightly"]}));
    let mut verdicts = verdicts(false, Some(failing));
    assert_eq!(exceptions(&list(&[one])).apply(&mut verdicts, &[]), []);
    let fix = format!(
        "change it; RegoPolicyException ai/one excuses all that refuses an object or nothing of it, and not {failing}"
    );
    assert_eq!(denied(&verdicts), [("a", fix.as_str())]);
    assert!(verdicts.iter().any(|verdict| verdict.outcome.is_err()));
}

#[test]
fn of_several_the_last_to_end_is_named() {
    let until = |name: &str, end: &str| exception(name, &["a"], json!({"names": ["nightly"], "expiresAt": end}));
    let all = [until("b", "2026-11-23T00:00:00Z"), until("z", END), until("a", END)];
    let used = exceptions(&list(&all)).apply(&mut verdicts(false, None), &[]);
    assert_eq!(used[0].exception, "a");
}

#[test]
fn of_too_many_none_counts_and_each_refusal_says_so() {
    let one = |index: usize| exception(&format!("e{index}"), &["a"], json!({"names": ["nightly"]}));
    let full: Vec<_> = (0..MAX_EXCEPTIONS).map(one).collect();
    assert_eq!(exceptions(&list(&full)).apply(&mut verdicts(false, None), &[]).len(), 1);
    let mut more = list(&full);
    more["metadata"]["continue"] = json!("token");
    for list in [more, list(&[full, vec![one(MAX_EXCEPTIONS)]].concat())] {
        let mut verdicts = verdicts(false, None);
        assert_eq!(exceptions(&list).apply(&mut verdicts, &[]), []);
        let [(_, fix)] = denied(&verdicts)[..] else {
            panic!("{verdicts:?}")
        };
        assert!(
            fix.contains("more than 200 RegoPolicyExceptions") && fix.contains("none counts"),
            "{fix}"
        );
    }
}

#[test]
fn without_list_clock_or_class_there_is_none() {
    let labels = labels();
    let object = Excusable {
        namespace: "ai",
        labels: Some(&labels),
        names: vec!["nightly"],
    };
    let list = list(&[exception("one", &["a"], json!({"names": ["nightly"]}))]);
    let class = json!({"metadata": {"name": "c"}, "spec": {"exceptions": {"namespaces": ["ai"], "maxDays": 2}}});
    let now = Some(NOW.parse().unwrap());
    let broken = json!({"spec": 1});
    let of = |list, class, now| Exceptions::of(list, &object, ("c", class), now).in_force.len();
    assert_eq!(of(Some(&list), Some(&class), now), 1);
    assert_eq!(of(None, Some(&class), now), 0);
    assert_eq!(of(Some(&list), None, now), 0);
    assert_eq!(of(Some(&list), Some(&broken), now), 0);
    assert_eq!(of(Some(&list), Some(&class), None), 0);
}

#[test]
fn owners_are_worth_asking_for_only_where_an_exception_names_objects() {
    let selector = json!({"objectSelector": {"matchLabels": {"app": "x"}}});
    let by_label = exception("a", &["a"], selector);
    assert!(!names_objects(&list(&[])) && !names_objects(&list(std::slice::from_ref(&by_label))));
    assert!(names_objects(&list(&[
        by_label,
        exception("b", &["a"], json!({"names": ["x"]}))
    ])));
}
