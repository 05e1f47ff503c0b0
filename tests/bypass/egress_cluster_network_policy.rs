//! Door: the ClusterNetworkPolicy that opens the way to domains goes before every NetworkPolicy, and is somebody else's to write.

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::attackers::{force_apply, holder, scan_report, told};
use crate::egress_domains::{declaring, follows_what_is_declared};
use crate::objects::{CLUSTER_POLICIES, cluster_policy, cluster_policy_definition, said};
use crate::world::{SOON, World, all, one, unasked};

const GUARD: &str = "ringfence-cluster-network-policies";
const KEYS: &str = "ringfence-reserved-keys";
const OWN: &str = "ringfence-own-cluster-network-policies";

/// A namespace whose class has pods reach what lies below example.com by a ClusterNetworkPolicy, a workflow in it, and its policy.
async fn place(world: &World) -> (String, String, Value) {
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let answer = world.admin.post(definitions, &cluster_policy_definition()).await;
    assert!(matches!(answer.code, 201 | 409), "{}", answer.body);
    let spec = json!({
        "images": {"allowed": ["**"]}, "network": {"domains": ["*.example.com"]},
        "egress": {"backend": "ClusterNetworkPolicy", "clusterNetworkPolicy": {"priority": 500}},
    });
    let class = world.class(&spec).await;
    let ns = world.namespace("whole", &json!({"ringfence.dev/enforce": class})).await;
    world.ready(&ns, "triage", &declaring("api.example.com")).await;
    let path = cluster_policy(&ns, "triage");
    let way = eventually(SOON, || async { world.admin.read(&path).await }).await;
    (ns, path, way)
}

/// Everything, for everybody.
fn open() -> Value {
    json!({
        "tier": "Admin", "priority": 0, "subject": {"namespaces": {}, "pods": null},
        "egress": [{"action": "Accept", "to": [{"networks": ["0.0.0.0/0"]}]}],
    })
}

/// Edited, emptied, disowned, replaced, taken over and deleted, also by whoever holds every right on the kind, as network engineers do.
///
/// Held by: `ringfence-cluster-network-policies`, `RBAC`
#[tokio::test]
async fn somebody_changes_or_deletes_what_accepts_domains_before_every_policy() {
    let world = World::shared().await;
    let (ns, path, before) = place(&world).await;
    let rights =
        json!([{"apiGroups": ["policy.networking.k8s.io"], "resources": ["clusternetworkpolicies"], "verbs": ["*"]}]);
    let nell = holder(&world, &rights).await;
    for change in [
        json!({"spec": open()}),
        json!({"spec": {"priority": 0}}),
        json!({"spec": {"egress": []}}),
        json!({"metadata": {"ownerReferences": null}}),
        json!({"metadata": {"finalizers": ["example.com/stay"]}}),
    ] {
        for attacker in [&nell, &world.admin] {
            attacker.patch(&path, &change).await.refused_by_guard(GUARD);
        }
    }
    let mut put = before.clone();
    put["spec"] = open();
    nell.put(&path, &put).await.refused_by_guard(GUARD);
    let applied = json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "spec": {"egress": open()["egress"]}});
    force_apply(&nell, &path, &applied).await.refused_by_guard(GUARD);
    nell.delete(&path).await.refused_by_guard(GUARD);
    // With others, but not those of tests beside this one.
    let all = format!("{CLUSTER_POLICIES}?labelSelector=ringfence.dev%2Fowner");
    nell.delete(&all).await.refused_by_guard(GUARD);
    let disowned = json!({"metadata": {"annotations": {"ringfence.dev/owner-uid": null}}});
    let answer = nell.patch(&path, &disowned).await;
    let by_keys = answer.message().contains(&format!("'{KEYS}'"));
    answer.refused_by_guard(if by_keys { KEYS } else { GUARD });
    let (_, edith) = world.person(&ns, "edit").await;
    for attacker in [&world.tess, &edith] {
        for answer in [
            attacker.patch(&path, &json!({"spec": open()})).await,
            attacker.delete(&path).await,
            attacker.post(CLUSTER_POLICIES, &before).await,
        ] {
            let by_rbac = answer.message().contains("is forbidden: User ");
            assert!(answer.code == 403 && by_rbac, "{}", answer.body);
        }
    }
    let after = world.admin.read(&path).await.unwrap();
    assert_eq!(said(&after), said(&before));
    // Who declares changes it, through Ringfence.
    follows_what_is_declared(&world, &ns, &path).await;
}

