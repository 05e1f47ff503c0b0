//! Door: what the API server takes, and nobody else can read. It looks into no parameters of a driver's, and passes them on as they were
//! sent; and what takes two bytes in its store may take many as JSON.

use anyhow::ensure;
use axum::http::Method;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::world::{Actor, Answer, POLICIES, SOON, World, all, condition, one, pod, workload};

const JSON: &str = "application/json";
const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
/// Which Go takes for JSON, and readers of JSON do not.
const NO_JSON: [&[u8]; 2] = [br#""\ud800""#, br#""\udc00\ud800""#];
/// The same, of which Ringfence reads what everybody who is written in Go does.
const NO_TEXT: &[u8] = b"\"\xff\"";

fn claims(kind: &str, namespace: &str) -> String {
    format!("/apis/resource.k8s.io/v1/namespaces/{namespace}/{kind}")
}

/// What a claim asks for, with parameters for a driver, as bytes.
fn claim(name: &str, colour: &str, parameters: &[u8]) -> Vec<u8> {
    let spec = json!({"devices": {
        "requests": [{"name": "r", "exactly": {"deviceClassName": "any"}}],
        "config": [{"opaque": {"driver": "driver.example.com", "parameters": {"a": "HERE"}}}],
    }});
    let object = json!({"metadata": {"name": name, "labels": {"colour": colour}}, "spec": spec});
    with(&object, "\"HERE\"", parameters)
}

/// An object with these bytes, which JSON of ours cannot hold, in a place of it.
fn with(object: &Value, place: &str, bytes: &[u8]) -> Vec<u8> {
    let text = object.to_string();
    let (before, behind) = text.split_once(place).expect("it is in there");
    [before.as_bytes(), bytes, behind.as_bytes()].concat()
}

/// A policy about ConfigMaps or claims of some namespaces.
async fn policy(world: &World, resources: (&str, &str), namespaces: &[&String], more: &Value) -> String {
    let (group, resource) = resources;
    let name = unique("unreadable");
    let role = json!({
        "metadata": {"name": name, "labels": {"ringfence.dev/aggregate-to-inventory": "true"}},
        "rules": [{"apiGroups": ["resource.k8s.io", "networking.k8s.io"], "resources": ["*"], "verbs": ["get", "list", "watch"]}],
    });
    world.admin.post(CLUSTER_ROLES, &role).await.ok();
    let rules =
        json!([{"apiGroups": [group], "apiVersions": ["v1"], "resources": [resource], "operations": ["CREATE"]}]);
    let selector =
        json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces}]});
    let mut policy = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "metadata": {"name": name},
        "spec": {
            "description": "Nothing is red", "validationActions": ["Deny"], "templates": "Ignore",
            "matchConstraints": {"resourceRules": rules, "namespaceSelector": selector},
            "rego": {"modules": [{"name": "policy.rego", "source":
                "package p\n\ndeny contains \"it is red\" if input.review.object.metadata.labels.colour == \"red\"\n"}]},
        },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        policy["spec"][key] = value.clone();
    }
    world.admin.post(POLICIES, &policy).await.ok();
    name
}

fn map(name: &str, colour: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"colour": colour}}})
}

/// Somebody else is judged as before.
async fn is_judged(actor: &Actor, namespace: &str, policy: &str) -> anyhow::Result<()> {
    let path = format!("{}?dryRun=All", all("ConfigMap", namespace));
    let answer = actor.post(&path, &map("judged", "red")).await;
    ensure!(
        answer.message().contains("it is red"),
        "{} of {policy}",
        answer.message()
    );
    let answer = actor.post(&path, &map("judged", "blue")).await;
    ensure!(answer.code == 201, "{}", answer.message());
    Ok(())
}

