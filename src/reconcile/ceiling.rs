//! Whether Roles that stand could still be written. What Ringfence may grant the API server alone compares, when a Role is written; where
//! the ceiling is lower since, or was higher for a moment because somebody bound a group of all accounts, nothing tells.
//!
//! Must never: change anything by asking, or take a Role away for any other answer than that it is above the ceiling.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use kube::{Resource, ResourceExt, api::ObjectMeta};
use serde_json::Value;
use tokio::time::Instant;
use tracing::warn;

use super::{CallError, Context, RESYNC, apply};
use crate::plan::{self, Change, Child};

/// Owners that are remembered before those are forgotten that are to be asked about anyway.
const REMEMBERED: usize = 1024;
/// Most that are remembered. Roles of an owner beyond are asked about at each look.
const MOST: usize = 65_536;

/// When the Roles of which owner were compared.
#[derive(Default)]
pub(super) struct Compared(Mutex<Owners>);

#[derive(Default)]
struct Owners {
    /// By the owner's UID: which generation of it, and when.
    at: HashMap<String, (Option<i64>, Instant)>,
    /// How many were left when the last were forgotten.
    left: usize,
}

impl Compared {
    /// Whether it is time: not at each look, of which any event is one, but at those that come because nothing happened, and where
    /// somebody changed the owner.
    fn is_due(&self, owner: &ObjectMeta, now: Instant) -> bool {
        let owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = owner.uid.as_ref().and_then(|uid| owners.at.get(uid));
        known.is_none_or(|(generation, at)| *generation != owner.generation || is_over(*at, now))
    }

    fn note(&self, owner: &ObjectMeta, now: Instant) {
        let Some(uid) = &owner.uid else { return };
        let mut owners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if owners.at.len() >= (2 * owners.left).clamp(REMEMBERED, MOST) {
            owners.at.retain(|_, (_, at)| !is_over(*at, now));
            owners.left = owners.at.len();
        }
        let known = (owner.generation, now);
        if let Some(before) = owners.at.get_mut(uid) {
            *before = known;
        } else if owners.at.len() < MOST {
            owners.at.insert(uid.clone(), known);
        }
    }
}

fn is_over(at: Instant, now: Instant) -> bool {
    now.duration_since(at) >= RESYNC
}

/// Has the owner's Roles that stand, and were not `written` by these changes, compared with the ceiling where it is time. Those above it go, with
/// what binds them, as those do that were refused when they were written. What failed, refusals included.
pub(super) async fn compare<K>(
    owner: &K,
    namespace: &str,
    seen: &[(Child, Value)],
    changes: &[Change],
    written: &[(Child, Value)],
    context: &Context,
) -> Vec<CallError>
where
    K: Resource<DynamicType = ()>,
{
    let (standing, now) = (standing(seen, changes), Instant::now());
    let mut failed = Vec::new();
    if standing.is_empty() {
        // The API server has just done so itself.
        if written.iter().any(|(child, _)| *child == Child::Role) {
            context.compared.note(owner.meta(), now);
        }
        return failed;
    }
    if !context.compared.is_due(owner.meta(), now) {
        return failed;
    }
    let mut all_answered = true;
    for role in standing {
        let name = plan::name_of(role);
        let uid = plan::text_at(role, "/metadata/uid");
        match context.calls.compare(Child::Role, namespace, name, uid).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) if is_above(&error) => {
                let gone = take_away(owner, namespace, role, seen, context).await;
                all_answered &= gone.is_ok();
                failed.extend(gone.err());
                failed.push(error);
            }
            // It says nothing of the ceiling: what stands is left, and asked about at the next look.
            Err(error) => {
                warn!(
                    namespace,
                    owner = owner.name_any(),
                    error = error.explain(),
                    "a Role that stands could not be compared with the ceiling"
                );
                all_answered = false;
                if error.is_unanswered() {
                    break;
                }
            }
        }
    }
    if all_answered {
        context.compared.note(owner.meta(), now);
    }
    failed
}

/// Roles that were seen and stay as they are: what is written or goes needs no further question.
fn standing<'a>(seen: &'a [(Child, Value)], changes: &[Change]) -> Vec<&'a Value> {
    let changed: BTreeSet<_> = changes
        .iter()
        .filter(|change| change.child() == Child::Role)
        .map(|change| match change {
            Change::Create(_, object) | Change::Replace(_, object) => plan::name_of(object),
            Change::Delete { name, .. } => name,
        })
        .collect();
    let roles = seen.iter().filter(|(child, _)| *child == Child::Role);
    let roles = roles.map(|(_, role)| role);
    roles.filter(|role| !changed.contains(plan::name_of(role))).collect()
}

/// Whether it was refused because of its rules, and not by whatever else admits requests.
fn is_above(error: &CallError) -> bool {
    error.is_forbidden() && plan::above_ceiling(&error.explain(), None).is_some()
}

