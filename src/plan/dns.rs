//! The cluster's DNS, as the class says where it is and whether workflows reach it, or the egress proxy in its place; and whether data can
//! leave by it.
//!
//! Must never: call a way closed that some policy of ours leaves open.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::{
    EGRESS_DNS_PORT, Observed, Plan, cidr,
    cluster::Ranges,
    domains,
    network::{platform_block, pod_peer, selector},
    peer,
    selector::naming_pods,
};
use crate::api::{
    AIWorkflow, AIWorkflowClass, Backend, ConditionStatus, DnsAddress, DnsMode, EgressRule, LabelSelector, Reason,
};

/// Where NodeLocal DNS listens unless told otherwise. Nothing answers there without it.
const NODE_LOCAL_DNS: &str = "169.254.20.10/32";
const PORT: i32 = 53;
/// Below which the cluster's names are, unless it was told otherwise.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// Where a DNS is: some pods, some addresses, or both.
pub(super) struct Dns {
    /// Namespace and labels of its pods.
    pub(super) pods: Option<(String, LabelSelector)>,
    /// Its addresses, as peers of a NetworkPolicy.
    pub(super) blocks: Vec<Value>,
}

/// The DNS that a class has workflows reach. `None` where it wants none, or names none that can be read: a rule without peers would open port
/// 53 to everywhere.
pub(super) fn of(class: &AIWorkflowClass) -> Option<Dns> {
    let address = address(class)?;
    let labels = address.selector.filter(|pods| naming_pods("", pods).is_empty());
    let cidrs = address.cidrs.unwrap_or_default();
    let dns = Dns {
        pods: address.namespace.zip(labels),
        blocks: cidrs.iter().filter_map(|text| platform_block(text)).collect(),
    };
    (dns.pods.is_some() || !dns.blocks.is_empty()).then_some(dns)
}

/// The rule that opens it, UDP and TCP: long answers come over TCP. `proxy` is the namespace of the egress proxy, where one is installed.
pub(super) fn rule(class: &AIWorkflowClass, proxy: Option<&str>) -> Option<Value> {
    let ports = |port: i32| json!([{"protocol": "UDP", "port": port}, {"protocol": "TCP", "port": port}]);
    if is_cluster_only(class) {
        return Some(json!({"to": [domains::proxy_peer(proxy?)], "ports": ports(EGRESS_DNS_PORT.into())}));
    }
    let Dns { pods, blocks } = of(class)?;
    let pods = pods.map(|(namespace, labels)| pod_peer(&namespace, selector(&labels)));
    let to: Vec<_> = pods.into_iter().chain(blocks).collect();
    Some(json!({"to": to, "ports": ports(PORT)}))
}

/// Whether a class has workflows reach a DNS that answers for every name.
pub fn is_reached(class: &AIWorkflowClass) -> bool {
    of(class).is_some()
}

/// Whether a class has workflows ask the egress proxy, for names of the cluster alone.
pub fn is_cluster_only(class: &AIWorkflowClass) -> bool {
    let dns = class.spec.cluster.as_ref().and_then(|cluster| cluster.dns.as_ref());
    dns.and_then(|dns| dns.mode) == Some(DnsMode::ClusterOnly)
}

/// At which addresses a class has pods ask the egress proxy for names, as far as it knows them. `None`: it has them do no such thing.
pub fn addresses(class: &AIWorkflowClass) -> Option<&[String]> {
    let known = class.status.as_ref().and_then(|status| status.dns.as_ref());
    is_cluster_only(class).then(|| known.map_or(&[][..], |dns| dns.addresses.as_slice()))
}

/// Below which the cluster's names are, as the class knows it.
pub fn cluster_domain(class: &AIWorkflowClass) -> &str {
    let known = class
        .status
        .as_ref()
        .and_then(|status| status.cluster_domain.as_deref());
    known.unwrap_or(CLUSTER_DOMAIN)
}

/// All domains below which names are the cluster's, that one first. Whoever may make a Service has a name there, and says where it leads.
pub fn cluster_domains(class: &AIWorkflowClass) -> impl Iterator<Item = &str> {
    let further = class.status.iter().flat_map(|status| &status.cluster_domains);
    std::iter::once(cluster_domain(class)).chain(further.map(String::as_str))
}

/// What the resolver of a pod of that namespace puts behind a name, in the order in which it tries them.
pub fn search_list(namespace: &str, domain: &str) -> [String; 3] {
    let services = services(domain);
    [format!("{namespace}.{services}"), services, domain.to_owned()]
}

/// Below which Services are.
pub(super) fn services(domain: &str) -> String {
    format!("svc.{domain}")
}

/// Why pods reach no DNS though their class has them ask one.
pub(super) fn unserved(observed: &Observed, class: &AIWorkflowClass) -> Option<(Reason, String)> {
    (is_cluster_only(class) && observed.egress_proxy.is_none()).then(|| {
        let class = observed.namespace.fencing_class().unwrap_or_default();
        let message = format!(
            "pods ask the egress proxy for names (spec.cluster.dns of AIWorkflowClass {class}), and none is installed: ask the platform team to set egress.enabled of Ringfence's chart; until then pods reach no DNS, and all else stands as declared"
        );
        (Reason::NoEgressProxy, message)
    })
}

/// Whom to ask what workflows are answered.
pub struct Askable {
    /// Namespace and labels of the DNS pods.
    pub pods: Option<(String, LabelSelector)>,
    /// Its single addresses. A range says only where a DNS may be.
    pub addresses: Vec<IpAddr>,
}

