//! From a grant and the workflows that it names to the roles in its namespace.
//!
//! A workflow holds there what it declares *and* the grant covers *and* its class lets it declare: each of the three alone
//! gives nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::given::{self, Record};
use super::rules::{self, Covering};
use super::{Change, Child, NamespaceFacts, Outcome, Problem, accept, name_of, object, owner_uid, writes};
use crate::api::{
    AIWorkflow, AIWorkflowClass, AIWorkflowGrant, AIWorkflowGrantStatus, ConditionStatus, ConditionType,
    GrantedWorkflow, MAX_GIVEN, PolicyRule, Reason, set,
};

/// Why nothing is given to whatever declares nothing here: whoever writes grants must not learn by it what is there elsewhere, and how it is.
const UNDECLARED: &str =
    "no AIWorkflow of that name that can be read declares rights here in its permissions.crossNamespace";

/// What was seen of one workflow that a grant names.
#[derive(Clone, Debug)]
pub struct GranteeFacts {
    /// The workflow.
    pub workflow: AIWorkflow,
    /// Its namespace.
    pub namespace: NamespaceFacts,
    /// The class that fences it.
    pub class: Option<AIWorkflowClass>,
    /// Whether its present generation counts as reviewed.
    pub reviewed: bool,
    /// Whether its service account stands and is Ringfence's: a name alone could be a stranger's.
    pub account_is_ours: bool,
}

/// What the reconciler saw of a grant.
#[derive(Clone, Debug, Default)]
pub struct GrantObserved {
    /// The grant's own namespace.
    pub namespace: NamespaceFacts,
    /// Workflows that it names; those missing are absent.
    pub grantees: BTreeMap<GrantedWorkflow, GranteeFacts>,
    /// Objects that carry Ringfence's labels for this grant.
    pub children: Vec<(Child, Value)>,
    /// Objects of a desired name that are somebody else's.
    pub taken: BTreeSet<(Child, String)>,
}

/// What is to be done about a grant.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantPlan {
    /// What is wrong with the grant itself.
    pub problems: Vec<Problem>,
    /// Workflows that get nothing, and why.
    pub idle: Vec<String>,
    /// Names that somebody else holds: whoever would get rights by them gets none.
    pub taken: Vec<(Child, String)>,
    /// Workflows that hold rights here when the changes are made.
    pub granted: usize,
    /// The record of what they hold then, for the status.
    pub given: Vec<String>,
    /// Writes, in order.
    pub changes: Vec<Change>,
}

/// Plans one grant.
pub fn plan_grant(grant: &AIWorkflowGrant, observed: &GrantObserved) -> GrantPlan {
    let mut plan = GrantPlan {
        problems: grant_problems(grant, &observed.namespace),
        idle: Vec::new(),
        taken: observed.taken.iter().cloned().collect(),
        granted: 0,
        given: Vec::new(),
        changes: Vec::new(),
    };
    let mut desired = BTreeMap::new();
    let going = grant.metadata.deletion_timestamp.is_some();
    let uid = grant.uid().unwrap_or_default();
    for grantee in grant.spec.from.iter().filter(|_| plan.problems.is_empty()) {
        // A finalizer can keep it for ever, and with it what the garbage collector waits to remove.
        if going {
            let name = format!("{}/{}", grantee.namespace, grantee.name);
            plan.idle.push(format!("{name}: this grant is being deleted"));
            continue;
        }
        let facts = observed.grantees.get(grantee);
        // As in its own namespace: what it holds stays as far as it is allowed, and nothing new comes.
        if let Some(facts) = facts.filter(|facts| !facts.reviewed && facts.account_is_ours) {
            let kept = kept(grant, grantee, facts, observed);
            let why = if kept.is_some() {
                "was not reviewed (NotReviewed), so what it holds stays as far as it is allowed"
            } else if declared(grant, facts).next().is_some() {
                "is not accepted: NotReviewed"
            } else {
                UNDECLARED
            };
            plan.idle.push(format!("{}/{}: {why}", grantee.namespace, grantee.name));
            if let Some((account, rules)) = kept {
                let parts = parts(grant, grantee, &account, &rules);
                plan.given.extend(recorded(&parts, &account, &rules));
                desired.extend(parts);
            }
            continue;
        }
        match held(grant, grantee, facts) {
            Ok((account, rules)) => {
                let parts = parts(grant, grantee, &account, &rules);
                if let Some(((child, name), _)) = parts.iter().find(|(key, _)| observed.taken.contains(key)) {
                    let (kind, workflow) = (child.kind(), format!("{}/{}", grantee.namespace, grantee.name));
                    plan.idle.push(format!("{workflow}: {kind} {name} is not Ringfence's"));
                    continue;
                }
                plan.granted += 1;
                plan.given.extend(recorded(&parts, &account, &rules));
                desired.extend(parts);
            }
            Err(why) => plan.idle.push(format!("{}/{}: {why}", grantee.namespace, grantee.name)),
        }
    }
    plan.changes = writes(&uid, &observed.children, &observed.taken, desired, false);
    if observed.namespace.terminating {
        plan.changes.retain(|change| matches!(change, Change::Delete { .. }));
    }
    plan
}

