//! One workflow: observe, plan, apply, status.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    CallError, Context, RESYNC, RETRY, Reads, account,
    apply::Applied,
    calls::{self, Owner},
    cilium, cluster, cluster_policy, jittered,
    lean::{self, Lean},
    names::apart,
    namespace, reach, resolved, retry, trust,
    turns::in_time,
};
use crate::{
    api::{
        AIWorkflow, AIWorkflowClass, AIWorkflowStatus, ConditionStatus, ConditionType, DEFAULT_DENY_NAME, Mode,
        OWNER_LABEL, OWNER_UID_ANNOTATION, Reason, ServiceAccountStatus, find,
    },
    plan::{self, Change, Child, NamespaceFacts, Observed, Outcome, Plan},
    telemetry::Controller,
};
use k8s_openapi::{api::core::v1::ServiceAccount, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::PostParams,
    runtime::{controller::Action, events::EventType},
};
use tokio::time::Instant;

/// How often a plan is made again in one reconcile: a name is found taken, or somebody writes at the same time.
const ATTEMPTS: usize = 4;

/// What came of a workflow.
struct Carried {
    observed: Observed,
    plan: Plan,
    outcome: Outcome,
    /// Since when all bindings are looked at for its account, where nothing else is in the way of that.
    awaited: Option<Instant>,
}

pub(super) async fn reconcile(workflow: Arc<AIWorkflow>, context: Arc<Context>) -> Result<Action, CallError> {
    let started = Instant::now();
    // What is being deleted is planned like any other: a finalizer can keep it, and the garbage collector waits for that.
    let carried = in_time(Box::pin(carry_out(&workflow, &context))).await;
    match carried.as_ref().map(|carried| carried.awaited) {
        // The end of the look brings it back, and most last a moment: of these nothing is said.
        Ok(Some(since)) if since.elapsed() < RETRY => return Ok(Action::requeue(jittered(RETRY))),
        Ok(Some(_)) => {}
        Ok(None) | Err(_) => context.looks.forget(&workflow),
    }
    let (status, failed, again) = match carried {
        Ok(Carried {
            observed,
            plan,
            outcome,
            ..
        }) => {
            let failed = matches!(outcome, Outcome::Failed(..));
            // Nothing tells when a stranger's object goes, or an older pod, or when a kind is served: these are not watched.
            let again = failed
                || plan.unserved.is_some()
                || !plan.taken.is_empty()
                || !observed.predecessors.is_empty()
                || observed.unread_api_server.is_some();
            (
                plan::status(&workflow, &observed, &plan, &outcome, Timestamp::now()),
                failed,
                again,
            )
        }
        Err(error) => {
            let (reason, message) = explain(&error, None);
            (
                plan::unobserved_status(&workflow, reason, &message, Timestamp::now()),
                true,
                true,
            )
        }
    };
    let pause = if again {
        retry(&status.conditions, Timestamp::now())
    } else {
        RESYNC
    };
    let written = write_status(&workflow, status, &context).await;
    context
        .metrics
        .reconciled(Controller::AIWorkflow, !failed && written.is_ok(), started.elapsed());
    written?;
    Ok(Action::requeue(jittered(pause)))
}

/// Observes, plans and applies. A failure to apply is an outcome, so that it is said beside what was planned; an error is that
/// nothing could be observed.
async fn carry_out(workflow: &AIWorkflow, context: &Context) -> Result<Carried, CallError> {
    let mut observed = Observed::default();
    let mut taken = std::collections::BTreeSet::new();
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let looked = Instant::now();
        observed = Observed {
            taken: std::mem::take(&mut taken),
            ..observe(workflow, context).await?
        };
        let mut plan = context.plan(workflow, &mut observed).await?;
        let may_be_made = account::may_be_made(workflow, &observed, looked, &plan, context).await;
        if may_be_made.is_said(&mut observed) {
            plan = apart(|| plan::plan(workflow, &observed));
        }
        match apply(workflow, &observed, &plan, context).await {
            Ok(Done::All(outcome)) => {
                let (outcome, awaited) = may_be_made.with(outcome);
                return Ok(Carried {
                    observed,
                    plan,
                    outcome,
                    awaited,
                });
            }
            Ok(Done::NameTaken(child, name)) => {
                taken = observed.taken.clone();
                taken.insert((child, name));
                last = Some((
                    plan,
                    Outcome::Failed(Reason::NameTaken, "an object of that name is not ours".to_owned()),
                ));
            }
            Err(error) if error.is_conflict() => last = Some((plan, failure(&error, None))),
            Err(error) => {
                let outcome = failure(&error, plan.engine.as_deref());
                return Ok(Carried {
                    observed,
                    plan,
                    outcome,
                    awaited: None,
                });
            }
        }
    }
    let (plan, outcome) = last.unwrap_or_else(|| (plan::plan(workflow, &observed), Outcome::Untouched));
    Ok(Carried {
        observed,
        plan,
        outcome,
        awaited: None,
    })
}

