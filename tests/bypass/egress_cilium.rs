//! Door: the policy of Cilium's that opens the way to domains, and the DNS for their names alone, is somebody else's to write.

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::attackers::{force_apply, scan_report, told};
use crate::egress_domains::{declaring, follows_what_is_declared, person_with};
use crate::objects::{cilium_definition, said};
use crate::owned::GUARD;
use crate::world::{Actor, CLASSES, NAMESPACES, SOON, World, all, condition, one, workflow};

const KIND: &str = "CiliumNetworkPolicy";
const KEYS: &str = "ringfence-reserved-keys";
const ROLE: &str = "cilium-policies";

/// A policy that opens the DNS for every name, beside whatever else does, and all of the world.
fn open() -> Value {
    let ports = json!([{"ports": [{"port": "53", "protocol": "ANY"}]}]);
    json!({"endpointSelector": {}, "egress": [{"toEndpoints": [{}], "toPorts": ports}, {"toEntities": ["world"]}]})
}

/// A namespace in that mode, whose class has pods reach what lies below example.com by Cilium.
async fn place(world: &World, mode: &str) -> (String, String) {
    define(world).await;
    let spec = json!({
        "images": {"allowed": ["**"]}, "network": {"domains": ["*.example.com"]}, "egress": {"backend": "Cilium"},
    });
    let class = world.class(&spec).await;
    let ns = world
        .namespace("cilium", &json!({format!("ringfence.dev/{mode}"): class}))
        .await;
    (ns, class)
}

/// As a cluster has it whose network plugin is Cilium, and whose platform lets editors write its policies.
async fn define(world: &World) {
    let role = json!({
        "metadata": {"name": ROLE},
        "rules": [{"apiGroups": ["cilium.io"], "resources": ["ciliumnetworkpolicies", "ciliumnetworkpolicies/status"], "verbs": ["*"]}],
    });
    for (path, object) in [
        (
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            &cilium_definition(),
        ),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role),
    ] {
        let answer = world.admin.post(path, object).await;
        assert!(matches!(answer.code, 201 | 409), "{}", answer.body);
    }
}

/// Somebody with a role and every right on the kind.
async fn holder(world: &World, ns: &str, role: &str) -> Actor {
    person_with(world, ns, role, (KIND, ROLE)).await
}

/// The policy, once it is there.
async fn way(world: &World, ns: &str) -> (String, Value) {
    let path = one(KIND, ns, &owned_name(ns, "triage", "domains"));
    let way = eventually(SOON, || async { world.admin.read(&path).await }).await;
    (path, way)
}

