//! The egress proxy on a real API server, with a real DNS server, real TLS and real clients: who gets through to where, and who does not.
//!
//! Pods are objects whose addresses are in 127.0.0.0/8, and their connections come from there. Hosts listen on loopback too, which the
//! platform opens for the domains of these tests by `--allow-private-answers`.

mod bench;
mod bounds;
mod callers;
mod client;
mod clients;
mod dns;
mod hosts;
mod http;
mod lasting;
mod names;
mod resolving;
mod withdrawal;
mod world;
