//! The command line as a person runs it: the real binary, its output, its exit codes.
//!
//! `UPDATE_GENERATED=1 cargo test --test cli` writes the expected outputs in `tests/fixtures` anew: read the diff.

mod bench;
mod ci;
mod cluster;
mod convert;
mod explain;
mod logs;
mod policies;
mod render;
mod review;
mod run;
mod testing;
