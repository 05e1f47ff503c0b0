//! What a scan needs to know of an AIWorkflow, from raw JSON: whoever wrote one that our types cannot read has an account too.

use serde_json::{Map, Value};

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
            account: text("/spec/identity/serviceAccountName").unwrap_or_else(|| name.clone()),
            name,
        })
    }
}
