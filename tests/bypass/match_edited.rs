//! Door: what a RegoPolicy refuses before its match is edited, and after, is written in between: by a registration of the one version, asked of a
//! replica that has the other.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use support::{ControlPlane, Options, RELEASE_NAMESPACE, Ringfence, eventually};
use tokio::time::sleep;

use crate::world::{Actor, Answer, BINARY, POLICIES, SOON, all, condition, counted, in_force, master, namespace, own};

const NAME: &str = "no-x";
/// How often it is edited under a writer who tries all the time.
const EDITS: usize = 5;

/// Each version of it selects `c: x`, and something else.
fn policy(namespace: &str, version: usize) -> Value {
    json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "metadata": {"name": NAME},
        "spec": {
            "validationActions": ["Deny"],
            "matchConstraints": {
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "objectSelector": {"matchExpressions": [{"key": "c", "operator": "In", "values": ["x", format!("y{version}")]}]},
            },
            "rego": {"modules": [{"name": "policy.rego", "source": "package p\ndeny contains \"it is x\"\n"}]},
        },
    })
}

/// The same as a file.
fn file(version: usize) -> String {
    format!(
        "# METADATA\n# title: no x\n# description: of a test\n# custom:\n#   name: {NAME}\n#   severity: low\n#   remediation: take it off\n\
         #   scope: object\n#   match:\n#     resourceRules:\n#     - apiGroups: [\"\"]\n#       apiVersions: [v1]\n#       resources: [configmaps]\n\
         #       operations: [CREATE]\n#     objectSelector:\n#       matchExpressions: [{{key: c, operator: In, values: [x, y{version}]}}]\n\
         #   controls: []\n#   parameters: {{}}\npackage ringfence.no_x\n\ndeny contains \"it is x\"\n"
    )
}

/// Somebody whom nothing but the policy refuses.
struct Writer {
    lea: Actor,
    namespace: String,
}

impl Writer {
    async fn tries(&self) -> Answer {
        let path = format!("{}?dryRun=All", all("ConfigMap", &self.namespace));
        let body = json!({"metadata": {"generateName": "c-", "labels": {"c": "x"}}, "data": {"k": "v"}});
        self.lea.post(&path, &body).await
    }

    async fn is_refused(&self) -> Result<()> {
        let answer = self.tries().await;
        ensure!(answer.message().contains("it is x"), "not yet: {}", answer.body);
        Ok(())
    }

    /// By the policy or, where a replica waits for what it was not told yet, by no verdict. Never written.
    async fn does_not_pass(&self) {
        let answer = self.tries().await;
        assert!(answer.code >= 400, "it passed: {}", answer.body);
    }
}

async fn writer(cluster: &ControlPlane, admin: &Actor) -> Writer {
    Writer {
        lea: master(cluster, "lea", &[]).await,
        namespace: namespace(admin, "plain", &json!({})).await,
    }
}

async fn enforced(admin: &Actor) -> Result<()> {
    let policy = admin.read(&format!("{POLICIES}/{NAME}")).await?;
    let generation = &policy["metadata"]["generation"];
    for type_ in ["Compiled", "Enforced"] {
        let found = condition(&policy, type_);
        let is_now = found["observedGeneration"] == *generation && found["status"] == "True";
        ensure!(is_now, "{}", policy["status"]);
    }
    Ok(())
}

/// A cluster of its own, whose policy refuses the writer.
async fn refused() -> (ControlPlane, Ringfence, Actor, Writer) {
    let (cluster, ringfence, admin) = own(&["--scan-period=0"]).await;
    let writer = writer(&cluster, &admin).await;
    admin.post(POLICIES, &policy(&writer.namespace, 0)).await.ok();
    eventually(SOON, || enforced(&admin)).await;
    eventually(SOON, || writer.is_refused()).await;
    (cluster, ringfence, admin, writer)
}

