use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::api::MatchOperation;
use crate::fence::template_of;
use crate::fence::testing::merge;

const TIME: Duration = Duration::from_secs(20);

/// A policy about pods that refuses images of other registries; `patch` is merged over its spec.
fn spec(patch: Value) -> RegoPolicySpec {
    let mut spec = json!({
        "validationActions": ["Deny"],
        "matchConstraints": {"resourceRules": [rule(json!({}))]},
        "rego": {"modules": [{"name": "policy.rego", "source": "package p\n\
            deny contains {\"msg\": sprintf(\"%s is not ours\", [c.image]), \"path\": sprintf(\"spec.containers[%d].image\", [i])} if {\n\
            some i, c in input.review.object.spec.containers\n\
            not startswith(c.image, input.parameters.registry)\n}\n"}]},
        "parameters": {"registry": "ours/"},
    });
    merge(&mut spec, patch);
    serde_json::from_value(spec).expect("a spec")
}

fn rule(patch: Value) -> Value {
    let mut rule = json!({
        "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"],
    });
    merge(&mut rule, patch);
    rule
}

fn declared(name: &str, spec: RegoPolicySpec) -> Declared {
    Declared {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        generation: 1,
        spec,
    }
}

fn compiled(name: &str, spec: RegoPolicySpec) -> Arc<Registered> {
    match Registered::compile(&declared(name, spec)) {
        Ok(policy) => Arc::new(policy),
        Err(errors) => panic!("{errors:?}"),
    }
}

