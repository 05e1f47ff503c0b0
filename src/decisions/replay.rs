//! Judges the input of a line again: by the policies, and by those built-in rules that need nothing beside it.
//!
//! Must never: judge by a rule whose facts no line holds. It would find what was not there.

use serde::Serialize;
use serde_json::{Value, json};

use super::input::{Input, InputFacts};
use super::rules::rule_of;
use crate::api::{Mode, ValidationAction, is_exempt};
use crate::fence::{Case, Facts, Subject};
use crate::policy::{EvalError, PolicyInput, Target, Verdict};
use crate::review::{Review, Violation};

/// Something that a replay found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Found {
    /// Policy or rule.
    pub policy: String,
    /// What it does, in the strongest mode that was judged.
    pub effect: Effect,
    /// Path of the field; empty where no single one is at fault.
    pub path: String,
    /// Its value, as far as the line shows it.
    pub value: Option<String>,
    /// Whether that value is masked.
    pub masked: bool,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

/// What a finding does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It refuses.
    Refuses,
    /// It would, and an exception excused it.
    Excused,
    /// The caller is warned.
    Warns,
    /// It is logged.
    Audits,
}

impl Effect {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuses => "refuses",
            Self::Excused => "is excused",
            Self::Warns => "warns",
            Self::Audits => "is only logged",
        }
    }

    pub(super) const fn of_action(action: ValidationAction) -> Self {
        match action {
            ValidationAction::Deny => Self::Refuses,
            ValidationAction::Warn => Self::Warns,
            ValidationAction::Audit => Self::Audits,
        }
    }

    /// What a refusal does in a mode.
    fn of(mode: Mode, action: ValidationAction) -> Self {
        Self::of_action(action.under(Some(mode)))
    }
}

/// What asks the policies, and what a refusal of one does.
pub(super) type Judging<'a> = (
    &'a dyn Fn(&PolicyInput<'_>) -> Vec<Verdict>,
    &'a dyn Fn(&str) -> ValidationAction,
);

/// Everything that is found in the input; nothing where it holds no facts to judge by. Built-in rules are asked for those of `names` alone: they need most of what a line does
/// not hold.
pub(super) fn replay(
    input: &Input,
    names: &[&str],
    (judge, action): Judging<'_>,
) -> Result<Option<Vec<Found>>, String> {
    let review = review_of(input)?;
    let Some(facts) = &input.facts else {
        return Ok(None);
    };
    let mut found = Vec::new();
    if facts.target == Target::Pod {
        built_in(&review, facts, names, &mut found);
    }
    let pod = match (&facts.pod_path, facts.target) {
        (Some(path), Target::Pod) => Some((path.as_str(), pod_at(&review, path)?)),
        (None, Target::Pod) => return Ok(Some(found)),
        (_, Target::Namespace | Target::Object) => None,
    };
    let mut of_policies = Vec::new();
    for mode in &facts.modes {
        let class = facts.classes.iter().find(|class| class.name == mode.class);
        let namespace = match facts.target {
            Target::Pod | Target::Object => facts.namespace.as_ref(),
            Target::Namespace => review.object(),
        };
        let verdicts = judge(&PolicyInput {
            target: facts.target,
            request: &review.request,
            pod,
            workflow: facts.workflow.as_ref(),
            class: class.and_then(|class| class.class.as_ref()),
            engine: class.and_then(|class| class.engine.as_ref()),
            namespace,
        });
        for verdict in verdicts {
            let action = action(&verdict.policy);
            add(&mut of_policies, mode.mode, action, verdict);
        }
    }
    // A policy that is named like a built-in rule says the same of a field in other words: once is enough, as in the decision.
    let is_new = |one: &Found| {
        !found
            .iter()
            .any(|told| told.policy == one.policy && told.path == one.path)
    };
    of_policies.retain(is_new);
    found.extend(of_policies);
    Ok(Some(found))
}

pub(super) fn review_of(input: &Input) -> Result<Review, String> {
    let sent = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": input.request});
    Review::parse(sent.to_string().as_bytes()).map_err(|error| error.to_string())
}

fn pod_at<'a>(review: &'a Review, path: &str) -> Result<&'a Value, String> {
    let pointer = match path {
        "" => String::new(),
        path => format!("/{}", path.replace('.', "/")),
    };
    let pod = review.object().and_then(|object| object.pointer(&pointer));
    pod.ok_or_else(|| format!("there is no pod template at {path}"))
}

fn built_in(review: &Review, facts: &InputFacts, names: &[&str], found: &mut Vec<Found>) {
    let Ok(Some(subject)) = Subject::of(review) else {
        return;
    };
    let classes = facts
        .classes
        .iter()
        .map(|class| (class.name.clone(), class.class.clone()));
    let known = Facts {
        namespace: facts.namespace.clone(),
        workflow: facts.workflow.clone(),
        classes: classes.collect(),
        ..Facts::default()
    };
    // Without a workflow there is nothing to read of it but that.
    let replays = |name: &str| {
        names.contains(&name)
            && (rule_of(name).is_some_and(|rule| rule.replays)
                || name == "declared-workflow" && facts.workflow.is_none())
    };
    let case = Case::new(&subject, &known, |namespace| is_exempt(namespace, None));
    let refusals = case.refusals().into_iter().map(|violation| (Mode::Enforce, violation));
    let violations = facts.modes.iter().flat_map(|mode| {
        let violations = case.violations(mode.mode, &mode.class).into_iter();
        violations.map(|violation| (mode.mode, violation))
    });
    for (mode, violation) in refusals.chain(violations) {
        if replays(&violation.policy) {
            push(found, Effect::of(mode, ValidationAction::Deny), violation);
        }
    }
}

fn add(found: &mut Vec<Found>, mode: Mode, action: ValidationAction, verdict: Verdict) {
    match verdict.outcome {
        Ok(findings) => {
            let warns = action.min(ValidationAction::Warn);
            for (list, action) in [(findings.deny, action), (findings.warn, warns)] {
                for violation in list {
                    push(found, Effect::of(mode, action), violation);
                }
            }
        }
        Err(error) => {
            let fix = "tell who wrote that policy; nothing passes that it cannot judge";
            push(found, Effect::of(mode, action), failed(verdict.policy, &error, fix));
        }
    }
}

/// What it means that a policy gave no verdict.
pub(super) fn failed(policy: String, error: &EvalError, fix: &str) -> Violation {
    Violation {
        policy,
        path: String::new(),
        value: None,
        message: format!("could not be judged: {error}"),
        fix: fix.to_owned(),
    }
}

/// Once: the strongest mode comes first.
pub(super) fn push(found: &mut Vec<Found>, effect: Effect, violation: Violation) {
    let one = Found {
        policy: violation.policy,
        effect,
        path: violation.path,
        value: violation.value,
        masked: false,
        message: violation.message,
        fix: violation.fix,
    };
    let is_told = |told: &Found| Found { effect, ..told.clone() } == one;
    if !found.iter().any(is_told) {
        found.push(one);
    }
}
