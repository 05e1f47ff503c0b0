//! Label selectors: whether the API server would take one, and what it selects.

use serde_json::Value;

use super::Problem;
use crate::api::{LabelSelector, Requirement, SelectorOperator, is_dns_subdomain};

/// Longest name part of a key, and longest value.
const MAX_NAME: usize = 63;

/// What is wrong with a selector at that path.
pub fn problems(path: &str, selector: &LabelSelector) -> Vec<Problem> {
    let mut problems = Vec::new();
    invalid(path, selector, &mut problems);
    problems
}

/// What is wrong with a selector that is to name pods.
pub(super) fn naming_pods(path: &str, selector: &LabelSelector) -> Vec<Problem> {
    let mut problems = Vec::new();
    let has = |term: &Requirement| matches!(term.operator, SelectorOperator::In | SelectorOperator::Exists);
    if selector.match_labels.is_empty() && selector.match_expressions.is_empty() {
        let message = "is empty, and empty never means all";
        problems.push(Problem::new(path, Some("{}"), message, "name labels"));
    } else if selector.match_labels.is_empty() && !selector.match_expressions.iter().any(has) {
        problems.push(Problem::new(
            path,
            None,
            "says only which labels the pods must not have, so it names every other pod, and those to come: it opens nothing, where \
             earlier versions took it",
            "name a label that the pods have, by matchLabels, In or Exists",
        ));
    }
    invalid(path, selector, &mut problems);
    problems
}

/// What is wrong with a selector. That an empty one is refused is another rule's.
pub(super) fn invalid(path: &str, selector: &LabelSelector, problems: &mut Vec<Problem>) {
    let mut refuse = |path: String, value: &str, message: &str, fix: &str| {
        problems.push(Problem::new(path, Some(value), message, fix));
    };
    const KEY: (&str, &str) = (
        "is no label key",
        "write it like app or example.com/app, letters, digits, '-', '_' and '.'",
    );
    const VALUE: (&str, &str) = (
        "is no label value",
        "use at most 63 letters, digits, '-', '_' and '.', a letter or digit first and last",
    );
    for (key, value) in &selector.match_labels {
        if !is_key(key) {
            refuse(format!("{path}.matchLabels"), key, KEY.0, KEY.1);
        }
        if !is_value(value) {
            refuse(format!("{path}.matchLabels"), value, VALUE.0, VALUE.1);
        }
    }
    for (index, requirement) in selector.match_expressions.iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        if !is_key(&requirement.key) {
            refuse(format!("{path}.key"), &requirement.key, KEY.0, KEY.1);
        }
        for value in requirement.values.iter().filter(|value| !is_value(value)) {
            refuse(format!("{path}.values"), value, VALUE.0, VALUE.1);
        }
        let takes_values = match requirement.operator {
            SelectorOperator::In | SelectorOperator::NotIn => true,
            SelectorOperator::Exists | SelectorOperator::DoesNotExist => false,
        };
        if takes_values == requirement.values.is_empty() {
            let fix = "give In and NotIn values, and Exists and DoesNotExist none";
            refuse(format!("{path}.values"), "", "does not go with the operator", fix);
        }
    }
}

/// Whether a selector selects an object by its labels, as the API server would. One that is empty or cannot be read selects
/// nothing.
pub fn selects(selector: &LabelSelector, labels: Option<&Value>) -> bool {
    let mut problems = Vec::new();
    invalid("", selector, &mut problems);
    if !problems.is_empty() || (selector.match_labels.is_empty() && selector.match_expressions.is_empty()) {
        return false;
    }
    let label = |key: &str| {
        labels
            .and_then(|labels| labels.get(key))
            .map(|value| value.as_str().unwrap_or_default())
    };
    let has = |key: &str, values: &[String]| label(key).is_some_and(|label| values.iter().any(|value| value == label));
    selector
        .match_labels
        .iter()
        .all(|(key, value)| label(key) == Some(value))
        && selector.match_expressions.iter().all(|requirement| {
            let Requirement { key, operator, values } = requirement;
            match operator {
                SelectorOperator::DoesNotExist => label(key).is_none(),
                SelectorOperator::Exists => label(key).is_some(),
                SelectorOperator::In => has(key, values),
                SelectorOperator::NotIn => !has(key, values),
            }
        })
}

fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_name(key),
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_name(name),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && is_value(name)
}

fn is_value(value: &str) -> bool {
    let outer = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    value.len() <= MAX_NAME
        && outer(value.bytes().next())
        && outer(value.bytes().last())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::label(json!({"matchLabels": {"app": "x"}}), true)]
    #[case::other_value(json!({"matchLabels": {"app": "y"}}), false)]
    #[case::absent(json!({"matchLabels": {"tier": "x"}}), false)]
    #[case::is_in(json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["y", "x"]}]}), true)]
    #[case::is_not_in(json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}]}), false)]
    #[case::absent_is_not_in(json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]}), true)]
    #[case::absent_is_in_nothing(json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["", "x"]}]}), false)]
    #[case::exists(json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}), true)]
    #[case::exists_not(json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}), false)]
    #[case::absent_exists_not(json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}), true)]
    #[case::all_must_hold(json!({"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]}), false)]
    #[case::empty(json!({}), false)]
    #[case::of_everything(json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": []}]}), false)]
    #[case::exists_with_values(json!({"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["y"]}]}), false)]
    #[case::no_key(json!({"matchExpressions": [{"key": "", "operator": "DoesNotExist"}]}), false)]
    fn selects_what_the_api_server_would(#[case] selector: Value, #[case] expected: bool) {
        let selector: LabelSelector = serde_json::from_value(selector).unwrap();
        assert_eq!(selects(&selector, Some(&json!({"app": "x", "n": 1}))), expected);
    }

    #[test]
    fn what_has_no_labels_has_none_of_them() {
        let selector: LabelSelector = serde_json::from_value(json!({"matchLabels": {"app": ""}})).unwrap();
        assert!(!selects(&selector, None));
        let not: LabelSelector =
            serde_json::from_value(json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]})).unwrap();
        assert!(selects(&not, None) && !selects(&not, Some(&json!({"app": 1}))));
    }
}
