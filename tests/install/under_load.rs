//! What happens to replicas while reviews go on: rolled, renewed, told bad policies, killed one by one, and all at once.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use support::{ControlPlane, RELEASE_NAMESPACE, eventually};
use tokio::time::{Instant, sleep, timeout};

use crate::load::Load;
use crate::node::{Node, Running};
use crate::objects::{all, condition, one, pod, workflow};
use crate::release::{declare, fence_stands, found, run, settled};
use crate::sandbox;
use crate::world::{Actor, POLICIES, SOON, in_force, master, namespace, unasked};

const INSTALL: &str = "helm install ringfence charts/ringfence --namespace ringfence-system --create-namespace --wait";
const SECRET: &str = "/api/v1/namespaces/ringfence-system/secrets/ringfence-webhook-tls";
/// The registrations' own `timeoutSeconds`, and what a busy machine takes.
const REFUSED_WITHIN: Duration = Duration::from_secs(8);
/// After an outage: a replica's look at what is there, and a kubelet's probe.
const READY_AGAIN: Duration = Duration::from_secs(6);
/// A Lease that nobody renews, and a look at it.
const TAKEN_OVER: Duration = Duration::from_secs(40);
/// The Lease's fifteen seconds, a look at it, a start of the controllers, and a busy machine.
const WITHOUT_LEADER: Duration = Duration::from_secs(30);

struct Story {
    cluster: ControlPlane,
    node: Node,
    admin: Actor,
    lea: Actor,
    fenced: String,
    plain: String,
    load: Load,
}

pub async fn story() {
    let cluster = sandbox::control_plane();
    let node = Node::join(&cluster).await;
    run(&cluster, INSTALL).await;
    let admin = Actor::new(cluster.admin().await);
    node.ready(2).await;
    in_force(&admin).await;
    let fenced = namespace(&admin, "fenced", &json!({"ringfence.dev/enforce": "default"})).await;
    let plain = namespace(&admin, "plain", &json!({})).await;
    let lea = master(&cluster, "lea", &[]).await;
    declare(&admin, &fenced).await;
    fence_stands(&admin, &lea, &fenced).await;
    let load = Load::start(&lea, &fenced);
    let story = Story {
        cluster,
        node,
        admin,
        lea,
        fenced,
        plain,
        load,
    };
    story.steady().await;
    story.rolls().await;
    story.certificates_are_renewed().await;
    story.authority_is_replaced().await;
    story.policies_arrive().await;
    story.leader_is_deleted().await;
    story.replica_is_asked_to_end().await;
    story.replicas_are_killed().await;
    story.leader_dies_for_good().await;
    story.api_server_restarts().await;
    story.all_die_and_return().await;
}

impl Story {
    async fn steady(&self) {
        self.load.since(Instant::now()).await.is_clean("nothing happens");
    }

    async fn rolls(&self) {
        let (since, before) = (Instant::now(), self.node.ready(2).await);
        run(
            &self.cluster,
            "kubectl rollout restart deployment ringfence --namespace ringfence-system",
        )
        .await;
        run(
            &self.cluster,
            "kubectl rollout status deployment ringfence --namespace ringfence-system --timeout=90s",
        )
        .await;
        let after = self.node.ready(2).await;
        assert!(
            after.iter().all(|new| before.iter().all(|old| old.name != new.name)),
            "{after:?}"
        );
        for old in &before {
            let said = self.node.log(&old.name);
            assert!(said.contains("asked to stop") && said.contains("\"stopped\""), "{said}");
        }
        self.load.since(since).await.is_clean("the Deployment rolls");
    }

    /// Whoever takes the certificate out of the Secret gets a new one, which every replica serves without a new start.
    async fn certificates_are_renewed(&self) {
        let since = Instant::now();
        for _ in 0..2 {
            let pods = self.node.ready(2).await;
            let mut served = Vec::new();
            for pod in &pods {
                served.push(
                    self.figure(pod, "ringfence_certificate_expiry_timestamp_seconds")
                        .await
                        .expect("a figure"),
                );
            }
            // Expiry is told by the second.
            sleep(Duration::from_millis(1100)).await;
            self.admin.patch(SECRET, &json!({"data": {"tls.crt": ""}})).await.ok();
            eventually(SOON, || async {
                for (pod, old) in pods.iter().zip(&served) {
                    let new = self
                        .figure(pod, "ringfence_certificate_expiry_timestamp_seconds")
                        .await?;
                    ensure!(new > *old, "{} still serves the old one", pod.name);
                }
                Ok(())
            })
            .await;
        }
        let restarted = self.node.ready(2).await.iter().map(|pod| pod.restarts).sum::<u32>();
        assert_eq!(restarted, 0);
        self.load
            .since(since)
            .await
            .is_clean("the certificate is renewed, twice");
    }

