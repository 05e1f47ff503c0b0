//! Declared domains, from the declaration to what the egress proxy reads: with the class, without it, edited, and at the end.

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::eventually;

use crate::world::{CLASSES, SOON, World, all, condition, one, workflow};

const KEY: &str = "ringfence.dev/egress-domains";

fn to(name: &str, domains: &[&str]) -> Value {
    json!({"name": name, "to": {"domains": domains}, "ports": [{"port": 443}]})
}

/// What the egress proxy is told of such rules.
fn told(rules: &[(&str, &[&str])]) -> String {
    let rule = |(name, domains): &(&str, &[&str])| {
        format!(
            r#"{{"name":"{name}","domains":{},"ports":[{{"port":443}}]}}"#,
            json!(domains)
        )
    };
    let rules: Vec<_> = rules.iter().map(rule).collect();
    format!(r#"{{"rules":[{}]}}"#, rules.join(","))
}

struct Place {
    world: World,
    ns: String,
    class: String,
    way: String,
}

impl Place {
    async fn new(mode: &str, class: &Value) -> Self {
        let world = World::shared().await;
        let class = world.class(class).await;
        let ns = world
            .namespace("domains", &json!({format!("ringfence.dev/{mode}"): class}))
            .await;
        let way = one("NetworkPolicy", &ns, &owned_name(&ns, "triage", "domains"));
        Self { world, ns, class, way }
    }

    async fn leads_to(&self, expected: &[(&str, &[&str])]) -> Value {
        eventually(SOON, || async {
            let way = self.world.admin.read(&self.way).await?;
            let said = &way["metadata"]["annotations"][KEY];
            ensure!(*said == told(expected), "{said}");
            Ok(way)
        })
        .await
    }

    async fn change_class(&self, spec: &Value) {
        let path = format!("{CLASSES}/{}", self.class);
        self.world.admin.patch(&path, &json!({"spec": spec})).await.ok();
    }
}

fn class() -> Value {
    json!({"images": {"allowed": ["**"]}, "network": {"domains": ["*.example.com"]}})
}

#[tokio::test]
async fn what_is_declared_is_told_to_the_proxy_as_far_as_the_class_goes() {
    let place = Place::new("enforce", &class()).await;
    let Place { world, ns, way, .. } = &place;
    let both =
        json!({"network": {"egress": [to("a", &["api.example.com"]), to("b", &["*.b.example.com", "c.example.com"])]}});
    world.ready(ns, "triage", &both).await;
    let [a, b]: [(&str, &[&str]); 2] = [
        ("a", &["api.example.com"]),
        ("b", &["*.b.example.com", "c.example.com"]),
    ];
    let made = place.leads_to(&[a, b]).await;
    let labels = json!({"app.kubernetes.io/name": "ringfence-egress", "app.kubernetes.io/component": "egress"});
    assert_eq!(
        made["spec"],
        json!({
            "podSelector": {"matchLabels": {"ringfence.dev/workflow": "triage"}},
            "policyTypes": ["Egress"],
            "egress": [{
                "to": [{
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ringfence-system"}},
                    "podSelector": {"matchLabels": labels},
                }],
                "ports": [{"protocol": "TCP", "port": 3128}],
            }],
        })
    );
    // A narrower class takes the rule, then all of it; a wider one gives it back.
    place
        .change_class(&json!({"network": {"domains": ["api.example.com"]}}))
        .await;
    place.leads_to(&[a]).await;
    let outside = world.condition(ns, "triage", "Accepted", "False", "OutsideClass").await;
    let message = condition(&outside, "Accepted")["message"].to_string();
    assert!(
        message.contains("*.b.example.com") && message.contains("c.example.com"),
        "{message}"
    );
    place.change_class(&json!({"network": {"domains": []}})).await;
    world.admin.gone(way).await;
    place.change_class(&json!({"network": {"domains": ["*"]}})).await;
    place.leads_to(&[a, b]).await;
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    // With the workflow it goes.
    world.tess.delete(&one("AIWorkflow", ns, "triage")).await.ok();
    world.admin.gone(way).await;
}

/// Where the guard on owned objects does not stand: whoever approves may write it, and it is put back.
#[tokio::test]
async fn what_somebody_else_says_of_it_is_put_back() {
    let place = Place::new("warn", &class()).await;
    let Place { world, ns, way, .. } = &place;
    let declared = json!({"network": {"egress": [to("a", &["api.example.com"])]}});
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("triage", &declared))
        .await
        .ok();
    let rules: &[(&str, &[&str])] = &[("a", &["api.example.com"])];
    let before = place.leads_to(rules).await;
    for change in [
        json!({"metadata": {"annotations": {KEY: told(&[("a", &["*.evil.example"])])}}}),
        json!({"metadata": {"annotations": {KEY: null}}}),
        json!({"spec": {"podSelector": {"matchLabels": {"ringfence.dev/workflow": "other"}}}}),
        json!({"spec": {"egress": [{}]}}),
    ] {
        world.admin.patch(way, &change).await.ok();
        eventually(SOON, || async {
            let now = world.admin.read(way).await?;
            let same =
                now["spec"] == before["spec"] && now["metadata"]["annotations"] == before["metadata"]["annotations"];
            ensure!(same, "{now}");
            Ok(())
        })
        .await;
    }
    world.admin.delete(way).await.ok();
    let again = place.leads_to(rules).await;
    assert_ne!(again["metadata"]["uid"], before["metadata"]["uid"]);
}

/// With a DNS names carry data out, and without one nothing does: said beside `Ready`, and true of the policy.
#[tokio::test]
async fn a_class_without_dns_closes_the_way_out_by_names() {
    let place = Place::new("enforce", &class()).await;
    let Place { world, ns, .. } = &place;
    let declared = json!({"network": {"egress": [to("a", &["api.example.com"])]}});
    let ready = world.ready(ns, "triage", &declared).await;
    let said = condition(&ready, "DnsExfiltration");
    assert_eq!((&said["status"], &said["reason"]), (&json!("True"), &json!("Possible")));
    let allow = one("NetworkPolicy", ns, &owned_name(ns, "triage", "allow"));
    let egress = async || {
        world
            .admin
            .read(&allow)
            .await
            .map(|policy| policy["spec"]["egress"].clone())
    };
    assert_eq!(egress().await.unwrap().as_array().map(Vec::len), Some(1));
    place.change_class(&json!({"cluster": {"dns": {"mode": "None"}}})).await;
    world
        .condition(ns, "triage", "DnsExfiltration", "False", "Closed")
        .await;
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    eventually(SOON, || async {
        let egress = egress().await?;
        ensure!(egress.as_array().is_none_or(Vec::is_empty), "{egress}");
        Ok(())
    })
    .await;
    place.leads_to(&[("a", &["api.example.com"])]).await;
    // One or the other.
    let both = json!({"spec": {"cluster": {"dns": {"mode": "None", "cidrs": ["169.254.20.10/32"]}}}});
    let answer = world.admin.patch(&format!("{CLASSES}/{}", place.class), &both).await;
    assert_eq!(answer.code, 422, "{}", answer.body);
    place
        .change_class(&json!({"cluster": {"dns": {"mode": "Cluster"}}}))
        .await;
    world
        .condition(ns, "triage", "DnsExfiltration", "True", "Possible")
        .await;
}
