//! `ringfence check access`: who holds what no admission controller sees.
//!
//! By the objects of RBAC as they stand. Must never: say that nobody holds what could not be read.

use std::{io, process::ExitCode};

use anyhow::Result;
use clap::{Args as ClapArgs, ValueEnum};

use super::{
    REGISTRATION,
    cluster::{self, Connection, Release},
    terminal::{self, as_json, printable},
};
use crate::{scan::read_access, webhook::lookup::Live};

/// Print who can step over the fence by rights that no admission controller sees.
///
/// Reads Roles and bindings, and lists for fenced namespaces (enforce or warn) who may impersonate their service accounts, read
/// their Secrets, or request tokens; for namespaces of launchers and of the platform who may be one of them; and for the cluster who
/// may impersonate people, reach the kubelets, write registrations, guards, definitions, classes or policies of the cluster, grant
/// rights, or make certificates. Whoever holds the verb approve or trust on AIWorkflowClasses is expected to, and is listed apart, as
/// Kubernetes and Ringfence are. Knows RBAC alone, and not who is in a group. Reads with your rights, and changes nothing.
///
/// Exit codes: 0 nobody holds more than is expected, 1 somebody does, 2 not all could be looked at.
#[derive(ClapArgs, Debug)]
#[command(after_long_help = "\
Examples:
  # Who holds more than a tenant should?
  ringfence check access

  # Only the names, for a pipeline:
  ringfence check access -o json | jq -r '.holders[] | select(.standing == \"beyond\") | [.capability, .subject.name] | @tsv'")]
pub(super) struct AccessArgs {
    /// How to print the holders.
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    release: Release,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// One JSON object: `holders`, `gaps`, and a `summary`.
    Json,
    /// For people, by what can be done, coloured on a terminal.
    #[default]
    Table,
}

pub(super) fn check(args: &AccessArgs) -> Result<ExitCode> {
    let report = cluster::block_on(async {
        let client = args.connection.client().await?;
        cluster::patiently(
            "asking whether Ringfence is installed",
            cluster::serves_our_kinds(&client),
        )
        .await?;
        let live = Live::new(client, REGISTRATION);
        let reading = read_access(&live, &args.release.release_namespace);
        let (access, extent) = cluster::patiently("reading Roles and bindings", reading).await;
        let mut report = access.report();
        report.add_gaps(extent.gaps);
        Ok(report)
    })?;
    for gap in report.gaps() {
        eprintln!("ringfence: {}", printable(gap));
    }
    if !report.gaps().is_empty() {
        eprintln!(
            "ringfence: this takes list on namespaces, on roles, clusterroles, rolebindings and clusterrolebindings, and on aiworkflows and aiworkflowclasses, in the cluster"
        );
    }
    let text = match args.output {
        Format::Json => as_json(&report.json())?,
        Format::Table => report.table(terminal::has_colour(&io::stdout())),
    };
    terminal::print(&text)?;
    Ok(ExitCode::from(match (report.is_complete(), report.has_beyond()) {
        (false, _) => 2,
        (true, beyond) => u8::from(beyond),
    }))
}
