//! Threads with large stacks, as many as there is work, up to a bound. Some of them may not come back.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::policy::count_thread;
use crate::vetting::STACK;

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(60);

/// How long an evaluation that nobody waits for may go on before its policy is not asked again. Who asks chooses how long is waited, and
/// must not choose by that which policies are asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// The part of the threads that one policy may take along, over all namespaces, before nobody is asked it any more.
const SHARE: usize = 4;

/// Work, which says whether its thread may do other work afterwards.
pub(super) type Job = Box<dyn FnOnce() -> Goes + Send>;

/// What becomes of a thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Goes {
    On,
    /// Another takes its place. Its own count of memory has seen a peak, which would hide what a later evaluation takes.
    Away,
}

pub(super) struct Threads {
    most: usize,
    state: Mutex<State>,
    work: Condvar,
    /// Whether more than half of them are gone.
    mostly_gone: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
    /// How many were ever taken along.
    taken: u64,
    /// The threads that each policy has taken along.
    overrun: BTreeMap<String, Vec<Taken>>,
}

/// A thread that an evaluation has taken along.
struct Taken {
    number: u64,
    /// Of the request.
    namespace: String,
    since: Instant,
}

impl Threads {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            state: Mutex::default(),
            work: Condvar::new(),
            mostly_gone: watch::Sender::new(false),
        })
    }

    /// Has a thread do that once one is free. Where none can be started, who waits for it finds out by waiting.
    pub(super) fn submit(self: &Arc<Self>, job: Job) {
        let mut state = self.lock();
        state.queue.push_back(job);
        if state.idle >= state.queue.len() {
            self.work.notify_one();
        } else {
            self.grow(&mut state);
        }
    }

    fn grow(self: &Arc<Self>, state: &mut State) {
        if state.threads < self.most {
            let threads = Arc::clone(self);
            let thread = thread::Builder::new().name("evaluate policies".to_owned());
            if thread.stack_size(STACK).spawn(move || threads.serve()).is_ok() {
                state.threads += 1;
            }
        }
    }

    /// Ends the threads once they have nothing to do.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    /// A policy, asked about a request of that namespace since then, has taken a thread along. Returns what tells it from others.
    pub(super) fn overrun(&self, policy: &str, namespace: &str, since: Instant) -> u64 {
        let mut state = self.lock();
        state.taken += 1;
        let number = state.taken;
        let namespace = namespace.to_owned();
        let taken = Taken {
            number,
            namespace,
            since,
        };
        state.overrun.entry(policy.to_owned()).or_default().push(taken);
        self.tell(&state);
        number
    }

    /// It gave it back.
    pub(super) fn ended(&self, policy: &str, number: u64) {
        let mut state = self.lock();
        if let Some(taken) = state.overrun.get_mut(policy) {
            taken.retain(|taken| taken.number != number);
        }
        state.overrun.retain(|_, taken| !taken.is_empty());
        self.tell(&state);
    }

    /// Whether more than half of the threads are gone.
    pub(super) fn mostly_gone(&self) -> watch::Receiver<bool> {
        self.mostly_gone.subscribe()
    }

    fn tell(&self, state: &State) {
        let gone = state.overrun.values().map(Vec::len).sum::<usize>() * 2 > self.most;
        self.mostly_gone
            .send_if_modified(|told| std::mem::replace(told, gone) != gone);
    }

    /// Whether a policy is not to be asked about a request of that namespace: an earlier one of it still goes on. Other namespaces ask on,
    /// until the policy has taken more than a quarter of all threads along.
    pub(super) fn is_overrun_by(&self, policy: &str, namespace: &str) -> bool {
        let state = self.lock();
        let taken = state.overrun.get(policy).map_or(&[][..], Vec::as_slice);
        let goes_on = |taken: &Taken| taken.namespace == namespace && taken.since.elapsed() >= PATIENCE;
        taken.len() * SHARE > self.most || taken.iter().any(goes_on)
    }

    /// The policies that have taken threads along.
    pub(super) fn overrun_by(&self) -> Vec<String> {
        self.lock().overrun.keys().cloned().collect()
    }

    fn serve(self: &Arc<Self>) {
        let mut state = self.lock();
        let mut goes = Goes::On;
        loop {
            while let Some(job) = state.queue.pop_front() {
                drop(state);
                // Jobs catch what policies do. What they do not catch must not cost a thread that nobody counts.
                goes = catch_unwind(AssertUnwindSafe(job)).unwrap_or(Goes::On);
                state = self.lock();
                if goes == Goes::Away {
                    break;
                }
            }
            if state.closed || goes == Goes::Away {
                break;
            }
            state.idle += 1;
            let waited = self
                .work
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            state.idle -= 1;
            if waited.1.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        if !state.queue.is_empty() {
            self.grow(&mut state);
        }
        drop(state);
        count_thread();
    }

    /// A panic elsewhere leaves whole values behind: each is written at once.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
