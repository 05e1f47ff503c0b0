use rstest::rstest;
use serde_json::json;

use super::super::testing::review;
use super::*;
use crate::api::WITHOUT_CREDENTIAL;

fn binding(subjects: Value) -> Value {
    json!({
        "metadata": {"name": "b", "namespace": "ai"}, "subjects": subjects,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
    })
}

fn written(kind: &str, old: Option<Value>, new: Value) -> Review {
    let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
    let (old, new) = (old.map(binding), binding(new));
    review(operation, "rbac.authorization.k8s.io", kind, Some(&new), old.as_ref())
}

fn namespace(name: &str, labels: Value) -> NamespaceFacts {
    let object = json!({"metadata": {"name": name, "labels": labels}});
    NamespaceFacts::from_object(&object, |name| name == "kube-system").unwrap()
}

/// What is said about the accounts of namespace `ai`.
fn refused(review: &Review) -> Vec<(String, Option<String>)> {
    let Some(binding) = Binding::of(review).unwrap() else {
        return Vec::new();
    };
    let found = binding.check(&namespace("ai", json!({"ringfence.dev/enforce": "default"})));
    let said = found.into_iter().map(|found| {
        assert_eq!(found.policy, RULE);
        assert!(found.message.starts_with("gives ClusterRole admin to "), "{found:?}");
        (found.path, found.value)
    });
    said.collect()
}

#[rstest]
#[case::account(json!({"kind": "ServiceAccount", "name": "triage", "namespace": "ai"}), true)]
#[case::account_that_is_not_there_yet(json!({"kind": "ServiceAccount", "name": "tomorrow", "namespace": "ai"}), true)]
#[case::as_a_user(json!({"kind": "User", "name": "system:serviceaccount:ai:triage"}), true)]
#[case::all_of_them(json!({"kind": "Group", "name": "system:serviceaccounts:ai"}), true)]
#[case::elsewhere(json!({"kind": "ServiceAccount", "name": "triage", "namespace": "ai-2"}), false)]
#[case::a_user_elsewhere(json!({"kind": "User", "name": "system:serviceaccount:ai-2:triage"}), false)]
#[case::a_group_elsewhere(json!({"kind": "Group", "name": "system:serviceaccounts:ai-2"}), false)]
#[case::a_person(json!({"kind": "User", "name": "ai"}), false)]
#[case::a_person_with_a_colon(json!({"kind": "User", "name": "system:serviceaccount:ai"}), false)]
#[case::a_group_as_a_user(json!({"kind": "User", "name": "system:serviceaccounts:ai"}), false)]
#[case::a_user_as_a_group(json!({"kind": "Group", "name": "system:serviceaccount:ai:triage"}), false)]
#[case::every_account_of_the_cluster(json!({"kind": "Group", "name": "system:serviceaccounts"}), true)]
#[case::whoever_logs_in(json!({"kind": "Group", "name": "system:authenticated"}), true)]
#[case::whoever_does_not(json!({"kind": "Group", "name": "system:unauthenticated"}), true)]
#[case::nobody_known(json!({"kind": "User", "name": "system:anonymous"}), true)]
#[case::a_group_called_like_nobody_known(json!({"kind": "Group", "name": "system:anonymous"}), false)]
#[case::a_user_called_like_a_group_of_theirs(json!({"kind": "User", "name": "system:unauthenticated"}), false)]
#[case::a_user_called_like_all(json!({"kind": "User", "name": "system:serviceaccounts"}), false)]
#[case::no_subject(json!(7), false)]
#[case::no_name(json!({"kind": "ServiceAccount", "namespace": "ai"}), true)]
fn an_account_is_named_in_three_ways(#[case] subject: Value, #[case] expected: bool) {
    for kind in ["RoleBinding", "ClusterRoleBinding"] {
        let subjects = json!([{"kind": "User", "name": "mia"}, subject]);
        let found = refused(&written(kind, None, subjects));
        let name = subject.get("name").and_then(Value::as_str).map(str::to_owned);
        let wanted = expected.then(|| ("subjects[1]".to_owned(), name));
        assert_eq!(found, Vec::from_iter(wanted), "{kind}");
    }
}

#[test]
fn an_account_without_a_namespace_is_of_the_bindings_own() {
    let review = written(
        "RoleBinding",
        None,
        json!([{"kind": "ServiceAccount", "name": "triage"}]),
    );
    assert_eq!(
        refused(&review),
        [("subjects[0]".to_owned(), Some("triage".to_owned()))]
    );
}

