//! Vets policies in a child process of this binary before this process trusts them.
//!
//! Nothing catches a stack overflow, no timer of the engine reaches into its built-in functions, and memory that is used up takes
//! the process along: so a child, which may die of it, reads, checks, compiles and evaluates each policy first. The checks of
//! `policy` run there too, and find most of it with file, line and column; the child is for what they miss.
//!
//! The policies that the binary carries are a part of it like its code, and are not vetted at start; tests vet them.
//!
//! Must never: parse or compile here what no child has survived, take a child that gave no answer for a good one, or wait for
//! one without a deadline.

mod child;
mod process;
mod question;
mod samples;
mod suites;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use child::main as answer;
pub use samples::{ordinary, surroundings};

use crate::policy::{Declared, LoadError, PolicySet, Registered, Source};
use process::Death;
use question::{Answer, Question, What};
pub use suites::{How, Tested, TestedRule, Tests};

/// The hidden subcommand that a child is started with.
pub const SUBCOMMAND: &str = "vet-policies";

/// Stack of threads that compile or evaluate policies here: twice the child's, for what is deeper than its samples.
pub const STACK: usize = 2 * CHILD_STACK;
/// The deepest that were found to pass the checks took 2 MiB of it.
const CHILD_STACK: usize = 16 << 20;

/// Children at a time. Together they stay well under the chart's memory limit.
const CHILDREN: usize = 2;

/// What a child may use.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Processor time of one child, in whole seconds.
    pub cpu: Duration,
    /// How long one child may take.
    pub wall: Duration,
    /// How long until no more children are started: with the last one, and with that for the set, it is less than the chart's
    /// startup probe waits.
    pub total: Duration,
    /// Memory of one child, in bytes, beside its stack. A usual policy takes less than a tenth of it.
    pub memory: u64,
    /// Stack of the thread of the child that does it all, in bytes.
    pub stack: usize,
    /// How long one policy may take on one sample, which takes a usual one about a millisecond.
    pub sample: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            cpu: Duration::from_secs(8),
            wall: Duration::from_secs(10),
            total: Duration::from_secs(35),
            memory: 160 << 20,
            stack: CHILD_STACK,
            sample: Duration::from_secs(1),
        }
    }
}

/// Why a RegoPolicy is not compiled.
#[derive(Clone, Debug)]
pub enum NotVetted {
    /// It is wrong, and will stay so.
    Refused(Vec<LoadError>),
    /// It could not be found out, which says nothing of the policy: it is worth another try.
    Unknown(LoadError),
}

impl NotVetted {
    fn unknown(object: &Declared, death: &Death, bounds: &Bounds) -> Self {
        Self::Unknown(LoadError::file(&object.name, death.of_policy(bounds)))
    }

    /// Everything that was found.
    pub fn errors(&self) -> &[LoadError] {
        match self {
            Self::Refused(errors) => errors,
            Self::Unknown(error) => std::slice::from_ref(error),
        }
    }
}

/// Starts children and hears them.
#[derive(Clone, Debug)]
pub struct Vetting {
    program: PathBuf,
    bounds: Bounds,
}

impl Vetting {
    /// With this very binary, and the product's own bounds.
    ///
    /// # Errors
    /// Where the system does not tell which file it is.
    pub fn new() -> std::io::Result<Self> {
        // An upgrade in place may have put another version where this one was started from.
        let program = if cfg!(target_os = "linux") {
            PathBuf::from("/proc/self/exe")
        } else {
            std::env::current_exe()?
        };
        Ok(Self::with(program, Bounds::default()))
    }

    /// With another file that has the subcommand, such as a test has.
    pub fn with(program: PathBuf, bounds: Bounds) -> Self {
        Self { program, bounds }
    }

    /// Compiles policies once children have survived the same: one child for each policy, so that it is known which one ends it,
    /// and one for all of them together. Blocks, for `bounds.total` and two more children at most.
    ///
    /// # Errors
    /// Everything that is wrong with them, in their order.
    pub fn compile(
        &self,
        sources: Vec<Source>,
        parameters: &BTreeMap<String, Value>,
    ) -> Result<PolicySet, Vec<LoadError>> {
        self.compile_beside(Vec::new(), sources, parameters)
    }

    /// The same beside policies that the binary carries, in one set.
    ///
    /// # Errors
    /// Everything that is wrong with them, in their order.
    pub fn compile_beside(
        &self,
        shipped: Vec<Source>,
        sources: Vec<Source>,
        parameters: &BTreeMap<String, Value>,
    ) -> Result<PolicySet, Vec<LoadError>> {
        let all: Vec<_> = shipped.into_iter().chain(sources.iter().cloned()).collect();
        if !sources.is_empty() {
            self.vet(&sources, &all, parameters)?;
        }
        on_large_stack(|| PolicySet::compile(all, parameters))
    }

    /// Compiles a RegoPolicy once a child has survived it, and its samples in it. Blocks, for so long at most.
    ///
    /// # Errors
    /// What is wrong with it, or that nothing is known of it.
    pub fn compile_object(&self, object: &Declared, within: Duration) -> Result<Registered, NotVetted> {
        let bounds = Bounds {
            wall: self.bounds.wall.min(within),
            ..self.bounds.clone()
        };
        let this = Self { bounds, ..self.clone() };
        // A little more, so that the child's end is the policy's, and not that of the time for all.
        this.compile_one_of_several(object, within + within / 8)
    }

