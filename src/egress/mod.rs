//! Egress by domain: what a workflow may reach by name, and what a connection asks for.
//!
//! Everything that the proxy decides is decided here; `src/proxy` only moves bytes. Must never: read a name in two ways. What is declared,
//! what a client names and what a TLS handshake says are compared as the same text, or not at all.

mod account;
mod allowed;
mod answers;
mod asked;
mod client_hello;
mod credential;
mod dns;
mod domain;
mod index;
mod memory;
mod report;
mod snapshot;
mod target;

pub use account::{Account, Counted, CountedDomain, CountedRefusal, CountedWorkflow, Used};
pub use allowed::{ANNOTATION, Allowed, MAX_TEXT, Permit, PortRange, Refusal, Rule, TooLong, Unreadable, Verdict};
pub use answers::{Answers, Closed};
pub use asked::{Asked, ClusterDomains, Code, Fate, MAX_QUESTION, Unreadable as UnreadableQuestion};
pub use client_hello::{ClientHello, MAX_HELLO, NotForHost, Reader};
pub use credential::{Holder, NotACredential, Token};
pub use dns::{Family, NotAnAnswer, Question, Reply};
pub use domain::{Domain, Host, MAX_DOMAIN, NotAHost, Pattern};
pub use index::{Event, Index, Key, Kind, Pod, Policy, Seen, Workflow};
pub use memory::{MAX_NAMES, MAX_REMEMBERED, News, Replies, holds_for, news, remember};
pub use report::{Declared, Report, Silent};
pub use snapshot::{Denied, NoCaller, Passed, Rounds, Snapshot, Withdrawn};
pub use target::{BadRequest, Target};
