//! One workflow: observe, plan, apply, status.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{api::core::v1::Namespace, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::PostParams,
    runtime::{controller::Action, events::EventType},
};
use tracing::info;

use super::{CallError, Context, RESYNC, RETRY, calls, cluster, facts, jittered, namespace};
use crate::{
    api::{
        AIWorkflow, AIWorkflowClass, AIWorkflowStatus, ConditionStatus, ConditionType, MANAGED_BY_LABEL, MANAGER, Mode,
        Reason, ServiceAccountStatus, find,
    },
    plan::{self, Change, Child, INSTANCE_LABEL, NamespaceFacts, Observed, Outcome, Plan},
    telemetry::Controller,
};

/// How often a plan is made again in one reconcile: a name is found taken, or somebody writes at the same time.
const ATTEMPTS: usize = 4;

pub(super) async fn reconcile(workflow: Arc<AIWorkflow>, context: Arc<Context>) -> Result<Action, CallError> {
    let started = tokio::time::Instant::now();
    // What is being deleted is left to the garbage collector.
    if workflow.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let (observed, plan, outcome) = carry_out(&workflow, &context).await;
    let status = plan::status(&workflow, &observed, &plan, &outcome, Timestamp::now());
    let failed = matches!(outcome, Outcome::Failed(..));
    let written = write_status(&workflow, status, &context).await;
    context
        .metrics
        .reconciled(Controller::AIWorkflow, !failed && written.is_ok(), started.elapsed());
    written?;
    Ok(Action::requeue(jittered(if failed { RETRY } else { RESYNC })))
}

/// Observes, plans and applies; a failure is an outcome, so that it is said in a condition.
async fn carry_out(workflow: &AIWorkflow, context: &Context) -> (Observed, Plan, Outcome) {
    let mut observed = Observed::default();
    let mut taken = std::collections::BTreeSet::new();
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match observe(workflow, context).await {
            Ok(seen) => {
                observed = Observed {
                    taken: std::mem::take(&mut taken),
                    ..seen
                }
            }
            Err(error) => {
                let plan = plan::plan(workflow, &observed);
                return (observed, plan, failure(&error));
            }
        }
        let plan = plan::plan(workflow, &observed);
        match apply(workflow, &observed, &plan, context).await {
            Ok(Applied::All(outcome)) => return (observed, plan, outcome),
            Ok(Applied::NameTaken(child, name)) => {
                taken = observed.taken.clone();
                taken.insert((child, name));
                last = Some((
                    plan,
                    Outcome::Failed(Reason::NameTaken, "an object of that name is not ours".to_owned()),
                ));
            }
            Err(error) if error.is_conflict() => last = Some((plan, failure(&error))),
            Err(error) => return (observed, plan, failure(&error)),
        }
    }
    let (plan, outcome) = last.unwrap_or_else(|| (plan::plan(workflow, &observed), Outcome::Untouched));
    (observed, plan, outcome)
}

fn failure(error: &CallError) -> Outcome {
    let reason = if error.is_conflict() {
        Reason::Conflict
    } else if error.is_forbidden() {
        Reason::Forbidden
    } else {
        Reason::ApiUnavailable
    };
    let fix = match reason {
        Reason::Forbidden => {
            "; a right above the platform's ceiling needs a ClusterRole labelled ringfence.dev/aggregate-to-ceiling=true"
        }
        _ => "; it is tried again",
    };
    Outcome::Failed(reason, format!("{}{fix}", error.explain()))
}

