//! The egress proxy: connections of pods, checked against what their workflows declare, and bytes moved.
//!
//! `src/egress` decides; this room asks the API server, DNS and sockets, and does what was decided. Must never: connect to an address that
//! was not checked, hold a request's body or an idle connection's buffer, or let one pod take what others need.

mod accounts;
mod answer;
mod connect;
mod connections;
mod dial;
mod exchange;
mod forward;
mod health;
mod held;
mod limits;
mod line;
mod listen;
mod look_ups;
mod names;
mod open;
mod pages;
mod patient;
mod places;
mod ports;
mod relay;
mod resolve;
mod serve;
mod tokens;
mod waiting;
mod watches;
mod wire;

pub use accounts::Accounts;
pub use connections::withdraw;
pub use health::{Health, health_router};
pub use limits::Limits;
pub use listen::{listen, listen_for_datagrams};
pub use names::{NamePort, serve_names};
pub use resolve::{NotResolved, Resolver, ask_one, system_servers};
pub use serve::{Proxy, serve};
pub use tokens::Tokens;
pub use watches::{Callers, follow};
