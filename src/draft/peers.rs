//! Peers and ports of a NetworkPolicy in our own words, where we have words for them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Seen, enumerated,
    group::Group,
    labels, list,
    selector::{is_empty, ours, selects},
    text, texts,
};
use crate::api::{PodPeer, Port, Protocol};

/// Label that the API server itself puts on each namespace.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Most namespaces that one selector becomes.
const MAX_NAMESPACES: usize = 16;

/// One declared peer of either direction.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Peer {
    Pods(PodPeer),
    Cidr { cidr: String, except: Vec<String> },
}

/// Pods, ranges, and what is excepted of the ranges.
type Parts = (Option<PodPeer>, Option<Vec<String>>, Option<Vec<String>>);

impl Peer {
    /// The fields of either direction's peer.
    pub(super) fn split(self) -> Parts {
        match self {
            Self::Pods(pods) => (Some(pods), None, None),
            Self::Cidr { cidr, except } => (None, Some(vec![cidr]), (!except.is_empty()).then_some(except)),
        }
    }
}

/// The peers that one peer of a NetworkPolicy becomes; or why it cannot be declared. `Ok` holds what is to be said as well.
pub(super) fn peers(peer: &Value, seen: &Seen) -> Result<(Vec<Peer>, Option<String>), String> {
    if let Some(block) = peer.get("ipBlock").filter(|block| block.is_object()) {
        let except = texts(block, "/except").map(str::to_owned).collect();
        let cidr = text(block, "/cidr").to_owned();
        return Ok((vec![Peer::Cidr { cidr, except }], None));
    }
    let pods = peer.get("podSelector").filter(|selector| !is_empty(selector));
    let (namespaces, said) = match peer.get("namespaceSelector").filter(|selector| selector.is_object()) {
        Some(selector) => namespaces(selector, seen)?,
        None => (vec![seen.namespace.clone()], None),
    };
    let Some(pods) = pods else {
        let places = enumerated(namespaces.iter().map(String::as_str));
        return Err(format!(
            "every pod of {places}: name the pods by label, for empty never means all"
        ));
    };
    let selector = ours(pods).ok_or("a selector that is newer than this program")?;
    let peer = |namespace: String| {
        Peer::Pods(PodPeer {
            namespace: (namespace != seen.namespace).then_some(namespace),
            selector: selector.clone(),
        })
    };
    Ok((namespaces.into_iter().map(peer).collect(), said))
}

/// The namespaces that a selector selects: by name, or those that match today.
fn namespaces(selector: &Value, seen: &Seen) -> Result<(Vec<String>, Option<String>), String> {
    let by_label = labels(selector, "/matchLabels");
    let mut expressions = list(selector, "/matchExpressions");
    match (by_label.iter().next(), expressions.next()) {
        (None, None) => return Err("every namespace: name them".to_owned()),
        (Some((key, name)), None) if by_label.len() == 1 && key == NAMESPACE_NAME_LABEL => {
            return Ok((vec![name.clone()], None));
        }
        (None, Some(only))
            if expressions.next().is_none()
                && text(only, "/key") == NAMESPACE_NAME_LABEL
                && text(only, "/operator") == "In" =>
        {
            let names: BTreeSet<_> = texts(only, "/values").map(str::to_owned).collect();
            return bounded(names.into_iter().collect()).map(|names| (names, None));
        }
        _ => {}
    }
    let Some(all) = &seen.namespaces else {
        return Err("namespaces by label, and the namespaces could not be read: name them".to_owned());
    };
    let found = all
        .iter()
        .filter(|(_, labels)| selects(selector, labels))
        .map(|(name, _)| name.clone())
        .collect();
    let found = bounded(found)?;
    let said = format!(
        "a selector of namespaces, which selects {} today",
        enumerated(found.iter().map(String::as_str))
    );
    Ok((found, Some(said)))
}

fn bounded(names: Vec<String>) -> Result<Vec<String>, String> {
    match names.len() {
        0 => Err("a selector of namespaces that selects none today".to_owned()),
        1..=MAX_NAMESPACES => Ok(names),
        many => Err(format!(
            "a selector of {many} namespaces: name at most {MAX_NAMESPACES}"
        )),
    }
}

/// The ports of a rule, and what of them cannot be declared. `group` resolves names of the workflow's own ports.
pub(super) fn ports(rule: &Value, group: Option<&Group<'_>>) -> (Vec<Port>, Vec<String>) {
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    if list(rule, "/ports").next().is_none() {
        refused.push("every port: name the ports".to_owned());
    }
    for entry in list(rule, "/ports") {
        let protocol = match text(entry, "/protocol") {
            "UDP" => Some(Protocol::UDP),
            "SCTP" => Some(Protocol::SCTP),
            _ => None,
        };
        let port = |port: i32, end_port: Option<i32>| Port {
            port,
            end_port,
            protocol,
        };
        match entry.get("port") {
            Some(Value::Number(number)) => {
                let number = number.as_i64().and_then(|number| i32::try_from(number).ok());
                let end = entry
                    .get("endPort")
                    .and_then(Value::as_i64)
                    .and_then(|end| i32::try_from(end).ok());
                found.extend(number.map(|number| port(number, end)));
            }
            Some(Value::String(name)) => {
                let named = group
                    .map(|group| named_ports(group, name, text(entry, "/protocol")))
                    .unwrap_or_default();
                if named.is_empty() {
                    refused.push(format!("the port named {name:?}: give its number"));
                }
                found.extend(named.into_iter().map(|number| port(number, None)));
            }
            _ => refused.push(format!(
                "every port of {}: name the ports",
                protocol.map_or("TCP", name_of)
            )),
        }
    }
    let mut unique = Vec::new();
    for port in found {
        if !unique.contains(&port) {
            unique.push(port);
        }
    }
    (unique, refused)
}

const fn name_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::SCTP => "SCTP",
        Protocol::TCP => "TCP",
        Protocol::UDP => "UDP",
    }
}

fn named_ports(group: &Group<'_>, name: &str, protocol: &str) -> BTreeSet<i32> {
    let usual = |protocol: &'static str, given: &str| given == protocol || (given.is_empty() && protocol == "TCP");
    let same = |given: &str| {
        ["TCP", "UDP", "SCTP"]
            .into_iter()
            .any(|word| usual(word, given) && usual(word, protocol))
    };
    let mut found = BTreeSet::new();
    for source in &group.sources {
        for container in source.containers() {
            let ports =
                list(container, "/ports").filter(|port| text(port, "/name") == name && same(text(port, "/protocol")));
            found.extend(ports.filter_map(|port| i32::try_from(port.get("containerPort")?.as_i64()?).ok()));
        }
    }
    found
}
