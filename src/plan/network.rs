//! The workflow's allow NetworkPolicy: declared peers that the class opens, the cluster's DNS, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{NamespaceFacts, Observed, cidr, cilium::Inside, cluster::Ranges, cluster_domain, peer};
use crate::api::{
    AIWorkflow, AIWorkflowClass, EgressPeer, EgressRule, IngressPeer, LabelSelector, Network, PodPeer, Port, Protocol,
    WORKFLOW_LABEL, WorkflowPeer,
};

/// Label that the API server itself puts on each namespace, so nobody can move a namespace into a peer by a label.
pub(super) const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// `spec` of the allow policy. Every list is there, empty or not, so that a foreign addition is a difference. `dns` is the rule that opens the
/// cluster's, where it is this policy's to open.
pub(super) fn allow_spec(
    workflow: &AIWorkflow,
    observed: &Observed,
    class: &AIWorkflowClass,
    dns: Option<Value>,
) -> Value {
    let mut network = workflow.spec.network.clone().unwrap_or_default();
    // What the API server would refuse would keep the policy before it standing.
    network.ingress.retain(|rule| peer::ingress_problems(rule).is_empty());
    network.egress.retain(|rule| peer::egress_problems(rule).is_empty());
    let ranges = Ranges::for_network(&network, class);
    if !ranges.fit(&network) {
        network.ingress.retain(|rule| rule.from.cidrs.is_none());
        network.egress.retain(|rule| rule.to.cidrs.is_none());
    }
    let namespace = &observed.namespace;
    json!({
        "podSelector": {"matchLabels": {WORKFLOW_LABEL: workflow.name_any()}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress(&network, namespace, class, &ranges),
        "egress": egress(&network, observed, class, (dns, &ranges)),
    })
}

/// What of the cluster is open to a workflow, as far as its own side says.
pub(super) fn inside(workflow: &AIWorkflow, observed: &Observed, class: &AIWorkflowClass) -> Inside {
    let network = workflow.spec.network.clone().unwrap_or_default();
    let (ranges, own) = (Ranges::for_network(&network, class), &observed.namespace.name);
    let is_open = |rule: &&EgressRule| {
        peer::egress_problems(rule).is_empty() && peer::egress_allowed(&rule.to, &observed.namespace, class, &ranges)
    };
    let mut inside = Inside {
        own: own.clone(),
        domain: cluster_domain(class).to_owned(),
        namespaces: BTreeSet::from([own.clone()]),
        api_server: false,
    };
    for rule in network.egress.iter().filter(is_open) {
        let pods = rule.to.pods.as_ref().and_then(|pods| pods.namespace.clone());
        let workflow = rule
            .to
            .workflow
            .as_ref()
            .and_then(|workflow| workflow.namespace.clone());
        inside.namespaces.extend(pods.into_iter().chain(workflow));
        inside.api_server |= rule.to.api_server.is_some();
    }
    inside
}

/// What a declaration takes out of its ranges, by whether they are of who may come in: of each rule that names one, as written.
pub(super) fn declared_except(workflow: &AIWorkflow) -> BTreeMap<(bool, String), Vec<&[String]>> {
    let network = workflow.spec.network.iter();
    let ingress = network.clone().flat_map(|network| &network.ingress);
    let ingress = ingress.map(|rule| (true, &rule.from.cidrs, &rule.from.except));
    let egress = network.flat_map(|network| &network.egress);
    let egress = egress.map(|rule| (false, &rule.to.cidrs, &rule.to.except));
    let mut taken_out = BTreeMap::<_, Vec<_>>::new();
    for (comes_in, cidrs, except) in ingress.chain(egress) {
        for net in cidrs.iter().flatten().filter_map(|text| cidr::parse(text).ok()) {
            let of = taken_out.entry((comes_in, net.to_string())).or_default();
            of.push(except.as_deref().unwrap_or_default());
        }
    }
    taken_out
}

fn ingress(network: &Network, namespace: &NamespaceFacts, class: &AIWorkflowClass, ranges: &Ranges) -> Vec<Value> {
    let rules = network
        .ingress
        .iter()
        .filter(|rule| peer::ingress_allowed(&rule.from, namespace, class, ranges));
    rules
        .filter_map(|rule| {
            let IngressPeer {
                pods,
                workflow,
                cidrs,
                except,
            } = &rule.from;
            let from = peers(
                pods.as_ref(),
                workflow.as_ref(),
                (cidrs.as_deref(), except.as_deref()),
                ranges,
                namespace,
            );
            // A rule without peers would be open to everybody.
            (!from.is_empty() && !rule.ports.is_empty()).then(|| json!({"from": from, "ports": ports(&rule.ports)}))
        })
        .collect()
}

fn egress(
    network: &Network,
    observed: &Observed,
    class: &AIWorkflowClass,
    (dns, ranges): (Option<Value>, &Ranges),
) -> Vec<Value> {
    let namespace = &observed.namespace;
    let mut rules: Vec<_> = dns.into_iter().collect();
    for rule in network
        .egress
        .iter()
        .filter(|rule| peer::egress_allowed(&rule.to, namespace, class, ranges))
    {
        let EgressPeer {
            pods,
            workflow,
            cidrs,
            except,
            api_server,
            // Another policy's, that of what they are reached by.
            domains: _,
        } = &rule.to;
        if api_server.is_some() {
            rules.extend(api_server_rules(observed, class));
            continue;
        }
        let to = peers(
            pods.as_ref(),
            workflow.as_ref(),
            (cidrs.as_deref(), except.as_deref()),
            ranges,
            namespace,
        );
        if !to.is_empty() && !rule.ports.is_empty() {
            rules.push(json!({"to": to, "ports": ports(&rule.ports)}));
        }
    }
    rules
}

fn peers(
    pods: Option<&PodPeer>,
    workflow: Option<&WorkflowPeer>,
    (cidrs, except): (Option<&[String]>, Option<&[String]>),
    ranges: &Ranges,
    namespace: &NamespaceFacts,
) -> Vec<Value> {
    let mut peers = Vec::new();
    if let Some(pods) = pods {
        peers.push(pod_peer(
            pods.namespace.as_deref().unwrap_or(&namespace.name),
            selector(&pods.selector),
        ));
    }
    if let Some(workflow) = workflow {
        let labels = json!({"matchLabels": {WORKFLOW_LABEL: workflow.name}});
        peers.push(pod_peer(
            workflow.namespace.as_deref().unwrap_or(&namespace.name),
            labels,
        ));
    }
    peers.extend(
        cidrs
            .unwrap_or_default()
            .iter()
            .filter_map(|text| declared_block(text, except.unwrap_or_default(), ranges)),
    );
    peers
}

pub(super) fn pod_peer(namespace: &str, selector: Value) -> Value {
    json!({"namespaceSelector": {"matchLabels": {NAMESPACE_NAME_LABEL: namespace}}, "podSelector": selector})
}

pub(super) fn selector(selector: &LabelSelector) -> Value {
    json!({"matchLabels": selector.match_labels, "matchExpressions": selector.match_expressions})
}

/// A declared range without what must be taken out of it.
fn declared_block(text: &str, except: &[String], ranges: &Ranges) -> Option<Value> {
    let net = cidr::parse(text).ok()?;
    Some(block(net, &ranges.carve(&net, except)?))
}

/// A range of the platform's own, such as the DNS or the API server, without the services in it that hand out credentials.
pub(super) fn platform_block(text: &str) -> Option<Value> {
    let net = cidr::parse(text).ok()?;
    let metadata = cidr::metadata_in(&net);
    (!metadata.contains(&net)).then(|| block(net, &metadata))
}

pub(super) fn block(net: IpNet, except: &[IpNet]) -> Value {
    let except: Vec<_> = except.iter().map(ToString::to_string).collect();
    json!({"ipBlock": {"cidr": net.to_string(), "except": except}})
}

fn ports(ports: &[Port]) -> Vec<Value> {
    let of = |one: &Port| port(one.protocol.unwrap_or(Protocol::TCP), one.port, one.end_port);
    ports.iter().map(of).collect()
}

pub(super) fn port(protocol: Protocol, port: i32, end: Option<i32>) -> Value {
    match end {
        Some(end) => json!({"protocol": protocol, "port": port, "endPort": end}),
        None => json!({"protocol": protocol, "port": port}),
    }
}

/// One rule an address, each with its own port, because addresses of one API server may answer on different ports.
fn api_server_rules(observed: &Observed, class: &AIWorkflowClass) -> Vec<Value> {
    let declared = class
        .spec
        .cluster
        .as_ref()
        .and_then(|cluster| cluster.api_server.as_ref());
    if let Some(address) = declared {
        let to: Vec<_> = address.cidrs.iter().filter_map(|text| platform_block(text)).collect();
        let ports: Vec<_> = address
            .ports
            .iter()
            .map(|port| json!({"protocol": "TCP", "port": port}))
            .collect();
        // Without peers or ports the rule would be open.
        return if to.is_empty() || ports.is_empty() {
            Vec::new()
        } else {
            vec![json!({"to": to, "ports": ports})]
        };
    }
    observed
        .api_server
        .iter()
        .map(|(address, port)| {
            let block = block(IpNet::from(*address), &[]);
            json!({"to": [block], "ports": [{"protocol": "TCP", "port": port}]})
        })
        .collect()
}

/// Whether the API server's address is known.
pub(super) fn knows_api_server(observed: &Observed, class: &AIWorkflowClass) -> bool {
    !api_server_rules(observed, class).is_empty()
}
