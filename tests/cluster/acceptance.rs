//! What a class does not allow, or nobody may hold, said to the tenant who declared it: field, value, and what the class allows.

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::eventually;

use crate::world::{CLASSES, SOON, World, all, condition, one, unasked, workflow};

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
        world.tess.delete(&one("AIWorkflow", ns, "triage")).await.ok();
        world.admin.gone(&one("AIWorkflow", ns, "triage")).await;
    }
}

/// As an older version let it in: what is about something else stays, because pods run behind it.
#[tokio::test]
async fn a_value_that_became_invalid_takes_away_nothing_but_itself() {
    let world = World::shared().await;
    let ns = &world.enforced("became-invalid").await;
    let peer = |app: &str, selector: Value| json!({"name": app, "to": {"pods": {"selector": {"matchLabels": selector}}}, "ports": [{"port": 1}]});
    let fine = peer("fine", json!({"app": "fine"}));
    let spec = json!({
        "permissions": {"rules": [rule("", "configmaps", "get")]},
        "network": {"egress": [fine, peer("old", json!({"app": "old"}))]},
    });
    world.ready(ns, "triage", &spec).await;
    let path = one("AIWorkflow", ns, "triage");
    let old = json!({"spec": {
        "images": ["registry.example.com/x:1"],
        "permissions": {"rules": [rule("", "configmaps", "get"), rule("", "secrets", "get")]},
        "network": {"egress": [fine, peer("old", json!({"a b": "c"}))]},
    }});
    unasked(world.cluster).await.patch(&path, &old).await.ok();
    let said = world.condition(ns, "triage", "Programmed", "False", "Invalid").await;
    let message = condition(&said, "Programmed")["message"].as_str().unwrap();
    assert!(
        message.starts_with("what is valid and inside the class stands"),
        "{message}"
    );
    assert_eq!(condition(&said, "Ready")["reason"], "Invalid");
    assert_eq!(said["status"]["effectiveRules"], json!([rule("", "configmaps", "get")]));
    let name = |part: &str| owned_name(ns, "triage", part);
    let role = world.admin.get(&one("Role", ns, &name("role"))).await.ok();
    assert_eq!(role["rules"], json!([rule("", "configmaps", "get")]));
    world.admin.get(&one("RoleBinding", ns, &name("binding"))).await.ok();
    world.admin.get(&one("ServiceAccount", ns, "triage")).await.ok();
    let allow = world.admin.get(&one("NetworkPolicy", ns, &name("allow"))).await.ok();
    let egress = allow["spec"]["egress"].to_string();
    assert_eq!(
        allow["spec"]["egress"].as_array().map(Vec::len),
        Some(2),
        "DNS and what can be read: {egress}"
    );
    assert!(egress.contains("\"fine\"") && !egress.contains("\"old\""), "{egress}");

    let mut corrected = spec;
    corrected["images"] = json!(["registry.example.com/finance/*"]);
    world.tess.patch(&path, &json!({"spec": corrected})).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
}

/// Before anything is made, so that `warn` brings no news.
#[tokio::test]
async fn where_only_audit_is_set_a_tenant_hears_what_the_class_will_say() {
    let world = World::shared().await;
    let class = world.class(&json!({"images": {"allowed": ["**"]}})).await;
    let ns = &world.namespace("audits", &json!({"ringfence.dev/audit": class})).await;
    let spec = json!({"permissions": {"rules": [rule("", "configmaps", "get")]}});
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("triage", &spec))
        .await
        .ok();
    let message = |workflow: &Value| condition(workflow, "Accepted")["message"].as_str().unwrap().to_owned();
    let told = world
        .condition(ns, "triage", "Ready", "False", "NamespaceNotFenced")
        .await;
    let first = message(&told);
    for part in [
        "only audits",
        "ringfence.dev/warn=<class>",
        "would not accept it: spec.permissions.rules[0]",
    ] {
        assert!(first.contains(part), "{part} is missing in: {first}");
    }
    assert!(
        !condition(&told, "Programmed")["message"]
            .as_str()
            .unwrap()
            .contains("audits"),
        "said once, and in Ready"
    );
    let open = json!({"spec": {"permissions": [rule("", "configmaps", "get")]}});
    world.admin.patch(&format!("{CLASSES}/{class}"), &open).await.ok();
    eventually(SOON, || async {
        let now = message(&world.admin.read(&one("AIWorkflow", ns, "triage")).await?);
        ensure!(!now.contains("would not accept it"), "{now}");
        Ok(())
    })
    .await;
}
