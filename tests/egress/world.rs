//! What the tests share: one control plane, one proxy with the rights that the chart gives it and no more, one DNS server and one set of hosts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, CustomResourceExt, Resource};
use ringfence::api::AIWorkflowClass;
use ringfence::egress::{ANNOTATION, Allowed};
use ringfence::plan::owned_name;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::{ControlPlane, Identity, eventually, unique};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::client;
use crate::dns::{Dns, Script};
use crate::hosts::{Hosts, ZONE};

/// No test waits longer for anything.
pub const SOON: Duration = Duration::from_secs(30);
const WHOLE_TEST: Duration = Duration::from_secs(120);
const ACCOUNT: &str = "ringfence-egress";

/// One runtime for all tests: what one of them starts, another uses.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Runs a test to its end.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    run_for(WHOLE_TEST, test)
}

/// The same where it takes longer.
pub fn run_for<T>(longest: Duration, test: impl Future<Output = T>) -> T {
    RUNTIME.block_on(async { timeout(longest, test).await.expect("the test to end") })
}

pub struct World {
    pub client: Client,
    pub dns: Dns,
    pub hosts: Hosts,
    pub proxy: Egress,
    pub kubeconfig: PathBuf,
}

/// A workflow of a test's own, in a namespace of its own.
pub struct Workflow {
    pub namespace: String,
    pub name: String,
}

impl Workflow {
    /// Name of the policy that opens its way to the proxy.
    pub fn policy(&self) -> String {
        owned_name(&self.namespace, &self.name, "domains")
    }
}

/// What the operator would write into the annotation.
fn allowed(domains: &[&str], ports: &[u16]) -> String {
    let ports: Vec<Value> = ports.iter().map(|port| json!({"port": port})).collect();
    let allowed = json!({"rules": [{"name": "rule", "domains": domains, "ports": ports}]});
    let allowed: Allowed = serde_json::from_value(allowed).unwrap();
    allowed.write().unwrap()
}

