//! Names, metadata and comparison of the objects that Ringfence owns.

use std::collections::BTreeMap;

use kube::Resource;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::cluster_policy_name;
use crate::api::{GROUP, MANAGED_BY_LABEL, MANAGER, OWNER_LABEL, OWNER_UID_ANNOTATION};

/// Label that names the workflow, by the word that people's tools know. Not `ringfence.dev/workflow`: that one is for what the workflow runs.
const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";

/// Annotation that tells from what an owned object was made: a change of ours from a change of somebody else.
pub const REVISION_ANNOTATION: &str = "ringfence.dev/revision";

/// A kind of object that Ringfence makes, in the order in which the fence is put up: closed first, rights last.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Child {
    /// `networking.k8s.io/v1` NetworkPolicy.
    NetworkPolicy,
    /// `cilium.io/v2` CiliumNetworkPolicy. Not every API server serves it.
    CiliumNetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha2` ClusterNetworkPolicy, which is of no namespace. Not every API server serves it.
    ClusterNetworkPolicy,
    /// `ringfence.dev/v1alpha1` ResolvedNames.
    ResolvedNames,
    /// `v1` ServiceAccount.
    ServiceAccount,
    /// `rbac.authorization.k8s.io/v1` Role.
    Role,
    /// `rbac.authorization.k8s.io/v1` RoleBinding.
    RoleBinding,
}

impl Child {
    /// Every kind that every API server serves, in order.
    pub const BUILT_IN: [Self; 4] = [Self::NetworkPolicy, Self::ServiceAccount, Self::Role, Self::RoleBinding];

    /// Group of the kind; empty for the core group.
    pub const fn group(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "networking.k8s.io",
            Self::CiliumNetworkPolicy => "cilium.io",
            Self::ClusterNetworkPolicy => "policy.networking.k8s.io",
            Self::ResolvedNames => GROUP,
            Self::ServiceAccount => "",
            Self::Role | Self::RoleBinding => "rbac.authorization.k8s.io",
        }
    }

    /// Kind.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::CiliumNetworkPolicy => "CiliumNetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::ResolvedNames => "ResolvedNames",
            Self::ServiceAccount => "ServiceAccount",
            Self::Role => "Role",
            Self::RoleBinding => "RoleBinding",
        }
    }

    /// Resource, as in a URL and in RBAC.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "networkpolicies",
            Self::CiliumNetworkPolicy => "ciliumnetworkpolicies",
            Self::ClusterNetworkPolicy => "clusternetworkpolicies",
            Self::ResolvedNames => "resolvednames",
            Self::ServiceAccount => "serviceaccounts",
            Self::Role => "roles",
            Self::RoleBinding => "rolebindings",
        }
    }

    /// Version of the kind.
    pub const fn version(self) -> &'static str {
        match self {
            Self::CiliumNetworkPolicy => "v2",
            Self::ClusterNetworkPolicy => "v1alpha2",
            Self::ResolvedNames => "v1alpha1",
            Self::NetworkPolicy | Self::ServiceAccount | Self::Role | Self::RoleBinding => "v1",
        }
    }

    /// Whether objects of the kind are of no namespace.
    pub const fn is_of_cluster(self) -> bool {
        matches!(self, Self::ClusterNetworkPolicy)
    }

    /// `apiVersion`.
    pub fn api_version(self) -> String {
        match (self.group(), self.version()) {
            ("", version) => version.to_owned(),
            (group, version) => format!("{group}/{version}"),
        }
    }
}

/// Name of a part that a workflow owns. The hash keeps `a` + `b-role` and `a-b` + `role` apart.
pub fn owned_name(namespace: &str, workflow: &str, part: &str) -> String {
    let digest = Sha256::digest(format!("{namespace}/{workflow}/{part}"));
    let hash: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("ringfence-{workflow}-{part}-{hash}")
}

/// Parts of a workflow that are named by [`owned_name`], each of one kind.
const PARTS: [(Child, &str); 7] = [
    (Child::NetworkPolicy, "allow"),
    (Child::NetworkPolicy, "domains"),
    (Child::CiliumNetworkPolicy, "domains"),
    (Child::Role, "role"),
    (Child::RoleBinding, "binding"),
    (Child::Role, "launcher"),
    (Child::RoleBinding, "launchers"),
];

/// Every part that a workflow can have, its account apart: kind and name.
pub fn owned_names(namespace: &str, workflow: &str) -> impl Iterator<Item = (Child, String)> {
    let of_cluster = (Child::ClusterNetworkPolicy, cluster_policy_name(namespace, workflow));
    let parts = PARTS.map(|(child, part)| (child, owned_name(namespace, workflow, part)));
    parts.into_iter().chain([of_cluster])
}

/// Names of the Role and the RoleBinding that a grant makes for a workflow of another namespace. Both namespaces are in the hash: `x/triage` and `y/triage`
/// never meet in one name.
pub fn granted_names(namespace: &str, workflow: &str, grant: &str) -> [String; 2] {
    ["role", "binding"].map(|part| owned_name(namespace, workflow, &format!("{part}-{grant}")))
}

/// Metadata of an owned object, without an owner reference.
pub(super) fn owned_metadata(name: &str, namespace: &str, owner_uid: &str, instance: &str) -> Value {
    json!({
        "name": name,
        "namespace": namespace,
        "labels": {MANAGED_BY_LABEL: MANAGER, INSTANCE_LABEL: instance, OWNER_LABEL: instance},
        "annotations": {OWNER_UID_ANNOTATION: owner_uid},
    })
}

/// The desired object as a replacement of what was seen: it names the version that it replaces, so a newer write is not lost.
pub fn replacing(mut desired: Value, seen: &Value) -> Value {
    if let Some(metadata) = desired.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        for field in ["resourceVersion", "uid"] {
            if let Some(value) = seen.pointer(&format!("/metadata/{field}")) {
                metadata.insert(field.to_owned(), value.clone());
            }
        }
    }
    desired
}

/// An object that a workflow or a grant owns: made, kept and, by the garbage collector, removed with it.
pub(super) fn owned_by<K: Resource<DynamicType = ()>>(owner: &K, child: Child, name: &str, body: Value) -> Value {
    annotated(owner, child, name, &Annotations::default(), body)
}

/// Annotations of an owned object beside those that every one has.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Annotations(BTreeMap<String, String>);

impl Annotations {
    /// Such as somebody declares: Ringfence's own keys are not among them.
    pub(super) fn declared(annotations: BTreeMap<String, String>) -> Self {
        let is_ours = |key: &str| key.starts_with("ringfence.dev/");
        Self(annotations.into_iter().filter(|(key, _)| !is_ours(key)).collect())
    }

    /// One of Ringfence's own.
    pub(super) fn ours(key: &str, value: String) -> Self {
        Self([(key.to_owned(), value)].into())
    }
}

/// The same, with more annotations.
pub(super) fn annotated<K: Resource<DynamicType = ()>>(
    owner: &K,
    child: Child,
    name: &str,
    own: &Annotations,
    body: Value,
) -> Value {
    let uid = owner.meta().uid.clone().unwrap_or_default();
    let namespace = owner.meta().namespace.clone().unwrap_or_default();
    let owner_name = owner.meta().name.clone().unwrap_or_default();
    let mut metadata = owned_metadata(name, &namespace, &uid, &owner_name);
    if let Some(annotations) = metadata.pointer_mut("/annotations").and_then(Value::as_object_mut) {
        for (key, value) in &own.0 {
            annotations.insert(key.clone(), value.clone().into());
        }
        annotations.insert(REVISION_ANNOTATION.to_owned(), revision(&json!([own, body])).into());
    }
    let mut object = json!({"apiVersion": child.api_version(), "kind": child.kind(), "metadata": metadata});
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        let owner = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "name": owner_name, "uid": uid, "controller": true});
        metadata.insert("ownerReferences".to_owned(), json!([owner]));
    }
    if let (Some(object), Value::Object(body)) = (object.as_object_mut(), body) {
        object.extend(body);
    }
    object
}

fn revision(body: &Value) -> String {
    Sha256::digest(body.to_string())
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Whether an object that differs from what is desired was changed by somebody else: it says itself that it was made from
/// what is desired today. Otherwise the declaration, or what it rests on, has changed.
pub fn is_foreign(desired: &Value, observed: &Value) -> bool {
    let revision = |object: &Value| {
        object
            .pointer("/metadata/annotations")
            .and_then(|all| all.get(REVISION_ANNOTATION))
            .cloned()
    };
    revision(observed).is_none() || revision(desired) == revision(observed)
}

/// UID in the ownership annotation. The only proof of ownership.
pub fn owner_uid(object: &Value) -> Option<&str> {
    object
        .pointer("/metadata/annotations")?
        .get(OWNER_UID_ANNOTATION)?
        .as_str()
}

/// A text of an object by its JSON pointer, or nothing.
pub fn text_at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.name`, or nothing.
pub fn name_of(object: &Value) -> &str {
    text_at(object, "/metadata/name")
}

