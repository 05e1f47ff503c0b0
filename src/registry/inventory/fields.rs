//! What is kept of an object: the fields that a policy declares, and who it is.
//!
//! Must never: keep a field that was not declared, or change the value of one that was. But null is as good as not there: the API server writes
//! it for an empty list, whoever wrote the object chose that, and what iterates over it would fail for all.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use regorus::Value;
use serde_json::Value as Json;

use crate::policy::engine_value;

/// What an object keeps whatever is declared. `apiVersion` and `kind` are put there: items of a list have none.
const ALWAYS: [&str; 3] = ["metadata.name", "metadata.namespace", "metadata.labels"];

/// Dotted paths that a policy declares, without those that lie in another: what differs shows a policy something else.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Fields(BTreeSet<String>);

impl Fields {
    pub(super) fn of<'a>(paths: impl IntoIterator<Item = &'a String>) -> Self {
        let all: BTreeSet<String> = paths.into_iter().cloned().collect();
        let lies_in_another = |path: &String| {
            let mut ends = path.match_indices('.').map(|(end, _)| end);
            ends.any(|end| path.get(..end).is_some_and(|outer| all.contains(outer)))
        };
        Self(all.iter().filter(|path| !lies_in_another(path)).cloned().collect())
    }

    pub(super) fn join(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0))
    }
}

/// An object, or a part of it, is nested too deeply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TooDeep;

/// Cuts objects of one kind down to [`Fields`].
pub(super) struct Pruner {
    root: Part,
    types: [(Value, Value); 2],
}

enum Node {
    Whole,
    Part(Part),
}

/// The names that are kept, each as the engine has it: an object's keys are then the same allocation in all objects.
#[derive(Default)]
struct Part(BTreeMap<String, (Value, Node)>);

impl Pruner {
    pub(super) fn new(group_version: &str, kind: &str, fields: &Fields) -> Self {
        let mut root = Part::default();
        for path in fields.0.iter().map(String::as_str).chain(ALWAYS) {
            root.add(path);
        }
        let value = |text: &str| Value::from(text);
        Self {
            root,
            types: [
                (value("apiVersion"), value(group_version)),
                (value("kind"), value(kind)),
            ],
        }
    }

    pub(super) fn prune(&self, object: &Json) -> Result<Value, TooDeep> {
        let mut kept = self.root.of(object)?.unwrap_or_default();
        kept.extend(self.types.iter().cloned());
        Ok(Value::from(kept))
    }
}

impl Part {
    fn add(&mut self, path: &str) {
        let (name, rest) = path
            .split_once('.')
            .map_or((path, None), |(name, rest)| (name, Some(rest)));
        let fresh = || (Value::from(name), Node::Part(Self::default()));
        let (_, node) = self.0.entry(name.to_owned()).or_insert_with(fresh);
        match (rest, node) {
            (_, Node::Whole) => {}
            (Some(rest), Node::Part(part)) => part.add(rest),
            (None, node) => *node = Node::Whole,
        }
    }

    /// `None` for what is no object.
    fn of(&self, json: &Json) -> Result<Option<BTreeMap<Value, Value>>, TooDeep> {
        let Json::Object(fields) = json else { return Ok(None) };
        let mut kept = BTreeMap::new();
        for (name, (key, node)) in &self.0 {
            let field = fields.get(name).filter(|field| !field.is_null());
            if let Some(value) = field.map(|field| node.of(field)).transpose()?.flatten() {
                kept.insert(key.clone(), value);
            }
        }
        Ok(Some(kept))
    }
}

impl Node {
    /// `None` where nothing of it is kept. In a list the places of the others stay, so there it becomes null.
    fn of(&self, json: &Json) -> Result<Option<Value>, TooDeep> {
        let part = match self {
            Self::Whole => return engine_value(&without_nulls(json)).map(Some).ok_or(TooDeep),
            Self::Part(part) => part,
        };
        if let Json::Array(items) = json {
            let kept = items.iter().map(|item| Ok(self.of(item)?.unwrap_or(Value::Null)));
            return kept.collect::<Result<Vec<_>, _>>().map(|kept| Some(Value::from(kept)));
        }
        Ok(part.of(json)?.map(Value::from))
    }
}

