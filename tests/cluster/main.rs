//! Tests on a real API server with RBAC on. One control plane serves all of them; each keeps to namespaces of its own.

mod controlplane;
mod examples;
mod launching;
mod narrowing;
