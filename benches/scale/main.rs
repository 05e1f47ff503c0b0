//! `make bench-scale`: what the operator costs as declarations grow in number, on a real API server.
//!
//! Each size has a control plane of its own. What a row says is counted by the API server or the kernel, not by Ringfence. Must never: call
//! something done that was not seen done, or leave a process behind.

mod calls;
mod report;
mod run;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use report::Report;
use run::Size;

const HELP: &str = "\
usage: cargo bench --bench scale [-- --json] [-- --quick] [-- --sizes=100,1000,5000]
  --json    print one JSON object instead of tables
  --quick   few workflows and short waits: tells that everything works, not how fast it is
  --sizes   how many AIWorkflows, ten in a namespace and ten pods to each";

/// How much, and for how long.
struct Pace {
    sizes: Vec<usize>,
    /// How long nothing changes while calls are counted.
    quiet: Duration,
    /// Changes whose way into a NetworkPolicy is timed.
    changes: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match bench(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &[String]) -> Result<()> {
    let mut json = false;
    // Without that argument cargo runs us as a test.
    let mut quick = !arguments.iter().any(|argument| argument == "--bench");
    let mut sizes = None;
    for argument in arguments {
        match argument.as_str() {
            "--bench" => {}
            "--json" => json = true,
            "--quick" => quick = true,
            other => match other.strip_prefix("--sizes=") {
                Some(list) => sizes = Some(list.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?),
                None => bail!("no such argument: {other}\n{HELP}"),
            },
        }
    }
    let pace = if quick {
        Pace {
            sizes: sizes.unwrap_or_else(|| vec![10, 30]),
            quiet: Duration::from_secs(4),
            changes: 10,
        }
    } else {
        Pace {
            sizes: sizes.unwrap_or_else(|| vec![100, 1000, 5000]),
            quiet: Duration::from_secs(60),
            changes: 200,
        }
    };
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Vec::new();
    for &size in &pace.sizes {
        rows.push(runtime.block_on(run::size(Size(size), pace.quiet, pace.changes, started))?);
    }
    let report = Report { rows, quick };
    if json {
        println!("{:#}", report.json());
    } else {
        println!("{}", report.text());
    }
    Ok(())
}

fn say(started: Instant, what: &str) {
    eprintln!("bench: {:>5.0} s  {what}", started.elapsed().as_secs_f64());
}