    /// A CA whose key is lost signs nothing any more: there is a new one, which everybody has to hear of first.
    async fn authority_is_replaced(&self) {
        let (since, pods) = (Instant::now(), self.node.ready(2).await);
        let trusted = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ringfence";
        let bundle = "/webhooks/0/clientConfig/caBundle";
        let old = found(&self.admin, trusted, bundle).await.expect("a bundle");
        self.admin.patch(SECRET, &json!({"data": {"ca.key": ""}})).await.ok();
        eventually(SOON, || async {
            ensure!(
                found(&self.admin, trusted, bundle).await? != old,
                "the old one is trusted"
            );
            for pod in &pods {
                let said = self.node.ask(pod, "/readyz").await?;
                ensure!(said.starts_with("HTTP/1.1 200"), "{}: {said}", pod.name);
            }
            Ok(())
        })
        .await;
        self.load.since(since).await.is_clean("the CA is replaced");
    }

    async fn policies_arrive(&self) {
        let since = Instant::now();
        // One that nobody looked at: written by Ringfence's own name, about which nobody is asked.
        let bad = policy(
            "bad",
            "configmaps",
            "package bad\ndeny contains \"no\" if { input.x.y.z( }",
        );
        unasked(&self.cluster).await.post(POLICIES, &bad).await.ok();
        let good = policy(
            "good",
            "pods",
            "package good\ndeny contains \"is forbidden\" if input.review.object.metadata.labels.forbidden",
        );
        self.admin.post(POLICIES, &good).await.ok();
        let maps = format!("{}?dryRun=All", all("ConfigMap", &self.plain));
        let pods = format!("{}?dryRun=All", all("Pod", &self.fenced));
        let mut forbidden = pod("forbidden", "triage");
        forbidden["metadata"]["labels"]["forbidden"] = json!("yes");
        eventually(SOON, || async {
            let answer = self.lea.try_post(&pods, &forbidden).await?;
            ensure!(
                answer.message().contains("[good]"),
                "not in force: {} {}",
                answer.code,
                answer.message()
            );
            let answer = self.lea.try_post(&maps, &json!({"metadata": {"name": "x"}})).await?;
            ensure!(
                answer.message().contains("[bad]"),
                "does not fail: {} {}",
                answer.code,
                answer.message()
            );
            Ok(())
        })
        .await;
        for name in ["bad", "good"] {
            self.admin.delete(&format!("{POLICIES}/{name}")).await.ok();
        }
        eventually(SOON, || async {
            let answer = self.lea.try_post(&maps, &json!({"metadata": {"name": "x"}})).await?;
            ensure!(answer.code == 201, "{}", answer.message());
            let answer = self.lea.try_post(&pods, &forbidden).await?;
            ensure!(answer.code == 201, "{}", answer.message());
            Ok(())
        })
        .await;
        self.load
            .since(since)
            .await
            .is_clean("a bad policy and a good one come and go");
    }

    async fn leader_is_deleted(&self) {
        let since = Instant::now();
        let old = self.leader().await;
        let path = format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/pods/{}", old.name);
        self.admin.delete(&path).await.ok();
        self.admin.gone(&path).await;
        settled(&self.admin, 2).await;
        self.node.ready(2).await;
        assert_ne!(self.leader().await.name, old.name);
        self.load.since(since).await.is_clean("the leader's pod is deleted");
    }

