//! What was decided about a request, and how that is said to the API server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decisions::Seen;

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

/// Everything that was found about one request. Allows only where nothing denies and nothing failed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Decision {
    /// Why it is refused.
    pub denials: Vec<Violation>,
    /// What the caller is told, beside the answer.
    pub warnings: Vec<Violation>,
    /// What is only logged and counted.
    pub audits: Vec<Violation>,
    /// Refusals of policies that exceptions excused.
    pub excused: Vec<Excuse>,
    /// Why it could not be decided, or not wholly. Refuses too.
    pub fault: Option<Fault>,
    /// Revision of the policies that decided, where they are not those that the process was started with.
    pub revision: Option<String>,
    /// Whether a fault lets pass: what asked has said that it may, and who sent the object had no part in it.
    pub fails_open: bool,
    /// What the decision was made from, masked, where its line is to hold it.
    pub seen: Option<Seen>,
    /// Whether a refusal is told as if the object were gone: controllers of Kubernetes pass over what is gone, and give up all else that they do
    /// where they may not adopt what looks like theirs.
    pub as_gone: bool,
}

/// A policy's refusal that an exception excused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Excuse {
    /// Name of the `RegoPolicyException`, in the namespace of the object.
    pub exception: String,
    /// Name of the policy.
    pub policy: String,
}

/// Why a request could not be decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// What kind of failure, which sets code and reason of the answer.
    pub cause: FaultCause,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

/// Kinds of failure, each with a code of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultCause {
    /// The review cannot be read.
    Invalid,
    /// A defect of Ringfence.
    Internal,
    /// The body is of another media type.
    MediaType,
    /// The time for the answer was over.
    Timeout,
    /// The body, an object in it, or one that it names, is larger or deeper than is read.
    TooLarge,
    /// An object in the body is no JSON to Ringfence, though it is to the API server.
    Unreadable,
    /// Something that the decision needs is overloaded or away.
    Unavailable,
    /// There was no room for it in time among what is in flight: of its namespace, of its sender, or of all.
    Crowded,
}

/// A decision in one word: a label of metrics and a field of the decision line.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing was found.
    Allow,
    /// Allowed, with findings that only the log names.
    Audit,
    /// Refused.
    Deny,
    /// Refused, because it could not be decided.
    #[default]
    Fault,
    /// Allowed, with warnings.
    Warn,
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
        self.denials.is_empty() && (self.fault.is_none() || self.fails_open)
    }

    /// The decision in one word. A refusal with good reasons is one, whatever failed beside it.
    pub fn outcome(&self) -> Outcome {
        if !self.denials.is_empty() {
            Outcome::Deny
        } else if self.fault.is_some() {
            Outcome::Fault
        } else if !self.warnings.is_empty() {
            Outcome::Warn
        } else if !self.audits.is_empty() {
            Outcome::Audit
        } else {
            Outcome::Allow
        }
    }

    /// Takes in what else was found about the same request.
    pub fn add(&mut self, other: Self) {
        self.denials.extend(other.denials);
        self.warnings.extend(other.warnings);
        self.audits.extend(other.audits);
        self.excused.extend(other.excused);
        self.fault = self.fault.take().or(other.fault);
        self.revision = self.revision.take().or(other.revision);
        self.fails_open &= other.fails_open;
    }

    /// The excuses by which it passed; none where it was refused all the same.
    pub fn used(&self) -> &[Excuse] {
        if self.allowed() { &self.excused } else { &[] }
    }

    /// Names of the policies that found something, each once, in order.
    pub fn policies(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for violation in self.denials.iter().chain(&self.warnings).chain(&self.audits) {
            if !names.contains(&violation.policy.as_str()) {
                names.push(&violation.policy);
            }
        }
        names
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

impl FaultCause {
    /// The code of the answer's status. Clients retry some of them.
    pub const fn code(self) -> u16 {
        match self {
            Self::Invalid | Self::Unreadable => 400,
            Self::Internal => 500,
            Self::MediaType => 415,
            Self::Timeout => 504,
            Self::TooLarge => 413,
            Self::Crowded | Self::Unavailable => 503,
        }
    }

    /// The reason of the answer's status, in the words of `meta/v1`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Invalid | Self::Unreadable => "BadRequest",
            Self::Internal => "InternalError",
            Self::MediaType => "UnsupportedMediaType",
            Self::Timeout => "Timeout",
            Self::TooLarge => "RequestEntityTooLarge",
            Self::Crowded | Self::Unavailable => "ServiceUnavailable",
        }
    }
}

impl Outcome {
    /// The word in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Audit => "audit",
            Self::Deny => "deny",
            Self::Fault => "fault",
            Self::Warn => "warn",
        }
    }
}
