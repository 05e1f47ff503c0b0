//! The policy of resolved addresses: what the names of a workflow were last seen at, with the ports of each rule, and nothing inside.

use std::collections::BTreeSet;

use ringfence::api::{AIWorkflow, AIWorkflowClass};
use ringfence::plan::{Change, Child, NamespaceFacts, Observed, default_deny, plan};
use serde_json::{Value, json};
use support::network::{Pod, Scene, Simulator, open_paths};

const OUTSIDE: [&str; 4] = ["1.1.1.1", "1.1.1.2", "1.1.1.3", "2606:2800::1"];
/// Where whoever answers for a name would have pods go.
const INSIDE: [&str; 6] = [
    "10.1.0.2",
    "10.96.0.1",
    "25.1.1.1",
    "169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "192.168.1.1",
];

fn workflow(name: &str, egress: &Value) -> AIWorkflow {
    let object = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow",
        "metadata": {"name": name, "namespace": "ai", "uid": format!("uid-of-{name}")},
        "spec": {"launchers": [], "images": ["registry.example.com/x/**"], "network": {"egress": egress}},
    });
    serde_json::from_value(object).unwrap()
}

fn observed() -> Observed {
    let class = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "class"},
        "spec": {
            "images": {"allowed": ["**"]}, "network": {"domains": ["*"]}, "egress": {"backend": "ResolvedAddresses"},
            "cluster": {"clusterCIDRs": ["10.1.0.0/16", "10.96.0.0/12", "25.0.0.0/8"]},
        },
    });
    let class: AIWorkflowClass = serde_json::from_value(class).unwrap();
    Observed {
        namespace: NamespaceFacts {
            name: "ai".to_owned(),
            uid: "uid-of-ai".to_owned(),
            labels: [("ringfence.dev/enforce".to_owned(), "class".to_owned())].into(),
            ..NamespaceFacts::default()
        },
        class: Some(class),
        ..Observed::default()
    }
}

/// What is made, with these addresses of names in the workflow's memory.
fn policies(workflow: &AIWorkflow, names: &[(&str, &[&str])]) -> Vec<Value> {
    let created = |observed: &Observed| -> Vec<(Child, Value)> {
        let changes = plan(workflow, observed).changes.into_iter();
        let made = changes.filter_map(|change| match change {
            Change::Create(child, object) | Change::Replace(child, object) => Some((child, object)),
            Change::Delete { .. } => None,
        });
        made.collect()
    };
    let seen = |address: &&str| json!({"address": address, "ttlSeconds": 60, "lastSeen": "2026-11-27T20:00:00Z"});
    let name = |(name, addresses): &(&str, &[&str])| {
        let addresses: Vec<_> = addresses.iter().map(seen).collect();
        json!({"name": name, "ipv4": "Resolved", "ipv6": "Resolved", "addresses": addresses})
    };
    let mut place = observed();
    let names: Vec<_> = names.iter().map(name).collect();
    let memory = created(&place)
        .into_iter()
        .filter(|(child, _)| *child == Child::ResolvedNames);
    place.children = memory
        .map(|(child, mut object)| {
            object["status"] = json!({"names": names});
            (child, object)
        })
        .collect();
    let made = created(&place)
        .into_iter()
        .filter(|(child, _)| *child == Child::NetworkPolicy);
    made.map(|(_, policy)| policy).collect()
}

#[test]
fn what_names_were_seen_at_is_open_and_nothing_else() {
    let pod = |name: &str, ip: &str| Pod::new("ai", name, &[("ringfence.dev/workflow", name)], ip);
    let pods = vec![
        Pod::new("kube-system", "dns", &[("k8s-app", "kube-dns")], "10.1.0.53"),
        Pod::new("shop", "till", &[], INSIDE[0]),
        pod("triage", "10.1.1.1"),
        pod("other", "10.1.1.2"),
    ];
    let addresses = [&OUTSIDE[..], &INSIDE[1..]].concat();
    let scene = Scene::of(pods, &addresses, [53, 80, 443, 5432, 5433, 5434]);
    let triage = workflow(
        "triage",
        &json!([
            {"name": "llm", "to": {"domains": ["llm.example", "poisoned.example"]}, "ports": [{"port": 443}]},
            {"name": "db", "to": {"domains": ["db.example"]}, "ports": [{"port": 5432, "endPort": 5433}]},
            {"name": "inside", "to": {"domains": ["inside.example"]}, "ports": [{"port": 443}]},
            {"name": "unknown", "to": {"domains": ["unknown.example"]}, "ports": [{"port": 80}]},
            {"name": "all", "to": {"domains": ["*.example"]}, "ports": [{"port": 5434}]},
        ]),
    );
    let poisoned = [&[OUTSIDE[1]], &INSIDE[..]].concat();
    let made = policies(
        &triage,
        &[
            ("llm.example", &[OUTSIDE[0], OUTSIDE[3]]),
            ("poisoned.example", &poisoned),
            ("db.example", &[OUTSIDE[2]]),
            ("inside.example", &INSIDE),
            // Declared no more.
            ("gone.example", &OUTSIDE),
        ],
    );
    let mut all = vec![default_deny(&observed().namespace)];
    all.extend(made);
    all.extend(policies(&workflow("other", &json!([])), &[]));
    let matrix = Simulator::start().unwrap().ask(&scene, &all).unwrap();
    let open: BTreeSet<_> = open_paths(&scene, &matrix)
        .into_iter()
        .filter(|path| path.starts_with("ai/") || path.contains("-> ai/"))
        .collect();
    let dns = ["triage", "other"].map(|name| ["TCP", "UDP"].map(|by| format!("ai/{name} -> kube-system/dns:53/{by}")));
    let expected = [
        format!("ai/triage -> {}:443/TCP", OUTSIDE[0]),
        format!("ai/triage -> {}:443/TCP", OUTSIDE[1]),
        format!("ai/triage -> {}:443/TCP", OUTSIDE[3]),
        format!("ai/triage -> {}:5432/TCP", OUTSIDE[2]),
        format!("ai/triage -> {}:5433/TCP", OUTSIDE[2]),
    ];
    let expected: BTreeSet<_> = dns.into_iter().flatten().chain(expected).collect();
    assert_eq!(open, expected);
}
