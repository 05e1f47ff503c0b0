//! The account: cloud identity and pull secrets, as far as the class goes.

use anyhow::ensure;
use serde_json::json;
use support::eventually;

use crate::world::{SOON, World, all, condition, one, workflow};

const KEY: &str = "eks.amazonaws.com/role-arn";

#[tokio::test]
async fn an_account_is_known_to_a_cloud_only_where_the_class_allows_it() {
    let world = World::shared().await;
    let class = world.class(&json!({"images": {"allowed": ["**"]}})).await;
    let namespace = world.namespace("cloud", &json!({"ringfence.dev/enforce": class})).await;
    let identity =
        json!({"annotations": {KEY: "arn:aws:iam::1:role/triage"}, "imagePullSecrets": [{"name": "registry"}]});
    let object = workflow("triage", &json!({"identity": identity}));
    world.tess.post(&all("AIWorkflow", &namespace), &object).await.ok();
    let refused = world
        .condition(&namespace, "triage", "Accepted", "False", "OutsideClass")
        .await;
    let message = condition(&refused, "Accepted")["message"].to_string();
    assert!(
        message.contains(KEY) && !message.contains("arn:aws"),
        "the key, and not the value: {message}"
    );
    let account = one("ServiceAccount", &namespace, "triage");
    let made = world.admin.read(&account).await.unwrap();
    assert!(made["metadata"]["annotations"].get(KEY).is_none(), "{made}");

    let path = format!("{}/{class}", crate::world::CLASSES);
    world
        .admin
        .patch(&path, &json!({"spec": {"identity": {"annotations": [KEY]}}}))
        .await
        .ok();
    world.condition(&namespace, "triage", "Ready", "True", "Fenced").await;
    let made = world.admin.read(&account).await.unwrap();
    assert_eq!(made["metadata"]["annotations"][KEY], "arn:aws:iam::1:role/triage");
    assert_eq!(made["imagePullSecrets"], json!([{"name": "registry"}]));

    // Taken back by the platform, and gone from the account, without a new one: its UID is what clouds and Vault know.
    world
        .admin
        .patch(&path, &json!({"spec": {"identity": null}}))
        .await
        .ok();
    eventually(SOON, || async {
        let now = world.admin.read(&account).await?;
        ensure!(now["metadata"]["annotations"].get(KEY).is_none(), "still there");
        ensure!(now["metadata"]["uid"] == made["metadata"]["uid"], "another account");
        Ok(())
    })
    .await;
}
