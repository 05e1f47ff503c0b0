//! The value of a document, with bounds on what aliases make of it.

use serde_json::Value;
use serde_saphyr::{Error, Options};

use super::{Document, Problem};

/// Deepest nesting. Definitions of operators' kinds take half of it; twice as much takes more stack than a thread has.
const MAX_DEPTH: usize = 64;
/// Most values of a document.
const MAX_NODES: usize = 500_000;
/// Most values that aliases may repeat.
const MAX_REPEATED: usize = 50_000;

/// How documents are read.
pub(in crate::cli) fn options() -> Options {
    let mut options = serde_saphyr::options! {
        // Snippets of the input in an error would carry what else lies in the file, Secrets included.
        with_snippet: false,
    };
    options.budget = serde_saphyr::budget! {
        max_depth: MAX_DEPTH,
        max_documents: 2,
        max_nodes: MAX_NODES,
    };
    options.alias_limits.max_total_replayed_events = MAX_REPEATED;
    options
}

/// The value of a document.
pub(in crate::cli) fn parse(document: &Document) -> Result<Value, Problem> {
    serde_saphyr::from_str_with_options(&document.text, options()).map_err(|error| told(document, &error))
}

/// What is wrong with it, at its place in the file.
pub(in crate::cli) fn told(document: &Document, error: &Error) -> Problem {
    let place = error.location();
    let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let line = place.map_or(document.line, |place| {
        document.first.saturating_add(number(place.line()).saturating_sub(1))
    });
    let text = error.without_snippet().to_string();
    // Its own place counts from the start of the document; ours is the file's.
    let message = text.lines().next().unwrap_or_default();
    let message = message
        .split(" at line ")
        .next()
        .unwrap_or(message)
        .trim_end_matches(':');
    Problem {
        line,
        column: place.map(|place| number(place.column())),
        message: format!("this is no YAML: {message}"),
    }
}
