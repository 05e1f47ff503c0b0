//! Whole documents: what becomes of them, and what the policies say of requests.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::api::{MatchOperation, ValidationAction};
use crate::fence::template_of;
use crate::fence::testing::merge;
use crate::policy::{Occasion, PolicyInput, Question, Registered, Snapshot, Target};
use crate::review::Review;

const TIME: Duration = Duration::from_secs(20);
/// Finds every object, by name.
const FINDS_ALL: &str = "package all\n\nviolation[{\"msg\": msg, \"details\": {}}] {\n  msg := sprintf(\"found %v\", [input.review.object.metadata.name])\n}\n";

fn template(rego: &str) -> Value {
    json!({
        "apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate", "metadata": {"name": "all"},
        "spec": {
            "crd": {"spec": {"names": {"kind": "All"}, "validation": {"openAPIV3Schema": {
                "type": "object", "properties": {"words": {"type": "array", "items": {"type": "string"}}},
            }}}},
            "targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": rego}],
        },
    })
}

fn constraint(spec: Value) -> Value {
    json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "All", "metadata": {"name": "c"}, "spec": spec})
}

fn converted(objects: &[Value]) -> Converted {
    let documents: Vec<_> = (1..)
        .zip(objects)
        .map(|(line, object)| Document {
            file: "f.yaml",
            line: line * 10,
            object,
        })
        .collect();
    convert(&documents)
}

fn made(objects: &[Value]) -> Vec<Made> {
    let converted = converted(objects);
    assert_eq!(converted.problems, [], "problems");
    converted.policies
}

fn problems(objects: &[Value]) -> String {
    let problems = converted(objects).problems;
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn loaded(made: &Made) -> Registered {
    let module = || made.policy.spec.rego.modules[0].source.clone();
    Registered::compile(&made.policy).unwrap_or_else(|errors| panic!("{errors:?}\n{}", module()))
}

/// A request about a pod; `patch` is merged over it.
fn request(patch: Value) -> Value {
    let mut request = json!({
        "uid": "u", "operation": "CREATE", "name": "p", "namespace": "ai", "dryRun": false, "oldObject": null,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "userInfo": {"username": "ann"},
        "object": {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ai", "labels": {"app": "a"}},
            "spec": {"containers": [{"image": "x"}]},
        },
    });
    merge(&mut request, patch);
    request
}

fn namespace_request(patch: Value) -> Value {
    let mut request = request(json!({
        "name": "ai", "kind": {"kind": "Namespace"}, "resource": {"resource": "namespaces"},
    }));
    request["object"] =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ai", "labels": {"team": "ml"}}});
    merge(&mut request, patch);
    request
}

fn cluster_request() -> Value {
    let mut request = request(json!({
        "name": "r", "kind": {"group": "rbac.authorization.k8s.io", "kind": "ClusterRole"},
        "resource": {"group": "rbac.authorization.k8s.io", "resource": "clusterroles"},
    }));
    request["namespace"] = Value::Null;
    request["object"] =
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}});
    request
}

/// What is said where the policies are asked as the webhook asks them.
fn said(made: &[Made], request: Value, namespace: Option<&Value>) -> Vec<String> {
    let snapshot = Snapshot::new(made.iter().map(|made| Arc::new(loaded(made))).collect());
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    let review = Review::parse(&serde_json::to_vec(&review).unwrap()).unwrap();
    let template = review
        .current()
        .and_then(|object| template_of(&review.kind.group, &review.kind.kind, object));
    let occasion = Occasion {
        review: &review,
        template,
        changes_template: template.is_some(),
    };
    let matches = snapshot.matching(None, &occasion);
    let input = PolicyInput {
        target: Target::Pod,
        request: &review.request,
        pod: occasion.template,
        workflow: None,
        class: None,
        engine: None,
        namespace,
    };
    let question = Question::new(matches, &input, &occasion, |_| {
        Ok(crate::policy::engine_value(&json!({})).unwrap())
    });
    let count = question.matches().len();
    let mut said = BTreeSet::new();
    for number in 0..count {
        let verdict = question.judge(number, TIME).expect("a verdict");
        let found = verdict.outcome.unwrap_or_else(|error| panic!("{error}"));
        said.extend(found.deny.into_iter().map(|finding| finding.message));
    }
    said.into_iter().collect()
}

