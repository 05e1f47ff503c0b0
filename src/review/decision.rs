//! What was decided about a request, and how that is said to the API server.

/// One thing that does not fit inside the fence, said so that a person can act on it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Name of the fence rule or policy, such as `declared-workflow` or `no-literal-secrets`.
    pub policy: String,
    /// Path of the field, such as `spec.containers[0].image`; empty where no single field is at fault.
    pub path: String,
    /// The value found there; `None` where there is none, masked where it may be a secret.
    pub value: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}
