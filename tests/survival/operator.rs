//! The operator's own process: killed in the middle of its work, and a leader that slept while another one took its place.

use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use support::{ControlPlane, RELEASE_NAMESPACE, Ringfence, eventually};
use tokio::time::sleep;

use crate::fleet::{Fleet, Stranger, again};
use crate::world::{Actor, BINARY, SOON, own};

/// How often it is killed.
const DEATHS: usize = 5;
/// In which time workflows go on being declared: a reconcile takes some hundred milliseconds.
const LIFE: Duration = Duration::from_millis(700);
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces";

#[tokio::test]
async fn killed_again_and_again_in_the_middle_of_its_work() {
    let (cluster, mut ringfence, admin) = own(&["--scan-period=0"]).await;
    let fleet = Fleet::start(&admin).await;
    let stranger = Stranger::start(&admin, &fleet.ns);
    let declaring = async {
        for number in 0..20 {
            fleet.declare(&format!("w{number}"), 1000 + number).await;
            if number % 3 == 0 {
                fleet.change(&format!("w{number}"), 2000 + number).await;
            }
        }
    };
    let dying = async {
        for _ in 0..DEATHS {
            sleep(LIFE).await;
            ringfence = again(&cluster, ringfence).await;
        }
        ringfence
    };
    let ((), ringfence) = tokio::join!(declaring, dying);
    fleet.mends("deaths").await;
    a_leader_that_slept_undoes_nothing(&cluster, &admin, &fleet, &ringfence).await;
    stranger.was_kept_out(&admin, &fleet.ns).await;
}

/// It wakes up in the belief that it leads, with what it was about to write.
async fn a_leader_that_slept_undoes_nothing(cluster: &ControlPlane, admin: &Actor, fleet: &Fleet, door: &Ringfence) {
    // The API server asks at the port of the first. Whoever sleeps must be the other one.
    let ports = [(); 2].map(|()| std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port"));
    let [port, metrics_port] = ports
        .each_ref()
        .map(|port| port.local_addr().expect("an address").port());
    drop(ports);
    let sleeper = cluster
        .spawn_ringfence(BINARY, port, metrics_port)
        .await
        .expect("one more");
    leads_after_the_lease_is_given(admin, &sleeper).await;
    for number in 0..4 {
        fleet.change(&format!("w{number}"), 3000 + number).await;
    }
    let pid = sleeper.pid().expect("a process").to_string();
    signal("STOP", &pid);
    for number in 0..20 {
        fleet.change(&format!("w{number}"), 4000 + number).await;
    }
    eventually(SOON, async || {
        ensure!(crate::fleet::leads(door).await, "nobody took over");
        Ok(())
    })
    .await;
    fleet.mends("a leader that sleeps").await;
    for number in 0..10 {
        fleet.change(&format!("w{number}"), 5000 + number).await;
    }
    signal("CONT", &pid);
    for number in 10..20 {
        fleet.change(&format!("w{number}"), 5000 + number).await;
    }
    fleet.mends("its awakening").await;
    assert!(!crate::fleet::leads(&sleeper).await, "it knows that it does not lead");
}

async fn leads_after_the_lease_is_given(admin: &Actor, heir: &Ringfence) {
    let lease = format!("{LEASE}/{RELEASE_NAMESPACE}/leases/ringfence");
    let holder = serde_json::json!({"spec": {"holderIdentity": format!("ringfence-{}", heir.port)}});
    eventually(SOON, async || {
        // Whoever held it gives way to a name that is written there; whose name it is goes on with it.
        if !crate::fleet::leads(heir).await {
            admin.patch(&lease, &holder).await.ok();
            sleep(Duration::from_secs(3)).await;
        }
        ensure!(crate::fleet::leads(heir).await, "it does not lead");
        Ok(())
    })
    .await;
}

fn signal(name: &str, pid: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), pid])
        .status()
        .expect("kill");
    assert!(sent.success(), "SIG{name} to {pid}");
}