/// Edited, emptied, disowned, replaced, deleted by itself and with all others; by whoever holds every right on the kind.
///
/// Held by: `ringfence-owned-objects`, `RBAC`
#[tokio::test]
async fn somebody_changes_or_deletes_what_opens_the_way_to_domains_by_cilium() {
    let world = World::shared().await;
    let (ns, _) = &place(&world, "enforce").await;
    world.ready(ns, "triage", &declaring("api.example.com")).await;
    let (path, before) = way(&world, ns).await;
    let edith = holder(&world, ns, "edit").await;
    let ada = holder(&world, ns, "admin").await;
    let any_name =
        json!([{"op": "replace", "path": "/spec/egress/0/toPorts/0/rules/dns", "value": [{"matchPattern": "*"}]}]);
    let no_names = json!([{"op": "remove", "path": "/spec/egress/0/toPorts/0/rules"}]);
    for attacker in [&edith, &ada, &world.admin] {
        for change in [
            json!({"spec": open()}),
            json!({"spec": {"egressDeny": null}}),
            json!({"spec": {"endpointSelector": {"matchLabels": {"k8s:app": "other"}}}}),
            json!({"specs": [open()]}),
            json!({"metadata": {"ownerReferences": null}}),
            json!({"metadata": {"finalizers": ["example.com/stay"]}}),
        ] {
            attacker.patch(&path, &change).await.refused_by_guard(GUARD);
        }
        for change in [&any_name, &no_names] {
            attacker.json_patch(&path, change).await.refused_by_guard(GUARD);
        }
        let mut put = before.clone();
        put["spec"] = open();
        attacker.put(&path, &put).await.refused_by_guard(GUARD);
        let applied = json!({"apiVersion": "cilium.io/v2", "kind": KIND, "spec": {"egress": open()["egress"]}});
        force_apply(attacker, &path, &applied).await.refused_by_guard(GUARD);
        attacker.delete(&path).await.refused_by_guard(GUARD);
        attacker.delete(&all(KIND, ns)).await.refused_by_guard(GUARD);
        // Of people without the verb approve another guard may speak first.
        let disowned = json!({"metadata": {"annotations": {"ringfence.dev/owner-uid": null}}});
        let answer = attacker.patch(&path, &disowned).await;
        let by_keys = answer.message().contains(&format!("'{KEYS}'"));
        answer.refused_by_guard(if by_keys { KEYS } else { GUARD });
    }
    for answer in [
        world.tess.patch(&path, &json!({"spec": open()})).await,
        world.tess.delete(&path).await,
        world
            .tess
            .post(
                &all(KIND, ns),
                &json!({"apiVersion": "cilium.io/v2", "kind": KIND, "metadata": {"name": "x"}}),
            )
            .await,
    ] {
        let by_rbac = answer.message().contains("is forbidden: User \"tess\" cannot");
        assert!(answer.code == 403 && by_rbac, "{}", answer.body);
    }
    let after = world.admin.read(&path).await.unwrap();
    assert_eq!(said(&after), said(&before));
    // Who declares changes it, through Ringfence.
    follows_what_is_declared(&world, ns, &path).await;
}

/// Policies add up: one that opens the DNS without a look at names has Cilium look at none. Her own, a copy of Ringfence's, and that of a
/// workflow that is still to come.
///
/// Held by: `foreign-network-policy`, `ringfence-reserved-keys`
#[tokio::test]
async fn a_tenant_opens_the_dns_beside_what_cilium_opens() {
    let world = World::shared().await;
    let (ns, _) = &place(&world, "enforce").await;
    world.ready(ns, "triage", &declaring("api.example.com")).await;
    let (_, made) = way(&world, ns).await;
    let edith = holder(&world, ns, "edit").await;
    let policies = all(KIND, ns);
    let own =
        |name: &str| json!({"apiVersion": "cilium.io/v2", "kind": KIND, "metadata": {"name": name}, "spec": open()});
    for name in [unique("open"), owned_name(ns, "tomorrow", "domains")] {
        for attacker in [&edith, &world.admin] {
            attacker
                .post(&policies, &own(&name))
                .await
                .refused_by("foreign-network-policy");
        }
    }
    let mut copy = said(&made);
    copy["metadata"]["name"] = json!(owned_name(ns, "tomorrow", "domains"));
    edith.post(&policies, &copy).await.refused_by_guard(KEYS);
    // What is there and Ringfence's own is nobody's finding, and elsewhere the policies are hers.
    let found = told(&scan_report(&world, &["--namespace", ns]).await);
    assert_eq!(found, Vec::<String>::new());
    let plain = &world.namespace("plain", &json!({})).await;
    let edith = holder(&world, plain, "edit").await;
    copy["metadata"]["namespace"] = json!(plain);
    edith.post(&all(KIND, plain), &copy).await.refused_by_guard(KEYS);
    edith.post(&all(KIND, plain), &own("own")).await.ok();
}