impl World {
    pub async fn get() -> &'static Self {
        static WORLD: OnceCell<World> = OnceCell::const_new();
        WORLD.get_or_init(|| Box::pin(Self::start())).await
    }

    async fn start() -> Self {
        // Whoever comes first installs it for the process.
        drop(rustls::crypto::ring::default_provider().install_default());
        let plane = ControlPlane::shared();
        let client = plane.admin().await;
        let dns = Dns::start(Ipv4Addr::LOCALHOST).await;
        let hosts = Hosts::start(plane.directory(), "127.0.0.1").await;
        define(&client).await;
        let kubeconfig = account(plane, &client).await;
        let proxy = Egress::start(&kubeconfig, &dns, &[]).await;
        Self {
            client,
            dns,
            hosts,
            proxy,
            kubeconfig,
        }
    }

    /// One more proxy, with flags.
    pub async fn proxy_with(&self, flags: &[&str]) -> Egress {
        Egress::start(&self.kubeconfig, &self.dns, flags).await
    }

    /// A name that no other test uses, whose only address is 127.0.0.1.
    pub fn host(&self, of: &str) -> String {
        let name = format!("{}.{ZONE}", unique(of));
        self.dns.script(&name, Script::of(&["127.0.0.1"]));
        name
    }

    pub async fn create<K>(&self, namespace: &str, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let (api, object): (Api<K>, K) = (
            Api::namespaced(self.client.clone(), namespace),
            serde_json::from_value(object).unwrap(),
        );
        // The account of a new namespace is made a moment later.
        eventually(SOON, move || {
            let (api, object) = (api.clone(), object.clone());
            async move { Ok(api.create(&PostParams::default(), &object).await?) }
        })
        .await
    }

    /// A fenced namespace.
    pub async fn namespace(&self) -> String {
        let name = unique("egress");
        let object = json!({"metadata": {"name": name, "labels": {"ringfence.dev/enforce": "default"}}});
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap();
        name
    }

    /// A workflow that may reach these domains at these ports.
    pub async fn workflow(&self, domains: &[&str], ports: &[u16]) -> Workflow {
        let namespace = self.namespace().await;
        let workflow = Workflow {
            namespace,
            name: "triage".to_owned(),
        };
        self.declare(&workflow, domains, ports).await;
        workflow
    }

    /// The policy as the operator makes it: owned, and of that workflow.
    pub async fn declare(&self, workflow: &Workflow, domains: &[&str], ports: &[u16]) {
        let uid = "0d0c7a0e-0000-4000-8000-000000000001";
        let object = json!({
            "metadata": {
                "name": workflow.policy(),
                "labels": {"ringfence.dev/owner": workflow.name},
                "annotations": {"ringfence.dev/owner-uid": uid, ANNOTATION: allowed(domains, ports)},
                "ownerReferences": [{"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "name": workflow.name, "uid": uid}],
            },
            "spec": {"podSelector": {"matchLabels": {"ringfence.dev/workflow": workflow.name}}, "policyTypes": ["Egress"]},
        });
        let _: NetworkPolicy = self.create(&workflow.namespace, object).await;
    }

    /// The same policy, which says something else now.
    pub async fn redeclare(&self, workflow: &Workflow, domains: &[&str], ports: &[u16]) {
        let policies: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), &workflow.namespace);
        let patch = json!({"metadata": {"annotations": {ANNOTATION: allowed(domains, ports)}}});
        policies
            .patch(&workflow.policy(), &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// A pod that runs, and its address.
    pub async fn pod(&self, workflow: &Workflow) -> IpAddr {
        let address = fresh_address();
        self.pod_at(workflow, &unique("pod"), address, json!({})).await;
        address
    }

    /// The same with a name, an address and more of a spec.
    pub async fn pod_at(&self, workflow: &Workflow, name: &str, address: IpAddr, spec: Value) {
        let mut object = json!({
            "metadata": {"name": name, "labels": {"ringfence.dev/workflow": workflow.name}},
            "spec": {"containers": [{"name": "c", "image": "registry.example/i"}]},
        });
        for (field, value) in spec.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        let _: Pod = self.create(&workflow.namespace, object).await;
        let status = json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]});
        self.pod_status(workflow, name, status).await;
    }

    pub async fn pod_status(&self, workflow: &Workflow, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        self.pods(workflow)
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    pub async fn delete_pod(&self, workflow: &Workflow, name: &str) {
        self.pods(workflow)
            .delete(name, &DeleteParams::default().grace_period(0))
            .await
            .unwrap();
    }

    fn pods(&self, workflow: &Workflow) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &workflow.namespace)
    }

    /// What a pod gets that asks a host with TLS for a path, or why it gets nothing.
    pub async fn fetch(&self, pod: IpAddr, host: &str, path: &str) -> Result<String, client::Answer> {
        self.fetch_by(&self.proxy, pod, host, path).await
    }

    pub async fn fetch_by(
        &self,
        proxy: &Egress,
        pod: IpAddr,
        host: &str,
        path: &str,
    ) -> Result<String, client::Answer> {
        let stream = client::tunnel(proxy.address(), pod, &format!("{host}:{}", self.hosts.tls)).await?;
        let mut stream = client::tls(stream, self.hosts.client(), host).await.unwrap();
        Ok(client::get(&mut stream, host, path).await)
    }
}

/// An address that no other pod has.
pub fn fresh_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let [_, b, c, d] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 100 + b, c, d).into()
}

/// What the proxy reads of Ringfence's own kinds.
async fn define(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let created = definitions
        .create(&PostParams::default(), &AIWorkflowClass::crd())
        .await;
    created.unwrap();
    let classes: Api<AIWorkflowClass> = Api::all(client.clone());
    let served = || async { Ok(classes.list(&ListParams::default()).await?) };
    eventually(SOON, served).await;
}

