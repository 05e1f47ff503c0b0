//! Declared peers: what is wrong with one by itself, and whether the class opens it.

use super::{NamespaceFacts, Problem, backend, cidr, cluster::Ranges, dns, domains, outside::shown, selector};
use crate::{
    api::{
        AIWorkflowClass, BackendChoice, EgressPeer, EgressRule, IngressPeer, IngressRule, PodPeer, Port, Protocol,
        WorkflowPeer, is_dns_label,
    },
    egress::Domain,
};

/// Most domains of one peer: what the egress proxy reads.
const MAX_DOMAINS: usize = 25;

/// Both directions of a declared peer, seen alike.
pub(super) struct Peer<'a> {
    pods: Option<&'a PodPeer>,
    workflow: Option<&'a WorkflowPeer>,
    cidrs: Option<&'a [String]>,
    except: Option<&'a [String]>,
    api_server: bool,
    domains: Option<&'a [String]>,
}

impl<'a> From<&'a EgressPeer> for Peer<'a> {
    fn from(peer: &'a EgressPeer) -> Self {
        Self {
            pods: peer.pods.as_ref(),
            workflow: peer.workflow.as_ref(),
            cidrs: peer.cidrs.as_deref(),
            except: peer.except.as_deref(),
            api_server: peer.api_server.is_some(),
            domains: peer.domains.as_deref(),
        }
    }
}

impl<'a> From<&'a IngressPeer> for Peer<'a> {
    fn from(peer: &'a IngressPeer) -> Self {
        Self {
            pods: peer.pods.as_ref(),
            workflow: peer.workflow.as_ref(),
            cidrs: peer.cidrs.as_deref(),
            except: peer.except.as_deref(),
            api_server: false,
            domains: None,
        }
    }
}

/// What is wrong with a declared source and its ports, whatever the class says.
pub fn ingress_problems(rule: &IngressRule) -> Vec<Problem> {
    let mut problems = Vec::new();
    let peer = Peer::from(&rule.from);
    invalid_peer("from", &peer, &mut problems);
    invalid_ports("rule", &rule.ports, &peer, &mut problems);
    problems
}

/// What is wrong with a declared destination and its ports, whatever the class says.
pub fn egress_problems(rule: &EgressRule) -> Vec<Problem> {
    let mut problems = Vec::new();
    let peer = Peer::from(&rule.to);
    invalid_peer("to", &peer, &mut problems);
    invalid_ports("rule", &rule.ports, &peer, &mut problems);
    problems
}

/// What is wrong with a peer by itself.
pub(super) fn invalid_peer(path: &str, peer: &Peer<'_>, problems: &mut Vec<Problem>) {
    let set = [
        peer.pods.is_some(),
        peer.workflow.is_some(),
        peer.cidrs.is_some(),
        peer.api_server,
        peer.domains.is_some(),
    ];
    if set.into_iter().filter(|set| *set).count() != 1 {
        problems.push(Problem::new(
            path,
            None,
            "is not exactly one peer",
            "name one of pods, workflow, cidrs (or, to, apiServer or domains)",
        ));
    }
    // What the API server would refuse in a NetworkPolicy would keep the old, wider policy standing.
    let names = [
        ("pods.namespace", peer.pods.and_then(|pods| pods.namespace.as_deref())),
        (
            "workflow.namespace",
            peer.workflow.and_then(|workflow| workflow.namespace.as_deref()),
        ),
        ("workflow.name", peer.workflow.map(|workflow| workflow.name.as_str())),
    ];
    for (field, name) in names {
        if let Some(name) = name.filter(|name| !is_dns_label(name)) {
            let fix = "use lower-case letters, digits and '-'";
            problems.push(Problem::new(
                format!("{path}.{field}"),
                Some(name),
                "is nothing's name",
                fix,
            ));
        }
    }
    if let Some(pods) = peer.pods {
        problems.extend(selector::naming_pods(&format!("{path}.pods.selector"), &pods.selector));
    }
    for (field, list, fix) in [
        ("cidrs", peer.cidrs, "name a range"),
        ("domains", peer.domains, "name a domain"),
    ] {
        if list.is_some_and(<[String]>::is_empty) {
            problems.push(Problem::new(
                format!("{path}.{field}"),
                Some("[]"),
                "is empty, and empty never means all",
                fix,
            ));
        }
    }
    invalid_domains(&format!("{path}.domains"), peer.domains.unwrap_or_default(), problems);
    for (field, list) in [("cidrs", peer.cidrs), ("except", peer.except)] {
        for (index, text) in list.unwrap_or_default().iter().enumerate() {
            if let Err(message) = cidr::parse(text) {
                let fix = "write it in its shortest form, prefix and all";
                problems.push(Problem::new(
                    format!("{path}.{field}[{index}]"),
                    Some(text),
                    message,
                    fix,
                ));
            }
        }
    }
    let nets: Vec<_> = peer
        .cidrs
        .unwrap_or_default()
        .iter()
        .filter_map(|text| cidr::parse(text).ok())
        .collect();
    for (index, net) in nets.iter().enumerate() {
        if cidr::metadata_in(net).contains(net) {
            let fix = "leave it out: no pod behind a fence may ask for the node's credentials";
            problems.push(Problem::new(
                format!("{path}.cidrs[{index}]"),
                Some(&net.to_string()),
                "is a metadata service, or a way to one",
                fix,
            ));
        }
    }
    for (index, text) in peer.except.unwrap_or_default().iter().enumerate() {
        let inside =
            cidr::parse(text).is_ok_and(|except| nets.iter().any(|net| net.contains(&except) && *net != except));
        if cidr::parse(text).is_ok() && !inside {
            let fix = "name a part of a range in cidrs, smaller than it";
            problems.push(Problem::new(
                format!("{path}.except[{index}]"),
                Some(text),
                "lies in no range of cidrs",
                fix,
            ));
        }
    }
}

