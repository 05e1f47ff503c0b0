//! Door: being the workflow's account without being its pod.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::attackers::forbidden;
use crate::world::{Actor, SOON, World, all, one, workflow};

const KEY: &str = "eks.amazonaws.com/role-arn";

fn token_request(seconds: u64, audiences: &Value) -> Value {
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": audiences, "expirationSeconds": seconds}})
}

fn secrets(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

fn token_secret(account: &str) -> Value {
    json!({
        "metadata": {"name": unique("token"), "annotations": {"kubernetes.io/service-account.name": account}},
        "type": "kubernetes.io/service-account-token",
    })
}

/// A kubelet, whose pods are there for it to ask about.
async fn kubelet(world: &World) -> Actor {
    Actor::new(
        world
            .cluster
            .impersonate("system:node:n1", &["system:nodes", "system:masters"])
            .await,
    )
}

/// Held by: `token-request`, `RBAC`
#[tokio::test]
async fn a_tenant_asks_for_a_token_of_the_workflows_account() {
    let world = World::shared().await;
    let ns = &world.enforced("token").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let (_, ada) = world.person(ns, "admin").await;
    let path = format!("{}/token", one("ServiceAccount", ns, "triage"));
    let kubelet = kubelet(&world).await;
    for request in [
        token_request(600, &json!([])),
        token_request(86_400, &json!([])),
        token_request(600, &json!(["vault"])),
    ] {
        for attacker in [&edith, &ada, &world.admin] {
            let answer = attacker.post(&path, &request).await;
            let message = answer.refused_by("token-request");
            assert!(message.contains("serviceaccounts/token = \"triage\""), "{message}");
        }
        forbidden(&world.tess.post(&path, &request).await);
        let given = kubelet.post(&path, &request).await.ok();
        assert!(given["status"]["token"].is_string(), "for the pods of its node");
    }
    // Nor of another account there: a workflow may be given it tomorrow.
    let answer = ada
        .post(
            &format!("{}/token", one("ServiceAccount", ns, "default")),
            &token_request(600, &json!([])),
        )
        .await;
    answer.refused_by("token-request");

    // Where nothing is enforced, tokens are given as ever.
    let plain = &world.namespace("plain", &json!({})).await;
    let (_, edith) = world.person(plain, "edit").await;
    edith
        .post(&all("ServiceAccount", plain), &json!({"metadata": {"name": "ci"}}))
        .await
        .ok();
    edith
        .post(
            &format!("{}/token", one("ServiceAccount", plain, "ci")),
            &token_request(600, &json!([])),
        )
        .await
        .ok();
}

/// What was asked for while nobody refused it is the account's until it is over. It is bound to that very account: who fences a namespace deletes
/// it first, and Ringfence makes another one of its name.
///
/// Held by: `API server`
#[tokio::test]
async fn a_tenant_keeps_a_token_from_before_the_fence() {
    let world = World::shared().await;
    let ns = &world
        .namespace("before", &json!({"ringfence.dev/warn": "default"}))
        .await;
    let (_, edith) = world.person(ns, "edit").await;
    let account = |name: &str| one("ServiceAccount", ns, name);
    let given = async |name: &str| {
        let declared = workflow(name, &json!({}));
        world.admin.post(&all("AIWorkflow", ns), &declared).await.ok();
        eventually(SOON, || async { world.admin.read(&account(name)).await }).await;
        let path = format!("{}/token", account(name));
        let answer = edith.post(&path, &token_request(315_360_000, &json!([]))).await;
        answer.ok()["status"]["token"].clone()
    };
    let is_taken = async |token: &Value| {
        let review = json!({"spec": {"token": token}});
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        world.admin.post(path, &review).await.ok()["status"]["authenticated"] == true
    };
    let (kept, left) = (given("kept").await, given("triage").await);
    let first = world.admin.read(&account("triage")).await.expect("an account");
    world.admin.delete(&account("triage")).await.ok();
    eventually(SOON, || async {
        let second = world.admin.read(&account("triage")).await?;
        ensure!(second["metadata"]["uid"] != first["metadata"]["uid"], "not made again");
        Ok(())
    })
    .await;
    world.enforce(ns).await;
    eventually(SOON, || async {
        ensure!(!is_taken(&left).await, "still known");
        Ok(())
    })
    .await;
    assert!(
        is_taken(&kept).await,
        "the API server gave it, and nobody takes it back"
    );
    world
        .admin
        .delete(&account("kept"))
        .await
        .refused_by_guard("ringfence-owned-objects");
}

/// Held by: `token-secret`
#[tokio::test]
async fn a_tenant_has_the_api_server_write_a_token_into_a_secret() {
    let world = World::shared().await;
    let ns = &world.enforced("secret").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    for attacker in [&edith, &world.tess, &world.admin] {
        for account in ["triage", "default", "tomorrow"] {
            let answer = attacker.post(&secrets(ns), &token_secret(account)).await;
            assert!(answer.refused_by("token-secret").contains(account));
        }
    }
    let ordinary = json!({"metadata": {"name": "model-key"}, "type": "Opaque", "stringData": {"key": "x"}});
    world.tess.post(&secrets(ns), &ordinary).await.ok();
    edith
        .patch(
            &format!("{}/model-key", secrets(ns)),
            &json!({"stringData": {"key": "y"}}),
        )
        .await
        .ok();
}

/// A token Secret of another account, from before the fence; where it is.
async fn an_old_token(edith: &Actor, ns: &str) -> String {
    edith
        .post(&all("ServiceAccount", ns), &json!({"metadata": {"name": "old"}}))
        .await
        .ok();
    let made = edith.post(&secrets(ns), &token_secret("old")).await.ok();
    format!("{}/{}", secrets(ns), made["metadata"]["name"].as_str().unwrap())
}

/// One that was there before the fence goes on holding what it holds, which the scan tells of, and takes up no other account.
///
/// Held by: `token-secret`
#[tokio::test]
async fn a_secret_with_a_token_is_turned_to_the_workflows_account() {
    let world = World::shared().await;
    let ns = &world.namespace("turned", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let path = an_old_token(&edith, ns).await;
    world.enforce(ns).await;
    world.ready(ns, "triage", &json!({})).await;
    let of = |account: &str| json!({"metadata": {"annotations": {"kubernetes.io/service-account.name": account, "kubernetes.io/service-account.uid": null}}});
    edith.patch(&path, &of("triage")).await.refused_by("token-secret");
    edith
        .patch(&path, &json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .ok();
    edith.delete(&path).await.ok();
}

/// The API server fills what has no token, and deletes one whose account is another by its UID: by an empty one, or one of the UID of the account
/// that was made again, it would be given a token of that.
///
/// Held by: `token-secret`
#[tokio::test]
async fn a_secret_with_a_token_is_filled_again() {
    let world = World::shared().await;
    let ns = &world.namespace("refilled", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let path = an_old_token(&edith, ns).await;
    let filled = eventually(SOON, || async {
        let found = world.admin.read(&path).await?;
        ensure!(found["data"]["token"].is_string(), "not filled yet");
        Ok(found)
    })
    .await;
    let uid = &filled["metadata"]["annotations"]["kubernetes.io/service-account.uid"];
    assert!(uid.is_string(), "{}", filled["metadata"]);
    world.enforce(ns).await;
    world.ready(ns, "triage", &json!({})).await;
    for attacker in [&edith, &world.admin] {
        for uid in [json!("11111111-1111-1111-1111-111111111111"), json!(""), Value::Null] {
            let of = json!({"metadata": {"annotations": {"kubernetes.io/service-account.uid": uid}}});
            attacker.patch(&path, &of).await.refused_by("token-secret");
        }
        for token in [json!(""), Value::Null] {
            let emptied = json!({"data": {"token": token}});
            attacker.patch(&path, &emptied).await.refused_by("token-secret");
        }
    }
    // It goes on holding what it holds, and takes notes.
    let note = json!({"metadata": {"annotations": {"example.com/note": "x"}}, "data": {"more": "eA=="}});
    edith.patch(&path, &note).await.ok();
    edith.delete(&path).await.ok();
}

/// Whoever makes the account anew has its rights and roles, which go by its name.
///
/// Held by: `workflow-account`, `ringfence-owned-objects`, `RBAC`
#[tokio::test]
async fn the_workflows_account_is_made_again_by_somebody_else() {
    let world = World::shared().await;
    let ns = &world.enforced("reborn").await;
    let named = json!({"identity": {"serviceAccountName": "night-shift"}});
    world.ready(ns, "triage", &named).await;
    let (_, edith) = world.person(ns, "edit").await;
    for attacker in [&edith, &world.admin] {
        let again = json!({"metadata": {"name": "night-shift"}});
        let answer = attacker.post(&all("ServiceAccount", ns), &again).await;
        assert!(answer.refused_by("workflow-account").contains("AIWorkflow triage"));
    }
    let (_, ada) = world.person(ns, "admin").await;
    let account = one("ServiceAccount", ns, "night-shift");
    ada.delete(&account).await.refused_by_guard("ringfence-owned-objects");
    forbidden(
        &world
            .tess
            .post(&all("ServiceAccount", ns), &json!({"metadata": {"name": "helper"}}))
            .await,
    );
    ada.post(&all("ServiceAccount", ns), &json!({"metadata": {"name": "helper"}}))
        .await
        .ok();
}

/// Held by: `cloud-identity`
#[tokio::test]
async fn an_account_is_made_known_to_a_cloud() {
    let world = World::shared().await;
    let ns = &world.enforced("cloud").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let cloud = json!({"metadata": {"annotations": {KEY: "arn:aws:iam::1:role/admin"}}});
    let mut helper = cloud.clone();
    helper["metadata"]["name"] = json!("helper");
    let accounts = all("ServiceAccount", ns);
    for attacker in [&edith, &world.admin] {
        let answer = attacker.post(&accounts, &helper).await;
        let message = answer.refused_by("cloud-identity");
        assert!(
            message.contains(KEY) && !message.contains("arn:aws"),
            "the key, and not the value: {message}"
        );
    }
    edith
        .post(
            &accounts,
            &json!({"metadata": {"name": "helper", "annotations": {"a": "b"}}}),
        )
        .await
        .ok();
    edith
        .patch(&one("ServiceAccount", ns, "helper"), &cloud)
        .await
        .refused_by("cloud-identity");
    edith
        .patch(
            &one("ServiceAccount", ns, "helper"),
            &json!({"metadata": {"annotations": {"a": "c"}}}),
        )
        .await
        .ok();
    // The workflow's own is refused by guard and rule: whichever answers first.
    let answer = edith.patch(&one("ServiceAccount", ns, "triage"), &cloud).await;
    assert_eq!(answer.code, 403, "{}", answer.body);
}
