//! What was measured, as tables for people and as JSON for machines.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde_json::{Value, json};

use crate::guards::Guards;
use crate::manifests::Manifests;
use crate::measure::{Growth, IN_FLIGHT, Probe, Row, spread};
use crate::policies::{Each, Loading};
use support::process::percentile;

/// The row that needs a control plane.
pub const LIVE: &str = "ringfence, live facts";
/// Fewer policies add less than two servers differ by.
const ENOUGH: usize = 10;
const NOT_MEASURED: &str = "not measured: run make controlplane";

pub struct Report {
    pub machine: Machine,
    /// The first is what the others are compared with.
    pub probes: Vec<Probe>,
    pub growths: Vec<Growth>,
    pub each: Each,
    pub loading: Loading,
    pub manifests: Manifests,
    /// `None` where there is no control plane.
    pub guards: Option<Guards>,
    pub quick: bool,
    /// Sizes of the review that is admitted and of the one that is refused.
    pub reviews: (usize, usize),
    pub took: Duration,
}

pub struct Machine {
    cores: usize,
    model: String,
    /// Of the last minute, when the run began.
    load: f64,
}

impl Machine {
    pub fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let information = text("/proc/cpuinfo");
        let model = information.lines().find_map(|line| line.strip_prefix("model name"));
        let load = text("/proc/loadavg");
        Self {
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            model: model
                .unwrap_or(": unknown")
                .trim_start_matches([' ', '\t', ':'])
                .to_owned(),
            load: load
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or_default(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, model, load } = self;
        write!(f, "{cores} cores, {model}, load {load:.1} when it began")
    }
}

/// What the table says of one server.
struct Line<'a> {
    probe: &'a Probe,
    p50: f64,
    p99: f64,
    rate: f64,
    processor: f64,
    /// Ratios to the bare limit, round by round.
    times_p50: [f64; 3],
    times_rate: [f64; 3],
}

impl Report {
    fn lines(&self) -> Vec<Line<'_>> {
        let Some(bare) = self.probes.first() else {
            return Vec::new();
        };
        let line = |probe| {
            let Probe { rounds, .. }: &Probe = probe;
            let pairs = || rounds.iter().zip(&bare.rounds);
            let p50 = |latencies: &[u64]| percentile(latencies, 0.5);
            let latencies = probe.latencies();
            Line {
                p50: p50(&latencies),
                p99: percentile(&latencies, 0.99),
                rate: spread(rounds.iter().map(|round| round.rate).collect())[0],
                processor: rounds.iter().map(|round| round.processor).sum::<f64>() / rounds.len() as f64,
                times_p50: spread(pairs().map(|(a, b)| p50(&a.latencies) / p50(&b.latencies)).collect()),
                times_rate: spread(pairs().map(|(a, b)| a.rate / b.rate).collect()),
                probe,
            }
        };
        self.probes.iter().map(line).collect()
    }

    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "{}\n", self.head());
        let _ = writeln!(
            out,
            "{:<22} {:>8} {:>8}  {:<20} {:>9}  {:<20} {:>8} {:>8}",
            "server", "p50", "p99", "p50 / bare", "reviews/s", "reviews/s / bare", "CPU", "memory"
        );
        let is_live = |probe: &Probe| probe.name == LIVE;
        for line in self.lines() {
            let _ = writeln!(
                out,
                "{:<22} {:>8} {:>8}  {:<20} {:>9.0}  {:<20} {:>8} {:>8}",
                line.probe.name,
                time(line.p50),
                time(line.p99),
                range(line.times_p50),
                line.rate,
                range(line.times_rate),
                time(line.processor * 1e9),
                memory(line.probe.resident),
            );
        }
        if !self.probes.iter().any(is_live) {
            let _ = writeln!(out, "{:<22} {NOT_MEASURED}", LIVE);
        }
        let _ = writeln!(
            out,
            "\np50, p99: one review at a time. reviews/s and CPU (of the server, for each review): {IN_FLIGHT} in flight.\n\
             Ratios: round by round against bare; the median, and in brackets the least and the largest."
        );
        for growth in &self.growths {
            out.push('\n');
            out.push_str(&table(growth));
        }
        let _ = write!(
            out,
            "\n{}\n{}\n{}\n{}",
            self.each.text(),
            self.loading.text(),
            self.manifests.text(),
            match &self.guards {
                Some(guards) => guards.text(),
                None => format!("through the API server {NOT_MEASURED}\n"),
            }
        );
        out
    }

    fn head(&self) -> String {
        let mut head = format!(
            "{}; make bench, {} s; reviews of {:.1} kB (admitted) and {:.1} kB (refused)",
            self.machine,
            self.took.as_secs(),
            self.reviews.0 as f64 / 1000.0,
            self.reviews.1 as f64 / 1000.0
        );
        if self.quick || cfg!(debug_assertions) {
            head.push_str("\nNOT A MEASUREMENT: a quick run, or a build without optimization");
        }
        head
    }

    pub fn json(&self) -> Value {
        let servers: Vec<Value> = self
            .lines()
            .iter()
            .map(|line| {
                json!({
                    "name": line.probe.name, "p50Nanoseconds": line.p50, "p99Nanoseconds": line.p99,
                    "p50ToBare": three(line.times_p50), "reviewsPerSecond": line.rate, "reviewsPerSecondToBare": three(line.times_rate),
                    "processorSecondsPerReview": line.processor, "residentKiB": line.probe.resident, "rounds": line.probe.rounds.len(),
                })
            })
            .collect();
        let growths: Vec<Value> = self
            .growths
            .iter()
            .map(|growth| {
                let rows = growth.rows.iter().map(|row| {
                    let columns = growth.columns.iter().enumerate().map(|(index, name)| {
                        let value = json!({"p50Nanoseconds": p50(row, index), "toFirstRow": three(to_first(growth, row, index))});
                        ((*name).to_owned(), value)
                    });
                    let columns: serde_json::Map<String, Value> = columns.collect();
                    json!({
                        "label": row.label, "bytes": row.bytes, "policies": row.policies, "residentKiB": row.resident, "servers": columns,
                    })
                });
                json!({"by": growth.by, "rows": rows.collect::<Vec<_>>()})
            })
            .collect();
        json!({
            "machine": {"cores": self.machine.cores, "model": self.machine.model, "load": self.machine.load},
            "quick": self.quick, "debug": cfg!(debug_assertions), "seconds": self.took.as_secs(), "inFlight": IN_FLIGHT,
            "reviewBytes": {"admitted": self.reviews.0, "refused": self.reviews.1},
            "servers": servers, "growth": growths, "onePolicy": self.each.json(), "load": self.loading.json(),
            "manifests": self.manifests.json(), "guards": self.guards.as_ref().map(Guards::json),
        })
    }
}

