use std::collections::{BTreeMap, BTreeSet};

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::api::find;

const NOW: &str = "2026-11-22T12:00:00Z";

/// An exception that was made ten days ago and ends tomorrow, with a merge patch over it.
fn exception(patch: &Value) -> RegoPolicyException {
    let mut whole = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicyException",
        "metadata": {"name": "x", "namespace": "ai", "generation": 3, "creationTimestamp": "2026-11-12T12:00:00Z"},
        "spec": {"policies": ["no-root"], "names": ["job"], "reason": "vendor image", "expiresAt": "2026-11-23T12:00:00Z"},
    });
    merge(&mut whole, patch);
    serde_json::from_value(whole).unwrap()
}

fn merge(whole: &mut Value, patch: &Value) {
    match patch {
        Value::Object(fields) => {
            for (key, value) in fields {
                merge(&mut whole[key.as_str()], value);
            }
        }
        other => *whole = other.clone(),
    }
}

fn class(exceptions: Value) -> AIWorkflowClass {
    serde_json::from_value(json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "c"}, "spec": {"exceptions": exceptions},
    }))
    .unwrap()
}

fn open() -> AIWorkflowClass {
    class(json!({"namespaces": ["other", "ai"], "maxDays": 11}))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn judged(patch: &Value, class: Option<&AIWorkflowClass>, now: &str) -> Result<Timestamp, Reason> {
    exception_in_force(&exception(patch), "ai", ("c", class), at(now)).map_err(|idle| {
        assert!(!idle.message.is_empty());
        idle.reason
    })
}

#[rstest]
#[case::in_force(json!({}), NOW, Ok("2026-11-23T12:00:00Z"))]
#[case::to_the_last_moment(json!({}), "2026-11-23T11:59:59.999999999Z", Ok("2026-11-23T12:00:00Z"))]
#[case::over(json!({}), "2026-11-23T12:00:00Z", Err(Reason::Expired))]
#[case::long_over(json!({}), "2027-11-23T12:00:00Z", Err(Reason::Expired))]
#[case::to_the_last_day(json!({"metadata": {"creationTimestamp": "2026-11-12T12:00:00Z"}}), NOW, Ok("2026-11-23T12:00:00Z"))]
#[case::a_second_more(json!({"metadata": {"creationTimestamp": "2026-11-12T11:59:59Z"}}), NOW, Err(Reason::TooLong))]
#[case::prolonged(json!({"spec": {"expiresAt": "2026-11-24T12:00:00Z"}}), NOW, Err(Reason::TooLong))]
#[case::for_ever(json!({"spec": {"expiresAt": "9999-12-30T22:00:00Z"}}), NOW, Err(Reason::TooLong))]
#[case::too_long_and_over(json!({"spec": {"expiresAt": "2026-11-24T12:00:00Z"}}), "2027-01-01T00:00:00Z", Err(Reason::TooLong))]
#[case::another_zone(json!({"spec": {"expiresAt": "2026-11-22T14:30:00+02:00"}}), NOW, Ok("2026-11-22T12:30:00Z"))]
#[case::over_in_another_zone(json!({"spec": {"expiresAt": "2026-11-22T12:30:00+02:00"}}), NOW, Err(Reason::Expired))]
#[case::no_time(json!({"spec": {"expiresAt": "tomorrow"}}), NOW, Err(Reason::Invalid))]
#[case::no_zone(json!({"spec": {"expiresAt": "2026-11-23T12:00:00"}}), NOW, Err(Reason::Invalid))]
#[case::never_made(json!({"metadata": {"creationTimestamp": null}}), NOW, Err(Reason::Invalid))]
#[case::being_deleted(json!({"metadata": {"deletionTimestamp": "2026-11-22T11:00:00Z"}}), NOW, Err(Reason::Terminating))]
#[case::by_labels(json!({"spec": {"names": null, "objectSelector": {"matchLabels": {"app": "x"}}}}), NOW, Ok("2026-11-23T12:00:00Z"))]
#[case::by_both(json!({"spec": {"objectSelector": {"matchLabels": {"app": "x"}}}}), NOW, Err(Reason::Invalid))]
#[case::by_neither(json!({"spec": {"names": null}}), NOW, Err(Reason::Invalid))]
#[case::no_name(json!({"spec": {"names": []}}), NOW, Err(Reason::Invalid))]
#[case::an_empty_name(json!({"spec": {"names": ["a", ""]}}), NOW, Err(Reason::Invalid))]
#[case::an_empty_selector(json!({"spec": {"names": null, "objectSelector": {}}}), NOW, Err(Reason::Invalid))]
#[case::a_selector_of_all(json!({"spec": {"names": null, "objectSelector": {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": []}]}}}), NOW, Err(Reason::Invalid))]
#[case::no_policy(json!({"spec": {"policies": []}}), NOW, Err(Reason::Invalid))]
#[case::every_policy(json!({"spec": {"policies": ["*"]}}), NOW, Err(Reason::Invalid))]
#[case::no_reason(json!({"spec": {"reason": " "}}), NOW, Err(Reason::Invalid))]
fn an_exception_is_in_force_only_as_the_class_allows(
    #[case] patch: Value,
    #[case] now: &str,
    #[case] expected: Result<&str, Reason>,
) {
    assert_eq!(judged(&patch, Some(&open()), now), expected.map(at));
}

#[rstest]
#[case::no_class(None, Reason::ClassMissing)]
#[case::off(Some(class(Value::Null)), Reason::NamespaceNotAllowed)]
#[case::elsewhere(Some(class(json!({"namespaces": ["a", "ai-2"], "maxDays": 366}))), Reason::NamespaceNotAllowed)]
#[case::nowhere(Some(class(json!({"namespaces": [], "maxDays": 366}))), Reason::NamespaceNotAllowed)]
#[case::not_a_pattern(Some(class(json!({"namespaces": ["*", "a*", ""], "maxDays": 366}))), Reason::NamespaceNotAllowed)]
#[case::no_days(Some(class(json!({"namespaces": ["ai"], "maxDays": 0}))), Reason::TooLong)]
#[case::less_than_no_days(Some(class(json!({"namespaces": ["ai"], "maxDays": -400}))), Reason::TooLong)]
fn the_class_must_open_exceptions_for_the_namespace(#[case] class: Option<AIWorkflowClass>, #[case] expected: Reason) {
    assert_eq!(judged(&json!({}), class.as_ref(), NOW), Err(expected));
}

/// Reason, message and end of an exception in a namespace with these mode labels; classes `c` (open) and `shut`.
fn said(patch: &Value, labels: &[(&str, &str)], crowded: bool) -> (ConditionStatus, String, String, Option<Timestamp>) {
    let policies = BTreeSet::from(["no-root".to_owned(), "no-tags".to_owned()]);
    let labels = labels
        .iter()
        .map(|(mode, class)| (format!("ringfence.dev/{mode}"), String::from(*class)));
    let observed = ExceptionObserved {
        namespace: NamespaceFacts {
            name: "ai".into(),
            labels: labels.collect(),
            ..NamespaceFacts::default()
        },
        classes: BTreeMap::from([("c".to_owned(), open()), ("shut".to_owned(), class(Value::Null))]),
        policies: &policies,
        crowded,
    };
    let exception = exception(patch);
    let (status, end) = exception_status(&exception, &observed, at(NOW));
    let again = RegoPolicyException {
        status: Some(status.clone()),
        ..exception
    };
    let later = at(NOW) + SignedDuration::from_secs(60);
    assert_eq!(exception_status(&again, &observed, later).0, status, "said once");
    assert_eq!(status.observed_generation, Some(3));
    let accepted = find(&status.conditions, ConditionType::Accepted).unwrap().clone();
    (accepted.status, accepted.reason, accepted.message, end)
}

#[rstest]
#[case::in_force(json!({}), &[("enforce", "c")], false, "Accepted", &["until 2026-11-23T12:00:00Z", "no-root"])]
#[case::no_mode(json!({}), &[], false, "NamespaceNotFenced", &["namespace ai"])]
#[case::not_open(json!({}), &[("enforce", "shut"), ("audit", "c")], false, "NamespaceNotAllowed", &["AIWorkflowClass shut", "exceptions.namespaces"])]
#[case::not_open_for_all(json!({}), &[("enforce", "c"), ("audit", "shut")], false, "Accepted", &["not in mode audit: AIWorkflowClass shut"])]
#[case::no_class(json!({}), &[("warn", "gone")], false, "ClassMissing", &["gone"])]
#[case::crowded(json!({}), &[("enforce", "c")], true, "TooMany", &["more than 200"])]
#[case::over(json!({"spec": {"expiresAt": "2026-11-22T12:00:00Z"}}), &[("enforce", "c")], false, "Expired", &["2026-11-22T12:00:00Z"])]
#[case::over_in_a_crowd(json!({"spec": {"expiresAt": "2026-11-22T12:00:00Z"}}), &[("enforce", "c")], true, "Expired", &[])]
#[case::too_long(json!({"spec": {"expiresAt": "2027-11-22T12:00:00Z"}}), &[("enforce", "c")], false, "TooLong", &["11 days", "2026-11-12T12:00:00Z"])]
#[case::unknown(json!({"spec": {"policies": ["nope", "launcher"]}}), &[("enforce", "c")], false, "UnknownPolicy", &["is called nope, launcher", "built-in"])]
#[case::one_unknown(json!({"spec": {"policies": ["no-root", "nope"]}}), &[("enforce", "c")], false, "UnknownPolicy", &["for what no-root would", "is called nope;"])]
fn a_person_sees_whether_it_acts(
    #[case] patch: Value,
    #[case] labels: &[(&str, &str)],
    #[case] crowded: bool,
    #[case] reason: &str,
    #[case] parts: &[&str],
) {
    let (status, found, message, end) = said(&patch, labels, crowded);
    assert_eq!(found, reason, "{message}");
    for part in parts {
        assert!(message.contains(part), "{part}: {message}");
    }
    let acts = message.starts_with("in force until");
    assert_eq!(status == ConditionStatus::True, acts, "{message}");
    assert_eq!(end.is_some(), acts, "it is looked at again when it ends");
}
