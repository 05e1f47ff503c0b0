//! From the install to the last command of the README: each is run as it stands there. What stays after an uninstall is counted, with
//! replicas alive and dead.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use support::chart::rendered;
use support::{ControlPlane, eventually};
use tokio::time::{Instant, sleep};

use crate::load::Load;
use crate::node::Node;
use crate::objects::{all, pod};
use crate::release::{
    DEFINITION, FENCED, NEW_GUARD_OBJECT, command, commands, declare, fence_stands, found, never_ready,
    nothing_is_locked, objects, previous, run, settled, stays,
};
use crate::sandbox;
use crate::world::{Actor, NAMESPACES, SOON, in_force, master, namespace};

/// Where the definition says what a workflow may open for people, which the version before did not know.
const DEBUG: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/debug";

struct Story {
    cluster: ControlPlane,
    node: Node,
    admin: Actor,
    lea: Actor,
    plain: String,
    before: BTreeSet<String>,
    /// The README's.
    install: Vec<String>,
    after: Vec<String>,
}

pub async fn story() {
    let cluster = sandbox::control_plane();
    let node = Node::join(&cluster).await;
    let admin = Actor::new(cluster.admin().await);
    let lea = master(&cluster, "lea", &[]).await;
    let plain = namespace(&admin, "plain", &json!({})).await;
    let before = objects(&cluster).await;
    let story = Story {
        cluster,
        node,
        admin,
        lea,
        plain,
        before,
        install: commands("## Install"),
        after: commands("### Upgrade, roll back, uninstall"),
    };
    story.is_ready_only_with_its_kinds().await;
    story.installs().await;
    story.uninstalls().await;
    story.leaves_no_fence().await;
    story.leaves_no_definition().await;
    story.upgrades_and_rolls_back().await;
    story.an_upgrade_that_never_gets_ready_is_rolled_back().await;
    story.loses_its_namespace_and_is_installed_again().await;
    // Nobody is there who could clean up, or answer.
    story.node.kill_all().await;
    story.uninstalls().await;
}

impl Story {
    async fn runs(&self, start: &str) {
        run(&self.cluster, command(&self.after, start)).await;
    }

    /// All of the chart but the definitions, applied by hand: the replicas run, say what they miss, and get no review until it is there.
    async fn is_ready_only_with_its_kinds(&self) {
        let (kinds, others): (Vec<Value>, Vec<Value>) = rendered()
            .expect("the chart")
            .into_iter()
            .partition(|object| object["kind"] == "CustomResourceDefinition");
        let [kinds, others] = [("kinds", kinds), ("others", others)].map(|(name, objects)| {
            let path = self.cluster.directory().join(format!("{name}.json"));
            let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
            std::fs::write(&path, list.to_string()).expect("writing it");
            path.display().to_string()
        });
        let by_hand = |verb: &str, path: &str| {
            let command = format!("kubectl {verb} -f {path}");
            async move { run(&self.cluster, &command).await }
        };
        run(&self.cluster, "kubectl create namespace ringfence-system").await;
        by_hand("apply", &others).await;
        self.node.says_why_not_ready(2, "apply crds/ or the chart").await;
        // Longer than a probe takes to find one ready.
        sleep(Duration::from_secs(3)).await;
        assert!(self.node.pods().iter().all(|pod| !pod.ready), "{:?}", self.node.pods());
        by_hand("apply", &kinds).await;
        self.node.ready(2).await;
        by_hand("delete", &others).await;
        settled(&self.admin, 0).await;
        by_hand("delete", &kinds).await;
        run(&self.cluster, "kubectl delete namespace ringfence-system").await;
    }

    async fn installs(&self) {
        for command in &self.install {
            // The image is built by a test of its own; a process here runs what would be in it.
            if !command.starts_with("docker ") {
                run(&self.cluster, command).await;
            }
        }
        self.node.ready(2).await;
        in_force(&self.admin).await;
        declare(&self.admin, FENCED).await;
        fence_stands(&self.admin, &self.lea, FENCED).await;
    }

    /// Whatever is alive: nothing is locked, and nothing of the release is left but definitions and fences.
    async fn uninstalls(&self) {
        self.runs("helm uninstall").await;
        nothing_is_locked(&self.admin, &[FENCED, &self.plain]).await;
        // What waits for a kubelet ends with it.
        self.node.go_on();
        settled(&self.admin, 0).await;
        eventually(SOON, || async {
            let now = objects(&self.cluster).await;
            let left: Vec<&String> = now.difference(&self.before).filter(|line| !stays(line)).collect();
            ensure!(left.is_empty(), "left behind: {left:#?}");
            let fence = format!("NetworkPolicy {FENCED}/ringfence");
            assert!(now.contains(&fence), "the fence stays");
            Ok(())
        })
        .await;
    }

    async fn leaves_no_fence(&self) {
        self.runs("kubectl delete networkpolicies").await;
        let left = objects(&self.cluster).await;
        let parts = ["NetworkPolicy", "Role", "RoleBinding", "ServiceAccount"];
        let of_fences = left.iter().filter(|line| {
            let (kind, name) = line.split_once(' ').unwrap_or_default();
            parts.contains(&kind) && name.starts_with(FENCED) && !name.ends_with("/default")
        });
        assert_eq!(of_fences.collect::<Vec<_>>(), Vec::<&String>::new());
    }

