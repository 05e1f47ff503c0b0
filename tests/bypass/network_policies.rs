//! Door: a policy of somebody else's, which opens what no AIWorkflow declares.

use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::attackers::{forbidden, scan_report, told};
use crate::objects::cilium_definition;
use crate::world::{SOON, World, all, one};

fn policy(spec: &Value) -> Value {
    json!({"metadata": {"name": unique("policy")}, "spec": spec})
}

/// Held by: `foreign-network-policy`, `RBAC`
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

/// As a cluster has them whose network plugin brings kinds of its own. One from before the fence stands, and the scan tells of it.
///
/// Held by: `foreign-network-policy`, `operator`
#[tokio::test]
async fn a_tenant_overrules_the_network_policies_by_a_kind_of_the_plugins() {
    let world = World::shared().await;
    let ns = &world.enforced("overruled").await;
    world.ready(ns, "triage", &json!({})).await;
    let plain = &world.namespace("plain", &json!({})).await;
    for (group, version, kind, plural) in [
        ("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies"),
        ("crd.projectcalico.org", "v1", "NetworkPolicy", "networkpolicies"),
        ("crd.nsx.vmware.com", "v1alpha1", "SecurityPolicy", "securitypolicies"),
        (
            "vpcresources.k8s.aws",
            "v1beta1",
            "SecurityGroupPolicy",
            "securitygrouppolicies",
        ),
    ] {
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let any = json!({
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
                "versions": [{"name": version, "served": true, "storage": true, "schema": schema}],
            },
        });
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        // That of Cilium's is another test's too.
        let definition = if group == "cilium.io" { cilium_definition() } else { any };
        let answer = world.admin.post(definitions, &definition).await;
        assert!(matches!(answer.code, 201 | 409), "{}", answer.body);
        let before = &world.namespace("before", &json!({})).await;
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
        world.admin.post(&at(before), &open).await.ok();
        world.enforce(before).await;
        world.ready(before, "triage", &json!({})).await;
        let found = scanned(&world, &["--namespace", before]).await;
        assert_eq!(found, [format!("foreign-network-policy {kind}/open")]);
        let one = format!("{}/open", at(before));
        let wider = json!({"spec": {"ingress": [{}]}});
        world
            .admin
            .patch(&one, &wider)
            .await
            .refused_by("foreign-network-policy");
        world.admin.delete(&one).await.ok();
    }
}

/// `rule Kind/name`, of what a scan finds.
async fn scanned(world: &World, arguments: &[&str]) -> Vec<String> {
    told(&scan_report(world, arguments).await)
}

