//! Door: where the way to domains leads, which the egress proxy reads from what Ringfence made, is said by somebody else.

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::{Map, Value, json};
use support::{Identity, eventually, unique};

use crate::attackers::force_apply;
use crate::objects::said;
use crate::world::{Actor, Answer, NAMESPACES, SOON, World, all, condition, one, workflow};

const KEY: &str = "ringfence.dev/egress-domains";
const KEYS: &str = "ringfence-reserved-keys";
const OWNED: &str = "ringfence-owned-objects";

fn leads_to(domain: &str) -> String {
    format!(r#"{{"rules":[{{"name":"x","domains":["{domain}"],"ports":[{{"port":443}}]}}]}}"#)
}

pub fn declaring(domain: &str) -> Value {
    json!({"network": {"egress": [{"name": "x", "to": {"domains": [domain]}, "ports": [{"port": 443}]}]}})
}

/// Somebody with a role in that namespace, and with this one, by which every right on a kind is held. Waits until it is.
pub async fn person_with(world: &World, ns: &str, role: &str, (kind, of_kind): (&str, &str)) -> Actor {
    let (identity, actor) = world.person(ns, role).await;
    let Identity::User { name, .. } = identity else {
        panic!("a user")
    };
    world.bind(ns, of_kind, &json!({"kind": "User", "name": name})).await;
    eventually(SOON, || async { actor.read(&all(kind, ns)).await }).await;
    actor
}

/// Who declares another domain than `api.example.com` has that object say so, through Ringfence.
pub async fn follows_what_is_declared(world: &World, ns: &str, object: &str) {
    let declared = json!({"spec": declaring("b.example.com")});
    world.tess.patch(&one("AIWorkflow", ns, "triage"), &declared).await.ok();
    eventually(SOON, || async {
        let now = world.admin.read(object).await?;
        let text = now["spec"].to_string();
        ensure!(
            text.contains("b.example.com") && !text.contains("api.example.com"),
            "{text}"
        );
        Ok(())
    })
    .await;
}

/// A namespace in that mode, whose class opens what lies below example.com.
async fn place(world: &World, mode: &str) -> String {
    let spec = json!({
        "images": {"allowed": ["**"]}, "network": {"domains": ["*.example.com"]},
        "identity": {"annotations": [KEY]},
    });
    let class = world.class(&spec).await;
    world
        .namespace("domains", &json!({format!("ringfence.dev/{mode}"): class}))
        .await
}

/// The policy that opens the way, once it is there.
async fn way(world: &World, ns: &str) -> (String, Value) {
    let path = one("NetworkPolicy", ns, &owned_name(ns, "triage", "domains"));
    let way = eventually(SOON, || async { world.admin.read(&path).await }).await;
    assert_eq!(way["metadata"]["annotations"][KEY], leads_to("api.example.com"));
    (path, way)
}

/// Two guards see it, and either may speak first.
#[track_caller]
fn refused_by_a_guard(answer: &Answer) {
    let is_named = |guard: &&str| {
        let by = format!("ValidatingAdmissionPolicy '{guard}'");
        answer.message().contains(&by)
    };
    let found = [KEYS, OWNED].into_iter().find(is_named);
    answer.refused_by_guard(found.unwrap_or(KEYS));
}

/// By each way of writing it, where pods are fenced, where they are only warned about, and where nothing is declared; among few annotations and
/// among many.
///
/// Held by: `ringfence-reserved-keys`, `RBAC`
#[tokio::test]
async fn somebody_writes_where_the_way_to_domains_leads() {
    let world = World::shared().await;
    let wide = leads_to("*.evil.example");
    for mode in ["enforce", "warn"] {
        let ns = &place(&world, mode).await;
        let declared = workflow("triage", &declaring("api.example.com"));
        world.tess.post(&all("AIWorkflow", ns), &declared).await.ok();
        let (path, before) = way(&world, ns).await;
        let (_, edith) = world.person(ns, "edit").await;
        let (_, ada) = world.person(ns, "admin").await;
        for attacker in [&edith, &ada] {
            for value in [json!(wide), json!(""), Value::Null] {
                let change = json!({"metadata": {"annotations": {KEY: value}}});
                refused_by_a_guard(&attacker.patch(&path, &change).await);
            }
            let replaced = json!([{"op": "replace", "path": "/metadata/annotations/ringfence.dev~1egress-domains", "value": wide}]);
            refused_by_a_guard(&attacker.json_patch(&path, &replaced).await);
            let applied = json!({
                "apiVersion": before["apiVersion"], "kind": before["kind"], "metadata": {"annotations": {KEY: wide}},
            });
            refused_by_a_guard(&force_apply(attacker, &path, &applied).await);
            let mut put = before.clone();
            put["metadata"]["annotations"][KEY] = json!(wide);
            refused_by_a_guard(&attacker.put(&path, &put).await);
        }
        let answer = world
            .tess
            .patch(&path, &json!({"metadata": {"annotations": {KEY: wide}}}))
            .await;
        let by_rbac = answer.message().contains("is forbidden: User \"tess\" cannot");
        assert!(answer.code == 403 && by_rbac, "{}", answer.body);
        let after = world.admin.read(&path).await.unwrap();
        assert_eq!(
            after["metadata"]["annotations"], before["metadata"]["annotations"],
            "{mode}"
        );
    }
    // A policy of her own, which opens nothing.
    let fenced = place(&world, "enforce").await;
    let plain = world.namespace("plain", &json!({})).await;
    for ns in [&fenced, &plain] {
        let (_, edith) = world.person(ns, "edit").await;
        let policies = all("NetworkPolicy", ns);
        let closed = json!({"podSelector": {}, "policyTypes": ["Egress"]});
        let own = edith
            .post(&policies, &json!({"metadata": {"name": unique("own")}, "spec": closed}))
            .await
            .ok();
        let own = one("NetworkPolicy", ns, own["metadata"]["name"].as_str().unwrap());
        let many: Map<String, Value> = (0..1001)
            .map(|number| (format!("example.com/a{number}"), json!("x")))
            .collect();
        for others in [Map::new(), many] {
            let mut annotations = others.clone();
            annotations.insert(KEY.to_owned(), json!(wide));
            let posted = json!({"metadata": {"name": unique("told"), "annotations": annotations}, "spec": closed});
            edith.post(&policies, &posted).await.refused_by_guard(KEYS);
            edith
                .patch(&own, &json!({"metadata": {"annotations": annotations}}))
                .await
                .refused_by_guard(KEYS);
            // The others are hers.
            edith
                .patch(&own, &json!({"metadata": {"annotations": others}}))
                .await
                .ok();
        }
    }
}

/// By name, owner and labels as Ringfence gives them, in the namespace of a workflow and in another: a copy of what is there, or her own.
///
/// Held by: `ringfence-reserved-keys`, `foreign-network-policy`
#[tokio::test]
async fn a_policy_poses_as_one_of_ringfences() {
    let world = World::shared().await;
    let ns = &place(&world, "enforce").await;
    world.ready(ns, "triage", &declaring("api.example.com")).await;
    let (_, made) = way(&world, ns).await;
    let mut posed = said(&made);
    posed["metadata"]["annotations"][KEY] = json!(leads_to("*.evil.example"));
    let plain = &world.namespace("plain", &json!({})).await;
    for namespace in [ns, plain] {
        let (_, edith) = world.person(namespace, "edit").await;
        let policies = all("NetworkPolicy", namespace);
        let mut copy = posed.clone();
        copy["metadata"]["namespace"] = json!(namespace);
        copy["metadata"]["name"] = json!(owned_name(namespace, "tomorrow", "domains"));
        edith.post(&policies, &copy).await.refused_by_guard(KEYS);
        // Without the keys one by one, until it says nothing any more.
        for (map, key) in [
            ("annotations", "ringfence.dev/owner-uid"),
            ("annotations", KEY),
            ("annotations", "ringfence.dev/revision"),
        ] {
            copy["metadata"][map].as_object_mut().unwrap().remove(key);
            edith.post(&policies, &copy).await.refused_by_guard(KEYS);
        }
        copy["metadata"]["labels"]
            .as_object_mut()
            .unwrap()
            .remove("ringfence.dev/owner");
        copy["metadata"]["ownerReferences"] = json!([]);
        let answer = edith.post(&policies, &copy).await;
        if namespace == ns {
            answer.refused_by("foreign-network-policy");
        } else {
            answer.ok();
        }
    }
}

/// A name is free until something stands under it: then no domain is reached, and it is said whose it is.
///
/// Held by: `operator`
#[tokio::test]
async fn a_policy_takes_the_name_of_the_way_to_domains() {
    let world = World::shared().await;
    let ns = &place(&world, "enforce").await;
    let (_, edith) = world.person(ns, "edit").await;
    let name = owned_name(ns, "triage", "domains");
    let squatting = json!({"metadata": {"name": name}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}});
    edith.post(&all("NetworkPolicy", ns), &squatting).await.ok();
    world
        .tess
        .post(
            &all("AIWorkflow", ns),
            &workflow("triage", &declaring("api.example.com")),
        )
        .await
        .ok();
    let held = world.condition(ns, "triage", "Programmed", "False", "NameTaken").await;
    assert!(condition(&held, "Programmed")["message"].to_string().contains(&name));
    let path = one("NetworkPolicy", ns, &name);
    let there = world.admin.read(&path).await.unwrap();
    assert!(there["metadata"]["annotations"].get(KEY).is_none(), "{there}");
    edith.delete(&path).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    way(&world, ns).await;
}

