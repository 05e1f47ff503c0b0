//! What was measured, as a table for people and as JSON for machines.

use std::fmt::Write as _;

use serde_json::{Value, json};
use support::process::percentile;

use crate::run::Row;

pub struct Report {
    /// By size, the smallest first.
    pub rows: Vec<Row>,
    pub quick: bool,
}

/// A line of the table: its name, and what it says of a size.
type Line = (&'static str, fn(&Row) -> String);

const LINES: [Line; 14] = [
    ("declared to all ready", |row| format!("{:.1} s", row.filled)),
    ("  a workflow", |row| {
        format!("{:.1} ms", 1000.0 * row.filled / row.workflows as f64)
    }),
    ("restart to all looked at", |row| format!("{:.1} s", row.started)),
    ("  a workflow", |row| {
        format!("{:.1} ms", 1000.0 * row.started / row.workflows as f64)
    }),
    ("  processor time of one", |row| {
        format!("{:.2} ms", 1000.0 * row.start_processor / row.workflows as f64)
    }),
    ("  calls for one", |row| {
        format!("{:.1}", row.start_calls / row.workflows as f64)
    }),
    ("  writes, in all", |row| format!("{:.0}", row.start_writes)),
    ("at rest, calls a minute", |row| format!("{:.0}", row.quiet_calls)),
    ("  writes a minute", |row| format!("{:.0}", row.quiet_writes)),
    ("  of one core", |row| format!("{:.1} %", 100.0 * row.quiet_processor)),
    ("resident memory", |row| {
        format!("{:.1} MiB", row.resident as f64 / 1024.0)
    }),
    ("change to NetworkPolicy, p50", |row| milliseconds(row, 0.5)),
    ("  p99", |row| milliseconds(row, 0.99)),
    ("  calls, writes for one", |row| {
        format!("{:.1}, {:.1}", row.change_calls, row.change_writes)
    }),
];

fn milliseconds(row: &Row, share: f64) -> String {
    format!("{:.1} ms", percentile(&row.changes, share) / 1e6)
}

impl Report {
    /// What each workflow adds to resident memory, in KiB, from the smallest size to the largest: of the process that was there when they
    /// were declared, and of a new one.
    fn memory_of_one(&self) -> Option<[f64; 2]> {
        let (first, last) = (self.rows.first()?, self.rows.last()?);
        let more = last.workflows.checked_sub(first.workflows).filter(|more| *more > 0)?;
        let grown = |resident: fn(&Row) -> u64| (resident(last) as f64 - resident(first) as f64) / more as f64;
        Some([grown(|row| row.filled_resident), grown(|row| row.resident)])
    }

    pub fn text(&self) -> String {
        let mut out = format!("{:<30}", "AIWorkflows");
        for row in &self.rows {
            let _ = write!(out, " {:>14}", row.workflows);
        }
        for (name, says) in LINES {
            let _ = write!(out, "\n{name:<30}");
            for row in &self.rows {
                let _ = write!(out, " {:>14}", says(row));
            }
        }
        out.push('\n');
        if let Some([filled, started]) = self.memory_of_one() {
            let _ = writeln!(
                out,
                "\nEach workflow adds {started:.1} KiB to a new process, {filled:.1} KiB to the one that saw it declared."
            );
        }
        let refused: f64 = self.rows.iter().map(|row| row.refused).sum();
        let _ = writeln!(
            out,
            "Ten workflows and a hundred pods in a namespace; {refused:.0} requests of anybody were turned away with 429.{}",
            if self.quick {
                " Quick: these figures say nothing."
            } else {
                ""
            }
        );
        out
    }

    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "workflows": row.workflows, "declaredToReadySeconds": row.filled, "restartSeconds": row.started,
                "restartProcessorSeconds": row.start_processor, "restartCalls": row.start_calls, "restartWrites": row.start_writes,
                "restCallsPerMinute": row.quiet_calls, "restWritesPerMinute": row.quiet_writes, "restCores": row.quiet_processor,
                "residentKiB": row.resident, "residentAfterDeclaringKiB": row.filled_resident,
                "changeNanoseconds": {"p50": percentile(&row.changes, 0.5), "p99": percentile(&row.changes, 0.99)},
                "changeCalls": row.change_calls, "changeWrites": row.change_writes, "refused": row.refused,
            })
        });
        json!({"rows": rows.collect::<Vec<_>>(), "quick": self.quick})
    }
}
