//! The API server's own evaluator of matchConditions, asked whether a request matches.
//!
//! Must never use Ringfence's own code, nor its crate: two readings that share a mistake agree on it.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::oracle::Oracle;

/// The running evaluator.
#[derive(Debug)]
pub struct MatchConditions(Oracle);

/// What it says of a request.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Matched {
    /// Whether all conditions hold.
    pub matches: bool,
    /// The condition that does not.
    #[serde(default)]
    pub failed: String,
    /// What went wrong: such a request is refused, or passes unseen.
    #[serde(default)]
    pub error: String,
}

impl MatchConditions {
    /// Builds it where it is missing or old, and starts it.
    pub fn start() -> Result<Self> {
        Oracle::start("match-conditions").map(Self)
    }

    /// What it says of a request: `conditions`, `operation`, `kind`, `resource`, `namespace`, `name`, `user`, `groups`, `object`,
    /// `oldObject`, `allowed` (whether that user has the rights that a condition asks about).
    pub fn ask(&mut self, request: &Value) -> Result<Matched> {
        let line = self.0.ask(request)?;
        serde_json::from_str(&line).with_context(|| format!("the evaluator said {line}"))
    }
}
