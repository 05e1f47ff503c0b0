//! Several replicas: all of them answer, one makes the fences, and another goes on when that one ends, in order or not. On a control
//! plane of its own, because what is started and killed is counted.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use support::{ControlPlane, Options, RELEASE_NAMESPACE, Ringfence, eventually};

use crate::world::{Actor, BINARY, SOON, all, condition, counted, in_force, master, namespace, one, pod, workflow};

/// How long a Lease holds that nobody renews, a look at it, and a slow machine.
const TAKEN_OVER: Duration = Duration::from_secs(30);

struct Scene {
    cluster: ControlPlane,
    admin: Actor,
    lea: Actor,
    fenced: String,
    lease: String,
}

#[tokio::test]
async fn one_replica_makes_the_fences_and_another_goes_on() {
    let cluster = ControlPlane::start(Options::default()).expect("a control plane");
    let first = cluster.start_ringfence(BINARY, &Value::Null).await.expect("ringfence");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let fenced = namespace(&admin, "fenced", &json!({"ringfence.dev/enforce": "default"})).await;
    let lea = master(&cluster, "lea", &[]).await;
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{RELEASE_NAMESPACE}/leases/ringfence");
    let scene = Scene {
        cluster,
        admin,
        lea,
        fenced,
        lease,
    };
    scene.leads(&first, SOON).await;
    let second = scene.start().await;
    only_one_of_them_works(&scene, &first, &second).await;
    // The API server asks at the port of the first: there is somebody again, who does not lead.
    let door = what_ends_in_order_hands_over_at_once(&scene, first, &second).await;
    what_is_killed_is_replaced(&scene, second, &door).await;
    a_lease_that_somebody_takes_is_left_to_them(&scene, &door).await;
    a_lease_that_is_deleted_is_made_again(&scene, &door).await;
}

impl Scene {
    async fn start(&self) -> Ringfence {
        let ports = [(); 2].map(|()| std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port"));
        let [port, metrics] = ports
            .each_ref()
            .map(|port| port.local_addr().expect("an address").port());
        drop(ports);
        self.cluster
            .spawn_ringfence(BINARY, port, metrics)
            .await
            .expect("one more process")
    }

    async fn holder(&self) -> Result<String> {
        let lease = self.admin.read(&self.lease).await?;
        Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    }

    async fn leads(&self, replica: &Ringfence, within: Duration) {
        eventually(within, || async {
            ensure!(leads(replica).await, "it does not lead: {}", replica.tail());
            let holder = self.holder().await?;
            ensure!(holder == identity(replica), "the Lease is held by {holder}");
            Ok(())
        })
        .await;
    }

    /// A new declaration becomes a fence, and its pod is admitted.
    async fn fences(&self, name: &str, within: Duration) {
        let workflows = all("AIWorkflow", &self.fenced);
        self.admin.post(&workflows, &workflow(name, &json!({}))).await.ok();
        eventually(within, || async {
            let found = self.admin.read(&one("AIWorkflow", &self.fenced, name)).await?;
            ensure!(condition(&found, "Ready")["status"] == "True", "{}", found["status"]);
            Ok(())
        })
        .await;
        self.lea.post(&all("Pod", &self.fenced), &pod(name, name)).await.ok();
    }
}

fn identity(replica: &Ringfence) -> String {
    format!("ringfence-{}", replica.port)
}

async fn leads(replica: &Ringfence) -> bool {
    counted(replica, "ringfence_leader", &[]).await == 1.0
}

async fn only_one_of_them_works(scene: &Scene, first: &Ringfence, second: &Ringfence) {
    scene.fences("one", SOON).await;
    assert!(leads(first).await && !leads(second).await);
    assert!(counted(first, "ringfence_reconcile_total", &[]).await > 0.0);
    assert_eq!(counted(second, "ringfence_reconcile_total", &[]).await, 0.0);
    let owner = &scene.admin.read(&scene.lease).await.expect("the Lease")["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["name"]),
        (&json!("ServiceAccount"), &json!("ringfence")),
        "it goes with the release"
    );
}

async fn what_ends_in_order_hands_over_at_once(scene: &Scene, first: Ringfence, second: &Ringfence) -> Ringfence {
    let (port, metrics_port) = (first.port, first.metrics_port);
    let code = first.terminate(Duration::from_secs(30)).await.expect("its end");
    assert_eq!(code, 0);
    let since = Instant::now();
    scene.leads(second, TAKEN_OVER).await;
    assert!(
        since.elapsed() < Duration::from_secs(12),
        "less than a Lease lasts that nobody gave up: {:?}",
        since.elapsed()
    );
    let door = scene.cluster.spawn_ringfence(BINARY, port, metrics_port).await;
    let door = door.expect("a new process at the port of the first");
    assert!(leads(second).await && !leads(&door).await);
    scene.fences("two", SOON).await;
    door
}

async fn what_is_killed_is_replaced(scene: &Scene, dying: Ringfence, heir: &Ringfence) {
    assert!(leads(&dying).await && !leads(heir).await);
    dying.kill();
    // Reviews do not wait for who leads.
    scene
        .lea
        .post(&all("Pod", &scene.fenced), &pod("between", "two"))
        .await
        .ok();
    scene.leads(heir, TAKEN_OVER).await;
    scene.fences("three", SOON).await;
}

/// Two that work would be worse than none for a while.
async fn a_lease_that_somebody_takes_is_left_to_them(scene: &Scene, heir: &Ringfence) {
    let taken = json!({"spec": {"holderIdentity": "somebody"}});
    scene.admin.patch(&scene.lease, &taken).await.ok();
    eventually(Duration::from_secs(10), || async {
        ensure!(!leads(heir).await, "it works on");
        Ok(())
    })
    .await;
    assert_eq!(scene.holder().await.expect("the Lease"), "somebody");
    assert_eq!(
        counted(heir, "ringfence_workflows", &[]).await,
        0.0,
        "its figures are not kept any more"
    );
    let (status, body) = heir.get("/readyz").await.expect("an answer");
    assert_eq!(status, 200, "reviews go on: {body}");
    scene.leads(heir, TAKEN_OVER).await;
    scene.fences("four", SOON).await;
}

async fn a_lease_that_is_deleted_is_made_again(scene: &Scene, heir: &Ringfence) {
    scene.admin.delete(&scene.lease).await.ok();
    scene.leads(heir, SOON).await;
    scene.fences("five", SOON).await;
}
