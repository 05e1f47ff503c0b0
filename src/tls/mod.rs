//! The webhook's certificate: made, shared by replicas through one Secret, served, renewed, and trusted by the registration; or
//! somebody else's, served and trusted. And who may connect to where it is served.
//!
//! Must never: write over a Secret that is not ours, log or quote key material (nor an API error's text, which may quote an
//! object), serve what is not trusted yet while something that is can be served, or call the API server without a deadline.

mod authorities;
mod believed;
mod call;
mod client;
mod inject;
mod issue;
mod keeper;
mod pair;
mod provided;
mod resolver;
mod secret;

#[cfg(test)]
mod fake_api;

pub use authorities::AuthoritiesError;
pub use believed::{Believed, believed, roots_of};
pub use call::TlsError;
pub use client::{ClientAuthentication, ClientCaError};
pub use issue::Names;
pub use keeper::{Keeper, KeeperConfig, owner_of};
pub use provided::ProvidedError;
pub use resolver::Resolver;