fn ml() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ai", "labels": {"team": "ml"}}})
}

/// Whether a constraint with this `match` is about a request.
fn matches(matching: Value, request: Value) -> bool {
    let made = made(&[template(FINDS_ALL), constraint(json!({"match": matching}))]);
    let said = said(&made, request, Some(&ml()));
    assert!(said.iter().all(|message| message.starts_with("found ")), "{said:?}");
    !said.is_empty()
}

#[rstest]
#[case::all(json!({}), true, true, true)]
#[case::pods(json!({"kinds": [{"apiGroups": [""], "kinds": ["Pod"]}]}), true, false, false)]
#[case::any_group(json!({"kinds": [{"apiGroups": ["*"], "kinds": ["Pod", "ClusterRole"]}]}), true, false, true)]
#[case::any_kind(json!({"kinds": [{"apiGroups": [""], "kinds": ["*"]}]}), true, true, false)]
#[case::other_group(json!({"kinds": [{"apiGroups": ["apps"], "kinds": ["Pod"]}]}), false, false, false)]
#[case::namespace(json!({"namespaces": ["ai"]}), true, true, true)]
#[case::other_namespace(json!({"namespaces": ["b"]}), false, false, true)]
#[case::namespace_by_start(json!({"namespaces": ["b", "a*"]}), true, true, true)]
#[case::namespace_by_end(json!({"namespaces": ["*i"]}), true, true, true)]
#[case::namespace_by_middle(json!({"namespaces": ["*b*"]}), false, false, true)]
#[case::any_namespace(json!({"namespaces": ["*"]}), true, true, true)]
#[case::excluded(json!({"excludedNamespaces": ["a*"]}), false, false, true)]
#[case::not_excluded(json!({"excludedNamespaces": ["b", "*b"]}), true, true, true)]
#[case::cluster(json!({"scope": "Cluster"}), false, true, true)]
#[case::namespaced(json!({"scope": "Namespaced"}), true, false, false)]
#[case::labels(json!({"labelSelector": {"matchLabels": {"app": "a"}}}), true, false, false)]
#[case::other_labels(json!({"labelSelector": {"matchLabels": {"app": "b"}}}), false, false, false)]
#[case::label_in(json!({"labelSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}}), true, false, false)]
#[case::label_not_in(json!({"labelSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}}), false, true, true)]
#[case::label_is_there(json!({"labelSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}), false, true, false)]
#[case::label_is_not(json!({"labelSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}}), true, false, true)]
#[case::namespace_labels(json!({"namespaceSelector": {"matchLabels": {"team": "ml"}}}), true, true, true)]
#[case::other_namespace_labels(json!({"namespaceSelector": {"matchLabels": {"team": "x"}}}), false, false, true)]
#[case::name(json!({"name": "p"}), true, false, false)]
#[case::name_by_end(json!({"name": "*r"}), false, false, true)]
#[case::name_by_start(json!({"name": "a*"}), false, true, false)]
#[case::original(json!({"source": "Original"}), true, true, true)]
fn a_match_means_what_it_means_in_gatekeeper(
    #[case] matching: Value,
    #[case] pod: bool,
    #[case] namespace: bool,
    #[case] cluster: bool,
) {
    assert_eq!(matches(matching.clone(), request(json!({}))), pod, "pod");
    assert_eq!(
        matches(matching.clone(), namespace_request(json!({}))),
        namespace,
        "Namespace"
    );
    assert_eq!(matches(matching, cluster_request()), cluster, "ClusterRole");
}

#[test]
fn an_object_matches_by_what_it_was_too() {
    let matching = json!({"labelSelector": {"matchLabels": {"app": "b"}}});
    let mut update = request(json!({"operation": "UPDATE"}));
    update["oldObject"] = update["object"].clone();
    assert!(!matches(matching.clone(), update.clone()));
    update["oldObject"]["metadata"]["labels"]["app"] = "b".into();
    assert!(matches(matching, update));
}

