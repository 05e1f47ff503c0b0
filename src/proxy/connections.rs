//! Connections that were let through, looked at again whenever something changes of what let them: what is withdrawn from a workflow ends, and
//! not only what is asked for from then on.
//!
//! Must never: end something because the API server is away, or take longer for each change than for one look at all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::task::coop::consume_budget;
use tokio::time::{Duration, Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::serve::Proxy;
use crate::egress::{Passed, Rounds, Snapshot, Withdrawn};

/// How long changes are gathered before all connections are looked at: pods come and go all the time.
const GATHERED: Duration = Duration::from_secs(1);
/// For how long something must have been withdrawn. A policy that somebody deletes is put back within that.
const FOR_GOOD: Duration = Duration::from_secs(2);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Connections {
    next: AtomicU64,
    all: Mutex<HashMap<u64, Arc<One>>>,
}

#[derive(Debug)]
struct One {
    passed: Passed,
    why: OnceLock<Withdrawn>,
    end: CancellationToken,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    of: Arc<Connections>,
    number: u64,
    one: Arc<One>,
}

impl Connections {
    /// Whoever enters looks at what is known afterwards: what changed before is seen by nobody else.
    pub(super) fn enter(self: &Arc<Self>, passed: Passed) -> Connection {
        let one = Arc::new(One {
            passed,
            why: OnceLock::new(),
            end: CancellationToken::new(),
        });
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, Arc::clone(&one));
        Connection {
            of: Arc::clone(self),
            number,
            one,
        }
    }

    fn all(&self) -> Vec<(u64, Arc<One>)> {
        let all = self.lock();
        all.iter().map(|(number, one)| (*number, Arc::clone(one))).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<One>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Ends when it is withdrawn.
    pub(super) fn end(&self) -> &CancellationToken {
        &self.one.end
    }

    /// Why it was withdrawn, if it was.
    pub(super) fn withdrawn(&self) -> Option<Withdrawn> {
        self.one.why.get().copied()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.of.lock().remove(&self.number);
    }
}

/// Ends what is withdrawn, until `end`.
pub async fn withdraw(proxy: Arc<Proxy>, end: CancellationToken) {
    tokio::select! {
        () = end.cancelled() => {}
        () = look_again(&proxy) => {}
    }
}

async fn look_again(proxy: &Proxy) {
    let mut changes = proxy.callers.subscribe();
    let (mut rounds, mut doubted) = (Rounds::default(), HashMap::new());
    loop {
        if doubted.is_empty() && changes.changed().await.is_err() {
            // Nobody tells anything any more: the proxy stops.
            return std::future::pending().await;
        }
        sleep(GATHERED).await;
        let snapshot = Arc::clone(&changes.borrow_and_update());
        doubted = round(proxy, &snapshot, &mut rounds, &doubted).await;
    }
}

/// Looks at all, and says since when which of them would not be let through.
async fn round(
    proxy: &Proxy,
    snapshot: &Snapshot,
    rounds: &mut Rounds,
    doubted: &HashMap<u64, Instant>,
) -> HashMap<u64, Instant> {
    rounds.begin();
    let (now, mut still) = (Instant::now(), HashMap::new());
    for (number, one) in proxy.connections.all() {
        let since = doubted.get(&number);
        if let Err(why) = rounds.look(snapshot, &one.passed, since.is_some()) {
            let since = *since.unwrap_or(&now);
            if now.duration_since(since) < FOR_GOOD {
                still.insert(number, since);
            } else if one.why.set(why).is_ok() {
                proxy.metrics.withdrawn();
                one.end.cancel();
            }
        }
        // So many that others have their turn.
        consume_budget().await;
    }
    still
}
