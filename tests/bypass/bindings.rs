//! Door: more rights for a workflow's account, by a binding of somebody else's, anywhere, before or after the fence.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::attackers::{forbidden, scan_report, told};
use crate::world::{Actor, NAMESPACES, SOON, World, all, condition, namespace, one, own, workflow};

const RULE: &str = "extra-binding";
/// Groups that hold every account.
const EVERYBODY: [&str; 2] = ["system:serviceaccounts", "system:authenticated"];
const CLUSTER_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

fn account(namespace: &str, name: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
}

fn rbac(kind: &str, name: &str) -> Value {
    json!({"kind": kind, "apiGroup": "rbac.authorization.k8s.io", "name": name})
}

fn binding(role: &str, subjects: &Value) -> Value {
    json!({
        "metadata": {"name": unique("binding")}, "subjects": subjects,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
    })
}

/// Every name that RBAC has for the account `triage` of a namespace.
fn names(namespace: &str) -> [Value; 3] {
    [
        account(namespace, "triage"),
        rbac("User", &format!("system:serviceaccount:{namespace}:triage")),
        rbac("Group", &format!("system:serviceaccounts:{namespace}")),
    ]
}

/// In a namespace of his own, in `kube-system`, in the fenced one, in the whole cluster; by each name that RBAC has for it.
/// Held by: `extra-binding`, `RBAC`
#[tokio::test]
async fn the_admin_of_another_namespace_binds_the_workflows_account_there() {
    let world = World::shared().await;
    let (ns, other) = (
        &world.enforced("bound").await,
        &world.namespace("other", &json!({})).await,
    );
    world.ready(ns, "triage", &json!({})).await;
    let (_, ada) = world.person(other, "admin").await;
    let (_, edith) = world.person(other, "edit").await;
    let bindings = all("RoleBinding", other);
    for subject in names(ns) {
        let attack = binding("admin", &json!([rbac("User", "ada"), subject]));
        let answer = ada.post(&bindings, &attack).await;
        let message = answer.refused_by(RULE);
        for part in [
            "subjects[1]",
            "gives ClusterRole admin to ",
            &format!("namespace {ns}, which is fenced"),
        ] {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
        forbidden(&edith.post(&bindings, &attack).await);
        forbidden(&world.tess.post(&bindings, &attack).await);
        // Nobody is above the declaration, and no place beyond it.
        for (kind, path) in [
            ("RoleBinding", all("RoleBinding", "kube-system")),
            ("RoleBinding", all("RoleBinding", ns)),
            ("ClusterRoleBinding", CLUSTER_BINDINGS.to_owned()),
        ] {
            let answer = world.admin.post(&path, &binding("view", &json!([subject]))).await;
            assert!(answer.refused_by(RULE).contains(&format!("refused this {kind}")));
        }
    }
    // What she answers for, she binds as before.
    let own = json!([account(other, "reporter"), rbac("User", "ada"), rbac("Group", "ml")]);
    ada.post(&bindings, &binding("admin", &own)).await.ok();
}

/// Held by: `extra-binding`
#[tokio::test]
async fn a_harmless_binding_is_widened_to_the_workflows_account() {
    let world = World::shared().await;
    let (ns, other) = (
        &world.enforced("widened").await,
        &world.namespace("other", &json!({})).await,
    );
    world.ready(ns, "triage", &json!({})).await;
    let (_, ada) = world.person(other, "admin").await;
    let made = ada
        .post(
            &all("RoleBinding", other),
            &binding("view", &json!([rbac("User", "ada")])),
        )
        .await
        .ok();
    let path = one("RoleBinding", other, made["metadata"]["name"].as_str().unwrap());
    for subject in names(ns) {
        let wider = json!({"subjects": [rbac("User", "ada"), subject]});
        ada.patch(&path, &wider).await.refused_by(RULE);
        let added = json!([{"op": "add", "path": "/subjects/-", "value": subject}]);
        ada.json_patch(&path, &added).await.refused_by(RULE);
        let mut replaced = made.clone();
        replaced["subjects"] = json!([subject]);
        ada.put(&path, &replaced).await.refused_by(RULE);
    }
    let more = json!({"subjects": [rbac("User", "ada"), rbac("User", "bob")]});
    ada.patch(&path, &more).await.ok();
}

/// Rights go by a name: those of an account that is not there wait for a workflow of that name.
/// Held by: `extra-binding`
#[tokio::test]
async fn rights_are_laid_out_for_the_account_of_tomorrows_workflow() {
    let world = World::shared().await;
    let (ns, other) = (
        &world.enforced("laid").await,
        &world.namespace("other", &json!({})).await,
    );
    world.ready(ns, "triage", &json!({})).await;
    let (_, ada) = world.person(other, "admin").await;
    for subject in [
        account(ns, "tomorrow"),
        rbac("User", &format!("system:serviceaccount:{ns}:tomorrow")),
    ] {
        let answer = ada
            .post(&all("RoleBinding", other), &binding("admin", &json!([subject])))
            .await;
        answer.refused_by(RULE);
    }
    // An account that takes part in nothing is made by whoever may, and holds nothing.
    let (_, edith) = world.person(ns, "edit").await;
    edith
        .post(&all("ServiceAccount", ns), &json!({"metadata": {"name": "helper"}}))
        .await
        .ok();
    let answer = ada
        .post(
            &all("RoleBinding", other),
            &binding("admin", &json!([account(ns, "helper")])),
        )
        .await;
    answer.refused_by(RULE);
}

/// A namespace is guarded before its first account is made, and bindings are looked for after that, so there is no moment to be quick in.
/// Held by: `extra-binding`
#[tokio::test]
async fn the_account_is_bound_in_the_moment_in_which_it_is_made() {
    let world = World::shared().await;
    let other = &world.namespace("other", &json!({})).await;
    let (_, ada) = world.person(other, "admin").await;
    for _ in 0..3 {
        let ns = &world.enforced("moment").await;
        let declared = workflow("triage", &json!({}));
        world.tess.post(&all("AIWorkflow", ns), &declared).await.ok();
        let path = one("ServiceAccount", ns, "triage");
        while !world.admin.is_there(&path).await.unwrap() {
            tokio::task::yield_now().await;
        }
        let answer = ada
            .post(
                &all("RoleBinding", other),
                &binding("admin", &json!([account(ns, "triage")])),
            )
            .await;
        answer.refused_by(RULE);
    }
}

/// The binding comes as soon as the namespace has its label, before the API server asks about it. The workflow is there first, and waits for
/// the fence; or comes with it, so that bindings are looked for before this one is written. What was admitted then has no account to give
/// anything to.
/// Held by: `operator`
#[tokio::test]
async fn the_account_is_bound_in_the_moment_in_which_its_namespace_is_fenced() {
    let world = &World::shared().await;
    let other = &world.namespace("other", &json!({})).await;
    let (_, ada) = &world.person(other, "admin").await;
    let tries = || (0..16).map(|round| binds_first(world, ada, other, round));
    for _ in 0..5 {
        if futures::future::join_all(tries()).await.contains(&true) {
            return;
        }
    }
    panic!("nobody was ever quicker than the API server, so nothing was tried");
}

/// Fences a namespace and declares a workflow in it, either first, and then tries to bind its account: close together in the first rounds,
/// and up to a second, for a machine that is slow to look. Whether the binding was written.
async fn binds_first(world: &World, ada: &Actor, other: &str, round: u32) -> bool {
    let (declared_first, after) = (round.is_multiple_of(2), Duration::from_millis(4) * round * round);
    let ns = &world.namespace("first", &json!({})).await;
    let declare = async || {
        let declared = workflow("triage", &json!({}));
        world.tess.post(&all("AIWorkflow", ns), &declared).await.ok();
    };
    if declared_first {
        declare().await;
    }
    world.enforce(ns).await;
    if !declared_first {
        declare().await;
    }
    tokio::time::sleep(after).await;
    let attack = binding("admin", &json!([account(ns, "triage")]));
    let answer = ada.post(&all("RoleBinding", other), &attack).await;
    let was_bound = answer.code == 201;
    if !was_bound {
        answer.refused_by(RULE);
    }
    let said = eventually(SOON, || async {
        let workflow = world.admin.read(&one("AIWorkflow", ns, "triage")).await?;
        let programmed = condition(&workflow, "Programmed").clone();
        let is_made = world.admin.is_there(&one("ServiceAccount", ns, "triage")).await?;
        ensure!(
            is_made || programmed["reason"] == "Conflict",
            "neither made nor refused: {programmed}"
        );
        Ok(programmed)
    })
    .await;
    let is_made = world
        .admin
        .is_there(&one("ServiceAccount", ns, "triage"))
        .await
        .unwrap();
    assert_eq!(is_made, !was_bound, "after {after:?}: {said}");
    was_bound
}

/// Legitimate: where a namespace only warns, who binds its accounts is told and not refused; where nothing is fenced, nobody asks.
#[tokio::test]
async fn under_warn_the_caller_is_told_and_after_the_fence_nobody_asks() {
    let world = World::shared().await;
    let other = &world.namespace("other", &json!({})).await;
    let (_, ada) = world.person(other, "admin").await;
    let bindings = all("RoleBinding", other);
    let warned = &world
        .namespace("warned", &json!({"ringfence.dev/warn": "default"}))
        .await;
    let subjects = json!([account(warned, "triage")]);
    eventually(SOON, || async {
        let answer = ada
            .post(&format!("{bindings}?dryRun=All"), &binding("view", &subjects))
            .await;
        ensure!(answer.code == 201, "a warning is no refusal: {}", answer.message());
        ensure!(
            answer.warnings.iter().any(|said| said.contains("[extra-binding]")),
            "{:?}",
            answer.warnings
        );
        Ok(())
    })
    .await;
    let off = json!({"metadata": {"labels": {"ringfence.dev/warn": null}}});
    world.admin.patch(&format!("{NAMESPACES}/{warned}"), &off).await.ok();
    let answer = ada.post(&bindings, &binding("view", &subjects)).await;
    assert_eq!(
        (answer.code, &answer.warnings[..]),
        (201, &[][..]),
        "{}",
        answer.message()
    );
}

/// By a group that holds every account of the cluster, those of the workflows included.
/// Held by: `extra-binding`
#[tokio::test]
async fn the_admin_of_the_fenced_namespace_binds_everybody() {
    let world = World::shared().await;
    let ns = &world.enforced("all-bound").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, ada) = world.person(ns, "admin").await;
    let bindings = all("RoleBinding", ns);
    let people = json!([rbac("User", "ada"), rbac("Group", "ml")]);
    let made = ada.post(&bindings, &binding("view", &people)).await.ok();
    let path = one("RoleBinding", ns, made["metadata"]["name"].as_str().unwrap());
    for group in EVERYBODY {
        let attack = binding("admin", &json!([rbac("User", "ada"), rbac("Group", group)]));
        for attacker in [&ada, &world.admin] {
            let answer = attacker.post(&bindings, &attack).await;
            let message = answer.refused_by(RULE);
            for part in [
                "subjects[1]",
                group,
                &format!("those of namespace {ns} included"),
                "by name",
            ] {
                assert!(message.contains(part), "{part} is missing in: {message}");
            }
        }
        let added = json!([{"op": "add", "path": "/subjects/-", "value": rbac("Group", group)}]);
        ada.json_patch(&path, &added).await.refused_by(RULE);
    }
    let more = json!({"subjects": [rbac("User", "ada"), rbac("Group", "ml"), rbac("Group", "data")]});
    ada.patch(&path, &more).await.ok();
}

