//! Door: what somebody made while no guard stood says that Ringfence made it: by an owner's UID, or by a name that Ringfence would give.

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::eventually;

use crate::attackers::{scan_report, told};
use crate::owned::spec;
use crate::world::{NAMESPACES, SOON, World, all, one, unasked, workflow};

/// With the label by which the operator finds what is its own, or without one.
fn says(name: &str, owner: &Value, label: Option<&str>) -> Value {
    let mut metadata = json!({"name": name, "annotations": {"ringfence.dev/owner-uid": owner}});
    if let Some(label) = label {
        metadata["labels"] = json!({"ringfence.dev/owner": label});
    }
    metadata
}

fn binding(metadata: Value, namespace: &str, account: &str) -> Value {
    json!({
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": account}],
    })
}

/// Rights and open networks, as the admin of a namespace makes them while the chart is uninstalled.
///
/// Held by: `scan`, `operator`
#[tokio::test]
async fn what_was_made_in_a_gap_says_that_ringfence_made_it() {
    let world = World::shared().await;
    let ns = &world.enforced("forged").await;
    let uid = world.ready(ns, "triage", &json!({})).await["metadata"]["uid"].clone();
    let of_namespace = world.admin.get(&format!("{NAMESPACES}/{ns}")).await.ok()["metadata"]["uid"].clone();
    let gap = unasked(world.cluster).await;
    let name = |part: &str| owned_name(ns, "triage", part);
    let bindings = [
        says(&name("launchers"), &uid, None),
        says(&name("allow"), &uid, None),
        says("ringfence", &of_namespace, Some("ringfence")),
        says(&name("role"), &uid, Some("another")),
    ];
    for metadata in &bindings {
        let forged = binding(metadata.clone(), ns, "triage");
        gap.post(&all("RoleBinding", ns), &forged).await.ok();
    }
    let policies = [
        says(&name("role"), &uid, None),
        says(&name("binding"), &uid, Some("another")),
    ];
    for metadata in &policies {
        let open = json!({"metadata": metadata, "spec": {"podSelector": {}, "ingress": [{}], "egress": [{}]}});
        gap.post(&all("NetworkPolicy", ns), &open).await.ok();
    }
    let mut wanted = bindings
        .map(|metadata| format!("extra-binding RoleBinding/{}", text(&metadata["name"])))
        .to_vec();
    wanted.extend(policies.map(|metadata| format!("foreign-network-policy NetworkPolicy/{}", text(&metadata["name"]))));
    wanted.sort_unstable();
    let mut found = told(&scan_report(&world, &["--namespace", ns]).await);
    let rules = ["extra-binding ", "foreign-network-policy "];
    found.retain(|told| rules.iter().any(|rule| told.starts_with(rule)));
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, wanted, "all of it, and nothing that Ringfence made");
    // What carries the label of its owner, the operator finds itself.
    let labelled = binding(says("labelled", &uid, Some("triage")), ns, "triage");
    gap.post(&all("RoleBinding", ns), &labelled).await.ok();
    world.admin.gone(&one("RoleBinding", ns, "labelled")).await;
}

/// It waits for the account of a workflow that is declared later. What Ringfence itself made of an account that is lost does not.
///
/// Held by: `operator`
#[tokio::test]
async fn a_binding_that_says_it_is_ringfences_waits_for_an_account() {
    let world = World::shared().await;
    let ns = &world.enforced("waits").await;
    let gap = unasked(world.cluster).await;
    let name = owned_name(ns, "later", "binding");
    let forged = binding(says(&name, &json!("x"), Some("later")), ns, "later");
    gap.post(&all("RoleBinding", ns), &forged).await.ok();
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("later", &spec()))
        .await
        .ok();
    world.condition(ns, "later", "Programmed", "False", "Conflict").await;
    assert!(!world.admin.is_there(&one("ServiceAccount", ns, "later")).await.unwrap());
    gap.delete(&one("RoleBinding", ns, &name)).await.ok();
    world.condition(ns, "later", "Ready", "True", "Fenced").await;

    let account = one("ServiceAccount", ns, "later");
    let before = world.admin.read(&account).await.unwrap();
    gap.delete(&account).await.ok();
    eventually(SOON, || async {
        let now = world.admin.read(&account).await?;
        ensure!(
            now["metadata"]["uid"] != before["metadata"]["uid"],
            "the old one is still there"
        );
        Ok(())
    })
    .await;
    world.condition(ns, "later", "Ready", "True", "Fenced").await;
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}