/// Under the name that a workflow's is to have, tomorrow or elsewhere; with its label and its owner's UID under another name.
///
/// Held by: `ringfence-cluster-network-policies`, `ringfence-reserved-keys`, `scan`
#[tokio::test]
async fn a_policy_of_the_cluster_poses_as_one_of_ringfences() {
    let world = World::shared().await;
    let (ns, _, made) = place(&world).await;
    let own = |name: &str| {
        json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {"name": name},
            "spec": {"tier": "Baseline", "priority": 1, "subject": {"pods": {
                "namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {"matchLabels": {"a": "b"}},
            }}},
        })
    };
    for name in [format!("ringfence.{ns}.tomorrow"), "ringfence.anything".to_owned()] {
        world
            .admin
            .post(CLUSTER_POLICIES, &own(&name))
            .await
            .refused_by_guard(GUARD);
    }
    let mut generated = own("");
    generated["metadata"] = json!({"generateName": format!("ringfence.{ns}.t")});
    world
        .admin
        .post(CLUSTER_POLICIES, &generated)
        .await
        .refused_by_guard(GUARD);
    let name = unique("open");
    let mut posing = said(&made);
    posing["metadata"]["name"] = json!(name);
    world.admin.post(CLUSTER_POLICIES, &posing).await.refused_by_guard(KEYS);
    // The platform's own are the platform's, and the scan tells of each; of Ringfence's it does not.
    let path = format!("{CLUSTER_POLICIES}/{name}");
    world.admin.post(CLUSTER_POLICIES, &own(&name)).await.ok();
    let owner = json!({"metadata": {"annotations": {"ringfence.dev/owner-uid": made["metadata"]["annotations"]["ringfence.dev/owner-uid"]}}});
    world.admin.patch(&path, &owner).await.refused_by_guard(KEYS);
    let of = |name: &str| format!("foreign-network-policy ClusterNetworkPolicy/{name}");
    // Once the API server tells that it serves the kind.
    let found = eventually(SOON, || async {
        let report = scan_report(&world, &[]).await;
        let found = told(&report);
        ensure!(found.contains(&of(&name)), "{report}");
        Ok(found)
    })
    .await;
    assert!(!found.contains(&of(&format!("ringfence.{ns}.triage"))), "{found:?}");
    world.admin.delete(&path).await.ok();
}

