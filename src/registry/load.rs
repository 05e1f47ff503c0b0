//! From what is watched to what is in force: each object that changed is vetted, and all of them are put in force at once.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::Notify;
use tokio::task::JoinError;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Outcome, Published, Registry};
use crate::api::{InventoryKind, RegoPolicy};
use crate::policy::{Declared, LoadError, Registered, Snapshot};
use crate::telemetry::{PolicyOrigin, PolicyState};
use crate::vetting::NotVetted;
use crate::webhook::{Gate, Readiness};

/// How long changes are gathered before they are vetted together.
const GATHER: Duration = Duration::from_millis(50);
/// How long all children of one change may take: the startup probe waits longer.
const WITHIN: Duration = Duration::from_secs(35);
/// When what could not be vetted, for no fault of its own, is tried again.
const RETRY: Duration = Duration::from_secs(15);
/// Most RegoPolicies that are used, those of files included. What is beyond, by age, answers by its failurePolicy.
pub const MAX_POLICIES: usize = 256;
/// How long a replica that starts waits for the objects that policies look at.
const SETTLE: Duration = Duration::from_secs(10);
/// Objects in one page of the list: each may carry a megabyte of samples and modules.
pub const PAGE: u32 = 20;

/// One object as it was last looked at.
struct Seen {
    outcome: Outcome,
    decides: Arc<Registered>,
}

pub(super) async fn run(registry: &Registry, readiness: &Readiness, stop: &CancellationToken) {
    let (store, writer) = reflector::store::<RegoPolicy>();
    let changed = Notify::new();
    let watch = async {
        let config = crate::watch::config().page_size(PAGE);
        let events = watcher(Api::<RegoPolicy>::all(registry.client.clone()), config);
        let mut events = events.default_backoff().reflect(writer).boxed();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        if matches!(event, watcher::Event::Init) {
                            registry.served.forget();
                        }
                        changed.notify_one();
                    }
                    Some(Err(error)) => warn!(%error, "the watch of RegoPolicies failed, and is tried again"),
                    None => return,
                }
            }
        }
    };
    let serve = async {
        tokio::select! {
            () = stop.cancelled() => return,
            ready = store.wait_until_ready() => if ready.is_err() { return },
        }
        let mut seen = BTreeMap::new();
        let mut begins = true;
        loop {
            let mut again = reload(registry, &store, &mut seen).await;
            let began = Instant::now();
            // What has not been vetted yet is not known to be broken: while others serve, this replica does not.
            while begins && again && began.elapsed() < 2 * WITHIN && !stop.is_cancelled() {
                again = reload(registry, &store, &mut seen).await;
            }
            if std::mem::take(&mut begins) {
                // Otherwise a replica that comes up would have no verdict for a moment, where the one that went had one.
                registry.inventory.settle(SETTLE).await;
            }
            readiness.set(Gate::RegoPolicies, Ok(()));
            let retry = async {
                if again {
                    sleep(RETRY).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = retry => {}
                () = changed.notified() => sleep(GATHER).await,
            }
        }
    };
    tokio::join!(watch, serve);
}

