//! RegoPolicy objects: what each declares, which requests it is asked about, and what all of them together say of one.
//!
//! Must never: change while a request is decided. A [`Snapshot`] is whole and immutable, and whoever decides keeps the one that it
//! began with.

mod declared;
mod entry;
mod expand;
mod matching;
mod sample;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use regorus::Value as RegoValue;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use declared::is_secret;
pub use entry::{Entry, EntryId, EntryRule};
pub use sample::TemplateOf;

use super::compile::Policy;
use super::error::{EvalError, LoadError};
use super::findings::Findings;
use super::input::{PolicyInput, Shared};
use super::looks::Looks;
use super::metadata::Metadata;
use super::set::Verdict;
use crate::api::{FailurePolicy, InventoryKind, RegoPolicySpec, ValidationAction};
use crate::review::Review;
use entry::Place;
use matching::Matched;

/// A RegoPolicy object.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
    /// What it declares.
    pub spec: RegoPolicySpec,
}

/// One RegoPolicy as it decides: compiled, or known to be broken.
pub struct Registered {
    declared: Declared,
    places: Vec<Place>,
    policy: Result<Policy, String>,
    /// Whether it sees the object's own fields at the root of its input, and nothing that Ringfence knows beside the request.
    of_documents: bool,
}

/// A request that may be matched.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// The request.
    pub review: &'a Review,
    /// Path and value of its pod template, where it is of a kind that makes pods: `""` and the object for a Pod.
    pub template: Option<(&'a str, &'a Value)>,
    /// Whether the request brings that template: an UPDATE may leave it as it was.
    pub changes_template: bool,
}

/// A policy that a request is matched by, but for the labels of its namespace.
#[derive(Clone, Debug)]
pub struct Match {
    policy: Arc<Registered>,
    matched: Matched,
}

/// What matching policies are asked about one request. It borrows nothing.
pub struct Question {
    matches: Vec<Match>,
    itself: Option<Shared>,
    template: Option<expand::Template>,
    path: String,
    inventories: Vec<Option<Result<RegoValue, String>>>,
}

/// The RegoPolicies in force, whole.
#[derive(Debug, Default)]
pub struct Snapshot {
    policies: Vec<Arc<Registered>>,
    revision: String,
    /// Of the policies that answer at each webhook: each request asks.
    versions: BTreeMap<EntryId, String>,
}

impl Registered {
    /// Compiles what an object declares.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(declared: &Declared) -> Result<Self, Vec<LoadError>> {
        let policy = declared::compile(&declared.name, &declared.spec)?;
        Ok(Self::with(declared.clone(), Ok(policy)))
    }

    /// An object of which it is known that it cannot be used: it answers by its failurePolicy where it matches.
    pub fn broken(declared: Declared, why: &str) -> Self {
        Self::with(declared, Err(why.to_owned()))
    }

    fn with(declared: Declared, policy: Result<Policy, String>) -> Self {
        Self {
            places: entry::places(&declared.spec),
            declared,
            policy,
            of_documents: false,
        }
    }

    /// The same as written for plain OPA or conftest, whose input is a request or an object by itself.
    #[must_use]
    pub fn of_documents(self) -> Self {
        Self {
            of_documents: true,
            ..self
        }
    }

    /// What of its input it may look at beside the object; of one that is broken nothing.
    pub fn looks(&self) -> Looks {
        let looks = self.policy.as_ref().map(|policy| policy.info.looks).unwrap_or_default();
        if self.of_documents {
            // A bare `input` is the object here.
            let texts = self.declared.spec.rego.modules.iter();
            return Looks {
                user: texts.into_iter().any(|module| module.source.contains("userInfo")),
                ..Looks::default()
            };
        }
        looks
    }

    /// The same as a part of what a replica is started with. What is declared is its version, so that replicas of the same files agree.
    #[must_use]
    pub fn of_files(mut self) -> Self {
        let spec = serde_json::to_vec(&self.declared.spec).unwrap_or_default();
        let digest = Sha256::digest(spec);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.declared.uid = format!("file-{hex}");
        self.declared.generation = 1;
        self
    }

    /// The same with another action.
    #[must_use]
    pub fn with_action(mut self, action: ValidationAction) -> Self {
        self.declared.spec.validation_actions = vec![action];
        // An action decides which webhooks ask.
        self.places = entry::places(&self.declared.spec);
        self
    }

    /// Evaluates it on a request that it need not match, with nothing in its inventory.
    pub fn on(&self, input: &PolicyInput<'_>, time: Duration) -> Result<Findings, EvalError> {
        let compiled = self.policy.as_ref().map_err(|why| EvalError::Broken(why.clone()))?;
        let shared =
            Shared::new(input).ok_or_else(|| EvalError::Error("the request is nested too deeply".to_owned()))?;
        let inventory = (!self.declared.spec.inventory.is_empty()).then(RegoValue::new_object);
        let path = input.pod.map_or("", |(path, _)| path);
        Snapshot::evaluate(self, shared.with(&compiled.parameters), inventory, path, time)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.declared.name
    }

    /// UID and generation of the object that it is made of.
    pub fn version(&self) -> (&str, i64) {
        (&self.declared.uid, self.declared.generation)
    }

    /// What is declared.
    pub fn spec(&self) -> &RegoPolicySpec {
        &self.declared.spec
    }

    /// Who it is, broken or not.
    pub fn metadata(&self) -> Metadata {
        declared::metadata(&self.declared.name, &self.declared.spec)
    }

    /// Why it cannot be evaluated.
    pub fn why_broken(&self) -> Option<&str> {
        self.policy.as_ref().err().map(String::as_str)
    }
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered")
            .field("name", &self.declared.name)
            .field("generation", &self.declared.generation)
            .field("broken", &self.why_broken())
            .finish_non_exhaustive()
    }
}

