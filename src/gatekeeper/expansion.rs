//! Gatekeeper's ExpansionTemplates: of which workloads the pods that would come are judged, and what a violation of theirs does.
//!
//! Must never: take one for another that Ringfence does not expand.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::actions::Actions;
use super::module::Workload;
use crate::api::ValidationAction;

/// Where the pod template is, by the workloads that Ringfence expands.
const SOURCES: [(&str, &str, &str); 7] = [
    ("", "ReplicationController", "spec.template"),
    ("apps", "DaemonSet", "spec.template"),
    ("apps", "Deployment", "spec.template"),
    ("apps", "ReplicaSet", "spec.template"),
    ("apps", "StatefulSet", "spec.template"),
    ("batch", "CronJob", "spec.jobTemplate.spec.template"),
    ("batch", "Job", "spec.template"),
];

/// The workloads whose pods are judged, by the action that the template puts in the place of the constraint's.
pub(super) type Expansions = BTreeMap<Option<ValidationAction>, BTreeSet<Workload>>;

/// Adds what one says.
pub(super) fn read(object: &Value, expansions: &mut Expansions) -> Result<(), Vec<String>> {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let text = |pointer: &str| spec.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let generated = ["/generatedGVK/group", "/generatedGVK/version", "/generatedGVK/kind"].map(text);
    if generated != ["", "v1", "Pod"] {
        return Err(vec![
            "spec.generatedGVK: only pods of workloads are judged before they are made".to_owned(),
        ]);
    }
    let action = match text("/enforcementAction") {
        "" => None,
        word => Some(
            Actions::of_word(word)
                .ok_or_else(|| vec!["spec.enforcementAction: must be one of deny, warn, dryrun".to_owned()])?,
        ),
    };
    let source = text("/templateSource");
    let entries = spec.get("applyTo").and_then(Value::as_array);
    let mut problems = Vec::new();
    let mut found = BTreeSet::new();
    for (index, entry) in entries.into_iter().flatten().enumerate() {
        let texts = |name: &str| -> Vec<&str> {
            let list = entry.get(name).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).collect()
        };
        for group in texts("groups") {
            for kind in texts("kinds") {
                let is_expanded = SOURCES.contains(&(group, kind, source)) && texts("versions").contains(&"v1");
                if is_expanded {
                    found.insert((group.to_owned(), kind.to_owned()));
                } else {
                    problems.push(format!(
                        "spec.applyTo[{index}]: {kind} with templateSource {source:?} is not expanded here"
                    ));
                }
            }
        }
    }
    if found.is_empty() && problems.is_empty() {
        problems.push("spec.applyTo: names no workload".to_owned());
    }
    expansions.entry(action).or_default().extend(found);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn template(kind: &str, source: &str, action: &str) -> Value {
        json!({"spec": {
            "applyTo": [{"groups": ["apps"], "versions": ["v1"], "kinds": [kind]}], "templateSource": source,
            "generatedGVK": {"group": "", "version": "v1", "kind": "Pod"}, "enforcementAction": action,
        }})
    }

    #[test]
    fn workloads_are_kept_by_action() {
        let mut expansions = Expansions::new();
        read(&template("Deployment", "spec.template", ""), &mut expansions).expect("known");
        read(&template("DaemonSet", "spec.template", "warn"), &mut expansions).expect("known");
        let of = |kind: &str| BTreeSet::from([("apps".to_owned(), kind.to_owned())]);
        assert_eq!(
            expansions,
            [
                (None, of("Deployment")),
                (Some(ValidationAction::Warn), of("DaemonSet"))
            ]
            .into()
        );
    }

    #[rstest]
    #[case(template("Rollout", "spec.template", ""), "Rollout with templateSource")]
    #[case(template("Deployment", "spec", ""), "Deployment with templateSource \"spec\"")]
    #[case(template("Deployment", "spec.template", "Deny"), "spec.enforcementAction")]
    #[case(json!({"spec": {"generatedGVK": {"group": "batch", "version": "v1", "kind": "Job"}}}), "spec.generatedGVK")]
    #[case(json!({"spec": {"generatedGVK": {"version": "v1", "kind": "Pod"}}}), "spec.applyTo")]
    fn others_are_problems(#[case] object: Value, #[case] words: &str) {
        let problems = read(&object, &mut Expansions::new()).expect_err("a problem").join("; ");
        assert!(problems.contains(words), "{problems}");
    }
}