/// Nothing is copied where there is none, as mostly. In a list the places of the others stay.
fn without_nulls(json: &Json) -> Cow<'_, Json> {
    fn has_some(json: &Json) -> bool {
        match json {
            Json::Object(fields) => fields.values().any(|field| field.is_null() || has_some(field)),
            Json::Array(items) => items.iter().any(has_some),
            _ => false,
        }
    }
    fn copy(json: &Json) -> Json {
        match json {
            Json::Object(fields) => {
                let kept = fields.iter().filter(|(_, field)| !field.is_null());
                kept.map(|(name, field)| (name.clone(), copy(field))).collect()
            }
            Json::Array(items) => items.iter().map(copy).collect(),
            other => other.clone(),
        }
    }
    if has_some(json) {
        Cow::Owned(copy(json))
    } else {
        Cow::Borrowed(json)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(paths: &[&str]) -> Fields {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        Fields::of(&paths)
    }

    fn pruned(paths: &[&str], object: &Json) -> Json {
        let value = Pruner::new("g/v1", "K", &fields(paths)).prune(object).expect("shallow");
        serde_json::from_str(&value.to_json_str().expect("text")).expect("json")
    }

    #[test]
    fn only_declared_fields_and_who_it_is_are_kept() {
        let object = json!({
            "metadata": {"name": "n", "namespace": "ns", "uid": "u", "labels": {"a.b/c": "d"}, "annotations": {"secret": "s"}},
            "spec": {"rules": [{"host": "h", "http": {"x": 1}}, {"http": 2}, 3, [{"host": "i"}]], "tls": [1], "empty": {}},
            "status": {"big": 18446744073709551615u64, "small": -1, "half": 0.5},
        });
        assert_eq!(
            pruned(&["spec.rules.host", "status", "spec.empty.x", "nothing.there"], &object),
            json!({
                "apiVersion": "g/v1", "kind": "K",
                "metadata": {"name": "n", "namespace": "ns", "labels": {"a.b/c": "d"}},
                "spec": {"rules": [{"host": "h"}, {}, null, [{"host": "i"}]], "empty": {}},
                "status": {"big": 18446744073709551615u64, "small": -1, "half": 0.5},
            })
        );
    }

    #[test]
    fn a_field_in_another_adds_nothing_and_a_path_through_a_text_finds_nothing() {
        assert_eq!(
            fields(&["spec.a", "spec", "spec.a.b", "specs"]),
            fields(&["specs", "spec"])
        );
        assert_eq!(fields(&["a.b"]).join(&fields(&["a", "c"])), fields(&["a", "c"]));
        let object = json!({"metadata": {"name": "n"}, "spec": "text"});
        assert_eq!(
            pruned(&["spec.x"], &object),
            json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n"}})
        );
        assert_eq!(
            pruned(&["metadata"], &json!({"metadata": {"uid": "u"}}))["metadata"]["uid"],
            "u"
        );
    }

    /// The API server writes null for a list that is empty, where a loop over nothing would be an error.
    #[test]
    fn what_is_null_is_not_there() {
        let object = json!({"metadata": {"name": "n"}, "rules": null, "spec": {"a": null, "b": [null, {"c": null}]}});
        let expected = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n"}, "spec": {"b": [null, {}]}});
        assert_eq!(pruned(&["rules", "spec"], &object), expected);
        assert_eq!(pruned(&["rules.verbs", "spec.a", "spec.b"], &object), expected);
    }

    /// What an author writes must not stand for something else.
    #[test]
    fn an_object_cannot_lie_about_its_kind() {
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "n"}});
        assert_eq!(pruned(&["apiVersion", "kind"], &object)["kind"], "K");
    }
}
