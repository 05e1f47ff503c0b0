//! A RegoPolicy that is about to be written: refused where it does not compile, fails its samples, or does not survive them.
//!
//! Must never: let one pass that could not be vetted. The operator would find it broken, and what it matches would be refused.

use tokio::time::Instant;

use super::admit::Admission;
use super::judge::late;
use crate::api::RegoPolicySpec;
use crate::policy::{Declared, LoadError};
use crate::review::{Fault, Violation};

const RULE: &str = "valid-policy";
/// Most errors that a refusal lists; a person corrects these first.
const MAX_ERRORS: usize = 32;
/// Longest line of source that is shown, in characters.
const MAX_LINE: usize = 160;

impl Admission {
    /// What is wrong with a policy, all of it.
    pub(super) async fn vet(&self, policy: Declared, deadline: Instant) -> Result<Vec<Violation>, Fault> {
        let Some(objects) = &self.objects else {
            return Err(late("waiting for who vets policies, which this process does not do"));
        };
        if objects.taken.contains(&policy.name) {
            let message = format!(
                "a policy of Ringfence itself is called {}, and exceptions name policies by it",
                policy.name
            );
            return Ok(vec![said("metadata.name", message, "choose another name")]);
        }
        let spec = policy.spec.clone();
        match objects.policies.vet(policy, deadline).await {
            Ok(()) => Ok(Vec::new()),
            Err(errors) => Ok(errors
                .iter()
                .take(MAX_ERRORS)
                .map(|error| of_error(error, &spec))
                .collect()),
        }
    }
}

fn of_error(error: &LoadError, spec: &RegoPolicySpec) -> Violation {
    let modules = &spec.rego.modules;
    let Some(index) = modules.iter().position(|module| module.name == error.file) else {
        // A field, or a sample by its name.
        return said(&error.file, error.message.clone(), "correct it; nothing was written");
    };
    let path = format!("spec.rego.modules[{index}].source");
    said(&path, quoted(error, spec), "correct it; nothing was written")
}

/// An error with its place, and the line of source that it is about.
pub fn quoted(error: &LoadError, spec: &RegoPolicySpec) -> String {
    let module = spec.rego.modules.iter().find(|module| module.name == error.file);
    let number = error.line.and_then(|line| usize::try_from(line).ok()?.checked_sub(1));
    let line = module
        .zip(number)
        .and_then(|(module, number)| module.source.lines().nth(number));
    match line.map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => {
            let shown: String = line.chars().take(MAX_LINE).collect();
            format!("{error}, in the line: {shown}")
        }
        None => error.to_string(),
    }
}

fn said(path: &str, message: String, fix: &str) -> Violation {
    Violation {
        policy: RULE.to_owned(),
        path: path.to_owned(),
        value: None,
        message,
        fix: fix.to_owned(),
    }
}
