//! Carries out the changes of a plan, in order, and tells of what somebody else had changed.
//!
//! Must never: leave a binding whose Role could not be made as it should be. It names the Role by name, so it would give whatever
//! somebody else puts there.

use std::collections::BTreeSet;

use kube::{Resource, ResourceExt, runtime::events::EventType};
use serde_json::Value;
use tracing::info;

use super::{CallError, Context, ceiling};
use crate::plan::{self, Change, Child};

/// What came of a plan's changes.
pub(super) enum Applied {
    /// All were made. The objects that were created or replaced, as stored.
    All(Vec<(Child, Value)>),
    /// An object of that name is not the owner's. The changes before it were made, those after it were not.
    NameTaken(Child, String),
}

/// Most changes of a plan that may go without any answer: each is waited for.
const UNANSWERED: usize = 3;

/// Makes the changes; where one fails, the others all the same: what is in one object must not keep what another gives from being taken
/// back. `seen` is what the plan was made from; `foreign` tells which changes put back what somebody else had changed. Roles that it leaves alone
/// are held to the ceiling.
pub(super) async fn apply<K>(
    owner: &K,
    namespace: &str,
    seen: &[(Child, Value)],
    changes: &[Change],
    foreign: impl Fn(&Change) -> bool,
    context: &Context,
) -> Result<Applied, CallError>
where
    K: Resource<DynamicType = ()>,
{
    let (mut written, mut failed, mut unbound) = (Vec::new(), Failed::default(), BTreeSet::new());
    for change in changes {
        let made = match change {
            Change::Create(child, object) | Change::Replace(child, object)
                if *child == Child::RoleBinding && unbound.contains(plan::role_of(object)) =>
            {
                continue;
            }
            Change::Create(child, object) => match context.calls.create(*child, namespace, object.clone()).await {
                Ok(object) => {
                    written.push((*child, object));
                    Ok(())
                }
                Err(error) if error.already_exists() => {
                    match take_back(owner, *child, object, namespace, context).await {
                        Ok(Some(name)) => {
                            if *child == Child::Role {
                                unbind(owner, &plan::bound_to(&name, seen, changes), namespace, context).await?;
                            }
                            return Ok(Applied::NameTaken(*child, name));
                        }
                        other => other.map(drop),
                    }
                }
                Err(error) => Err(error),
            },
            Change::Delete { child, name, uid } => context.calls.delete(*child, namespace, name, uid).await,
            Change::Replace(child, object) => context
                .calls
                .replace(*child, namespace, object.clone())
                .await
                .map(|object| written.push((*child, object))),
        };
        if let (Change::Create(child, object) | Change::Replace(child, object), Err(error)) = (change, &made) {
            if *child == Child::Role {
                let role = plan::name_of(object);
                unbound.insert(role);
                if error.is_refused() || error.is_too_large() || error.is_not_found() {
                    let bound = plan::bound_to(role, seen, changes);
                    failed.note(unbind(owner, &bound, namespace, context).await);
                }
            }
            if matches!(change, Change::Replace(..)) && must_not_stay(*child, error) {
                failed.note(remove(*child, object, namespace, context).await);
            }
        }
        if !failed.note(made) {
            if failed.unanswered >= UNANSWERED {
                break;
            }
            continue;
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
                .events
                .say(owner, EventType::Warning, "DriftReverted", "Reconcile", &note)
                .await;
        }
    }
    if failed.unanswered == 0 {
        for error in ceiling::compare(owner, namespace, seen, changes, &written, context).await {
            failed.note(Err(error));
        }
    }
    match failed.first {
        None => Ok(Applied::All(written)),
        Some(error) => Err(error),
    }
}

/// What failed of a plan's changes.
#[derive(Default)]
struct Failed {
    /// The first that may go well on the next try, or else the first.
    first: Option<CallError>,
    /// How many calls had no answer.
    unanswered: usize,
}

impl Failed {
    /// Whether it went well.
    fn note(&mut self, made: Result<(), CallError>) -> bool {
        let Err(error) = made else { return true };
        self.unanswered += usize::from(error.is_unanswered());
        if self
            .first
            .as_ref()
            .is_none_or(|first| first.is_refused() && !error.is_refused())
        {
            self.first = Some(error);
        }
        false
    }
}