    /// A machine that goes down asks its processes to end, and nobody deletes their pods first: only the probe tells the Service.
    async fn replica_is_asked_to_end(&self) {
        let (since, leader) = (Instant::now(), self.leader().await);
        let pods = self.node.ready(2).await;
        let ending = pods.iter().find(|pod| pod.name != leader.name).expect("another pod");
        self.node.terminate(ending);
        eventually(SOON, || async {
            ensure!(
                self.node.pod(&ending.name).restarts > ending.restarts,
                "it has not ended yet"
            );
            Ok(())
        })
        .await;
        self.node.ready(2).await;
        self.load.since(since).await.is_clean("a replica is asked to end");
    }

    /// What is killed cannot answer. The API server asks once, and does not ask another replica: what was with the dead one, and what goes
    /// to it until the Service forgets it, is refused with a failure, and no more than that.
    async fn replicas_are_killed(&self) {
        let leader = self.leader().await;
        let others: Vec<Running> = self
            .node
            .ready(2)
            .await
            .into_iter()
            .filter(|pod| pod.name != leader.name)
            .collect();
        for (what, dying) in [("a replica is killed", &others[0]), ("the leader is killed", &leader)] {
            let killed = Instant::now();
            self.node.kill(dying);
            eventually(SOON, || async {
                ensure!(
                    !self.addresses().await?.contains(&dying.address.to_string()),
                    "still an endpoint"
                );
                Ok(())
            })
            .await;
            let forgotten = Instant::now();
            self.node.ready(2).await;
            eventually(TAKEN_OVER, || async {
                let holder = self.leader().await;
                ensure!(
                    self.figure(&holder, "ringfence_leader").await? == 1.0,
                    "{} does not lead yet",
                    holder.name
                );
                Ok(())
            })
            .await;
            let tally = self.load.since(killed).await;
            tally.is_never_wrong(what);
            assert!(tally.unasked.is_empty(), "{}", tally.said());
            let margin = Duration::from_millis(500);
            let late: Vec<_> = tally.lost.iter().filter(|one| one.sent > forgotten + margin).collect();
            assert!(late.is_empty(), "{what}: lost after the Service forgot it: {late:?}");
            assert!(tally.lost.len() <= 20, "{what}: {}", tally.said());
        }
    }

    /// Its machine is gone: nobody deletes the pod, and nobody starts it again. The other replica makes the fences once the Lease has run out.
    async fn leader_dies_for_good(&self) {
        let (killed, leader) = (Instant::now(), self.leader().await);
        self.node.kill_for_good(&leader);
        // A name that no fence was made for before.
        let declared = workflow("orphaned", &json!({"identity": {"serviceAccountName": "orphaned"}}));
        eventually(SOON, || async {
            let answer = self.admin.try_post(&all("AIWorkflow", &self.fenced), &declared).await?;
            // What goes to the dead one until the Service forgets it is refused.
            ensure!(answer.code == 201 || answer.code == 409, "{}", answer.message());
            Ok(())
        })
        .await;
        eventually(TAKEN_OVER, || async {
            let found = self.admin.read(&one("AIWorkflow", &self.fenced, "orphaned")).await?;
            ensure!(condition(&found, "Ready")["status"] == "True", "{}", found["status"]);
            Ok(())
        })
        .await;
        let took = killed.elapsed();
        eprintln!("load: the leader dies for good: a new fence stands after {took:?}");
        assert!(took < WITHOUT_LEADER, "a fence took {took:?}");
        assert_ne!(self.leader().await.name, leader.name);
        let tally = self.load.since(killed).await;
        tally.is_never_wrong("the leader dies for good");
        assert!(tally.lost.len() <= 20 && tally.unasked.is_empty(), "{}", tally.said());
        let path = format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/pods/{}", leader.name);
        assert!(
            self.admin.is_there(&path).await.expect("an answer"),
            "the pod is not deleted by anybody"
        );
        self.admin.delete(&path).await.ok();
        self.admin.gone(&path).await;
        settled(&self.admin, 2).await;
        self.node.ready(2).await;
    }

