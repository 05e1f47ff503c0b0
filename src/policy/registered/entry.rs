//! The webhooks of the registration `ringfence-policies`: the union of what RegoPolicies match, in as few calls as is sound.
//!
//! Rules go into one webhook only where group and version lists are the same. Where they are not, the API server could find a match
//! without the conversion that one of the policies relies on. Must never: leave out what a policy matches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::matching::{WORKLOADS, expands};
use crate::api::{
    FailurePolicy, LabelSelector, MatchOperation, MatchPolicy, MatchRule, MatchScope, RegoPolicySpec, Templates,
    ValidationAction,
};
use crate::review::Review;

/// Most webhooks that differ in nothing but their selectors. Above that one asks for all, and selectors are judged here.
const MAX_NARROW: usize = 8;

/// A webhook of the registration: what it asks about, and by which path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Its path's part.
    pub id: EntryId,
    /// What the API server does when Ringfence does not answer.
    pub failure: FailurePolicy,
    /// Whether other versions are converted.
    pub match_policy: MatchPolicy,
    /// Rules, all of the same groups and versions.
    pub rules: Vec<EntryRule>,
    /// By the labels of the namespace.
    pub namespace_selector: Option<LabelSelector>,
    /// By the object's labels.
    pub object_selector: Option<LabelSelector>,
}

/// One rule of a webhook.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct EntryRule {
    /// Groups.
    pub api_groups: Vec<String>,
    /// Versions.
    pub api_versions: Vec<String>,
    /// Resources.
    pub resources: Vec<String>,
    /// Operations.
    pub operations: Vec<MatchOperation>,
    /// Scope.
    pub scope: MatchScope,
}

/// Which webhook of the registration asks. In its path as `fail-<16 hex digits>` or `ignore-…`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryId {
    /// What the API server does when Ringfence does not answer, and so what a fault means.
    pub failure: FailurePolicy,
    hash: u64,
}

/// The webhooks that a rule may be asked by: the one with its selectors, or the one without any.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub rule: MatchRule,
    pub template: bool,
    narrow: EntryId,
    wide: EntryId,
    failure: FailurePolicy,
    match_policy: MatchPolicy,
    selectors: (Option<LabelSelector>, Option<LabelSelector>),
}

impl Place {
    /// Whether it asks about the templates of what a request is about.
    pub(super) fn is_of_template(&self, review: &Review) -> bool {
        self.template && self.rule.api_groups.contains(&review.resource.group)
    }

    /// Whichever of the two webhooks the registration has, asks it.
    pub(super) fn ids(&self) -> [EntryId; 2] {
        [self.narrow, self.wide]
    }

    pub(super) fn is_asked_by(&self, id: EntryId) -> bool {
        self.ids().contains(&id)
    }
}

/// Where the rules of a policy are asked.
pub(super) fn places(spec: &RegoPolicySpec) -> Vec<Place> {
    let constraints = &spec.match_constraints;
    // What only audits can never refuse, so nothing may be kept waiting or out by it.
    let acts = spec
        .validation_actions
        .iter()
        .any(|action| *action != ValidationAction::Audit);
    let failure = if acts {
        spec.failure_policy
    } else {
        FailurePolicy::Ignore
    };
    let (namespaces, objects) = (
        constraints.namespace_selector.clone(),
        constraints.object_selector.clone(),
    );
    let place = |rule: &MatchRule, template: bool, objects: Option<LabelSelector>| {
        let selectors = (namespaces.clone(), objects);
        let key = |selectors: &(Option<LabelSelector>, Option<LabelSelector>)| {
            EntryId::of(failure, constraints.match_policy, rule, selectors)
        };
        Place {
            narrow: key(&selectors),
            wide: key(&(None, None)),
            rule: rule.clone(),
            template,
            failure,
            match_policy: constraints.match_policy,
            selectors,
        }
    };
    let mut places: Vec<_> = constraints
        .resource_rules
        .iter()
        .map(|rule| place(rule, false, objects.clone()))
        .collect();
    if spec.templates == Templates::Expand && constraints.resource_rules.iter().any(expands) {
        for (group, resources) in WORKLOADS {
            let rule = MatchRule {
                api_groups: vec![group.to_owned()],
                api_versions: vec!["v1".to_owned()],
                resources: resources.iter().map(|resource| (*resource).to_owned()).collect(),
                operations: vec![MatchOperation::Create, MatchOperation::Update],
                scope: MatchScope::Namespaced,
                resource_names: Vec::new(),
            };
            // The selector is about the pod, whose labels are not the object's.
            places.push(place(&rule, true, None));
        }
    }
    places
}

/// The webhooks of the registration, ordered by id.
pub(super) fn entries<'a>(places: impl Iterator<Item = &'a Place>) -> Vec<Entry> {
    let mut by_wide: BTreeMap<EntryId, Vec<&Place>> = BTreeMap::new();
    for place in places {
        by_wide.entry(place.wide).or_default().push(place);
    }
    let mut entries = BTreeMap::new();
    for (wide, places) in by_wide {
        let narrow: BTreeSet<EntryId> = places.iter().map(|place| place.narrow).collect();
        // One without selectors asks about all that the others would.
        let merged = narrow.len() > MAX_NARROW || narrow.contains(&wide);
        for place in places {
            let id = if merged { wide } else { place.narrow };
            let selectors = if merged { (None, None) } else { place.selectors.clone() };
            let entry = entries.entry(id).or_insert_with(|| Entry {
                id,
                failure: place.failure,
                match_policy: place.match_policy,
                rules: Vec::new(),
                namespace_selector: selectors.0,
                object_selector: selectors.1,
            });
            entry.rules.push(EntryRule::of(&place.rule));
        }
    }
    let mut entries: Vec<Entry> = entries.into_values().collect();
    for entry in &mut entries {
        entry.rules.sort();
        entry.rules.dedup();
    }
    entries
}

impl EntryRule {
    fn of(rule: &MatchRule) -> Self {
        let sorted = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        Self {
            api_groups: sorted(&rule.api_groups),
            api_versions: sorted(&rule.api_versions),
            resources: sorted(&rule.resources),
            operations: rule
                .operations
                .iter()
                .copied()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            scope: rule.scope,
        }
    }
}

impl EntryId {
    fn of(
        failure: FailurePolicy,
        match_policy: MatchPolicy,
        rule: &MatchRule,
        selectors: &(Option<LabelSelector>, Option<LabelSelector>),
    ) -> Self {
        let rule = EntryRule::of(rule);
        let key = serde_json::json!([match_policy, rule.api_groups, rule.api_versions, selectors]);
        let digest = Sha256::digest(key.to_string());
        let hash = digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte));
        Self { failure, hash }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failure = match self.failure {
            FailurePolicy::Fail => "fail",
            FailurePolicy::Ignore => "ignore",
        };
        write!(f, "{failure}-{:016x}", self.hash)
    }
}

impl FromStr for EntryId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (failure, hash) = text.split_once('-').ok_or(())?;
        let failure = match failure {
            "fail" => FailurePolicy::Fail,
            "ignore" => FailurePolicy::Ignore,
            _ => return Err(()),
        };
        let plain = hash.len() == 16 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let hash = u64::from_str_radix(hash, 16).ok().filter(|_| plain).ok_or(())?;
        Ok(Self { failure, hash })
    }
}
