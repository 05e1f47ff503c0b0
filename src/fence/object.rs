//! Reads of raw JSON that every rule shares.
//!
//! Raw, because a typed struct drops the fields that are newer than it, and an attacker would pick just those. Must never:
//! take a value of the wrong type for an absent one where absent is the laxer answer.

use serde_json::Value;

use crate::api::WORKFLOW_LABEL;
use crate::review::{Violation, misleads};

/// Where a violation names the label.
pub(super) const LABEL_PATH: &str = "metadata.labels[ringfence.dev/workflow]";

/// Longest value that a message repeats.
const MAX_SHOWN: usize = 160;

/// The label that says whose an object is. A label that is no text counts as there, and is no workflow's name.
pub(super) fn workflow_label(object: &Value) -> Option<&str> {
    let labels = object.get("metadata")?.get("labels")?;
    labels
        .get(WORKFLOW_LABEL)
        .map(|label| label.as_str().unwrap_or_default())
}

/// The owner that controls an object. At most one can: the API server refuses two.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct OwnerRef {
    /// Group and version, such as `batch/v1`.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// UID that the owner must have.
    pub uid: String,
}

impl OwnerRef {
    /// Group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

/// The controller among an object's owners.
pub fn controller(object: &Value) -> Option<OwnerRef> {
    let owners = object.get("metadata")?.get("ownerReferences")?.as_array()?;
    let owner = owners
        .iter()
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)))?;
    let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(OwnerRef {
        api_version: text("apiVersion"),
        kind: text("kind"),
        name: text("name"),
        uid: text("uid"),
    })
}

/// UID of a stored object; `None` where it has none, so that two empty ones never count as equal.
pub(super) fn uid(object: &Value) -> Option<&str> {
    object
        .get("metadata")?
        .get("uid")?
        .as_str()
        .filter(|uid| !uid.is_empty())
}

/// Whether it is on its way out.
pub(super) fn being_deleted(object: &Value) -> bool {
    object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|at| !at.is_null())
}

/// A value as a message may repeat it: one line, and short.
pub(super) fn shown(value: &str) -> String {
    let mut line: String = value
        .chars()
        .take(MAX_SHOWN)
        .map(|c| if misleads(c) { '\u{fffd}' } else { c })
        .collect();
    if value.chars().nth(MAX_SHOWN).is_some() {
        line.push('…');
    }
    line
}

/// Joins the path of a template and a path inside its pod.
pub(super) fn at(template: &str, path: &str) -> String {
    if template.is_empty() {
        path.to_owned()
    } else {
        format!("{template}.{path}")
    }
}

/// The value by its JSON type, for a message about a wrong one: never the value itself.
pub(super) fn type_of(value: Option<&Value>) -> &'static str {
    match value {
        None | Some(Value::Null) => "nothing",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a string",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
    }
}

/// Most violations that one judgement lists; a person corrects these first.
pub(super) const MAX_VIOLATIONS: usize = 128;

/// Whether no more is listed. Whoever goes through a list that somebody wrote ends there: one object holds a hundred thousand mistakes, and each
/// violation spells out what is allowed.
pub(super) const fn is_full(violations: &[Violation]) -> bool {
    violations.len() >= MAX_VIOLATIONS
}

/// Builds a violation of a fence rule.
pub(super) fn violation(
    policy: &str,
    path: impl Into<String>,
    value: Option<&str>,
    message: impl Into<String>,
    fix: impl Into<String>,
) -> Violation {
    Violation {
        policy: policy.to_owned(),
        path: path.into(),
        value: value.map(shown),
        message: message.into(),
        fix: fix.into(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_repeated_value_is_one_line() {
        assert_eq!(shown("a\nFix: none"), "a\u{fffd}Fix: none");
    }

    #[test]
    fn a_repeated_value_is_short() {
        assert_eq!(shown(&"é".repeat(10_000)).chars().count(), MAX_SHOWN + 1);
    }

    #[rstest]
    #[case::absent(json!({}), None)]
    #[case::there(json!({"metadata": {"labels": {"ringfence.dev/workflow": "a"}}}), Some("a"))]
    #[case::wrong_type(json!({"metadata": {"labels": {"ringfence.dev/workflow": 1}}}), Some(""))]
    #[case::labels_are_null(json!({"metadata": {"labels": null}}), None)]
    fn the_label_is_read(#[case] object: Value, #[case] expected: Option<&str>) {
        assert_eq!(workflow_label(&object), expected);
    }
}
