//! The supervisor's other end: builds what is missing, starts it, reads its one line, and holds the pipe that keeps it alive.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tokio::sync::OnceCell;

use crate::Ringfence;

/// A running control plane. Dropping it, or the end of the process that holds it, stops and removes everything.
#[derive(Debug)]
pub struct ControlPlane {
    ready: Ready,
    bin: PathBuf,
    supervisor: Child,
    /// Closing it is what stops the supervisor; the kernel does so even for a process that is killed.
    alive: Option<Mutex<Pipe>>,
    pub(crate) ringfence: OnceCell<Ringfence>,
}

/// Both ends of what is said to the supervisor and by it, a line each.
#[derive(Debug)]
struct Pipe {
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What the supervisor says once the control plane is ready.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// Kubeconfig of the administrator.
    pub kubeconfig: PathBuf,
    /// URL of the API server.
    pub server: String,
    /// Certificate of the one CA.
    pub ca_certificate: PathBuf,
    /// Its key: whoever holds it can be any user.
    pub ca_key: PathBuf,
    /// Directory of everything, component logs included.
    pub directory: PathBuf,
    /// Process of the supervisor.
    pub pid: u32,
    /// Versions by component.
    pub versions: std::collections::BTreeMap<String, String>,
    /// How long the start took.
    pub ready_millis: u64,
}

/// How a control plane differs from the usual one.
#[derive(Clone, Debug)]
pub struct Options {
    /// Each built-in controller with a service account of its own, as on most clusters, or all of them as
    /// `system:kube-controller-manager`.
    pub use_service_account_credentials: bool,
    /// AdmissionConfiguration of the API server, which says what client certificate it shows to webhooks.
    pub admission_configuration: Option<PathBuf>,
    /// Where the API server listens for pods, at port 443, which it then also finds webhooks' pods from; else on loopback. For a network
    /// namespace of the test's own.
    pub address: Option<Ipv4Addr>,
    /// Bytes that etcd may hold until it takes no more.
    pub quota: Option<u64>,
    /// Real nodes join at that address: their pods get addresses, their kube-proxy leads to Services, and their kubelets are asked.
    pub nodes: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            use_service_account_credentials: true,
            admission_configuration: None,
            address: None,
            quota: None,
            nodes: false,
        }
    }
}

impl ControlPlane {
    /// The control plane of this test binary, started by the first test that asks.
    ///
    /// # Panics
    /// When it cannot be built or started: tests never skip.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ControlPlane> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Options::default()).unwrap_or_else(|error| panic!("{error:#}")))
    }

    /// A control plane of the test's own. Costs three seconds and 500 MB: for what the shared one must not see.
    pub fn start(options: Options) -> Result<Self> {
        let bin = binaries()?;
        let address = options.address.map(|address| format!("--address={address}"));
        let admission = options.admission_configuration.as_ref();
        let admission = admission.map(|file| format!("--admission-control-config-file={}", file.display()));
        let mut supervisor = Command::new(bin.join("controlplane"))
            .arg("run")
            .arg("--bin")
            .arg(&bin)
            .arg(format!(
                "--use-service-account-credentials={}",
                options.use_service_account_credentials
            ))
            .args(address)
            .args(options.quota.map(|bytes| format!("--etcd-quota={bytes}")))
            .args(options.nodes.then_some("--nodes"))
            .args(admission)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the control plane's supervisor")?;
        let orders = supervisor
            .stdin
            .take()
            .context("the supervisor has no standard input")?;
        let stdout = supervisor
            .stdout
            .take()
            .context("the supervisor has no standard output")?;
        let mut answers = BufReader::new(stdout);
        let mut line = String::new();
        // The supervisor bounds its own start: this read ends when it is ready, gives up, or dies.
        answers.read_line(&mut line)?;
        if line.is_empty() {
            let status = supervisor.wait()?;
            bail!("the control plane did not start ({status}); its supervisor said why on standard error");
        }
        let ready = serde_json::from_str(&line).with_context(|| format!("reading the supervisor's line {line:?}"))?;
        Ok(Self {
            ready,
            bin,
            supervisor,
            alive: Some(Mutex::new(Pipe { orders, answers })),
            ringfence: OnceCell::new(),
        })
    }

    /// Where it is and what it runs.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Tells the API server to end in order, and to start again at once. Whoever wants to know when that is done asks it.
    pub fn restart_api_server(&self) -> Result<()> {
        let pid = self.supervisor.id().to_string();
        let sent = Command::new("kill").args(["-USR1", &pid]).status()?;
        ensure!(sent.success(), "cannot send SIGUSR1 to the supervisor");
        Ok(())
    }

    /// Takes a copy of the storage. etcd is away meanwhile.
    pub fn copy_store(&self) -> Result<()> {
        self.order("copy")
    }

    /// Puts the last copy back, and starts the control plane's components anew. Whoever watches is told nothing.
    pub fn restore_store(&self) -> Result<()> {
        self.order("restore")
    }

    /// Lets go of what was deleted, and has a storage that was full take writes again.
    pub fn free_store(&self) -> Result<()> {
        self.order("free")
    }

    /// Waits, without a runtime, until it is done: the supervisor bounds that.
    fn order(&self, order: &str) -> Result<()> {
        let pipe = self.alive.as_ref().context("the control plane has ended")?;
        let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipe.orders, "{order}").with_context(|| format!("telling the supervisor to {order}"))?;
        let mut line = String::new();
        pipe.answers.read_line(&mut line)?;
        ensure!(
            line.trim_end() == format!("done: {order}"),
            "the supervisor did not {order}; it said why on standard error"
        );
        Ok(())
    }

    /// Its directory, removed when it ends.
    pub fn directory(&self) -> &Path {
        &self.ready.directory
    }

    /// Path of one of the built binaries: kubectl, helm, etcd…
    pub fn binary(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        drop(self.ringfence.take());
        drop(self.alive.take());
        if let Err(error) = self.supervisor.wait() {
            eprintln!("waiting for the control plane's end: {error}");
        }
    }
}

/// Root of the repository.
pub fn repository() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        root.canonicalize().unwrap_or(root)
    })
}

/// Builds what is missing of the control plane, and says where its binaries are.
pub fn binaries() -> Result<PathBuf> {
    let bin = repository().join("target/controlplane/bin");
    let script = repository().join("tests/controlplane/build.sh");
    // Its progress goes to our standard error as it comes: a first build takes minutes.
    let status = Command::new(&script).arg(&bin).stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("running {}", script.display()))?;
    ensure!(
        status.success(),
        "building the control plane failed: see above, or run {}",
        script.display()
    );
    Ok(bin)
}
