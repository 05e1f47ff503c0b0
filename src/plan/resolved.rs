//! Egress by domain, by resolved addresses: what of the rules in force is resolved, and the policy that opens what the names were last seen at.
//!
//! Best effort: pods ask for themselves, and may be answered with addresses that nobody else was. What was answered is in the status of
//! the workflow's ResolvedNames, which Ringfence alone writes. Must never: open a wildcard, an address that leads inside, whoever put it there, or
//! more than fits into an object; nor close what is open because nothing is known for the moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    Child, Observed, backend, cluster::Ranges, dns, name_of, network, object, object::Annotations, owned_name,
    owner_uid,
};
use crate::{
    api::{
        AIWorkflow, AIWorkflowClass, Backend, BackendChoice, LookUp, Protocol, Reason, ResolvedNamesStatus,
        WORKFLOW_LABEL,
    },
    egress::{Allowed, Answers, Domain, Host, MAX_NAMES, PortRange, Rule},
};

/// The part of a workflow that both objects are.
const PART: &str = "domains";
/// Most addresses in one policy, counted in each rule: above that it would not fit into an object.
const MAX_BLOCKS: usize = 8192;
/// How many rules or names a condition names.
const MAX_NAMED: usize = 10;

/// Whether a class has pods reach domains by resolved addresses.
pub fn wants_resolved(class: &AIWorkflowClass) -> bool {
    backend::choice(class) == BackendChoice::ResolvedAddresses
}

/// `spec` of the ResolvedNames; `None` where there is nothing to resolve. Also while nothing may be opened: it is the memory.
pub(super) fn spec(allowed: &Allowed) -> Option<Value> {
    let rules = Sorted::of(allowed).resolvable;
    (!rules.is_empty()).then(|| json!({"rules": rules}))
}

/// Whether an object names anything to resolve. One that does not is none.
pub(super) fn names_any(names: &Value) -> bool {
    let rules = names.pointer("/spec/rules").and_then(Value::as_array);
    rules.is_some_and(|rules| !rules.is_empty())
}

/// Whether names are looked up under a class: whether what they lead to could be opened.
pub fn resolves(class: &AIWorkflowClass) -> bool {
    wants_resolved(class) && unusable(class).is_none()
}

/// Adds the policy, made of the ResolvedNames that is desired, as far as that has been narrowed; none where that is not.
pub(super) fn add_policy(
    workflow: &AIWorkflow,
    observed: &Observed,
    class: &AIWorkflowClass,
    desired: &mut BTreeMap<(Child, String), Value>,
) {
    let name = owned_name(&observed.namespace.name, &workflow.name_any(), PART);
    let names = desired.get(&(Child::ResolvedNames, name.clone()));
    let Some(rules) = names.and_then(|names| names.pointer("/spec/rules")) else {
        return;
    };
    let rules: Vec<Rule> = serde_json::from_value(rules.clone()).unwrap_or_default();
    let (egress, _) = match unusable(class) {
        None => openings(&rules, &memory(workflow, observed), class),
        Some(_) => (Vec::new(), Vec::new()),
    };
    // There with no rule, too: what is opened first is then a change of a policy that stands, and no policy that somebody took away.
    let body = json!({"spec": {
        "podSelector": {"matchLabels": {WORKFLOW_LABEL: workflow.name_any()}},
        "policyTypes": ["Egress"],
        "ingress": [],
        "egress": egress,
    }});
    let policy = object::annotated(workflow, Child::NetworkPolicy, &name, &Annotations::default(), body);
    desired.insert((Child::NetworkPolicy, name), policy);
}

/// Why what is in force is not reached by resolved addresses, or not all of it.
pub(super) fn unserved(
    workflow: &AIWorkflow,
    observed: &Observed,
    class: &AIWorkflowClass,
    allowed: &Allowed,
) -> Option<(Reason, String)> {
    let by = format!(
        "by resolved addresses (spec.egress of AIWorkflowClass {})",
        observed.namespace.fencing_class().unwrap_or_default()
    );
    const PROXY: &str = "or ask the platform team for spec.egress.backend: Proxy";
    if let Some((lacks, fix)) = unusable(class) {
        let message = format!(
            "spec.network.egress names domains, which pods reach {by}, and {lacks}: ask the platform team to {fix}, or to set spec.egress.backend: Proxy; until then domains stay closed, and all else stands as declared"
        );
        return Some((Reason::NoEgressBackend, message));
    }
    let sorted = Sorted::of(allowed);
    if !sorted.wildcards.is_empty() {
        let message = format!(
            "spec.network.egress names wildcards, and pods reach domains {by}: nobody can resolve a wildcard, so nothing is opened for {}; name each host, {PROXY}, which takes wildcards; all other rules stand as declared",
            named("rule", &sorted.wildcards)
        );
        return Some((Reason::WildcardDomains, message));
    }
    if !sorted.beyond.is_empty() {
        let message = format!(
            "pods reach domains {by}, and {MAX_NAMES} names of a workflow are resolved: nothing is opened for {}; declare fewer names, {PROXY}",
            named("rule", &sorted.beyond)
        );
        return Some((Reason::TooManyNames, message));
    }
    let memory = memory(workflow, observed);
    let which = |wanted: fn(&crate::api::ResolvedName) -> bool| -> Vec<_> {
        let names = memory.names.iter().filter(|name| wanted(name));
        names.map(|name| name.name.as_str()).collect()
    };
    let beyond = which(|name| name.ipv4 == LookUp::BeyondBounds);
    if !beyond.is_empty() {
        let message = format!(
            "pods reach domains {by}, and more names are declared, in the namespace or in all, than are resolved: addresses of {} stay as they were; declare fewer names, {PROXY}",
            named("domain", &beyond)
        );
        return Some((Reason::TooManyNames, message));
    }
    let (_, closed) = openings(&sorted.resolvable, &memory, class);
    if !closed.is_empty() {
        let message = format!(
            "pods reach domains {by}, and their addresses are more than fit into a NetworkPolicy: nothing is opened for {}; declare fewer names, {PROXY}",
            named("rule", &closed)
        );
        return Some((Reason::TooManyAddresses, message));
    }
    let overflowed = which(|name| name.overflowed.is_some());
    (!overflowed.is_empty()).then(|| {
        let message = format!(
            "pods reach domains {by}, and {} has more than the 100 addresses that are opened, so that some connections fail: declare its ranges in cidrs, {PROXY}, which knows names and not addresses",
            named("domain", &overflowed)
        );
        (Reason::TooManyAddresses, message)
    })
}

