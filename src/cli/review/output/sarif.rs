//! SARIF 2.1.0, which code hosts and security dashboards read, with the region of each finding.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    super::{
        judge::Level,
        judged::{Finding, Judged, Totals, Trouble},
    },
    Printer, not_judged, told,
};
use crate::{cli::terminal::as_json, decisions::rule_of, findings::SARIF_SCHEMA};

/// Most results: code hosts take no more.
const MAX_RESULTS: usize = 25_000;

pub(super) struct Sarif {
    about: BTreeMap<String, String>,
    /// What a policy or rule demands, by its name.
    rules: BTreeMap<String, String>,
    results: Vec<Value>,
    omitted: usize,
    notifications: Vec<Value>,
}

impl Sarif {
    pub(super) fn new(about: BTreeMap<String, String>) -> Self {
        Self {
            about,
            rules: BTreeMap::new(),
            results: Vec::new(),
            omitted: 0,
            notifications: Vec::new(),
        }
    }
}

impl Printer for Sarif {
    fn judged(&mut self, judged: &Judged) -> Result<String> {
        for finding in &judged.findings {
            if self.results.len() >= MAX_RESULTS {
                self.omitted += 1;
                continue;
            }
            let violation = &finding.found.violation;
            let name = violation.policy.as_str();
            let demands = || match (rule_of(name), self.about.get(name)) {
                (_, Some(description)) => description.clone(),
                (Some(rule), None) => rule.description.to_owned(),
                (None, None) => violation.fix.clone(),
            };
            let demands = demands();
            self.rules.entry(name.to_owned()).or_insert(demands);
            self.results.push(result(judged, finding));
        }
        Ok(String::new())
    }

    fn trouble(&mut self, trouble: &Trouble) -> Result<String> {
        if self.notifications.len() < MAX_RESULTS {
            let place = json!({"uri": uri(&trouble.file)});
            let physical = match trouble.line {
                Some(line) => json!({
                    "artifactLocation": place, "region": {"startLine": line, "startColumn": trouble.column.unwrap_or(1)},
                }),
                None => json!({"artifactLocation": place}),
            };
            self.notifications.push(json!({
                "level": "error",
                "message": {"text": format!("could not be reviewed: {}", trouble.message)},
                "locations": [{"physicalLocation": physical}],
            }));
        }
        Ok(String::new())
    }

    fn end(&mut self, totals: &Totals) -> Result<String> {
        let note = |text: String| json!({"level": "note", "message": {"text": text}});
        self.notifications.extend(not_judged(totals).into_iter().map(note));
        if self.omitted > 0 {
            let text = format!("{} findings are not listed", self.omitted);
            self.notifications
                .push(json!({"level": "warning", "message": {"text": text}}));
        }
        let names: Vec<&String> = self.rules.keys().collect();
        for result in &mut self.results {
            let index = names
                .iter()
                .position(|name| result.get("ruleId").and_then(Value::as_str) == Some(name.as_str()));
            if let Some(result) = result.as_object_mut() {
                result.insert("ruleIndex".to_owned(), index.into());
            }
        }
        let rules = self.rules.iter().map(|(name, about)| {
            json!({"id": name, "shortDescription": {"text": format!("Ringfence policy {name}")}, "help": {"text": about}})
        });
        as_json(&json!({
            "$schema": SARIF_SCHEMA,
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {
                    "name": "ringfence", "version": env!("CARGO_PKG_VERSION"), "rules": rules.collect::<Vec<_>>(),
                }},
                "invocations": [{
                    "executionSuccessful": totals.problems == 0,
                    "toolExecutionNotifications": self.notifications,
                }],
                "columnKind": "unicodeCodePoints",
                "results": self.results,
            }],
        }))
    }
}

fn result(judged: &Judged, finding: &Finding) -> Value {
    let violation = &finding.found.violation;
    let level = match finding.found.level {
        Level::Deny => "error",
        Level::Warn => "warning",
        Level::Audit => "note",
    };
    let (line, column) = finding.at(judged);
    let region = match (column, &finding.place) {
        (Some(column), Some(place)) => json!({"startLine": line, "startColumn": column, "endColumn": place.end}),
        _ => json!({"startLine": line}),
    };
    let title = judged.title();
    json!({
        "ruleId": violation.policy,
        "level": level,
        "message": {"text": format!("{title}: {}. Fix: {}", told(&finding.found), violation.fix)},
        "locations": [{
            "physicalLocation": {"artifactLocation": {"uri": uri(&judged.file)}, "region": region},
            "logicalLocations": [{"name": judged.name, "fullyQualifiedName": title, "kind": "resource"}],
        }],
        "partialFingerprints": {"ringfence/v1": fingerprint(judged, finding)},
        "properties": {"namespace": judged.namespace, "path": violation.path},
    })
}

/// The same finding of the next run has the same one, wherever its line has gone.
fn fingerprint(judged: &Judged, finding: &Finding) -> String {
    let violation = &finding.found.violation;
    let digest = Sha256::digest(format!(
        "{}\n{}\n{}\n{}",
        judged.file,
        judged.title(),
        violation.policy,
        violation.path
    ));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// A path as a relative or absolute URI reference.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}
