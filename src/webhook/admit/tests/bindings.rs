//! Bindings: which namespaces are asked for, and what becomes of an answer that is none.

use super::*;

fn bound(namespaces: &[&str]) -> Review {
    let subjects = namespaces
        .iter()
        .map(|namespace| json!({"kind": "ServiceAccount", "namespace": namespace, "name": "triage"}));
    let binding = json!({
        "metadata": {"name": "b", "namespace": "other"}, "subjects": subjects.collect::<Vec<_>>(),
        "roleRef": {"kind": "ClusterRole", "name": "admin"},
    });
    review(
        "CREATE",
        "rbac.authorization.k8s.io",
        "RoleBinding",
        Some(&binding),
        None,
    )
}

async fn decided(lookup: Fixed, review: &Review) -> Decision {
    decide(lookup, Arc::default(), Webhook::Bindings, review).await
}

fn plain(name: &str) -> Value {
    json!({"metadata": {"name": name, "uid": name}})
}

#[tokio::test]
async fn an_account_of_an_enforced_namespace_is_refused_and_of_others_not() {
    let other = cluster().with(Key::Namespace("plain".into()), plain("plain"));
    let decision = decided(other.clone(), &bound(&["plain", "ai", "gone"])).await;
    let paths: Vec<_> = decision.denials.iter().map(|denial| denial.path.as_str()).collect();
    assert_eq!(paths, ["subjects[1]"], "{decision:?}");
    assert_eq!(decision.fault, None);
    assert!(decided(other, &bound(&["plain", "gone"])).await.allowed());
}

#[tokio::test]
async fn what_a_mode_says_is_said_once() {
    let warned = with_modes(json!({"ringfence.dev/warn": "default"}));
    let decision = decided(warned, &bound(&["ai"])).await;
    assert!(decision.allowed() && decision.warnings.len() == 1, "{decision:?}");
    let both = with_modes(json!({"ringfence.dev/enforce": "default", "ringfence.dev/warn": "other"}));
    let decision = decided(both, &bound(&["ai"])).await;
    assert_eq!(
        (decision.denials.len(), decision.warnings.len()),
        (1, 0),
        "{decision:?}"
    );
}

#[tokio::test]
async fn a_namespace_that_cannot_be_read_refuses() {
    let unread = cluster().failing(Key::Namespace("plain".into()));
    let decision = decided(unread, &bound(&["plain"])).await;
    assert!(!decision.allowed() && decision.fault.is_some(), "{decision:?}");
    let nameless = cluster().with(Key::Namespace("plain".into()), json!({"metadata": {}}));
    let decision = decided(nameless, &bound(&["plain"])).await;
    assert!(!decision.allowed() && decision.fault.is_some(), "{decision:?}");
}

#[tokio::test]
async fn an_exempt_namespace_is_not_asked_for() {
    let unread = cluster().failing(Key::Namespace("kube-system".into()));
    assert!(decided(unread, &bound(&["kube-system"])).await.allowed());
}

#[tokio::test]
async fn too_many_namespaces_are_refused_and_none_is_asked_for() {
    let names: Vec<String> = (0..501).map(|at| format!("n{at}")).collect();
    let unread = cluster().failing(Key::Namespace("n0".into()));
    let decision = decided(unread, &bound(&names.iter().map(String::as_str).collect::<Vec<_>>())).await;
    assert_eq!(decision.fault, None);
    assert!(decision.denials[0].message.contains("501 namespaces"), "{decision:?}");
}
