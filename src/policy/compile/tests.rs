//! What a policy sees of an inventory, and what it costs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::*;
use crate::api::{InventoryKind, Rego, RegoModule, RegoPolicySpec};
use crate::policy::engine_value;
use crate::policy::registered::{Declared, Registered};

/// A policy of several modules that looks at an inventory.
fn policy(version: RegoVersion, modules: &[&str]) -> Policy {
    let sources: Vec<_> = modules
        .iter()
        .enumerate()
        .map(|(number, text)| Source {
            file: format!("{number}.rego"),
            text: (*text).to_owned(),
        })
        .collect();
    let declared = Declared {
        name: "hosts".to_owned(),
        uid: String::new(),
        generation: 1,
        spec: spec(),
    };
    let compiled = Registered::compile(&declared).unwrap();
    let mut metadata = compiled.metadata();
    metadata.rego = version;
    Policy::of_modules(metadata, &sources, BTreeMap::new(), true).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn spec() -> RegoPolicySpec {
    let module = RegoModule {
        name: "p.rego".to_owned(),
        source: "package p\n\ndeny contains \"x\" if input.x".to_owned(),
    };
    RegoPolicySpec {
        validation_actions: vec![crate::api::ValidationAction::Deny],
        match_constraints: serde_json::from_value(json!({"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
        ]}))
        .unwrap(),
        inventory: vec![InventoryKind {
            group: String::new(),
            version: "v1".to_owned(),
            kind: "Service".to_owned(),
            fields: vec!["spec".to_owned()],
        }],
        rego: Rego {
            version: crate::api::RegoVersion::V1,
            modules: vec![module],
        },
        ..RegoPolicySpec::default()
    }
}

/// What it refuses, by the messages.
fn ask(policy: &Policy, input: &Json, inventory: &Json) -> Result<Vec<String>, EvalError> {
    let value = |json| engine_value(json).expect("converts");
    let found = policy.evaluate(value(input), Some(value(inventory)), "", &mut || Duration::from_secs(5))?;
    Ok(found.deny.into_iter().map(|finding| finding.message).collect())
}

fn ingress(namespace: &str, name: &str, host: &str) -> Json {
    json!({"namespace": {namespace: {"networking.k8s.io/v1": {"Ingress": {name: {
        "metadata": {"name": name, "namespace": namespace}, "spec": {"rules": [{"host": host}]},
    }}}}}})
}

const UNIQUE_HOST: &str = r#"package hosts

import data.lib.hosts as known

deny contains msg if {
    some rule in input.request.object.spec.rules
    some taken in known.others(input.request.namespace)
    rule.host == taken
    msg := sprintf("%s is taken", [rule.host])
}
"#;

const LIB: &str = r#"package lib.hosts

all contains [namespace, host] if {
    some namespace, kinds in data.inventory.namespace
    some object in kinds["networking.k8s.io/v1"].Ingress
    host := object.spec.rules[_].host
}

others(namespace) := {host | some [there, host] in all; there != namespace}
"#;

#[test]
fn a_policy_sees_the_inventory_of_each_evaluation_through_other_packages() {
    let policy = policy(RegoVersion::V1, &[UNIQUE_HOST, LIB]);
    let input = json!({"request": {"namespace": "a", "object": {"spec": {"rules": [{"host": "x.io"}]}}}});
    for _ in 0..2 {
        assert_eq!(
            ask(&policy, &input, &ingress("b", "i", "x.io")).unwrap(),
            ["x.io is taken"]
        );
        assert!(ask(&policy, &input, &ingress("b", "i", "y.io")).unwrap().is_empty());
        assert!(ask(&policy, &input, &ingress("a", "i", "x.io")).unwrap().is_empty());
        assert!(ask(&policy, &input, &json!({})).unwrap().is_empty());
    }
}

/// The input is handed over inside another one, which must not be seen.
#[test]
fn the_input_is_what_it_is_without_an_inventory() {
    let text = r#"package p

deny contains concat(",", sort(object.keys(input)))

deny contains "leaked" if input.inventory

deny contains "whole" if data.inventory == {"cluster": {"v1": {}}}

deny contains msg if {
    msg := sprintf("other %v", [input]) with input as {"x": count(data.inventory.cluster)}
}

deny contains "still there" if {
    looks with input as {"y": 1}
}

looks if {
    input.y == 1
    data.inventory.cluster.v1 == {}
}
"#;
    let policy = policy(RegoVersion::V1, &[text]);
    let found = ask(
        &policy,
        &json!({"request": {}, "parameters": {}}),
        &json!({"cluster": {"v1": {}}}),
    );
    assert_eq!(
        found.unwrap(),
        ["other {\"x\": 1}", "parameters,request", "still there", "whole"]
    );
}

/// A rule that is undefined, false, empty or broken is the same as without an inventory.
#[test]
fn every_outcome_is_told_as_without_an_inventory() {
    let allow = |body: &str| {
        let text = format!("package a[\"b-c\"]\n\nallow if {{ {body} }}");
        ask(
            &policy(RegoVersion::V1, &[&text]),
            &json!({"n": "x"}),
            &json!({"cluster": {"n": 1}}),
        )
    };
    assert!(allow("data.inventory.cluster.n == 1").unwrap().is_empty());
    assert_eq!(
        allow("data.inventory.cluster.n == 2").unwrap().len(),
        1,
        "undefined refuses"
    );
    assert!(matches!(
        allow("to_number(input.n) == data.inventory.cluster.n"),
        Err(EvalError::Error(_))
    ));

    let text = "package p\n\ndefault allow := false\n\nallow if data.inventory.namespace[input.n]";
    let default = policy(RegoVersion::V1, &[text]);
    assert_eq!(
        ask(&default, &json!({"n": "a"}), &json!({"namespace": {}}))
            .unwrap()
            .len(),
        1
    );
    let found = ask(&default, &json!({"n": "a"}), &json!({"namespace": {"a": {}}}));
    assert!(found.unwrap().is_empty());

    let conflict = "package p\n\ndeny contains x\n\nx := 1 if data.inventory.cluster\n\nx := 2 if data.inventory";
    let found = ask(
        &policy(RegoVersion::V1, &[conflict]),
        &json!({}),
        &json!({"cluster": {}}),
    );
    assert!(matches!(found, Err(EvalError::Error(_))), "{found:?}");
}