#[test]
fn a_name_is_that_which_the_api_server_will_make_up() {
    let unnamed = json!({"name": "", "object": {"metadata": {"name": null, "generateName": "web-"}}});
    let by = |name: &str| {
        let made = made(&[
            template("package all\n\nviolation[{\"msg\": \"found one\"}] { true }"),
            constraint(json!({"match": {"name": name}})),
        ]);
        !said(&made, request(unnamed.clone()), None).is_empty()
    };
    assert!(by("web-*") && by("*eb*") && by("*"));
    assert!(!by("*web-") && !by("web-") && !by("api-*"));
}

#[test]
fn a_namespace_whose_labels_are_not_known_is_refused() {
    let made = made(&[
        template(FINDS_ALL),
        constraint(
            json!({"match": {"kinds": [{"apiGroups": [""], "kinds": ["*"]}], "namespaceSelector": {"matchLabels": {"team": "ml"}}}}),
        ),
    ]);
    let said = said(&made, request(json!({})), None);
    assert_eq!(
        said,
        ["namespace selector for namespace-scoped object but missing Namespace"]
    );
}

#[test]
fn what_is_deleted_is_the_object() {
    let rego = "package all\n\nviolation[{\"msg\": msg}] {\n  input.review.operation == \"DELETE\"\n  msg := sprintf(\"gone %v %v\", \
                [input.review.object.metadata.name, input.review.oldObject.metadata.name])\n}\n";
    let made = made(&[template(rego), constraint(json!({}))]);
    let rule = &made[0].policy.spec.match_constraints.resource_rules[0];
    assert!(rule.operations.contains(&MatchOperation::Delete));
    assert!(made[0].notes.iter().any(|note| note.contains("DELETE")));
    let mut gone = request(json!({"operation": "DELETE"}));
    gone["oldObject"] = gone["object"].clone();
    gone["object"] = Value::Null;
    assert_eq!(said(&made, gone.clone(), None), ["gone p p"]);
    gone["oldObject"] = Value::Null;
    let refused = said(&made, gone, None);
    assert!(
        refused
            .iter()
            .any(|message| message.contains("oldObject cannot be nil")),
        "{refused:?}"
    );
    assert_eq!(said(&made, request(json!({})), None), Vec::<String>::new());
}

#[test]
fn the_template_sees_what_gatekeeper_shows_it() {
    let rego = "package all\n\nviolation[{\"msg\": msg}] {\n  msg := json.marshal({\"keys\": object.keys(input), \"in\": \
                input.review.namespaceObject.metadata.name, \"old\": input.review._unstable.namespace.metadata.name})\n}\n\
                violation[{\"msg\": \"in no namespace\"}] {\n  not input.review.namespace\n  input.review.namespaceObject == {}\n}\n";
    let made = made(&[template(rego), constraint(json!({"parameters": {"words": ["a"]}}))]);
    let pod = said(&made, request(json!({})), Some(&ml()));
    assert_eq!(
        pod,
        ["{\"in\":\"ai\",\"keys\":[\"parameters\",\"review\"],\"old\":\"ai\"}"]
    );
    assert_eq!(
        said(&made, namespace_request(json!({})), Some(&ml())),
        ["in no namespace"]
    );
}

#[test]
fn rules_of_the_template_use_each_other() {
    let rego = "package all\n\nviolation[{\"msg\": msg}] {\n  c := containers[_]\n  msg := said(c)\n}\n\ncontainers[c] { c := \
                input.review.object.spec.containers[_] }\n\nsaid(c) = out { out := c.image }\n";
    let made = made(&[template(rego), constraint(json!({}))]);
    assert_eq!(said(&made, request(json!({})), None), ["x"]);
}

#[test]
fn what_has_no_message_is_no_violation() {
    let rego = "package all\n\nviolation[{\"message\": \"a\"}] { true }\n\nviolation[\"b\"] { true }\n\nviolation[{\"msg\": \"c\", \"details\": 1}] { true }\n";
    let made = made(&[template(rego), constraint(json!({}))]);
    assert_eq!(said(&made, request(json!({})), None), ["c"]);
}

