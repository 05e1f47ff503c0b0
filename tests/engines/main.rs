//! Engines with their own clients, as their users run them: each talks to the real API server from behind a launcher's account, with the
//! files of `examples/<engine>` and the settings that the page there names, and its pods are let in or refused.
//!
//! One control plane for all, with the rights of every engine under the ceiling. There is no kubelet: a pod that was let in stays Pending.

mod airflow;
mod argo;
mod client;
mod engine;
mod flows;
mod jobs;
mod n8n;
mod prefect;
mod ray;

#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/objects.rs"]
mod objects;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/world.rs"]
mod world;
