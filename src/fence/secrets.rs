//! Promise 1, Secrets: a pod refers to those alone that its workflow declares, and to their declared keys alone.
//!
//! Whoever may make pods could otherwise read every Secret of the namespace through one. Must never: let pass what may name a
//! Secret and cannot be read, or ask whether a Secret is there: it can be made a moment later.

use serde_json::Value;

use super::object::{is_full, shown, violation};
use super::references::{Found, NamedSecret, Takes, each};
use super::template::Template;
use crate::api::AIWorkflow;
use crate::plan::shape::listed;
use crate::plan::{SecretKeys, declared_secret, pull_secrets};
use crate::review::Violation;

const RULE: &str = "declared-secrets";

/// Checks every place of a pod that names a Secret, but for what stood there `before`.
pub(super) fn check(
    template: &Template<'_>,
    before: Option<&Value>,
    (label, workflow): (&str, &AIWorkflow),
    violations: &mut Vec<Violation>,
) {
    let workflow = Workflow {
        name: shown(label),
        declared: workflow,
    };
    each(template.path, template.pod, before, &mut |found| {
        if is_full(violations) {
            return;
        }
        match found {
            Found::Reference(reference) => workflow.check(&reference, violations),
            Found::Unread { path, message } => {
                let fix = "remove it, or ask the platform team for a Ringfence that knows it";
                violations.push(violation(RULE, path, None, message, fix));
            }
        }
    });
}

struct Workflow<'a> {
    name: String,
    declared: &'a AIWorkflow,
}

impl Workflow<'_> {
    fn check(&self, reference: &NamedSecret<'_>, violations: &mut Vec<Violation>) {
        let (name, path) = (shown(reference.name), &reference.path);
        let mut refuse = |value: &str, message: String, fix: String| {
            violations.push(violation(RULE, path, Some(value), message, fix));
        };
        let workflow = &self.name;
        if reference.takes == Takes::Login {
            if !pull_secrets(self.declared).any(|declared| declared == reference.name) {
                let message = format!("is a Secret that AIWorkflow {workflow} does not declare for pulling images");
                let fix = format!(
                    "leave it out (the account brings what is declared), or declare it in the AIWorkflow, spec.identity.imagePullSecrets: [{{name: {name}}}]"
                );
                refuse(&name, message, fix);
            }
            return;
        }
        let keys = match declared_secret(self.declared, reference.name) {
            Some(SecretKeys::All) => return,
            Some(SecretKeys::Only(keys)) => keys,
            None => {
                let message = format!("is a Secret that AIWorkflow {workflow} does not declare");
                let fix = format!(
                    "declare it in the AIWorkflow, spec.secrets: [{}], or remove what refers to it",
                    entry(&name, &reference.takes)
                );
                return refuse(&name, message, fix);
            }
        };
        let declared = listed(&keys.iter().map(|key| shown(key)).collect::<Vec<_>>());
        match &reference.takes {
            Takes::Keys(wanted) => {
                for key in wanted.iter().filter(|key| !keys.contains(*key)) {
                    let message = format!(
                        "is a key of Secret {name} that AIWorkflow {workflow} does not declare: it declares {declared}"
                    );
                    let fix = "use a declared key, or add this one to secretRef.keys in spec.secrets of the AIWorkflow";
                    refuse(key, message, fix.to_owned());
                }
            }
            Takes::All | Takes::Login => {
                let message =
                    format!("takes the whole Secret, and AIWorkflow {workflow} declares of it only {declared}");
                let fix = "take single keys (env valueFrom.secretKeyRef, or items of the volume), or leave keys out in spec.secrets of the AIWorkflow";
                refuse(&name, message, fix.to_owned());
            }
        }
    }
}

/// An entry of `spec.secrets` that declares just that.
fn entry(name: &str, takes: &Takes<'_>) -> String {
    let keys = match takes {
        Takes::Keys(keys) => {
            let keys: Vec<_> = keys.iter().map(|key| shown(key)).collect();
            format!(", keys: [{}]", listed(&keys))
        }
        Takes::All | Takes::Login => String::new(),
    };
    format!("{{name: {name}, secretRef: {{name: {name}{keys}}}}}")
}

#[cfg(test)]
mod tests;
