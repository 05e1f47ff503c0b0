//! What lies below the API server: restarts, a storage that is put back from a copy, one that is full, and our kinds gone and back.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use support::{ControlPlane, Options, Ringfence, eventually, repository};
use tokio::time::sleep;

use crate::fleet::{Fleet, MENDED, Stranger, again};
use crate::world::{Actor, BINARY, SOON, all, in_force, namespace, own};

/// Bytes that etcd may hold, where it is to be full: several times what a control plane holds when it starts.
const QUOTA: u64 = 24 << 20;

#[tokio::test]
async fn a_storage_that_is_put_back_from_a_copy() {
    let (cluster, mut ringfence, admin) = own(&["--scan-period=0"]).await;
    let fleet = Fleet::start(&admin).await;
    let stranger = Stranger::start(&admin, &fleet.ns);
    for number in 0..5 {
        fleet.declare(&format!("w{number}"), 1000 + number).await;
    }
    fleet.mends("declaring").await;

    cluster.restart_api_server().expect("a restart");
    for number in 0..5 {
        fleet.change(&format!("w{number}"), 1100 + number).await;
    }
    fleet.mends("a restart of the API server").await;

    cluster.copy_store().expect("a copy");
    let kept = [
        ("first", 443),
        ("w0", 1100),
        ("w1", 1101),
        ("w2", 1102),
        ("w3", 1103),
        ("w4", 1104),
    ];
    fleet.mends("a copy").await;
    for number in 0..5 {
        fleet.change(&format!("w{number}"), 2000 + number).await;
        fleet.declare(&format!("later{number}"), 2100 + number).await;
    }
    fleet.mends("more").await;
    cluster.restore_store().expect("the copy put back");
    fleet.declared_is(&kept).await;
    ended_by_itself(&mut ringfence).await;
    let ringfence = again(&cluster, ringfence).await;
    fleet.mends("the storage went back").await;
    // What is written now has revisions that were there before.
    fleet.change("w0", 3000).await;
    fleet.declare("late", 3001).await;
    fleet.mends("changes of what went back").await;
    our_kinds_are_gone_and_back(&cluster, &admin, &fleet, &ringfence).await;
    stranger.was_kept_out(&admin, &fleet.ns).await;
}

async fn ended_by_itself(ringfence: &mut Ringfence) {
    let code = tokio::time::timeout(MENDED, async {
        loop {
            if let Some(code) = ringfence.has_ended().expect("a process") {
                return code;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    let code = code
        .await
        .unwrap_or_else(|_| panic!("it goes on with what it has read\n{}", ringfence.tail()));
    assert_ne!(code, 0);
    let said = ringfence.log();
    assert!(
        said.contains("storage was put back from a copy"),
        "{}",
        ringfence.tail()
    );
}

async fn our_kinds_are_gone_and_back(cluster: &ControlPlane, admin: &Actor, fleet: &Fleet, ringfence: &Ringfence) {
    let crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/aiworkflows.ringfence.dev";
    admin.delete(crd).await.ok();
    admin.gone(crd).await;
    fleet.declared_is(&[]).await;
    let crds = repository().join("crds");
    sleep(Duration::from_secs(5)).await;
    let applied = cluster
        .kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            crds.to_str().expect("a path"),
        ])
        .await;
    assert!(applied.as_ref().is_ok_and(|output| output.success), "{applied:?}");
    for number in 0..3 {
        fleet.declare(&format!("w{number}"), 6000 + number).await;
    }
    fleet.mends("our kinds were gone").await;
    eventually(SOON, async || {
        ensure!(ringfence.get("/readyz").await?.0 == 200, "it is not ready");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_storage_that_is_full() {
    let options = Options {
        quota: Some(QUOTA),
        ..Options::default()
    };
    let cluster = ControlPlane::start(options).expect("a control plane");
    let flags = ["--scan-period=0".to_owned()];
    let mut ringfence = cluster
        .start_ringfence_with(BINARY, &Value::Null, &flags)
        .await
        .expect("ringfence");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let fleet = Fleet::start(&admin).await;
    let heap = namespace(&admin, "heap", &json!({})).await;
    fleet.declare("w0", 1000).await;
    fleet.mends("declaring").await;
    let stranger = Stranger::start(&admin, &fleet.ns);
    let many = all("ConfigMap", &heap);
    for number in 0.. {
        let heavy = json!({"metadata": {"name": format!("heavy-{number}")}, "data": {"x": noise(number)}});
        let answer = admin.post(&many, &heavy).await;
        if answer.code != 201 {
            assert!(
                answer.message().contains("database space exceeded"),
                "{}",
                answer.message()
            );
            break;
        }
        assert!(number < 200, "it is never full");
    }
    // Longer than a leader goes on without its Lease.
    sleep(Duration::from_secs(15)).await;
    assert_eq!(ringfence.has_ended().expect("a process"), None, "{}", ringfence.tail());
    let deleted = admin.delete(&many).await;
    assert_eq!(deleted.code, 200, "{}", deleted.message());
    cluster.free_store().expect("room again");
    eventually(SOON, async || {
        let answer = admin.try_post(&many, &json!({"metadata": {"name": "light"}})).await?;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
    fleet.change("w0", 1001).await;
    fleet.declare("w1", 1002).await;
    fleet.mends("the storage was full").await;
    stranger.was_kept_out(&admin, &fleet.ns).await;
}

/// What no compression makes smaller is not needed: etcd does not try.
fn noise(number: u32) -> String {
    format!("{number:08}").repeat(100_000)
}
