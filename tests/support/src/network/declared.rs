//! A deliberately naive reading of what is declared: straight from the JSON that a person wrote and from the words of the
//! design.

use std::net::IpAddr;

use serde_json::Value;

use super::range::Range;
use super::{Labels, Matrix, Open, Pod, Port, Scene};

/// Addresses that hand out a cloud's credentials: never a peer, whatever a range holds. In the form of NAT64 as well.
const METADATA: [&str; 27] = [
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.169.252",
    "169.254.0.23",
    "169.254.42.42",
    "192.0.0.192",
    "100.96.0.96",
    "100.80.80.80",
    "64:ff9b::169.254.169.252",
    "64:ff9b::169.254.0.23",
    "64:ff9b::169.254.42.42",
    "64:ff9b::192.0.0.192",
    "64:ff9b::100.96.0.96",
    "64:ff9b::100.80.80.80",
    "64:ff9b::169.254.169.254",
    "64:ff9b::168.63.129.16",
    "64:ff9b::100.100.100.200",
    "64:ff9b::169.254.170.2",
    "64:ff9b::169.254.170.23",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd00:42::42",
    "fd00:a9fe:a9fe::1",
    "fd00:100::100:200",
];

/// What people declared, and the cluster that they declared it in.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// AIWorkflows with metadata, of an invalid one what is valid: an invalid rule opens nothing, so leave it out.
    pub workflows: Vec<Value>,
    /// AIWorkflowClasses.
    pub classes: Vec<Value>,
    /// Where the API server is: by address and TCP port.
    pub api_server: Vec<(IpAddr, u16)>,
    /// The cluster's own ranges, where a class does not say them: no declared range reaches into them. `None`: not known, and
    /// no range is opened.
    pub cluster_ranges: Option<Vec<String>>,
    /// Namespace of the egress proxy, where there is one.
    pub egress_proxy: Option<String>,
}

/// What the declarations open. Each side by itself: the source's, and the destination's.
pub fn declared(scene: &Scene, said: &Declared) -> Matrix {
    let mut matrix = Matrix::new();
    let pods = scene.pods.iter().map(End::Pod);
    let ends: Vec<_> = pods
        .chain(scene.addresses.iter().map(|address| End::Address(*address)))
        .collect();
    for from in &ends {
        for to in &ends {
            if from.name() == to.name() || matches!((from, to), (End::Address(_), End::Address(_))) {
                continue;
            }
            let open = Open {
                egress: side(scene, said, from, to, "egress"),
                ingress: side(scene, said, to, from, "ingress"),
            };
            matrix.insert((from.name(), to.name()), open);
        }
    }
    matrix
}

enum End<'a> {
    Pod(&'a Pod),
    Address(IpAddr),
}

impl End<'_> {
    fn name(&self) -> String {
        match self {
            Self::Pod(pod) => format!("{}/{}", pod.namespace, pod.name),
            Self::Address(address) => address.to_string(),
        }
    }

    fn ip(&self) -> IpAddr {
        match self {
            Self::Pod(pod) => pod.ip,
            Self::Address(address) => *address,
        }
    }

    /// Whether it is a pod of that namespace with labels that `test` takes.
    fn is_pod(&self, namespace: &str, test: impl Fn(&Labels) -> bool) -> bool {
        matches!(self, Self::Pod(pod) if pod.namespace == namespace && test(&pod.labels))
    }
}

/// Ports from first to last of a protocol.
type Range16 = (u64, u64, String);

