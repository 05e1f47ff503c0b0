use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::api::{Condition, find};

const SOURCE: &str = "package x\n\n  deny contains \"\u{7}no\" if inptu.x\n";

fn policy(change: &Value) -> RegoPolicy {
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]});
    let mut spec = json!({
        "validationActions": ["Deny"], "matchConstraints": {"resourceRules": [rule]},
        "rego": {"modules": [{"name": "policy.rego", "source": SOURCE}]},
    });
    spec.as_object_mut()
        .unwrap()
        .extend(change.as_object().unwrap().clone());
    let mut policy = RegoPolicy::new("x", serde_json::from_value(spec).unwrap());
    policy.metadata.generation = Some(3);
    policy
}

fn wrong() -> Vec<LoadError> {
    vec![
        LoadError::at("policy.rego", 3, Some(28), "use of undefined variable"),
        LoadError::file("spec.parameters", "is missing"),
    ]
}

fn now() -> Timestamp {
    "2026-11-26T12:00:00Z".parse().unwrap()
}

/// `Compiled` and `Enforced` of a policy.
fn said(policy: &RegoPolicy, vetted: Option<Vetted<'_>>, intercepted: Result<(), &str>) -> [Condition; 2] {
    said_with(policy, vetted, intercepted, None)
}

fn said_with(
    policy: &RegoPolicy,
    vetted: Option<Vetted<'_>>,
    intercepted: Result<(), &str>,
    unseen: Option<Unseen<'_>>,
) -> [Condition; 2] {
    let observed = PolicyObserved {
        vetted,
        intercepted,
        unseen,
    };
    let status = policy_status(policy, &observed, now());
    assert_eq!(status.observed_generation, Some(3));
    [ConditionType::Compiled, ConditionType::Enforced].map(|type_| find(&status.conditions, type_).unwrap().clone())
}

fn is(condition: &Condition, status: ConditionStatus, reason: Reason) {
    assert_eq!(
        (
            condition.status,
            condition.reason.as_str(),
            condition.observed_generation
        ),
        (status, reason.as_str(), Some(3)),
        "{}",
        condition.message
    );
}

const fn vetted(errors: &[LoadError], instead: Option<i64>) -> Vetted<'_> {
    Vetted {
        errors,
        is_final: true,
        instead,
        is_shadowed: false,
    }
}

#[rstest]
#[case::refuses(json!({}), "refuses")]
#[case::warns(json!({"validationActions": ["Audit", "Warn"]}), "warns")]
#[case::audits(json!({"validationActions": ["Audit"]}), "is logged and counted")]
fn what_decides_and_is_asked_is_enforced(#[case] change: Value, #[case] does: &str) {
    let [compiled, enforced] = said(&policy(&change), Some(vetted(&[], None)), Ok(()));
    is(&compiled, ConditionStatus::True, Reason::Vetted);
    is(&enforced, ConditionStatus::True, Reason::Intercepted);
    assert!(enforced.message.contains(does), "{}", enforced.message);
}

/// A tenant can bring it about, so whoever trusts in the policy must see it.
#[rstest]
#[case::too_large(true, json!({}), Reason::InventoryTooLarge, "failurePolicy Fail answers: ingresses of a")]
#[case::ignored(true, json!({"failurePolicy": "Ignore"}), Reason::InventoryTooLarge, "failurePolicy Ignore lets it pass, with a warning")]
#[case::unsynced(false, json!({}), Reason::NotReady, "failurePolicy Fail answers")]
fn what_does_not_see_what_it_looks_at_is_not_enforced(
    #[case] is_too_large: bool,
    #[case] change: Value,
    #[case] reason: Reason,
    #[case] told: &str,
) {
    let unseen = Unseen {
        why: "ingresses of a",
        is_too_large,
    };
    let [compiled, enforced] = said_with(&policy(&change), Some(vetted(&[], None)), Ok(()), Some(unseen));
    is(&compiled, ConditionStatus::True, Reason::Vetted);
    is(&enforced, ConditionStatus::False, reason);
    assert!(enforced.message.contains(told), "{}", enforced.message);
}

