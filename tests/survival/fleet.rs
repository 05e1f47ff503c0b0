//! Workflows that are declared alike, and the question whether all of them have what the first has, once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Ringfence, eventually};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::world::{Actor, SOON, all, condition, namespace, one, pod, workflow};

/// Kinds of what a workflow owns.
const OWNED: [&str; 4] = ["ServiceAccount", "Role", "RoleBinding", "NetworkPolicy"];
/// Between two tries of somebody whose request was not answered, or refused because nobody could judge it.
const PATIENCE: Duration = Duration::from_millis(100);
/// Until the operator has noticed, begun anew, and done everything.
pub const MENDED: Duration = Duration::from_secs(120);

pub struct Fleet {
    admin: Actor,
    pub ns: String,
    /// The port that each workflow may reach.
    declared: Mutex<BTreeMap<String, u16>>,
    /// What the first one owned in quiet times, without names.
    pattern: Vec<String>,
}

impl Fleet {
    /// Declares the first one, and takes what it owns as what each owns.
    pub async fn start(admin: &Actor) -> Self {
        let ns = namespace(admin, "fleet", &json!({"ringfence.dev/enforce": "default"})).await;
        let class = json!({"spec": {"images": {"allowed": ["registry.example.com/**"]}, "network": {"cidrs": ["203.0.113.0/24"]},
            "permissions": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}});
        admin
            .patch("/apis/ringfence.dev/v1alpha1/aiworkflowclasses/default", &class)
            .await
            .ok();
        let mut fleet = Self {
            admin: admin.clone(),
            ns,
            declared: Mutex::default(),
            pattern: Vec::new(),
        };
        fleet.declare("first", 443).await;
        let read = async || {
            fleet.is_ready("first").await?;
            let owned = fleet.owned().await?;
            let (_, owned) = owned.into_iter().next().context("the first one owns nothing")?;
            ensure!(owned.len() == OWNED.len(), "it owns something else: {owned:?}");
            Ok(owned)
        };
        fleet.pattern = eventually(SOON, read).await;
        fleet
    }

