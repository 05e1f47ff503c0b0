//! What a class does not allow, or nobody may hold, said to the tenant who declared it: field, value, and what the class allows.

use serde_json::{Value, json};

use crate::world::{World, all, condition, unasked, workflow};

fn rule(group: &str, resource: &str, verb: &str) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]})
}

#[tokio::test]
async fn a_tenant_hears_what_the_class_allows_instead() {
    let world = World::shared().await;
    let class = world
        .class(&json!({
            "images": {"allowed": ["registry.example.com/**"]},
            "permissions": [rule("", "configmaps", "get")],
            "network": {"cidrs": ["203.0.113.0/24"], "namespaces": ["vectors"]},
            "identity": {"annotations": ["eks.amazonaws.com/role-arn"]},
        }))
        .await;
    let ns = &world
        .namespace("outside", &json!({"ringfence.dev/enforce": class}))
        .await;
    let egress = json!([
        {"name": "bank", "to": {"cidrs": ["198.51.100.0/24"]}, "ports": [{"port": 443}]},
        {"name": "other", "to": {"pods": {"namespace": "finance", "selector": {"matchLabels": {"a": "b"}}}}, "ports": [{"port": 1}]},
    ]);
    let spec = json!({
        "images": ["registry.example.com/team/*", "docker.io/**"],
        "permissions": {"rules": [rule("", "events", "list")]},
        "network": {"egress": egress},
        "identity": {"annotations": {"iam.example.com/role": "x"}},
    });
    let made = world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("triage", &spec))
        .await;
    let warned = made.warnings.join("\n");
    assert!(warned.contains("docker.io/**"), "said at once: {warned}");
    made.ok();
    let refused = world.condition(ns, "triage", "Ready", "False", "OutsideClass").await;
    let message = condition(&refused, "Accepted")["message"].as_str().unwrap();
    for part in [
        "spec.images[1] = \"docker.io/**\" ",
        "(it allows: registry.example.com/**)",
        "it allows: [configmaps: get]",
        "it allows: 203.0.113.0/24",
        "it allows: vectors",
        "it allows: eks.amazonaws.com/role-arn",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    assert!(
        !message.contains("spec.images[0]"),
        "what overlaps is let be: {message}"
    );
}

/// Whatever the class says, and though it is only asked for elsewhere.
#[tokio::test]
async fn what_nobody_may_hold_cannot_be_declared_across_namespaces() {
    let world = World::shared().await;
    let forbidden = [
        (rule("", "secrets", "get"), "\"secrets\""),
        (
            rule("rbac.authorization.k8s.io", "roles", "create"),
            "\"rbac.authorization.k8s.io\"",
        ),
        (rule("", "users", "impersonate"), "\"impersonate\""),
        (rule("", "pods", "create"), "would make pods in another namespace"),
    ];
    let ns = &world.enforced("across").await;
    for (rule, said) in forbidden {
        let across = json!({"permissions": {"crossNamespace": [{"namespace": "vectors", "rules": [rule]}]}});
        let object = workflow("triage", &across);
        let answer = world.tess.post(&all("AIWorkflow", ns), &object).await;
        let message = answer.refused_by("valid-declaration");
        assert!(
            message.contains(said) && message.contains("spec.permissions.crossNamespace[0].rules[0]"),
            "{said}: {message}"
        );
        // As an older version let it in.
        unasked(world.cluster)
            .await
            .post(&all("AIWorkflow", ns), &object)
            .await
            .ok();
        world.condition(ns, "triage", "Accepted", "False", "Invalid").await;
        world
            .admin
            .delete(&crate::world::one("AIWorkflow", ns, "triage"))
            .await
            .ok();
        world.admin.gone(&crate::world::one("AIWorkflow", ns, "triage")).await;
    }
}
