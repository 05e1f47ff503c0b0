//! Runs tests again whenever one of their files changes.

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{Args, files, test};
use crate::cli::terminal;
use crate::vetting::{How, Vetting};

/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Clears a terminal and what it scrolled away.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J\u{1b}[3J";

pub(super) fn run(args: &Args, how: &How, vetting: &Vetting) -> Result<ExitCode> {
    let colour = terminal::has_colour(&io::stdout());
    loop {
        // Before it is read: what changes while tests run is seen afterwards.
        let before = files::stamps(&args.paths);
        let files = files::read(&args.paths);
        let count = before.len();
        let report = test(args, how, vetting, files);
        let clear = if colour { CLEAR } else { "" };
        let head = format!("{clear}ringfence test, {count} files, again when one changes; Ctrl-C ends it\n\n");
        terminal::print(&(head + &report.text(args.verbose, colour) + "\n"))?;
        while files::stamps(&args.paths) == before {
            thread::sleep(LOOK);
        }
    }
}
