//! One node: a scheduler that puts every pod of the release namespace on it, and a kubelet that runs them as processes, asks their
//! readiness probes, says so in their status, and ends them when they are deleted. Everything between the Deployment and the pods, and
//! between the pods' status and the Service's EndpointSlices, is done by the real controllers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::{Method, Request};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{ControlPlane, Identity, RELEASE_NAMESPACE, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::container::Probe;
use crate::pod::Pod;
use crate::world::SOON;

pub const NAME: &str = "node-1";
/// The chart's port of metrics.
const METRICS: u16 = 8080;
/// How often a kubelet here looks. A real one is told by a watch, and by its runtime.
pub const LOOK: Duration = Duration::from_millis(50);
/// How long a restarting API server may be away.
pub const AWAY: Duration = Duration::from_secs(60);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The node with all that runs on it. What runs there ends with the namespaces.
pub struct Node {
    kubelet: Kubelet,
    tasks: Vec<JoinHandle<()>>,
}

/// What it does it does with a kubelet's certificate.
#[derive(Clone)]
pub struct Kubelet(pub Arc<Inner>);

pub struct Inner {
    client: Client,
    pub scheduler: Client,
    pub directory: PathBuf,
    pub running: Mutex<BTreeMap<String, Running>>,
    /// While it is, nothing is started.
    pub held: AtomicBool,
    /// Names of pods that are never started again, as on a machine that is gone.
    pub dead: Mutex<BTreeSet<String>>,
    hosts: AtomicU8,
    troubles: Mutex<Vec<String>>,
}

/// One pod on the node.
#[derive(Clone, Debug)]
pub struct Running {
    pub name: String,
    pub address: Ipv4Addr,
    /// Of its process, while there is one.
    pub process: Option<u32>,
    pub ready: bool,
    pub restarts: u32,
}

fn signal(pod: &Running, signal: Signal) {
    let process = pod.process.and_then(|process| Pid::from_raw(process.cast_signed()));
    kill_process(process.expect("a process"), signal).expect("a signal");
}

