//! Whose turn it is: how many reconciles of one controller run at a time, in all and of one namespace.
//!
//! Must never: let what one namespace writes keep another one's fence waiting, or give up a reconcile that waits.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use kube::{ResourceExt, runtime::controller::Action};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{CONCURRENCY, CallError, Context};

/// Reconciles of one namespace that run at the same time: half of all, so that no two of them are the whole.
const OF_ONE: usize = 4;
/// How many namespaces are remembered before those that nobody runs or waits in are forgotten.
const REMEMBERED: usize = 256;

/// The turns of one controller.
pub(super) struct Turns {
    all: Arc<Semaphore>,
    of: Mutex<HashMap<String, Arc<Semaphore>>>,
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
    let (turns, reconcile) = (Arc::new(Turns::new()), Arc::new(reconcile));
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
            Box::pin(reconcile(object, context)).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

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
        for namespace in ["a", "b"] {
            for _ in 0..OF_ONE {
                running.push(timeout(SOON, turns.take(namespace)).await.unwrap().unwrap());
            }
        }
        assert!(
            timeout(Duration::from_millis(20), turns.take("c")).await.is_err(),
            "all of them run"
        );
        running.pop();
        assert!(timeout(SOON, turns.take("c")).await.unwrap().is_some());
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