/// Whoever shows no credential is anybody who reaches the API server, and so is each pod, whatever its account holds.
/// Held by: `extra-binding`
#[tokio::test]
async fn the_admin_of_the_fenced_namespace_binds_whoever_shows_no_credential() {
    let world = World::shared().await;
    let (ns, other) = (
        &world.enforced("nobody-bound").await,
        &world.namespace("other", &json!({})).await,
    );
    world.ready(ns, "triage", &json!({})).await;
    let (_, ada) = world.person(ns, "admin").await;
    let (_, olga) = world.person(other, "admin").await;
    for whom in [
        rbac("Group", "system:unauthenticated"),
        rbac("User", "system:anonymous"),
    ] {
        let attack = binding("view", &json!([rbac("User", "ada"), whom]));
        for attacker in [&ada, &world.admin] {
            let answer = attacker.post(&all("RoleBinding", ns), &attack).await;
            let message = answer.refused_by(RULE);
            assert!(
                message.contains("subjects[1]") && message.contains("shows no credential"),
                "{message}"
            );
        }
        // Elsewhere it is told.
        let made = olga.post(&all("RoleBinding", other), &attack).await.ok();
        let name = made["metadata"]["name"].as_str().unwrap();
        let found = told(&scan_report(&world, &[]).await);
        olga.delete(&one("RoleBinding", other, name)).await.ok();
        let wanted = format!("{RULE} RoleBinding/{name}");
        assert!(found.contains(&wanted), "{wanted} is missing in: {found:?}");
    }
    let people = json!([rbac("User", "ada"), rbac("Group", "system:unauthenticated-not")]);
    ada.post(&all("RoleBinding", ns), &binding("view", &people)).await.ok();
}

