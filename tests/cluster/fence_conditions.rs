//! What keeps a fence from standing, and that it stands again without hands once that is gone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{CLASSES, World, all, condition, one, unasked, workflow};
use ringfence::plan::owned_name;

/// Longest that a few changes of a class take to act, far below any resync.
const SECONDS: Duration = Duration::from_secs(40);

fn rule(group: &str, resource: &str, verb: &str) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]})
}

#[tokio::test]
async fn a_change_of_the_class_is_a_change_of_its_workflows() {
    let world = World::shared().await;
    let open = json!({"images": {"allowed": ["**"]}, "permissions": [rule("", "configmaps", "get")], "network": {"cidrs": ["203.0.113.0/24"]}});
    let class = world.class(&open).await;
    let ns = &world.namespace("class", &json!({"ringfence.dev/enforce": class})).await;
    let spec = json!({
        "permissions": {"rules": [rule("", "configmaps", "get")]},
        "network": {"egress": [{"name": "bank", "to": {"cidrs": ["203.0.113.0/24"]}, "ports": [{"port": 443}]}]},
    });
    world.ready(ns, "triage", &spec).await;
    let class_path = format!("{CLASSES}/{class}");
    let [role, binding, allow] = [("Role", "role"), ("RoleBinding", "binding"), ("NetworkPolicy", "allow")]
        .map(|(kind, part)| one(kind, ns, &owned_name(ns, "triage", part)));

    let started = Instant::now();
    world
        .admin
        .patch(&class_path, &json!({"spec": {"permissions": null, "network": null}}))
        .await
        .ok();
    let refused = world.condition(ns, "triage", "Ready", "False", "OutsideClass").await;
    let message = condition(&refused, "Accepted")["message"].as_str().unwrap();
    for part in [
        "spec.permissions.rules[0]",
        "get configmaps (core)",
        "spec.network.egress[0].to.cidrs[0]",
        "203.0.113.0/24",
        &class,
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    assert!(!world.admin.is_there(&role).await.unwrap() && !world.admin.is_there(&binding).await.unwrap());
    assert!(
        world
            .admin
            .is_there(&one("ServiceAccount", ns, "triage"))
            .await
            .unwrap(),
        "the account stays"
    );
    let egress = world.admin.get(&allow).await.ok()["spec"]["egress"].clone();
    assert_eq!(egress.as_array().map(Vec::len), Some(1), "DNS alone is left: {egress}");

    world.admin.patch(&class_path, &json!({"spec": open})).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    assert!(world.admin.is_there(&role).await.unwrap());

    // The range turns out to be the cluster's own.
    let cluster = |facts: Value| json!({"spec": {"cluster": facts}});
    let facts = cluster(json!({"clusterCIDRs": ["203.0.0.0/16"]}));
    world.admin.patch(&class_path, &facts).await.ok();
    let refused = world.condition(ns, "triage", "Ready", "False", "OutsideClass").await;
    let message = condition(&refused, "Accepted")["message"].as_str().unwrap();
    assert!(message.contains("the cluster's own ranges (203.0.0.0/16)"), "{message}");
    let egress = world.admin.get(&allow).await.ok()["spec"]["egress"].clone();
    assert_eq!(egress.as_array().map(Vec::len), Some(1), "DNS alone is left: {egress}");
    world.admin.patch(&class_path, &cluster(Value::Null)).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    assert!(
        started.elapsed() < SECONDS,
        "four changes of the class took {:?}",
        started.elapsed()
    );

    world.admin.delete(&class_path).await.ok();
    world.condition(ns, "triage", "Ready", "False", "ClassMissing").await;
    assert!(
        world.admin.is_there(&role).await.unwrap(),
        "what stood was right when it was made"
    );
    let again = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": class}, "spec": open});
    world.admin.post(CLASSES, &again).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
}

#[tokio::test]
async fn a_declaration_that_no_class_could_take_is_invalid() {
    let world = World::shared().await;
    let ns = &world.enforced("invalid").await;
    let spec = json!({
        "permissions": {"rules": [rule("", "secrets", "get")]},
        "network": {"egress": [{"name": "x", "to": {"cidrs": ["10.0.0.1/8"]}, "ports": [{"port": 1}]}]},
    });
    let object = workflow("triage", &spec);
    let answer = world.tess.post(&all("AIWorkflow", ns), &object).await;
    let said = answer.refused_by("valid-declaration");
    assert!(
        said.contains("10.0.0.1/8") && said.contains("secrets"),
        "all of it at once: {said}"
    );
    unasked(world.cluster)
        .await
        .post(&all("AIWorkflow", ns), &object)
        .await
        .ok();
    let refused = world.condition(ns, "triage", "Ready", "False", "Invalid").await;
    let message = condition(&refused, "Accepted")["message"].as_str().unwrap();
    for part in [
        "spec.permissions.rules[0].resources",
        "\"secrets\"",
        "spec.network.egress[0].to.cidrs[0]",
        "10.0.0.1/8",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    for kind in ["Role", "RoleBinding"] {
        assert_eq!(
            world.admin.items(&all(kind, ns)).await.unwrap(),
            [] as [Value; 0],
            "{kind}"
        );
    }
}

#[tokio::test]
async fn a_foreign_account_is_neither_touched_nor_bound() {
    let world = World::shared().await;
    let ns = &world.enforced("taken").await;
    let path = one("ServiceAccount", ns, "triage");
    let foreign =
        json!({"metadata": {"name": "triage", "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}}});
    // As it stood before the fence.
    let earlier = unasked(world.cluster).await;
    earlier.post(&all("ServiceAccount", ns), &foreign).await.ok();
    let before = world.admin.get(&path).await.ok();
    let spec = json!({"permissions": {"rules": [rule("", "configmaps", "get")]}});
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("triage", &spec))
        .await
        .ok();

    let refused = world.condition(ns, "triage", "Ready", "False", "NameTaken").await;
    let message = condition(&refused, "Programmed")["message"].as_str().unwrap();
    assert!(message.contains("ServiceAccount triage"), "{message}");
    assert!(
        message.contains("ringfence.dev/adopt=triage"),
        "the other way out: {message}"
    );
    assert_eq!(world.admin.get(&path).await.ok(), before, "it is not touched");
    assert_eq!(
        world.admin.items(&all("RoleBinding", ns)).await.unwrap(),
        [] as [Value; 0],
        "nor bound"
    );
    let lea = world.master("lea", &[]).await;
    let pod = crate::world::pod("stranger", "triage");
    lea.post(&all("Pod", ns), &pod).await.refused_by("own-service-account");

    world.admin.delete(&path).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    assert_ne!(
        world.admin.get(&path).await.ok()["metadata"]["uid"],
        before["metadata"]["uid"]
    );
}

#[tokio::test]
async fn peers_resolve_when_both_ends_name_each_other() {
    let world = World::shared().await;
    let ns = &world.enforced("peers").await;
    let ports = json!([{"port": 8080}]);
    let sender =
        json!({"network": {"egress": [{"name": "out", "to": {"workflow": {"name": "receiver"}}, "ports": ports}]}});
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("sender", &sender))
        .await
        .ok();
    let missing = world.condition(ns, "sender", "Ready", "False", "PeerMissing").await;
    let message = condition(&missing, "ResolvedRefs")["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("{ns}/receiver")) && message.contains("spec.network.egress[0]"),
        "{message}"
    );

    world.ready(ns, "receiver", &json!({})).await;
    world
        .condition(ns, "sender", "Ready", "False", "PeerDoesNotNameUs")
        .await;
    let allow = world
        .admin
        .get(&one("NetworkPolicy", ns, &owned_name(ns, "sender", "allow")))
        .await
        .ok();
    let peer = json!({"matchLabels": {"ringfence.dev/workflow": "receiver"}});
    assert_eq!(
        allow["spec"]["egress"][1]["to"][0]["podSelector"], peer,
        "our side is rendered"
    );

    let named =
        json!({"network": {"ingress": [{"name": "in", "from": {"workflow": {"name": "sender"}}, "ports": ports}]}});
    world
        .tess
        .patch(&one("AIWorkflow", ns, "receiver"), &json!({"spec": named}))
        .await
        .ok();
    for name in ["sender", "receiver"] {
        let workflow = world.condition(ns, name, "Ready", "True", "Fenced").await;
        assert_eq!(condition(&workflow, "ResolvedRefs")["reason"], "Resolved");
    }
    let allow = world
        .admin
        .get(&one("NetworkPolicy", ns, &owned_name(ns, "receiver", "allow")))
        .await
        .ok();
    let peer = json!({"matchLabels": {"ringfence.dev/workflow": "sender"}});
    assert_eq!(allow["spec"]["ingress"][0]["from"][0]["podSelector"], peer);

    world.tess.delete(&one("AIWorkflow", ns, "receiver")).await.ok();
    world.condition(ns, "sender", "Ready", "False", "PeerMissing").await;
}

#[tokio::test]
async fn a_right_above_the_ceiling_is_named_and_the_platform_raises_the_ceiling() {
    let world = World::shared().await;
    let leases = rule("coordination.k8s.io", "leases", "get");
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "permissions": [leases]}))
        .await;
    let ns = &world
        .namespace("ceiling", &json!({"ringfence.dev/enforce": class}))
        .await;
    let spec = json!({"permissions": {"rules": [leases]}});
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("triage", &spec))
        .await
        .ok();
    let refused = world
        .condition(ns, "triage", "Programmed", "False", "AboveCeiling")
        .await;
    assert_eq!(condition(&refused, "Accepted")["status"], "True", "the class allows it");
    let message = condition(&refused, "Programmed")["message"].as_str().unwrap();
    for part in [
        ": leases.coordination.k8s.io: get. ",
        "ringfence.dev/aggregate-to-ceiling=true",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    assert!(!message.contains("APIGroups") && !message.contains('\n'), "{message}");
    assert_eq!(condition(&refused, "Ready")["reason"], "AboveCeiling");
    assert_eq!(world.admin.items(&all("Role", ns)).await.unwrap(), [] as [Value; 0]);

    let role = json!({
        "metadata": {"name": support::unique("leases"), "labels": {"ringfence.dev/aggregate-to-ceiling": "true"}},
        "rules": [leases],
    });
    world
        .admin
        .post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role)
        .await
        .ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
}
