//! Promise 1, the floor: the API server itself holds the pods of the namespace to the class's Pod Security Standard.
//!
//! It does so in process, while no replica is there as well, and by code that is not ours. Must never: take an unknown level for
//! a stricter one.

use serde_json::Value;

use super::facts::{Facts, read};
use super::modes::Setting;
use super::object::violation;
use crate::api::AIWorkflowClass;
use crate::plan::{NamespaceFacts, Problem, shape::pod_security_problem};
use crate::review::{Review, Violation};

const RULE: &str = "pod-security";

/// Checks the live namespace of a pod that is being made.
pub(super) fn check(
    namespace: &NamespaceFacts,
    (class_name, class): (&str, Option<&AIWorkflowClass>),
) -> Option<Violation> {
    let Problem {
        path,
        value,
        message,
        fix,
    } = pod_security_problem(&namespace.name, &namespace.labels, class_name, class)?;
    let value = value.unwrap_or_else(|| "(absent)".to_owned());
    let message = format!("namespace {}, {path} = {value}: {message}", namespace.name);
    Some(violation(
        RULE,
        "metadata.namespace",
        Some(&namespace.name),
        message,
        format!("ask who owns the namespace for: {fix}"),
    ))
}

/// Checks a namespace whose mode is set, or whose other labels change under one. Weighed by that mode, like what a policy says.
/// What it lacked before, it may go on lacking: its pods are refused, and nobody is locked out.
pub fn check_setting(review: &Review, setting: &Setting, facts: &Facts) -> Option<Violation> {
    let class = facts.class(&setting.class);
    let class = class.and_then(|class| read::<AIWorkflowClass>(RULE, "AIWorkflowClass", &setting.class, class).ok());
    let problem = |object: Option<&Value>| {
        let object = object?;
        let name = object
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let labels = object
            .pointer("/metadata/labels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        let labels = labels
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        pod_security_problem(name, &labels, &setting.class, class.as_ref())
    };
    if setting.stands && problem(review.old_object()).is_some() {
        return None;
    }
    let Problem {
        path,
        value,
        message,
        fix,
    } = problem(review.object())?;
    Some(violation(RULE, path, value.as_deref(), message, fix))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::{modes, testing::review};
    use super::*;
    use crate::api::{AIWorkflowClassSpec, PodSecurity};

    const LEVEL: &str = "pod-security.kubernetes.io/enforce";
    const VERSION: &str = "pod-security.kubernetes.io/enforce-version";

    fn judged(labels: Value, wanted: Option<PodSecurity>) -> Option<Violation> {
        let namespace = json!({"metadata": {"name": "ai", "labels": labels}});
        let spec = AIWorkflowClassSpec {
            pod_security: wanted,
            ..Default::default()
        };
        let class = AIWorkflowClass::new("c", spec);
        check(
            &NamespaceFacts::from_object(&namespace, |_| false).unwrap(),
            ("c", Some(&class)),
        )
    }

    #[rstest]
    #[case::restricted(json!({LEVEL: "restricted"}), true, true)]
    #[case::baseline(json!({LEVEL: "baseline"}), true, false)]
    #[case::privileged(json!({LEVEL: "privileged"}), false, false)]
    #[case::absent(json!({}), false, false)]
    #[case::only_a_warning(json!({"pod-security.kubernetes.io/warn": "restricted"}), false, false)]
    #[case::unknown(json!({LEVEL: "paranoid"}), false, false)]
    #[case::capitals(json!({LEVEL: "Restricted"}), false, false)]
    #[case::empty(json!({LEVEL: ""}), false, false)]
    #[case::wrong_type(json!({LEVEL: true}), false, false)]
    #[case::latest(json!({LEVEL: "restricted", VERSION: "latest"}), true, true)]
    #[case::recent(json!({LEVEL: "restricted", VERSION: "v1.25"}), true, true)]
    #[case::newer_than_us(json!({LEVEL: "restricted", VERSION: "v1.99"}), true, true)]
    #[case::old(json!({LEVEL: "restricted", VERSION: "v1.24"}), false, false)]
    #[case::old_with_more_digits(json!({LEVEL: "restricted", VERSION: "v1.9"}), false, false)]
    #[case::no_version(json!({LEVEL: "restricted", VERSION: ""}), false, false)]
    #[case::signed(json!({LEVEL: "restricted", VERSION: "v1.+30"}), false, false)]
    #[case::no_minor(json!({LEVEL: "restricted", VERSION: "v1."}), false, false)]
    #[case::endless(json!({LEVEL: "restricted", VERSION: "v1.99999999999"}), false, false)]
    fn the_api_server_enforces_at_least_the_classs_standard(
        #[case] labels: Value,
        #[case] baseline: bool,
        #[case] restricted: bool,
    ) {
        assert_eq!(judged(labels.clone(), Some(PodSecurity::Baseline)).is_none(), baseline);
        assert_eq!(
            judged(labels.clone(), Some(PodSecurity::Restricted)).is_none(),
            restricted
        );
        assert_eq!(
            judged(labels, None).is_none(),
            restricted,
            "a class that says nothing wants it strict"
        );
    }

    #[test]
    fn a_refusal_holds_the_command_that_ends_it() {
        let found = judged(json!({LEVEL: "privileged"}), None).unwrap();
        assert!(found.message.contains("enforce] = privileged"), "{}", found.message);
        let command = "kubectl label --overwrite namespace ai pod-security.kubernetes.io/enforce=restricted";
        assert!(found.fix.ends_with(command), "{}", found.fix);
        let pinned = judged(json!({LEVEL: "restricted", VERSION: "v1.20"}), None).unwrap();
        let command = "kubectl label namespace ai pod-security.kubernetes.io/enforce-version-";
        assert!(pinned.fix.ends_with(command), "{}", pinned.fix);
    }

    fn set(old: Option<Value>, new: Value) -> Vec<String> {
        let namespace = |labels| json!({"metadata": {"name": "ai", "labels": labels}});
        let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
        let review = review(
            operation,
            "",
            "Namespace",
            Some(&namespace(new)),
            old.map(namespace).as_ref(),
        );
        let mut facts = Facts::default();
        facts.classes.insert(
            "base".into(),
            Some(json!({"metadata": {"name": "base"}, "spec": {"podSecurity": "Baseline"}})),
        );
        facts.classes.insert(
            "broken".into(),
            Some(json!({"metadata": {"name": "broken"}, "spec": {"podSecurity": "None"}})),
        );
        let found = modes::settings(&review)
            .into_iter()
            .filter_map(|setting| check_setting(&review, &setting, &facts));
        found.map(|violation| violation.path).collect()
    }

    #[rstest]
    #[case::baseline_is_enough(json!({"ringfence.dev/enforce": "base", LEVEL: "baseline"}), 0)]
    #[case::nothing_is_not(json!({"ringfence.dev/enforce": "base"}), 1)]
    #[case::in_each_mode(json!({"ringfence.dev/enforce": "base", "ringfence.dev/warn": "base"}), 2)]
    #[case::an_unreadable_class_wants_it_strict(json!({"ringfence.dev/enforce": "broken", LEVEL: "baseline"}), 1)]
    #[case::no_mode(json!({LEVEL: "privileged"}), 0)]
    fn a_mode_that_is_set_asks_for_it(#[case] labels: Value, #[case] refused: usize) {
        assert_eq!(set(None, labels.clone()).len(), refused, "on CREATE");
        assert_eq!(set(Some(json!({})), labels).len(), refused, "on UPDATE");
    }

    #[test]
    fn under_a_mode_it_is_not_taken_away_and_what_lacked_it_is_not_locked() {
        let labels = |level: &str| json!({"ringfence.dev/enforce": "base", LEVEL: level});
        assert_eq!(set(Some(labels("restricted")), labels("baseline")), [""; 0]);
        assert_eq!(
            set(Some(labels("baseline")), labels("privileged")),
            [format!("metadata.labels[{LEVEL}]")]
        );
        assert_eq!(
            set(Some(labels("baseline")), json!({"ringfence.dev/enforce": "base"})).len(),
            1
        );
        assert_eq!(
            set(
                Some(labels("privileged")),
                json!({"ringfence.dev/enforce": "base", "team": "x"})
            ),
            [""; 0]
        );
        let pinned = json!({"ringfence.dev/enforce": "base", LEVEL: "baseline", VERSION: "v1.0"});
        assert_eq!(
            set(Some(labels("baseline")), pinned),
            [format!("metadata.labels[{VERSION}]")]
        );
    }
}
