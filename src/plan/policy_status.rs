//! What is said of a RegoPolicy: whether what is declared decides, and whether the API server asks about all that it matches.
//!
//! Must never: call a policy enforced that nobody asks, or say more of its text than the line that is at fault.

use k8s_openapi::jiff::Timestamp;

use crate::api::{
    ConditionStatus, ConditionType, FailurePolicy, Reason, RegoPolicy, RegoPolicySpec, RegoPolicyStatus,
    ValidationAction, set,
};
use crate::policy::LoadError;

/// Errors that are told one by one. Who corrects these sees the next.
const MAX_ERRORS: usize = 10;
/// Longest message of one of them, and longest line that is quoted, in characters.
const MAX_MESSAGE: usize = 500;
const MAX_LINE: usize = 160;

/// What a policy meets.
#[derive(Clone, Copy, Debug)]
pub struct PolicyObserved<'a> {
    /// What came of vetting this generation; `None` while nothing has.
    pub vetted: Option<Vetted<'a>>,
    /// Whether the API server asks about all that is matched by what is in force; why not, and what to do.
    pub intercepted: Result<(), &'a str>,
    /// What is wrong with the objects that it looks at beside the request.
    pub unseen: Option<Unseen<'a>>,
}

/// Why a policy does not see all that it looks at.
#[derive(Clone, Copy, Debug)]
pub struct Unseen<'a> {
    /// What is wrong, and what to do.
    pub why: &'a str,
    /// Whether there is more than may be held.
    pub is_too_large: bool,
}

/// What came of vetting a generation.
#[derive(Clone, Copy, Debug)]
pub struct Vetted<'a> {
    /// What is wrong with it; empty where it decides.
    pub errors: &'a [LoadError],
    /// Whether it was found wrong, and not only not vetted yet.
    pub is_final: bool,
    /// The generation that decides instead.
    pub instead: Option<i64>,
    /// Whether a policy of files has its name, and decides.
    pub is_shadowed: bool,
}

/// The status to write, equal to the old one when nothing changed.
pub fn policy_status(policy: &RegoPolicy, observed: &PolicyObserved<'_>, now: Timestamp) -> RegoPolicyStatus {
    let generation = policy.metadata.generation;
    let mut status = policy.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    for (type_, (holds, reason, message)) in [
        (ConditionType::Compiled, compiled(&policy.spec, observed)),
        (ConditionType::Enforced, enforced(&policy.spec, observed)),
    ] {
        set(&mut status.conditions, type_, holds, reason, message, generation, now);
    }
    status
}

type Said = (ConditionStatus, Reason, String);

fn compiled(spec: &RegoPolicySpec, observed: &PolicyObserved<'_>) -> Said {
    let Some(vetted) = observed.vetted else {
        let message =
            "this generation is not vetted yet; until it is, the last good one decides, where there was one".to_owned();
        return (ConditionStatus::Unknown, Reason::NotReady, message);
    };
    if vetted.is_shadowed {
        return (ConditionStatus::False, Reason::NameTaken, told(spec, vetted.errors));
    }
    if vetted.errors.is_empty() {
        let message = "it compiles, gives its samples their verdicts, and decides".to_owned();
        return (ConditionStatus::True, Reason::Vetted, message);
    }
    let meanwhile = meanwhile(spec, vetted.instead);
    let errors = told(spec, vetted.errors);
    if vetted.is_final {
        (
            ConditionStatus::False,
            Reason::Rejected,
            format!("{errors}; until it is corrected, {meanwhile}"),
        )
    } else {
        let message = format!("it could not be vetted, and is tried again: {errors}; until then, {meanwhile}");
        (ConditionStatus::Unknown, Reason::NotReady, message)
    }
}

