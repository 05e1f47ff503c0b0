//! Door: what the egress proxy reads was made while no guard stood, and names an owner that the garbage collector does not know.

use std::sync::Arc;

use anyhow::ensure;
use ringfence::egress::{Denied, Host, Target, Workflow};
use ringfence::plan::owned_name;
use ringfence::proxy::follow;
use serde_json::{Value, json};
use support::eventually;
use tokio_util::sync::CancellationToken;

use crate::world::{SOON, World, all, one, unasked, workflow};

const KEY: &str = "ringfence.dev/egress-domains";

fn leads_to(domain: &str) -> String {
    format!(r#"{{"rules":[{{"name":"x","domains":["{domain}"],"ports":[{{"port":443}}]}}]}}"#)
}

/// For a workflow that declares none; and beside one that does, whose way neither becomes another nor is closed by it.
///
/// Held by: `egress proxy`
#[tokio::test]
async fn a_forged_policy_leads_to_domains_that_nobody_declared() {
    let world = World::shared().await;
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "network": {"domains": ["*.example.com"]}}))
        .await;
    let labels = json!({"ringfence.dev/enforce": class});
    let ns = &world.namespace("ways", &labels).await;
    let declared = json!({"network": {"egress": [
        {"name": "x", "to": {"domains": ["api.example.com"]}, "ports": [{"port": 443}]},
    ]}});
    for (name, spec) in [("opens", declared), ("closed", json!({}))] {
        world
            .tess
            .post(&all("AIWorkflow", ns), &workflow(name, &spec))
            .await
            .ok();
    }
    let way = one("NetworkPolicy", ns, &owned_name(ns, "opens", "domains"));
    eventually(SOON, || async { world.admin.read(&way).await }).await;
    let gap = unasked(world.cluster).await;
    let forge = async |name: &str, label: &str, owner: &Value| {
        let policy = json!({
            "metadata": {
                "name": name, "labels": {"ringfence.dev/owner": label}, "ownerReferences": [owner],
                "annotations": {"ringfence.dev/owner-uid": "u1", KEY: leads_to("evil.example.com")},
            },
            "spec": {"podSelector": {}, "policyTypes": ["Egress"]},
        });
        gap.post(&all("NetworkPolicy", ns), &policy).await.ok();
    };
    for of in ["opens", "closed"] {
        let owner = json!({"apiVersion": "nosuch.example/v1", "kind": "AIWorkflow", "name": of, "uid": "u1"});
        forge(&format!("nobodys-{of}"), "nobody", &owner).await;
        forge(&format!("its-{of}"), of, &owner).await;
    }
    // By the name that Ringfence would give, where it makes none.
    let owner = json!({"apiVersion": "nosuch.example/v1", "kind": "AIWorkflow", "name": "closed", "uid": "u1"});
    forge(&owned_name(ns, "closed", "domains"), "nobody", &owner).await;

    let stop = CancellationToken::new();
    let (callers, following) = follow(world.cluster.admin().await, Arc::default(), stop.clone());
    let following = tokio::spawn(following);
    let decides = |name: &str, host: &str| {
        let of = Workflow {
            namespace: ns.clone(),
            name: name.to_owned(),
        };
        let target = Target {
            host: Host::named(host).expect("a host"),
            port: 443,
        };
        callers.now().decide(&of, &target).map(|permit| permit.rule.to_owned())
    };
    eventually(SOON, || async {
        ensure!(callers.now().is_whole(), "not all is told of yet");
        Ok(())
    })
    .await;
    assert_eq!(decides("opens", "api.example.com").as_deref(), Ok("x"));
    assert!(decides("opens", "evil.example.com").is_err());
    assert_eq!(decides("closed", "evil.example.com"), Err(Denied::NoDomains));
    stop.cancel();
    following.await.expect("the watches to end");
}
