//! The costs, as a table or as JSON that a later run may be compared with.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::measure::{Measured, Times};
use crate::cli::terminal::printable;

/// What of an earlier run is compared.
#[derive(Debug, Deserialize)]
pub(super) struct Baseline {
    requests: usize,
    total: Row,
    policies: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Row {
    p50_microseconds: f64,
}

#[derive(Debug, Deserialize)]
struct Named {
    policy: String,
    p50_microseconds: f64,
}

pub(super) struct Report {
    measured: Measured,
    revision: String,
    baseline: Option<Baseline>,
    /// By policy.
    before: BTreeMap<String, f64>,
}

#[allow(clippy::cast_precision_loss)]
fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

/// Three digits or so, in a unit that fits.
fn shown(nanoseconds: u64) -> String {
    let time = microseconds(nanoseconds);
    if time < 10.0 {
        format!("{time:.2} µs")
    } else if time < 10_000.0 {
        format!("{time:.0} µs")
    } else {
        format!("{:.1} ms", time / 1000.0)
    }
}

impl Report {
    pub(super) fn new(measured: Measured, revision: &str, baseline: Option<Baseline>) -> Self {
        let before = baseline.iter().flat_map(|baseline| &baseline.policies);
        Self {
            before: before.map(|row| (row.policy.clone(), row.p50_microseconds)).collect(),
            measured,
            revision: revision.to_owned(),
            baseline,
        }
    }

    /// The dearest first.
    fn rows(&self) -> Vec<(&str, &Times, f64)> {
        let all: u64 = self
            .measured
            .policies
            .values()
            .map(Times::sum)
            .fold(0, u64::saturating_add);
        let rows = self.measured.policies.iter();
        let mut rows: Vec<_> = rows
            .map(|(name, times)| {
                (
                    name.as_str(),
                    times,
                    microseconds(times.sum()) / microseconds(all.max(1)),
                )
            })
            .collect();
        rows.sort_by_key(|(_, times, _)| std::cmp::Reverse(times.sum()));
        rows
    }

    fn ratio(&self, name: &str, times: &Times) -> Option<f64> {
        let before = self.before.get(name).filter(|before| **before > 0.0)?;
        Some(microseconds(times.percentile(50)) / before)
    }

    fn total_ratio(&self) -> Option<f64> {
        let before = self.baseline.as_ref()?.total.p50_microseconds;
        (before > 0.0).then(|| microseconds(self.measured.all.percentile(50)) / before)
    }

    pub(super) fn table(&self) -> String {
        let measured = &self.measured;
        let width = measured
            .policies
            .keys()
            .map(|name| name.chars().count())
            .max()
            .unwrap_or_default()
            .max(24);
        let mut out = format!(
            "{} policies, {} requests, {} rounds in {:.1} s, each policy in turn; times of one evaluation\n\n",
            measured.policies.len(),
            measured.requests,
            measured.rounds,
            measured.took.as_secs_f64()
        );
        out.push_str(&format!(
            "{:<width$} {:>11} {:>9} {:>9} {:>9} {:>7}{}\n",
            "policy",
            "evaluations",
            "least",
            "p50",
            "p99",
            "share",
            if self.baseline.is_some() { "   before" } else { "" }
        ));
        let ratio = |ratio: Option<f64>| match (&self.baseline, ratio) {
            (None, _) => String::new(),
            (Some(_), None) => format!("{:>9}", "–"),
            (Some(_), Some(ratio)) => format!("{:>9}", format!("x {ratio:.2}")),
        };
        let mut row = |name: &str, times: &Times, share: &str, ratio: &str| {
            out.push_str(&format!(
                "{:<width$} {:>11} {:>9} {:>9} {:>9} {share:>7}{ratio}\n",
                printable(name),
                times.nanoseconds.len(),
                shown(times.least()),
                shown(times.percentile(50)),
                shown(times.percentile(99)),
            ));
        };
        for (name, times, share) in self.rows() {
            row(
                name,
                times,
                &format!("{:.1} %", share * 100.0),
                &ratio(self.ratio(name, times)),
            );
        }
        row("all, for one request", &measured.all, "", &ratio(self.total_ratio()));
        row("of it, to read it", &measured.reading, "", "");
        out
    }

    pub(super) fn json(&self) -> Value {
        let times = |times: &Times| {
            json!({
                "evaluations": times.nanoseconds.len(),
                "least_microseconds": microseconds(times.least()),
                "p50_microseconds": microseconds(times.percentile(50)),
                "p99_microseconds": microseconds(times.percentile(99)),
                "errors": times.errors,
            })
        };
        let with = |mut row: Value, fields: Vec<(&str, Value)>| {
            if let Some(row) = row.as_object_mut() {
                row.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
            }
            row
        };
        let policies = self.rows().into_iter().map(|(name, own, share)| {
            with(
                times(own),
                vec![
                    ("policy", json!(name)),
                    ("share", json!(share)),
                    ("ratio", json!(self.ratio(name, own))),
                ],
            )
        });
        json!({
            "policies": policies.collect::<Vec<_>>(),
            "total": with(times(&self.measured.all), vec![("ratio", json!(self.total_ratio()))]),
            "reading": times(&self.measured.reading),
            "requests": self.measured.requests,
            "rounds": self.measured.rounds,
            "seconds": self.measured.took.as_secs_f64(),
            "revision": self.revision,
        })
    }

    /// What a reader should know before believing it.
    pub(super) fn warn(&self) {
        for (name, times) in &self.measured.policies {
            if let Some(error) = &times.error {
                let told = format!(
                    "{name} failed in {} of {} evaluations, which says little of its cost: {error}",
                    times.errors,
                    times.nanoseconds.len()
                );
                eprintln!("ringfence: {}", printable(&told));
            }
        }
        if let Some(baseline) = &self.baseline
            && baseline.requests != self.measured.requests
        {
            eprintln!(
                "ringfence: the earlier run was about {} requests, and this one is about {}: ratios compare unlike things",
                baseline.requests, self.measured.requests
            );
        }
    }
}
