//! The cases of `tests/fixtures/cel.yaml`: objects that each break one CEL rule.

use serde::Deserialize;
use serde_json::{Value, json};

/// One object that breaks one rule.
#[derive(Deserialize)]
pub struct Case {
    /// What the case is called.
    pub case: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object; `valid` when absent.
    name: Option<String>,
    /// Spec before the update that is refused.
    old: Option<Value>,
    /// What is merged over a valid spec.
    #[serde(default)]
    spec: Value,
    /// Message of the rule.
    pub refused: String,
}

impl Case {
    /// The object that must be refused.
    pub fn object(&self) -> Value {
        valid(&self.kind, self.name.as_deref().unwrap_or("valid"), &self.spec)
    }

    /// The object that is there before it.
    pub fn old_object(&self) -> Option<Value> {
        self.old
            .as_ref()
            .map(|spec| valid(&self.kind, self.name.as_deref().unwrap_or("valid"), spec))
    }
}

/// Every case.
pub fn cases() -> Vec<Case> {
    serde_saphyr::from_str(include_str!("../../fixtures/cel.yaml")).expect("tests/fixtures/cel.yaml can be read")
}

/// A valid object of a kind, with the top-level fields of `spec` put over its own; null takes one away.
pub fn valid(kind: &str, name: &str, spec: &Value) -> Value {
    let mut whole = match kind {
        "AIWorkflow" => json!({"launchers": [{"user": "ci"}], "images": ["registry.example.com/finance/**"]}),
        "AIWorkflowGrant" => json!({
            "from": [{"namespace": "ai", "name": "triage"}],
            "rules": [{"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}],
        }),
        "RegoPolicy" => json!({
            "validationActions": ["Deny"],
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]},
            ]},
            "rego": {"modules": [{"name": "policy.rego", "source": "package valid\n\ndeny contains \"no\" if input.never\n"}]},
        }),
        "RegoPolicyException" => json!({
            "policies": ["no-literal-secrets"], "names": ["nightly"], "reason": "vendor image",
            "expiresAt": "2026-12-01T12:00:00Z",
        }),
        _ => json!({"images": {"allowed": ["**"]}}),
    };
    if let (Some(whole), Some(spec)) = (whole.as_object_mut(), spec.as_object()) {
        whole.extend(spec.clone());
        whole.retain(|_, value| !value.is_null());
    }
    json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": whole})
}
