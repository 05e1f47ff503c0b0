//! Egress by domain: by what pods reach the domains that are in force, as the class and the cluster have it.
//!
//! Must never: put another backend in the place of one that the class names, or take policies that are not served for a moment for ones that
//! nobody wants: the cluster's DNS would open beside what had closed it.

use super::{Child, Observed, cluster_policy, dns, domains, resolved};
use crate::api::{AIWorkflow, AIWorkflowClass, Backend, BackendChoice, Reason};

/// Whether policies of a kind that not every API server serves can be written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PluginPolicies {
    /// The API server does not serve them, for good or for the moment.
    #[default]
    Unserved,
    /// It does, and the chart does not let Ringfence write them.
    NotAllowed,
    /// They can.
    Writable,
}

/// By what a workflow's pods reach the domains that are in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Chosen {
    /// The backend, whether it is there or not. `None` where nothing is to be reached, or nothing is there.
    pub(super) backend: Option<Backend>,
    /// Why domains that are in force are not reached.
    pub(super) unserved: Option<(Reason, String)>,
    /// The backend opens the cluster's DNS, for some names alone: nothing else may, because what is allowed without a look at names allows
    /// every name.
    pub(super) takes_dns: bool,
}

/// Chooses. While a declaration is held, whether the DNS is the backend's follows from what stood, and not from what nobody reviewed.
pub(super) fn choose(workflow: &AIWorkflow, observed: &Observed, class: &AIWorkflowClass, held: bool) -> Chosen {
    let allowed = domains::in_force(workflow, observed, class);
    let is_in_force = !allowed.is_empty();
    let above_cluster = above_cluster(workflow, observed, class);
    if !is_in_force && !held {
        return Chosen {
            unserved: above_cluster,
            ..Chosen::default()
        };
    }
    let said = workflow.egress_backend();
    let (backend, mut unserved) = by_class(observed, class, said);
    match backend {
        Some(Backend::ResolvedAddresses) => unserved = resolved::unserved(workflow, observed, class, &allowed),
        Some(Backend::ClusterNetworkPolicy) => unserved = cluster_policy::unserved(observed, class, &allowed),
        Some(Backend::Proxy | Backend::Cilium) | None => {}
    }
    unserved = unserved.filter(|_| is_in_force).or(above_cluster);
    let is_cilium = |backend| backend == Some(Backend::Cilium);
    Chosen {
        backend,
        unserved,
        // The egress proxy looks at each name itself.
        takes_dns: is_cilium(backend) && (!held || is_cilium(said)) && !dns::is_cluster_only(class),
    }
}

/// Kinds beside [`Child::BUILT_IN`] of which a workflow can have one, each by what its pods reach domains by.
pub const KINDS_BESIDE: [(Backend, Child); 3] = [
    (Backend::Cilium, Child::CiliumNetworkPolicy),
    (Backend::ClusterNetworkPolicy, Child::ClusterNetworkPolicy),
    (Backend::ResolvedAddresses, Child::ResolvedNames),
];

/// Whether what stands of such a kind must be read, before anybody can tell what becomes of a workflow: its class names it, or it is what its
/// pods have reached domains by.
pub fn is_concerned(workflow: &AIWorkflow, class: Option<&AIWorkflowClass>, backend: Backend) -> bool {
    let named = match class.map(choice) {
        Some(BackendChoice::Cilium) => Some(Backend::Cilium),
        Some(BackendChoice::ClusterNetworkPolicy) => Some(Backend::ClusterNetworkPolicy),
        Some(BackendChoice::ResolvedAddresses) => Some(Backend::ResolvedAddresses),
        Some(BackendChoice::Auto | BackendChoice::Proxy) | None => None,
    };
    // Of names it is the memory: it stays the workflow's to remove, whatever its status came to say.
    let is_declared = domains::names_domains(workflow) || backend == Backend::ResolvedAddresses;
    workflow.egress_backend() == Some(backend) || (is_declared && named == Some(backend))
}

/// Whether a class has pods reach domains by Cilium, wherever that is there or not.
pub fn wants_cilium(class: &AIWorkflowClass) -> bool {
    choice(class) == BackendChoice::Cilium
}

