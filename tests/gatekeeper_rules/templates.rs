//! Every form of a template, what it sees, and what becomes of what it says.

use serde_json::{Value, json};
use support::gatekeeper::Gatekeeper;

use crate::compare;
use crate::documents::{FINDS_ALL, asked, config_map, constraint, namespace, patched, pod, requests, template};

const LIB: &str = "package lib.words\n\nsaid := \"by the library\"\n\nlong(text) { count(text) > 3 }\n";

fn ask(documents: &[Value], inventory: &[Value], requests: &[Value]) -> usize {
    let mut gatekeeper = Gatekeeper::start().expect("Gatekeeper starts");
    compare(&mut gatekeeper, documents, inventory, requests)
}

fn rule(body: &str) -> String {
    format!("package findsall\n\nviolation[{{\"msg\": msg, \"details\": details}}] {{\n  details := {{}}\n{body}\n}}\n")
}

fn of_pod(rego: &str, spec: &Value) -> usize {
    ask(
        &[template(rego), constraint("c", spec)],
        &[],
        &[asked("CREATE", "pods", &pod(), &Value::Null)],
    )
}

#[test]
fn both_forms_and_both_versions_say_the_same() {
    let old = "package findsall\n\nimport data.lib.words\n\nviolation[{\"msg\": words.said}] { words.long(input.review.name) }\n";
    let path = "package findsall\n\nviolation[{\"msg\": msg}] { data.lib.words.long(input.review.name); msg := data.lib.words.said }\n";
    let new = "package findsall\n\nimport data.lib.words\n\nviolation contains {\"msg\": words.said} if words.long(input.review.name)\n";
    let new_lib = "package lib.words\n\nsaid := \"by the library\"\n\nlong(text) if count(text) > 3\n";
    let of = |target: Value| {
        let mut template = template("");
        template["spec"]["targets"][0] = patched(json!({"target": "admission.k8s.gatekeeper.sh"}), &target);
        ask(
            &[template, constraint("c", &json!({}))],
            &[],
            &[asked("CREATE", "pods", &pod(), &Value::Null)],
        )
    };
    let code = |version: &str, rego: &str, lib: &str| json!({"code": [{"engine": "Rego", "source": {"version": version, "rego": rego, "libs": [lib]}}]});
    assert_eq!(of(json!({"rego": old, "libs": [LIB]})), 1);
    assert_eq!(of(json!({"rego": path, "libs": [LIB]})), 1);
    assert_eq!(of(code("", old, LIB)), 1);
    assert_eq!(of(code("v0", path, LIB)), 1);
    assert_eq!(of(code("v2", old, LIB)), 1);
    assert_eq!(of(code("v1", new, new_lib)), 1);
    // What the target says comes before its code.
    let both = patched(code("v1", new, new_lib), &json!({"rego": FINDS_ALL}));
    assert_eq!(of(both), 1);
}

#[test]
fn rules_of_the_template_use_each_other() {
    let rego = r#"package findsall

import future.keywords.in

violation[{"msg": msg}] {
  container := containers[_]
  not is_allowed(container.image)
  msg := sprintf("%v: %v", [container.name, why(container)])
}

containers[c] { c := input.review.object.spec.containers[_] }

containers[c] { c := input.review.object.spec.initContainers[_] }

is_allowed(image) { startswith(image, input.parameters.registries[_]) }

is_allowed(image) { image in input.parameters.images }

why(container) = out { out := container.image } else = "no image" { true }
"#;
    let with = |containers: Value| patched(pod(), &json!({"spec": {"containers": containers}}));
    let requests = [
        with(json!([{"name": "a", "image": "good/x"}, {"name": "b", "image": "evil/x"}])),
        with(json!([{"name": "a", "image": "one"}, {"name": "a"}])),
        patched(
            with(json!([])),
            &json!({"spec": {"initContainers": [{"name": "i", "image": "evil/y"}]}}),
        ),
    ]
    .map(|pod| asked("CREATE", "pods", &pod, &Value::Null));
    let documents = [
        template(rego),
        constraint(
            "c",
            &json!({"parameters": {"registries": ["good/"], "images": ["one"]}}),
        ),
    ];
    assert_eq!(ask(&documents, &[], &requests), 2);
}

