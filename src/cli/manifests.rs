//! Declarations from a file or a pipe: YAML, or JSON, which is YAML too.
//!
//! Must never: guess. What is nearly one of our kinds is an error; what is plainly another kind is named and left aside.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    documents::{self, Objects},
    schema,
};
use crate::api::{AIWorkflow, AIWorkflowClass, AIWorkflowGrant, GROUP, RegoPolicyException};

/// Longest input, in bytes. An object of the API server has at most 1.5 MiB.
const MAX_INPUT: u64 = 4 * 1024 * 1024;
/// Most objects of one input.
pub(super) const MAX_OBJECTS: usize = 1000;
pub(super) const API_VERSION: &str = "ringfence.dev/v1alpha1";
const OUR_KINDS: [&str; 4] = [
    "AIWorkflow",
    "AIWorkflowClass",
    "AIWorkflowGrant",
    "RegoPolicyException",
];

/// What an input declares.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    pub(super) workflows: Vec<AIWorkflow>,
    pub(super) grants: Vec<AIWorkflowGrant>,
    pub(super) classes: BTreeMap<String, AIWorkflowClass>,
    pub(super) namespaces: BTreeMap<String, Value>,
    /// What is of another kind, as `Job/invoice-triage`.
    pub(super) others: Vec<String>,
}

/// Reads files, or standard input for `-`. `namespace` is for objects that name none.
pub(super) fn load(files: &[PathBuf], namespace: Option<&str>) -> Result<Manifests> {
    let mut manifests = Manifests::default();
    for file in files {
        let shown = match file.to_string_lossy() {
            dash if dash == "-" => "standard input".into(),
            path => path,
        };
        let loaded = read(file, MAX_INPUT).and_then(|text| manifests.load(&text, namespace));
        loaded.with_context(|| shown.into_owned())?;
    }
    Ok(manifests)
}

/// Reads a file, or standard input for `-`, and no more than is sensible.
pub(super) fn read(path: &Path, most: u64) -> Result<String> {
    if path == Path::new("-") {
        bounded(io::stdin().lock(), most)
    } else {
        bounded(File::open(path).context("cannot be read")?, most)
    }
}

fn bounded(source: impl Read, most: u64) -> Result<String> {
    let mut bytes = Vec::new();
    // One byte more tells "full" from "too long"; an endless pipe ends here too.
    let length = source
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .context("cannot be read")?;
    ensure!(length as u64 <= most, "more than {most} bytes: split it");
    String::from_utf8(bytes).context("this is no UTF-8 text")
}

/// The objects of a text, each with the number of its document. A List is what it lists.
pub(super) fn objects(text: &str) -> Result<Vec<(usize, Value)>> {
    let mut objects = Vec::new();
    for (number, read) in (1..).zip(documents::values(text, text.len() as u64)) {
        let (_, value) = read?;
        let found = Objects::of(value).map_err(|why| anyhow!("document {number}: {why}"))?;
        objects.extend(found.all().into_iter().map(|object| (number, object)));
    }
    Ok(objects)
}

/// Version, kind and name of an object.
pub(super) fn head(object: &Value) -> Result<(&str, &str, &str)> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
    ensure!(
        !api_version.is_empty() && !kind.is_empty(),
        "this is no Kubernetes object: it needs apiVersion and kind"
    );
    // `y`, `no` and `7` are no text in YAML.
    let name_is_text = object.pointer("/metadata/name").is_none_or(Value::is_string);
    ensure!(name_is_text, "{kind}: metadata.name is no text: put it in quotes");
    ensure!(!name.is_empty(), "{kind}: metadata.name is missing");
    Ok((api_version, kind, name))
}

impl Manifests {
    /// Reads every document of a text. `namespace` is for objects that name none.
    fn load(&mut self, text: &str, namespace: Option<&str>) -> Result<()> {
        for (number, object) in objects(text)? {
            self.add(object, namespace)
                .with_context(|| format!("document {number}"))?;
        }
        Ok(())
    }

    fn add(&mut self, object: Value, namespace: Option<&str>) -> Result<()> {
        let (api_version, kind, name) = head(&object)?;
        let count =
            self.workflows.len() + self.grants.len() + self.classes.len() + self.namespaces.len() + self.others.len();
        ensure!(count < MAX_OBJECTS, "more than {MAX_OBJECTS} objects: split the input");
        let name = name.to_owned();
        let namespace = || {
            let own = object.pointer("/metadata/namespace").and_then(Value::as_str);
            let namespace = own.filter(|own| !own.is_empty()).or(namespace).map(str::to_owned);
            namespace.with_context(|| {
                format!("{kind} {name}: metadata.namespace is missing: write it there, or use --namespace")
            })
        };
        match (api_version, kind) {
            (API_VERSION, "AIWorkflow") => {
                let mut workflow: AIWorkflow = typed(&object, kind, &name)?;
                workflow.metadata.namespace = Some(namespace()?);
                // Whether a generation was reviewed is a question to a cluster.
                workflow.metadata.generation = None;
                let known = self.workflows.iter().any(|other| same_place(other, &workflow));
                ensure!(!known, twice(kind, &name));
                self.workflows.push(workflow);
            }
            (API_VERSION, "AIWorkflowGrant") => {
                let mut grant: AIWorkflowGrant = typed(&object, kind, &name)?;
                grant.metadata.namespace = Some(namespace()?);
                let known = self.grants.iter().any(|other| same_place(other, &grant));
                ensure!(!known, twice(kind, &name));
                self.grants.push(grant);
            }
            (API_VERSION, "AIWorkflowClass") => {
                let class = typed(&object, kind, &name)?;
                ensure!(self.classes.insert(name.clone(), class).is_none(), twice(kind, &name));
            }
            // Nothing is made of one.
            (API_VERSION, "RegoPolicyException") => {
                typed::<RegoPolicyException>(&object, kind, &name)?;
                self.others.push(format!("{kind}/{name}"));
            }
            ("v1", "Namespace") => {
                let kind = kind.to_owned();
                ensure!(
                    self.namespaces.insert(name.clone(), object).is_none(),
                    twice(&kind, &name)
                );
            }
            (version, kind) if version.split('/').next() == Some(GROUP) || OUR_KINDS.contains(&kind) => bail!(
                "{version} {kind} is not known here: use apiVersion {API_VERSION} with kind {}",
                OUR_KINDS.join(", ")
            ),
            (_, kind) => self.others.push(format!("{kind}/{name}")),
        }
        Ok(())
    }
}

fn typed<K: DeserializeOwned>(object: &Value, kind: &str, name: &str) -> Result<K> {
    // As the API server does with a null where none is allowed.
    let object = without_nulls(object.clone());
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let schema = schema::schema_of(kind).with_context(|| format!("{kind} has no schema"))?;
    let problems = schema::problems(schema, spec, "spec");
    ensure!(
        problems.is_empty(),
        "{kind} {name} would be refused by the API server:\n  {}",
        problems.join("\n  ")
    );
    serde_json::from_value(object).with_context(|| format!("{kind} {name} cannot be read"))
}

/// The same without fields that are null.
pub(super) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

fn same_place<K: ResourceExt>(one: &K, other: &K) -> bool {
    one.name_any() == other.name_any() && one.namespace() == other.namespace()
}

pub(super) fn twice(kind: &str, name: &str) -> String {
    format!("{kind} {name} is there twice: leave one of them out")
}
