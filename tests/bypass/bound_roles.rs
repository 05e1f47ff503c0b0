//! Door: rights by the Role that a RoleBinding of Ringfence names. It names it by name alone, and the name can be computed.

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::attackers::force_apply;
use crate::grants::{grant, grants, may};
use crate::rights::rule;
use crate::world::{Actor, SOON, World, all, one, unasked, workflow};

const GUARD: &str = "ringfence-reserved-keys";

fn declares(rule: &Value) -> Value {
    json!({"permissions": {"rules": [rule]}})
}

fn role(name: &str, rules: &Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules,
    })
}

/// A namespace whose class opens what is above the ceiling, beside what is not.
async fn above_the_ceiling(world: &World) -> (String, Value, Value) {
    let (read, above) = (
        rule(&[""], &["configmaps"], &["get"]),
        rule(&["apps"], &["deployments"], &["patch"]),
    );
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "permissions": [read, above]}))
        .await;
    let ns = world.namespace("bound", &json!({"ringfence.dev/enforce": class})).await;
    (ns, read, above)
}

async fn reads_secrets(world: &World, ns: &str) -> bool {
    may(
        world,
        &format!("system:serviceaccount:{ns}:triage"),
        "list",
        "secrets",
        ns,
        "",
    )
    .await
}

/// Names of what is made of a workflow and of a grant, each by every request that makes an object, in namespaces of every mode.
/// Held by: `ringfence-reserved-keys`
#[tokio::test]
async fn the_admin_makes_what_a_binding_will_name() {
    let world = World::shared().await;
    let spaces = [
        world.enforced("bound").await,
        world
            .namespace("bound", &json!({"ringfence.dev/warn": "default"}))
            .await,
        world.namespace("bound", &json!({})).await,
    ];
    for ns in &spaces {
        let (_, ada) = world.person(ns, "admin").await;
        let rules = json!([rule(&[""], &["configmaps"], &["get"])]);
        for part in ["role", "launcher", "role-readers", "role-of.dots"] {
            let name = owned_name(ns, "triage", part);
            let (collection, path, role) = (all("Role", ns), one("Role", ns, &name), role(&name, &rules));
            for attacker in [&ada, &world.admin] {
                let message = attacker.post(&collection, &role).await;
                let message = message.refused_by_guard(GUARD);
                assert!(message.contains("Fix: choose another name"), "{message}");
                attacker.put(&path, &role).await.refused_by_guard(GUARD);
                force_apply(attacker, &path, &role).await.refused_by_guard(GUARD);
            }
        }
        for part in ["binding", "launchers", "binding-readers"] {
            let binding = json!({
                "metadata": {"name": owned_name(ns, "triage", part)},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "ringfence-class-view"},
            });
            world
                .admin
                .post(&all("RoleBinding", ns), &binding)
                .await
                .refused_by_guard(GUARD);
        }
        // Names of others that only look like it.
        for name in [
            "ringfence-mine",
            "ringfence-triage-role",
            "my-ringfence-triage-role-0123456789",
        ] {
            ada.post(&all("Role", ns), &role(name, &rules)).await.ok();
        }
    }
}

/// Before Ringfence came, or while its guards were away. What Ringfence may not grant it does not make, and so does not learn from that
/// whether the name is free.
/// Held by: `operator`
#[tokio::test]
async fn a_role_of_that_name_was_there_before() {
    let world = World::shared().await;
    let (ns, read, above) = above_the_ceiling(&world).await;
    let earlier = unasked(world.cluster).await;
    let name = owned_name(&ns, "triage", "role");
    let path = one("Role", &ns, &name);
    earlier.post(&all("Role", &ns), &role(&name, &json!([read]))).await.ok();
    let declared = workflow("triage", &declares(&above));
    world.tess.post(&all("AIWorkflow", &ns), &declared).await.ok();
    world.condition(&ns, "triage", "Programmed", "False", "NameTaken").await;
    let binding = one("RoleBinding", &ns, &owned_name(&ns, "triage", "binding"));
    assert!(
        !world.admin.is_there(&binding).await.unwrap(),
        "bound to somebody else's Role"
    );
    // It was harmless until it was bound.
    let (_, ada) = world.person(&ns, "admin").await;
    let wider = json!({"rules": [rule(&[""], &["secrets"], &["get", "list"])]});
    ada.patch(&path, &wider).await.ok();
    let inside = json!({"spec": declares(&read)});
    world.tess.patch(&one("AIWorkflow", &ns, "triage"), &inside).await.ok();
    world.condition(&ns, "triage", "Programmed", "False", "NameTaken").await;
    assert!(!world.admin.is_there(&binding).await.unwrap() && !reads_secrets(&world, &ns).await);
    // Hers to remove, and what is declared is held.
    ada.delete(&path).await.ok();
    world.condition(&ns, "triage", "Ready", "True", "Fenced").await;
    world.admin.get(&binding).await.ok();
}

