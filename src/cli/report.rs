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
        Ok(ExitCode::from(self.fail_on.code(report)))
    }
}

impl FailOn {
    fn code(self, report: &Report) -> u8 {
        let fails = match self {
            Self::Error => report.has_errors(),
            Self::Warning => !report.is_clean(),
        };
        if report.is_complete() { u8::from(fails) } else { 2 }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::findings::{Extent, Place, Severity, Sink as _};
    use crate::review::Violation;

    #[rstest]
    #[case::nothing(None, [0, 0])]
    #[case::warning(Some(Severity::Warning), [0, 1])]
    #[case::error(Some(Severity::Error), [1, 1])]
    fn the_exit_code_is_by_the_worst_finding_and_by_gaps(#[case] found: Option<Severity>, #[case] codes: [u8; 2]) {
        let mut report = Report::default();
        if let Some(severity) = found {
            let place = Place {
                namespace: "ai".into(),
                kind: "Pod".into(),
                name: "p".into(),
                workflow: None,
            };
            let violation = Violation {
                policy: "r".into(),
                path: String::new(),
                value: None,
                message: "m".into(),
                fix: "f".into(),
            };
            report.found(place.finding(violation, severity));
        }
        assert_eq!([FailOn::Error, FailOn::Warning].map(|on| on.code(&report)), codes);
        let gaps = vec!["pods".to_owned()];
        report.looked(
            1,
            Extent {
                gaps,
                ..Extent::default()
            },
        );
        assert_eq!([FailOn::Error, FailOn::Warning].map(|on| on.code(&report)), [2, 2]);
    }
}
