//! What each policy adds to a review, and what it takes until policies may be trusted.
//!
//! Both are measured without a server around them: a verdict says how long it took, and vetting is what `ringfence run` does at start.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ringfence::policy::{Declared, PolicyInput, PolicySet, Registered, Snapshot, Source, Target};
use ringfence::vetting::{Bounds, Vetting};
use serde_json::{Value, json};

use crate::generated;
use crate::measure::{Pace, sorted, spread};
use crate::report::{range, three, time};
use crate::review;
use support::process::percentile;

/// Time that policies have for a review: more than all of them take.
const BUDGET: Duration = Duration::from_secs(60);

/// Policies, and how long each took for a review, round by round.
pub struct Each {
    pub rows: Vec<EachRow>,
}

pub struct EachRow {
    name: String,
    /// Nanoseconds: the median of each round.
    rounds: Vec<f64>,
}

/// Asks the shipped policies, and a small one beside them, about the usual pod.
pub fn each(review: &[u8], pace: &Pace) -> Result<Each> {
    let mut sources = generated::shipped();
    sources.extend(generated::small(1));
    let set = generated::compile(sources)?;
    let review: Value = serde_json::from_slice(review)?;
    let request = &review["request"];
    let (workflow, class, namespace) = (review::workflow(), review::class()?, review::namespace());
    let input = PolicyInput {
        target: Target::Pod,
        request,
        pod: Some(("", &request["object"])),
        workflow: Some(&workflow),
        class: Some(&class),
        engine: None,
        namespace: Some(&namespace),
    };
    let mut rows: Vec<EachRow> = Vec::new();
    let (rounds, phase) = pace.growth;
    for round in 0..=rounds {
        let mut taken: Vec<Vec<u64>> = Vec::new();
        let begin = Instant::now();
        while taken.is_empty() || begin.elapsed() < phase * 2 {
            let verdicts = set.evaluate(&input, BUDGET);
            taken.resize(verdicts.len(), Vec::new());
            if rows.is_empty() {
                let names = verdicts.iter().map(|verdict| verdict.policy.clone());
                rows = names
                    .map(|name| EachRow {
                        name,
                        rounds: Vec::new(),
                    })
                    .collect();
            }
            for (taken, verdict) in taken.iter_mut().zip(&verdicts) {
                let found = verdict
                    .outcome
                    .as_ref()
                    .map_err(|error| anyhow::anyhow!("{}: {error}", verdict.policy))?;
                ensure!(found.deny.is_empty(), "{} refuses the usual pod", verdict.policy);
                taken.push(u64::try_from(verdict.duration.as_nanos()).unwrap_or(u64::MAX));
            }
        }
        // The first round warms up.
        if round > 0 {
            for (row, taken) in rows.iter_mut().zip(taken) {
                row.rounds.push(percentile(&sorted(taken), 0.5));
            }
        }
    }
    Ok(Each { rows })
}

impl EachRow {
    /// Of what all of them take, round by round.
    fn share(&self, all: &[EachRow]) -> [f64; 3] {
        let total = |round: usize| all.iter().filter_map(|row| row.rounds.get(round)).sum::<f64>();
        spread(
            self.rounds
                .iter()
                .enumerate()
                .map(|(round, taken)| taken / total(round))
                .collect(),
        )
    }

    fn median(&self) -> f64 {
        spread(self.rounds.clone())[0]
    }
}

impl Each {
    pub fn text(&self) -> String {
        let mut out = format!("{:<26} {:>8}  {:<20}\n", "one policy", "p50", "/ all of these");
        for row in &self.rows {
            let share = range(row.share(&self.rows));
            let _ = writeln!(out, "{:<26} {:>8}  {share:<20}", row.name, time(row.median()));
        }
        out
    }

    pub fn json(&self) -> Value {
        let row = |row: &EachRow| json!({"name": row.name, "p50Nanoseconds": row.median(), "ofAll": three(row.share(&self.rows))});
        self.rows.iter().map(row).collect()
    }
}

/// What it takes to load policies, beside what it takes to compile them alone.
#[derive(Default)]
pub struct Loading {
    rows: Vec<LoadingRow>,
}

struct LoadingRow {
    label: &'static str,
    policies: usize,
    /// Nanoseconds of each round: the way measured, and compiling.
    loaded: Vec<f64>,
    compiled: Vec<f64>,
}