/// For each port, whether the fence of `own` leaves it open towards `other`.
fn side(scene: &Scene, said: &Declared, own: &End<'_>, other: &End<'_>, direction: &str) -> String {
    let all = |open: bool| if open { "1" } else { "0" }.repeat(scene.ports.len());
    // Nothing holds what is outside the cluster.
    let End::Pod(pod) = own else {
        return all(true);
    };
    let labels = &scene.namespaces[&pod.namespace];
    let enforced = labels.get("ringfence.dev/enforce");
    let Some(class_name) = enforced.or(labels.get("ringfence.dev/warn")) else {
        return all(true);
    };
    let workflow = said.workflows.iter().find(|workflow| {
        let (namespace, name) = (
            text(&workflow["metadata"]["namespace"]),
            text(&workflow["metadata"]["name"]),
        );
        namespace == pod.namespace && pod.labels.get("ringfence.dev/workflow").map(String::as_str) == Some(name)
    });
    let Some(workflow) = workflow else {
        // The default-deny is the enforced namespace's; under warn a pod of no workflow is as free as before.
        return all(enforced.is_none());
    };
    let class = said
        .classes
        .iter()
        .find(|class| text(&class["metadata"]["name"]) == class_name);
    let class = &class.unwrap_or_else(|| panic!("no class {class_name}"))["spec"];
    let place = Place {
        said,
        class,
        namespace: &pod.namespace,
    };
    let mut ranges: Vec<Range16> = Vec::new();
    for rule in list(&workflow["spec"]["network"][direction]) {
        let peer = if direction == "egress" {
            &rule["to"]
        } else {
            &rule["from"]
        };
        if peer.get("apiServer").is_some() {
            ranges.extend(place.api_server_ports(other));
        } else if peer.get("domains").is_some() {
            // Which domain it is is the proxy's to see.
            let opens = place.may_be_declared(peer) && place.is_proxy(other);
            ranges.extend(opens.then(|| (3128, 3128, "TCP".to_owned())));
        } else if place.may_be_declared(peer) && place.is_peer(peer, other) {
            ranges.extend(list(&rule["ports"]).iter().map(port_range));
        }
    }
    if direction == "egress" && place.is_dns(other) {
        ranges.extend(["TCP", "UDP"].map(|protocol| (53, 53, protocol.to_owned())));
    }
    let is_open = |port: &Port| {
        let number = u64::from(port.port);
        let mut ranges = ranges.iter();
        ranges.any(|(first, last, protocol)| (*first..=*last).contains(&number) && protocol == port.protocol)
    };
    scene
        .ports
        .iter()
        .map(|port| if is_open(port) { '1' } else { '0' })
        .collect()
}

struct Place<'a> {
    said: &'a Declared,
    class: &'a Value,
    namespace: &'a str,
}

impl Place<'_> {
    /// Whether the class opens all of a peer, and none of its ranges lies in the cluster's own: a peer with one that does stays
    /// closed whole.
    fn may_be_declared(&self, peer: &Value) -> bool {
        let network = &self.class["network"];
        for kind in ["pods", "workflow"] {
            let namespace = peer[kind]["namespace"].as_str().unwrap_or(self.namespace);
            let named = list(&network["namespaces"])
                .iter()
                .any(|named| text(named) == namespace);
            if namespace != self.namespace && !named {
                return false;
            }
        }
        let domains = list(&network["domains"]);
        let opens_domain = |domain: &Value| domains.iter().any(|open| holds_domain(text(open), text(domain)));
        if !list(&peer["domains"]).iter().all(opens_domain) {
            return false;
        }
        let own = self.own();
        list(&peer["cidrs"]).iter().all(|declared| {
            let declared = Range::read(text(declared));
            let opened = |class: &Value| Range::read(text(class)).covers(&declared);
            let left = own.as_ref().is_some_and(|own| declared.is_left_after(own));
            left && list(&network["cidrs"]).iter().any(opened)
        })
    }

    /// The cluster's own ranges. `None`: nobody knows.
    fn own(&self) -> Option<Vec<Range>> {
        let declared = self.class["cluster"]["clusterCIDRs"].as_array();
        let declared = declared.map(|ranges| ranges.iter().map(|range| text(range).to_owned()).collect());
        let own: Vec<String> = declared.or_else(|| self.said.cluster_ranges.clone())?;
        // What NAT64 turns into an address of the cluster is one.
        let translated = own.iter().filter(|range| range.contains('.')).map(|range| {
            let (first, fixed) = range.split_once('/').unwrap_or_else(|| panic!("{range} is no range"));
            let fixed: u32 = fixed.parse().unwrap_or_else(|error| panic!("{range}: {error}"));
            format!("64:ff9b::{first}/{}", 96 + fixed)
        });
        Some(
            own.iter()
                .cloned()
                .chain(translated)
                .map(|range| Range::read(&range))
                .collect(),
        )
    }

    /// What no range of a peer opens. `None`: nobody knows.
    fn taken(&self, peer: &Value) -> Option<Vec<Range>> {
        let metadata = METADATA.map(|address| format!("{address}/{}", if address.contains(':') { 128 } else { 32 }));
        let except = list(&peer["except"]).iter().map(|range| text(range).to_owned());
        let others = metadata.into_iter().chain(except).map(|range| Range::read(&range));
        Some(self.own()?.into_iter().chain(others).collect())
    }

    fn is_peer(&self, peer: &Value, other: &End<'_>) -> bool {
        if let Some(pods) = peer.get("pods") {
            let namespace = pods["namespace"].as_str().unwrap_or(self.namespace);
            return other.is_pod(namespace, |labels| selects(&pods["selector"], labels));
        }
        if let Some(workflow) = peer.get("workflow") {
            let namespace = workflow["namespace"].as_str().unwrap_or(self.namespace);
            let name = text(&workflow["name"]);
            return other.is_pod(namespace, |labels| {
                labels.get("ringfence.dev/workflow").is_some_and(|is| is == name)
            });
        }
        let ip = other.ip();
        let mut declared = list(&peer["cidrs"]).iter();
        let taken = self.taken(peer).into_iter().flatten();
        declared.any(|range| Range::read(text(range)).holds(ip)) && !taken.into_iter().any(|taken| taken.holds(ip))
    }

    fn api_server_ports(&self, other: &End<'_>) -> Vec<Range16> {
        let tcp = |port: u64| (port, port, "TCP".to_owned());
        if let Some(address) = self.class["cluster"].get("apiServer") {
            let there = list(&address["cidrs"])
                .iter()
                .any(|range| Range::read(text(range)).holds(other.ip()));
            let ports = list(&address["ports"]).iter().filter(|_| there);
            return ports.filter_map(Value::as_u64).map(tcp).collect();
        }
        let known = self.said.api_server.iter().filter(|(ip, _)| *ip == other.ip());
        known.map(|(_, port)| tcp(u64::from(*port))).collect()
    }

    fn is_proxy(&self, other: &End<'_>) -> bool {
        let is = |labels: &Labels, key: &str, value: &str| labels.get(key).is_some_and(|is| is == value);
        self.said.egress_proxy.as_ref().is_some_and(|namespace| {
            other.is_pod(namespace, |labels| {
                is(labels, "app.kubernetes.io/name", "ringfence-egress")
                    && is(labels, "app.kubernetes.io/component", "egress")
            })
        })
    }

    fn is_dns(&self, other: &End<'_>) -> bool {
        let dns = self.class["cluster"].get("dns");
        if dns.is_some_and(|dns| dns["mode"] == "None") {
            return false;
        }
        let says_where = |dns: &&Value| dns.get("selector").is_some() || dns.get("cidrs").is_some();
        let Some(dns) = dns.filter(says_where) else {
            let node_local = other.ip().to_string() == "169.254.20.10";
            let app = |labels: &Labels| labels.get("k8s-app").is_some_and(|app| app == "kube-dns");
            return node_local || other.is_pod("kube-system", app);
        };
        let by_address = list(&dns["cidrs"])
            .iter()
            .any(|range| Range::read(text(range)).holds(other.ip()));
        let by_label = dns
            .get("selector")
            .is_some_and(|selector| other.is_pod(text(&dns["namespace"]), |labels| selects(selector, labels)));
        (by_address && !is_metadata(other.ip())) || by_label
    }
}

