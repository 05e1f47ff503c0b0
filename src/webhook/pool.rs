//! Evaluates policies on threads that may be left behind.
//!
//! The engine looks at its timer between its own steps, and not inside its built-in functions. So who waits for a verdict stops
//! waiting at the end of the policy's time: the thread is left behind with the policy that it is in, which is named, counted, and
//! not asked again about that namespace until it ends. Another thread goes on with the policies that are left.
//!
//! Must never: let one namespace's request decide whether a policy is asked about another's, wait for a policy beyond its share of the time, take one that gave no verdict for one that found nothing, or go
//! on when most threads are gone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::timeout;
use tracing::{info, warn};

use super::held::{Held, held};
use super::judge::Policies;
use super::threads::{Goes, Job, Threads};
use super::{Gate, Readiness};
use crate::api::ValidationAction;
use crate::policy::{Asked, EvalError, PolicyInput, PolicySet, Verdict};
use crate::telemetry::Metrics;

/// How long a policy may take beyond its time before its thread is left behind, where there is time for that: on a busy machine it
/// takes a while until the thread that the engine's timer stops has its turn.
const GRACE: Duration = Duration::from_millis(250);

/// Policies that are asked one by one. A seam: tests have some that do not end.
pub trait OneByOne: Send + Sync + 'static {
    /// What they are asked about one request. It borrows nothing.
    type Asked: Send + Sync + 'static;
    /// Names of those policies, in their order.
    fn names(&self, asked: &Self::Asked) -> Vec<String>;
    /// Asks one of them, which has so much time; `None` where there are not so many.
    fn judge(&self, asked: &Self::Asked, number: usize, time: Duration) -> Option<Verdict>;
}

/// Policies that stay the same, and tell themselves which of them match.
pub trait Asks: OneByOne {
    /// What a refusal of one of them does.
    fn action(&self, policy: &str) -> ValidationAction;
    /// What every policy that matches is asked.
    fn ask(&self, input: &PolicyInput<'_>) -> Self::Asked;
    /// Which policies these are.
    fn revision(&self) -> &str;
}

impl OneByOne for PolicySet {
    type Asked = Asked;

    fn names(&self, asked: &Asked) -> Vec<String> {
        Self::names(self, asked).map(str::to_owned).collect()
    }

    fn judge(&self, asked: &Asked, number: usize, time: Duration) -> Option<Verdict> {
        Self::judge(self, asked, number, time)
    }
}

impl Asks for PolicySet {
    fn action(&self, policy: &str) -> ValidationAction {
        Self::action(self, policy)
    }

    fn ask(&self, input: &PolicyInput<'_>) -> Asked {
        Self::ask(self, input)
    }

    fn revision(&self) -> &str {
        Self::revision(self)
    }
}

/// Policies, and the threads that evaluate them.
pub struct Pool<P: Asks = PolicySet> {
    policies: Arc<P>,
    evaluator: Evaluator,
}

/// The threads by themselves, for whatever policies. All clones share them.
#[derive(Clone)]
pub struct Evaluator {
    threads: Arc<Threads>,
    metrics: Arc<Metrics>,
}

/// One request's evaluation: what it needs, and what it holds while a thread is in it.
struct Evaluation<P: OneByOne> {
    policies: Arc<P>,
    asked: P::Asked,
    names: Vec<String>,
    namespace: String,
    until: Instant,
    _held: Option<Held>,
}

/// One thread's part of it, from one policy on.
#[derive(Default)]
struct Turn(Mutex<Progress>);

#[derive(Default)]
struct Progress {
    /// A policy is being asked, whose verdict is not there yet.
    running: bool,
    left_behind: bool,
    /// Of the thread that it takes along.
    taken: Option<u64>,
}

impl<P: Asks> Pool<P> {
    /// Policies with so many threads at most, which are started as they are needed.
    pub fn new(policies: Arc<P>, threads: usize, metrics: Arc<Metrics>) -> Self {
        let threads = Threads::new(threads);
        Self {
            policies,
            evaluator: Evaluator { threads, metrics },
        }
    }

    /// The threads, for other policies too.
    pub fn evaluator(&self) -> Evaluator {
        self.evaluator.clone()
    }
}

impl Evaluator {
    /// Says that this replica is not ready while more than half of the threads are left behind, and ends when that has been so for
    /// that long, with the policies that hold them. They may hold any amount of memory, and only the end of the process ends them.
    pub async fn exhausted(&self, readiness: &Readiness, patience: Duration) -> Vec<String> {
        let mut gone = self.threads.mostly_gone();
        // The sender lives as long as the threads do, so waiting for it does not fail.
        while gone.wait_for(|gone| *gone).await.is_ok() {
            let names = self.threads.overrun_by().join(", ");
            let why = format!("more than half of the threads that evaluate policies do not come back from: {names}");
            warn!(policies = names, "{why}");
            readiness.set(Gate::Policies, Err(why));
            match timeout(patience, gone.wait_for(|gone| !*gone)).await {
                Ok(Ok(_)) => readiness.set(Gate::Policies, Ok(())),
                Ok(Err(_)) | Err(_) => break,
            }
        }
        self.threads.overrun_by()
    }