/// Puts in force what is there now; whether something has to be tried again.
async fn reload(registry: &Registry, store: &Store<RegoPolicy>, seen: &mut BTreeMap<String, Seen>) -> bool {
    let mut objects = store.state();
    oldest_first(&mut objects);
    let names: Vec<String> = objects.iter().map(|object| object.name_any()).collect();
    seen.retain(|name, _| names.contains(name));
    let is_new = |object: &&Arc<RegoPolicy>| {
        let known = seen.get(&object.name_any());
        known.is_none_or(|known| is_looked_at_again(&known.outcome, object))
    };
    let (shadows, objects): (Vec<_>, Vec<_>) = objects.iter().partition(|object| registry.is_own(&object.name_any()));
    let most = MAX_POLICIES.saturating_sub(registry.own.len());
    let (within, beyond) = objects.split_at(objects.len().min(most));
    let new: Vec<Declared> = within
        .iter()
        .copied()
        .filter(is_new)
        .map(|object| declared(object))
        .collect();
    let shadows: Vec<Declared> = shadows
        .into_iter()
        .filter(is_new)
        .map(|object| declared(object))
        .collect();
    shadows.into_iter().for_each(|object| shadow(seen, object));
    if !new.is_empty() {
        // While children vet them: a policy whose objects are not there yet has no verdict.
        let coming = new.iter().map(|object| object.spec.inventory.as_slice());
        registry.inventory.want(coming.chain(asked_for(&registry.snapshot())));
        registry.loading.store(true, Ordering::Relaxed);
        let vetted = vetted(registry, new).await;
        registry.loading.store(false, Ordering::Relaxed);
        let Ok(vetted) = vetted else {
            warn!("vetting panicked: what was in force stays");
            return true;
        };
        for (object, vetted) in vetted {
            keep(seen, object, vetted);
        }
    }
    for object in beyond {
        let why = beyond_most(&object.name_any());
        seen.remove(&object.name_any());
        keep(seen, declared(object), Err(NotVetted::Refused(vec![why])));
    }
    publish(registry, seen);
    seen.values().any(|seen| !seen.outcome.is_final)
}

/// What children find of each, one after the other, all of them within [`WITHIN`]. Between two, one that is about to be written may be vetted.
async fn vetted(
    registry: &Registry,
    objects: Vec<Declared>,
) -> Result<Vec<(Declared, Result<Registered, NotVetted>)>, JoinError> {
    let until = Instant::now() + WITHIN;
    let mut all = Vec::new();
    for object in objects {
        let (vetting, turn) = (registry.vetting.clone(), Arc::clone(&registry.turn));
        let turn = turn.acquire_owned().await;
        let vetted = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let vetted = vetting.compile_one_of_several(&object, until.saturating_duration_since(Instant::now()));
            (object, vetted)
        });
        all.push(vetted.await?);
    }
    Ok(all)
}

/// An object that does not decide, because a policy of files has its name.
fn shadow(seen: &mut BTreeMap<String, Seen>, object: Declared) {
    warn!(
        policy = object.name,
        "a RegoPolicy does not decide: a policy of files has its name"
    );
    let why = shadowed(&object.name);
    let outcome = Outcome {
        errors: vec![why.clone()],
        is_shadowed: true,
        ..Outcome::of(&object.uid, object.generation)
    };
    let decides = Arc::new(Registered::broken(object.clone(), &why.message));
    seen.insert(object.name, Seen { outcome, decides });
}

/// What decides from now on for an object, and what is said of it.
fn keep(seen: &mut BTreeMap<String, Seen>, object: Declared, vetted: Result<Registered, NotVetted>) {
    let before = seen
        .remove(&object.name)
        .filter(|before| before.outcome.uid == object.uid);
    let mut outcome = Outcome::of(&object.uid, object.generation);
    let decides = match vetted {
        Ok(policy) => {
            info!(
                policy = object.name,
                generation = object.generation,
                "a RegoPolicy is in force"
            );
            Arc::new(policy)
        }
        Err(not) => {
            outcome.errors = not.errors().to_vec();
            outcome.is_final = matches!(not, NotVetted::Refused(_));
            let good = before
                .map(|before| before.decides)
                .filter(|policy| policy.why_broken().is_none());
            outcome.instead = good.as_ref().map(|policy| policy.version().1);
            // Its text may hold anything; what the engine says of it is for its author, in the condition.
            warn!(
                policy = object.name,
                generation = object.generation,
                instead = outcome.instead,
                errors = outcome.errors.len(),
                "a RegoPolicy cannot be used: see its condition Compiled"
            );
            let why = || {
                not.errors()
                    .first()
                    .map_or_else(String::new, |error| error.message.clone())
            };
            good.unwrap_or_else(|| Arc::new(Registered::broken(object.clone(), &why())))
        }
    };
    seen.insert(object.name, Seen { outcome, decides });
}

