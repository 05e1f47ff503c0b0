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

/// Everything that was found about one request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Decision {
    /// Why it is refused.
    pub denials: Vec<Violation>,
    /// What the caller is told, beside the answer.
    pub warnings: Vec<Violation>,
    /// What is only logged and counted.
    pub audits: Vec<Violation>,
    /// Why it could not be decided. Refuses too.
    pub fault: Option<Fault>,
}

/// Why a request could not be decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// What kind of failure.
    pub cause: FaultCause,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultCause {
    /// The review cannot be read.
    Invalid,
    /// A defect of Ringfence.
    Internal,
    /// The time for the answer was over.
    Timeout,
    /// Something that the decision needs is overloaded or away.
    Unavailable,
}

impl Decision {
    /// The decision about a request that could not be decided.
    pub fn from_fault(fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..Self::default()
        }
    }

    /// Whether the request passes.
    pub fn allowed(&self) -> bool {
        self.denials.is_empty() && self.fault.is_none()
    }
}

impl Fault {
    /// A fault: what happened, and what to do about it.
    pub fn new(cause: FaultCause, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            cause,
            message: message.into(),
            fix: fix.into(),
        }
    }
}
