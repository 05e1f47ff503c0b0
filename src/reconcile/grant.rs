//! One grant: the roles in its namespace that workflows of other namespaces hold by it.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{api::core::v1::ServiceAccount, jiff::Timestamp};
use kube::{Api, ResourceExt, api::PostParams, runtime::controller::Action};

use super::{
    CallError, Context, RESYNC, Reads, apply,
    calls::{self, Owner},
    jittered,
    lean::{self, Lean},
    retry, trim,
    turns::in_time,
    workflow::failure,
};
use crate::{
    api::{AIWorkflow, AIWorkflowGrant, GrantedWorkflow, OWNER_UID_ANNOTATION, Reason, is_dns_subdomain},
    plan::{self, Change, Child, GrantObserved, GranteeFacts, Outcome},
    telemetry::Controller,
};

/// Workflows of one grant that are read at the same time.
const READS: usize = 4;

pub(super) async fn reconcile(known: Arc<AIWorkflowGrant>, context: Arc<Context>) -> Result<Action, CallError> {
    let started = tokio::time::Instant::now();
    let (namespace, name) = (known.namespace().unwrap_or_default(), known.name_any());
    let grants = Api::<Lean<AIWorkflowGrant>>::namespaced(context.client.clone(), &namespace);
    let what = format!("read AIWorkflowGrant {namespace}/{name}");
    // What is known of it is whom it names.
    let grant = match calls::optional(calls::bounded(&what, grants.get(&name)).await) {
        Ok(Some(Lean(grant))) => grant,
        Ok(None) => return Ok(Action::await_change()),
        Err(error) => {
            context
                .metrics
                .reconciled(Controller::AIWorkflowGrant, false, started.elapsed());
            return Err(error);
        }
    };
    // What is being deleted is planned like any other: a finalizer can keep it, and the garbage collector waits for that.
    let carried = in_time(async { Ok(carry_out(&grant, &context).await) }).await;
    let (plan, outcome) = carried.unwrap_or_else(|error| unseen(&grant, &error));
    let status = plan::grant_status(&grant, &plan, &outcome, Timestamp::now());
    // Nothing tells when a stranger's object goes: these are not watched.
    let failed = matches!(outcome, Outcome::Failed(..)) || !plan.taken.is_empty();
    let pause = if failed {
        retry(&status.conditions, Timestamp::now())
    } else {
        RESYNC
    };
    let written = write_status(&grant, status, &context).await;
    context.metrics.reconciled(
        Controller::AIWorkflowGrant,
        !failed && written.is_ok(),
        started.elapsed(),
    );
    written?;
    Ok(Action::requeue(jittered(pause)))
}

/// Observes, plans and applies; a failure is an outcome, so that it is said in a condition.
async fn carry_out(grant: &AIWorkflowGrant, context: &Context) -> (plan::GrantPlan, Outcome) {
    let (observed, plan) = match look(grant, context).await {
        Ok(seen) => seen,
        Err(error) => return unseen(grant, &error),
    };
    let foreign = |change: &Change| apply::puts_back(change, &observed.children);
    let outcome = match apply::apply(
        grant,
        &observed.namespace.name,
        &observed.children,
        &plan.changes,
        foreign,
        context,
    )
    .await
    {
        // Taken names are said by the plan.
        Ok(apply::Applied::All(_)) => Outcome::Applied(None),
        Ok(apply::Applied::NameTaken(child, name)) => {
            let message = format!("{} {name} exists and is not Ringfence's: delete it", child.kind());
            Outcome::Failed(Reason::NameTaken, message)
        }
        Err(error) => failure(&error, None),
    };
    (plan, outcome)
}

fn unseen(grant: &AIWorkflowGrant, error: &CallError) -> (plan::GrantPlan, Outcome) {
    let plan = plan::plan_grant(grant, &GrantObserved::default());
    (plan, failure(error, None))
}