/// Whether every name that `declared` stands for is one of those that `open` stands for.
fn holds_domain(open: &str, declared: &str) -> bool {
    if open == "*" || open == declared {
        return true;
    }
    let below = open.strip_prefix('*').is_some_and(|parent| declared.ends_with(parent));
    // A name is not below itself, and what `*.a` stands for lies below `*.a` alone.
    below && declared.len() > open.len() - 1
}

fn is_metadata(ip: IpAddr) -> bool {
    METADATA.iter().any(|address| address.parse() == Ok(ip.to_canonical()))
}

/// As the Kubernetes documentation has it.
fn selects(selector: &Value, labels: &Labels) -> bool {
    let wanted = selector["matchLabels"].as_object();
    let mut equal = wanted.into_iter().flatten();
    let mut required = list(&selector["matchExpressions"]).iter();
    equal.all(|(key, value)| labels.get(key).is_some_and(|is| is == text(value)))
        && required.all(|requirement| {
            let is = labels.get(text(&requirement["key"]));
            let listed = |is: &String| list(&requirement["values"]).iter().any(|value| text(value) == is);
            match text(&requirement["operator"]) {
                "In" => is.is_some_and(listed),
                "NotIn" => !is.is_some_and(listed),
                "Exists" => is.is_some(),
                "DoesNotExist" => is.is_none(),
                other => panic!("{other} is no operator"),
            }
        })
}

fn port_range(port: &Value) -> Range16 {
    let first = port["port"].as_u64().unwrap_or_else(|| panic!("{port} has no port"));
    let last = port["endPort"].as_u64().unwrap_or(first);
    (first, last, port["protocol"].as_str().unwrap_or("TCP").to_owned())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// # Panics
/// When it is no text: the scene is wrong then.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
