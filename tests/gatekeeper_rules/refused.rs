//! What Gatekeeper refuses is not converted, and what it takes is, but for what is listed here.

use ringfence::policy::Registered;
use serde_json::{Value, json};
use support::gatekeeper::Gatekeeper;

use crate::documents::{FINDS_ALL, constraint, patched, template};
use crate::ours::converted;

/// Whether both take a template and a constraint of it.
fn taken(gatekeeper: &mut Gatekeeper, template: &Value, constraint: &Value) -> (bool, bool) {
    let documents = [template.clone(), constraint.clone()];
    let told = gatekeeper.ask(&documents, &[], &[]).expect("Gatekeeper answers");
    let converted = converted(&documents);
    let loads = converted
        .policies
        .iter()
        .all(|made| Registered::compile(&made.policy).is_ok());
    let mine = converted.problems.is_empty() && loads && !converted.policies.is_empty();
    (told.refused.is_empty(), mine)
}

#[test]
fn constraints_are_held_to_the_same() {
    let mut gatekeeper = Gatekeeper::start().expect("Gatekeeper starts");
    let mut with_schema = template(FINDS_ALL);
    with_schema["spec"]["crd"]["spec"]["validation"]["openAPIV3Schema"] = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
        "b": {"type": "array", "maxItems": 1, "items": {"type": "integer", "minimum": 0, "exclusiveMinimum": true}},
        "c": {"type": "object", "additionalProperties": {"type": "string", "enum": ["x", "y"]}},
        "d": {"x-kubernetes-int-or-string": true},
        "e": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "f": {"type": "string", "nullable": true},
        "g": {"type": "object", "properties": {"h": {"type": "boolean"}}},
        "i": {"anyOf": [{"required": ["j"]}, {"required": ["k"]}], "type": "object", "properties": {"j": {"type": "string"}, "k": {"type": "string"}}},
    }});
    let mut refusals = 0;
    for patch in [
        json!({}),
        json!({"a": 1}),
        json!({"a": "A"}),
        json!({"a": "abcd"}),
        json!({"z": 1}),
        json!({"b": []}),
        json!({"b": [1]}),
        json!({"b": [0]}),
        json!({"b": [1, 2]}),
        json!({"b": ["1"]}),
        json!({"c": {"l": "x"}}),
        json!({"c": {"l": "z"}}),
        json!({"d": 1}),
        json!({"d": "1"}),
        json!({"d": 1.5}),
        json!({"e": {"m": {"n": 1}}}),
        json!({"e": 1}),
        json!({"f": "x"}),
        json!({"f": 1}),
        json!({"g": {"h": true}}),
        json!({"g": {"o": 1}}),
        json!({"i": {"j": "x"}}),
        json!({"i": {}}),
    ] {
        let parameters = patched(json!({"a": "abc"}), &patch);
        let of = constraint("c", &json!({"parameters": parameters}));
        let (theirs, mine) = taken(&mut gatekeeper, &with_schema, &of);
        assert_eq!(mine, theirs, "{patch}");
        refusals += usize::from(!theirs);
    }
    assert!(refusals > 10, "{refusals}");
    let open = template(FINDS_ALL);
    for (spec, taken_by_both) in [
        (json!({"match": {"namespaces": ["a_b"]}}), false),
        (json!({"match": {"namespaces": ["a*b"]}}), false),
        (json!({"match": {"excludedNamespaces": ["A"]}}), false),
        (json!({"match": {"name": "a.b"}}), false),
        (json!({"match": {"name": "a-*"}}), true),
        (json!({"match": {"source": "Other"}}), false),
        (
            json!({"match": {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}}),
            false,
        ),
        (
            json!({"match": {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}}),
            false,
        ),
        (
            json!({"match": {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}}),
            false,
        ),
        (
            json!({"match": {"labelSelector": {"matchLabels": {"a b": "c"}}}}),
            false,
        ),
        (
            json!({"match": {"namespaceSelector": {"matchLabels": {"a": "-"}}}}),
            false,
        ),
        (json!({"match": {"kinds": [{"kind": ["Pod"]}]}}), false),
        (json!({"match": {"kinds": "Pod"}}), false),
        (json!({"match": {"namespace": ["a"]}}), false),
        (json!({"matches": {}}), false),
        (json!({"enforcementAction": "block"}), false),
        (json!({"enforcementAction": "scoped"}), false),
        (
            json!({"enforcementAction": "scoped", "scopedEnforcementActions": [{"action": "deny", "enforcementPoints": [{"name": "x"}]}]}),
            false,
        ),
        (
            json!({"enforcementAction": "scoped", "scopedEnforcementActions": [{"action": "no", "enforcementPoints": [{"name": "*"}]}]}),
            false,
        ),
    ] {
        let both = taken(&mut gatekeeper, &open, &constraint("c", &spec));
        assert_eq!(both, (taken_by_both, taken_by_both), "{spec}");
    }
}