/// By the annotations that an account may carry, which the class of this namespace opens by that very key; by a domain that stands for
/// everything; and by one that the class does not open.
///
/// Held by: `valid-declaration`, `definition`, `operator`
#[tokio::test]
async fn a_declaration_says_more_than_its_class() {
    let world = World::shared().await;
    let ns = &place(&world, "enforce").await;
    world.ready(ns, "triage", &declaring("api.example.com")).await;
    let path = one("AIWorkflow", ns, "triage");
    let by_account = json!({"identity": {"annotations": {KEY: leads_to("*.evil.example")}}});
    world
        .tess
        .patch(&path, &json!({"spec": by_account}))
        .await
        .refused_by("valid-declaration");
    for name in ["*", "api.*.example.com", "API.example.com", "api.example.com."] {
        let answer = world.tess.patch(&path, &json!({"spec": declaring(name)})).await;
        assert_eq!(answer.code, 422, "{name}: {}", answer.body);
    }
    for name in [
        "192.0.2.1",
        "0x7f.0x1",
        "example",
        "*.com",
        "kubernetes.default.svc",
        "metadata.google.internal",
    ] {
        world
            .tess
            .patch(&path, &json!({"spec": declaring(name)}))
            .await
            .refused_by("valid-declaration");
    }
    // Stored, as what lies outside a class is, and closed.
    world
        .tess
        .patch(&path, &json!({"spec": declaring("example.com")}))
        .await
        .ok();
    let outside = world.condition(ns, "triage", "Accepted", "False", "OutsideClass").await;
    let message = condition(&outside, "Accepted")["message"].to_string();
    assert!(
        message.contains("example.com") && message.contains("spec.network.domains"),
        "{message}"
    );
    world
        .admin
        .gone(&one("NetworkPolicy", ns, &owned_name(ns, "triage", "domains")))
        .await;
}

