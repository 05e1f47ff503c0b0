//! The cluster's own ranges: what is read of them, how a class knows them, and what they take from a declared range.
//!
//! A range that covers pods, Services or nodes would open everything inside, past what the other end declares. Must never: take
//! "not known" for "none".

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::cidr;
use crate::api::{AIWorkflowClass, ClusterStatus, ConditionStatus, Network, Reason};

/// Most ranges that a class knows: each of them may become an exception of every declared range.
const MAX_RANGES: usize = 512;
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
        }
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
    let (mut any_node, mut any_pods) = (false, false);
    for node in nodes {
        any_node = true;
        any_pods |= !node.pods.is_empty();
        texts.extend(&node.pods);
        found.extend_from_slice(&node.addresses);
    }
    if any_node && !any_pods {
        return Err(
            "no Node has spec.podCIDRs: the network plugin hands out pod addresses of its own pools".to_owned(),
        );
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

/// What a class's status says of the cluster: `None` where nothing was detected.
pub fn cluster_status(detection: &Detection) -> Option<ClusterStatus> {
    let ranges = detection.as_ref().ok()?;
    Some(ClusterStatus {
        ranges: ranges.iter().map(ToString::to_string).collect(),
    })
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
            "spec.cluster.clusterCIDRs says them".to_owned(),
        ),
        (Some(_), _) => (
            ConditionStatus::False,
            Reason::Invalid,
            format!("spec.cluster.clusterCIDRs cannot be read: correct it; {CLOSED}"),
        ),
        (None, Some(Ok(_))) => (
            ConditionStatus::True,
            Reason::Detected,
            "status.cluster says them, from ServiceCIDRs and Nodes; pods with addresses of other pools need spec.cluster.clusterCIDRs".to_owned(),
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
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    fn node(pods: &[&str], addresses: &[&str]) -> NodeFacts {
        let typed = addresses.iter().map(|address| ("InternalIP", *address));
        NodeFacts::new(strings(pods), typed)
    }

    fn said(detection: &Detection) -> Vec<String> {
        cluster_status(detection).unwrap().ranges
    }

    fn class(cluster: &Value, detected: Option<&[&str]>) -> AIWorkflowClass {
        let mut object = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "c"},
            "spec": {"cluster": cluster},
        });
        if let Some(ranges) = detected {
            object["status"] = json!({"cluster": {"ranges": ranges}});
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn services_pods_and_nodes_are_joined_and_sorted() {
        let nodes = [
            node(&["10.244.1.0/24", "fd00:1::/64"], &["198.18.0.2"]),
            node(&["10.244.0.0/24"], &["198.18.0.3", "::ffff:198.18.0.9", "fd00:2::1"]),
            NodeFacts::new(
                Vec::new(),
                [
                    ("ExternalIP", "203.0.113.9"),
                    ("Hostname", "192.0.2.1"),
                    ("InternalIP", "node-a"),
                ],
            ),
        ];
        let detection = detect(&strings(&["10.96.0.0/16", "fd00:9::/112"]), &nodes, &[]);
        let expected = [
            "10.96.0.0/16",
            "10.244.0.0/23",
            "198.18.0.2/31",
            "198.18.0.9/32",
            "203.0.113.9/32",
            "fd00:1::/64",
            "fd00:2::1/128",
            "fd00:9::/112",
        ];
        assert_eq!(said(&detection), expected);
        let turned: Vec<_> = nodes.iter().rev().collect();
        assert_eq!(
            detect(&strings(&["fd00:9::/112", "10.96.0.0/16"]), turned, &[]),
            detection
        );
    }

    /// Kubernetes once took zeros in front of a number, and still keeps what was stored then.
    #[rstest]
    #[case::zeros("010.244.000.000/16", Some("10.244.0.0/16"))]
    #[case::host_bits("10.244.3.7/16", Some("10.244.0.0/16"))]
    #[case::mapped("::ffff:10.244.0.0/112", Some("10.244.0.0/16"))]
    #[case::address("10.1.2.3", Some("10.1.2.3/32"))]
    #[case::six("fd00::7", Some("fd00::7/128"))]
    #[case::name("node-a", None)]
    #[case::empty("", None)]
    fn facts_are_read_as_kubernetes_writes_them(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(read(text).map(|net| net.to_string()).as_deref(), expected);
    }

    #[rstest]
    #[case::no_service_range(&[], vec![node(&["10.244.0.0/24"], &[])], &[], "no ServiceCIDR")]
    #[case::pools_of_the_plugin(&["10.96.0.0/16"], vec![node(&[], &["198.18.0.2"])], &[], "no Node has spec.podCIDRs")]
    #[case::pods_elsewhere(&["10.96.0.0/16"], vec![node(&["10.244.0.0/24"], &[])], &["192.168.3.4"], "192.168.3.4")]
    #[case::unreadable(&["10.96.0.0/16"], vec![node(&["ten"], &[])], &[], "\"ten\" is no range")]
    fn what_may_be_incomplete_is_not_detected(
        #[case] services: &[&str],
        #[case] nodes: Vec<NodeFacts>,
        #[case] own: &[&str],
        #[case] why: &str,
    ) {
        let own: Vec<_> = own.iter().map(|own| own.parse().unwrap()).collect();
        let detection = detect(&strings(services), &nodes, &own);
        assert!(detection.as_ref().unwrap_err().contains(why), "{detection:?}");
        assert_eq!(cluster_status(&detection), None);
        let (status, reason, message) = cluster_condition(&class(&json!({}), None), Some(&detection)).unwrap();
        assert_eq!((status, reason), (ConditionStatus::False, Reason::NotDetected));
        assert!(
            message.contains(why) && message.contains("spec.cluster.clusterCIDRs"),
            "{message}"
        );
    }

    /// No node, no pod: the first one brings its range along. One that has none yet is waited for.
    #[test]
    fn a_cluster_that_is_just_growing_is_detected() {
        let services = strings(&["10.96.0.0/16"]);
        assert_eq!(said(&detect(&services, &[], &[])), ["10.96.0.0/16"]);
        let own = ["10.244.0.7".parse().unwrap()];
        let nodes = [node(&["10.244.0.0/24"], &[]), node(&[], &["198.18.0.2"])];
        assert_eq!(said(&detect(&services, &nodes, &own)).len(), 3);
    }

    #[test]
    fn more_ranges_than_fit_are_not_detected() {
        let addresses: Vec<_> = (0..600)
            .map(|n| format!("198.18.{}.{}", n / 100, n % 100 * 2))
            .collect();
        let many = |count: usize| {
            node(
                &["10.244.0.0/24"],
                &addresses[..count].iter().map(String::as_str).collect::<Vec<_>>(),
            )
        };
        let services = strings(&["10.96.0.0/16"]);
        assert_eq!(said(&detect(&services, &[many(510)], &[])).len(), 512);
        let detection = detect(&services, &[many(511)], &[]);
        assert!(detection.unwrap_err().contains("have 513 ranges"));
    }

    #[rstest]
    #[case::detected(json!({}), Some(&["10.96.0.0/16"][..]), "203.0.113.0/24", true)]
    #[case::declared_instead(json!({"clusterCIDRs": ["203.0.113.0/24"]}), Some(&["10.96.0.0/16"][..]), "10.96.0.0/16", true)]
    #[case::not_known(json!({}), None, "203.0.113.0/24", false)]
    #[case::declared_unreadable(json!({"clusterCIDRs": ["10.0.0.0/8", "10.0.0.1/8"]}), Some(&["10.96.0.0/16"][..]), "203.0.113.0/24", false)]
    #[case::declared_nothing(json!({"clusterCIDRs": []}), Some(&["10.96.0.0/16"][..]), "203.0.113.0/24", false)]
    #[case::detected_unreadable(json!({}), Some(&["10.96.0.0/16", "x"][..]), "203.0.113.0/24", false)]
    fn what_the_class_says_comes_first_and_what_nobody_knows_stays_closed(
        #[case] cluster: Value,
        #[case] detected: Option<&[&str]>,
        #[case] net: &str,
        #[case] open: bool,
    ) {
        let ranges = Ranges::of(&class(&cluster, detected));
        assert_eq!(
            (ranges.known(), ranges.carve(&net.parse().unwrap(), &[]).is_some()),
            (open, open)
        );
    }

    const CLUSTER: [&str; 4] = ["10.96.0.0/16", "10.244.0.0/16", "198.18.0.7/32", "fd00:244::/56"];

    #[rstest]
    #[case::lower_half("0.0.0.0/1", &[], Some("10.96.0.0/16 10.244.0.0/16 100.100.100.200/32"))]
    #[case::upper_half("128.0.0.0/1", &[], Some("168.63.129.16/32 169.254.169.254/32 169.254.170.2/32 169.254.170.23/32 198.18.0.7/32"))]
    #[case::around("10.0.0.0/8", &["10.96.0.0/12", "10.244.7.0/24"], Some("10.96.0.0/12 10.244.0.0/16"))]
    #[case::elsewhere("203.0.113.0/24", &["203.0.113.7/32", "198.51.100.0/24"], Some("203.0.113.7/32"))]
    #[case::six("fd00::/16", &[], Some("fd00:244::/56 fd00:ec2::23/128 fd00:ec2::254/128"))]
    #[case::whole("10.96.0.0/16", &[], None)]
    #[case::part("10.244.3.0/24", &[], None)]
    #[case::node("198.18.0.7/32", &[], None)]
    #[case::part_of_six("fd00:244:0:3::/64", &[], None)]
    #[case::through_nat64("64:ff9b::/96", &[], Some(
        "64:ff9b::a60:0/112 64:ff9b::af4:0/112 64:ff9b::6464:64c8/128 64:ff9b::a83f:8110/128 64:ff9b::a9fe:a9fe/128 \
         64:ff9b::a9fe:aa02/128 64:ff9b::a9fe:aa17/128 64:ff9b::c612:7/128"))]
    #[case::inside_through_nat64("64:ff9b::a60:100/120", &[], None)]
    #[case::joined_to_all_of_it("198.18.0.6/31", &["198.18.0.6/32"], None)]
    fn the_clusters_own_ranges_are_taken_out(
        #[case] net: &str,
        #[case] except: &[&str],
        #[case] expected: Option<&str>,
    ) {
        let ranges = Ranges::of(&class(&json!({}), Some(&CLUSTER)));
        let net: IpNet = net.parse().unwrap();
        let carved = ranges.carve(&net, &strings(except));
        let shown = carved
            .as_ref()
            .map(|taken| taken.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        assert_eq!(shown.as_deref(), expected);
        // What the API server demands of ipBlock.except.
        assert!(
            carved
                .iter()
                .flatten()
                .all(|taken| net.contains(taken) && *taken != net)
        );
    }

    #[test]
    fn two_halves_of_everything_leave_what_everything_leaves() {
        let ranges = Ranges::of(&class(&json!({}), Some(&CLUSTER)));
        let carved = |net: &str| ranges.carve(&net.parse().unwrap(), &[]).unwrap();
        assert_eq!(
            [carved("0.0.0.0/1"), carved("128.0.0.0/1")].concat(),
            carved("0.0.0.0/0")
        );
        assert_eq!([carved("::/1"), carved("8000::/1")].concat(), carved("::/0"));
    }

    #[test]
    fn what_does_not_fit_into_one_policy_is_found() {
        let detected: Vec<_> = (0..500)
            .map(|n| format!("198.18.{}.{}/32", n / 100, n % 100 * 2))
            .collect();
        let detected: Vec<_> = detected.iter().map(String::as_str).collect();
        let ranges = Ranges::of(&class(&json!({}), Some(&detected)));
        let rules = |count: usize| -> Network {
            let rule = json!({"name": "x", "to": {"cidrs": ["0.0.0.0/0"]}, "ports": [{"port": 1}]});
            serde_json::from_value(json!({"egress": vec![rule; count]})).unwrap()
        };
        assert!(ranges.fit(&rules(16)));
        assert!(!ranges.fit(&rules(17)));
    }
}