impl Loading {
    /// Measures what a running replica does when some of its RegoPolicies change: it vets and compiles these, and puts all of them in
    /// force together.
    fn reload(
        &mut self,
        label: &'static str,
        changed: usize,
        of: usize,
        rounds: usize,
        vetting: &Vetting,
    ) -> Result<()> {
        let objects = generated::objects(of)?;
        let compile = |object: &Declared| Registered::compile(object).map_err(|errors| generated::unusable(&errors));
        let standing = objects.iter().map(|object| Ok(Arc::new(compile(object)?)));
        let standing = standing.collect::<Result<Vec<_>>>()?;
        let (new, rest) = (objects.get(..changed), standing.get(changed..));
        let (new, rest) = new.zip(rest).context("no more change than there are")?;
        let in_force = |policies: Vec<Registered>| {
            let all = policies.into_iter().map(Arc::new).chain(rest.iter().cloned());
            Snapshot::new(all.collect()).entries().len()
        };
        let (mut loaded, mut compiled) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let begin = Instant::now();
            // As a replica does beside requests: one after the other.
            let vetted = new.iter().map(|object| {
                let vetted = vetting.compile_one_of_several(object, Duration::from_secs(120));
                vetted.map_err(|not| generated::unusable(not.errors()))
            });
            ensure!(
                in_force(vetted.collect::<Result<_>>()?) == 1,
                "{label}: they share a webhook"
            );
            loaded.push(begin.elapsed().as_secs_f64() * 1e9);
            let begin = Instant::now();
            ensure!(
                in_force(new.iter().map(compile).collect::<Result<_>>()?) == 1,
                "{label}: they share a webhook"
            );
            compiled.push(begin.elapsed().as_secs_f64() * 1e9);
        }
        self.rows.push(LoadingRow {
            label,
            policies: changed,
            loaded,
            compiled,
        });
        Ok(())
    }

    /// Measures one way of loading so many policies.
    fn row(
        &mut self,
        label: &'static str,
        sources: &[Source],
        rounds: usize,
        load: impl Fn(Vec<Source>) -> Result<PolicySet>,
    ) -> Result<()> {
        let timed = |way: &dyn Fn(Vec<Source>) -> Result<PolicySet>| {
            let begin = Instant::now();
            let set = way(sources.to_vec())?;
            ensure!(set.policies().count() == sources.len(), "{label}: not all were loaded");
            anyhow::Ok(begin.elapsed().as_secs_f64() * 1e9)
        };
        let (mut loaded, mut compiled) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            loaded.push(timed(&load)?);
            compiled.push(timed(&generated::compile)?);
        }
        self.rows.push(LoadingRow {
            label,
            policies: sources.len(),
            loaded,
            compiled,
        });
        Ok(())
    }
}

/// Vets as `ringfence run --policies` does: children of this very program.
pub fn vetting(pace: &Pace) -> Result<Loading> {
    // Time is what is measured here, not what is bounded.
    let bounds = Bounds {
        wall: Duration::from_secs(60),
        total: Duration::from_secs(120),
        ..Bounds::default()
    };
    let program = std::env::current_exe().context("which program this is")?;
    let vetting = Vetting::with(program, bounds);
    let vetted = |sources| {
        let compiled = vetting.compile(sources, &std::collections::BTreeMap::new());
        compiled.map_err(|errors| generated::unusable(&errors))
    };
    let mut loading = Loading::default();
    let (few, many) = if pace.quick { (1, 1) } else { (5, 2) };
    loading.row("vetted: one small", &generated::small(1), few, vetted)?;
    loading.row("vetted: the shipped", &generated::shipped(), few, vetted)?;
    loading.row(
        "vetted: small",
        &generated::small(if pace.quick { 20 } else { 200 }),
        many,
        vetted,
    )?;
    let of = if pace.quick { 20 } else { 200 };
    loading.reload("reload: one of 200 objects", 1, of, few, &vetting)?;
    loading.reload("reload: all of them", of, of, many, &vetting)?;
    Ok(loading)
}

impl LoadingRow {
    fn to_compiled(&self) -> [f64; 3] {
        spread(self.loaded.iter().zip(&self.compiled).map(|(a, b)| a / b).collect())
    }
}

impl Loading {
    pub fn text(&self) -> String {
        let mut out = format!(
            "{:<26} {:>8} {:>10} {:>10}  {:<20} {:>10}\n",
            "load", "policies", "time", "/ policy", "/ compiled alone", "compiled"
        );
        for row in &self.rows {
            let loaded = spread(row.loaded.clone())[0];
            let _ = writeln!(
                out,
                "{:<26} {:>8} {:>10} {:>10}  {:<20} {:>10}",
                row.label,
                row.policies,
                time(loaded),
                time(loaded / row.policies as f64),
                range(row.to_compiled()),
                time(spread(row.compiled.clone())[0]),
            );
        }
        out
    }

    pub fn json(&self) -> Value {
        let row = |row: &LoadingRow| {
            json!({
                "label": row.label, "policies": row.policies, "nanoseconds": spread(row.loaded.clone())[0],
                "compiledNanoseconds": spread(row.compiled.clone())[0], "toCompiled": three(row.to_compiled()),
            })
        };
        self.rows.iter().map(row).collect()
    }
}
