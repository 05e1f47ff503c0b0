//! What the entry points gave, as findings: ordered, without doubles, bounded, clean.
//!
//! Must never take a result of a wrong shape for "nothing found": that is an error, and the caller refuses.

use std::cmp::Ordering;

use regorus::Value;

use super::error::EvalError;
use super::vet::{EntryPoint, Shape};
use crate::review::Violation;

/// Most findings of one policy in one review. A person reads a few; the answer to the API server is bounded anyway.
pub const MAX_FINDINGS: usize = 64;
/// Longest message, path, value and fix, in characters.
const MAX_MESSAGE: usize = 1024;
const MAX_PATH: usize = 256;
const MAX_VALUE: usize = 256;

/// What a policy found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Findings {
    /// Each refuses.
    pub deny: Vec<Violation>,
    /// Each warns.
    pub warn: Vec<Violation>,
    /// How many more there were.
    pub omitted: usize,
}

/// What the words of a finding default to.
pub(super) struct Defaults<'a> {
    pub policy: &'a str,
    pub title: &'a str,
    pub fix: &'a str,
    pub path: &'a str,
}

impl Findings {
    /// Adds the value of one entry point. A complete rule may be undefined, a boolean, one finding, or a collection of them.
    pub(super) fn add(
        &mut self,
        entry: EntryPoint,
        shape: Shape,
        value: &Value,
        defaults: &Defaults<'_>,
    ) -> Result<(), EvalError> {
        let elements = match (entry, value) {
            (EntryPoint::Allow, Value::Bool(true)) => return Ok(()),
            (EntryPoint::Allow, _) => {
                let message = format!("{}: `allow` is not true", defaults.title);
                vec![violation(defaults, message, None, None, None)]
            }
            (_, Value::Set(elements)) => read_all(entry, elements.iter(), defaults)?,
            (_, _) if shape == Shape::Partial => return Err(wrong(entry, "is not a set")),
            (_, Value::Undefined | Value::Bool(false)) => return Ok(()),
            (_, Value::Bool(true)) => vec![violation(defaults, defaults.title.to_owned(), None, None, None)],
            (_, Value::String(_) | Value::Object(_)) => vec![read(entry, value, defaults)?],
            (_, Value::Array(elements)) => read_all(entry, elements.iter(), defaults)?,
            (_, _) => return Err(wrong(entry, "is neither a finding nor a collection of them")),
        };
        match entry {
            EntryPoint::Warn => self.warn.extend(elements),
            EntryPoint::Allow | EntryPoint::Deny | EntryPoint::Violation => self.deny.extend(elements),
        }
        Ok(())
    }

    /// Orders, removes doubles and bounds; refusals come before warnings where not all fit.
    pub(super) fn finish(mut self) -> Self {
        for list in [&mut self.deny, &mut self.warn] {
            list.sort_by(|a, b| {
                natural(&a.path, &b.path)
                    .then_with(|| a.message.cmp(&b.message))
                    .then_with(|| a.fix.cmp(&b.fix))
            });
            list.dedup();
        }
        let all = self.deny.len() + self.warn.len();
        self.deny.truncate(MAX_FINDINGS);
        self.warn.truncate(MAX_FINDINGS - self.deny.len());
        self.omitted = all - self.deny.len() - self.warn.len();
        self
    }
}

fn read_all<'a>(
    entry: EntryPoint,
    elements: impl Iterator<Item = &'a Value>,
    defaults: &Defaults<'_>,
) -> Result<Vec<Violation>, EvalError> {
    elements.map(|element| read(entry, element, defaults)).collect()
}

fn read(entry: EntryPoint, element: &Value, defaults: &Defaults<'_>) -> Result<Violation, EvalError> {
    if let Value::String(message) = element {
        if entry == EntryPoint::Violation {
            return Err(wrong(entry, "has an element that is no object with `msg`"));
        }
        return Ok(violation(defaults, message.to_string(), None, None, None));
    }
    if !matches!(element, Value::Object(_)) {
        return Err(wrong(
            entry,
            "has an element that is neither a string nor an object with `msg`",
        ));
    }
    let text = |field: &str| match &element[field] {
        Value::Undefined | Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.to_string())),
        Value::Bool(bool) => Ok(Some(bool.to_string())),
        number @ Value::Number(_) => Ok(number.to_json_str().ok()),
        _ => Err(wrong(entry, &format!("has an element whose `{field}` is not text"))),
    };
    let Some(message) = text("msg")?.filter(|message| !message.trim().is_empty()) else {
        return Err(wrong(entry, "has an element without `msg`"));
    };
    Ok(violation(
        defaults,
        message,
        text("path")?,
        text("value")?,
        text("fix")?,
    ))
}

