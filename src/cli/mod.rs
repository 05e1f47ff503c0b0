//! The command line: one file per subcommand.
//!
//! Must never: decide anything that a library user would decide differently, or print a secret.

mod bench;
mod canary;
mod check;
mod client;
mod cluster;
mod convert;
mod diff;
mod documents;
mod draft;
mod egress;
mod explain;
mod folder;
mod manifests;
mod memory;
mod operator;
mod policies;
mod rego_policies_of_cluster;
mod rego_policies_of_files;
mod render;
mod report;
mod review;
mod rights;
mod run;
mod scan;
mod schema;
mod stop;
mod terminal;
mod testing;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::vetting;

/// A fence around AI workflows on Kubernetes.
///
/// Exit codes: 0 success; 1 failure, findings or differences, as each command says; 2 wrong arguments, or an input or a cluster
/// that cannot be read.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator and its admission webhook in the cluster that KUBECONFIG or the pod's account names.
    Run(Box<run::Args>),
    Render(render::Args),
    Diff(diff::Args),
    Check(check::Args),
    Draft(draft::Args),
    Egress(Box<egress::Args>),
    Scan(scan::Args),
    Explain(explain::Args),
    Review(review::Args),
    Test(testing::Args),
    Bench(bench::Args),
    Convert(convert::Args),
    /// Vets policies for the process that started it: no command for people.
    #[command(name = vetting::SUBCOMMAND, hide = true)]
    Vet,
    /// Answers, or reaches for, the other pod of a canary: no command for people.
    #[command(name = canary::SUBCOMMAND, hide = true)]
    Canary(canary::Args),
}

/// Parses the arguments and carries out the subcommand.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::main(*args),
        Command::Render(args) => return render::main(&args),
        Command::Diff(args) => return diff::main(&args),
        Command::Check(args) => return check::main(&args),
        Command::Draft(args) => return draft::main(&args),
        Command::Egress(args) => match egress::main(*args) {
            Ok(Some(code)) => return code,
            served => served.map(drop),
        },
        Command::Scan(args) => return scan::main(&args),
        Command::Explain(args) => return explain::main(&args),
        Command::Review(args) => return review::main(&args),
        Command::Test(args) => return testing::main(&args),
        Command::Bench(args) => return bench::main(&args),
        Command::Convert(args) => return convert::main(&args),
        Command::Vet => return vetting::answer(),
        Command::Canary(args) => canary::main(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The whole chain: the last cause is mostly the one to act on.
            eprintln!("ringfence: {error:#}");
            ExitCode::FAILURE
        }
    }
}
