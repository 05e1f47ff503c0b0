//! Carries out the changes of a plan, in order, and tells of what somebody else had changed.

use kube::{Resource, ResourceExt, runtime::events::EventType};
use serde_json::Value;
use tracing::info;

use super::{CallError, Context};
use crate::plan::{self, Change, Child};

/// What came of a plan's changes.
pub(super) enum Applied {
    /// All were made. The objects that were created, as stored.
    All(Vec<(Child, Value)>),
    /// An object of that name is not the owner's. The changes before it were made, those after it were not.
    NameTaken(Child, String),
}

/// Makes the changes. `foreign` tells which of them put back what somebody else had changed.
pub(super) async fn apply<K>(
    owner: &K,
    namespace: &str,
    changes: &[Change],
    foreign: impl Fn(&Change) -> bool,
    context: &Context,
) -> Result<Applied, CallError>
where
    K: Resource<DynamicType = ()>,
{
    let mut created = Vec::new();
    for change in changes {
        match change {
            Change::Create(child, object) => match context.calls.create(*child, namespace, object.clone()).await {
                Ok(object) => created.push((*child, object)),
                Err(error) if error.already_exists() => {
                    if let Some(name) = take_back(owner, *child, object, namespace, context).await? {
                        return Ok(Applied::NameTaken(*child, name));
                    }
                }
                Err(error) => return Err(error),
            },
            Change::Delete { child, name, uid } => context.calls.delete(*child, namespace, name, uid).await?,
            Change::Replace(child, object) => {
                context.calls.replace(*child, namespace, object.clone()).await?;
            }
        }
        if foreign(change) {
            let kind = change.child().kind();
            context.metrics.drift_reverted(kind);
            info!(
                namespace,
                owner = owner.name_any(),
                kind,
                "a foreign change was reverted"
            );
            let note = format!("a {kind} that Ringfence made was changed by somebody else, and is as declared again");
            context
                .say(owner, EventType::Warning, "DriftReverted", "Reconcile", &note)
                .await;
        }
    }
    Ok(Applied::All(created))
}

/// An object of a desired name that our labels did not find: put back if it is ours, else its name is the answer.
async fn take_back<K>(
    owner: &K,
    child: Child,
    desired: &Value,
    namespace: &str,
    context: &Context,
) -> Result<Option<String>, CallError>
where
    K: Resource<DynamicType = ()>,
{
    let name = plan::name_of(desired).to_owned();
    let Some(seen) = context.calls.get(child, namespace, &name).await? else {
        // Gone since: saying that it stands would be believed until the next resync.
        context.calls.create(child, namespace, desired.clone()).await?;
        return Ok(None);
    };
    if plan::owner_uid(&seen).is_none() || plan::owner_uid(&seen) != owner.meta().uid.as_deref() {
        return Ok(Some(name));
    }
    let whole = plan::replacing(desired.clone(), &seen);
    context.calls.replace(child, namespace, whole).await?;
    Ok(None)
}
