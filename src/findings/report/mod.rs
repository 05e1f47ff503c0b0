//! Findings as a report: for people a table, for machines JSON, SARIF and JUnit.

mod json;
mod junit;
mod sarif;
mod table;

use std::collections::BTreeMap;

pub use junit::escaped as xml_text;
pub use sarif::SCHEMA as SARIF_SCHEMA;

use super::{Extent, Finding, Severity, Sink};

/// Most findings that a report lists. Those beyond are counted.
const MAX_FINDINGS: usize = 10_000;

/// What a look at one or more namespaces came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
    omitted: usize,
    namespaces: usize,
    extent: Extent,
}

impl Sink for Report {
    fn found(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.omitted += 1;
        }
    }

    fn looked_at_namespace(&mut self, _: &str, extent: &Extent) {
        self.looked(1, extent.clone());
    }
}

impl Report {
    /// A namespace was looked at, or nothing in particular: then `extent` tells what could not be.
    pub fn looked(&mut self, namespaces: usize, extent: Extent) {
        self.namespaces += namespaces;
        self.extent.add(extent);
    }

    /// Sorts it: by namespace and object, what is refused first.
    pub fn sort(&mut self) {
        let key = |finding: &Finding| {
            let Finding {
                namespace,
                kind,
                name,
                rule,
                path,
                ..
            } = finding.clone();
            (namespace, kind, name, finding.severity, rule, path)
        };
        self.findings.sort_by_cached_key(key);
        self.findings.dedup();
    }

    /// Whether any namespace was looked at, or should have been.
    pub fn has_looked(&self) -> bool {
        self.namespaces > 0 || !self.is_complete()
    }

    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.omitted == 0
    }

    /// Whether something was found that is more than a warning, as far as is known.
    pub fn has_errors(&self) -> bool {
        self.omitted > 0 || self.count(Severity::Error) > 0
    }

    /// Adds findings.
    pub fn found_all(&mut self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.found(finding));
    }

    /// Whether all was looked at.
    pub fn is_complete(&self) -> bool {
        self.extent.gaps.is_empty() && !self.extent.cut
    }

    /// What could not be looked at.
    pub fn gaps(&self) -> &[String] {
        &self.extent.gaps
    }

    fn count(&self, severity: Severity) -> usize {
        let of_it = |finding: &&Finding| finding.severity == severity;
        self.findings.iter().filter(of_it).count()
    }

    /// Names of the rules that found something, each with its first finding.
    fn rules(&self) -> BTreeMap<&str, &Finding> {
        let mut rules = BTreeMap::new();
        for finding in &self.findings {
            rules.entry(finding.rule.as_str()).or_insert(finding);
        }
        rules
    }
}

/// What is wrong, with the field and its value, in one line.
fn told(finding: &Finding) -> String {
    let Finding {
        path, value, message, ..
    } = finding;
    match (path.as_str(), value) {
        ("", _) => message.clone(),
        (path, Some(value)) => format!("{path} = {value:?}: {message}"),
        (path, None) => format!("{path}: {message}"),
    }
}

#[cfg(test)]
mod tests;
