//! Egress by domain, by Cilium: the policy that opens what is declared, and the cluster's DNS for these names and those of the cluster.
//!
//! Cilium opens the addresses that the DNS answered a pod's own question with, and cuts off the question where its name is not allowed: so one
//! object says both. Two things differ from the egress proxy. A declared `*.` stands for one label or more, and so does Cilium's `**.` since
//! 1.19; before, `**.` and `*` stand for one label alone, which is less than is declared and never more. And what is opened is an address,
//! whatever else is served there.
//!
//! Must never: open the DNS for every name, or an address that hands out credentials, whoever answers for a name.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    cidr,
    dns::{Dns, search_list, services},
};
use crate::api::{LabelSelector, WORKFLOW_LABEL};
use crate::egress::{Allowed, Domain, PortRange, Rule};

/// Of names below one: of any number of labels since 1.19, and so many of them before.
const BELOW: [&str; 3] = ["**", "*", "*.*"];
/// Label of Cilium's that is the namespace of a pod.
const NAMESPACE_LABEL: &str = "k8s:io.kubernetes.pod.namespace";
/// Of the API server, where it is declared: below the domain of Services.
const API_SERVER: &str = "kubernetes.default";
const FQDNS: &str = "toFQDNs";
pub(super) const DNS_NAMES: &str = "/toPorts/0/rules/dns";

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

    /// The same with that behind it.
    fn below(&self, suffix: &str) -> Self {
        match self {
            Self::Name(name) => Self::Name(format!("{name}.{suffix}")),
            Self::Pattern(pattern) => Self::Pattern(format!("{pattern}.{suffix}")),
        }
    }

    fn read(written: &Value) -> Option<Self> {
        let text = |key: &str| written.get(key)?.as_str().map(str::to_owned);
        text("matchName")
            .map(Self::Name)
            .or_else(|| text("matchPattern").map(Self::Pattern))
    }

    fn json(&self) -> Value {
        match self {
            Self::Name(name) => json!({"matchName": name}),
            Self::Pattern(pattern) => json!({"matchPattern": pattern}),
        }
    }
}

/// What of the cluster a workflow reaches.
pub(super) struct Inside {
    /// Its own namespace.
    pub(super) own: String,
    /// Below which the cluster's names are.
    pub(super) domain: String,
    /// This one, and those of the peers that are open to it.
    pub(super) namespaces: BTreeSet<String>,
    pub(super) api_server: bool,
}

/// `spec` of the policy, where something is allowed, and no more than the egress proxy would take. `inside`: what of the cluster the workflow
/// reaches.
pub(super) fn spec(workflow: &str, allowed: &Allowed, dns: &Dns, inside: &Inside) -> Option<Value> {
    if allowed.is_empty() || allowed.write().is_err() {
        return None;
    }
    let domains = allowed.rules.iter().flat_map(|rule| &rule.domains);
    let names: BTreeSet<_> = domains
        .map(Selector::of)
        .flat_map(|declared| as_asked(declared, inside))
        .chain(of_cluster(inside))
        .collect();
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

/// A declared name, and what a pod's resolver makes of it first: it asks for each name of the world as one of the cluster.
fn as_asked(declared: Selector, inside: &Inside) -> Vec<Selector> {
    let searched = search_list(&inside.own, &inside.domain).map(|suffix| declared.below(&suffix));
    [vec![declared], searched.to_vec()].concat()
}

/// Names of the cluster, in those namespaces alone that the workflow reaches. A Service of type ExternalName has the cluster's DNS ask for a name
/// outside: who may make some of them in any namespace would be told by which of them a pod asks for. In enforced namespaces there are none.
fn of_cluster(inside: &Inside) -> Vec<Selector> {
    let services = services(&inside.domain);
    let below = |namespace: &String| {
        let suffix = format!("{namespace}.{services}");
        BELOW.map(|below| Selector::Pattern(format!("{below}.{suffix}")))
    };
    let namespaces = inside.namespaces.iter().flat_map(below);
    let api_server = inside
        .api_server
        .then(|| Selector::Name(format!("{API_SERVER}.{services}")));
    namespaces.chain(api_server).collect()
}

/// The names that may be asked for, of a policy.
pub(super) fn asked(policy: &Value) -> impl Iterator<Item = &Value> {
    let rules = policy.pointer("/spec/egress").and_then(Value::as_array);
    let rules = rules.into_iter().flatten().filter(|rule| !is_opening(rule));
    rules.filter_map(|rule| rule.pointer(DNS_NAMES)?.as_array()).flatten()
}

/// Whether a rule of the policy is about a declaration. The others are ways to the DNS.
pub(super) fn is_opening(rule: &Value) -> bool {
    rule.get(FQDNS).is_some()
}

/// Takes out of a policy the questions for names of the cluster that were not given, and those for names that it does not open any more. Whether
/// it still opens any.
pub(super) fn asks_for_what_it_opens(policy: &mut Value, inside: &Inside, was_given: impl Fn(&Value) -> bool) -> bool {
    let Some(rules) = policy.pointer_mut("/spec/egress").and_then(Value::as_array_mut) else {
        return false;
    };
    let opened = rules.iter().filter_map(|rule| rule.get(FQDNS)?.as_array());
    let opened: Vec<_> = opened.flatten().filter_map(Selector::read).collect();
    if opened.is_empty() {
        return false;
    }
    let of_cluster = of_cluster(inside).into_iter().map(|name| name.json()).filter(was_given);
    let opened = opened.into_iter().flat_map(|declared| as_asked(declared, inside));
    let names: Vec<_> = opened.map(|name| name.json()).chain(of_cluster).collect();
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
    cidr::metadata().concat()
}

#[cfg(test)]
mod tests;
