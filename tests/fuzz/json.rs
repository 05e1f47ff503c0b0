//! JSON: any, and such as Kubernetes' objects are.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// Keys that mean something somewhere, so that made-up objects meet the code that looks for them.
const KEYS: [&str; 40] = [
    "annotations",
    "apiVersion",
    "containers",
    "controller",
    "data",
    "env",
    "envFrom",
    "ephemeralContainers",
    "finalizers",
    "hostNetwork",
    "image",
    "initContainers",
    "items",
    "jobTemplate",
    "kind",
    "labels",
    "metadata",
    "name",
    "namespace",
    "ownerReferences",
    "ports",
    "projected",
    "replicas",
    "resources",
    "ringfence.dev/enforce",
    "ringfence.dev/workflow",
    "rules",
    "secret",
    "secretName",
    "selector",
    "serviceAccountName",
    "sources",
    "spec",
    "status",
    "subjects",
    "template",
    "type",
    "uid",
    "volumes",
    "kubernetes.io/service-account.name",
];

fn key() -> impl Strategy<Value = String> {
    prop_oneof![4 => select(KEYS.to_vec()).prop_map(str::to_owned), 1 => ".{0,6}"]
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => (-1e9f64..1e9).prop_map(Value::from),
        3 => select(vec!["", "default", "triage", "v1", "Pod", "kubernetes.io/service-account-token", "ClusterIP"]).prop_map(Value::from),
        2 => ".{0,12}".prop_map(Value::from),
    ]
}

/// Any JSON.
pub fn any_json() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            1 => vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => btree_map(key(), inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Any JSON object.
pub fn any_object() -> impl Strategy<Value = Value> {
    btree_map(key(), any_json(), 0..6).prop_map(|map| Value::Object(map.into_iter().collect()))
}

fn pairs() -> impl Strategy<Value = Value> {
    let keys = select(vec![
        "app",
        "ringfence.dev/workflow",
        "ringfence.dev/enforce",
        "ringfence.dev/warn",
        "ringfence.dev/audit",
        "ringfence.dev/owner-uid",
        "kubernetes.io/service-account.name",
        "kubernetes.io/service-account.uid",
        "kubernetes.io/metadata.name",
    ]);
    btree_map(keys, select(vec!["", "default", "triage", "other"]), 0..4).prop_map(|map| json!(map))
}

fn owner() -> impl Strategy<Value = Value> {
    (
        select(vec!["1", "2", "3"]),
        any::<Option<bool>>(),
        any::<Option<bool>>(),
    )
        .prop_map(|(uid, controller, blocks)| {
            let mut owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": uid});
            for (key, value) in [("controller", controller), ("blockOwnerDeletion", blocks)] {
                if let Some(value) = value {
                    owner[key] = json!(value);
                }
            }
            owner
        })
}

/// Metadata as the API server's types have it: what is empty is left out, or is there.
pub fn metadata() -> impl Strategy<Value = Value> {
    let maybe = |strategy: BoxedStrategy<Value>| prop::option::of(strategy);
    let finalizers = vec(select(vec!["a/b", "c/d", "orphan"]), 0..3).prop_map(|list| json!(list));
    let fields = vec(
        (
            select(vec!["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
            select(vec!["a", "b"]),
        ),
        0..2,
    )
    .prop_map(|list| {
        json!(
            list.into_iter()
                .map(|(time, manager)| json!({"manager": manager, "time": time}))
                .collect::<Vec<_>>()
        )
    });
    (
        maybe(pairs().boxed()),
        maybe(pairs().boxed()),
        maybe(vec(owner(), 0..4).prop_map(|list| json!(list)).boxed()),
        maybe(finalizers.boxed()),
        maybe(fields.boxed()),
        maybe((1i64..4).prop_map(|number| json!(number)).boxed()),
    )
        .prop_map(|(labels, annotations, owners, finalizers, managed, generation)| {
            let mut metadata = json!({"name": "o", "namespace": "ai", "uid": "u"});
            for (key, value) in [
                ("labels", labels),
                ("annotations", annotations),
                ("ownerReferences", owners),
                ("finalizers", finalizers),
                ("managedFields", managed),
                ("generation", generation),
            ] {
                if let Some(value) = value {
                    metadata[key] = value;
                }
            }
            metadata
        })
}

/// An object as the API server stores it: any content, metadata as it must be, sometimes none.
pub fn stored() -> impl Strategy<Value = Value> {
    (
        any_object(),
        prop_oneof![9 => metadata().prop_map(Some), 1 => Just(None)],
    )
        .prop_map(|(mut object, metadata)| {
            let fields = object.as_object_mut().expect("an object");
            fields.remove("metadata");
            if let Some(metadata) = metadata {
                fields.insert("metadata".to_owned(), metadata);
            }
            object
        })
}