fn table(growth: &Growth) -> String {
    let mut out = format!("{:<12} {:>10}", growth.by, "review");
    for column in growth.columns {
        let _ = write!(out, "  {:>14} {:<20}", format!("{column} p50"), "/ first row");
    }
    if growth.rows.iter().any(|row| row.resident.is_some()) {
        let _ = write!(out, "  {:>8}", "memory");
    }
    if growth.rows.iter().any(|row| row.policies.is_some()) {
        let _ = write!(out, "  {:>10} {:>12}", "/ policy", "/ 100 of them");
    }
    out.push('\n');
    for row in &growth.rows {
        let _ = write!(out, "{:<12} {:>7.1} kB", row.label, row.bytes as f64 / 1000.0);
        for index in 0..growth.columns.len() {
            let _ = write!(
                out,
                "  {:>14} {:<20}",
                time(p50(row, index)),
                range(to_first(growth, row, index))
            );
        }
        if let Some(resident) = row.resident {
            let _ = write!(out, "  {:>8}", memory(resident));
        }
        if let Some((nanoseconds, bytes)) = added(growth, row) {
            let _ = write!(out, "  {:>10} {:>10.1} MB", time(nanoseconds), bytes * 100.0 / 1e6);
        }
        out.push('\n');
    }
    out
}

fn p50(row: &Row, column: usize) -> f64 {
    let rounds = row.columns.get(column).into_iter().flatten();
    spread(rounds.map(|round| percentile(round, 0.5)).collect())[0]
}

/// What each policy beyond those of the first row adds: nanoseconds in the first column, and bytes.
fn added(growth: &Growth, row: &Row) -> Option<(f64, f64)> {
    let first = growth.rows.first()?;
    let more = row
        .policies?
        .checked_sub(first.policies?)
        .filter(|more| *more >= ENOUGH)? as f64;
    let bytes = (row.resident? as f64 - first.resident? as f64) * 1024.0;
    Some(((p50(row, 0) - p50(first, 0)) / more, bytes / more))
}

fn to_first(growth: &Growth, row: &Row, column: usize) -> [f64; 3] {
    let rounds = |row: &Row| -> Vec<f64> {
        let rounds = row.columns.get(column).into_iter().flatten();
        rounds.map(|round| percentile(round, 0.5)).collect()
    };
    let first = growth.rows.first().map(rounds).unwrap_or_default();
    spread(rounds(row).iter().zip(&first).map(|(a, b)| a / b).collect())
}

pub fn time(nanoseconds: f64) -> String {
    let microseconds = nanoseconds / 1e3;
    if microseconds < 1e4 {
        format!("{microseconds:.0} µs")
    } else {
        format!("{:.1} ms", microseconds / 1e3)
    }
}

pub fn three([median, least, largest]: [f64; 3]) -> Value {
    json!({"median": median, "min": least, "max": largest})
}

pub fn memory(kib: u64) -> String {
    format!("{:.1} MB", kib as f64 * 1024.0 / 1e6)
}

pub fn range([median, least, largest]: [f64; 3]) -> String {
    format!("{median:.2} ({least:.2}–{largest:.2})")
}
