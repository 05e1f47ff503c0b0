//! A namespace's modes, and the default-deny that is the namespace's own.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Change, Child, delete,
    object::{owned_metadata, owner_uid, replacing, same},
};
use crate::api::{AUDIT_LABEL, DEFAULT_DENY_NAME, ENFORCE_LABEL, Mode, WARN_LABEL};

/// What Ringfence needs to know of a namespace.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NamespaceFacts {
    /// Name.
    pub name: String,
    /// UID; empty for a namespace that was never stored.
    pub uid: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether Ringfence never fences it: `kube-system`, `kube-node-lease`, `kube-public`, the release namespace.
    pub exempt: bool,
    /// Whether it is being deleted: nothing can be created in it any more.
    pub terminating: bool,
}

impl NamespaceFacts {
    /// Reads a namespace as the API server sends it. `None` where it is no object with a name.
    pub fn from_object(object: &Value, exempt: impl Fn(&str) -> bool) -> Option<Self> {
        let metadata = object.get("metadata")?;
        let name = metadata.get("name")?.as_str()?.to_owned();
        let labels = metadata.get("labels").and_then(Value::as_object).into_iter().flatten();
        Some(Self {
            exempt: exempt(&name),
            uid: metadata
                .get("uid")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            labels: labels
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
            terminating: metadata.get("deletionTimestamp").is_some_and(|at| !at.is_null()),
            name,
        })
    }

    /// Class that a mode names. An exempt namespace has no modes, whatever its labels say.
    pub fn class_for(&self, mode: Mode) -> Option<&str> {
        let label = match mode {
            Mode::Audit => AUDIT_LABEL,
            Mode::Enforce => ENFORCE_LABEL,
            Mode::Warn => WARN_LABEL,
        };
        self.labels.get(label).map(String::as_str).filter(|_| !self.exempt)
    }

    /// Every mode with its class, the strongest first.
    pub fn modes(&self) -> Vec<(Mode, String)> {
        [Mode::Enforce, Mode::Warn, Mode::Audit]
            .into_iter()
            .filter_map(|mode| Some((mode, self.class_for(mode)?.to_owned())))
            .collect()
    }

    /// Strongest mode.
    pub fn mode(&self) -> Option<Mode> {
        [Mode::Enforce, Mode::Warn, Mode::Audit]
            .into_iter()
            .find(|mode| self.class_for(*mode).is_some())
    }

    /// Class by which workflows are made here: that of `enforce`, else that of `warn`. `None`: not fenced.
    pub fn fencing_class(&self) -> Option<&str> {
        self.class_for(Mode::Enforce).or_else(|| self.class_for(Mode::Warn))
    }

    /// Class by which workflows are judged here: the one that fences, else that of `audit`, by which nothing is made.
    pub fn judging_class(&self) -> Option<&str> {
        self.fencing_class().or_else(|| self.class_for(Mode::Audit))
    }
}

/// The namespace's default-deny: nothing in, nothing out, for every pod of it.
///
/// Has no owner, so that deleting a workflow, or its CRD, opens nothing; its annotation carries the namespace's UID.
pub fn default_deny(namespace: &NamespaceFacts) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": owned_metadata(DEFAULT_DENY_NAME, &namespace.name, &namespace.uid, DEFAULT_DENY_NAME),
        // Empty lists are sent, so that what somebody else put there goes.
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []},
    })
}

/// What is to be done about a namespace's default-deny.
#[derive(Clone, Debug, PartialEq)]
pub enum DefaultDenyPlan {
    /// Nothing: it is as it should be.
    Stands,
    /// A NetworkPolicy of that name is somebody else's.
    Taken,
    /// One write.
    Write(Change),
}