fn refused(spec: RegoPolicySpec) -> String {
    let errors = Registered::compile(&declared("p", spec)).expect_err("it must be refused");
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A request about a pod; `patch` is merged over it.
fn review(patch: Value) -> Review {
    let mut request = json!({
        "uid": "u", "operation": "CREATE", "name": "p", "namespace": "ai", "dryRun": false,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "userInfo": {"username": "ann"},
        "object": {"metadata": {"name": "p", "labels": {"app": "a"}}, "spec": {"containers": [{"image": "theirs/x"}]}},
    });
    merge(&mut request, patch);
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    Review::parse(&serde_json::to_vec(&review).unwrap()).unwrap()
}

fn deployment(patch: Value) -> Review {
    let mut request = json!({
        "name": "d", "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
        "object": {
            "metadata": {"name": "d"},
            "spec": {"template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"image": "theirs/x"}]}}},
        },
    });
    merge(&mut request, patch);
    review(request)
}

fn occasion(review: &Review) -> Occasion<'_> {
    let template = review
        .current()
        .and_then(|object| template_of(&review.kind.group, &review.kind.kind, object));
    Occasion {
        review,
        template,
        changes_template: template.is_some(),
    }
}

fn matched(snapshot: &Snapshot, id: Option<EntryId>, review: &Review) -> Vec<String> {
    let matches = snapshot.matching(id, &occasion(review));
    matches
        .iter()
        .map(|one| format!("{} {:?}", one.name(), one.matched))
        .collect()
}

fn judged(snapshot: &Snapshot, review: &Review) -> Vec<Result<Findings, EvalError>> {
    let occasion = occasion(review);
    let input = PolicyInput {
        target: crate::policy::Target::Pod,
        request: &review.request,
        pod: occasion.template,
        workflow: None,
        class: None,
        engine: None,
        namespace: None,
    };
    let question = Question::new(snapshot.matching(None, &occasion), &input, &occasion, |_| {
        Err("not there".into())
    });
    (0..)
        .map_while(|number| question.judge(number, TIME))
        .map(|verdict| verdict.outcome)
        .collect()
}

#[rstest]
#[case::itself(json!({}), true)]
#[case::another_operation(json!({"operation": "UPDATE", "oldObject": {"metadata": {}}}), false)]
#[case::another_resource(json!({"resource": {"resource": "configmaps"}}), false)]
#[case::another_group(json!({"resource": {"group": "x"}}), false)]
#[case::another_version(json!({"resource": {"version": "v2"}}), false)]
#[case::a_subresource(json!({"subResource": "status"}), false)]
fn a_request_is_matched_by_each_list_of_a_rule(#[case] request: Value, #[case] is_matched: bool) {
    let snapshot = Snapshot::new(vec![compiled("p", spec(json!({})))]);
    assert_eq!(!matched(&snapshot, None, &review(request)).is_empty(), is_matched);
}

#[rstest]
#[case::every_resource(json!({"resources": ["*"]}), json!({}), true)]
#[case::every_resource_without_subresources(json!({"resources": ["*"]}), json!({"subResource": "status"}), false)]
#[case::every_subresource(json!({"resources": ["pods/*"]}), json!({"subResource": "exec"}), true)]
#[case::with_the_resource_itself(json!({"resources": ["pods/*"]}), json!({}), true)]
#[case::of_every_resource(json!({"resources": ["*/scale"]}), json!({"subResource": "scale"}), true)]
#[case::everything(json!({"resources": ["*/*"], "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"]}), json!({"operation": "DELETE", "object": null, "oldObject": {}}), true)]
#[case::of_the_cluster(json!({"scope": "Cluster"}), json!({}), false)]
#[case::in_a_namespace(json!({"scope": "Namespaced"}), json!({}), true)]
#[case::by_name(json!({"resourceNames": ["p"]}), json!({}), true)]
#[case::by_another_name(json!({"resourceNames": ["q"]}), json!({}), false)]
fn wildcards_scopes_and_names_are_those_of_the_api_server(
    #[case] patch: Value,
    #[case] request: Value,
    #[case] is_matched: bool,
) {
    let constraints = json!({"matchConstraints": {"resourceRules": [rule(patch)]}});
    let snapshot = Snapshot::new(vec![compiled("p", spec(constraints))]);
    assert_eq!(!matched(&snapshot, None, &review(request)).is_empty(), is_matched);
}

/// The API server fills in the namespace of a request about a Namespace.
#[test]
fn a_namespace_lies_in_none() {
    let of = |scope: &str| {
        let rule = rule(json!({"resources": ["namespaces"], "scope": scope}));
        Snapshot::new(vec![compiled(
            "p",
            spec(json!({"matchConstraints": {"resourceRules": [rule]}})),
        )])
    };
    let request =
        review(json!({"namespace": "p", "resource": {"resource": "namespaces"}, "kind": {"kind": "Namespace"}}));
    assert_eq!(matched(&of("Namespaced"), None, &request).len(), 0);
    assert_eq!(matched(&of("Cluster"), None, &request).len(), 1);
}

#[rstest]
#[case::what_is_excluded(json!({"excludeResourceRules": [rule(json!({"resources": ["pods"]}))]}), json!({}), false)]
#[case::by_the_version_asked_for(
    json!({"excludeResourceRules": [rule(json!({"apiVersions": ["v2"]}))]}),
    json!({"requestResource": {"group": "", "version": "v2", "resource": "pods"}}),
    false
)]
#[case::another(json!({"excludeResourceRules": [rule(json!({"resourceNames": ["q"]}))]}), json!({}), true)]
#[case::label(json!({"objectSelector": {"matchLabels": {"app": "a"}}}), json!({}), true)]
#[case::label_of_another(json!({"objectSelector": {"matchLabels": {"app": "b"}}}), json!({}), false)]
#[case::label_that_was(
    json!({"objectSelector": {"matchLabels": {"app": "b"}}}),
    json!({"oldObject": {"metadata": {"labels": {"app": "b"}}}}),
    true
)]
#[case::what_has_no_metadata(
    json!({"objectSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}),
    json!({"object": null}),
    false
)]
#[case::what_has_no_labels(
    json!({"objectSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}}),
    json!({"object": {"metadata": {"labels": null}}}),
    true
)]
fn exclusions_and_object_selectors(#[case] constraints: Value, #[case] request: Value, #[case] is_matched: bool) {
    let snapshot = Snapshot::new(vec![compiled("p", spec(json!({"matchConstraints": constraints})))]);
    assert_eq!(!matched(&snapshot, None, &review(request)).is_empty(), is_matched);
}

#[test]
fn namespaces_are_selected_by_labels_and_what_lies_in_none_always() {
    let constraints = json!({"matchConstraints": {"namespaceSelector": {"matchLabels": {"tier": "gold"}}}});
    let snapshot = Snapshot::new(vec![compiled("p", spec(constraints))]);
    let review = review(json!({}));
    let one = &snapshot.matching(None, &occasion(&review))[0];
    let (gold, tin) = (json!({"tier": "gold"}), json!({"tier": "tin"}));
    assert!(one.is_in_namespace(Some(Some(&gold))) && one.is_in_namespace(None));
    assert!(!one.is_in_namespace(Some(Some(&tin))) && !one.is_in_namespace(Some(None)));
}

