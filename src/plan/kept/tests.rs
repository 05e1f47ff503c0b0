use rstest::rstest;
use serde_json::json;

use super::*;
use crate::{
    api::{ConditionStatus, ConditionType, Reason, find},
    plan::{
        Change, Outcome, Plan, plan, status,
        tests::{kinds, observed, stored, workflow},
    },
};

fn rule(resource: &str, verb: &str) -> Value {
    json!({"apiGroups": [""], "resources": [resource], "verbs": [verb]})
}

fn peer(app: &str) -> Value {
    json!({"name": app, "to": {"pods": {"selector": {"matchLabels": {"app": app}}}}, "ports": [{"port": 1}]})
}

/// A workflow that was accepted with two rights and two paths, and what is planned when `change` goes over its spec.
fn changed(change: &Value) -> (AIWorkflow, Observed, Plan) {
    let mut spec = json!({
        "permissions": {"rules": [rule("configmaps", "get"), rule("services", "list")]},
        "network": {"egress": [peer("a"), peer("b")]},
    });
    let mut observed = observed();
    observed.children = stored(&plan(&workflow(spec.clone()), &observed).changes);
    spec.as_object_mut()
        .unwrap()
        .extend(change.as_object().unwrap().clone());
    let changed = workflow(spec);
    let plan = plan(&changed, &observed);
    (changed, observed, plan)
}

#[rstest]
#[case::images(json!({"images": ["registry.example.com/x:1"]}))]
#[case::no_images(json!({"images": []}))]
#[case::launchers(json!({"launchers": [{"group": "system:authenticated"}]}))]
#[case::a_right_elsewhere(json!({"permissions": {
    "rules": [rule("configmaps", "get"), rule("services", "list")],
    "crossNamespace": [{"namespace": "x", "rules": [rule("secrets", "get")]}],
}}))]
#[case::a_secret_of_no_name(json!({"identity": {"imagePullSecrets": [{"name": "../x"}]}}))]
#[case::reserved(json!({"identity": {"annotations": {"ringfence.dev/owner-uid": "x"}}}))]
fn what_has_nothing_to_do_with_an_invalid_value_stays_as_it_was(#[case] change: Value) {
    let (workflow, observed, plan) = changed(&change);
    assert_eq!(plan.acceptance.reason, Reason::Invalid);
    assert_eq!(plan.changes, [], "{:?}", kinds(&plan.changes));
    assert_eq!(plan.effective_rules.len(), 2);
    let now = "2026-11-22T08:00:00Z".parse().unwrap();
    let said = status(&workflow, &observed, &plan, &Outcome::Applied(None), now);
    let programmed = find(&said.conditions, ConditionType::Programmed).unwrap();
    assert_eq!(
        (programmed.status, programmed.reason.as_str()),
        (ConditionStatus::False, "Invalid")
    );
    assert!(programmed.message.contains("what is valid"), "{}", programmed.message);
}

#[test]
fn an_invalid_path_and_an_invalid_right_go_alone() {
    let (_, _, plan) = changed(&json!({
        "permissions": {"rules": [rule("configmaps", "get"), rule("secrets", "get"), rule("pods", "list")]},
        "network": {"egress": [peer("a"), {"name": "b", "to": {"cidrs": ["10.0.0.1/8"]}, "ports": [{"port": 1}]}]},
    }));
    assert_eq!(plan.acceptance.reason, Reason::Invalid);
    assert_eq!(
        kinds(&plan.changes),
        [("replace", "NetworkPolicy"), ("replace", "Role")]
    );
    let [Change::Replace(_, policy), Change::Replace(_, role)] = plan.changes.as_slice() else {
        unreachable!()
    };
    assert_eq!(
        role["rules"],
        json!([rule("configmaps", "get")]),
        "neither what is invalid nor what never stood"
    );
    let egress = policy["spec"]["egress"].as_array().unwrap();
    assert_eq!(egress.len(), 2, "DNS and the other peer: {egress:?}");
}

#[test]
fn what_never_stood_is_not_given() {
    let declared = json!({"images": [], "permissions": {"rules": [rule("configmaps", "get")]}});
    let plan = plan(&workflow(declared), &observed());
    assert_eq!(
        kinds(&plan.changes),
        [("create", "NetworkPolicy"), ("create", "ServiceAccount")]
    );
}

