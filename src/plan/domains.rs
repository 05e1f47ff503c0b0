//! Egress by domain: which declared domains are in force, and the policy that opens the way to the egress proxy and says where it leads.
//!
//! One object says both, so that neither stands without the other. Must never: open the way while nothing is in force, or let a domain be in
//! force that the class does not open.

use std::num::TryFromIntError;

use serde_json::{Value, json};

use super::{Child, Observed, Problem, backend, cluster::Ranges, dns, network::NAMESPACE_NAME_LABEL, peer};
use crate::{
    api::{AIWorkflow, AIWorkflowClass, EgressRule, Port, WORKFLOW_LABEL},
    egress::{self, Allowed, Domain, Pattern, PortRange, TooLong},
};

/// Name of the egress proxy: of its Service, and the label [`PROXY_LABEL`] of its pods. Not `ringfence`, which the webhook's Service
/// selects.
pub const EGRESS_PROXY: &str = "ringfence-egress";
/// Port of the egress proxy, by TCP.
pub const EGRESS_PROXY_PORT: u16 = 3128;
/// Port at which pods of the egress proxy answer for names of the cluster, by UDP and TCP: its Service has them at 53, which only the privileged
/// may listen at.
pub const EGRESS_DNS_PORT: u16 = 1053;
/// Labels of its pods beside the release's own.
const PROXY_LABEL: &str = "app.kubernetes.io/name";
const PROXY_COMPONENT: (&str, &str) = ("app.kubernetes.io/component", "egress");

/// The way to the egress proxy.
pub(super) struct Opening {
    /// Where it leads, for [`egress::ANNOTATION`].
    pub(super) leads_to: String,
    /// `spec` of the policy that opens it. Every list is there, empty or not, so that a foreign addition is a difference.
    pub(super) spec: Value,
}

/// What is opened for a workflow whose pods reach domains through the egress proxy: nothing where none is in force, or no proxy is there.
pub(super) fn opening(workflow: &AIWorkflow, observed: &Observed, class: &AIWorkflowClass) -> Option<Opening> {
    let proxy = observed.egress_proxy.as_deref()?;
    let leads_to = written(&in_force(workflow, observed, class))?;
    let spec = json!({
        "podSelector": {"matchLabels": {WORKFLOW_LABEL: workflow.metadata.name}},
        "policyTypes": ["Egress"],
        "ingress": [],
        "egress": [{"to": [proxy_peer(proxy)], "ports": [{"protocol": "TCP", "port": EGRESS_PROXY_PORT}]}],
    });
    Some(Opening { leads_to, spec })
}

/// The pods of the egress proxy in that namespace, as a peer of a NetworkPolicy.
pub(super) fn proxy_peer(namespace: &str) -> Value {
    let (component, of_proxy) = PROXY_COMPONENT;
    json!({
        "namespaceSelector": {"matchLabels": {NAMESPACE_NAME_LABEL: namespace}},
        "podSelector": {"matchLabels": {PROXY_LABEL: EGRESS_PROXY, component: of_proxy}},
    })
}

/// Namespace of the egress proxy that one of these policies of Ringfence's leads to.
pub fn egress_proxy_of(children: &[(Child, Value)]) -> Option<&str> {
    let leads_to_it = |(_, policy): &&(Child, Value)| {
        let annotations = policy.pointer("/metadata/annotations");
        annotations.is_some_and(|annotations| annotations.get(egress::ANNOTATION).is_some())
    };
    let (_, policy) = children.iter().find(leads_to_it)?;
    let namespace = policy.pointer("/spec/egress/0/to/0/namespaceSelector/matchLabels")?;
    namespace.get(NAMESPACE_NAME_LABEL)?.as_str()
}

/// Whether a declaration names domains.
pub fn names_domains(workflow: &AIWorkflow) -> bool {
    let egress = workflow.spec.network.iter().flat_map(|network| &network.egress);
    egress.into_iter().any(|rule| rule.to.domains.is_some())
}

/// What of the declared domains is valid, inside the class, and nothing that stays closed by what they are reached by; rule by rule: a rule
/// with a domain that is not stays closed whole.
pub(super) fn in_force(workflow: &AIWorkflow, observed: &Observed, class: &AIWorkflowClass) -> Allowed {
    let mut inside = inside_class(workflow, observed, class);
    if backend::opens_patterns(workflow, observed, class) {
        inside.rules.retain(|rule| above_cluster(rule, class).is_none());
    }
    inside
}