/// The registration asks about everything then, and so does it.
#[test]
fn an_empty_selector_that_was_let_through_selects_everything() {
    let empty = json!({"matchConstraints": {"objectSelector": {}, "namespaceSelector": {}}});
    let broken = Arc::new(Registered::broken(declared("p", spec(empty)), "empty"));
    let snapshot = Snapshot::new(vec![broken]);
    let review = review(json!({}));
    let matches = snapshot.matching(None, &occasion(&review));
    assert!(matches.len() == 1 && matches[0].is_in_namespace(Some(None)));
}

#[test]
fn templates_are_judged_as_pods_where_pods_are_and_the_answer_names_the_workload() {
    let plain = Snapshot::new(vec![compiled("p", spec(json!({})))]);
    assert_eq!(matched(&plain, None, &deployment(json!({}))), [""; 0]);
    let expanding = Snapshot::new(vec![compiled("p", spec(json!({"templates": "Expand"})))]);
    assert_eq!(matched(&expanding, None, &deployment(json!({}))), ["p Template"]);
    assert_eq!(matched(&expanding, None, &review(json!({}))), ["p Itself"]);
    let found = judged(&expanding, &deployment(json!({}))).remove(0).unwrap();
    let [denial] = found.deny.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        (denial.path.as_str(), denial.message.as_str()),
        (
            "spec.template.spec.containers[0].image",
            "theirs/x is not ours (via Deployment/d)"
        )
    );
    assert_eq!(
        matched(
            &expanding,
            None,
            &deployment(json!({"operation": "DELETE", "oldObject": {}}))
        ),
        [""; 0]
    );
}

#[rstest]
#[case::only_changes(json!({"resourceRules": [rule(json!({"operations": ["UPDATE"]}))]}), 0)]
#[case::only_by_name(json!({"resourceRules": [rule(json!({"resourceNames": ["p"]}))]}), 0)]
#[case::no_pods(json!({"excludeResourceRules": [rule(json!({}))]}), 0)]
#[case::labels_of_the_pod(json!({"objectSelector": {"matchLabels": {"app": "a"}}}), 1)]
#[case::other_labels(json!({"objectSelector": {"matchLabels": {"app": "b"}}}), 0)]
fn what_would_not_be_asked_about_the_pod_is_not_about_its_template(#[case] constraints: Value, #[case] count: usize) {
    let spec = spec(json!({"templates": "Expand", "matchConstraints": constraints}));
    let snapshot = Snapshot::new(vec![compiled("p", spec)]);
    assert_eq!(matched(&snapshot, None, &deployment(json!({}))).len(), count);
}

#[test]
fn a_template_that_an_update_leaves_alone_is_not_judged_again() {
    let snapshot = Snapshot::new(vec![compiled("p", spec(json!({"templates": "Expand"})))]);
    let review = deployment(json!({"operation": "UPDATE", "oldObject": {"spec": {}}}));
    let unchanged = Occasion {
        changes_template: false,
        ..occasion(&review)
    };
    assert!(snapshot.matching(None, &unchanged).is_empty());
}

fn entries(specs: Vec<RegoPolicySpec>) -> Vec<Entry> {
    let policies = specs
        .into_iter()
        .enumerate()
        .map(|(at, spec)| compiled(&format!("p{at}"), spec));
    let entries = Snapshot::new(policies.collect()).entries();
    entries.into_iter().map(|(entry, _)| entry).collect()
}

#[test]
fn policies_of_the_same_groups_and_versions_share_a_webhook() {
    let configmaps = json!({"matchConstraints": {"resourceRules": [rule(json!({"resources": ["configmaps"]}))]}});
    let entries = entries(vec![spec(json!({})), spec(configmaps), spec(json!({}))]);
    let [entry] = entries.as_slice() else {
        panic!("{entries:?}")
    };
    let resources: Vec<_> = entry.rules.iter().map(|rule| rule.resources.join(",")).collect();
    assert_eq!(resources, ["configmaps", "pods"]);
}

