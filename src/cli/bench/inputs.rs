//! What policies are asked about.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::cli::manifests::{self, MAX_OBJECTS, head};
use crate::fence::template_of;
use crate::policy::{PolicyInput, Target};
use crate::vetting;

/// Longest file, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Most files, and deepest folder.
const MAX_FILES: usize = 1000;
const MAX_DEPTH: usize = 32;

/// A request of a file, or an ordinary one.
pub(super) enum Input {
    Ordinary(PolicyInput<'static>),
    Own {
        target: Target,
        request: Value,
        pod: Option<(&'static str, Value)>,
    },
}

impl Input {
    pub(super) fn policy_input(&self) -> PolicyInput<'_> {
        match self {
            Self::Ordinary(input) => *input,
            Self::Own { target, request, pod } => PolicyInput {
                target: *target,
                request,
                pod: pod.as_ref().map(|(path, pod)| (*path, pod)),
                ..vetting::surroundings(request)
            },
        }
    }
}

/// Ordinary requests where no file is named.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Input>> {
    if paths.is_empty() {
        return Ok(vetting::ordinary().map(Input::Ordinary).collect());
    }
    let mut files = BTreeSet::new();
    for path in paths {
        // A file that is named is read whatever it is called.
        if path.is_dir() {
            walk(path, 0, &mut files).with_context(|| path.display().to_string())?;
        } else {
            files.insert(path.clone());
        }
    }
    let mut inputs = Vec::new();
    for file in files {
        let text = manifests::read(&file, MAX_FILE).with_context(|| file.display().to_string())?;
        for (number, object) in manifests::objects(&text).with_context(|| file.display().to_string())? {
            let input = input(object).with_context(|| format!("{}: document {number}", file.display()))?;
            inputs.push(input);
            ensure!(
                inputs.len() <= MAX_OBJECTS,
                "more than {MAX_OBJECTS} requests: name fewer files"
            );
        }
    }
    ensure!(!inputs.is_empty(), "there is no object in what is named");
    Ok(inputs)
}

fn walk(folder: &Path, depth: usize, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    ensure!(depth <= MAX_DEPTH, "folders are nested more than {MAX_DEPTH} deep");
    for entry in fs::read_dir(folder).context("cannot be read")? {
        let path = entry?.path();
        if path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'))
        {
            continue;
        }
        if path.is_dir() {
            walk(&path, depth + 1, files)?;
        } else if ["yaml", "yml", "json"]
            .iter()
            .any(|known| path.extension().is_some_and(|end| end == *known))
        {
            files.insert(path);
            ensure!(files.len() <= MAX_FILES, "more than {MAX_FILES} files");
        }
    }
    Ok(())
}

fn input(object: Value) -> Result<Input> {
    let is_review = object.get("kind").and_then(Value::as_str) == Some("AdmissionReview");
    let request = match object {
        Value::Object(mut review) if is_review => match review.remove("request") {
            Some(request @ Value::Object(_)) => request,
            _ => bail!("an AdmissionReview has a request"),
        },
        object => created(object)?,
    };
    let text = |pointer: &str| request.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, kind) = (text("/kind/group"), text("/kind/kind"));
    let object = request
        .get("object")
        .filter(|object| !object.is_null())
        .or(request.get("oldObject"));
    let pod = object.and_then(|object| template_of(group, kind, object));
    let target = match (&pod, group, kind) {
        (Some(_), _, _) => Target::Pod,
        (None, "", "Namespace") => Target::Namespace,
        (None, _, _) => Target::Object,
    };
    Ok(Input::Own {
        target,
        pod: pod.map(|(path, pod)| (path, pod.clone())),
        request,
    })
}

/// The request by which an object is made.
fn created(object: Value) -> Result<Value> {
    let (api_version, kind, name) = head(&object)?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = json!({"group": group, "version": version, "kind": kind});
    let namespace = object
        .pointer("/metadata/namespace")
        .and_then(Value::as_str)
        .unwrap_or("default");
    Ok(json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": kind, "requestKind": kind,
        "name": name, "namespace": namespace, "operation": "CREATE", "dryRun": false,
        "userInfo": {"username": "system:serviceaccount:ci:deployer", "groups": ["system:authenticated"]},
        "object": object, "oldObject": null,
    }))
}