#[test]
fn outside_its_class_it_keeps_the_rules_that_are_inside() {
    let (declared, mut observed, _) = changed(&json!({}));
    let narrower = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    observed.class.as_mut().unwrap().spec.permissions = serde_json::from_value(narrower).unwrap();
    let plan = plan(&declared, &observed);
    assert_eq!(plan.acceptance.reason, Reason::OutsideClass);
    assert_eq!(kinds(&plan.changes), [("replace", "Role")]);
    assert_eq!(plan.effective_rules.len(), 1);
}

#[test]
fn the_account_default_is_never_made_ours() {
    let plan = plan(
        &workflow(json!({"identity": {"serviceAccountName": "default"}})),
        &observed(),
    );
    assert_eq!((plan.acceptance.reason, plan.changes.len()), (Reason::Invalid, 0));
}

#[test]
fn older_pods_do_not_come_under_an_invalid_one_either() {
    let mut observed = observed();
    observed.predecessors.cut_off();
    let plan = plan(&workflow(json!({"images": []})), &observed);
    assert_eq!((plan.held, plan.changes.len()), (true, 0));
    assert_eq!(plan.acceptance.reason, Reason::Invalid, "what must be corrected first");
}

/// A class that became narrower takes away what it is about, whether anybody reviewed the declaration or not.
#[test]
fn what_nobody_reviewed_does_not_outlive_a_narrower_class() {
    let before = workflow(json!({
        "engine": "airflow", "launchers": [{"serviceAccount": {"namespace": "airflow", "name": "scheduler"}}],
        "permissions": {"rules": [rule("configmaps", "get"), rule("services", "list")]},
    }));
    let mut observed = observed();
    let made = plan(&before, &observed);
    observed.children = stored(&made.changes);
    let now = "2026-11-22T08:00:00Z".parse().unwrap();
    let said = status(&before, &observed, &made, &Outcome::Applied(None), now);
    let mut edited = before;
    edited.metadata.generation = Some(4);
    edited.status = Some(said);
    observed.registration.as_mut().unwrap().uid = "another".to_owned();
    let class = observed.class.clone().unwrap();
    let roles = |observed: &Observed| {
        let held = plan(&edited, observed);
        assert_eq!(held.acceptance.reason, Reason::NotReviewed);
        (held.effective_rules.len(), held.launcher_rules.len())
    };
    let (own, launching) = roles(&observed);
    assert!(own >= 2 && launching > 0, "{own} {launching}");
    let services = json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}]);
    observed.class.as_mut().unwrap().spec.permissions = serde_json::from_value(services).unwrap();
    assert_eq!(roles(&observed), (own - 1, launching));
    observed.class = Some(class);
    observed.class.as_mut().unwrap().spec.engines.clear();
    assert_eq!(roles(&observed), (2, 0));
    observed.class.as_mut().unwrap().spec.permissions.clear();
    let held = plan(&edited, &observed);
    let changes = kinds(&held.changes);
    assert!(
        changes.contains(&("delete", "Role")) && changes.contains(&("delete", "RoleBinding")),
        "{changes:?}"
    );
    assert!(changes.iter().all(|(what, _)| *what != "create"), "{changes:?}");
}