/// A review that is no JSON cannot be judged, and a policy that fails open would let it pass.
///
/// Held by: `operator`
#[tokio::test]
async fn a_tenant_passes_a_policy_by_what_is_no_json() {
    let world = &World::shared().await;
    let ns = &world.enforced("nojson").await;
    let (_, tess) = world.tenant(ns).await;
    let name = policy(
        world,
        ("resource.k8s.io", "resourceclaims"),
        &[ns],
        &json!({"failurePolicy": "Ignore"}),
    )
    .await;
    let path = claims("resourceclaims", ns);
    let send = async |name: &str, colour: &str, parameters: &[u8]| -> Answer {
        tess.bytes(Method::POST, &path, JSON, claim(name, colour, parameters))
            .await
    };
    eventually(SOON, async || {
        let answer = send("red", "red", b"1").await;
        ensure!(answer.message().contains(&name), "{} {}", answer.code, answer.message());
        Ok(())
    })
    .await;
    for (number, parameters) in NO_JSON.iter().enumerate() {
        let answer = send(&format!("red-{number}"), "red", parameters).await;
        assert!(
            answer.message().contains("no JSON"),
            "{number}: {} {}",
            answer.code,
            answer.message()
        );
        assert!(
            answer.message().contains("Fix: write the object"),
            "{}",
            answer.message()
        );
    }
    let answer = send("red-text", "red", NO_TEXT).await;
    assert!(answer.message().contains(&name), "{} {}", answer.code, answer.message());
    // What is no matter of a policy's is none of ours, and what can be read is judged.
    send("blue", "blue", br#""\ud83d\ude00""#).await.ok();
    let elsewhere = &world.namespace("unasked", &json!({})).await;
    let path = claims("resourceclaims", elsewhere);
    let sent = world
        .admin
        .bytes(Method::POST, &path, JSON, claim("red", "red", NO_JSON[0]))
        .await;
    assert_eq!(sent.code, 201, "{}", sent.message());
    world.admin.delete(&format!("{POLICIES}/{name}")).await.ok();
}

/// By a policy that looks at all objects of a kind, one that is no JSON would leave everybody without a verdict, wherever it is.
///
/// Held by: `operator`
#[tokio::test]
async fn an_object_that_is_no_json_blinds_policies() {
    let world = &World::shared().await;
    let ns = &world.namespace("sees", &json!({})).await;
    let neighbour = &world.namespace("nojson", &json!({})).await;
    let (_, edith) = world.person(neighbour, "edit").await;
    let inventory = json!([{"group": "resource.k8s.io", "version": "v1", "kind": "ResourceClaimTemplate", "fields": ["spec.spec.devices.requests"]}]);
    let name = policy(world, ("", "configmaps"), &[ns], &json!({"inventory": inventory})).await;
    eventually(SOON, async || is_judged(&world.admin, ns, &name).await).await;
    let path = claims("resourceclaimtemplates", neighbour);
    let template = |name: &str, parameters: &[u8]| {
        let claim = claim(name, "red", b"\"HERE\"");
        let claim: Value = serde_json::from_slice(&claim).expect("it is JSON");
        with(
            &json!({"metadata": {"name": name}, "spec": {"spec": claim["spec"]}}),
            "\"HERE\"",
            parameters,
        )
    };
    for (number, parameters) in NO_JSON.iter().chain([&NO_TEXT]).enumerate() {
        let body = template(&format!("t{number}"), parameters);
        let sent = edith.bytes(Method::POST, &path, JSON, body).await;
        assert_eq!(sent.code, 201, "{}", sent.message());
    }
    // Told of by the watch, and by a list: that of a policy that asks for other fields.
    is_judged_for_long(world, ns, &name, neighbour).await;
    let inventory = json!([{"group": "resource.k8s.io", "version": "v1", "kind": "ResourceClaimTemplate", "fields": ["metadata.labels"]}]);
    let other = policy(world, ("", "configmaps"), &[ns], &json!({"inventory": inventory})).await;
    // The other fields are asked for a moment after the policy is there, and until they are listed nothing is judged by it.
    eventually(SOON, async || {
        for _ in 0..3 {
            is_judged(&world.admin, ns, &other).await?;
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        Ok(())
    })
    .await;
    is_judged_for_long(world, ns, &other, neighbour).await;
    for name in [&name, &other] {
        world.admin.delete(&format!("{POLICIES}/{name}")).await.ok();
    }
}

/// The same by what is small in the API server's store, and larger as JSON than any answer that is read.
///
/// Held by: `operator`
#[tokio::test]
async fn an_object_that_grows_as_json_blinds_policies() {
    let world = &World::shared().await;
    let ns = &world.namespace("sees", &json!({})).await;
    let neighbour = &world.namespace("grows", &json!({})).await;
    let (_, edith) = world.person(neighbour, "edit").await;
    let inventory = json!([{"group": "networking.k8s.io", "version": "v1", "kind": "NetworkPolicy", "fields": ["spec.policyTypes"]}]);
    let name = policy(world, ("", "configmaps"), &[ns], &json!({"inventory": inventory})).await;
    eventually(SOON, async || is_judged(&world.admin, ns, &name).await).await;
    let path = format!("/apis/networking.k8s.io/v1/namespaces/{neighbour}/networkpolicies");
    let sent = edith
        .bytes(
            Method::POST,
            &path,
            "application/vnd.kubernetes.protobuf",
            network_policy("large", 250_000),
        )
        .await;
    assert_eq!(sent.code, 201, "{}", sent.message());
    is_judged_for_long(world, ns, &name, neighbour).await;
    world.admin.delete(&format!("{path}/large")).await.ok();
    world.admin.delete(&format!("{POLICIES}/{name}")).await.ok();
}

/// Who wrote which field, which whoever writes the object may say, with a byte that is no text.
fn managed(object: &Value, version: &str, entries: &Value) -> Vec<u8> {
    let mut object = object.clone();
    let mut entries = entries.as_array().cloned().unwrap_or_default();
    entries.push(json!({
        "manager": "x", "operation": "Update", "apiVersion": version, "time": "2024-02-29T00:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:HERE": {}}},
    }));
    object["metadata"]["managedFields"] = json!(entries);
    with(&object, "HERE", b"\xff")
}