    /// The same of one of several that share a time: where that is over, nothing is known of it.
    ///
    /// # Errors
    /// What is wrong with it, or that nothing is known of it.
    pub fn compile_one_of_several(&self, object: &Declared, left: Duration) -> Result<Registered, NotVetted> {
        let mut all = self.compile_objects(std::slice::from_ref(object), left);
        all.pop()
            .unwrap_or(Err(NotVetted::unknown(object, &Death::NotAsked, &self.bounds)))
    }

    /// The same of several, some at a time. One outcome each, in their order.
    pub fn compile_objects(&self, objects: &[Declared], within: Duration) -> Vec<Result<Registered, NotVetted>> {
        let until = Instant::now() + within;
        let what = |object: &Declared| What::Object(Box::new(object.clone()));
        let heard = self.ask_about_each(objects, &what, until).into_iter();
        let compiled = heard.zip(objects).map(|(heard, object)| match heard {
            Err(death) if death.is_of_the_policy() => {
                let file = object
                    .spec
                    .rego
                    .modules
                    .first()
                    .map_or("policy", |module| module.name.as_str());
                Err(NotVetted::Refused(vec![LoadError::file(
                    file,
                    death.of_policy(&self.bounds),
                )]))
            }
            Err(death) => Err(NotVetted::unknown(object, &death, &self.bounds)),
            Ok(Answer { refused, on_samples }) if refused.is_empty() && on_samples.is_empty() => {
                on_large_stack(|| Registered::compile(object)).map_err(NotVetted::Refused)
            }
            Ok(Answer { refused, on_samples }) => {
                Err(NotVetted::Refused(refused.into_iter().chain(on_samples).collect()))
            }
        });
        compiled.collect()
    }

    fn vet(
        &self,
        sources: &[Source],
        all: &[Source],
        parameters: &BTreeMap<String, Value>,
    ) -> Result<(), Vec<LoadError>> {
        let until = Instant::now() + self.bounds.total;
        let what = |source: &Source| What::File {
            source: source.clone(),
            parameters: parameters.clone(),
        };
        let heard = self.ask_about_each(sources, &what, until);
        let mut errors = Vec::new();
        let mut whole = true;
        for (source, heard) in sources.iter().zip(heard) {
            match heard {
                Ok(Answer { refused, on_samples }) => {
                    whole &= on_samples.is_empty();
                    errors.extend(refused.into_iter().chain(on_samples));
                }
                Err(death) => {
                    whole = false;
                    errors.push(LoadError::file(&source.file, death.of_policy(&self.bounds)));
                }
            }
        }
        // Where one of them ends its child, all of them together would tell no more.
        if whole {
            // It is alone, and has the memory of all.
            let bounds = Bounds {
                memory: self.bounds.memory * CHILDREN as u64,
                ..self.bounds.clone()
            };
            let question = bounds.question(What::Set {
                sources: all.to_vec(),
                parameters: parameters.clone(),
            });
            match process::ask(&self.program, &question, bounds.wall) {
                Ok(answer) => {
                    let found = answer.refused.into_iter().chain(answer.on_samples);
                    for error in found {
                        if !errors.contains(&error) {
                            errors.push(error);
                        }
                    }
                }
                Err(death) => errors.push(LoadError::file("policies", death.of_set(&bounds))),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn ask_about_each<T: Sync>(
        &self,
        policies: &[T],
        what: &(dyn Fn(&T) -> What + Sync),
        until: Instant,
    ) -> Vec<Result<Answer, Death>> {
        let next = AtomicUsize::new(0);
        let heard = Mutex::new(BTreeMap::new());
        thread::scope(|scope| {
            for _ in 0..CHILDREN.min(policies.len()) {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(policy) = policies.get(number) else { return };
                        let left = until.saturating_duration_since(Instant::now());
                        let answer = if left.is_zero() {
                            Err(Death::NotAsked)
                        } else {
                            let question = self.bounds.question(what(policy));
                            let heard = process::ask(&self.program, &question, self.bounds.wall.min(left));
                            // It had less time than it may take.
                            match heard {
                                Err(Death::Late(_)) if left < self.bounds.wall => Err(Death::NotAsked),
                                heard => heard,
                            }
                        };
                        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                        heard.insert(number, answer);
                    }
                });
            }
        });
        let mut heard = heard.into_inner().unwrap_or_else(PoisonError::into_inner);
        (0..policies.len())
            .map(|number| heard.remove(&number).unwrap_or(Err(Death::NotAsked)))
            .collect()
    }
}

impl Bounds {
    fn question(&self, what: What) -> Question {
        Question {
            what,
            cpu_seconds: self.cpu.as_secs().max(1),
            memory: self.memory,
            stack: self.stack,
            sample_milliseconds: u64::try_from(self.sample.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Compiles on a thread whose stack is larger than the one that it fitted in the child.
fn on_large_stack<T: Send>(compile: impl FnOnce() -> Result<T, Vec<LoadError>> + Send) -> Result<T, Vec<LoadError>> {
    let failed = |message: &str| Err(vec![LoadError::file("policies", message)]);
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("compile policies".to_owned())
            .stack_size(STACK);
        match thread.spawn_scoped(scope, compile) {
            Ok(thread) => thread
                .join()
                .unwrap_or_else(|_| failed("the engine panicked while it compiled them")),
            Err(error) => failed(&format!("no thread can be started to compile them: {error}")),
        }
    })
}