/// To refuse these would let one fenced namespace decide about all others.
/// Out of scope: what every account holds in a namespace that is not fenced, or in the whole cluster, is given by whoever administers that, and the scan tells of it as `SharedRights`; not of what everybody who logs in holds in the whole cluster or in a namespace of Kubernetes.
#[tokio::test]
async fn rights_of_every_account_of_the_cluster_are_the_scans_to_tell() {
    let world = World::shared().await;
    let (ns, other) = (
        &world.enforced("everybody").await,
        &world.namespace("other", &json!({})).await,
    );
    world.ready(ns, "triage", &json!({})).await;
    let (_, ada) = world.person(other, "admin").await;
    for group in EVERYBODY {
        let subjects = json!([rbac("User", "ada"), rbac("Group", group)]);
        let made = ada
            .post(&all("RoleBinding", other), &binding("view", &subjects))
            .await
            .ok();
        let name = made["metadata"]["name"].as_str().unwrap();
        let found = told(&scan_report(&world, &[]).await);
        ada.delete(&one("RoleBinding", other, name)).await.ok();
        let wanted = format!("{RULE} RoleBinding/{name}");
        assert!(found.contains(&wanted), "{wanted} is missing in: {found:?}");
    }
    for group in EVERYBODY {
        let made = world
            .admin
            .post(
                CLUSTER_BINDINGS,
                &binding("ringfence-class-view", &json!([rbac("Group", group)])),
            )
            .await
            .ok();
        let name = made["metadata"]["name"].as_str().unwrap();
        world.admin.delete(&format!("{CLUSTER_BINDINGS}/{name}")).await.ok();
    }
}

