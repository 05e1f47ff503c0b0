//! The chart as Helm renders it, for tests that need no cluster.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::RELEASE_NAMESPACE;
use crate::control_plane::{binaries, repository};

/// The objects that the chart makes with its own values.
pub fn rendered() -> Result<Vec<Value>> {
    let mut helm = Command::new(binaries()?.join("helm"));
    helm.args([
        "template",
        "ringfence",
        "charts/ringfence",
        "--no-hooks",
        "--namespace",
        RELEASE_NAMESPACE,
    ])
    .current_dir(repository())
    .stdin(Stdio::null());
    let output = helm.output().context("running Helm")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let objects = serde_saphyr::from_multiple::<Value>(std::str::from_utf8(&output.stdout)?)?;
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}
