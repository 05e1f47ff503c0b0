//! From a declaration and what was observed to the changes that make it true: `(workflow, observed) -> changes + conditions`.
//!
//! Must never: read a clock, call anything, or widen what was declared. What cannot be rendered is left closed.

mod accept;
mod adopt;
mod backend;
mod bind;
mod binding_registration;
mod ceiling;
pub(crate) mod cidr;
mod cilium;
mod claims;
mod class;
mod cluster;
mod cluster_policy;
mod compliance;
mod dns;
mod domains;
mod engine;
mod exception;
mod given;
mod grant;
mod hold;
mod kept;
mod namespace;
mod network;
mod object;
mod outside;
mod peer;
mod policy_registration;
mod policy_status;
mod predecessors;
mod references;
mod registration;
mod rendered;
mod resolved;
mod reviewed;
mod rules;
mod secrets;
mod selector;
pub mod shape;
mod status;
mod tenants;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use kube::ResourceExt;
use serde_json::{Value, json};

pub use accept::{Acceptance, accept, workflow_problems};
pub use backend::{KINDS_BESIDE, PluginPolicies, is_concerned, wants_cilium};
pub use bind::{bound_to, role_of};
pub use binding_registration::{Bound, binding_webhooks};
pub use ceiling::above_ceiling;
pub use claims::{claims, has_account, is_named, launchers_elsewhere};
pub use class::{class_problems, default_class};
pub use cluster::{
    Detection, NodeFacts, api_server_status, cluster_condition, cluster_ranges, detect, knows_cluster, say_detected,
};
pub use cluster_policy::{cluster_policy_name, cluster_policy_of, wants_cluster_policy};
pub use compliance::{Compliance, Some20};
pub use dns::{
    Askable, CLUSTER_DOMAIN, addresses as dns_addresses, askable, cluster_domain, cluster_domains, is_cluster_only,
    is_reached as reaches_dns, search_list,
};
pub use domains::{EGRESS_DNS_PORT, EGRESS_PROXY, EGRESS_PROXY_PORT, egress_proxy_of, names_domains};
pub use engine::{
    Profile, Recognised, effective_rules, engine_annotations, engine_input, image_patterns, pod_annotations, shipped,
};
pub use exception::{
    ExceptionObserved, Idle, MAX_EXCEPTIONS, exception_in_force, exception_problems, exception_standing,
    exception_status,
};
pub use grant::{GrantObserved, GrantPlan, GranteeFacts, grant_problems, grant_status, names, plan_grant};
pub use namespace::{DefaultDenyPlan, NamespaceFacts, default_deny, plan_default_deny};
pub use object::{
    Child, REVISION_ANNOTATION, account_of, comparable, granted_names, is_foreign, name_of, owned_name, owned_names,
    owner_uid, replacing, same, text_at,
};
pub use peer::{egress_problems, ingress_problems};
pub use policy_registration::{policy_webhooks, registers, says_all, webhooks_of, with_webhooks};
pub use policy_status::{PolicyObserved, Unseen, Vetted, policy_status};
pub use predecessors::{Predecessors, may_have_predecessors};
pub use references::{is_grantee, is_peer, naming, peers_of, reached_into};
pub use registration::Registration;
pub use rendered::{REPORTS, REPORTS_GUARD, guards, rendered_guard, rendered_webhooks, reports, without_reports};
pub use resolved::{resolves, wants_resolved};
pub use reviewed::{is_on_record, is_reviewed};
pub use rules::{is_covered, rule_problems};
pub use secrets::{SecretKeys, declared_secret, is_secret_key, pull_secrets};
pub use selector::{problems as selector_problems, selects};
pub use status::{Outcome, status, unobserved_status};
pub use tenants::{Tenants, tenants_condition};

use crate::{
    api::{AIWorkflow, AIWorkflowClass, AIWorkflowGrant, Backend, PolicyRule, Reason, Reviewed, is_dns_subdomain},
    egress,
};
use object::Annotations;

