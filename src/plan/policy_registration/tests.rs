use std::sync::Arc;

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::api::RegoPolicySpec;
use crate::policy::{Declared, Registered, Snapshot};

const OURS: &str = "ringfence-system";

fn spec(change: &Value) -> RegoPolicySpec {
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]});
    let mut spec = json!({
        "validationActions": ["Deny"], "matchConstraints": {"resourceRules": [rule]},
        "rego": {"modules": [{"name": "a.rego", "source": "package a"}]},
    });
    for (field, value) in change.as_object().unwrap() {
        match spec.get_mut(field).and_then(Value::as_object_mut) {
            Some(object) => object.extend(value.as_object().unwrap().clone()),
            None => spec[field] = value.clone(),
        }
    }
    serde_json::from_value(spec).unwrap()
}

fn entries(specs: &[RegoPolicySpec]) -> Vec<(Entry, String)> {
    let policies = specs.iter().enumerate();
    let policies = policies.map(|(index, spec)| {
        let name = format!("p{index}");
        let declared = Declared {
            uid: name.clone(),
            name,
            generation: 1,
            spec: spec.clone(),
        };
        Arc::new(Registered::broken(declared, "of a test"))
    });
    Snapshot::new(policies.collect()).entries()
}

fn registration(client: &Value) -> Value {
    let fence = json!({"name": "fence.ringfence.dev", "clientConfig": {"url": "https://elsewhere/admit/fence", "caBundle": "x"}});
    json!({"webhooks": [fence, {"name": KINDS_WEBHOOK, "clientConfig": client}]})
}

fn by_url() -> Value {
    registration(&json!({"url": "https://127.0.0.1:9443/admit/kinds", "caBundle": "Q0E="}))
}

fn webhooks(specs: &[RegoPolicySpec]) -> Vec<Value> {
    policy_webhooks(&entries(specs), &by_url(), OURS).unwrap()
}

#[test]
fn a_webhook_says_all_that_the_api_server_would_fill_in() {
    let specs = [spec(&json!({}))];
    let (entry, version) = entries(&specs).pop().unwrap();
    let exempt = ["kube-system", "kube-node-lease", "kube-public", OURS];
    let own = format!("request.userInfo.username != 'system:serviceaccount:{OURS}:ringfence'");
    assert_eq!(
        webhooks(&specs),
        [json!({
            "name": format!("{}.policies.ringfence.dev", entry.id),
            "clientConfig": {"url": format!("https://127.0.0.1:9443/admit/policies/{}/{version}", entry.id), "caBundle": "Q0E="},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"], "scope": "*"}],
            "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": exempt}]},
            "objectSelector": {},
            "matchConditions": [
                {"name": "not-ringfence", "expression": own},
                {"name": "may-be-asked-about", "expression": MAY_BE_ASKED},
                {"name": "does-not-come-up", "expression": COMES_UP},
                {"name": "changes-what-is-judged", "expression": CHANGES},
            ],
            "failurePolicy": "Fail", "matchPolicy": "Equivalent", "sideEffects": "None", "timeoutSeconds": 5,
            "admissionReviewVersions": ["v1"],
        })]
    );
}

#[test]
fn a_service_is_asked_by_the_same_port() {
    let service = json!({"name": "hook", "namespace": OURS, "path": "/admit/kinds", "port": 443});
    let stored = registration(&json!({"service": service, "caBundle": "Q0E="}));
    let found = policy_webhooks(&entries(&[spec(&json!({}))]), &stored, OURS).unwrap();
    let service = &found[0]["clientConfig"]["service"];
    assert_eq!(
        (
            &service["name"],
            &service["port"],
            &found[0]["clientConfig"]["caBundle"]
        ),
        (&json!("hook"), &json!(443), &json!("Q0E="))
    );
    assert!(service["path"].as_str().unwrap().starts_with("/admit/policies/fail-"));
}

#[rstest]
#[case::ignores(json!({"failurePolicy": "Ignore"}))]
#[case::audits(json!({"validationActions": ["Audit"]}))]
fn what_fails_open_is_narrowed_by_nothing_that_an_object_holds(#[case] change: Value) {
    let found = webhooks(&[spec(&change)]);
    assert_eq!(found[0]["failurePolicy"], "Ignore");
    let conditions = found[0]["matchConditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 3);
    for condition in conditions {
        let expression = condition["expression"].as_str().unwrap();
        assert!(
            !expression.contains("object") && !expression.contains("Object"),
            "{expression}"
        );
    }
}

#[test]
fn selectors_stand_beside_the_exempt_namespaces() {
    let labels = json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]});
    let found = webhooks(&[spec(
        &json!({"matchConstraints": {"namespaceSelector": labels, "objectSelector": labels, "matchPolicy": "Exact"}}),
    )]);
    assert_eq!(found[0]["objectSelector"], labels);
    assert_eq!(found[0]["matchPolicy"], "Exact");
    let namespaces = &found[0]["namespaceSelector"];
    assert_eq!(namespaces["matchLabels"], json!({"a": "b"}));
    let expressions = namespaces["matchExpressions"].as_array().unwrap();
    assert_eq!(expressions[0], json!({"key": "c", "operator": "Exists"}));
    assert_eq!((expressions.len(), &expressions[1]["operator"]), (2, &json!("NotIn")));
}

