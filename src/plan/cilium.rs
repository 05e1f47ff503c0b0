//! Egress by domain, by Cilium: the policy that opens what is declared, and the cluster's DNS for these names and those of the cluster.
//!
//! Cilium opens the addresses that the DNS answered a pod's own question with, and cuts off the question where its name is not allowed: so one
//! object says both. Two things differ from the egress proxy. A declared `*.` stands for one label or more, and so does Cilium's `**.` since
//! 1.19; before, `**.` and `*` stand for one label alone, which is less than is declared and never more. And what is opened is an address,
//! whatever else is served there.
//!
//! Must never: open the DNS for every name, or an address that hands out credentials, whoever answers for a name.

use std::collections::BTreeSet;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};

use super::{cidr, dns::Dns};
use crate::api::{LabelSelector, WORKFLOW_LABEL};
use crate::egress::{Allowed, Domain, PortRange, Rule};

/// Names of the cluster: its DNS answers for all of them by itself, so that they carry nothing out. The first is all, as Cilium reads it since
/// 1.19; the others are Services and pods behind headless ones, for those before.
const OF_CLUSTER: [&str; 3] = ["**.cluster.local", "*.*.svc.cluster.local", "*.*.*.svc.cluster.local"];
/// Label of Cilium's that is the namespace of a pod.
const NAMESPACE_LABEL: &str = "k8s:io.kubernetes.pod.namespace";
const FQDNS: &str = "toFQDNs";
const DNS_NAMES: &str = "/toPorts/0/rules/dns";

/// A name or a pattern, as both kinds of rules spell it.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
enum Selector {
    Name(String),
    Pattern(String),
}

impl Selector {
    fn of(domain: &Domain) -> Self {
        let text = domain.to_string();
        match text.strip_prefix("*.") {
            Some(name) => Self::Pattern(format!("**.{name}")),
            None => Self::Name(text),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Name(name) => json!({"matchName": name}),
            Self::Pattern(pattern) => json!({"matchPattern": pattern}),
        }
    }
}

/// `spec` of the policy, where something is allowed, and no more than the egress proxy would take.
pub(super) fn spec(workflow: &str, allowed: &Allowed, dns: &Dns) -> Option<Value> {
    if allowed.is_empty() || allowed.write().is_err() {
        return None;
    }
    let domains = allowed.rules.iter().flat_map(|rule| &rule.domains);
    let mut names: BTreeSet<_> = domains.map(Selector::of).collect();
    names.extend(OF_CLUSTER.map(|pattern| Selector::Pattern(pattern.to_owned())));
    let names: Vec<_> = names.iter().map(Selector::json).collect();
    let mut egress = dns_rules(dns, &names);
    egress.extend(
        allowed
            .rules
            .iter()
            .filter(|rule| !rule.domains.is_empty())
            .map(opening),
    );
    let selected = label(WORKFLOW_LABEL);
    Some(json!({
        "endpointSelector": {"matchLabels": {selected: workflow}},
        "egress": egress,
        "egressDeny": [{"toCIDR": metadata()}],
    }))
}

/// Whether a rule of the policy is about a declaration. The others are ways to the DNS.
pub(super) fn is_opening(rule: &Value) -> bool {
    rule.get(FQDNS).is_some()
}

/// Takes the questions for names out of a policy that it does not open any more. Whether it still opens any.
pub(super) fn asks_for_what_it_opens(policy: &mut Value) -> bool {
    let Some(rules) = policy.pointer_mut("/spec/egress").and_then(Value::as_array_mut) else {
        return false;
    };
    let opened = rules.iter().filter_map(|rule| rule.get(FQDNS)?.as_array());
    let mut names: Vec<_> = opened.flatten().cloned().collect();
    if names.is_empty() {
        return false;
    }
    names.extend(OF_CLUSTER.map(|pattern| json!({"matchPattern": pattern})));
    for rule in rules.iter_mut().filter(|rule| !is_opening(rule)) {
        if let Some(asked) = rule.pointer_mut(DNS_NAMES).and_then(Value::as_array_mut) {
            asked.retain(|name| names.contains(name));
        }
    }
    true
}

/// The ways to the DNS, each with the names: Cilium takes pods and addresses in rules of their own.
fn dns_rules(dns: &Dns, names: &[Value]) -> Vec<Value> {
    let ports = json!([{"port": "53", "protocol": "UDP"}, {"port": "53", "protocol": "TCP"}]);
    let ports = json!([{"ports": ports, "rules": {"dns": names}}]);
    let mut rules = Vec::new();
    if let Some((namespace, pods)) = &dns.pods {
        rules.push(json!({"toEndpoints": [endpoints(namespace, pods)], "toPorts": ports}));
    }
    if !dns.blocks.is_empty() {
        let block = |block: &Value| block["ipBlock"].clone();
        let blocks: Vec<_> = dns.blocks.iter().map(block).collect();
        rules.push(json!({"toCIDRSet": blocks, "toPorts": ports}));
    }
    rules
}

fn endpoints(namespace: &str, pods: &LabelSelector) -> Value {
    let mut labels: serde_json::Map<_, _> = pods
        .match_labels
        .iter()
        .map(|(key, value)| (label(key), json!(value)))
        .collect();
    labels.insert(NAMESPACE_LABEL.to_owned(), json!(namespace));
    let mut expressions = json!(pods.match_expressions);
    for expression in expressions.as_array_mut().into_iter().flatten() {
        let key = label(expression["key"].as_str().unwrap_or_default());
        expression["key"] = key.into();
    }
    json!({"matchLabels": labels, "matchExpressions": expressions})
}

/// A label of Kubernetes', as Cilium tells it from labels of others.
fn label(key: &str) -> String {
    format!("k8s:{key}")
}

fn opening(rule: &Rule) -> Value {
    let names: Vec<_> = rule.domains.iter().map(|domain| Selector::of(domain).json()).collect();
    let port = |range: &PortRange| {
        let port = range.port.to_string();
        match range.end_port {
            Some(end) => json!({"port": port, "endPort": end, "protocol": "TCP"}),
            None => json!({"port": port, "protocol": "TCP"}),
        }
    };
    let ports: Vec<_> = rule.ports.iter().map(port).collect();
    json!({FQDNS: names, "toPorts": [{"ports": ports}]})
}

/// What hands out credentials, which a name may lead to whose holder says so. A refusal of Cilium's goes before everything that is allowed.
fn metadata() -> Vec<String> {
    let everywhere = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    let found = everywhere.iter().flat_map(cidr::metadata_in);
    found.map(|net| net.to_string()).collect()
}

#[cfg(test)]
mod tests;