fn invalid_domains(path: &str, domains: &[String], problems: &mut Vec<Problem>) {
    if domains.len() > MAX_DOMAINS {
        let fix = "name the others in a rule of their own";
        let message = format!("names more than {MAX_DOMAINS} domains");
        problems.push(Problem::new(path, None, message, fix));
    }
    for (index, domain) in domains.iter().enumerate() {
        if let Err(message) = Domain::parse(domain) {
            let fix =
                "name a domain of the world's DNS, such as api.example.com, or *.example.com for every name below it";
            problems.push(Problem::new(format!("{path}[{index}]"), Some(domain), message, fix));
        }
    }
}

/// What is wrong with a peer's ports.
pub(super) fn invalid_ports(path: &str, ports: &[Port], peer: &Peer<'_>, problems: &mut Vec<Problem>) {
    let path = format!("{path}.ports");
    if ports.is_empty() && !peer.api_server {
        problems.push(Problem::new(
            &path,
            Some("[]"),
            "is empty, and empty never means all",
            "name the ports",
        ));
    }
    for (index, port) in ports.iter().enumerate() {
        let valid = |number: i32| (1..=65535).contains(&number);
        if !valid(port.port) || port.end_port.is_some_and(|end| !valid(end) || end < port.port) {
            let value = port
                .end_port
                .map_or_else(|| port.port.to_string(), |end| format!("{}-{end}", port.port));
            problems.push(Problem::new(
                format!("{path}[{index}]"),
                Some(&value),
                "is no port or range of ports",
                "use 1 to 65535",
            ));
        }
        let protocol = port.protocol.unwrap_or(Protocol::TCP);
        if peer.domains.is_some() && protocol != Protocol::TCP {
            problems.push(Problem::new(
                format!("{path}[{index}].protocol"),
                Some(&format!("{protocol:?}")),
                "is not how domains are reached, which is through the egress proxy and by TCP alone",
                "leave it out, or declare the addresses in cidrs",
            ));
        }
    }
}

/// Whether a class lets a workflow of `namespace` declare this source.
pub(super) fn ingress_allowed(
    peer: &IngressPeer,
    namespace: &NamespaceFacts,
    class: &AIWorkflowClass,
    ranges: &Ranges,
) -> bool {
    allowed(&Peer::from(peer), namespace, class, ranges)
}

/// Whether a class lets a workflow of `namespace` declare this destination.
pub(super) fn egress_allowed(
    peer: &EgressPeer,
    namespace: &NamespaceFacts,
    class: &AIWorkflowClass,
    ranges: &Ranges,
) -> bool {
    allowed(&Peer::from(peer), namespace, class, ranges)
}