/// Names of the rules that stay closed because what opens them would open names of the cluster with them, and below what these are.
pub(super) fn closed_above_cluster(
    workflow: &AIWorkflow,
    observed: &Observed,
    class: &AIWorkflowClass,
) -> Option<(Vec<String>, String)> {
    if !backend::opens_patterns(workflow, observed, class) {
        return None;
    }
    let inside = inside_class(workflow, observed, class);
    let closed = |rule: egress::Rule| Some((above_cluster(&rule, class)?.to_owned(), rule.name));
    let (mut of_cluster, names): (Vec<_>, Vec<_>) = inside.rules.into_iter().filter_map(closed).unzip();
    Some((names, of_cluster.pop()?))
}

/// The domain of the cluster that a wildcard of the rule is above.
fn above_cluster<'a>(rule: &egress::Rule, class: &'a AIWorkflowClass) -> Option<&'a str> {
    let mut domains = rule.domains.iter();
    domains.find_map(|domain| dns::cluster_domains(class).find(|own| domain.is_above(own)))
}

fn inside_class(workflow: &AIWorkflow, observed: &Observed, class: &AIWorkflowClass) -> Allowed {
    let network = workflow.spec.network.clone().unwrap_or_default();
    let ranges = Ranges::for_network(&network, class);
    let stands = |rule: &&EgressRule| {
        peer::egress_problems(rule).is_empty() && peer::egress_allowed(&rule.to, &observed.namespace, class, &ranges)
    };
    allowed(network.egress.iter().filter(stands))
}

fn allowed<'a>(rules: impl Iterator<Item = &'a EgressRule>) -> Allowed {
    Allowed {
        rules: rules.filter_map(rule).collect(),
    }
}

/// `None` where it is about no domains, or cannot be read.
fn rule(declared: &EgressRule) -> Option<egress::Rule> {
    let domains = declared.to.domains.as_ref()?;
    let domains: Result<Vec<_>, _> = domains.iter().map(|domain| Domain::parse(domain)).collect();
    let ports: Result<Vec<_>, _> = declared.ports.iter().map(port_range).collect();
    Some(egress::Rule {
        name: declared.name.clone(),
        domains: domains.ok()?,
        ports: ports.ok()?,
    })
}

fn port_range(port: &Port) -> Result<PortRange, TryFromIntError> {
    Ok(PortRange {
        port: port.port.try_into()?,
        end_port: port.end_port.map(u16::try_from).transpose()?,
    })
}

/// What is wrong with all declared domains together, those that are wrong by themselves left aside.
pub(super) fn invalid_together(rules: &[EgressRule], problems: &mut Vec<Problem>) {
    let of_domains = rules.iter().filter(|rule| rule.to.domains.is_some());
    let valid = of_domains.filter(|rule| peer::egress_problems(rule).is_empty());
    if let Err(error @ TooLong) = allowed(valid).write() {
        let fix = "name fewer domains, such as *.example.com for all names below one";
        problems.push(Problem::new(
            "spec.network.egress",
            None,
            format!("is more than the egress proxy is told: {error}"),
            fix,
        ));
    }
}

/// Patterns of a class that can be read: others open nothing.
pub(super) fn opened(class: &AIWorkflowClass) -> Vec<Pattern> {
    let patterns = class.spec.network.iter().flat_map(|network| &network.domains);
    patterns.filter_map(|pattern| Pattern::parse(pattern).ok()).collect()
}

/// What is wrong with the domains of a class.
pub(super) fn class_problems(class: &AIWorkflowClass, problems: &mut Vec<Problem>) {
    let patterns = class.spec.network.iter().flat_map(|network| &network.domains);
    for (index, pattern) in patterns.enumerate() {
        if let Err(message) = Pattern::parse(pattern) {
            let fix = "write it as api.example.com, as *.example.com for every name below it, or as * for any domain";
            let path = format!("spec.network.domains[{index}]");
            problems.push(Problem::new(path, Some(pattern), message, fix));
        }
    }
}

/// Narrows where a way leads to what it led to before, while a declaration is held: rule by rule. `None`: nothing of it stood.
pub(super) fn only_what_stood(leads_to: &str, stood: &str, was_given: impl Fn(&Value) -> bool) -> Option<String> {
    let stood = Allowed::read(stood).ok()?;
    let mut narrowed = Allowed::read(leads_to).ok()?;
    narrowed
        .rules
        .retain(|rule| stood.rules.contains(rule) && was_given(&json!(rule)));
    written(&narrowed)
}

/// The rules of what is written there, one by one; none where it cannot be read.
pub(super) fn rules_of(leads_to: &str) -> Vec<Value> {
    let allowed = Allowed::read(leads_to).unwrap_or_default();
    allowed.rules.iter().map(|rule| json!(rule)).collect()
}

/// As text; `None` where it opens nothing, or is too long to be written.
fn written(allowed: &Allowed) -> Option<String> {
    allowed.write().ok().filter(|_| !allowed.is_empty())
}

#[cfg(test)]
mod tests;
