//! One kind from its first list to the end of its watch, for as long as policies ask for it.
//!
//! Must never: put a list in force before its last page, give up, or keep what does not fit into the budget.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::{FutureExt, StreamExt};
use regorus::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::ask::{self, Failure, Served};
use super::budget::Share;
use super::fields::Fields;
use super::held::Held;
use super::relist::{Listed, Relist, Step};
use super::{Kind, LINGER, Shared, Wanted, is_secret};

/// How long a watch may fail before what is held counts as not synced. Where it only goes silent, that begins when it should
/// have ended.
const PATIENCE: Duration = Duration::from_secs(30);
/// When a watch is opened anew, or a little later: one that is silent looks like one on which nothing happens.
const WATCH: Duration = Duration::from_secs(30);
/// Longest that watches may be opened and break off, without an event, a bookmark or their own end, until what is held counts as not
/// synced.
const UNPROVEN: Duration = Duration::from_secs(180);
/// How much later than it should a watch may end.
const MARGIN: Duration = Duration::from_secs(5);
/// How often it is looked whether what is held still counts.
const LOOK: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// When what did not fit into the budget is tried again, unless policies change before.
const HEAVY_RETRY: Duration = Duration::from_secs(300);
/// Changes that are put in force together, where so many have come.
const TOGETHER: usize = 64;

/// Why there is nothing before the first list has ended, or failed.
const LISTING: &str = "its objects are being listed";

/// Most namespaces that a message names.
const NAMED: usize = 5;

/// The sets of fields that policies ask of a kind.
pub(super) type Views = BTreeSet<Fields>;

/// All objects of a kind by some fields, but for those of namespaces whose objects weigh too much.
#[derive(Clone)]
pub(super) struct View {
    pub(super) objects: Value,
    pub(super) left_out: Arc<BTreeSet<String>>,
}

/// What is wrong with what a policy sees.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// What, and what to do.
    pub why: String,
    /// Whether there is more than may be held.
    pub is_too_large: bool,
}

/// A kind as it is read.
pub(super) struct Followed {
    kind: Kind,
    views: watch::Sender<Views>,
    state: ArcSwap<State>,
    /// Told when there is other trouble than before.
    told: watch::Sender<()>,
}

#[derive(Clone)]
struct State {
    /// All objects, by the fields that are kept of them, with their version; `None` where there is no whole list.
    held: Option<(u64, BTreeMap<Fields, View>)>,
    /// Whether there is none because it does not fit.
    is_heavy: bool,
    /// Until when what is held counts.
    fresh_until: Instant,
    /// Why nothing is held, or why it counts no longer.
    why: String,
}

impl Followed {
    pub(super) fn new(kind: Kind, views: Views, told: watch::Sender<()>) -> Self {
        let state = State {
            held: None,
            is_heavy: false,
            fresh_until: Instant::now(),
            why: LISTING.to_owned(),
        };
        Self {
            kind,
            views: watch::Sender::new(views),
            state: ArcSwap::from_pointee(state),
            told,
        }
    }

    /// What policies ask of it from now on.
    pub(super) fn want(&self, views: &Views) {
        self.views.send_if_modified(|before| {
            let changed = before != views;
            before.clone_from(views);
            changed
        });
    }

    /// All objects with these fields, and their version, for a request of that namespace; or why not.
    pub(super) fn look(&self, fields: &Fields, namespace: &str, now: Instant) -> Result<(u64, Value), String> {
        let state = self.state.load();
        let Some((version, held)) = &state.held else {
            return Err(state.why.clone());
        };
        let listing = || "its objects are being listed with the fields that are asked for now".to_owned();
        let view = held.get(fields).ok_or_else(listing)?;
        if now > state.fresh_until {
            let seconds = PATIENCE.as_secs();
            return Err(format!("its watch has failed for more than {seconds} s: {}", state.why));
        }
        if view.left_out.contains(namespace) {
            return Err(format!(
                "the objects of namespace {namespace} weigh more than those of one may, or one of them cannot be read, and policies do not \
                 see them: make them fewer or smaller; within ten minutes they are looked at again"
            ));
        }
        Ok((*version, view.objects.clone()))
    }

