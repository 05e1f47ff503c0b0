//! What a declaration refers to: peers, the API server, grants, launchers; and what of it does not resolve.

use std::collections::BTreeSet;

use kube::ResourceExt;

use super::{Observed, claims, grant, network};
use crate::api::{AIWorkflow, AIWorkflowClass, EgressPeer, IngressPeer, Network, Reason, WorkflowPeer, is_dns_label};

/// Workflows that a declaration names as peers, by namespace and name, as far as a workflow can have that name.
pub fn peers_of(workflow: &AIWorkflow) -> BTreeSet<(String, String)> {
    named_peers(workflow)
        // What no workflow can be called becomes part of no URL.
        .filter(|(namespace, name)| is_dns_label(namespace) && is_dns_label(name))
        .map(|(namespace, name)| (namespace.to_owned(), name.to_owned()))
        .collect()
}

/// Whether a declaration names that workflow as a peer. Asked of every declaration whenever one of them changes, so it makes nothing.
pub fn is_peer(workflow: &AIWorkflow, (namespace, name): &(String, String)) -> bool {
    named_peers(workflow).any(|peer| peer == (namespace.as_str(), name.as_str()))
}

fn named_peers(workflow: &AIWorkflow) -> impl Iterator<Item = (&str, &str)> {
    let own = workflow.metadata.namespace.as_deref().unwrap_or_default();
    let network = workflow.spec.network.as_ref();
    let ingress = network.into_iter().flat_map(|network| &network.ingress);
    let egress = network.into_iter().flat_map(|network| &network.egress);
    ingress
        .filter_map(|rule| rule.from.workflow.as_ref())
        .chain(egress.filter_map(|rule| rule.to.workflow.as_ref()))
        .map(move |peer| (peer.namespace.as_deref().unwrap_or(own), peer.name.as_str()))
}

/// Namespaces that a declaration claims rights in, as far as a namespace can have that name.
pub fn reached_into(workflow: &AIWorkflow) -> impl Iterator<Item = &str> {
    let namespaces = workflow.cross_namespace().iter().map(|entry| entry.namespace.as_str());
    namespaces.filter(|name| is_dns_label(name))
}

/// Whether a grant's entry can name a workflow.
pub fn is_grantee(from: &crate::api::GrantedWorkflow) -> bool {
    is_dns_label(&from.namespace) && is_dns_label(&from.name)
}

fn address(peer: &WorkflowPeer, own: &str) -> (String, String) {
    (
        peer.namespace.clone().unwrap_or_else(|| own.to_owned()),
        peer.name.clone(),
    )
}

