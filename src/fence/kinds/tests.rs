use rstest::rstest;
use serde_json::json;

use super::super::testing::{facts, review, set, workflow_object};
use super::*;

fn object(kind: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": kind, "metadata": {"name": "x", "namespace": "ai"}, "spec": spec,
    });
    if kind == "AIWorkflowClass" {
        object["metadata"].as_object_mut().unwrap().remove("namespace");
    }
    object
}

fn rule(resource: &str) -> Value {
    json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]})
}

/// Rules that refuse and rules that warn, each with the field.
fn judged(kind: &str, old: Option<&Value>, new: &Value, facts: &Facts) -> (Vec<String>, Vec<String>) {
    let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
    let mut review = review(operation, "ringfence.dev", kind, Some(new), old);
    review.namespace = new["metadata"]["namespace"].as_str().map(str::to_owned);
    let subject = Subject::of(&review).unwrap().unwrap();
    let (refusals, warnings) = subject.judge(facts, |name| name == "kube-system");
    refusals
        .iter()
        .for_each(|refusal| assert!(!refusal.fix.is_empty(), "says what to do: {refusal:?}"));
    let named = |list: Vec<Violation>| {
        list.into_iter()
            .map(|said| format!("{} {}", said.policy, said.path))
            .collect()
    };
    (named(refusals), named(warnings))
}

fn with_cidr(cidr: &str) -> Value {
    let rule = json!({"name": "x", "to": {"cidrs": [cidr]}, "ports": [{"port": 1}]});
    set(workflow_object(), "/spec/network", json!({"egress": [rule]}))
}

fn refused(what: &[&str]) -> (Vec<String>, Vec<String>) {
    (what.iter().map(|&what| what.to_owned()).collect(), Vec::new())
}

fn warned(what: &[&str]) -> (Vec<String>, Vec<String>) {
    let (what, none) = refused(what);
    (none, what)
}

const CIDR: &str = "valid-declaration spec.network.egress[0].to.cidrs[0]";

#[rstest]
#[case::fine(workflow_object(), refused(&[]))]
#[case::host_bits(with_cidr("203.0.113.1/24"), refused(&[CIDR]))]
#[case::mapped(with_cidr("::ffff:203.0.113.0/120"), refused(&[CIDR]))]
#[case::outside_the_class(with_cidr("203.0.113.0/24"), warned(&["accepted-declaration spec.network.egress[0].to.cidrs[0]"]))]
#[case::secrets(set(workflow_object(), "/spec/permissions", json!({"rules": [rule("secrets")]})), refused(&["valid-declaration spec.permissions.rules[0].resources"]))]
#[case::all_at_once(
    set(with_cidr("10.0.0.1/8"), "/spec/images", json!(["UPPER"])),
    refused(&["valid-declaration spec.images[0]", CIDR])
)]
#[case::exempt(set(workflow_object(), "/metadata/namespace", json!("kube-system")), refused(&["exempt-namespace metadata.namespace"]))]
#[case::cannot_be_read(set(workflow_object(), "/spec/images", json!("x")), refused(&["valid-declaration "]))]
fn a_workflow_is_refused_for_what_it_is_and_warned_of_what_it_meets(
    #[case] new: Value,
    #[case] expected: (Vec<String>, Vec<String>),
) {
    assert_eq!(judged("AIWorkflow", None, &new, &facts()), expected, "on CREATE");
    let old = set(workflow_object(), "/spec/images", json!(["docker.io/ok/former"]));
    assert_eq!(judged("AIWorkflow", Some(&old), &new, &facts()), expected, "on UPDATE");
    let touched = set(new.clone(), "/metadata/labels", json!({"a": "b"}));
    assert_eq!(
        judged("AIWorkflow", Some(&new), &touched, &facts()),
        refused(&[]),
        "the spec stays"
    );
}

#[rstest]
#[case::no_mode(json!({"metadata": {"name": "ai"}}), "NamespaceNotFenced")]
#[case::no_such_class(json!({"metadata": {"name": "ai", "labels": {"ringfence.dev/enforce": "gold"}}}), "ClassMissing")]
fn what_may_come_later_is_a_warning(#[case] namespace: Value, #[case] reason: &str) {
    let facts = Facts {
        namespace: Some(namespace),
        classes: [("gold".to_owned(), None)].into(),
        ..Facts::default()
    };
    let review = review("CREATE", "ringfence.dev", "AIWorkflow", Some(&workflow_object()), None);
    let (refusals, warnings) = Subject::of(&review).unwrap().unwrap().judge(&facts, |_| false);
    assert_eq!((refusals.len(), warnings.len()), (0, 1));
    assert!(warnings[0].message.contains(reason), "{warnings:?}");
}

