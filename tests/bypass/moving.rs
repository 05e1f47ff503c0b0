//! Door: a namespace that is fenced is no longer, or one that nobody approved is said to be.
//!
//! Of the attackers here one may write every namespace, by each of its endpoints, and one is `cluster-admin` in his own: neither approves.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::attackers::{force_apply, holder};
use crate::world::{Actor, Answer, CLASSES, NAMESPACES, SOON, World, all, one, pod};

const GUARD: &str = "ringfence-modes";

/// Who may write namespaces, and nothing else.
pub async fn writer_of_namespaces(world: &World) -> Actor {
    let rules = json!([{
        "apiGroups": [""], "resources": ["namespaces", "namespaces/status", "namespaces/finalize"],
        "verbs": ["create", "delete", "get", "list", "update", "patch"],
    }]);
    holder(world, &rules).await
}

#[track_caller]
fn forbidden(answer: &Answer) {
    assert_eq!(answer.code, 403, "{}", answer.body);
    assert!(answer.message().contains(" cannot "), "by RBAC: {}", answer.message());
}

/// The namespace as it is, with these labels changed.
async fn with_labels(world: &World, path: &str, changes: &Value) -> Value {
    let mut object = world.admin.get(path).await.ok();
    for (key, value) in changes.as_object().unwrap() {
        let labels = object["metadata"]["labels"].as_object_mut().unwrap();
        match value {
            Value::Null => drop(labels.remove(key)),
            value => drop(labels.insert(key.clone(), value.clone())),
        }
    }
    object
}

/// The change of one label by every patch and every replacement that the endpoints of a namespace take.
async fn every_way(world: &World, actor: &Actor, path: &str, key: &str, value: &Value) -> Vec<(String, Answer)> {
    let change = json!({key: value});
    let merge = json!({"metadata": {"labels": change}});
    let pointer = format!("/metadata/labels/{}", key.replace('/', "~1"));
    let json_patch = match value {
        Value::Null => json!([{"op": "remove", "path": pointer}]),
        value => json!([{"op": "add", "path": pointer, "value": value}]),
    };
    let mut answers = Vec::new();
    for endpoint in ["", "/status"] {
        let at = format!("{path}{endpoint}");
        answers.push((format!("merge {endpoint}"), actor.patch(&at, &merge).await));
        answers.push((format!("strategic {endpoint}"), actor.strategic(&at, &merge).await));
        answers.push((format!("json {endpoint}"), actor.json_patch(&at, &json_patch).await));
        if !value.is_null() {
            let applied = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"labels": change}});
            answers.push((format!("apply {endpoint}"), force_apply(actor, &at, &applied).await));
        }
    }
    for endpoint in ["", "/status", "/finalize"] {
        let whole = with_labels(world, path, &change).await;
        answers.push((
            format!("put {endpoint}"),
            actor.put(&format!("{path}{endpoint}"), &whole).await,
        ));
    }
    // All labels at once.
    if value.is_null() {
        let none = json!({"metadata": {"labels": null}});
        answers.push(("no labels".to_owned(), actor.patch(path, &none).await));
    }
    answers
}