/// The service account of an AIWorkflow as it is stored: by the workflow's own name, where it says no other.
pub fn account_of(workflow: &Value) -> &str {
    match text_at(workflow, "/spec/identity/serviceAccountName") {
        "" => name_of(workflow),
        own => own,
    }
}

/// A finalizer by which a network plugin holds a NetworkPolicy while it is in force (the VPC CNI).
const ENGINE_FINALIZER: &str = "networking.k8s.aws/resources";

/// Kinds whose labels decide nothing: whoever labels all objects of a cluster labels them too, each time that they are written.
const UNSELECTED: [Child; 3] = [Child::NetworkPolicy, Child::Role, Child::RoleBinding];

/// Whether an observed object says exactly what is desired: every field, also those that Ringfence never set, because
/// server-side apply leaves a foreign `ingress: [{}]` where it is. But for labels of others that select nothing, and for how a network plugin
/// keeps hold of a policy: to undo either would never end.
pub fn same(desired: &Value, observed: &Value) -> bool {
    let is = |child: Child| text_at(desired, "/kind") == child.kind();
    let mut observed = comparable(observed);
    if UNSELECTED.into_iter().any(is) {
        drop_labels_of_others(desired, &mut observed);
    }
    if is(Child::NetworkPolicy)
        && let Some(finalizers) = observed
            .pointer_mut("/metadata/finalizers")
            .and_then(Value::as_array_mut)
    {
        finalizers.retain(|finalizer| finalizer != ENGINE_FINALIZER);
    }
    comparable(desired) == comparable(&observed)
}