/// Plans the default-deny of a namespace: there while `enforce` is, gone without it. `seen` is the NetworkPolicy of its name.
pub fn plan_default_deny(namespace: &NamespaceFacts, seen: Option<&Value>) -> DefaultDenyPlan {
    const KIND: Child = Child::NetworkPolicy;
    let is_ours = |seen: &Value| !namespace.uid.is_empty() && owner_uid(seen) == Some(namespace.uid.as_str());
    if namespace.exempt || namespace.terminating {
        return DefaultDenyPlan::Stands;
    }
    let desired = default_deny(namespace);
    match (namespace.mode() == Some(Mode::Enforce), seen) {
        (true, None) => DefaultDenyPlan::Write(Change::Create(KIND, desired)),
        (true, Some(seen)) if !is_ours(seen) => DefaultDenyPlan::Taken,
        (true, Some(seen)) if same(&desired, seen) => DefaultDenyPlan::Stands,
        (true, Some(seen)) => DefaultDenyPlan::Write(Change::Replace(KIND, replacing(desired, seen))),
        (false, Some(seen)) if is_ours(seen) => DefaultDenyPlan::Write(delete(KIND, seen)),
        (false, _) => DefaultDenyPlan::Stands,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn namespace(mode: Option<&str>) -> NamespaceFacts {
        NamespaceFacts {
            name: "ai".to_owned(),
            uid: "namespace-uid".to_owned(),
            labels: mode
                .map(|mode| (mode.to_owned(), "default".to_owned()))
                .into_iter()
                .collect(),
            ..NamespaceFacts::default()
        }
    }

    /// The default-deny as it is stored, with another field over it.
    fn stored(pointer: &str, value: Value) -> Value {
        let mut stored = default_deny(&namespace(Some(ENFORCE_LABEL)));
        stored["metadata"]["uid"] = json!("policy-uid");
        stored["metadata"]["resourceVersion"] = json!("7");
        if let Some(field) = stored.pointer_mut(pointer) {
            *field = value;
        }
        stored
    }

    #[rstest]
    #[case::missing(Some(ENFORCE_LABEL), None, "create")]
    #[case::as_it_was_made(Some(ENFORCE_LABEL), Some(stored("/none", json!(null))), "stands")]
    #[case::opened(Some(ENFORCE_LABEL), Some(stored("/spec/ingress", json!([{}]))), "replace")]
    #[case::somebody_elses(Some(ENFORCE_LABEL), Some(stored("/metadata/annotations", json!({}))), "taken")]
    #[case::of_the_namespace_before(Some(ENFORCE_LABEL), Some(stored("/metadata/annotations", json!({"ringfence.dev/owner-uid": "old"}))), "taken")]
    #[case::enforce_removed(None, Some(stored("/none", json!(null))), "delete")]
    #[case::only_a_warning(Some(WARN_LABEL), Some(stored("/none", json!(null))), "delete")]
    #[case::never_ours(None, Some(stored("/metadata/annotations", json!({}))), "stands")]
    #[case::nothing(None, None, "stands")]
    fn the_default_deny_comes_and_goes_with_enforce(
        #[case] mode: Option<&str>,
        #[case] seen: Option<Value>,
        #[case] expected: &str,
    ) {
        let found = match plan_default_deny(&namespace(mode), seen.as_ref()) {
            DefaultDenyPlan::Stands => "stands",
            DefaultDenyPlan::Taken => "taken",
            DefaultDenyPlan::Write(Change::Create(..)) => "create",
            DefaultDenyPlan::Write(Change::Replace(_, object)) => {
                assert_eq!(object["metadata"]["resourceVersion"], "7", "a newer write is not lost");
                "replace"
            }
            DefaultDenyPlan::Write(Change::Delete { uid, .. }) => {
                assert_eq!(uid, "policy-uid");
                "delete"
            }
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn nothing_is_made_or_removed_in_a_namespace_that_is_exempt_or_going() {
        for (exempt, terminating) in [(true, false), (false, true)] {
            let facts = NamespaceFacts {
                exempt,
                terminating,
                ..namespace(Some(ENFORCE_LABEL))
            };
            assert_eq!(plan_default_deny(&facts, None), DefaultDenyPlan::Stands);
        }
    }
}