/// Nobody is asked about what stands: it is found within a scan, wherever it is, and by whichever name, and so is a role that grew.
/// Held by: `operator`
#[tokio::test]
async fn the_account_was_bound_before_the_fence() {
    let (_cluster, _ringfence, admin) = own(&["--scan-period=1s"]).await;
    let ns = &namespace(&admin, "before", &json!({})).await;
    let other = &namespace(&admin, "other", &json!({})).await;
    let role = json!({"metadata": {"name": "harmless"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]});
    admin.post(&all("Role", other), &role).await.ok();
    let mut made = Vec::new();
    let places = ["kube-system", other, ns].map(|ns| (all("RoleBinding", ns), format!("RoleBinding {ns}/")));
    for (collection, named) in places
        .into_iter()
        .chain([(CLUSTER_BINDINGS.to_owned(), "ClusterRoleBinding ".to_owned())])
    {
        for subject in names(ns) {
            let mut bound = binding("view", &json!([rbac("User", "ada"), subject]));
            if collection == all("RoleBinding", other) {
                bound["roleRef"] = rbac("Role", "harmless");
                bound["roleRef"]["apiGroup"] = json!("rbac.authorization.k8s.io");
            }
            let name = admin.post(&collection, &bound).await.ok()["metadata"]["name"].clone();
            let name = name.as_str().unwrap();
            made.push((format!("{collection}/{name}"), format!("{named}{name}")));
        }
    }
    let enforce = json!({"metadata": {"labels": {"ringfence.dev/enforce": "default"}}});
    admin.patch(&format!("{NAMESPACES}/{ns}"), &enforce).await.ok();
    admin
        .post(&all("AIWorkflow", ns), &workflow("triage", &json!({})))
        .await
        .ok();
    let says = async |count: usize, wanted: &str| {
        eventually(SOON, || async {
            let workflow = admin.read(&one("AIWorkflow", ns, "triage")).await?;
            let found = condition(&workflow, "Compliant");
            let told = found["message"].as_str().unwrap_or_default();
            ensure!(found["reason"] == wanted, "{count}: {found}");
            ensure!(
                count == 0 || told.contains(&format!("{count} binding")),
                "{count}: {found}"
            );
            Ok(told.to_owned())
        })
        .await
    };
    says(made.len(), "ExtraRights").await;
    // Taken away one by one; each that is left is told of.
    let mut left = made.len();
    for (path, name) in made.iter().rev() {
        let told = says(left, "ExtraRights").await;
        assert!(left > 3 || told.contains(name), "{name} is missing in: {told}");
        admin.delete(path).await.ok();
        left -= 1;
    }
    says(0, "Compliant").await;
    // By a group of everybody, elsewhere: that is told, and calls no fence open; where Kubernetes keeps its own, that is no news.
    for group in EVERYBODY {
        let subjects = json!([rbac("Group", group)]);
        let name = admin
            .post(&all("RoleBinding", other), &binding("view", &subjects))
            .await
            .ok()["metadata"]["name"]
            .clone();
        let name = name.as_str().unwrap();
        let told = says(1, "SharedRights").await;
        assert!(told.contains(&format!("RoleBinding {other}/{name}")), "{told}");
        admin.delete(&one("RoleBinding", other, name)).await.ok();
        says(0, "Compliant").await;
    }
}

