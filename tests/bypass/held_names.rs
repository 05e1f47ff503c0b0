//! Door: the name of an account that is not there yet, kept from the workflow that is to have it.
//!
//! An account is made for nobody whom its name would make more than the declaration says: not where bindings wait for the name, and not
//! where somebody counts on it as launcher. So whoever may write such a thing first keeps the name away. Nothing else comes of it.

use serde_json::{Value, json};
use support::unique;

use crate::attackers::forbidden;
use crate::world::{World, all, condition, one, workflow};

fn named(name: &str, account: &str) -> Value {
    workflow(name, &json!({"identity": {"serviceAccountName": account}}))
}

async fn conflict(world: &World, namespace: &str, name: &str) -> String {
    let held = world
        .condition(namespace, name, "Programmed", "False", "Conflict")
        .await;
    assert_eq!(condition(&held, "Ready")["reason"], "Conflict", "{held}");
    assert!(held["status"].get("serviceAccount").is_none(), "{held}");
    let path = one("ServiceAccount", namespace, "triage");
    assert!(!world.admin.is_there(&path).await.unwrap(), "nobody is made");
    condition(&held, "Programmed")["message"].as_str().unwrap().to_owned()
}

/// Once the namespace is fenced, nobody binds its accounts any more.
///
/// Out of scope: who writes RoleBindings anywhere before a namespace is fenced keeps the names that they bind; its tenants take other names, and
/// who may delete the bindings, which the condition names, frees these.
#[tokio::test]
async fn a_name_is_bound_before_the_namespace_is_fenced() {
    let world = World::shared().await;
    let ns = &world.namespace("later", &json!({})).await;
    let other = &world.namespace("other", &json!({})).await;
    let (_, bob) = world.person(ns, "admin").await;
    let (_, mallory) = world.person(other, "admin").await;
    let binding = |name: &str| {
        json!({
            "metadata": {"name": name},
            "subjects": [{"kind": "ServiceAccount", "namespace": ns, "name": "triage"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        })
    };
    bob.post(&all("RoleBinding", ns), &binding("early")).await.ok();
    mallory.post(&all("RoleBinding", other), &binding("early")).await.ok();
    world.enforce(ns).await;
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("triage", &json!({})))
        .await
        .ok();
    let message = conflict(&world, ns, "triage").await;
    for part in [
        &format!("RoleBinding {ns}/early"),
        &format!("RoleBinding {other}/early"),
        "delete these bindings",
        "spec.identity.serviceAccountName",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    // From then on no name is bound any more, and another one is to be had.
    for (attacker, namespace) in [(&bob, ns), (&mallory, other)] {
        let mut late = binding(&unique("late"));
        late["subjects"][0]["name"] = json!("second");
        attacker
            .post(&all("RoleBinding", namespace), &late)
            .await
            .refused_by("extra-binding");
    }
    world
        .tess
        .post(&all("AIWorkflow", ns), &named("next", "second"))
        .await
        .ok();
    world.condition(ns, "next", "Ready", "True", "Fenced").await;
    // The tenant cannot free the name, and the platform can.
    forbidden(&world.tess.delete(&one("RoleBinding", other, "early")).await);
    for namespace in [ns, other] {
        world.admin.delete(&one("RoleBinding", namespace, "early")).await.ok();
    }
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
}

/// What stands already is not taken away from anybody by a later claim.
///
/// Out of scope: who may declare a workflow in any enforced namespace keeps a name elsewhere by calling it a launcher before it is there; its
/// tenants take other names, and who holds `approve` makes the account with `ringfence.dev/adopt`.
#[tokio::test]
async fn a_name_is_kept_by_calling_it_a_launcher() {
    let world = World::shared().await;
    let (home, other) = (&world.enforced("home").await, &world.enforced("other").await);
    let claim = json!({"launchers": [{"serviceAccount": {"namespace": home, "name": "triage"}}]});
    world.ready(other, "squat", &claim).await;
    world
        .tess
        .post(&all("AIWorkflow", home), &workflow("triage", &json!({})))
        .await
        .ok();
    let message = conflict(&world, home, "triage").await;
    // Whose claim it is, is told where the class opens that namespace.
    assert!(!message.contains("squat"), "{message}");
    for part in [
        "an AIWorkflow of another namespace",
        "spec.identity.serviceAccountName",
        "ringfence.dev/adopt=triage",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    world
        .tess
        .post(&all("AIWorkflow", home), &named("next", "second"))
        .await
        .ok();
    world.condition(home, "next", "Ready", "True", "Fenced").await;
    let claim = json!({"launchers": [{"serviceAccount": {"namespace": home, "name": "second"}}]});
    world.ready(other, "late", &claim).await;
    world.condition(home, "next", "Ready", "True", "Fenced").await;
    let made = json!({"metadata": {"name": "triage", "annotations": {"ringfence.dev/adopt": "triage"}}});
    let accounts = all("ServiceAccount", home);
    forbidden(&world.tess.post(&accounts, &made).await);
    let (_, ada) = world.person(home, "admin").await;
    ada.post(&accounts, &made)
        .await
        .refused_by_guard("ringfence-reserved-keys");
    world.admin.post(&accounts, &made).await.ok();
    world.condition(home, "triage", "Ready", "True", "Fenced").await;
}