/// In one webhook the API server would find the rule for any version, convert nothing, and the other policy would see a version that it
/// does not know.
#[rstest]
#[case::versions(json!({"matchConstraints": {"resourceRules": [rule(json!({"apiVersions": ["*"]}))]}}))]
#[case::groups(json!({"matchConstraints": {"resourceRules": [rule(json!({"apiGroups": ["*"]}))]}}))]
#[case::match_policy(json!({"matchConstraints": {"matchPolicy": "Exact"}}))]
#[case::failure_policy(json!({"failurePolicy": "Ignore"}))]
#[case::audit_never_fails(json!({"validationActions": ["Audit"]}))]
#[case::warn_can_fail_but_lists_apart(json!({"validationActions": ["Warn"], "failurePolicy": "Ignore"}))]
fn what_would_be_converted_or_would_fail_otherwise_is_a_webhook_of_its_own(#[case] patch: Value) {
    assert_eq!(entries(vec![spec(json!({})), spec(patch)]).len(), 2);
}

#[test]
fn selectors_narrow_the_webhook_until_there_are_too_many_or_one_asks_for_all() {
    let selecting = |app: &str| spec(json!({"matchConstraints": {"objectSelector": {"matchLabels": {"app": app}}}}));
    let few = entries(vec![selecting("a"), selecting("b"), selecting("a")]);
    assert_eq!(few.iter().filter(|entry| entry.object_selector.is_some()).count(), 2);
    assert_eq!(few.len(), 2);
    let with_all = entries(vec![selecting("a"), spec(json!({}))]);
    assert!(with_all.len() == 1 && with_all[0].object_selector.is_none());
    let many = entries((0..9).map(|app| selecting(&format!("a{app}"))).collect());
    assert!(many.len() == 1 && many[0].object_selector.is_none());
}

/// Whatever webhook asks, each policy answers at exactly one of those that ask about a request.
#[test]
fn each_policy_answers_at_one_webhook_of_those_that_ask() {
    let selecting = |app: &str| spec(json!({"matchConstraints": {"objectSelector": {"matchLabels": {"app": app}}}}));
    for specs in [
        vec![selecting("a"), selecting("b"), spec(json!({"failurePolicy": "Ignore"}))],
        vec![selecting("a"), spec(json!({})), spec(json!({"templates": "Expand"}))],
        (0..9)
            .map(|_| selecting("a"))
            .chain((0..9).map(|app| selecting(&format!("b{app}"))))
            .collect(),
    ] {
        let policies = specs
            .into_iter()
            .enumerate()
            .map(|(at, spec)| compiled(&format!("p{at}"), spec));
        let snapshot = Snapshot::new(policies.collect());
        for review in [review(json!({})), deployment(json!({}))] {
            let mut asked: Vec<String> = Vec::new();
            for (entry, version) in snapshot.entries() {
                assert_eq!(snapshot.version_of(entry.id), version);
                asked.extend(matched(&snapshot, Some(entry.id), &review));
            }
            asked.sort();
            assert_eq!(asked, matched(&snapshot, None, &review));
        }
    }
}

#[test]
fn an_id_and_the_version_of_what_answers_change_with_what_they_are_of() {
    let (a, b) = (compiled("a", spec(json!({}))), compiled("b", spec(json!({}))));
    let one = Snapshot::new(vec![Arc::clone(&a)]);
    let both = Snapshot::new(vec![b, Arc::clone(&a)]);
    let id = one.entries()[0].0.id;
    assert_eq!(id, both.entries()[0].0.id);
    assert_ne!(one.version_of(id), both.version_of(id));
    let next = Declared {
        generation: 2,
        ..declared("a", spec(json!({})))
    };
    let edited = Snapshot::new(vec![Arc::new(Registered::compile(&next).unwrap())]);
    assert_ne!(one.version_of(id), edited.version_of(id));
    assert_eq!(id.to_string().parse(), Ok(id));
    for text in [
        "",
        "fail",
        "fail-",
        "fail-0",
        "Fail-0000000000000000",
        "fail-000000000000000G",
        "ignore-00000000000000000",
    ] {
        assert_eq!(text.parse::<EntryId>(), Err(()), "{text}");
    }
}

#[test]
fn modules_use_each_others_packages_and_two_policies_of_one_package_do_not_mix() {
    let modules = json!({"rego": {"modules": [
        {"name": "main.rego", "source": "package p\nimport data.lib.names\ndeny contains msg if { msg := names.of(input.review) }\n"},
        {"name": "more.rego", "source": "package p\ndeny contains \"more\" if data.lib.names.always\n"},
        {"name": "lib.rego", "source": "package lib.names\nof(review) := review.name\nalways := true\n"},
    ]}});
    let other =
        json!({"rego": {"modules": [{"name": "other.rego", "source": "package p\ndeny contains \"other\"\n"}]}});
    let snapshot = Snapshot::new(vec![compiled("a", spec(modules)), compiled("b", spec(other))]);
    let said: Vec<Vec<String>> = judged(&snapshot, &review(json!({})))
        .into_iter()
        .map(|found| found.unwrap().deny.into_iter().map(|denial| denial.message).collect())
        .collect();
    assert_eq!(said, [vec!["more", "p"], vec!["other"]]);
}

