//! Which files are policies, and of what kind; nothing of their Rego is looked into but the comments above it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Demand, documents, plain};
use crate::{
    cli::folder::{contents, is_manifest},
    policy::{Declared, LoadError, Source, library},
};

/// Size of the largest file of Rego, in bytes. Source: the bound of a RegoPolicy.
pub(in crate::cli) const MAX_REGO: u64 = 256 * 1024;
/// Longest file of RegoPolicies, in bytes. A policy with its samples, and with what `kubectl apply` keeps of both, is a megabyte at most.
const MAX_YAML: u64 = 16 << 20;
/// Most policy files of one command.
const MAX_FILES: usize = 1024;
/// Deepest folder: a link to a folder above would never end.
const MAX_DEPTH: usize = 32;

/// A policy of another kind than Rego with METADATA, and where it is written.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) policy: Declared,
    /// Its file, and line in it.
    pub(super) file: String,
    pub(super) line: u32,
}

/// Policies as they are written.
pub(super) struct Files {
    pub(super) demand: Demand,
    /// Of the binary: a part of it, like its code.
    pub(super) shipped: Vec<Source>,
    /// Rego with METADATA.
    pub(super) rego: Vec<Source>,
    /// Rego without.
    pub(super) plain: Vec<plain::File>,
    pub(super) made: Vec<Made>,
    /// Gatekeeper's kinds, each with file and line.
    pub(super) gatekeeper: Vec<(String, u32, Value)>,
    pub(super) problems: Vec<LoadError>,
    pub(super) notes: Vec<String>,
    seen: BTreeSet<PathBuf>,
}

impl Files {
    pub(super) fn new(demand: Demand) -> Self {
        Self {
            demand,
            shipped: Vec::new(),
            rego: Vec::new(),
            plain: Vec::new(),
            made: Vec::new(),
            gatekeeper: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    pub(super) fn are_empty(&self) -> bool {
        self.shipped.is_empty()
            && self.rego.is_empty()
            && self.plain.is_empty()
            && self.made.is_empty()
            && self.gatekeeper.is_empty()
            && self.problems.is_empty()
    }

    /// Adds a set of the binary, and those that it includes.
    pub(super) fn add_set(&mut self, name: &str) -> Result<()> {
        for source in library::sources_of(&[name])? {
            if !self.shipped.contains(&source) {
                self.shipped.push(source);
            }
        }
        Ok(())
    }

    /// Adds a file, or a folder with all that is below it.
    pub(super) fn add(&mut self, path: &Path) -> Result<()> {
        let cannot = || format!("cannot read {}", path.display());
        let is_folder = match fs::metadata(path) {
            Ok(found) => found.is_dir(),
            Err(error) => {
                let sets = library::sets()?;
                let known: Vec<_> = sets.iter().map(|set| set.name.as_str()).collect();
                let known = known.join(", ");
                return Err(error).with_context(|| format!("{}, and no shipped set is called so ({known})", cannot()));
            }
        };
        if is_folder {
            return self.add_folder(path, 0);
        }
        if path.to_string_lossy().ends_with(".rego") {
            self.add_rego(path)
        } else if is_manifest(path) {
            self.add_yaml(path)
        } else {
            bail!("{}: a policy is a .rego, .yaml, .yml or .json file", path.display())
        }
    }

    fn add_folder(&mut self, folder: &Path, depth: usize) -> Result<()> {
        let cannot = || format!("cannot read {}", folder.display());
        let real = fs::canonicalize(folder).with_context(cannot)?;
        if !self.seen.insert(real) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            bail!("{}: more than {MAX_DEPTH} folders in each other", folder.display());
        }
        for path in contents(folder).with_context(cannot)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                self.add_folder(&path, depth + 1)?;
            } else if name == library::SET_FILE {
                self.add_included(folder, &path, depth)?;
            } else if name.ends_with(".rego") && !name.ends_with("_test.rego") {
                self.add_rego(&path)?;
            } else if is_manifest(&path) {
                self.add_yaml(&path)?;
            }
        }
        Ok(())
    }

    /// The sets that a folder adds to: those beside it, else those of the binary.
    fn add_included(&mut self, folder: &Path, path: &Path, depth: usize) -> Result<()> {
        let file = path.display().to_string();
        let Some(text) = self.text(path, MAX_REGO)? else {
            return Ok(());
        };
        let info = match library::SetInfo::parse(&file, &text) {
            Ok(info) => info,
            Err(error) => {
                self.problems.push(error);
                return Ok(());
            }
        };
        for name in info.includes {
            if name.contains(['/', '\\']) || name.starts_with('.') {
                let message = format!("includes {name:?}, which is no name of a folder beside it");
                self.problems.push(LoadError::file(&file, message));
                continue;
            }
            // `sets/mine` and `.` alike have something above them.
            let beside = folder.join("..").join(&name);
            if beside.is_dir() {
                self.add_folder(&beside, depth + 1)?;
            } else if let Err(error) = self.add_set(&name) {
                let message = format!("includes {name}, which is no folder beside it: {error}");
                self.problems.push(LoadError::file(&file, message));
            }
        }
        Ok(())
    }

    fn add_rego(&mut self, path: &Path) -> Result<()> {
        let Some(text) = self.text(path, MAX_REGO)? else {
            return Ok(());
        };
        let file = path.display().to_string();
        if self.demand == Demand::Any && !plain::has_metadata(&text) {
            self.plain.push(plain::File::new(path, text));
        } else {
            self.rego.push(Source { file, text });
        }
        Ok(())
    }

    fn add_yaml(&mut self, path: &Path) -> Result<()> {
        if !self.counts(path)? {
            return Ok(());
        }
        let source = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = path.display().to_string();
        let read = documents::read(BufReader::new(source), MAX_YAML, &file);
        self.made.extend(read.made);
        let of_file = |(line, object)| (file.clone(), line, object);
        self.gatekeeper.extend(read.gatekeeper.into_iter().map(of_file));
        self.problems.extend(read.problems);
        if !read.others.is_empty() {
            let others = read.others.join(", ");
            self.notes
                .push(format!("{file}: left aside, for it is no policy: {others}"));
        }
        Ok(())
    }

    /// Whether a file was not read yet, within the number of them.
    fn counts(&mut self, path: &Path) -> Result<bool> {
        let real = fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()))?;
        let is_new = self.seen.insert(real);
        if self.seen.len() > 2 * MAX_FILES {
            bail!("{}: at most {MAX_FILES} files of policies", path.display());
        }
        Ok(is_new)
    }

    /// The text of a file that was not read yet; `None` too where it is none, which is said.
    fn text(&mut self, path: &Path, most: u64) -> Result<Option<String>> {
        if !self.counts(path)? {
            return Ok(None);
        }
        let cannot = || format!("cannot read {}", path.display());
        let size = fs::metadata(path).with_context(cannot)?.len();
        if size > most || self.rego.len() + self.plain.len() >= MAX_FILES {
            bail!("{}: at most {MAX_FILES} files of {most} bytes each", path.display());
        }
        let bytes = fs::read(path).with_context(cannot)?;
        match text(&path.display().to_string(), bytes) {
            Ok(text) => Ok(Some(text)),
            Err(error) => {
                self.problems.push(error);
                Ok(None)
            }
        }
    }
}

/// The text of a file, without the mark that some editors of Windows put in front.
pub(in crate::cli) fn text(file: &str, bytes: Vec<u8>) -> Result<String, LoadError> {
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
