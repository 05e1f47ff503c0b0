//! The real Prometheus, asked what an expression looks at, and which alerts fire.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::oracle::Oracle;

/// A running Prometheus, as far as reading expressions and evaluating rules goes.
#[derive(Debug)]
pub struct Promql(Oracle);

/// Names of metrics, each with what it is selected by, as `label=value`.
pub type Selected = BTreeMap<String, Vec<String>>;

/// An alert that fires.
#[derive(Clone, Debug, Deserialize)]
pub struct Firing {
    /// Its labels, `alertname` among them.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, with their templates expanded.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    selected: Vec<Option<Selected>>,
    #[serde(default)]
    alerts: Option<Vec<Firing>>,
    #[serde(default)]
    error: String,
}

impl Promql {
    /// Builds it where it is missing or old, and starts it.
    pub fn start() -> Result<Self> {
        Oracle::start("promql").map(Self)
    }

    /// What each of these expressions looks at; an error where one is none.
    pub fn read(&mut self, expressions: &[String]) -> Result<Vec<Selected>> {
        let answer = self.ask(&json!({"expressions": expressions}))?;
        Ok(answer.selected.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Which alerts of a file of rules fire at that minute, with a sample a minute in the notation of promtool.
    pub fn firing(&mut self, rules: &Path, series: &BTreeMap<String, String>, minute: u32) -> Result<Vec<Firing>> {
        let answer = self.ask(&json!({"rules": rules, "series": series, "minute": minute}))?;
        let Some(alerts) = answer.alerts else {
            bail!("the evaluator did not say which alerts fire")
        };
        Ok(alerts)
    }

    fn ask(&mut self, question: &Value) -> Result<Answer> {
        let answer: Answer = serde_json::from_str(&self.0.ask(question)?)?;
        if !answer.error.is_empty() {
            bail!("{}", answer.error);
        }
        Ok(answer)
    }
}
