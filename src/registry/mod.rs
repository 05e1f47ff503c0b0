//! RegoPolicy objects as this replica serves them: watched, vetted, and put in force as a whole.
//!
//! Must never: serve a policy that no child process has survived, take away the last good version because a newer one is broken, or
//! let a request see half of a change.

mod fresh;
mod inventory;
mod load;
mod served;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::{BoxFuture, FutureExt};
use kube::Client;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Duration, Instant, timeout_at};
use tokio_util::sync::CancellationToken;

pub use inventory::{INVENTORY_BUDGET, Inventory, Trouble, inventory_of};
pub use load::{MAX_POLICIES, PAGE, beyond_most, declared, oldest_first, shadowed};

use self::served::Served;
use crate::api::InventoryKind;
use crate::policy::{Declared, EntryId, LoadError, Registered, Snapshot};
use crate::telemetry::Metrics;
use crate::vetting::{NotVetted, Vetting};
use crate::webhook::{Readiness, RegoPolicies};

/// Policies that are vetted at a time: each takes a process, and beside requests there is memory for one.
const AT_A_TIME: usize = 1;
/// How long one that is about to be written waits for others that are.
const TURN: Duration = Duration::from_secs(1);

/// The RegoPolicies of one replica.
pub struct Registry {
    client: Client,
    vetting: Vetting,
    metrics: Arc<Metrics>,
    published: watch::Sender<Arc<Published>>,
    served: Served,
    /// Held for as long as a child runs, even where nobody waits for its answer any more.
    turn: Arc<Semaphore>,
    /// Who of those that are about to be written waits for it, or has it.
    admission: Arc<Semaphore>,
    loading: AtomicBool,
    inventory: Inventory,
    /// Policies that came with the files that this replica was started with, and are no objects.
    own: Vec<Arc<Registered>>,
}

/// What is in force, and what became of each object.
#[derive(Debug, Default)]
pub struct Published {
    /// What decides.
    pub snapshot: Arc<Snapshot>,
    /// What became of each object, by name.
    pub outcomes: BTreeMap<String, Outcome>,
    /// Whether every object that was there at the start has been looked at.
    pub synced: bool,
}

/// What became of one object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// UID of the object.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// What is wrong with it; empty where it decides.
    pub errors: Vec<LoadError>,
    /// Whether it was found wrong, and not only not vetted yet.
    pub is_final: bool,
    /// The generation that decides instead, where an older one was good.
    pub instead: Option<i64>,
    /// Whether a policy of files has its name, and decides.
    pub is_shadowed: bool,
}

impl Outcome {
    /// That of an object whose own text decides.
    pub fn of(uid: impl Into<String>, generation: i64) -> Self {
        Self {
            uid: uid.into(),
            generation,
            errors: Vec::new(),
            is_final: true,
            instead: None,
            is_shadowed: false,
        }
    }
}

impl Registry {
    /// Empty until [`Self::run`] has listed what is there. What policies look at beside requests may take [`INVENTORY_BUDGET`].
    pub fn new(client: Client, vetting: Vetting, metrics: Arc<Metrics>) -> Self {
        Self::with_budget(client, vetting, metrics, INVENTORY_BUDGET)
    }

    /// The same with another budget, in bytes.
    pub fn with_budget(client: Client, vetting: Vetting, metrics: Arc<Metrics>, inventory: usize) -> Self {
        Self {
            inventory: Inventory::new(client.clone(), Arc::clone(&metrics), inventory),
            client,
            vetting,
            metrics,
            published: watch::Sender::default(),
            served: Served::default(),
            turn: Arc::new(Semaphore::new(AT_A_TIME)),
            admission: Arc::new(Semaphore::new(1)),
            loading: AtomicBool::new(false),
            own: Vec::new(),
        }
    }

    /// The same beside policies of files: always in force, before objects of the same names, and never expected in the API server.
    #[must_use]
    pub fn with_own(self, policies: Vec<Registered>) -> Self {
        let own = policies.into_iter().map(|policy| Arc::new(policy.of_files()));
        Self {
            own: own.collect(),
            ..self
        }
    }

    fn is_own(&self, name: &str) -> bool {
        self.own.iter().any(|policy| policy.name() == name)
    }

