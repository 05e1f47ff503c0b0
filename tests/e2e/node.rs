//! A real node: containerd, kubelet and kube-proxy in a network of its own. The first is the machine's, with the control plane on it, and
//! the bridge that leads to the others.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::namespaces::command;
use support::{ControlPlane, Identity, Options, eventually};

use crate::sandbox::{kept, say};
use crate::world::Actor;
use crate::{cgroups, images};

/// The machine's own: of the control plane, and of the first node.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
/// What the README and its readers call `kubernetes`.
const KUBERNETES: &str = "10.96.0.1/443";
/// A node leads packets from and to its pods.
const FORWARDS: &str = "-q -w net.ipv4.ip_forward=1";
/// A node starts in ten seconds; this is for a busy machine.
const READY: Duration = Duration::from_secs(120);

/// A control plane with real nodes.
pub struct Cluster {
    pub plane: ControlPlane,
    pub nodes: [Node; 2],
    /// Killed with the namespaces at the latest.
    children: Mutex<Vec<Child>>,
}

/// What of it has a name.
pub struct Node {
    pub name: &'static str,
    address: Ipv4Addr,
    /// Files, sockets and mounts: in memory.
    directory: PathBuf,
}

pub const NODES: [&str; 2] = ["node-1", "node-2"];

impl Cluster {
    /// Starts all of it, and waits until pods can run on each node.
    pub async fn start() -> Self {
        first_network();
        let options = Options {
            address: Some(FIRST),
            nodes: true,
            ..Options::default()
        };
        say("starting the control plane");
        let plane = ControlPlane::start(options).unwrap_or_else(|error| panic!("{error:#}"));
        let nodes = [(NODES[0], FIRST), (NODES[1], Ipv4Addr::new(10, 89, 0, 2))].map(|(name, address)| Node {
            name,
            address,
            directory: Path::new("/run").join(name),
        });
        let cluster = Self {
            plane,
            nodes,
            children: Mutex::default(),
        };
        let scheduler = cluster.kubeconfig("system:kube-scheduler", &[]).await;
        let mut command = program("kube-scheduler");
        command
            .args(["--leader-elect=false", "--secure-port=0", "--kubeconfig"])
            .arg(scheduler);
        cluster.spawn(command, "kube-scheduler");
        let admin = Actor::new(cluster.plane.admin().await);
        let [first, second] = &cluster.nodes;
        second.own_network();
        for node in &cluster.nodes {
            say(&format!("starting {}: containerd, kubelet, kube-proxy", node.name));
            cluster.join(node).await;
        }
        let mut ranges = Vec::new();
        for node in &cluster.nodes {
            ranges.push(node.pods_get_addresses(&admin).await);
        }
        first.run("ip", &format!("route add {} via {}", ranges[1], second.address));
        second.run("ip", &format!("route add {} via {}", ranges[0], first.address));
        for node in &cluster.nodes {
            node.is_ready(&admin).await;
            say(&format!("{} is ready", node.name));
        }
        cluster
    }

