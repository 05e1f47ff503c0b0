//! The cluster's own ranges: what is read of them, how a class knows them, and what they take from a declared range.
//!
//! A range that covers pods, Services or nodes would open everything inside, past what the other end declares. Must never: take
//! "not known" for "none".

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::cidr;
use crate::api::{AIWorkflowClass, AIWorkflowClassStatus, ClusterStatus, ConditionStatus, Network, Reason};

/// Most ranges that a class knows: each of them may become an exception of every declared range.
const MAX_RANGES: usize = 512;
/// Most addresses of the API server that are said.
const MAX_API_SERVER: usize = 64;
/// Most ranges and exceptions of one workflow: above that its NetworkPolicy would not fit into an object, and the one before it
/// would stay.
const MAX_ENTRIES: usize = 8192;

/// The cluster's ranges, joined and sorted; or why they are not known.
pub type Detection = Result<Vec<IpNet>, String>;

/// A Node, as far as ranges go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeFacts {
    /// Ranges of its pods, as written.
    pub pods: Vec<String>,
    /// Its internal and external addresses. What is no address is left out: no packet goes there.
    pub addresses: Vec<IpNet>,
    /// Whether it may be without a range: it is being deleted, or so new that its range is still to come.
    pub excused: bool,
}

impl NodeFacts {
    /// Reads `spec.podCIDRs`, and type and address of each of `status.addresses`.
    pub fn new<'a>(pods: Vec<String>, addresses: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let addresses = addresses
            .into_iter()
            .filter(|(kind, _)| matches!(*kind, "InternalIP" | "ExternalIP"));
        Self {
            pods,
            addresses: addresses.filter_map(|(_, text)| read(text)).collect(),
            excused: false,
        }
    }

    /// Whether pods may run on it that no range of a Node holds.
    pub fn lacks_range(&self) -> bool {
        self.pods.is_empty() && !self.excused
    }
}

/// Reads a range or an address as Kubernetes writes it, which once took zeros in front of a number, and mapped forms.
fn read(text: &str) -> Option<IpNet> {
    let net: IpNet = match text.contains('/') {
        true => text.parse().ok()?,
        false if text.contains(':') => format!("{text}/128").parse().ok()?,
        false => format!("{text}/32").parse().ok()?,
    };
    let mapped = match net {
        IpNet::V6(six) => six
            .addr()
            .to_ipv4_mapped()
            .and_then(|four| Ipv4Net::new(four, six.prefix_len().checked_sub(96)?).ok()),
        IpNet::V4(_) => None,
    };
    Some(mapped.map_or(net, IpNet::V4).trunc())
}

/// The cluster's ranges, from `spec.cidrs` of its ServiceCIDRs and from its Nodes. `own` are Ringfence's own addresses, where
/// those are known: it is a pod, so a range that does not hold them is not where pods are.
pub fn detect<'a>(services: &[String], nodes: impl IntoIterator<Item = &'a NodeFacts>, own: &[IpAddr]) -> Detection {
    if services.is_empty() {
        return Err("there is no ServiceCIDR".to_owned());
    }
    let (mut texts, mut found) = (Vec::from_iter(services), Vec::new());
    let (mut all, mut with, mut without) = (0, 0, 0);
    for node in nodes {
        all += 1;
        with += usize::from(!node.pods.is_empty());
        without += usize::from(node.lacks_range());
        texts.extend(&node.pods);
        found.extend_from_slice(&node.addresses);
    }
    if all > 0 && with == 0 {
        return Err(
            "no Node has spec.podCIDRs: the network plugin hands out pod addresses of its own pools".to_owned(),
        );
    }
    if without > 0 {
        return Err(format!(
            "{without} of {all} Nodes have no spec.podCIDRs: nobody says which addresses their pods have"
        ));
    }
    for text in texts {
        found.push(read(text).ok_or_else(|| format!("{text:?} is no range"))?);
    }
    let found = joined(&found);
    if let Some(own) = own.iter().find(|own| !found.iter().any(|range| range.contains(*own))) {
        return Err(format!(
            "Ringfence's own address {own} is in no range of ServiceCIDRs and Nodes: the network plugin hands out pod addresses of its own pools"
        ));
    }
    if found.len() > MAX_RANGES {
        return Err(format!(
            "ServiceCIDRs and Nodes have {} ranges, and {MAX_RANGES} are the most that fit into policies",
            found.len()
        ));
    }
    Ok(found)
}

