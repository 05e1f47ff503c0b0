//! What the API server's schema would say about a declaration, offline: unknown and missing fields, types, upper bounds.
//!
//! Must never: let a misspelt field pass. What is dropped in silence is a fence that somebody believes in. Lower bounds and
//! meanings are `plan`'s, whose words say what to do.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::Value;

use crate::api::committed;

/// Most problems of one object that are listed.
const MAX_PROBLEMS: usize = 20;
/// What says that any fields may be there.
const FREE: &str = "x-kubernetes-preserve-unknown-fields";

/// Schemas of `spec`, by kind.
static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let schema = |definition: &Value| {
        let kind = definition.pointer("/spec/names/kind")?.as_str()?.to_owned();
        let spec = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec")?;
        Some((kind, spec.clone()))
    };
    committed().iter().filter_map(schema).collect()
});

/// Schema of the `spec` of one of our kinds.
pub(super) fn schema_of(kind: &str) -> Option<&'static Value> {
    SCHEMAS.get(kind)
}

/// What is wrong with a value by its schema, each with the path of its field.
pub(super) fn problems(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(schema, value, path, &mut found);
    found.truncate(MAX_PROBLEMS);
    found
}

fn walk(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    if found.len() >= MAX_PROBLEMS {
        return;
    }
    let wanted = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    if !is_of_type(wanted, value) {
        found.push(format!("{path}: must be of type {wanted}"));
        return;
    }
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64).unwrap_or(u64::MAX);
    let too_much = match value {
        Value::Array(items) => items.len() as u64 > bound("maxItems"),
        Value::Object(fields) => fields.len() as u64 > bound("maxProperties"),
        Value::String(text) => text.chars().count() as u64 > bound("maxLength"),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    };
    if too_much {
        let limit = ["maxItems", "maxProperties", "maxLength"].map(bound).into_iter().min();
        found.push(format!("{path}: must not be longer than {}", limit.unwrap_or_default()));
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let allowed: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
        found.push(format!("{path}: must be one of {}", allowed.join(", ")));
    }
    match value {
        Value::Object(fields) => walk_object(schema, fields, path, found),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let schema = schema.get("items").unwrap_or(&Value::Null);
                walk(schema, item, &format!("{path}[{index}]"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn walk_object(schema: &Value, fields: &serde_json::Map<String, Value>, path: &str, found: &mut Vec<String>) {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            found.push(format!("{path}.{name}: is required"));
        }
    }
    if schema.get(FREE) == Some(&Value::Bool(true)) {
        return;
    }
    let known = schema.get("properties").and_then(Value::as_object);
    for (name, value) in fields {
        let path = format!("{path}.{name}");
        let other = schema.get("additionalProperties").filter(|schema| schema.is_object());
        match known.and_then(|known| known.get(name)).or(other) {
            Some(schema) => walk(schema, value, &path, found),
            None => found.push(format!("{path}: there is no such field")),
        }
    }
}

fn is_of_type(wanted: &str, value: &Value) -> bool {
    match wanted {
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        "string" => value.is_string(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_has_a_schema() {
        for kind in [
            "AIWorkflow",
            "AIWorkflowClass",
            "AIWorkflowGrant",
            "RegoPolicy",
            "RegoPolicyException",
        ] {
            assert_eq!(schema_of(kind).unwrap()["type"], "object", "{kind}");
        }
        assert_eq!(schema_of("Pod"), None);
    }

    #[test]
    fn parameters_are_whatever_their_author_wants_and_nothing_else_is() {
        let spec = json!({
            "validationActions": ["Deny"], "parameters": {"any": {"thing": [null, 1]}}, "remedy": "x",
            "matchConstraints": {"resourceRules": []}, "rego": {"modules": []},
        });
        assert_eq!(
            problems(schema_of("RegoPolicy").unwrap(), &spec, "spec"),
            ["spec.remedy: there is no such field"]
        );
    }

    #[rstest]
    #[case::right(json!({"launchers": [], "images": ["a/**"]}), &[])]
    #[case::labels_are_free(json!({"launchers": [], "images": ["a/**"], "network": {"ingress": [{"name": "x", "ports": [{"port": 1}],
        "from": {"pods": {"selector": {"matchLabels": {"any": "thing"}}}}}]}}), &[])]
    #[case::no_object(json!([]), &["spec: must be of type object"])]
    #[case::missing(json!({"images": ["a/**"]}), &["spec.launchers: is required"])]
    #[case::misspelt(json!({"launchers": [], "images": ["a/**"], "netwrok": {}}), &["spec.netwrok: there is no such field"])]
    #[case::type_(json!({"launchers": [], "images": ["a/**"], "owner": {"team": 7}}), &["spec.owner.team: must be of type string"])]
    #[case::too_many(json!({"launchers": [], "images": vec!["a"; 65]}), &["spec.images: must not be longer than 64"])]
    #[case::too_long(json!({"launchers": [], "images": ["a".repeat(256)]}), &["spec.images[0]: must not be longer than 255"])]
    #[case::fraction(json!({"launchers": [], "images": ["a/**"], "network": {"egress": [{"name": "x", "to": {"apiServer": {}}, "ports": [{"port": 1.5}]}]}}),
        &["spec.network.egress[0].ports[0].port: must be of type integer"])]
    #[case::word(json!({"launchers": [], "images": ["a/**"], "network": {"egress": [{"name": "x", "to": {"apiServer": {}}, "ports": [{"port": 1, "protocol": "tcp"}]}]}}),
        &["spec.network.egress[0].ports[0].protocol: must be one of SCTP, TCP, UDP"])]
    fn what_the_api_server_would_refuse_is_named(#[case] spec: Value, #[case] expected: &[&str]) {
        assert_eq!(problems(schema_of("AIWorkflow").unwrap(), &spec, "spec"), expected);
    }

    #[test]
    fn the_list_of_problems_is_bounded() {
        let fields: serde_json::Map<_, _> = (0..1000).map(|n| (format!("x{n}"), json!(1))).collect();
        let spec = json!({"launchers": vec![json!({"user": 1}); 32], "images": [], "owner": fields});
        let found = problems(schema_of("AIWorkflow").unwrap(), &spec, "spec");
        assert_eq!(found.len(), MAX_PROBLEMS);
    }
}
