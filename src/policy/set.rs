//! The policies in force: compiled together, immutable, shared by every request.
//!
//! Must never answer for a policy that gave no answer: each that matches has a verdict, and an error is one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::compile::{Policy, PolicyInfo, Source};
use super::error::{EvalError, LoadError};
use super::findings::Findings;
use super::input::{PolicyInput, Shared};
use super::library;
use super::metadata::{self, Metadata, RegoVersion, Severity, Target};
use crate::api::ValidationAction;

/// Most policies of a set.
const MAX_POLICIES: usize = 256;

/// A policy without METADATA, such as one written for plain OPA: the caller says what METADATA would.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plain {
    /// Name in refusals.
    pub name: String,
    /// What it judges.
    pub target: Target,
    /// Version of the language.
    pub rego: RegoVersion,
}

/// What one policy says.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Its name.
    pub policy: String,
    /// Its findings. An error is never "no match": the caller refuses.
    pub outcome: Result<Findings, EvalError>,
    /// How long it took.
    pub duration: Duration,
}

/// Compiled policies. Cheap to share behind an `Arc`, and immutable.
pub struct PolicySet {
    policies: Vec<Policy>,
    /// What the refusals of some do; those of all others refuse.
    actions: BTreeMap<String, ValidationAction>,
    revision: String,
}

impl std::fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.policies().map(|info| &info.metadata.name).collect();
        f.debug_struct("PolicySet")
            .field("revision", &self.revision)
            .field("policies", &names)
            .finish()
    }
}

impl PolicySet {
    /// Compiles policies with METADATA. Files that end in `_test.rego` are left out. `parameters`, by policy name, go over the
    /// defaults of METADATA. Every error of every policy is reported at once.
    pub fn compile(sources: Vec<Source>, parameters: &BTreeMap<String, Json>) -> Result<Self, Vec<LoadError>> {
        let mut errors = Vec::new();
        let mut read = Vec::new();
        for source in sources.into_iter().filter(|source| !is_test(&source.file)) {
            match metadata::parse(&source.file, &source.text) {
                Ok(metadata) => read.push((metadata, source, true)),
                Err(error) => errors.push(error),
            }
        }
        Self::build(read, parameters, errors)
    }

    /// Compiles one policy by itself: of the parameters, those of other policies do not count.
    pub fn compile_alone(source: Source, parameters: &BTreeMap<String, Json>) -> Result<Self, Vec<LoadError>> {
        if is_test(&source.file) {
            return Self::compile(Vec::new(), &BTreeMap::new());
        }
        let metadata = metadata::parse(&source.file, &source.text).map_err(|error| vec![error])?;
        let own = parameters.get_key_value(&metadata.name);
        let own = own
            .map(|(name, value)| (name.clone(), value.clone()))
            .into_iter()
            .collect();
        Self::build(vec![(metadata, source, true)], &own, Vec::new())
    }

    /// Compiles policies without METADATA, such as those written for plain OPA.
    pub fn compile_plain(
        sources: Vec<(Plain, Source)>,
        parameters: &BTreeMap<String, Json>,
    ) -> Result<Self, Vec<LoadError>> {
        let mut errors = Vec::new();
        let mut read = Vec::new();
        for (plain, source) in sources {
            if !crate::api::is_dns_label(&plain.name) {
                errors.push(LoadError::file(
                    &source.file,
                    "the policy's name must be a DNS label of at most 63 characters",
                ));
            }
            let metadata = Metadata {
                title: format!("Policy {}", plain.name),
                description: format!("Policy {} of {}", plain.name, source.file),
                severity: Severity::Medium,
                remediation: format!(
                    "change the object so that {} lets it pass, or ask who wrote that policy",
                    source.file
                ),
                name: plain.name,
                target: plain.target,
                match_constraints: None,
                controls: Vec::new(),
                parameters: BTreeMap::new(),
                rego: plain.rego,
            };
            read.push((metadata, source, false));
        }
        Self::build(read, parameters, errors)
    }

    /// Compiles the set that is in force where nobody names another.
    pub fn embedded(parameters: &BTreeMap<String, Json>) -> Result<Self, Vec<LoadError>> {
        let sources = library::sources_of(&[library::DEFAULT_SET]).map_err(|error| vec![error])?;
        Self::compile(sources, parameters)
    }

    /// Every `.rego` file that the binary carries, of all sets, tests included, ordered by name.
    pub fn embedded_sources() -> Vec<Source> {
        library::sources()
    }