#[test]
fn version_0_of_the_language_sees_it_too() {
    let text = r#"package k8suniquehost

identical(obj, review) {
    obj.metadata.namespace == review.object.metadata.namespace
    obj.metadata.name == review.object.metadata.name
}

violation[{"msg": msg}] {
    re_match("^(extensions|networking.k8s.io)$", input.review.kind.group)
    host := input.review.object.spec.rules[_].host
    other := data.inventory.namespace[_][otherapiversion]["Ingress"][name]
    re_match("^(extensions|networking.k8s.io)/.+$", otherapiversion)
    other.spec.rules[_].host == host
    not identical(other, input.review)
    msg := sprintf("ingress host conflicts with an existing ingress <%v>", [host])
}
"#;
    let policy = policy(RegoVersion::V0, &[text]);
    let object = json!({"metadata": {"namespace": "a", "name": "i"}, "spec": {"rules": [{"host": "x.io"}]}});
    let input = json!({"review": {"kind": {"group": "networking.k8s.io"}, "object": object}});
    let found = ask(&policy, &input, &ingress("b", "i", "x.io")).unwrap();
    assert_eq!(found, ["ingress host conflicts with an existing ingress <x.io>"]);
    assert!(ask(&policy, &input, &ingress("a", "i", "x.io")).unwrap().is_empty());
}

/// Its own package would add rules to those by which it is asked.
#[test]
fn a_policy_cannot_answer_in_the_place_of_who_asks_it() {
    let modules = [
        "package asked\n\ndeny contains \"seen\" if data.inventory.cluster.n == 1",
        "package asked_.x\n\ndeny := set()",
    ];
    let policy = policy(RegoVersion::V1, &modules);
    assert_eq!(
        ask(&policy, &json!({}), &json!({"cluster": {"n": 1}})).unwrap(),
        ["seen"]
    );
    assert!(
        ask(&policy, &json!({}), &json!({"cluster": {"n": 2}}))
            .unwrap()
            .is_empty()
    );
    let none = policy.evaluate(Value::new_object(), None, "", &mut || Duration::from_secs(5));
    assert!(
        matches!(none, Err(EvalError::Error(_))),
        "an inventory that is not there is never taken for an empty one"
    );
}

#[test]
fn the_time_limit_holds_while_an_inventory_is_looked_at() {
    let text = "package p\n\ndeny contains \"x\" if {\n    some a in data.inventory.cluster\n    some b in data.inventory.cluster\n    \
                a + b == -1\n}";
    let policy = policy(RegoVersion::V1, &[text]);
    let inventory = engine_value(&json!({"cluster": (0..3000).collect::<Vec<_>>()}));
    let begin = Instant::now();
    let found = policy.evaluate(Value::new_object(), inventory, "", &mut || Duration::from_millis(50));
    assert!(matches!(found, Err(EvalError::Timeout)), "{found:?}");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

/// `cargo test --release --lib what_an_inventory_costs -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn what_an_inventory_costs() {
    let filler: String = (0..200)
        .map(|n| {
            format!("\nhelper_{n}(x) := y if {{ some y in x; y > {n} }}\n\nrule_{n} if helper_{n}(input.list) == {n}\n")
        })
        .collect();
    for (what, lib) in [("small", LIB.to_owned()), ("400 rules more", format!("{LIB}{filler}"))] {
        let policy = policy(RegoVersion::V1, &[UNIQUE_HOST, &lib]);
        let mut inventory = json!({"namespace": {}});
        for n in 0..200 {
            let one = ingress(&format!("n{n}"), "i", &format!("h{n}.io"));
            inventory["namespace"][format!("n{n}")] = one["namespace"][format!("n{n}")].clone();
        }
        let input = json!({"request": {"namespace": "a", "object": {"spec": {"rules": [{"host": "x.io"}]}}}});
        let (input, inventory) = (engine_value(&input).unwrap(), engine_value(&inventory).unwrap());
        let rounds = 200u32;
        let begin = Instant::now();
        for _ in 0..rounds {
            let found = policy.evaluate(input.clone(), Some(inventory.clone()), "", &mut || {
                Duration::from_secs(5)
            });
            assert!(found.is_ok());
        }
        let with = begin.elapsed() / rounds;
        let begin = Instant::now();
        for _ in 0..rounds {
            let mut engine = policy.engine.clone();
            engine.set_input(input.clone());
            let data = BTreeMap::from([(Value::from("inventory"), inventory.clone())]);
            engine.add_data(Value::from(data)).unwrap();
            assert!(evaluate_rule(&mut engine, "data.hosts.deny", Duration::from_secs(5)).is_ok());
        }
        println!(
            "{what}: {with:?} by `with`, {:?} by added data",
            begin.elapsed() / rounds
        );
    }
}
