//! What of a valid declaration its class does not allow, each with what the class allows instead.

use std::cell::LazyCell;

use super::{
    NamespaceFacts, Problem,
    accept::allowed_annotations,
    cluster::Ranges,
    engine,
    peer::{Peer, peer_outside_class},
    rules::{self, Covering},
    shape,
};
use crate::api::{AIWorkflow, AIWorkflowClass};
use crate::images::{is_pattern, may_overlap};

/// What of a declaration lies outside its class. One that is not valid by itself is another's to find.
pub(super) fn outside_class(
    workflow: &AIWorkflow,
    namespace: &NamespaceFacts,
    class_name: &str,
    class: &AIWorkflowClass,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(engine::profile(workflow, class_name, class).err());
    let allowed = allowed_annotations(workflow, class);
    let declared = workflow
        .spec
        .identity
        .iter()
        .flat_map(|identity| identity.annotations.keys());
    for key in declared.filter(|key| !allowed.contains_key(*key)) {
        let message =
            format!("is an annotation that AIWorkflowClass {class_name} does not allow: in a cloud it is a right");
        let fix = format!(
            "leave it out, or ask the platform team to add it to spec.identity.annotations of AIWorkflowClass {class_name} ({})",
            shown(
                class
                    .spec
                    .identity
                    .as_ref()
                    .map_or(&[][..], |identity| &identity.annotations)
            )
        );
        problems.push(Problem::new("spec.identity.annotations", Some(key), message, fix));
    }
    if workflow.spec.debug.is_some() && class.spec.debug.is_none() {
        let message = format!("opens a window for debugging, and AIWorkflowClass {class_name} allows none");
        let fix =
            format!("leave it out, or ask the platform team for spec.debug.maxHours of AIWorkflowClass {class_name}");
        problems.push(Problem::new("spec.debug", None, message, fix));
    }
    shape::audiences_outside_class(workflow, class_name, class, &mut problems);
    let at_home = rules::at_home(class);
    // Once for all that is declared: a class can be long.
    let allowed_at_home = Covering::of(&at_home);
    let shown_at_home = LazyCell::new(|| rules::shown(&at_home));
    for (index, rule) in workflow.rules().iter().enumerate() {
        if let Some(right) = allowed_at_home.first_uncovered(rule) {
            let message = format!("asks for a right that AIWorkflowClass {class_name} does not allow");
            let fix = format!(
                "leave it out, or ask the platform team to add it to spec.permissions of AIWorkflowClass {class_name} ({})",
                *shown_at_home
            );
            problems.push(Problem::new(
                format!("spec.permissions.rules[{index}]"),
                Some(&right),
                message,
                fix,
            ));
        }
    }
    let across = rules::across(class);
    let allowed_across = Covering::of(&across);
    let shown_across = LazyCell::new(|| rules::shown(&across));
    for (index, entry) in workflow.cross_namespace().iter().enumerate() {
        for (number, rule) in entry.rules.iter().enumerate() {
            if let Some(right) = allowed_across.first_uncovered(rule) {
                let message = format!(
                    "asks for a right in namespace {} that AIWorkflowClass {class_name} does not allow",
                    entry.namespace
                );
                let fix = format!(
                    "leave it out, or ask the platform team to add it to spec.crossNamespacePermissions of AIWorkflowClass {class_name} ({})",
                    *shown_across
                );
                problems.push(Problem::new(
                    format!("spec.permissions.crossNamespace[{index}].rules[{number}]"),
                    Some(&right),
                    message,
                    fix,
                ));
            }
        }
    }
    images_outside_class(workflow, class_name, class, &mut problems);
    let network = workflow.spec.network.clone().unwrap_or_default();
    let ranges = Ranges::for_network(&network, class);
    for (index, rule) in network.ingress.iter().enumerate() {
        peer_outside_class(
            &format!("spec.network.ingress[{index}].from"),
            &Peer::from(&rule.from),
            namespace,
            (class_name, class),
            &ranges,
            &mut problems,
        );
    }
    for (index, rule) in network.egress.iter().enumerate() {
        peer_outside_class(
            &format!("spec.network.egress[{index}].to"),
            &Peer::from(&rule.to),
            namespace,
            (class_name, class),
            &ranges,
            &mut problems,
        );
    }
    if !ranges.fit(&network) {
        let message = "names more ranges than one NetworkPolicy holds, with what must be taken out of them";
        let fix = "name fewer ranges, each once, with all its ports in one rule";
        problems.push(Problem::new("spec.network", None, message, fix));
    }
    problems
}

/// Patterns of images that have no repository in common with any that the class allows: no pod could run what they name. One that
/// reaches beyond the class is let be, because each image of a pod is judged by both.
fn images_outside_class(workflow: &AIWorkflow, class_name: &str, class: &AIWorkflowClass, problems: &mut Vec<Problem>) {
    let images = class.spec.images.iter().flat_map(|images| &images.allowed);
    let allowed: Vec<_> = images.filter(|pattern| is_pattern(pattern)).collect();
    if allowed.is_empty() {
        let message = format!("names images, and AIWorkflowClass {class_name} allows none");
        let fix = "ask the platform team to fill the class's spec.images.allowed";
        problems.push(Problem::new("spec.images", None, message, fix));
        return;
    }
    let meets_none = |pattern: &str| !allowed.iter().any(|allowed| may_overlap(pattern, allowed));
    for (index, pattern) in workflow.spec.images.iter().enumerate() {
        if is_pattern(pattern) && meets_none(pattern) {
            let message = format!("holds no image that AIWorkflowClass {class_name} allows");
            let fix = format!(
                "name images inside the class ({}), or ask the platform team to add it to spec.images.allowed of AIWorkflowClass {class_name}",
                shown(&allowed)
            );
            problems.push(Problem::new(
                format!("spec.images[{index}]"),
                Some(pattern),
                message,
                fix,
            ));
        }
    }
}

/// What of a list a message shows: the first few, and how many more.
const SHOWN: usize = 3;
/// How much of one of them, in characters.
const LONGEST: usize = 128;

/// What a class allows, for a message: bounded, however much it is.
pub(super) fn shown<T: std::fmt::Display>(allowed: &[T]) -> String {
    shown_of(allowed, T::to_string)
}

/// The same of what is told so.
pub(super) fn shown_of<T>(allowed: &[T], told: impl Fn(&T) -> String) -> String {
    let cut = |one: &T| {
        let whole = told(one);
        if whole.chars().count() > LONGEST {
            whole.chars().take(LONGEST).chain(['…']).collect()
        } else {
            whole
        }
    };
    let first = allowed.iter().take(SHOWN).map(cut).collect::<Vec<_>>().join(", ");
    match allowed.len() {
        0 => "it allows none".to_owned(),
        all if all > SHOWN => format!("it allows: {first} and {} more", all - SHOWN),
        _ => format!("it allows: {first}"),
    }
}

#[cfg(test)]
mod tests;
