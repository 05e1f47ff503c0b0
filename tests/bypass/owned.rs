//! Door: what Ringfence made is edited, taken over, emptied or deleted.

use std::time::Duration;

use anyhow::ensure;
use axum::http::Method;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::eventually;

use crate::attackers::force_apply;
use crate::objects::said;
use crate::world::{Actor, SOON, World, all, one, workflow};

pub const GUARD: &str = "ringfence-owned-objects";

pub fn spec() -> Value {
    json!({"permissions": {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}})
}

/// The four owned objects: kind and path.
pub fn owned(ns: &str) -> [(&'static str, String); 4] {
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

/// A namespace that only warns, with workflow `triage` in it, of which all is made.
async fn warned(world: &World, prefix: &str, spec: &Value) -> String {
    let ns = world.namespace(prefix, &json!({"ringfence.dev/warn": "default"})).await;
    let declared = workflow("triage", spec);
    world.tess.post(&all("AIWorkflow", &ns), &declared).await.ok();
    world.condition(&ns, "triage", "Programmed", "True", "Applied").await;
    ns
}

async fn settled(admin: &Actor, path: &str, wanted: &Value, what: &str) {
    eventually(SOON, || async {
        let found = admin.read(path).await?;
        ensure!(said(&found) == said(wanted), "{what}: {path} is still {found}");
        Ok(())
    })
    .await;
}

/// Where a namespace only warns nothing is refused, and whatever is edited is put back, counted and told.
/// Held by: `operator`
#[tokio::test]
async fn a_tenant_edits_a_fence_that_only_warns() {
    let world = World::shared().await;
    // A namespace for each kind: one after the other would take long.
    let kinds = (0..4).map(|at| {
        let world = &world;
        async move {
            let ns = &warned(world, "drift", &spec()).await;
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

/// With a record of who wrote which field that leaves no room to put anything right.
/// Held by: `operator`
#[tokio::test]
async fn an_editor_edits_what_is_then_too_large_to_be_put_back() {
    let world = &World::shared().await;
    // What it takes to put right is more than what opens it.
    let way = |at: usize| {
        let bank = json!({"pods": {"selector": {"matchLabels": {"app": format!("bank-{at:040}")}}}});
        json!({"name": format!("bank-{at}"), "to": bank, "ports": [{"port": 443}]})
    };
    let declared = json!({"network": {"egress": (0..32).map(way).collect::<Vec<_>>()}});
    let ns = &warned(world, "no-room", &declared).await;
    let (_, edith) = world.tenant(ns).await;
    for (kind, path) in owned(ns).into_iter().take(2) {
        let whole = world.admin.read(&path).await.unwrap();
        let unlabelled = json!({"app.kubernetes.io/managed-by": null, "app.kubernetes.io/instance": null});
        let edit = match kind {
            "NetworkPolicy" => {
                json!({"spec": {"podSelector": {}, "egress": [{}], "ingress": [{}]}, "metadata": {"labels": unlabelled}})
            }
            _ => {
                json!({"automountServiceAccountToken": true, "metadata": {"labels": unlabelled, "ownerReferences": null,
                "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}}})
            }
        };
        let largest = async |sizes: std::ops::Range<usize>, step: usize| {
            let mut last = String::new();
            for bytes in sizes.rev().step_by(step) {
                let mut large = edit.clone();
                large["metadata"]["managedFields"] = json!([{
                    "manager": "edith", "operation": "Update", "apiVersion": whole["apiVersion"], "time": "2024-02-29T00:00:00Z",
                    "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": {format!("f:{}", "x".repeat(bytes)): {}}}},
                }]);
                let answer = edith.patch(&path, &large).await;
                if answer.code == 200 {
                    return bytes;
                }
                last = answer.message().chars().take(300).collect();
            }
            panic!("{kind}: nothing that large is stored: {last}")
        };
        let about = largest(1_563_000..1_573_000, 200).await;
        settled(&world.admin, &path, &whole, "large").await;
        largest(about - 200..about + 200, 5).await;
        settled(&world.admin, &path, &whole, "too large").await;
    }
}

/// By the one that Ringfence leaves alone, because a network plugin may have put it there.
/// Held by: `operator`
#[tokio::test]
async fn an_editor_has_a_finalizer_sleep_until_the_workflow_is_deleted() {
    let world = &World::shared().await;
    let ns = &warned(world, "sleeps", &spec()).await;
    let (_, edith) = world.tenant(ns).await;
    let [(_, allow), ..] = owned(ns);
    let held = json!({"metadata": {"finalizers": ["networking.k8s.aws/resources"]}});
    edith.patch(&allow, &held).await.ok();
    world.enforce(ns).await;
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    let kept = world.admin.read(&allow).await.unwrap();
    assert_eq!(kept["metadata"]["finalizers"], held["metadata"]["finalizers"]);
    world.tess.delete(&one("AIWorkflow", ns, "triage")).await.ok();
    world.admin.gone(&allow).await;
}

/// A policy that is too large to be stored, and the one before it opens what is withdrawn.
/// Held by: `declaration-size`
#[tokio::test]
async fn a_tenant_declares_more_than_a_policy_can_hold() {
    let world = World::shared().await;
    let ns = &world.enforced("declares").await;
    world.ready(ns, "triage", &spec()).await;
    let expression = |at: usize| {
        let key = format!("{}.example.com/{at:063}", "x".repeat(60));
        json!({"key": key, "operator": "In", "values": (0..16).map(|at| format!("{at:063}")).collect::<Vec<_>>()})
    };
    let expressions: Vec<_> = (0..16).map(expression).collect();
    let from = |at: usize| {
        let pods = json!({"pods": {"selector": {"matchExpressions": expressions}}});
        json!({"name": format!("r{at}"), "from": pods, "ports": [{"port": 443}]})
    };
    let large = json!({"network": {"ingress": (0..60).map(from).collect::<Vec<_>>()}});
    let answer = world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("large", &large))
        .await;
    let said = answer.refused_by("declaration-size");
    assert!(said.contains("must find room"), "{said}");
    let wider = json!({"spec": large});
    world
        .tess
        .patch(&one("AIWorkflow", ns, "triage"), &wider)
        .await
        .refused_by("declaration-size");
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

/// What a write of an owned object may look like: each field that says something, by each patch, whole, and at once with all of its kind.
/// Held by: `ringfence-owned-objects`, `RBAC`
#[tokio::test]
async fn somebody_edits_or_deletes_what_is_enforced() {
    let world = World::shared().await;
    let ns = &world.enforced("guarded").await;
    world.ready(ns, "triage", &spec()).await;
    let (_, edith) = world.person(ns, "edit").await;
    let (_, ada) = world.person(ns, "admin").await;
    let (_, owner) = world.person(ns, "cluster-admin").await;
    let deny = [("NetworkPolicy", one("NetworkPolicy", ns, "ringfence"))];
    for (kind, path) in owned(ns).into_iter().chain(deny) {
        let before = world.admin.get(&path).await.ok();
        let mut edits = edits(kind);
        edits.push((
            "disowned",
            json!({"metadata": {"annotations": {"ringfence.dev/owner-uid": null}}}),
        ));
        for (what, edit) in edits {
            // The namespace's own policy has no owner to be stripped of.
            if what == "owners stripped" && path.ends_with("/ringfence") {
                continue;
            }
            let mut whole = before.clone();
            merge(&mut whole, &edit);
            let mut applied = edit.clone();
            applied["apiVersion"] = before["apiVersion"].clone();
            applied["kind"] = json!(kind);
            for attacker in [&owner, &world.admin] {
                let mut answers = vec![attacker.patch(&path, &edit).await, attacker.put(&path, &whole).await];
                // An apply adds, and null is no addition.
                if !edit.to_string().contains("null") {
                    answers.push(force_apply(attacker, &path, &applied).await);
                }
                for answer in answers {
                    // Without approve two guards say no to whoever disowns it; which one is named is chance.
                    if what == "disowned" && answer.message().contains("ringfence-reserved-keys") {
                        continue;
                    }
                    let message = answer.refused_by_guard(GUARD);
                    assert!(message.contains("Fix:"), "{kind}, {what}: {message}");
                }
            }
            assert_eq!(world.tess.patch(&path, &edit).await.code, 403, "{kind}, {what}");
        }
        let (collection, _) = path.rsplit_once('/').unwrap();
        let ours = format!("{collection}?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dringfence");
        for path in [&path, &ours] {
            world.admin.delete(path).await.refused_by_guard(GUARD);
            owner.delete(path).await.refused_by_guard(GUARD);
            for gentle in ["?dryRun=All", "?gracePeriodSeconds=0&propagationPolicy=Orphan"] {
                let path = format!(
                    "{}{}",
                    path,
                    gentle.replace('?', if path.contains('?') { "&" } else { "?" })
                );
                world.admin.delete(&path).await.refused_by_guard(GUARD);
            }
            assert_eq!(world.tess.delete(path).await.code, 403);
        }
        // Built-in roles hold some of these kinds, and get no further.
        for attacker in [&edith, &ada] {
            let answer = attacker.delete(&path).await;
            assert_eq!(answer.code, 403, "{}", answer.body);
        }
        assert_eq!(world.admin.get(&path).await.ok(), before, "{path}");
    }
    // Beside it everybody keeps what is his own, and the fence follows its declaration.
    let map = json!({"metadata": {"name": "mine"}, "data": {"a": "b"}});
    world.tess.post(&all("ConfigMap", ns), &map).await.ok();
    world.tess.delete(&one("ConfigMap", ns, "mine")).await.ok();
    world
        .tess
        .patch(
            &one("AIWorkflow", ns, "triage"),
            &json!({"spec": {"permissions": null}}),
        )
        .await
        .ok();
    world
        .admin
        .gone(&one("Role", ns, &owned_name(ns, "triage", "role")))
        .await;
}

/// A merge as RFC 7386 has it, but that what is null becomes an absent key.
fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                match value {
                    Value::Null => drop(into.remove(key)),
                    value => merge(into.entry(key.clone()).or_insert(Value::Null), value),
                }
            }
        }
        (into, change) => *into = change.clone(),
    }
}

/// By a dead owner, by which the garbage collector would delete it; by the word `orphan`, in each of its spellings.
/// Held by: `ringfence-owned-objects`, `ringfence-orphans`
#[tokio::test]
async fn somebody_has_the_garbage_collector_do_it_or_leave_it() {
    let world = World::shared().await;
    let ns = &world.enforced("collected").await;
    world.ready(ns, "triage", &spec()).await;
    let (_, owner) = world.person(ns, "cluster-admin").await;
    let path = one("AIWorkflow", ns, "triage");
    let dead = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "dead", "uid": "11111111-1111-1111-1111-111111111111"}]);
    for (_, owned) in owned(ns) {
        let adopted = json!({"metadata": {"ownerReferences": dead}});
        owner.patch(&owned, &adopted).await.refused_by_guard(GUARD);
        owner.strategic(&owned, &adopted).await.refused_by_guard(GUARD);
    }
    let options = |body: Value| {
        let mut whole = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        merge(&mut whole, &body);
        whole.to_string().into_bytes()
    };
    for attacker in [&world.tess, &owner] {
        for query in ["propagationPolicy=Orphan", "orphanDependents=true"] {
            attacker
                .delete(&format!("{path}?{query}"))
                .await
                .refused_by_guard("ringfence-orphans");
            attacker
                .delete(&format!("{}?{query}", all("AIWorkflow", ns)))
                .await
                .refused_by_guard("ringfence-orphans");
        }
        for body in [
            json!({"propagationPolicy": "Orphan"}),
            json!({"orphanDependents": true}),
        ] {
            let answer = attacker
                .bytes(Method::DELETE, &path, "application/json", options(body))
                .await;
            answer.refused_by_guard("ringfence-orphans");
        }
        let orphan = json!({"metadata": {"finalizers": ["orphan"]}});
        attacker
            .patch(&path, &orphan)
            .await
            .refused_by_guard("ringfence-orphans");
    }
    // In the ordinary way it goes, and takes all of it along.
    let foreground = options(json!({"propagationPolicy": "Foreground"}));
    let gone = world
        .tess
        .bytes(Method::DELETE, &path, "application/json", foreground)
        .await;
    gone.ok();
    for (_, owned) in owned(ns) {
        world.admin.gone(&owned).await;
    }
}
