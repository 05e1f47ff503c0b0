//! What lies in the folders and files that are named.
//!
//! Must never: leave aside what may hold a test without saying so, or read without a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cli::folder::{entries, is_manifest};
use crate::cli::manifests::{self, API_VERSION, MAX_OBJECTS};
use crate::cli::policies::{MAX_REGO, text};
use crate::cli::rego_policies_of_files::declared;
use crate::policy::{Declared, Source};

const KIND: &str = "RegoPolicy";
/// Most files of Rego.
const MAX_FILES: usize = 2048;
/// Most entries of folders that are looked at.
const MAX_ENTRIES: usize = 100_000;
/// Deepest folder.
const MAX_DEPTH: usize = 32;
/// Largest file of RegoPolicies, in bytes.
const MAX_YAML: u64 = 4 << 20;
/// Most bytes of Rego together.
const MAX_BYTES: usize = 16 << 20;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub rego: Vec<Source>,
    /// RegoPolicies, by file.
    pub objects: Vec<(String, Declared)>,
    /// Where the samples of RegoPolicies begin, by file and name.
    pub lines: BTreeMap<(String, String), u32>,
    pub errors: Vec<String>,
}

/// When files were written last, and how long they are.
pub(super) type Stamps = BTreeMap<PathBuf, Option<(SystemTime, u64)>>;

/// Reads everything; what cannot be read is among the errors.
pub(super) fn read(paths: &[PathBuf]) -> Files {
    let mut files = Files::default();
    let mut walk = Walk::default();
    for path in paths {
        let found = walk.named(path);
        if let Err(error) = found {
            files.errors.push(format!("{}: {error:#}", path.display()));
        }
    }
    let mut bytes = 0;
    for (path, named) in walk.found {
        let shown = path.display().to_string();
        let read = if is_rego(&path) {
            rego(&path, &shown).and_then(|source| {
                bytes += source.text.len();
                ensure!(
                    bytes <= MAX_BYTES,
                    "more than {MAX_BYTES} bytes of Rego: name fewer folders"
                );
                files.rego.push(source);
                Ok(())
            })
        } else {
            objects(&path, &shown, named, &mut files)
        };
        if let Err(error) = read {
            let told = format!("{error:#}");
            // An error of a place names its file.
            files.errors.push(if told.starts_with(&shown) {
                told
            } else {
                format!("{shown}: {told}")
            });
        }
    }
    files.rego.sort_by(|a, b| a.file.cmp(&b.file));
    for path in walk.aside {
        eprintln!(
            "ringfence: {} is left aside: a policy sees no documents beside its rules; mock them by `with`, or use parameters",
            crate::cli::terminal::printable(&path.display().to_string())
        );
    }
    files
}

/// The same of whether something changed, without reading it.
pub(super) fn stamps(paths: &[PathBuf]) -> Stamps {
    let mut walk = Walk::default();
    for path in paths {
        // What is not there now may be there again soon, and is told when everything is read.
        let _ = walk.named(path);
    }
    walk.found
        .into_keys()
        .map(|path| (path.clone(), stamp(&path)))
        .collect()
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[derive(Default)]
struct Walk {
    /// Files, and whether they were named themselves.
    found: BTreeMap<PathBuf, bool>,
    aside: BTreeSet<PathBuf>,
    entries: usize,
}

impl Walk {
    fn named(&mut self, path: &Path) -> Result<()> {
        let metadata = fs::metadata(path).context("cannot be read")?;
        if metadata.is_dir() {
            return self.folder(path, 0);
        }
        ensure!(
            is_rego(path) || is_manifest(path),
            "is no file of Rego, and none of RegoPolicies (.yaml, .yml, .json)"
        );
        self.found.insert(path.to_owned(), true);
        Ok(())
    }

    fn folder(&mut self, folder: &Path, depth: usize) -> Result<()> {
        ensure!(depth <= MAX_DEPTH, "folders are nested more than {MAX_DEPTH} deep");
        for path in entries(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            self.entries += 1;
            ensure!(
                self.entries <= MAX_ENTRIES,
                "more than {MAX_ENTRIES} files and folders: name fewer"
            );
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                self.folder(&path, depth + 1)?;
            } else if matches!(name.as_ref(), "data.json" | "data.yaml" | "data.yml") {
                self.aside.insert(path);
            } else if is_rego(&path) || is_manifest(&path) && !name.ends_with(".json") {
                self.found.entry(path).or_insert(false);
            }
        }
        let rego = self.found.keys().filter(|path| is_rego(path)).count();
        ensure!(
            rego <= MAX_FILES,
            "more than {MAX_FILES} files of Rego: name fewer folders"
        );
        Ok(())
    }
}