/// What a workflow that nobody reviewed holds by a grant, of what stands: for its own account, the rules that the grant and its class cover.
/// `None` where nothing is left, or no class fences it. Who edited the Role or its binding while no guard stood has given it nothing, and nor has
/// who edited the declaration as well.
fn kept(
    grant: &AIWorkflowGrant,
    grantee: &GrantedWorkflow,
    facts: &GranteeFacts,
    observed: &GrantObserved,
) -> Option<(String, Vec<PolicyRule>)> {
    facts.namespace.fencing_class().filter(|_| !facts.namespace.exempt)?;
    let across = rules::across(facts.class.as_ref()?);
    let (covering, allowed) = (covering(grant), Covering::of(&across));
    let uid = grant.uid()?;
    let stands = |(kind, name): &(Child, String)| {
        let is_it = |(child, seen): &&(Child, Value)| {
            child == kind && name_of(seen) == name && owner_uid(seen) == Some(uid.as_str())
        };
        observed.children.iter().find(is_it).map(|(_, seen)| seen)
    };
    let account = grantee_account(&facts.workflow, grantee);
    let [(role, _), (binding, _)] = parts(grant, grantee, &account, &[]);
    stands(&binding)?;
    let stood = stands(&role)?
        .get("rules")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let stood = stood.filter_map(|rule| PolicyRule::deserialize(rule).ok());
    let record = Record::of_grant(grant);
    let was_given = |rule: &PolicyRule| record.holds((Child::Role, &role.1), &account, &json!(rule));
    let left: Vec<_> = stood
        .filter(|rule| rules::is_valid(rule, true) && covering.covers(rule) && allowed.covers(rule))
        .filter(was_given)
        .collect();
    (!left.is_empty()).then_some((account, left))
}

fn recorded<'a>(
    [((_, role), _), _]: &[((Child, String), Value); 2],
    account: &str,
    rules: &'a [PolicyRule],
) -> impl Iterator<Item = String> + use<'a> {
    given::of_role(role, account, rules)
}

/// What a workflow declares for the namespace of a grant.
fn declared<'a>(grant: &AIWorkflowGrant, facts: &'a GranteeFacts) -> impl Iterator<Item = &'a PolicyRule> {
    let here = grant.namespace().unwrap_or_default();
    let entries = facts.workflow.cross_namespace().iter();
    entries
        .filter(move |entry| entry.namespace == here)
        .flat_map(|entry| &entry.rules)
}

/// What is wrong with a grant by itself, in that namespace.
pub fn grant_problems(grant: &AIWorkflowGrant, namespace: &NamespaceFacts) -> Vec<Problem> {
    let mut problems = Vec::new();
    if namespace.exempt {
        let fix = "grant rights in namespaces of workloads only";
        problems.push(Problem::new(
            "metadata.namespace",
            Some(&namespace.name),
            "belongs to the platform",
            fix,
        ));
    }
    for (index, rule) in grant.spec.rules.iter().enumerate() {
        rules::invalid(&format!("spec.rules[{index}]"), rule, &mut problems);
        rules::invalid_across(&format!("spec.rules[{index}]"), rule, &mut problems);
    }
    problems
}

/// The account and the rules that a workflow holds by a grant, or why it holds none.
fn held(
    grant: &AIWorkflowGrant,
    grantee: &GrantedWorkflow,
    facts: Option<&GranteeFacts>,
) -> Result<(String, Vec<PolicyRule>), String> {
    if Some(&grantee.namespace) == grant.namespace().as_ref() {
        return Err("is of this very namespace: declare its rights in its permissions.rules".to_owned());
    }
    let facts = facts.ok_or(UNDECLARED)?;
    let declared: Vec<_> = declared(grant, facts).cloned().collect();
    if declared.is_empty() {
        return Err(UNDECLARED.to_owned());
    }
    let class_name = facts.namespace.fencing_class();
    let acceptance = accept(&facts.workflow, &facts.namespace, class_name, facts.class.as_ref());
    if !acceptance.accepted {
        return Err(format!("is not accepted: {}", acceptance.reason.as_str()));
    }
    if !facts.reviewed {
        return Err("is not accepted: NotReviewed".to_owned());
    }
    if !facts.account_is_ours {
        return Err("its service account does not stand yet, or cannot be read".to_owned());
    }
    let covering = covering(grant);
    let covered: Vec<_> = declared.into_iter().filter(|rule| covering.covers(rule)).collect();
    if covered.is_empty() {
        return Err("declares nothing that these rules cover".to_owned());
    }
    Ok((grantee_account(&facts.workflow, grantee), covered))
}

