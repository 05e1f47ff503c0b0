//! Door: what is remembered of the addresses of domains, from which a policy is made, is somebody else's to write.

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::egress_domains::{declaring, follows_what_is_declared, person_with};
use crate::objects::said;
use crate::owned::GUARD;
use crate::world::{Actor, SOON, World, all, one, workflow};

const KIND: &str = "ResolvedNames";
const KEYS: &str = "ringfence-reserved-keys";
const STATUS: &str = "ringfence-status";
const ROLE: &str = "resolved-names";

/// Rules that resolve a name of the attacker's.
fn theirs() -> Value {
    json!({"rules": [{"name": "x", "domains": ["evil.example.com"], "ports": [{"port": 443}]}]})
}

/// An address of the attacker's, as if it had been answered.
fn poison() -> Value {
    let address = json!({"address": "6.6.6.6", "ttlSeconds": 60, "lastSeen": "2026-11-27T20:00:00Z"});
    json!({"status": {"names": [{"name": "api.example.com", "ipv4": "Resolved", "ipv6": "NoAddress", "addresses": [address]}]}})
}

/// A namespace in that mode, whose class has pods reach domains by resolved addresses. Nobody answers where its DNS is.
async fn place(world: &World, mode: &str) -> String {
    let role = json!({
        "metadata": {"name": ROLE},
        "rules": [{"apiGroups": ["ringfence.dev"], "resources": ["resolvednames", "resolvednames/status"], "verbs": ["*"]}],
    });
    let answer = world
        .admin
        .post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &role)
        .await;
    assert!(matches!(answer.code, 201 | 409), "{}", answer.body);
    let spec = json!({
        "images": {"allowed": ["**"]}, "network": {"domains": ["*.example.com"]},
        "egress": {"backend": "ResolvedAddresses"},
        "cluster": {"dns": {"cidrs": ["127.0.0.1/32"]}, "clusterCIDRs": ["10.0.0.0/8"]},
    });
    let class = world.class(&spec).await;
    world
        .namespace("resolved", &json!({format!("ringfence.dev/{mode}"): class}))
        .await
}

/// Somebody with a role and every right on the kind.
async fn holder(world: &World, ns: &str, role: &str) -> Actor {
    person_with(world, ns, role, (KIND, ROLE)).await
}

/// The object, once it is there.
async fn memory(world: &World, ns: &str) -> (String, Value) {
    let path = one(KIND, ns, &owned_name(ns, "triage", "domains"));
    let found = eventually(SOON, || async { world.admin.read(&path).await }).await;
    (path, found)
}

/// What the policy opens that is made of it. The API server leaves an empty list out.
async fn opened(world: &World, ns: &str) -> String {
    let path = one("NetworkPolicy", ns, &owned_name(ns, "triage", "domains"));
    let policy = eventually(SOON, || async { world.admin.read(&path).await }).await;
    policy["spec"]["egress"].to_string()
}

/// Its names and its addresses, edited, disowned, deleted, and made beforehand for a workflow that is still to come; by whoever holds every
/// right on the kind, and by whom RBAC lets do anything.
///
/// Held by: `ringfence-owned-objects`, `ringfence-status`, `ringfence-reserved-keys`, `RBAC`
#[tokio::test]
async fn somebody_writes_what_is_remembered_of_domains() {
    let world = World::shared().await;
    let ns = &place(&world, "enforce").await;
    world.ready(ns, "triage", &declaring("api.example.com")).await;
    let (path, before) = memory(&world, ns).await;
    let status = format!("{path}/status");
    let edith = holder(&world, ns, "edit").await;
    for attacker in [&edith, &world.admin] {
        for change in [
            json!({"spec": theirs()}),
            json!({"metadata": {"ownerReferences": null}}),
            json!({"metadata": {"finalizers": ["example.com/stay"]}}),
        ] {
            attacker.patch(&path, &change).await.refused_by_guard(GUARD);
        }
        attacker.delete(&path).await.refused_by_guard(GUARD);
        attacker.delete(&all(KIND, ns)).await.refused_by_guard(GUARD);
        let early = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": KIND,
            "metadata": {"name": owned_name(ns, "tomorrow", "domains")}, "spec": theirs(), "status": poison()["status"],
        });
        attacker.post(&all(KIND, ns), &early).await.refused_by_guard(KEYS);
    }
    edith.patch(&status, &poison()).await.refused_by_guard(STATUS);
    for answer in [
        world.tess.patch(&path, &json!({"spec": theirs()})).await,
        world.tess.patch(&status, &poison()).await,
        world.tess.delete(&path).await,
    ] {
        let by_rbac = answer.message().contains("is forbidden: User \"tess\" cannot");
        assert!(answer.code == 403 && by_rbac, "{}", answer.body);
    }
    // Where nothing is fenced, it is the same.
    let plain = &world.namespace("plain", &json!({})).await;
    let holly = holder(&world, plain, "admin").await;
    let own = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": KIND, "metadata": {"name": unique("own")}, "spec": theirs(),
    });
    holly.post(&all(KIND, plain), &own).await.refused_by_guard(KEYS);
    let (_, after) = memory(&world, ns).await;
    assert_eq!(said(&after)["spec"], said(&before)["spec"]);
    assert_eq!(opened(&world, ns).await, "null");
    // Who declares changes it, through Ringfence.
    follows_what_is_declared(&world, ns, &path).await;
}

/// Where a namespace only warns no guard stands before what is resolved, so it is put back; what was answered is nobody's to write there either.
///
/// Held by: `operator`, `ringfence-status`
#[tokio::test]
async fn what_is_remembered_is_edited_where_a_namespace_only_warns() {
    let world = World::shared().await;
    let ns = &place(&world, "warn").await;
    let declared = workflow("triage", &declaring("api.example.com"));
    world.tess.post(&all("AIWorkflow", ns), &declared).await.ok();
    let (path, before) = memory(&world, ns).await;
    let edith = holder(&world, ns, "edit").await;
    edith.patch(&path, &json!({"spec": theirs()})).await.ok();
    eventually(SOON, || async {
        let now = world.admin.read(&path).await?;
        ensure!(now["spec"] == before["spec"], "{}", now["spec"]);
        Ok(())
    })
    .await;
    edith
        .patch(&format!("{path}/status"), &poison())
        .await
        .refused_by_guard(STATUS);
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
    assert_eq!(opened(&world, ns).await, "null");
}
