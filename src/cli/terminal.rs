//! What a subcommand says to whoever sits at the terminal, or reads the pipe.
//!
//! Must never: let through what a terminal obeys. Names and values come from files and from clusters, written by others.

use std::{
    io::{self, IsTerminal, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::review::misleads;

/// Says why a subcommand could not do what it was asked, in exit code 2.
pub(super) fn fail(error: &anyhow::Error) -> ExitCode {
    // The whole chain: the last cause is mostly the one to act on.
    let told = format!("ringfence: {error:#}");
    told.lines().for_each(|line| eprintln!("{}", printable(line)));
    ExitCode::from(2)
}

/// Whether what is written there may be coloured.
pub(super) fn has_colour(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// Writes to standard output.
pub(super) fn print(text: &str) -> Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has enough, as with `| head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write"),
    }
}

/// JSON for people and machines.
pub(super) fn as_json(value: &Value) -> Result<String> {
    // JSON leaves some of what a terminal obeys as it is; outside its texts there is nothing of that but the line ends.
    let mut text = String::new();
    for c in serde_json::to_string_pretty(value)?.chars() {
        if c != '\n' && misleads(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    Ok(text + "\n")
}

/// YAML, or JSON where that would hold what misleads, but for these: JSON has it escaped, and is YAML too.
pub(super) fn as_yaml(value: &Value, but_for: &[char]) -> Result<String> {
    let text = serde_saphyr::to_string(value)?;
    if text.chars().any(|c| !but_for.contains(&c) && misleads(c)) {
        return as_json(value);
    }
    Ok(text)
}

/// One line, with a placeholder for whatever a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| if misleads(c) { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}
