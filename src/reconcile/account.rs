//! Whether the account that a plan makes may be made: bindings to it are asked about, and no older one of somebody else names it.
//!
//! A plan that makes none asks nobody. Must never: wait for a look at all bindings, or say yes where there was none.

use tokio::time::Instant;

use super::{
    Context,
    bound::{Account, Answer},
};
use crate::{
    api::{AIWorkflow, Reason},
    plan::{self, Change, Child, Observed, Outcome, Plan},
};

/// Whether the account that a plan makes may be made.
pub(super) enum MayBeMade {
    /// It may, or none is made.
    Yes,
    /// These bindings of somebody else name it.
    Bound(Vec<String>),
    /// All bindings are looked at since then.
    Awaited(Instant),
    /// Why nobody can tell.
    Unknown(String),
}

impl MayBeMade {
    /// Adds what is known to what was observed. Whether that makes it another plan.
    pub(super) fn is_said(&self, observed: &mut Observed) -> bool {
        match self {
            Self::Yes => return false,
            Self::Bound(bindings) => observed.bound.clone_from(bindings),
            Self::Awaited(_) | Self::Unknown(_) => observed.unlooked = true,
        }
        true
    }

    /// What is said of what was applied, and since when a look is awaited. All but the account, and what stands on it, is made.
    pub(super) fn with(self, applied: Outcome) -> (Outcome, Option<Instant>) {
        match (self, applied) {
            (Self::Awaited(since), Outcome::Applied(_)) => {
                let message = "its account is made once all RoleBindings and ClusterRoleBindings of the cluster have been looked at, for one of \
                     somebody else may name it already; where that takes minutes, see which namespace has so many, or such large ones";
                let outcome = Outcome::Failed(Reason::ApiUnavailable, message.to_owned());
                (outcome, Some(since))
            }
            (Self::Unknown(why), Outcome::Applied(_)) => (Outcome::Failed(Reason::ApiUnavailable, why), None),
            (_, outcome) => (outcome, None),
        }
    }
}

/// Looks for what is in the way of the account that a plan makes. `looked` is when `observed` began to be read.
pub(super) async fn may_be_made(
    workflow: &AIWorkflow,
    observed: &Observed,
    looked: Instant,
    plan: &Plan,
    context: &Context,
) -> MayBeMade {
    let makes_account = |change: &Change| matches!(change, Change::Create(Child::ServiceAccount, _));
    if !plan.changes.iter().any(makes_account) {
        return MayBeMade::Yes;
    }
    let facts = &observed.namespace;
    let asked_since = match context.guard.covers(facts).await {
        Ok(since) => since,
        Err(why) => return MayBeMade::Unknown(why),
    };
    // It stood until now, and whoever bound it meanwhile was asked.
    if plan::has_account(workflow, observed) && looked >= asked_since {
        return MayBeMade::Yes;
    }
    // Whoever bound it before the first question was refused by nobody: a look that began before that is none.
    match context.looks.ask(&Account::of(workflow, facts.mode()), asked_since) {
        Answer::Found(bindings) if bindings.is_empty() => MayBeMade::Yes,
        Answer::Found(bindings) => MayBeMade::Bound(bindings),
        Answer::Awaited(since) => MayBeMade::Awaited(since),
        Answer::Failed(why) => MayBeMade::Unknown(why),
    }
}
