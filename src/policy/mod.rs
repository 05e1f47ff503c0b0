//! Rego policies: vetted, compiled once, evaluated in-process, bounded.
//!
//! Must never: read a file, ask a server, or take an error, a time-out, a panic or a result of the wrong shape for "nothing
//! found". The one clock that is read measures how long an evaluation may still take.

mod builtins;
mod compile;
mod convert;
mod deadline;
mod error;
mod exception;
mod findings;
mod input;
mod lexical;
pub mod library;
mod looks;
mod memory;
mod metadata;
mod registered;
mod rewrite;
mod set;
mod spelling;
mod table;
mod testing;
mod vet;

pub use builtins::{builtin_functions, render_support};
pub use compile::{PolicyInfo, Source};
pub use convert::engine_value;
pub use error::{EvalError, LoadError, NO_MEMORY};
pub use exception::{Exceptions, Excusable, names_objects};
pub use findings::{Findings, MAX_FINDINGS};
pub use input::PolicyInput;
pub use looks::Looks;
pub use memory::{ALLOCATOR, count_thread, counted_memory, limit_memory};
pub use metadata::{Metadata, RegoVersion, Severity, Target, means_to_be_a_policy, package_of};
pub use registered::{
    Declared, Entry, EntryId, EntryRule, Match, Occasion, Question, Registered, Snapshot, TemplateOf, is_secret,
};
pub(crate) use rewrite::tokens::Tokens;
pub use set::{Asked, Plain, PolicySet, Verdict};
pub use table::render as render_table;
pub use testing::{
    Failure, FileCoverage, Ran, Stop, Suite, TestOutcome, TestRule, TestVerdict, Testing, evaluate, run_tests,
};
pub use vet::EntryPoint;
