//! RegoPolicies from files: as somebody has written them, or as `kubectl get regopolicies -o yaml` prints them.
//!
//! Must never: compile one that no child process has survived, or leave one out that is broken: a line may name it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args as ClapArgs;
use kube::ResourceExt as _;
use serde_json::Value;

use super::{
    manifests::{self, API_VERSION, MAX_OBJECTS, head},
    schema,
    terminal::printable,
};
use crate::{
    api::{GROUP, RegoPolicy},
    decisions::{Catalogue, Described},
    policy::{Declared, Registered, Snapshot},
    vetting::{NotVetted, Vetting},
    webhook::quoted,
};

const KIND: &str = "RegoPolicy";
/// Longest file, in bytes. A policy with its samples, and with what `kubectl apply` keeps of both, is a megabyte at most.
const MAX_FILE: u64 = 16 << 20;
/// How long vetting all of them may take.
const VETTING: Duration = Duration::from_secs(120);
/// Most errors of one policy that are told.
const MAX_ERRORS: usize = 8;

/// Where the RegoPolicies are.
#[derive(ClapArgs, Debug)]
pub(super) struct RegoPolicyFiles {
    /// RegoPolicies that explain lines of the webhooks policies and policies-audit: YAML or JSON, one or several, or a List as
    /// `kubectl get regopolicies -o yaml` prints it. May be given more than once.
    #[arg(long = "rego-policies", value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// A policy as a file has it.
struct Read {
    declared: Declared,
    file: String,
}

impl RegoPolicyFiles {
    /// Whether one of them is standard input.
    pub(super) fn read_stdin(&self) -> bool {
        self.files.iter().any(|file| file == Path::new("-"))
    }

    /// Reads, vets and compiles them, and adds all to what is known by name; `None` where no file is named.
    pub(super) fn load(&self, catalogue: &mut Catalogue) -> Result<Option<Snapshot>> {
        if self.files.is_empty() {
            return Ok(None);
        }
        let mut names = BTreeSet::new();
        let mut read = Vec::new();
        for file in &self.files {
            let shown = if file == Path::new("-") {
                "standard input".to_owned()
            } else {
                file.display().to_string()
            };
            let found = manifests::read(file, MAX_FILE)
                .and_then(|text| policies_of(&text, &shown, &mut names, catalogue))
                .with_context(|| shown.clone())?;
            read.extend(found);
        }
        let vetting = Vetting::new().context("cannot tell which file this binary is, to vet policies with it")?;
        let declared: Vec<_> = read.iter().map(|one| one.declared.clone()).collect();
        let outcomes = vetting.compile_objects(&declared, VETTING);
        let mut policies = Vec::new();
        for (Read { declared, file }, outcome) in read.into_iter().zip(outcomes) {
            let policy = outcome.unwrap_or_else(|error| {
                let why = why(&error, &declared);
                Registered::broken(declared, &why)
            });
            catalogue.add(policy.name(), Described::of_object(&policy, &file));
            policies.push(Arc::new(policy));
        }
        Ok(Some(Snapshot::new(policies)))
    }
}

/// The policies of a text. One that the API server would refuse is described right away: there is nothing to compile.
fn policies_of(text: &str, file: &str, names: &mut BTreeSet<String>, catalogue: &mut Catalogue) -> Result<Vec<Read>> {
    let mut found = Vec::new();
    let (mut objects, mut others) = (0_usize, Vec::new());
    for (number, object) in manifests::objects(text)? {
        objects += 1;
        ensure!(
            objects <= MAX_OBJECTS,
            "more than {MAX_OBJECTS} objects: split the input"
        );
        let document = || format!("document {number}");
        let (version, kind, name) = head(&object).with_context(document)?;
        match (version, kind) {
            (API_VERSION, KIND) => {}
            (_, KIND) if version.split('/').next() == Some(GROUP) => {
                bail!("document {number}: {version} {kind} is not known here: use apiVersion {API_VERSION}")
            }
            _ => {
                others.push(format!("{kind}/{name}"));
                continue;
            }
        }
        ensure!(
            names.insert(name.to_owned()),
            "document {number}: {}",
            manifests::twice(kind, name)
        );
        match declared(&object) {
            Ok(declared) => found.push(Read {
                declared,
                file: file.to_owned(),
            }),
            Err(why) => {
                let description = object.pointer("/spec/description").and_then(Value::as_str);
                catalogue.add(name, Described::of_no_object(name, description, file, &why));
            }
        }
    }
    // `kubectl get` prints an empty List where there are none.
    ensure!(
        others.len() < objects || others.is_empty(),
        "there is no RegoPolicy in it: kubectl get regopolicies -o yaml prints those of a cluster"
    );
    if !others.is_empty() {
        let others = others.join(", ");
        eprintln!("ringfence: {}", printable(&format!("{file}: left aside: {others}")));
    }
    Ok(found)
}

/// What an object declares, or why the API server would refuse it.
pub(super) fn declared(object: &Value) -> Result<Declared, String> {
    let refused = |why: String| format!("it would be refused by the API server: {why}");
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let schema = schema::schema_of(KIND).ok_or("there is no schema of its kind")?;
    let problems = schema::problems(schema, spec, "spec");
    if !problems.is_empty() {
        return Err(refused(problems.join("; ")));
    }
    let policy: RegoPolicy = serde_json::from_value(object.clone()).map_err(|error| refused(error.to_string()))?;
    Ok(Declared {
        name: policy.name_any(),
        uid: policy.uid().unwrap_or_default(),
        generation: policy.metadata.generation.unwrap_or_default(),
        spec: policy.spec,
    })
}

/// What is wrong with a policy, with the lines that are at fault: as much of it as is told.
pub(super) fn reasons(error: &NotVetted, declared: &Declared) -> Vec<String> {
    let errors = error.errors();
    let told = errors.iter().take(MAX_ERRORS);
    let mut told: Vec<_> = told.map(|error| quoted(error, &declared.spec)).collect();
    if errors.len() > MAX_ERRORS {
        told.push(format!("and {} more", errors.len() - MAX_ERRORS));
    }
    told
}

/// The same in one line.
pub(super) fn why(error: &NotVetted, declared: &Declared) -> String {
    reasons(error, declared).join("; ")
}