fn joined(ranges: &[IpNet]) -> Vec<IpNet> {
    let mut joined = IpNet::aggregate(&ranges.to_vec());
    joined.sort_unstable();
    joined
}

/// Writes into a class's status what was detected of the cluster. Where nothing is any more, for one new Node without a range, what was is
/// mostly true still: it opens nothing, and domains must not lead there from one second to the next. A status outlives every process that
/// would remember it.
pub fn say_detected(status: &mut AIWorkflowClassStatus, detection: &Detection) {
    match detection {
        Ok(ranges) => {
            let ranges = ranges.iter().map(ToString::to_string).collect();
            status.cluster = Some(ClusterStatus { ranges });
            status.last_known_ranges.clear();
        }
        Err(_) => {
            if let Some(before) = status.cluster.take() {
                status.last_known_ranges = before.ranges;
            }
        }
    }
}

/// What a class's status says of where the API server is: its addresses, each as a range.
pub fn api_server_status(addresses: &BTreeSet<(IpAddr, u16)>) -> Vec<String> {
    let nets: BTreeSet<_> = addresses.iter().map(|(address, _)| IpNet::from(*address)).collect();
    nets.iter().take(MAX_API_SERVER).map(ToString::to_string).collect()
}

/// Whether a class knows the cluster's ranges, and by what. `None` where nothing was read yet.
pub fn cluster_condition(
    class: &AIWorkflowClass,
    detection: Option<&Detection>,
) -> Option<(ConditionStatus, Reason, String)> {
    const CLOSED: &str = "until then no range of addresses is opened";
    let said = match (declared(class), detection) {
        (Some(_), _) if Ranges::of(class).known() => (
            ConditionStatus::True,
            Reason::Declared,
            "ranges of pods, Services and nodes: see spec.cluster.clusterCIDRs".to_owned(),
        ),
        (Some(_), _) => (
            ConditionStatus::False,
            Reason::Invalid,
            format!("spec.cluster.clusterCIDRs cannot be read: correct it; {CLOSED}"),
        ),
        (None, Some(Ok(_))) => (
            ConditionStatus::True,
            Reason::Detected,
            "ranges of pods, Services and nodes: see status.cluster, read from ServiceCIDRs and Nodes; pods with addresses of other pools need spec.cluster.clusterCIDRs".to_owned(),
        ),
        (None, Some(Err(why))) => (
            ConditionStatus::False,
            Reason::NotDetected,
            format!("{why}: set spec.cluster.clusterCIDRs to the ranges of pods, Services and nodes; {CLOSED}"),
        ),
        (None, None) => return None,
    };
    Some(said)
}

/// The cluster's ranges and where its API server is, as a class knows them, or knew them last; none where it never did. They close.
pub fn cluster_ranges(class: &AIWorkflowClass) -> Vec<IpNet> {
    let said = class
        .spec
        .cluster
        .as_ref()
        .and_then(|cluster| cluster.api_server.as_ref());
    let said = said.iter().flat_map(|address| &address.cidrs);
    let found = class.status.iter().flat_map(|status| &status.api_server);
    let known_last = class.status.iter().flat_map(|status| &status.last_known_ranges);
    let known_last = known_last.filter(|_| declared(class).is_none());
    let texts = said.chain(found).chain(known_last);
    let read = texts.filter_map(|text| cidr::parse(text).ok());
    let ranges = Ranges::of(class).0.unwrap_or_default();
    ranges.into_iter().chain(read).collect()
}

