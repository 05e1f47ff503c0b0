//! No time of what runs, or of what makes it, is one that the API server takes and cannot read again: each PATCH of such an object fails before
//! anybody is asked, so that a controller which would take it up, or let it go, does nothing else any more.
//!
//! Those of the record of who wrote which field are a guard's (`ringfence-field-managers`). Must never: take what people write for a time.

use serde_json::Value;

use super::facts::Subject;
use super::object::violation;
use crate::review::Violation;

const RULE: &str = "readable-times";
/// Maps whose keys are anybody's.
const FREE: [&str; 4] = ["annotations", "labels", "matchLabels", "nodeSelector"];

/// Checks what was not so before.
pub(super) fn check(subject: &Subject<'_>) -> Option<Violation> {
    let of = |object: &Value| object.get("spec").and_then(unreadable);
    let path = of(subject.object)?;
    if subject.review.old_object().is_some_and(|old| of(old).is_some()) {
        return None;
    }
    let message = "the API server takes this time and cannot read it again: no controller, and nobody else, could PATCH the object";
    let fix = "leave it out: the API server writes the times of objects; or name one between the years 0 and 9998";
    Some(violation(RULE, format!("spec{path}"), None, message, fix))
}

/// Where below the first time is that cannot be read again. Nothing is written down of what is passed: every pod comes by here.
fn unreadable(value: &Value) -> Option<String> {
    match value {
        Value::Object(fields) => {
            let mut fields = fields.iter().filter(|(key, _)| !FREE.contains(&key.as_str()));
            fields.find_map(|(key, value)| {
                let is_time = key == "time" || key.ends_with("Time") || key.ends_with("Timestamp");
                match value.as_str() {
                    Some(text) if is_time && is_beyond(text) => Some(format!(".{key}")),
                    _ => unreadable(value).map(|below| format!(".{key}{below}")),
                }
            })
        }
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| unreadable(item).map(|below| format!("[{index}]{below}")))
        }
        _ => None,
    }
}

/// Whether a text is a time of no year of four digits, or of the last one, which an offset makes one of five.
fn is_beyond(text: &str) -> bool {
    let Some((date, _)) = text.split_once('T').filter(|(_, time)| time.contains(':')) else {
        return false;
    };
    let has_year = date.as_bytes().get(4) == Some(&b'-') && date.bytes().take(4).all(|byte| byte.is_ascii_digit());
    !has_year || date.starts_with("9999")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::testing::{review, set};
    use super::*;

    #[rstest]
    #[case::last_year(json!("9999-12-31T23:59:59-01:00"), true)]
    #[case::as_it_is_stored(json!("10000-01-01T00:59:59Z"), true)]
    #[case::before_the_first(json!("-001-12-31T23:00:00Z"), true)]
    #[case::another(json!("2026-11-29T12:00:00Z"), false)]
    #[case::none(Value::Null, false)]
    #[case::no_time(json!("tomorrow"), false)]
    fn a_time_that_cannot_be_read_again_is_found(
        #[case] time: Value,
        #[case] found: bool,
        #[values(
            "/spec/template/metadata/creationTimestamp",
            "/spec/template/metadata/managedFields/0/time",
            "/spec/template/spec/volumes/0/ephemeral/volumeClaimTemplate/metadata/deletionTimestamp",
            "/spec/volumeClaimTemplates/0/status/conditions/0/lastProbeTime"
        )]
        at: &str,
    ) {
        let set_of = json!({
            "metadata": {"labels": {"ringfence.dev/workflow": "triage"}},
            "spec": {
                "replicas": 1, "volumeClaimTemplates": [{"status": {"conditions": [{}]}}],
                "template": {
                    "metadata": {"managedFields": [{}], "annotations": {"deathTime": "9999-12-31T23:59:59-01:00"}},
                    "spec": {"volumes": [{"ephemeral": {"volumeClaimTemplate": {"metadata": {}}}}]},
                },
            },
        });
        let late = set(set_of.clone(), at, time);
        let said = |old: Option<&Value>, new: &Value| {
            let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
            let review = review(operation, "apps", "StatefulSet", Some(new), old);
            let subject = Subject::of(&review).unwrap();
            subject
                .and_then(|subject| check(&subject))
                .map(|violation| violation.path)
        };
        let path = said(None, &late);
        assert_eq!(path.is_some(), found, "{path:?}");
        let other = set(late.clone(), "/spec/template/spec/nodeName", json!("n"));
        assert_eq!(said(Some(&set_of), &other), path);
        assert_eq!(said(Some(&late), &other), None, "as it was");
    }
}
