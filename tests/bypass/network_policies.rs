//! Door: a policy of somebody else's, which opens what no AIWorkflow declares.

use serde_json::{Value, json};
use support::{eventually, unique};

use crate::world::{Answer, SOON, World, all, one};

fn policy(spec: &Value) -> Value {
    json!({"metadata": {"name": unique("policy")}, "spec": spec})
}

#[track_caller]
fn forbidden(answer: &Answer) {
    assert_eq!(answer.code, 403, "{}", answer.body);
    assert!(!answer.message().contains("ringfence"), "by RBAC: {}", answer.message());
}

#[tokio::test]
async fn a_tenant_adds_a_network_policy_that_opens() {
    let world = World::shared().await;
    let ns = &world.enforced("added").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let (_, ada) = world.person(ns, "admin").await;
    let policies = all("NetworkPolicy", ns);
    let closed = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    let made = edith.post(&policies, &policy(&closed)).await.ok();
    let path = one("NetworkPolicy", ns, made["metadata"]["name"].as_str().unwrap());
    for open in [
        json!({"podSelector": {}, "ingress": [{}]}),
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}),
        json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "203.0.113.7/32"}}]}]}),
    ] {
        for attacker in [&edith, &ada, &world.admin] {
            attacker
                .post(&policies, &policy(&open))
                .await
                .refused_by("foreign-network-policy");
            attacker
                .patch(&path, &json!({"spec": open}))
                .await
                .refused_by("foreign-network-policy");
        }
        forbidden(&world.tess.post(&policies, &policy(&open)).await);
    }
    // Ringfence's own is the guard's business.
    let own = one("NetworkPolicy", ns, "ringfence");
    let answer = ada.patch(&own, &json!({"spec": {"ingress": [{}]}})).await;
    assert_eq!(answer.code, 403, "{}", answer.body);
    edith
        .patch(&path, &json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .ok();
    edith.delete(&path).await.ok();
    let plain = &world.namespace("plain", &json!({})).await;
    let (_, edith) = world.person(plain, "edit").await;
    edith
        .post(
            &all("NetworkPolicy", plain),
            &policy(&json!({"podSelector": {}, "ingress": [{}]})),
        )
        .await
        .ok();
}

/// As a cluster has them whose network plugin brings kinds of its own.
#[tokio::test]
async fn a_tenant_overrules_the_network_policies_by_a_kind_of_the_plugins() {
    let world = World::shared().await;
    let ns = &world.enforced("overruled").await;
    world.ready(ns, "triage", &json!({})).await;
    let plain = &world.namespace("plain", &json!({})).await;
    for (group, version, kind, plural) in [
        ("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies"),
        ("crd.projectcalico.org", "v1", "NetworkPolicy", "networkpolicies"),
    ] {
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let definition = json!({
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
                "versions": [{"name": version, "served": true, "storage": true, "schema": schema}],
            },
        });
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        world.admin.post(definitions, &definition).await.ok();
        let at = |ns: &str| format!("/apis/{group}/{version}/namespaces/{ns}/{plural}");
        let open = json!({
            "apiVersion": format!("{group}/{version}"), "kind": kind, "metadata": {"name": "open"},
            "spec": {"endpointSelector": {}, "egress": [{"toEntities": ["all"]}]},
        });
        eventually(SOON, || async { world.admin.read(&at(plain)).await }).await;
        world.admin.post(&at(plain), &open).await.ok();
        let answer = world.admin.post(&at(ns), &open).await;
        assert!(
            answer
                .refused_by("foreign-network-policy")
                .contains(&format!("a {kind} of {group} may overrule"))
        );
    }
}