impl Match {
    /// Name of the policy.
    pub fn name(&self) -> &str {
        &self.policy.declared.name
    }

    /// What a refusal does, at its strongest.
    pub fn action(&self) -> ValidationAction {
        let actions = self.policy.declared.spec.validation_actions.iter().copied();
        // One that says nothing is invalid, and refuses.
        actions.max().unwrap_or(ValidationAction::Deny)
    }

    /// What it means that there is no verdict.
    pub fn failure_policy(&self) -> FailurePolicy {
        self.policy.declared.spec.failure_policy
    }

    /// Kinds that it looks at beside the request.
    pub fn inventory(&self) -> &[InventoryKind] {
        &self.policy.declared.spec.inventory
    }

    /// Why it cannot be evaluated.
    pub fn why_broken(&self) -> Option<&str> {
        self.policy.why_broken()
    }

    /// What of its input it may look at beside the object.
    pub fn looks(&self) -> Looks {
        self.policy.looks()
    }

    /// Whether the labels of the namespace decide if it is asked.
    pub fn selects_namespaces(&self) -> bool {
        let constraints = &self.policy.declared.spec.match_constraints;
        constraints.namespace_selector.is_some()
    }

    /// Whether it is matched by the labels of its namespace; `None` for what lies in no namespace.
    pub fn is_in_namespace(&self, labels: Option<Option<&Value>>) -> bool {
        let selector = self.policy.declared.spec.match_constraints.namespace_selector.as_ref();
        matching::namespace_selected(selector, labels)
    }
}

impl Snapshot {
    /// These policies, whole.
    pub fn new(mut policies: Vec<Arc<Registered>>) -> Self {
        policies.sort_by(|a, b| a.name().cmp(b.name()));
        let mut answering: BTreeMap<EntryId, Vec<&Arc<Registered>>> = BTreeMap::new();
        for policy in &policies {
            let ids: BTreeSet<EntryId> = policy.places.iter().flat_map(Place::ids).collect();
            for id in ids {
                answering.entry(id).or_default().push(policy);
            }
        }
        let versions = answering
            .into_iter()
            .map(|(id, policies)| (id, hash(policies.into_iter())));
        Self {
            revision: hash(policies.iter()),
            versions: versions.collect(),
            policies,
        }
    }

    /// The policies, ordered by name.
    pub fn policies(&self) -> &[Arc<Registered>] {
        &self.policies
    }

    /// Short hash over which objects these are, for logs, metrics and paths.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The webhooks by which the API server is to ask, each with the version of what answers there.
    pub fn entries(&self) -> Vec<(Entry, String)> {
        let places = self.policies.iter().flat_map(|policy| &policy.places);
        let entries = entry::entries(places).into_iter();
        entries
            .map(|entry| {
                let version = self.version_of(entry.id);
                (entry, version)
            })
            .collect()
    }

    /// Whether any policy that answers at a webhook refuses what it finds. Others warn or audit, and never refuse. At one of another version any
    /// may answer.
    pub fn denies_at(&self, id: EntryId, version: &str) -> bool {
        let is_known = self.version_of(id) == version;
        let answers = |policy: &&Arc<Registered>| !is_known || policy.places.iter().any(|place| place.is_asked_by(id));
        let denies = |policy: &Arc<Registered>| {
            let actions = &policy.declared.spec.validation_actions;
            actions.is_empty() || actions.contains(&ValidationAction::Deny)
        };
        self.policies.iter().filter(answers).any(denies)
    }

    /// Versions of the policies that answer at each webhook.
    pub fn versions(&self) -> &BTreeMap<EntryId, String> {
        &self.versions
    }

    /// Version of the policies that answer at a webhook.
    pub fn version_of(&self, id: EntryId) -> String {
        self.versions
            .get(&id)
            .cloned()
            .unwrap_or_else(|| hash(std::iter::empty()))
    }

