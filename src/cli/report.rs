//! How findings are printed, and what exit code they are.

use std::{io, process::ExitCode};

use anyhow::Result;
use clap::{Args as ClapArgs, ValueEnum};

use super::terminal::{self, as_json, printable};
use crate::findings::Report;

/// Arguments of what prints findings.
#[derive(ClapArgs, Debug)]
pub(super) struct Output {
    /// How to print the findings.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// What of the findings makes the exit code 1.
    #[arg(long, value_enum, default_value_t)]
    fail_on: FailOn,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum FailOn {
    /// What would be refused, or opens what is not declared.
    #[default]
    Error,
    /// Any finding.
    Warning,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// One JSON object: `findings`, `gaps`, and a `summary`.
    Json,
    /// JUnit XML: a failed test case a finding.
    Junit,
    /// SARIF 2.1.0.
    Sarif,
    /// A table with the fix below each line, coloured on a terminal.
    #[default]
    Table,
}

impl Output {
    /// Prints a report: what could not be looked at to standard error too.
    pub(super) fn print(&self, report: &Report) -> Result<ExitCode> {
        for gap in report.gaps() {
            eprintln!("ringfence: {}", printable(gap));
        }
        let text = match self.output {
            Format::Json => as_json(&report.json())?,
            Format::Junit => report.junit(),
            Format::Sarif => as_json(&report.sarif(env!("CARGO_PKG_VERSION")))?,
            Format::Table => report.table(terminal::has_colour(&io::stdout())),
        };
        terminal::print(&text)?;
        Ok(if !report.is_complete() {
            ExitCode::from(2)
        } else if report.is_clean() || !(self.fail_on == FailOn::Warning || report.has_errors()) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
