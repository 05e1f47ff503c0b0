//! `ringfence test`: Rego tests and samples of RegoPolicies, run as the cluster would run the policies.
//!
//! Must never: parse or evaluate in this process, or end well where something could not be read.

mod files;
mod report;
mod suites;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::{Args as ClapArgs, ValueEnum};

use super::terminal;
use crate::policy::RegoVersion;
use crate::vetting::{How, Tests, Vetting};
use files::Files;
use report::Report;

/// Suites that run at a time, each in a process of its own.
const AT_A_TIME: usize = 2;

/// Run Rego tests in the engine and under the rules in which policies run in a cluster.
///
/// A test is a rule whose name starts with `test_`, and passes where it is true; `todo_test_` is skipped. Tests of a policy with METADATA
/// stand in *_test.rego beside it, or in its package, or that package with _test, and the policy is loaded alone, as in a cluster. Files
/// without METADATA are loaded together, as by `opa test`. Of RegoPolicies (YAML) the samples are run. What hangs or takes the memory
/// fails by name: processes with limits run it all.
///
/// Exit codes: 0 all pass, 1 a test fails or too little is covered, 2 something cannot be read or compiled.
#[derive(ClapArgs, Debug)]
#[command(after_long_help = "\
Examples:
  # All that lies below:
  ringfence test policies/

  # One test, with what it prints, whenever a file changes:
  ringfence test policies/ --run test_refuses_a_wildcard --verbose --watch

  # For a build server:
  ringfence test policies/ --fail-on-empty --coverage-threshold 90 -o junit > tests.xml")]
pub(super) struct Args {
    /// Files of Rego, RegoPolicies as YAML, or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Run only tests that match, by names like data.p_test.test_x, or that of a sample.
    #[arg(long, short, alias = "filter", value_name = "REGEX")]
    run: Option<String>,
    /// Tell which lines of the policies the tests reach.
    #[arg(long)]
    coverage: bool,
    /// Fail where they reach fewer lines than that, in percent. Implies --coverage.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    coverage_threshold: Option<f64>,
    /// Time for each test, in seconds.
    #[arg(long, short, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Files without METADATA are of Rego before OPA 1.0.
    #[arg(long, alias = "v0-compatible")]
    v0: bool,
    /// Name each test, and tell what those that pass print.
    #[arg(long, short)]
    verbose: bool,
    /// End in exit code 2 where there is no test.
    #[arg(long)]
    fail_on_empty: bool,
    /// Run again whenever a file changes, until Ctrl-C.
    #[arg(long, conflicts_with = "output")]
    watch: bool,
    /// How to print the outcome.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Format {
    /// One JSON object: `tests`, `errors`, `coverage`, and a `summary`.
    Json,
    /// JUnit XML: a suite a file.
    Junit,
    /// Lines for people, coloured on a terminal.
    #[default]
    Text,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| (0.0..=100.0).contains(number));
    number.ok_or_else(|| "write a number from 0 to 100".to_owned())
}

pub(super) fn main(args: &Args) -> ExitCode {
    run(args).unwrap_or_else(|error| terminal::fail(&error))
}

fn run(args: &Args) -> Result<ExitCode> {
    let how = How {
        pattern: args.run.clone(),
        milliseconds: args.timeout * 1000,
        reached: args.coverage || args.coverage_threshold.is_some(),
    };
    how.pattern().context("--run is no regular expression")?;
    let vetting = Vetting::new().context("cannot tell which file this binary is, to run tests with it")?;
    if args.watch {
        return watch::run(args, &how, &vetting);
    }
    let files = files::read(&args.paths);
    let report = test(args, &how, &vetting, files);
    report.print(args)
}

/// Runs everything once.
fn test(args: &Args, how: &How, vetting: &Vetting, files: Files) -> Report {
    let begin = Instant::now();
    let version = if args.v0 { RegoVersion::V0 } else { RegoVersion::V1 };
    let suites = suites::of(files.rego, files.objects, version);
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME.min(suites.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(suite) = suites.get(number) else { return };
                    let tests = vetting.run_tests(suite, how);
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    outcomes.push((number, tests));
                }
            });
        }
    });
    let mut outcomes: Vec<(usize, Tests)> = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(number, _)| *number);
    let mut report = Report::new(args.coverage_threshold, how.reached, args.fail_on_empty);
    files.errors.into_iter().for_each(|error| report.error(error));
    for (_, tests) in outcomes {
        report.add(tests, &files.lines);
    }
    report.done(begin.elapsed());
    report
}
