//! What a constraint's `match` says, as it is written.
//!
//! Must never: drop a field that it does not know, or take one that it cannot read for one that is not there: each narrows.

use serde_json::Value;

use crate::api::LabelSelector;
use crate::plan::selector_problems;

/// Most entries of a list. Gatekeeper has no bound; a list without one would be asked through for each request.
const MAX_LIST: usize = 1024;
const FIELDS: [&str; 8] = [
    "excludedNamespaces",
    "kinds",
    "labelSelector",
    "name",
    "namespaceSelector",
    "namespaces",
    "scope",
    "source",
];

/// Groups and kinds; empty is all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Kinds {
    pub(super) groups: Vec<String>,
    pub(super) kinds: Vec<String>,
}

/// Where an object lies.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Scope {
    #[default]
    All,
    Cluster,
    Namespaced,
}

/// Whether what is written is matched, or what would come of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Source {
    #[default]
    All,
    Generated,
    Original,
}

/// A constraint's `match`.
#[derive(Clone, Debug, Default)]
pub(super) struct Match {
    /// Whether there is one at all: without, nothing of the request is looked at.
    pub(super) is_there: bool,
    pub(super) kinds: Vec<Kinds>,
    pub(super) namespaces: Vec<String>,
    pub(super) excluded: Vec<String>,
    pub(super) labels: Option<LabelSelector>,
    pub(super) namespace_labels: Option<LabelSelector>,
    pub(super) scope: Scope,
    pub(super) name: Option<String>,
    pub(super) source: Source,
}

impl Match {
    /// Reads `spec.match`.
    pub(super) fn read(value: Option<&Value>) -> Result<Self, Vec<String>> {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return Ok(Self::default());
        };
        let Some(fields) = value.as_object() else {
            return Err(vec!["spec.match: must be an object".to_owned()]);
        };
        let mut problems = Vec::new();
        for name in fields.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
            problems.push(format!("spec.match.{name}: Gatekeeper has no such field"));
        }
        let field = |name: &str| fields.get(name).filter(|value| !value.is_null());
        let mut kinds = Vec::new();
        for (index, entry) in list(field("kinds"), "kinds", &mut problems).iter().enumerate() {
            kinds.push(kinds_of(entry, index, &mut problems));
        }
        let found = Self {
            is_there: true,
            kinds,
            namespaces: globs(field("namespaces"), "namespaces", &mut problems),
            excluded: globs(field("excludedNamespaces"), "excludedNamespaces", &mut problems),
            labels: selector(field("labelSelector"), "labelSelector", &mut problems),
            namespace_labels: selector(field("namespaceSelector"), "namespaceSelector", &mut problems),
            scope: word(
                field("scope"),
                "scope",
                &[
                    ("*", Scope::All),
                    ("Cluster", Scope::Cluster),
                    ("Namespaced", Scope::Namespaced),
                ],
                &mut problems,
            ),
            name: field("name").and_then(|name| glob(name, "name", &mut problems)),
            source: word(
                field("source"),
                "source",
                &[
                    ("All", Source::All),
                    ("Generated", Source::Generated),
                    ("Original", Source::Original),
                ],
                &mut problems,
            ),
        };
        if problems.is_empty() { Ok(found) } else { Err(problems) }
    }

    /// Whether a kind is matched.
    pub(super) fn has_kind(&self, group: &str, kind: &str) -> bool {
        self.kinds.is_empty()
            || self.kinds.iter().any(|kinds| {
                (kinds.groups.is_empty() || kinds.groups.iter().any(|of| of == group))
                    && (kinds.kinds.is_empty() || kinds.kinds.iter().any(|of| of == kind))
            })
    }
}

fn list<'a>(value: Option<&'a Value>, name: &str, problems: &mut Vec<String>) -> &'a [Value] {
    match value {
        None => &[],
        Some(Value::Array(items)) if items.len() <= MAX_LIST => items,
        Some(Value::Array(_)) => {
            problems.push(format!("spec.match.{name}: has more than {MAX_LIST} entries"));
            &[]
        }
        Some(_) => {
            problems.push(format!("spec.match.{name}: must be a list"));
            &[]
        }
    }
}

fn kinds_of(entry: &Value, index: usize, problems: &mut Vec<String>) -> Kinds {
    let at = format!("kinds[{index}]");
    let Some(fields) = entry.as_object() else {
        problems.push(format!("spec.match.{at}: must be an object"));
        return Kinds::default();
    };
    for name in fields
        .keys()
        .filter(|name| !["apiGroups", "kinds"].contains(&name.as_str()))
    {
        problems.push(format!("spec.match.{at}.{name}: Gatekeeper has no such field"));
    }
    let mut names = |name: &str| {
        let value = fields.get(name).filter(|value| !value.is_null());
        let mut found = Vec::new();
        for item in list(value, &format!("{at}.{name}"), problems) {
            match item.as_str() {
                Some(text) => found.push(text.to_owned()),
                None => problems.push(format!("spec.match.{at}.{name}: must hold texts")),
            }
        }
        // One that stands for all is all.
        if found.iter().any(|one| one == "*") {
            Vec::new()
        } else {
            found
        }
    };
    Kinds {
        groups: names("apiGroups"),
        kinds: names("kinds"),
    }
}

fn globs(value: Option<&Value>, name: &str, problems: &mut Vec<String>) -> Vec<String> {
    let items = list(value, name, problems);
    items.iter().filter_map(|item| glob(item, name, problems)).collect()
}

