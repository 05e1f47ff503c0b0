//! One RegoPolicy: what is said of it. What decides is the registry's, and what the API server asks about is the registration's.
//!
//! Must never: say of an object what is only true of an older generation of it.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::PostParams,
    runtime::{
        Controller,
        controller::{Action, Config},
        events::EventType,
        watcher,
    },
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{CONCURRENCY, CallError, Context, RESYNC, calls, jittered, lean::Lean, log, on_error};
use crate::{
    api::{ConditionStatus, ConditionType, Reason, RegoPolicy, RegoPolicyStatus, find},
    plan::{PolicyObserved, Unseen, Vetted, policy_status},
    registry::Published,
    telemetry,
};

/// How long a change is waited for that is under way, so that one status is written and not two.
const PATIENCE: Duration = Duration::from_secs(2);

/// Objects in one page of the initial list: each may hold a megabyte of modules and samples.
const PAGE: u32 = 10;

pub(super) fn paged() -> watcher::Config {
    crate::watch::config().page_size(PAGE)
}

pub(super) async fn run(controller: Controller<RegoPolicy>, context: Arc<Context>, stop: CancellationToken) {
    let published = told(context.registry.changes());
    let intercepted = told(context.interception.subscribe());
    let seen = told(context.registry.inventory_changes());
    controller
        .reconcile_all_on(stream::select(seen, stream::select(published, intercepted)))
        .with_config(Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, on_error, context)
        .for_each(|result| async move { log("policy", result.map(drop)) })
        .await;
}

/// Whenever what is watched has changed.
fn told<T: Send + Sync + 'static>(watched: watch::Receiver<T>) -> impl Stream<Item = ()> + Send + 'static {
    stream::unfold(watched, |mut watched| async {
        watched.changed().await.ok()?;
        Some(((), watched))
    })
}

async fn reconcile(policy: Arc<RegoPolicy>, context: Arc<Context>) -> Result<Action, CallError> {
    let started = tokio::time::Instant::now();
    let result = say(&policy, &context).await;
    context
        .metrics
        .reconciled(telemetry::Controller::RegoPolicy, result.is_ok(), started.elapsed());
    result.map(|()| Action::requeue(jittered(RESYNC)))
}

async fn say(policy: &RegoPolicy, context: &Context) -> Result<(), CallError> {
    if policy.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    // Where it is over, what is known by then is said.
    let _ = timeout(PATIENCE, settled(policy, context)).await;
    let published = Arc::clone(&context.registry.changes().borrow());
    let said = policy.status.as_ref().and_then(|status| status.observed_generation);
    // A new process vets everything once more: that says nothing against what was said.
    if !published.synced && said.is_some() && said == policy.metadata.generation {
        return Ok(());
    }
    let interception = context.interception.borrow().clone();
    let of_these = interception.revision == published.snapshot.revision();
    let intercepted = match &interception.state {
        _ if !of_these => Err("the registration is not written yet"),
        Ok(()) => Ok(()),
        Err(why) => Err(why.as_str()),
    };
    let trouble = context.registry.trouble(&policy.spec.inventory);
    let observed = PolicyObserved {
        unseen: trouble.as_ref().map(|trouble| Unseen {
            why: &trouble.why,
            is_too_large: trouble.is_too_large,
        }),
        vetted: vetted(policy, &published),
        intercepted,
    };
    write_status(policy, policy_status(policy, &observed, Timestamp::now()), context).await
}

/// Waits until this generation, or a newer one, was looked at, and the registration written for what is in force.
async fn settled(policy: &RegoPolicy, context: &Context) {
    let (mut published, mut interception) = (context.registry.changes(), context.interception.subscribe());
    loop {
        let is_settled = {
            let published = published.borrow_and_update();
            let outcome = published.outcomes.get(&policy.name_any());
            let outcome = outcome.filter(|outcome| policy.uid().as_deref() == Some(outcome.uid.as_str()));
            let generation = policy.metadata.generation.unwrap_or_default();
            outcome.is_some_and(|outcome| outcome.generation >= generation)
                && interception.borrow_and_update().revision == published.snapshot.revision()
        };
        if is_settled {
            return;
        }
        let changed = tokio::select! {
            changed = published.changed() => changed,
            changed = interception.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// What came of vetting this very generation.
fn vetted<'a>(policy: &RegoPolicy, published: &'a Published) -> Option<Vetted<'a>> {
    let outcome = published.outcomes.get(&policy.name_any())?;
    let is_this = policy.uid().as_deref() == Some(outcome.uid.as_str());
    (is_this && policy.metadata.generation == Some(outcome.generation)).then_some(Vetted {
        errors: &outcome.errors,
        is_final: outcome.is_final,
        instead: outcome.instead,
        is_shadowed: outcome.is_shadowed,
    })
}

/// Writes the status if it says something new, and tells of it in Events when the policy is enforced, is no more, or is broken.
async fn write_status(policy: &RegoPolicy, status: RegoPolicyStatus, context: &Context) -> Result<(), CallError> {
    if policy.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let api = Api::<Lean<RegoPolicy>>::all(context.client.clone());
    let what = format!("write the status of RegoPolicy {}", policy.name_any());
    let written = Lean(RegoPolicy {
        status: Some(status.clone()),
        ..policy.clone()
    });
    match calls::bounded(
        &what,
        api.replace_status(&policy.name_any(), &PostParams::default(), &written),
    )
    .await
    {
        Ok(_) => {}
        // Gone, or changed meanwhile: the change brings us back here.
        Err(error) if error.is_not_found() || error.is_conflict() => return Ok(()),
        Err(error) => return Err(error),
    }
    for (type_, kind) in news(policy.status.as_ref(), &status) {
        let Some(condition) = find(&status.conditions, type_) else {
            continue;
        };
        // An Event is read by more people than the policy, whose text the message may quote.
        let note = match type_ {
            ConditionType::Compiled if condition.status != ConditionStatus::True => "see its condition Compiled",
            _ => &condition.message,
        };
        context
            .events
            .say(policy, kind, &condition.reason, "Reconcile", note)
            .await;
    }
    Ok(())
}

/// The conditions that people must hear of. That a new policy is not asked about yet is none.
fn news(before: Option<&RegoPolicyStatus>, after: &RegoPolicyStatus) -> Vec<(ConditionType, EventType)> {
    let shown = |status: Option<&RegoPolicyStatus>, type_| {
        let condition = find(&status?.conditions, type_)?;
        Some((
            condition.status,
            condition.reason.clone(),
            condition.observed_generation,
        ))
    };
    let rejected = (ConditionStatus::False, Reason::Rejected.as_str());
    let enforced = |status: Option<&RegoPolicyStatus>| {
        shown(status, ConditionType::Enforced).is_some_and(|(status, ..)| status == ConditionStatus::True)
    };
    let mut news = Vec::new();
    let compiled = shown(Some(after), ConditionType::Compiled);
    if compiled != shown(before, ConditionType::Compiled)
        && compiled.is_some_and(|(status, reason, _)| (status, reason.as_str()) == rejected)
    {
        news.push((ConditionType::Compiled, EventType::Warning));
    } else if enforced(before) && !enforced(Some(after)) {
        news.push((ConditionType::Enforced, EventType::Warning));
    }
    if enforced(Some(after)) && !enforced(before) {
        news.push((ConditionType::Enforced, EventType::Normal));
    }
    news
}