    /// What is wrong with what is seen by these fields, where that is known.
    pub(super) fn trouble(&self, fields: &Fields, now: Instant) -> Option<Trouble> {
        let state = self.state.load();
        let Some((_, held)) = &state.held else {
            return self.is_settled().then(|| Trouble {
                why: format!("{} is not synced: {}", self.kind, state.why),
                is_too_large: state.is_heavy,
            });
        };
        // Where it is listed with other fields, that is not known yet.
        let view = held.get(fields)?;
        if now > state.fresh_until {
            return self.look(fields, "", now).err().map(|why| Trouble {
                why: format!("{} is not synced: {why}", self.kind),
                is_too_large: false,
            });
        }
        let left_out = &view.left_out;
        if left_out.is_empty() {
            return None;
        }
        let named: Vec<&str> = left_out.iter().take(NAMED).map(String::as_str).collect();
        let more = match left_out.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(Trouble {
            why: format!(
                "the objects of {} in these namespaces weigh more than those of one may, or one of them cannot be read, and are not seen: \
                 {}{more}. No request there has a verdict, and elsewhere nothing is compared with what they hold: make them fewer or smaller, or raise \
                 --inventory-budget",
                self.kind,
                named.join(", ")
            ),
            is_too_large: true,
        })
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        let before = self.state.load();
        let mut state = State::clone(&before);
        change(&mut state);
        let is_other = state.trouble() != before.trouble();
        self.state.store(Arc::new(state));
        if is_other {
            self.told.send_replace(());
        }
    }

    /// Whether it is known if its objects can be had.
    pub(super) fn is_settled(&self) -> bool {
        let state = self.state.load();
        state.held.is_some() || state.why != LISTING
    }

    /// What is held counts no longer once its time is over, and nobody does anything then. Returns never.
    async fn tells_what_time_changes(&self) {
        let mut was_stale = false;
        loop {
            sleep(LOOK).await;
            let is_stale = Instant::now() > self.state.load().fresh_until;
            if is_stale != was_stale {
                was_stale = is_stale;
                self.told.send_replace(());
            }
        }
    }

    /// Something failed: what is held counts for a while yet.
    fn fail(&self, why: &str) {
        if self.state.load().why != why {
            warn!(
                kind = self.kind.label(),
                why, "policies look at objects that cannot be watched, which is tried again"
            );
        }
        let until = Instant::now() + PATIENCE;
        self.set(|state| {
            state.fresh_until = state.fresh_until.min(until);
            why.clone_into(&mut state.why);
        });
    }

    fn heard(&self, until: Instant) {
        self.set(|state| {
            state.fresh_until = until;
            state.why.clear();
        });
    }
}

impl State {
    /// What of it makes trouble.
    fn trouble(&self) -> (Option<Vec<&BTreeSet<String>>>, bool, &str) {
        let held = self.held.as_ref().map(|(_, views)| views.values());
        let held = held.map(|views| views.map(|view| &*view.left_out).collect());
        (held, self.is_heavy, &self.why)
    }
}