fn allowed(peer: &Peer<'_>, namespace: &NamespaceFacts, class: &AIWorkflowClass, ranges: &Ranges) -> bool {
    let mut problems = Vec::new();
    peer_outside_class("", peer, namespace, ("", class), ranges, &mut problems);
    problems.is_empty()
}

/// What of a peer the class does not open.
pub(super) fn peer_outside_class(
    path: &str,
    peer: &Peer<'_>,
    namespace: &NamespaceFacts,
    (class_name, class): (&str, &AIWorkflowClass),
    ranges: &Ranges,
    problems: &mut Vec<Problem>,
) {
    let network = class.spec.network.clone().unwrap_or_default();
    let elsewhere = [
        ("pods", peer.pods.and_then(|pods| pods.namespace.as_deref())),
        (
            "workflow",
            peer.workflow.and_then(|workflow| workflow.namespace.as_deref()),
        ),
    ];
    for (field, other) in elsewhere {
        if let Some(other) =
            other.filter(|other| *other != namespace.name && !network.namespaces.iter().any(|ns| ns == other))
        {
            let message = format!("is a namespace that AIWorkflowClass {class_name} does not open");
            let fix = format!(
                "ask the platform team to add it to spec.network.namespaces of AIWorkflowClass {class_name} (beside the workflow's own, {})",
                shown(&network.namespaces)
            );
            problems.push(Problem::new(
                format!("{path}.{field}.namespace"),
                Some(other),
                message,
                fix,
            ));
        }
    }
    let opened = peer.domains.map(|_| domains::opened(class)).unwrap_or_default();
    // The proxy refuses the cluster's names itself; these open whatever a wildcard means.
    let by_pattern = matches!(
        backend::choice(class),
        BackendChoice::Cilium | BackendChoice::ClusterNetworkPolicy
    );
    for (index, text) in peer.domains.unwrap_or_default().iter().enumerate() {
        let Ok(domain) = Domain::parse(text) else { continue };
        let above = dns::cluster_domains(class).find(|own| by_pattern && domain.is_above(own));
        let within = dns::cluster_domains(class).find(|own| domain.is_within(own));
        let outside = if let Some(of_cluster) = above {
            Some((
                format!("stands for names of the cluster too, which are below {of_cluster}"),
                "name the hosts, or a wildcard beside the cluster's names".to_owned(),
            ))
        } else if let Some(of_cluster) = within {
            Some((
                format!("is a name of the cluster, whose names are below {of_cluster}"),
                "declare what is in the cluster in pods, workflow or cidrs".to_owned(),
            ))
        } else if !opened.iter().any(|pattern| pattern.covers(&domain)) {
            Some((
                format!("is a domain that AIWorkflowClass {class_name} does not open"),
                format!(
                    "ask the platform team to add it to spec.network.domains of AIWorkflowClass {class_name} ({})",
                    shown(&network.domains)
                ),
            ))
        } else {
            None
        };
        if let Some((message, fix)) = outside {
            problems.push(Problem::new(
                format!("{path}.domains[{index}]"),
                Some(text),
                message,
                fix,
            ));
        }
    }
    for (index, text) in peer.cidrs.unwrap_or_default().iter().enumerate() {
        let Ok(net) = cidr::parse(text) else { continue };
        let (message, fix) = if !cidr::covered(&net, &network.cidrs) {
            (
                format!("lies in no range that AIWorkflowClass {class_name} opens"),
                format!(
                    "ask the platform team to add it to spec.network.cidrs of AIWorkflowClass {class_name} ({})",
                    shown(&network.cidrs)
                ),
            )
        } else if !ranges.known() {
            (
                "cannot be opened while the cluster's own ranges, which stay closed, are not known".to_owned(),
                format!(
                    "ask the platform team to set spec.cluster.clusterCIDRs of AIWorkflowClass {class_name}, whose condition ClusterRangesKnown says why"
                ),
            )
        } else if let Some(own) = ranges.holding(&net) {
            (
                format!("is inside the cluster's own ranges ({own})"),
                "name pods or a workflow instead".to_owned(),
            )
        } else {
            continue;
        };
        problems.push(Problem::new(format!("{path}.cidrs[{index}]"), Some(text), message, fix));
    }
}