/// The DNS that a class has workflows reach, to be asked as they ask it.
pub fn askable(class: &AIWorkflowClass) -> Option<Askable> {
    let pods = of(class)?.pods;
    let cidrs = address(class)?.cidrs.unwrap_or_default();
    let nets = cidrs.iter().filter_map(|text| cidr::parse(text).ok());
    let is_one = |net: &IpNet| net.prefix_len() == net.max_prefix_len() && cidr::metadata_in(net).is_empty();
    Some(Askable {
        pods,
        addresses: nets.filter(is_one).map(|net| net.addr()).collect(),
    })
}

fn address(class: &AIWorkflowClass) -> Option<DnsAddress> {
    let Some(declared) = class.spec.cluster.as_ref().and_then(|cluster| cluster.dns.clone()) else {
        return Some(usual());
    };
    let names_none = declared.selector.is_none() && declared.cidrs.is_none();
    match declared.mode {
        Some(DnsMode::None | DnsMode::ClusterOnly) => None,
        Some(DnsMode::Cluster) if names_none => Some(usual()),
        Some(DnsMode::Cluster) | None => Some(declared),
    }
}

/// The DNS pods, and the address at which NodeLocal DNS answers on each node where it is installed.
fn usual() -> DnsAddress {
    let labels = [("k8s-app".to_owned(), "kube-dns".to_owned())];
    let selector = LabelSelector {
        match_labels: labels.into_iter().collect(),
        match_expressions: Vec::new(),
    };
    DnsAddress {
        mode: None,
        namespace: Some("kube-system".to_owned()),
        selector: Some(selector),
        cidrs: Some(vec![NODE_LOCAL_DNS.to_owned()]),
    }
}

/// Whether its pods can send data out in the names that they ask a DNS for: condition `DnsExfiltration`. `None` where nothing holds them.
pub(super) fn exfiltration(
    workflow: &AIWorkflow,
    observed: &Observed,
    plan: &Plan,
) -> Option<(ConditionStatus, Reason, String)> {
    let class_name = observed.namespace.fencing_class()?;
    let class = observed.class.as_ref()?;
    let possible = |message| Some((ConditionStatus::True, Reason::Possible, message));
    if is_reached(class) && !plan.takes_dns {
        return possible(format!(
            "its pods may ask the cluster's DNS, which passes a question on to whoever answers for that name, so data can leave in names. To close it, have pods reach the world by egress to domains alone, and ask the platform team for spec.cluster.dns.mode: ClusterOnly, or None, in AIWorkflowClass {class_name}"
        ));
    }
    if let Some(index) = way_to_another(workflow, observed, class) {
        return possible(format!(
            "spec.network.egress[{index}] opens port {PORT}, where a DNS may answer and pass questions on, so data can leave in names: leave that port out"
        ));
    }
    let message = match (plan.takes_dns, &plan.unserved) {
        (true, None | Some((Reason::WildcardDomains, _))) => "its pods may ask the cluster's DNS for domains that it declares and for names in namespaces that it reaches, and Cilium cuts off all other questions".to_owned(),
        (true, Some(_)) => "its pods reach no DNS: condition Programmed says why".to_owned(),
        (false, _) if is_cluster_only(class) && observed.egress_proxy.is_none() => {
            "its pods reach no DNS: condition Programmed says why".to_owned()
        }
        (false, _) if is_cluster_only(class) => format!(
            "its pods ask the egress proxy alone for names (spec.cluster.dns of AIWorkflowClass {class_name}), which passes on those of the cluster and knows no others"
        ),
        (false, _) if matches!(plan.backend, Some(Backend::ResolvedAddresses | Backend::ClusterNetworkPolicy)) => format!(
            "its pods reach no DNS (spec.cluster.dns of AIWorkflowClass {class_name}): condition Programmed says what that closes"
        ),
        (false, _) => format!(
            "its pods reach no DNS (spec.cluster.dns of AIWorkflowClass {class_name}); the egress proxy looks names up"
        ),
    };
    Some((ConditionStatus::False, Reason::Closed, message))
}

/// The rule in force that leads to where another DNS may be.
fn way_to_another(workflow: &AIWorkflow, observed: &Observed, class: &AIWorkflowClass) -> Option<usize> {
    let network = workflow.spec.network.as_ref()?;
    let ranges = Ranges::for_network(network, class);
    let opens = |rule: &EgressRule| {
        let leads_to_it = rule
            .ports
            .iter()
            .any(|port| (port.port..=port.end_port.unwrap_or(port.port)).contains(&PORT));
        leads_to_it
            && rule.to.domains.is_none()
            && peer::egress_problems(rule).is_empty()
            && peer::egress_allowed(&rule.to, &observed.namespace, class, &ranges)
    };
    network.egress.iter().position(opens)
}

/// What is wrong with a class's word on the DNS.
pub(super) fn class_problems(class: &AIWorkflowClass, problems: &mut Vec<super::Problem>) {
    let Some(dns) = class.spec.cluster.as_ref().and_then(|cluster| cluster.dns.as_ref()) else {
        return;
    };
    if let Some(pods) = &dns.selector {
        problems.extend(naming_pods("spec.cluster.dns.selector", pods));
    }
    let names_some = dns.namespace.is_some() || dns.selector.is_some() || dns.cidrs.is_some();
    if matches!(dns.mode, Some(DnsMode::None | DnsMode::ClusterOnly)) && names_some {
        problems.push(super::Problem::new(
            "spec.cluster.dns",
            None,
            "names a DNS, and its mode says that none is reached beside the egress proxy",
            "leave namespace, selector and cidrs out, or say mode: Cluster",
        ));
    }
}
