use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::Reason,
    plan::{
        plan,
        tests::{observed, workflow},
    },
};

/// The problems of a workflow in a class that differs from the usual one by `class`.
fn problems(class: Value, spec: Value) -> (Reason, Vec<Problem>) {
    let mut observed = observed();
    let whole = observed.class.as_mut().unwrap();
    let mut narrowed = serde_json::to_value(&whole.spec).unwrap();
    let changed = class.as_object().unwrap().clone();
    narrowed.as_object_mut().unwrap().extend(changed);
    whole.spec = serde_json::from_value(narrowed).unwrap();
    let acceptance = plan(&workflow(spec), &observed).acceptance;
    (acceptance.reason, acceptance.problems)
}

fn rule(resource: &str, verb: &str) -> Value {
    json!({"apiGroups": [""], "resources": [resource], "verbs": [verb]})
}

#[test]
fn a_pattern_of_which_the_class_allows_nothing_is_outside() {
    let class = json!({"images": {"allowed": ["registry.example.com/**", "a.example/x", "b.example/x", "c.example/x", "no such:pattern"]}});
    let images = json!({"images": ["registry.example.com/team/**", "docker.io/**", "**"]});
    let (reason, found) = problems(class, images);
    assert_eq!((reason, found.len()), (Reason::OutsideClass, 1), "{found:?}");
    assert_eq!(
        (found[0].path.as_str(), found[0].value.as_deref()),
        ("spec.images[1]", Some("docker.io/**"))
    );
    let allowed = "it allows: registry.example.com/**, a.example/x, b.example/x and 1 more";
    assert!(found[0].fix.contains(allowed), "{}", found[0].fix);
}

#[rstest]
#[case::nothing(json!([]))]
#[case::nothing_that_can_be_read(json!(["registry.example.com*/x"]))]
fn a_class_without_images_allows_none(#[case] allowed: Value) {
    let (reason, found) = problems(json!({"images": {"allowed": allowed}}), json!({}));
    assert_eq!((reason, found[0].path.as_str()), (Reason::OutsideClass, "spec.images"));
}

#[rstest]
#[case::permissions(
    json!({"permissions": {"rules": [rule("events", "list")]}}),
    "it allows: [configmaps, services, pods, pods/log: get, list, watch]"
)]
#[case::across(
    json!({"permissions": {"crossNamespace": [{"namespace": "x", "rules": [rule("configmaps", "update")]}]}}),
    "it allows: [configmaps, services, pods, pods/log: get, list, watch], [events: get]"
)]
#[case::cidrs(
    json!({"network": {"egress": [{"name": "x", "to": {"cidrs": ["203.0.113.0/24"]}, "ports": [{"port": 1}]}]}}),
    "it allows: 192.0.2.0/28, 192.0.2.16/28, 192.0.2.32/28 and 1 more"
)]
#[case::namespaces(
    json!({"network": {"egress": [{"name": "x", "to": {"workflow": {"namespace": "x", "name": "a"}}, "ports": [{"port": 1}]}]}}),
    "it allows: vectors, models"
)]
#[case::annotations(json!({"identity": {"annotations": {"iam.example.com/role": "x"}}}), "it allows: eks.amazonaws.com/role-arn")]
fn a_message_says_what_the_class_allows(#[case] spec: Value, #[case] allowed: &str) {
    let cidrs = ["192.0.2.0/28", "192.0.2.16/28", "192.0.2.32/28", "192.0.2.48/28"];
    let class = json!({
        "network": {"cidrs": cidrs, "namespaces": ["vectors", "models"]},
        "identity": {"annotations": ["eks.amazonaws.com/role-arn"]},
        "crossNamespacePermissions": [rule("events", "get")],
    });
    let (reason, found) = problems(class, spec);
    assert_eq!((reason, found.len()), (Reason::OutsideClass, 1), "{found:?}");
    assert!(found[0].fix.contains(allowed), "{}", found[0].fix);
}

#[test]
fn what_is_shown_of_a_class_is_bounded() {
    let long: Vec<_> = (0..64).map(|number| format!("{number}{}", "é".repeat(9_000))).collect();
    let said = shown(&long);
    assert!(said.ends_with("… and 61 more"), "{}", said.len());
    assert!(said.chars().count() < 500, "{}", said.len());
    assert_eq!(shown::<String>(&[]), "it allows none");
}

/// An invalid rule of a class is no ceiling: it allows what no workflow may hold, or what its author did not mean.
#[rstest]
#[case::secrets(rule("secrets", "get"))]
#[case::roles(json!({"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create"]}))]
#[case::impersonation(rule("users", "impersonate"))]
#[case::pods_elsewhere(rule("pods", "create"))]
fn a_right_that_nobody_may_hold_across_namespaces_is_invalid(#[case] forbidden: Value) {
    let across = json!({"permissions": {"crossNamespace": [{"namespace": "x", "rules": [forbidden]}]}});
    let class = json!({"permissions": [forbidden], "crossNamespacePermissions": [forbidden]});
    let (reason, found) = problems(class, across);
    assert_eq!(reason, Reason::Invalid);
    let place = "spec.permissions.crossNamespace[0].rules[0].";
    assert!(
        !found.is_empty() && found.iter().all(|problem| problem.path.starts_with(place)),
        "{found:?}"
    );
}

/// One bad verb spoils the whole rule of a class: what it allows beside it was written by the same hand.
#[test]
fn an_invalid_rule_of_a_class_allows_nothing() {
    let half = json!({"apiGroups": [""], "resources": ["events"], "verbs": ["list", "*"]});
    let class = json!({"permissions": [half], "crossNamespacePermissions": [half]});
    let spec = json!({"permissions": {
        "rules": [rule("events", "list")],
        "crossNamespace": [{"namespace": "x", "rules": [rule("events", "list")]}],
    }});
    let (reason, found) = problems(class, spec);
    assert_eq!((reason, found.len()), (Reason::OutsideClass, 2), "{found:?}");
    assert!(
        found.iter().all(|problem| problem.fix.contains("it allows none")),
        "{found:?}"
    );
}