fn of_modules(sources: &[&str]) -> RegoPolicySpec {
    let modules = sources.iter().enumerate();
    let modules: Vec<_> = modules
        .map(|(at, source)| json!({"name": format!("m{at}.rego"), "source": source}))
        .collect();
    spec(json!({"rego": {"modules": modules}}))
}

#[rstest]
#[case::across_packages(
    &["package p\ndeny contains data.lib.f(1)\n", "package lib\nf(x) := data.p.deny\n"],
    "recursion"
)]
#[case::no_such_rule(&["package p\ndeny contains data.lib.g\n", "package lib\nf := 1\n"], "m0.rego:2:15: `data.lib.g` is not there: that package has no rule `g`")]
#[case::a_whole_package(&["package p\ndeny contains \"x\" if data.lib[input.x]\n", "package lib\nf := 1\n"], "never fire")]
#[case::in_each_others_way(&["package p\ndeny contains \"x\"\nlib := 1\n", "package p.lib\nf := 1\n"], "in each other's way")]
#[case::an_error_in_the_second(&["package p\ndeny contains \"x\"\n", "package lib\nf := \n"], "m1.rego:")]
#[case::verdicts_of_another_package(&["package lib\nf := 1\n", "package p\ndeny contains \"x\"\n"], "no rule gives a verdict")]
#[case::inventory_that_is_not_declared(&["package p\ndeny contains \"x\" if data.inventory.cluster\n"], "never fire")]
fn modules_are_vetted_together(#[case] sources: &[&str], #[case] words: &str) {
    let said = refused(of_modules(sources));
    assert!(said.contains(words), "{said}");
}

#[rstest]
#[case::schema(json!({"parametersSchema": {"required": ["owner"]}}), "spec.parameters: breaks spec.parametersSchema: \"owner\" is a required property")]
#[case::nested(
    json!({"parametersSchema": {"properties": {"registry": {"type": "integer"}}}}),
    "spec.parameters.registry: breaks spec.parametersSchema"
)]
#[case::no_schema(json!({"parametersSchema": {"type": "nonsense"}}), "spec.parametersSchema: is no JSON Schema")]
#[case::another_document(json!({"parametersSchema": {"$ref": "https://example.com/s.json"}}), "spec.parametersSchema: is no JSON Schema")]
#[case::empty_selector(json!({"matchConstraints": {"objectSelector": {}}}), "spec.matchConstraints.objectSelector: is empty")]
#[case::no_label(json!({"matchConstraints": {"namespaceSelector": {"matchLabels": {"a b": "c"}}}}), "namespaceSelector.matchLabels")]
#[case::wildcard_and_others(json!({"matchConstraints": {"resourceRules": [rule(json!({"resources": ["*", "pods"]}))]}}), "beside resources by name")]
#[case::subresource_twice(json!({"matchConstraints": {"resourceRules": [rule(json!({"resources": ["pods/*", "pods/log"]}))]}}), "pods/log beside a wildcard")]
#[case::every_and_others(json!({"matchConstraints": {"resourceRules": [rule(json!({"resources": ["*/*", "pods"]}))]}}), "'*/*' must be the only one")]
#[case::no_group(json!({"matchConstraints": {"resourceRules": [rule(json!({"apiGroups": ["A!"]}))]}}), "no API group")]
#[case::secrets(json!({"inventory": [{"version": "v1", "kind": "Secret", "fields": ["data"]}]}), "reads no Secrets")]
#[case::no_actions(json!({"validationActions": []}), "spec.validationActions: is empty")]
#[case::no_rules(json!({"matchConstraints": {"resourceRules": []}}), "empty never means all")]
#[case::same_names(json!({"rego": {"modules": [{"name": "a", "source": "package p"}, {"name": "a", "source": "package q"}]}}), "names of their own")]
fn a_declaration_is_checked_again_whatever_the_definition_let_through(#[case] patch: Value, #[case] words: &str) {
    let said = refused(spec(patch));
    assert!(said.contains(words), "{said}");
}