/// One thing that is wrong with a declaration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Path of the field.
    pub path: String,
    /// Value found there.
    pub value: Option<String>,
    /// What is wrong: the end of a sentence that begins with the field and its value.
    pub message: String,
    /// What to do.
    pub fix: String,
}

impl Problem {
    fn new(path: impl Into<String>, value: Option<&str>, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            value: value.map(str::to_owned),
            message: message.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value:?} {}: {}", self.path, self.message, self.fix),
            None => write!(f, "{} {}: {}", self.path, self.message, self.fix),
        }
    }
}

/// What the reconciler saw.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The workflow's namespace.
    pub namespace: NamespaceFacts,
    /// The class that judges it, if it exists: the one that fences, else that of `audit`.
    pub class: Option<AIWorkflowClass>,
    /// Objects that carry Ringfence's labels for this workflow, by kind, as the API server sent them.
    pub children: Vec<(Child, Value)>,
    /// Objects of a desired name that are somebody else's.
    pub taken: BTreeSet<(Child, String)>,
    /// What stands under the account's name, where it is not the workflow's own.
    pub account: Option<Value>,
    /// Pods that are older than the workflow and carry its label.
    pub predecessors: Predecessors,
    /// Pods of others that run under the name of its account, while no account of that name is there.
    pub strangers: Predecessors,
    /// The registration under which writes of our kinds are reviewed, if it stands.
    pub registration: Option<Registration>,
    /// Grants of the namespaces that it declares rights in.
    pub grants: Vec<AIWorkflowGrant>,
    /// Those of these namespaces whose grants were not all read, and why.
    pub unread_grants: BTreeMap<String, String>,
    /// Who else names its account as launcher, see [`claims`].
    pub claims: Vec<String>,
    /// Bindings of somebody else that name its account, while that is not there yet.
    pub bound: Vec<String>,
    /// Its account is not there yet, and nobody knows whether bindings of somebody else name it: nothing is made that stands on it.
    pub unlooked: bool,
    /// Of [`launchers_elsewhere`], those that are a workflow's own account, with the name of that workflow.
    pub launching_workflows: BTreeMap<(String, String), String>,
    /// Workflows that this one names as peers, by namespace and name; those missing are absent.
    pub peers: BTreeMap<(String, String), AIWorkflow>,
    /// Addresses and ports of the API server, as pods reach it.
    pub api_server: BTreeSet<(IpAddr, u16)>,
    /// Namespace of the egress proxy, where one is installed.
    pub egress_proxy: Option<String>,
    /// Whether policies of Cilium can be written.
    pub cilium: PluginPolicies,
    /// Whether ClusterNetworkPolicies can be written.
    pub cluster_policies: PluginPolicies,
    /// Why these may be others by now.
    pub unread_api_server: Option<String>,
    /// What the last scan of its namespace found about it; `None` until there was one.
    pub compliance: Option<Compliance>,
}

/// A write. The order of a plan's changes is the order in which they are made.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Make an object.
    Create(Child, Value),
    /// Remove an object of ours, by name and UID.
    Delete {
        /// Kind.
        child: Child,
        /// Name.
        name: String,
        /// UID of the object that was seen, so that a newer one of that name stays.
        uid: String,
    },
    /// Replace what is there, whole. The value carries the resourceVersion that was seen.
    Replace(Child, Value),
}

impl Change {
    /// Kind of the object that is written.
    pub const fn child(&self) -> Child {
        match self {
            Self::Create(child, _) | Self::Replace(child, _) | Self::Delete { child, .. } => *child,
        }
    }
}

