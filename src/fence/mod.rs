//! The built-in rules that hold the fence: one file per promise or door. They have no exceptions.
//!
//! Pure: `Subject::of` reads a request, `Subject::needs` says what must be asked, whoever can ask fills [`Facts`], and
//! [`Case`] judges. Must never: allow for lack of a fact, trust a name where a UID can be had, or put an object into a message.

mod declared;
mod facts;
mod identity;
mod images;
mod launch;
pub mod modes;
mod object;
mod template;
#[cfg(test)]
pub(crate) mod testing;
mod update;

pub use facts::{Facts, MAX_OWNERS, Named, Needs, Owner, Subject};
pub use object::OwnerRef;
pub use template::{Template, pod_of};
pub use update::Change;

use crate::api::{AIWorkflow, AIWorkflowClass, Mode};
use crate::plan::{self, NamespaceFacts};
use crate::review::Violation;
use images::Allowed;

/// Most violations that one judgement lists; a person corrects these first.
const MAX_VIOLATIONS: usize = 128;

/// A request with all that must be known to judge it.
pub struct Case<'a> {
    subject: &'a Subject<'a>,
    facts: &'a Facts,
    namespace: Option<NamespaceFacts>,
}

impl<'a> Case<'a> {
    /// Joins a request and the facts.
    pub fn new(subject: &'a Subject<'a>, facts: &'a Facts, exempt: impl Fn(&str) -> bool) -> Self {
        let namespace = facts
            .namespace
            .as_ref()
            .and_then(|object| NamespaceFacts::from_object(object, exempt));
        Self {
            subject,
            facts,
            namespace,
        }
    }

    /// What is refused because no mode says otherwise. Empty where [`Case::modes`] is not.
    pub fn refusals(&self) -> Vec<Violation> {
        match declared::check_namespace(self.subject, self.namespace.as_ref()) {
            Ok(()) => Vec::new(),
            Err(violation) => violation
                .into_iter()
                .chain(declared::check_fixed(self.subject))
                .collect(),
        }
    }

    /// The modes to judge for, each with its class.
    pub fn modes(&self) -> Vec<(Mode, String)> {
        let Some(namespace) = &self.namespace else {
            return Vec::new();
        };
        if declared::check_namespace(self.subject, Some(namespace)).is_err() {
            return Vec::new();
        }
        let modes = [Mode::Enforce, Mode::Warn, Mode::Audit];
        modes
            .into_iter()
            .filter_map(|mode| Some((mode, namespace.class_for(mode)?.to_owned())))
            .collect()
    }

    /// The engine of the workflow as that class opens it, for policies to see. Nothing where either cannot be read: that is a
    /// violation already.
    pub fn engine(&self, class_name: &str) -> Option<serde_json::Value> {
        let workflow = declared::workflow(self.subject, self.facts).ok().flatten()?;
        let class = self.facts.class(class_name)?;
        let class = facts::read::<AIWorkflowClass>("declared-workflow", "AIWorkflowClass", class_name, class).ok()?;
        plan::engine_input(&workflow, class_name, &class)
    }

    /// What does not fit inside the fence of that mode's class, all of it.
    pub fn violations(&self, mode: Mode, class_name: &str) -> Vec<Violation> {
        let mut violations = Vec::new();
        let Some(namespace) = &self.namespace else {
            return violations;
        };
        let class = match self.facts.class(class_name) {
            None => None,
            Some(object) => {
                match facts::read::<AIWorkflowClass>("declared-workflow", "AIWorkflowClass", class_name, object) {
                    Ok(class) => Some(class),
                    Err(violation) => {
                        violations.push(violation);
                        None
                    }
                }
            }
        };
        violations.extend(declared::check_fixed(self.subject));
        violations.extend(launch::check_revision(self.subject));
        declared::check_label(self.subject, &mut violations);
        let workflow = declared::workflow(self.subject, self.facts).unwrap_or_else(|violation| {
            violations.push(violation);
            None
        });
        if let (Some(label), Some(workflow)) = (self.subject.label, &workflow) {
            if self.subject.shape.is_some() {
                let class = (class_name, class.as_ref());
                declared::check_accepted(
                    label,
                    self.facts.workflow.as_ref(),
                    workflow,
                    namespace,
                    class,
                    &mut violations,
                );
            }
            violations.extend(launch::check(self.subject, self.facts, workflow, class.as_ref()));
            // Audit alone makes no account. Another account than the workflow's is refused by name already.
            if self.subject.makes_a_pod() && namespace.fencing_class().is_some() && self.names_account_of(workflow) {
                violations.extend(identity::check_account(label, workflow, self.facts.account.as_ref()));
            }
        }
        if self.subject.makes_a_pod() && self.subject.label.is_some() && mode == Mode::Enforce {
            violations.extend(declared::check_default_deny(
                namespace,
                self.facts.default_deny.as_ref(),
            ));
        }
        self.check_template(workflow.as_ref(), class_name, class.as_ref(), &mut violations);
        violations.truncate(MAX_VIOLATIONS);
        violations
    }

    fn names_account_of(&self, workflow: &AIWorkflow) -> bool {
        let named = self
            .subject
            .object
            .pointer("/spec/serviceAccountName")
            .and_then(serde_json::Value::as_str);
        named == Some(workflow.service_account_name())
    }

    fn check_template(
        &self,
        workflow: Option<&AIWorkflow>,
        class_name: &str,
        class: Option<&AIWorkflowClass>,
        violations: &mut Vec<Violation>,
    ) {
        let template = match self.subject.template() {
            None => return,
            Some(Ok(template)) => template,
            Some(Err(violation)) => {
                violations.push(violation);
                return;
            }
        };
        let label = self.subject.label.unwrap_or_default();
        if let Some(workflow) = workflow {
            identity::check_name(&template, label, workflow, violations);
        }
        let of_class = class
            .and_then(|class| class.spec.images.as_ref())
            .map_or(&[][..], |images| &images.allowed);
        let patterns = workflow.map(|workflow| plan::image_patterns(workflow, class_name, class));
        let of_workflow = patterns.as_deref().map(|patterns| (label, patterns));
        images::check(
            &template,
            &Allowed {
                workflow: of_workflow,
                class: (class_name, of_class),
            },
            violations,
        );
    }
}

#[cfg(test)]
mod tests;