fn enforced(spec: &RegoPolicySpec, observed: &PolicyObserved<'_>) -> Said {
    let not_asked = observed.intercepted.err();
    let instead = match observed.vetted {
        Some(vetted) if vetted.errors.is_empty() => {
            return match not_asked {
                None => match observed.unseen {
                    None => (ConditionStatus::True, Reason::Intercepted, asked(spec)),
                    Some(unseen) if unseen.is_too_large => (
                        ConditionStatus::False,
                        Reason::InventoryTooLarge,
                        not_seen(spec, &unseen),
                    ),
                    Some(unseen) => (ConditionStatus::False, Reason::NotReady, not_seen(spec, &unseen)),
                },
                Some(why) => (ConditionStatus::False, Reason::NotIntercepted, why.to_owned()),
            };
        }
        Some(vetted) if vetted.is_shadowed => {
            let message = "see condition Compiled: the policy of files decides, and not this one".to_owned();
            return (ConditionStatus::False, Reason::NameTaken, message);
        }
        Some(vetted) => meanwhile(spec, vetted.instead),
        None => "this generation is not vetted yet".to_owned(),
    };
    let why = not_asked.map_or_else(String::new, |why| format!("; {why}"));
    let message = format!("see condition Compiled: {instead}{why}");
    (ConditionStatus::False, Reason::NotReady, message)
}

fn asked(spec: &RegoPolicySpec) -> String {
    let does = match strongest(spec) {
        ValidationAction::Deny => "refuses",
        ValidationAction::Warn => "warns, and the request goes on",
        ValidationAction::Audit => "is logged and counted, and the request goes on",
    };
    format!("the API server asks about all that it matches; what it finds {does}")
}

fn not_seen(spec: &RegoPolicySpec, unseen: &Unseen<'_>) -> String {
    let does = match spec.failure_policy {
        FailurePolicy::Fail => "its failurePolicy Fail answers",
        FailurePolicy::Ignore => "its failurePolicy Ignore lets it pass, with a warning",
    };
    format!("where it has no verdict, {does}: {}", unseen.why)
}

/// What decides in the place of a generation that does not.
fn meanwhile(spec: &RegoPolicySpec, instead: Option<i64>) -> String {
    match (instead, spec.failure_policy, strongest(spec)) {
        (Some(generation), _, _) => format!("generation {generation} decides"),
        (None, FailurePolicy::Ignore, _) => {
            "it answers by failurePolicy Ignore: whatever it matches goes on, logged and counted as an error".to_owned()
        }
        (None, FailurePolicy::Fail, action) => {
            let does = match action {
                ValidationAction::Deny => "is refused",
                ValidationAction::Warn => "is warned about",
                ValidationAction::Audit => "is logged and counted as refused, and goes on",
            };
            format!("it answers by failurePolicy Fail: whatever it matches {does}")
        }
    }
}

/// One that says nothing is invalid, and refuses.
fn strongest(spec: &RegoPolicySpec) -> ValidationAction {
    let actions = spec.validation_actions.iter().copied();
    actions.max().unwrap_or(ValidationAction::Deny)
}

/// Every error with its place and the line there, within what a person reads.
fn told(spec: &RegoPolicySpec, errors: &[LoadError]) -> String {
    let mut told: Vec<String> = errors.iter().take(MAX_ERRORS).map(|error| tell(spec, error)).collect();
    if errors.len() > MAX_ERRORS {
        told.push(format!("and {} more", errors.len() - MAX_ERRORS));
    }
    told.join("; ")
}

fn tell(spec: &RegoPolicySpec, error: &LoadError) -> String {
    let error_told = short(&error.to_string(), MAX_MESSAGE);
    match line_of(spec, error) {
        Some(line) => format!("{error_told} (`{}`)", short(line, MAX_LINE)),
        None => error_told,
    }
}

fn line_of<'a>(spec: &'a RegoPolicySpec, error: &LoadError) -> Option<&'a str> {
    let module = spec.rego.modules.iter().find(|module| module.name == error.file)?;
    let before = usize::try_from(error.line?).ok()?.checked_sub(1)?;
    let line = module.source.lines().nth(before)?.trim();
    (!line.is_empty()).then_some(line)
}

/// On one line, without what a terminal would act on, and cut at so many characters.
fn short(text: &str, most: usize) -> String {
    let plain = |character: char| if character.is_control() { ' ' } else { character };
    let mut short: String = text.chars().take(most).map(plain).collect();
    if text.chars().nth(most).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
