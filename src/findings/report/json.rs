//! For machines: every finding in one shape.

use serde_json::{Value, json};

use super::Report;
use crate::findings::Finding;

impl Report {
    /// `findings`, `gaps` in what could be looked at, and a `summary`.
    pub fn json(&self) -> Value {
        json!({
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "gaps": self.extent.gaps,
            "summary": {
                "complete": self.is_complete(),
                "namespaces": self.namespaces,
                "objects": self.extent.looked,
                "units": self.extent.units,
                "refused": self.extent.refused,
                "omitted": self.omitted,
            },
        })
    }
}

fn finding(finding: &Finding) -> Value {
    json!({
        "namespace": finding.namespace,
        "kind": finding.kind,
        "name": finding.name,
        "workflow": finding.workflow,
        "rule": finding.rule,
        "path": finding.path,
        "value": finding.value,
        "message": finding.message,
        "fix": finding.fix,
        "severity": finding.severity.as_str(),
    })
}
