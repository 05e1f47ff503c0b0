//! What a child is asked, and what it answers: one JSON document each way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::suites::Run;
use crate::policy::{Declared, LoadError, Source};

/// Most errors of an answer: nobody reads more of them.
pub(super) const MAX_ERRORS: usize = 100;
/// Longest text of an error, in characters. The engine quotes whole lines of source.
pub(super) const MAX_MESSAGE: usize = 2000;
/// Largest answer, in bytes: what the bounds above come to, each character escaped.
pub(super) const MAX_ANSWER: u64 = 4 << 20;
/// What the child writes to standard error in front of what it is about to do.
pub(super) const DOING: &str = "vetting: ";
/// The first thing that it does with a policy.
pub(super) const COMPILING: &str = "read and compiled";

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Question {
    pub what: What,
    pub cpu_seconds: u64,
    pub memory: u64,
    pub stack: usize,
    pub sample_milliseconds: u64,
}

/// What is looked at.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum What {
    /// A file by itself.
    File {
        source: Source,
        parameters: BTreeMap<String, Value>,
    },
    /// Files, for how they fit together.
    Set {
        sources: Vec<Source>,
        parameters: BTreeMap<String, Value>,
    },
    /// A RegoPolicy, with its own samples.
    Object(Box<Declared>),
    /// Tests, whose answers come one by one.
    Tests(Box<Run>),
}

/// Whether one policy is looked at by itself, or a whole set for how it fits together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    Alone,
    Set,
}

/// Nothing in it means that nothing is wrong.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Answer {
    /// What reading, checking and compiling found.
    pub refused: Vec<LoadError>,
    /// What evaluation on the samples found.
    pub on_samples: Vec<LoadError>,
}