/// Who has its credentials holds the right to write the kind: to deny, to open pods of others, addresses or everything, to let in, elsewhere in
/// the order, and to take away what is the platform's.
///
/// Held by: `ringfence-own-cluster-network-policies`
#[tokio::test]
async fn ringfences_own_account_writes_a_policy_of_the_cluster_of_another_shape() {
    let world = World::shared().await;
    let (_, path, made) = place(&world).await;
    let ours = &unasked(world.cluster).await;
    let with = |pointer: &str, value: Value| {
        let mut changed = made.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap()[key] = value;
        changed
    };
    let accepting = |to: Value| json!([{"action": "Accept", "to": to, "protocols": [{"tcp": {"destinationPort": {"number": 443}}}]}]);
    let rule = |key: &str, value: Value| {
        let mut rules = made["spec"]["egress"].clone();
        rules[1][key] = value;
        with("/spec/egress", rules)
    };
    let anybody = json!({"namespaces": {"matchLabels": {}}});
    let names = json!({"domainNames": ["api.example.com"]});
    for wrong in [
        with("/spec", open()),
        with("/spec/tier", json!("Baseline")),
        with("/spec/subject", json!({"namespaces": {}})),
        with("/spec/subject/pods/namespaceSelector", json!({})),
        with("/spec/subject/pods/podSelector", json!({})),
        with(
            "/spec/subject/pods/podSelector/matchLabels",
            json!({"ringfence.dev/workflow": "other"}),
        ),
        with("/spec/ingress", json!([{"action": "Accept", "from": [anybody]}])),
        with("/spec/egress/0/action", json!("Accept")),
        rule("action", json!("Deny")),
        rule("action", json!("Pass")),
        rule("protocols", Value::Null),
        rule("protocols", json!([{"udp": {"destinationPort": {"number": 53}}}])),
        with("/spec/egress", accepting(json!([{"networks": ["10.0.0.0/8"]}]))),
        with("/spec/egress", accepting(json!([names, anybody]))),
        with("/metadata/ownerReferences", json!([])),
    ] {
        ours.put(&path, &wrong).await.refused_by_guard(OWN);
        let mut new = said(&wrong);
        new["metadata"]["name"] = made["metadata"]["name"].clone();
        ours.post(&format!("{CLUSTER_POLICIES}?dryRun=All"), &new)
            .await
            .refused_by_guard(OWN);
    }
    let mut elsewhere = said(&made);
    elsewhere["metadata"]["name"] = json!(unique("open"));
    ours.post(CLUSTER_POLICIES, &elsewhere).await.refused_by_guard(OWN);
    // What is the platform's.
    let theirs = json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {"name": unique("deny")},
        "spec": {"tier": "Baseline", "priority": 1, "subject": {"pods": {
            "namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {"matchLabels": {"a": "b"}},
        }}},
    });
    let theirs = world.admin.post(CLUSTER_POLICIES, &theirs).await.ok();
    let at = format!("{CLUSTER_POLICIES}/{}", theirs["metadata"]["name"].as_str().unwrap());
    ours.patch(&at, &json!({"spec": {"priority": 2}}))
        .await
        .refused_by_guard(OWN);
    ours.delete(&at).await.refused_by_guard(OWN);
    world.admin.delete(&at).await.ok();
    assert_eq!(world.admin.read(&path).await.unwrap()["spec"], made["spec"]);
}

/// The owner withdraws what she declared, and declares it again; who administers the platform deletes it, and it comes back; a workflow goes.
///
/// Legitimate: the policy stands while it is declared, and goes with what it was made for.
#[tokio::test]
async fn the_way_before_every_policy_goes_with_what_it_was_made_for() {
    let world = World::shared().await;
    let (ns, path, made) = place(&world).await;
    let aiw = one("AIWorkflow", &ns, "triage");
    world.tess.patch(&aiw, &json!({"spec": {"network": null}})).await.ok();
    world.admin.gone(&path).await;
    world
        .tess
        .patch(&aiw, &json!({"spec": declaring("api.example.com")}))
        .await
        .ok();
    let again = eventually(SOON, || async { world.admin.read(&path).await }).await;
    assert_eq!(again["spec"], made["spec"]);
    world.admin.delete(&path).await.ok();
    eventually(SOON, || async {
        let now = world.admin.read(&path).await?;
        ensure!(now["metadata"]["uid"] != again["metadata"]["uid"], "{now}");
        Ok(())
    })
    .await;
    let plain = one("NetworkPolicy", &ns, &owned_name(&ns, "triage", "domains"));
    assert!(!world.admin.is_there(&plain).await.unwrap());
    assert!(world.admin.items(&all("NetworkPolicy", &ns)).await.unwrap().len() > 1);
    world.tess.delete(&aiw).await.ok();
    world.admin.gone(&path).await;
}