/// By `namespaces`, `/status` and `/finalize`, by every patch; taken off, emptied, or turned to a class that he does not approve.
/// Held by: `ringfence-modes`, `RBAC`
#[tokio::test]
async fn a_tenant_takes_the_fence_off_its_namespace() {
    let world = World::shared().await;
    let ns = &world.enforced("taken-off").await;
    world.ready(ns, "triage", &json!({})).await;
    let path = format!("{NAMESPACES}/{ns}");
    let nell = writer_of_namespaces(&world).await;
    let (_, owner) = world.person(ns, "cluster-admin").await;
    let key = "ringfence.dev/enforce";
    for attacker in [&nell, &owner] {
        for value in [json!(null), json!(""), json!("gold")] {
            for (how, answer) in every_way(&world, attacker, &path, key, &value).await {
                assert!(
                    answer.code == 403,
                    "{how} {value}: {} {}",
                    answer.code,
                    answer.message()
                );
                answer.refused_by_guard(GUARD);
            }
        }
    }
    let off = json!({"metadata": {"labels": {key: null}}});
    let (_, edith) = world.person(ns, "edit").await;
    let (_, ada) = world.person(ns, "admin").await;
    for attacker in [&world.tess, &edith, &ada] {
        forbidden(&attacker.patch(&path, &off).await);
        forbidden(&attacker.patch(&format!("{path}/status"), &off).await);
    }
    // Not the selector's own label either: the API server writes it.
    for (how, answer) in every_way(
        &world,
        &nell,
        &path,
        "kubernetes.io/metadata.name",
        &json!("kube-system"),
    )
    .await
    {
        assert!(
            (200..300).contains(&answer.code) || answer.code == 403,
            "{how}: {}",
            answer.message()
        );
    }
    let labels = world.admin.get(&path).await.ok()["metadata"]["labels"].clone();
    assert_eq!(labels["kubernetes.io/metadata.name"], **ns);
    assert_eq!(labels[key], "default");
    world
        .admin
        .post(&all("Pod", ns), &pod("still", "triage"))
        .await
        .refused_by("launcher");
    // What is no mode is hers to write.
    nell.patch(&path, &json!({"metadata": {"labels": {"team": "ml"}}}))
        .await
        .ok();
}

/// Made again under its name it would be open, and whoever makes accounts in it is who they were to clouds, Vault and other namespaces.
/// Held by: `ringfence-modes`, `RBAC`
#[tokio::test]
async fn a_tenant_deletes_its_namespace_and_makes_it_again() {
    let world = World::shared().await;
    let nell = writer_of_namespaces(&world).await;
    for mode in ["enforce", "warn", "audit"] {
        let label = format!("ringfence.dev/{mode}");
        let ns = &world.namespace("reborn", &json!({})).await;
        let path = format!("{NAMESPACES}/{ns}");
        let labels = json!({"owner": "ml", "classification": "internal", "pod-security.kubernetes.io/enforce": "restricted", &label: "default"});
        world
            .admin
            .patch(&path, &json!({"metadata": {"labels": labels}}))
            .await
            .ok();
        let (_, owner) = world.person(ns, "cluster-admin").await;
        for attacker in [&nell, &owner] {
            for query in ["", "?dryRun=All", "?propagationPolicy=Orphan", "?gracePeriodSeconds=0"] {
                let answer = attacker.delete(&format!("{path}{query}")).await;
                let message = answer.refused_by_guard(GUARD);
                assert!(message.contains(&format!("deleting namespace {ns}")), "{message}");
            }
        }
        let (_, ada) = world.person(ns, "admin").await;
        for attacker in [&world.tess, &ada] {
            forbidden(&attacker.delete(&path).await);
        }
        // Who approves takes it away whole, and what carries no mode is hers.
        world.admin.delete(&path).await.ok();
    }
    let plain = &world.namespace("plain", &json!({})).await;
    nell.delete(&format!("{NAMESPACES}/{plain}")).await.ok();
}

