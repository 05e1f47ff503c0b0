//! Tests on a real API server with RBAC on, against the real operator with the rights of its own service account. One control
//! plane serves all of them; each keeps to namespaces of its own.

mod admission;
mod admission_doors;
mod cel;
mod controlplane;
mod convergence;
mod diff;
mod direct;
mod draft;
mod drift;
mod examples;
mod faults;
mod fence;
mod fence_conditions;
mod grants;
mod identity;
mod launching;
mod metrics;
mod narrowing;
mod objects;
mod world;
