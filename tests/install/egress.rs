//! The egress proxy as the chart brings it: replicas with the rendered spec and nothing else, which learn from the API server who calls and what
//! an AIWorkflow declares, and lead curl in a pod to that and nowhere else; also when it has changed, and when one of them is dead.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use support::namespaces::command as as_root;
use support::{ControlPlane, RELEASE_NAMESPACE, eventually};
use tokio::process::Command;

use crate::dns::{Dns, Script};
use crate::hosts::{Hosts, ZONE};
use crate::node::{NAME, Node, Running};
use crate::objects::{all, one, pod, workflow};
use crate::release::{command, commands, commands_of, objects, run, settled};
use crate::sandbox::{self, NODE, attach};
use crate::world::{Actor, CLASSES, SOON, condition, in_force, master, namespace};

/// Where the hosts are, which no cluster has among its own addresses. It is kept for documents, so the platform has to open it.
const WORLD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// Of the workflow's pod, and of one that nobody knows.
const CALLER: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 250);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 251);
/// The proxy's port in its pods.
const PORT: u16 = 3128;
const PROXY: &str = "ringfence-egress-";

struct Story {
    cluster: ControlPlane,
    node: Node,
    admin: Actor,
    lea: Actor,
    hosts: Hosts,
    /// With a workflow that declares `first`.
    namespace: String,
    first: String,
    second: String,
}

pub async fn story() {
    let cluster = sandbox::control_plane();
    let node = Node::join(&cluster).await;
    as_root("ip", &format!("addr add {WORLD}/32 dev br0"));
    let dns = Dns::start(NODE).await;
    let hosts = Hosts::start(cluster.directory(), &WORLD.to_string()).await;
    let [first, second] = ["first", "second"].map(|name| format!("{name}.{ZONE}"));
    for name in [&first, &second] {
        dns.script(name, Script::of(&[&WORLD.to_string()]));
    }
    let install = commands("## Install");
    run(&cluster, command(&install, "helm install")).await;
    let of_proxy = commands_of("docs/egress.md", "## Install");
    let here = format!(
        "{} --set 'egress.nameservers={{{}}}' --set 'egress.allowPrivateAnswers={{{WORLD}/32}}'",
        command(&of_proxy, "helm upgrade"),
        dns.address
    );
    run(&cluster, &here).await;
    node.ready(4).await;
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let lea = master(&cluster, "lea", &[]).await;
    let class = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "domains"},
        "spec": {"images": {"allowed": ["**"]}, "network": {"domains": [format!("*.{ZONE}")]}},
    });
    admin.post(CLASSES, &class).await.ok();
    let namespace = namespace(&admin, "domains", &json!({"ringfence.dev/enforce": "domains"})).await;
    let story = Story {
        cluster,
        node,
        admin,
        lea,
        hosts,
        namespace,
        first,
        second,
    };
    story.declares_and_runs().await;
    story.reaches_what_is_declared_and_nothing_else().await;
    story.what_is_declared_later_is_reached_too().await;
    story.one_of_them_dies().await;
    story.is_taken_away().await;
}

impl Story {
    fn proxies(&self) -> Vec<Running> {
        let mut pods = self.node.pods();
        pods.retain(|pod| pod.name.starts_with(PROXY));
        assert_eq!(pods.len(), 2, "{pods:?}");
        pods
    }

    fn declaring(&self, domains: &[&String]) -> Value {
        let port = self.hosts.tls;
        json!({"network": {"egress": [{"name": "hosts", "to": {"domains": domains}, "ports": [{"port": port}]}]}})
    }

