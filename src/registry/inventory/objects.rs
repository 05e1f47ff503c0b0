//! The objects of one kind as a policy sees them, in Gatekeeper's shape, and what they weigh.
//!
//! `data.inventory.cluster[groupVersion][kind][name]` and `data.inventory.namespace[namespace][groupVersion][kind][name]`. Must
//! never: change under whoever reads, weigh less than it takes, or hold more of one namespace than its share: whose objects weigh more is
//! left out whole, and named. Values are counted references, so a reader keeps what it has, and a change copies the maps on the way to it
//! and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regorus::Value;

/// Where an object lies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Place {
    /// `None` for what lies in no namespace.
    pub namespace: Option<String>,
    pub name: String,
}

/// Value in its parent, with its key.
const ENTRY: usize = 2 * size_of::<Value>();
/// What an allocation costs beside its content: the counts of references, and what the allocator adds and rounds up.
const ALLOCATION: usize = 40;
/// Maps that change are trees, whose nodes have room for eleven entries and are about two thirds full.
const NODE: usize = 12 * ENTRY;
/// A namespace: the map of its group versions, of its kinds, of its names, and its own name.
const NAMESPACE: usize = 3 * (NODE + ALLOCATION) + ALLOCATION + 63;

/// Objects of one kind, each cut down to the same fields.
#[derive(Clone, Debug)]
pub(super) struct Objects {
    root: Value,
    group_version: Value,
    kind: Value,
    weight: usize,
    /// What those of one namespace may weigh.
    share: usize,
    of: BTreeMap<String, usize>,
    left_out: Arc<BTreeSet<String>>,
}

impl Objects {
    pub(super) fn new(group_version: &str, kind: &str, share: usize) -> Self {
        Self {
            root: Value::new_object(),
            group_version: group_version.into(),
            kind: kind.into(),
            weight: 0,
            share,
            of: BTreeMap::new(),
            left_out: Arc::default(),
        }
    }

    /// Namespaces whose objects weigh more than their share: none of theirs is here.
    pub(super) fn left_out(&self) -> Arc<BTreeSet<String>> {
        Arc::clone(&self.left_out)
    }

    /// All of them; a copy is a pointer.
    pub(super) fn value(&self) -> Value {
        self.root.clone()
    }

    /// Bytes that they take.
    pub(super) fn weight(&self) -> usize {
        self.weight + NAMESPACE * (self.of.len() + self.left_out.len() + 1)
    }

    pub(super) fn insert(&mut self, place: &Place, object: Value) {
        if let Some(namespace) = &place.namespace
            && self.left_out.contains(namespace)
        {
            return;
        }
        let weight = entry_weight(&place.name, &object);
        let mut at = &mut self.root;
        for step in path(place, &self.group_version, &self.kind) {
            let Ok(map) = at.as_object_mut() else { return };
            at = map.get_or_insert_with(step, Value::new_object);
        }
        let before = std::mem::replace(at, object);
        let before = if is_there(&before) {
            entry_weight(&place.name, &before)
        } else {
            0
        };
        self.weight = (self.weight + weight).saturating_sub(before);
        let Some(namespace) = &place.namespace else { return };
        let held = self.of.entry(namespace.clone()).or_default();
        *held = (*held + weight).saturating_sub(before);
        if *held > self.share {
            self.leave_out(namespace);
        }
    }

    /// Until they are listed again: of what is not held nobody knows when it weighs less.
    pub(super) fn leave_out(&mut self, namespace: &str) {
        let path = [Value::from("namespace"), Value::from(namespace)];
        take(&mut self.root, &path);
        self.weight = self
            .weight
            .saturating_sub(self.of.remove(namespace).unwrap_or_default());
        Arc::make_mut(&mut self.left_out).insert(namespace.to_owned());
    }

    pub(super) fn remove(&mut self, place: &Place) {
        let path = path(place, &self.group_version, &self.kind);
        let Some(before) = take(&mut self.root, &path) else {
            return;
        };
        let weight = entry_weight(&place.name, &before);
        self.weight = self.weight.saturating_sub(weight);
        let Some(namespace) = &place.namespace else { return };
        if let Some(held) = self.of.get_mut(namespace) {
            *held = held.saturating_sub(weight);
            if *held == 0 {
                self.of.remove(namespace);
            }
        }
    }
}

/// Of a map that was made for the entry, and holds no object yet.
fn is_there(object: &Value) -> bool {
    object.as_object().is_ok_and(|object| !object.is_empty())
}