    fn build(
        read: Vec<(Metadata, Source, bool)>,
        parameters: &BTreeMap<String, Json>,
        mut errors: Vec<LoadError>,
    ) -> Result<Self, Vec<LoadError>> {
        let mut by_name: BTreeMap<String, (Metadata, Source, bool)> = BTreeMap::new();
        for (metadata, source, complete) in read {
            if let Some((_, first, _)) = by_name.get(&metadata.name) {
                let message = format!(
                    "policy {} is there already, in {}: rename one",
                    metadata.name, first.file
                );
                errors.push(LoadError::file(&source.file, message));
                continue;
            }
            by_name.insert(metadata.name.clone(), (metadata, source, complete));
        }
        if by_name.len() > MAX_POLICIES {
            errors.push(LoadError::file(
                "policies",
                format!("{} policies, the limit is {MAX_POLICIES}", by_name.len()),
            ));
            return Err(errors);
        }
        // Only where every policy could be read is a name that none of them has a mistake in the parameters.
        let all_read = errors.is_empty();
        for name in parameters
            .keys()
            .filter(|name| all_read && !by_name.contains_key(*name))
        {
            let names = by_name.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            errors.push(LoadError::file(
                "parameters",
                format!("there is no policy `{name}`; there are: {names}"),
            ));
        }
        let mut hash = Sha256::new();
        let mut policies = Vec::new();
        for (name, (metadata, source, complete)) in by_name {
            // Lengths keep "ab" + "c" apart from "a" + "bc".
            let own = parameters.get(&name);
            let overrides = own.map(Json::to_string).unwrap_or_default();
            for part in [&name, &source.text, &overrides] {
                hash.update(part.len().to_le_bytes());
                hash.update(part);
            }
            match Policy::compile(metadata, &source, own, complete) {
                Ok(policy) => policies.push(policy),
                Err(found) => errors.extend(found),
            }
        }
        let revision = short(&hash.finalize());
        if errors.is_empty() {
            Ok(Self {
                policies,
                actions: BTreeMap::new(),
                revision,
            })
        } else {
            Err(errors)
        }
    }

    /// Asks every policy of the target. One verdict each, ordered by name; all of them within `budget`, of which each policy
    /// may use half of what is left, so that one that runs away does not silence the others. No timer reaches into the engine's
    /// built-in functions: who must not wait for those asks one by one, on another thread.
    pub fn evaluate(&self, input: &PolicyInput<'_>, budget: Duration) -> Vec<Verdict> {
        let start = Instant::now();
        let asked = self.ask(input);
        let share = || budget.saturating_sub(start.elapsed()) / 2;
        let numbers = 0..asked.policies.len();
        numbers
            .filter_map(|number| self.judge(&asked, number, share()))
            .collect()
    }

    /// What every policy of the target is asked about a request.
    pub fn ask(&self, input: &PolicyInput<'_>) -> Asked {
        let of_target = |(_, policy): &(usize, &Policy)| policy.info.metadata.target == input.target;
        Asked {
            shared: Shared::new(input),
            path: input.pod.map_or("", |(path, _)| path).to_owned(),
            policies: self
                .policies
                .iter()
                .enumerate()
                .filter(of_target)
                .map(|(at, _)| at)
                .collect(),
        }
    }

    /// Names of the policies that are asked, in their order.
    pub fn names<'a>(&'a self, asked: &'a Asked) -> impl Iterator<Item = &'a str> {
        let policies = asked.policies.iter().filter_map(|at| self.policies.get(*at));
        policies.map(|policy| policy.info.metadata.name.as_str())
    }

    /// Asks one of them; `None` where there are not so many.
    pub fn judge(&self, asked: &Asked, number: usize, time: Duration) -> Option<Verdict> {
        let begin = Instant::now();
        let policy = self.policies.get(*asked.policies.get(number)?)?;
        let outcome = match &asked.shared {
            Some(shared) => policy.evaluate(shared.with(&policy.parameters), None, &asked.path, &mut || {
                time.saturating_sub(begin.elapsed())
            }),
            None => Err(EvalError::Error("the request is nested too deeply".to_owned())),
        };
        Some(Verdict {
            policy: policy.info.metadata.name.clone(),
            outcome,
            duration: begin.elapsed(),
        })
    }

    /// The policies, ordered by name.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyInfo> {
        self.policies.iter().map(|policy| &policy.info)
    }

    /// The same without those that judge objects: whoever asks these matches each as a RegoPolicy.
    #[must_use]
    pub fn without_objects(mut self) -> Self {
        self.policies
            .retain(|policy| policy.info.metadata.target != Target::Object);
        self
    }

    /// The same without the policies that have no action here, and with these actions of others. Names of no policy of the set say
    /// nothing: who takes them from somebody looks them up first.
    #[must_use]
    pub fn switched(mut self, switches: &BTreeMap<String, Option<ValidationAction>>) -> Self {
        let mut hash = Sha256::new();
        hash.update(&self.revision);
        let mut is_switched = false;
        for policy in std::mem::take(&mut self.policies) {
            let name = policy.info.metadata.name.clone();
            match switches.get(&name) {
                None => self.policies.push(policy),
                Some(action) => {
                    is_switched = true;
                    hash.update(format!("{name}={}\n", action.map_or("Off", ValidationAction::as_str)));
                    if let Some(action) = *action {
                        self.policies.push(policy);
                        self.actions.insert(name, action);
                    }
                }
            }
        }
        if is_switched {
            self.revision = short(&hash.finalize());
        }
        self
    }

    /// What a refusal of a policy does.
    pub fn action(&self, policy: &str) -> ValidationAction {
        self.actions.get(policy).copied().unwrap_or(ValidationAction::Deny)
    }

    /// Short hash over sources, parameters and actions, for logs and metrics.
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

/// What policies are asked about one request, converted once. It borrows nothing: another thread may keep it.
pub struct Asked {
    shared: Option<Shared>,
    path: String,
    policies: Vec<usize>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the request: it may hold secrets.
        f.debug_struct("Asked")
            .field("policies", &self.policies)
            .finish_non_exhaustive()
    }
}

fn short(digest: &[u8]) -> String {
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn is_test(file: &str) -> bool {
    file.ends_with("_test.rego")
}
