//! What a platform engineer lives through with Ringfence, on real nodes: the commands are the README's and the examples', as they stand
//! there, and what runs is looked at as people look at it.

mod engines;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use support::{Identity, Output, RELEASE_NAMESPACE, eventually};
use tokio::time::{Instant, sleep};

use crate::images::PAUSE;
use crate::load::Load;
use crate::node::{Cluster, NODES};
use crate::objects::{all, one, pod};
use crate::release::{
    FENCED, command, commands, declare, fence_stands, nothing_is_locked, objects, previous, run, settled, stays,
};
use crate::sandbox::say;
use crate::world::{Actor, BINARY, CLASSES, SOON, in_force, master, namespace};

/// A client of the API server's kind asks a silent connection after 30 s whether it is there, and gives it up 15 s later.
const API_SERVER_FORGETS: Duration = Duration::from_secs(45);
/// How often the replica on node-1 is replaced until the other one leads.
const TURNS: usize = 5;
/// A cluster takes most of a minute to find out that a node is gone, and an engine's process to import all of the engine.
const NOTICED: Duration = Duration::from_secs(180);

struct Story {
    cluster: Cluster,
    admin: Actor,
    /// Launcher of the workflow `triage`.
    lea: Actor,
    plain: String,
    before: BTreeSet<String>,
    install: Vec<String>,
    after: Vec<String>,
}

pub async fn story() {
    let cluster = Cluster::start().await;
    let admin = Actor::new(cluster.plane.admin().await);
    let lea = master(&cluster.plane, "lea", &[]).await;
    let plain = namespace(&admin, "plain", &json!({})).await;
    let before = objects(&cluster.plane).await;
    let story = Story {
        cluster,
        admin,
        lea,
        plain,
        before,
        install: commands("## Install"),
        after: commands("### Upgrade, roll back, uninstall"),
    };
    story.installs().await;
    story.says_that_it_works().await;
    story.runs_a_workflow().await;
    story.refuses_what_does_not_fit().await;
    declare(&story.admin, FENCED).await;
    story.lets_in_only_by_a_window().await;
    story.takes_policies().await;
    story.runs_a_pipelines_jobs().await;
    story.runs_prefects_flows().await;
    story.fails_closed().await;
    story.nodes_are_drained().await;
    story.loses_a_node().await;
    story.uninstalls().await;
    story.upgrades_and_rolls_back().await;
    story.uninstalls().await;
    story.cluster.is_whole();
    say("done");
}

impl Story {
    /// A command that must succeed.
    async fn runs(&self, line: &str) -> Output {
        say(&format!("$ {line}"));
        run(&self.cluster.plane, line).await
    }

    /// One that must not. Returns what it said.
    async fn fails(&self, line: &str) -> String {
        say(&format!("$ {line}"));
        let output = self.cluster.plane.shell(line).await.expect("a shell");
        assert!(!output.success, "{line} should fail:\n{output}");
        output.to_string()
    }

    /// A command whose answer changes: waits until it is the one.
    async fn until(&self, line: &str, holds: impl Fn(&Output) -> bool) {
        say(&format!("$ {line}"));
        eventually(NOTICED, || async {
            let output = self.cluster.plane.shell(line).await?;
            ensure!(holds(&output), "{output}");
            Ok(())
        })
        .await;
    }

    async fn installs(&self) {
        for command in &self.install {
            // There is no registry: the image is imported.
            if !command.starts_with("docker ") {
                self.runs(command).await;
            }
        }
        let pods = self.replicas(2).await;
        assert_eq!(nodes_of(&pods), BTreeSet::from(NODES), "one replica a node");
        in_force(&self.admin).await;
    }

    /// From a pod, and from outside.
    async fn says_that_it_works(&self) {
        let said = self.runs("helm test ringfence --namespace ringfence-system").await;
        assert!(said.stdout.contains("Phase:          Succeeded"), "{said}");
        let check = ["check", "installation"];
        let said = self.cluster.plane.ringfence_as(&Identity::Admin, BINARY, &check).await;
        let said = said.expect("a command");
        assert!(said.success, "{said}");
    }

