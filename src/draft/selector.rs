//! Label selectors of Kubernetes, on raw JSON.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{labels, list, text, texts};
use crate::api::{LabelSelector, Requirement, SelectorOperator};

/// Whether a selector selects an object with these labels. An empty one selects everything; so does nobody's `None`.
pub(super) fn selects(selector: &Value, wanted: &BTreeMap<String, String>) -> bool {
    let equal = labels(selector, "/matchLabels")
        .iter()
        .all(|(key, value)| wanted.get(key) == Some(value));
    equal
        && list(selector, "/matchExpressions").all(|requirement| {
            let value = wanted.get(text(requirement, "/key")).map(String::as_str);
            let is_listed = || value.is_some_and(|value| texts(requirement, "/values").any(|listed| listed == value));
            match text(requirement, "/operator") {
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                "In" => is_listed(),
                "NotIn" => !is_listed(),
                _ => false,
            }
        })
}

/// Whether a selector has no requirement.
pub(super) fn is_empty(selector: &Value) -> bool {
    labels(selector, "/matchLabels").is_empty() && list(selector, "/matchExpressions").next().is_none()
}

/// The selector in our own words; `None` where it says something that we have no word for.
pub(super) fn ours(selector: &Value) -> Option<LabelSelector> {
    let expressions = list(selector, "/matchExpressions").map(|requirement| {
        let operator = match text(requirement, "/operator") {
            "Exists" => SelectorOperator::Exists,
            "DoesNotExist" => SelectorOperator::DoesNotExist,
            "In" => SelectorOperator::In,
            "NotIn" => SelectorOperator::NotIn,
            _ => return None,
        };
        Some(Requirement {
            key: text(requirement, "/key").to_owned(),
            operator,
            values: texts(requirement, "/values").map(str::to_owned).collect(),
        })
    });
    Some(LabelSelector {
        match_labels: labels(selector, "/matchLabels"),
        match_expressions: expressions.collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::empty(json!({}), true)]
    #[case::label(json!({"matchLabels": {"app": "api"}}), true)]
    #[case::other_label(json!({"matchLabels": {"app": "web"}}), false)]
    #[case::exists(json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}), true)]
    #[case::is_absent(json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}), true)]
    #[case::one_of(json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]}), true)]
    #[case::none_of(json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["api"]}]}), false)]
    #[case::none_of_what_is_absent(json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["api"]}]}), true)]
    #[case::both(json!({"matchLabels": {"app": "api"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]}), false)]
    #[case::word_of_tomorrow(json!({"matchExpressions": [{"key": "app", "operator": "Like", "values": ["a*"]}]}), false)]
    fn selectors_select(#[case] selector: Value, #[case] expected: bool) {
        let wanted = [("app".to_owned(), "api".to_owned())].into();
        assert_eq!(selects(&selector, &wanted), expected);
    }
}
