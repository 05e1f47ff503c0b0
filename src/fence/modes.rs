//! Door: the mode labels of a namespace. A label that is set must name a class that exists, outside the exempt namespaces.
//!
//! Must never: stand in the way of taking a mode away. That is the break-glass, and works without us.

use serde_json::Value;

use super::facts::Facts;
use super::object::{shown, violation};
use crate::api::{AUDIT_LABEL, ENFORCE_LABEL, Mode, WARN_LABEL, is_dns_subdomain};
use crate::review::{Operation, Review, Violation};

const RULE: &str = "namespace-mode";

/// Modes and their labels, the strongest first.
const MODES: [(Mode, &str); 3] = [
    (Mode::Enforce, ENFORCE_LABEL),
    (Mode::Warn, WARN_LABEL),
    (Mode::Audit, AUDIT_LABEL),
];

/// A mode that a write sets or changes, or under which it changes other labels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting {
    /// The mode.
    pub mode: Mode,
    /// Its label.
    pub label: &'static str,
    /// The class that it names; what is no text counts as empty.
    pub class: String,
    /// Whether it was there before, with the same class: then only the policies judge, because nothing of it is being set.
    pub stands: bool,
}

/// The modes by which a CREATE or UPDATE of a Namespace is judged: those that it sets or changes, and, where it changes another label and
/// does not take the strongest away, those that stand.
pub fn settings(review: &Review) -> Vec<Setting> {
    let is_namespace = review.kind.group.is_empty() && review.kind.kind == "Namespace";
    if !is_namespace || !matches!(review.operation, Operation::Create | Operation::Update) {
        return Vec::new();
    }
    let labels = |object: Option<&'_ Value>| object.and_then(|object| object.pointer("/metadata/labels")).cloned();
    let (new, old) = (labels(review.object()), labels(review.old_object()));
    let label = |labels: &Option<Value>, name: &str| labels.as_ref()?.get(name).cloned();
    let is_taken = |name: &str| label(&old, name).is_some() && label(&new, name).is_none();
    let takes_one_away = MODES.iter().any(|(_, name)| is_taken(name));
    let strongest = MODES.iter().find(|(_, name)| label(&old, name).is_some());
    let takes_the_strongest = strongest.is_some_and(|(_, name)| is_taken(name));
    let others = |labels: &Option<Value>| {
        let mut others = labels.as_ref()?.as_object()?.clone();
        others.retain(|key, _| MODES.iter().all(|(_, name)| name != key));
        Some(others).filter(|others| !others.is_empty())
    };
    let changes_another = new != old && (!takes_one_away || others(&new) != others(&old));
    MODES
        .into_iter()
        .filter_map(|(mode, name)| {
            let value = label(&new, name)?;
            let stands = Some(&value) == label(&old, name).as_ref();
            let judged = !stands || (changes_another && !takes_the_strongest);
            judged.then(|| Setting {
                mode,
                label: name,
                class: value.as_str().unwrap_or_default().to_owned(),
                stands,
            })
        })
        .collect()
}

impl Setting {
    /// The class to ask for; `None` where no class can have that name.
    pub fn wanted_class(&self) -> Option<&str> {
        is_dns_subdomain(&self.class).then_some(self.class.as_str())
    }
}