/// Set by somebody who may write namespaces: at once with the namespace, or later; by a name that the API server makes up.
/// Held by: `ringfence-modes`, `namespace-mode`
#[tokio::test]
async fn a_tenant_approves_its_own_namespace() {
    let world = World::shared().await;
    let ns = &world.namespace("approves", &json!({})).await;
    let path = format!("{NAMESPACES}/{ns}");
    let nell = writer_of_namespaces(&world).await;
    for mode in ["enforce", "warn", "audit"] {
        let key = format!("ringfence.dev/{mode}");
        for (how, answer) in every_way(&world, &nell, &path, &key, &json!("default")).await {
            assert!(
                answer.code == 403,
                "{mode}, {how}: {} {}",
                answer.code,
                answer.message()
            );
            answer.refused_by_guard(GUARD);
        }
        for metadata in [
            json!({"name": unique("made"), "labels": {&key: "default"}}),
            json!({"generateName": "made-", "labels": {&key: "default"}}),
        ] {
            nell.post(NAMESPACES, &json!({"metadata": metadata}))
                .await
                .refused_by_guard(GUARD);
        }
        // Who approves every class approves none that is not there, and never the platform's own namespaces.
        let set = |value: &str| json!({"metadata": {"labels": {&key: value}}});
        for value in ["absent", "Default"] {
            world.admin.patch(&path, &set(value)).await.refused_by("namespace-mode");
        }
        assert_eq!(world.admin.patch(&path, &set("../default")).await.code, 422);
        for exempt in [
            "kube-system",
            "kube-public",
            "kube-node-lease",
            support::RELEASE_NAMESPACE,
        ] {
            for (how, answer) in every_way(
                &world,
                &world.admin,
                &format!("{NAMESPACES}/{exempt}"),
                &key,
                &json!("default"),
            )
            .await
            {
                assert!(
                    answer.code == 403,
                    "{exempt}, {how}: {} {}",
                    answer.code,
                    answer.message()
                );
                answer.refused_by_guard(GUARD);
            }
        }
    }
    let plain = unique("plain");
    nell.post(NAMESPACES, &json!({"metadata": {"name": plain}})).await.ok();
}

/// The platform hands out one class, and somebody who approves that one moves a namespace in and out of it alone.
/// Legitimate: who holds `approve` on one class, and may write namespaces, sets and removes that class.
#[tokio::test]
async fn who_approves_a_class_moves_namespaces_in_and_out_of_it() {
    let world = World::shared().await;
    let class = world.class(&json!({"images": {"allowed": ["**"]}})).await;
    let rules = json!([
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "patch"]},
        {"apiGroups": ["ringfence.dev"], "resources": ["aiworkflowclasses"], "resourceNames": [class], "verbs": ["approve"]},
    ]);
    let amy = holder(&world, &rules).await;
    let ns = &world.namespace("one-class", &json!({})).await;
    let path = format!("{NAMESPACES}/{ns}");
    let set = |class: Value| json!({"metadata": {"labels": {"ringfence.dev/enforce": class}}});
    amy.patch(&path, &set(json!("default"))).await.refused_by_guard(GUARD);
    amy.patch(&path, &set(json!(class))).await.ok();
    world.ready(ns, "triage", &json!({})).await;
    amy.patch(&path, &set(json!("default"))).await.refused_by_guard(GUARD);
    amy.patch(&path, &set(Value::Null)).await.ok();
}

/// While it is enforced, a namespace stays what it had to be.
/// Held by: `namespace-baseline`, `pod-security`, `namespace-mode`
#[tokio::test]
async fn a_namespace_sheds_what_it_had_to_be_to_be_fenced() {
    let world = World::shared().await;
    let ns = &world.enforced("sheds").await;
    let path = format!("{NAMESPACES}/{ns}");
    let absent = json!({"metadata": {"labels": {"ringfence.dev/warn": "absent"}}});
    world.admin.patch(&path, &absent).await.refused_by("namespace-mode");
    for (label, rule) in [
        ("owner", "namespace-baseline"),
        ("pod-security.kubernetes.io/enforce", "pod-security"),
    ] {
        for endpoint in ["", "/status"] {
            let without = json!({"metadata": {"labels": {label: null}}});
            let at = format!("{path}{endpoint}");
            world.admin.patch(&at, &without).await.refused_by(rule);
        }
        let without = with_labels(&world, &path, &json!({label: null})).await;
        world
            .admin
            .put(&format!("{path}/finalize"), &without)
            .await
            .refused_by(rule);
    }
    // Nor beside a weaker mode that goes, which may be anybody's who approves that one's class.
    let both = json!({"metadata": {"labels": {"ringfence.dev/audit": "default"}}});
    world.admin.patch(&path, &both).await.ok();
    for (label, rule) in [
        ("owner", "namespace-baseline"),
        ("pod-security.kubernetes.io/enforce", "pod-security"),
    ] {
        let without = json!({"metadata": {"labels": {"ringfence.dev/audit": null, label: null}}});
        world.admin.patch(&path, &without).await.refused_by(rule);
    }
    let weaker = json!({"metadata": {"labels": {"ringfence.dev/audit": null}}});
    world.admin.patch(&path, &weaker).await.ok();
    let bare = json!({"metadata": {"name": unique("bare"), "labels": {"ringfence.dev/enforce": "default"}}});
    let answer = world.admin.post(NAMESPACES, &bare).await;
    let message = answer.refused_by("namespace-baseline");
    assert!(
        message.contains("owner") && message.contains("pod-security.kubernetes.io/enforce"),
        "{message}"
    );
    world
        .admin
        .patch(&path, &json!({"metadata": {"labels": {"owner": "another"}}}))
        .await
        .ok();
}

