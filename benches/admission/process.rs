//! The bench's side of a server process: start it, learn its port, watch what it takes, end it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use ringfence::policy::ALLOCATOR;
use support::process::resident;

use crate::server::{Ready, Spec};

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct Process {
    /// Holds its standard input open, which is what keeps it alive.
    child: Child,
    ready: Ready,
}

impl Process {
    /// Starts a server, and waits until it listens.
    pub fn start(spec: &Spec, kubeconfig: Option<&Path>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("serve")
            .arg(serde_json::to_string(spec)?)
            // As `ringfence run` begins.
            .envs(ALLOCATOR)
            .env_remove("RUST_LOG")
            // The engine goes on after errors that it makes by the hundred, and each would take a backtrace.
            .env_remove("RUST_BACKTRACE")
            .env_remove("RUST_LIB_BACKTRACE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // A line for each review, as in production; nobody reads them here.
        command.stderr(Stdio::null());
        if let Some(kubeconfig) = kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        let mut child = command.spawn().context("starting a server")?;
        let stdout = child.stdout.take().context("a server without standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.is_empty() {
            let status = child.wait()?;
            let hint = format!(
                "run this binary with: serve '{}' < /dev/tty",
                serde_json::to_string(spec)?
            );
            anyhow::bail!("the server {spec:?} did not start ({status}); to see why, {hint}");
        }
        let ready = serde_json::from_str(&line).context("reading the line of a server")?;
        Ok(Self { child, ready })
    }

    pub fn port(&self) -> u16 {
        self.ready.port
    }

    pub fn certificate(&self) -> &[u8] {
        &self.ready.certificate
    }

    /// How many policies judge a pod.
    pub fn policies(&self) -> usize {
        self.ready.policies
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> Result<u64> {
        resident(self.pid())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("bench: a server could not be ended: {error}");
        }
    }
}
