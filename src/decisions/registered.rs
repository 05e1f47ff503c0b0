//! Asks the RegoPolicies at hand about the input of a line again.
//!
//! Must never: ask one without what it looks at. A policy that is broken, or whose inventory no line holds, is left out, and that is
//! said.

use std::collections::BTreeMap;

use serde_json::Value;

use super::explain::Objects;
use super::input::{Input, InputFacts};
use super::replay::{Effect, Found, failed, push, review_of};
use crate::api::{FailurePolicy, ValidationAction};
use crate::fence::occasion;
use crate::policy::{Match, Occasion, PolicyInput, Question, Target, Verdict};
use crate::review::Review;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub found: Vec<Found>,
    /// Policies of the line that were not asked, each with the reason.
    pub unasked: BTreeMap<String, String>,
}

/// Asks those that match; nothing where the input holds no facts to judge by. `behind`: as an audit behind an answer, where all that
/// is found is only logged.
pub(super) fn replay(
    input: &Input,
    names: &[&str],
    behind: bool,
    objects: &Objects<'_>,
) -> Result<Option<Replayed>, String> {
    let review = review_of(input)?;
    let Some(facts) = &input.facts else {
        return Ok(None);
    };
    let strongest = facts.modes.iter().max_by_key(|mode| mode.mode);
    let mode = strongest.map(|mode| mode.mode);
    let occasion = occasion(&review);
    let mut replayed = Replayed::default();
    let labels = labels_of(&review, facts);
    let is_named = |one: &Match| names.contains(&one.name());
    // What only audits is in a line of its own.
    let is_here = |one: &Match| is_named(one) || (one.action().under(mode) == ValidationAction::Audit) == behind;
    let matches = matching(objects, names, &occasion).into_iter();
    let matches: Vec<_> = matches
        .filter(|one| one.is_in_namespace(labels) && is_here(one))
        .collect();
    for policy in objects.snapshot.policies() {
        if names.contains(&policy.name()) && !matches.iter().any(|one| one.name() == policy.name()) {
            let why = "it was not asked again: as it is declared here it does not match the request, or it does by what is masked";
            replayed.unasked.insert(policy.name().to_owned(), why.to_owned());
        }
    }
    let (asked, left): (Vec<_>, Vec<_>) = matches.into_iter().partition(|one| why_unasked(one).is_none());
    for one in left {
        if let Some(why) = why_unasked(&one) {
            replayed.unasked.insert(one.name().to_owned(), why);
        }
    }
    let class = strongest.and_then(|mode| facts.classes.iter().find(|class| class.name == mode.class));
    let of_itself = review.current().filter(|_| review.is_of_namespace());
    let shown = PolicyInput {
        target: Target::Pod,
        request: &review.request,
        pod: occasion.template,
        workflow: facts.workflow.as_ref(),
        class: class.and_then(|class| class.class.as_ref()),
        engine: None,
        namespace: facts.namespace.as_ref().or(of_itself),
    };
    let question = Question::new(asked.clone(), &shown, &occasion, |_| {
        Err("no line holds its inventory".to_owned())
    });
    for (one, verdict) in asked.iter().zip((objects.judge)(question)) {
        let action = if behind {
            ValidationAction::Audit
        } else {
            one.action().under(mode)
        };
        add(&mut replayed.found, one, action, verdict);
    }
    Ok(Some(replayed))
}

/// A template may have been changed in what is masked alone: what the line names was asked about it then.
fn matching(objects: &Objects<'_>, names: &[&str], occasion: &Occasion<'_>) -> Vec<Match> {
    let mut matches = objects.snapshot.matching(None, occasion);
    if !occasion.changes_template {
        let changed = Occasion {
            changes_template: occasion.template.is_some(),
            ..*occasion
        };
        let known = matches.iter().map(|one| one.name().to_owned()).collect::<Vec<_>>();
        let more = objects.snapshot.matching(None, &changed).into_iter();
        matches
            .extend(more.filter(|one| names.contains(&one.name()) && !known.iter().any(|known| known == one.name())));
    }
    matches
}

fn labels_of<'a>(review: &'a Review, facts: &'a InputFacts) -> Option<Option<&'a Value>> {
    const LABELS: &str = "/metadata/labels";
    if review.is_of_namespace() {
        return Some(review.current().and_then(|object| object.pointer(LABELS)));
    }
    facts.namespace.as_ref().map(|namespace| namespace.pointer(LABELS))
}

fn why_unasked(one: &Match) -> Option<String> {
    if one.why_broken().is_some() {
        return Some(format!(
            "it was not asked again: it is broken, and where Ringfence has no good version of it, it answers by its failurePolicy {}",
            one.failure_policy().as_str()
        ));
    }
    let why =
        "it was not asked again: it looks at objects beside the request (spec.inventory), and no line holds those";
    (!one.inventory().is_empty()).then(|| why.to_owned())
}

fn add(found: &mut Vec<Found>, one: &Match, action: ValidationAction, verdict: Verdict) {
    match verdict.outcome {
        Ok(findings) => {
            for (list, action) in [
                (findings.deny, action),
                (findings.warn, action.min(ValidationAction::Warn)),
            ] {
                for violation in list {
                    push(found, Effect::of_action(action), violation);
                }
            }
        }
        Err(error) => {
            let action = match one.failure_policy() {
                FailurePolicy::Fail => action,
                FailurePolicy::Ignore => ValidationAction::Audit,
            };
            let fix = "tell who wrote that RegoPolicy, and see its conditions: kubectl describe regopolicy";
            push(found, Effect::of_action(action), failed(verdict.policy, &error, fix));
        }
    }
}

#[cfg(test)]
mod tests;
