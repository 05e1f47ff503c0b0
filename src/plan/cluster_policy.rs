//! Egress by domain, by a ClusterNetworkPolicy of `policy.networking.k8s.io`, with the domain names of its experimental channel: one of a
//! workflow, in the tier that goes before every NetworkPolicy, at the place that the class gives it.
//!
//! It belongs to the cluster, so a workflow cannot own it: its namespace does, and whoever sweeps knows by its name whose it is. No two workflows
//! have one name, because neither a namespace's name nor a workflow's has a dot. Must never: say anything but that names are accepted, and what
//! hands out credentials is not, for pods of one workflow, in a namespace that enforces; elsewhere whoever makes pods gives them the label that it selects.

use serde_json::{Value, json};

use super::{
    Observed,
    backend::{self, PluginPolicies},
    cidr, dns,
    network::NAMESPACE_NAME_LABEL,
};
use crate::{
    api::{AIWorkflowClass, BackendChoice, Mode, Reason, WORKFLOW_LABEL},
    egress::{Allowed, Domain, PortRange, Rule},
};

/// What its name begins with: nobody else makes one that does.
const PREFIX: &str = "ringfence";
/// Most protocols of a rule, as its definition has it. Names of a declared rule are never more.
const MAX: usize = 25;
/// Most rules of one that accept. Its definition has one more, which refuses.
const MAX_RULES: usize = 24;
/// How many rules a condition names.
const MAX_NAMED: usize = 10;

/// Whether a class has pods reach domains by it.
pub fn wants_cluster_policy(class: &AIWorkflowClass) -> bool {
    backend::choice(class) == BackendChoice::ClusterNetworkPolicy
}

/// Name of a workflow's.
pub fn cluster_policy_name(namespace: &str, workflow: &str) -> String {
    format!("{PREFIX}.{namespace}.{workflow}")
}

/// Namespace and name of the workflow whose one of that name is; `None` of a name that Ringfence gives none.
pub fn cluster_policy_of(name: &str) -> Option<(&str, &str)> {
    let (prefix, of) = name.split_once('.')?;
    let (namespace, workflow) = of.split_once('.')?;
    (prefix == PREFIX && !namespace.is_empty() && !workflow.is_empty() && !workflow.contains('.'))
        .then_some((namespace, workflow))
}

/// `spec`, where something is opened.
pub(super) fn spec(workflow: &str, allowed: &Allowed, observed: &Observed, class: &AIWorkflowClass) -> Option<Value> {
    let priority = place(observed, class).ok()?;
    let (accepted, _) = rules(allowed);
    let selecting = |key: &str, value: &str| json!({"matchLabels": {key: value}});
    let pods = json!({
        "namespaceSelector": selecting(NAMESPACE_NAME_LABEL, &observed.namespace.name),
        "podSelector": selecting(WORKFLOW_LABEL, workflow),
    });
    // Whoever answers for a name could lead it there, and what accepts goes before all that keeps a pod from it.
    let refused = cidr::metadata().map(|networks| json!({"networks": networks}));
    let refused = json!({"name": "credentials", "action": "Deny", "to": refused});
    (!accepted.is_empty()).then(|| {
        let rules = [vec![refused], accepted].concat();
        json!({"tier": "Admin", "priority": priority, "subject": {"pods": pods}, "egress": rules})
    })
}

/// Whether a rule of one lets something out.
pub(super) fn is_opening(rule: &Value) -> bool {
    rule["action"] == "Accept"
}

/// Makes an owned object one of the cluster's: the garbage collector takes it with the namespace.
pub(super) fn of_cluster(object: &mut Value, observed: &Observed) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("namespace");
        let (name, uid) = (&observed.namespace.name, &observed.namespace.uid);
        let owner = json!({"apiVersion": "v1", "kind": "Namespace", "name": name, "uid": uid});
        metadata.insert("ownerReferences".to_owned(), json!([owner]));
    }
}

/// Whether an object opens anything. One that does not is none.
pub(super) fn opens_any(policy: &Value) -> bool {
    let rules = policy.pointer("/spec/egress").and_then(Value::as_array);
    rules.is_some_and(|rules| rules.iter().any(is_opening))
}