#[test]
fn a_binding_of_the_cluster_has_no_namespace_of_its_own() {
    let mut subjects = vec![json!({"kind": "ServiceAccount", "name": "triage"})];
    subjects.extend(GROUPS_OF_ALL_ACCOUNTS.map(|group| json!({"kind": "Group", "name": group})));
    subjects.extend(WITHOUT_CREDENTIAL.map(|(kind, name)| json!({"kind": kind, "name": name})));
    let mut review = written("ClusterRoleBinding", None, json!(subjects));
    review.namespace = None;
    assert!(Binding::of(&review).unwrap().is_none());
}

#[rstest]
#[case::kept(json!([{"kind": "ServiceAccount", "name": "triage", "namespace": "ai"}]), &[])]
#[case::in_another_place(json!([{"kind": "User", "name": "mia"}, {"kind": "ServiceAccount", "name": "triage", "namespace": "ai"}]), &[])]
#[case::by_another_name(json!([{"kind": "User", "name": "system:serviceaccount:ai:triage"}]), &[])]
#[case::taken_out(json!([]), &[])]
#[case::another_account(json!([{"kind": "ServiceAccount", "name": "index", "namespace": "ai"}]), &["subjects[0]"])]
#[case::beside_it(json!([{"kind": "ServiceAccount", "name": "triage", "namespace": "ai"}, {"kind": "ServiceAccount", "name": "index", "namespace": "ai"}]), &["subjects[1]"])]
#[case::all_of_them(json!([{"kind": "Group", "name": "system:serviceaccounts:ai"}]), &["subjects[0]"])]
fn only_what_an_update_adds_is_judged(#[case] after: Value, #[case] expected: &[&str]) {
    let before = json!([{"kind": "ServiceAccount", "name": "triage", "namespace": "ai"}]);
    let found = refused(&written("RoleBinding", Some(before), after));
    let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, expected);
}

#[test]
fn one_subject_twice_is_told_once() {
    let account = json!({"kind": "ServiceAccount", "name": "triage", "namespace": "ai"});
    let user = json!({"kind": "User", "name": "system:serviceaccount:ai:triage"});
    assert_eq!(
        refused(&written("RoleBinding", None, json!([account, user, account]))).len(),
        1
    );
}

#[test]
fn a_list_of_refusals_ends() {
    let many = (0..1000).map(|at| json!({"kind": "ServiceAccount", "name": format!("a{at}"), "namespace": "ai"}));
    assert_eq!(
        refused(&written("RoleBinding", None, many.collect())).len(),
        MAX_VIOLATIONS
    );
}

#[rstest]
#[case::the_most(MAX_NAMESPACES, true)]
#[case::more(MAX_NAMESPACES + 1, false)]
fn so_many_namespaces_are_asked_for(#[case] count: usize, #[case] expected: bool) {
    let many = (0..count).map(|at| json!({"kind": "ServiceAccount", "name": "a", "namespace": format!("n{at}")}));
    let review = written("RoleBinding", None, many.collect());
    let asked = Binding::of(&review).unwrap().unwrap().namespaces();
    assert_eq!(asked.is_ok_and(|asked| asked.len() == count), expected);
}

#[rstest]
#[case::enforced(json!({"ringfence.dev/enforce": "a"}), &[Mode::Enforce])]
#[case::warned(json!({"ringfence.dev/warn": "a"}), &[Mode::Warn])]
#[case::both(json!({"ringfence.dev/enforce": "a", "ringfence.dev/warn": "b"}), &[Mode::Enforce, Mode::Warn])]
#[case::audited(json!({"ringfence.dev/audit": "a"}), &[])]
#[case::plain(json!({}), &[])]
fn only_fenced_namespaces_are_judged(#[case] labels: Value, #[case] expected: &[Mode]) {
    assert_eq!(Binding::modes(&namespace("ai", labels.clone())), expected);
    assert_eq!(
        Binding::modes(&namespace("kube-system", labels)),
        [],
        "an exempt one never"
    );
}

#[rstest]
#[case::update_without_what_was(review("UPDATE", "rbac.authorization.k8s.io", "RoleBinding", Some(&binding(json!([]))), None))]
#[case::create_without_an_object(review("CREATE", "rbac.authorization.k8s.io", "RoleBinding", None, None))]
#[case::another_kind(review("CREATE", "rbac.authorization.k8s.io", "Role", Some(&json!({})), None))]
#[case::another_group(review("CREATE", "example.com", "RoleBinding", Some(&binding(json!([]))), None))]
fn what_cannot_be_judged_is_a_fault(#[case] review: Review) {
    assert!(Binding::of(&review).is_err());
}
