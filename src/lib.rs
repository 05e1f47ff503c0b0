//! Ringfence puts a fence around AI workflows on Kubernetes.
//!
//! Pure rooms decide and never do: [`api`], [`review`], [`policy`], [`fence`], [`plan`], [`index`]. They import no client,
//! no runtime, no clock and no environment, and `tests/layout` holds them to it. Shells do and never decide.

pub mod api;
pub mod plan;
pub mod reconcile;
pub mod review;
pub mod telemetry;
pub mod tls;
pub mod webhook;
