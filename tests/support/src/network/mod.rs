//! Who may talk to whom, said twice and compared: as declared ([`declared`]), and as NetworkPolicies have it
//! ([`Simulator`]).
//!
//! Must never use Ringfence's own code, nor its crate: two readings that share a mistake agree on it.

mod declared;
mod range;
mod simulator;

pub use declared::{Declared, declared};
pub use simulator::Simulator;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Labels of a pod or a namespace.
pub type Labels = BTreeMap<String, String>;

/// Whom a matrix is about. Every pod is asked about with every other pod and every address, both ways, on every port.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Scene {
    /// Labels by name.
    pub namespaces: BTreeMap<String, Labels>,
    /// Pods of these namespaces.
    pub pods: Vec<Pod>,
    /// Addresses of no pod.
    pub addresses: Vec<IpAddr>,
    /// Ports of whoever is the destination.
    pub ports: Vec<Port>,
}

/// A pod, as a network plugin sees it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// Address.
    pub ip: IpAddr,
}

impl Scene {
    /// These pods, in namespaces that have no label but the API server's own, and these addresses, on these ports.
    ///
    /// # Panics
    /// When an address is none.
    pub fn of(pods: Vec<Pod>, addresses: &[&str], numbers: impl IntoIterator<Item = u16>) -> Self {
        let named = |pod: &Pod| {
            let labels = [("kubernetes.io/metadata.name".to_owned(), pod.namespace.clone())];
            (pod.namespace.clone(), labels.into())
        };
        let address = |ip: &&str| ip.parse().unwrap_or_else(|error| panic!("{ip}: {error}"));
        Self {
            namespaces: pods.iter().map(named).collect(),
            addresses: addresses.iter().map(address).collect(),
            ports: ports(numbers),
            pods,
        }
    }
}

impl Pod {
    /// A pod.
    ///
    /// # Panics
    /// When the address is none.
    pub fn new(namespace: &str, name: &str, labels: &[(&str, &str)], ip: &str) -> Self {
        let labels = labels
            .iter()
            .map(|(key, value)| (String::from(*key), String::from(*value)));
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            labels: labels.collect(),
            ip: ip.parse().unwrap_or_else(|error| panic!("{ip}: {error}")),
        }
    }
}

/// A port of a destination.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Port {
    /// Number.
    pub port: u16,
    /// Protocol: `SCTP`, `TCP` or `UDP`.
    pub protocol: &'static str,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// Every protocol that a NetworkPolicy knows.
pub const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Each of these ports in every protocol.
pub fn ports(numbers: impl IntoIterator<Item = u16>) -> Vec<Port> {
    let numbers: BTreeSet<u16> = numbers.into_iter().collect();
    let all = numbers
        .into_iter()
        .flat_map(|port| PROTOCOLS.map(|protocol| Port { port, protocol }));
    all.collect()
}

/// What is open from one end to another: for each port of the scene, in its order, `'1'` where it is, `'0'` where it is not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Open {
    /// What the source's side lets out.
    pub egress: String,
    /// What the destination's side lets in.
    pub ingress: String,
}

impl Open {
    fn of(&self, port: usize) -> [bool; 2] {
        [&self.egress, &self.ingress].map(|side| side.as_bytes().get(port) == Some(&b'1'))
    }

    fn says(&self, port: usize) -> &'static str {
        match self.of(port) {
            [true, true] => "open",
            [false, true] => "closed by the source",
            [true, false] => "closed by the destination",
            [false, false] => "closed by both ends",
        }
    }
}

/// By source and destination, each `namespace/name` of a pod or an address.
pub type Matrix = BTreeMap<(String, String), Open>;

/// Where two matrices of a scene differ, a line for each path: `ai-a/triage -> ai-b/qdrant:6334/TCP: declared open, simulated
/// closed by the source`.
pub fn differences(scene: &Scene, declared: &Matrix, simulated: &Matrix) -> Vec<String> {
    let mut found = Vec::new();
    let pairs: BTreeSet<_> = declared.keys().chain(simulated.keys()).collect();
    for pair @ (from, to) in pairs {
        let (Some(declared), Some(simulated)) = (declared.get(pair), simulated.get(pair)) else {
            found.push(format!("{from} -> {to}: only one of the two knows of it"));
            continue;
        };
        if declared == simulated {
            continue;
        }
        for (index, port) in scene.ports.iter().enumerate() {
            let (wanted, is) = (declared.says(index), simulated.says(index));
            if wanted != is {
                found.push(format!("{from} -> {to}:{port}: declared {wanted}, simulated {is}"));
            }
        }
    }
    found
}

/// Paths of a scene that are open from end to end: `ai-a/triage -> ai-b/qdrant:6334/TCP`.
pub fn open_paths(scene: &Scene, matrix: &Matrix) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for ((from, to), open) in matrix {
        let ports = scene.ports.iter().enumerate();
        let through = ports.filter(|(index, _)| open.of(*index) == [true, true]);
        found.extend(through.map(|(_, port)| format!("{from} -> {to}:{port}")));
    }
    found
}