#[test]
fn parameters_reach_the_template_with_their_defaults() {
    let mut with_default = template("package all\n\nviolation[{\"msg\": msg}] { msg := input.parameters.words[_] }\n");
    with_default["spec"]["crd"]["spec"]["validation"]["openAPIV3Schema"]["properties"]["words"]["default"] =
        json!(["a"]);
    let made = made(&[with_default, constraint(json!({"parameters": {}}))]);
    assert_eq!(said(&made, request(json!({})), None), ["a"]);
    assert!(made[0].policy.spec.parameters_schema.is_some());
}

#[test]
fn libraries_and_both_versions_of_the_language_load() {
    let lib = "package lib.words\n\nsaid := \"by the library\"\n";
    let old = "package all\n\nimport data.lib.words\n\nviolation[{\"msg\": words.said}] { true }\n";
    let new = "package all\n\nimport data.lib.words\n\nviolation contains {\"msg\": words.said} if true\n";
    let target = |patch: Value| {
        let mut template = template("");
        merge(&mut template["spec"]["targets"][0], patch);
        template
    };
    let code = |version: &str, rego: &str| json!({"code": [{"engine": "Rego", "source": {"version": version, "rego": rego, "libs": [lib]}}]});
    for template in [
        target(json!({"rego": old, "libs": [lib]})),
        target(code("", old)),
        target(code("v0", old)),
        target(code("v1", new)),
    ] {
        let made = made(&[template, constraint(json!({}))]);
        assert_eq!(said(&made, request(json!({})), None), ["by the library"]);
    }
}

/// Makes pods of workloads of that kind.
fn expansion(kind: &str, action: &str) -> Value {
    json!({"apiVersion": "expansion.gatekeeper.sh/v1alpha1", "kind": "ExpansionTemplate", "metadata": {"name": kind.to_lowercase()},
        "spec": {"applyTo": [{"groups": ["apps"], "kinds": [kind], "versions": ["v1"]}], "templateSource": "spec.template",
            "enforcementAction": action, "generatedGVK": {"group": "", "version": "v1", "kind": "Pod"}}})
}

#[test]
fn pods_that_would_come_are_judged_by_source() {
    let rego = "package all\n\nviolation[{\"msg\": \"found one\"}] { input.review.kind.kind == \"Pod\" }";
    let workload = |kind: &str| {
        let mut request = request(json!({
            "name": "w", "kind": {"group": "apps", "kind": kind},
            "resource": {"group": "apps", "resource": format!("{}s", kind.to_lowercase())},
        }));
        request["object"] = json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "w", "namespace": "ai"},
            "spec": {"template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": []}}}});
        request
    };
    let of = |source: &str, matching: Value| {
        let mut whole = json!({"kinds": [{"apiGroups": [""], "kinds": ["Pod"]}], "source": source});
        merge(&mut whole, matching);
        let made = made(&[
            template(rego),
            constraint(json!({"match": whole})),
            expansion("Deployment", ""),
        ]);
        ["Pod", "Deployment", "DaemonSet"].map(|kind| match kind {
            "Pod" => !said(&made, request(json!({})), None).is_empty(),
            kind => !said(&made, workload(kind), None).is_empty(),
        })
    };
    assert_eq!(of("All", json!({})), [true, true, false]);
    assert_eq!(of("Original", json!({})), [true, false, false]);
    assert_eq!(of("Generated", json!({})), [false, true, false]);
    assert_eq!(of("All", json!({"name": "w-*"})), [false, true, false]);
    assert_eq!(
        of("All", json!({"labelSelector": {"matchLabels": {"app": "b"}}})),
        [false, false, false]
    );
    let generated = constraint(json!({"match": {"source": "Generated"}}));
    assert!(problems(&[template(rego), generated]).contains("no ExpansionTemplate"));
    let made = made(&[template(rego), constraint(json!({})), expansion("Deployment", "warn")]);
    let actions: Vec<_> = made
        .iter()
        .map(|made| (made.policy.name.as_str(), made.policy.spec.validation_actions[0]))
        .collect();
    assert_eq!(
        actions,
        [
            ("all-c", ValidationAction::Deny),
            ("all-c-generated-warn", ValidationAction::Warn)
        ]
    );
}