fn violation(
    defaults: &Defaults<'_>,
    message: String,
    path: Option<String>,
    value: Option<String>,
    fix: Option<String>,
) -> Violation {
    Violation {
        policy: defaults.policy.to_owned(),
        path: clean(path.as_deref().unwrap_or(defaults.path), MAX_PATH),
        value: value.map(|value| clean(&shown(path.as_deref().unwrap_or(defaults.path), value), MAX_VALUE)),
        message: clean(&message, MAX_MESSAGE),
        fix: clean(fix.as_deref().unwrap_or(defaults.fix), MAX_MESSAGE),
    }
}

/// A value as it may be seen: an answer ends in terminals, Events and logs of others. Where values of that field are what people put
/// keys into, only its length is told, whatever the policy thinks of it.
fn shown(path: &str, value: String) -> String {
    const HIDDEN: &str = "(hidden, ";
    let field = path.rsplit('.').next().unwrap_or_default();
    let is_listed = |list: &str| field == list || field.strip_prefix(list).is_some_and(|rest| rest.starts_with('['));
    let holds_keys = (field == "value" && path.contains("env["))
        || is_listed("args")
        || is_listed("command")
        || path.split(['.', '[']).any(|part| part == "stringData");
    if holds_keys && !value.starts_with(HIDDEN) {
        format!("{HIDDEN}{} characters)", value.chars().count())
    } else {
        value
    }
}

fn wrong(entry: EntryPoint, what: &str) -> EvalError {
    EvalError::Shape(format!("`{}` {what}", entry.as_str()))
}

