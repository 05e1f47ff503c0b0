//! What goes by the names in a line, in words: built-in rules, policies, RegoPolicies.
//!
//! Must never: describe a RegoPolicy as the shipped policy of that name, or the other way round.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rules::{RULES, Rule};
use crate::api::{FailurePolicy, ValidationAction};
use crate::policy::{PolicyInfo, Registered};

/// A policy or rule in words.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    /// What it is.
    pub kind: Kind,
    /// A few words; empty for a built-in rule and for a RegoPolicy.
    pub title: String,
    /// What it demands.
    pub description: String,
    /// How much is at stake.
    pub severity: Option<String>,
    /// Where it is written.
    pub file: Option<String>,
    /// What to do when it refuses.
    pub remediation: String,
    /// Controls that it helps to meet.
    pub controls: Vec<String>,
    /// What a refusal of a RegoPolicy does.
    pub validation_actions: Vec<ValidationAction>,
    /// What it means that a RegoPolicy gives no verdict.
    pub failure_policy: Option<FailurePolicy>,
    /// Why a RegoPolicy cannot be asked.
    pub broken: Option<String>,
}

/// What goes by a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A part of Ringfence, without exceptions.
    BuiltInRule,
    /// A Rego policy.
    Policy,
    /// A RegoPolicy of the cluster.
    RegoPolicy,
}

impl Described {
    fn of_rule(rule: &Rule) -> Self {
        Self {
            description: rule.description.to_owned(),
            remediation: rule.fix.to_owned(),
            ..Self::of(Kind::BuiltInRule)
        }
    }

    fn of_policy(policy: &PolicyInfo) -> Self {
        let metadata = &policy.metadata;
        Self {
            title: metadata.title.clone(),
            description: metadata.description.clone(),
            severity: Some(metadata.severity.as_str().to_owned()),
            file: Some(policy.file.clone()),
            remediation: metadata.remediation.clone(),
            controls: metadata.controls.clone(),
            ..Self::of(Kind::Policy)
        }
    }

    /// A RegoPolicy of that file, broken or not.
    pub fn of_object(policy: &Registered, file: &str) -> Self {
        let (metadata, spec) = (policy.metadata(), policy.spec());
        Self {
            description: metadata.description,
            remediation: metadata.remediation,
            file: Some(file.to_owned()),
            validation_actions: spec.validation_actions.clone(),
            failure_policy: Some(spec.failure_policy),
            broken: policy.why_broken().map(str::to_owned),
            ..Self::of(Kind::RegoPolicy)
        }
    }

    /// A RegoPolicy of that file that the API server would not have stored.
    pub fn of_no_object(name: &str, description: Option<&str>, file: &str, why: &str) -> Self {
        Self {
            description: description.map_or_else(|| format!("RegoPolicy {name}"), str::to_owned),
            remediation: "correct the RegoPolicy".to_owned(),
            file: Some(file.to_owned()),
            broken: Some(why.to_owned()),
            ..Self::of(Kind::RegoPolicy)
        }
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            title: String::new(),
            description: String::new(),
            severity: None,
            file: None,
            remediation: String::new(),
            controls: Vec::new(),
            validation_actions: Vec::new(),
            failure_policy: None,
            broken: None,
        }
    }
}

/// Names to what goes by them: the built-in rules, and whatever is added.
#[derive(Clone, Debug)]
pub struct Catalogue(BTreeMap<String, Vec<Described>>);

impl Default for Catalogue {
    fn default() -> Self {
        let rules = RULES.iter();
        Self(
            rules
                .map(|rule| (rule.name.to_owned(), vec![Described::of_rule(rule)]))
                .collect(),
        )
    }
}

impl Catalogue {
    /// Adds what goes by a name too.
    pub fn add(&mut self, name: &str, described: Described) {
        self.0.entry(name.to_owned()).or_default().push(described);
    }

    /// Adds policies, by their METADATA.
    #[must_use]
    pub fn with<'a>(mut self, policies: impl Iterator<Item = &'a PolicyInfo>) -> Self {
        for policy in policies {
            self.add(&policy.metadata.name, Described::of_policy(policy));
        }
        self
    }

    /// What goes by a name where RegoPolicies were asked, or where they were not.
    pub(super) fn of(&self, name: &str, registered: bool) -> Vec<Described> {
        let named = self.0.get(name).into_iter().flatten();
        named
            .filter(|described| (described.kind == Kind::RegoPolicy) == registered)
            .cloned()
            .collect()
    }
}