#[test]
fn what_the_engine_alone_would_not_take_is_taken() {
    for (rego, found) in [
        (
            "package findsall\n\nviolation[{\"msg\": msg}] {\n  msg := \"a\"\n} {\n  msg := \"b\"\n} {\n  input.none\n  msg := \"c\"\n}\n",
            2,
        ),
        (
            "package findsall\n\nviolation[{\"msg\": \"a\"}] {\n  x := [1]\n  (x[0] == 1)\n}\n",
            1,
        ),
        (
            "package findsall\n\nviolation[{\"msg\": \"a\"}] {\n\tx := [1]\n\t(x[0] + 1) == 3\n}\n",
            0,
        ),
        (
            "package findsall\n\nviolation[{\"msg\": msg}] {\n  msg := words()\n}\n\nwords() = out {\n  input.none\n  out = \"a\"\n}\n\nwords() = out {\n  \
             out = input.review.name\n}\n",
            1,
        ),
    ] {
        assert_eq!(of_pod(rego, &json!({})), found, "{rego}");
    }
}

#[test]
fn old_versions_of_templates_take_any_parameters() {
    let rego = rule("  msg := sprintf(\"%v\", [input.parameters])");
    for version in ["v1beta1", "v1alpha1"] {
        let mut old = template(&rego);
        old["apiVersion"] = format!("templates.gatekeeper.sh/{version}").into();
        old["spec"]["crd"]["spec"]["validation"] = json!({});
        let documents = [
            old,
            constraint("c", &json!({"parameters": {"a": {"b": [1, "x", null]}}})),
        ];
        assert_eq!(
            ask(&documents, &[], &[asked("CREATE", "pods", &pod(), &Value::Null)]),
            1
        );
    }
}

#[test]
fn parameters_come_with_their_defaults() {
    let rego = rule("  msg := sprintf(\"%v\", [input.parameters])");
    let mut with_defaults = template(&rego);
    with_defaults["spec"]["crd"]["spec"]["validation"]["openAPIV3Schema"] = json!({"type": "object", "properties": {
        "words": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer", "default": 7}}}},
        "more": {"type": "object", "default": {}, "properties": {"b": {"type": "string", "default": "x"}}},
        "flag": {"type": "boolean", "default": false},
    }});
    for spec in [
        json!({}),
        json!({"parameters": {}}),
        json!({"parameters": {"words": [{}, {"a": 1}]}}),
        json!({"parameters": {"more": {"b": "y"}, "flag": true}}),
    ] {
        let documents = [with_defaults.clone(), constraint("c", &spec)];
        assert_eq!(
            ask(&documents, &[], &[asked("CREATE", "pods", &pod(), &Value::Null)]),
            1
        );
    }
}

#[test]
fn the_template_sees_what_gatekeeper_shows_it() {
    let requests = requests();
    for body in [
        "  msg := sprintf(\"%v\", [object.keys(input)])",
        "  msg := sprintf(\"%v\", [input.review.namespace])",
        "  not input.review.namespace\n  msg := \"in no namespace\"",
        "  msg := sprintf(\"%v\", [input.review.namespaceObject.metadata.labels])",
        "  input.review.namespaceObject == null\n  msg := \"no namespace object\"",
        "  input.review.namespaceObject == {}\n  msg := \"an empty namespace object\"",
        "  msg := sprintf(\"%v\", [input.review.userInfo.username])",
        "  msg := sprintf(\"%v\", [input.review.object])",
        "  input.review.oldObject == null\n  msg := \"new\"",
        "  msg := sprintf(\"%v\", [input.review.dryRun])",
        "  msg := sprintf(\"%v\", [input.request])",
        "  not input.template\n  not input.pod\n  not input.namespace\n  msg := \"nothing else\"",
    ] {
        let documents = [template(&rule(body)), constraint("c", &json!({}))];
        ask(&documents, &[], &requests);
    }
}

