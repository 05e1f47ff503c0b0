//! Bytes to facts about one admission request, and a decision back to bytes.
//!
//! Must never: trust a typed struct with an object (a field newer than our types would slip by), lose the uid once it can be
//! read, or put a whole object into an error.

mod decision;
mod head;
mod parse;
mod render;
mod size;
mod standing;
mod text;
mod uid;
mod value;

pub use decision::{Decision, Excuse, Fault, FaultCause, Outcome, Violation};
pub use head::{HEAD, Head};
pub use parse::{Gvk, Gvr, Operation, ParseError, Problem, Review, User};
pub use render::{clean, clip_bytes, misleads};
pub use text::{make_text, make_text_but_its_end};
pub use uid::{MAX_UID, uid_of};
pub use value::{
    Keep, MAX_WEIGHT, is_its_writers, parse_kept, parse_within, read_kept, read_object, weight, weight_of,
};
