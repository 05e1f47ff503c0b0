//! The real Open Policy Agent, asked what a rule gives.
//!
//! Must never use Ringfence's own code, nor its crate: two readings that share a mistake agree on it.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::oracle::{Oracle, source_of};

/// A running OPA. Errors of built-in functions are errors.
#[derive(Debug)]
pub struct Opa(Oracle);

/// What a query gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A value; sets are sorted arrays.
    Value(Value),
    /// Nothing.
    Undefined,
    /// An error of the compiler or of the evaluation.
    Error(String),
}

/// A compliance case, as far as it can be asked of a single policy.
#[derive(Clone, Debug, Deserialize)]
pub struct Compliance {
    /// What it is called.
    pub note: String,
    /// What it is about.
    pub folder: String,
    /// Its modules.
    pub modules: Option<Vec<String>>,
    /// Documents beside them.
    pub data: Value,
    /// The input.
    pub input: Value,
    /// Path of the document that is asked for, from `data` on; none where it asks something else.
    pub path: Option<Vec<String>>,
    /// Why it cannot be asked; empty where it can.
    pub unasked: String,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default, deserialize_with = "present")]
    result: Option<Value>,
    #[serde(default)]
    undefined: bool,
    #[serde(default)]
    error: String,
}

/// `null` is a result too.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

impl Opa {
    /// Builds it where it is missing or old, and starts it.
    pub fn start() -> Result<Self> {
        Oracle::start("opa").map(Self)
    }

    /// OPA's own compliance cases, from its source as it is pinned. `version`: the folder, `v0` or `v1`.
    pub fn cases(&mut self, version: &str) -> Result<Vec<Compliance>> {
        let source = source_of("opa", "github.com/open-policy-agent/opa")?;
        let line = self
            .0
            .ask(&json!({"cases": source.join("v1/test/cases/testdata").join(version)}))?;
        let said: Said = serde_json::from_str(&line).context("reading the cases")?;
        let cases = said.result.with_context(|| format!("no cases: {}", said.error))?;
        serde_json::from_value(cases).context("reading the cases")
    }

    /// What `query` gives under one module.
    pub fn ask(&mut self, module: &str, v0: bool, input: &Value, query: &str) -> Result<Answer> {
        self.ask_all(&json!({"p.rego": module}), v0, input, query)
    }

    /// What `query` gives under modules, by file name.
    pub fn ask_all(&mut self, modules: &Value, v0: bool, input: &Value, query: &str) -> Result<Answer> {
        self.question(&json!({"modules": modules, "v0": v0, "input": input, "query": query}))
    }

    /// The same, with errors of built-in functions for undefined.
    pub fn ask_lax(&mut self, module: &str, v0: bool, input: &Value, query: &str) -> Result<Answer> {
        let modules = json!({"p.rego": module});
        self.question(&json!({"modules": modules, "v0": v0, "input": input, "query": query, "lax": true}))
    }

    fn question(&mut self, question: &Value) -> Result<Answer> {
        let line = self.0.ask(question)?;
        let said: Said = serde_json::from_str(&line).with_context(|| format!("OPA said {line}"))?;
        Ok(match said.result {
            Some(value) => Answer::Value(value),
            None if said.undefined => Answer::Undefined,
            None => Answer::Error(said.error),
        })
    }
}
