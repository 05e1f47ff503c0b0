//! A real control plane for tests: an API server with RBAC on, clients of different users, Helm, and Ringfence itself.
//!
//! Tests never skip: what is missing is built (`tests/controlplane/build.sh`). Nothing outlives the test process, however it
//! ends, because every child stops when the pipe that this process holds is closed. One control plane serves a whole test
//! binary; tests keep apart by namespaces of their own ([`unique`]) and never change what another one may look at.

pub mod calls;
pub mod cel;
pub mod cert_manager;
pub mod chart;
mod commands;
mod control_plane;
mod eventually;
pub mod gatekeeper;
mod identity;
pub mod match_conditions;
pub mod namespaces;
pub mod network;
pub mod opa;
mod oracle;
pub mod pod_security;
pub mod process;
pub mod promql;
mod ringfence;

pub use commands::{Output, without_cargos_words};
pub use control_plane::{ControlPlane, Options, Ready, binaries, repository};
pub use eventually::eventually;
pub use identity::Identity;
pub use oracle::built;
pub use ringfence::Ringfence;

use std::sync::atomic::{AtomicU32, Ordering};

/// Namespace that Ringfence is installed into.
pub const RELEASE_NAMESPACE: &str = "ringfence-system";

/// A name that no other test of this process uses: `pod-without-label-7`.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
