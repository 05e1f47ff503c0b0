//! An explanation for people.
//!
//! Must never: let through what a terminal obeys. Names and messages come from who asked.

use super::catalogue::{Described, Kind};
use super::explain::{Explained, Explanation};
use super::replay::Found;
use crate::review::{Outcome, clean};

const BOLD: &str = "\u{1b}[1m";
const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const RESET: &str = "\u{1b}[0m";
const YELLOW: &str = "\u{1b}[33m";

/// Most masked fields that are listed.
const MAX_LISTED: usize = 8;

impl Explanation {
    /// The explanation as text. `colour` is for terminals only.
    pub fn text(&self, colour: bool) -> String {
        let paint = |text: &str, with: &str| match colour {
            true => format!("{with}{text}{RESET}"),
            false => text.to_owned(),
        };
        let with = match self.verdict {
            Outcome::Allow => GREEN,
            Outcome::Audit | Outcome::Warn => YELLOW,
            Outcome::Deny | Outcome::Fault => RED,
        };
        let mut text = format!(
            "{}  {}\n",
            paint(&self.verdict.as_str().to_uppercase(), with),
            clean(&self.asked())
        );
        let dry_run = if self.dry_run {
            "; nothing would have been stored (dry run)"
        } else {
            ""
        };
        line(&mut text, 2, &format!("{}{dry_run}.", capital(&self.meaning)));
        let about = format!(
            "webhook {}, uid {}, policies of revision {}",
            self.webhook, self.uid, self.revision
        );
        line(&mut text, 2, &about);
        for explained in &self.policies {
            text.push('\n');
            let heading = clean(&explained.heading());
            text.push_str(&format!("  {}{heading}\n", paint(&clean(&explained.name), BOLD)));
            explained.body(&mut text);
        }
        if !self.exceptions.is_empty() {
            text.push('\n');
        }
        for used in &self.exceptions {
            line(
                &mut text,
                2,
                &format!("By RegoPolicyException {}/{}: {}", used.namespace, used.name, used.see),
            );
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            line(&mut text, 2, &format!("Note: {note}."));
        }
        if !self.replay.masked.is_empty() {
            let listed = self.replay.masked.iter().take(MAX_LISTED).map(String::as_str);
            let listed = listed.collect::<Vec<_>>().join(", ");
            let more = self.replay.masked.len().saturating_sub(MAX_LISTED) + self.replay.masked_more;
            let more = if more > 0 {
                format!(", and {more} more")
            } else {
                String::new()
            };
            let told = format!("Masked, so not judged by what they hold: {listed}{more}.");
            line(&mut text, 2, &told);
        }
        text
    }

    fn asked(&self) -> String {
        let or = |text: &str, other: &str| {
            if text.is_empty() {
                other.to_owned()
            } else {
                text.to_owned()
            }
        };
        let object = match (self.namespace.as_str(), self.name.as_str()) {
            ("", name) => or(name, "(no name yet)"),
            (namespace, name) => format!("{namespace}/{}", or(name, "(no name yet)")),
        };
        let asked = match self.operation.as_str() {
            "" => "a request that could not be read".to_owned(),
            operation => format!(
                "{} asked to {operation} {} {object}",
                or(&self.user, "somebody"),
                self.resource
            ),
        };
        match &self.timestamp {
            Some(timestamp) => format!("{timestamp}  {asked}"),
            None => asked,
        }
    }
}

impl Explained {
    fn heading(&self) -> String {
        let kinds = self
            .described
            .iter()
            .map(|described| match (described.kind, &described.severity) {
                (Kind::BuiltInRule, _) => "built-in rule".to_owned(),
                (Kind::Policy, Some(severity)) => format!("policy, {severity}"),
                (Kind::Policy, None) => "policy".to_owned(),
                (Kind::RegoPolicy, _) => described.as_declared(),
            });
        let kinds = kinds.collect::<Vec<_>>().join("; ");
        let title = self
            .described
            .iter()
            .map(|described| described.title.as_str())
            .find(|title| !title.is_empty());
        match (kinds.as_str(), title) {
            ("", _) => String::new(),
            (kinds, None) => format!(" ({kinds})"),
            (kinds, Some(title)) => format!(" ({kinds}): {title}"),
        }
    }

    fn body(&self, text: &mut String) {
        // Policy and rule of one name demand the same; METADATA says more.
        let best = self
            .described
            .iter()
            .max_by_key(|described| described.kind != Kind::BuiltInRule);
        if let Some(described) = best {
            described.body(text);
        }
        if let Some(note) = &self.note {
            line(text, 4, &format!("{}.", capital(note)));
        }
        for found in &self.findings {
            found.body(text);
        }
    }
}

impl Described {
    /// A RegoPolicy by what it does.
    fn as_declared(&self) -> String {
        let actions = self.validation_actions.iter().map(|action| action.as_str().to_owned());
        let failure = self
            .failure_policy
            .map(|policy| format!("failurePolicy {}", policy.as_str()));
        let broken = self.broken.is_some().then(|| "broken".to_owned());
        let words = std::iter::once("RegoPolicy".to_owned())
            .chain(actions)
            .chain(failure)
            .chain(broken);
        words.collect::<Vec<_>>().join(", ")
    }

    fn body(&self, text: &mut String) {
        line(text, 4, &self.description);
        line(text, 4, &format!("Fix: {}", self.remediation));
        if !self.controls.is_empty() {
            line(text, 4, &format!("Controls: {}", self.controls.join(", ")));
        }
        if let Some(file) = &self.file {
            line(text, 4, &format!("File: {file}"));
        }
        if let Some(why) = &self.broken {
            line(text, 4, &format!("Error: {why}"));
        }
    }
}

impl Found {
    fn body(&self, text: &mut String) {
        let mut told = format!("- {}: ", self.effect.as_str());
        if !self.path.is_empty() {
            told.push_str(&self.path);
            if let Some(value) = &self.value {
                told.push_str(&format!(" = \"{value}\""));
            }
            told.push_str(if self.masked { " (masked here): " } else { ": " });
        }
        told.push_str(&self.message);
        line(text, 4, &told);
        line(text, 6, &format!("Fix: {}", self.fix));
    }
}

fn line(text: &mut String, indent: usize, said: &str) {
    text.push_str(&format!("{:indent$}{}\n", "", clean(said)));
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}", first.unwrap_or_default(), characters.as_str())
}