fn publish(registry: &Registry, seen: &BTreeMap<String, Seen>) {
    let objects = seen.iter().filter(|(_, seen)| !seen.outcome.is_shadowed);
    let policies = objects.map(|(_, seen)| &seen.decides).chain(&registry.own).cloned();
    let snapshot = Arc::new(Snapshot::new(policies.collect()));
    let states = snapshot.policies().iter().map(|policy| {
        let state = match policy.why_broken() {
            Some(_) => PolicyState::Broken,
            None => PolicyState::Compiled,
        };
        (policy.name(), snapshot.revision(), state)
    });
    registry.metrics.set_policies(PolicyOrigin::Objects, states);
    let outcomes = seen
        .iter()
        .map(|(name, seen)| (name.clone(), seen.outcome.clone()))
        .collect();
    registry.inventory.want(asked_for(&snapshot));
    registry.served.note(snapshot.versions());
    registry.published.send_replace(Arc::new(Published {
        snapshot,
        outcomes,
        synced: true,
    }));
}

/// Kinds that policies look at beside the request; one that is broken looks at nothing.
fn asked_for(snapshot: &Snapshot) -> impl Iterator<Item = &[InventoryKind]> {
    let looking = snapshot
        .policies()
        .iter()
        .filter(|policy| policy.why_broken().is_none());
    looking.map(|policy| policy.spec().inventory.as_slice())
}

/// What an object declares.
pub fn declared(object: &RegoPolicy) -> Declared {
    Declared {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        spec: object.spec.clone(),
    }
}

/// Whether what became of an object before says nothing of it now. There may be room for what was beyond the most.
fn is_looked_at_again(known: &Outcome, object: &RegoPolicy) -> bool {
    let is_same =
        object.uid().as_deref() == Some(known.uid.as_str()) && object.metadata.generation == Some(known.generation);
    let was_beyond = known.errors.first() == Some(&beyond_most(&object.name_any()));
    !known.is_final || !is_same || was_beyond
}

/// Puts them in the order in which they are used: of more than [`MAX_POLICIES`] only the first are.
pub fn oldest_first<O: Borrow<RegoPolicy>>(objects: &mut [O]) {
    let age = |object: &O| {
        let object = object.borrow();
        let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, object.name_any())
    };
    objects.sort_by_key(age);
}

/// Why one is not used whose name a policy of files has.
pub fn shadowed(name: &str) -> LoadError {
    let message = "a policy of that name comes with the files that Ringfence is started with, and decides: rename this one, or take that out";
    LoadError::file(name, message)
}

/// Why one of those that come after them is not used.
pub fn beyond_most(name: &str) -> LoadError {
    let message = format!("there are more than {MAX_POLICIES} RegoPolicies, and only the oldest are used: delete some");
    LoadError::file(name, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_beyond_the_most_is_looked_at_again() {
        let object: RegoPolicy = serde_json::from_value(json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy",
            "metadata": {"name": "late", "uid": "u", "generation": 2},
            "spec": {"validationActions": ["Deny"], "matchConstraints": {"resourceRules": []}, "rego": {"modules": []}},
        }))
        .expect("a policy");
        let known = Outcome {
            errors: vec![LoadError::file("late", "no package")],
            ..Outcome::of("u", 2)
        };
        assert!(
            !is_looked_at_again(&known, &object),
            "it stays broken until it is edited"
        );
        let beyond = Outcome {
            errors: vec![beyond_most("late")],
            ..known.clone()
        };
        let edited = Outcome {
            generation: 1,
            ..known.clone()
        };
        let made_anew = Outcome {
            uid: "other".to_owned(),
            ..known.clone()
        };
        let not_vetted = Outcome {
            is_final: false,
            ..known
        };
        for again in [beyond, edited, made_anew, not_vetted] {
            assert!(is_looked_at_again(&again, &object), "{again:?}");
        }
    }
}
