//! From policies as they are written to policies that judge: vetted, compiled, each under a name of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    Demand, Loaded,
    files::{Files, Made},
    plain,
};
use crate::{
    api::RegoVersion,
    cli::rego_policies_of_files::why,
    gatekeeper::{self, Document},
    policy::{Declared, LoadError, PolicySet, Registered, Source, library},
    vetting::Vetting,
};

/// How long vetting what judges objects may take.
const WITHIN: Duration = Duration::from_secs(120);
/// Most errors of one policy that are told.
const MAX_ERRORS: usize = 8;

/// Loads what was found. What is wrong with a policy is among the problems; an error is what nothing of it can be said of.
pub(super) fn load(mut files: Files, parameters: BTreeMap<String, Value>) -> Result<Loaded> {
    convert(&mut files);
    files.problems.extend(plain::passed_over(&files.plain));
    let vetting = Vetting::new().context("cannot tell which file this binary is, to vet policies with it")?;
    let mut loading = Loading {
        vetting,
        demand: files.demand,
        names: BTreeMap::new(),
        problems: files.problems,
    };
    // Their parameters are their own, or nobody's that a set knows.
    let made: BTreeSet<&str> = files.made.iter().map(|made| made.policy.name.as_str()).collect();
    let taken = |name: &str| made.contains(name);
    let plain = plain::declared(&files.plain, &taken, &parameters);
    let of_sets: BTreeMap<_, _> = parameters
        .into_iter()
        .filter(|(name, _)| !plain.iter().any(|(policy, _)| policy.name == *name))
        .collect();
    let (set, objects) = loading.set(files.shipped, files.rego, &of_sets)?;
    let mut compiled = objects;
    compiled.extend(loading.declared(files.made));
    compiled.extend(loading.plain(plain));
    compiled.sort_by(|one, other| one.name().cmp(other.name()));
    Ok(Loaded {
        set,
        registered: compiled,
        problems: loading.problems,
        notes: files.notes,
        idle: plain::idle(&files.plain),
    })
}

/// Makes policies of Gatekeeper's templates and constraints, wherever among the files each lies.
fn convert(files: &mut Files) {
    let documents: Vec<_> = files
        .gatekeeper
        .iter()
        .map(|(file, line, object)| Document {
            file,
            line: *line,
            object,
        })
        .collect();
    let converted = gatekeeper::convert(&documents);
    for made in converted.policies {
        let at = format!("{}:{}", made.file, made.line);
        let notes = made.notes.iter().map(|note| format!("{at}: {note}"));
        files.notes.extend(notes);
        files.made.push(Made {
            policy: made.policy,
            file: made.file,
            line: made.line,
        });
    }
    files.problems.extend(converted.problems);
    files.notes.extend(converted.notes.iter().map(LoadError::to_string));
}

struct Loading {
    vetting: Vetting,
    demand: Demand,
    /// Which file has a policy of that name.
    names: BTreeMap<String, String>,
    problems: Vec<LoadError>,
}

impl Loading {
    /// The policies with METADATA: those that judge pods and namespaces as a set, and the others.
    fn set(
        &mut self,
        shipped: Vec<Source>,
        mut rego: Vec<Source>,
        parameters: &BTreeMap<String, Value>,
    ) -> Result<(PolicySet, Vec<Registered>)> {
        let set = loop {
            match self.vetting.compile_beside(shipped.clone(), rego.clone(), parameters) {
                Ok(set) => break set,
                Err(errors) => {
                    let wrong: BTreeSet<&str> = errors.iter().map(|error| error.file.as_str()).collect();
                    let before = rego.len();
                    rego.retain(|source| !wrong.contains(source.file.as_str()));
                    let is_less = rego.len() < before;
                    let own = errors.iter().cloned();
                    self.problems.extend(own);
                    if self.demand == Demand::All || !is_less {
                        return Err(super::cannot(&self.problems));
                    }
                }
            }
        };
        for info in set.policies() {
            self.names.insert(info.metadata.name.clone(), info.file.clone());
        }
        let mut compiled = Vec::new();
        let every: Vec<_> = shipped.into_iter().chain(rego).collect();
        // A child has survived each that is no part of this binary.
        for object in library::objects(&every, parameters).map_err(|errors| super::cannot(&errors))? {
            match Registered::compile(&object) {
                Ok(policy) => compiled.push(policy),
                Err(errors) => self.problems.extend(errors),
            }
        }
        Ok((set.without_objects(), compiled))
    }

    /// Policies that are objects.
    fn declared(&mut self, made: Vec<Made>) -> Vec<Registered> {
        let mut own = Vec::new();
        for Made { policy, file, line } in made {
            match self.names.get(&policy.name) {
                Some(first) => {
                    let message = format!("policy {} is there already, in {first}: rename one", policy.name);
                    self.problems.push(LoadError::at(&file, line, None, message));
                }
                None => {
                    self.names.insert(policy.name.clone(), format!("{file}:{line}"));
                    own.push((policy, file, line));
                }
            }
        }
        let declared: Vec<_> = own.iter().map(|(policy, ..)| policy.clone()).collect();
        let outcomes = self.vetting.compile_objects(&declared, WITHIN);
        let mut compiled = Vec::new();
        for ((policy, file, line), outcome) in own.into_iter().zip(outcomes) {
            match outcome {
                Ok(registered) => compiled.push(registered),
                Err(error) => {
                    let why = why(&error, &policy);
                    let message = format!("policy {}: {why}", policy.name);
                    self.problems.push(LoadError::at(&file, line, None, message));
                }
            }
        }
        compiled
    }

    /// Policies without METADATA, in whichever version of the language they are written.
    fn plain(&mut self, plain: Vec<(Declared, String)>) -> Vec<Registered> {
        let newest: Vec<_> = plain.iter().map(|(policy, _)| policy.clone()).collect();
        let outcomes = self.vetting.compile_objects(&newest, WITHIN);
        let mut compiled = Vec::new();
        for ((policy, _), outcome) in plain.into_iter().zip(outcomes) {
            let error = match outcome {
                Ok(registered) => {
                    compiled.push(registered.of_documents());
                    continue;
                }
                Err(error) => error,
            };
            let mut older = policy.clone();
            older.spec.rego.version = RegoVersion::V0;
            match self.vetting.compile_object(&older, WITHIN) {
                Ok(registered) => compiled.push(registered.of_documents()),
                // What is wrong with it in today's language tells its author more.
                Err(_) => self.problems.extend(error.errors().iter().take(MAX_ERRORS).cloned()),
            }
        }
        compiled
    }
}