/// The binding would wait for whoever makes a Role of that name.
/// Held by: `operator`
#[tokio::test]
async fn a_workflow_that_holds_rights_declares_more_than_the_ceiling() {
    let world = World::shared().await;
    let (ns, read, above) = above_the_ceiling(&world).await;
    world.ready(&ns, "triage", &declares(&read)).await;
    let path = one("AIWorkflow", &ns, "triage");
    let name = owned_name(&ns, "triage", "role");
    let binding = one("RoleBinding", &ns, &owned_name(&ns, "triage", "binding"));
    world.admin.get(&binding).await.ok();
    let change = json!({"spec": declares(&above)});
    world.tess.patch(&path, &change).await.ok();
    world
        .condition(&ns, "triage", "Programmed", "False", "AboveCeiling")
        .await;
    for path in [&binding, &one("Role", &ns, &name)] {
        assert!(!world.admin.is_there(path).await.unwrap(), "{path} is still there");
    }
    let secrets = json!([rule(&[""], &["secrets"], &["get", "list"])]);
    let (_, ada) = world.person(&ns, "admin").await;
    ada.post(&all("Role", &ns), &role(&name, &secrets))
        .await
        .refused_by_guard(GUARD);
    let unasked = unasked(world.cluster).await;
    unasked.post(&all("Role", &ns), &role(&name, &secrets)).await.ok();
    world
        .tess
        .patch(&path, &json!({"spec": {"owner": {"team": "x"}}}))
        .await
        .ok();
    world.condition(&ns, "triage", "Programmed", "False", "NameTaken").await;
    assert!(!world.admin.is_there(&binding).await.unwrap() && !reads_secrets(&world, &ns).await);
    ada.delete(&one("Role", &ns, &name)).await.ok();
    world.tess.patch(&path, &json!({"spec": declares(&read)})).await.ok();
    world.condition(&ns, "triage", "Ready", "True", "Fenced").await;
    world.admin.get(&binding).await.ok();
}

/// What stands by a grant in a namespace that is not fenced, where `bob` is admin.
struct Granted {
    home: String,
    vectors: String,
    bob: Actor,
    /// Paths.
    role: String,
    binding: String,
}

async fn granted(world: &World) -> Granted {
    let (home, vectors) = (
        world.enforced("home").await,
        world.namespace("vectors", &json!({})).await,
    );
    let rules = json!([{"apiGroups": [""], "resources": ["services"], "resourceNames": ["qdrant"], "verbs": ["get"]}]);
    let declared = json!({"permissions": {"crossNamespace": [{"namespace": vectors, "rules": rules}]}});
    world
        .admin
        .post(&grants(&vectors), &grant(&home, "triage", rules))
        .await
        .ok();
    world.ready(&home, "triage", &declared).await;
    let [role, binding] = ringfence::plan::granted_names(&home, "triage", "readers");
    let (_, bob) = world.person(&vectors, "admin").await;
    let granted = Granted {
        role: one("Role", &vectors, &role),
        binding: one("RoleBinding", &vectors, &binding),
        home,
        vectors,
        bob,
    };
    granted.holds(world, "get", "services", true).await;
    granted
}

impl Granted {
    async fn may(&self, world: &World, verb: &str, resource: &str) -> bool {
        let account = format!("system:serviceaccount:{}:triage", self.home);
        may(world, &account, verb, resource, &self.vectors, "qdrant").await
    }

    async fn holds(&self, world: &World, verb: &str, resource: &str, expected: bool) {
        eventually(SOON, || async {
            let holds = self.may(world, verb, resource).await;
            ensure!(holds == expected, "{verb} {resource}: {holds}");
            Ok(())
        })
        .await;
    }

    /// Has the grant looked at again.
    async fn stir(&self, world: &World) {
        let note = json!({"spec": {"from": [{"namespace": self.home, "name": "triage"}, {"namespace": self.home, "name": unique("other")}]}});
        let path = format!("{}/readers", grants(&self.vectors));
        world.admin.patch(&path, &note).await.ok();
    }
}

