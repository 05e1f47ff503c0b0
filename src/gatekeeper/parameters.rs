//! A constraint's parameters by its template's schema: unknown fields, wrong values, defaults.
//!
//! Must never: let a parameter through that Gatekeeper would refuse. The template would be asked about something that its author did
//! not mean.

use serde_json::{Map, Value, json};

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";
/// Keywords that mean the same in JSON Schema.
const SAME: [&str; 15] = [
    "default",
    "enum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "required",
    "type",
    "uniqueItems",
];
/// Most problems that are told of one constraint.
const MAX_PROBLEMS: usize = 16;

/// The schema of a template's parameters.
#[derive(Clone, Debug)]
pub(super) struct ParametersSchema {
    /// As the template has it; `None` where a constraint may have no parameters.
    openapi: Option<Value>,
    /// In JSON Schema.
    plain: Option<Value>,
}

impl ParametersSchema {
    /// Of `spec.crd.spec.validation`. `legacy` is what an absent `legacySchema` means.
    pub(super) fn of(validation: Option<&Value>, legacy: bool) -> Self {
        let field = |name: &str| validation.and_then(|validation| validation.get(name));
        let legacy = field("legacySchema").and_then(Value::as_bool).unwrap_or(legacy);
        let mut openapi = field("openAPIV3Schema").filter(|schema| schema.is_object()).cloned();
        if legacy {
            preserve(openapi.get_or_insert_with(|| json!({})));
        }
        let plain = openapi.as_ref().map(|schema| translated(schema, true));
        Self { openapi, plain }
    }

    /// As JSON Schema, where there is one that demands anything.
    pub(super) fn plain(&self) -> Option<Map<String, Value>> {
        let schema = self.plain.as_ref()?.as_object()?;
        (!schema.is_empty()).then(|| schema.clone())
    }

    /// Whether it has rules in CEL, which are not looked at here.
    pub(super) fn has_rules(&self) -> bool {
        self.openapi
            .as_ref()
            .is_some_and(|schema| names(schema, "x-kubernetes-validations"))
    }

    /// The parameters with their defaults, or what is wrong with them.
    pub(super) fn check(&self, parameters: Option<&Value>) -> Result<Map<String, Value>, Vec<String>> {
        let Some(openapi) = &self.openapi else {
            return match parameters {
                None => Ok(Map::new()),
                Some(_) => Err(vec![
                    "spec.parameters: its template has no schema for parameters, and so takes none".to_owned(),
                ]),
            };
        };
        // Nothing is defaulted in what is not there.
        let Some(mut value) = parameters.or_else(|| openapi.get("default")).cloned() else {
            return Ok(Map::new());
        };
        defaulted(openapi, &mut value);
        let plain = self.plain.as_ref().unwrap_or(&Value::Bool(true));
        let validator = jsonschema::validator_for(plain)
            .map_err(|_| vec!["the schema of its template's parameters is no schema".to_owned()])?;
        let problems: Vec<_> = validator
            .iter_errors(&value)
            .take(MAX_PROBLEMS)
            .map(|error| {
                let at = error.instance_path().to_string().replace('/', ".");
                format!("spec.parameters{at}: {}", error.masked())
            })
            .collect();
        match value {
            _ if !problems.is_empty() => Err(problems),
            Value::Object(fields) => Ok(fields),
            _ => Err(vec!["spec.parameters: must be an object".to_owned()]),
        }
    }
}

/// What an old schema means: whatever is not described may be there.
fn preserve(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    match fields.get("type").and_then(Value::as_str).unwrap_or_default() {
        "" | "object" => {
            fields.insert(PRESERVE.to_owned(), true.into());
        }
        "array" => {
            fields
                .entry("items")
                .or_insert_with(|| json!({"x-kubernetes-preserve-unknown-fields": true}));
        }
        _ => {}
    }
    let properties = fields.get_mut("properties").and_then(Value::as_object_mut);
    properties
        .into_iter()
        .flat_map(|properties| properties.values_mut())
        .for_each(preserve);
    ["items", "additionalProperties"]
        .into_iter()
        .for_each(|name| fields.get_mut(name).into_iter().for_each(preserve));
}