/// From the time before the fence: a name is free until something stands under it. Nothing of it becomes Ringfence's, and both the workflow and
/// the scan say whose it is not.
///
/// Held by: `operator`, `scan`
#[tokio::test]
async fn a_policy_of_ciliums_takes_the_name_of_the_way_to_domains() {
    let world = World::shared().await;
    let (ns, class) = &place(&world, "warn").await;
    let edith = holder(&world, ns, "edit").await;
    let name = owned_name(ns, "triage", "domains");
    let squatting = json!({"apiVersion": "cilium.io/v2", "kind": KIND, "metadata": {"name": name}, "spec": open()});
    edith.post(&all(KIND, ns), &squatting).await.ok();
    world
        .tess
        .post(
            &all("AIWorkflow", ns),
            &workflow("triage", &declaring("api.example.com")),
        )
        .await
        .ok();
    let held = world.condition(ns, "triage", "Programmed", "False", "NameTaken").await;
    let message = condition(&held, "Programmed")["message"].to_string();
    assert!(message.contains(KIND) && message.contains(&name), "{message}");
    let enforce = json!({"metadata": {"labels": {"ringfence.dev/enforce": class}}});
    world.admin.patch(&format!("{NAMESPACES}/{ns}"), &enforce).await.ok();
    let found = told(&scan_report(&world, &["--namespace", ns]).await);
    assert!(
        found.contains(&format!("foreign-network-policy {KIND}/{name}")),
        "{found:?}"
    );
    edith.delete(&one(KIND, ns, &name)).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    let (_, way) = way(&world, ns).await;
    assert_ne!(way["spec"], squatting["spec"]);
}

/// Where a namespace only warns nothing stands before it, so it is put back; and what is written through its status is no policy.
///
/// Held by: `operator`
#[tokio::test]
async fn the_way_by_cilium_is_edited_where_a_namespace_only_warns() {
    let world = World::shared().await;
    let (ns, _) = &place(&world, "warn").await;
    world
        .tess
        .post(
            &all("AIWorkflow", ns),
            &workflow("triage", &declaring("api.example.com")),
        )
        .await
        .ok();
    let (path, before) = way(&world, ns).await;
    let edith = holder(&world, ns, "edit").await;
    for change in [json!({"spec": open()}), json!({"spec": {"egressDeny": null}})] {
        edith.patch(&path, &change).await.ok();
        eventually(SOON, || async {
            let now = world.admin.read(&path).await?;
            ensure!(now["spec"] == before["spec"], "{}", now["spec"]);
            Ok(())
        })
        .await;
    }
    edith.delete(&path).await.ok();
    eventually(SOON, || async {
        let now = world.admin.read(&path).await?;
        ensure!(
            now["spec"] == before["spec"] && now["metadata"]["uid"] != before["metadata"]["uid"],
            "{now}"
        );
        Ok(())
    })
    .await;
    let status = json!({"status": {"conditions": [{"type": "Valid", "status": "True"}]}, "spec": open()});
    edith.patch(&format!("{path}/status"), &status).await.ok();
    assert_eq!(world.admin.read(&path).await.unwrap()["spec"], before["spec"]);
}

/// The owner withdraws what she declared, the platform has pods go by the egress proxy, and a workflow goes.
///
/// Legitimate: the policy goes with what it was made for.
#[tokio::test]
async fn the_way_by_cilium_goes_with_what_it_was_made_for() {
    let world = World::shared().await;
    let (ns, class) = &place(&world, "enforce").await;
    world.ready(ns, "triage", &declaring("api.example.com")).await;
    let (path, _) = way(&world, ns).await;
    let aiw = one("AIWorkflow", ns, "triage");
    world.tess.patch(&aiw, &json!({"spec": {"network": null}})).await.ok();
    world.admin.gone(&path).await;
    world
        .tess
        .patch(&aiw, &json!({"spec": declaring("api.example.com")}))
        .await
        .ok();
    way(&world, ns).await;
    let proxy = json!({"spec": {"egress": {"backend": "Proxy"}}});
    world.admin.patch(&format!("{CLASSES}/{class}"), &proxy).await.ok();
    world.admin.gone(&path).await;
    let by_proxy = one("NetworkPolicy", ns, &owned_name(ns, "triage", "domains"));
    eventually(SOON, || async { world.admin.read(&by_proxy).await }).await;
    let cilium = json!({"spec": {"egress": {"backend": "Cilium"}}});
    world.admin.patch(&format!("{CLASSES}/{class}"), &cilium).await.ok();
    way(&world, ns).await;
    world.admin.gone(&by_proxy).await;
    world.tess.delete(&aiw).await.ok();
    world.admin.gone(&path).await;
}
