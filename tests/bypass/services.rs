//! Door: traffic into a fenced namespace, or names in it that lead out, beside its NetworkPolicies.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::world::{Answer, SOON, World};

fn services(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services")
}

fn slices(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

fn service(spec: Value) -> Value {
    let mut whole = json!({"selector": {"ringfence.dev/workflow": "triage"}, "ports": [{"port": 80}]});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    json!({"metadata": {"name": unique("service")}, "spec": whole})
}

fn slice(service: &str) -> Value {
    json!({
        "metadata": {"name": unique("slice"), "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["203.0.113.7"]}], "ports": [{"port": 80}],
    })
}

#[track_caller]
fn forbidden(answer: &Answer) {
    assert_eq!(answer.code, 403, "{}", answer.body);
    assert!(!answer.message().contains("ringfence"), "by RBAC: {}", answer.message());
}

#[tokio::test]
async fn a_tenant_opens_the_workflow_by_a_service() {
    let world = World::shared().await;
    let ns = &world.enforced("opened").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let made = world.tess.post(&services(ns), &service(json!({}))).await.ok();
    let path = format!("{}/{}", services(ns), made["metadata"]["name"].as_str().unwrap());
    for attacker in [&edith, &world.tess, &world.admin] {
        for (spec, field) in [
            (json!({"type": "NodePort"}), "spec.type = \"NodePort\""),
            (json!({"type": "LoadBalancer"}), "spec.type = \"LoadBalancer\""),
            (
                json!({"externalIPs": ["203.0.113.7"]}),
                "spec.externalIPs = \"203.0.113.7\"",
            ),
            (json!({"selector": null}), "spec.selector"),
        ] {
            let answer = attacker.post(&services(ns), &service(spec.clone())).await;
            let message = answer.refused_by("closed-service");
            assert!(message.contains(field), "{field} is missing in: {message}");
            attacker
                .patch(&path, &json!({"spec": spec}))
                .await
                .refused_by("closed-service");
        }
        let elsewhere = json!({"metadata": {"name": unique("name")}, "spec": {"type": "ExternalName", "externalName": "evil.example"}});
        attacker
            .post(&services(ns), &elsewhere)
            .await
            .refused_by("closed-service");
        let turned = json!({"spec": {"type": "ExternalName", "externalName": "evil.example", "clusterIP": null, "clusterIPs": null}});
        attacker.patch(&path, &turned).await.refused_by("closed-service");
    }
    // What a workflow needs: an address of its own, with or without one in the cluster, and changes of its ports.
    world
        .tess
        .post(&services(ns), &service(json!({"clusterIP": "None"})))
        .await
        .ok();
    world
        .tess
        .patch(&path, &json!({"spec": {"ports": [{"port": 81}]}}))
        .await
        .ok();
    let plain = &world.namespace("plain", &json!({})).await;
    world
        .tess
        .post(
            &services(plain),
            &service(json!({"type": "NodePort", "selector": null})),
        )
        .await
        .ok();
}

#[tokio::test]
async fn a_tenant_puts_an_address_of_theirs_behind_the_workflows_service() {
    let world = World::shared().await;
    let ns = &world.enforced("behind").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let made = world.tess.post(&services(ns), &service(json!({}))).await.ok();
    let name = made["metadata"]["name"].as_str().unwrap();
    // The controllers do their work.
    let of_service = format!("{}?labelSelector=kubernetes.io/service-name={name}", slices(ns));
    let written = eventually(SOON, || async {
        let found = world.admin.items(&of_service).await?;
        ensure!(found.len() == 1, "{} slices", found.len());
        Ok(found[0].clone())
    })
    .await;
    world
        .admin
        .post(&slices(ns), &slice(name))
        .await
        .refused_by("foreign-endpoints");
    forbidden(&world.tess.post(&slices(ns), &slice(name)).await);
    // Not `edit` either: Kubernetes gives it neither since 1.22.
    forbidden(&edith.post(&slices(ns), &slice(name)).await);
    let path = format!("{}/{}", slices(ns), written["metadata"]["name"].as_str().unwrap());
    let added = json!({"endpoints": [{"addresses": ["203.0.113.7"]}]});
    world.admin.patch(&path, &added).await.refused_by("foreign-endpoints");
    let endpoints = json!({"metadata": {"name": name}, "subsets": [{"addresses": [{"ip": "203.0.113.7"}], "ports": [{"port": 80}]}]});
    let answer = world
        .admin
        .patch(&format!("/api/v1/namespaces/{ns}/endpoints/{name}"), &endpoints)
        .await;
    answer.refused_by("foreign-endpoints");
}

#[tokio::test]
async fn a_tenant_goes_through_the_api_servers_proxy() {
    let world = World::shared().await;
    let ns = &world.enforced("proxied").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let made = world.tess.post(&services(ns), &service(json!({}))).await.ok();
    let path = format!("{}/{}/proxy/", services(ns), made["metadata"]["name"].as_str().unwrap());
    for attacker in [&edith, &world.admin] {
        for answer in [attacker.get(&path).await, attacker.post(&path, &json!({})).await] {
            assert!(answer.refused_by("debug-window").contains("services/proxy"));
        }
    }
    forbidden(&world.tess.get(&path).await);
}

/// What opens nothing by itself is let be: the proxy that obeys it comes as far as the AIWorkflow lets it.
#[tokio::test]
async fn an_ingress_is_let_be_and_opens_nothing() {
    let world = World::shared().await;
    let ns = &world.enforced("ingress").await;
    world.ready(ns, "triage", &json!({})).await;
    let backend = json!({"service": {"name": "triage", "port": {"number": 80}}});
    let ingress = json!({"metadata": {"name": "in"}, "spec": {"defaultBackend": backend}});
    let path = format!("/apis/networking.k8s.io/v1/namespaces/{ns}/ingresses");
    world.tess.post(&path, &ingress).await.ok();
    let deny = world
        .admin
        .read(&crate::world::one("NetworkPolicy", ns, "ringfence"))
        .await
        .unwrap();
    assert_eq!(
        (&deny["spec"]["podSelector"], deny["spec"].get("ingress")),
        (&json!({}), None),
        "{deny}"
    );
}
