//! The samples of a RegoPolicy: requests with the verdict that it must give before it is trusted.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Registered, Snapshot};
use crate::api::{PolicySample, Verdict};
use crate::policy::convert::Converter;
use crate::policy::error::{EvalError, LoadError};
use crate::policy::findings::Findings;

/// Finds the pod, or the pod template, of an object by its group and kind: its path and value.
pub type TemplateOf = for<'a> fn(&str, &str, &'a Value) -> Option<(&'static str, &'a Value)>;

impl Registered {
    /// Evaluates the policy on its samples, and tells which verdicts are not what is expected. Each may take so long.
    pub fn on_own_samples(&self, template_of: TemplateOf, time: Duration) -> Vec<LoadError> {
        let samples = self.spec().samples.iter();
        let wrong = samples.filter_map(|sample| {
            let message = self.on_own_sample(sample, template_of, time)?;
            Some(LoadError::file(&format!("sample `{}`", sample.name), message))
        });
        wrong.collect()
    }

    /// Why the verdict on one of them is not what is expected; `None` where it is.
    pub fn on_own_sample(&self, sample: &PolicySample, template_of: TemplateOf, time: Duration) -> Option<String> {
        match (self.on_sample(sample, template_of, time), sample.expect) {
            (Ok(findings), expected) => {
                let given = verdict(&findings);
                (given != expected).then(|| {
                    format!(
                        "{expected:?} is expected, and the policy gives {given:?}{}",
                        told(&findings)
                    )
                })
            }
            (Err(EvalError::Timeout), _) => Some(format!(
                "it did not finish in {} ms: make it look at less",
                time.as_millis()
            )),
            (Err(error), _) => Some(error.to_string()),
        }
    }

    fn on_sample(&self, sample: &PolicySample, template_of: TemplateOf, time: Duration) -> Result<Findings, EvalError> {
        let mut input = sample.input.clone().unwrap_or_default();
        if let Some(object) = &sample.object {
            input = created(object, template_of);
        }
        for (absent, present) in [("review", "request"), ("request", "review")] {
            if let Some(value) = input.get(present).cloned() {
                input.entry(absent).or_insert(value);
            }
        }
        let parameters = self.spec().parameters.clone().unwrap_or_default();
        input.entry("parameters").or_insert(Value::Object(parameters));
        let deep = || EvalError::Error("the sample is nested too deeply".to_owned());
        let path = input
            .get("podPath")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let input = Converter::new(None).convert(&Value::Object(input)).ok_or_else(deep)?;
        let inventory = Value::Object(sample.inventory.clone().unwrap_or_default());
        let inventory = Converter::new(None).convert(&inventory).ok_or_else(deep)?;
        let inventory = (!self.spec().inventory.is_empty()).then_some(inventory);
        Snapshot::evaluate(self, input, inventory, &path, time)
    }
}

/// What policies see when an object is created.
fn created(object: &Map<String, Value>, template_of: TemplateOf) -> Map<String, Value> {
    let object = Value::Object(object.clone());
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
    let kind = json!({"group": group, "version": version, "kind": text("/kind")});
    let request = json!({
        "uid": "", "kind": kind, "requestKind": kind, "operation": "CREATE", "dryRun": true,
        "name": text("/metadata/name"), "namespace": text("/metadata/namespace"), "userInfo": {},
        "object": object, "oldObject": null,
    });
    let mut input = Map::new();
    if let Some((path, pod)) = template_of(group, text("/kind"), &object) {
        input.insert("pod".to_owned(), pod.clone());
        input.insert("podPath".to_owned(), path.into());
    }
    input.insert("request".to_owned(), request);
    input
}

fn verdict(findings: &Findings) -> Verdict {
    if !findings.deny.is_empty() {
        Verdict::Deny
    } else if findings.warn.is_empty() {
        Verdict::Allow
    } else {
        Verdict::Warn
    }
}

/// The first of what was found, for who has to find out why.
fn told(findings: &Findings) -> String {
    let first = findings.deny.first().or(findings.warn.first());
    first.map_or_else(String::new, |finding| format!(" ({})", finding.message))
}