/// The owner declares, changes and withdraws, and whoever administers takes the mode off.
///
/// Legitimate: the way follows what is declared.
#[tokio::test]
async fn a_tenant_declares_her_domains() {
    let world = World::shared().await;
    let ns = &place(&world, "enforce").await;
    world.ready(ns, "triage", &declaring("api.example.com")).await;
    let (path, _) = way(&world, ns).await;
    let workflow = one("AIWorkflow", ns, "triage");
    world
        .tess
        .patch(&workflow, &json!({"spec": declaring("*.blob.example.com")}))
        .await
        .ok();
    eventually(SOON, || async {
        let way = world.admin.read(&path).await?;
        let told = &way["metadata"]["annotations"][KEY];
        ensure!(*told == leads_to("*.blob.example.com"), "{told}");
        Ok(())
    })
    .await;
    world
        .tess
        .patch(&workflow, &json!({"spec": {"network": null}}))
        .await
        .ok();
    world.admin.gone(&path).await;
    world
        .tess
        .patch(&workflow, &json!({"spec": declaring("api.example.com")}))
        .await
        .ok();
    way(&world, ns).await;
    let open = json!({"metadata": {"labels": {"ringfence.dev/enforce": null}}});
    world.admin.patch(&format!("{NAMESPACES}/{ns}"), &open).await.ok();
    world.tess.delete(&workflow).await.ok();
    world.admin.gone(&path).await;
}
