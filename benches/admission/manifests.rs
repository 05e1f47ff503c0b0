//! What `ringfence review` takes for a folder of manifests: until it says the first word, in all, and how much memory.
//!
//! The real binary as a person runs it, so that starting and compiling the policies count.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::measure::{Pace, spread};
use crate::report::{memory, range, three, time};
use crate::review::{self, Pod};

/// Documents of one file: what a chart or an overlay renders to.
const IN_FILE: usize = 20;
/// Between two looks at how much memory the command holds.
const LOOK: Duration = Duration::from_millis(2);

/// How folders of different sizes compare.
#[derive(Default)]
pub struct Manifests {
    rows: Vec<Row>,
}

struct Row {
    manifests: usize,
    bytes: usize,
    /// Of each round.
    runs: Vec<Run>,
}

#[derive(Clone, Copy)]
struct Run {
    /// Nanoseconds.
    first: f64,
    whole: f64,
    /// The largest seen, in KiB.
    memory: u64,
}

/// Reviews folders of Jobs that fit their fence, in turn.
pub fn review(pace: &Pace) -> Result<Manifests> {
    let counts: &[usize] = if pace.quick { &[1, 20] } else { &[1, 100, 1000, 4000] };
    let folder = tempfile::tempdir()?;
    let facts = folder.path().join("context.yaml");
    let known = [review::namespace(), review::workflow()];
    fs::write(&facts, yaml(known.iter()))?;
    let mut manifests = Manifests::default();
    let mut folders = Vec::new();
    for count in counts {
        let to = folder.path().join(count.to_string());
        let bytes = write(&to, *count)?;
        folders.push(to);
        manifests.rows.push(Row {
            manifests: *count,
            bytes,
            runs: Vec::new(),
        });
    }
    for round in 0..=pace.growth.0.div_ceil(2) {
        for (row, folder) in manifests.rows.iter_mut().zip(&folders) {
            let run = run(folder, &facts, row.manifests)?;
            // The first round reads the files into the system's memory.
            if round > 0 {
                row.runs.push(run);
            }
        }
    }
    Ok(manifests)
}

fn write(folder: &Path, count: usize) -> Result<usize> {
    fs::create_dir(folder)?;
    let jobs: Vec<Value> = (0..count).map(job).collect();
    let mut bytes = 0;
    for (number, jobs) in jobs.chunks(IN_FILE).enumerate() {
        let text = yaml(jobs.iter());
        bytes += text.len();
        fs::write(folder.join(format!("{number:04}.yaml")), text)?;
    }
    Ok(bytes)
}

/// A Job that fits the fence, as a person writes it.
pub fn job(number: usize) -> Value {
    let mut job = review::job();
    let mut pod = review::spec(&Pod {
        containers: 1 + number % 3,
        variables: 5,
        bytes: 0,
        sound: true,
    });
    // What admission adds to a pod is in no template.
    pod.retain(|field, _| field != "volumes" && field != "serviceAccount");
    for container in pod.values_mut().filter_map(Value::as_array_mut).flatten() {
        container
            .as_object_mut()
            .map(|container| container.remove("volumeMounts"));
    }
    job["metadata"]["name"] = json!(format!("{}-{number}", review::WORKFLOW));
    job["spec"]["template"]["spec"] = Value::Object(pod);
    job
}

fn yaml<'a>(objects: impl Iterator<Item = &'a Value>) -> String {
    // JSON is YAML; broken into lines as people's files are.
    objects.fold(String::new(), |mut text, object| {
        let _ = write!(text, "---\n{object:#}\n");
        text
    })
}

fn run(folder: &Path, facts: &Path, manifests: usize) -> Result<Run> {
    let begin = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringfence"))
        .args(["review", "-o", "json", "--context"])
        .arg(facts)
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // As a person has it: with it each error that is made walks the stack.
        .env_remove("RUST_BACKTRACE")
        .env_remove("RUST_LIB_BACKTRACE")
        .spawn()
        .context("starting ringfence review")?;
    let status = format!("/proc/{}/status", child.id());
    let watch = std::thread::spawn(move || {
        let mut most = 0;
        while let Ok(text) = fs::read_to_string(&status) {
            let held = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let held = held.and_then(|held| held.trim().trim_end_matches(" kB").parse().ok());
            // One that has ended and was not asked for yet holds nothing.
            let Some(held) = held else { break };
            most = most.max(held);
            std::thread::sleep(LOOK);
        }
        most
    });
    let mut out = child.stdout.take().context("its output")?;
    let mut said = vec![0];
    out.read_exact(&mut said).context("ringfence review said nothing")?;
    let first = begin.elapsed();
    out.read_to_end(&mut said)?;
    let ended = child.wait()?;
    let whole = begin.elapsed();
    let memory: u64 = watch
        .join()
        .map_err(|_| anyhow::anyhow!("nobody looked at its memory"))?;
    let said: Value = serde_json::from_slice(&said).context("ringfence review -o json wrote no JSON")?;
    let reviewed = said["totals"]["objects"].as_u64().unwrap_or_default();
    ensure!(ended.success(), "ringfence review refuses what fits: {said:#}");
    ensure!(reviewed == manifests as u64, "{reviewed} of {manifests} were reviewed");
    Ok(Run {
        first: first.as_secs_f64() * 1e9,
        whole: whole.as_secs_f64() * 1e9,
        memory,
    })
}

impl Row {
    fn of(&self, figure: impl Fn(&Run) -> f64) -> [f64; 3] {
        spread(self.runs.iter().map(figure).collect())
    }
}

impl Manifests {
    fn to_first(&self, row: &Row) -> [f64; 3] {
        let first = self.rows.first().map(|first| first.runs.as_slice()).unwrap_or_default();
        spread(row.runs.iter().zip(first).map(|(a, b)| a.whole / b.whole).collect())
    }

    pub fn text(&self) -> String {
        let mut out = format!(
            "{:<22} {:>10} {:>12} {:>10}  {:<20} {:>9}\n",
            "ringfence review", "size", "first word", "in all", "/ one manifest", "memory"
        );
        for row in &self.rows {
            let _ = writeln!(
                out,
                "{:<22} {:>7.1} kB {:>12} {:>10}  {:<20} {:>9}",
                format!("{} manifests", row.manifests),
                row.bytes as f64 / 1000.0,
                time(row.of(|run| run.first)[0]),
                time(row.of(|run| run.whole)[0]),
                range(self.to_first(row)),
                memory(row.of(|run| run.memory as f64)[2] as u64),
            );
        }
        out
    }

    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "manifests": row.manifests, "bytes": row.bytes, "firstNanoseconds": row.of(|run| run.first)[0],
                "nanoseconds": row.of(|run| run.whole)[0], "toFirstRow": three(self.to_first(row)),
                "largestResidentKiB": row.of(|run| run.memory as f64)[2],
            })
        };
        self.rows.iter().map(row).collect()
    }
}