/// While the guards were away, somebody edits the declaration, so that it is held, and then what was made of it.
#[rstest]
#[case::nothing(&[])]
#[case::role(&[("replace", "Role")])]
#[case::subject(&[("replace", "RoleBinding")])]
#[case::policy(&[("replace", "NetworkPolicy")])]
#[case::another_policy(&[("delete", "NetworkPolicy")])]
#[case::cloud_role(&[("replace", "ServiceAccount")])]
fn what_nobody_reviewed_keeps_what_was_given_and_not_what_was_put_there_since(#[case] expected: &[(&str, &str)]) {
    let given = json!({
        "permissions": {"rules": [rule("configmaps", "get"), rule("services", "list")]},
        "network": {"egress": [peer("a"), peer("b")]},
    });
    let mut observed = observed();
    let before = workflow(given);
    let made = plan(&before, &observed);
    observed.children = stored(&made.changes);
    let now = "2026-11-22T08:00:00Z".parse().unwrap();
    let said = status(&before, &observed, &made, &Outcome::Applied(None), now);
    observed.registration.as_mut().unwrap().uid = "another".to_owned();
    let mut edited = workflow(json!({
        "launchers": [{"user": "mallory"}],
        "permissions": {"rules": [rule("pods", "list")]},
        "network": {"egress": [peer("a"), peer("b"), peer("c")]},
    }));
    edited.metadata.generation = Some(4);
    edited.status = Some(said);
    let stood = observed.children.clone();
    match expected {
        [("replace", "Role")] => {
            child(&mut observed, Child::Role)["rules"] = json!([
                rule("configmaps", "get"),
                rule("services", "list"),
                rule("secrets", "list")
            ]);
        }
        [("replace", "RoleBinding")] => {
            let more = json!({"kind": "ServiceAccount", "name": "mallory", "namespace": "ai"});
            child(&mut observed, Child::RoleBinding)["subjects"]
                .as_array_mut()
                .unwrap()
                .push(more);
        }
        [("replace", "NetworkPolicy")] => {
            let open = child(&mut observed, Child::NetworkPolicy)["spec"]["egress"]
                .as_array_mut()
                .unwrap();
            open.push(json!({}));
        }
        [("delete", _)] => {
            let mut open = child(&mut observed, Child::NetworkPolicy).clone();
            open["metadata"]["name"] = json!("open");
            observed.children.push((Child::NetworkPolicy, open));
        }
        [("replace", _)] => {
            let account = child(&mut observed, Child::ServiceAccount);
            account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] = json!("x");
        }
        _ => {}
    }
    let held = plan(&edited, &observed);
    assert_eq!((held.acceptance.reason, held.held), (Reason::NotReviewed, true));
    assert_eq!(kinds(&held.changes), expected);
    for change in &held.changes {
        if let Change::Replace(child, object) = change {
            let (_, before) = stood.iter().find(|(kind, _)| kind == child).unwrap();
            assert!(crate::plan::same(object, before), "{object} is not {before}");
        }
    }
}

/// Then what stands and what is declared say the same, and the record does not.
#[test]
fn what_was_edited_as_the_declaration_was_is_not_given_either() {
    let spec = |apps: &[&str]| {
        let egress: Vec<_> = apps.iter().map(|app| peer(app)).collect();
        json!({"permissions": {"rules": [rule("configmaps", "get")]}, "network": {"egress": egress}})
    };
    let mut observed = observed();
    let before = workflow(spec(&["a", "b"]));
    let made = plan(&before, &observed);
    let now = "2026-11-22T08:00:00Z".parse().unwrap();
    let said = status(&before, &observed, &made, &Outcome::Applied(None), now);
    let mut edited = workflow(spec(&["a", "c"]));
    observed.children = stored(&plan(&edited, &observed).changes);
    observed.registration.as_mut().unwrap().uid = "another".to_owned();
    edited.metadata.generation = Some(4);
    edited.status = Some(said);
    let held = plan(&edited, &observed);
    assert_eq!(held.acceptance.reason, Reason::NotReviewed);
    let [Change::Replace(Child::NetworkPolicy, policy)] = held.changes.as_slice() else {
        panic!("{:?}", kinds(&held.changes))
    };
    let egress = policy["spec"]["egress"].to_string();
    assert!(egress.contains("\"a\"") && !egress.contains("\"c\""), "{egress}");
    // Without a record it may all be of who declared it: also where it was reviewed, in a namespace that was not fenced yet.
    edited.status.as_mut().unwrap().given = None;
    for is_reviewed in [true, false] {
        if !is_reviewed {
            edited.status.as_mut().unwrap().reviewed = None;
            observed.registration.as_mut().unwrap().created = "2100-01-01T00:00:00Z".parse().unwrap();
        }
        let gone = plan(&edited, &observed).changes;
        assert_eq!(kinds(&gone), [("replace", "NetworkPolicy"), ("replace", "RoleBinding")]);
        let [Change::Replace(_, policy), Change::Replace(_, binding)] = gone.as_slice() else {
            panic!("{gone:?}")
        };
        assert_eq!(binding["subjects"], json!([]));
        let egress = policy["spec"]["egress"].to_string();
        assert!(!egress.contains("\"a\"") && !egress.contains("\"c\""), "{egress}");
    }
}

/// A range with that much taken out of it, one way or the other.
fn range(comes_in: bool, except: &[&str]) -> Value {
    let (way, word) = if comes_in {
        ("ingress", "from")
    } else {
        ("egress", "to")
    };
    let peer = json!({"cidrs": ["203.0.113.0/24"], "except": except});
    json!({"network": {way: [{"name": "bank", word: peer, "ports": [{"port": 443}]}]}})
}

