//! What is said about a workflow: its status, from the plan and from how carrying it out went.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::{Child, Observed, Plan, dns, references, resolved};
use crate::api::{
    ADOPT_ANNOTATION, AIWorkflow, AIWorkflowStatus, ConditionStatus, ConditionType, EgressStatus, Mode, Reason,
    ServiceAccountStatus, find, set,
};

/// How carrying out a plan went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Everything stands as planned, with the account if it is ours.
    Applied(Option<ServiceAccountStatus>),
    /// Nothing was to be done, because the workflow is not fenced.
    Untouched,
    /// A write or a read failed: the reason, and what the API server said.
    Failed(Reason, String),
}

/// The status when what a plan needs could not be read: what was said of this very generation stays, the rest is unknown.
pub fn unobserved_status(workflow: &AIWorkflow, reason: Reason, message: &str, now: Timestamp) -> AIWorkflowStatus {
    let mut status = workflow.status.clone().unwrap_or_default();
    let generation = workflow.metadata.generation;
    for type_ in [ConditionType::Accepted, ConditionType::ResolvedRefs] {
        if find(&status.conditions, type_).is_none_or(|said| said.observed_generation != generation) {
            set(
                &mut status.conditions,
                type_,
                ConditionStatus::Unknown,
                reason,
                message,
                generation,
                now,
            );
        }
    }
    for type_ in [ConditionType::Programmed, ConditionType::Ready] {
        set(
            &mut status.conditions,
            type_,
            ConditionStatus::False,
            reason,
            message,
            generation,
            now,
        );
    }
    status.observed_generation = generation;
    status
}

/// The status to write. Equal to the old one when nothing changed, transition times included.
pub fn status(
    workflow: &AIWorkflow,
    observed: &Observed,
    plan: &Plan,
    outcome: &Outcome,
    now: Timestamp,
) -> AIWorkflowStatus {
    let mut status = workflow.status.clone().unwrap_or_default();
    let generation = workflow.metadata.generation;
    status.observed_generation = generation;
    if !plan.held {
        status.engine.clone_from(&plan.engine);
    }
    status.mode = observed.namespace.mode();
    status.reviewed.clone_from(&plan.reviewed);
    // What is planned is of a declaration that was reviewed, however much of it could be made.
    if !plan.held && matches!(outcome, Outcome::Applied(_) | Outcome::Failed(..)) {
        status.given = Some(plan.given.clone());
    }
    match outcome {
        Outcome::Applied(account) => {
            status.effective_rules.clone_from(&plan.effective_rules);
            status.launcher_rules.clone_from(&plan.launcher_rules);
            status.service_account.clone_from(account);
            // What stood before goes on record only when it is gone: the next look rests on it.
            if !plan.held {
                status.egress = plan.backend.map(|backend| EgressStatus { backend });
            }
        }
        // A Role that was refused does not stay as it was: nothing is held.
        Outcome::Failed(Reason::AboveCeiling | Reason::Forbidden, _) => {
            status.effective_rules.clear();
            status.launcher_rules.clear();
        }
        Outcome::Failed(..) | Outcome::Untouched => {}
    }
    match (&observed.compliance, observed.namespace.mode()) {
        // Nobody scans it any more.
        (_, None) => {
            status.non_compliant = None;
            status
                .conditions
                .retain(|said| said.type_ != ConditionType::Compliant.as_str());
        }
        (Some(compliance), Some(_)) => {
            status.non_compliant = compliance.shown();
            let (holds, reason, message) = compliance.condition(&observed.namespace.name);
            let (type_, generation) = (ConditionType::Compliant, compliance.generation);
            set(&mut status.conditions, type_, holds, reason, message, generation, now);
        }
        // What the last process found is said until this one has looked.
        (None, Some(_)) => {}
    }
    let not_compliant = not_compliant(&status);
    let conditions = &mut status.conditions;
    let exfiltration = dns::exfiltration(workflow, observed, plan);
    if exfiltration.is_none() {
        conditions.retain(|said| said.type_ != ConditionType::DnsExfiltration.as_str());
    }
    let mut put = |type_, (status, reason, message): (ConditionStatus, Reason, String)| {
        set(conditions, type_, status, reason, message, generation, now);
    };
    let accepted = &plan.acceptance;
    put(
        ConditionType::Accepted,
        (truth(accepted.accepted), accepted.reason, accepted.message.clone()),
    );
    let resolved = match &plan.unresolved {
        // Nothing was looked up for a workflow that is not fenced.
        None if *outcome == Outcome::Untouched => (
            ConditionStatus::Unknown,
            accepted.reason,
            "nothing was looked up: condition Accepted says why".to_owned(),
        ),
        Some((reason, message)) => (ConditionStatus::False, *reason, message.clone()),
        None => {
            let message = if references::peers_of(workflow).is_empty() {
                "no peer is missing"
            } else {
                "every peer is there and names this workflow"
            };
            (ConditionStatus::True, Reason::Resolved, message.to_owned())
        }
    };
    put(ConditionType::ResolvedRefs, resolved.clone());
    let programmed = programmed(workflow, plan, outcome);
    put(ConditionType::Programmed, programmed.clone());
    let first_that_is_not_true = [
        (truth(accepted.accepted), accepted.reason, accepted.message.clone()),
        resolved,
        programmed,
    ]
    .into_iter()
    .find(|(status, _, _)| *status != ConditionStatus::True);
    let ready = first_that_is_not_true.unwrap_or_else(|| match observed.namespace.mode() {
        Some(Mode::Enforce) => not_compliant.unwrap_or_else(|| {
            let message = "the fence stands; what is undeclared is refused".to_owned();
            (ConditionStatus::True, Reason::Fenced, message)
        }),
        Some(Mode::Audit | Mode::Warn) | None => (
            ConditionStatus::False,
            Reason::NotEnforced,
            "the namespace only warns: label it ringfence.dev/enforce to close the fence".to_owned(),
        ),
    });
    put(ConditionType::Ready, ready);
    if let Some(said) = exfiltration {
        put(ConditionType::DnsExfiltration, said);
    }
    status
}