/// `engine` is the workflow's, where it was a workflow's own write.
pub(super) fn failure(error: &CallError, engine: Option<&str>) -> Outcome {
    let (reason, message) = explain(error, engine);
    Outcome::Failed(reason, message)
}

fn explain(error: &CallError, engine: Option<&str>) -> (Reason, String) {
    let said = error.explain();
    if error.is_conflict() {
        (Reason::Conflict, format!("{said}; it is tried again"))
    } else if error.is_invalid() {
        (
            Reason::Invalid,
            format!("{said}; change what the message names, or report it to the project"),
        )
    } else if error.is_forbidden() {
        let needs_rights = |profile: &&plan::Profile| !profile.worker.is_empty() || !profile.launcher.is_empty();
        let engine = plan::shipped()
            .iter()
            .filter(needs_rights)
            .find(|profile| Some(profile.name.as_str()) == engine);
        match plan::above_ceiling(&said, engine.map(|profile| profile.name.as_str())) {
            Some(message) => (Reason::AboveCeiling, message),
            None => (
                Reason::Forbidden,
                format!("{said}; see what Ringfence's account may do, and what else admits requests"),
            ),
        }
    } else {
        (Reason::ApiUnavailable, format!("{said}; it is tried again"))
    }
}

/// Reads, past every cache, what a plan needs: a right never rests on a stale view.
async fn observe(workflow: &AIWorkflow, context: &Context) -> Result<Observed, CallError> {
    let own = workflow.namespace().unwrap_or_default();
    let (namespace, registration) = tokio::try_join!(context.namespace(&own), context.registration())?;
    let class = match namespace.judging_class() {
        Some(class) => context.class(class).await?,
        None => None,
    };
    let mut observed = around(workflow, namespace, class, context).await?;
    observed.registration = registration;
    let uid = workflow.uid().unwrap_or_default();
    observed.compliance = context.scanned.of(&observed.namespace.name, &workflow.name_any(), &uid);
    let is_fenced = observed.namespace.fencing_class().is_some();
    if let Some(class) = observed
        .class
        .as_ref()
        .filter(|_| is_fenced && !plan::has_account(workflow, &observed))
    {
        observed.claims = context.known.claims(workflow, class).await?;
    }
    Ok(observed)
}

