//! Policies of Cilium: what stands of a workflow's, and whether they can be written.
//!
//! Must never: take a list that was not given for an empty one.

use serde_json::Value;

use super::{CallError, Reads, calls::Owner, plugin_policy::add_listed};
use crate::{
    api::{AIWorkflow, AIWorkflowClass, Backend},
    plan::{self, Child, PluginPolicies},
};

/// Adds the workflow's own to what was read of it. Nobody else's are looked at, and none where they are no concern of the workflow's.
pub(super) async fn observe(
    workflow: &AIWorkflow,
    class: Option<&AIWorkflowClass>,
    owner: &Owner<'_>,
    children: &mut Vec<(Child, Value)>,
    reads: &Reads,
) -> Result<PluginPolicies, CallError> {
    let is_concerned = plan::is_concerned(workflow, class, Backend::Cilium);
    // Where the chart allowed them until now, what was made then is still to go.
    if !reads.writes_cilium && !is_concerned && !plan::names_domains(workflow) {
        return Ok(PluginPolicies::default());
    }
    match reads.calls.list_served(Child::CiliumNetworkPolicy, owner).await {
        Ok(listed) => Ok(add_listed(
            Child::CiliumNetworkPolicy,
            listed,
            reads.writes_cilium,
            children,
        )),
        // Where nothing of it is the workflow's, who looks from outside need not be let.
        Err(error) if error.is_forbidden() && !reads.writes_cilium && !is_concerned => Ok(PluginPolicies::NotAllowed),
        Err(error) => Err(error),
    }
}
