//! What policies are asked about.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;

use crate::cli::folder::{entries, is_manifest};
use crate::cli::manifests::{self, MAX_OBJECTS};
use crate::cli::review;
use crate::fence::occasion;
use crate::policy::{PolicyInput, Target};
use crate::review::Review;
use crate::vetting;

/// Longest file, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Most files, and deepest folder.
const MAX_FILES: usize = 1000;
const MAX_DEPTH: usize = 32;

/// What a policy sees of a request, with what lies beside an ordinary one.
pub(super) fn policy_input(review: &Review) -> PolicyInput<'_> {
    let pod = occasion(review).template;
    let target = match pod {
        Some(_) => Target::Pod,
        None if review.is_of_namespace() => Target::Namespace,
        None => Target::Object,
    };
    PolicyInput {
        target,
        pod,
        ..vetting::surroundings(&review.request)
    }
}

/// Ordinary requests where no file is named.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Review>> {
    if paths.is_empty() {
        let ordinary = vetting::ordinary().map(|input| {
            let request = input.request;
            Review::from_value(
                json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}),
            )
            .map_err(|problem| anyhow!("an ordinary request: {problem}"))
        });
        return ordinary.collect();
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
            let requests = review::requests(object);
            inputs.extend(requests.map_err(|why| anyhow!("{}: document {number}: {why}", file.display()))?);
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
    for path in entries(folder).context("cannot be read")? {
        if path.is_dir() {
            walk(&path, depth + 1, files)?;
        } else if is_manifest(&path) {
            files.insert(path);
            ensure!(files.len() <= MAX_FILES, "more than {MAX_FILES} files");
        }
    }
    Ok(())
}