/// Reads what a plan needs beside the namespace, its class, the registration and who claims the account: nothing where the
/// namespace is not fenced.
pub(super) async fn around(
    workflow: &AIWorkflow,
    namespace: NamespaceFacts,
    class: Option<AIWorkflowClass>,
    reads: &Reads,
) -> Result<Observed, CallError> {
    if namespace.fencing_class().is_none() {
        return Ok(Observed {
            namespace,
            class,
            ..Observed::default()
        });
    }
    let name = workflow.name_any();
    let own = workflow.namespace().unwrap_or_default();
    let owner = Owner {
        namespace: &own,
        name: &name,
        uid: workflow.metadata.uid.as_deref(),
    };
    let lists = Child::BUILT_IN.map(|child| async move {
        let objects = reads.calls.list(child, &owner).await?;
        Ok::<_, CallError>(
            objects
                .into_iter()
                .map(move |object| (child, object))
                .collect::<Vec<_>>(),
        )
    });
    let lists = futures::future::try_join_all(lists).await?;
    let mut children: Vec<_> = lists.into_iter().flatten().collect();
    let cilium = cilium::observe(workflow, class.as_ref(), &owner, &mut children, reads).await?;
    let cluster_policies = cluster_policy::observe(workflow, class.as_ref(), &owner, &mut children, reads).await?;
    resolved::observe(workflow, class.as_ref(), &owner, &mut children, reads).await?;
    let account = trust::account(workflow, &mut children, reads).await?;
    let (predecessors, strangers) = trust::predecessors(workflow, &children, account.as_ref(), reads).await?;
    let says_it = |class: &AIWorkflowClass| {
        class
            .spec
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.api_server.is_some())
    };
    let needs_api_server = !class.as_ref().is_some_and(says_it)
        && workflow
            .spec
            .network
            .iter()
            .flat_map(|network| &network.egress)
            .any(|rule| rule.to.api_server.is_some());
    let launching_workflows = match (&class, namespace.fencing_class()) {
        (Some(class), Some(name)) => launching_workflows(workflow, name, class, reads).await?,
        _ => BTreeMap::new(),
    };
    let api_server = if needs_api_server {
        cluster::api_server(reads).await?
    } else {
        Default::default()
    };
    let granted = reach::grants(workflow, reads).await?;
    Ok(Observed {
        class,
        children,
        claims: Vec::new(),
        bound: Vec::new(),
        unlooked: false,
        launching_workflows,
        account,
        predecessors,
        strangers,
        registration: None,
        compliance: None,
        grants: granted.grants,
        unread_grants: granted.unread,
        peers: reach::peers(workflow, reads).await?,
        egress_proxy: reads.egress_proxy.clone(),
        cilium,
        cluster_policies,
        api_server: api_server.addresses,
        unread_api_server: api_server.unread,
        taken: Default::default(),
        namespace,
    })
}

/// Which launchers elsewhere are workflows' own accounts. The annotation says it: nobody else may set it.
async fn launching_workflows(
    workflow: &AIWorkflow,
    class_name: &str,
    class: &AIWorkflowClass,
    reads: &Reads,
) -> Result<BTreeMap<(String, String), String>, CallError> {
    let mut found = BTreeMap::new();
    // Bounded by the CRD: at most 32 launchers.
    for account in plan::launchers_elsewhere(workflow, class_name, class) {
        let (namespace, name) = &account;
        let what = format!("read ServiceAccount {namespace}/{name}");
        let read = lean::metadata::<ServiceAccount>(&reads.client, Some(namespace), name);
        let Some(seen) = calls::optional(calls::bounded(&what, read).await)? else {
            continue;
        };
        let annotations = seen.annotations.unwrap_or_default();
        if annotations.contains_key(OWNER_UID_ANNOTATION) {
            let label = seen.labels.and_then(|mut labels| labels.remove(OWNER_LABEL));
            let owner = label.unwrap_or_else(|| name.clone());
            found.insert(account, owner);
        }
    }
    Ok(found)
}

enum Done {
    All(Outcome),
    NameTaken(Child, String),
}

async fn apply(workflow: &AIWorkflow, observed: &Observed, plan: &Plan, context: &Context) -> Result<Done, CallError> {
    let facts = &observed.namespace;
    if facts.fencing_class().is_none() || facts.terminating {
        return Ok(Done::All(Outcome::Untouched));
    }
    let nothing_planned = plan.held && plan.changes.is_empty();
    if observed.class.is_none() || nothing_planned {
        // What stands is held to the ceiling all the same.
        let changes = &[];
        super::apply::apply(workflow, &facts.name, &observed.children, changes, |_| false, context).await?;
        return Ok(Done::All(Outcome::Untouched));
    }
    let obstacle = obstacle(facts, context).await;
    // Whatever is in the way of something new, what stands becomes what is declared, and goes where it is not.
    let is_free = matches!(obstacle, Ok(None));
    let stands = |change: &&Change| is_free || !matches!(change, Change::Create(..));
    let changes: Vec<_> = plan.changes.iter().filter(stands).cloned().collect();
    let before = workflow.status.as_ref().filter(|status| stood(workflow, status));
    let foreign = |change: &Change| match change {
        // Something is gone that stood, and nothing that was declared or allowed has changed.
        Change::Create(..) => before.is_some_and(|status| status.effective_rules == plan.effective_rules),
        Change::Delete { .. } | Change::Replace(..) => super::apply::puts_back(change, &observed.children),
    };
    let applied = super::apply::apply(workflow, &facts.name, &observed.children, &changes, foreign, context).await;
    if let Some(outcome) = obstacle? {
        return applied.map(|_| Done::All(outcome));
    }
    match applied? {
        Applied::NameTaken(child, name) => Ok(Done::NameTaken(child, name)),
        // Taken names are said by the plan; an account of ours that is not there yet is seen on the next look.
        Applied::All(written) => {
            let account = observed.children.iter().chain(&written).find_map(|(child, object)| {
                (*child == Child::ServiceAccount)
                    .then(|| service_account(workflow, object))
                    .flatten()
            });
            if observed.account.is_some() && account.is_some() {
                trust::say_joined(workflow, context).await;
            }
            Ok(Done::All(Outcome::Applied(account)))
        }
    }
}

