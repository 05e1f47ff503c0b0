//! Image references and patterns of repositories: read in one way, here and by the container runtime.

mod pattern;
mod reference;

pub use pattern::{is_pattern, matches, may_overlap};
pub use reference::{is_pinned, repository};
