//! The policies of a subcommand that judges: shipped sets, folders and files, in one shape.
//!
//! Must never: parse or compile Rego of a file that no child process has survived, or leave out a policy without saying so. Bytes are
//! read here, and made text.

mod documents;
mod files;
mod load;
mod plain;
mod switches;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{ArgAction, Args as ClapArgs};
use serde_json::Value;

use self::files::Files;
pub(super) use self::files::{MAX_REGO, text};
use super::{documents as yaml, manifests, terminal::printable};
use crate::{
    policy::{LoadError, PolicySet, Registered, library},
    telemetry::Metrics,
    webhook::Pool,
};

/// Longest file of parameters, in bytes.
const MAX_PARAMETERS: u64 = 4 << 20;
/// Most threads of a command: one that evaluates, and those that policies which do not end have taken along.
const THREADS: usize = 16;

/// Where the policies are.
#[derive(ClapArgs, Debug)]
pub(super) struct PolicyFiles {
    /// Policies to use instead of the shipped ones: a shipped set by its name, a folder, or a file; Rego with METADATA, RegoPolicies, and
    /// Gatekeeper's templates and constraints. May be given more than once; in the environment, commas stand between them.
    #[arg(long, env = "RINGFENCE_POLICIES", value_name = "SET|DIR|FILE", action = ArgAction::Append, value_delimiter = ',')]
    policies: Vec<String>,
    /// YAML file with parameters of policies, by policy name: what the chart has as policyParameters.
    #[arg(
        long,
        visible_alias = "parameters",
        env = "RINGFENCE_POLICY_PARAMETERS",
        value_name = "FILE"
    )]
    policy_parameters: Option<PathBuf>,
    /// What refusals of a policy do, by its name: `approved-images=Warn`; Off is a policy that is not asked. Without a word a shipped
    /// policy refuses, and a RegoPolicy does what it says. May be given more than once; what the chart has as policies.
    #[arg(
        long,
        env = "RINGFENCE_POLICY_ACTIONS",
        value_name = "NAME=Deny|Warn|Audit|Off",
        action = ArgAction::Append,
        value_delimiter = ',',
        value_parser = switches::parse
    )]
    policy_action: Vec<switches::Switch>,
}

/// Policies, ready to judge.
pub(super) struct Loaded {
    /// Those that judge pods and namespaces.
    pub(super) set: PolicySet,
    /// Those that judge objects as a RegoPolicy does, ordered by name.
    pub(super) registered: Vec<Registered>,
    /// Why some could not be had; empty where they all must be there.
    pub(super) problems: Vec<LoadError>,
    /// What was left aside.
    pub(super) notes: Vec<String>,
    /// Files of Rego that nobody is asked about.
    pub(super) idle: Vec<String>,
}

/// What a policy that cannot be used means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Demand {
    /// None of them may be used.
    All,
    /// The others are used, and Rego without METADATA is taken as written for plain OPA or conftest.
    Any,
}

impl PolicyFiles {
    /// Threads for policies that were loaded, for a command that asks about one object after the other.
    pub(super) fn threads(policies: Arc<PolicySet>, metrics: &Arc<Metrics>) -> Arc<Pool> {
        Arc::new(Pool::new(policies, THREADS, Arc::clone(metrics)))
    }

    /// Reads and compiles them; those of files, once child processes have survived the same. Each must be good.
    pub(super) fn load(&self) -> Result<Loaded> {
        let loaded = self.load_as(Demand::All)?;
        for note in &loaded.notes {
            eprintln!("ringfence: {}", printable(note));
        }
        Ok(loaded)
    }

    /// The same as a cluster has them in force. Where nobody names a set, the one that is there anyway judges pods and namespaces alone.
    pub(super) fn in_force(&self) -> Result<Loaded> {
        let mut loaded = self.load()?;
        if self.policies.is_empty() {
            switches::refuse_idle(&self.policy_action, &loaded.registered)?;
            loaded.registered.clear();
        }
        Ok(loaded)
    }

    /// Policies that are switched, as `approved-images=Warn, resource-limits=Off`.
    pub(super) fn switched(&self) -> Option<String> {
        let all: Vec<_> = self.policy_action.iter().map(ToString::to_string).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// The same, by what is demanded of each.
    pub(super) fn load_as(&self, demand: Demand) -> Result<Loaded> {
        let parameters = self.parameters()?;
        let mut files = Files::new(demand);
        if self.policies.is_empty() {
            files.add_set(library::DEFAULT_SET)?;
        }
        let shipped: BTreeSet<String> = library::sets()?.into_iter().map(|set| set.name).collect();
        for value in &self.policies {
            if shipped.contains(value) {
                files.add_set(value)?;
            } else {
                files.add(Path::new(value))?;
            }
        }
        if files.are_empty() {
            bail!(
                "{}: there is no policy in it: name a shipped set, a folder or a file with policies, or leave --policies out",
                self.policies.join(", ")
            );
        }
        let loaded = load::load(files, parameters)?;
        if demand == Demand::All && !loaded.problems.is_empty() {
            return Err(cannot(&loaded.problems));
        }
        switches::switch(loaded, &self.policy_action)
    }

    fn parameters(&self) -> Result<BTreeMap<String, Value>> {
        let Some(file) = &self.policy_parameters else {
            return Ok(BTreeMap::new());
        };
        let shown = file.display();
        let text = manifests::read(file, MAX_PARAMETERS).with_context(|| shown.to_string())?;
        let problem = |why: String| anyhow!("{shown} is no YAML map of parameters by policy name: {why}");
        let mut found = BTreeMap::new();
        for read in yaml::values(&text, MAX_PARAMETERS) {
            match read.map_err(|error| problem(error.to_string()))? {
                (_, Value::Object(fields)) if found.is_empty() => found.extend(fields),
                _ => return Err(problem("it holds something else, or more than one".to_owned())),
            }
        }
        Ok(found)
    }
}

fn cannot(problems: &[LoadError]) -> anyhow::Error {
    let all: Vec<_> = problems.iter().map(LoadError::to_string).collect();
    anyhow!("policies cannot be used:\n{}", all.join("\n"))
}
