//! Rounds: every server in turn, again and again, so that whatever else the machine does falls on all of them.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;

use crate::client::Prepared;
use support::process::{processor_time, resident};

use crate::process::Process;

/// Requests in flight when throughput is measured.
pub const IN_FLIGHT: usize = 8;

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub quick: bool,
    pub rounds: usize,
    /// Of one server in one round, for latency and again for throughput.
    pub phase: Duration,
    /// Rounds of the tables of growth, and their phase.
    pub growth: (usize, Duration),
    pub warm_up: Duration,
}

impl Pace {
    pub fn full() -> Self {
        Self {
            quick: false,
            rounds: 10,
            phase: Duration::from_millis(600),
            growth: (6, Duration::from_millis(250)),
            warm_up: Duration::from_secs(1),
        }
    }

    pub fn quick() -> Self {
        Self {
            quick: true,
            rounds: 2,
            phase: Duration::from_millis(60),
            growth: (2, Duration::from_millis(40)),
            warm_up: Duration::from_millis(40),
        }
    }
}

/// One row of the main table: a server, a review, and what was measured.
pub struct Probe {
    pub name: &'static str,
    pid: u32,
    prepared: Prepared,
    pub rounds: Vec<Round>,
    /// Resident memory of the server in KiB, after the load.
    pub resident: u64,
}

/// What one round found out about one server.
pub struct Round {
    /// Nanoseconds of each review, one after the other; sorted.
    pub latencies: Vec<u64>,
    /// Reviews a second with [`IN_FLIGHT`].
    pub rate: f64,
    /// Processor time of the server for each of them, in seconds.
    pub processor: f64,
}

impl Probe {
    pub fn new(name: &'static str, server: &Process, prepared: Prepared) -> Self {
        Self {
            name,
            pid: server.pid(),
            prepared,
            rounds: Vec::new(),
            resident: 0,
        }
    }

    /// All latencies, sorted.
    pub fn latencies(&self) -> Vec<u64> {
        sorted(self.rounds.iter().flat_map(|round| round.latencies.clone()).collect())
    }
}

pub async fn warm_up(probes: &mut [Probe], pace: &Pace) -> Result<()> {
    for probe in probes {
        latencies(&mut probe.prepared, pace.warm_up / 2).await?;
        count(&probe.prepared, pace.warm_up / 2).await?;
    }
    Ok(())
}

pub async fn round(probes: &mut [Probe], pace: &Pace) -> Result<()> {
    for probe in probes {
        let latencies = latencies(&mut probe.prepared, pace.phase).await?;
        let (before, begin) = (processor_time(probe.pid)?, Instant::now());
        let answered = count(&probe.prepared, pace.phase).await?;
        let (took, spent) = (begin.elapsed(), processor_time(probe.pid)? - before);
        probe.rounds.push(Round {
            latencies,
            rate: answered / took.as_secs_f64(),
            processor: spent / answered,
        });
    }
    Ok(())
}

pub fn memory(probes: &mut [Probe]) -> Result<()> {
    for probe in probes {
        probe.resident = resident(probe.pid)?;
    }
    Ok(())
}

/// One after the other, for a while.
async fn latencies(prepared: &mut Prepared, phase: Duration) -> Result<Vec<u64>> {
    let begin = Instant::now();
    let mut taken = Vec::new();
    while taken.is_empty() || begin.elapsed() < phase {
        let took = prepared.ask().await?;
        taken.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(sorted(taken))
}

/// How many are answered in a while, with several in flight.
async fn count(prepared: &Prepared, phase: Duration) -> Result<f64> {
    let end = Instant::now() + phase;
    let ask = |mut prepared: Prepared| async move {
        let mut answered = 0.0;
        while answered == 0.0 || Instant::now() < end {
            prepared.ask().await?;
            answered += 1.0;
        }
        anyhow::Ok(answered)
    };
    let all = try_join_all((0..IN_FLIGHT).map(|_| ask(prepared.clone()))).await?;
    Ok(all.into_iter().sum())
}

/// A table of what grows with what: rows in turn, each against each server.
pub struct Growth {
    /// What the rows differ in.
    pub by: &'static str,
    pub columns: &'static [&'static str],
    pub rows: Vec<Row>,
}

pub struct Row {
    pub label: String,
    /// Size of the review.
    pub bytes: usize,
    /// How many policies judge it, where rows differ in that.
    pub policies: Option<usize>,
    targets: Vec<Prepared>,
    /// By column: sorted latencies of each round.
    pub columns: Vec<Vec<Vec<u64>>>,
    /// Resident memory of the row's own server in KiB.
    pub resident: Option<u64>,
}

impl Row {
    pub fn new(label: String, bytes: usize, targets: Vec<Prepared>) -> Self {
        let columns = targets.iter().map(|_| Vec::new()).collect();
        Self {
            label,
            bytes,
            policies: None,
            targets,
            columns,
            resident: None,
        }
    }

    /// With so many policies.
    pub fn of_policies(self, policies: usize) -> Self {
        Self {
            policies: Some(policies),
            ..self
        }
    }
}

impl Growth {
    pub fn new(by: &'static str, columns: &'static [&'static str]) -> Self {
        Self {
            by,
            columns,
            rows: Vec::new(),
        }
    }

    pub async fn measure(&mut self, pace: &Pace) -> Result<()> {
        let (rounds, phase) = pace.growth;
        for round in 0..=rounds {
            for row in &mut self.rows {
                for (target, column) in row.targets.iter_mut().zip(&mut row.columns) {
                    let taken = latencies(target, phase).await?;
                    // The first round warms up.
                    if round > 0 {
                        column.push(taken);
                    }
                }
            }
        }
        Ok(())
    }
}

pub fn sorted(mut values: Vec<u64>) -> Vec<u64> {
    values.sort_unstable();
    values
}

/// Median, least and largest.
pub fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    match (values.get(values.len() / 2), values.first(), values.last()) {
        (Some(&median), Some(&least), Some(&largest)) => [median, least, largest],
        _ => [0.0; 3],
    }
}