/// Whether a class knows the cluster's ranges, so that declared ones can be opened without them.
pub fn knows_cluster(class: &AIWorkflowClass) -> bool {
    Ranges::of(class).known()
}

fn declared(class: &AIWorkflowClass) -> Option<&Vec<String>> {
    class.spec.cluster.as_ref()?.cluster_cidrs.as_ref()
}

/// The cluster's ranges as a class knows them, in each form in which a packet can carry them.
pub(super) struct Ranges(Option<Vec<IpNet>>);

impl Ranges {
    /// Those that the class declares, else those that were detected. One that cannot be read makes all of them unknown.
    pub(super) fn of(class: &AIWorkflowClass) -> Self {
        let detected = || Some(&class.status.as_ref()?.cluster.as_ref()?.ranges);
        let texts = declared(class).filter(|declared| !declared.is_empty());
        let texts = if declared(class).is_some() { texts } else { detected() };
        let parsed: Option<Vec<_>> = texts.and_then(|texts| texts.iter().map(|text| cidr::parse(text).ok()).collect());
        Self(parsed.map(|parsed| {
            let translated: Vec<_> = parsed.iter().filter_map(cidr::translated).collect();
            joined(&[parsed, translated].concat())
        }))
    }

    /// The same, for a declaration that may name no range at all: then nothing is worked out.
    pub(super) fn for_network(network: &Network, class: &AIWorkflowClass) -> Self {
        if cidrs(network).next().is_none() {
            Self(None)
        } else {
            Self::of(class)
        }
    }

    /// Whether they are known.
    pub(super) fn known(&self) -> bool {
        self.0.is_some()
    }

    /// All of them; none where they are not known.
    pub(super) fn all(&self) -> &[IpNet] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The range of the cluster that holds all of `net`.
    pub(super) fn holding(&self, net: &IpNet) -> Option<&IpNet> {
        self.0.iter().flatten().find(|range| range.contains(net))
    }

    /// What must be taken out of `net`: `except` of its peer, what hands out credentials, and the cluster's own ranges. Each lies
    /// strictly inside it. `None` where nothing would be left, or nobody knows.
    pub(super) fn carve(&self, net: &IpNet, except: &[String]) -> Option<Vec<IpNet>> {
        let own = self.0.as_ref()?;
        let declared = except.iter().filter_map(|text| cidr::parse(text).ok());
        let taken = declared.chain(cidr::metadata_in(net)).chain(own.iter().copied());
        let touching: Vec<_> = taken
            .filter(|taken| net.contains(taken) || taken.contains(net))
            .collect();
        let taken = joined(&touching);
        (!taken.iter().any(|taken| taken.contains(net))).then_some(taken)
    }

    /// Whether all that a declaration names, with what must be taken out of it, fits into one NetworkPolicy.
    pub(super) fn fit(&self, network: &Network) -> bool {
        let mut entries = 0;
        for (text, except) in cidrs(network) {
            let taken = cidr::parse(text).ok().and_then(|net| self.carve(&net, except));
            entries += 1 + taken.map_or(0, |taken| taken.len());
            if entries > MAX_ENTRIES {
                return false;
            }
        }
        true
    }
}

/// Every declared range, both ways, with its peer's `except`.
fn cidrs(network: &Network) -> impl Iterator<Item = (&String, &[String])> {
    let ingress = network.ingress.iter().map(|rule| (&rule.from.cidrs, &rule.from.except));
    let egress = network.egress.iter().map(|rule| (&rule.to.cidrs, &rule.to.except));
    ingress.chain(egress).flat_map(|(cidrs, except)| {
        let except = except.as_deref().unwrap_or_default();
        cidrs.iter().flatten().map(move |text| (text, except))
    })
}

#[cfg(test)]
mod tests;
