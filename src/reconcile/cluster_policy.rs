//! ClusterNetworkPolicies of workflows: whether they can be written, what stands of a workflow's, and what is left behind.
//!
//! The garbage collector takes one with its namespace, and nobody takes it with its workflow: that is done here, on each change of one of them, of
//! workflows and of namespaces, from the start on, and every ten minutes. Must never: touch one that names no owner, or take an answer that was
//! not given for one that says that the owner is gone.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    ResourceExt,
    api::PartialObjectMeta,
    runtime::{
        controller::{Action, Config as Workers},
        reflector::{ObjectRef, Store},
    },
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    CONCURRENCY, CallError, Context, RESYNC, Reads,
    calls::{self, Owner},
    jittered, lean, log, on_error, paged, paged_of_others,
    plugin_policy::{ClusterNetworkPolicy, add_listed},
};
use crate::{
    api::{AIWorkflow, AIWorkflowClass, Backend, Mode, OWNER_LABEL, OWNER_UID_ANNOTATION},
    plan::{self, Child, PluginPolicies, cluster_policy_name, cluster_policy_of},
};

/// Adds the one of the workflow's name to what was read of it, where it is any concern of the workflow's.
pub(super) async fn observe(
    workflow: &AIWorkflow,
    class: Option<&AIWorkflowClass>,
    owner: &Owner<'_>,
    children: &mut Vec<(Child, Value)>,
    reads: &Reads,
) -> Result<PluginPolicies, CallError> {
    // Where the chart allowed them until now, what was made then is still to go.
    if !reads.writes_cluster_policies && !plan::is_concerned(workflow, class, Backend::ClusterNetworkPolicy) {
        return Ok(PluginPolicies::default());
    }
    let (kind, name) = (
        Child::ClusterNetworkPolicy,
        cluster_policy_name(owner.namespace, owner.name),
    );
    let listed = reads.calls.named_where_served(kind, &name, owner.uid).await?;
    Ok(add_listed(kind, listed, reads.writes_cluster_policies, children))
}

/// The workflow that one of that name is for. One of somebody else's that stood in its way, without Ringfence's label, is not seen to go: the
/// next look at the workflow finds it gone.
pub(super) fn workflow_of(policy: &PartialObjectMeta<ClusterNetworkPolicy>) -> Option<ObjectRef<AIWorkflow>> {
    let name = policy.name_any();
    let (namespace, workflow) = cluster_policy_of(&name)?;
    Some(ObjectRef::new(workflow).within(namespace))
}

/// Takes away what is left behind, until `stop`.
pub(super) async fn run(context: Arc<Context>, stop: CancellationToken) {
    if !context.writes_cluster_policies {
        return;
    }
    let client = context.client.clone();
    let policies = lean::controller_where_served(&client, paged_of_others().labels(OWNER_LABEL));
    let (of_workflow, of_namespace) = (policies.store(), policies.store());
    policies
        .watches_stream(
            lean::touched_alone::<AIWorkflow>(&client, paged_of_others()),
            move |workflow| {
                let name = cluster_policy_name(&workflow.namespace().unwrap_or_default(), &workflow.name_any());
                known(&of_workflow, |policy| policy == name)
            },
        )
        .watches_stream(lean::touched_alone::<Namespace>(&client, paged()), move |namespace| {
            let name = namespace.name_any();
            known(&of_namespace, |policy| {
                cluster_policy_of(policy).is_some_and(|(namespace, _)| namespace == name)
            })
        })
        .with_config(Workers::default().concurrency(CONCURRENCY))
        .run(reconcile, on_error, context)
        // Not drained: while the kind is not served it would never end, and hold the Lease.
        .take_until(stop.cancelled_owned())
        .for_each(|result| async move { log("cluster network policy", result.map(drop)) })
        .await;
}

type Policies = Store<PartialObjectMeta<ClusterNetworkPolicy>>;

fn known(
    policies: &Policies,
    wanted: impl Fn(&str) -> bool,
) -> Vec<ObjectRef<PartialObjectMeta<ClusterNetworkPolicy>>> {
    let known = policies.state();
    let names = known.iter().map(|policy| policy.name_any());
    names
        .filter(|name| wanted(name))
        .map(|name| ObjectRef::new(&name))
        .collect()
}

async fn reconcile(
    policy: Arc<PartialObjectMeta<ClusterNetworkPolicy>>,
    context: Arc<Context>,
) -> Result<Action, CallError> {
    let again = Action::requeue(jittered(RESYNC));
    let (name, uid) = (policy.name_any(), policy.uid().unwrap_or_default());
    let owner = policy.annotations().get(OWNER_UID_ANNOTATION);
    let (Some((namespace, workflow)), Some(owner)) = (cluster_policy_of(&name), owner) else {
        return Ok(again);
    };
    if context.namespace(namespace).await?.mode() == Some(Mode::Enforce) {
        let read = lean::metadata::<AIWorkflow>(&context.client, Some(namespace), workflow);
        let read = calls::bounded(&format!("read AIWorkflow {workflow}"), read).await;
        if calls::optional(read)?.is_some_and(|workflow| workflow.uid.as_ref() == Some(owner)) {
            return Ok(again);
        }
    }
    context
        .calls
        .delete(Child::ClusterNetworkPolicy, "", &name, &uid)
        .await?;
    info!(
        namespace,
        workflow, name, "a ClusterNetworkPolicy was left behind, and is gone"
    );
    Ok(again)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::{Request, Response};
    use kube::Client;
    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;
    use crate::reconcile::reading_tests::context;

    const SOON: Duration = Duration::from_secs(10);

    /// Whoever waits for its end holds the Lease.
    #[tokio::test]
    async fn a_term_ends_while_the_kind_is_not_served() {
        let asked = Arc::new(Notify::new());
        let for_it = Arc::clone(&asked);
        let answer = move |request: Request<kube::client::Body>| {
            let uri = request.uri().clone();
            let is_watch = uri.query().is_some_and(|query| query.contains("watch="));
            let is_unserved = uri.path().ends_with(Child::ClusterNetworkPolicy.plural());
            let for_it = Arc::clone(&for_it);
            async move {
                let (code, body) = match () {
                    () if is_unserved => {
                        for_it.notify_one();
                        (404, "404 page not found\n")
                    }
                    // One on which nothing happens.
                    () if is_watch => std::future::pending().await,
                    () => (
                        200,
                        r#"{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#,
                    ),
                };
                Ok::<_, Infallible>(Response::builder().status(code).body(Body::from(body)).unwrap())
            }
        };
        let context = context(Client::new(tower::service_fn(answer), "default"));
        let context = Arc::into_inner(context).unwrap().with_cluster_policies(true);
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(Arc::new(context), stop.clone()));
        timeout(SOON, asked.notified()).await.expect("it to be asked for");
        assert!(!running.is_finished());
        stop.cancel();
        timeout(SOON, running).await.expect("an end").unwrap();
    }
}
