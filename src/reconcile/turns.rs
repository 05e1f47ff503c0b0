//! Whose turn it is: how many reconciles of one controller run at a time, in all and of one namespace.
//!
//! What lasts as long as others make it last is no part of a reconcile: it asks, ends, and comes again when it is answered (`bound`).
//!
//! Must never: let what one namespace writes keep another one's fence waiting, give up a reconcile that waits, or let one run without an end.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use kube::{ResourceExt, runtime::controller::Action};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{CONCURRENCY, CallError, Context};

/// Reconciles of one namespace that run at the same time: fewer than half of all, so that no two of them are the whole.
const OF_ONE: usize = 3;
/// Longest that what a reconcile does may take, its status aside.
const WORK: Duration = Duration::from_secs(120);
/// Longest that a turn may: the status and what is said beside it have their own deadlines, which are shorter than what is left here.
const TURN: Duration = Duration::from_secs(180);
/// How many namespaces are remembered before those that nobody runs or waits in are forgotten.
const REMEMBERED: usize = 256;

/// The turns of one controller.
pub(super) struct Turns {
    all: Arc<Semaphore>,
    of: Mutex<HashMap<String, Arc<Semaphore>>>,
    longest: Duration,
}

/// Held while a reconcile runs.
struct Turn {
    _of_one: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Turns {
    fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(usize::from(CONCURRENCY))),
            of: Mutex::default(),
            longest: TURN,
        }
    }

    /// First in line of its own namespace, then in that of all, where each namespace has no more than its share. Both lines are in order of
    /// arrival, so the wait is over after what few others stand before.
    async fn take(&self, namespace: &str) -> Option<Turn> {
        let of_one = self.of(namespace);
        // Nobody closes them.
        let of_one = of_one.acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Turn {
            _of_one: of_one,
            _of_all: of_all,
        })
    }

    fn of(&self, namespace: &str) -> Arc<Semaphore> {
        let mut known = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_one) = known.get(namespace) {
            return Arc::clone(of_one);
        }
        if known.len() >= REMEMBERED {
            // Who runs or waits holds its semaphore.
            known.retain(|_, of_one| Arc::strong_count(of_one) > 1);
        }
        let of_one = Arc::new(Semaphore::new(OF_ONE));
        known.insert(namespace.to_owned(), Arc::clone(&of_one));
        of_one
    }
}

/// Waits for what a reconcile does, and no longer than it may take: what took too long is to be said in a condition.
pub(super) async fn in_time<T>(work: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
    timeout(WORK, work).await.unwrap_or_else(|_| {
        Err(CallError::Unread(format!(
            "it was not carried out within {} s: see whether the API server is slow, or what the namespace holds is large",
            WORK.as_secs()
        )))
    })
}

/// Lets a controller that starts whatever is due run each reconcile when it is its namespace's turn. What waits is small: the reconcile
/// itself is made when it runs.
pub(super) fn in_turn<K, F>(
    stop: CancellationToken,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + Send + Sync + 'static,
) -> impl FnMut(Arc<K>, Arc<Context>) -> BoxFuture<'static, Result<Action, CallError>>
where
    K: kube::Resource<DynamicType = ()> + Send + Sync + 'static,
    F: Future<Output = Result<Action, CallError>> + Send + 'static,
{
    by_turns(Turns::new(), stop, reconcile)
}