    async fn kubeconfig(&self, user: &str, groups: &[&str]) -> PathBuf {
        let made = self.plane.kubeconfig_for(&Identity::user(user, groups)).await;
        made.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Its three processes, and the images that it has.
    async fn join(&self, node: &Node) {
        let directory = &node.directory;
        std::fs::create_dir_all(directory.join("cni")).expect("a folder");
        cgroups::make(node.name);
        let configuration = node.write("containerd.toml", &node.containerd());
        let mut containerd = node.program("containerd");
        containerd.arg("--config").arg(configuration);
        self.spawn(containerd, &format!("{}-containerd", node.name));
        eventually(READY, || async { node.ctr(&["version"]) }).await;
        for archive in images::archives() {
            let imported = node.ctr(&["images", "import", &archive.display().to_string()]);
            imported.unwrap_or_else(|error| panic!("{error:#}"));
        }
        let tagged = node.ctr(&["images", "tag", images::RINGFENCE, images::PREVIOUS]);
        tagged.unwrap_or_else(|error| panic!("{error:#}"));

        let authority = &self.plane.ready().ca_certificate;
        let configuration = node.write("kubelet.json", &node.kubelet(authority).to_string());
        let user = format!("system:node:{}", node.name);
        let mut kubelet = node.program("kubelet");
        kubelet
            .arg("--kubeconfig")
            .arg(self.kubeconfig(&user, &["system:nodes"]).await)
            .arg("--config")
            .arg(configuration)
            .arg("--root-dir")
            .arg(directory.join("kubelet"))
            .arg("--cert-dir")
            .arg(directory.join("certificates"))
            .arg(format!("--hostname-override={}", node.name))
            .arg(format!("--node-ip={}", node.address));
        self.spawn(kubelet, &format!("{}-kubelet", node.name));

        let mut proxy = node.program("kube-proxy");
        proxy
            .arg("--kubeconfig")
            .arg(self.kubeconfig("system:kube-proxy", &[]).await)
            .arg(format!("--hostname-override={}", node.name))
            // Its other limits are the whole machine's.
            .args([
                "--proxy-mode=nftables",
                "--conntrack-max-per-core=0",
                "--conntrack-min=0",
            ])
            .args(["--cluster-cidr=10.244.0.0/16", "--metrics-bind-address=127.0.0.1:10249"])
            .arg(format!("--healthz-bind-address={}:10256", node.address));
        self.spawn(proxy, &format!("{}-kube-proxy", node.name));
    }

    /// Its log stays when all else is gone.
    fn spawn(&self, mut command: Command, name: &str) {
        let logs = kept().join("logs");
        std::fs::create_dir_all(&logs).expect("a folder");
        let log = File::create(logs.join(format!("{name}.log"))).expect("a log");
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .process_group(0)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("{name}: {error}"));
        self.children.lock().expect("no panic").push(child);
    }

    /// None of them has ended by itself.
    pub fn is_whole(&self) {
        for child in self.children.lock().expect("no panic").iter_mut() {
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none(), "one ended ({ended:?}): see target/node/logs");
        }
    }
}

impl Drop for Cluster {
    /// Of a story that failed, what is gone in a moment.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let path = kept().join("logs/failed.log");
        let Ok(file) = File::create(&path) else { return };
        for arguments in [
            "get pods --all-namespaces --output=wide",
            "get events --all-namespaces --sort-by=.lastTimestamp",
            "logs --namespace=ringfence-system --selector=app.kubernetes.io/name=ringfence --prefix --tail=50",
            "logs --namespace=prefect --selector=app --prefix --tail=50",
            "logs --namespace=ai-prefect --selector=ringfence.dev/workflow --prefix --tail=50",
        ] {
            let (Ok(out), Ok(errors)) = (file.try_clone(), file.try_clone()) else {
                return;
            };
            let _ = Command::new(self.plane.binary("kubectl"))
                .args(arguments.split(' '))
                .arg("--request-timeout=5s")
                .env("KUBECONFIG", &self.plane.ready().kubeconfig)
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(errors)
                .status();
        }
        say(&format!("failed: pods, events and logs are in {}", path.display()));
    }
}

fn first_network() {
    for line in [
        "link set lo up".to_owned(),
        // Its own address: else it takes the lowest of its ports', and what was said to the old one is lost when a node goes.
        "link add br0 address 02:00:0a:59:00:01 type bridge".to_owned(),
        format!("addr add {FIRST}/24 dev br0"),
        "link set br0 up".to_owned(),
        // Nothing answers there. Without it nobody can send to a Service, which has no other route.
        "route add default dev br0".to_owned(),
    ] {
        command("ip", &line);
    }
    command("sysctl", FORWARDS);
}

fn program(name: &str) -> Command {
    Command::new(kept().join("bin").join(name))
}

impl Node {
    /// At the first one's bridge.
    fn own_network(&self) {
        let (name, address) = (self.name, self.address);
        command("ip", &format!("netns add {name}"));
        command("ip", &format!("link add {name} type veth peer name eth0 netns {name}"));
        command("ip", &format!("link set {name} master br0 up"));
        for line in [
            "link set lo up".to_owned(),
            format!("addr add {address}/24 dev eth0"),
            "link set eth0 up".to_owned(),
            format!("route add default via {FIRST}"),
        ] {
            self.run("ip", &line);
        }
        self.run("sysctl", FORWARDS);
    }

    /// Plugs its cable in (`up`), or pulls it out (`down`). Not of the first one, which has none.
    pub fn link(&self, state: &str) {
        command("ip", &format!("link set {} {state}", self.name));
    }

