//! `ringfence check`: what is in the way before something is done.
//!
//! Admission's own judge decides what would be refused, RBAC's rules who holds what, with the caller's rights. Must never: write, but for
//! a canary that is asked for; or hold the value of a Secret.

mod access;
mod canary;
mod installation;
mod secrets;
mod told;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context as _, Result, bail};
use clap::{Args as ClapArgs, Subcommand};
use serde_json::Value;
use tokio::time::{Duration, timeout};

use super::{
    cluster::{self, Connection, Release},
    policies::PolicyFiles,
    rego_policies_of_cluster::RegoPolicyArgs,
    report::Output,
    rights, terminal,
};
use crate::{
    api::{AUDIT_LABEL, DEFAULT_CLASS, ENFORCE_LABEL, WARN_LABEL, is_dns_label, is_dns_subdomain},
    findings::{Declared, Finding, Place, Report, Secrets, Sink},
    scan::{Bounds, Scanner},
    telemetry::Metrics,
    webhook::{
        admit::Admission,
        lookup::{Key, Live, Lookup},
    },
};

/// Name of the webhook's registration, as the chart makes it.
const REGISTRATION: &str = "ringfence";
/// Longest that one question may take.
const QUESTION: Duration = Duration::from_secs(15);

#[derive(ClapArgs, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    about = "Tell what is in the way before anything is changed, whether what is installed works, and who stands beside the fence",
    long_about = "Tell what is in the way before anything is changed, whether what is installed works, and who stands beside the fence.\n\n\
        Without a subcommand it is the whole doctor: check installation, and in one line what check access finds.\n\n\
        Exit codes: 0 it works, 1 something does not, 2 not all could be looked at.",
    after_long_help = "\
Examples:
  # After an install, or when something is strange:
  ringfence check

  # And do NetworkPolicies bite on this cluster?
  ringfence check --canary"
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    whole: installation::InstallationArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    Access(access::AccessArgs),
    Installation(installation::InstallationArgs),
    Namespace(NamespaceArgs),
}

/// Print what of a namespace would be refused if it were made today under ringfence.dev/enforce.
///
/// Judges the namespace, its workloads and its pods as admission would, RegoPolicies included, but for who launched them, which
/// nobody recorded.
/// Names NetworkPolicies and Services that open more than is declared, Ingresses and routes that lead there, Secrets and keys that
/// AIWorkflows declare or pods refer to and that are not there, and Secrets that hold tokens without an end. Reads with your rights,
/// and changes nothing.
///
/// Exit codes: 0 nothing found but warnings, 1 findings (see --fail-on), 2 not all could be looked at.
#[derive(ClapArgs, Debug)]
#[command(after_long_help = "\
Examples:
  # What would stop if this namespace enforced the class default?
  ringfence check namespace ai-secure --class default

  # For a pipeline:
  ringfence check namespace ai-secure -o junit > ringfence.xml")]
pub(super) struct NamespaceArgs {
    /// The namespace.
    #[arg(value_name = "NAME")]
    name: String,
    /// Class to judge by. Default: that of the namespace's mode label, else `default`.
    #[arg(long)]
    class: Option<String>,
    /// Leave Secrets out. To look for keys takes the right to read them; their values are never kept.
    #[arg(long)]
    skip_secrets: bool,
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
    let told = match &args.what {
        None => installation::check(&args.whole, true),
        Some(What::Access(args)) => access::check(args),
        Some(What::Installation(args)) => installation::check(args, false),
        Some(What::Namespace(args)) => namespace(args),
    };
    told.unwrap_or_else(|error| terminal::fail(&error))
}

fn namespace(args: &NamespaceArgs) -> Result<ExitCode> {
    args.release.refuse_exempt(&args.name)?;
    let metrics = Arc::new(Metrics::new());
    let loaded = args.policies.in_force()?;
    let (policies, own) = (PolicyFiles::threads(Arc::new(loaded.set), &metrics), loaded.registered);
    let report = cluster::block_on(async {
        let client = args.connection.client().await?;
        let live = Arc::new(Live::new(client.clone(), REGISTRATION));
        let asking = async {
            cluster::serves_our_kinds(&client).await?;
            let namespace = find(&live, &args.name, |name| Key::Namespace(name.to_owned()), is_dns_label).await?;
            let class = args.class.clone().unwrap_or_else(|| class_of(&namespace));
            let found = find(&live, &class, |name| Key::Class(name.to_owned()), is_dns_subdomain).await;
            if let Err(error) =
                found.with_context(|| format!("cannot judge by class {class}: name another one with --class"))
            {
                return Err(rights::class_unread(&client, &class, error).await);
            }
            anyhow::Ok((namespace, class))
        };
        let (namespace, class) = cluster::patiently("reading the namespace and its class", asking).await?;

        let release = &args.release.release_namespace;
        let admission = Admission::new(live.clone(), policies.clone(), release, metrics);
        let (admission, unread) = args.rego_policies.beside(admission, &client, &policies, own).await?;
        let scanner = Scanner::new(Arc::new(admission), live.clone(), live.clone());
        let mut heard = Heard::default();
        let look = Box::pin(scanner.look(&namespace, &class, Bounds::all(), &mut heard));
        let what = format!("looking at namespace {}", args.name);
        let extent = cluster::patiently(&what, look).await;
        let Heard { mut report, secrets } = heard;
        report.looked(1, extent);
        report.looked(0, unread);
        if !args.skip_secrets {
            let look = secrets::look(&client, &live, &args.name, &secrets, &mut report);
            let extent = cluster::patiently("looking for Secrets", look).await;
            report.looked(0, extent);
        }
        report.sort();
        Ok(report)
    })?;
    args.output.print(&report)
}

/// An object that must be there.
async fn find(live: &Live, name: &str, key: impl Fn(&str) -> Key, can_be: impl Fn(&str) -> bool) -> Result<Value> {
    let key = key(name);
    if !can_be(name) {
        bail!("nothing can be called {key}");
    }
    let Ok(found) = timeout(QUESTION, live.get(&key)).await else {
        bail!("{key} could not be read from the API server: no answer in time");
    };
    found?.with_context(|| format!("there is no {key}"))
}

/// The class of the strongest mode, else the usual one.
fn class_of(namespace: &Value) -> String {
    let labels = namespace.pointer("/metadata/labels");
    let named = [ENFORCE_LABEL, WARN_LABEL, AUDIT_LABEL].into_iter();
    let mut named = named.filter_map(|label| labels?.get(label)?.as_str());
    named.next().unwrap_or(DEFAULT_CLASS).to_owned()
}

/// Findings, and the Secrets that pods refer to.
#[derive(Default)]
struct Heard {
    report: Report,
    secrets: Secrets,
}

impl Sink for Heard {
    fn found(&mut self, finding: Finding) {
        self.report.found(finding);
    }

    fn declared(&mut self, namespace: &str, workflow: &Declared) {
        self.secrets.add_declared(namespace, workflow);
    }

    fn looked_at(&mut self, place: &Place, path: &str, pod: &Value) {
        self.secrets.add(place, path, pod);
    }
}