    /// The workflow, and its pod, which is put on the node by hand.
    async fn declares_and_runs(&self) {
        let ns = &self.namespace;
        let declared = workflow("triage", &self.declaring(&[&self.first]));
        self.admin.post(&all("AIWorkflow", ns), &declared).await.ok();
        let path = one("AIWorkflow", ns, "triage");
        eventually(SOON, || async {
            let found = self.admin.read(&path).await?;
            ensure!(condition(&found, "Ready")["status"] == "True", "{}", found["status"]);
            ensure!(found["status"]["egress"]["backend"] == "Proxy", "{}", found["status"]);
            Ok(())
        })
        .await;
        self.lea.post(&all("Pod", ns), &pod("caller", "triage")).await.ok();
        let path = one("Pod", ns, "caller");
        let target = json!({"apiVersion": "v1", "kind": "Node", "name": NAME});
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "caller"}, "target": target});
        self.admin.post(&format!("{path}/binding"), &binding).await.ok();
        let status = json!({"status": {"phase": "Running", "podIP": CALLER, "podIPs": [{"ip": CALLER}]}});
        self.admin.patch(&format!("{path}/status"), &status).await.ok();
        attach("caller", CALLER);
        attach("stranger", STRANGER);
    }

    /// What curl says of a host, asked for from a pod through one of the proxies.
    async fn says(&self, pod: &str, proxy: &Running, host: &str) -> Result<String> {
        let output = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{pod}"))
            .args([
                "curl",
                "--silent",
                "--show-error",
                "--include",
                "--max-time",
                "20",
                "--cacert",
            ])
            .arg(&self.hosts.ca)
            .args(["--proxy", &format!("http://{}:{PORT}", proxy.address)])
            .arg(format!("https://{host}:{}/path", self.hosts.tls))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(format!("{out}\n{error}"))
    }

    async fn reaches(&self, proxy: &Running, host: &str) {
        eventually(SOON, || async {
            let said = self.says("caller", proxy, host).await?;
            ensure!(said.contains("GET /path"), "{said}");
            Ok(())
        })
        .await;
    }

    async fn reaches_what_is_declared_and_nothing_else(&self) {
        for proxy in self.proxies() {
            self.reaches(&proxy, &self.first).await;
            for (pod, host, verdict) in [
                ("caller", &self.second, "not-declared"),
                ("stranger", &self.first, "unknown-caller"),
            ] {
                let said = self.says(pod, &proxy, host).await.expect("curl");
                assert!(
                    said.contains(&format!("403 Forbidden (ringfence: {verdict})")),
                    "{said}"
                );
                assert!(!said.contains("GET /path"), "{said}");
            }
        }
    }

    async fn what_is_declared_later_is_reached_too(&self) {
        let change = json!({"spec": self.declaring(&[&self.second])});
        let path = one("AIWorkflow", &self.namespace, "triage");
        self.admin.patch(&path, &change).await.ok();
        for proxy in self.proxies() {
            self.reaches(&proxy, &self.second).await;
            eventually(SOON, || async {
                let said = self.says("caller", &proxy, &self.first).await?;
                ensure!(said.contains("(ringfence: not-declared)"), "{said}");
                Ok(())
            })
            .await;
        }
    }

    /// Its Service leads to the other one.
    async fn one_of_them_dies(&self) {
        let [dead, alive] = <[Running; 2]>::try_from(self.proxies()).expect("two");
        self.node.kill_for_good(&dead);
        let slices = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{RELEASE_NAMESPACE}/endpointslices?labelSelector=kubernetes.io/service-name=ringfence-egress"
        );
        eventually(Duration::from_secs(90), || async {
            let slices = self.admin.items(&slices).await?;
            let endpoints = slices
                .iter()
                .filter_map(|slice| slice["endpoints"].as_array())
                .flatten();
            let ready: Vec<&Value> = endpoints
                .filter(|endpoint| endpoint["conditions"]["ready"] == true)
                .map(|endpoint| &endpoint["addresses"][0])
                .collect();
            ensure!(ready == [&json!(alive.address)], "{ready:?}");
            Ok(())
        })
        .await;
        self.reaches(&alive, &self.second).await;
    }

    async fn is_taken_away(&self) {
        let of_proxy = commands_of("docs/egress.md", "## Install");
        let away = command(&of_proxy, "helm upgrade").replace("enabled=true", "enabled=false");
        run(&self.cluster, &away).await;
        settled(&self.admin, 2).await;
        let left = objects(&self.cluster).await;
        let left: Vec<&String> = left.iter().filter(|line| line.contains("ringfence-egress")).collect();
        assert_eq!(left, Vec::<&String>::new());
        let path = one("AIWorkflow", &self.namespace, "triage");
        eventually(SOON, || async {
            let found = self.admin.read(&path).await?;
            let programmed = condition(&found, "Programmed");
            ensure!(programmed["reason"] == "NoEgressProxy", "{}", found["status"]);
            Ok(())
        })
        .await;
    }
}