/// Reads, past every cache, what a plan needs: a right never rests on a stale view.
async fn observe(workflow: &AIWorkflow, context: &Context) -> Result<Observed, CallError> {
    let name = workflow.name_any();
    let own = workflow.namespace().unwrap_or_default();
    let namespaces = Api::<Namespace>::all(context.client.clone());
    let namespace = calls::optional(calls::bounded(&format!("read namespace {own}"), namespaces.get(&own)).await)?;
    let namespace = match namespace {
        Some(namespace) => facts(&namespace.metadata, context.is_exempt(&own)),
        None => NamespaceFacts {
            name: own.clone(),
            terminating: true,
            ..NamespaceFacts::default()
        },
    };
    let Some(class_name) = namespace.fencing_class().map(str::to_owned) else {
        return Ok(Observed {
            namespace,
            ..Observed::default()
        });
    };
    let classes = Api::<AIWorkflowClass>::all(context.client.clone());
    let class =
        calls::optional(calls::bounded(&format!("read AIWorkflowClass {class_name}"), classes.get(&class_name)).await)?;
    let labels = format!("{MANAGED_BY_LABEL}={MANAGER},{INSTANCE_LABEL}={name}");
    let (own, labels) = (own.as_str(), labels.as_str());
    let lists = Child::ALL.map(|child| async move {
        let objects = context.calls.list(child, own, labels).await?;
        Ok::<_, CallError>(
            objects
                .into_iter()
                .map(move |object| (child, object))
                .collect::<Vec<_>>(),
        )
    });
    let children = futures::future::try_join_all(lists)
        .await?
        .into_iter()
        .flatten()
        .collect();
    let needs_api_server = workflow
        .spec
        .network
        .iter()
        .flat_map(|network| &network.egress)
        .any(|rule| rule.to.api_server.is_some());
    Ok(Observed {
        class,
        children,
        peers: peers(workflow, context).await?,
        api_server: if needs_api_server {
            cluster::api_server(context).await?
        } else {
            Default::default()
        },
        taken: Default::default(),
        namespace,
    })
}

async fn peers(workflow: &AIWorkflow, context: &Context) -> Result<BTreeMap<(String, String), AIWorkflow>, CallError> {
    let mut found = BTreeMap::new();
    // Bounded by the CRD: at most 64 sources and 64 destinations.
    for key in plan::peers_of(workflow) {
        let (namespace, name) = &key;
        let api = Api::<AIWorkflow>::namespaced(context.client.clone(), namespace);
        let what = format!("read AIWorkflow {namespace}/{name}");
        if let Some(peer) = calls::optional(calls::bounded(&what, api.get(name)).await)? {
            found.insert(key, peer);
        }
    }
    Ok(found)
}

enum Applied {
    All(Outcome),
    NameTaken(Child, String),
}

async fn apply(
    workflow: &AIWorkflow,
    observed: &Observed,
    plan: &Plan,
    context: &Context,
) -> Result<Applied, CallError> {
    let facts = &observed.namespace;
    if facts.fencing_class().is_none() || observed.class.is_none() || facts.terminating {
        return Ok(Applied::All(Outcome::Untouched));
    }
    if facts.mode() == Some(Mode::Enforce) && namespace::ensure(facts, context).await? == namespace::DefaultDeny::Taken
    {
        let message = format!(
            "NetworkPolicy {} exists and is not Ringfence's: delete it",
            crate::api::DEFAULT_DENY_NAME
        );
        return Ok(Applied::All(Outcome::Failed(Reason::NameTaken, message)));
    }
    let was_applied = workflow.status.as_ref().is_some_and(|status| stood(workflow, status));
    let mut account = observed
        .children
        .iter()
        .filter(|(child, _)| *child == Child::ServiceAccount)
        .find_map(|(_, seen)| service_account(workflow, seen));
    for change in &plan.changes {
        let kind = change.child().kind();
        match change {
            Change::Create(child, object) => match context.calls.create(*child, &facts.name, object.clone()).await {
                Ok(created) => {
                    account = account
                        .or_else(|| service_account(workflow, &created).filter(|_| *child == Child::ServiceAccount))
                }
                Err(error) if error.already_exists() => {
                    if let Some(name) = take_back(workflow, *child, object, &facts.name, context).await? {
                        return Ok(Applied::NameTaken(*child, name));
                    }
                }
                Err(error) => return Err(error),
            },
            Change::Delete { child, name, uid } => context.calls.delete(*child, &facts.name, name, uid).await?,
            Change::Replace(child, object) => {
                context.calls.replace(*child, &facts.name, object.clone()).await?;
            }
        }
        if was_applied {
            context.metrics.drift_reverted(kind);
            info!(
                namespace = facts.name,
                workflow = workflow.name_any(),
                kind,
                "the fence was put back as declared"
            );
            let note = format!("a {kind} of the fence was changed by somebody else and is as declared again");
            context
                .say(workflow, EventType::Warning, "DriftReverted", "Reconcile", &note)
                .await;
        }
    }
    // Taken names are said by the plan; an account of ours that is not there yet is seen on the next look.
    Ok(Applied::All(Outcome::Applied(account)))
}

