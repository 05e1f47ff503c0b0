//! Tokens and accounts of enforced namespaces: what is asked about, and what goes on while nobody answers.

use serde_json::{Value, json};

use crate::api::{Api, fate};
use crate::chart::{RINGFENCE, namespace, with_chart};

const TOKENS: &str = "webhook tokens.ringfence.dev";
const TOKEN_SECRETS: &str = "webhook token-secrets.ringfence.dev";
const ACCOUNTS: &str = "webhook accounts.ringfence.dev";

async fn two_namespaces(admin: &Api, name: &str) -> (String, String) {
    let enforced = namespace(
        admin,
        &format!("{name}-enforced"),
        json!({"ringfence.dev/enforce": "default"}),
    )
    .await;
    let plain = namespace(
        admin,
        &format!("{name}-plain"),
        json!({"ringfence.dev/warn": "default"}),
    )
    .await;
    (enforced, plain)
}

#[tokio::test]
async fn tokens_are_asked_about_but_not_kubelets() {
    let (admin, _chart) = with_chart().await;
    let (enforced, plain) = two_namespaces(&admin, "tokens").await;
    let path = |ns: &str| format!("/api/v1/namespaces/{ns}/serviceaccounts/default/token");
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    let kubelet = admin.in_groups("system:node:n1", &["system:nodes", "system:masters"]);
    for (user, expected) in [
        (&admin, TOKENS),
        (&admin.master("tenant"), TOKENS),
        (&admin.master("system:node:n1"), TOKENS),
        (&admin.in_groups("n1", &["system:nodes", "system:masters"]), TOKENS),
        (&admin.master("system:serviceaccount:kube-system:default"), TOKENS),
        (&kubelet, "done"),
        (&admin.master(RINGFENCE), "done"),
    ] {
        assert_eq!(fate(user.post(&path(&enforced), request.clone()).await), expected);
        assert_eq!(fate(user.post(&path(&plain), request.clone()).await), "done");
    }
}

#[tokio::test]
async fn secrets_are_asked_about_where_they_become_tokens() {
    let (admin, _chart) = with_chart().await;
    let (enforced, plain) = two_namespaces(&admin, "secrets").await;
    let secrets = |ns: &str| format!("/api/v1/namespaces/{ns}/secrets");
    let secret = |name: &str, type_: &str| {
        let annotations = json!({"kubernetes.io/service-account.name": "default"});
        json!({"metadata": {"name": name, "annotations": annotations}, "type": type_})
    };
    let token = secret("token", "kubernetes.io/service-account-token");
    assert_eq!(
        fate(admin.post(&secrets(&enforced), token.clone()).await),
        TOKEN_SECRETS
    );
    assert_eq!(fate(admin.post(&secrets(&plain), token.clone()).await), "done");
    let mut huge = secret("huge", "Opaque");
    huge["stringData"] = json!({"blob": "<".repeat(600_000)});
    let many: serde_json::Map<_, _> = (0..10_000).map(|at| (format!("k{at}"), json!("v"))).collect();
    huge["metadata"]["annotations"] = many.into();
    for ordinary in [
        secret("plain", "Opaque"),
        json!({"metadata": {"name": "bare"}}),
        huge.clone(),
    ] {
        assert_eq!(fate(admin.post(&secrets(&enforced), ordinary).await), "done");
    }
    let change = json!({"stringData": {"blob": "x"}});
    assert_eq!(
        fate(admin.patch(&format!("{}/huge", secrets(&enforced)), change).await),
        "done"
    );

    // One from before the fence.
    admin.master(RINGFENCE).post(&secrets(&enforced), token).await.unwrap();
    let path = format!("{}/token", secrets(&enforced));
    let annotate = |annotations: Value| json!({"metadata": {"annotations": annotations}});
    let of_another = annotate(json!({"kubernetes.io/service-account.name": "other"}));
    assert_eq!(
        fate(admin.patch(&format!("{path}?dryRun=All"), of_another).await),
        TOKEN_SECRETS
    );
    for free in [
        annotate(json!({"a": "b"})),
        json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["test/hold"]}}),
        json!({"metadata": {"finalizers": null}}),
    ] {
        assert_eq!(fate(admin.patch(&path, free).await), "done");
    }
    assert_eq!(fate(admin.delete(&path).await), "done");
}

#[tokio::test]
async fn accounts_are_asked_about_but_not_built_in_controllers() {
    let (admin, _chart) = with_chart().await;
    let (enforced, plain) = two_namespaces(&admin, "accounts").await;
    let accounts = |ns: &str| format!("/api/v1/namespaces/{ns}/serviceaccounts");
    let account = |name: &str| json!({"metadata": {"name": name}});
    let dry = format!("{}?dryRun=All", accounts(&enforced));
    for (user, expected) in [
        (&admin, ACCOUNTS),
        (&admin.master("tenant"), ACCOUNTS),
        (&admin.master("system:kube-controller-manager"), "done"),
        (
            &admin.master("system:serviceaccount:kube-system:service-account-controller"),
            "done",
        ),
        (
            &admin.master("system:serviceaccount:kube-system:job-controller"),
            ACCOUNTS,
        ),
        (&admin.master(RINGFENCE), "done"),
    ] {
        assert_eq!(fate(user.post(&dry, account("x")).await), expected);
        let elsewhere = format!("{}?dryRun=All", accounts(&plain));
        assert_eq!(fate(user.post(&elsewhere, account("x")).await), "done");
    }
    admin
        .master(RINGFENCE)
        .post(&accounts(&enforced), account("x"))
        .await
        .unwrap();
    let path = format!("{}/x", accounts(&enforced));
    for (change, expected) in [
        (json!({"metadata": {"annotations": {"a": "b"}}}), ACCOUNTS),
        (json!({"secrets": [{"name": "x"}]}), ACCOUNTS),
        (json!({"metadata": {"finalizers": ["test/hold"]}}), "done"),
        (json!({"metadata": {"finalizers": null}}), "done"),
        (json!({}), "done"),
    ] {
        assert_eq!(fate(admin.patch(&path, change.clone()).await), expected, "{change}");
    }
    let tokens = admin.master("system:serviceaccount:kube-system:tokens-controller");
    assert_eq!(
        fate(tokens.patch(&path, json!({"secrets": [{"name": "x"}]})).await),
        "done"
    );
    assert_eq!(fate(admin.delete(&path).await), "done");
}