/// The platform narrows a policy, and somebody tries all the time.
///
/// Held by: `operator`
#[tokio::test]
async fn somebody_writes_while_the_match_of_a_policy_is_edited() {
    let (_cluster, _ringfence, admin, writer) = refused().await;
    let is_over = AtomicBool::new(false);
    let writes = async {
        while !is_over.load(Ordering::Relaxed) {
            writer.does_not_pass().await;
        }
    };
    let edits = async {
        for version in 1..=EDITS {
            let edited = json!({"spec": policy(&writer.namespace, version)["spec"]});
            admin.patch(&format!("{POLICIES}/{NAME}"), &edited).await.ok();
            eventually(SOON, || enforced(&admin)).await;
            // Until the API server asks by the new registration.
            sleep(Duration::from_secs(1)).await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(writes, edits);
    writer.is_refused().await.expect("it refuses on");
    // What is selected no more is nobody's to refuse, whatever was asked by the way.
    let path = format!("{}?dryRun=All", all("ConfigMap", &writer.namespace));
    let other = json!({"metadata": {"generateName": "c-", "labels": {"c": "y0"}}});
    writer.lea.post(&path, &other).await.ok();
}

/// The replica that led has died, so the registration stays what it was until another one leads.
///
/// Held by: `operator`
#[tokio::test]
async fn somebody_writes_while_the_match_is_edited_and_nobody_leads() {
    let (_cluster, ringfence, admin, writer) = refused().await;
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{RELEASE_NAMESPACE}/leases/ringfence");
    let held = json!({"spec": {"holderIdentity": "somebody"}});
    admin.patch(&lease, &held).await.ok();
    eventually(SOON, || async {
        ensure!(counted(&ringfence, "ringfence_leader", &[]).await != 1.0, "it leads");
        Ok(())
    })
    .await;
    let edited = json!({"spec": policy(&writer.namespace, 1)["spec"]});
    admin.patch(&format!("{POLICIES}/{NAME}"), &edited).await.ok();
    let mut tries = 0;
    while enforced(&admin).await.is_err() {
        writer.does_not_pass().await;
        tries += 1;
        assert!(tries < 1200, "nobody leads again");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(tries > 20, "the Lease was over at once: {tries}");
    eventually(SOON, || writer.is_refused()).await;
}

/// Replicas of two versions, whose shipped policies match by other words, answer side by side; one of the old ones leads.
///
/// Held by: `operator`
#[tokio::test]
async fn somebody_writes_while_an_upgrade_brings_another_match() {
    let cluster = ControlPlane::start(Options::default()).expect("a control plane");
    let [old, new] = [0, 1].map(|version| {
        let folder = cluster.directory().join(format!("policies-{version}"));
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(folder.join("no-x.rego"), file(version)).expect("a policy");
        [format!("--policies={}", folder.display()), "--scan-period=0".to_owned()]
    });
    let first = cluster.start_ringfence_with(BINARY, &Value::Null, &old).await;
    let first = first.expect("ringfence");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let writer = writer(&cluster, &admin).await;
    eventually(SOON, || writer.is_refused()).await;
    let (port, metrics) = (first.port, first.metrics_port);
    let ports = [(); 2].map(|()| TcpListener::bind(("127.0.0.1", 0)).expect("a port"));
    let [own, of_metrics] = ports.map(|port| port.local_addr().expect("an address").port());
    let leader = cluster.spawn_ringfence_with(BINARY, own, of_metrics, &old).await;
    let leader: Ringfence = leader.expect("another old one");
    first.terminate(Duration::from_secs(60)).await.expect("its end");
    eventually(SOON, || async {
        ensure!(
            counted(&leader, "ringfence_leader", &[]).await == 1.0,
            "it does not lead"
        );
        Ok(())
    })
    .await;
    let _new = cluster
        .spawn_ringfence_with(BINARY, port, metrics, &new)
        .await
        .expect("a new one");
    eventually(SOON, || writer.is_refused()).await;
    for _ in 0..20 {
        writer.does_not_pass().await;
        sleep(Duration::from_millis(100)).await;
    }
    leader.kill();
    eventually(SOON, || writer.is_refused()).await;
}
