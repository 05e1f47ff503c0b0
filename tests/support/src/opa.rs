//! The real Open Policy Agent, asked what a rule gives.
//!
//! Must never use Ringfence's own code, nor its crate: two readings that share a mistake agree on it.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::oracle::Oracle;

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

    /// What `query` gives under one module.
    pub fn ask(&mut self, module: &str, v0: bool, input: &Value, query: &str) -> Result<Answer> {
        self.ask_all(&json!({"p.rego": module}), v0, input, query)
    }

    /// What `query` gives under modules, by file name.
    pub fn ask_all(&mut self, modules: &Value, v0: bool, input: &Value, query: &str) -> Result<Answer> {
        let question = json!({"modules": modules, "v0": v0, "input": input, "query": query});
        let line = self.0.ask(&question)?;
        let said: Said = serde_json::from_str(&line).with_context(|| format!("OPA said {line}"))?;
        Ok(match said.result {
            Some(value) => Answer::Value(value),
            None if said.undefined => Answer::Undefined,
            None => Answer::Error(said.error),
        })
    }
}
