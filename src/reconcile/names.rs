//! Plans made with a look at what stands under each name that they would use. Labels do not find what somebody else made, and the API
//! server may say that a right is above the ceiling before it says that the name of its Role is taken.
//!
//! Must never: write.

use std::collections::BTreeSet;

use kube::{Resource, ResourceExt};
use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use super::{CallError, Reads};
use crate::{
    api::{AIWorkflow, AIWorkflowGrant},
    plan::{self, Change, Child, GrantObserved, GrantPlan, Observed, Plan},
};

/// Plans beside the threads that answer reviews: what is declared, and what a class allows, may take a tenth of a second to compare.
pub(super) fn apart<T>(planned: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => block_in_place(planned),
        // It has one thread, and nobody else to wait for.
        _ => planned(),
    }
}

/// How often a plan is made again because something stands under a name that it would use.
const ATTEMPTS: usize = 4;

impl Reads {
    /// Plans a workflow. What was found under its names is in `observed` afterwards.
    pub async fn plan(&self, workflow: &AIWorkflow, observed: &mut Observed) -> Result<Plan, CallError> {
        let mut plan = apart(|| plan::plan(workflow, observed));
        for _ in 0..ATTEMPTS {
            let Observed { children, taken, .. } = observed;
            if !self.look_under(workflow, &plan.changes, children, taken).await? {
                break;
            }
            plan = apart(|| plan::plan(workflow, observed));
        }
        Ok(plan)
    }

    /// Plans a grant. What was found under its names is in `observed` afterwards.
    pub async fn plan_grant(
        &self,
        grant: &AIWorkflowGrant,
        observed: &mut GrantObserved,
    ) -> Result<GrantPlan, CallError> {
        let mut plan = apart(|| plan::plan_grant(grant, observed));
        for _ in 0..ATTEMPTS {
            let GrantObserved { children, taken, .. } = observed;
            if !self.look_under(grant, &plan.changes, children, taken).await? {
                break;
            }
            plan = apart(|| plan::plan_grant(grant, observed));
        }
        Ok(plan)
    }

    /// Looks for objects under the names that would be made. Whether there is one that was not known.
    async fn look_under<K>(
        &self,
        owner: &K,
        changes: &[Change],
        children: &mut Vec<(Child, Value)>,
        taken: &mut BTreeSet<(Child, String)>,
    ) -> Result<bool, CallError>
    where
        K: Resource<DynamicType = ()>,
    {
        let namespace = owner.namespace().unwrap_or_default();
        let mut found = false;
        for change in changes {
            let Change::Create(child, object) = change else {
                continue;
            };
            let name = plan::name_of(object);
            let is_it = |(kind, seen): &&(Child, Value)| kind == child && plan::name_of(seen) == name;
            let (seen, is_new) = match children.iter().find(is_it) {
                Some((_, seen)) => (Some(seen.clone()), false),
                None => (self.child(*child, &namespace, name).await?, true),
            };
            let Some(seen) = seen else { continue };
            let uid = owner.meta().uid.as_deref();
            if uid.is_some() && plan::owner_uid(&seen) == uid {
                if is_new {
                    children.push((*child, seen));
                    found = true;
                }
            } else {
                found |= taken.insert((*child, name.to_owned()));
            }
        }
        Ok(found)
    }
}
