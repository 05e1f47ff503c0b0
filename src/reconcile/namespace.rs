//! The namespace's own default-deny: there while `enforce` is, gone when an `approve` holder removes it (break-glass).

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    ResourceExt,
    api::ObjectMeta,
    runtime::{controller::Action, events::EventType},
};
use tracing::{info, warn};

use super::{CallError, Context, RESYNC, facts, jittered};
use crate::{
    api::DEFAULT_DENY_NAME,
    plan::{Change, Child, DefaultDenyPlan, NamespaceFacts, plan_default_deny},
    telemetry::Controller,
};

/// What became of a namespace's default-deny.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum DefaultDeny {
    /// It stood, or stands now.
    Stands,
    /// A NetworkPolicy of that name is somebody else's.
    Taken,
}

pub(super) async fn reconcile(namespace: Arc<Namespace>, context: Arc<Context>) -> Result<Action, CallError> {
    let started = tokio::time::Instant::now();
    let facts = facts(&namespace.metadata, context.is_exempt(&namespace.name_any()));
    context.guard.hear(&facts);
    let result = keep(&namespace, &facts, &context).await;
    context
        .metrics
        .reconciled(Controller::Namespace, result.is_ok(), started.elapsed());
    result.map(|()| Action::requeue(jittered(RESYNC)))
}

async fn keep(namespace: &Namespace, facts: &NamespaceFacts, context: &Context) -> Result<(), CallError> {
    if facts.exempt || facts.terminating {
        return Ok(());
    }
    if ensure(facts, context).await? == DefaultDeny::Taken {
        let note =
            "NetworkPolicy ringfence exists and is not Ringfence's: delete it, so that the default-deny can be made";
        warn!(namespace = facts.name, "{note}");
        context
            .events
            .say(namespace, EventType::Warning, "NameTaken", "DefaultDeny", note)
            .await;
    }
    Ok(())
}

/// Makes the default-deny, or puts it back whole, or takes it away with the mode that it stood for.
pub(super) async fn ensure(facts: &NamespaceFacts, context: &Context) -> Result<DefaultDeny, CallError> {
    let seen = context
        .calls
        .get(Child::NetworkPolicy, &facts.name, DEFAULT_DENY_NAME)
        .await?;
    let change = match plan_default_deny(facts, seen.as_ref()) {
        DefaultDenyPlan::Stands => return Ok(DefaultDeny::Stands),
        DefaultDenyPlan::Taken => return Ok(DefaultDeny::Taken),
        DefaultDenyPlan::Write(change) => change,
    };
    let namespace = || Namespace {
        metadata: ObjectMeta {
            name: Some(facts.name.clone()),
            uid: Some(facts.uid.clone()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    match change {
        // Found there after all: it is looked at on the retry.
        Change::Create(child, desired) => {
            context.calls.create(child, &facts.name, desired).await?;
        }
        Change::Replace(child, whole) => {
            context.calls.replace(child, &facts.name, whole).await?;
            context.metrics.drift_reverted(child.kind());
            info!(
                namespace = facts.name,
                "a foreign change of the default-deny was reverted"
            );
            let note = "the namespace's default-deny was changed by somebody else, and is whole again";
            context
                .events
                .say(&namespace(), EventType::Warning, "DriftReverted", "DefaultDeny", note)
                .await;
        }
        Change::Delete { child, name, uid } => {
            context.calls.delete(child, &facts.name, &name, &uid).await?;
            info!(namespace = facts.name, "enforce was removed: the default-deny is gone");
            context.metrics.break_glass();
            let note = "ringfence.dev/enforce was removed: the namespace's default-deny is gone, and undeclared pods are no longer refused";
            context
                .events
                .say(&namespace(), EventType::Warning, "BreakGlass", "DefaultDeny", note)
                .await;
        }
    }
    Ok(DefaultDeny::Stands)
}