/// Both ends declare: a path between workflows is open when one names the other in egress, and is named in its ingress.
pub(super) fn unresolved(
    workflow: &AIWorkflow,
    observed: &Observed,
    class: &AIWorkflowClass,
) -> Option<(Reason, String)> {
    let own = &observed.namespace.name;
    let us = (own.clone(), workflow.name_any());
    let network = workflow.spec.network.clone().unwrap_or_default();
    // What is said of a peer tells that it is there, and what it declares: of namespaces that the class opens, and of no other. Of those
    // `Accepted` says that they are not open.
    let is_open = |namespace: &str| namespace == own || opens(class, namespace);
    let mut found: Vec<(Reason, String)> = Vec::new();
    let mut check = |path: String,
                     peer: &WorkflowPeer,
                     names_us: fn(&AIWorkflow, &(String, String)) -> bool,
                     side: &str| {
        let key = address(peer, own);
        let (namespace, name) = &key;
        if !is_open(namespace) {
            return;
        }
        match observed.peers.get(&key) {
            None => found.push((Reason::PeerMissing, format!("{path}: AIWorkflow {namespace}/{name} does not exist: create it, or remove this rule"))),
            Some(peer) if !names_us(peer, &us) => found.push((
                Reason::PeerDoesNotNameUs,
                format!("{path}: AIWorkflow {namespace}/{name} does not name {}/{} in its {side}: both ends declare a path, add it there", us.0, us.1),
            )),
            Some(_) => {}
        }
    };
    for (index, rule) in network.egress.iter().enumerate() {
        if let Some(peer) = &rule.to.workflow {
            check(
                format!("spec.network.egress[{index}]"),
                peer,
                is_named_in_ingress,
                "ingress",
            );
        }
    }
    for (index, rule) in network.ingress.iter().enumerate() {
        if let Some(peer) = &rule.from.workflow {
            check(
                format!("spec.network.ingress[{index}]"),
                peer,
                is_named_in_egress,
                "egress",
            );
        }
    }
    for (index, rule) in network.egress.iter().enumerate() {
        if let Some(why) = observed
            .unread_api_server
            .as_ref()
            .filter(|_| rule.to.api_server.is_some())
        {
            found.push((
                Reason::PeerMissing,
                format!("spec.network.egress[{index}]: where the API server is now is not known, because one {why}; what was known of it stays open: ask the platform team to mend that, or to set spec.cluster.apiServer of the class"),
            ));
        } else if rule.to.api_server.is_some() && !network::knows_api_server(observed, class) {
            found.push((
                Reason::PeerMissing,
                format!("spec.network.egress[{index}]: the API server's address is not known: ask the platform team to set spec.cluster.apiServer of the class"),
            ));
        }
    }
    // Once for all that is declared: a grant can be long.
    let giving = observed
        .grants
        .iter()
        .filter(|grant| grant::gives_to(grant, &us.0, &us.1));
    let giving: Vec<_> = giving
        .map(|grant| (grant.namespace(), grant::covering(grant)))
        .collect();
    for (index, entry) in workflow.cross_namespace().iter().enumerate() {
        let is_there = |namespace: &Option<String>| namespace.as_ref() == Some(&entry.namespace);
        let covering = || giving.iter().filter(|(namespace, _)| is_there(namespace));
        for (number, rule) in entry.rules.iter().enumerate() {
            if covering().any(|(_, grant)| grant.covers(rule)) {
                continue;
            }
            let place = format!("spec.permissions.crossNamespace[{index}].rules[{number}]");
            let namespace = &entry.namespace;
            if let Some(why) = observed.unread_grants.get(namespace) {
                found.push((Reason::NoGrant, format!(
                    "{place}: whether an AIWorkflowGrant in namespace {namespace} covers it for {}/{} is not known, because {why}: ask its team to delete those that nobody needs",
                    us.0, us.1
                )));
            } else {
                found.push((Reason::NoGrant, format!(
                    "{place}: no AIWorkflowGrant in namespace {namespace} covers it for {}/{}: ask its team for one",
                    us.0, us.1
                )));
            }
        }
    }
    for (account, owner) in &observed.launching_workflows {
        found.push((
            Reason::NoGrant,
            claims::left_out(account, Some(owner).filter(|_| is_open(&account.0)), own),
        ));
    }
    let reason = found.first()?.0;
    Some((
        reason,
        found
            .into_iter()
            .map(|(_, message)| message)
            .collect::<Vec<_>>()
            .join("; "),
    ))
}

/// Whether a class lets its workflows know what is in a namespace.
pub(super) fn opens(class: &AIWorkflowClass, namespace: &str) -> bool {
    let network = class.spec.network.as_ref();
    network.is_some_and(|network| network.namespaces.iter().any(|open| open == namespace))
}

/// What is asked of a peer's declaration, in namespace `own`: whether it names that workflow as source, and as destination. Whatever else it
/// declares, nobody reads there.
pub fn naming(mut network: Network, own: &str, us: &(String, String)) -> Network {
    let names_us = |named: &Option<WorkflowPeer>| named.as_ref().is_some_and(|named| address(named, own) == *us);
    network.ingress.retain(|rule| names_us(&rule.from.workflow));
    network.egress.retain(|rule| names_us(&rule.to.workflow));
    network.ingress.truncate(1);
    network.egress.truncate(1);
    for rule in &mut network.ingress {
        let workflow = rule.from.workflow.take();
        rule.from = IngressPeer {
            workflow,
            ..IngressPeer::default()
        };
        (rule.ports, rule.data) = (Vec::new(), None);
    }
    for rule in &mut network.egress {
        let workflow = rule.to.workflow.take();
        rule.to = EgressPeer {
            workflow,
            ..EgressPeer::default()
        };
        (rule.ports, rule.data) = (Vec::new(), None);
    }
    network.ingress.shrink_to_fit();
    network.egress.shrink_to_fit();
    network
}

fn is_named_in_ingress(peer: &AIWorkflow, us: &(String, String)) -> bool {
    let own = peer.namespace().unwrap_or_default();
    let rules = peer.spec.network.as_ref().map_or(&[][..], |network| &network.ingress);
    rules
        .iter()
        .filter_map(|rule| rule.from.workflow.as_ref())
        .any(|named| address(named, &own) == *us)
}

fn is_named_in_egress(peer: &AIWorkflow, us: &(String, String)) -> bool {
    let own = peer.namespace().unwrap_or_default();
    let rules = peer.spec.network.as_ref().map_or(&[][..], |network| &network.egress);
    rules
        .iter()
        .filter_map(|rule| rule.to.workflow.as_ref())
        .any(|named| address(named, &own) == *us)
}