#[rstest]
#[case::fine(json!([rule("services")]), &[])]
#[case::secrets(json!([rule("services"), rule("secrets")]), &["valid-declaration spec.rules[1].resources"])]
fn a_grant_is_judged_by_itself(#[case] rules: Value, #[case] expected: &[&str]) {
    let grant = object(
        "AIWorkflowGrant",
        json!({"from": [{"namespace": "ai", "name": "a"}], "rules": rules}),
    );
    assert_eq!(
        judged("AIWorkflowGrant", None, &grant, &Facts::default()),
        refused(expected)
    );
    let exempt = set(grant, "/metadata/namespace", json!("kube-system"));
    let refused = judged("AIWorkflowGrant", None, &exempt, &Facts::default()).0;
    assert_eq!(refused[0], "exempt-namespace metadata.namespace");
    assert_eq!(refused.len(), 1 + expected.len());
}

#[test]
fn a_class_is_refused_for_new_problems_alone() {
    let class = |rules: &[&str]| {
        let rules: Vec<_> = rules.iter().map(|resource| rule(resource)).collect();
        object(
            "AIWorkflowClass",
            json!({"images": {"allowed": ["**"]}, "permissions": rules}),
        )
    };
    let judged = |old: Option<&Value>, new: &Value| judged("AIWorkflowClass", old, new, &Facts::default());
    let old = class(&["pods", "secrets"]);
    assert_eq!(
        judged(None, &old),
        refused(&["valid-declaration spec.permissions[1].resources"])
    );
    assert_eq!(
        judged(Some(&old), &class(&["configmaps", "pods", "secrets"])),
        refused(&[]),
        "moved, not new"
    );
    assert_eq!(
        judged(Some(&old), &class(&["nodes", "secrets"])),
        refused(&["valid-declaration spec.permissions[0].resources"])
    );
    let in_exempt = set(class(&["pods"]), "/metadata/namespace", json!("kube-system"));
    assert_eq!(judged(None, &in_exempt), refused(&[]), "a class is in no namespace");
}

#[rstest]
#[case::fine(json!({}), refused(&[]))]
#[case::for_nothing(json!({"names": []}), refused(&["valid-declaration spec"]))]
#[case::every_policy(json!({"policies": ["*"]}), refused(&["valid-declaration spec.policies[0]"]))]
#[case::too_long(json!({"expiresAt": "2026-12-22T12:00:00Z"}), warned(&["accepted-declaration "]))]
#[case::over(json!({"expiresAt": "2026-11-22T12:00:00Z"}), warned(&["accepted-declaration "]))]
#[case::unreadable(json!({"names": 1}), refused(&["valid-declaration "]))]
fn an_exception_is_warned_of_what_keeps_it_from_acting(
    #[case] patch: Value,
    #[case] expected: (Vec<String>, Vec<String>),
) {
    let spec = json!({"policies": ["a"], "names": ["x"], "reason": "x", "expiresAt": "2026-11-23T12:00:00Z"});
    let mut new = object("RegoPolicyException", spec);
    new["metadata"]["creationTimestamp"] = json!("2026-11-22T12:00:00Z");
    for (key, value) in patch.as_object().unwrap() {
        new["spec"][key] = value.clone();
    }
    let mut facts = facts();
    facts.now = Some("2026-11-22T12:00:00Z".parse().unwrap());
    let class = facts.classes.get_mut("default").unwrap().as_mut().unwrap();
    class["spec"]["exceptions"] = json!({"namespaces": ["ai"], "maxDays": 2});
    assert_eq!(judged("RegoPolicyException", None, &new, &facts), expected);
    facts.classes.insert("default".into(), None);
    let closed = judged("RegoPolicyException", None, &new, &facts);
    assert_eq!(
        closed.1.len(),
        usize::from(expected.0.is_empty()),
        "no class allows it: {closed:?}"
    );
    let exempt = set(new, "/metadata/namespace", json!("kube-system"));
    assert_eq!(
        judged("RegoPolicyException", None, &exempt, &facts).0[0],
        "exempt-namespace metadata.namespace"
    );
}

