//! Door: rights above the platform's ceiling: by a class, by a declaration, or by a higher ceiling.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use support::{eventually, unique};
use tokio::time::sleep;

use crate::attackers::{force_apply, holder};
use crate::grants::{grant, grants};
use crate::rights::rule;
use crate::world::{Actor, CLASSES, SOON, World, all, condition, one, unasked, workflow};

/// What an older version let the platform write is found where it would be granted.
/// Held by: `operator`
#[tokio::test]
async fn a_class_from_before_opens_what_no_workflow_may_hold() {
    let world = World::shared().await;
    let secrets = rule(&[""], &["secrets"], &["get"]);
    let read = rule(&[""], &["configmaps"], &["get"]);
    let name = unique("class");
    let class = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": name},
        "spec": {
            "images": {"allowed": ["**"]}, "permissions": [secrets, read],
            "engines": [{"name": "mine", "worker": [secrets, read], "launcher": [secrets]}],
        },
    });
    let unasked = unasked(world.cluster).await;
    unasked.post(CLASSES, &class).await.ok();
    let ns = &world
        .namespace("from-before", &json!({"ringfence.dev/enforce": name}))
        .await;
    let ready = world.ready(ns, "engine", &json!({"engine": "mine"})).await;
    assert_eq!(ready["status"]["effectiveRules"], json!([read]));
    let declared = workflow("declares", &json!({"permissions": {"rules": [secrets]}}));
    unasked.post(&all("AIWorkflow", ns), &declared).await.ok();
    world.condition(ns, "declares", "Accepted", "False", "Invalid").await;
    let roles = world.admin.items(&all("Role", ns)).await.unwrap();
    let secrets_of = roles.iter().filter(|role| role.to_string().contains("secrets"));
    assert_eq!(secrets_of.count(), 0, "{roles:?}");
}

/// Inside the ceiling and outside the class; inside the class and above the ceiling.
/// Held by: `operator`
#[tokio::test]
async fn a_workflow_declares_more_than_its_class_or_the_ceiling_allows() {
    let world = World::shared().await;
    let deployments = rule(&["apps"], &["deployments"], &["patch"]);
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "permissions": [deployments]}))
        .await;
    let ns = &world.namespace("above", &json!({"ringfence.dev/enforce": class})).await;
    let declares = |name: &str, rule: &Value| workflow(name, &json!({"permissions": {"rules": [rule]}}));
    // Of the ceiling, and not of this class.
    let outside = rule(&[""], &["configmaps"], &["get"]);
    let answer = world
        .tess
        .post(&all("AIWorkflow", ns), &declares("outside", &outside))
        .await;
    assert!(
        answer.warnings.iter().any(|said| said.contains("OutsideClass")),
        "{:?}",
        answer.warnings
    );
    answer.ok();
    world
        .condition(ns, "outside", "Accepted", "False", "OutsideClass")
        .await;
    world
        .tess
        .post(&all("AIWorkflow", ns), &declares("above", &deployments))
        .await
        .ok();
    let above = world
        .condition(ns, "above", "Programmed", "False", "AboveCeiling")
        .await;
    assert!(
        condition(&above, "Programmed")["message"]
            .as_str()
            .unwrap()
            .contains("deployments.apps: patch")
    );
    assert_eq!(world.admin.items(&all("Role", ns)).await.unwrap(), [] as [Value; 0]);
    assert_eq!(
        world.admin.items(&all("RoleBinding", ns)).await.unwrap(),
        [] as [Value; 0]
    );
    // A workflow beside them is given what is inside both.
    world
        .tess
        .patch(
            &one("AIWorkflow", ns, "outside"),
            &json!({"spec": {"permissions": null}}),
        )
        .await
        .ok();
    world.condition(ns, "outside", "Ready", "True", "Fenced").await;
}

/// Somebody who may write every role of the cluster, and does not approve.
async fn writer_of_roles(world: &World) -> Actor {
    let rules = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["*"]},
    ]);
    holder(world, &rules).await
}