/// The bindings go first: they would give whatever stands under the Role's name.
async fn take_away<K>(
    owner: &K,
    namespace: &str,
    role: &Value,
    seen: &[(Child, Value)],
    context: &Context,
) -> Result<(), CallError>
where
    K: Resource<DynamicType = ()>,
{
    let bound = plan::bound_to(plan::name_of(role), seen, &[]);
    let unbound = apply::unbind(owner, &bound, namespace, context).await;
    apply::remove(Child::Role, role, namespace, context).await?;
    unbound
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::{Request, Response};
    use kube::Client;
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::{api::AIWorkflow, reconcile::reading_tests::context};

    const ABOVE: &str = "roles \"r\" is forbidden: user \"x\" is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\"]}";
    /// What is asked, and what goes.
    const GOES: [&str; 4] = [
        "PATCH roles/r",
        "GET rolebindings/b",
        "DELETE rolebindings/b",
        "DELETE roles/r",
    ];

    fn owned(kind: &str, name: &str, fields: Value) -> Value {
        let metadata =
            json!({"name": name, "namespace": "ai", "uid": name, "annotations": {"ringfence.dev/owner-uid": "1"}});
        let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata});
        object
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        object
    }

    fn binding() -> Value {
        owned("RoleBinding", "b", json!({"roleRef": {"name": "r"}}))
    }

    fn seen() -> [(Child, Value); 2] {
        [
            (Child::Role, owned("Role", "r", json!({}))),
            (Child::RoleBinding, binding()),
        ]
    }

    fn workflow() -> AIWorkflow {
        let metadata = json!({"name": "triage", "namespace": "ai", "uid": "1", "generation": 1});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"launchers": [], "images": []}})).unwrap()
    }

    type Asked = Arc<Mutex<Vec<String>>>;

    /// An API server that answers a comparison so; all else is well.
    fn api_server(code: u16, message: &'static str) -> (Asked, Arc<Context>) {
        let asked = Asked::default();
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (method, path) = (request.method().as_str(), request.uri().path());
            let what = path.split("/ai/").nth(1).unwrap_or_default();
            log.lock().unwrap().push(format!("{method} {what}"));
            let is_dry = request.uri().query().is_some_and(|query| query.contains("dryRun=All"));
            let (code, body) = match method {
                "PATCH" if !is_dry => (500, json!({"message": "this would be a write"})),
                "PATCH" if code != 200 => {
                    let reason = if code == 403 { "Forbidden" } else { "BadRequest" };
                    (
                        code,
                        json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code, "message": message}),
                    )
                }
                _ => (200, binding()),
            };
            let answer = Response::builder().status(code).body(Body::from(body.to_string()));
            std::future::ready(Ok::<_, std::convert::Infallible>(answer.unwrap()))
        });
        (asked, context(Client::new(service, "default")))
    }

    #[rstest]
    #[case::below(200, "", &["PATCH roles/r"], 0)]
    #[case::above(403, ABOVE, &GOES, 1)]
    #[case::another_refusal(403, "admission webhook \"x\" denied the request", &["PATCH roles/r"], 0)]
    #[case::no_dry_runs(400, "admission webhook \"x\" does not support dry run", &["PATCH roles/r"], 0)]
    #[tokio::test]
    async fn only_what_is_above_the_ceiling_goes(
        #[case] code: u16,
        #[case] message: &'static str,
        #[case] expected: &[&str],
        #[case] failures: usize,
    ) {
        let (asked, context) = api_server(code, message);
        let failed = compare(&workflow(), "ai", &seen(), &[], &[], &context).await;
        assert_eq!(failed.len(), failures, "{failed:?}");
        assert_eq!(*asked.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn what_is_written_anyway_is_not_asked_about() {
        let (asked, context) = api_server(403, ABOVE);
        let [role, _] = seen();
        for change in [
            Change::Replace(Child::Role, role.1.clone()),
            Change::Delete {
                child: Child::Role,
                name: "r".to_owned(),
                uid: "r".to_owned(),
            },
        ] {
            assert!(
                compare(&workflow(), "ai", &seen(), &[change], &[], &context)
                    .await
                    .is_empty()
            );
        }
        assert!(asked.lock().unwrap().is_empty());
    }

    /// Events come all the time; what could not be told is asked again.
    #[tokio::test]
    async fn an_event_alone_asks_nothing() {
        let (asked, context) = api_server(200, "");
        let mut owner = workflow();
        for (generation, comparisons) in [(1, 1), (1, 1), (2, 2), (2, 2)] {
            owner.metadata.generation = Some(generation);
            compare(&owner, "ai", &seen(), &[], &[], &context).await;
            assert_eq!(asked.lock().unwrap().len(), comparisons, "generation {generation}");
        }
        owner.metadata.generation = Some(3);
        compare(&owner, "ai", &[], &[], &seen(), &context).await;
        compare(&owner, "ai", &seen(), &[], &[], &context).await;
        assert_eq!(asked.lock().unwrap().len(), 2, "it has just been written");

        let (asked, context) = api_server(400, "no");
        for comparisons in [1, 2] {
            compare(&owner, "ai", &seen(), &[], &[], &context).await;
            assert_eq!(asked.lock().unwrap().len(), comparisons);
        }
    }

    #[test]
    fn it_is_time_after_a_resync_and_owners_that_are_gone_are_forgotten() {
        let compared = Compared::default();
        let owner = |number: usize| ObjectMeta {
            uid: Some(number.to_string()),
            ..ObjectMeta::default()
        };
        let known = || compared.0.lock().unwrap().at.len();
        let now = Instant::now();
        for number in 0..MOST + 10 {
            compared.note(&owner(number), now);
        }
        assert_eq!(known(), MOST);
        let (before, later) = (now + RESYNC - Duration::from_secs(1), now + RESYNC);
        assert!(!compared.is_due(&owner(0), before) && compared.is_due(&owner(MOST), before));
        assert!(compared.is_due(&owner(0), later));
        compared.note(&owner(MOST), later);
        assert_eq!(known(), 1);
        assert!(!compared.is_due(&owner(MOST), later));
    }
}