/// One line of at most `max` characters. Names in a pod come from its author, who must not be able to move the reader's cursor,
/// turn the direction of the text, or fake a further line of an answer.
fn clean(text: &str, max: usize) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut clean: String = text
        .chars()
        .take(max)
        .map(|c| if hidden(c) { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(max).is_some() {
        clean.push('…');
    }
    clean
}

/// `containers[2]` comes before `containers[10]`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (head_a, number_a, rest_a) = split(a);
        let (head_b, number_b, rest_b) = split(b);
        let order = head_a
            .cmp(head_b)
            .then_with(|| number_a.len().cmp(&number_b.len()))
            .then_with(|| number_a.cmp(number_b));
        if order != Ordering::Equal || rest_a.is_empty() || rest_b.is_empty() {
            return order.then_with(|| rest_a.cmp(rest_b));
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// Text before the first number, the number without leading zeros, the rest.
fn split(text: &str) -> (&str, &str, &str) {
    let start = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
    let (head, tail) = text.split_at(start);
    let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
    let (number, rest) = tail.split_at(end);
    (head, number.trim_start_matches('0'), rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const DEFAULTS: Defaults<'_> = Defaults {
        policy: "p",
        title: "Title",
        fix: "do it",
        path: "",
    };

    fn add(entry: EntryPoint, json: &str, as_set: bool) -> Result<Findings, EvalError> {
        let value = Value::from_json_str(json).expect("json");
        let value = if as_set {
            Value::from(
                value
                    .as_array()
                    .expect("array")
                    .iter()
                    .cloned()
                    .collect::<std::collections::BTreeSet<_>>(),
            )
        } else {
            value
        };
        let mut findings = Findings::default();
        findings
            .add(entry, Shape::Partial, &value, &DEFAULTS)
            .map(|()| findings.finish())
    }

    #[rstest]
    #[case("spec.containers[0].env[3].value", "sk-secret", "(hidden, 9 characters)")]
    #[case("spec.containers[0].args[1]", "--key=x", "(hidden, 7 characters)")]
    #[case("spec.containers[0].command", "x", "(hidden, 1 characters)")]
    #[case("stringData.password", "hunter2", "(hidden, 7 characters)")]
    #[case("stringData[\"a.b\"]", "hunter2", "(hidden, 7 characters)")]
    #[case(
        "spec.containers[0].env[3].value",
        "(hidden, 25 characters)",
        "(hidden, 25 characters)"
    )]
    #[case("spec.containers[0].image", "evil/x", "evil/x")]
    #[case("spec.value", "1", "1")]
    fn a_value_that_may_be_a_key_is_not_shown(#[case] path: &str, #[case] value: &str, #[case] expected: &str) {
        let json = serde_json::json!([{"msg": "m", "path": path, "value": value}]).to_string();
        let findings = add(EntryPoint::Deny, &json, true).expect("findings");
        assert_eq!(findings.deny[0].value.as_deref(), Some(expected));
    }

    #[test]
    fn strings_and_objects_become_findings() {
        let json = r#"["text", {"msg": "object", "path": "spec.x", "value": 3, "fix": "change x"}]"#;
        let findings = add(EntryPoint::Deny, json, true).expect("findings");
        let [text, object] = findings.deny.as_slice() else {
            panic!("two expected: {findings:?}")
        };
        assert_eq!(
            (text.message.as_str(), text.fix.as_str(), text.path.as_str()),
            ("text", "do it", "")
        );
        assert_eq!(
            (object.path.as_str(), object.value.as_deref(), object.fix.as_str()),
            ("spec.x", Some("3"), "change x")
        );
        assert_eq!(
            add(EntryPoint::Warn, r#"["text"]"#, true).expect("findings").warn.len(),
            1
        );
        assert_eq!(
            add(EntryPoint::Violation, r#"[{"msg": "m", "details": {"a": 1}}]"#, true)
                .expect("findings")
                .deny
                .len(),
            1
        );
    }

    #[rstest]
    #[case::boolean(EntryPoint::Deny, "true", false)]
    #[case::array(EntryPoint::Deny, "[\"x\"]", false)]
    #[case::object(EntryPoint::Deny, "{}", false)]
    #[case::number_inside(EntryPoint::Deny, "[1]", true)]
    #[case::no_message(EntryPoint::Deny, r#"[{"path": "x"}]"#, true)]
    #[case::empty_message(EntryPoint::Warn, r#"[{"msg": " "}]"#, true)]
    #[case::message_is_a_list(EntryPoint::Warn, r#"[{"msg": ["x"]}]"#, true)]
    #[case::violation_is_a_string(EntryPoint::Violation, r#"["x"]"#, true)]
    fn a_wrong_shape_is_an_error(#[case] entry: EntryPoint, #[case] json: &str, #[case] as_set: bool) {
        assert!(matches!(add(entry, json, as_set), Err(EvalError::Shape(_))));
    }

    #[test]
    fn undefined_refuses_or_is_an_error() {
        let mut findings = Findings::default();
        assert!(
            findings
                .add(EntryPoint::Deny, Shape::Partial, &Value::Undefined, &DEFAULTS)
                .is_err()
        );
        findings
            .add(EntryPoint::Allow, Shape::Complete, &Value::Undefined, &DEFAULTS)
            .expect("a finding");
        assert_eq!(findings.deny.len(), 1);
    }

    #[rstest]
    #[case::nothing("false", Ok(0))]
    #[case::the_title("true", Ok(1))]
    #[case::text("\"x\"", Ok(1))]
    #[case::object(r#"{"msg": "x"}"#, Ok(1))]
    #[case::list(r#"["x", {"msg": "y"}]"#, Ok(2))]
    #[case::number("1", Err(()))]
    #[case::null("null", Err(()))]
    #[case::object_without_message("{}", Err(()))]
    fn a_complete_rule_gives_one_finding_or_several(#[case] json: &str, #[case] found: Result<usize, ()>) {
        let mut findings = Findings::default();
        let value = Value::from_json_str(json).expect("json");
        let added = findings.add(EntryPoint::Deny, Shape::Complete, &value, &DEFAULTS);
        assert_eq!(added.map(|()| findings.deny.len()).map_err(drop), found);
        let undefined = Findings::default().add(EntryPoint::Warn, Shape::Complete, &Value::Undefined, &DEFAULTS);
        assert_eq!(undefined, Ok(()));
    }

    #[rstest]
    #[case("true", 0)]
    #[case("false", 1)]
    #[case("\"true\"", 1)]
    #[case("1", 1)]
    fn only_true_allows(#[case] json: &str, #[case] denials: usize) {
        assert_eq!(
            add(EntryPoint::Allow, json, false).expect("findings").deny.len(),
            denials
        );
    }

    #[test]
    fn findings_are_ordered_as_people_count_and_bounded() {
        let json: Vec<_> = (0..200)
            .map(|i| serde_json::json!({"msg": "m", "path": format!("c[{i}]")}))
            .collect();
        let findings = add(EntryPoint::Deny, &serde_json::json!(json).to_string(), true).expect("findings");
        assert_eq!(
            (findings.deny.len(), findings.omitted),
            (MAX_FINDINGS, 200 - MAX_FINDINGS)
        );
        let paths: Vec<_> = findings.deny.iter().map(|finding| finding.path.clone()).collect();
        assert_eq!(paths, (0..MAX_FINDINGS).map(|i| format!("c[{i}]")).collect::<Vec<_>>());
    }

    #[test]
    fn a_name_in_a_pod_cannot_write_a_line_of_the_answer() {
        assert_eq!(
            clean("a\n2. [fake]\u{202e}\u{1b}[2J", 100),
            "a\u{fffd}2. [fake]\u{fffd}\u{fffd}[2J"
        );
        assert_eq!(clean(&"ü".repeat(20), 10), format!("{}…", "ü".repeat(10)));
    }
}