/// What is to be done about a workflow, and what is to be said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Whether the declaration stands.
    pub acceptance: Acceptance,
    /// References that do not resolve, with the reason of the first.
    pub unresolved: Option<(Reason, String)>,
    /// Names that somebody else holds.
    pub taken: Vec<(Child, String)>,
    /// Why an account that is to join does not, or one that others name is not made.
    pub conflict: Option<String>,
    /// By what its pods reach the domains that it declares and its class opens.
    pub backend: Option<Backend>,
    /// Why they do not reach them.
    pub unserved: Option<(Reason, String)>,
    /// The cluster's DNS is opened by that, for some names alone.
    pub takes_dns: bool,
    /// Nothing was planned, narrowing included: it waits for a person, or for older pods to go.
    pub held: bool,
    /// What to put on record as reviewed.
    pub reviewed: Option<Reviewed>,
    /// Writes, in order.
    pub changes: Vec<Change>,
    /// The engine in force.
    pub engine: Option<String>,
    /// Rules of the Role when the changes are made.
    pub effective_rules: Vec<PolicyRule>,
    /// Rules that each launcher holds beside that, by a Role of its own.
    pub launcher_rules: Vec<PolicyRule>,
    /// Digests of all else that the declaration gives when the changes are made.
    pub given: Vec<String>,
}