    /// While it is away nobody is asked, and replicas are not ready, because they cannot know what is in force. What kubelets say of that
    /// when it is back holds until their next probe.
    async fn api_server_restarts(&self) {
        let since = Instant::now();
        self.cluster.restart_api_server().expect("a signal");
        let default = "/api/v1/namespaces/default";
        eventually(SOON, || async {
            // One that is asked while it ends may never answer.
            let answer = timeout(Duration::from_secs(2), self.admin.read(default)).await;
            ensure!(!matches!(answer, Ok(Ok(_))), "it has not ended yet");
            Ok(())
        })
        .await;
        eventually(SOON, || async { self.admin.read(default).await }).await;
        let back = Instant::now();
        // As long as it takes until every watch and every client is back.
        sleep(Duration::from_secs(15)).await;
        let tally = self.load.since(since).await;
        tally.is_never_wrong("the API server restarts");
        let late: Vec<_> = tally.lost.iter().filter(|one| one.sent > back + READY_AGAIN).collect();
        assert!(late.is_empty(), "{late:?}");
        self.node.ready(2).await;
        fence_stands(&self.admin, &self.lea, &self.fenced).await;
    }

    /// Fenced namespaces refuse within the timeout, the others go on, and nobody has to do anything when replicas are back.
    async fn all_die_and_return(&self) {
        let since = Instant::now();
        self.node.kill_all().await;
        eventually(SOON, || async {
            ensure!(self.addresses().await?.is_empty(), "still endpoints");
            Ok(())
        })
        .await;
        let dead = Instant::now();
        let pods = format!("{}?dryRun=All", all("Pod", &self.fenced));
        let elsewhere = format!("{}?dryRun=All", all("Pod", &self.plain));
        for number in 0..5 {
            let asked = Instant::now();
            let answer = self.lea.post(&pods, &pod(&format!("closed-{number}"), "triage")).await;
            assert!(
                answer.message().contains("failed calling webhook"),
                "{}",
                answer.message()
            );
            assert!(asked.elapsed() < REFUSED_WITHIN, "{:?}", asked.elapsed());
            let mut unlabelled = pod(&format!("open-{number}"), "default");
            unlabelled["metadata"]["labels"] = json!({});
            self.lea.post(&elsewhere, &unlabelled).await.ok();
            self.lea
                .post(
                    &all("ConfigMap", &self.fenced),
                    &json!({"metadata": {"generateName": "c-"}}),
                )
                .await
                .ok();
            sleep(Duration::from_millis(200)).await;
        }
        self.load.since(dead).await.is_never_wrong("every replica is dead");
        self.node.go_on();
        self.node.ready(2).await;
        eventually(SOON, || async {
            ensure!(self.addresses().await?.len() == 2, "the Service does not know them yet");
            Ok(())
        })
        .await;
        let back = Instant::now();
        fence_stands(&self.admin, &self.lea, &self.fenced).await;
        sleep(Duration::from_secs(3)).await;
        self.load
            .since(back + Duration::from_millis(500))
            .await
            .is_clean("they are back");
        let wrong = self.load.since(since).await;
        assert!(
            wrong.lost.iter().all(|one| one.took < REFUSED_WITHIN),
            "{}",
            wrong.said()
        );
    }

    /// Who makes the fences.
    async fn leader(&self) -> Running {
        let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{RELEASE_NAMESPACE}/leases/ringfence");
        let found = eventually(TAKEN_OVER, || async {
            let lease = self.admin.read(&lease).await?;
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
            ensure!(
                self.node.pods().iter().any(|pod| pod.name == holder),
                "{holder:?} holds the Lease"
            );
            Ok(holder)
        })
        .await;
        self.node.pod(&found)
    }

    /// What the Service leads to.
    async fn addresses(&self) -> Result<Vec<String>> {
        let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{RELEASE_NAMESPACE}/endpointslices");
        let slices = self.admin.items(&slices).await?;
        let endpoints = slices
            .iter()
            .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        let addresses = ready.flat_map(|endpoint| endpoint["addresses"].as_array().into_iter().flatten());
        Ok(addresses.filter_map(Value::as_str).map(str::to_owned).collect())
    }

    async fn figure(&self, pod: &Running, name: &str) -> Result<f64> {
        self.node.figure(pod, name).await
    }
}

fn policy(name: &str, resource: &str, source: &str) -> Value {
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": [resource], "operations": ["CREATE"]});
    json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "metadata": {"name": name},
        "spec": {
            "validationActions": ["Deny"], "failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]},
            "rego": {"modules": [{"name": "policy.rego", "source": source}]},
        },
    })
}