/// What was never vetted may be in force as broken, and must not keep the other policies' webhooks from being written.
#[rstest]
#[case::of_groups(json!({"apiGroups": ["apps", "*"]}), "apiGroups", json!(["*"]))]
#[case::of_versions(json!({"apiVersions": ["*", "v1"]}), "apiVersions", json!(["*"]))]
#[case::no_version(json!({"apiVersions": ["", "v1"]}), "apiVersions", json!(["v1"]))]
#[case::of_operations(json!({"operations": ["UPDATE", "*"]}), "operations", json!(["*"]))]
#[case::of_resources(json!({"resources": ["pods", "pods/log", "*"]}), "resources", json!(["*", "pods/log"]))]
#[case::of_everything(json!({"resources": ["pods", "*/*"]}), "resources", json!(["*/*"]))]
#[case::of_a_resource(json!({"resources": ["pods", "pods/*", "pods/log"]}), "resources", json!(["pods", "pods/*"]))]
#[case::of_a_subresource(json!({"resources": ["*/scale", "pods/log", "x/scale"]}), "resources", json!(["*/scale", "pods/log"]))]
#[case::no_resource(json!({"resources": ["", "pods"]}), "resources", json!(["pods"]))]
fn a_wildcard_stands_where_the_api_server_takes_it(
    #[case] change: Value,
    #[case] field: &str,
    #[case] expected: Value,
) {
    let mut rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]});
    rule.as_object_mut()
        .unwrap()
        .extend(change.as_object().unwrap().clone());
    let found = webhooks(&[spec(&json!({"matchConstraints": {"resourceRules": [rule]}}))]);
    assert_eq!(found[0]["rules"][0][field], expected);
}

#[test]
fn a_selector_that_the_api_server_would_refuse_narrows_nothing() {
    let wrong = json!({"matchExpressions": [{"key": "a", "operator": "In"}]});
    let found = webhooks(&[spec(
        &json!({"matchConstraints": {"namespaceSelector": wrong, "objectSelector": wrong}}),
    )]);
    assert_eq!(found[0]["objectSelector"], json!({}));
    let expressions = found[0]["namespaceSelector"]["matchExpressions"].as_array().unwrap();
    assert_eq!(expressions.len(), 1);
}

#[test]
fn what_names_nothing_is_asked_by_nothing() {
    let rule = json!({"apiGroups": [], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]});
    let found = webhooks(&[spec(&json!({"matchConstraints": {"resourceRules": [rule]}}))]);
    assert_eq!(found, [] as [Value; 0]);
}

#[rstest]
#[case::no_object(json!(null), "apply the chart")]
#[case::no_webhook(json!({"webhooks": [{"name": "fence.ringfence.dev", "clientConfig": {"url": "https://x/admit/kinds", "caBundle": "Q0E="}}]}), "apply the chart")]
#[case::no_authority(registration(&json!({"url": "https://x/admit/kinds"})), "no caBundle yet")]
#[case::an_empty_authority(registration(&json!({"url": "https://x/admit/kinds", "caBundle": ""})), "no caBundle yet")]
#[case::another_path(registration(&json!({"url": "https://x/other", "caBundle": "Q0E="})), "apply the chart")]
#[case::two_addresses(registration(&json!({"url": "https://x/admit/kinds", "service": {}, "caBundle": "Q0E="})), "apply the chart")]
#[case::no_address(registration(&json!({"caBundle": "Q0E="})), "apply the chart")]
fn a_registration_that_says_no_address_is_told_of(#[case] stored: Value, #[case] expected: &str) {
    let error = policy_webhooks(&entries(&[spec(&json!({}))]), &stored, OURS).unwrap_err();
    assert!(error.contains(expected), "{error}");
    assert_eq!(policy_webhooks(&[], &stored, OURS), Ok(Vec::new()), "without policies");
}

#[test]
fn what_is_stored_is_compared_whole_and_only_webhooks_are_replaced() {
    let wanted = webhooks(&[spec(&json!({}))]);
    let stored = json!({"metadata": {"name": "x", "resourceVersion": "7", "labels": {"a": "b"}}});
    assert!(registers(&stored, &[]) && registers(&json!({"webhooks": []}), &[]));
    assert!(!registers(&stored, &wanted));
    let whole = with_webhooks(stored.clone(), wanted.clone());
    assert!(registers(&whole, &wanted));
    assert_eq!(whole["metadata"], stored["metadata"]);
    let mut edited = whole;
    edited["webhooks"][0]["newerThanUs"] = json!(true);
    assert!(!registers(&edited, &wanted));
}

#[rstest]
#[case::the_same(json!({}), true)]
#[case::a_field_of_a_newer_api_server(json!({"newerThanUs": true}), true)]
#[case::another_rule(json!({"rules": [{"apiGroups": ["*"]}]}), false)]
#[case::another_word(json!({"failurePolicy": "Ignore"}), false)]
#[case::one_condition_more(json!({"matchConditions": [{}, {}, {}, {}]}), false)]
fn what_the_api_server_fills_in_is_no_difference(#[case] change: Value, #[case] expected: bool) {
    let wanted = webhooks(&[spec(&json!({}))]);
    let mut answered = wanted.clone();
    answered[0]
        .as_object_mut()
        .unwrap()
        .extend(change.as_object().unwrap().clone());
    assert_eq!(says_all(&answered, &wanted), expected);
    assert!(!says_all(&[], &wanted) && !says_all(&answered, &[]));
}
