//! Whether NetworkPolicies bite: on a bridge, where nobody enforces them, they do not; with the rules of a network plugin for the two pods
//! they do, and a plugin that enforces one direction is found out. Whatever ends a canary, nothing of it stays.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{ControlPlane, Identity, RELEASE_NAMESPACE, eventually};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::node::{Node, text};
use crate::release::run;
use crate::sandbox::{self, Drops, drops};
use crate::world::{Actor, BINARY, SOON, condition, in_force};

const INSTALL: &str = "helm install ringfence charts/ringfence --namespace ringfence-system --create-namespace --wait";
const CLASSES: &str = "/apis/ringfence.dev/v1alpha1/aiworkflowclasses";
const LABEL: &str = "app.kubernetes.io%2Fname%3Dringfence-canary";
/// A run with two policies that do not bite, and what a busy machine takes.
const RUN: Duration = Duration::from_secs(240);

/// Which NetworkPolicies the network has rules for.
#[derive(Clone, Copy, PartialEq)]
enum Plugin {
    Whole,
    IngressOnly,
}

struct Story {
    cluster: ControlPlane,
    admin: Actor,
    kubeconfig: PathBuf,
}

pub async fn story() {
    let cluster = sandbox::control_plane();
    let node = Node::join(&cluster).await;
    run(&cluster, INSTALL).await;
    node.ready(2).await;
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let kubeconfig = cluster.kubeconfig_for(&Identity::Admin).await.expect("a kubeconfig");
    let story = Story {
        cluster,
        admin,
        kubeconfig,
    };
    story.says_that_nobody_tried().await;
    story.stops_when_asked_and_leaves_nothing().await;
    story
        .finds(None, 1, "error", "False", "PoliciesIgnored", "by ingress and egress")
        .await;
    story.without_rights_nothing_is_made_or_forgotten().await;
    // Over what a canary that was killed has left.
    story.is_killed().await;
    story
        .finds(
            Some(Plugin::IngressOnly),
            1,
            "error",
            "False",
            "PoliciesIgnored",
            "forbade it by egress",
        )
        .await;
    story
        .finds(
            Some(Plugin::Whole),
            0,
            "ok",
            "True",
            "PoliciesBite",
            "by ingress and by egress",
        )
        .await;
    node.ready(2).await;
}

impl Story {
    fn check(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .arg("check")
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Exit code, what is said of the network, and of how it went.
    async fn says(&self, arguments: &[&str]) -> (Option<i32>, Value, String) {
        let output = timeout(RUN, self.check(&[arguments, &["-o", "json"]].concat()).output()).await;
        let output = output.expect("it ends in time").expect("ringfence check");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        let checks = json["checks"].as_array().expect("checks");
        let network: Vec<&Value> = checks.iter().filter(|check| check["check"] == "network").collect();
        assert_eq!(network.len(), 1, "{network:?}");
        (output.status.code(), network[0].clone(), said)
    }

    async fn enforced(&self) -> Result<Value> {
        let class = self.admin.read(&format!("{CLASSES}/default")).await?;
        Ok(condition(&class, "NetworkEnforced").clone())
    }

    async fn left(&self) -> Result<usize> {
        let mut left = 0;
        for kinds in ["api/v1", "apis/networking.k8s.io/v1"]
            .iter()
            .zip(["pods", "networkpolicies"])
        {
            let path = format!(
                "/{}/namespaces/{RELEASE_NAMESPACE}/{}?labelSelector={LABEL}",
                kinds.0, kinds.1
            );
            left += self.admin.items(&path).await?.len();
        }
        Ok(left)
    }

    async fn says_that_nobody_tried(&self) {
        eventually(SOON, || async {
            ensure!(self.enforced().await?["reason"] == "NotObserved");
            Ok(())
        })
        .await;
        let (_, network, _) = self.says(&["installation"]).await;
        assert_eq!(network["state"], "warning");
        assert_eq!(network["fix"], "ringfence check --canary");
    }

    /// A run until its two pods are there, which has made all that it makes.
    async fn under_way(&self) -> Child {
        let child = self.check(&["--canary"]).spawn().expect("ringfence check");
        eventually(SOON, || async {
            ensure!(self.left().await? == 4);
            Ok(())
        })
        .await;
        child
    }

    async fn stops_when_asked_and_leaves_nothing(&self) {
        let child = self.under_way().await;
        let id = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .expect("a process");
        kill_process(id, Signal::INT).expect("a signal");
        let output = timeout(SOON, child.wait_with_output())
            .await
            .expect("it ends in time")
            .expect("an end");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("asked to stop") && said.contains("two pods"), "{said}");
        assert_eq!(self.left().await.expect("an answer"), 0, "{said}");
        assert_eq!(self.enforced().await.expect("a condition")["reason"], "NotObserved");
    }

