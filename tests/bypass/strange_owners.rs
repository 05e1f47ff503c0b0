//! Door: what was made while no guard stood names an owner that nobody knows: the garbage collector leaves it, and the guards would keep it.

use serde_json::{Value, json};

use crate::world::{World, all, one, unasked};

const OWNED: &str = "ringfence-owned-objects";
const GRANTED: &str = "ringfence-granted-objects";

/// It says that Ringfence made it, of something that is of a kind that no API server serves.
fn strange(name: &str, owner: &Value) -> Value {
    json!({
        "name": name, "annotations": {"ringfence.dev/owner-uid": "u1"}, "labels": {"ringfence.dev/owner": "nobody"},
        "ownerReferences": [owner],
    })
}

/// In an enforced namespace whoever may approve takes it away, and nobody else; elsewhere whoever may delete such objects. What Ringfence
/// made stays either way.
///
/// Held by: `ringfence-owned-objects`, `ringfence-granted-objects`
#[tokio::test]
async fn what_names_a_strange_owner_is_kept_by_the_guards_for_ever() {
    let world = World::shared().await;
    let [ns, plain] = [
        &world.enforced("strange").await,
        &world.namespace("strange", &json!({})).await,
    ];
    world.ready(ns, "triage", &json!({})).await;
    let gap = unasked(world.cluster).await;
    let owners = [
        json!({"apiVersion": "nosuch.example/v1", "kind": "AIWorkflow", "name": "triage", "uid": "u1"}),
        json!({"apiVersion": "ringfence.dev.example/v1", "kind": "AIWorkflowGrant", "name": "triage", "uid": "u1"}),
    ];
    let subjects = json!([{"kind": "ServiceAccount", "namespace": ns, "name": "triage"}]);
    let view = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    let body = |kind: &str| match kind {
        "Role" => json!({"rules": []}),
        "RoleBinding" => json!({"roleRef": view, "subjects": subjects}),
        "NetworkPolicy" => json!({"spec": {"podSelector": {}, "egress": [{}]}}),
        _ => json!({}),
    };
    for (at, kinds) in [
        (ns, &["Role", "RoleBinding", "NetworkPolicy", "ServiceAccount"][..]),
        (plain, &["Role", "RoleBinding"]),
    ] {
        let (_, ada) = world.person(at, "admin").await;
        for (n, owner) in owners.iter().enumerate() {
            for kind in kinds {
                let name = format!("strange-{n}");
                let mut object = body(kind);
                object["metadata"] = strange(&name, owner);
                gap.post(&all(kind, at), &object).await.ok();
                let path = one(kind, at, &name);
                if at == ns {
                    let answer = ada.delete(&path).await;
                    let said = answer.refused_by_guard(OWNED);
                    assert!(said.contains("by somebody with the verb approve"), "{said}");
                    world.admin.delete(&path).await.ok();
                } else {
                    ada.delete(&path).await.ok();
                }
                world.admin.gone(&path).await;
            }
        }
    }
    // Owned by a kind of Ringfence's, and of another UID than it says itself.
    let other = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowGrant", "name": "g", "uid": "u2"});
    let (_, ada) = world.person(plain, "admin").await;
    let mut object = body("Role");
    object["metadata"] = strange("other", &other);
    gap.post(&all("Role", plain), &object).await.ok();
    let answer = ada.delete(&one("Role", plain, "other")).await;
    assert!(
        [200, 404].contains(&answer.code),
        "the garbage collector may be first: {}",
        answer.message()
    );
    for (kind, guard) in [("NetworkPolicy", OWNED), ("ServiceAccount", OWNED)] {
        for made in world.admin.items(&all(kind, ns)).await.unwrap() {
            if !made["metadata"]["annotations"]["ringfence.dev/owner-uid"].is_null() {
                let path = one(kind, ns, made["metadata"]["name"].as_str().expect("a name"));
                world.admin.delete(&path).await.refused_by_guard(guard);
            }
        }
    }
    let kept = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowGrant", "name": "g", "uid": "u1"});
    let mut object = body("Role");
    object["metadata"] = strange("kept", &kept);
    gap.post(&all("Role", plain), &object).await.ok();
    let answer = ada.delete(&format!("{}?dryRun=All", one("Role", plain, "kept"))).await;
    if answer.code != 404 {
        answer.refused_by_guard(GRANTED);
    }
}
