//! The decision log: the line that each decision leaves, the input that it holds on request, and what explains a line later.
//!
//! Pure. Must never: put a value into a line that is not known to be harmless. What is readable is listed; all else is masked.

mod catalogue;
mod explain;
mod input;
mod line;
mod mask;
mod notes;
mod read;
mod registered;
mod replay;
mod rules;
mod shapes;
mod text;

pub use catalogue::{Catalogue, Described, Kind};
pub use explain::{Explained, Explanation, Loaded, Objects, Replay, Used, explain};
pub use input::{
    DecisionInput, Input, InputClass, InputFacts, InputMode, MAX_INPUT, Recorded, Seen, Shown, ShownClass,
};
pub use line::{BEHIND, Line, MESSAGE, REGISTERED, TARGET, schema};
pub use mask::{is_plain, masked_object};
pub use read::{Logged, Read, read};
pub use replay::{Effect, Found};
pub use rules::{Door, Need, RULES, Rule, rule_of};

#[cfg(test)]
mod tests;