/// Follows a kind until `stop`.
pub(super) async fn run(
    followed: Arc<Followed>,
    shared: Arc<Shared>,
    wanted: watch::Receiver<Wanted>,
    stop: CancellationToken,
) {
    let label = followed.kind.label();
    let follow = async {
        loop {
            let mut follower = Follower {
                share: shared.budget.share(),
                views: followed.views.subscribe(),
                wanted: wanted.clone(),
                followed: &followed,
                shared: &shared,
                retry: FIRST_RETRY,
                proven: Instant::now(),
            };
            // What is held goes with the follower.
            let _panicked = AssertUnwindSafe(follower.run()).catch_unwind().await;
            drop(follower);
            followed.set(|state| state.held = None);
            followed.fail("its watch ended by a mistake of Ringfence's");
            sleep(LAST_RETRY).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow => {}
        () = followed.tells_what_time_changes() => {}
    }
    shared.metrics.forget_cache(&label);
}

/// How a watch ended.
enum Watched {
    Ended,
    /// Policies ask for other fields, or it was looked whether what was left out weighs less now.
    Listed(Listed),
}

/// How a turn of list and watch ended.
enum End {
    Failed(Failure),
    /// It does not fit into the budget.
    Heavy,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

struct Follower<'a> {
    followed: &'a Followed,
    shared: &'a Shared,
    share: Share,
    views: watch::Receiver<Views>,
    wanted: watch::Receiver<Wanted>,
    retry: Duration,
    /// When what is held was last known to be what there is.
    proven: Instant,
}

impl<'a> Follower<'a> {
    /// Returns never.
    async fn run(&mut self) {
        let kind = &self.followed.kind;
        if is_secret(&kind.kind) {
            self.followed
                .fail("Ringfence reads no Secrets: ask for what names them");
            std::future::pending::<()>().await;
        }
        loop {
            match self.turn().await {
                End::Failed(failure) => {
                    self.followed.fail(&failure.why);
                    self.pause().await;
                }
                End::Heavy => {
                    let limit = self.shared.budget.limit() >> 20;
                    let why = format!(
                        "its objects do not fit into what all kinds together may take, {limit} MiB: ask for fewer kinds or \
                         fields, or raise --inventory-budget"
                    );
                    self.followed.set(|state| {
                        state.held = None;
                        state.is_heavy = true;
                    });
                    self.followed.fail(&why);
                    self.share.set(0);
                    self.tell(0);
                    self.wanted.mark_unchanged();
                    tokio::select! {
                        () = sleep(jittered(HEAVY_RETRY)) => {}
                        _ = self.views.changed() => {}
                        // What others held is given back once they are stopped.
                        _ = self.wanted.changed() => sleep(LINGER + FIRST_RETRY).await,
                    }
                }
            }
        }
    }

    /// Waits longer each time, until a watch goes well; not where policies ask for something else.
    async fn pause(&mut self) {
        let pause = jittered(self.retry);
        self.retry = (self.retry * 2).min(LAST_RETRY);
        tokio::select! {
            () = sleep(pause) => {}
            _ = self.views.changed() => {}
        }
    }

    async fn turn(&mut self) -> End {
        match self.list_and_watch().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn list_and_watch(&mut self) -> Result<std::convert::Infallible, End> {
        let (followed, shared) = (self.followed, self.shared);
        let kind = &followed.kind;
        let served = ask::discover(&shared.client, kind).await?;
        if kind.group.is_empty() && served.plural == "secrets" {
            return Err(Failure::lost("Ringfence reads no Secrets: ask for what names them").into());
        }
        let mut list = Some(self.list(&served));
        // What was in force is still held, and counts no more than the larger of both.
        let before = self.share.held();
        let Listed { mut held, mut version } = loop {
            if let Some(listed) = self.go_on(&mut list, before).await? {
                break listed;
            }
        };
        self.put_in_force(&held);
        let mut again = Instant::now() + jittered(HEAVY_RETRY);
        loop {
            let begun = Instant::now();
            match self.watch(&served, &mut held, &mut version, &mut list).await {
                Ok(Watched::Listed(listed)) => {
                    Listed { held, version } = listed;
                    self.put_in_force(&held);
                    again = Instant::now() + jittered(HEAVY_RETRY);
                }
                Ok(Watched::Ended) if begun.elapsed() < FIRST_RETRY => sleep(jittered(FIRST_RETRY)).await,
                Ok(Watched::Ended) => self.retry = FIRST_RETRY,
                Err(End::Failed(failure)) if !failure.lost => {
                    followed.fail(&failure.why);
                    self.pause().await;
                }
                Err(end) => return Err(end),
            }
            let views = self.views.borrow_and_update().clone();
            let is_asked_for_more = !held.narrow(&views);
            let is_due = held.left_out() > 0 && Instant::now() > again;
            let is_listed_for = list.as_ref().is_some_and(|list| list.views == views);
            if (is_asked_for_more || is_due) && !is_listed_for {
                list = Some(Relist::begin(shared, kind, &served, views));
            }
            self.charge(&held, list.as_ref());
            self.publish(&held, None);
        }
    }

    /// Counts what is held as the larger of what is in force and of a list that is made beside it.
    fn charge(&mut self, held: &Held, list: Option<&Relist<'_>>) -> bool {
        let beside = list.map(Relist::weight).unwrap_or_default();
        self.share.set(beside.max(held.weight()))
    }

    fn list(&mut self, served: &Served) -> Relist<'a> {
        let views = self.views.borrow_and_update().clone();
        Relist::begin(self.shared, &self.followed.kind, served, views)
    }

    /// Waits for the next page of a list that there is, beside what weighs so much. Ended early it can be called again.
    async fn go_on(&mut self, list: &mut Option<Relist<'a>>, beside: usize) -> Result<Option<Listed>, End> {
        let Some(waiting) = list.as_mut() else {
            return std::future::pending().await;
        };
        let page = waiting.next().await;
        let step = list.take().map(|list| list.take(page)).transpose()?;
        let (weight, listed) = match step {
            Some(Step::Further(more)) => (list.insert(more).weight(), None),
            Some(Step::Whole(listed)) => (listed.held.weight(), Some(listed)),
            None => return Ok(None),
        };
        if self.share.set(beside.max(weight)) {
            Ok(listed)
        } else {
            Err(End::Heavy)
        }
    }

    fn put_in_force(&mut self, held: &Held) {
        self.proven = Instant::now();
        // A list that took the place of a larger one gives back what that took.
        self.share.set(held.weight());
        self.publish(held, Some(Instant::now() + PATIENCE));
        info!(
            kind = self.followed.kind.label(),
            bytes = held.weight(),
            "objects that policies look at are synced"
        );
    }

    /// Follows one watch to its end, which is no failure, or until a list is whole that is made beside it.
    async fn watch(
        &mut self,
        served: &Served,
        held: &mut Held,
        version: &mut String,
        list: &mut Option<Relist<'a>>,
    ) -> Result<Watched, End> {
        let length = jittered(WATCH);
        let kind = &self.followed.kind;
        let changes = ask::changes(&self.shared.client, kind, served, version, length).await?;
        let end = Instant::now() + length + MARGIN;
        self.followed.heard((end + PATIENCE).min(self.proven + UNPROVEN));
        let cut = held.cut();
        // Cut down as they come: only what is kept waits for the others.
        let changes = changes.map(move |change| Ok::<_, End>(cut.change(change?)?));
        let mut changes = pin!(changes.ready_chunks(TOGETHER));
        let mut views = self.views.clone();
        loop {
            let some = tokio::select! {
                some = timeout_at(end, changes.next()) => some,
                // Whoever called looks at them.
                _ = views.changed() => return Ok(Watched::Ended),
                listed = self.go_on(list, held.weight()) => match listed? {
                    Some(listed) => return Ok(Watched::Listed(listed)),
                    None => continue,
                },
            };
            let some = match some {
                Ok(Some(some)) => some,
                Ok(None) => {
                    if Instant::now() + 2 * MARGIN >= end {
                        self.proven = Instant::now();
                    }
                    return Ok(Watched::Ended);
                }
                Err(_) => return Err(Failure::passing("its watch went silent").into()),
            };
            let mut changed = false;
            let mut failed = None;
            for change in some {
                let applied = change.and_then(|(at, change)| Ok((at, held.apply(change)?)));
                match applied {
                    Ok((at, is_other)) => {
                        changed |= is_other;
                        *version = at;
                        self.retry = FIRST_RETRY;
                        self.proven = Instant::now();
                    }
                    Err(end) => {
                        failed = Some(end);
                        break;
                    }
                }
            }
            if changed {
                if !self.charge(held, list.as_ref()) {
                    return Err(End::Heavy);
                }
                self.publish(held, None);
            }
            if let Some(end) = failed {
                return Err(end);
            }
        }
    }

    fn publish(&mut self, held: &Held, fresh_until: Option<Instant>) {
        let values = (self.shared.next_version(), held.values());
        self.followed.set(|state| {
            state.held = Some(values);
            state.is_heavy = false;
            if let Some(until) = fresh_until {
                state.fresh_until = until;
                state.why.clear();
            }
        });
        self.tell(held.weight());
        let namespaces = held.left_out();
        self.shared
            .metrics
            .set_left_out(&self.followed.kind.label(), namespaces);
    }

    fn tell(&self, bytes: usize) {
        self.shared.metrics.set_cache(&self.followed.kind.label(), bytes);
    }
}

/// Up to half as long again, so that the watches of many replicas do not come together.
fn jittered(base: Duration) -> Duration {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    base + base.mul_f64(f64::from(nanos % 1000) / 2000.0)
}
