//! What the integration tests share.

pub mod cel;
