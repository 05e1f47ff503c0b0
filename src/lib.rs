//! Ringfence puts a fence around AI workflows on Kubernetes.
//!
//! Pure rooms decide and never do: [`api`], [`review`], [`policy`], [`fence`], [`images`], [`plan`]. They import no client, no runtime, no
//! clock and no environment, and `tests/layout` holds them to it. Shells do and never decide.

pub mod api;
pub mod cli;
pub mod fence;
pub mod images;
pub mod plan;
pub mod policy;
pub mod reconcile;
pub mod review;
pub mod telemetry;
pub mod tls;
pub mod webhook;