#[test]
fn what_is_deleted_is_the_object() {
    let body = "  input.review.operation == \"DELETE\"\n  msg := sprintf(\"%v and %v\", [input.review.object.metadata.name, \
                input.review.oldObject.metadata.labels])";
    let documents = [
        template(&rule(body)),
        constraint("all", &json!({})),
        constraint(
            "labels",
            &json!({"match": {"labelSelector": {"matchLabels": {"app": "web"}}}}),
        ),
        constraint(
            "others",
            &json!({"match": {"labelSelector": {"matchLabels": {"app": "x"}}}}),
        ),
    ];
    let requests = [
        asked("DELETE", "pods", &Value::Null, &pod()),
        asked("DELETE", "namespaces", &Value::Null, &namespace("ai")),
        asked("CREATE", "pods", &pod(), &Value::Null),
        // As API servers of long ago sent it.
        patched(
            asked("DELETE", "pods", &Value::Null, &pod()),
            &json!({"request": {"oldObject": null}}),
        ),
    ];
    assert_eq!(ask(&documents, &[], &requests), 3);
}

#[test]
fn operations_of_the_template_are_kept() {
    let requests = [
        asked("CREATE", "pods", &pod(), &Value::Null),
        asked("UPDATE", "pods", &pod(), &pod()),
        asked("DELETE", "pods", &Value::Null, &pod()),
    ];
    for (operations, found) in [
        (json!(["CREATE"]), 1),
        (json!(["UPDATE", "DELETE"]), 2),
        (json!(["*"]), 3),
        (json!(["CONNECT"]), 0),
    ] {
        let mut narrowed = template(FINDS_ALL);
        narrowed["spec"]["targets"][0]["operations"] = operations;
        assert_eq!(ask(&[narrowed, constraint("c", &json!({}))], &[], &requests), found);
    }
}

#[test]
fn actions_are_the_same() {
    let scoped = |entries: &[(&str, &[&str])]| {
        let entries: Vec<_> = entries
            .iter()
            .map(|(action, points)| {
                let points: Vec<_> = points.iter().map(|name| json!({"name": name})).collect();
                json!({"action": action, "enforcementPoints": points})
            })
            .collect();
        json!({"enforcementAction": "scoped", "scopedEnforcementActions": entries})
    };
    let webhook = "validation.gatekeeper.sh";
    let specs = [
        json!({"enforcementAction": "deny"}),
        json!({"enforcementAction": "warn"}),
        json!({"enforcementAction": "dryrun"}),
        json!({"enforcementAction": "warn", "scopedEnforcementActions": []}),
        scoped(&[("deny", &[webhook])]),
        scoped(&[("warn", &["*"])]),
        scoped(&[("dryrun", &[webhook, "audit.gatekeeper.sh"])]),
        scoped(&[("deny", &["audit.gatekeeper.sh"]), ("warn", &[webhook])]),
        scoped(&[("warn", &[webhook]), ("deny", &["*"])]),
        scoped(&[("deny", &["gator.gatekeeper.sh", "vap.k8s.io"]), ("warn", &["*"])]),
    ];
    for spec in &specs {
        assert_eq!(of_pod(FINDS_ALL, spec), 1, "{spec}");
    }
}

#[test]
fn what_is_no_violation_there_is_none_here() {
    // By values that Gatekeeper's compiler cannot see.
    let given = "package findsall\n\nviolation[found] { found := input.parameters.found[_] }\n";
    for (found, count) in [
        (json!([{"message": "a"}]), 0),
        (json!(["a", 1, null, ["msg"], true]), 0),
        (json!([]), 0),
        (json!([{"msg": "a", "details": 1}, {"msg": "b"}]), 2),
        (json!([{"msg": "a", "path": [1], "fix": {}}]), 1),
        (json!([{"msg": "a"}, {"message": "b"}, "c"]), 1),
    ] {
        assert_eq!(
            of_pod(given, &json!({"parameters": {"found": found}})),
            count,
            "{found}"
        );
    }
    for (rego, found) in [
        ("package findsall\n\nviolation[{\"msg\": \"a\"}] { false }\n", 0),
        (
            "package findsall\n\nviolation[{\"msg\": \"a\"}] { input.review.object.nothing }\n",
            0,
        ),
        (
            "package findsall\n\nviolation[{\"msg\": \"a\"}] { not input.review.object.nothing.at.all }\n",
            1,
        ),
        (
            "package findsall\n\ndeny[\"a\"] { true }\n\nallow = false\n\nwarn[\"b\"] { true }\n\nviolation[{\"msg\": \"c\"}] { true }\n",
            1,
        ),
        (
            "package findsall[\"a-b\"].violation\n\nviolation[{\"msg\": \"a\"}] { true }\n",
            1,
        ),
        ("package gatekeeper\n\nviolation[{\"msg\": \"a\"}] { true }\n", 1),
    ] {
        assert_eq!(of_pod(rego, &json!({})), found, "{rego}");
    }
}