    /// The example as it stands: its Job's pod runs to its end, with what was declared and no more.
    async fn runs_a_workflow(&self) {
        for line in [
            "kubectl create secret generic openai --namespace ai-secure --from-literal=API_KEY=opens-nothing",
            "kubectl create configmap triage-config --namespace ai-secure --from-literal=model=small",
            "kubectl apply -f examples/invoice-triage.yaml",
            "kubectl wait --namespace ai-secure --for=condition=Ready aiworkflow/invoice-triage --timeout=60s",
            "kubectl wait --namespace ai-secure --for=condition=Complete job/invoice-triage --timeout=110s",
        ] {
            self.runs(line).await;
        }
        let pods = format!(
            "{}?labelSelector=ringfence.dev/workflow=invoice-triage",
            all("Pod", FENCED)
        );
        let pods = self.admin.items(&pods).await.expect("pods");
        let [pod] = pods.as_slice() else {
            panic!("one pod is enough: {pods:#?}")
        };
        assert_eq!(pod["spec"]["serviceAccountName"], "invoice-triage");
        assert_eq!(pod["status"]["phase"], "Succeeded", "{}", pod["status"]);
        let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(ended["exitCode"], 0, "{ended}");
        let said = self.runs("kubectl logs --namespace ai-secure job/invoice-triage").await;
        assert_eq!(
            said.stdout,
            "triaged: the declared key, the declared rights, and no more\n"
        );
    }

