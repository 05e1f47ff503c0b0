//! Policies of Cilium: what stands of a workflow's, whether they can be written, and what tells of them.
//!
//! Must never: take a list that was not given for an empty one.

use std::borrow::Cow;

use futures::Stream;
use kube::{
    Client, Resource,
    api::{ObjectMeta, PartialObjectMeta},
    core::NamespaceResourceScope,
    runtime::watcher::{self, Config},
};
use serde_json::Value;

use super::{CallError, Reads, calls::Owner, lean};
use crate::{
    api::{AIWorkflow, AIWorkflowClass, Backend},
    plan::{self, Child, CiliumPolicies},
};

/// Adds the workflow's own to what was read of it. Nobody else's are looked at, and none where they are no concern of the workflow's.
pub(super) async fn observe(
    workflow: &AIWorkflow,
    class: Option<&AIWorkflowClass>,
    owner: &Owner<'_>,
    children: &mut Vec<(Child, Value)>,
    reads: &Reads,
) -> Result<CiliumPolicies, CallError> {
    let stood = workflow.egress_backend() == Some(Backend::Cilium);
    // Where the chart allowed them until now, what was made then is still to go.
    if !reads.writes_cilium && !stood && !plan::names_domains(workflow) {
        return Ok(CiliumPolicies::default());
    }
    match reads.calls.list_served(Child::CiliumNetworkPolicy, owner).await {
        Ok(None) => Ok(CiliumPolicies::Unserved),
        Ok(Some(found)) => {
            children.extend(found.into_iter().map(|policy| (Child::CiliumNetworkPolicy, policy)));
            Ok(match reads.writes_cilium {
                true => CiliumPolicies::Writable,
                false => CiliumPolicies::NotAllowed,
            })
        }
        // Where nothing of it is the workflow's, who looks from outside need not be let.
        Err(error)
            if error.is_forbidden() && !(reads.writes_cilium || stood || class.is_some_and(plan::wants_cilium)) =>
        {
            Ok(CiliumPolicies::NotAllowed)
        }
        Err(error) => Err(error),
    }
}

/// Those that are Ringfence's, when they come, change or go.
pub(super) fn touched(
    client: &Client,
    config: Config,
) -> impl Stream<Item = watcher::Result<PartialObjectMeta<CiliumNetworkPolicy>>> + Send + use<> {
    lean::touched_where_served(client, config)
}

/// The kind, of which only metadata is ever read as such.
#[derive(Clone, Debug)]
pub(super) struct CiliumNetworkPolicy(ObjectMeta);

impl Resource for CiliumNetworkPolicy {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Child::CiliumNetworkPolicy.kind().into()
    }

    fn group((): &()) -> Cow<'_, str> {
        Child::CiliumNetworkPolicy.group().into()
    }

    fn version((): &()) -> Cow<'_, str> {
        Child::CiliumNetworkPolicy.version().into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        Child::CiliumNetworkPolicy.plural().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0
    }
}