#[test]
fn namespaces_that_the_config_exempts_are_left_alone() {
    let config = |processes: Value| {
        json!({"apiVersion": "config.gatekeeper.sh/v1alpha1", "kind": "Config", "metadata": {"name": "config"},
            "spec": {"match": [{"excludedNamespaces": ["a*"], "processes": processes}]}})
    };
    let of = |processes: Value| {
        let made = made(&[template(FINDS_ALL), constraint(json!({})), config(processes)]);
        [request(json!({})), namespace_request(json!({})), cluster_request()]
            .map(|request| said(&made, request, None).len())
    };
    assert_eq!(of(json!(["webhook"])), [0, 0, 1]);
    assert_eq!(of(json!(["*"])), [0, 0, 1]);
    assert_eq!(of(json!(["audit", "sync"])), [1, 1, 1]);
}

#[test]
fn how_pods_of_workloads_are_judged_otherwise_is_told_where_they_are() {
    let of_workloads = |source: &str| {
        let made = made(&[
            template(FINDS_ALL),
            constraint(json!({"match": {"source": source}})),
            expansion("Deployment", "warn"),
        ]);
        let told = |made: &Made, words: &str| made.notes.iter().any(|note| note.contains(words));
        made.iter()
            .map(|made| {
                let words = [
                    "the name and the owner",
                    "leaves the pod template",
                    "is CREATE",
                    "userInfo",
                ];
                words.map(|words| told(made, words))
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(of_workloads("All"), [[false; 4], [true; 4]]);
    assert_eq!(of_workloads("Generated"), [[true; 4]]);
    assert_eq!(of_workloads("Original"), [[false; 4]]);
}

/// It would be a policy that never speaks of a workload.
#[rstest]
#[case(json!(["UPDATE"]), true)]
#[case(json!(["DELETE", "UPDATE"]), true)]
#[case(json!(["CREATE", "UPDATE"]), false)]
#[case(json!(["*"]), false)]
#[case(json!([]), false)]
fn a_template_for_workloads_that_is_not_asked_about_creation_is_a_problem(
    #[case] operations: Value,
    #[case] is_problem: bool,
) {
    let mut template = template(FINDS_ALL);
    template["spec"]["targets"][0]["operations"] = operations;
    let of = |source: &str, expansions: &[Value]| {
        let constraint = constraint(json!({"match": {"source": source}}));
        problems(&[&[template.clone(), constraint], expansions].concat())
    };
    let expansions = [expansion("Deployment", "")];
    for source in ["All", "Generated"] {
        let told = of(source, &expansions);
        let is_told = told.starts_with("f.yaml:20: All c: the operations of its ConstraintTemplate do not have CREATE");
        assert!(is_told == is_problem && (is_problem || told.is_empty()), "{told}");
    }
    assert_eq!(of("Original", &expansions), "");
    assert_eq!(of("All", &[]), "");
}

/// Whoever may write Configs in a namespace of his own must not exempt himself, or anybody, by one.
#[test]
fn of_two_configs_of_that_name_none_is_heeded() {
    let config = |namespace: &str, excluded: &str| {
        json!({"apiVersion": "config.gatekeeper.sh/v1alpha1", "kind": "Config", "metadata": {"name": "config", "namespace": namespace},
            "spec": {"match": [{"excludedNamespaces": [excluded], "processes": ["*"]}]}})
    };
    let own = config("gatekeeper-system", "ai");
    let one = converted(&[template(FINDS_ALL), constraint(json!({})), own.clone()]);
    let notes: Vec<_> = one.notes.iter().map(ToString::to_string).collect();
    assert_eq!(one.problems, []);
    assert!(
        notes.len() == 1
            && notes[0].starts_with("f.yaml:30: Config config in namespace gatekeeper-system is heeded: see that"),
        "{notes:?}"
    );
    let of_nobody =
        json!({"apiVersion": "config.gatekeeper.sh/v1alpha1", "kind": "Config", "metadata": {"name": "config"}});
    for (other, place) in [
        (config("team-a", "*"), "in namespace team-a"),
        (own.clone(), "in namespace gatekeeper-system"),
        (of_nobody, "without a namespace"),
    ] {
        let two = converted(&[template(FINDS_ALL), constraint(json!({})), own.clone(), other]);
        let problems: Vec<_> = two.problems.iter().map(ToString::to_string).collect();
        let start = format!(
            "f.yaml:40: Config config {place}: there is one of that name already, in namespace gatekeeper-system, at f.yaml:30"
        );
        assert!(problems.len() == 1 && problems[0].starts_with(&start), "{problems:?}");
        assert_eq!(said(&two.policies, request(json!({})), None), ["found p"]);
    }
}

#[test]
fn an_inventory_is_seen_by_the_template() {
    let rego = "package all\n\nviolation[{\"msg\": n}] { data.inventory.cluster[\"v1\"].Namespace[n].metadata.labels.team == \"ml\" }\n";
    let made = made(&[template(rego), constraint(json!({}))]);
    let kinds = &made[0].policy.spec.inventory;
    assert_eq!((kinds.len(), kinds[0].kind.as_str()), (1, "Namespace"));
    assert_eq!(said(&made, request(json!({})), None), Vec::<String>::new());
}

#[rstest]
#[case::no_template(&[constraint(json!({}))], "f.yaml:10: All c: there is no ConstraintTemplate")]
#[case::twice(&[template(FINDS_ALL), constraint(json!({})), constraint(json!({}))], "f.yaml:30: All c: there is one of that name already")]
#[case::template_twice(&[template(FINDS_ALL), template(FINDS_ALL), constraint(json!({}))], "f.yaml:20: ConstraintTemplate all: there is one")]
#[case::unknown_field(&[template(FINDS_ALL), constraint(json!({"matches": {}}))], "spec.matches")]
#[case::bad_parameters(&[template(FINDS_ALL), constraint(json!({"parameters": {"words": 1}}))], "f.yaml:20: All c: spec.parameters.words")]
#[case::bad_match(&[template(FINDS_ALL), constraint(json!({"match": {"kind": 1}}))], "f.yaml:20: All c: spec.match.kind")]
#[case::bad_action(&[template(FINDS_ALL), constraint(json!({"enforcementAction": "block"}))], "spec.enforcementAction")]
#[case::mutation(&[json!({"apiVersion": "mutations.gatekeeper.sh/v1", "kind": "Assign", "metadata": {"name": "a"}})], "Assign a: ")]
fn what_cannot_be_converted_is_told_with_its_place(#[case] objects: &[Value], #[case] words: &str) {
    let problems = problems(objects);
    assert!(problems.contains(words), "{problems}");
}

#[rstest]
#[case(json!({"metadata": {"name": "other"}}), "metadata.name")]
#[case(json!({"apiVersion": "templates.gatekeeper.sh/v2"}), "apiVersion")]
#[case(json!({"spec": {"targets": []}}), "spec.targets: must be exactly one")]
#[case(json!({"spec": {"targets": [{"target": "a"}, {"target": "b"}]}}), "spec.targets: must be exactly one")]
#[case(json!({"spec": {"targets": [{"target": "agent.gatekeeper.sh", "rego": FINDS_ALL}]}}), "target: must be admission.k8s.gatekeeper.sh")]
#[case(json!({"spec": {"targets": [{"target": "admission.k8s.gatekeeper.sh"}]}}), "has no Rego")]
#[case(json!({"spec": {"targets": [{"target": "admission.k8s.gatekeeper.sh", "code": [{"engine": "K8sNativeValidation", "source": {}}]}]}}), "K8sNativeValidation")]
#[case(json!({"spec": {"targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": FINDS_ALL, "libs": ["package other\n"]}]}}), "must lie in `lib`")]
#[case(json!({"spec": {"targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": FINDS_ALL, "operations": ["*", "CREATE"]}]}}), "operations")]
#[case(json!({"spec": {"targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": "violation := 1"}]}}), "names no package")]
fn a_template_that_gatekeeper_or_ringfence_cannot_use_is_a_problem(#[case] patch: Value, #[case] words: &str) {
    let mut template = template(FINDS_ALL);
    merge(&mut template, patch);
    let problems = problems(&[template, constraint(json!({}))]);
    assert!(problems.contains(words), "{problems}");
}

#[test]
fn what_is_good_is_converted_beside_what_is_not() {
    let mut bad = constraint(json!({"enforcementAction": "block"}));
    bad["metadata"]["name"] = "bad".into();
    let converted = converted(&[template(FINDS_ALL), bad, constraint(json!({}))]);
    assert_eq!((converted.policies.len(), converted.problems.len()), (1, 1));
    assert_eq!(
        (converted.policies[0].file.as_str(), converted.policies[0].line),
        ("f.yaml", 30)
    );
}

#[test]
fn a_template_without_a_constraint_is_told() {
    let converted = converted(&[template(FINDS_ALL)]);
    assert_eq!((converted.policies.len(), converted.problems.len()), (0, 0));
    assert!(
        converted.notes[0]
            .to_string()
            .starts_with("f.yaml:10: ConstraintTemplate all: there is no constraint")
    );
}

#[test]
fn rego_beside_cel_is_used_and_that_is_told() {
    let mut both = template(FINDS_ALL);
    both["spec"]["targets"][0]["code"] = json!([{"engine": "K8sNativeValidation", "source": {}}]);
    let made = made(&[both, constraint(json!({}))]);
    assert!(made[0].notes.iter().any(|note| note.contains("K8sNativeValidation")));
}

#[rstest]
#[case(json!(["UPDATE"]), &[MatchOperation::Update])]
#[case(json!(["*"]), &[MatchOperation::All])]
#[case(json!([]), &[MatchOperation::Create, MatchOperation::Update])]
#[case(Value::Null, &[MatchOperation::Create, MatchOperation::Update])]
fn operations_are_the_templates_or_those_of_gatekeepers_webhook(
    #[case] operations: Value,
    #[case] expected: &[MatchOperation],
) {
    let mut template = template(FINDS_ALL);
    template["spec"]["targets"][0]["operations"] = operations;
    let made = made(&[template, constraint(json!({}))]);
    assert_eq!(
        made[0].policy.spec.match_constraints.resource_rules[0].operations,
        expected
    );
    loaded(&made[0]);
}

/// An error in the template is said where the template has it.
#[test]
fn an_error_is_told_of_the_templates_own_line() {
    let made = made(&[
        template("package all\n\nviolation[{\"msg\": m}] {\n  m := http.send({})\n}\n"),
        constraint(json!({})),
    ]);
    let errors = Registered::compile(&made[0].policy).expect_err("it is refused");
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert!(
        errors
            .iter()
            .any(|error| error.starts_with("template.rego:4:") && error.contains("http.send")),
        "{errors:?}"
    );
}

#[test]
fn hostile_texts_stay_texts() {
    let mut template = template(FINDS_ALL);
    template["metadata"]["annotations"] =
        json!({"metadata.gatekeeper.sh/title": "a\"\n\nviolation contains {\"msg\": \"b\"} if true\n#"});
    let values = ["\"} violation", "x\\"].map(|value| json!({"namespaces": [value]}));
    for matching in values {
        assert!(
            problems(&[template.clone(), constraint(json!({"match": matching}))]).contains("spec.match.namespaces")
        );
    }
    let made = made(&[
        template,
        constraint(json!({"match": {"kinds": [{"apiGroups": [""], "kinds": ["Pod\"}\nviolation", "Pod"]}]}})),
    ]);
    assert_eq!(said(&made, request(json!({})), None), ["found p"]);
}

#[rstest]
#[case(json!({"apiVersion": "templates.gatekeeper.sh/v1"}), true)]
#[case(json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1"}), true)]
#[case(json!({"apiVersion": "config.gatekeeper.sh/v1alpha1"}), true)]
#[case(json!({"apiVersion": "v1"}), false)]
#[case(json!({"apiVersion": "notgatekeeper.sh/v1"}), false)]
#[case(json!([]), false)]
fn gatekeepers_objects_are_known(#[case] object: Value, #[case] expected: bool) {
    assert_eq!(is_gatekeeper(&object), expected);
}