fn is_rego(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rego")
}

fn rego(path: &Path, shown: &str) -> Result<Source> {
    let size = fs::metadata(path).context("cannot be read")?.len();
    ensure!(
        size <= MAX_REGO,
        "is {size} bytes long, the limit is {MAX_REGO}: split it"
    );
    let bytes = fs::read(path).context("cannot be read")?;
    Ok(Source {
        text: text(shown, bytes)?,
        file: shown.to_owned(),
    })
}

/// The RegoPolicies of a file. One that was found in a folder may hold anything.
fn objects(path: &Path, shown: &str, named: bool, files: &mut Files) -> Result<()> {
    let size = fs::metadata(path).context("cannot be read")?.len();
    if size > MAX_YAML && !named {
        return Ok(());
    }
    let bytes = fs::read(path).context("cannot be read")?;
    if !named && !may_hold_one(&bytes) {
        return Ok(());
    }
    ensure!(
        size <= MAX_YAML,
        "is {size} bytes long, the limit is {MAX_YAML}: split it"
    );
    let text = text(shown, bytes)?;
    let mut found = 0_usize;
    for (number, object) in manifests::objects(&text)? {
        let of = |field: &str| {
            object
                .get(field)
                .and_then(serde_json::Value::as_str)
                .unwrap_or_default()
        };
        if of("kind") != KIND {
            continue;
        }
        if of("apiVersion") != API_VERSION {
            bail!(
                "document {number}: {} {KIND} is not known here: use apiVersion {API_VERSION}",
                of("apiVersion")
            );
        }
        found += 1;
        ensure!(found <= MAX_OBJECTS, "more than {MAX_OBJECTS} RegoPolicies: split it");
        let (_, _, name) = manifests::head(&object).with_context(|| format!("document {number}"))?;
        match declared(&object) {
            Ok(declared) => {
                for sample in &declared.spec.samples {
                    if let Some(line) = line_of(&text, &sample.name) {
                        files
                            .lines
                            .entry((shown.to_owned(), sample.name.clone()))
                            .or_insert(line);
                    }
                }
                files.objects.push((shown.to_owned(), declared));
            }
            Err(why) => files.errors.push(format!("{shown}: RegoPolicy {name}: {why}")),
        }
    }
    ensure!(found > 0 || !named, "there is no RegoPolicy in it");
    Ok(())
}

/// Whether a line says that kind. What is written otherwise is read where the file is named.
fn may_hold_one(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.lines().any(|line| {
        let line = line.trim().trim_start_matches("- ");
        let kind = line
            .strip_prefix("kind:")
            .map(|kind| kind.split('#').next().unwrap_or_default());
        kind.is_some_and(|kind| kind.trim().trim_matches(['"', '\'']) == KIND)
    })
}

/// Where a sample of that name begins.
fn line_of(text: &str, name: &str) -> Option<u32> {
    let says = |line: &str| {
        let value = line.trim().trim_start_matches("- ").strip_prefix("name:")?;
        Some(value.trim().trim_matches(['"', '\'']) == name)
    };
    let at = text.lines().position(|line| says(line) == Some(true))?;
    u32::try_from(at + 1).ok()
}
