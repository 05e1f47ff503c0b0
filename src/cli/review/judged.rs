//! What is told of each object, and of all of them together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    judge::{Found, Level, NotJudged},
    places::Place,
};
use crate::cli::documents::Problem;

/// Most facts that are told of at the end.
const MAX_FACTS: usize = 256;

/// What came of a part of the input.
pub(super) enum Outcome {
    Judged(Box<Judged>),
    Trouble(Trouble),
    /// What is for another tool.
    LeftAside(String),
}

/// What could not be reviewed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Trouble {
    pub(super) file: String,
    pub(super) line: Option<u32>,
    pub(super) column: Option<u32>,
    pub(super) message: String,
}

/// An object and its verdict.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) file: Arc<str>,
    /// Where the document begins, or the object.
    pub(super) line: u32,
    /// What Helm says that it made the document of.
    pub(super) source: Option<String>,
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) operation: &'static str,
    pub(super) answers: Vec<Sent>,
    pub(super) findings: Vec<Finding>,
    pub(super) not_judged: BTreeSet<NotJudged>,
}

/// What a webhook would send.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) webhook: String,
    pub(super) allowed: bool,
    pub(super) message: Option<String>,
    pub(super) warnings: Vec<String>,
    /// Exceptions by which it passes, each with the policy that it excuses.
    pub(super) excused: Vec<(String, String)>,
}

/// A finding and its place.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) found: Found,
    pub(super) place: Option<Place>,
}

/// What all of it comes to.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) files: usize,
    pub(super) objects: usize,
    pub(super) denied: usize,
    pub(super) warned: usize,
    /// Objects about which nobody was asked.
    pub(super) unasked: usize,
    /// Objects of which some rule or policy was not judged.
    pub(super) not_judged: usize,
    pub(super) problems: usize,
    /// What was missing: of how many objects, and for which rules and policies.
    pub(super) missing: BTreeMap<(&'static str, String), (usize, BTreeSet<String>)>,
}

impl Trouble {
    pub(super) fn of(file: &str, problem: &Problem) -> Self {
        Self {
            file: file.to_owned(),
            line: Some(problem.line),
            column: problem.column,
            message: problem.message.clone(),
        }
    }

    /// `file:line:column`
    pub(super) fn at(&self) -> String {
        let mut at = self.file.clone();
        for number in [self.line, self.column].into_iter().flatten() {
            at.push_str(&format!(":{number}"));
        }
        at
    }
}

impl Judged {
    /// `Deployment ai-secure/worker`
    pub(super) fn title(&self) -> String {
        match &self.namespace {
            Some(namespace) if self.kind != "Namespace" => format!("{} {namespace}/{}", self.kind, self.name),
            _ => format!("{} {}", self.kind, self.name),
        }
    }

    pub(super) fn has(&self, level: Level) -> bool {
        self.findings.iter().any(|finding| finding.found.level == level)
    }

    /// The verdict in one word.
    pub(super) fn verdict(&self) -> &'static str {
        if self.has(Level::Deny) {
            "deny"
        } else if self.has(Level::Warn) {
            "warn"
        } else if self.has(Level::Audit) {
            "audit"
        } else {
            "allow"
        }
    }
}

impl Finding {
    /// Line and column, as far as they are known.
    pub(super) fn at(&self, judged: &Judged) -> (u32, Option<u32>) {
        match &self.place {
            Some(place) => (place.line, Some(place.column)),
            None => (judged.line, None),
        }
    }
}

impl Totals {
    pub(super) fn add(&mut self, judged: &Judged) {
        self.objects = self.objects.saturating_add(1);
        self.denied += usize::from(judged.has(Level::Deny));
        self.warned += usize::from(!judged.has(Level::Deny) && judged.has(Level::Warn));
        self.unasked += usize::from(judged.answers.is_empty());
        self.not_judged += usize::from(!judged.not_judged.is_empty());
        let mut counted = BTreeSet::new();
        for one in &judged.not_judged {
            for what in &one.needs {
                let key = (one.by, what.clone());
                if !self.missing.contains_key(&key) && self.missing.len() >= MAX_FACTS {
                    continue;
                }
                let (objects, policies) = self.missing.entry(key.clone()).or_default();
                *objects += usize::from(counted.insert(key));
                policies.insert(one.policy.clone());
            }
        }
    }
}