/// Our kinds that are the platform's, by whoever is not; the whole collection at once as well.
/// Held by: `RBAC`
#[tokio::test]
async fn a_tenant_writes_what_is_the_platforms() {
    let world = World::shared().await;
    let ns = &world.enforced("platforms").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let (_, ada) = world.person(ns, "admin").await;
    let (_, owner) = world.person(ns, "cluster-admin").await;
    let policies = "/apis/ringfence.dev/v1alpha1/regopolicies";
    let registrations = "/apis/admissionregistration.k8s.io/v1";
    let class = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "mine"}, "spec": {}});
    for attacker in [&world.tess, &edith, &ada, &owner] {
        forbidden(&attacker.post(CLASSES, &class).await);
        forbidden(
            &attacker
                .patch(
                    &format!("{CLASSES}/default"),
                    &json!({"spec": {"images": {"allowed": ["**"]}}}),
                )
                .await,
        );
        for path in [
            CLASSES.to_owned(),
            format!("{CLASSES}/default"),
            policies.to_owned(),
            format!("{registrations}/validatingwebhookconfigurations/ringfence"),
            format!("{registrations}/validatingadmissionpolicies/ringfence-modes"),
            format!("{registrations}/validatingadmissionpolicybindings/ringfence-modes"),
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/aiworkflows.ringfence.dev".to_owned(),
        ] {
            forbidden(&attacker.delete(&path).await);
        }
    }
    let exceptions = all("RegoPolicyException", ns);
    for attacker in [&world.tess, &edith, &ada] {
        forbidden(&attacker.delete(&exceptions).await);
        forbidden(
            &attacker
                .patch(
                    &format!("{}/status", one("AIWorkflow", ns, "triage")),
                    &json!({"status": {}}),
                )
                .await,
        );
    }
    // Her own declaration she changes and ends as ever, all of them at once too.
    world.tess.delete(&all("AIWorkflow", ns)).await.ok();
    world.admin.gone(&one("ServiceAccount", ns, "triage")).await;
}

/// Who may write APIServices and does not approve: has a server of his answer for our kinds, and whatever it says is read.
/// Held by: `ringfence-definitions`
#[tokio::test]
async fn another_server_answers_for_our_kinds() {
    const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
    const GUARD: &str = "ringfence-definitions";
    let world = World::shared().await;
    let rules = json!([{"apiGroups": ["apiregistration.k8s.io"], "resources": ["apiservices"], "verbs": ["*"]}]);
    let ines = holder(&world, &rules).await;
    let path = format!("{SERVICES}/v1alpha1.ringfence.dev");
    let spec = |group: &str, version: &str| {
        json!({
            "group": group, "version": version, "groupPriorityMinimum": 1000, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "evil", "port": 443},
        })
    };
    let taken = json!({"metadata": {"labels": {"kube-aggregator.kubernetes.io/automanaged": null}}, "spec": spec("ringfence.dev", "v1alpha1")});
    ines.patch(&path, &taken).await.refused_by_guard(GUARD);
    ines.delete(&path).await.refused_by_guard(GUARD);
    let newer = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v2.ringfence.dev"}, "spec": spec("ringfence.dev", "v2"),
    });
    ines.post(SERVICES, &newer).await.refused_by_guard(GUARD);
    let group = format!("{}.example.com", unique("other"));
    let name = format!("v1.{group}");
    let other = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": name}, "spec": spec(&group, "v1"),
    });
    ines.post(SERVICES, &other).await.ok();
    ines.delete(&format!("{SERVICES}/{name}")).await.ok();
    world.admin.get(CLASSES).await.ok();
}

