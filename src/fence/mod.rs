//! The built-in rules that hold the fence: one file per promise or door. They have no exceptions.
//!
//! Pure: `Subject::of` reads a request, `Subject::needs` says what must be asked, whoever can ask fills [`Facts`], and
//! [`Case`] judges. Must never: allow for lack of a fact, trust a name where a UID can be had, or put an object into a message.

mod accounts;
mod annotations;
mod bindings;
mod bookkeeping;
pub mod debug;
mod declared;
mod door;
mod facts;
mod identity;
mod images;
pub mod kinds;
mod launch;
pub mod modes;
mod names;
mod node;
mod object;
mod occasion;
pub mod pod_security;
mod reach;
mod record;
mod references;
mod room;
mod secrets;
#[cfg(test)]
mod standing_tests;
mod template;
#[cfg(test)]
pub(crate) mod testing;
mod times;
mod tokens;
mod update;
mod volumes;
mod words;

pub use bindings::{Binding, accounts_named};
pub use declared::needs_registration;
pub use door::Door;
pub use facts::{Facts, MAX_OWNERS, Named, Needs, Owner, Subject, excusable, makes};
pub use launch::is_adoption;
pub use object::{OwnerRef, controller};
pub use occasion::occasion;
pub use references::{NamedSecret, Takes, each_secret};
pub use template::{Template, template_of};
pub use update::{Change, is_inert, is_quiet};

use std::collections::BTreeMap;

use crate::api::{AIWorkflow, AIWorkflowClass, DebugAction, Mode};
use crate::plan::{self, NamespaceFacts};
use crate::review::Violation;
use images::Allowed;
use object::MAX_VIOLATIONS;

/// A request with all that must be known to judge it.
pub struct Case<'a> {
    subject: &'a Subject<'a>,
    facts: &'a Facts,
    namespace: Option<NamespaceFacts>,
    // Read once, for every mode and for what policies see.
    workflow: Result<Option<AIWorkflow>, Violation>,
    classes: BTreeMap<&'a str, Result<AIWorkflowClass, Violation>>,
}