    /// The words before a command that lead into its network. Not `ip netns exec`, which mounts /sys anew and hides cgroups.
    fn there(&self) -> Vec<String> {
        if self.address == FIRST {
            return Vec::new();
        }
        vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", self.name)]
    }

    /// Runs a command in its network, its arguments parted by spaces.
    pub fn run(&self, program: &str, arguments: &str) {
        let words = [self.there(), vec![program.to_owned(), arguments.to_owned()]]
            .concat()
            .join(" ");
        let (program, arguments) = words.split_once(' ').expect("arguments");
        command(program, arguments);
    }

    /// One of the built parts, in its network.
    fn program(&self, name: &str) -> Command {
        let bin = kept().join("bin");
        let there = self.there();
        let mut command = match there.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(bin.join(name));
                command
            }
            None => Command::new(bin.join(name)),
        };
        // containerd looks there for its shim.
        let mut path = vec![bin];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        command.env("PATH", std::env::join_paths(path).expect("a path"));
        command
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.join(name);
        std::fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("containerd.sock")
    }

    fn ctr(&self, arguments: &[&str]) -> Result<()> {
        let output = self
            .program("ctr")
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io"])
            .args(arguments)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ctr {}: {said}", arguments.join(" "));
        Ok(())
    }

    fn containerd(&self) -> String {
        let (directory, bin, pause) = (self.directory.display(), kept().join("bin"), images::PAUSE);
        let bin = bin.display();
        format!(
            r#"version = 3
root = "{directory}/containerd"
state = "{directory}/state"
[grpc]
address = "{directory}/containerd.sock"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
# Not every root may lower it.
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{bin}"]
conf_dir = "{directory}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{bin}/runc"
SystemdCgroup = false
"#
        )
    }

    fn kubelet(&self, authority: &Path) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "address": self.address, "healthzBindAddress": self.address,
            "authentication": {
                "anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": authority},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": format!("unix://{}", self.socket().display()),
            "cgroupDriver": "cgroupfs", "cgroupRoot": cgroups::of(self.name), "failCgroupV1": false,
            "enforceNodeAllocatable": [], "failSwapOn": false,
            // How full the machine is, is not the story.
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%"},
            "imageGCHighThresholdPercent": 100,
            // No name is looked up outside.
            "resolvConf": "",
            "podLogsDir": self.directory.join("logs"), "volumePluginDir": self.directory.join("plugins"),
        })
    }

    /// Tells the network plugin which addresses the controller manager gave to the node's pods, and returns them. With ptp each packet is
    /// routed, so that kube-proxy sees also what goes from one pod of the node to another.
    async fn pods_get_addresses(&self, admin: &Actor) -> String {
        let path = format!("/api/v1/nodes/{}", self.name);
        let range = eventually(READY, || async {
            let node = admin.read(&path).await?;
            Ok(node["spec"]["podCIDR"]
                .as_str()
                .context("no addresses for pods")?
                .to_owned())
        });
        let range = range.await;
        let configuration = json!({
            "cniVersion": "1.0.0", "name": "pods",
            "plugins": [{"type": "ptp", "ipam": {
                "type": "host-local", "dataDir": self.directory.join("addresses"),
                "ranges": [[{"subnet": range}]], "routes": [{"dst": "0.0.0.0/0"}],
            }}],
        });
        self.write("cni/10-pods.conflist", &configuration.to_string());
        range
    }

    /// Its kubelet says so, and its kube-proxy leads to the API server.
    async fn is_ready(&self, admin: &Actor) {
        let path = format!("/api/v1/nodes/{}", self.name);
        eventually(READY, || async {
            let node = admin.read(&path).await?;
            let conditions = node["status"]["conditions"].as_array().context("no conditions")?;
            let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
            let ready = ready.context("no condition Ready")?;
            ensure!(ready["status"] == "True", "{ready}");
            Ok(())
        })
        .await;
        eventually(READY, || async {
            let words = [
                self.there(),
                vec!["timeout".to_owned(), "2".to_owned(), "bash".to_owned(), "-c".to_owned()],
            ]
            .concat();
            let reached = Command::new(&words[0])
                .args(&words[1..])
                .arg(format!(": </dev/tcp/{KUBERNETES}"))
                .output()?;
            ensure!(reached.status.success(), "{} does not reach {KUBERNETES}", self.name);
            Ok(())
        })
        .await;
    }
}
