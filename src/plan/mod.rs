//! What a declaration means. Placeholder until the plan room is merged: that room takes its place.

mod namespace;

use serde_json::Value;

pub use namespace::{NamespaceFacts, default_deny};

use crate::api::{AIWorkflow, AIWorkflowClass, Reason};

/// Answer to "may this declaration stand here?".
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Acceptance {
    /// Whether it may.
    pub accepted: bool,
    /// Reason of the condition.
    pub reason: Reason,
    /// Message of the condition.
    pub message: String,
}

/// Judges a declaration by itself and against its class.
pub fn accept(
    workflow: &AIWorkflow,
    namespace: &NamespaceFacts,
    class_name: Option<&str>,
    class: Option<&AIWorkflowClass>,
) -> Acceptance {
    let refused = |reason, message: &str| Acceptance {
        accepted: false,
        reason,
        message: message.to_owned(),
    };
    if class_name.is_none() || namespace.exempt {
        return refused(Reason::NamespaceNotFenced, "the namespace is not fenced");
    }
    if workflow.spec.images.is_empty() {
        return refused(Reason::Invalid, "spec.images is empty");
    }
    let Some(class) = class else {
        return refused(Reason::ClassMissing, "the class does not exist");
    };
    if class
        .spec
        .images
        .as_ref()
        .is_none_or(|images| images.allowed.is_empty())
    {
        return refused(Reason::OutsideClass, "the class allows no image");
    }
    Acceptance {
        accepted: true,
        reason: Reason::Accepted,
        message: String::new(),
    }
}

/// Whether an observed object says exactly what is desired.
pub fn same(desired: &Value, observed: &Value) -> bool {
    desired.get("spec") == observed.get("spec")
}