/// By the label, by the rules of what carries it, by the rule that gathers, and by the roles that are Ringfence's own.
/// Held by: `ringfence-reserved-keys`
#[tokio::test]
async fn somebody_raises_the_ceiling() {
    const GUARD: &str = "ringfence-reserved-keys";
    let world = World::shared().await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let rhea = writer_of_roles(&world).await;
    let secrets = json!([rule(&[""], &["secrets"], &["get"])]);
    for part in ["ceiling", "owners", "inventory"] {
        for value in ["true", "false", ""] {
            let key = format!("ringfence.dev/aggregate-to-{part}");
            let labelled =
                json!({"metadata": {"name": unique("part"), "labels": {key.clone(): value}}, "rules": secrets});
            rhea.post(roles, &labelled).await.refused_by_guard(GUARD);
            let name = unique("plain");
            let plain = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": secrets,
            });
            rhea.post(roles, &plain).await.ok();
            let path = format!("{roles}/{name}");
            let label = json!({"metadata": {"labels": {key: value}}});
            rhea.patch(&path, &label).await.refused_by_guard(GUARD);
            let mut whole = plain.clone();
            whole["metadata"]["labels"] = label["metadata"]["labels"].clone();
            force_apply(&rhea, &path, &whole).await.refused_by_guard(GUARD);
            rhea.put(&path, &whole).await.refused_by_guard(GUARD);
            rhea.delete(&path).await.ok();
        }
    }
    let gathers = json!({"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"mine": "true"}}]}});
    for (name, change) in [
        ("ringfence-ceiling-read", json!({"rules": secrets})),
        ("ringfence-ceiling", gathers.clone()),
        ("ringfence-owners", gathers),
        ("ringfence", json!({"rules": secrets})),
    ] {
        rhea.patch(&format!("{roles}/{name}"), &change)
            .await
            .refused_by_guard(GUARD);
    }
    let binding = json!({
        "metadata": {"name": unique("binding")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "ringfence-class-view"},
        "subjects": [{"kind": "ServiceAccount", "namespace": support::RELEASE_NAMESPACE, "name": "ringfence"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    world.admin.post(&format!("{bindings}?dryRun=All"), &binding).await.ok();
    rhea.post(bindings, &binding).await.refused_by_guard(GUARD);
    // Who approves raises it.
    let part = unique("raised");
    let label =
        json!({"metadata": {"name": part, "labels": {"ringfence.dev/aggregate-to-ceiling": "true"}}, "rules": []});
    world.admin.post(roles, &label).await.ok();
    world.admin.delete(&format!("{roles}/{part}")).await.ok();
}

/// The Role of a workflow or a grant as it stands; `None` where there is none.
async fn role_of(world: &World, ns: &str, owner: &str) -> Result<Option<Value>> {
    let roles = world.admin.items(&all("Role", ns)).await?;
    let owned = |role: &&Value| role["metadata"]["ownerReferences"][0]["name"] == owner;
    Ok(roles.iter().find(owned).cloned())
}

/// What was given goes on the next look of its own, or as here when somebody changes the declaration, with what binds it; what is below the
/// ceiling stays as it is.
/// Held by: `operator`
#[tokio::test]
async fn a_tenant_keeps_what_may_be_granted_no_more() {
    let world = World::shared().await;
    let (raised, below) = (
        rule(&["test.example.com"], &[&unique("raised")], &["get"]),
        rule(&[""], &["configmaps"], &["get"]),
    );
    let part = json!({
        "metadata": {"name": unique("part"), "labels": {"ringfence.dev/aggregate-to-ceiling": "true"}}, "rules": [raised],
    });
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    world.admin.post(roles, &part).await.ok();
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "permissions": [raised, below]}))
        .await;
    let ns = &world
        .namespace("lowered", &json!({"ringfence.dev/enforce": class}))
        .await;
    for (name, rule) in [("triage", &raised), ("beside", &below)] {
        world.ready(ns, name, &json!({"permissions": {"rules": [rule]}})).await;
    }
    let before = role_of(&world, ns, "beside").await.unwrap();
    assert!(before.is_some() && role_of(&world, ns, "triage").await.unwrap().is_some());

    let path = format!("{roles}/{}", part["metadata"]["name"].as_str().unwrap());
    world.admin.delete(&path).await.ok();
    // The Role is as it was declared before.
    let changed_otherwise = async |name: &str| {
        let another = format!("registry.example.com/{}/**", unique("another"));
        let images = json!({"spec": {"images": ["registry.example.com/finance/**", another]}});
        world.tess.patch(&one("AIWorkflow", ns, name), &images).await.ok();
        sleep(Duration::from_secs(1)).await;
    };
    eventually(SOON, || async {
        changed_otherwise("triage").await;
        ensure!(
            role_of(&world, ns, "triage").await?.is_none(),
            "its Role is still there"
        );
        Ok(())
    })
    .await;
    let refused = world
        .condition(ns, "triage", "Programmed", "False", "AboveCeiling")
        .await;
    let message = condition(&refused, "Programmed")["message"].as_str().unwrap();
    assert!(message.contains("test.example.com: get"), "{message}");
    assert_eq!(refused["status"]["effectiveRules"], Value::Null);
    let bindings = world.admin.items(&all("RoleBinding", ns)).await.unwrap();
    let of_triage = |binding: &&Value| binding["metadata"]["ownerReferences"][0]["name"] == "triage";
    assert_eq!(bindings.iter().filter(of_triage).count(), 0, "{bindings:?}");

    changed_otherwise("beside").await;
    world.condition(ns, "beside", "Ready", "True", "Fenced").await;
    assert_eq!(
        role_of(&world, ns, "beside").await.unwrap(),
        before,
        "asking changes nothing"
    );
    world.admin.post(roles, &part).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    assert!(role_of(&world, ns, "triage").await.unwrap().is_some());
}

/// Ringfence may grant in a namespace what its own account holds there, and whoever is admin of it binds every account of the cluster to more,
/// until the grant is carried out.
/// Held by: `operator`
#[tokio::test]
async fn a_neighbour_raises_the_ceiling_for_a_moment() {
    let world = World::shared().await;
    let above = rule(&[""], &["persistentvolumeclaims"], &["get"]);
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "permissions": [above]}))
        .await;
    let home = &world.namespace("home", &json!({"ringfence.dev/enforce": class})).await;
    let there = &world.namespace("raised", &json!({})).await;
    let (_, nina) = world.person(there, "admin").await;
    let everybody = json!({
        "metadata": {"name": "everybody"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:serviceaccounts"}],
    });
    nina.post(&all("RoleBinding", there), &everybody).await.ok();
    let declared = json!({"permissions": {"crossNamespace": [{"namespace": there, "rules": [above]}]}});
    world
        .tess
        .post(&all("AIWorkflow", home), &workflow("triage", &declared))
        .await
        .ok();
    world
        .admin
        .post(&grants(there), &grant(home, "triage", json!([above])))
        .await
        .ok();
    eventually(SOON, || async {
        let role = role_of(&world, there, "readers").await?;
        ensure!(role.is_some(), "not granted yet");
        Ok(())
    })
    .await;
    nina.delete(&one("RoleBinding", there, "everybody")).await.ok();
    let path = format!("{}/readers", grants(there));
    eventually(SOON, || async {
        let from = [
            json!({"namespace": home, "name": "triage"}),
            json!({"namespace": home, "name": unique("other")}),
        ];
        world.admin.patch(&path, &json!({"spec": {"from": from}})).await.ok();
        sleep(Duration::from_secs(1)).await;
        ensure!(
            role_of(&world, there, "readers").await?.is_none(),
            "its Role is still there"
        );
        let grant = world.admin.read(&path).await?;
        let programmed = condition(&grant, "Programmed");
        ensure!(programmed["reason"] == "AboveCeiling", "{programmed}");
        Ok(())
    })
    .await;
}