#[test]
fn what_stays_in_memory_is_bounded_and_may_shrink() {
    let big = |bytes: usize| {
        set(
            workflow_object(),
            "/metadata/annotations",
            json!({"a": "x".repeat(bytes)}),
        )
    };
    let judged = |old: Option<&Value>, new: &Value| judged("AIWorkflow", old, new, &facts());
    let size = refused(&["declaration-size metadata"]);
    assert_eq!(judged(None, &big(MAX_METADATA - 1_000)), refused(&[]));
    assert_eq!(judged(None, &big(MAX_METADATA)), size);
    assert_eq!(
        judged(Some(&workflow_object()), &big(MAX_METADATA)),
        size,
        "with the spec as it was, too"
    );
    assert_eq!(judged(Some(&big(MAX_METADATA + 9)), &big(MAX_METADATA)), refused(&[]));
    let cloud = set(
        workflow_object(),
        "/spec/identity",
        json!({"annotations": {"a": "x".repeat(MAX_METADATA)}}),
    );
    assert_eq!(judged(None, &cloud), size);
}

/// What is made of it, and its status, find room: who wrote which field is stored too.
#[test]
fn what_is_stored_is_bounded_and_may_shrink() {
    let recorded = |bytes: usize| {
        set(
            workflow_object(),
            "/metadata/managedFields",
            json!([{"fieldsV1": {"f:a": "x".repeat(bytes)}}]),
        )
    };
    let sized = |old: Option<&Value>, new: &Value| {
        judged("AIWorkflow", old, new, &facts())
            .0
            .contains(&"declaration-size ".to_owned())
    };
    assert!(!sized(None, &recorded(MAX_BYTES - 10_000)));
    assert!(sized(None, &recorded(MAX_BYTES)));
    assert!(sized(Some(&workflow_object()), &recorded(MAX_BYTES)));
    assert!(!sized(Some(&recorded(MAX_BYTES + 9)), &recorded(MAX_BYTES)));
    // A status repeats the rules.
    let ruled = |names: usize| {
        let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["x".repeat(names)]});
        set(workflow_object(), "/spec/permissions", json!({"rules": [rule]}))
    };
    assert!(sized(None, &ruled(MAX_BYTES / 2)) && !sized(None, &ruled(MAX_BYTES / 2 - 10_000)));
    let with_status = set(
        ruled(MAX_BYTES / 2 - 10_000),
        "/status",
        json!({"a": "x".repeat(MAX_BYTES / 2)}),
    );
    assert!(!sized(None, &with_status), "that is Ringfence's");
}

/// Small as it is written, and large as it is read.
#[test]
fn what_reviews_read_is_bounded_and_may_shrink() {
    let ports = |count: u32| json!((1..=count).map(|port| json!({"port": port})).collect::<Vec<_>>());
    let heavy = |rules: usize| {
        let rule = |number: usize| json!({"name": format!("r{number}"), "to": {"cidrs": ["203.0.113.0/24"]}, "ports": ports(32)});
        let rules: Vec<_> = (0..rules).map(rule).collect();
        set(workflow_object(), "/spec/network", json!({"egress": rules}))
    };
    let sized = |old: Option<&Value>, new: &Value| {
        let (refusals, _) = judged("AIWorkflow", old, new, &facts());
        refusals.contains(&"declaration-size spec".to_owned())
    };
    let (most, more) = (heavy(64), heavy(400));
    assert!(weighs(&most) < MAX_WEIGHT / 3 && weighs(&more) > MAX_WEIGHT);
    assert!(!sized(None, &most));
    assert!(sized(None, &more) && sized(Some(&most), &more));
    assert!(!sized(Some(&heavy(401)), &more));
    let mut recorded = most;
    recorded["metadata"]["managedFields"] = json!(vec![json!({"a": 0}); 20_000]);
    assert!(!sized(None, &recorded), "of that nothing is kept");
}

#[test]
fn reviews_of_another_registration_are_faults() {
    let other = review("CREATE", "ringfence.dev", "RegoThing", Some(&json!({})), None);
    assert!(Subject::of(&other).is_err());
    let halved = review("UPDATE", "ringfence.dev", "AIWorkflow", Some(&workflow_object()), None);
    assert!(Subject::of(&halved).is_err());
    let gone = review("DELETE", "ringfence.dev", "AIWorkflow", None, Some(&workflow_object()));
    assert!(Subject::of(&gone).unwrap().is_none());
}