/// Whether a change puts back what somebody else had changed: what was seen says itself that it was made from what is desired.
pub(super) fn puts_back(change: &Change, seen: &[(Child, Value)]) -> bool {
    let Change::Replace(child, wanted) = change else {
        return false;
    };
    seen.iter().any(|(kind, seen)| {
        kind == child && plan::name_of(seen) == plan::name_of(wanted) && plan::is_foreign(wanted, seen)
    })
}

/// Whether what could not be replaced gives more than is declared or allowed today, so that closed is better than old. Rights
/// that the ceiling does not hold, and anything that the API server finds invalid, or cannot store; an account gives nothing by itself.
fn must_not_stay(child: Child, error: &CallError) -> bool {
    match child {
        Child::Role | Child::RoleBinding => error.is_refused() || error.is_too_large(),
        Child::NetworkPolicy | Child::CiliumNetworkPolicy | Child::ClusterNetworkPolicy => {
            error.is_invalid() || error.is_too_large()
        }
        Child::ServiceAccount | Child::ResolvedNames => false,
    }
}

pub(super) async fn remove(child: Child, object: &Value, namespace: &str, context: &Context) -> Result<(), CallError> {
    let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
    let name = plan::name_of(object);
    match uid {
        Some(uid) => context.calls.delete(child, namespace, name, uid).await,
        None => Ok(()),
    }
}

/// Takes away the bindings of these names that are the owner's, as they stand.
pub(super) async fn unbind<K>(
    owner: &K,
    names: &BTreeSet<String>,
    namespace: &str,
    context: &Context,
) -> Result<(), CallError>
where
    K: Resource<DynamicType = ()>,
{
    for name in names {
        let Some(binding) = context.calls.get(Child::RoleBinding, namespace, name).await? else {
            continue;
        };
        if plan::owner_uid(&binding).is_some() && plan::owner_uid(&binding) == owner.meta().uid.as_deref() {
            remove(Child::RoleBinding, &binding, namespace, context).await?;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::body::Body;
    use axum::http::{Request, Response};
    use kube::Client;
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::{api::AIWorkflow, reconcile::reading_tests::context};

    /// Whatever is wrong with one object, what the others give is taken back; and nobody is waited for for ever.
    #[rstest]
    #[case::fails(true, &["rolebindings/a", "rolebindings/b", "roles/a", "networkpolicies/a"])]
    #[case::is_no_answer(false, &["rolebindings/a", "rolebindings/b", "roles/a"])]
    #[tokio::test]
    async fn one_change_that_fails_keeps_no_other_from_being_made(#[case] answers: bool, #[case] expected: &[&str]) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            log.lock().unwrap().push(request.uri().path().to_owned());
            let status = json!({"kind": "Status", "status": "Failure", "reason": "X", "code": 500, "message": "no"});
            let answer = Response::builder().status(500).body(Body::from(status.to_string()));
            async move {
                match answers {
                    true => Ok(answer.unwrap()),
                    false => Err(std::io::Error::other("nobody is there")),
                }
            }
        });
        let context = context(Client::new(service, "default"));
        let removal = |child: Child, name: &str| Change::Delete {
            child,
            name: name.to_owned(),
            uid: "1".to_owned(),
        };
        let changes = [
            removal(Child::RoleBinding, "a"),
            removal(Child::RoleBinding, "b"),
            removal(Child::Role, "a"),
            removal(Child::NetworkPolicy, "a"),
        ];
        let workflow = json!({"metadata": {"name": "triage", "namespace": "ai", "uid": "1"}, "spec": {"launchers": [], "images": []}});
        let workflow: AIWorkflow = serde_json::from_value(workflow).unwrap();
        let applied = apply(&workflow, "ai", &[], &changes, |_| false, &context).await;
        assert!(applied.is_err());
        let asked = asked.lock().unwrap();
        let asked: Vec<_> = asked.iter().filter_map(|path| path.split("/ai/").nth(1)).collect();
        assert_eq!(asked, expected);
    }
}
