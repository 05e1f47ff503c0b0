//! The real Gatekeeper, asked what it says of requests.
//!
//! Must never use Ringfence's own code, nor its crate: two readings that share a mistake agree on it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::oracle::Oracle;

/// A running Gatekeeper: its constraint client and target, as its webhook asks them.
#[derive(Debug)]
pub struct Gatekeeper(Oracle);

/// What Gatekeeper says.
#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    /// Documents that it refuses, as `Kind/name`, and why.
    pub refused: BTreeMap<String, String>,
    /// What it says of each request.
    said: Option<Vec<Said>>,
}

/// What Gatekeeper says of a request.
#[derive(Clone, Debug, Deserialize)]
pub struct Said {
    /// Why it could not be reviewed, and so is refused; empty where it could.
    #[serde(default)]
    pub error: String,
    results: Option<Vec<Violation>>,
}

/// A violation.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
pub struct Violation {
    /// `Kind/name` of the constraint.
    pub constraint: String,
    /// What is said.
    pub message: String,
    /// `deny`, `warn`, `dryrun`.
    pub actions: BTreeSet<String>,
}

impl Told {
    /// What it says of each request.
    pub fn said(&self) -> &[Said] {
        self.said.as_deref().unwrap_or_default()
    }
}

impl Said {
    /// The violations.
    pub fn violations(&self) -> &[Violation] {
        self.results.as_deref().unwrap_or_default()
    }
}

impl Gatekeeper {
    /// Builds it where it is missing or old, and starts it.
    pub fn start() -> Result<Self> {
        Oracle::start("gatekeeper").map(Self)
    }

    /// What it says of requests, each `{request, namespace}`, with these documents and these synced objects.
    pub fn ask(&mut self, documents: &[Value], inventory: &[Value], requests: &[Value]) -> Result<Told> {
        let question = json!({"documents": documents, "inventory": inventory, "requests": requests});
        let line = self.0.ask(&question)?;
        serde_json::from_str(&line).with_context(|| format!("Gatekeeper said {line}"))
    }
}
