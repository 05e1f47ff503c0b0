//! Whether an exception is in force: for the reconciler, which says so, and for admission, which acts by it.
//!
//! Must never: take an exception for one in force because something about it cannot be read, or let an edit prolong it past what
//! the class allows from the day it was made.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{NamespaceFacts, Problem, accept::summary, selector};
use crate::api::{
    AIWorkflowClass, ConditionStatus, ConditionType, Mode, Reason, RegoPolicyException, RegoPolicyExceptionStatus,
    is_dns_label, set,
};

/// Most exceptions of a namespace that are looked at. Where there are more, none counts: which of them were seen would be chance.
pub const MAX_EXCEPTIONS: usize = 200;

/// Why an exception excuses nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Idle {
    /// Reason of the condition.
    pub reason: Reason,
    /// Message of the condition: what is so, and what to do.
    pub message: String,
}

/// What an exception meets.
#[derive(Clone, Debug)]
pub struct ExceptionObserved<'a> {
    /// Its namespace.
    pub namespace: NamespaceFacts,
    /// The classes that the namespace's modes name; those missing are absent.
    pub classes: BTreeMap<String, AIWorkflowClass>,
    /// The policies that judge objects of namespaces.
    pub policies: &'a BTreeSet<String>,
    /// Whether more exceptions than [`MAX_EXCEPTIONS`] lie beside it.
    pub crowded: bool,
}

/// When an exception ends that is in force now, in a namespace, for a class.
///
/// # Errors
/// Why it is not. Ratcheting lets values stay that today's CRD would refuse, so everything that CEL checks is checked again.
pub fn exception_in_force(
    exception: &RegoPolicyException,
    namespace: &str,
    (class_name, class): (&str, Option<&AIWorkflowClass>),
    now: Timestamp,
) -> Result<Timestamp, Idle> {
    let idle = |reason: Reason, message: String| Err(Idle { reason, message });
    if exception.metadata.deletion_timestamp.is_some() {
        return idle(Reason::Terminating, "it is being deleted".to_owned());
    }
    let problems = exception_problems(exception);
    if !problems.is_empty() {
        return idle(Reason::Invalid, summary(&problems));
    }
    let Some(class) = class else {
        let message = format!(
            "AIWorkflowClass {class_name}, named by namespace {namespace}, does not exist: see kubectl get aiworkflowclasses"
        );
        return idle(Reason::ClassMissing, message);
    };
    let opening = class.spec.exceptions.as_ref();
    let Some(opening) = opening.filter(|opening| opening.namespaces.iter().any(|open| open == namespace)) else {
        let message = format!(
            "AIWorkflowClass {class_name} opens no exceptions for namespace {namespace}: ask the platform team to list it in spec.exceptions.namespaces"
        );
        return idle(Reason::NamespaceNotAllowed, message);
    };
    let text = exception.spec.expires_at.as_str();
    let made = exception.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let (Ok(until), Some(made)) = (text.parse::<Timestamp>(), made) else {
        let message =
            format!("spec.expiresAt = {text:?}: nobody can tell when it ends: write it like 2026-12-01T12:00:00Z");
        return idle(Reason::Invalid, message);
    };
    let longest = SignedDuration::from_hours(24 * i64::from(opening.max_days));
    if until.duration_since(made) > longest {
        let message = format!(
            "spec.expiresAt = {text:?} is more than {} days after it was made ({made}), and AIWorkflowClass {class_name} allows no more: choose an earlier time, or delete it and make it again for another {} days",
            opening.max_days, opening.max_days
        );
        return idle(Reason::TooLong, message);
    }
    if until <= now {
        let message = format!("it is over since {until}: delete it, and make another where it is still needed");
        return idle(Reason::Expired, message);
    }
    Ok(until)
}

