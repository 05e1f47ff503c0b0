//! Door: rights above the platform's ceiling: by a class, by a declaration, or by a higher ceiling.

use serde_json::{Value, json};
use support::unique;

use crate::attackers::{force_apply, holder};
use crate::rights::rule;
use crate::world::{Actor, CLASSES, World, all, condition, one, unasked, workflow};

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
