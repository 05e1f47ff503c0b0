//! What a scan needs to know of an AIWorkflow, from raw JSON: whoever wrote one that our types cannot read has an account too.

use serde_json::{Map, Value};

use crate::plan::{Child, account_of, text_at};

/// An AIWorkflow, as far as a scan needs it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Declared {
    /// Namespace; empty where the list did not say.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Generation of its spec.
    pub generation: Option<i64>,
    /// Its service account.
    pub account: String,
    /// Secrets, and keys of them, that its pods may take something from.
    pub secrets: Vec<DeclaredSecret>,
    /// The kind of policies of network plugins by which the operator has its pods reach domains, if any: what it says of that nobody else may
    /// write.
    pub way: Option<Child>,
}

/// A Secret, or a key of one, that an AIWorkflow declares.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeclaredSecret {
    /// Path of the field that declares it.
    pub path: String,
    /// Name of the Secret.
    pub name: String,
    /// The key; `None` for the Secret itself.
    pub key: Option<String>,
}

impl Declared {
    /// Reads one. `None` where it has no name or UID, which no stored object lacks.
    pub fn of(workflow: Map<String, Value>) -> Option<Self> {
        let workflow = Value::Object(workflow);
        let text = |pointer: &str| workflow.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let name = text("/metadata/name")?;
        Some(Self {
            namespace: text("/metadata/namespace").unwrap_or_default(),
            uid: text("/metadata/uid").filter(|uid| !uid.is_empty())?,
            generation: workflow.pointer("/metadata/generation").and_then(Value::as_i64),
            account: account_of(&workflow).to_owned(),
            secrets: secrets(&workflow),
            way: match text_at(&workflow, "/status/egress/backend") {
                "Cilium" => Some(Child::CiliumNetworkPolicy),
                "ClusterNetworkPolicy" => Some(Child::ClusterNetworkPolicy),
                _ => None,
            },
            name,
        })
    }
}

fn secrets(workflow: &Value) -> Vec<DeclaredSecret> {
    let mut found = Vec::new();
    let mut add = |path: String, name: Option<&Value>, key: Option<&Value>| {
        let Some(name) = name.and_then(Value::as_str).filter(|name| !name.is_empty()) else {
            return;
        };
        found.push(DeclaredSecret {
            path,
            name: name.to_owned(),
            key: key.and_then(Value::as_str).map(str::to_owned),
        });
    };
    let list = |pointer: &str| {
        let list = workflow.pointer(pointer).and_then(Value::as_array);
        list.map_or(&[][..], Vec::as_slice).iter().enumerate()
    };
    for (index, secret) in list("/spec/identity/imagePullSecrets") {
        let path = format!("spec.identity.imagePullSecrets[{index}].name");
        add(path, secret.get("name"), None);
    }
    for (index, entry) in list("/spec/secrets") {
        let path = format!("spec.secrets[{index}].secretRef");
        let name = entry.pointer("/secretRef/name");
        add(format!("{path}.name"), name, None);
        let keys = entry.pointer("/secretRef/keys").and_then(Value::as_array);
        for (at, key) in keys
            .into_iter()
            .flatten()
            .enumerate()
            .filter(|(_, key)| key.is_string())
        {
            add(format!("{path}.keys[{at}]"), name, Some(key));
        }
    }
    found
}