/// Checks one setting. Every refusal here refuses the write, whatever the mode: a mode that cannot work must not be set.
pub fn check(review: &Review, setting: &Setting, facts: &Facts, exempt: impl Fn(&str) -> bool) -> Option<Violation> {
    if setting.stands {
        return None;
    }
    let path = format!("metadata.labels[{}]", setting.label);
    let value = Some(setting.class.as_str());
    let name = review
        .object()
        .and_then(|object| object.pointer("/metadata/name"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let asked = review.request.get("name").and_then(Value::as_str).unwrap_or_default();
    if exempt(name) || exempt(asked) {
        let message = format!("namespace {} is the platform's own and takes no mode", shown(name));
        return Some(violation(
            RULE,
            path,
            value,
            message,
            format!("remove it: kubectl label namespace {} {}-", shown(name), setting.label),
        ));
    }
    let choose = format!("name one of kubectl get aiworkflowclass: {}=<class>", setting.label);
    if setting.class.is_empty() {
        return Some(violation(RULE, path, value, "an empty value names no class", choose));
    }
    if setting.wanted_class().and_then(|class| facts.class(class)).is_none() {
        let message = format!("there is no AIWorkflowClass {}", shown(&setting.class));
        return Some(violation(
            RULE,
            path,
            value,
            message,
            format!("{choose}; or create that class first"),
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::testing::review;
    use super::*;

    fn namespace(name: &str, labels: Value) -> Value {
        json!({"metadata": {"name": name, "labels": labels}})
    }

    fn judged(old: Option<Value>, new: Value) -> (usize, Vec<String>) {
        let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
        let review = review(operation, "", "Namespace", Some(&new), old.as_ref());
        let mut facts = Facts::default();
        facts.classes.insert("default".into(), Some(json!({})));
        facts.classes.insert("absent".into(), None);
        let settings = settings(&review);
        let violations: Vec<_> = settings
            .iter()
            .filter_map(|setting| check(&review, setting, &facts, |name| name == "kube-system"))
            .collect();
        violations
            .iter()
            .for_each(|violation| assert_eq!(violation.policy, RULE));
        (
            settings.len(),
            violations.into_iter().map(|violation| violation.path).collect(),
        )
    }

    #[rstest]
    #[case::class(json!({"ringfence.dev/enforce": "default"}), 1, &[])]
    #[case::each_mode(json!({"ringfence.dev/enforce": "default", "ringfence.dev/warn": "default", "ringfence.dev/audit": "default"}), 3, &[])]
    #[case::none(json!({"team": "ml"}), 0, &[])]
    #[case::empty(json!({"ringfence.dev/enforce": ""}), 1, &["metadata.labels[ringfence.dev/enforce]"])]
    #[case::absent(json!({"ringfence.dev/warn": "absent"}), 1, &["metadata.labels[ringfence.dev/warn]"])]
    #[case::not_asked_for(json!({"ringfence.dev/audit": "other"}), 1, &["metadata.labels[ringfence.dev/audit]"])]
    #[case::no_class_can_be_called_so(json!({"ringfence.dev/enforce": "../default"}), 1, &["metadata.labels[ringfence.dev/enforce]"])]
    #[case::wrong_type(json!({"ringfence.dev/enforce": true}), 1, &["metadata.labels[ringfence.dev/enforce]"])]
    #[case::one_of_two(json!({"ringfence.dev/enforce": "default", "ringfence.dev/warn": "True"}), 2, &["metadata.labels[ringfence.dev/warn]"])]
    fn a_mode_names_a_class_that_exists(#[case] labels: Value, #[case] settings: usize, #[case] refused: &[&str]) {
        let refused: Vec<String> = refused.iter().map(|&path| path.to_owned()).collect();
        assert_eq!(
            judged(None, namespace("ai", labels.clone())),
            (settings, refused.clone()),
            "on CREATE"
        );
        assert_eq!(
            judged(Some(namespace("ai", json!({}))), namespace("ai", labels)),
            (settings, refused),
            "on UPDATE"
        );
    }

    #[test]
    fn an_exempt_namespace_takes_no_mode() {
        let labels = json!({"ringfence.dev/enforce": "default"});
        assert_eq!(
            judged(
                Some(namespace("kube-system", json!({}))),
                namespace("kube-system", labels)
            )
            .1
            .len(),
            1
        );
    }

    #[test]
    fn what_was_set_before_and_what_is_taken_away_are_left_alone() {
        let old = json!({"ringfence.dev/enforce": "absent", "ringfence.dev/warn": "absent"});
        assert_eq!(
            judged(
                Some(namespace("ai", old)),
                namespace("ai", json!({"ringfence.dev/enforce": "absent"}))
            ),
            (0, vec![])
        );
    }

    #[test]
    fn another_label_under_a_mode_is_for_the_policies_and_a_class_that_went_locks_nobody_out() {
        let labels =
            |owner: &str| json!({"ringfence.dev/enforce": "absent", "ringfence.dev/warn": "default", "owner": owner});
        let judged_of = |old: Value, new: Value| judged(Some(namespace("ai", old)), namespace("ai", new));
        assert_eq!(judged_of(labels("a"), labels("b")), (2, vec![]));
        assert_eq!(judged_of(labels("a"), labels("a")), (0, vec![]), "nothing changed");
        assert_eq!(
            judged_of(labels("a"), json!({"ringfence.dev/warn": "default"})),
            (0, vec![]),
            "the way out"
        );
        assert_eq!(
            judged_of(labels("a"), json!({"ringfence.dev/enforce": "absent", "owner": "a"})),
            (0, vec![]),
            "a weaker one goes alone"
        );
        assert_eq!(
            judged_of(labels("a"), json!({"ringfence.dev/enforce": "absent"})),
            (1, vec![]),
            "and takes nothing along"
        );
    }
}
