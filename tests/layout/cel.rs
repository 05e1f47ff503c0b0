//! Each CEL rule of our kinds, evaluated offline on the case that breaks it. `tests/cluster` asks the real API server.

use std::collections::BTreeSet;

use kube_cel::Validator;
use serde_json::{Value, json};
use support::cel::{cases, valid};

#[test]
fn each_case_is_refused_for_its_reason_and_no_other() {
    for case in cases() {
        let schema = schema(&case.kind);
        let old = case.old_object();
        if let Some(old) = &old {
            assert_eq!(
                messages(&schema, old, None),
                [] as [String; 0],
                "{}: the old object must be valid",
                case.case
            );
        }
        assert_eq!(
            messages(&schema, &case.object(), old.as_ref()),
            std::slice::from_ref(&case.refused),
            "{}",
            case.case
        );
    }
}

#[test]
fn what_a_valid_spec_says_is_not_refused() {
    for kind in [
        "AIWorkflow",
        "AIWorkflowClass",
        "AIWorkflowGrant",
        "RegoPolicy",
        "RegoPolicyException",
    ] {
        assert_eq!(
            messages(&schema(kind), &valid(kind, "valid", &json!({})), None),
            [] as [String; 0],
            "{kind}"
        );
    }
}

#[test]
fn no_rule_is_without_a_case() {
    let mut rules = BTreeSet::new();
    for definition in ringfence::api::definitions() {
        collect(&schema(&definition.spec.names.kind), &mut rules);
    }
    let tried: BTreeSet<_> = cases().into_iter().map(|case| case.refused).collect();
    assert_eq!(rules, tried, "tests/fixtures/cel.yaml must break each rule once");
    assert!(rules.len() > 15, "rules were not found: {rules:?}");
}

fn schema(kind: &str) -> Value {
    let definitions = ringfence::api::definitions();
    let definition = definitions
        .iter()
        .find(|definition| definition.spec.names.kind == kind)
        .unwrap();
    serde_json::to_value(definition).unwrap()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take()
}

fn messages(schema: &Value, object: &Value, old: Option<&Value>) -> Vec<String> {
    match Validator::new().validate(schema, object, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_iter().map(|error| error.message).collect(),
    }
}

fn collect(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            for rule in fields
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                found.insert(rule["message"].as_str().unwrap().to_owned());
            }
            fields.values().for_each(|value| collect(value, found));
        }
        _ => {}
    }
}
