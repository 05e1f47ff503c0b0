//! The objects that policies look at beside the request: each kind watched once, cut down to what policies declare, bounded.
//!
//! A policy sees its own fields and no others, though all that ask for a kind share its watch: what it says must not change
//! because another policy that asked for more came or went. Must never: show a part of a list, or a list that may have been out
//! of date for long, as if it were whole; read a Secret; or let one kind's failure touch another.
//!
//! Who may write in a namespace may fill it. Whose objects of a kind weigh more than a namespace's share is left out whole: no request of
//! that namespace has a verdict then, and all others are judged without it, which the policy's condition says.

mod ask;
mod budget;
mod fields;
mod follow;
mod held;
mod objects;
mod relist;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use kube::Client;
use regorus::Value;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::api::InventoryKind;
use crate::policy::is_secret;
use crate::telemetry::Metrics;
use budget::Budget;
use fields::Fields;
pub use follow::Trouble;
use follow::{Followed, Views};

/// What the objects of all kinds together may take, in bytes. While a kind is listed again its old list is held beside the new
/// one, and so are lists that requests are decided on: leave as much again beside it.
pub const INVENTORY_BUDGET: usize = 32 << 20;
/// Most kinds that are watched. Whoever asks for more has no verdict.
const MAX_KINDS: usize = 64;
/// How long a kind is watched on that no policy asks for any more: it may have been replaced, and not deleted.
const LINGER: Duration = Duration::from_secs(10);
/// How often what was put together for policies is dropped, and made anew for the next request: it holds objects that are gone.
const ANEW: Duration = Duration::from_secs(60);
/// How often it is looked whether every kind is known to be there or not.
const LOOK: Duration = Duration::from_millis(50);

/// A kind of object.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Kind {
    group: String,
    version: String,
    kind: String,
}

/// Kinds, and what is asked of each: one or more sets of fields.
type Wanted = BTreeMap<Kind, Views>;

/// The objects that policies look at. Cheap to read.
pub struct Inventory {
    shared: Arc<Shared>,
    followed: ArcSwap<BTreeMap<Kind, Arc<Followed>>>,
    wanted: watch::Sender<Wanted>,
    told: watch::Sender<()>,
    /// Several kinds put together for a policy, with the versions that they were made of.
    together: Mutex<BTreeMap<Vec<InventoryKind>, Together>>,
}

/// Versions of kinds, and what they are together.
type Together = (Vec<u64>, Value);

/// What the watches of all kinds have in common.
struct Shared {
    client: Client,
    metrics: Arc<Metrics>,
    budget: Arc<Budget>,
    pages: Semaphore,
    versions: AtomicU64,
}

impl Kind {
    fn of(kind: &InventoryKind) -> Self {
        Self {
            group: kind.group.clone(),
            version: kind.version.clone(),
            kind: kind.kind.clone(),
        }
    }

    fn group_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// As it is called in a metric.
    fn label(&self) -> String {
        format!("{}/{}", self.group_version(), self.kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.kind, self.group_version())
    }
}

impl Shared {
    fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed)
    }
}

