//! Holds the house to its plan: pure rooms stay pure, and generated files are what the code generates.
//!
//! `UPDATE_GENERATED=1 cargo test --test layout` (or `make generate`) writes them anew.

mod cel;
mod generated;
mod purity;
mod threats;
mod values;
