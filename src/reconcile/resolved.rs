//! ResolvedNames of a workflow: what stands of them.
//!
//! Must never: take a list that was not given for an empty one, or read what is no concern of the workflow's.

use serde_json::Value;

use super::{CallError, Reads, calls::Owner};
use crate::{
    api::{AIWorkflow, AIWorkflowClass, Backend},
    plan::{self, Child},
};

/// Adds the workflow's own to what was read of it, with all that is remembered in them.
pub(super) async fn observe(
    workflow: &AIWorkflow,
    class: Option<&AIWorkflowClass>,
    owner: &Owner<'_>,
    children: &mut Vec<(Child, Value)>,
    reads: &Reads,
) -> Result<(), CallError> {
    if plan::is_concerned(workflow, class, Backend::ResolvedAddresses) {
        let found = reads.calls.list(Child::ResolvedNames, owner).await?;
        children.extend(found.into_iter().map(|names| (Child::ResolvedNames, names)));
    }
    Ok(())
}