/// Plans one workflow.
///
/// Not accepted: rights and peers that are invalid or that the class does not allow go, the other ones and the account stay, running
/// pods are left alone. Being deleted: its rights go, and nothing is made, because a finalizer can keep it for ever. Not fenced, or the class missing:
/// nothing is touched, because what stands there was right when it was made. Not reviewed, or older pods about: nothing is touched
/// either, not even to narrow it, because what the declaration says is nobody's word yet.
pub fn plan(workflow: &AIWorkflow, observed: &Observed) -> Plan {
    let class_name = observed.namespace.fencing_class();
    let acceptance = accept(workflow, &observed.namespace, class_name, observed.class.as_ref());
    let mut plan = Plan {
        acceptance,
        unresolved: None,
        taken: Vec::new(),
        conflict: None,
        backend: None,
        unserved: None,
        takes_dns: false,
        held: false,
        reviewed: reviewed::record(workflow, observed.registration.as_ref()),
        changes: Vec::new(),
        engine: None,
        effective_rules: Vec::new(),
        launcher_rules: Vec::new(),
        given: Vec::new(),
    };
    if plan.acceptance.accepted && observed.namespace.terminating {
        let message = format!(
            "namespace {} is being deleted: nothing is made in it any more",
            observed.namespace.name
        );
        plan.acceptance = Acceptance {
            accepted: false,
            reason: Reason::NamespaceNotFenced,
            message,
            problems: Vec::new(),
        };
    }
    let fenced = class_name.is_some() && !observed.namespace.exempt && !observed.namespace.terminating;
    let Some(class) = observed.class.as_ref().filter(|_| fenced) else {
        return plan;
    };

    hold::hold(workflow, observed, &mut plan);
    plan.unresolved = references::unresolved(workflow, observed, class);
    let chosen = backend::choose(workflow, observed, class, plan.held);
    (plan.backend, plan.unserved, plan.takes_dns) = (chosen.backend, chosen.unserved, chosen.takes_dns);
    plan.unserved = plan.unserved.or_else(|| dns::unserved(observed, class));
    let (mut taken, mut children) = (observed.taken.clone(), observed.children.clone());
    let account = (Child::ServiceAccount, workflow.service_account_name().to_owned());
    let joining = match adopt::account(workflow, observed, class) {
        adopt::Account::Ours if claims::hold(workflow, observed) => {
            taken.insert(account.clone());
            plan.conflict = Some(claims::conflict(workflow, &observed.claims));
            None
        }
        adopt::Account::Ours if !observed.bound.is_empty() => {
            taken.insert(account.clone());
            plan.conflict = Some(claims::bound(workflow, &observed.bound));
            None
        }
        adopt::Account::Ours if !observed.strangers.is_empty() => {
            taken.insert(account.clone());
            plan.conflict = Some(observed.strangers.explain_account(workflow));
            None
        }
        adopt::Account::Ours => None,
        adopt::Account::Joins(found) => Some(found),
        other => {
            taken.insert(account.clone());
            plan.conflict = other.conflict();
            None
        }
    };
    plan.taken = taken.iter().cloned().collect();
    match joining {
        Some(found) if plan.acceptance.accepted => children.push((Child::ServiceAccount, found)),
        // It joins what stands, and no other is made meanwhile.
        Some(_) => drop(taken.insert(account)),
        // Its name is nobody's, which is all that is said of it.
        None if observed.unlooked => drop(taken.insert(account)),
        None => {}
    }
    // A binding to somebody else's account would hand our rights to a stranger; one to somebody else's Role would hand the
    // workflow whatever that Role says, today and after each edit.
    let foreign = [Child::ServiceAccount, Child::Role, Child::RoleBinding];
    let is_taken = taken.iter().any(|(child, _)| foreign.contains(child));
    let profile = engine::profile(workflow, class_name.unwrap_or_default(), class).unwrap_or_default();
    plan.engine = Some(profile.name.clone()).filter(|name| !name.is_empty());
    let going = workflow.metadata.deletion_timestamp.is_some();
    let launchers = launchers(workflow, observed, class);
    match plan.acceptance.reason {
        _ if is_taken || going => {}
        Reason::Accepted => {
            plan.effective_rules = effective_rules(workflow, class_name.unwrap_or_default(), class);
            // One that launches itself holds a launcher's rights, so they are shown as its own.
            if launcher_accounts(workflow, class).contains(&own_account(workflow)) {
                plan.effective_rules.extend_from_slice(&profile.launcher);
            }
            if !launchers.is_empty() {
                plan.launcher_rules = profile.launcher;
            }
        }
        Reason::NotReviewed | Reason::PredecessorPods => {
            (plan.effective_rules, plan.launcher_rules) = kept::on_record(workflow, observed, class);
        }
        Reason::Invalid | Reason::OutsideClass if kept::can_be_named(workflow) => {
            plan.effective_rules = kept::rules(workflow, observed, class_name.unwrap_or_default(), class);
        }
        _ => {}
    }
    let mut desired = desired(workflow, observed, class, &plan, &launchers);
    let dns = dns::rule(class, observed.egress_proxy.as_deref()).filter(|_| !plan.takes_dns);
    let word = kept::Word::new(workflow, dns);
    plan.given = given::of(&desired, &word);
    if plan.held {
        desired.retain(|(child, name), object| {
            kept::as_it_stood((*child, name), object, (workflow, class, &word), observed)
        });
    }
    // After what is put on record, and after what is narrowed: which addresses a name has is nobody's declaration.
    resolved::add_policy(workflow, observed, class, &mut desired);
    // An account whose declaration cannot be carried out stays: running pods use it, and new ones are refused.
    let keep_accounts = !desired.keys().any(|(child, _)| *child == Child::ServiceAccount);
    let uid = workflow.uid().unwrap_or_default();
    plan.changes = writes(&uid, &children, &taken, desired, keep_accounts);
    if going {
        plan.acceptance = hold::deleting(workflow);
        plan.changes.retain(|change| !matches!(change, Change::Create(..)));
    }
    if plan.held {
        let owned = |part: &str| owned_name(&observed.namespace.name, &workflow.name_any(), part);
        // Of the way to domains is desired what is left of it, where anything is.
        let stays = |name: &str| name == owned("allow") || (name == owned("domains") && !kept::can_be_named(workflow));
        // Nothing new comes; and what stands is kept as it was given, for who edited one while nobody reviewed could edit the other.
        plan.changes.retain(|change| match change {
            Change::Create(..) => false,
            Change::Replace(..) => true,
            Change::Delete { child, name, .. } => match child {
                Child::Role | Child::RoleBinding => true,
                Child::NetworkPolicy | Child::CiliumNetworkPolicy | Child::ResolvedNames => !stays(name),
                Child::ClusterNetworkPolicy => kept::can_be_named(workflow),
                Child::ServiceAccount => false,
            },
        });
    }
    plan
}