    async fn leaves_no_definition(&self) {
        self.runs("kubectl delete customresourcedefinitions").await;
        let left = objects(&self.cluster).await;
        let definitions = left.iter().filter(|line| line.ends_with(".ringfence.dev"));
        assert_eq!(definitions.collect::<Vec<_>>(), Vec::<&String>::new());
    }

    /// From the version before to this one and back, under load.
    async fn upgrades_and_rolls_back(&self) {
        let chart = previous(self.cluster.directory());
        let install = command(&self.install, "helm install").replace("charts/ringfence", &chart.display().to_string());
        run(&self.cluster, &install).await;
        self.node.ready(2).await;
        in_force(&self.admin).await;
        self.is_of_the_version_before(true).await;
        declare(&self.admin, FENCED).await;
        fence_stands(&self.admin, &self.lea, FENCED).await;
        let image = "/spec/template/spec/containers/0/image";
        let deployment = "/apis/apps/v1/namespaces/ringfence-system/deployments/ringfence";
        for (change, version) in [("helm upgrade", "0.1.0"), ("helm rollback", "0.0.9")] {
            let load = Load::start(&self.lea, FENCED);
            let since = Instant::now();
            self.runs(change).await;
            // The old pods are gone too.
            self.node.ready(2).await;
            self.is_of_the_version_before(version == "0.0.9").await;
            let runs = found(&self.admin, deployment, image).await.expect("an image");
            assert_eq!(
                runs,
                json!(format!("registry.example.com/ringfence:{version}")),
                "the install's values are kept"
            );
            load.since(since).await.is_clean(change);
            fence_stands(&self.admin, &self.lea, FENCED).await;
        }
        let path = format!("{NAMESPACES}/{FENCED}");
        let labels = self.admin.read(&path).await.expect("the namespace")["metadata"]["labels"].clone();
        assert_eq!(labels["ringfence.dev/enforce"], "default");
    }

    /// A new version whose pods never answer their probes, and whoever waits for it is killed: reviews go on, and the README's rollback
    /// heals.
    async fn an_upgrade_that_never_gets_ready_is_rolled_back(&self) {
        let chart = never_ready(self.cluster.directory());
        let before = self.node.ready(2).await;
        let load = Load::start(&self.lea, FENCED);
        let since = Instant::now();
        let upgrade = command(&self.after, "helm upgrade").replace("charts/ringfence", &chart.display().to_string());
        // Killed in the middle, as a pipeline that ran out of time: the new pod is there, and not ready.
        let pods = "kubectl --namespace ringfence-system get pods --output=name | wc -l";
        let line = format!(
            "{upgrade} & helm=$!; for second in $(seq 90); do [ $({pods}) -lt 3 ] || break; sleep 1; done; sleep 5; kill -KILL $helm; wait $helm"
        );
        let broken_off = self.cluster.shell(&line).await.expect("a shell");
        assert!(!broken_off.success, "{broken_off}");
        let status = run(&self.cluster, "helm status ringfence --namespace ringfence-system").await;
        assert!(status.stdout.contains("pending-upgrade"), "{status}");
        let new: Vec<_> = self
            .node
            .pods()
            .into_iter()
            .filter(|pod| before.iter().all(|old| old.name != pod.name))
            .collect();
        assert!(!new.is_empty() && new.iter().all(|pod| !pod.ready), "{new:?}");
        for old in &before {
            assert!(
                self.node.pod(&old.name).ready,
                "{} makes room for one that is not ready",
                old.name
            );
        }
        load.since(since).await.is_clean("an upgrade never gets ready");
        let rolled = Instant::now();
        self.runs("helm rollback").await;
        self.node.ready(2).await;
        load.since(rolled).await.is_clean("it is rolled back");
        self.is_of_the_version_before(true).await;
        fence_stands(&self.admin, &self.lea, FENCED).await;
        let status = run(&self.cluster, "helm status ringfence --namespace ringfence-system").await;
        assert!(status.stdout.contains("STATUS: deployed"), "{status}");
    }

    /// The registrations stay, with nobody behind them and nothing that Helm knows of. The way out is to install it again.
    async fn loses_its_namespace_and_is_installed_again(&self) {
        run(&self.cluster, "kubectl delete namespace ringfence-system").await;
        let pods = format!("{}?dryRun=All", all("Pod", FENCED));
        let answer = self.lea.post(&pods, &pod("closed", "triage")).await;
        assert!(
            answer.message().contains("failed calling webhook"),
            "{}",
            answer.message()
        );
        run(&self.cluster, command(&self.install, "helm install")).await;
        self.node.ready(2).await;
        fence_stands(&self.admin, &self.lea, FENCED).await;
    }

    async fn is_of_the_version_before(&self, before: bool) {
        let guard = self.admin.is_there(NEW_GUARD_OBJECT).await.expect("an answer");
        let debug = found(&self.admin, DEFINITION, DEBUG).await.is_ok();
        assert_eq!(
            (guard, debug),
            (!before, !before),
            "guards and definitions are of their version"
        );
    }
}