#[test]
fn what_nobody_asks_is_not_enforced() {
    let [compiled, enforced] = said(&policy(&json!({})), Some(vetted(&[], None)), Err("apply the chart"));
    is(&compiled, ConditionStatus::True, Reason::Vetted);
    is(&enforced, ConditionStatus::False, Reason::NotIntercepted);
    assert_eq!(enforced.message, "apply the chart");
}

#[rstest]
#[case::fail(json!({}), "failurePolicy Fail: whatever it matches is refused")]
#[case::warn(json!({"validationActions": ["Warn"]}), "failurePolicy Fail: whatever it matches is warned about")]
#[case::audit(json!({"validationActions": ["Audit"]}), "failurePolicy Fail: whatever it matches is logged and counted as refused, and goes on")]
#[case::ignore(json!({"failurePolicy": "Ignore"}), "failurePolicy Ignore: whatever it matches goes on")]
fn what_is_broken_says_where_and_what_that_means(#[case] change: Value, #[case] means: &str) {
    let errors = wrong();
    let [compiled, enforced] = said(&policy(&change), Some(vetted(&errors, None)), Ok(()));
    is(&compiled, ConditionStatus::False, Reason::Rejected);
    let expected = "policy.rego:3:28: use of undefined variable (`deny contains \" no\" if inptu.x`); spec.parameters: is missing; ";
    assert!(compiled.message.starts_with(expected), "{}", compiled.message);
    is(&enforced, ConditionStatus::False, Reason::NotReady);
    for condition in [&compiled, &enforced] {
        assert!(condition.message.contains(means), "{}", condition.message);
    }
}

#[test]
fn the_generation_that_decides_instead_is_named() {
    let errors = wrong();
    let [compiled, enforced] = said(
        &policy(&json!({})),
        Some(vetted(&errors, Some(2))),
        Err("apply the chart"),
    );
    is(&compiled, ConditionStatus::False, Reason::Rejected);
    is(&enforced, ConditionStatus::False, Reason::NotReady);
    for condition in [&compiled, &enforced] {
        assert!(
            condition.message.contains("generation 2 decides"),
            "{}",
            condition.message
        );
    }
    assert!(enforced.message.ends_with("; apply the chart"), "{}", enforced.message);
}

#[test]
fn what_is_not_vetted_yet_is_neither() {
    let errors = wrong();
    let not_yet = Vetted {
        is_final: false,
        ..vetted(&errors, None)
    };
    for found in [None, Some(not_yet)] {
        let [compiled, enforced] = said(&policy(&json!({})), found, Ok(()));
        is(&compiled, ConditionStatus::Unknown, Reason::NotReady);
        is(&enforced, ConditionStatus::False, Reason::NotReady);
    }
}

#[test]
fn many_and_long_errors_are_bounded_and_counted() {
    let errors = vec![LoadError::at("policy.rego", 3, None, "ü".repeat(9_000)); 300];
    let [compiled, _] = said(&policy(&json!({})), Some(vetted(&errors, None)), Ok(()));
    let message = &compiled.message;
    assert!(message.chars().count() < 8_000, "{}", message.chars().count());
    assert!(message.contains("and 290 more; until it is corrected, "), "{message}");
}

#[rstest]
#[case::beyond_the_end("policy.rego", 99)]
#[case::no_line("policy.rego", 0)]
#[case::an_empty_line("policy.rego", 2)]
#[case::another_file("other.rego", 1)]
fn a_line_that_is_not_there_is_not_quoted(#[case] file: &str, #[case] line: u32) {
    let errors = [LoadError::at(file, line, None, "wrong")];
    let [compiled, _] = said(&policy(&json!({})), Some(vetted(&errors, None)), Ok(()));
    assert!(!compiled.message.contains('`'), "{}", compiled.message);
}

#[test]
fn nothing_new_is_the_old_status() {
    let mut policy = policy(&json!({}));
    let observed = PolicyObserved {
        unseen: None,
        vetted: Some(vetted(&[], None)),
        intercepted: Ok(()),
    };
    let first = policy_status(&policy, &observed, now());
    policy.status = Some(first.clone());
    let later = now() + std::time::Duration::from_secs(3600);
    assert_eq!(policy_status(&policy, &observed, later), first);
}
