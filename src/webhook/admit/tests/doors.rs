//! The doors beside pods: what is asked for, and what becomes of an answer that is none.

use super::*;

fn at(resource: &str, subresource: &str, object: &Value) -> Review {
    let mut review = review("CREATE", "", "X", Some(object), None);
    review.resource.resource = resource.to_owned();
    review.subresource = subresource.to_owned();
    review
}

fn account() -> Review {
    at("serviceaccounts", "", &json!({"metadata": {"name": "triage"}}))
}

fn token_secret() -> Review {
    at(
        "secrets",
        "",
        &json!({"metadata": {"name": "s"}, "type": "kubernetes.io/service-account-token"}),
    )
}

fn claimed() -> Key {
    Key::AccountOwner(named("ai", "triage"))
}

#[tokio::test]
async fn an_account_is_refused_where_a_workflow_has_its_name() {
    assert!(admit(cluster(), &account()).await.allowed());
    let decision = admit(
        cluster().with(claimed(), json!({"metadata": {"name": "triage"}})),
        &account(),
    )
    .await;
    assert_eq!(decision.denials[0].policy, "workflow-account", "{decision:?}");
}

#[tokio::test]
async fn each_mode_says_what_it_refuses() {
    assert_eq!(admit(cluster(), &token_secret()).await.denials.len(), 1);
    let warned = admit(with_modes(json!({"ringfence.dev/warn": "default"})), &token_secret()).await;
    assert!(warned.allowed() && warned.warnings.len() == 1, "{warned:?}");
    let plain = cluster().with(Key::Namespace("ai".into()), json!({"metadata": {"name": "ai"}}));
    assert_eq!(admit(plain, &token_secret()).await, Decision::default());
    let gone = admit(cluster().without(&Key::Namespace("ai".into())), &token_secret()).await;
    assert_eq!(gone.denials[0].policy, "approved-namespace", "{gone:?}");
}

#[rstest]
#[case::namespace(Key::Namespace("ai".into()), token_secret())]
#[case::class(Key::Class("default".into()), token_secret())]
#[case::workflows(claimed(), account())]
#[tokio::test]
async fn what_cannot_be_asked_refuses(#[case] key: Key, #[case] review: Review) {
    let decision = admit(cluster().failing(key), &review).await;
    assert!(!decision.allowed() && decision.fault.is_some(), "{decision:?}");
}