/// Why what is in force is not reached by it, or not all of it.
pub(super) fn unserved(observed: &Observed, class: &AIWorkflowClass, allowed: &Allowed) -> Option<(Reason, String)> {
    let name = observed.namespace.fencing_class().unwrap_or_default();
    let by = format!("by a ClusterNetworkPolicy (spec.egress of AIWorkflowClass {name})");
    if let Err((lacks, fix)) = place(observed, class) {
        let message = format!(
            "spec.network.egress names domains, which pods reach {by}, and {lacks}: ask the platform team to {fix}; until then domains stay closed, and all else stands as declared"
        );
        return Some((Reason::NoEgressBackend, message));
    }
    let (_, closed) = rules(allowed);
    if !closed.unspellable.is_empty() {
        let message = format!(
            "spec.network.egress names domains that no ClusterNetworkPolicy can name, because a label of theirs ends with an underscore, and pods reach domains {by}: nothing is opened for {}; name others, or ask the platform team for spec.egress.backend: Proxy; all other rules stand as declared",
            named(&closed.unspellable)
        );
        return Some((Reason::NoEgressBackend, message));
    }
    (!closed.beyond.is_empty()).then(|| {
        let message = format!(
            "pods reach domains {by}, which has {MAX_RULES} rules at the most, each of {MAX} ports: nothing is opened for {}; put domains with the same ports into one rule, or ask the platform team for spec.egress.backend: Proxy; all other rules stand as declared",
            named(&closed.beyond)
        );
        (Reason::TooManyNames, message)
    })
}

fn named(rules: &[&str]) -> String {
    let shown = rules.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
    match rules.len().saturating_sub(MAX_NAMED) {
        0 => format!("the rules {shown}"),
        more => format!("the rules {shown} and {more} more"),
    }
}

/// Its place among the platform's own; or what is missing for one to be made, and what to do.
fn place(observed: &Observed, class: &AIWorkflowClass) -> Result<i32, (&'static str, &'static str)> {
    let own = class.spec.egress.and_then(|egress| egress.cluster_network_policy);
    let Some(own) = own.filter(|own| (0..=1000).contains(&own.priority)) else {
        return Err((
            "the class says no place for it among the platform's own",
            "set spec.egress.clusterNetworkPolicy.priority of the class",
        ));
    };
    match observed.cluster_policies {
        _ if !dns::is_reached(class) => Err((
            "spec.cluster.dns of the class lets pods ask no DNS, without which they know no address",
            "let them, or set spec.egress.backend: Proxy",
        )),
        PluginPolicies::Unserved => Err((
            "the API server does not serve clusternetworkpolicies.policy.networking.k8s.io/v1alpha2",
            "install its experimental channel and a network plugin that enforces domainNames, or set spec.egress.backend: Proxy",
        )),
        PluginPolicies::NotAllowed => Err((
            "Ringfence may not write one",
            "set egress.clusterNetworkPolicy.enabled of Ringfence's chart",
        )),
        PluginPolicies::Writable if observed.namespace.mode() != Some(Mode::Enforce) => Err((
            "the namespace does not enforce: whoever makes pods in it could give them the label that one selects, and it goes before every other policy",
            "set the label ringfence.dev/enforce of the namespace, or spec.egress.backend: Proxy of the class",
        )),
        PluginPolicies::Writable => Ok(own.priority),
    }
}

/// Declared rules of which nothing is opened. Each whole: half a rule is nobody's declaration.
#[derive(Default)]
struct Closed<'a> {
    /// With names that the definition does not let it spell.
    unspellable: Vec<&'a str>,
    /// That do not fit any more, and those after them.
    beyond: Vec<&'a str>,
}

fn rules(allowed: &Allowed) -> (Vec<Value>, Closed<'_>) {
    let (mut made, mut closed) = (Vec::new(), Closed::default());
    for rule in allowed.rules.iter().filter(|rule| !rule.domains.is_empty()) {
        let names: Vec<_> = rule.domains.iter().map(Domain::to_string).collect();
        let parts = parts(rule, &names);
        if !names.iter().all(|name| is_spellable(name)) {
            closed.unspellable.push(&rule.name);
        } else if !closed.beyond.is_empty() || made.len() + parts.len() > MAX_RULES || names.len() > MAX {
            closed.beyond.push(&rule.name);
        } else {
            made.extend(parts);
        }
    }
    (made, closed)
}

/// As many rules as its ports need: one without any would open them all.
fn parts(rule: &Rule, names: &[String]) -> Vec<Value> {
    let mut unique = names.to_vec();
    unique.sort_unstable();
    unique.dedup();
    let port = |range: &PortRange| {
        let port = match range.end_port.filter(|end| *end > range.port) {
            Some(end) => json!({"range": {"start": range.port, "end": end}}),
            None => json!({"number": range.port}),
        };
        json!({"tcp": {"destinationPort": port}})
    };
    let part = |ports: &[PortRange]| {
        let ports: Vec<_> = ports.iter().map(port).collect();
        json!({"name": rule.name, "action": "Accept", "to": [{"domainNames": unique}], "protocols": ports})
    };
    rule.ports.chunks(MAX).map(part).collect()
}

/// Whether its definition lets it name that: labels end with a letter or a digit, those of one character aside.
fn is_spellable(name: &str) -> bool {
    let labels = name.strip_prefix("*.").unwrap_or(name).split('.');
    let mut longer = labels.filter(|label| label.len() > 1);
    longer.all(|label| label.ends_with(|last: char| last.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests;