/// Whether what opens a workflow's domains opens whatever a wildcard means, and looks at no name by itself: Cilium, where nobody asked for it. What
/// a class asks for by its name is known to whoever accepts a declaration, and is outside it.
pub(super) fn opens_patterns(workflow: &AIWorkflow, observed: &Observed, class: &AIWorkflowClass) -> bool {
    by_class(observed, class, workflow.egress_backend()).0 == Some(Backend::Cilium)
}

pub(super) fn choice(class: &AIWorkflowClass) -> BackendChoice {
    class.spec.egress.and_then(|egress| egress.backend).unwrap_or_default()
}

/// The backend, and what it lacks. `said` is what was chosen last.
fn by_class(
    observed: &Observed,
    class: &AIWorkflowClass,
    said: Option<Backend>,
) -> (Option<Backend>, Option<(Reason, String)>) {
    let has_proxy = observed.egress_proxy.is_some();
    let learns = dns::is_reached(class);
    match (choice(class), observed.cilium) {
        (BackendChoice::Proxy, _) => (Some(Backend::Proxy), (!has_proxy).then(|| no_proxy(false))),
        (BackendChoice::Cilium, _) => (Some(Backend::Cilium), without_cilium(observed, learns)),
        (BackendChoice::ResolvedAddresses, _) => (Some(Backend::ResolvedAddresses), None),
        (BackendChoice::ClusterNetworkPolicy, _) => (Some(Backend::ClusterNetworkPolicy), None),
        (BackendChoice::Auto, _) if has_proxy => (Some(Backend::Proxy), None),
        (BackendChoice::Auto, PluginPolicies::Writable) if learns => (Some(Backend::Cilium), None),
        (BackendChoice::Auto, PluginPolicies::Unserved) if learns && said == Some(Backend::Cilium) => {
            (Some(Backend::Cilium), without_cilium(observed, learns))
        }
        (BackendChoice::Auto, cilium) => (None, Some(no_proxy(cilium == PluginPolicies::NotAllowed))),
    }
}

fn no_proxy(or_cilium: bool) -> (Reason, String) {
    let or = if or_cilium {
        ", or egress.cilium.enabled, by which Ringfence writes policies of the Cilium that is there"
    } else {
        ""
    };
    let message = format!(
        "spec.network.egress names domains, which pods reach through the egress proxy, and none is installed: ask the platform team to set egress.enabled of Ringfence's chart{or}; all else stands as declared"
    );
    (Reason::NoEgressProxy, message)
}

/// Which rules stay closed, because Cilium would open the cluster's names with them.
fn above_cluster(workflow: &AIWorkflow, observed: &Observed, class: &AIWorkflowClass) -> Option<(Reason, String)> {
    let (rules, of_cluster) = domains::closed_above_cluster(workflow, observed, class)?;
    let rules: Vec<_> = rules.iter().map(String::as_str).collect();
    let message = format!(
        "spec.network.egress names wildcards that stand for names of the cluster too, which are below {of_cluster}, and pods reach domains by Cilium, which opens all that one stands for: nothing is opened for {}; name the hosts, or a wildcard beside the cluster's names, or ask the platform team for the egress proxy, which tells them apart; all other rules stand as declared",
        resolved::named("rule", &rules)
    );
    Some((Reason::WildcardDomains, message))
}

fn without_cilium(observed: &Observed, learns: bool) -> Option<(Reason, String)> {
    let (lacks, fix) = match observed.cilium {
        _ if !learns => (
            "learns addresses from what pods ask the cluster's DNS, and spec.cluster.dns of the class lets them reach none",
            "let them, or set spec.egress.backend: Proxy",
        ),
        PluginPolicies::Unserved => (
            "is not there: the API server does not serve ciliumnetworkpolicies.cilium.io/v2",
            "install Cilium, or set spec.egress.backend: Proxy and egress.enabled of Ringfence's chart",
        ),
        PluginPolicies::NotAllowed => (
            "is there, and Ringfence may not write its policies",
            "set egress.cilium.enabled of Ringfence's chart",
        ),
        PluginPolicies::Writable => return None,
    };
    let class = observed.namespace.fencing_class().unwrap_or_default();
    let message = format!(
        "spec.network.egress names domains, which pods reach by Cilium (spec.egress of AIWorkflowClass {class}), which {lacks}: ask the platform team to {fix}; until then domains and the cluster's DNS stay closed, and all else stands as declared"
    );
    Some((Reason::NoEgressBackend, message))
}

#[cfg(test)]
mod tests;