/// A string of a spec, or an empty one.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl Node {
    pub async fn join(cluster: &ControlPlane) -> Self {
        let directory = cluster.directory().join("pods");
        std::fs::create_dir_all(&directory).expect("a folder");
        let who = Identity::user(&format!("system:node:{NAME}"), &["system:nodes"]);
        let kubelet = Kubelet(Arc::new(Inner {
            client: cluster.client(&who).await,
            scheduler: cluster.admin().await,
            directory,
            running: Mutex::default(),
            held: AtomicBool::new(false),
            dead: Mutex::default(),
            hosts: AtomicU8::new(10),
            troubles: Mutex::default(),
        }));
        let node = json!({"metadata": {"name": NAME, "labels": {"kubernetes.io/hostname": NAME}}});
        kubelet
            .send(Method::POST, "/api/v1/nodes", Some(&node))
            .await
            .expect("a Node");
        let tasks = vec![
            tokio::spawn(kubelet.clone().beats()),
            tokio::spawn(kubelet.clone().looks()),
        ];
        Self { kubelet, tasks }
    }

    /// What runs on it, and what was found wrong with it so far.
    pub fn pods(&self) -> Vec<Running> {
        let troubles = self.kubelet.0.troubles.lock().expect("no panic");
        assert!(troubles.is_empty(), "the kubelet could not go on: {troubles:?}");
        self.kubelet
            .0
            .running
            .lock()
            .expect("no panic")
            .values()
            .cloned()
            .collect()
    }

    pub fn pod(&self, name: &str) -> Running {
        let found = self.pods().into_iter().find(|pod| pod.name == name);
        found.unwrap_or_else(|| panic!("no pod {name} on the node"))
    }

    /// Waits until so many pods are there and ready, and no others.
    #[track_caller]
    pub fn says_why_not_ready<'a>(&'a self, count: usize, why: &'a str) -> impl Future<Output = ()> + 'a {
        eventually(SOON, move || async move {
            let pods = self.pods();
            ensure!(pods.len() == count, "{pods:?}");
            for pod in &pods {
                let said = self.ask(pod, "/readyz").await?;
                ensure!(said.starts_with("HTTP/1.1 503") && said.contains(why), "{said}");
            }
            Ok(())
        })
    }

    pub fn ready(&self, count: usize) -> impl Future<Output = Vec<Running>> {
        eventually(Duration::from_secs(90), move || async move {
            let pods = self.pods();
            ensure!(
                pods.len() == count && pods.iter().all(|pod| pod.ready),
                "{count} pods should be ready: {pods:?}{}",
                self.tails()
            );
            Ok(pods)
        })
    }

    /// Kills its process as a crash would. The kubelet starts it again.
    pub fn kill(&self, pod: &Running) {
        signal(pod, Signal::KILL);
    }

    /// Kills its process, and never starts it again. Nobody deletes the pod.
    pub fn kill_for_good(&self, pod: &Running) {
        self.kubelet.0.dead.lock().expect("no panic").insert(pod.name.clone());
        self.kill(pod);
    }

    /// Asks its process to end, without the pod being deleted. The kubelet starts it again.
    pub fn terminate(&self, pod: &Running) {
        signal(pod, Signal::TERM);
    }

    /// Kills all of them, and starts none until [`Self::go_on`].
    pub async fn kill_all(&self) {
        self.kubelet.0.held.store(true, Ordering::Relaxed);
        for pod in self.pods().iter().filter(|pod| pod.process.is_some()) {
            self.kill(pod);
        }
        eventually(AWAY, || async {
            ensure!(
                self.pods().iter().all(|pod| !pod.ready && pod.process.is_none()),
                "some are still there"
            );
            Ok(())
        })
        .await;
    }

    pub fn go_on(&self) {
        self.kubelet.0.held.store(false, Ordering::Relaxed);
    }

    /// The last lines of what each pod said.
    pub fn tails(&self) -> String {
        let pods = self.kubelet.0.running.lock().expect("no panic").clone();
        let tails = pods.values().map(|pod| {
            let said = self.log(&pod.name);
            let lines: Vec<&str> = said.lines().rev().take(8).collect();
            format!(
                "\n--- {} ---\n{}",
                pod.name,
                lines.into_iter().rev().collect::<Vec<_>>().join("\n")
            )
        });
        tails.collect()
    }

    /// What its port of metrics and health answers, head and body.
    pub async fn ask(&self, pod: &Running, path: &str) -> Result<String> {
        timeout(Duration::from_secs(3), http(pod.address, METRICS, path)).await?
    }

    /// One figure of its metrics.
    pub async fn figure(&self, pod: &Running, name: &str) -> Result<f64> {
        let answer = self.ask(pod, "/metrics").await?;
        let line = answer
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no figure {name}"))?.trim().parse()?)
    }

    /// What a pod said.
    pub fn log(&self, pod: &str) -> String {
        std::fs::read_to_string(self.kubelet.0.directory.join(format!("{pod}.log"))).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Kubelet {
    /// Whether a pod whose process ended is left like that.
    pub fn leaves(&self, name: &str) -> bool {
        self.0.held.load(Ordering::Relaxed) || self.0.dead.lock().expect("no panic").contains(name)
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        send(&self.0.client, method, path, body).await
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None).await
    }

    /// A token that is bound to the pod, as a projected volume has it.
    pub async fn token(&self, pod: &Value, seconds: &Value) -> Result<String> {
        let (namespace, account) = (&pod["metadata"]["namespace"], &pod["spec"]["serviceAccountName"]);
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{}/token",
            text(namespace),
            text(account)
        );
        let to =
            json!({"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]});
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds, "boundObjectRef": to, "audiences": []},
        });
        let made = self.send(Method::POST, &path, Some(&request)).await?;
        Ok(made["status"]["token"].as_str().context("a token")?.to_owned())
    }

    /// Without it the node's pods were not ready for the node lifecycle controller.
    async fn beats(self) {
        loop {
            let conditions =
                json!([{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now()}]);
            let path = format!("/api/v1/nodes/{NAME}/status");
            self.persist("the heartbeat", || {
                self.patch(&path, json!({"status": {"conditions": conditions}}))
            })
            .await;
            sleep(HEARTBEAT).await;
        }
    }

    async fn looks(self) {
        let pods = format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/pods");
        loop {
            let Some(list) = self
                .persist("listing pods", || send(&self.0.scheduler, Method::GET, &pods, None))
                .await
            else {
                return;
            };
            for pod in list["items"].as_array().into_iter().flatten() {
                let uid = text(&pod["metadata"]["uid"]).to_owned();
                let mut running = self.0.running.lock().expect("no panic");
                if running.contains_key(&uid) || !pod["metadata"]["deletionTimestamp"].is_null() {
                    continue;
                }
                let address = Ipv4Addr::new(10, 89, 0, self.0.hosts.fetch_add(1, Ordering::Relaxed));
                let entry = Running {
                    name: text(&pod["metadata"]["name"]).to_owned(),
                    address,
                    process: None,
                    ready: false,
                    restarts: 0,
                };
                running.insert(uid, entry);
                tokio::spawn(self.clone().runs(pod.clone(), address));
            }
            sleep(LOOK).await;
        }
    }

    async fn runs(self, pod: Value, address: Ipv4Addr) {
        let pod = Pod {
            kubelet: self.clone(),
            path: format!(
                "/api/v1/namespaces/{RELEASE_NAMESPACE}/pods/{}",
                text(&pod["metadata"]["name"])
            ),
            uid: text(&pod["metadata"]["uid"]).to_owned(),
            image: pod["spec"]["containers"][0]["image"].clone(),
            name: text(&pod["metadata"]["name"]).to_owned(),
            address,
        };
        if let Err(error) = pod.lives().await {
            let trouble = format!("{}: {error:#}", pod.name);
            self.0.troubles.lock().expect("no panic").push(trouble);
        }
    }

    pub async fn patch(&self, path: &str, body: Value) -> Result<Value> {
        self.send(Method::PATCH, path, Some(&body)).await
    }

    /// Goes on while the API server is away; what it still fails at then is a trouble.
    pub async fn persist<F: Future<Output = Result<Value>>>(
        &self,
        what: &str,
        mut call: impl FnMut() -> F,
    ) -> Option<Value> {
        let end = Instant::now() + AWAY;
        loop {
            match call().await {
                Ok(answer) => return Some(answer),
                Err(error) if Instant::now() > end => {
                    self.0
                        .troubles
                        .lock()
                        .expect("no panic")
                        .push(format!("{what}: {error:#}"));
                    return None;
                }
                Err(_) => sleep(LOOK).await,
            }
        }
    }
}

pub async fn send(client: &Client, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
    let content_type = if method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("Content-Type", content_type)
        .body(bytes)?;
    Ok(timeout(Duration::from_secs(10), client.request(request))
        .await
        .context("no answer in time")??)
}

/// The status of what a probe asks for.
pub async fn asks(address: Ipv4Addr, probe: &Probe) -> Result<u16> {
    let answer = http(address, probe.port, &probe.path).await?;
    Ok(answer.split(' ').nth(1).context("no HTTP")?.parse()?)
}

async fn http(address: Ipv4Addr, port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect((address, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

pub fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
