//! For people: a table, with what is wrong and what to do below each line.

use super::{Report, told};
use crate::findings::{Finding, Severity};
use crate::review::clean;

const HEAD: [&str; 5] = ["SEVERITY", "NAMESPACE", "OBJECT", "WORKFLOW", "RULE"];
/// Widest column.
const MAX_COLUMN: usize = 48;

const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const BOLD: &str = "\u{1b}[1m";
const RESET: &str = "\u{1b}[0m";

impl Report {
    /// The report as a table. `colour` is for terminals only.
    pub fn table(&self, colour: bool) -> String {
        let mut text = String::new();
        if !self.findings.is_empty() {
            let rows: Vec<[String; 5]> = self.findings.iter().map(row).collect();
            let widths = widths(&rows);
            let painted = |line: &str, paint: &str| {
                if colour {
                    format!("{paint}{line}{RESET}\n")
                } else {
                    format!("{line}\n")
                }
            };
            text.push_str(&painted(&aligned(&HEAD.map(str::to_owned), &widths), BOLD));
            for (finding, row) in self.findings.iter().zip(&rows) {
                let paint = match finding.severity {
                    Severity::Error => RED,
                    Severity::Warning => YELLOW,
                };
                text.push_str(&painted(&aligned(row, &widths), paint));
                text.push_str(&format!("    {}\n", clean(&told(finding))));
                text.push_str(&format!("    Fix: {}\n", clean(&finding.fix)));
            }
            text.push('\n');
        }
        text.push_str(&self.summary());
        text.push('\n');
        text
    }

    /// One line about the whole.
    fn summary(&self) -> String {
        let looked = format!(
            "{} of {}",
            counted(self.extent.units, "workload or bare pod", "workloads and bare pods"),
            counted(self.namespaces, "namespace", "namespaces")
        );
        let more = match self.omitted {
            0 => String::new(),
            more => format!(", and {more} findings that are not listed"),
        };
        let incomplete = if self.is_complete() {
            ""
        } else {
            " Not all could be looked at."
        };
        if self.is_clean() {
            return format!("Nothing found in {looked}.{incomplete}");
        }
        format!(
            "{}, {}{more}; {} of {looked} would be refused.{incomplete}",
            counted(self.count(Severity::Error), "error", "errors"),
            counted(self.count(Severity::Warning), "warning", "warnings"),
            self.extent.refused
        )
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn row(finding: &Finding) -> [String; 5] {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { clean(text) };
    [
        finding.severity.as_str().to_owned(),
        or_dash(&finding.namespace),
        clean(&format!("{}/{}", finding.kind, finding.name)),
        or_dash(finding.workflow.as_deref().unwrap_or_default()),
        clean(&finding.rule),
    ]
}

fn widths(rows: &[[String; 5]]) -> [usize; 5] {
    let mut widths = HEAD.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count()).min(MAX_COLUMN);
        }
    }
    widths
}

fn aligned(row: &[String; 5], widths: &[usize; 5]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
    cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}