/// Why it is not compliant, if a scan said so. One that is not known stands in nobody's way; nor does what every account of the cluster
/// holds: who administers one namespace, fenced or not, can give that, and would else call every fence of the cluster open.
fn not_compliant(status: &AIWorkflowStatus) -> Option<(ConditionStatus, Reason, String)> {
    let said = find(&status.conditions, ConditionType::Compliant)?;
    let reasons = [Reason::NonCompliantPods, Reason::ExtraRights, Reason::ForeignPolicy];
    let reason = reasons.into_iter().find(|reason| reason.as_str() == said.reason)?;
    (said.status == ConditionStatus::False).then(|| (said.status, reason, said.message.clone()))
}

fn truth(holds: bool) -> ConditionStatus {
    if holds {
        ConditionStatus::True
    } else {
        ConditionStatus::False
    }
}

fn programmed(workflow: &AIWorkflow, plan: &Plan, outcome: &Outcome) -> (ConditionStatus, Reason, String) {
    if let Some(message) = &plan.conflict {
        return (ConditionStatus::False, Reason::Conflict, message.clone());
    }
    if let Some((child, name)) = plan.taken.first() {
        let mut message = format!(
            "{} {name} exists and is not Ringfence's: delete it, or choose another name; nothing of it was changed",
            child.kind()
        );
        if *child == Child::ServiceAccount {
            let workflow = workflow.name_any();
            message.push_str(&format!(
                ". To keep it with what trusts it, ask the platform team to annotate it {ADOPT_ANNOTATION}={workflow} (verb approve)"
            ));
        }
        return (ConditionStatus::False, Reason::NameTaken, message);
    }
    let accepted = &plan.acceptance;
    match outcome {
        Outcome::Applied(_) if accepted.reason == Reason::Deleting => {
            (ConditionStatus::False, Reason::Deleting, accepted.message.clone())
        }
        Outcome::Applied(_) if !accepted.accepted => (
            ConditionStatus::False,
            accepted.reason,
            "what is valid and inside the class stands as declared, account included; the rest is closed, and no new right is given, until Accepted is True".to_owned(),
        ),
        Outcome::Applied(_) => match &plan.unserved {
            Some((reason, message)) => (ConditionStatus::False, *reason, message.clone()),
            None => (
                ConditionStatus::True,
                Reason::Applied,
                resolved::applied(plan.backend)
                    .unwrap_or("account, role, binding and network policies are as declared")
                    .to_owned(),
            ),
        },
        Outcome::Untouched => (
            ConditionStatus::False,
            accepted.reason,
            "nothing was made or changed: condition Accepted says why".to_owned(),
        ),
        Outcome::Failed(reason, message) => (ConditionStatus::False, *reason, message.clone()),
    }
}
