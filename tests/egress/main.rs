//! The egress proxy on a real API server, with a real DNS server, real TLS and real clients: who gets through to where, and who does not.
//!
//! Pods are objects whose addresses are in 127.0.0.0/8, and their connections come from there. Hosts listen on loopback too, which the
//! platform opens for the domains of these tests by `--allow-private-answers`.

#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/world.rs"]
mod actors;
mod bench;
mod bounds;
mod callers;
mod client;
mod clients;
mod cluster_names;
mod dns;
mod hosts;
mod http;
mod kubelet;
mod lasting;
mod names;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/objects.rs"]
mod objects;
mod resolved;
mod resolving;
mod shares;
mod stalled;
mod together;
mod tokens;
mod withdrawal;
mod world;