fn grantee_account(workflow: &AIWorkflow, grantee: &GrantedWorkflow) -> String {
    let account = workflow.service_account_name();
    if account.is_empty() {
        grantee.name.clone()
    } else {
        account.to_owned()
    }
}

/// Whether a grant can give something to the workflow: it stays, may be given, and names one of another namespace.
pub(super) fn gives_to(grant: &AIWorkflowGrant, namespace: &str, name: &str) -> bool {
    let stays = grant.metadata.deletion_timestamp.is_none();
    stays
        && grant.namespace().as_deref() != Some(namespace)
        && grant_problems(grant, &NamespaceFacts::default()).is_empty()
        && names(grant, namespace, name)
}

/// Whether a grant names a workflow.
pub fn names(grant: &AIWorkflowGrant, namespace: &str, name: &str) -> bool {
    grant
        .spec
        .from
        .iter()
        .any(|from| from.namespace == namespace && from.name == name)
}

/// What a grant covers.
pub(super) fn covering(grant: &AIWorkflowGrant) -> Covering<'_> {
    Covering::of(&grant.spec.rules)
}

fn parts(
    grant: &AIWorkflowGrant,
    grantee: &GrantedWorkflow,
    account: &str,
    rules: &[PolicyRule],
) -> [((Child, String), Value); 2] {
    let [role, binding] = object::granted_names(&grantee.namespace, &grantee.name, &grant.name_any());
    let subject = json!({"kind": "ServiceAccount", "name": account, "namespace": grantee.namespace});
    let reference = json!({"apiGroup": Child::Role.group(), "kind": "Role", "name": role});
    let role_object = object::owned_by(grant, Child::Role, &role, json!({"rules": rules}));
    let binding_body = json!({"subjects": [subject], "roleRef": reference});
    let binding_object = object::owned_by(grant, Child::RoleBinding, &binding, binding_body);
    [
        ((Child::Role, role), role_object),
        ((Child::RoleBinding, binding), binding_object),
    ]
}

/// The status to write. Equal to the old one when nothing changed, transition times included.
pub fn grant_status(
    grant: &AIWorkflowGrant,
    plan: &GrantPlan,
    outcome: &Outcome,
    now: Timestamp,
) -> AIWorkflowGrantStatus {
    let mut status = grant.status.clone().unwrap_or_default();
    let generation = grant.metadata.generation;
    status.observed_generation = generation;
    if matches!(outcome, Outcome::Applied(_)) {
        let mut given = plan.given.clone();
        given.sort_unstable();
        given.truncate(MAX_GIVEN);
        status.given = Some(given);
    }
    let mut put = |type_, holds: bool, reason, message: String| {
        let holds = if holds {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        };
        set(&mut status.conditions, type_, holds, reason, message, generation, now);
    };
    if plan.problems.is_empty() {
        put(
            ConditionType::Accepted,
            true,
            Reason::Accepted,
            "every rule may be granted".to_owned(),
        );
    } else {
        let all: Vec<_> = plan.problems.iter().map(ToString::to_string).collect();
        put(
            ConditionType::Accepted,
            false,
            Reason::Invalid,
            format!("nothing is granted: {}", all.join("; ")),
        );
    }
    match outcome {
        Outcome::Applied(_) | Outcome::Untouched if !plan.taken.is_empty() => {
            let names: Vec<_> = plan
                .taken
                .iter()
                .map(|(child, name)| format!("{} {name}", child.kind()))
                .collect();
            let message = format!(
                "{} exists and is not Ringfence's, so what it stands for is bound to nobody: delete it",
                names.join(", ")
            );
            put(ConditionType::Programmed, false, Reason::NameTaken, message);
        }
        Outcome::Failed(reason, message) => put(ConditionType::Programmed, false, *reason, message.clone()),
        Outcome::Applied(_) | Outcome::Untouched => {
            let mut message = format!(
                "{} of {} workflows hold rights here",
                plan.granted,
                grant.spec.from.len()
            );
            if !plan.idle.is_empty() {
                message.push_str(&format!("; nothing for {}", plan.idle.join(", ")));
            }
            let reason = if plan.problems.is_empty() {
                Reason::Applied
            } else {
                Reason::Invalid
            };
            put(ConditionType::Programmed, plan.problems.is_empty(), reason, message);
        }
    }
    status
}

#[cfg(test)]
mod tests;