/// In JSON Schema. `structural`: where fields that are not described are refused.
fn translated(schema: &Value, structural: bool) -> Value {
    let Some(fields) = schema.as_object() else {
        return schema.clone();
    };
    let is = |name: &str| fields.get(name) == Some(&Value::Bool(true));
    let mut plain = Map::new();
    for name in SAME {
        if let Some(value) = fields.get(name) {
            plain.insert(name.to_owned(), value.clone());
        }
    }
    for (exclusive, limit) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        if is(exclusive)
            && let Some(value) = plain.remove(limit)
        {
            plain.insert(exclusive.to_owned(), value);
        }
    }
    if is(INT_OR_STRING) {
        plain.insert("type".to_owned(), json!(["integer", "string"]));
    }
    if is("nullable") {
        if let Some(kind) = plain.get_mut("type") {
            *kind = match kind.take() {
                Value::Array(kinds) => kinds.into_iter().chain(["null".into()]).collect(),
                kind => json!([kind, "null"]),
            };
        }
        if let Some(Value::Array(values)) = plain.get_mut("enum") {
            values.push(Value::Null);
        }
    }
    let each = |value: &Value, structural| -> Value {
        let parts = value.as_object().into_iter().flatten();
        parts
            .map(|(name, part)| (name.clone(), translated(part, structural)))
            .collect::<Map<_, _>>()
            .into()
    };
    if let Some(properties) = fields.get("properties") {
        plain.insert("properties".to_owned(), each(properties, structural));
    }
    for name in ["items", "additionalProperties"] {
        if let Some(part) = fields.get(name) {
            plain.insert(name.to_owned(), translated(part, structural));
        }
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        if let Some(Value::Array(parts)) = fields.get(name) {
            let parts = parts.iter().map(|part| translated(part, false));
            plain.insert(name.to_owned(), parts.collect());
        }
    }
    if let Some(not) = fields.get("not") {
        plain.insert("not".to_owned(), translated(not, false));
    }
    let is_object = fields.get("type").and_then(Value::as_str) == Some("object");
    let is_open = is(PRESERVE) || is("x-kubernetes-embedded-resource") || fields.contains_key("additionalProperties");
    if structural && is_object && !is_open {
        plain.insert("additionalProperties".to_owned(), false.into());
    }
    Value::Object(plain)
}

/// Puts in what the schema has a default for, as the API server does.
fn defaulted(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, property) in properties.into_iter().flatten() {
                let nullable = property.get("nullable") == Some(&Value::Bool(true));
                if fields.get(name) == Some(&Value::Null) && !nullable {
                    fields.remove(name);
                }
                if let Some(default) = property.get("default")
                    && !fields.contains_key(name)
                {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, field) in fields.iter_mut() {
                let property = properties.and_then(|properties| properties.get(name));
                if let Some(schema) = property.or_else(|| schema.get("additionalProperties")) {
                    defaulted(schema, field);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| defaulted(schema, item));
            }
        }
        _ => {}
    }
}

