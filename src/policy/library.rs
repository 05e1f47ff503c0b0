//! The library that the binary carries: its sets, and which policies each brings.
//!
//! A set is a folder of `policies/` with a `set.yaml` that says what it is for and which sets it adds to. Must never: leave a policy of
//! a set out. One that judges other objects than pods and namespaces is a [`Declared`], which whoever judges matches like a RegoPolicy.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use include_dir::{Dir, include_dir};
use serde::Deserialize;
use serde_json::Value as Json;

use super::compile::{Source, effective};
use super::error::LoadError;
use super::metadata::{self, RegoVersion, Target};
use super::registered::Declared;
use super::set::is_test;
use crate::api::{self, FailurePolicy, Rego, RegoModule, RegoPolicySpec, Templates, ValidationAction};

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/policies");

/// The set that is in force where nobody names another.
pub const DEFAULT_SET: &str = "ai-workflow";

/// Name of the file that says what a set is for.
pub const SET_FILE: &str = "set.yaml";

/// Most sets that one may add to.
const MAX_INCLUDED: usize = 16;

/// What `set.yaml` says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SetInfo {
    /// A few words.
    pub title: String,
    /// What it demands as a whole, and for whom it is.
    pub description: String,
    /// Sets that it adds to, by the names of their folders beside it.
    #[serde(default)]
    pub includes: Vec<String>,
}

impl SetInfo {
    /// Reads a `set.yaml`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, LoadError> {
        let options = serde_saphyr::options! { with_snippet: false };
        let info: Self = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| LoadError::file(file, format!("says not what the set is: {error}")))?;
        if info.includes.len() > MAX_INCLUDED {
            return Err(LoadError::file(file, format!("includes more than {MAX_INCLUDED} sets")));
        }
        Ok(info)
    }
}

/// A set of the library.
#[derive(Clone, Debug)]
pub struct Set {
    /// Its folder.
    pub name: String,
    /// What it is for.
    pub info: SetInfo,
    /// Its own files, tests included, ordered by name.
    pub sources: Vec<Source>,
}

/// The sets of the library, ordered by name.
///
/// # Errors
/// What is wrong with a `set.yaml`; tests hold the binary's own to have nothing.
pub fn sets() -> Result<Vec<Set>, LoadError> {
    let mut sets = Vec::new();
    for dir in EMBEDDED.dirs() {
        let name = dir.path().display().to_string();
        let file = format!("policies/{name}/{SET_FILE}");
        let text = dir
            .get_file(dir.path().join(SET_FILE))
            .and_then(|file| file.contents_utf8());
        let text = text.ok_or_else(|| LoadError::file(&file, "is missing"))?;
        let mut sources = Vec::new();
        collect(dir, &mut sources);
        sources.sort_by(|a, b| a.file.cmp(&b.file));
        sets.push(Set {
            info: SetInfo::parse(&file, text)?,
            name,
            sources,
        });
    }
    sets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sets)
}

/// Every file of Rego that the binary carries, tests included, ordered by name.
pub fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    collect(&EMBEDDED, &mut sources);
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    sources
}

/// The files of these sets and of those that they include, each once.
///
/// # Errors
/// Where there is no such set.
pub fn sources_of(names: &[&str]) -> Result<Vec<Source>, LoadError> {
    let sets: BTreeMap<String, Set> = sets()?.into_iter().map(|set| (set.name.clone(), set)).collect();
    let mut open: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut taken = BTreeSet::new();
    let mut sources = Vec::new();
    while let Some(name) = open.pop() {
        let set = sets.get(&name).ok_or_else(|| {
            let known: Vec<_> = sets.keys().map(String::as_str).collect();
            LoadError::file(&name, format!("there is no such set; there are: {}", known.join(", ")))
        })?;
        if taken.insert(name) {
            open.extend(set.info.includes.iter().cloned());
            sources.extend(set.sources.iter().cloned());
        }
    }
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(sources)
}

/// Names of all policies of all sets.
///
/// # Errors
/// What is wrong with a METADATA; tests hold the binary's own to have nothing.
pub fn names() -> Result<BTreeSet<String>, LoadError> {
    let policies = sources().into_iter().filter(|source| !is_test(&source.file));
    policies
        .map(|source| metadata::parse(&source.file, &source.text).map(|metadata| metadata.name))
        .collect()
}

/// Those of these policies that judge objects as a RegoPolicy does, by what their METADATA matches. Tests, and policies that judge pods
/// or namespaces, are not among them. `parameters` as for a `PolicySet`.
///
/// # Errors
/// Everything that is wrong with their METADATA and parameters.
pub fn objects(sources: &[Source], parameters: &BTreeMap<String, Json>) -> Result<Vec<Declared>, Vec<LoadError>> {
    let (mut objects, mut errors) = (Vec::new(), Vec::new());
    for source in sources.iter().filter(|source| !is_test(&source.file)) {
        match object(source, parameters) {
            Ok(object) => objects.extend(object),
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() { Ok(objects) } else { Err(errors) }
}

fn object(source: &Source, parameters: &BTreeMap<String, Json>) -> Result<Option<Declared>, Vec<LoadError>> {
    let metadata = metadata::parse(&source.file, &source.text).map_err(|error| vec![error])?;
    let Some(match_constraints) = metadata
        .match_constraints
        .clone()
        .filter(|_| metadata.target == Target::Object)
    else {
        return Ok(None);
    };
    let parameters = effective(&metadata, source, parameters.get(&metadata.name), true)?;
    let spec = RegoPolicySpec {
        description: Some(metadata.description),
        remediation: Some(metadata.remediation),
        validation_actions: vec![ValidationAction::Deny],
        failure_policy: FailurePolicy::Fail,
        match_constraints,
        templates: Templates::Ignore,
        parameters: Some(parameters.into_iter().collect()),
        rego: Rego {
            version: match metadata.rego {
                RegoVersion::V0 => api::RegoVersion::V0,
                RegoVersion::V1 => api::RegoVersion::V1,
            },
            modules: vec![RegoModule {
                name: "policy.rego".to_owned(),
                source: source.text.clone(),
            }],
        },
        ..RegoPolicySpec::default()
    };
    Ok(Some(Declared {
        name: metadata.name,
        uid: String::new(),
        generation: 0,
        spec,
    }))
}

fn collect(dir: &Dir<'_>, sources: &mut Vec<Source>) {
    let files = dir
        .files()
        .filter(|file| file.path().extension() == Some("rego".as_ref()));
    for file in files {
        sources.push(Source {
            file: Path::new("policies").join(file.path()).display().to_string(),
            text: String::from_utf8_lossy(file.contents()).into_owned(),
        });
    }
    dir.dirs().for_each(|dir| collect(dir, sources));
}