/// The admin of one namespace, fenced or not, gives everybody something there: that is told of every workflow. What names the account itself
/// takes `Ready` from its workflow alone.
/// Held by: `operator`
#[tokio::test]
async fn the_admin_of_another_namespace_calls_every_fence_open() {
    let (cluster, _ringfence, admin) = own(&["--scan-period=1s"]).await;
    let ns = &namespace(&admin, "one", &json!({})).await;
    let bound = &namespace(&admin, "two", &json!({})).await;
    let other = &namespace(&admin, "other", &json!({})).await;
    for place in [ns, bound] {
        let enforce = json!({"metadata": {"labels": {"ringfence.dev/enforce": "default"}}});
        admin.patch(&format!("{NAMESPACES}/{place}"), &enforce).await.ok();
        let declared = workflow("triage", &json!({}));
        admin.post(&all("AIWorkflow", place), &declared).await.ok();
    }
    let says = async |place: &String, type_: &str, status: &str, reason: &str| {
        eventually(SOON, || async {
            let workflow = admin.read(&one("AIWorkflow", place, "triage")).await?;
            let found = condition(&workflow, type_);
            ensure!(found["status"] == status && found["reason"] == reason, "{found}");
            Ok(())
        })
        .await;
    };
    for place in [ns, bound] {
        says(place, "Ready", "True", "Fenced").await;
        says(place, "Compliant", "True", "Compliant").await;
    }
    // As before the fence, or while nobody was asked.
    let extra = binding("view", &json!([account(bound, "triage")]));
    let gap = crate::world::unasked(&cluster).await;
    gap.post(&all("RoleBinding", other), &extra).await.ok();
    let grant = binding("admin", &json!([rbac("User", "ada")]));
    admin.post(&all("RoleBinding", other), &grant).await.ok();
    let ada = Actor::new(cluster.user("ada", &[]).await);
    eventually(SOON, || async { ada.read(&all("RoleBinding", other)).await }).await;
    let attack = binding("view", &json!([rbac("Group", "system:authenticated")]));
    ada.post(&all("RoleBinding", other), &attack).await.ok();
    says(ns, "Compliant", "False", "SharedRights").await;
    says(ns, "Ready", "True", "Fenced").await;
    says(bound, "Ready", "False", "ExtraRights").await;
}
