//! How verdicts are printed, each as soon as it is known where the format allows that.

mod github;
mod json;
mod junit;
mod people;
mod sarif;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::ValueEnum;

use super::{
    judge::Found,
    judged::{Judged, Totals, Trouble},
};

/// A format.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Format {
    /// For people: the line that is at fault, what is wrong, and what to do; coloured on a terminal.
    #[default]
    People,
    /// One JSON object: `results`, `problems` and `totals`.
    Json,
    /// SARIF 2.1.0.
    Sarif,
    /// JUnit XML: a test case an object.
    Junit,
    /// Annotations of GitHub Actions.
    Github,
}

/// Makes text of verdicts.
pub(super) trait Printer {
    /// Before anything else.
    fn begin(&mut self) -> Result<String> {
        Ok(String::new())
    }

    /// An object.
    fn judged(&mut self, judged: &Judged) -> Result<String>;

    /// What could not be reviewed.
    fn trouble(&mut self, trouble: &Trouble) -> Result<String>;

    /// After everything else.
    fn end(&mut self, totals: &Totals) -> Result<String>;
}

impl Format {
    /// Prints so; `about` says what policies demand.
    pub(super) fn printer(self, colour: bool, about: BTreeMap<String, String>) -> Box<dyn Printer> {
        match self {
            Self::People => Box::new(people::People { colour }),
            Self::Json => Box::new(json::Json::default()),
            Self::Sarif => Box::new(sarif::Sarif::new(about)),
            Self::Junit => Box::new(junit::Junit::default()),
            Self::Github => Box::new(github::Github),
        }
    }
}

/// What is wrong, with its path and value, in one line.
fn told(found: &Found) -> String {
    let violation = &found.violation;
    match (violation.path.as_str(), found.value()) {
        ("", _) => violation.message.clone(),
        (path, Some(value)) => format!("{path} = {value:?}: {}", violation.message),
        (path, None) => format!("{path}: {}", violation.message),
    }
}

/// What was not judged and why, a line each.
fn not_judged(totals: &Totals) -> Vec<String> {
    let lines = totals.missing.iter().map(|((by, what), (objects, policies))| {
        let policies: Vec<_> = policies.iter().map(String::as_str).collect();
        format!(
            "not judged of {}: {}: needs {what} (give it with {by})",
            counted(*objects, "object", "objects"),
            policies.join(", ")
        )
    });
    lines.collect()
}

/// One line about the whole.
fn summary(totals: &Totals) -> String {
    let mut text = format!(
        "{} of {} would be refused, {} warned about",
        totals.denied,
        counted(totals.objects, "object", "objects"),
        totals.warned
    );
    if totals.unasked > 0 {
        text.push_str(&format!("; nobody is asked about {}", totals.unasked));
    }
    if totals.not_judged > 0 {
        text.push_str(&format!("; {} not judged by every rule", totals.not_judged));
    }
    if totals.problems > 0 {
        text.push_str(&format!("; {}", counted(totals.problems, "problem", "problems")));
    }
    text
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
