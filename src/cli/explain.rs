//! `ringfence explain`: the policies, rules, fields and fixes behind a line of the decision log.
//!
//! Must never: ask a cluster. A line is explained where it was sent to, by policies that are named or shipped.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args as ClapArgs, ValueEnum};
use serde_json::json;

use super::{
    policies::PolicyFiles,
    rego_policies_of_files::RegoPolicyFiles,
    terminal::{self, as_json, printable},
};
use crate::{
    decisions::{Catalogue, Described, Explanation, Loaded, Objects, explain, read},
    policy::{PolicyInput, Question, Snapshot},
    telemetry::Metrics,
    webhook::Policies as _,
};

/// Longest input, in bytes.
const MAX_INPUT: u64 = 64 << 20;
/// Most lines that are explained at once.
const MAX_LINES: usize = 1000;
/// Time for all policies on one line: as long as the API server would wait.
const BUDGET: Duration = Duration::from_secs(10);

/// Explain lines of the decision log: which policies and rules decided, and what they demand.
///
/// Reads one or more lines that `ringfence run` has logged, as they are or among other lines, and tells of each who asked for
/// what, what came of it, and of each policy and built-in rule that found something its title, description, severity, fix and
/// controls.
///
/// Where a line holds its input (ringfence run --decision-input=masked), the policies judge that again: their findings are
/// listed with field and fix. What is masked in the line is not judged by what it held. What RegoPolicies decided (webhook policies,
/// or policies-audit for what audits behind an answer) is explained by those of --rego-policies; one that looks at objects beside
/// the request (spec.inventory) is described and not asked again.
///
/// Exit codes: 0 explained, 2 something could not be read.
#[derive(ClapArgs, Debug)]
#[command(after_long_help = "\
Examples:
  # Why was that refused?
  kubectl logs --namespace ringfence-system deployment/ringfence | grep invoice-triage | ringfence explain -

  # The same by policies and parameters of your own:
  ringfence explain line.json --policies policies/ --policy-parameters parameters.yaml

  # By the RegoPolicies of the cluster:
  kubectl get regopolicies -o yaml > policies.yaml
  ringfence explain line.json --rego-policies policies.yaml

  # For a machine:
  ringfence explain line.json -o json")]
pub(super) struct Args {
    /// Decision lines as JSON, other lines allowed among them; `-` is standard input.
    #[arg(default_value = "-", value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    policies: PolicyFiles,
    #[command(flatten)]
    rego_policies: RegoPolicyFiles,
    /// How to print it.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// One JSON object: `decisions`.
    Json,
    /// Text, coloured on a terminal.
    #[default]
    Text,
}

pub(super) fn main(args: &Args) -> ExitCode {
    run(args).unwrap_or_else(|error| terminal::fail(&error))
}

fn run(args: &Args) -> Result<ExitCode> {
    ensure!(
        args.file.as_os_str() != "-" || !args.rego_policies.read_stdin(),
        "standard input cannot be both the decision lines and the RegoPolicies: name a file for one of them"
    );
    let text = input(args)?;
    let found = read(&text);
    if let Some(hint) = found.hint {
        bail!("there is no decision line in the input: {hint}");
    }
    ensure!(
        found.lines.len() <= MAX_LINES,
        "{} decision lines, the limit is {MAX_LINES}: choose some, as by grep or tail",
        found.lines.len()
    );
    let policies = args.policies.in_force()?;
    let set = Arc::new(policies.set);
    let mut catalogue = Catalogue::default().with(set.policies());
    let own = policies.registered.into_iter().map(|policy| {
        catalogue.add(policy.name(), Described::of_object(&policy, "--policies"));
        Arc::new(policy)
    });
    let own: Vec<_> = own.collect();
    let objects = args.rego_policies.load(&mut catalogue)?;
    let snapshot = match objects {
        None if own.is_empty() => None,
        objects => {
            let objects = objects.unwrap_or_default();
            let others = objects
                .policies()
                .iter()
                .filter(|object| own.iter().all(|policy| policy.name() != object.name()));
            Some(Snapshot::new(own.iter().chain(others).cloned().collect()))
        }
    };
    let revision = set.revision().to_owned();
    let pool = PolicyFiles::threads(set, &Arc::new(Metrics::new()));
    let evaluator = pool.evaluator();
    let judge_objects = |question: Question| evaluator.evaluate(&Arc::new(question), (), "", BUDGET);
    let loaded = Loaded {
        catalogue: &catalogue,
        revision: &revision,
        judge: &|input: &PolicyInput<'_>| pool.evaluate(input, BUDGET),
        action: &|policy: &str| pool.action(policy),
        objects: snapshot.as_ref().map(|snapshot| Objects {
            snapshot,
            judge: &judge_objects,
        }),
    };
    let explained = found.lines.iter().map(|logged| explain(logged, &loaded));
    let explained: Vec<Explanation> = explained.collect();
    let told = match args.output {
        Format::Json => as_json(&json!({"decisions": explained}))?,
        Format::Text => {
            let colour = terminal::has_colour(&io::stdout());
            let texts = explained.iter().map(|explanation| explanation.text(colour));
            texts.collect::<Vec<_>>().join("\n")
        }
    };
    terminal::print(&told)?;
    for broken in &found.broken {
        eprintln!("ringfence: {}", printable(broken));
    }
    Ok(ExitCode::from(if found.broken.is_empty() { 0 } else { 2 }))
}

fn input(args: &Args) -> Result<String> {
    let mut bytes = Vec::new();
    let (length, shown) = if args.file.as_os_str() == "-" {
        if io::stdin().is_terminal() {
            eprintln!("ringfence: reading decision lines from the terminal; end with Ctrl-D");
        }
        let read = io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut bytes);
        (
            read.context("standard input cannot be read")?,
            "standard input".to_owned(),
        )
    } else {
        let shown = args.file.display().to_string();
        let cannot = || format!("{shown}: cannot be read");
        let file = File::open(&args.file).with_context(cannot)?;
        let read = file.take(MAX_INPUT + 1).read_to_end(&mut bytes);
        (read.with_context(cannot)?, shown)
    };
    ensure!(
        length as u64 <= MAX_INPUT,
        "{shown}: more than {MAX_INPUT} bytes: choose some lines, as by grep or tail"
    );
    // Another program may have written anything between our lines.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