/// An object of a desired name that our labels did not find: put back if it is ours, else its name is the answer.
async fn take_back(
    workflow: &AIWorkflow,
    child: Child,
    desired: &serde_json::Value,
    namespace: &str,
    context: &Context,
) -> Result<Option<String>, CallError> {
    let name = plan::name_of(desired).to_owned();
    let Some(seen) = context.calls.get(child, namespace, &name).await? else {
        return Ok(None);
    };
    if plan::owner_uid(&seen) != workflow.uid().as_deref() {
        return Ok(Some(name));
    }
    let mut whole = desired.clone();
    whole["metadata"]["resourceVersion"] = seen.pointer("/metadata/resourceVersion").cloned().unwrap_or_default();
    context.calls.replace(child, namespace, whole).await?;
    Ok(None)
}

/// Whether the last status says that this very generation stood: a change now is somebody else's doing.
fn stood(workflow: &AIWorkflow, status: &AIWorkflowStatus) -> bool {
    let programmed = find(&status.conditions, ConditionType::Programmed);
    status.observed_generation == workflow.metadata.generation
        && programmed.is_some_and(|condition| condition.status == ConditionStatus::True)
}

fn service_account(workflow: &AIWorkflow, object: &serde_json::Value) -> Option<ServiceAccountStatus> {
    let uid = object.pointer("/metadata/uid")?.as_str()?.to_owned();
    let name = plan::name_of(object).to_owned();
    (name == workflow.service_account_name()).then_some(ServiceAccountStatus { name, uid })
}

/// Writes the status if it says something new, and tells of it in an Event when `Ready` changed.
async fn write_status(workflow: &AIWorkflow, status: AIWorkflowStatus, context: &Context) -> Result<(), CallError> {
    if workflow.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let api = Api::<AIWorkflow>::namespaced(context.client.clone(), &workflow.namespace().unwrap_or_default());
    let what = format!("write the status of AIWorkflow {}", workflow.name_any());
    let before = ready(workflow.status.as_ref());
    let after = ready(Some(&status));
    let written = AIWorkflow {
        status: Some(status.clone()),
        ..workflow.clone()
    };
    match calls::bounded(
        &what,
        api.replace_status(&workflow.name_any(), &PostParams::default(), &written),
    )
    .await
    {
        Ok(_) => {}
        // Gone, or changed meanwhile: the change brings us back here.
        Err(error) if error.is_not_found() || error.is_conflict() => return Ok(()),
        Err(error) => return Err(error),
    }
    if before != after
        && let Some((holds, reason)) = after
    {
        let type_ = if holds { EventType::Normal } else { EventType::Warning };
        let message = find(&status.conditions, ConditionType::Ready)
            .map(|condition| condition.message.clone())
            .unwrap_or_default();
        context.say(workflow, type_, &reason, "Reconcile", &message).await;
    }
    Ok(())
}

fn ready(status: Option<&AIWorkflowStatus>) -> Option<(bool, String)> {
    let condition = find(&status?.conditions, ConditionType::Ready)?;
    Some((condition.status == ConditionStatus::True, condition.reason.clone()))
}