/// A review that cannot be read is a refusal, of whoever the next writer is: a controller that scales down, or a launcher.
///
/// Held by: `operator`
#[tokio::test]
async fn a_tenant_makes_no_text_of_what_a_launcher_withdraws() {
    let world = &World::shared().await;
    let ns = &world.enforced("notext").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    lea.post(&all("Deployment", ns), &workload("Deployment", &pod("web", "triage")))
        .await
        .ok();
    let path = one("Deployment", ns, "web");
    let mut stood = world.admin.read(&path).await.expect("it is there");
    let entries = stood["metadata"]["managedFields"].take();
    // Whatever was written since.
    stood["metadata"]["resourceVersion"].take();
    let written = managed(&stood, "apps/v1", &entries);
    let sent = world.tess.bytes(Method::PUT, &path, JSON, written).await;
    assert_eq!(sent.code, 200, "{}", sent.message());
    let stands = world.admin.get(&path).await;
    let kept = &stands.body["metadata"]["managedFields"];
    assert!(kept.is_null(), "a client reads them: {kept}");
    // Nobody does more than before by it, and launchers withdraw.
    let second = json!({"spec": {"template": {"metadata": {"annotations": {"example.com/again": "1"}}}}});
    world.tess.patch(&path, &second).await.refused_by("launcher");
    assert_eq!(lea.patch(&path, &json!({"spec": {"replicas": 0}})).await.code, 200);
}

/// No list with such an object is text, and Ringfence looks at every binding before a workflow is ready.
///
/// Held by: `operator`
#[tokio::test]
async fn a_neighbours_binding_that_is_no_text_blinds_the_operator() {
    let world = &World::shared().await;
    let ns = &world.enforced("sees").await;
    let neighbour = &world.namespace("notext", &json!({})).await;
    let (_, anna) = world.person(neighbour, "admin").await;
    let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{neighbour}/rolebindings");
    let binding = json!({
        "metadata": {"name": "odd"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "somebody"}],
        "roleRef": {"kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": "view"},
    });
    let sent = anna
        .bytes(
            Method::POST,
            &path,
            JSON,
            managed(&binding, "rbac.authorization.k8s.io/v1", &json!([])),
        )
        .await;
    assert_eq!(sent.code, 201, "{}", sent.message());
    world.ready(ns, "triage", &json!({})).await;
    world.admin.delete(&format!("{path}/odd")).await;
}

/// For longer than a view may be old of which nothing is heard; and it is said which namespace is not seen.
async fn is_judged_for_long(world: &World, ns: &str, policy: &str, left_out: &str) {
    for _ in 0..20 {
        is_judged(&world.admin, ns, policy)
            .await
            .expect("it is judged all the while");
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    }
    let policy = world
        .admin
        .read(&format!("{POLICIES}/{policy}"))
        .await
        .expect("it is there");
    let enforced = condition(&policy, "Enforced").to_string();
    assert!(
        enforced.contains(left_out) && !enforced.contains("not synced"),
        "{enforced}"
    );
}

/// A NetworkPolicy with so many peers that select everything, in the API server's own encoding.
fn network_policy(name: &str, peers: usize) -> Vec<u8> {
    let peer = [field(1, &[]), field(2, &[])].concat();
    let rule = field(2, &peer).repeat(peers);
    let spec = [field(1, &[]), field(2, &rule)].concat();
    let object = [field(1, &field(1, name.as_bytes())), field(2, &spec)].concat();
    let kind = [field(1, b"networking.k8s.io/v1"), field(2, b"NetworkPolicy")].concat();
    [b"k8s\0".as_slice(), &field(1, &kind), &field(2, &object)].concat()
}

/// A field of protobuf that has a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut written = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        written.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    written.push(length as u8);
    [written, bytes.to_vec()].concat()
}
