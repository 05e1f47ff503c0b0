//! Door: more rights for a workflow's account, by a binding of somebody else's.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::world::{Answer, NAMESPACES, SOON, World, all, one};

const RULE: &str = "extra-binding";
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

#[track_caller]
fn forbidden(answer: &Answer) {
    assert_eq!(answer.code, 403, "{}", answer.body);
    assert!(!answer.message().contains("ringfence"), "by RBAC: {}", answer.message());
}

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

/// A namespace is guarded before its first account is made, so there is no moment to be quick in.
#[tokio::test]
async fn the_account_is_bound_in_the_moment_in_which_it_is_made() {
    let world = World::shared().await;
    let other = &world.namespace("other", &json!({})).await;
    let (_, ada) = world.person(other, "admin").await;
    for _ in 0..3 {
        let ns = &world.enforced("moment").await;
        let workflow = crate::world::workflow("triage", &json!({}));
        world.tess.post(&all("AIWorkflow", ns), &workflow).await.ok();
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

/// Declared out of scope: to refuse these would let one fenced namespace decide about all others. tests/cluster/scan.rs has the scan tell
/// of the first; what everybody who logs in holds is no workflow's.
#[tokio::test]
async fn rights_of_every_account_of_the_cluster_are_the_scans_to_tell() {
    let world = World::shared().await;
    let ns = &world.enforced("everybody").await;
    world.ready(ns, "triage", &json!({})).await;
    for group in ["system:serviceaccounts", "system:authenticated"] {
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
