//! The admission server: bytes in, decision out, whatever the bytes are.
//!
//! Must never: hold a body that no budget covers, wait beyond the caller's deadline, answer 4xx once the uid can be read, or
//! let one request's failure touch another.

pub mod admit;
mod body;
mod connection;
mod handler;
mod health;
mod held;
mod judge;
mod limits;
pub mod lookup;
pub mod pages;
mod pool;
mod server;
mod threads;

use futures::future::BoxFuture;
use tokio::time::Instant;

pub use handler::router;
pub use health::{Gate, Readiness, health_router};
pub use judge::Policies;
pub use limits::{Limits, duration};
pub use pool::{OneByOne, Pool};
pub use server::{serve, serve_health, tls_config};

use crate::decisions::DecisionInput;
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
}

/// Decides reviews. One implementation decides for real; tests script their own.
pub trait Admit: Send + Sync + 'static {
    /// Decides one review, on a thread that may block. Whoever implements it keeps the deadline: the answer goes out in time
    /// without it, but work that does not yield cannot be stopped, and holds its slot until it ends.
    fn admit<'a>(&'a self, webhook: Webhook, review: &'a Review, deadline: Instant) -> BoxFuture<'a, Decision>;

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
    /// Every registration.
    pub const ALL: [Self; 4] = [Self::Fence, Self::Label, Self::Kinds, Self::Modes];

    /// The last segment of the path, and the label in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Label => "label",
            Self::Kinds => "kinds",
            Self::Modes => "modes",
        }
    }

    fn parse(segment: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|webhook| webhook.as_str() == segment)
    }
}