#[test]
fn templates_are_held_to_the_same() {
    let mut gatekeeper = Gatekeeper::start().expect("Gatekeeper starts");
    let target = |patch: Value| json!({"spec": {"targets": [patched(json!({"target": "admission.k8s.gatekeeper.sh"}), &patch)]}});
    for (patch, taken_by_both) in [
        (json!({}), true),
        (json!({"metadata": {"name": "other"}}), false),
        (json!({"spec": {"targets": []}}), false),
        (
            json!({"spec": {"targets": [{"target": "a", "rego": FINDS_ALL}]}}),
            false,
        ),
        (target(json!({})), false),
        (
            target(json!({"rego": "package findsall\n\ndeny[\"a\"] { true }\n"})),
            false,
        ),
        (
            target(json!({"rego": "package findsall\n\nviolation[x] { x := }\n"})),
            false,
        ),
        (
            target(json!({"rego": "package findsall\n\nviolation[{\"msg\": x}] { true }\n"})),
            false,
        ),
        (
            target(json!({"rego": "package findsall\n\nviolation[{\"msg\": \"a\"}] { data.other.x }\n"})),
            false,
        ),
        (
            target(
                json!({"rego": "package findsall\n\nimport data.inventory\n\nviolation[{\"msg\": \"a\"}] { true }\n"}),
            ),
            false,
        ),
        (
            target(json!({"rego": FINDS_ALL, "libs": ["package other\n\nx := 1\n"]})),
            false,
        ),
        (
            target(json!({"rego": FINDS_ALL, "libs": ["package lib.a\n\nx := 1\n"]})),
            true,
        ),
        (
            target(json!({"code": [{"engine": "Rego", "source": {"version": "v1", "rego": FINDS_ALL}}]})),
            false,
        ),
        (
            target(json!({"code": [{"engine": "Rego", "source": {"rego": FINDS_ALL}}]})),
            true,
        ),
        (
            target(json!({"rego": "package findsall\n\nviolation[{\"msg\": \"a\"}] { external_data({}) }\n"})),
            false,
        ),
    ] {
        let both = taken(
            &mut gatekeeper,
            &patched(template(FINDS_ALL), &patch),
            &constraint("c", &json!({})),
        );
        assert_eq!(both, (taken_by_both, taken_by_both), "{patch}");
    }
}

/// What Gatekeeper takes, and Ringfence refuses by name.
#[test]
fn what_ringfence_alone_refuses_is_known() {
    let mut gatekeeper = Gatekeeper::start().expect("Gatekeeper starts");
    let rego = |body: &str| {
        template(&format!(
            "package findsall\n\nviolation[{{\"msg\": \"a\"}}] {{ {body} }}\n"
        ))
    };
    let all = json!({});
    for (template, spec) in [
        (
            rego("http.send({\"method\": \"get\", \"url\": \"http://x\"}).body"),
            all.clone(),
        ),
        (rego("time.now_ns() > 0"), all.clone()),
        (rego("data.inventory.namespace[_][\"v1\"].Secret[_]"), all.clone()),
        (rego("data.inventory.namespace[_][_][_][_]"), all.clone()),
        (template(FINDS_ALL), json!({"match": {"scope": "cluster"}})),
        (template(FINDS_ALL), json!({"match": {"source": "Generated"}})),
        (
            template(FINDS_ALL),
            json!({"enforcementAction": "scoped", "scopedEnforcementActions": [{"action": "deny", "enforcementPoints": [{"name": "vap.k8s.io"}]}]}),
        ),
    ] {
        let both = taken(&mut gatekeeper, &template, &constraint("c", &spec));
        assert_eq!(both, (true, false), "{spec} {template}");
    }
}