/// A name, with a star at its beginning, its end, or both.
pub(super) fn glob(value: &Value, name: &str, problems: &mut Vec<String>) -> Option<String> {
    let inner = |text: &str| {
        let text = text.strip_prefix('*').unwrap_or(text);
        let text = text.strip_suffix('*').unwrap_or(text);
        text.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b':'))
    };
    match value.as_str() {
        // To Gatekeeper an empty name is any.
        Some("") if name == "name" => None,
        Some(text) if inner(text) || (name == "name" && text.is_empty()) => Some(text.to_owned()),
        _ => {
            problems.push(format!(
                "spec.match.{name}: must be lower-case letters, digits, `-` and `:`, with `*` at the beginning or the end"
            ));
            None
        }
    }
}

/// An empty one selects everything.
fn selector(value: Option<&Value>, name: &str, problems: &mut Vec<String>) -> Option<LabelSelector> {
    let value = value?;
    let unknown = value.as_object().into_iter().flatten();
    for (field, _) in unknown.filter(|(field, _)| !["matchExpressions", "matchLabels"].contains(&field.as_str())) {
        problems.push(format!("spec.match.{name}.{field}: Gatekeeper has no such field"));
    }
    match serde_json::from_value::<LabelSelector>(without_nulls(value)) {
        Err(_) => {
            problems.push(format!("spec.match.{name}: is no label selector"));
            None
        }
        Ok(selector) => {
            let found = selector_problems(&format!("spec.match.{name}"), &selector);
            problems.extend(
                found
                    .into_iter()
                    .map(|problem| format!("{}: {}", problem.path, problem.message)),
            );
            let is_empty = selector.match_labels.is_empty() && selector.match_expressions.is_empty();
            (!is_empty).then_some(selector)
        }
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        plain => plain.clone(),
    }
}

fn word<T: Copy + Default>(value: Option<&Value>, name: &str, words: &[(&str, T)], problems: &mut Vec<String>) -> T {
    let Some(value) = value else { return T::default() };
    let text = value.as_str().unwrap_or_default();
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, meaning)) => *meaning,
        None if value.as_str() == Some("") => T::default(),
        None => {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            problems.push(format!("spec.match.{name}: must be one of {}", words.join(", ")));
            T::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({"kind": []}), "spec.match.kind:")]
    #[case(json!([]), "spec.match: must be an object")]
    #[case(json!({"kinds": {}}), "spec.match.kinds: must be a list")]
    #[case(json!({"kinds": ["Pod"]}), "spec.match.kinds[0]: must be an object")]
    #[case(json!({"kinds": [{"apiGroup": [""]}]}), "spec.match.kinds[0].apiGroup")]
    #[case(json!({"kinds": [{"kinds": [1]}]}), "spec.match.kinds[0].kinds: must hold texts")]
    #[case(json!({"namespaces": "a"}), "spec.match.namespaces: must be a list")]
    #[case(json!({"namespaces": ["A"]}), "spec.match.namespaces: must be lower-case")]
    #[case(json!({"namespaces": ["a*b"]}), "spec.match.namespaces: must be lower-case")]
    #[case(json!({"excludedNamespaces": [1]}), "spec.match.excludedNamespaces")]
    #[case(json!({"name": "a.b"}), "spec.match.name")]
    #[case(json!({"scope": "cluster"}), "spec.match.scope: must be one of")]
    #[case(json!({"source": "all"}), "spec.match.source: must be one of")]
    #[case(json!({"labelSelector": {"matchLabel": {}}}), "spec.match.labelSelector.matchLabel")]
    #[case(json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}), "spec.match.labelSelector")]
    #[case(json!({"labelSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}), "spec.match.labelSelector")]
    #[case(json!({"namespaceSelector": {"matchLabels": {"-": "x"}}}), "spec.match.namespaceSelector")]
    fn what_gatekeeper_would_refuse_is_a_problem(#[case] value: Value, #[case] words: &str) {
        let problems = Match::read(Some(&value)).expect_err("a problem").join("; ");
        assert!(problems.contains(words), "{problems}");
    }

    #[test]
    fn what_is_not_there_narrows_nothing() {
        for value in [
            json!({}),
            json!({"kinds": null, "labelSelector": {}, "name": "", "scope": "*", "source": "All"}),
        ] {
            let found = Match::read(Some(&value)).expect("a match");
            assert!(found.is_there && found.kinds.is_empty() && found.labels.is_none() && found.name.is_none());
        }
        assert!(!Match::read(None).expect("none").is_there);
    }

    #[rstest]
    #[case(json!([]), true)]
    #[case(json!([{"apiGroups": [""], "kinds": ["Pod"]}]), true)]
    #[case(json!([{"apiGroups": ["*"], "kinds": ["Pod", "Service"]}]), true)]
    #[case(json!([{"apiGroups": [""], "kinds": ["*"]}]), true)]
    #[case(json!([{"kinds": ["Pod"]}]), true)]
    #[case(json!([{"apiGroups": ["apps"], "kinds": ["Pod"]}]), false)]
    #[case(json!([{"apiGroups": [""], "kinds": ["Service"]}]), false)]
    fn kinds_are_known(#[case] kinds: Value, #[case] expected: bool) {
        let found = Match::read(Some(&json!({"kinds": kinds}))).expect("a match");
        assert_eq!(found.has_kind("", "Pod"), expected);
    }
}