impl<'a> Case<'a> {
    /// Joins a request and the facts.
    pub fn new(subject: &'a Subject<'a>, facts: &'a Facts, exempt: impl Fn(&str) -> bool) -> Self {
        let namespace = facts
            .namespace
            .as_ref()
            .and_then(|object| NamespaceFacts::from_object(object, exempt));
        let classes = facts.classes.iter().filter_map(|(name, object)| {
            let class = facts::read("declared-workflow", "AIWorkflowClass", name, object.as_ref()?);
            Some((name.as_str(), class))
        });
        Self {
            subject,
            facts,
            namespace,
            workflow: declared::workflow(subject, facts),
            classes: classes.collect(),
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
        match &self.namespace {
            Some(namespace) if declared::check_namespace(self.subject, Some(namespace)).is_ok() => namespace.modes(),
            _ => Vec::new(),
        }
    }

    /// The engine of the workflow as that class opens it, for policies to see. Nothing where either cannot be read: that is a
    /// violation already.
    pub fn engine(&self, class_name: &str) -> Option<serde_json::Value> {
        let workflow = self.workflow.as_ref().ok()?.as_ref()?;
        let class = self.classes.get(class_name)?.as_ref().ok()?;
        plan::engine_input(workflow, class_name, class)
    }

    /// What does not fit inside the fence of that mode's class, all of it.
    pub fn violations(&self, mode: Mode, class_name: &str) -> Vec<Violation> {
        let mut violations = Vec::new();
        let Some(namespace) = &self.namespace else {
            return violations;
        };
        let class = match self.classes.get(class_name) {
            None => None,
            Some(Ok(class)) => Some(class),
            Some(Err(violation)) => {
                violations.push(violation.clone());
                None
            }
        };
        violations.extend(declared::check_fixed(self.subject));
        violations.extend(launch::check_revision(self.subject));
        declared::check_label(self.subject, &mut violations);
        let workflow = match &self.workflow {
            Ok(workflow) => workflow.as_ref(),
            Err(violation) => {
                violations.push(violation.clone());
                None
            }
        };
        if let (Some(label), Some(workflow)) = (self.subject.label, workflow) {
            if self.subject.shape.is_some() {
                declared::check_accepted(
                    label,
                    self.facts,
                    workflow,
                    namespace,
                    (class_name, class),
                    &mut violations,
                );
            }
            violations.extend(launch::check(self.subject, self.facts, workflow, (class_name, class)));
            if self.subject.change == Change::Debug {
                let action = DebugAction::EphemeralContainers;
                violations.extend(debug::check(
                    action,
                    label,
                    workflow,
                    (class_name, class),
                    self.facts.now,
                ));
                debug::check_containers(self.subject.review, &mut violations);
            }
            // Audit alone makes no account. Another account than the workflow's is refused by name already.
            let is_made_yet = !self.subject.stands || self.facts.account.is_some();
            let needs_account = self.subject.makes_a_pod() && namespace.fencing_class().is_some() && is_made_yet;
            if needs_account && self.names_account_of(workflow) {
                violations.extend(identity::check_account(label, workflow, self.facts.account.as_ref()));
            }
        }
        let needs_default_deny = self.subject.makes_a_pod() && self.subject.label.is_some() && !self.subject.stands;
        if needs_default_deny && mode == Mode::Enforce {
            violations.extend(declared::check_default_deny(
                namespace,
                self.facts.default_deny.as_ref(),
            ));
        }
        // Of what stands, the namespace is told about, once.
        if self.subject.makes_a_pod() && !self.subject.stands {
            violations.extend(pod_security::check(namespace, (class_name, class)));
        }
        self.check_template(workflow, class_name, class, &mut violations);
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
        let patterns = workflow.map(|workflow| plan::image_patterns(workflow, class_name, class));
        let of_workflow = patterns.as_deref().map(|patterns| (label, patterns));
        images::check(&template, &Allowed::new(of_workflow, class_name, class), violations);
        let before = self.subject.pod_before();
        if !self.subject.stands {
            room::check(self.subject, &template, before, violations);
            violations.extend(times::check(self.subject));
        }
        let annotations = class.map(|class| plan::pod_annotations(workflow, class_name, class));
        let annotations = annotations.as_deref().unwrap_or_default();
        annotations::check(&template, before, (class_name, annotations), violations);
        let namespace = self.subject.review.namespace.as_deref().unwrap_or_default();
        node::check(&template, before, namespace, (class_name, class), violations);
        names::check(&template, before, (class_name, class), violations);
        // Of a pod that stands, the scheduler said where.
        if !self.subject.is_pod() || self.subject.makes_a_pod() && !self.subject.stands {
            violations.extend(node::check_name(&template));
        }
        tokens::check_domain_accounts(&template, before, violations);
        // A pod's volumes never change: what it was admitted with does not stand in the way of an update.
        if before.and_then(volumes_of) != volumes_of(template.pod) || before.is_none() {
            volumes::check(&template, (class_name, class), violations);
            volumes::check_devices(&template, violations);
            let allowed = tokens::Allowed {
                workflow: workflow.map(|workflow| (label, workflow)),
                class: (class_name, class),
            };
            tokens::check(&template, &allowed, violations);
        }
        if let Some(workflow) = workflow {
            secrets::check(&template, before, (label, workflow), violations);
        }
        if !self.subject.is_pod() {
            violations.extend(volumes::check_claims(self.subject.object, (class_name, class)));
        }
    }
}

/// The modes of a namespace, the strongest first, each with its class.
fn volumes_of(pod: &serde_json::Value) -> Option<&serde_json::Value> {
    pod.pointer("/spec/volumes")
}

#[cfg(test)]
mod tests;
