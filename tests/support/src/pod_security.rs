//! The Pod Security Standards' own checks, asked what they say of a pod.
//!
//! Must never use Ringfence's own code, nor its crate: two readings that share a mistake agree on it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::oracle::{Oracle, source_of};

/// The running checks.
#[derive(Debug)]
pub struct PodSecurity(Oracle);

/// What they say of a pod in one version of the standard.
#[derive(Clone, Debug, Deserialize)]
pub struct Standard {
    /// Whether "baseline" lets it pass.
    pub baseline: bool,
    /// Whether "restricted" does.
    pub restricted: bool,
    /// Whether each check by itself does, by identifier.
    pub checks: BTreeMap<String, bool>,
}

/// A pod of their own tests.
#[derive(Clone, Debug, Deserialize)]
pub struct Fixture {
    /// Level that it is for.
    pub level: String,
    /// Version that it is for.
    pub version: String,
    /// Identifier of the check in lower case and a number, or `base` and what is based on it.
    pub name: String,
    /// Whether it passes.
    pub allowed: bool,
    /// The pod.
    pub pod: Value,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    verdicts: Vec<Standard>,
    #[serde(default)]
    fixtures: Vec<Fixture>,
    #[serde(default)]
    error: String,
}

impl PodSecurity {
    /// Builds them where they are missing or old, and starts them.
    pub fn start() -> Result<Self> {
        Oracle::start("pod-security").map(Self)
    }

    /// What they say of a pod, in the order of the versions; an error where an API server could not read it.
    pub fn ask(&mut self, pod: &Value, versions: &[&str]) -> Result<Result<Vec<Standard>, String>> {
        let answer = self.question(&json!({"pod": pod, "versions": versions}))?;
        if !answer.error.is_empty() {
            return Ok(Err(answer.error));
        }
        ensure!(
            answer.verdicts.len() == versions.len(),
            "{} verdicts of {}",
            answer.verdicts.len(),
            versions.len()
        );
        Ok(Ok(answer.verdicts))
    }

    /// The pods of their own tests, from their source as it is pinned.
    pub fn fixtures(&mut self) -> Result<Vec<Fixture>> {
        let source = source_of("pod-security", "k8s.io/pod-security-admission")?;
        let answer = self.question(&json!({"fixtures": source.join("test/testdata")}))?;
        if !answer.error.is_empty() {
            bail!("no fixtures: {}", answer.error);
        }
        Ok(answer.fixtures)
    }

    fn question(&mut self, question: &Value) -> Result<Answer> {
        let line = self.0.ask(question)?;
        serde_json::from_str(&line).with_context(|| format!("the checks said {line}"))
    }
}
