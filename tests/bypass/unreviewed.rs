//! Door: what is withdrawn while a declaration waits for its review.

use anyhow::ensure;
use serde_json::{Value, json};
use support::eventually;

use crate::grants::{grant, grants, may};
use crate::world::{CLASSES, NAMESPACES, SOON, World, all, one, workflow};

fn get(resource: &str) -> Value {
    crate::rights::rule(&[""], &[resource], &["get"])
}

/// A tenant edits while nobody reviews, and leaves it so: what she holds stays, and neither the class nor the grant by which she held it waits
/// for her.
///
/// Held by: `operator`
#[tokio::test]
async fn a_tenant_keeps_what_is_withdrawn_by_what_nobody_reviewed() {
    let world = World::shared().await;
    let both = [get("configmaps"), get("services")];
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "permissions": both}))
        .await;
    let home = &world.namespace("waits", &json!({"ringfence.dev/enforce": class})).await;
    let vectors = &world.namespace("vectors", &json!({})).await;
    let (_, ada) = world.person(vectors, "admin").await;
    let spec = json!({"permissions": {"rules": both, "crossNamespace": [{"namespace": vectors, "rules": both}]}});
    ada.post(&grants(vectors), &grant(home, "triage", json!(both)))
        .await
        .ok();
    world
        .tess
        .post(&all("AIWorkflow", home), &workflow("triage", &spec))
        .await
        .ok();
    let account = format!("system:serviceaccount:{home}:triage");
    let holds = async |ns: &str, resource: &str, expected: bool| {
        eventually(SOON, || async {
            let may = may(&world, &account, "get", resource, ns, "x").await;
            ensure!(may == expected, "{resource} in {ns}: {may}");
            Ok(())
        })
        .await;
    };
    for ns in [home, vectors] {
        holds(ns, "configmaps", true).await;
        holds(ns, "services", true).await;
    }
    // As a backup that is restored, or a gap, leaves it: the record is of another time.
    let path = one("AIWorkflow", home, "triage");
    let record = json!({"status": {"reviewed": {"generation": 7, "registrationUID": "of-another-time"}}});
    world.admin.patch(&format!("{path}/status"), &record).await.ok();
    world
        .condition(home, "triage", "Accepted", "False", "NotReviewed")
        .await;

    let narrower = json!({"spec": {"rules": [get("services")]}});
    ada.patch(&format!("{}/readers", grants(vectors)), &narrower).await.ok();
    holds(vectors, "configmaps", false).await;
    let narrower = json!({"spec": {"permissions": [get("services")]}});
    world.admin.patch(&format!("{CLASSES}/{class}"), &narrower).await.ok();
    holds(home, "configmaps", false).await;
    for ns in [home, vectors] {
        holds(ns, "services", true).await;
    }
    let unfenced = json!({"metadata": {"labels": {"ringfence.dev/enforce": null}}});
    world.admin.patch(&format!("{NAMESPACES}/{home}"), &unfenced).await.ok();
    holds(vectors, "services", false).await;
}
