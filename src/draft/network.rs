//! Where the pods talk, as far as NetworkPolicies say so today.
//!
//! Must never: open what no policy opens. What is open because nothing closes it is a comment.

use serde_json::Value;

use super::{
    Notes, Section, Seen, enumerated,
    group::Group,
    list,
    peers::{Peer, peers, ports},
    selector::{is_empty, selects},
    text, texts,
};
use crate::{
    api::{EgressPeer, EgressRule, Empty, IngressPeer, IngressRule, Network, Port, Protocol},
    plan,
};

/// Most rules of one direction.
const MAX_RULES: usize = 64;
/// Most ports of one rule.
const MAX_PORTS: usize = 32;
/// Longest name of a policy inside the name of a rule: a number comes behind it.
const MAX_NAME: usize = 55;
const DNS: i32 = 53;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    const fn type_(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::Egress => "Egress",
        }
    }

    const fn rules(self) -> &'static str {
        match self {
            Self::Ingress => "/spec/ingress",
            Self::Egress => "/spec/egress",
        }
    }

    const fn peers(self) -> &'static str {
        match self {
            Self::Ingress => "/from",
            Self::Egress => "/to",
        }
    }
}

pub(super) fn network(group: &Group<'_>, seen: &Seen, asks_the_api_server: bool, notes: &mut Notes) -> Option<Network> {
    let mut network = Network::default();
    if asks_the_api_server {
        notes.say(
            Section::Network,
            "api-server: added, because it holds rights there. Its templates need automountServiceAccountToken: true.",
        );
        network.egress.push(EgressRule {
            name: "api-server".to_owned(),
            to: EgressPeer {
                api_server: Some(Empty {}),
                ..EgressPeer::default()
            },
            ports: Vec::new(),
            data: None,
        });
    }
    for direction in [Direction::Ingress, Direction::Egress] {
        for opening in openings(direction, group, seen, notes) {
            let problems = match direction {
                Direction::Ingress => {
                    let rule = opening.as_ingress();
                    let problems = plan::ingress_problems(&rule);
                    if problems.is_empty() && has_room(network.ingress.len(), &opening, notes) {
                        network.ingress.push(rule);
                    }
                    problems
                }
                Direction::Egress => {
                    let rule = opening.as_egress();
                    let problems = plan::egress_problems(&rule);
                    if problems.is_empty() && has_room(network.egress.len(), &opening, notes) {
                        network.egress.push(rule);
                    }
                    problems
                }
            };
            for problem in problems {
                notes.say(
                    Section::Network,
                    format!("Not declared of {}: {problem}.", opening.source),
                );
            }
        }
    }
    services(group, seen, notes);
    (network != Network::default()).then_some(network)
}

fn has_room(count: usize, opening: &Opening, notes: &mut Notes) -> bool {
    if count >= MAX_RULES {
        notes.say(
            Section::Network,
            format!("Not declared, for {MAX_RULES} rules are the most: {}.", opening.source),
        );
    }
    count < MAX_RULES
}

/// One peer with its ports, as a policy opens them.
struct Opening {
    name: String,
    source: String,
    peer: Peer,
    ports: Vec<Port>,
}

impl Opening {
    fn as_ingress(&self) -> IngressRule {
        let (pods, cidrs, except) = self.peer.clone().split();
        IngressRule {
            name: self.name.clone(),
            from: IngressPeer {
                pods,
                cidrs,
                except,
                workflow: None,
            },
            ports: self.ports.clone(),
            data: None,
        }
    }

    fn as_egress(&self) -> EgressRule {
        let (pods, cidrs, except) = self.peer.clone().split();
        EgressRule {
            name: self.name.clone(),
            to: EgressPeer {
                pods,
                cidrs,
                except,
                ..EgressPeer::default()
            },
            ports: self.ports.clone(),
            data: None,
        }
    }
}

/// What the policies of one direction open to these pods.
fn openings(direction: Direction, group: &Group<'_>, seen: &Seen, notes: &mut Notes) -> Vec<Opening> {
    let mut found: Vec<Opening> = Vec::new();
    let mut is_limited = false;
    let mut policies: Vec<&Value> = seen
        .policies
        .iter()
        .filter(|policy| !Group::is_ringfences(policy))
        .collect();
    policies.sort_by_key(|policy| text(policy, "/metadata/name"));
    for policy in policies {
        let selector = policy.pointer("/spec/podSelector").unwrap_or(&Value::Null);
        let selected = group
            .sources
            .iter()
            .filter(|source| selects(selector, &source.labels))
            .count();
        if selected == 0 || !has_type(policy, direction) {
            continue;
        }
        is_limited = true;
        let name = text(policy, "/metadata/name");
        if selected < group.sources.len() {
            notes.say(
                Section::Network,
                format!("NetworkPolicy {name} selects some of its pods; here it is declared for all of them."),
            );
        }
        for (index, rule) in list(policy, direction.rules()).enumerate() {
            let source = format!(
                "NetworkPolicy {name}, {} {}",
                direction.type_().to_lowercase(),
                index + 1
            );
            for (peer, ports) in opened(direction, rule, &source, group, seen, notes) {
                let same = |other: &Opening| other.peer == peer && other.ports == ports;
                if !found.iter().any(same) {
                    let short: String = name.chars().take(MAX_NAME).collect();
                    let name = format!("{short}-{}", found.len() + 1);
                    found.push(Opening {
                        name,
                        source: source.clone(),
                        peer,
                        ports,
                    });
                }
            }
        }
    }
    if !is_limited {
        let (today, fenced) = match direction {
            Direction::Ingress => ("what reaches it", "nobody reaches it but who is listed here"),
            Direction::Egress => ("where it talks", "it reaches the cluster's DNS and what is listed here"),
        };
        notes.say(
            Section::Network,
            format!("No NetworkPolicy limits {today} today. Behind the fence {fenced}."),
        );
    }
    found
}

