//! `ringfence scan`: the operator's background scan, once, with the caller's rights.
//!
//! Must never: write, or judge otherwise than the operator does.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Result, bail};
use clap::Args as ClapArgs;
use serde_json::Value;

use super::{
    cluster::{self, Connection, Release},
    policies::PolicyFiles,
    rego_policies_of_cluster::RegoPolicyArgs,
    report::Output,
    terminal::{self, printable},
};
use crate::{
    api::is_dns_label,
    findings::{Extent, Finding, Place, Report, Sink},
    scan::Scanner,
    telemetry::Metrics,
    webhook::{admit::Admission, lookup::Live},
};

/// Find what stands in a cluster and does not fit inside the fence.
///
/// Looks at every namespace with a mode label: what of its workloads and pods would be refused if it were made today, and which
/// NetworkPolicies, Services and policies of other engines open more than is declared; which Ingresses and routes lead to it, and
/// which policies of the whole cluster there are. Then at bindings that give a workflow's account more than it declares, and at
/// what Ringfence made for an owner that is gone. It is what the operator does in the background, with your rights, and like
/// it changes nothing.
///
/// Exit codes: 0 nothing found but warnings, 1 findings (see --fail-on), 2 not all could be looked at.
#[derive(ClapArgs, Debug)]
#[command(after_long_help = "\
Examples:
  # What does not fit?
  ringfence scan

  # The same for one namespace; bindings of other namespaces and of the cluster are left out:
  ringfence scan --namespace ai-secure

  # For a security dashboard:
  ringfence scan -o sarif > ringfence.sarif")]
pub(super) struct Args {
    /// Scan this namespace only.
    #[arg(long, short)]
    namespace: Option<String>,
    /// Name of the webhook's registration.
    #[arg(long, default_value = "ringfence", hide = true)]
    webhook_configuration: String,
    #[command(flatten)]
    release: Release,
    #[command(flatten)]
    policies: PolicyFiles,
    #[command(flatten)]
    rego_policies: RegoPolicyArgs,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn main(args: &Args) -> ExitCode {
    run(args).unwrap_or_else(|error| terminal::fail(&error))
}

fn run(args: &Args) -> Result<ExitCode> {
    let only = args.namespace.as_deref();
    if let Some(name) = only.filter(|name| !is_dns_label(name)) {
        bail!("no namespace can be called {name:?}");
    }
    if let Some(only) = only {
        args.release.refuse_exempt(only)?;
    }
    let metrics = Arc::new(Metrics::new());
    let loaded = args.policies.in_force()?;
    let (policies, own) = (PolicyFiles::threads(Arc::new(loaded.set), &metrics), loaded.registered);
    let report = cluster::block_on(async {
        let client = args.connection.client().await?;
        cluster::patiently(
            "asking whether Ringfence is installed",
            cluster::serves_our_kinds(&client),
        )
        .await?;
        let live = Arc::new(Live::new(client.clone(), &args.webhook_configuration));
        let release = &args.release.release_namespace;
        let admission = Admission::new(live.clone(), policies.clone(), release, metrics);
        let (admission, unread) = args.rego_policies.beside(admission, &client, &policies, own).await?;
        let scanner = Scanner::new(Arc::new(admission), live.clone(), live);
        let mut heard = Heard::new();
        let shows = heard.shows;
        let scan = Box::pin(scanner.scan(only, &mut heard));
        let extent = if shows {
            scan.await
        } else {
            cluster::patiently("scanning", scan).await
        };
        heard.done();
        let mut report = heard.report;
        report.looked(0, extent);
        report.looked(0, unread);
        report.sort();
        Ok(report)
    })?;
    if let Some(only) = only.filter(|_| !report.has_looked()) {
        bail!("there is no namespace {only} with a mode label: see ringfence check namespace {only}");
    }
    args.output.print(&report)
}

/// Findings, and progress for who waits at a terminal.
struct Heard {
    report: Report,
    shows: bool,
    objects: usize,
}

impl Heard {
    fn new() -> Self {
        Self {
            report: Report::default(),
            shows: io::stderr().is_terminal(),
            objects: 0,
        }
    }

    fn show(&self, text: &str) {
        // Back to the start of the line, and clear it. Whether it was seen does not matter.
        let _ = write!(io::stderr(), "\r\u{1b}[K{}", printable(text));
    }

    fn done(&self) {
        if self.shows {
            self.show("");
        }
    }
}

impl Sink for Heard {
    fn found(&mut self, finding: Finding) {
        self.report.found(finding);
    }

    fn looked_at(&mut self, place: &Place, _: &str, _: &Value) {
        self.objects += 1;
        if self.shows && self.objects.is_multiple_of(20) {
            let text = format!("scanning {}: {} objects so far", place.namespace, self.objects);
            self.show(&text);
        }
    }

    fn looked_at_namespace(&mut self, namespace: &str, extent: &Extent) {
        self.report.looked_at_namespace(namespace, extent);
    }
}