    /// As somebody does who tries again until it is there.
    pub async fn declare(&self, name: &str, port: u16) {
        let rules =
            json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["settings"], "verbs": ["get"]}]);
        let object = workflow(
            name,
            &json!({"permissions": {"rules": rules}, "network": {"egress": egress(port)}}),
        );
        eventually(MENDED, async || {
            let answer = self.admin.try_post(&all("AIWorkflow", &self.ns), &object).await?;
            // An answer that was lost on its way.
            ensure!(matches!(answer.code, 201 | 409), "{} {}", answer.code, answer.message());
            Ok(())
        })
        .await;
        self.declared.lock().await.insert(name.to_owned(), port);
    }

    pub async fn change(&self, name: &str, port: u16) {
        let change = json!({"spec": {"network": {"egress": egress(port)}}});
        eventually(MENDED, async || {
            let answer = self
                .admin
                .try_patch(&one("AIWorkflow", &self.ns, name), &change)
                .await?;
            ensure!(answer.code == 200, "{} {}", answer.code, answer.message());
            Ok(())
        })
        .await;
        self.declared.lock().await.insert(name.to_owned(), port);
    }

    pub async fn withdraw(&self, name: &str) {
        let path = one("AIWorkflow", &self.ns, name);
        self.admin.delete(&path).await.ok();
        self.admin.gone(&path).await;
        self.declared.lock().await.remove(name);
    }

    /// Waits until the NetworkPolicies of a workflow open that port.
    pub async fn reaches(&self, name: &str, port: u16) {
        let of = format!(
            "{}?labelSelector=ringfence.dev/owner={name}",
            all("NetworkPolicy", &self.ns)
        );
        let wanted = format!("\"port\":{port}");
        // Looked at often: how long it took is measured by it.
        let begun = Instant::now();
        loop {
            let policies = self.admin.items(&of).await.unwrap_or_else(|error| panic!("{error:#}"));
            if policies
                .iter()
                .any(|policy| policy["spec"].to_string().contains(&wanted))
            {
                return;
            }
            assert!(begun.elapsed() < SOON, "{name} does not reach {port}: {policies:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// What the storage holds is what is declared: after somebody else has put it back.
    pub async fn declared_is(&self, declared: &[(&str, u16)]) {
        *self.declared.lock().await = declared
            .iter()
            .map(|(name, port)| ((*name).to_owned(), *port))
            .collect();
    }

    /// Waits until everything is as declared, and looks whether it stays so.
    pub async fn mends(&self, what: &str) {
        eprintln!("survival: after {what}");
        eventually(MENDED, async || self.is_as_declared().await).await;
        sleep(Duration::from_secs(3)).await;
        self.is_as_declared()
            .await
            .unwrap_or_else(|error| panic!("after {what} it did not stay: {error:#}"));
    }

    async fn is_as_declared(&self) -> Result<()> {
        let declared = self.declared.lock().await.clone();
        let there = self.admin.items(&all("AIWorkflow", &self.ns)).await?;
        let names: Vec<_> = there
            .iter()
            .filter_map(|workflow| workflow["metadata"]["name"].as_str())
            .collect();
        ensure!(
            names.iter().copied().eq(declared.keys().map(String::as_str)),
            "{names:?} are there, {declared:?} declared"
        );
        let mut uids = BTreeMap::new();
        for workflow in &there {
            let name = workflow["metadata"]["name"].as_str().context("a name")?;
            self.is_ready(name).await?;
            uids.insert(
                workflow["metadata"]["uid"].as_str().context("a uid")?.to_owned(),
                declared[name],
            );
        }
        let owned = self.owned().await?;
        ensure!(
            owned.keys().eq(uids.keys()),
            "owners without a workflow, or without anything: {:?} own, {uids:?} are",
            owned.keys()
        );
        for (uid, has) in owned {
            let port = format!("\"port\":{}", uids[&uid]);
            let wanted: Vec<_> = self
                .pattern
                .iter()
                .map(|text| text.replace("\"port\":443", &port))
                .collect();
            ensure!(
                has == wanted,
                "{uid} has\n{}\nand not\n{}",
                has.join("\n"),
                wanted.join("\n")
            );
        }
        Ok(())
    }

    async fn is_ready(&self, name: &str) -> Result<()> {
        let workflow = self.admin.read(&one("AIWorkflow", &self.ns, name)).await?;
        let ready = condition(&workflow, "Ready");
        ensure!(
            ready["status"] == "True" && ready["observedGeneration"] == workflow["metadata"]["generation"],
            "{name} is not ready: {}",
            workflow["status"]
        );
        Ok(())
    }

    /// By owner's uid, what it owns: sorted, and without what differs between two that are declared alike.
    async fn owned(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for kind in OWNED {
            let labelled = format!("{}?labelSelector=ringfence.dev/owner", all(kind, &self.ns));
            for object in self.admin.items(&labelled).await? {
                let metadata = &object["metadata"];
                // The namespace's own.
                if metadata["name"] == ringfence::api::DEFAULT_DENY_NAME {
                    continue;
                }
                let uid = metadata["annotations"]["ringfence.dev/owner-uid"].as_str();
                let uid = uid.with_context(|| format!("{kind} {metadata} has no owner"))?;
                let owner = metadata["labels"]["ringfence.dev/owner"].as_str().context("an owner")?;
                found
                    .entry(uid.to_owned())
                    .or_default()
                    .push(nameless(kind, &object, owner));
            }
        }
        for owned in found.values_mut() {
            owned.sort_unstable();
        }
        Ok(found)
    }
}

fn egress(port: u16) -> Value {
    json!([{"name": "model", "to": {"cidrs": ["203.0.113.0/24"]}, "ports": [{"port": port}]}])
}

/// What an object says, but for whose it is: the name of its owner, and what of names is made of a uid.
fn nameless(kind: &str, object: &Value, owner: &str) -> String {
    let mut said = object.clone();
    if let Some(said) = said.as_object_mut() {
        for field in ["metadata", "status", "secrets"] {
            said.remove(field);
        }
        if let Some(role) = said.get_mut("roleRef").and_then(Value::as_object_mut) {
            role.remove("name");
        }
    }
    format!(
        "{kind} {}",
        said.to_string().replace(&format!("\"{owner}\""), "\"OWNER\"")
    )
}

/// Somebody who makes a pod without a fence, again and again, for as long as this lives.
pub struct Stranger(JoinHandle<u32>);

impl Stranger {
    pub fn start(admin: &Actor, ns: &str) -> Self {
        let (admin, path) = (admin.clone(), all("Pod", ns));
        Self(tokio::spawn(async move {
            let mut refused = 0;
            for number in 0_u32.. {
                let mut stranger = pod(&format!("stranger-{number}"), "first");
                stranger["metadata"]["labels"] = json!({"app": "stranger"});
                // No answer is no pod: whether one is there all the same is asked at the end.
                if let Ok(answer) = admin.try_post(&path, &stranger).await {
                    assert!(
                        answer.code >= 400,
                        "a pod without a fence was admitted: {} {}",
                        answer.code,
                        answer.body
                    );
                    refused += u32::from(answer.code == 403);
                }
                sleep(PATIENCE).await;
            }
            refused
        }))
    }

    /// Nothing was let through, and there was somebody to refuse it.
    pub async fn was_kept_out(self, admin: &Actor, ns: &str) {
        self.0.abort();
        match self.0.await {
            Err(ended) if ended.is_cancelled() => {}
            ended => panic!("the stranger was let in: {ended:?}"),
        }
        let pods = eventually(SOON, async || admin.items(&all("Pod", ns)).await).await;
        assert!(pods.is_empty(), "{pods:?}");
    }
}

/// Starts a process anew under the same address, as a kubelet does.
pub async fn again(cluster: &support::ControlPlane, ended: Ringfence) -> Ringfence {
    let (port, metrics_port) = (ended.port, ended.metrics_port);
    ended.kill();
    let started = cluster.spawn_ringfence(crate::world::BINARY, port, metrics_port).await;
    started.expect("ringfence again")
}

pub async fn leads(replica: &Ringfence) -> bool {
    crate::world::counted(replica, "ringfence_leader", &[]).await == 1.0
}
