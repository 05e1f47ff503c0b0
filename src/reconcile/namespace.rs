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
    api::{DEFAULT_DENY_NAME, Mode},
    plan::{Child, NamespaceFacts, default_deny, owner_uid, replacing, same},
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
    if facts.mode() == Some(Mode::Enforce) {
        if ensure(facts, context).await? == DefaultDeny::Taken {
            let note = "NetworkPolicy ringfence exists and is not Ringfence's: delete it, so that the default-deny can be made";
            warn!(namespace = facts.name, "{note}");
            context
                .say(namespace, EventType::Warning, "NameTaken", "DefaultDeny", note)
                .await;
        }
        return Ok(());
    }
    let Some(seen) = context
        .calls
        .get(Child::NetworkPolicy, &facts.name, DEFAULT_DENY_NAME)
        .await?
    else {
        return Ok(());
    };
    let uid = seen.pointer("/metadata/uid").and_then(serde_json::Value::as_str);
    if let Some(uid) = uid.filter(|_| is_ours(&seen, facts)) {
        context
            .calls
            .delete(Child::NetworkPolicy, &facts.name, DEFAULT_DENY_NAME, uid)
            .await?;
        info!(namespace = facts.name, "enforce was removed: the default-deny is gone");
        context.metrics.break_glass();
        let note = "ringfence.dev/enforce was removed: the namespace's default-deny is gone, and undeclared pods are no longer refused";
        context
            .say(namespace, EventType::Warning, "BreakGlass", "DefaultDeny", note)
            .await;
    }
    Ok(())
}

/// Makes the default-deny, or puts it back whole.
pub(super) async fn ensure(facts: &NamespaceFacts, context: &Context) -> Result<DefaultDeny, CallError> {
    let desired = default_deny(facts);
    let Some(seen) = context
        .calls
        .get(Child::NetworkPolicy, &facts.name, DEFAULT_DENY_NAME)
        .await?
    else {
        // Found there after all: it is looked at on the retry.
        return context
            .calls
            .create(Child::NetworkPolicy, &facts.name, desired)
            .await
            .map(|_| DefaultDeny::Stands);
    };
    if !is_ours(&seen, facts) {
        return Ok(DefaultDeny::Taken);
    }
    if !same(&desired, &seen) {
        let whole = replacing(desired, &seen);
        context.calls.replace(Child::NetworkPolicy, &facts.name, whole).await?;
        context.metrics.drift_reverted(Child::NetworkPolicy.kind());
        info!(
            namespace = facts.name,
            "a foreign change of the default-deny was reverted"
        );
        let metadata = ObjectMeta {
            name: Some(facts.name.clone()),
            uid: Some(facts.uid.clone()),
            ..ObjectMeta::default()
        };
        let namespace = Namespace {
            metadata,
            ..Namespace::default()
        };
        let note = "the namespace's default-deny was changed by somebody else, and is whole again";
        context
            .say(&namespace, EventType::Warning, "DriftReverted", "DefaultDeny", note)
            .await;
    }
    Ok(DefaultDeny::Stands)
}

fn is_ours(seen: &serde_json::Value, facts: &NamespaceFacts) -> bool {
    !facts.uid.is_empty() && owner_uid(seen) == Some(facts.uid.as_str())
}
