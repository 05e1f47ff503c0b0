//! Tests on a real API server with RBAC on, against the real operator with the rights of its own service account. One control
//! plane serves all of them; each keeps to namespaces of its own.

mod admission;
mod admission_doors;
mod adoption;
mod bad_input;
mod bounds;
mod brownfield;
mod cel;
mod cluster_ranges;
mod controlplane;
mod convergence;
mod debug;
mod diff;
mod direct;
mod draft;
mod drift;
mod examples;
mod exceptions;
mod faults;
mod fence;
mod fence_conditions;
mod grants;
mod identity;
mod kinds;
mod launcher_names;
mod launching;
mod metrics;
mod narrowing;
mod network;
mod objects;
mod predecessors;
mod shape;
mod surroundings;
mod trust;
mod world;
