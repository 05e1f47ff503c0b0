//! Policies that are objects, from a file of YAML or JSON: RegoPolicies, and Gatekeeper's kinds.

use std::io::BufRead;

use serde_json::Value;

use super::files::Made;
use crate::{
    api::GROUP,
    cli::{
        documents::{Documents, Objects, Problem, parse},
        manifests::{API_VERSION, MAX_OBJECTS, head},
        rego_policies_of_files::declared,
    },
    gatekeeper,
    policy::LoadError,
};

const KIND: &str = "RegoPolicy";

/// What a file holds.
#[derive(Default)]
pub(super) struct Read {
    pub(super) made: Vec<Made>,
    /// Gatekeeper's kinds, each with its line: a template may lie in another file than its constraints.
    pub(super) gatekeeper: Vec<(u32, Value)>,
    /// What is no policy, as `Job/invoice-triage`.
    pub(super) others: Vec<String>,
    pub(super) problems: Vec<LoadError>,
}

/// An object, and where it begins.
struct At<'a> {
    file: &'a str,
    line: u32,
}

impl At<'_> {
    fn error(&self, message: impl Into<String>) -> LoadError {
        LoadError::at(self.file, self.line, None, message)
    }
}

/// Reads every policy of a source; one broken document costs itself.
pub(super) fn read(source: impl BufRead, most: u64, file: &str) -> Read {
    let mut read = Read::default();
    let mut objects = 0_usize;
    for document in Documents::new(source, most) {
        let parsed = document.and_then(|document| {
            let value = parse(&document)?;
            if value.is_null() {
                return Ok((document.line, Vec::new()));
            }
            let objects = Objects::of(value).map_err(|why| Problem::at(document.line, why))?;
            Ok((document.line, objects.all()))
        });
        match parsed {
            Ok((line, listed)) => {
                for object in listed {
                    objects += 1;
                    if objects > MAX_OBJECTS {
                        let message = format!("more than {MAX_OBJECTS} objects: split the file");
                        read.problems.push(LoadError::at(file, line, None, message));
                        return read;
                    }
                    if let Err(error) = read.add(object, &At { file, line }) {
                        read.problems.push(error);
                    }
                }
            }
            Err(Problem { line, column, message }) => {
                read.problems.push(LoadError::at(file, line, column, message));
            }
        }
    }
    read
}

impl Read {
    fn add(&mut self, object: Value, at: &At<'_>) -> Result<(), LoadError> {
        let (version, kind, name) = head(&object).map_err(|error| at.error(format!("{error:#}")))?;
        if gatekeeper::is_gatekeeper(&object) {
            self.gatekeeper.push((at.line, object));
            return Ok(());
        }
        if kind == KIND && version == API_VERSION {
            let policy = declared(&object).map_err(|why| at.error(format!("{KIND} {name}: {why}")))?;
            let (file, line) = (at.file.to_owned(), at.line);
            self.made.push(Made { policy, file, line });
        } else if kind == KIND && version.split('/').next() == Some(GROUP) {
            return Err(at.error(format!(
                "{version} {kind} is not known here: use apiVersion {API_VERSION}"
            )));
        } else {
            self.others.push(format!("{kind}/{name}"));
        }
        Ok(())
    }
}