/// Who may write definitions and does not approve: deletes one, serves another version of it, has objects converted by a webhook of
/// his, or takes the status apart from the rest.
/// Held by: `ringfence-definitions`
#[tokio::test]
async fn an_installer_of_other_products_changes_our_definitions() {
    const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    const GUARD: &str = "ringfence-definitions";
    let world = World::shared().await;
    let rules = json!([{"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions", "customresourcedefinitions/status"], "verbs": ["*"]}]);
    let ines = holder(&world, &rules).await;
    let path = format!("{DEFINITIONS}/aiworkflows.ringfence.dev");
    let webhook = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://mallory.example.com/convert"},
    }});
    let definition = world.admin.get(&path).await.ok();
    let mut newer = definition["spec"]["versions"][0].clone();
    newer["name"] = json!("v1");
    newer["storage"] = json!(false);
    for change in [
        json!([{"op": "add", "path": "/spec/versions/-", "value": newer}]),
        json!([{"op": "replace", "path": "/spec/conversion", "value": webhook}]),
        json!([{"op": "remove", "path": "/spec/versions/0/subresources"}]),
        json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]),
    ] {
        ines.json_patch(&path, &change).await.refused_by_guard(GUARD);
    }
    // By its status the API server knows whether it serves the kind, and by which names.
    let mut status = world.admin.get(&path).await.ok();
    for condition in status["status"]["conditions"].as_array_mut().expect("conditions") {
        condition["status"] = json!("False");
    }
    ines.put(&format!("{path}/status"), &status)
        .await
        .refused_by_guard(GUARD);
    for change in [
        json!([{"op": "replace", "path": "/status/conditions/0/status", "value": "False"}]),
        json!([{"op": "replace", "path": "/status/conditions/1/status", "value": "False"}]),
        json!([{"op": "replace", "path": "/status/conditions", "value": []}]),
        json!([{"op": "add", "path": "/status/conditions/-", "value": {"type": "Terminating", "status": "True"}}]),
        json!([{"op": "replace", "path": "/status/acceptedNames/plural", "value": "others"}]),
    ] {
        let answer = ines.json_patch(&format!("{path}/status"), &change).await;
        answer.refused_by_guard(GUARD);
    }
    assert_eq!(world.admin.get(&all("AIWorkflow", "default")).await.code, 200);
    // The API server itself says that a new kind is served.
    let mut new = json!({"metadata": {"name": "probes.ringfence.dev"}, "spec": definition["spec"]});
    new["spec"]["names"] = json!({"plural": "probes", "singular": "probe", "kind": "Probe", "listKind": "ProbeList"});
    world.admin.post(DEFINITIONS, &new).await.ok();
    let probes = format!("{DEFINITIONS}/probes.ringfence.dev");
    eventually(SOON, || async {
        let status = world.admin.read(&probes).await?["status"].clone();
        let is_served = status["conditions"].as_array().is_some_and(|conditions| {
            conditions
                .iter()
                .any(|said| said["type"] == "Established" && said["status"] == "True")
        });
        ensure!(is_served, "{status}");
        Ok(())
    })
    .await;
    world.admin.delete(&probes).await.ok();
    ines.delete(&path).await.refused_by_guard(GUARD);
    let ours = format!("{DEFINITIONS}?fieldSelector=metadata.name%3Daiworkflows.ringfence.dev");
    ines.delete(&ours).await.refused_by_guard(GUARD);
    let note = json!({"metadata": {"annotations": {"note": "x"}}});
    ines.patch(&path, &note).await.ok();
    eventually(SOON, || async {
        let answer = ines
            .patch(&path, &json!({"metadata": {"annotations": {"note": null}}}))
            .await;
        ensure!(answer.code == 200, "{}", answer.message());
        Ok(())
    })
    .await;
}