fn drop_labels_of_others(desired: &Value, observed: &mut Value) {
    let own = desired.pointer("/metadata/labels").and_then(Value::as_object);
    let labels = observed.pointer_mut("/metadata/labels").and_then(Value::as_object_mut);
    if let Some(labels) = labels {
        labels.retain(|label, _| label.contains("ringfence.dev/") || own.is_some_and(|own| own.contains_key(label)));
    }
}

/// Drops what the API server writes, and keys whose value is null or an empty list: these say the same as no key at all in
/// every kind of [`Child`], or in Cilium's, where an empty list of peers is nobody, less. An empty *object* stays, because
/// `namespaceSelector: {}` is every namespace.
pub fn comparable(object: &Value) -> Value {
    let Value::Object(fields) = object else {
        return object.clone();
    };
    let mut kept = Map::new();
    for (key, value) in fields {
        match key.as_str() {
            "status" => {}
            "metadata" => {
                let metadata = value.as_object().into_iter().flatten().filter(|(key, value)| {
                    let server_set = matches!(
                        key.as_str(),
                        "uid"
                            | "resourceVersion"
                            | "generation"
                            | "creationTimestamp"
                            | "managedFields"
                            | "selfLink"
                            | "deletionTimestamp"
                            | "deletionGracePeriodSeconds"
                    );
                    !server_set && !value.as_object().is_some_and(Map::is_empty)
                });
                kept.insert(
                    key.clone(),
                    without_empty_lists(&Value::Object(metadata.map(owned).collect())),
                );
            }
            _ => {
                kept.insert(key.clone(), without_empty_lists(value));
            }
        }
    }
    without_empty_lists(&Value::Object(kept))
}

