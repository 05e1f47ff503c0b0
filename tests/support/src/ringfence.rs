//! The real operator as a process, with the rights of its own service account and nothing more.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::{ControlPlane, Identity, RELEASE_NAMESPACE, unique};

const READY_DEADLINE: Duration = Duration::from_secs(60);
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
const TAIL: usize = 8 * 1024;

/// A running `ringfence run`. Dropping it kills it; so does the end of the test process.
#[derive(Debug)]
pub struct Ringfence {
    guard: Child,
    alive: Option<ChildStdin>,
    log: PathBuf,
    /// Port of the webhook.
    pub port: u16,
    /// Port of `/livez`, `/readyz` and `/metrics`.
    pub metrics_port: u16,
}

impl ControlPlane {
    /// Ringfence of this test binary, installed by the chart and ready, started by the first test that asks. `binary` is
    /// `env!("CARGO_BIN_EXE_ringfence")`, which only the test itself knows. It does not scan: that would write `Compliant` when
    /// no other test expects it. It is told that an egress proxy is there, which is the same for what comes of declared domains; and it may
    /// write Cilium's policies and ClusterNetworkPolicies, for classes that say so.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn ringfence(&self, binary: &str) -> &Ringfence {
        let started = self
            .ringfence
            .get_or_try_init(async || {
                let plugins = ["--egress-cilium", "--egress-cluster-network-policy"];
                let flags = [["--scan-period=0", "--egress-proxy"], plugins].concat().into_iter();
                let flags: Vec<_> = flags.map(str::to_owned).collect();
                let is_on = serde_json::json!({"enabled": true});
                let values = serde_json::json!({"egress": {"cilium": is_on, "clusterNetworkPolicy": is_on}});
                self.start_ringfence_with(binary, &values, &flags).await
            })
            .await;
        started.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Installs the chart with `values` (an object, or null for none) and starts Ringfence under what it registered. The
    /// chart acts on the whole cluster: for a control plane of the test's own, or through [`ControlPlane::ringfence`].
    pub async fn start_ringfence(&self, binary: &str, values: &Value) -> Result<Ringfence> {
        self.start_ringfence_with(binary, values, &[]).await
    }

    /// The same with more flags, such as `--policies=…`.
    pub async fn start_ringfence_with(&self, binary: &str, values: &Value, flags: &[String]) -> Result<Ringfence> {
        let [port, metrics_port] = free_ports()?;
        let values = if values.is_null() {
            Value::Object(serde_json::Map::new())
        } else {
            values.clone()
        };
        self.install(port, &values).await?;
        let ringfence = self.spawn(binary, port, metrics_port, flags).await?;
        self.trusted().await?;
        Ok(ringfence)
    }

    /// Waits until what is written from now on counts as reviewed: until the registration is two seconds old.
    pub async fn trusted(&self) -> Result<()> {
        let name = "ringfence";
        let registrations = kube::Api::<ValidatingWebhookConfiguration>::all(self.admin().await);
        let made = registrations.get(name).await?.metadata.creation_timestamp;
        let made = made.context("a registration has a time")?.0;
        let age = SystemTime::now()
            .duration_since(SystemTime::from(made))
            .unwrap_or_default();
        sleep(Duration::from_secs(2).saturating_sub(age)).await;
        Ok(())
    }

    /// Starts one more process, without touching what is installed, and waits until it is ready.
    pub async fn spawn_ringfence(&self, binary: &str, port: u16, metrics_port: u16) -> Result<Ringfence> {
        self.spawn(binary, port, metrics_port, &[]).await
    }

    /// The same with more flags.
    pub async fn spawn_ringfence_with(
        &self,
        binary: &str,
        port: u16,
        metrics_port: u16,
        flags: &[String],
    ) -> Result<Ringfence> {
        self.spawn(binary, port, metrics_port, flags).await
    }

    /// The same, which goes to the API server by another way.
    pub async fn spawn_ringfence_through(
        &self,
        binary: &str,
        port: u16,
        metrics_port: u16,
        flags: &[String],
        url: &str,
    ) -> Result<Ringfence> {
        let kubeconfig = self.own_kubeconfig().await?;
        let mut through: Value = serde_json::from_slice(&std::fs::read(&kubeconfig)?)?;
        through["clusters"][0]["cluster"] = serde_json::json!({"server": url});
        std::fs::write(&kubeconfig, through.to_string())?;
        self.spawn_with(binary, port, metrics_port, flags, &kubeconfig).await
    }

    /// A new one of Ringfence's own account.
    async fn own_kubeconfig(&self) -> Result<PathBuf> {
        self.kubeconfig_for(&Identity::service_account(RELEASE_NAMESPACE, "ringfence"))
            .await
    }

