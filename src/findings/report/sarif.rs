//! SARIF 2.1.0, which code hosts and security dashboards read.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Report, told};
use crate::findings::Finding;

/// Where the schema of such logs is.
pub const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

impl Report {
    /// The report as a SARIF log of one run by that version of Ringfence.
    pub fn sarif(&self, version: &str) -> Value {
        let rules = self.rules();
        let index = |finding: &Finding| rules.keys().position(|rule| *rule == finding.rule);
        let described: Vec<_> = rules
            .iter()
            .map(|(rule, example)| {
                json!({
                    "id": rule,
                    "shortDescription": {"text": format!("Ringfence rule {rule}")},
                    "help": {"text": example.fix},
                })
            })
            .collect();
        let results: Vec<_> = self
            .findings
            .iter()
            .map(|finding| result(finding, index(finding)))
            .collect();
        let notifications: Vec<_> = self
            .extent
            .gaps
            .iter()
            .map(|gap| json!({"level": "error", "message": {"text": gap}}))
            .collect();
        json!({
            "$schema": SCHEMA,
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {"name": "ringfence", "version": version, "rules": described}},
                "invocations": [{
                    "executionSuccessful": self.is_complete(),
                    "toolExecutionNotifications": notifications,
                }],
                "results": results,
            }],
        })
    }
}

fn result(finding: &Finding, index: Option<usize>) -> Value {
    let Finding {
        namespace, kind, name, ..
    } = finding;
    let place = [namespace.as_str(), kind, name]
        .into_iter()
        .filter(|part| !part.is_empty());
    let place: String = place.collect::<Vec<_>>().join("/");
    json!({
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": finding.severity.as_str(),
        "message": {"text": format!("{kind} {name}: {}. Fix: {}", told(finding), finding.fix)},
        "locations": [{
            // Some readers show nothing that is in no file.
            "physicalLocation": {"artifactLocation": {"uri": place}, "region": {"startLine": 1}},
            "logicalLocations": [{"name": name, "fullyQualifiedName": place, "kind": "resource"}],
        }],
        "partialFingerprints": {"ringfence/v1": fingerprint(finding)},
        "properties": {"namespace": namespace, "workflow": finding.workflow, "path": finding.path},
    })
}

/// The same finding of the next run has the same one.
fn fingerprint(finding: &Finding) -> String {
    let Finding {
        namespace,
        kind,
        name,
        rule,
        path,
        ..
    } = finding;
    let digest = Sha256::digest(format!("{namespace}/{kind}/{name}/{rule}/{path}"));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