fn without_empty_lists(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(without_empty_lists).collect()),
        Value::Object(fields) => {
            let kept = fields
                .iter()
                .filter(|(_, value)| !value.is_null() && !value.as_array().is_some_and(Vec::is_empty));
            Value::Object(
                kept.map(|(key, value)| (key.clone(), without_empty_lists(value)))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_different_parts_never_meet() {
        assert_ne!(owned_name("x", "a", "b-role"), owned_name("x", "a-b", "role"));
        assert_ne!(owned_name("x", "triage", "role"), owned_name("y", "triage", "role"));
        let longest = owned_name("x", &"a".repeat(crate::api::MAX_WORKFLOW_NAME), "role");
        assert!(longest.len() <= 253, "{longest} must stay a DNS subdomain");
    }

    #[test]
    fn a_foreign_edit_of_a_field_that_we_never_set_is_a_difference() {
        let desired = json!({"metadata": {"name": "x"}, "spec": {"podSelector": {}, "ingress": []}});
        let stored = json!({
            "metadata": {"name": "x", "uid": "1", "resourceVersion": "2", "creationTimestamp": "now", "managedFields": [{}]},
            "spec": {"podSelector": {}},
        });
        assert!(same(&desired, &stored), "an empty list and an absent one say the same");
        for (pointer, foreign) in [
            ("/spec", json!({"podSelector": {}, "ingress": [{}]})),
            ("/spec", json!({"podSelector": {}, "newerThanUs": true})),
            (
                "/metadata",
                json!({"name": "x", "annotations": {"eks.amazonaws.com/role-arn": "x"}}),
            ),
            ("/metadata", json!({"name": "x", "finalizers": ["a/b"]})),
            ("/metadata", json!({"name": "x", "ownerReferences": [{"uid": "dead"}]})),
        ] {
            let mut edited = stored.clone();
            *edited.pointer_mut(pointer).unwrap() = foreign;
            assert!(!same(&desired, &edited), "{edited}");
        }
    }

    #[test]
    fn what_others_write_on_everything_is_no_difference() {
        let of = |kind: &str, metadata: Value| json!({"kind": kind, "metadata": metadata});
        let desired = |kind| {
            of(
                kind,
                json!({"name": "x", "labels": {"app.kubernetes.io/managed-by": "ringfence"}}),
            )
        };
        let with = |key: &str, value: &str| json!({"name": "x", "labels": {"app.kubernetes.io/managed-by": "ringfence", key: value}});
        for kind in ["NetworkPolicy", "Role", "RoleBinding"] {
            assert!(same(&desired(kind), &of(kind, with("team", "x"))), "{kind}");
            for (key, value) in [
                ("ringfence.dev/workflow", "x"),
                ("app.kubernetes.io/managed-by", "helm"),
            ] {
                assert!(!same(&desired(kind), &of(kind, with(key, value))), "{kind} {key}");
            }
        }
        assert!(
            !same(&desired("ServiceAccount"), &of("ServiceAccount", with("team", "x"))),
            "clouds read those"
        );
        let held = |kind, finalizers: Value| {
            let mut held = desired(kind);
            held["metadata"]["finalizers"] = finalizers;
            held
        };
        let engine = json!(["networking.k8s.aws/resources"]);
        assert!(same(&desired("NetworkPolicy"), &held("NetworkPolicy", engine.clone())));
        assert!(!same(&desired("Role"), &held("Role", engine)));
        let others = json!(["networking.k8s.aws/resources", "a/b"]);
        assert!(!same(&desired("NetworkPolicy"), &held("NetworkPolicy", others)));
    }

    #[test]
    fn an_empty_selector_is_not_an_absent_one() {
        let closed = json!({"spec": {"ingress": [{"from": [{"podSelector": {"matchLabels": {"a": "b"}}}]}]}});
        let open = json!({"spec": {"ingress": [{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}]}]}});
        assert!(!same(&closed, &open));
    }
}
