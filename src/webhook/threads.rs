//! Threads with large stacks, as many as there is work, up to a bound. Some of them may not come back.
//!
//! The processor is shared by the threads that want it, so of one namespace only as many work at a time as there are cores: whoever
//! floods has no larger part of it than others by having more to ask. Must never: have one namespace's work wait for another's while there
//! are threads.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::policy::count_thread;
use crate::vetting::STACK;

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(60);

/// How long an evaluation that nobody waits for may go on before its policy is not asked again. Who asks chooses how long is waited, and
/// must not choose by that which policies are asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// The part of the threads that one policy may take along, over all namespaces, before nobody is asked it any more. One namespace has no more
/// of them, with those that were left behind: what it sends alone keeps no policy from being asked about another.
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
    /// How many may work for one namespace at a time, without those that were left behind.
    most_of_one: usize,
    /// The same with them.
    most_held_by_one: usize,
    state: Mutex<State>,
    work: Condvar,
    /// Whether more than half of them are gone.
    mostly_gone: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// With the namespace that it is for.
    queue: VecDeque<(String, Job)>,
    /// How many work for each namespace.
    busy: BTreeMap<String, usize>,
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
        // Two, so that one that goes on too long does not keep the rest of its namespace waiting.
        let cores = available_parallelism().map_or(2, |cores| cores.get().max(2));
        Self::with(most, cores)
    }

    fn with(most: usize, most_of_one: usize) -> Arc<Self> {
        let most_held_by_one = (most / SHARE).max(2);
        Arc::new(Self {
            most: most.max(1),
            most_of_one: most_of_one.min(most_held_by_one),
            most_held_by_one,
            state: Mutex::default(),
            work: Condvar::new(),
            mostly_gone: watch::Sender::new(false),
        })
    }

    /// Has a thread do that once one is free, and not too many work for that namespace. Where none can be started, who waits for it finds out
    /// by waiting.
    pub(super) fn submit(self: &Arc<Self>, namespace: &str, job: Job) {
        let mut state = self.lock();
        state.queue.push_back((namespace.to_owned(), job));
        self.call(&mut state);
    }

    /// Has somebody come for what waits and may be done.
    fn call(self: &Arc<Self>, state: &mut State) {
        let due = state.queue.iter().filter(|(of, _)| self.may_begin(state, of));
        match due.count() {
            0 => {}
            due if state.idle >= due => self.work.notify_one(),
            _ => self.grow(state),
        }
    }

    fn may_begin(&self, state: &State, namespace: &str) -> bool {
        let works = state.works_for(namespace);
        works < self.most_of_one && works + state.taken_by(namespace) < self.most_held_by_one
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
    pub(super) fn overrun(self: &Arc<Self>, policy: &str, namespace: &str, since: Instant) -> u64 {
        let mut state = self.lock();
        state.taken += 1;
        let number = state.taken;
        state.leave(namespace);
        self.call(&mut state);
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
        let ended = state.overrun.get_mut(policy).and_then(|taken| {
            let at = taken.iter().position(|taken| taken.number == number)?;
            Some(taken.swap_remove(at))
        });
        // Until its job has returned.
        if let Some(ended) = ended {
            *state.busy.entry(ended.namespace).or_default() += 1;
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
            while let Some((namespace, job)) = self.next(&mut state) {
                drop(state);
                // Jobs catch what policies do. What they do not catch must not cost a thread that nobody counts.
                goes = catch_unwind(AssertUnwindSafe(job)).unwrap_or(Goes::On);
                state = self.lock();
                state.leave(&namespace);
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
        self.call(&mut state);
        drop(state);
        count_thread();
    }

    /// What has waited longest of what may be done, which is worked at from now on.
    fn next(&self, state: &mut State) -> Option<(String, Job)> {
        let at = state.queue.iter().position(|(of, _)| self.may_begin(state, of))?;
        let (namespace, job) = state.queue.remove(at)?;
        *state.busy.entry(namespace.clone()).or_default() += 1;
        Some((namespace, job))
    }

    /// A panic elsewhere leaves whole values behind: each is written at once.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn works_for(&self, namespace: &str) -> usize {
        self.busy.get(namespace).copied().unwrap_or_default()
    }

    /// How many it has taken along, by whatever policy.
    fn taken_by(&self, namespace: &str) -> usize {
        let taken = self.overrun.values().flatten();
        taken.filter(|taken| taken.namespace == namespace).count()
    }

    /// One works no longer for that namespace.
    fn leave(&mut self, namespace: &str) {
        if let Some(busy) = self.busy.get_mut(namespace) {
            *busy = busy.saturating_sub(1);
            if *busy == 0 {
                self.busy.remove(namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// One whose reviews take long has no more of the processor by sending more of them, and the others are asked at once.
    #[test]
    fn a_namespace_that_floods_has_as_many_threads_as_may_be_and_others_have_theirs() {
        let threads = Threads::with(64, 2);
        let (tell, told) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let submit = |namespace: &'static str, waits: bool| {
            let (tell, released) = (tell.clone(), Arc::clone(&released));
            let job = move || {
                tell.send(namespace).expect("somebody listens");
                if waits {
                    let released = released.lock().unwrap();
                    released.recv_timeout(PATIENCE).expect("it is released");
                }
                Goes::On
            };
            threads.submit(namespace, Box::new(job));
        };
        for _ in 0..32 {
            submit("floods", true);
        }
        for _ in 0..2 {
            assert_eq!(told.recv_timeout(PATIENCE), Ok("floods"));
        }
        submit("other", false);
        assert_eq!(told.recv_timeout(PATIENCE), Ok("other"), "no third of the flood's");
        // One is left behind: another of its namespace is begun, and only one.
        let number = threads.overrun("p", "floods", Instant::now());
        assert_eq!(told.recv_timeout(PATIENCE), Ok("floods"));
        assert!(told.recv_timeout(Duration::from_millis(100)).is_err());
        threads.ended("p", number);
        for _ in 0..32 {
            release.send(()).expect("they wait");
        }
        for _ in 0..29 {
            assert_eq!(told.recv_timeout(PATIENCE), Ok("floods"), "all of them are done");
        }
        let until = Instant::now() + PATIENCE;
        while !threads.lock().busy.is_empty() {
            assert!(Instant::now() < until, "nothing is left behind");
            thread::sleep(Duration::from_millis(2));
        }
        threads.close();
    }

    /// Whoever asks so late that little time is left takes a thread along before the policy counts as one that does not end.
    #[test]
    fn what_one_namespace_leaves_behind_keeps_no_policy_from_being_asked_about_another() {
        let threads = Threads::with(16, 8);
        let (tell, told) = mpsc::channel();
        let submit = |namespace: &'static str| {
            let tell = tell.clone();
            let job = move || {
                tell.send(namespace).expect("somebody listens");
                Goes::On
            };
            threads.submit(namespace, Box::new(job));
        };
        let work = || *threads.lock().busy.entry("floods".to_owned()).or_default() += 1;
        let mut taken = Vec::new();
        while threads.may_begin(&threads.lock(), "floods") {
            work();
            let policy = if taken.len() % 2 == 0 { "p" } else { "q" };
            taken.push((policy, threads.overrun(policy, "floods", Instant::now())));
        }
        assert_eq!(taken.len(), 16 / SHARE);
        submit("floods");
        assert!(
            told.recv_timeout(Duration::from_millis(100)).is_err(),
            "it has its part"
        );
        submit("other");
        assert_eq!(told.recv_timeout(PATIENCE), Ok("other"));
        assert!(!threads.is_overrun_by("p", "other"));
        let (policy, number) = taken.pop().expect("one was taken");
        threads.ended(policy, number);
        threads.lock().leave("floods");
        threads.call(&mut threads.lock());
        assert_eq!(told.recv_timeout(PATIENCE), Ok("floods"), "one has come back");
        threads.close();
    }
}
