//! `ringfence bench`: what each policy costs, on ordinary requests or on those of files.
//!
//! Must never: count an evaluation that failed as one that was quick without saying so, or measure one policy after another, so that
//! noise hits one of them alone.

mod inputs;
mod measure;
mod report;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args as ClapArgs, ValueEnum};

use super::manifests;
use super::policies::PolicyFiles;
use super::terminal::{self, as_json};
use crate::policy::Snapshot;
use crate::vetting;
use measure::Policies;
use report::{Baseline, Report};

/// Longest file of an earlier run, in bytes.
const MAX_BASELINE: u64 = 4 << 20;

/// Measure what each policy costs.
///
/// Policies are asked in turn, round by round, about each request: ordinary pods and workloads, or the AdmissionReviews and objects of
/// files. Workflow, class and namespace beside them are ordinary ones. Times are of this machine as it is now: trust shares, and ratios
/// to an earlier run on the same machine. No cluster is asked.
///
/// Exit codes: 0 measured, 2 something cannot be read, or no policy could be asked.
#[derive(ClapArgs, Debug)]
#[command(after_long_help = "\
Examples:
  # The shipped policies:
  ringfence bench

  # Your own, on your own objects, against an earlier run:
  ringfence bench --policies policies/ manifests/ -o json > before.json
  ringfence bench --policies policies/ manifests/ --baseline before.json")]
pub(super) struct Args {
    /// AdmissionReviews or objects, as JSON or YAML, or folders of them.
    #[arg(value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    policies: PolicyFiles,
    /// How long to measure, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = seconds)]
    duration: f64,
    /// What an earlier run printed with -o json: tells ratios to it.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// How to print it.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// One JSON object: `policies`, `total` and how it was measured.
    Json,
    /// A table.
    #[default]
    Table,
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| (0.1..=3600.0).contains(number));
    number.ok_or_else(|| "write a number of seconds from 0.1 to 3600".to_owned())
}

pub(super) fn main(args: &Args) -> ExitCode {
    run(args).unwrap_or_else(|error| terminal::fail(&error))
}

fn run(args: &Args) -> Result<ExitCode> {
    let baseline = match &args.baseline {
        Some(file) => Some(baseline(file).with_context(|| file.display().to_string())?),
        None => None,
    };
    let inputs = inputs::read(&args.paths)?;
    let loaded = args.policies.load()?;
    let policies = Policies {
        set: loaded.set,
        objects: Snapshot::new(loaded.registered.into_iter().map(Arc::new).collect()),
    };
    let time = Duration::from_secs_f64(args.duration);
    let shows = io::stderr().is_terminal();
    let measured = thread::scope(|scope| {
        // What passed the checks may take a large stack, as on the threads that serve.
        let thread = thread::Builder::new().stack_size(vetting::STACK);
        let thread = thread.spawn_scoped(scope, || {
            measure::measure(&policies, &inputs, time, &mut |passed| {
                if shows {
                    // Whether it is seen does not matter.
                    let _ = write!(
                        io::stderr(),
                        "\r\u{1b}[Kmeasuring: {:.0} of {:.0} s",
                        passed.as_secs_f64(),
                        args.duration
                    );
                }
            })
        });
        thread
            .context("no thread can be started")?
            .join()
            .map_err(|_| anyhow!("the engine panicked"))
    })?;
    if shows {
        let _ = write!(io::stderr(), "\r\u{1b}[K");
    }
    if measured.policies.is_empty() {
        bail!(
            "none of the policies is asked about any of these {} requests",
            inputs.len()
        );
    }
    let report = Report::new(measured, policies.set.revision(), baseline);
    terminal::print(&match args.output {
        Format::Json => as_json(&report.json())?,
        Format::Table => report.table(),
    })?;
    report.warn();
    Ok(ExitCode::SUCCESS)
}

fn baseline(file: &std::path::Path) -> Result<Baseline> {
    let text = manifests::read(file, MAX_BASELINE)?;
    serde_json::from_str(&text).context("is not what ringfence bench prints with -o json")
}
