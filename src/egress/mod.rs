//! Egress by domain: what a workflow may reach by name, and what a connection asks for.
//!
//! Everything that the proxy decides is decided here; `src/proxy` only moves bytes. Must never: read a name in two ways. What is declared,
//! what a client names and what a TLS handshake says are compared as the same text, or not at all.

mod allowed;
mod domain;

pub use allowed::{ANNOTATION, Allowed, MAX_TEXT, PortRange, Refusal, Rule, TooLong, Unreadable, Verdict};
pub use domain::{Domain, Host, MAX_DOMAIN, NotAHost, Pattern};