fn desired(
    workflow: &AIWorkflow,
    observed: &Observed,
    class: &AIWorkflowClass,
    plan: &Plan,
    launchers: &BTreeSet<(String, String)>,
) -> BTreeMap<(Child, String), Value> {
    let name = workflow.name_any();
    let namespace = &observed.namespace.name;
    let owned = |part: &str| owned_name(namespace, &name, part);
    let mut parts = Vec::new();
    let dns = dns::rule(class, observed.egress_proxy.as_deref()).filter(|_| !plan.takes_dns);
    let stands = match plan.acceptance.reason {
        Reason::Accepted => true,
        Reason::Invalid | Reason::OutsideClass | Reason::NotReviewed | Reason::PredecessorPods => {
            kept::can_be_named(workflow)
        }
        _ => false,
    };
    if stands {
        parts.push((
            Child::NetworkPolicy,
            owned("allow"),
            json!({"spec": network::allow_spec(workflow, observed, class, dns)}),
        ));
        // A pod that needs the API server says so itself: a token that nobody asked for is a token to steal.
        let mut identity = workflow.spec.identity.clone().unwrap_or_default();
        identity
            .image_pull_secrets
            .retain(|secret| is_dns_subdomain(&secret.name));
        let body = json!({"automountServiceAccountToken": false, "imagePullSecrets": identity.image_pull_secrets});
        parts.push((Child::ServiceAccount, workflow.service_account_name().to_owned(), body));
    }
    let mut way = Annotations::default();
    match plan.backend.filter(|_| stands) {
        Some(Backend::Proxy) => {
            if let Some(opening) = domains::opening(workflow, observed, class) {
                way = Annotations::ours(egress::ANNOTATION, opening.leads_to);
                parts.push((Child::NetworkPolicy, owned("domains"), json!({"spec": opening.spec})));
            }
        }
        Some(Backend::Cilium) if observed.cilium == PluginPolicies::Writable => {
            let allowed = domains::in_force(workflow, observed, class);
            let spec = dns::of(class)
                .and_then(|dns| cilium::spec(&name, &allowed, &dns, &network::inside(workflow, observed, class)));
            parts.extend(spec.map(|spec| (Child::CiliumNetworkPolicy, owned("domains"), json!({"spec": spec}))));
        }
        Some(Backend::ResolvedAddresses) => {
            let allowed = domains::in_force(workflow, observed, class);
            let spec = resolved::spec(&allowed);
            parts.extend(spec.map(|spec| (Child::ResolvedNames, owned("domains"), json!({"spec": spec}))));
        }
        Some(Backend::ClusterNetworkPolicy) => {
            let allowed = domains::in_force(workflow, observed, class);
            let spec = cluster_policy::spec(&name, &allowed, observed, class);
            let named = cluster_policy_name(namespace, &name);
            parts.extend(spec.map(|spec| (Child::ClusterNetworkPolicy, named, json!({"spec": spec}))));
        }
        Some(Backend::Cilium) | None => {}
    }
    let account = json!({"kind": "ServiceAccount", "name": workflow.service_account_name(), "namespace": namespace});
    if !plan.effective_rules.is_empty() {
        parts.extend(role(
            &owned("role"),
            &plan.effective_rules,
            &owned("binding"),
            &[account],
        ));
    }
    // Whoever launches makes pods and follows them: by name, so that an engine needs no right of its own here.
    let subject =
        |(namespace, name): &(String, String)| json!({"kind": "ServiceAccount", "name": name, "namespace": namespace});
    let launchers: Vec<_> = launchers.iter().map(subject).collect();
    if !plan.launcher_rules.is_empty() {
        parts.extend(role(
            &owned("launcher"),
            &plan.launcher_rules,
            &owned("launchers"),
            &launchers,
        ));
    }
    let annotations = Annotations::declared(accept::allowed_annotations(workflow, class));
    let none = Annotations::default();
    let object = |(child, name, body): (Child, String, Value)| {
        let own = match child {
            Child::ServiceAccount => &annotations,
            Child::NetworkPolicy if name == owned("domains") => &way,
            _ => &none,
        };
        let mut object = object::annotated(workflow, child, &name, own, body);
        if child == Child::ClusterNetworkPolicy {
            cluster_policy::of_cluster(&mut object, observed);
        }
        ((child, name), object)
    };
    parts.into_iter().map(object).collect()
}