impl Inventory {
    /// Nothing, until [`Self::want`] and [`Self::run`]. The budget is in bytes, for all kinds together.
    pub fn new(client: Client, metrics: Arc<Metrics>, budget: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                metrics,
                budget: Budget::new(budget),
                pages: Semaphore::new(ask::PAGES),
                versions: AtomicU64::new(1),
            }),
            followed: ArcSwap::default(),
            wanted: watch::Sender::default(),
            told: watch::Sender::default(),
            together: Mutex::default(),
        }
    }

    /// What policies ask for from now on, one list for each policy. What is over the budget is tried again whenever it changes.
    pub fn want<'a>(&self, policies: impl IntoIterator<Item = &'a [InventoryKind]>) {
        let mut wanted = Wanted::new();
        for kinds in policies {
            for (kind, fields) in by_kind(kinds) {
                wanted.entry(kind).or_default().insert(fields);
            }
        }
        self.wanted.send_if_modified(|before| {
            let changed = *before != wanted;
            *before = wanted;
            changed
        });
    }

    /// Whenever there may be other [`Self::trouble`] than before.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }

    /// What is wrong with what a policy sees that asks for these kinds, as far as it is known.
    pub fn trouble(&self, kinds: &[InventoryKind]) -> Option<Trouble> {
        let (followed, now) = (self.followed.load(), Instant::now());
        by_kind(kinds)
            .iter()
            .find_map(|(kind, fields)| followed.get(kind)?.trouble(fields, now))
    }

    /// What a policy sees as `data.inventory` about a request of that namespace, whole and as it is now: a few pointers, which never change.
    ///
    /// # Errors
    /// Which kind is not synced, and why.
    pub fn of(&self, kinds: &[InventoryKind], namespace: &str) -> Result<Value, String> {
        let followed = self.followed.load();
        let now = Instant::now();
        let mut versions = Vec::new();
        let mut values = Vec::new();
        for (kind, fields) in by_kind(kinds) {
            let found = match followed.get(&kind) {
                Some(one) => one.look(&fields, namespace, now),
                None if followed.len() >= MAX_KINDS => Err(format!(
                    "policies ask for more than {MAX_KINDS} kinds together, which is the limit: ask for fewer"
                )),
                None => Err("its watch has not begun yet".to_owned()),
            };
            let (version, value) = found.map_err(|why| format!("{kind} is not synced: {why}"))?;
            versions.push(version);
            values.push(value);
        }
        if let [value] = values.as_slice() {
            return Ok(value.clone());
        }
        let known = self
            .together
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(kinds)
            .cloned();
        if let Some((of, value)) = known
            && of == versions
        {
            return Ok(value);
        }
        // Not under the lock: others would wait for it. It may be done twice, which is as good.
        let value = objects::together(&values);
        let mut together = self.together.lock().unwrap_or_else(PoisonError::into_inner);
        together.insert(kinds.to_vec(), (versions, value.clone()));
        Ok(value)
    }

    /// Waits, within that time, until of every kind that is wanted it is known whether its objects can be had.
    pub async fn settle(&self, within: Duration) {
        let is_settled = || {
            let (wanted, followed) = (self.wanted.borrow(), self.followed.load());
            let begun = followed.len() >= MAX_KINDS || wanted.keys().all(|kind| followed.contains_key(kind));
            begun && followed.values().all(|one| one.is_settled())
        };
        let settled = async {
            while !is_settled() {
                sleep(LOOK).await;
            }
        };
        // Late is as good as never: the policies that look at it say so.
        let _late = timeout(within, settled).await;
    }

    /// Watches what is wanted, until `stop`.
    pub async fn run(&self, stop: &CancellationToken) {
        let mut wanted = self.wanted.subscribe();
        let mut running: BTreeMap<Kind, Running> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        loop {
            let now = wanted.borrow_and_update().clone();
            self.start(&now, &mut running, &mut tasks, stop);
            let over = self.stop_unwanted(&now, &mut running);
            let linger = async {
                match over {
                    Some(over) => sleep_until(over).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                changed = wanted.changed() => if changed.is_err() { break },
                () = linger => {}
                () = sleep(ANEW) => {}
                // Those that were stopped, and nothing else, end.
                Some(_) = tasks.join_next() => {}
            }
        }
        tasks.shutdown().await;
        self.followed.store(Arc::default());
    }

    fn start(
        &self,
        wanted: &Wanted,
        running: &mut BTreeMap<Kind, Running>,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        for (kind, views) in wanted {
            if let Some(known) = running.get_mut(kind) {
                known.unwanted_since = None;
                known.followed.want(views);
            } else if running.len() < MAX_KINDS {
                let followed = Arc::new(Followed::new(kind.clone(), views.clone(), self.told.clone()));
                let stop = stop.child_token();
                let following = follow::run(
                    Arc::clone(&followed),
                    Arc::clone(&self.shared),
                    self.wanted.subscribe(),
                    stop.clone(),
                );
                tasks.spawn(following);
                let one = Running {
                    followed,
                    stop,
                    unwanted_since: None,
                };
                running.insert(kind.clone(), one);
            }
        }
        self.publish(running);
    }

    /// Stops what nobody has asked for long enough; when that is to be looked at again.
    fn stop_unwanted(&self, wanted: &Wanted, running: &mut BTreeMap<Kind, Running>) -> Option<Instant> {
        let now = Instant::now();
        let mut next = None;
        running.retain(|kind, one| {
            if wanted.contains_key(kind) {
                return true;
            }
            let over = *one.unwanted_since.get_or_insert(now) + LINGER;
            if over > now {
                next = Some(next.map_or(over, |next: Instant| next.min(over)));
                return true;
            }
            one.stop.cancel();
            false
        });
        self.publish(running);
        // What policies of before were shown is not held for them.
        let mut together = self.together.lock().unwrap_or_else(PoisonError::into_inner);
        together.clear();
        next
    }

    fn publish(&self, running: &BTreeMap<Kind, Running>) {
        let followed = running
            .iter()
            .map(|(kind, one)| (kind.clone(), Arc::clone(&one.followed)));
        self.followed.store(Arc::new(followed.collect()));
    }
}

/// A kind that is watched.
struct Running {
    followed: Arc<Followed>,
    stop: CancellationToken,
    unwanted_since: Option<Instant>,
}

/// What one policy asks for; a kind that it names twice is one.
fn by_kind(kinds: &[InventoryKind]) -> BTreeMap<Kind, Fields> {
    let mut by_kind: BTreeMap<Kind, Fields> = BTreeMap::new();
    for kind in kinds {
        let fields = Fields::of(&kind.fields);
        let known = by_kind.entry(Kind::of(kind)).or_default();
        *known = known.join(&fields);
    }
    by_kind
}

/// What policies that name these kinds see where these are all objects that there are, each with its type and its namespace.
///
/// # Errors
/// Where one of them is nested too deeply, or has no name.
pub fn inventory_of(kinds: &[InventoryKind], all: &[serde_json::Value]) -> Result<Value, String> {
    let mut values = Vec::new();
    for (kind, fields) in by_kind(kinds) {
        let version = kind.group_version();
        let mut objects = objects::Objects::new(&version, &kind.kind, usize::MAX);
        let pruner = fields::Pruner::new(&version, &kind.kind, &fields);
        let text = |object: &serde_json::Value, pointer: &str| object.pointer(pointer)?.as_str().map(str::to_owned);
        let is_of_it = |object: &&serde_json::Value| {
            text(object, "/apiVersion").as_ref() == Some(&version) && text(object, "/kind").as_ref() == Some(&kind.kind)
        };
        for object in all.iter().filter(is_of_it) {
            let place = objects::Place {
                namespace: text(object, "/metadata/namespace"),
                name: text(object, "/metadata/name").ok_or_else(|| format!("{kind}: one of them has no name"))?,
            };
            let pruned = pruner
                .prune(object)
                .map_err(|_| format!("{kind}: {} is nested too deeply", place.name))?;
            objects.insert(&place, pruned);
        }
        values.push(objects.value());
    }
    Ok(objects::together(&values))
}

impl fmt::Debug for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the objects.
        let kinds: Vec<String> = self.followed.load().keys().map(Kind::label).collect();
        f.debug_struct("Inventory")
            .field("kinds", &kinds)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