/// Policies of the whole cluster may overrule every fence, and nobody writes them but who administers the cluster: the platform needs them
/// for its own. The scan tells of each.
///
/// Out of scope: cluster-scoped policies are the platform's own; RBAC of the cluster holds them, and `ringfence scan` names them.
#[tokio::test]
async fn the_platform_overrules_every_fence_by_a_policy_of_the_cluster() {
    let world = World::shared().await;
    let ns = &world.enforced("whole").await;
    let (_, edith) = world.person(ns, "edit").await;
    let (_, ada) = world.person(ns, "admin").await;
    let definition = json!({
        "metadata": {
            "name": "adminnetworkpolicies.policy.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": "policy.networking.k8s.io", "scope": "Cluster",
            "names": {"kind": "AdminNetworkPolicy", "plural": "adminnetworkpolicies"},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {
                "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            }}],
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    world.admin.post(definitions, &definition).await.ok();
    let path = "/apis/policy.networking.k8s.io/v1alpha1/adminnetworkpolicies";
    eventually(SOON, || async { world.admin.read(path).await }).await;
    let name = unique("open");
    let open = json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": {"name": name},
        "spec": {"priority": 1, "subject": {"namespaces": {}}, "ingress": [{"action": "Allow", "from": [{"namespaces": {}}]}]},
    });
    for attacker in [&world.tess, &edith, &ada] {
        forbidden(&attacker.post(path, &open).await);
    }
    world.admin.post(path, &open).await.ok();
    let told = format!("foreign-network-policy AdminNetworkPolicy/{name}");
    let found = scanned(&world, &[]).await;
    assert!(found.contains(&told), "{told} is not among {found:?}");
    world.admin.delete(&format!("{path}/{name}")).await.ok();
}

/// Edited, emptied, extended, taken over, deleted: whoever it is. Under warn it is put back, which tests/cluster/drift.rs shows.
///
/// Held by: `ringfence-owned-objects`, `RBAC`
#[tokio::test]
async fn ringfences_own_policies_are_changed_or_deleted() {
    let world = World::shared().await;
    let ns = &world.enforced("owned").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let (_, ada) = world.person(ns, "admin").await;
    let allow = owned_name(ns, "triage", "allow");
    for name in ["ringfence", allow.as_str()] {
        let path = one("NetworkPolicy", ns, name);
        let before = world.admin.read(&path).await.unwrap();
        let mut taken = before.clone();
        taken["metadata"]["annotations"] = json!({});
        taken["metadata"]["ownerReferences"] = json!([]);
        taken["metadata"]["labels"] = json!({});
        taken["spec"] =
            json!({"podSelector": {}, "ingress": [{}], "egress": [{}], "policyTypes": ["Ingress", "Egress"]});
        for attacker in [&edith, &ada, &world.admin] {
            for change in [
                json!({"spec": {"ingress": [{}]}}),
                json!({"spec": {"egress": [{}]}}),
                json!({"spec": {"podSelector": {"matchLabels": {"nobody": "here"}}}}),
                json!({"spec": {"policyTypes": ["Ingress"], "egress": null}}),
                json!({"metadata": {"ownerReferences": null}, "spec": {"ingress": [{}]}}),
            ] {
                attacker
                    .patch(&path, &change)
                    .await
                    .refused_by_guard("ringfence-owned-objects");
            }
            attacker.delete(&path).await.refused_by_guard("ringfence-owned-objects");
        }
        let freed = json!({"metadata": {"annotations": {"ringfence.dev/owner-uid": null}}});
        world
            .admin
            .put(&path, &taken)
            .await
            .refused_by_guard("ringfence-owned-objects");
        world
            .admin
            .patch(&path, &freed)
            .await
            .refused_by_guard("ringfence-owned-objects");
        // Of people without the verb approve another guard may speak first.
        for attacker in [&edith, &ada] {
            for answer in [attacker.put(&path, &taken).await, attacker.patch(&path, &freed).await] {
                let is_named = |guard: &&str| {
                    answer
                        .message()
                        .contains(&format!("ValidatingAdmissionPolicy '{guard}'"))
                };
                let found = ["ringfence-owned-objects", "ringfence-reserved-keys"]
                    .iter()
                    .find(|guard| is_named(guard));
                answer.refused_by_guard(found.unwrap_or(&"ringfence-owned-objects"));
            }
        }
        for answer in [
            world.tess.patch(&path, &json!({"spec": {"ingress": [{}]}})).await,
            world.tess.delete(&path).await,
        ] {
            let by_rbac = answer.message().contains("is forbidden: User \"tess\" cannot");
            assert!(answer.code == 403 && by_rbac, "{}", answer.body);
        }
        let after = world.admin.read(&path).await.unwrap();
        assert_eq!(
            (&after["spec"], &after["metadata"]["uid"]),
            (&before["spec"], &before["metadata"]["uid"])
        );
    }
    let all_of_them = all("NetworkPolicy", ns);
    let answer = ada.delete(&all_of_them).await;
    answer.refused_by_guard("ringfence-owned-objects");
    // Made again by somebody: refused like any other that opens.
    let again = json!({"metadata": {"name": owned_name(ns, "tomorrow", "allow")}, "spec": {"podSelector": {}, "ingress": [{}]}});
    edith
        .post(&all_of_them, &again)
        .await
        .refused_by("foreign-network-policy");
    // Who declares changes them, through Ringfence.
    let declared = json!({"spec": {"network": {"egress": [{"name": "own", "to": {"pods": {"selector": {"matchLabels": {"app": "x"}}}}, "ports": [{"port": 80}]}]}}});
    world.tess.patch(&one("AIWorkflow", ns, "triage"), &declared).await.ok();
    let path = one("NetworkPolicy", ns, &allow);
    eventually(SOON, || async {
        let now = world.admin.read(&path).await?;
        anyhow::ensure!(now["spec"]["egress"].to_string().contains("\"x\""), "{}", now["spec"]);
        Ok(())
    })
    .await;
}

/// The account is there from the time of warn; what the fence rests on is not.
///
/// Held by: `default-deny`, `operator`
#[tokio::test]
async fn a_policy_of_somebody_elses_takes_the_place_of_the_default_deny() {
    let world = World::shared().await;
    let ns = &world
        .namespace("taken", &json!({"ringfence.dev/warn": "default"}))
        .await;
    let (_, ada) = world.person(ns, "admin").await;
    let open = json!({"metadata": {"name": "ringfence"}, "spec": {"podSelector": {}, "ingress": [{}]}});
    ada.post(&all("NetworkPolicy", ns), &open).await.ok();
    world
        .tess
        .post(&all("AIWorkflow", ns), &crate::world::workflow("triage", &json!({})))
        .await
        .ok();
    world.condition(ns, "triage", "Ready", "False", "NotEnforced").await;
    world.enforce(ns).await;
    let held = world.condition(ns, "triage", "Ready", "False", "NameTaken").await;
    let message = crate::world::condition(&held, "Programmed")["message"].to_string();
    assert!(message.contains("NetworkPolicy ringfence"), "{message}");
    let lea = world.master("lea", &[]).await;
    let pod = crate::world::pod("early", "triage");
    let answer = lea.post(&all("Pod", ns), &pod).await;
    answer.refused_by("default-deny");
    // Once it is gone, the fence stands.
    world.admin.delete(&one("NetworkPolicy", ns, "ringfence")).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    let deny = world.admin.get(&one("NetworkPolicy", ns, "ringfence")).await.ok();
    assert_eq!(deny["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    lea.post(&all("Pod", ns), &pod).await.ok();
}
