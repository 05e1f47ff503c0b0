//! The admission server: bytes in, decision out, whatever the bytes are.
//!
//! Must never: hold a body that no budget covers, wait beyond the caller's deadline, answer 4xx once the uid can be read, or
//! let one request's failure touch another.

pub mod admit;
mod body;
mod budget;
mod connection;
mod faults;
mod fetch;
mod handler;
mod health;
mod held;
mod judge;
mod limits;
pub mod lookup;
pub mod pages;
mod parting;
mod pool;
mod registered;
mod server;
mod shares;
mod threads;
mod vet;
mod whole;

use futures::future::BoxFuture;
use tokio::time::Instant;

pub use handler::router;
pub use health::{Concern, Gate, Readiness, health_router};
pub use judge::Policies;
pub use limits::{Limits, duration};
pub use parting::Parting;
pub use pool::{Asks, Evaluator, OneByOne, Pool};
pub use registered::RegoPolicies;
pub use server::{serve, serve_health, tls_config};
pub use vet::quoted;
pub use whole::Answer;

use crate::api::FailurePolicy;
use crate::decisions::{DecisionInput, REGISTERED};
use crate::policy::EntryId;
use crate::review::{Decision, Review};

/// The registrations, each with a path of its own.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Webhook {
    /// What makes or changes pods in an enforced namespace.
    Fence,
    /// Any object that carries the workflow label.
    Label,
    /// Objects of our own group.
    Kinds,
    /// Namespaces that get a mode.
    Modes,
    /// RoleBindings and ClusterRoleBindings that name an account of a fenced namespace.
    Bindings,
    /// What RegoPolicies match.
    Policies(EntryAsked),
}

/// Which webhook of the registration `ringfence-policies` asks, and of which version its policies are.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct EntryAsked {
    id: EntryId,
    version: u64,
}

impl EntryAsked {
    /// Reads both from the end of a path.
    fn parse(id: &str, version: &str) -> Option<Self> {
        let plain = version.len() == 12 && version.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let version = u64::from_str_radix(version, 16).ok().filter(|_| plain)?;
        Some(Self {
            id: id.parse().ok()?,
            version,
        })
    }

    fn version(self) -> String {
        format!("{:012x}", self.version)
    }
}

/// Decides reviews. One implementation decides for real; tests script their own.
pub trait Admit: Send + Sync + 'static {
    /// Decides one review, on a thread that may block. Whoever implements it keeps the deadline: the answer goes out in time
    /// without it, but work that does not yield cannot be stopped, and holds its slot until it ends.
    fn admit<'a>(&'a self, webhook: Webhook, review: &'a Review, deadline: Instant) -> BoxFuture<'a, Decision>;

    /// Whether a webhook refuses anything. What is asked to warn or to audit alone does not refuse what cannot be read either.
    fn denies(&self, _webhook: Webhook) -> bool {
        true
    }

    /// Revision of the policies in force, for the decision line.
    fn revision(&self) -> String {
        String::new()
    }

    /// How much of what was decided about goes into the decision line.
    fn records(&self) -> DecisionInput {
        DecisionInput::None
    }
}

impl Webhook {
    /// Those of fixed paths.
    pub const FIXED: [Self; 5] = [Self::Fence, Self::Label, Self::Kinds, Self::Modes, Self::Bindings];

    /// The last segment of the path, and the label in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Label => "label",
            Self::Kinds => "kinds",
            Self::Modes => "modes",
            Self::Bindings => "bindings",
            Self::Policies(_) => REGISTERED,
        }
    }

    /// How often a review is in memory while it is judged.
    fn copies(self) -> usize {
        match self {
            Self::Bindings | Self::Fence | Self::Kinds | Self::Label | Self::Modes => limits::COPIES,
            // Converted as it is and as the pod of its template, and once more parsed and converted behind the answer.
            Self::Policies(_) => 3 * limits::COPIES,
        }
    }

    /// Whether the API server lets pass what it gets no answer about, and so we do.
    fn fails_open(self) -> bool {
        match self {
            Self::Bindings | Self::Fence | Self::Kinds | Self::Label | Self::Modes => false,
            Self::Policies(asked) => asked.id.failure == FailurePolicy::Ignore,
        }
    }

    fn parse(segment: &str) -> Option<Self> {
        Self::FIXED.into_iter().find(|webhook| webhook.as_str() == segment)
    }
}