fn names(schema: &Value, keyword: &str) -> bool {
    match schema {
        Value::Array(items) => items.iter().any(|item| names(item, keyword)),
        Value::Object(fields) => fields.contains_key(keyword) || fields.values().any(|field| names(field, keyword)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn schema(properties: Value) -> Value {
        json!({"openAPIV3Schema": {"type": "object", "properties": properties}})
    }

    fn checked(validation: Value, parameters: Value) -> Result<Value, String> {
        let schema = ParametersSchema::of(Some(&validation), false);
        let checked = schema.check(Some(&parameters).filter(|parameters| !parameters.is_null()));
        checked.map(Value::Object).map_err(|problems| problems.join("; "))
    }

    #[rstest]
    #[case::as_described(json!({"a": {"type": "string"}}), json!({"a": "x"}), Ok(json!({"a": "x"})))]
    #[case::wrong_type(json!({"a": {"type": "string"}}), json!({"a": 1}), Err("spec.parameters.a"))]
    #[case::unknown(json!({"a": {"type": "string"}}), json!({"b": "x"}), Err("'b' was unexpected"))]
    #[case::unknown_within(json!({"a": {"type": "object", "properties": {}}}), json!({"a": {"b": 1}}), Err("spec.parameters.a"))]
    #[case::kept_unknown(
        json!({"a": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}), json!({"a": {"b": 1}}), Ok(json!({"a": {"b": 1}}))
    )]
    #[case::map(json!({"a": {"type": "object", "additionalProperties": {"type": "string"}}}), json!({"a": {"b": "c"}}), Ok(json!({"a": {"b": "c"}})))]
    #[case::pattern(json!({"a": {"type": "string", "pattern": "^x"}}), json!({"a": "y"}), Err("spec.parameters.a"))]
    #[case::word(json!({"a": {"type": "string", "enum": ["x"]}}), json!({"a": "y"}), Err("spec.parameters.a"))]
    #[case::exclusive(json!({"a": {"type": "integer", "minimum": 1, "exclusiveMinimum": true}}), json!({"a": 1}), Err("spec.parameters.a"))]
    #[case::not_exclusive(json!({"a": {"type": "integer", "minimum": 1}}), json!({"a": 1}), Ok(json!({"a": 1})))]
    #[case::int_or_string(json!({"a": {"x-kubernetes-int-or-string": true}}), json!({"a": "10%"}), Ok(json!({"a": "10%"})))]
    #[case::neither(json!({"a": {"x-kubernetes-int-or-string": true}}), json!({"a": true}), Err("spec.parameters.a"))]
    #[case::nullable(json!({"a": {"type": "string", "nullable": true}}), json!({"a": null}), Ok(json!({"a": null})))]
    #[case::null_is_absent(json!({"a": {"type": "string"}}), json!({"a": null}), Ok(json!({})))]
    #[case::default(json!({"a": {"type": "string", "default": "x"}}), json!({}), Ok(json!({"a": "x"})))]
    #[case::default_within(
        json!({"a": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "integer", "default": 2}}}}}),
        json!({"a": [{}]}),
        Ok(json!({"a": [{"b": 2}]}))
    )]
    #[case::nothing_is_defaulted_in_nothing(json!({"a": {"type": "string", "default": "x"}}), Value::Null, Ok(json!({})))]
    fn parameters_are_held_to_the_schema(
        #[case] properties: Value,
        #[case] parameters: Value,
        #[case] expected: Result<Value, &str>,
    ) {
        match (checked(schema(properties), parameters), expected) {
            (Ok(given), Ok(expected)) => assert_eq!(given, expected),
            (Err(why), Err(words)) => assert!(why.contains(words), "{why}"),
            (given, expected) => panic!("{given:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn without_a_schema_there_are_no_parameters_and_with_an_old_one_any() {
        assert!(checked(json!({}), json!({"a": 1})).is_err());
        assert_eq!(checked(json!({}), Value::Null), Ok(json!({})));
        let old = json!({"legacySchema": true});
        assert_eq!(checked(old, json!({"a": 1})), Ok(json!({"a": 1})));
        let absent = ParametersSchema::of(None, true).check(Some(&json!({"a": {"b": 1}})));
        assert!(absent.is_ok());
        let typed = json!({"legacySchema": true, "openAPIV3Schema": {"properties": {"a": {"type": "string"}}}});
        assert_eq!(
            checked(typed.clone(), json!({"a": "x", "b": 1})),
            Ok(json!({"a": "x", "b": 1}))
        );
        assert!(checked(typed, json!({"a": 1})).is_err());
    }

    #[test]
    fn a_problem_quotes_no_value() {
        let why = checked(schema(json!({"a": {"type": "integer"}})), json!({"a": "hunter2"}));
        assert!(why.is_err_and(|why| !why.contains("hunter2")));
    }
}