    async fn spawn(&self, binary: &str, port: u16, metrics_port: u16, flags: &[String]) -> Result<Ringfence> {
        let kubeconfig = self.own_kubeconfig().await?;
        self.spawn_with(binary, port, metrics_port, flags, &kubeconfig).await
    }

    async fn spawn_with(
        &self,
        binary: &str,
        port: u16,
        metrics_port: u16,
        flags: &[String],
        kubeconfig: &Path,
    ) -> Result<Ringfence> {
        let log = self.directory().join(format!("{}.log", unique("ringfence")));
        let output = std::fs::File::create(&log)?;
        let mut guard = Command::new(self.binary("controlplane"))
            .args(["guard", "--", binary, "run", "--namespace", RELEASE_NAMESPACE])
            .args(["--webhook-host", "127.0.0.1", "--log-format", "text"])
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--metrics-listen=127.0.0.1:{metrics_port}"))
            .args(flags)
            .env("KUBECONFIG", kubeconfig)
            // One that is started anew at the same port is the same replica.
            .env("RINGFENCE_POD_NAME", format!("ringfence-{port}"))
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {binary}"))?;
        let alive = guard.stdin.take();
        let mut ringfence = Ringfence {
            guard,
            alive,
            log,
            port,
            metrics_port,
        };
        ringfence.wait_until_ready().await?;
        Ok(ringfence)
    }
}

impl Ringfence {
    async fn wait_until_ready(&mut self) -> Result<()> {
        let end = Instant::now() + READY_DEADLINE;
        loop {
            let last = match self.get("/readyz").await {
                Ok((200, _)) => return Ok(()),
                Ok((status, body)) => format!("{status} {body}"),
                Err(error) => format!("{error:#}"),
            };
            if let Some(status) = self.guard.try_wait()? {
                bail!("ringfence ended ({status}) before it was ready\n{}", self.tail());
            }
            ensure!(
                Instant::now() < end,
                "ringfence was not ready within {READY_DEADLINE:?}; /readyz says: {last}\n{}",
                self.tail()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks the health and metrics port: status and body.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        timeout(REQUEST_DEADLINE, get(self.metrics_port, path))
            .await
            .context("no answer in time")?
    }

    /// Everything that it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_else(|error| format!("no log: {error}"))
    }

    /// Where it logs.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// The last of what it logged.
    pub fn tail(&self) -> String {
        let log = self.log();
        let start = (log.len().saturating_sub(TAIL)..=log.len())
            .find(|&at| log.is_char_boundary(at))
            .unwrap_or(0);
        format!("--- end of {} ---\n{}", self.log.display(), &log[start..])
    }

    /// The operator's own process, below the one that guards it.
    pub fn pid(&self) -> Result<u32> {
        // A child belongs to the thread that started it.
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.guard.id()))? {
            let children = std::fs::read_to_string(thread?.path().join("children"))?;
            if let Some(child) = children.split_whitespace().next() {
                return child.parse().context("a process id");
            }
        }
        bail!("the guard has no child: ringfence has ended\n{}", self.tail())
    }

    /// Its exit code, once it has ended by itself.
    pub fn has_ended(&mut self) -> Result<Option<i32>> {
        let ended = self.guard.try_wait()?;
        ended
            .map(|status| status.code().context("the guard was killed by a signal"))
            .transpose()
    }

    /// Kills it as a crash would, and waits for its end.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to end as a kubelet would, and returns its exit code.
    pub async fn terminate(mut self, within: Duration) -> Result<i32> {
        let pid = self.guard.id().to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .context("sending SIGTERM")?;
        ensure!(sent.success(), "cannot send SIGTERM to {pid}");
        let end = Instant::now() + within;
        loop {
            if let Some(status) = self.guard.try_wait()? {
                return status.code().context("the guard was killed by a signal");
            }
            ensure!(
                Instant::now() < end,
                "ringfence did not end within {within:?} of SIGTERM\n{}",
                self.tail()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn end(&mut self) {
        drop(self.alive.take());
        if let Err(error) = self.guard.wait() {
            eprintln!("waiting for ringfence's end: {error}");
        }
    }
}

impl Drop for Ringfence {
    fn drop(&mut self) {
        self.end();
    }
}

async fn get(port: u16, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let (head, body) = response
        .split_once("\r\n\r\n")
        .context("an HTTP response without a head")?;
    let status = head.split(' ').nth(1).context("an HTTP response without a status")?;
    Ok((status.parse()?, body.to_owned()))
}

/// Both stay open until the second is known, or they might be the same one.
fn free_ports() -> Result<[u16; 2]> {
    let first = TcpListener::bind(("127.0.0.1", 0))?;
    let second = TcpListener::bind(("127.0.0.1", 0))?;
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}
