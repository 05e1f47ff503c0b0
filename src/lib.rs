//! Ringfence puts a fence around AI workflows on Kubernetes.
//!
//! Pure rooms decide and never do: [`api`], [`review`], [`policy`], [`fence`], [`images`], [`plan`], [`findings`], [`access`], [`draft`], [`gatekeeper`], [`decisions`], [`egress`]. They import no
//! client, no runtime, no clock and no environment, and `tests/layout` holds them to it. Shells do and never decide.

// Input decides what these would meet: an answer with a reason, never a crash of the replica. In tests a panic is the message.
#![cfg_attr(
    not(test),
    warn(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]
// A lock or a large future held over an await point stalls whoever shares the thread.
#![warn(clippy::await_holding_lock, clippy::dbg_macro, clippy::large_futures)]

pub mod access;
pub mod api;
pub mod cli;
pub mod decisions;
pub mod draft;
pub mod egress;
pub mod election;
pub mod fence;
pub mod findings;
pub mod gatekeeper;
pub mod images;
pub mod plan;
pub mod policy;
pub mod proxy;
pub mod reconcile;
pub mod registry;
pub mod review;
pub mod scan;
pub mod telemetry;
pub mod tls;
pub mod vetting;
pub mod watch;
pub mod webhook;