/// What a declaration takes out of a range stays out of it, whether the policy was edited as well or not; and what the cluster's own ranges
/// take out goes by the class.
#[rstest]
#[case::comes_in(true)]
#[case::goes_out(false)]
fn what_was_taken_out_of_a_range_stays_out(#[case] comes_in: bool) {
    let (first, second) = ("203.0.113.7/32", "203.0.113.128/25");
    let mut observed = observed();
    let before = workflow(range(comes_in, &[first, second]));
    let made = plan(&before, &observed);
    observed.children = stored(&made.changes);
    let now = "2026-11-22T08:00:00Z".parse().unwrap();
    let said = status(&before, &observed, &made, &Outcome::Applied(None), now);
    let held = |except: &[&str], observed: &Observed| {
        let mut edited = workflow(range(comes_in, except));
        edited.metadata.generation = Some(4);
        edited.status = Some(said.clone());
        let mut observed = observed.clone();
        observed.registration.as_mut().unwrap().uid = "another".to_owned();
        let held = plan(&edited, &observed);
        assert_eq!(held.acceptance.reason, Reason::NotReviewed);
        held.changes
    };
    assert_eq!(held(&[first, second], &observed), []);
    assert_eq!(held(&[second], &observed), []);
    // What is taken out in addition is taken out.
    let more = held(&[second, "203.0.113.8/32"], &observed);
    let [Change::Replace(Child::NetworkPolicy, policy)] = more.as_slice() else {
        panic!("{more:?}")
    };
    let text = policy["spec"].to_string();
    for except in [first, second, "203.0.113.8/32"] {
        assert!(text.contains(except), "{text}");
    }
    // By who edits the policy too, the range is not known any more to have been given so.
    let mut alike = observed.clone();
    alike.children = stored(&plan(&workflow(range(comes_in, &[second])), &crate::plan::tests::observed()).changes);
    let closed = held(&[second], &alike);
    let [Change::Replace(Child::NetworkPolicy, policy)] = closed.as_slice() else {
        panic!("{closed:?}")
    };
    assert!(!policy["spec"].to_string().contains("203.0.113.0/24"), "{policy}");
    // By who edits the policy alone, it is put back.
    let back = held(&[first, second], &alike);
    let [Change::Replace(Child::NetworkPolicy, policy)] = back.as_slice() else {
        panic!("{back:?}")
    };
    assert!(policy["spec"].to_string().contains(first), "{policy}");
    // The cluster grows by a part of the range, which stays open otherwise.
    let mut grown = observed.clone();
    let cluster = grown.class.as_mut().unwrap().spec.cluster.get_or_insert_default();
    cluster
        .cluster_cidrs
        .get_or_insert_default()
        .push("203.0.113.16/28".to_owned());
    let narrower = held(&[first, second], &grown);
    let [Change::Replace(Child::NetworkPolicy, policy)] = narrower.as_slice() else {
        panic!("{narrower:?}")
    };
    let text = policy["spec"].to_string();
    assert!(text.contains("203.0.113.16/28") && text.contains(first), "{text}");
}

fn child(observed: &mut Observed, wanted: Child) -> &mut Value {
    let mut children = observed.children.iter_mut();
    &mut children.find(|(child, _)| *child == wanted).unwrap().1
}

/// Rules that all name the same ranges, each with much taken out, would be written out for each range of each rule: a declaration of 100 KB
/// took seconds.
#[test]
fn a_range_that_many_rules_name_is_told_of_by_a_digest() {
    let ranges: Vec<_> = (0..64).map(|number| format!("203.{number}.0.0/16")).collect();
    let out: Vec<_> = (0..64).map(|number| format!("203.0.{number}.0/24")).collect();
    let rules: Vec<_> = (0..64)
        .map(|number| json!({"name": format!("r{number}"), "to": {"cidrs": ranges, "except": out}, "ports": [{"port": 443}]}))
        .collect();
    let word = Word::new(&workflow(json!({"network": {"egress": rules}})), None);
    assert_eq!(word.except.len(), 64);
    let element = json!({"to": [{"ipBlock": {"cidr": "203.0.0.0/16"}}, {"ipBlock": {"cidr": "203.1.0.0/16"}}]});
    let declared = as_declared((Child::NetworkPolicy, "/spec/egress"), &element, &word).unwrap();
    assert!(declared.to_string().len() < 400, "{declared}");
}
