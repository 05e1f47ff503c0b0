//! Foreign edits of what Ringfence made: refused where a namespace is enforced, put back where it only warns.

use std::time::Duration;

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::eventually;

use crate::objects::said;
use crate::world::{Actor, SOON, World, all, condition, one, workflow};

const GUARD: &str = "ringfence-owned-objects";

fn spec() -> Value {
    json!({"permissions": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}})
}

/// The four owned objects: kind and path.
fn owned(ns: &str) -> [(&'static str, String); 4] {
    [
        (
            "NetworkPolicy",
            one("NetworkPolicy", ns, &owned_name(ns, "triage", "allow")),
        ),
        ("ServiceAccount", one("ServiceAccount", ns, "triage")),
        ("Role", one("Role", ns, &owned_name(ns, "triage", "role"))),
        (
            "RoleBinding",
            one("RoleBinding", ns, &owned_name(ns, "triage", "binding")),
        ),
    ]
}

fn edits(kind: &str) -> Vec<(&'static str, Value)> {
    let labels =
        json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null, "app.kubernetes.io/instance": null}}});
    let mut both = labels.clone();
    both["metadata"]["ownerReferences"] = Value::Null;
    let mut edits = vec![
        ("labels stripped", labels),
        ("owners stripped", json!({"metadata": {"ownerReferences": null}})),
        ("labels and owners stripped", both),
        (
            "finalizer added",
            json!({"metadata": {"finalizers": ["example.com/stay"]}}),
        ),
    ];
    edits.extend(match kind {
        "NetworkPolicy" => vec![
            ("ingress opened", json!({"spec": {"ingress": [{}]}})),
            ("egress opened", json!({"spec": {"egress": [{}]}})),
            (
                "pods left out",
                json!({"spec": {"podSelector": {"matchLabels": {"x": "y"}}}}),
            ),
            ("egress not judged", json!({"spec": {"policyTypes": ["Ingress"]}})),
        ],
        "ServiceAccount" => vec![
            (
                "cloud role",
                json!({"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}}}),
            ),
            ("token mounted", json!({"automountServiceAccountToken": true})),
            ("pull secret", json!({"imagePullSecrets": [{"name": "x"}]})),
        ],
        "Role" => vec![(
            "more rules",
            json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}),
        )],
        _ => vec![(
            "more subjects",
            json!({"subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "people"}]}),
        )],
    });
    edits
}

async fn settled(admin: &Actor, path: &str, wanted: &Value, what: &str) {
    eventually(SOON, || async {
        let found = admin.read(path).await?;
        ensure!(said(&found) == said(wanted), "{what}: {path} is still {found}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn foreign_edits_are_put_back_and_counted() {
    let world = World::shared().await;
    // A namespace for each kind: one after the other would take long.
    let kinds = (0..4).map(|at| {
        let world = &world;
        async move {
            let ns = &world
                .namespace("drift", &json!({"ringfence.dev/warn": "default"}))
                .await;
            let declared = workflow("triage", &spec());
            world.tess.post(&all("AIWorkflow", ns), &declared).await.ok();
            world.condition(ns, "triage", "Programmed", "True", "Applied").await;
            let (kind, path) = &owned(ns)[at];
            edits_are_put_back(world, kind, path).await;
            eventually(SOON, || async {
                let events = world.admin.items(&all("Event", ns)).await?;
                let told = events
                    .iter()
                    .any(|event| event["reason"] == "DriftReverted" && event["regarding"]["name"] == "triage");
                ensure!(told, "no Event tells of it");
                Ok(())
            })
            .await;
        }
    });
    futures::future::join_all(kinds).await;
}

async fn edits_are_put_back(world: &World, kind: &str, path: &str) {
    let label = format!("kind=\"{kind}\"");
    let whole = world.admin.get(path).await.ok();
    for (what, edit) in edits(kind) {
        // What is still being looked at because of the last edit would be put back by that look.
        if what.contains("stripped") {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let before = world.counted("ringfence_drift_reverted_total", &[&label]).await;
        world.admin.patch(path, &edit).await.ok();
        settled(&world.admin, path, &whole, what).await;
        eventually(SOON, || async {
            let after = world.counted("ringfence_drift_reverted_total", &[&label]).await;
            ensure!(after > before, "{kind}, {what}: it is not counted");
            Ok(())
        })
        .await;
    }
    world.admin.delete(path).await.ok();
    settled(&world.admin, path, &whole, "deleted").await;
}

#[tokio::test]
async fn an_enforced_fence_cannot_be_edited_at_all() {
    let world = World::shared().await;
    let ns = &world.enforced("guarded").await;
    world.ready(ns, "triage", &spec()).await;
    let deny = [("NetworkPolicy", one("NetworkPolicy", ns, "ringfence"))];
    for (kind, path) in owned(ns).into_iter().chain(deny) {
        let before = world.admin.get(&path).await.ok();
        for (what, edit) in edits(kind) {
            // The namespace's own policy has no owner to be stripped of.
            if what == "owners stripped" && path.ends_with("/ringfence") {
                continue;
            }
            let answer = world.admin.patch(&path, &edit).await;
            let message = answer.refused_by_guard(GUARD);
            assert!(message.contains("Fix:"), "{kind}, {what}: {message}");
        }
        world.admin.delete(&path).await.refused_by_guard(GUARD);
        assert_eq!(world.admin.get(&path).await.ok(), before, "{path}");
    }
}

#[tokio::test]
async fn what_stands_is_not_written_again() {
    let world = World::shared().await;
    let ns = &world.enforced("steady").await;
    world.ready(ns, "triage", &spec()).await;
    let namespace = format!("/api/v1/namespaces/{ns}");
    let paths: Vec<String> = owned(ns)
        .into_iter()
        .map(|(_, path)| path)
        .chain([one("NetworkPolicy", ns, "ringfence"), one("AIWorkflow", ns, "triage")])
        .collect();
    let versions = || async {
        let mut versions = Vec::new();
        for path in &paths {
            versions.push((
                path.clone(),
                world.admin.get(path).await.ok()["metadata"]["resourceVersion"].clone(),
            ));
        }
        versions
    };
    let before = versions().await;
    // A label of the namespace's makes every controller look again; nothing of the fence follows from it.
    for round in 0..3 {
        let label = json!({"metadata": {"labels": {"round": round.to_string()}}});
        world.admin.patch(&namespace, &label).await.ok();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(versions().await, before);
    let workflow = world.admin.get(&one("AIWorkflow", ns, "triage")).await.ok();
    assert_eq!(condition(&workflow, "Ready")["status"], "True");
}
