//! Label selectors: whether the API server would take one.

use super::Problem;
use crate::api::{LabelSelector, SelectorOperator};

/// Longest name part of a key, and longest value.
const MAX_NAME: usize = 63;
/// Longest prefix of a key.
const MAX_PREFIX: usize = 253;

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

fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_name(key),
        Some((prefix, name)) => {
            prefix.len() <= MAX_PREFIX && prefix.split('.').all(crate::api::is_dns_label) && is_name(name)
        }
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