fn by_turns<K, F>(
    turns: Turns,
    stop: CancellationToken,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + Send + Sync + 'static,
) -> impl FnMut(Arc<K>, Arc<Context>) -> BoxFuture<'static, Result<Action, CallError>>
where
    K: kube::Resource<DynamicType = ()> + Send + Sync + 'static,
    F: Future<Output = Result<Action, CallError>> + Send + 'static,
{
    let (turns, reconcile) = (Arc::new(turns), Arc::new(reconcile));
    move |object, context| {
        let (turns, reconcile, stop) = (Arc::clone(&turns), Arc::clone(&reconcile), stop.clone());
        Box::pin(async move {
            let namespace = object.namespace().unwrap_or_default();
            let turn = tokio::select! {
                turn = turns.take(&namespace) => turn,
                // The controller waits for what it started.
                () = stop.cancelled() => None,
            };
            let Some(_turn) = turn else {
                return Ok(Action::await_change());
            };
            let (kind, name) = (K::kind(&()), object.name_any());
            let run = timeout(turns.longest, Box::pin(reconcile(object, context)));
            run.await.unwrap_or_else(|_| {
                Err(CallError::Unread(format!(
                    "{kind} {namespace}/{name} was not reconciled within {} s",
                    turns.longest.as_secs()
                )))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use kube::Client;

    use super::*;
    use crate::{api::AIWorkflow, reconcile::reading_tests};

    const SOON: Duration = Duration::from_secs(10);

    /// A thousand objects of one namespace whose reconciles never end, and one of another namespace.
    #[tokio::test]
    async fn a_namespace_that_keeps_everybody_busy_waits_for_itself() {
        let turns = Arc::new(Turns::new());
        let busy: Vec<_> = (0..1000)
            .map(|_| {
                let turns = Arc::clone(&turns);
                tokio::spawn(async move {
                    let _turn = turns.take("busy").await;
                    std::future::pending::<()>().await;
                })
            })
            .collect();
        while turns.of("busy").available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let held = timeout(SOON, turns.take("other")).await.expect("its turn");
        assert_eq!(turns.all.available_permits(), usize::from(CONCURRENCY) - OF_ONE - 1);
        drop(held);
        busy.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn no_more_run_than_may_and_each_comes_to_its_turn() {
        let turns = Turns::new();
        let mut running = Vec::new();
        // Two that take all that they may are not the whole.
        for namespace in ["a", "b"] {
            for _ in 0..OF_ONE {
                running.push(timeout(SOON, turns.take(namespace)).await.unwrap().unwrap());
            }
        }
        while turns.all.available_permits() > 0 {
            running.push(timeout(SOON, turns.take("c")).await.unwrap().unwrap());
        }
        assert!(
            timeout(Duration::from_millis(20), turns.take("d")).await.is_err(),
            "all of them run"
        );
        running.pop();
        assert!(timeout(SOON, turns.take("d")).await.unwrap().is_some());
        assert!(running.len() > 2 * OF_ONE);
    }

    /// Whatever it waits for, what is behind it comes to its turn; and it is tried again, because it failed.
    #[tokio::test]
    async fn a_reconcile_that_does_not_end_is_ended() {
        let nobody = tower::service_fn(|_: axum::http::Request<kube::client::Body>| async {
            std::future::pending::<std::io::Result<axum::http::Response<Body>>>().await
        });
        let context = reading_tests::context(Client::new(nobody, "default"));
        let turns = Turns {
            longest: Duration::from_millis(50),
            ..Turns::new()
        };
        let mut reconcile = by_turns(turns, CancellationToken::new(), |_: Arc<AIWorkflow>, _| {
            std::future::pending::<Result<Action, CallError>>()
        });
        let workflow = Arc::new(reading_tests::workflow());
        let all = (0..2 * OF_ONE).map(|_| reconcile(workflow.clone(), context.clone()));
        let ended = timeout(SOON, futures::future::join_all(all)).await.expect("an end");
        for end in ended {
            let said = end.unwrap_err().explain();
            assert!(
                said.starts_with("AIWorkflow ai/triage was not reconciled within"),
                "{said}"
            );
        }
    }

    #[tokio::test]
    async fn namespaces_that_nobody_waits_in_are_forgotten_and_others_are_not() {
        let turns = Turns::new();
        let _turn = turns.take("a").await.unwrap();
        for number in 0..10 * REMEMBERED {
            drop(turns.of(&format!("n{number}")));
        }
        assert!(turns.of.lock().unwrap().len() <= REMEMBERED + 1);
        assert_eq!(turns.of("a").available_permits(), OF_ONE - 1);
    }
}
