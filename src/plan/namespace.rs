//! A namespace's modes, and the default-deny that is the namespace's own.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::{AUDIT_LABEL, DEFAULT_DENY_NAME, ENFORCE_LABEL, Mode, OWNER_UID_ANNOTATION, WARN_LABEL};

/// What Ringfence needs to know of a namespace.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NamespaceFacts {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether Ringfence never fences it.
    pub exempt: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
}

impl NamespaceFacts {
    /// Reads a namespace as the API server sends it.
    pub fn from_object(object: &Value, exempt: impl Fn(&str) -> bool) -> Option<Self> {
        let name = object.pointer("/metadata/name")?.as_str()?.to_owned();
        let labels = object
            .pointer("/metadata/labels")
            .and_then(|labels| serde_json::from_value(labels.clone()).ok());
        let uid = object
            .pointer("/metadata/uid")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let terminating = object
            .pointer("/metadata/deletionTimestamp")
            .is_some_and(|at| !at.is_null());
        Some(Self {
            exempt: exempt(&name),
            name,
            uid,
            labels: labels.unwrap_or_default(),
            terminating,
        })
    }

    /// Class that a mode names.
    pub fn class_for(&self, mode: Mode) -> Option<&str> {
        let label = match mode {
            Mode::Audit => AUDIT_LABEL,
            Mode::Enforce => ENFORCE_LABEL,
            Mode::Warn => WARN_LABEL,
        };
        self.labels.get(label).map(String::as_str).filter(|_| !self.exempt)
    }

    /// Strongest mode.
    pub fn mode(&self) -> Option<Mode> {
        [Mode::Enforce, Mode::Warn, Mode::Audit]
            .into_iter()
            .find(|mode| self.class_for(*mode).is_some())
    }

    /// Class by which workflows are made here.
    pub fn fencing_class(&self) -> Option<&str> {
        self.class_for(Mode::Enforce).or_else(|| self.class_for(Mode::Warn))
    }
}

/// The namespace's default-deny.
pub fn default_deny(namespace: &NamespaceFacts) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": DEFAULT_DENY_NAME,
            "namespace": namespace.name,
            "annotations": {OWNER_UID_ANNOTATION: namespace.uid},
        },
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []},
    })
}