fn path(place: &Place, group_version: &Value, kind: &Value) -> Vec<Value> {
    let scope = match &place.namespace {
        Some(namespace) => vec![Value::from("namespace"), Value::from(namespace.as_str())],
        None => vec![Value::from("cluster")],
    };
    let rest = [group_version.clone(), kind.clone(), Value::from(place.name.as_str())];
    scope.into_iter().chain(rest).collect()
}

/// Takes out what lies at the path, and the maps that are empty without it: a namespace without objects is undefined.
fn take(value: &mut Value, path: &[Value]) -> Option<Value> {
    let (first, rest) = path.split_first()?;
    let map = value.as_object_mut().ok()?;
    if rest.is_empty() {
        return map.remove(first);
    }
    let child = map.get_mut(first)?;
    let taken = take(child, rest);
    if !is_there(child) {
        map.remove(first);
    }
    taken
}

fn entry_weight(name: &str, object: &Value) -> usize {
    // Half as much again for the room in the nodes of the tree that it lies in.
    ENTRY + ENTRY / 2 + ALLOCATION + name.len() + weigh(object)
}

/// What a value takes beside its place in its parent. What it shares with others counts each time.
pub(super) fn weigh(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Undefined => 0,
        Value::String(text) => ALLOCATION + text.len(),
        Value::Array(items) => {
            let items = items.iter().map(|item| size_of::<Value>() + weigh(item));
            2 * ALLOCATION + size_of::<Vec<Value>>() + items.sum::<usize>()
        }
        Value::Set(items) => 2 * ALLOCATION + items.iter().map(|item| ENTRY + weigh(item)).sum::<usize>(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, field)| ENTRY + weigh(key) + weigh(field));
            2 * ALLOCATION + size_of::<Vec<Value>>() + fields.sum::<usize>()
        }
    }
}

/// Several kinds as one policy sees them. Each lies under its own group version and kind, so only the maps above are made anew.
pub(super) fn together(kinds: &[Value]) -> Value {
    let mut all = kinds.iter();
    let mut whole = all.next().cloned().unwrap_or_else(Value::new_object);
    for kind in all {
        merge(&mut whole, kind);
    }
    whole
}

