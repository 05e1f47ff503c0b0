//! `ringfence draft`: the AIWorkflows that would fence what runs in a namespace.
//!
//! The pure room of that name decides. Must never: write to the cluster, read a Secret, or keep a value of a pod's environment.

mod look;

use std::{collections::BTreeSet, process::ExitCode};

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;

use super::{
    cluster::{self, Connection, Release},
    terminal::{self, printable},
};
use crate::{
    api::{Launcher, ServiceAccountRef, is_dns_label, is_dns_subdomain},
    draft::{self, Options},
};
use look::Looked;

/// Write the AIWorkflows that would fence what runs in a namespace.
///
/// Looks at pods and what makes them, their accounts and what these may do, NetworkPolicies and Services, with your rights,
/// and writes AIWorkflows as YAML: one for each service account, or for each controller where pods run as the account
/// `default`. What may not be declared, and what could not be read, becomes a comment. Secrets are never read: their names
/// are those that pods refer to.
///
/// Exit codes: 0 drafted, if only in part, 2 the namespace or the cluster cannot be read.
#[derive(ClapArgs, Debug)]
#[command(after_long_help = "\
Examples:
  # What would fence this namespace?
  ringfence draft ml-batch > fences.yaml

  # The same, told who may launch, and that two deployments are one workflow:
  ringfence draft ml-batch --launcher serviceaccount:argocd/application-controller --workflow app.kubernetes.io/part-of=rag")]
pub(super) struct Args {
    /// Namespace to look at.
    namespace: String,
    /// Who may launch the workflows: user:NAME, group:NAME or serviceaccount:NAMESPACE/NAME. May be given several times.
    #[arg(long = "launcher", value_name = "WHO", value_parser = launcher)]
    launchers: Vec<Launcher>,
    /// Take the pods with this label as one workflow, named like the value. May be given several times.
    #[arg(long = "workflow", value_name = "LABEL=VALUE", value_parser = group)]
    groups: Vec<(String, String)>,
    #[command(flatten)]
    release: Release,
    #[command(flatten)]
    connection: Connection,
}

/// Most launchers of one declaration.
const MAX_LAUNCHERS: usize = 32;

fn launcher(text: &str) -> Result<Launcher, String> {
    const SHAPE: &str = "write user:NAME, group:NAME or serviceaccount:NAMESPACE/NAME";
    let (kind, name) = text.split_once(':').ok_or(SHAPE)?;
    let person = |name: &str| {
        match name {
        "" => Err(SHAPE.to_owned()),
        name if name.starts_with("system:") => {
            Err("system: names hold everybody or the control plane: name a service account as serviceaccount:NAMESPACE/NAME".to_owned())
        }
        name if name.chars().count() > 256 || name.chars().any(char::is_control) => {
            Err("use at most 256 characters, none of them a control character".to_owned())
        }
        name => Ok(Some(name.to_owned())),
    }
    };
    let mut launcher = Launcher::default();
    match kind.to_ascii_lowercase().as_str() {
        "user" => launcher.user = person(name)?,
        "group" => launcher.group = person(name)?,
        "serviceaccount" => {
            let (namespace, name) = name.split_once('/').ok_or(SHAPE)?;
            if !is_dns_label(namespace) || !is_dns_subdomain(name) {
                return Err(SHAPE.to_owned());
            }
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            launcher.service_account = Some(ServiceAccountRef { namespace, name });
        }
        _ => return Err(SHAPE.to_owned()),
    }
    Ok(launcher)
}

fn group(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write a label as KEY=VALUE".to_owned()),
    }
}

pub(super) fn main(args: &Args) -> ExitCode {
    run(args).unwrap_or_else(|error| terminal::fail(&error))
}

fn run(args: &Args) -> Result<ExitCode> {
    let namespace = args.namespace.as_str();
    ensure!(is_dns_label(namespace), "{namespace:?} is no name of a namespace");
    args.release.refuse_exempt(namespace)?;
    let mut options = Options {
        groups: args.groups.clone(),
        ..Options::default()
    };
    for launcher in &args.launchers {
        if !options.launchers.contains(launcher) {
            options.launchers.push(launcher.clone());
        }
    }
    ensure!(
        options.launchers.len() <= MAX_LAUNCHERS,
        "there are more than {MAX_LAUNCHERS} launchers: put people into a group"
    );
    let Looked {
        seen,
        looked_at,
        unread,
    } = cluster::block_on(async {
        let client = args.connection.client().await?;
        cluster::patiently(
            &format!("looking at namespace {namespace}"),
            look::look(&client, namespace),
        )
        .await
    })?;
    for line in unread.iter().collect::<BTreeSet<_>>() {
        eprintln!("ringfence: {}", printable(line));
    }
    let draft = draft::draft(&seen, &options);
    let text = draft::write(&draft, &looked_at, &unread)?;
    let text: String = text.lines().map(|line| printable(line) + "\n").collect();
    terminal::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::user("user:mia", true)]
    #[case::user_with_colon("user:oidc:mia", true)]
    #[case::group("group:finance-ml", true)]
    #[case::account("serviceaccount:argocd/application-controller", true)]
    #[case::as_people_write_it("ServiceAccount:argocd/app", true)]
    #[case::everybody("group:system:authenticated", false)]
    #[case::account_as_user("user:system:serviceaccount:a:b", false)]
    #[case::no_kind("mia", false)]
    #[case::other_kind("team:mia", false)]
    #[case::empty("user:", false)]
    #[case::no_namespace("serviceaccount:app", false)]
    #[case::no_name("serviceaccount:argocd/", false)]
    #[case::line_end("user:mia\n", false)]
    fn launchers_are_named_in_one_way(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(launcher(text).is_ok(), expected, "{:?}", launcher(text));
    }
}