    /// The policies that a request is matched by, ordered by name, each as it is or as the pod of its template: of one webhook, or of
    /// all. The labels of the namespace are still to be looked at.
    pub fn matching(&self, id: Option<EntryId>, occasion: &Occasion<'_>) -> Vec<Match> {
        let mut matches = Vec::new();
        for policy in &self.policies {
            let asked = |place: &&Place| id.is_none_or(|id| place.is_asked_by(id));
            let constraints = &policy.declared.spec.match_constraints;
            let rules = policy.places.iter().filter(asked).filter(|place| !place.template);
            let itself = matching::matches_itself(constraints, rules.map(|place| &place.rule), occasion.review)
                && matching::object_selected(constraints.object_selector.as_ref(), occasion.review);
            let of_template = policy
                .places
                .iter()
                .filter(asked)
                .any(|place| place.is_of_template(occasion.review))
                && occasion.changes_template
                && matching::matches_template(&policy.declared.spec, occasion.review)
                && occasion.template.is_some_and(|(_, pod)| {
                    matching::template_selected(constraints.object_selector.as_ref(), pod.pointer("/metadata/labels"))
                });
            for (is_matched, matched) in [(itself, Matched::Itself), (of_template, Matched::Template)] {
                if is_matched {
                    let policy = Arc::clone(policy);
                    matches.push(Match { policy, matched });
                }
            }
        }
        matches
    }

    pub(super) fn evaluate(
        policy: &Registered,
        input: RegoValue,
        inventory: Option<RegoValue>,
        path: &str,
        time: Duration,
    ) -> Result<Findings, EvalError> {
        let begin = Instant::now();
        let broken = |why: &String| EvalError::Broken(why.clone());
        let compiled = policy.policy.as_ref().map_err(broken)?;
        compiled.evaluate(input, inventory, path, &mut || time.saturating_sub(begin.elapsed()))
    }
}

impl Question {
    /// What the matching policies are asked. `inventory` gives what a policy sees as `data.inventory`, or why that is not there.
    pub fn new(
        matches: Vec<Match>,
        input: &PolicyInput<'_>,
        occasion: &Occasion<'_>,
        inventory: impl Fn(&[InventoryKind]) -> Result<RegoValue, String>,
    ) -> Self {
        let wants = |wanted: Matched| matches.iter().any(|one| one.matched == wanted);
        let itself = wants(Matched::Itself).then(|| Shared::new(input)).flatten();
        let template = wants(Matched::Template)
            .then(|| expand::Template::of(input, occasion))
            .flatten();
        let of = |one: &Match| (!one.inventory().is_empty()).then(|| inventory(one.inventory()));
        let inventories = matches.iter().map(of).collect();
        Self {
            itself,
            template,
            path: input.pod.map_or("", |(path, _)| path).to_owned(),
            inventories,
            matches,
        }
    }

    /// The policies that are asked, in their order.
    pub fn matches(&self) -> &[Match] {
        &self.matches
    }

    /// Asks one of them; `None` where there are not so many.
    pub fn judge(&self, number: usize, time: Duration) -> Option<Verdict> {
        let begin = Instant::now();
        let one = self.matches.get(number)?;
        let outcome = self.outcome(one, self.inventories.get(number)?, time);
        Some(Verdict {
            policy: one.policy.declared.name.clone(),
            outcome,
            duration: begin.elapsed(),
        })
    }

    fn outcome(
        &self,
        one: &Match,
        inventory: &Option<Result<RegoValue, String>>,
        time: Duration,
    ) -> Result<Findings, EvalError> {
        let inventory = inventory.clone().transpose().map_err(EvalError::Unsynced)?;
        let compiled = one
            .policy
            .policy
            .as_ref()
            .map_err(|why| EvalError::Broken(why.clone()))?;
        let deep = || EvalError::Error("the request is nested too deeply".to_owned());
        match one.matched {
            Matched::Itself => {
                let shared = self.itself.as_ref().ok_or_else(deep)?;
                let input = if one.policy.of_documents {
                    shared.of_document(&compiled.parameters)
                } else {
                    shared.with(&compiled.parameters)
                };
                Snapshot::evaluate(&one.policy, input, inventory, &self.path, time)
            }
            Matched::Template => {
                let template = self.template.as_ref().ok_or_else(deep)?;
                let input = template.shared.with(&compiled.parameters);
                let found = Snapshot::evaluate(&one.policy, input, inventory, "", time)?;
                Ok(template.said_of_workload(found))
            }
        }
    }
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the request: it may hold secrets.
        let names: BTreeSet<&str> = self.matches.iter().map(Match::name).collect();
        f.debug_struct("Question")
            .field("policies", &names)
            .finish_non_exhaustive()
    }
}

fn hash<'a>(policies: impl Iterator<Item = &'a Arc<Registered>>) -> String {
    let mut hash = Sha256::new();
    for policy in policies {
        let (uid, generation) = policy.version();
        // No name or UID holds a line break.
        hash.update(format!("{}\n{}\n{}\n", policy.name(), uid, generation));
    }
    hash.finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