/// What is wrong with an exception by itself.
pub fn exception_problems(exception: &RegoPolicyException) -> Vec<Problem> {
    let mut problems = Vec::new();
    let spec = &exception.spec;
    let fix = "name policies that refuse, as their refusals do in brackets";
    if spec.policies.is_empty() {
        problems.push(Problem::new("spec.policies", Some("[]"), "names nothing", fix));
    }
    for (index, name) in spec.policies.iter().enumerate().filter(|(_, name)| !is_dns_label(name)) {
        problems.push(Problem::new(
            format!("spec.policies[{index}]"),
            Some(name),
            "is no policy's name",
            fix,
        ));
    }
    let names = spec.names.as_deref().filter(|names| !names.is_empty());
    match (&spec.object_selector, names) {
        (Some(chosen), None) => selector::invalid("spec.objectSelector", chosen, &mut problems),
        (None, Some(names)) if names.iter().all(|name| !name.is_empty()) => {}
        (None, _) | (Some(_), Some(_)) => problems.push(Problem::new(
            "spec",
            None,
            "must say which objects by exactly one of objectSelector or names, and empty never means all",
            "keep one, and fill it",
        )),
    }
    if let Some(chosen) = &spec.object_selector
        && chosen.match_labels.is_empty()
        && chosen.match_expressions.is_empty()
    {
        let fix = "give it matchLabels or matchExpressions";
        problems.push(Problem::new(
            "spec.objectSelector",
            None,
            "is empty, and empty never means all",
            fix,
        ));
    }
    if spec.reason.trim().is_empty() {
        let fix = "say why, for whoever reads it later";
        problems.push(Problem::new("spec.reason", Some(&spec.reason), "says nothing", fix));
    }
    problems
}

/// The status to write, equal to the old one when nothing changed; and when it ends, if it is in force.
pub fn exception_status(
    exception: &RegoPolicyException,
    observed: &ExceptionObserved<'_>,
    now: Timestamp,
) -> (RegoPolicyExceptionStatus, Option<Timestamp>) {
    let generation = exception.metadata.generation;
    let mut status = exception.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    let (holds, reason, message, until) = match say(exception, observed, now) {
        Ok((until, reason, message)) => (ConditionStatus::True, reason, message, Some(until)),
        Err(Idle { reason, message }) => (ConditionStatus::False, reason, message, None),
    };
    let accepted = ConditionType::Accepted;
    set(
        &mut status.conditions,
        accepted,
        holds,
        reason,
        message,
        generation,
        now,
    );
    (status, until)
}

/// When an exception ends that is in force in its namespace's strongest mode, and what to say of the other modes.
///
/// # Errors
/// Why it is not.
pub fn exception_standing(
    exception: &RegoPolicyException,
    namespace: &NamespaceFacts,
    classes: &BTreeMap<String, AIWorkflowClass>,
    now: Timestamp,
) -> Result<(Timestamp, String), Idle> {
    let modes = [(Mode::Enforce, "enforce"), (Mode::Warn, "warn"), (Mode::Audit, "audit")];
    let mut judged = modes.into_iter().filter_map(|(mode, word)| {
        let name = namespace.class_for(mode)?;
        let class = (name, classes.get(name));
        Some((word, exception_in_force(exception, &namespace.name, class, now)))
    });
    let Some((_, strongest)) = judged.next() else {
        let message = format!(
            "namespace {} has no mode, so no policy judges there: see its labels ringfence.dev/enforce, warn and audit",
            namespace.name
        );
        return Err(Idle {
            reason: Reason::NamespaceNotFenced,
            message,
        });
    };
    let until = strongest?;
    let elsewhere = judged.filter_map(|(word, judged)| Some((word, judged.err()?)));
    let elsewhere = elsewhere.map(|(word, idle)| format!("; not in mode {word}: {}", idle.message));
    Ok((until, elsewhere.collect()))
}

/// When it ends, with reason and message; or why it is not in force.
fn say(
    exception: &RegoPolicyException,
    observed: &ExceptionObserved<'_>,
    now: Timestamp,
) -> Result<(Timestamp, Reason, String), Idle> {
    let idle = |reason: Reason, message: String| Err(Idle { reason, message });
    let namespace = &observed.namespace;
    let (until, elsewhere) = exception_standing(exception, namespace, &observed.classes, now)?;
    if observed.crowded {
        let message = format!(
            "more than {MAX_EXCEPTIONS} RegoPolicyExceptions lie in namespace {}, and so none counts: delete those that are over",
            namespace.name
        );
        return idle(Reason::TooMany, message);
    }
    let names = exception.spec.policies.iter().map(String::as_str);
    let (known, unknown): (Vec<_>, Vec<_>) = names.partition(|name| observed.policies.contains(*name));
    let no_such = format!(
        "no policy that judges objects of a namespace is called {}; built-in rules, and policies on Namespaces, have no exceptions",
        unknown.join(", ")
    );
    if known.is_empty() {
        let message = format!("{no_such}: name one as its refusals do, in brackets");
        return idle(Reason::UnknownPolicy, message);
    }
    let message = format!(
        "in force until {until} for what {} would refuse{elsewhere}",
        known.join(", ")
    );
    if unknown.is_empty() {
        return Ok((until, Reason::Accepted, message));
    }
    Ok((until, Reason::UnknownPolicy, format!("{message}; {no_such}")))
}

#[cfg(test)]
mod tests;
