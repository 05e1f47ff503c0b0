//! The way between the operator and the API server: errors, answers that are lost, watches that are too old, and watches that are silent.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use support::{ControlPlane, Ringfence};
use tokio::time::sleep;

use crate::fleet::{Fleet, Stranger};
use crate::proxy::Proxy;
use crate::world::{Actor, BINARY, own};

/// A worse way than most are: six of a hundred requests fail or are slow.
const ONE_OF: u32 = 17;
/// After that long, a watch that says nothing was asked for again, and looked at.
const NOTICED: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_bad_way_to_the_api_server() {
    let (cluster, ringfence, admin) = own(&["--scan-period=0"]).await;
    let fleet = Fleet::start(&admin).await;
    let stranger = Stranger::start(&admin, &fleet.ns);
    let proxy = Proxy::start(&cluster).await;
    let _ringfence = through(&cluster, ringfence, &proxy).await;
    errors_and_lost_answers(&fleet, &proxy).await;
    watches_that_are_too_old(&fleet, &proxy).await;
    watches_that_say_nothing(&admin, &fleet, &proxy).await;
    stranger.was_kept_out(&admin, &fleet.ns).await;
}

async fn through(cluster: &ControlPlane, direct: Ringfence, proxy: &Proxy) -> Ringfence {
    let (port, metrics_port) = (direct.port, direct.metrics_port);
    direct.kill();
    let flags = ["--scan-period=0".to_owned()];
    let started = cluster.spawn_ringfence_through(BINARY, port, metrics_port, &flags, &proxy.url);
    started.await.expect("ringfence behind the proxy")
}

async fn errors_and_lost_answers(fleet: &Fleet, proxy: &Proxy) {
    proxy.way.one_of.store(ONE_OF, Ordering::SeqCst);
    for number in 0..20 {
        fleet.declare(&format!("w{number}"), 1000 + number).await;
    }
    for number in 0..10 {
        fleet.change(&format!("w{number}"), 2000 + number).await;
    }
    // While it lasts.
    fleet.mends("errors, as they go on").await;
    let failed = proxy.way.failed.load(Ordering::SeqCst);
    assert!(failed >= 20, "{failed} requests failed: too few to say anything");
    proxy.way.one_of.store(0, Ordering::SeqCst);
}

async fn watches_that_are_too_old(fleet: &Fleet, proxy: &Proxy) {
    proxy.way.expired.store(true, Ordering::SeqCst);
    // Those that run end by themselves within a minute: cut short here.
    proxy.way.silence();
    for number in 0..10 {
        fleet.change(&format!("w{number}"), 3000 + number).await;
    }
    sleep(NOTICED).await;
    proxy.way.expired.store(false, Ordering::SeqCst);
    let told = proxy.way.told_expired.load(Ordering::SeqCst);
    assert!(told >= 10, "{told} watches were told that they are too old");
    fleet.mends("watches that were too old").await;
}

/// Nothing tells that they are: the connections stand.
async fn watches_that_say_nothing(admin: &Actor, fleet: &Fleet, proxy: &Proxy) {
    proxy.way.silence();
    let since = Instant::now();
    fleet.change("w0", 4000).await;
    fleet.declare("late", 4001).await;
    fleet.mends("watches that said nothing").await;
    assert!(
        since.elapsed() < NOTICED + Duration::from_secs(30),
        "it took {:?}",
        since.elapsed()
    );
    // And what somebody takes away is put back again.
    let policies = admin
        .items(&crate::world::all("NetworkPolicy", &fleet.ns))
        .await
        .expect("policies");
    assert!(!policies.is_empty());
}
