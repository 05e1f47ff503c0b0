//! The policies of a subcommand that judges: the shipped ones, or those of a folder.
//!
//! Must never: look into a file of policies that no child process has survived; bytes are read here, and made text.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use clap::Args as ClapArgs;
use serde_json::Value;

use crate::{
    policy::{LoadError, PolicySet, Source},
    telemetry::Metrics,
    vetting::Vetting,
    webhook::Pool,
};

/// Size of the largest policy file, in bytes. Source: the bound of a RegoPolicy.
pub(super) const MAX_POLICY_FILE: u64 = 256 * 1024;
/// Most policy files in one directory tree.
const MAX_POLICY_FILES: usize = 1024;

/// Most threads of a command: one that evaluates, and those that policies which do not end have taken along.
const THREADS: usize = 16;

/// Where the policies are.
#[derive(ClapArgs, Debug)]
pub(super) struct PolicyFiles {
    /// Directory of Rego policies to use instead of the shipped ones.
    #[arg(long, env = "RINGFENCE_POLICIES", value_name = "DIR")]
    policies: Option<PathBuf>,
    /// YAML file with parameters of policies, by policy name: what the chart has as policyParameters.
    #[arg(long, env = "RINGFENCE_POLICY_PARAMETERS", value_name = "FILE")]
    policy_parameters: Option<PathBuf>,
}

impl PolicyFiles {
    /// The same with threads to evaluate them, for a command that asks about one object after the other.
    pub(super) fn pool(&self, metrics: &Arc<Metrics>) -> Result<Arc<Pool>> {
        Ok(Self::threads(Arc::new(self.load()?), metrics))
    }

    /// Threads for policies that were loaded.
    pub(super) fn threads(policies: Arc<PolicySet>, metrics: &Arc<Metrics>) -> Arc<Pool> {
        Arc::new(Pool::new(policies, THREADS, Arc::clone(metrics)))
    }

    /// Reads and compiles them; those of a folder, once child processes have survived the same.
    pub(super) fn load(&self) -> Result<PolicySet> {
        let parameters: BTreeMap<String, Value> = match &self.policy_parameters {
            Some(file) => {
                let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
                serde_saphyr::from_str(&text)
                    .with_context(|| format!("{} is no YAML map of parameters by policy name", file.display()))?
            }
            None => BTreeMap::new(),
        };
        let compiled = match &self.policies {
            Some(folder) => {
                let mut sources = Vec::new();
                read_policies(folder, &mut sources)?;
                if sources.is_empty() {
                    bail!(
                        "{} holds no .rego file: name a folder with policies, or leave --policies out",
                        folder.display()
                    );
                }
                let vetting =
                    Vetting::new().context("cannot tell which file this binary is, to vet policies with it")?;
                vetting.compile(sources, &parameters)
            }
            None => PolicySet::embedded(&parameters),
        };
        compiled.map_err(|errors| {
            let all: Vec<_> = errors.iter().map(LoadError::to_string).collect();
            anyhow::anyhow!("policies cannot be used:\n{}", all.join("\n"))
        })
    }
}

/// Reads every policy below a folder; tests of policies are no policies.
fn read_policies(folder: &Path, sources: &mut Vec<Source>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        // A mounted ConfigMap shows each file twice: by a link, and below ..data.
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            read_policies(&path, sources)?;
        } else if name.ends_with(".rego") && !name.ends_with("_test.rego") {
            let size = fs::metadata(&path)
                .with_context(|| format!("cannot read {}", path.display()))?
                .len();
            if size > MAX_POLICY_FILE || sources.len() >= MAX_POLICY_FILES {
                bail!(
                    "{}: at most {MAX_POLICY_FILES} files of {MAX_POLICY_FILE} bytes each",
                    path.display()
                );
            }
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let file = path.display().to_string();
            let text = text(&file, bytes)?;
            sources.push(Source { file, text });
        }
    }
    Ok(())
}

/// The text of a file, without the mark that some editors of Windows put in front.
pub(super) fn text(file: &str, bytes: Vec<u8>) -> Result<String, LoadError> {
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(error.as_bytes().get(..good).unwrap_or_default()).into_owned();
        let line = before.matches('\n').count().saturating_add(1);
        let column = before
            .chars()
            .rev()
            .take_while(|c| *c != '\n')
            .count()
            .saturating_add(1);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let message = "this is no UTF-8: save the file in that encoding";
        LoadError::at(file, number(line), Some(number(column)), message)
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}
