//! Policies that would end or hang the process which reads them, through the child process that reads them first.

mod attacks;
mod child;
mod generated;
mod good;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ringfence::policy::{LoadError, PolicySet, Source};
use ringfence::vetting::{Bounds, Vetting};

/// Line of the first line of a body.
const BODY: u32 = 10;

/// A policy with METADATA.
fn policy(name: &str, body: &str) -> Source {
    let text = format!(
        "# METADATA\n# title: Title\n# description: Description\n# custom:\n#   name: {name}\n#   severity: low\n\
         #   remediation: Do it\n#   scope: pod\npackage p\n{body}\n"
    );
    Source {
        file: format!("{name}.rego"),
        text,
    }
}

/// The product's bounds, but less processor time, and more of that which passes while the machine does other things.
fn bounds() -> Bounds {
    Bounds {
        cpu: Duration::from_secs(3),
        wall: Duration::from_secs(100),
        total: Duration::from_secs(200),
        ..Bounds::default()
    }
}

fn vetting() -> Vetting {
    Vetting::with(PathBuf::from(env!("CARGO_BIN_EXE_ringfence")), bounds())
}

fn compile(sources: Vec<Source>) -> Result<PolicySet, Vec<LoadError>> {
    vetting().compile(sources, &BTreeMap::new())
}

fn joined(errors: &[LoadError]) -> String {
    errors.iter().map(LoadError::to_string).collect::<Vec<_>>().join("\n")
}