    /// What is in force now. Whoever decides keeps it to the end.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.published.borrow().snapshot)
    }

    /// What is in force and what became of each object, whenever it changes.
    pub fn changes(&self) -> watch::Receiver<Arc<Published>> {
        self.published.subscribe()
    }

    /// Watches the objects and serves them until `stop`; says at the readiness when it cannot.
    pub async fn run(&self, readiness: Readiness, stop: CancellationToken) {
        tokio::join!(
            load::run(self, &readiness, &stop),
            fresh::run(self, &readiness, &stop),
            self.inventory.run(&stop),
        );
    }

    /// What a policy that asks for these kinds sees as `data.inventory` about a request of that namespace: a few pointers to what never
    /// changes.
    ///
    /// # Errors
    /// Which kind is not synced, and why: its failurePolicy decides.
    pub fn inventory(&self, kinds: &[InventoryKind], namespace: &str) -> Result<regorus::Value, String> {
        self.inventory.of(kinds, namespace)
    }

    /// What is wrong with what a policy sees that asks for these kinds.
    pub fn trouble(&self, kinds: &[InventoryKind]) -> Option<Trouble> {
        self.inventory.trouble(kinds)
    }

    /// Whenever there may be other trouble than before.
    pub fn inventory_changes(&self) -> watch::Receiver<()> {
        self.inventory.changes()
    }

    /// What is in force for a webhook of the registration whose policies are of that version: at once where they are the same, where this
    /// replica has served these a moment ago, or where the API server confirms that what is served is the newest; else as soon as it is. `None`
    /// where the time is over before that.
    pub async fn at_version(&self, id: EntryId, version: &str, deadline: Instant) -> Option<Arc<Snapshot>> {
        let mut changes = self.published.subscribe();
        loop {
            let published = Arc::clone(&changes.borrow_and_update());
            let is_known = published.snapshot.version_of(id) == version || self.served.has(id, version);
            if published.synced
                && (is_known || matches!(timeout_at(deadline, self.is_newest(&published)).await, Ok(true)))
            {
                return Some(Arc::clone(&published.snapshot));
            }
            timeout_at(deadline, changes.changed()).await.ok()?.ok()?;
        }
    }

    /// Whether children vet a change that is not in force yet.
    fn is_loading(&self) -> bool {
        self.loading.load(Ordering::Relaxed)
    }

    /// Whether what is in force is what the API server has. What could not be vetted yet is not in force, though it is known.
    async fn is_newest(&self, published: &Published) -> bool {
        let is_whole = published.outcomes.values().all(|outcome| outcome.is_final);
        is_whole && self.has_heard(published).await
    }

    /// Whether that is of all that the API server has now: a watch that is dead says nothing, and what changes is vetted before it is published.
    pub async fn has_heard(&self, published: &Published) -> bool {
        let there = fresh::list(&self.client).await;
        there.is_ok_and(|there| fresh::known(published) == there)
    }

    /// Vets an object that is about to be written, within that time.
    ///
    /// # Errors
    /// What is wrong with it, or that it could not be found out.
    pub async fn vet(&self, object: Declared, deadline: Instant) -> Result<(), NotVetted> {
        let unknown = |why: &str| Err(NotVetted::Unknown(LoadError::file(&object.name, why)));
        let full = "as many policies are vetted as may be at a time: try again";
        // Those that are there already come first.
        if !self.published.borrow().synced {
            return unknown("this replica has not read all policies yet: try again");
        }
        // Whoever waits keeps others from being reviewed: only one does for what is vetted beside admission, which a busy machine takes its time for.
        let now = Instant::now();
        let within = deadline.saturating_duration_since(now);
        let until = now + TURN.min(within);
        let Ok(first) = timeout_at(until, Arc::clone(&self.admission).acquire_owned()).await else {
            return unknown(full);
        };
        let Ok(turn) = timeout_at(now + within / 2, Arc::clone(&self.turn).acquire_owned()).await else {
            return unknown(full);
        };
        // The child ends before the answer has to leave.
        let within = deadline.saturating_duration_since(Instant::now());
        let within = within.saturating_sub(Duration::from_millis(300).min(within / 4));
        let (vetting, declared) = (self.vetting.clone(), object.clone());
        let vetted = tokio::task::spawn_blocking(move || {
            let _held = (first, turn);
            vetting.compile_object(&declared, within).map(drop)
        });
        vetted.await.unwrap_or_else(|_| unknown(full))
    }
}

impl RegoPolicies for Registry {
    fn snapshot(&self) -> Arc<Snapshot> {
        Self::snapshot(self)
    }

    fn at_version<'a>(
        &'a self,
        id: EntryId,
        version: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Option<Arc<Snapshot>>> {
        Self::at_version(self, id, version, deadline).boxed()
    }

    fn inventory(&self, kinds: &[InventoryKind], namespace: &str) -> Result<regorus::Value, String> {
        Self::inventory(self, kinds, namespace)
    }

    fn vet(&self, object: Declared, deadline: Instant) -> BoxFuture<'_, Result<(), Vec<LoadError>>> {
        async move {
            Self::vet(self, object, deadline)
                .await
                .map_err(|not| not.errors().to_vec())
        }
        .boxed()
    }
}