/// The proxy's own account, which may see what decisions rest on and do nothing.
async fn account(plane: &ControlPlane, client: &Client) -> PathBuf {
    let namespace = "egress-proxy";
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let object = json!({"metadata": {"name": namespace}});
    namespaces
        .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let object = json!({"metadata": {"name": ACCOUNT}});
    accounts
        .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
    let role = json!({
        "metadata": {"name": ACCOUNT},
        "rules": [
            {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["ringfence.dev"], "resources": ["aiworkflowclasses"], "verbs": ["list", "watch"]},
        ],
    });
    let roles: Api<ClusterRole> = Api::all(client.clone());
    roles
        .create(&PostParams::default(), &serde_json::from_value(role).unwrap())
        .await
        .unwrap();
    let binding = json!({
        "metadata": {"name": ACCOUNT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": ACCOUNT}],
    });
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    bindings
        .create(&PostParams::default(), &serde_json::from_value(binding).unwrap())
        .await
        .unwrap();
    plane
        .kubeconfig_for(&Identity::service_account(namespace, ACCOUNT))
        .await
        .unwrap()
}

/// A running `ringfence egress`. Dropping it ends it; so does the end of the test process.
pub struct Egress {
    guard: Child,
    alive: Option<ChildStdin>,
    log: PathBuf,
    pub port: u16,
    pub metrics_port: u16,
}

impl Egress {
    pub async fn start(kubeconfig: &std::path::Path, dns: &Dns, flags: &[&str]) -> Self {
        let plane = ControlPlane::shared();
        let log = plane.directory().join(format!("{}.log", unique("egress-proxy")));
        let output = std::fs::File::create(&log).unwrap();
        let [port, metrics_port] = free_ports();
        let mut guard = Command::new(plane.binary("controlplane"))
            .args(["guard", "--", env!("CARGO_BIN_EXE_ringfence"), "egress"])
            .arg(format!("--listen=127.0.0.1:{port},[::1]:{port}"))
            .arg(format!("--metrics-listen=127.0.0.1:{metrics_port}"))
            .arg(format!("--nameserver={}", dns.address))
            .args(["--allow-private-answers=127.0.0.0/8", "--allow-private-answers=::1/128"])
            .args(flags)
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let alive = guard.stdin.take();
        let proxy = Self {
            guard,
            alive,
            log,
            port,
            metrics_port,
        };
        eventually(SOON, || async {
            let (status, body) = proxy.ask("/readyz").await?;
            ensure!(status == 200, "{body}\n{}", proxy.log());
            Ok(())
        })
        .await;
        proxy
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Asks the health and metrics port: status and body.
    pub async fn ask(&self, path: &str) -> Result<(u16, String)> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.metrics_port));
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let answer = client::get(&mut stream, "proxy", path).await;
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_default();
        Ok((status, answer))
    }

    /// The value of a metric.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.ask("/metrics").await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .trim()
            .parse()
            .unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The line of a connection to a domain, once it has been told.
    pub async fn line(&self, domain: &str) -> Value {
        eventually(SOON, || async {
            let of = |line: &Value| line["message"] == "egress" && line["domain"] == domain;
            let log = self.log();
            let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines
                .find(of)
                .ok_or_else(|| anyhow::anyhow!("no line of {domain} in {log}"))
        })
        .await
    }

    /// The proxy's own process, below the one that guards it.
    pub fn pid(&self) -> u32 {
        // A child belongs to the thread that started it.
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.guard.id())).unwrap();
        let children = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap());
        let children: String = children.collect();
        children
            .split_whitespace()
            .next()
            .expect("the proxy runs")
            .parse()
            .unwrap()
    }

    /// Asks it to end as a kubelet would.
    pub fn terminate(&self) {
        let sent = Command::new("kill").arg(self.pid().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Its exit code, once it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        self.guard
            .try_wait()
            .unwrap()
            .map(|status| status.code().expect("an exit code"))
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        drop(self.alive.take());
        drop(self.guard.wait());
    }
}

/// Ports that nothing listened on a moment ago, each given once.
fn free_ports() -> [u16; 2] {
    static TAKEN: OnceLock<std::sync::Mutex<Vec<u16>>> = OnceLock::new();
    let mut taken = TAKEN.get_or_init(std::sync::Mutex::default).lock().unwrap();
    [(); 2].map(|()| {
        loop {
            let port = std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            if !taken.contains(&port) {
                taken.push(port);
                return port;
            }
        }
    })
}