fn role(name: &str, rules: &[PolicyRule], binding: &str, subjects: &[Value]) -> [(Child, String, Value); 2] {
    let reference = json!({"apiGroup": Child::Role.group(), "kind": "Role", "name": name});
    [
        (Child::Role, name.to_owned(), json!({"rules": rules})),
        (
            Child::RoleBinding,
            binding.to_owned(),
            json!({"subjects": subjects, "roleRef": reference}),
        ),
    ]
}

/// Launchers that are service accounts, of the workflow and of its class, each once, by namespace and name.
fn launcher_accounts(workflow: &AIWorkflow, class: &AIWorkflowClass) -> BTreeSet<(String, String)> {
    let launchers = workflow.spec.launchers.iter().chain(&class.spec.launchers);
    launchers
        .filter_map(|launcher| launcher.service_account.as_ref())
        .map(|account| (account.namespace.clone(), account.name.clone()))
        .collect()
}

/// Accounts that get a launcher's rights of their own: others than the workflow's, and than those of other workflows.
fn launchers(workflow: &AIWorkflow, observed: &Observed, class: &AIWorkflowClass) -> BTreeSet<(String, String)> {
    let mut launchers = launcher_accounts(workflow, class);
    launchers.remove(&own_account(workflow));
    launchers.retain(|account| !observed.launching_workflows.contains_key(account));
    launchers
}

fn own_account(workflow: &AIWorkflow) -> (String, String) {
    let name = workflow.service_account_name().to_owned();
    (workflow.namespace().unwrap_or_default(), name)
}

/// The writes that turn what is there into what is desired. Only what carries the owner's UID is replaced or deleted. A binding that
/// may not stand goes before anything else, and comes again only after its Role.
fn writes(
    owner: &str,
    children: &[(Child, Value)],
    taken: &BTreeSet<(Child, String)>,
    mut desired: BTreeMap<(Child, String), Value>,
    keep_accounts: bool,
) -> Vec<Change> {
    let (mut removals, mut writes) = (Vec::new(), Vec::new());
    bind::only_with_role(&mut desired, taken);
    let adrift = bind::adrift(owner, children);
    for (child, seen) in children.iter().filter(|(_, seen)| owner_uid(seen) == Some(owner)) {
        let key = (*child, name_of(seen).to_owned());
        match desired.remove(&key) {
            Some(wanted) if *child == Child::RoleBinding && adrift.contains(name_of(seen)) => {
                removals.push(delete(*child, seen));
                writes.push(Change::Create(*child, wanted));
            }
            Some(wanted) if same(&wanted, seen) => {}
            Some(wanted) if seen.get("roleRef") == wanted.get("roleRef") => {
                writes.push(Change::Replace(*child, replacing(wanted, seen)));
            }
            // A binding's roleRef cannot be changed, only made again.
            Some(wanted) => {
                removals.push(delete(*child, seen));
                writes.push(Change::Create(*child, wanted));
            }
            None if *child == Child::ServiceAccount && keep_accounts => {}
            None => removals.push(delete(*child, seen)),
        }
    }
    let missing = desired.into_iter().filter(|(key, _)| !taken.contains(key));
    writes.extend(missing.map(|((child, _), wanted)| Change::Create(child, wanted)));
    // Rights go before anything else is touched, the binding before the role that it names; they come last.
    removals.sort_by_key(|change| Reverse(change.child()));
    writes.sort_by_key(Change::child);
    removals.into_iter().chain(writes).collect()
}

fn delete(child: Child, seen: &Value) -> Change {
    let uid = seen
        .pointer("/metadata/uid")
        .and_then(Value::as_str)
        .unwrap_or_default();
    Change::Delete {
        child,
        name: name_of(seen).to_owned(),
        uid: uid.to_owned(),
    }
}

#[cfg(test)]
mod tests;
