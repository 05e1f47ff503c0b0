//! The objects of a document as kubectl tells them apart: to it, whatever has `items` is a list, and no object itself.
//!
//! Must never: take for an object what kubectl applies the items of.

use serde_json::Value;

use crate::plan::text_at as text;

const ITEMS: &str = "items";
const LIST: &str = "List";

/// What a document holds.
#[derive(Debug)]
pub(in crate::cli) enum Objects {
    /// The document itself.
    Own(Value),
    /// What it lists.
    Listed(Vec<Value>),
}

impl Objects {
    /// The objects of a document.
    pub(in crate::cli) fn of(document: Value) -> Result<Self, &'static str> {
        let kind = text(&document, "/kind").to_owned();
        if kind != LIST && document.get(ITEMS).is_none() {
            return Ok(Self::Own(document));
        }
        // No kind that an API server knows has such a field.
        let Some(of) = kind.strip_suffix(LIST) else {
            return Err(
                "this has items at its top, so kubectl applies those and not this: leave items out, or make a List of it",
            );
        };
        let version = text(&document, "/apiVersion").to_owned();
        let mut document = document;
        let Some(Value::Array(mut items)) = document.get_mut(ITEMS).map(Value::take) else {
            return Err("a List has items, and this one has none");
        };
        if items.iter().any(|item| item.get(ITEMS).is_some()) {
            return Err("a List in a List is nothing that kubectl applies: take its items out of it");
        }
        for item in items.iter_mut().filter(|_| !of.is_empty()) {
            name_type(item, &version, of);
        }
        Ok(Self::Listed(items))
    }

    /// All of them.
    pub(in crate::cli) fn all(self) -> Vec<Value> {
        match self {
            Self::Own(document) => vec![document],
            Self::Listed(items) => items,
        }
    }
}

/// Items of a `PodList` and its like need not say what they are. Where one half is missing, kubectl takes neither from the item.
fn name_type(item: &mut Value, version: &str, kind: &str) {
    let is_named = !text(item, "/apiVersion").is_empty() && !text(item, "/kind").is_empty();
    if let Some(item) = item.as_object_mut().filter(|_| !is_named) {
        item.insert("apiVersion".to_owned(), version.into());
        item.insert("kind".to_owned(), kind.into());
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::own(json!({"kind": "Pod", "spec": {"items": []}}), json!([{"kind": "Pod", "spec": {"items": []}}]))]
    #[case::own_of_a_name(json!({"kind": "AllowList", "spec": {}}), json!([{"kind": "AllowList", "spec": {}}]))]
    #[case::nothing(Value::Null, json!([null]))]
    #[case::list(json!({"kind": "List", "items": [{"kind": "Pod"}, 1]}), json!([{"kind": "Pod"}, 1]))]
    #[case::empty(json!({"kind": "List", "items": []}), json!([]))]
    #[case::of_one_kind(json!({"apiVersion": "v1", "kind": "PodList", "items": [{"a": 1}]}),
        json!([{"apiVersion": "v1", "kind": "Pod", "a": 1}]))]
    #[case::of_other_kinds(json!({"apiVersion": "v1", "kind": "PodList", "items": [{"apiVersion": "x/v1", "kind": "Y"}]}),
        json!([{"apiVersion": "x/v1", "kind": "Y"}]))]
    #[case::of_half_a_kind(json!({"apiVersion": "v1", "kind": "PodList", "items": [{"apiVersion": "apps/v1"}]}),
        json!([{"apiVersion": "v1", "kind": "Pod"}]))]
    fn objects_are_what_kubectl_applies(#[case] document: Value, #[case] expected: Value) {
        let objects = Objects::of(document).expect("objects").all();
        assert_eq!(Value::from(objects), expected);
    }

    #[rstest]
    #[case::another_kind(json!({"kind": "ConfigMap", "items": [{"kind": "Pod"}]}), "not this")]
    #[case::nothing_in_it(json!({"kind": "ConfigMap", "items": null}), "not this")]
    #[case::no_kind(json!({"items": [{"kind": "Pod"}]}), "not this")]
    #[case::without_items(json!({"kind": "List"}), "a List has items")]
    #[case::of_no_list(json!({"kind": "PodList", "items": {}}), "a List has items")]
    #[case::nested(json!({"kind": "List", "items": [{"kind": "List", "items": []}]}), "a List in a List")]
    #[case::nested_in_another(json!({"kind": "List", "items": [{"kind": "Pod", "items": [1]}]}), "a List in a List")]
    fn what_kubectl_applies_otherwise_is_refused(#[case] document: Value, #[case] words: &str) {
        let why = Objects::of(document).expect_err("refused");
        assert!(why.contains(words), "{why}");
    }
}