/// Deleted and made again; made a stranger's by its owner; kept by a finalizer. By the admin there, and by one of the cluster.
/// Held by: `ringfence-granted-objects`
#[tokio::test]
async fn the_admin_there_puts_another_role_under_the_binding_of_a_grant() {
    const GUARD: &str = "ringfence-granted-objects";
    let world = World::shared().await;
    let granted = granted(&world).await;
    let (before, bound) = (
        world.admin.get(&granted.role).await.ok(),
        world.admin.get(&granted.binding).await.ok(),
    );
    for attacker in [&granted.bob, &world.admin] {
        for path in [&granted.role, &granted.binding] {
            attacker.delete(path).await.refused_by_guard(GUARD);
            for change in [
                json!({"ownerReferences": null}),
                json!({"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "dead", "uid": "dead"}]}),
                json!({"finalizers": ["bob.example/keep"]}),
                json!({"labels": {"a": "b"}}),
            ] {
                let change = json!({"metadata": change});
                attacker.patch(path, &change).await.refused_by_guard(GUARD);
            }
            let (collection, _) = path.rsplit_once('/').unwrap();
            attacker
                .delete(&format!("{collection}?labelSelector=ringfence.dev%2Fowner"))
                .await
                .refused_by_guard(GUARD);
        }
    }
    assert_eq!(world.admin.get(&granted.role).await.ok(), before);
    assert_eq!(world.admin.get(&granted.binding).await.ok(), bound);
    // What is his own he deletes; and the grant, with all that was made of it.
    let mine = role("mine", &json!([rule(&[""], &["configmaps"], &["get"])]));
    granted.bob.post(&all("Role", &granted.vectors), &mine).await.ok();
    granted.bob.delete(&one("Role", &granted.vectors, "mine")).await.ok();
    let path = format!("{}/readers", grants(&granted.vectors));
    eventually(SOON, || async {
        let answer = granted.bob.delete(&path).await;
        ensure!(
            answer.code == 200,
            "the rights of admin come by aggregation: {}",
            answer.message()
        );
        Ok(())
    })
    .await;
    world.admin.gone(&granted.role).await;
    world.admin.gone(&granted.binding).await;
    granted.holds(&world, "get", "services", false).await;
}

/// While the guards were away.
/// Held by: `operator`
#[tokio::test]
async fn the_role_of_a_grant_is_somebody_elses() {
    let world = World::shared().await;
    let granted = granted(&world).await;
    let unasked = unasked(world.cluster).await;
    let name = granted.role.rsplit('/').next().unwrap();
    // In one write, before the deleted one could come back.
    let secrets = role(name, &json!([rule(&[""], &["secrets"], &["get", "list"])]));
    unasked.put(&granted.role, &secrets).await.ok();
    granted.stir(&world).await;
    world.admin.gone(&granted.binding).await;
    granted.holds(&world, "list", "secrets", false).await;
    let path = format!("{}/readers", grants(&granted.vectors));
    eventually(SOON, || async {
        let said = world.admin.read(&path).await?["status"]["conditions"].to_string();
        ensure!(said.contains("\"NameTaken\"") && said.contains(name), "{said}");
        Ok(())
    })
    .await;
    assert!(!world.admin.is_there(&granted.binding).await.unwrap());
    // His to remove, and what is granted is held again.
    granted.bob.delete(&granted.role).await.ok();
    granted.holds(&world, "get", "services", true).await;
    assert!(!granted.may(&world, "list", "secrets").await);
}

/// While the guards were away: what is being deleted gives its rights as long as a finalizer keeps it.
/// Held by: `operator`
#[tokio::test]
async fn a_finalizer_keeps_a_binding_that_is_to_go() {
    let world = World::shared().await;
    let granted = granted(&world).await;
    let unasked = unasked(world.cluster).await;
    let keep = json!({"metadata": {"finalizers": ["bob.example/keep"]}});
    let keeps = async {
        // As fast as he can, so that it is there when the binding is deleted.
        while unasked.patch(&granted.binding, &keep).await.code != 404 {}
    };
    let withdraw = async {
        let path = one("AIWorkflow", &granted.home, "triage");
        world
            .tess
            .patch(&path, &json!({"spec": {"permissions": null}}))
            .await
            .ok();
        granted.holds(&world, "get", "services", false).await;
        world.admin.gone(&granted.binding).await;
    };
    tokio::time::timeout(2 * SOON, async { tokio::join!(keeps, withdraw) })
        .await
        .expect("the binding goes");
    world.admin.gone(&granted.role).await;
}