/// What is said where everything is applied.
pub(super) fn applied(backend: Option<Backend>) -> Option<&'static str> {
    (backend == Some(Backend::ResolvedAddresses)).then_some(
        "account, role, binding and network policies are as declared; domains are opened by the addresses that Ringfence resolves them to, which is best effort: its ResolvedNames says which, and what does not resolve",
    )
}

/// Why a class lets nothing be opened by resolved addresses, and what to do.
fn unusable(class: &AIWorkflowClass) -> Option<(&'static str, &'static str)> {
    match () {
        () if !dns::is_reached(class) => Some((
            "spec.cluster.dns of the class lets pods ask no DNS, without which they know no address",
            "let them",
        )),
        () if !Ranges::of(class).known() => Some((
            "the cluster's own ranges are not known, into which a name may lead",
            "set spec.cluster.clusterCIDRs of the class",
        )),
        () => None,
    }
}

/// The rules in force, by what can be done about them. Each whole: half a rule is nobody's declaration.
struct Sorted<'a> {
    resolvable: Vec<Rule>,
    wildcards: Vec<&'a str>,
    beyond: Vec<&'a str>,
}

impl<'a> Sorted<'a> {
    fn of(allowed: &'a Allowed) -> Self {
        let mut sorted = Self {
            resolvable: Vec::new(),
            wildcards: Vec::new(),
            beyond: Vec::new(),
        };
        let mut names = BTreeSet::new();
        for rule in allowed.rules.iter().filter(|rule| !rule.ports.is_empty()) {
            let hosts: Option<BTreeSet<Host>> = rule.domains.iter().map(Domain::host).collect();
            let Some(hosts) = hosts else {
                sorted.wildcards.push(&rule.name);
                continue;
            };
            if names.union(&hosts).count() > MAX_NAMES {
                sorted.beyond.push(&rule.name);
                continue;
            }
            if !hosts.is_empty() {
                names.extend(hosts);
                sorted.resolvable.push(rule.clone());
            }
        }
        sorted
    }
}

/// What is remembered of the workflow's names.
fn memory(workflow: &AIWorkflow, observed: &Observed) -> ResolvedNamesStatus {
    let name = owned_name(&observed.namespace.name, &workflow.name_any(), PART);
    let uid = workflow.uid().unwrap_or_default();
    let is_ours = |(child, seen): &&(Child, Value)| {
        *child == Child::ResolvedNames && name_of(seen) == name && owner_uid(seen) == Some(uid.as_str())
    };
    let status = observed
        .children
        .iter()
        .find(is_ours)
        .and_then(|(_, seen)| seen.get("status"));
    let read = status.and_then(|status| serde_json::from_value(status.clone()).ok());
    read.unwrap_or_default()
}

/// Rules of the policy, and names of those rules for which no room is left.
fn openings<'a>(
    rules: &'a [Rule],
    memory: &ResolvedNamesStatus,
    class: &AIWorkflowClass,
) -> (Vec<Value>, Vec<&'a str>) {
    let ranges = Ranges::of(class);
    let guard = Answers::default();
    // What was remembered is judged anew: the cluster may have taken a range since.
    let is_outside = |address: &IpAddr| guard.admit(*address, ranges.all()) == Ok(*address);
    let of_name = |domain: &Domain| {
        let name = domain.to_string();
        let found = memory.names.iter().filter(move |known| known.name == name);
        found.flat_map(|known| &known.addresses)
    };
    let (mut opened, mut closed, mut room) = (Vec::new(), Vec::new(), MAX_BLOCKS);
    for rule in rules {
        let addresses = rule.domains.iter().flat_map(of_name);
        let addresses: BTreeSet<IpAddr> = addresses
            .filter_map(|known| known.address.parse().ok())
            .filter(is_outside)
            .collect();
        let Some(left) = room.checked_sub(addresses.len()) else {
            closed.push(rule.name.as_str());
            continue;
        };
        room = left;
        // A rule without peers would be open to everybody.
        if !addresses.is_empty() && !rule.ports.is_empty() {
            let to: Vec<_> = addresses
                .into_iter()
                .map(|address| network::block(IpNet::from(address), &[]))
                .collect();
            let port =
                |range: &PortRange| network::port(Protocol::TCP, range.port.into(), range.end_port.map(i32::from));
            let ports: Vec<_> = rule.ports.iter().map(port).collect();
            opened.push(json!({"to": to, "ports": ports}));
        }
    }
    (opened, closed)
}

/// A few of many, in a sentence.
pub(super) fn named(what: &str, names: &[&str]) -> String {
    let shown = names.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
    let plural = if names.len() == 1 { "" } else { "s" };
    match names.len().saturating_sub(MAX_NAMED) {
        0 => format!("{what}{plural} {shown}"),
        more => format!("{what}s {shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
