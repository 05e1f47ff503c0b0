//! `ringfence diff`: what applying declarations would change in a cluster, of themselves and of the fence that stands there.
//!
//! The controllers' own observation and `plan` decide. Must never: write, not even to try, or read a Secret.

mod compare;
mod declared;
mod planning;
mod proposal;
mod text;

use std::{io, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::{Args as ClapArgs, ValueEnum};

use super::{
    cluster::{self, Connection, Release},
    manifests,
    terminal::{self, as_json, printable},
};
use compare::Comparison;
use proposal::Proposal;

/// Print what applying declarations would change of the fence that stands in a cluster.
///
/// Reads AIWorkflows, AIWorkflowGrants, AIWorkflowClasses and Namespaces, looks at the cluster as the operator would, with
/// your rights, and prints how the declarations themselves, NetworkPolicies, ServiceAccounts, Roles and RoleBindings would
/// change. A class or a Namespace is compared for all its workflows. The conditions that workflows and grants would have go to
/// standard error as comments; one that would be worse is a difference too.
///
/// What the operator itself may grant, its ceiling, is not looked at. Labels of a Namespace are added to those that are there; one
/// of ours that it has and the input has not is told on standard error, for applying may take it away.
///
/// Exit codes: 0 no difference, 1 differences, 2 the input or the cluster cannot be read.
#[derive(ClapArgs, Debug)]
#[command(after_long_help = "\
Examples:
  # What would change if this were applied?
  ringfence diff workflow.yaml

  # Which workflows of the cluster would a narrower class take something from?
  ringfence diff class-gold.yaml --context production

  # For a pipeline:
  ringfence diff fences/*.yaml -o json")]
pub(super) struct Args {
    /// YAML or JSON, several documents allowed; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Namespace of what names none. Default: that of the context.
    #[arg(long, short)]
    namespace: Option<String>,
    /// How to print it.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    release: Release,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Format {
    /// Unified diffs of YAML, coloured on a terminal.
    #[default]
    Diff,
    /// One JSON object: `changes` with what was and what would be, and `conditions`.
    Json,
}

pub(super) fn main(args: &Args) -> ExitCode {
    run(args).unwrap_or_else(|error| terminal::fail(&error))
}

fn run(args: &Args) -> Result<ExitCode> {
    let comparison = cluster::block_on(compare(args))?;
    for comment in comparison.comments() {
        eprintln!("# {}", printable(&comment));
    }
    let text = match args.output {
        Format::Diff => text::unified(&comparison.differences, terminal::has_colour(&io::stdout()))?,
        Format::Json => as_json(&comparison.as_value())?,
    };
    terminal::print(&text)?;
    Ok(ExitCode::from(u8::from(!comparison.differences.is_empty())))
}

async fn compare(args: &Args) -> Result<Comparison> {
    let target = args.connection.target().await?;
    let namespace = args.namespace.as_deref().unwrap_or(target.namespace());
    let manifests = manifests::load(&args.files, Some(namespace))?;
    let ours = [
        manifests.workflows.len(),
        manifests.grants.len(),
        manifests.classes.len(),
        manifests.namespaces.len(),
    ];
    if ours.iter().all(|count| *count == 0) {
        bail!("there is no AIWorkflow, AIWorkflowGrant, AIWorkflowClass or Namespace in the input");
    }
    let client = target.login().await?;
    let compared = async {
        cluster::serves_our_kinds(&client).await?;
        let release = &args.release.release_namespace;
        Proposal::new(client, &manifests, release).await?.compare().await
    };
    cluster::patiently("reading the cluster", Box::pin(compared)).await
}
