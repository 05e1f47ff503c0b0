//! kubectl and Helm as a person runs them, against the test's control plane and with nothing of that person's home.

use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::control_plane::repository;
use crate::{ControlPlane, Identity, RELEASE_NAMESPACE, eventually, unique};

const COMMAND_DEADLINE: Duration = Duration::from_secs(120);
/// Until the kinds of definitions are served.
const ESTABLISHED: Duration = Duration::from_secs(60);

/// What a command said.
#[derive(Clone, Debug)]
pub struct Output {
    /// Whether the exit code was zero.
    pub success: bool,
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error: kubectl puts refusals and warnings there.
    pub stderr: String,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.stdout, self.stderr)
    }
}

impl ControlPlane {
    /// kubectl as the administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        self.kubectl_as(&Identity::Admin, arguments).await
    }

    /// Gives the cluster the definitions of a file or folder, and waits until their kinds are served.
    pub async fn define(&self, definitions: &str) -> Result<()> {
        // Server-side: a client's own copy of them would be larger than an annotation may be.
        let applied = self.kubectl(&["apply", "--server-side", "-f", definitions]).await?;
        ensure!(applied.success, "{applied}");
        let wait = [
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "-f",
            definitions,
        ];
        // It gives up at once on a definition that has no status yet.
        eventually(ESTABLISHED, || async {
            let said = self.kubectl(&wait).await?;
            ensure!(said.success, "{said}");
            Ok(())
        })
        .await;
        Ok(())
    }

    /// kubectl as somebody.
    pub async fn kubectl_as(&self, identity: &Identity, arguments: &[&str]) -> Result<Output> {
        let kubeconfig = self.kubeconfig_for(identity).await?;
        run(self.command("kubectl", &kubeconfig, arguments)).await
    }

    /// A subcommand of Ringfence as somebody. `binary` is `env!("CARGO_BIN_EXE_ringfence")`, which only the test knows.
    pub async fn ringfence_as(&self, identity: &Identity, binary: &str, arguments: &[&str]) -> Result<Output> {
        let kubeconfig = self.kubeconfig_for(identity).await?;
        run(self.command(binary, &kubeconfig, arguments)).await
    }

    /// Helm as the administrator.
    pub async fn helm(&self, arguments: &[&str]) -> Result<Output> {
        run(self.command("helm", &self.ready().kubeconfig, arguments)).await
    }

    /// A line as a person types it into bash in the repository's root, as the administrator.
    pub async fn shell(&self, line: &str) -> Result<Output> {
        let mut path = vec![self.binary("")];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut command = self.command("/bin/bash", &self.ready().kubeconfig, &["-ec", line]);
        command.env("PATH", std::env::join_paths(path)?);
        run(command).await
    }

    /// Installs or upgrades the chart, told that the webhook is at `127.0.0.1:port`. `values` go over that.
    pub async fn install(&self, port: u16, values: &Value) -> Result<Output> {
        let outside = json!({"replicaCount": 0, "webhook": {"url": {"host": format!("127.0.0.1:{port}")}}});
        let chart = repository().join("charts/ringfence");
        let mut files = Vec::new();
        for content in [&outside, values] {
            let path = self.directory().join(format!("{}.json", unique("values")));
            std::fs::write(&path, content.to_string())?;
            files.push(path);
        }
        let mut command = self.command("helm", &self.ready().kubeconfig, &["upgrade", "--install", "ringfence"]);
        command
            .arg(chart)
            .args(["--namespace", RELEASE_NAMESPACE, "--create-namespace"]);
        for file in &files {
            command.arg("--values").arg(file);
        }
        checked(command).await
    }

    fn command(&self, program: &str, kubeconfig: &Path, arguments: &[&str]) -> Command {
        let home = self.directory().join("home");
        let mut command = Command::new(self.binary(program));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("HOME", &home)
            .env("KUBECONFIG", kubeconfig)
            .env("HELM_CACHE_HOME", home.join("helm/cache"));
        command
            .env("HELM_CONFIG_HOME", home.join("helm/config"))
            .env("HELM_DATA_HOME", home.join("helm/data"));
        command.args(arguments).current_dir(repository()).stdin(Stdio::null());
        command
    }
}

/// Runs a command to its end and keeps what it said; a failing exit code is an answer, not an error.
pub(crate) async fn run(mut command: Command) -> Result<Output> {
    let what = format!("{:?}", command.as_std().get_program());
    let running = command.kill_on_drop(true).output();
    let output = timeout(COMMAND_DEADLINE, running)
        .await
        .with_context(|| format!("{what} took too long"))?;
    let output = output.with_context(|| format!("starting {what}"))?;
    Ok(Output {
        success: output.status.success(),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a command that must succeed.
pub(crate) async fn checked(command: Command) -> Result<Output> {
    let what = format!("{:?}", command.as_std());
    let output = run(command).await?;
    if !output.success {
        bail!("{what} failed:\n{output}");
    }
    Ok(output)
}

/// Takes from a program's environment what Cargo told this process. Cargo itself, called by it, would compile again whatever asks for these.
pub fn without_cargos_words(command: &mut std::process::Command) -> &mut std::process::Command {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "LD_LIBRARY_PATH" {
            command.env_remove(&*name);
        }
    }
    command
}