    async fn refuses_what_does_not_fit(&self) {
        // The API server's own standard for the namespace would refuse it otherwise, before Ringfence is asked.
        let fits = json!({"spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "stray", "image": PAUSE,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        }});
        let stray = format!("kubectl run stray --namespace {FENCED} --image={PAUSE} --overrides='{fits}'");
        for (line, rule) in [
            (
                "kubectl apply -f demo/refused/4-literal-key.yaml",
                "[no-literal-secrets]",
            ),
            (
                "kubectl apply -f demo/refused/3-privileged.yaml",
                "[restricted-pod-security]",
            ),
            (&stray, "[declared-workflow]"),
        ] {
            let said = self.fails(line).await;
            assert!(
                said.contains("ringfence refused this") && said.contains(rule) && said.contains("Fix: "),
                "{said}"
            );
        }
        let pods = self.admin.items(&all("Pod", FENCED)).await.expect("pods");
        assert_eq!(pods.len(), 1, "only the workflow's is there: {pods:#?}");
    }

    /// Nobody enters a running pod until its workflow opens a window.
    async fn lets_in_only_by_a_window(&self) {
        fence_stands(&self.admin, &self.lea, FENCED).await;
        let mut lasting = pod("lasting", "triage");
        lasting["spec"]["containers"][0]["args"] = json!(["pause"]);
        self.lea.post(&all("Pod", FENCED), &lasting).await.ok();
        self.runs("kubectl wait --namespace ai-secure --for=condition=Ready pod/lasting --timeout=60s")
            .await;
        let enter = "kubectl exec --namespace ai-secure lasting -- /program user";
        let said = self.fails(enter).await;
        assert!(said.contains("[debug-window]"), "{said}");
        let class = format!("{CLASSES}/default");
        let hours = json!({"spec": {"debug": {"maxHours": 8}}});
        self.admin.patch(&class, &hours).await.ok();
        let until = (Timestamp::now() + 1.hour()).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let workflow = one("AIWorkflow", FENCED, "triage");
        let window = json!({"spec": {"debug": {"allow": ["Exec"], "until": until}}});
        self.admin.patch(&workflow, &window).await.ok();
        self.until(enter, |said| said.success && said.stdout == "65532\n").await;
        let closed = json!({"spec": {"debug": null}});
        self.admin.patch(&workflow, &closed).await.ok();
        self.until(enter, |said| !said.success && said.stderr.contains("[debug-window]"))
            .await;
        self.runs("kubectl delete pod --namespace ai-secure lasting").await;
    }

    /// They are vetted by child processes, which live in the replica's container: with its limits, and no file to write.
    async fn takes_policies(&self) {
        let said = self.fails("kubectl apply -f demo/refused/5-mistaken-policy.yaml").await;
        assert!(said.contains("registries.rego:5:"), "{said}");
        self.runs("kubectl apply -f examples/policies/cost-centre.yaml").await;
        let unpaid = "kubectl apply --dry-run=server -f demo/refused/6-no-cost-centre.yaml";
        self.until(unpaid, |said| !said.success && said.stderr.contains("[cost-centre]"))
            .await;
        self.runs("kubectl delete -f examples/policies/cost-centre.yaml").await;
        self.until(unpaid, |said| said.success).await;
    }

    /// While the API server does not get through to the Service, fenced namespaces refuse and all others go on; and nobody has to do
    /// anything afterwards.
    async fn fails_closed(&self) {
        say("the webhook's Service is cut off, and back");
        let service = format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/services/ringfence-webhook");
        let service = self.admin.read(&service).await.expect("the Service");
        let address = service["spec"]["clusterIP"].as_str().expect("an address");
        let [fenced, plain] = [FENCED, &self.plain].map(|namespace| format!("{}?dryRun=All", all("Pod", namespace)));
        let mut unlabelled = pod("open", "default");
        unlabelled["metadata"]["labels"] = json!({});
        // Where the API server is, and before kube-proxy leads on.
        let node = &self.cluster.nodes[0];
        node.run("nft", "add table ip cut");
        node.run("nft", "add chain ip cut out { type filter hook output priority raw ; }");
        node.run("nft", &format!("add rule ip cut out ip daddr {address} drop"));
        let answer = self.lea.post(&fenced, &pod("closed", "triage")).await;
        assert!(
            answer.code == 500 && answer.message().contains("failed calling webhook"),
            "{} {}",
            answer.code,
            answer.message()
        );
        self.lea.post(&plain, &unlabelled).await.ok();
        node.run("nft", "delete table ip cut");
        eventually(SOON, || async {
            let answer = self.lea.try_post(&fenced, &pod("again", "triage")).await?;
            ensure!(answer.code == 201, "{} {}", answer.code, answer.message());
            Ok(())
        })
        .await;
        fence_stands(&self.admin, &self.lea, FENCED).await;
    }

    /// A replica moves before it goes, and the last one stays while no other can run.
    async fn nodes_are_drained(&self) {
        fence_stands(&self.admin, &self.lea, FENCED).await;
        let load = Load::start(&self.lea, FENCED);
        let since = Instant::now();
        self.runs("kubectl drain node-2 --ignore-daemonsets --timeout=110s")
            .await;
        let pods = self.replicas(2).await;
        assert!(
            pods.iter().all(|pod| pod["spec"]["nodeName"] == "node-1"),
            "both moved to node-1"
        );
        load.since(since).await.is_clean("a node is drained");

        let since = Instant::now();
        let said = self
            .fails("kubectl drain node-1 --ignore-daemonsets --timeout=20s")
            .await;
        assert!(said.contains("violate the pod's disruption budget"), "{said}");
        self.replicas(1).await;
        fence_stands(&self.admin, &self.lea, FENCED).await;
        self.runs("kubectl uncordon node-2").await;
        self.replicas(2).await;
        self.runs("kubectl uncordon node-1").await;
        load.since(since).await.is_clean("the last node is drained");
    }

    /// A node that is cut off takes a replica along, and nobody tells it to end. Until the cluster notices, what is sent there fails closed;
    /// nothing is ever decided wrongly, and then the other replica answers everything.
    async fn loses_a_node(&self) {
        let pods = self.replicas(2).await;
        assert_eq!(nodes_of(&pods), BTreeSet::from(NODES), "one replica a node again");
        // The API server keeps to the connection that it has, and the Lease to its holder: both are with node-2 afterwards.
        let [mut first, second] = NODES.map(|node| name_on(&pods, node));
        let leader =
            "kubectl get lease ringfence --namespace ringfence-system --output=jsonpath={.spec.holderIdentity}";
        // Its successor may be the one that gets the Lease.
        for turn in 1.. {
            self.runs(&format!("kubectl delete pod --namespace ringfence-system {first}"))
                .await;
            self.until(leader, |said| !said.stdout.is_empty() && said.stdout != first).await;
            let pods = self.replicas(2).await;
            assert_eq!(nodes_of(&pods), BTreeSet::from(NODES), "its successor runs on node-1");
            if self.runs(leader).await.stdout == second {
                break;
            }
            assert!(turn < TURNS, "the Lease went to node-1 {TURNS} times");
            first = name_on(&pods, NODES[0]);
        }
        let load = Load::start(&self.lea, FENCED);
        load.since(Instant::now()).await.is_clean("before a node is cut off");
        let since = Instant::now();
        say("node-2 is cut off");
        self.cluster.nodes[1].link("down");
        self.until("kubectl get node node-2", |said| said.stdout.contains("NotReady"))
            .await;
        let left = self.replicas(1).await;
        assert_eq!(nodes_of(&left), BTreeSet::from(["node-1"]));
        // No packet tells it that its connection leads nowhere.
        sleep(API_SERVER_FORGETS).await;
        say("the other replica answers everything");
        load.since(Instant::now()).await.is_clean("a node is gone");
        let leads = self.runs(leader).await.stdout;
        assert_eq!(
            left[0]["metadata"]["name"],
            leads.as_str(),
            "the one that is left makes the fences"
        );
        load.since(since).await.is_never_wrong("a node is cut off");
        say("node-2 is back");
        self.cluster.nodes[1].link("up");
        self.until("kubectl get node node-2", |said| !said.stdout.contains("NotReady"))
            .await;
        self.replicas(2).await;
        load.since(Instant::now()).await.is_clean("a node is back");
        fence_stands(&self.admin, &self.lea, FENCED).await;
    }

    /// From the version before to this one and back.
    async fn upgrades_and_rolls_back(&self) {
        let chart = previous(self.cluster.plane.directory());
        let install = command(&self.install, "helm install").replace("charts/ringfence", &chart.display().to_string());
        self.runs(&install).await;
        self.replicas(2).await;
        in_force(&self.admin).await;
        fence_stands(&self.admin, &self.lea, FENCED).await;
        for (change, version) in [("helm upgrade", "0.1.0"), ("helm rollback", "0.0.9")] {
            let load = Load::start(&self.lea, FENCED);
            let since = Instant::now();
            self.runs(command(&self.after, change)).await;
            settled(&self.admin, 2).await;
            let image = format!("registry.example.com/ringfence:{version}");
            for pod in self.replicas(2).await {
                assert_eq!(pod["spec"]["containers"][0]["image"], image.as_str());
            }
            load.since(since).await.is_clean(change);
            fence_stands(&self.admin, &self.lea, FENCED).await;
        }
    }

    /// Pods run everywhere, and nothing is left but definitions and fences.
    async fn uninstalls(&self) {
        self.runs(command(&self.after, "helm uninstall")).await;
        nothing_is_locked(&self.admin, &[FENCED, &self.plain]).await;
        for namespace in [FENCED, &self.plain] {
            self.runs_anything(namespace).await;
        }
        settled(&self.admin, 0).await;
        eventually(SOON, || async {
            let now = objects(&self.cluster.plane).await;
            let left: Vec<&String> = now.difference(&self.before).filter(|line| !stays(line)).collect();
            ensure!(left.is_empty(), "left behind: {left:#?}");
            assert!(
                now.contains(&format!("NetworkPolicy {FENCED}/ringfence")),
                "the fence stays"
            );
            Ok(())
        })
        .await;
    }

    /// Not only admitted.
    async fn runs_anything(&self, namespace: &str) {
        say(&format!("any pod runs in {namespace}"));
        let pod = json!({"metadata": {"name": "anything"}, "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "image": PAUSE,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        }});
        let path = all("Pod", namespace);
        self.admin.post(&path, &pod).await.ok();
        let path = format!("{path}/anything");
        eventually(SOON, || async {
            let pod = self.admin.read(&path).await?;
            ensure!(pod["status"]["phase"] == "Running", "{}", pod["status"]);
            Ok(())
        })
        .await;
        self.admin.delete(&path).await.ok();
        self.admin.gone(&path).await;
    }

    /// The Deployment's pods, once so many run and are ready.
    async fn replicas(&self, count: usize) -> Vec<Value> {
        let path =
            format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/pods?labelSelector=app.kubernetes.io/name=ringfence");
        eventually(SOON, || async {
            self.cluster.is_whole();
            let pods = self.admin.items(&path).await?;
            let ready: Vec<Value> = pods
                .into_iter()
                .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
                .filter(|pod| {
                    let conditions = pod["status"]["conditions"].as_array();
                    let ready = conditions
                        .into_iter()
                        .flatten()
                        .find(|condition| condition["type"] == "Ready");
                    ready.is_some_and(|ready| ready["status"] == "True")
                })
                .collect();
            ensure!(ready.len() == count, "{} ready replicas", ready.len());
            for pod in &ready {
                let status = pod["status"]["containerStatuses"].get(0).context("no status")?;
                ensure!(status["restartCount"] == 0, "{status}");
            }
            Ok(ready)
        })
        .await
    }
}

fn nodes_of(pods: &[Value]) -> BTreeSet<&str> {
    pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect()
}

fn name_on(pods: &[Value], node: &str) -> String {
    let found = pods.iter().find(|pod| pod["spec"]["nodeName"] == node);
    let name = found.and_then(|pod| pod["metadata"]["name"].as_str());
    name.unwrap_or_else(|| panic!("no replica on {node}")).to_owned()
}
