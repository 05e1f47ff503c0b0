//! The value of a document, with bounds on what aliases make of it.

use serde_json::Value;
use serde_saphyr::{Error, Location, Options};

use super::{Document, Problem, alike, plain};

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

/// The value of a document, where kubectl reads the same.
pub(in crate::cli) fn parse(document: &Document) -> Result<Value, Problem> {
    alike::lines(document)?;
    let value =
        serde_saphyr::from_str_with_options(&document.text, options()).map_err(|error| told(document, &error))?;
    plain::marks(document)?;
    plain::words(document)?;
    alike::merges(document, &value)?;
    Ok(value)
}

/// What is wrong with it, at its place in the file.
pub(super) fn told(document: &Document, error: &Error) -> Problem {
    let text = error.without_snippet().to_string();
    // Its own place counts from the start of the document; ours is the file's.
    let message = text.lines().next().unwrap_or_default();
    let message = message
        .split(" at line ")
        .next()
        .unwrap_or(message)
        .trim_end_matches(':');
    let message = format!("this is no YAML: {message}");
    match error.location() {
        Some(place) => at(document, place, message),
        None => Problem::at(document.line, message),
    }
}

/// A problem at a place of a document.
pub(super) fn at(document: &Document, place: Location, message: String) -> Problem {
    let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let column = number(place.column()).saturating_sub(1);
    placed(document, number(place.line()), column, message)
}

/// A problem at a line of a document, from 1, behind so many characters.
pub(super) fn placed(document: &Document, line: usize, before: usize, message: String) -> Problem {
    Problem::below(document.first, line.saturating_sub(1), before, message)
}
