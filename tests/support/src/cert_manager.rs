//! cert-manager's own controllers, with the definitions, the account and the rights that its own chart gives them. Neither its webhook nor
//! its injector runs: what the API server takes is what the definitions let through.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::{Child, Command};

use crate::oracle::{built, source_of};
use crate::{ControlPlane, Identity, Output};

const NAME: &str = "cert-manager";
const MODULE: &str = "github.com/cert-manager/cert-manager";
const TAIL: usize = 4 * 1024;

/// Running controllers. Dropping it kills them; so does the end of the test process.
#[derive(Debug)]
pub struct CertManager {
    _process: Child,
    log: PathBuf,
}

/// Builds them, and fetches their source, where they are missing: for what must be there before there is no network.
pub fn prepare() -> Result<()> {
    built(NAME)?;
    source_of(NAME, MODULE).map(drop)
}

impl CertManager {
    /// Installs definitions, account and rights, and starts the controllers with them and nothing more.
    pub async fn start(cluster: &ControlPlane) -> Result<Self> {
        let (program, source) = (built(NAME)?, source_of(NAME, MODULE)?);
        let definitions = source.join("deploy/crds").display().to_string();
        cluster.define(&definitions).await?;
        let chart = source.join("deploy/charts/cert-manager").display().to_string();
        let parts = [
            "--show-only=templates/serviceaccount.yaml",
            "--show-only=templates/rbac.yaml",
        ];
        let rendered = [&["template", NAME, &chart, "--namespace", NAME], &parts[..]].concat();
        let rights = well(cluster.helm(&rendered).await?)?;
        let file = cluster.directory().join("cert-manager.yaml");
        std::fs::write(&file, rights.stdout)?;
        well(cluster.kubectl(&["create", "namespace", NAME]).await?)?;
        well(cluster.kubectl(&["apply", "-f", &file.display().to_string()]).await?)?;
        let kubeconfig = cluster.kubeconfig_for(&Identity::service_account(NAME, NAME)).await?;
        let log = cluster.directory().join("cert-manager.log");
        let output = std::fs::File::create(&log)?;
        let process = Command::new(&program)
            .arg("-kubeconfig")
            .arg(kubeconfig)
            .args(["-namespace", NAME])
            .env_clear()
            // It ends when nobody holds the other end.
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { _process: process, log })
    }

    /// The end of what the controllers said so far.
    pub fn said(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(TAIL)..]).into_owned()
    }
}

fn well(output: Output) -> Result<Output> {
    ensure!(output.success, "{output}");
    Ok(output)
}