async fn look(grant: &AIWorkflowGrant, context: &Context) -> Result<(GrantObserved, plan::GrantPlan), CallError> {
    let mut observed = observe(grant, context).await?;
    let plan = context.plan_grant(grant, &mut observed).await?;
    Ok((observed, plan))
}

pub(super) async fn observe(grant: &AIWorkflowGrant, reads: &Reads) -> Result<GrantObserved, CallError> {
    let own = grant.namespace().unwrap_or_default();
    let name = grant.name_any();
    let owner = Owner {
        namespace: &own,
        name: &name,
        uid: grant.metadata.uid.as_deref(),
    };
    let mut children = Vec::new();
    for child in [Child::Role, Child::RoleBinding] {
        let objects = reads.calls.list(child, &owner).await?;
        children.extend(objects.into_iter().map(|object| (child, object)));
    }
    // What no workflow can be called is not there, and becomes part of no URL: it would fail the whole grant.
    let named = grant.spec.from.iter().filter(|from| plan::is_grantee(from)).cloned();
    let grantees = futures::stream::iter(named.collect::<Vec<_>>()).map(|grantee| async move {
        let facts = read_grantee(&grantee, reads).await?;
        Ok::<_, CallError>(facts.map(|facts| (grantee, facts)))
    });
    let grantees: Vec<_> = grantees.buffer_unordered(READS).try_collect().await?;
    Ok(GrantObserved {
        namespace: reads.namespace(&own).await?,
        grantees: grantees.into_iter().flatten().collect(),
        children,
        taken: Default::default(),
    })
}

/// What is seen of a workflow that a grant names. One that cannot be read counts as absent, and so does its account: whoever may write it must
/// not keep the rights of all that the grant names as they are.
pub(super) async fn read_grantee(grantee: &GrantedWorkflow, reads: &Reads) -> Result<Option<GranteeFacts>, CallError> {
    let GrantedWorkflow { namespace, name } = grantee;
    let workflows = Api::<Lean<AIWorkflow>>::namespaced(reads.client.clone(), namespace);
    let what = format!("read AIWorkflow {namespace}/{name}");
    let Some(Lean(mut workflow)) = calls::readable(calls::bounded(&what, workflows.get(name)).await)? else {
        return Ok(None);
    };
    trim::workflow(&mut workflow);
    // What is being deleted holds nothing any more.
    if workflow.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let facts = reads.namespace(namespace).await?;
    let class = match facts.fencing_class() {
        Some(class) => reads.class(class).await?,
        None => None,
    };
    let account = workflow.service_account_name();
    // What no account can be called becomes part of no URL.
    let account = if is_dns_subdomain(account) {
        let what = format!("read ServiceAccount {namespace}/{account}");
        let read = lean::metadata::<ServiceAccount>(&reads.client, Some(namespace), account);
        calls::readable(calls::bounded(&what, read).await)?
    } else {
        None
    };
    let owner = account.and_then(|account| account.annotations?.remove(OWNER_UID_ANNOTATION));
    let account_is_ours = owner.is_some() && owner == workflow.uid();
    let reviewed = plan::is_on_record(&workflow) || {
        let registration = reads.registration().await?;
        plan::is_reviewed(&workflow, registration.as_ref())
    };
    Ok(Some(GranteeFacts {
        reviewed,
        workflow,
        namespace: facts,
        class,
        account_is_ours,
    }))
}

async fn write_status(
    grant: &AIWorkflowGrant,
    status: crate::api::AIWorkflowGrantStatus,
    context: &Context,
) -> Result<(), CallError> {
    if grant.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let api = Api::<Lean<AIWorkflowGrant>>::namespaced(context.client.clone(), &grant.namespace().unwrap_or_default());
    let what = format!("write the status of AIWorkflowGrant {}", grant.name_any());
    let written = Lean(AIWorkflowGrant {
        status: Some(status),
        ..grant.clone()
    });
    match calls::bounded(
        &what,
        api.replace_status(&grant.name_any(), &PostParams::default(), &written),
    )
    .await
    {
        Ok(_) => Ok(()),
        // Gone, or changed meanwhile: the change brings us back here.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}