fn merge(into: &mut Value, from: &Value) {
    let (Ok(into), Ok(from)) = (into.as_object_mut(), from.as_object()) else {
        return;
    };
    for (key, value) in from.iter() {
        match into.get_mut(key) {
            Some(there) => merge(there, value),
            None => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::policy::engine_value;

    fn at(namespace: Option<&str>, name: &str) -> Place {
        Place {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }

    fn json_of(value: &Value) -> Json {
        serde_json::from_str(&value.to_json_str().expect("text")).expect("json")
    }

    fn object(x: u64) -> Value {
        engine_value(&json!({"x": x})).expect("converts")
    }

    #[test]
    fn objects_lie_where_gatekeeper_has_them_and_leave_nothing_behind() {
        let mut objects = Objects::new("apps/v1", "Deployment", usize::MAX);
        let empty = objects.weight();
        objects.insert(&at(Some("a"), "one"), object(1));
        objects.insert(&at(Some("b"), "one"), object(2));
        let light = objects.weight();
        objects.insert(&at(Some("a"), "two"), object(3));
        let before = objects.value();
        objects.insert(
            &at(Some("a"), "two"),
            engine_value(&json!({"x": "y".repeat(1000)})).unwrap(),
        );
        assert!(objects.weight() > light + 1000);
        objects.insert(&at(Some("a"), "two"), object(3));
        assert_eq!(
            json_of(&objects.value()),
            json!({"namespace": {
                "a": {"apps/v1": {"Deployment": {"one": {"x": 1}, "two": {"x": 3}}}},
                "b": {"apps/v1": {"Deployment": {"one": {"x": 2}}}},
            }})
        );
        objects.remove(&at(Some("a"), "two"));
        assert_eq!(objects.weight(), light);
        objects.remove(&at(Some("a"), "one"));
        objects.remove(&at(Some("a"), "one"));
        objects.remove(&at(Some("b"), "one"));
        objects.remove(&at(None, "never"));
        assert_eq!((json_of(&objects.value()), objects.weight()), (json!({}), empty));
        assert_eq!(
            json_of(&before)["namespace"]["a"]["apps/v1"]["Deployment"]["one"]["x"],
            1,
            "readers keep theirs"
        );
    }

    #[test]
    fn whose_objects_weigh_more_than_a_share_is_left_out_whole_and_no_other() {
        let mut objects = Objects::new("v1", "ConfigMap", 2_000);
        let text = |length: usize| engine_value(&json!({"x": "y".repeat(length)})).unwrap();
        objects.insert(&at(Some("a"), "small"), text(10));
        let light = objects.weight();
        for (name, length) in [("one", 500), ("two", 500), ("three", 2_000), ("four", 10)] {
            objects.insert(&at(Some("b"), name), text(length));
        }
        // What lies in no namespace, no tenant makes.
        objects.insert(&at(None, "large"), text(5_000));
        objects.remove(&at(Some("b"), "one"));
        objects.remove(&at(None, "large"));
        assert_eq!(objects.left_out().iter().collect::<Vec<_>>(), ["b"]);
        assert_eq!(
            json_of(&objects.value()),
            json!({"namespace": {"a": {"v1": {"ConfigMap": {"small": {"x": "y".repeat(10)}}}}}})
        );
        assert_eq!(objects.weight(), light + NAMESPACE, "and nothing of it is held");
        // One that shrinks in time, or is replaced, counts as it is.
        for length in [1_500, 500, 1_500] {
            objects.insert(&at(Some("c"), "one"), text(length));
        }
        assert!(!objects.left_out().contains("c"));
    }

    #[test]
    fn kinds_come_together_and_each_stays_as_it_is() {
        let mut namespaces = Objects::new("v1", "Namespace", usize::MAX);
        namespaces.insert(&at(None, "a"), object(1));
        let mut pods = Objects::new("v1", "Pod", usize::MAX);
        pods.insert(&at(Some("a"), "p"), object(2));
        let mut jobs = Objects::new("batch/v1", "Job", usize::MAX);
        jobs.insert(&at(Some("a"), "j"), object(3));
        jobs.insert(&at(Some("b"), "j"), object(4));
        let whole = together(&[namespaces.value(), pods.value(), jobs.value()]);
        assert_eq!(
            json_of(&whole),
            json!({
                "cluster": {"v1": {"Namespace": {"a": {"x": 1}}}},
                "namespace": {
                    "a": {"v1": {"Pod": {"p": {"x": 2}}}, "batch/v1": {"Job": {"j": {"x": 3}}}},
                    "b": {"batch/v1": {"Job": {"j": {"x": 4}}}},
                },
            })
        );
        assert_eq!(
            json_of(&pods.value()),
            json!({"namespace": {"a": {"v1": {"Pod": {"p": {"x": 2}}}}}})
        );
        assert_eq!(json_of(&together(&[])), json!({}));
    }

    /// Held against what the texts alone take: small maps must not be free.
    #[test]
    fn the_weight_is_more_than_the_json() {
        for json in [
            json!({}),
            json!({"a": [1, 2, {"b": null}]}),
            json!({"a": "x".repeat(5000)}),
        ] {
            let weight = weigh(&engine_value(&json).unwrap());
            assert!(weight > json.to_string().len() && weight < 6100, "{json}: {weight}");
        }
    }

    /// `cargo test --release --lib what_many_objects_take -- --ignored --nocapture`
    #[test]
    #[ignore = "measures"]
    fn what_many_objects_take() {
        let resident = || {
            let pages = std::fs::read_to_string("/proc/self/statm").expect("statm");
            pages
                .split(' ')
                .nth(1)
                .and_then(|pages| pages.parse::<usize>().ok())
                .expect("pages")
                * 4096
        };
        let rule = json!({"host": "some-host.example.com", "http": {"paths": [{"path": "/", "pathType": "Prefix"}]}});
        let mut all = Vec::new();
        for (what, spec) in [("small", json!({})), ("large", json!({"rules": [rule, rule, rule]}))] {
            let mut objects = Objects::new("networking.k8s.io/v1", "Ingress", usize::MAX);
            let before = resident();
            for n in 0..40_000 {
                let (namespace, name) = (format!("namespace-{}", n / 20), format!("ingress-{n}"));
                let labels = json!({"app.kubernetes.io/name": name, "team": "a"});
                let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
                let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec});
                objects.insert(&at(Some(&namespace), &name), engine_value(&object).unwrap());
            }
            println!("{what}: weighs {}, takes {}", objects.weight(), resident() - before);
            // Otherwise the next ones would lie where these were.
            all.push(objects);
        }
    }
}