/// What nothing new can be made for: the namespace has no default-deny of Ringfence's.
async fn obstacle(facts: &NamespaceFacts, context: &Context) -> Result<Option<Outcome>, CallError> {
    if facts.mode() == Some(Mode::Enforce) && namespace::ensure(facts, context).await? == namespace::DefaultDeny::Taken
    {
        let message = format!("NetworkPolicy {DEFAULT_DENY_NAME} exists and is not Ringfence's: delete it");
        return Ok(Some(Outcome::Failed(Reason::NameTaken, message)));
    }
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
    let ours = plan::owner_uid(object) == workflow.uid().as_deref() && name == workflow.service_account_name();
    ours.then_some(ServiceAccountStatus { name, uid })
}

/// The resourceVersion of the object as it is now, where nothing is declared anew.
async fn still(workflow: &AIWorkflow, context: &Context) -> Result<Option<String>, CallError> {
    let read = context.calls.metadata(workflow).await;
    let now = match read {
        Err(error) if error.is_not_found() => return Ok(None),
        now => now?,
    };
    let before = &workflow.metadata;
    let is_same = before.uid == now.uid && before.generation == now.generation;
    Ok(now.resource_version.filter(|_| is_same))
}

/// Writes the status if it says something new, and tells of it in Events when `Compliant` or `Ready` changed.
async fn write_status(workflow: &AIWorkflow, status: AIWorkflowStatus, context: &Context) -> Result<(), CallError> {
    if workflow.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let api = Api::<Lean<AIWorkflow>>::namespaced(context.client.clone(), &workflow.namespace().unwrap_or_default());
    let what = format!("write the status of AIWorkflow {}", workflow.name_any());
    let mut written = Lean(AIWorkflow {
        status: Some(status.clone()),
        ..workflow.clone()
    });
    let (name, params) = (workflow.name_any(), PostParams::default());
    let replace =
        async |written: &Lean<AIWorkflow>| calls::bounded(&what, api.replace_status(&name, &params, written)).await;
    let mut replaced = replace(&written).await;
    // Whoever writes annotations all the time would keep an old status: it is of this generation still.
    if replaced.as_ref().is_err_and(CallError::is_conflict)
        && let Some(version) = still(workflow, context).await?
    {
        written.0.metadata.resource_version = Some(version);
        replaced = replace(&written).await;
    }
    match replaced {
        Ok(_) => {}
        // Gone, or changed meanwhile: the change brings us back here.
        Err(error) if error.is_not_found() || error.is_conflict() => return Ok(()),
        Err(error) => return Err(error),
    }
    // What a scan found may be why it is not ready: said once.
    let mut said = None;
    for type_ in [ConditionType::Compliant, ConditionType::Ready] {
        let after = shown(Some(&status), type_);
        let Some((holds, reason)) = after
            .clone()
            .filter(|_| after != shown(workflow.status.as_ref(), type_))
        else {
            continue;
        };
        if said.as_ref() == Some(&reason) {
            continue;
        }
        let type_of_event = if holds { EventType::Normal } else { EventType::Warning };
        let message = find(&status.conditions, type_).map(|condition| condition.message.clone());
        let message = message.unwrap_or_default();
        context
            .events
            .say(workflow, type_of_event, &reason, "Reconcile", &message)
            .await;
        said = Some(reason);
    }
    Ok(())
}

fn shown(status: Option<&AIWorkflowStatus>, type_: ConditionType) -> Option<(bool, String)> {
    let condition = find(&status?.conditions, type_)?;
    Some((condition.status == ConditionStatus::True, condition.reason.clone()))
}
