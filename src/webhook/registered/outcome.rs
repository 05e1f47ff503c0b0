//! What a RegoPolicy's verdict becomes: by its action where there is one, by its failurePolicy where there is none.

use super::super::judge::of_policy;
use crate::api::{FailurePolicy, ValidationAction};
use crate::policy::{EvalError, Findings, Match, Verdict};
use crate::review::{Decision, Violation};
use crate::telemetry::PolicyAction;

/// Whether a verdict counts where the policy acts: one that was found always does. What keeps a policy from being asked, earlier requests
/// brought about: whoever sent those would pass by them, with Ignore too. Those of one namespace alone do that to no other: it holds a quarter
/// of the threads at most.
pub(super) fn counts(one: &Match, outcome: &Result<Findings, EvalError>) -> bool {
    match outcome {
        Ok(_) | Err(EvalError::NoThread | EvalError::Unended) => true,
        Err(_) => one.failure_policy() == FailurePolicy::Fail,
    }
}

/// What a policy's verdict becomes.
pub(super) fn add(decision: &mut Decision, one: &Match, action: ValidationAction, verdict: Verdict) {
    let name = verdict.policy;
    let counts = counts(one, &verdict.outcome);
    let findings = match verdict.outcome {
        Ok(findings) => findings,
        Err(error) => {
            let fix = "tell who wrote that RegoPolicy, and see its conditions: kubectl describe regopolicy";
            let said = of_policy(&name, format!("could not be judged: {error}"), fix);
            match error {
                _ if counts => list(decision, action).push(said),
                // Whoever writes can bring it about: somebody must hear of it.
                EvalError::Unsynced(_) => list(decision, action.min(ValidationAction::Warn)).push(said),
                _ => decision.audits.push(said),
            }
            return;
        }
    };
    let Findings {
        deny,
        mut warn,
        omitted,
    } = findings;
    if omitted > 0 {
        let message = format!("found {omitted} things more than are listed");
        let more = of_policy(&name, message, "correct those that are listed, and try again");
        if deny.is_empty() {
            warn.push(more);
        } else {
            list(decision, action).push(more);
        }
    }
    list(decision, action).extend(deny);
    list(decision, action.min(ValidationAction::Warn)).extend(warn);
}

fn list(decision: &mut Decision, action: ValidationAction) -> &mut Vec<Violation> {
    match action {
        ValidationAction::Audit => &mut decision.audits,
        ValidationAction::Warn => &mut decision.warnings,
        ValidationAction::Deny => &mut decision.denials,
    }
}

/// The same as it is counted.
pub(in crate::webhook) fn counted(outcome: &Result<Findings, EvalError>, action: ValidationAction) -> PolicyAction {
    match (outcome, action) {
        (Err(_), _) => PolicyAction::Error,
        (Ok(findings), _) if findings.deny.is_empty() && findings.warn.is_empty() => PolicyAction::Allow,
        (Ok(_), ValidationAction::Audit) => PolicyAction::Audit,
        (Ok(findings), ValidationAction::Deny) if !findings.deny.is_empty() => PolicyAction::Deny,
        (Ok(_), ValidationAction::Deny | ValidationAction::Warn) => PolicyAction::Warn,
    }
}