fn has_type(policy: &Value, direction: Direction) -> bool {
    let mut types = texts(policy, "/spec/policyTypes").peekable();
    if types.peek().is_some() {
        return types.any(|type_| type_ == direction.type_());
    }
    direction == Direction::Ingress || policy.pointer("/spec/egress").is_some_and(|egress| !egress.is_null())
}

/// Peers and ports of one rule.
fn opened(
    direction: Direction,
    rule: &Value,
    source: &str,
    group: &Group<'_>,
    seen: &Seen,
    notes: &mut Notes,
) -> Vec<(Peer, Vec<Port>)> {
    let mut refuse = |why: &str| notes.say(Section::Network, format!("Not declared of {source}: {why}."));
    let resolves = (direction == Direction::Ingress).then_some(group);
    let (ports, refused) = ports(rule, resolves);
    refused.iter().for_each(|why| refuse(why));
    if ports.is_empty() {
        return Vec::new();
    }
    let is_dns = |port: &Port| port.port == DNS && port.end_port.is_none() && port.protocol != Some(Protocol::SCTP);
    let only_dns = direction == Direction::Egress && ports.iter().all(is_dns);
    let mut found = Vec::new();
    let mut from_all = true;
    for peer in list(rule, direction.peers()) {
        from_all = false;
        if only_dns && peer.get("ipBlock").is_none_or(Value::is_null) {
            continue;
        }
        match peers(peer, seen) {
            Ok((peers, said)) => {
                said.iter()
                    .for_each(|said| refuse(&format!("{said}; these are declared, and no later one")));
                found.extend(peers);
            }
            Err(why) => refuse(&why),
        }
    }
    if only_dns {
        notes.say(
            Section::Network,
            "The cluster's DNS is open to every workflow: rules for port 53 of pods are left out.",
        );
    } else if from_all {
        let who = match direction {
            Direction::Ingress => "everybody: name who may reach it",
            Direction::Egress => "everywhere: name where it talks",
        };
        notes.say(Section::Network, format!("Not declared of {source}: {who}."));
    }
    if ports.len() > MAX_PORTS {
        notes.say(
            Section::Network,
            format!("{source} has {} ports, in rules of {MAX_PORTS} each.", ports.len()),
        );
    }
    let parts = |peer: Peer| {
        ports
            .chunks(MAX_PORTS)
            .map(move |ports| (peer.clone(), ports.to_vec()))
            .collect::<Vec<_>>()
    };
    found.into_iter().flat_map(parts).collect()
}

/// Services send to pods whatever declared them: whoever uses one must be let in.
fn services(group: &Group<'_>, seen: &Seen, notes: &mut Notes) {
    let sends = |service: &&Value| {
        let selector = service.pointer("/spec/selector").cloned().unwrap_or_default();
        let selector = serde_json::json!({"matchLabels": selector});
        !is_empty(&selector) && group.sources.iter().any(|source| selects(&selector, &source.labels))
    };
    let shown = |service: &Value| {
        let ports = list(service, "/spec/ports").map(|port| {
            let target = port
                .get("targetPort")
                .filter(|port| !port.is_null())
                .or_else(|| port.get("port"));
            target.map_or_else(String::new, |port| {
                port.as_str().map_or_else(|| port.to_string(), str::to_owned)
            })
        });
        let ports: Vec<_> = ports.collect();
        let type_ = match text(service, "/spec/type") {
            kind @ ("NodePort" | "LoadBalancer") => format!(", {kind}"),
            _ => String::new(),
        };
        format!(
            "{} (port {}{type_})",
            text(service, "/metadata/name"),
            ports.join(" and ")
        )
    };
    let found: Vec<String> = seen.services.iter().filter(sends).map(shown).collect();
    if !found.is_empty() {
        let found = enumerated(found.iter().map(String::as_str));
        notes.say(
            Section::Network,
            format!("Services send to it: {found}. Whoever uses them must be in ingress."),
        );
    }
}