    /// Has a thread judge from that policy on.
    fn start<P: OneByOne>(
        &self,
        evaluation: &Arc<Evaluation<P>>,
        first: usize,
    ) -> (Arc<Turn>, mpsc::Receiver<Verdict>) {
        let (tell, told) = mpsc::channel();
        let turn = Arc::new(Turn::default());
        let (evaluation, threads, metrics) = (
            Arc::clone(evaluation),
            Arc::clone(&self.threads),
            Arc::clone(&self.metrics),
        );
        let mine = Arc::clone(&turn);
        let namespace = evaluation.namespace.clone();
        let job: Job = Box::new(move || {
            let mut goes = Goes::On;
            for number in first..evaluation.names.len() {
                if !mine.goes_on() {
                    return goes;
                }
                let verdict = evaluation.judge(number, &threads);
                if let Err(EvalError::Memory { .. } | EvalError::NoMemory) = verdict.outcome {
                    goes = Goes::Away;
                }
                let mut progress = mine.lock();
                progress.running = false;
                if progress.left_behind {
                    if let Some(taken) = progress.taken {
                        threads.ended(&verdict.policy, taken);
                    }
                    metrics.overrun_ended();
                    info!(
                        policy = verdict.policy,
                        seconds = verdict.duration.as_secs_f64(),
                        "an evaluation has ended that was left behind"
                    );
                    return goes;
                }
                // Whoever does not listen any more has gone with the request.
                let _ = tell.send(verdict);
            }
            goes
        });
        self.threads.submit(&namespace, job);
        (turn, told)
    }

    /// Stops waiting for a thread, and says why the policy gave no verdict; `Ok` where it gave one just now.
    fn leave(
        &self,
        turn: &Turn,
        told: &mpsc::Receiver<Verdict>,
        (policy, namespace, since): (&str, &str, Instant),
    ) -> Result<Verdict, EvalError> {
        let mut progress = turn.lock();
        if let Ok(verdict) = told.try_recv() {
            return Ok(verdict);
        }
        progress.left_behind = true;
        if !progress.running {
            return Err(EvalError::NoThread);
        }
        progress.taken = Some(self.threads.overrun(policy, namespace, since));
        self.metrics.overrun(policy);
        warn!(
            policy,
            "an evaluation does not end: its thread is left behind, and while it goes on the policy is not asked about its namespace and refuses"
        );
        Err(EvalError::Timeout)
    }
}

impl<P: Asks> Drop for Pool<P> {
    fn drop(&mut self) {
        self.evaluator.threads.close();
    }
}

impl<P: Asks> Policies for Pool<P> {
    fn evaluate(&self, input: &PolicyInput<'_>, budget: Duration) -> Vec<Verdict> {
        let asked = self.policies.ask(input);
        let namespace = input.request.get("namespace").and_then(Value::as_str);
        self.evaluator
            .evaluate(&self.policies, asked, namespace.unwrap_or_default(), budget)
    }

    fn action(&self, policy: &str) -> ValidationAction {
        self.policies.action(policy)
    }

    fn revision(&self) -> &str {
        self.policies.revision()
    }
}

impl Evaluator {
    /// One verdict for each policy that is asked about a request of that namespace, in their order, all of them within `budget`.
    pub fn evaluate<P: OneByOne>(
        &self,
        policies: &Arc<P>,
        asked: P::Asked,
        namespace: &str,
        budget: Duration,
    ) -> Vec<Verdict> {
        // What is kept back is for the answer: without it, it would say that it is late, and not because of whom.
        let until = Instant::now() + (budget - budget / 16);
        let evaluation = Arc::new(Evaluation {
            names: policies.names(&asked),
            policies: Arc::clone(policies),
            asked,
            namespace: namespace.to_owned(),
            until,
            _held: held(),
        });
        let mut verdicts = Vec::with_capacity(evaluation.names.len());
        while verdicts.len() < evaluation.names.len() {
            let (turn, told) = self.start(&evaluation, verdicts.len());
            while let Some(policy) = evaluation.names.get(verdicts.len()) {
                let begin = Instant::now();
                let error = match told.recv_timeout(evaluation.patience()) {
                    Ok(verdict) => {
                        verdicts.push(verdict);
                        continue;
                    }
                    Err(RecvTimeoutError::Timeout) => match self.leave(&turn, &told, (policy, namespace, begin)) {
                        Ok(verdict) => {
                            verdicts.push(verdict);
                            continue;
                        }
                        Err(error) => error,
                    },
                    // The thread has ended this job before its end.
                    Err(RecvTimeoutError::Disconnected) => EvalError::Panic,
                };
                verdicts.push(Verdict {
                    policy: policy.clone(),
                    outcome: Err(error),
                    duration: begin.elapsed(),
                });
                break;
            }
        }
        verdicts
    }
}

impl<P: OneByOne> Evaluation<P> {
    /// Half of what is left, so that a policy that runs away does not silence the others.
    fn share(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()) / 2
    }

    /// How long to wait for a policy whose share starts now.
    fn patience(&self) -> Duration {
        let share = self.share();
        share + GRACE.max(share / 8).min(share / 2)
    }

    fn judge(&self, number: usize, threads: &Threads) -> Verdict {
        let policy = self.names.get(number).cloned().unwrap_or_default();
        let nothing = |policy, error| Verdict {
            policy,
            outcome: Err(error),
            duration: Duration::ZERO,
        };
        if threads.is_overrun_by(&policy, &self.namespace) {
            return nothing(policy, EvalError::Unended);
        }
        let judge = AssertUnwindSafe(|| self.policies.judge(&self.asked, number, self.share()));
        match catch_unwind(judge) {
            Ok(Some(verdict)) => verdict,
            Ok(None) | Err(_) => nothing(policy, EvalError::Panic),
        }
    }
}

impl Turn {
    /// Whether somebody still waits for the next verdict, which is worked at from now on.
    fn goes_on(&self) -> bool {
        let mut progress = self.lock();
        progress.running = !progress.left_behind;
        progress.running
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