#[test]
fn the_inventory_is_seen_alike() {
    let ingress = |namespace: &str, name: &str, version: &str, host: &str| {
        json!({"apiVersion": version, "kind": "Ingress", "metadata": {"name": name, "namespace": namespace},
            "spec": {"rules": [{"host": host}]}})
    };
    let rego = r#"package findsall

violation[{"msg": msg}] {
  host := input.review.object.spec.rules[_].host
  other := data.inventory.namespace[ns][version]["Ingress"][name]
  re_match("^(extensions|networking.k8s.io)/.+$", version)
  other.spec.rules[_].host == host
  not identical(other, input.review)
  msg := sprintf("%v is of %v/%v", [host, ns, name])
}

violation[{"msg": msg}] {
  team := data.inventory.cluster["v1"].Namespace[input.review.namespace].metadata.annotations.team
  msg := sprintf("team %v", [team])
}

identical(obj, review) {
  obj.metadata.namespace == review.object.metadata.namespace
  obj.metadata.name == review.object.metadata.name
}
"#;
    let inventory = [
        ingress("ai", "a", "networking.k8s.io/v1", "one.example"),
        ingress("b", "b", "networking.k8s.io/v1", "one.example"),
        ingress("b", "c", "networking.k8s.io/v1", "two.example"),
        patched(namespace("ai"), &json!({"metadata": {"annotations": {"team": "x"}}})),
        config_map(),
    ];
    let requests = [
        asked(
            "CREATE",
            "ingresses",
            &ingress("ai", "a", "networking.k8s.io/v1", "one.example"),
            &Value::Null,
        ),
        asked(
            "CREATE",
            "ingresses",
            &ingress("ai", "n", "networking.k8s.io/v1", "one.example"),
            &Value::Null,
        ),
        asked(
            "CREATE",
            "ingresses",
            &ingress("b", "n", "networking.k8s.io/v1", "three.example"),
            &Value::Null,
        ),
    ];
    let documents = [template(rego), constraint("c", &json!({}))];
    assert_eq!(ask(&documents, &inventory, &requests), 5);
}

/// Texts that end what they are put into, where they are not kept as texts.
#[test]
fn hostile_texts_stay_texts() {
    let mut hostile = template(&rule("  msg := sprintf(\"%v\", [input.parameters.text])"));
    hostile["metadata"]["annotations"] =
        json!({"metadata.gatekeeper.sh/title": "a\"\n\nviolation contains {\"msg\": \"b\"} if true\n#"});
    let text = "\"} } violation[{\"msg\": \"c\"}] { true } # \\ ` {{ \u{1f600}";
    let spec = json!({
        "parameters": {"text": text},
        "match": {"kinds": [{"apiGroups": [""], "kinds": ["Pod\"}\nviolation", "Pod"]}],
            "labelSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]}},
    });
    let documents = [hostile, constraint("c", &spec)];
    assert_eq!(
        ask(&documents, &[], &[asked("CREATE", "pods", &pod(), &Value::Null)]),
        1
    );
}

#[test]
fn several_templates_and_constraints_do_not_meet() {
    let mut other = template(&rule("  msg := sprintf(\"other %v\", [input.parameters.word])"));
    other["metadata"]["name"] = "other".into();
    other["spec"]["crd"]["spec"]["names"]["kind"] = "Other".into();
    let mut of_other = constraint("c", &json!({"parameters": {"word": "a"}}));
    of_other["kind"] = "Other".into();
    let documents = [
        of_other,
        constraint("c", &json!({"enforcementAction": "warn"})),
        constraint("d", &json!({"match": {"namespaces": ["none"]}})),
        other,
        template(FINDS_ALL),
    ];
    assert_eq!(
        ask(&documents, &[], &[asked("CREATE", "pods", &pod(), &Value::Null)]),
        2
    );
}
