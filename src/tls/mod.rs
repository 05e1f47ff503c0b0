//! The webhook's certificate: made, shared by replicas through one Secret, served, renewed, and trusted by the registration.
//!
//! Must never: write over a Secret that is not ours, log or quote key material (nor an API error's text, which may quote an
//! object), or call the API server without a deadline.

mod call;
mod inject;
mod issue;
mod keeper;
mod resolver;
mod secret;

#[cfg(test)]
mod fake_api;

pub use call::TlsError;
pub use issue::Names;
pub use keeper::{Keeper, KeeperConfig, owner_of};
pub use resolver::Resolver;
