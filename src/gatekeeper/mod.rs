//! Gatekeeper's ConstraintTemplates and constraints, to RegoPolicies that decide the same.
//!
//! Each constraint becomes a policy: its template's Rego as it is, beside a module that asks it about the requests which Gatekeeper's
//! `match` means. Must never: leave a document aside without a word, or make a policy that decides less than Gatekeeper does without
//! saying so.

mod actions;
mod constraint;
mod documents;
mod expansion;
mod inventory;
mod matching;
mod module;
mod names;
mod parameters;
mod rules;
mod source;
mod template;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::policy::{Declared, LoadError};

pub use documents::is_gatekeeper;

/// An object, and where it is written.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// Its file.
    pub file: &'a str,
    /// The line that it begins at, from 1.
    pub line: u32,
    /// The object.
    pub object: &'a Value,
}

impl Document<'_> {
    fn problem(&self, message: impl Into<String>) -> LoadError {
        LoadError::at(self.file, self.line, None, message)
    }
}

/// What documents are converted to.
#[derive(Debug, Default)]
pub struct Converted {
    /// The policies, in the order of their constraints.
    pub policies: Vec<Made>,
    /// What could not be converted, and why.
    pub problems: Vec<LoadError>,
    /// What there was nothing to convert of.
    pub notes: Vec<LoadError>,
}

/// A policy that was made of a constraint.
#[derive(Clone, Debug)]
pub struct Made {
    /// The policy. It has not been loaded.
    pub policy: Declared,
    /// The constraint's file.
    pub file: String,
    /// The line that the constraint begins at.
    pub line: u32,
    /// What is not the same as in Gatekeeper, for people.
    pub notes: Vec<String>,
}

/// Converts what there is of Gatekeeper among documents. CustomResourceDefinitions among them tell the resources of kinds.
pub fn convert(documents: &[Document<'_>]) -> Converted {
    let mut converted = Converted::default();
    let sorted = documents::Sorted::of(documents, &mut converted);
    constraint::convert(&sorted, &mut converted);
    converted
}