#[test]
fn a_policy_that_is_larger_than_a_policy_may_be_is_refused_before_it_is_read() {
    let large = format!("package p\ndeny contains \"x\"\n# {}\n", "x".repeat(200 << 10));
    let said = refused(of_modules(&[&large, &large]));
    assert!(said.contains("bytes together, the limit is 262144"), "{said}");
}

#[rstest]
#[case::as_expected(json!({"object": pod("theirs/x")}), "Deny", None)]
#[case::allowed(json!({"object": pod("ours/x")}), "Allow", None)]
#[case::whole_input(json!({"input": {"review": {"object": pod("theirs/x")}}}), "Deny", None)]
#[case::own_parameters(json!({"input": {"request": {"object": pod("theirs/x")}, "parameters": {"registry": "theirs/"}}}), "Allow", None)]
#[case::another_verdict(json!({"object": pod("theirs/x")}), "Allow", Some("sample `s`: Allow is expected, and the policy gives Deny (theirs/x is not ours)"))]
#[case::an_error(json!({"object": {"spec": {"containers": [{"image": 1}]}}}), "Allow", Some("sample `s`: the policy failed"))]
fn samples_are_held_to_what_they_expect(#[case] sample: Value, #[case] expect: &str, #[case] said: Option<&str>) {
    let mut sample = sample;
    merge(&mut sample, json!({"name": "s", "expect": expect}));
    let policy = compiled("p", spec(json!({"samples": [sample]})));
    let errors = policy.on_own_samples(template_of, TIME);
    match (errors.as_slice(), said) {
        ([], None) => {}
        ([error], Some(said)) => assert!(error.to_string().starts_with(said), "{error}"),
        (errors, said) => panic!("{errors:?}, {said:?}"),
    }
}

fn pod(image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"image": image}]}})
}

#[test]
fn what_cannot_judge_says_so_and_harms_no_other() {
    let inventory = json!({
        "inventory": [{"group": "networking.k8s.io", "version": "v1", "kind": "Ingress", "fields": ["spec.rules"]}],
        "rego": {"modules": [{"name": "i.rego", "source": "package i\ndeny contains \"x\" if data.inventory.namespace\n"}]},
    });
    let snapshot = Snapshot::new(vec![
        Arc::new(Registered::broken(declared("broken", spec(json!({}))), "line 3")),
        compiled("good", spec(json!({}))),
        compiled("unsynced", spec(inventory)),
    ]);
    let outcomes = judged(&snapshot, &review(json!({})));
    assert_eq!(outcomes[0], Err(EvalError::Broken("line 3".into())));
    assert_eq!(outcomes[1].as_ref().map(|found| found.deny.len()), Ok(1));
    assert_eq!(outcomes[2], Err(EvalError::Unsynced("not there".into())));
}

#[test]
fn a_rule_about_everything_that_is_done_is_about_each() {
    let everything = spec(json!({"matchConstraints": {"resourceRules": [rule(json!({"operations": ["*"]}))]}}));
    assert_eq!(
        everything.match_constraints.resource_rules[0].operations,
        [MatchOperation::All]
    );
    let snapshot = Snapshot::new(vec![compiled("p", everything)]);
    for operation in ["CREATE", "UPDATE", "DELETE", "CONNECT"] {
        let review = review(json!({"operation": operation, "oldObject": {"metadata": {}}}));
        assert_eq!(matched(&snapshot, None, &review).len(), 1, "{operation}");
    }
}

/// Whoever is asked by a registration of another version may have to refuse for any policy: what cannot be judged then passes none that denies.
#[test]
fn a_webhook_of_another_version_may_deny() {
    let warns = spec(json!({"failurePolicy": "Ignore", "validationActions": ["Warn"]}));
    let denies =
        spec(json!({"failurePolicy": "Fail", "matchConstraints": {"objectSelector": {"matchLabels": {"a": "b"}}}}));
    let snapshot = Snapshot::new(vec![compiled("denies", denies), compiled("warns", warns.clone())]);
    let entries = snapshot.entries();
    assert_eq!(entries.len(), 2);
    for (entry, version) in &entries {
        let denies = entry.id.failure == FailurePolicy::Fail;
        assert_eq!(snapshot.denies_at(entry.id, version), denies, "{:?}", entry.id);
        assert!(snapshot.denies_at(entry.id, "another"));
    }
    let alone = Snapshot::new(vec![compiled("warns", warns)]);
    assert!(!alone.denies_at(entries[0].0.id, "another"), "none of them denies");
}