    async fn is_killed(&self) {
        let mut child = self.under_way().await;
        child.kill().await.expect("killed");
        assert_eq!(self.left().await.expect("an answer"), 4);
    }

    async fn finds(&self, plugin: Option<Plugin>, code: i32, state: &str, status: &str, reason: &str, word: &str) {
        let enforcing = plugin.map(|plugin| {
            let admin = self.admin.clone();
            Task(tokio::spawn(async move { enforces(&admin, plugin).await }))
        });
        let (found, network, said) = self.says(&["--canary"]).await;
        if let Some(Task(task)) = &enforcing {
            assert!(!task.is_finished(), "the plugin of this test gave up");
        }
        assert_eq!(
            (found, text(&network["state"])),
            (Some(code), state),
            "{network} {said}"
        );
        assert!(text(&network["message"]).contains(word), "{network}");
        let condition = self.enforced().await.expect("a condition");
        assert_eq!(
            (text(&condition["status"]), text(&condition["reason"])),
            (status, reason),
            "{condition}"
        );
        assert_eq!(condition["message"], network["message"]);
        assert!(
            said.contains("by ingress: waiting") && said.contains("by egress: waiting"),
            "{said}"
        );
        assert_eq!(self.left().await.expect("an answer"), 0);
        // Ringfence writes the rest of the status, and leaves this alone.
        let path = format!("{CLASSES}/default");
        let touched = json!({"metadata": {"annotations": {"example.com/touched": reason}}});
        self.admin.patch(&path, &touched).await.ok();
        sleep(Duration::from_secs(2)).await;
        assert_eq!(self.enforced().await.expect("a condition"), condition);
        let described = run(&self.cluster, "kubectl describe aiworkflowclass default").await;
        assert!(
            described.stdout.contains("NetworkEnforced") && described.stdout.contains(reason),
            "{described}"
        );
        // And who asks later is told what was seen.
        let (_, network, _) = self.says(&["installation"]).await;
        assert_eq!(
            (text(&network["state"]), &network["message"]),
            (state, &condition["message"])
        );
    }

    async fn without_rights_nothing_is_made_or_forgotten(&self) {
        let before = self.enforced().await.expect("a condition");
        let nobody = Identity::user("nobody", &[]);
        let said = self
            .cluster
            .ringfence_as(&nobody, BINARY, &["check", "installation", "--canary"])
            .await;
        let said = said.expect("ringfence check");
        assert_eq!(said.code, Some(2), "{said}");
        assert!(
            said.stdout.contains("unknown  network") && said.stdout.contains("ask whoever runs the cluster"),
            "{said}"
        );
        assert_eq!(self.enforced().await.expect("a condition"), before);
    }
}

/// Ends with what it is for.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a network plugin makes of the canary's NetworkPolicies: one without a rule stops the connection between its two pods.
async fn enforces(admin: &Actor, plugin: Plugin) {
    loop {
        // A pod that is gone takes its namespace and its rules along.
        let _enforced = enforced(admin, plugin).await;
        sleep(Duration::from_millis(200)).await;
    }
}

async fn enforced(admin: &Actor, plugin: Plugin) -> Result<()> {
    let pods = admin
        .items(&format!(
            "/api/v1/namespaces/{RELEASE_NAMESPACE}/pods?labelSelector={LABEL}"
        ))
        .await?;
    let policies =
        format!("/apis/networking.k8s.io/v1/namespaces/{RELEASE_NAMESPACE}/networkpolicies?labelSelector={LABEL}");
    let pod = |part: &str| -> Result<(String, Ipv4Addr)> {
        let mut pods = pods.iter();
        let pod = pods.find(|pod| pod["metadata"]["labels"]["app.kubernetes.io/component"] == part);
        let pod = pod.context("no such pod yet")?;
        ensure!(pod["metadata"]["deletionTimestamp"].is_null());
        Ok((
            text(&pod["metadata"]["name"]).to_owned(),
            text(&pod["status"]["podIP"]).parse()?,
        ))
    };
    for policy in admin.items(&policies).await? {
        let (over, peer, field) = match text(&policy["spec"]["policyTypes"][0]) {
            "Ingress" => ("listener", "dialer", "ingress"),
            _ => ("dialer", "listener", "egress"),
        };
        // An empty list is stored as none.
        let is_open = policy["spec"][field].as_array().is_some_and(|rules| !rules.is_empty());
        let ((over, _), (_, peer)) = (pod(over)?, pod(peer)?);
        drops(
            &over,
            match field {
                _ if is_open => Drops::Nothing,
                "ingress" => Drops::From(peer),
                _ if plugin == Plugin::IngressOnly => Drops::Nothing,
                _ => Drops::To(peer),
            },
        )?;
    }
    Ok(())
}
