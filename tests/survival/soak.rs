//! Half an hour of everything that goes on in a cluster (`make soak`): memory stays flat, nothing is decided wrongly, nothing falls behind.
//!
//! Bounded by time: `RINGFENCE_SOAK` is how many minutes, 30 without it. The first sixth warms up, and is not compared.

use std::time::{Duration, Instant};

use serde_json::json;
use support::Ringfence;
use support::process::resident;
use tokio::time::sleep;

use crate::fleet::Fleet;
use crate::world::{Actor, POLICIES, all, master, own, pod};

/// Workflows that come, change and go in turn.
const WORKFLOWS: u16 = 50;
/// Pods that are made at once.
const ROLLOUT: u64 = 32;
/// How much memory may grow, and how much later a change may arrive.
const GROWTH: f64 = 1.05;
const LATER: f64 = 1.5;

/// One look: how long the soak had run, what the process held, and how long the last changes took.
struct Look {
    at: Duration,
    kib: f64,
    seconds: f64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes half an hour: make soak"]
async fn memory_and_lag_stay_flat() {
    let minutes: u64 = std::env::var("RINGFENCE_SOAK").map_or(30, |minutes| minutes.parse().expect("minutes"));
    let lasts = Duration::from_secs(60 * minutes);
    let (cluster, ringfence, admin) = own(&["--scan-period=30s"]).await;
    let fleet = Fleet::start(&admin).await;
    let lea = master(&cluster, "lea", &[]).await;
    let started = Instant::now();
    let mut looks = Vec::new();
    let traffic = async {
        tokio::join!(
            reviews(&lea, &fleet.ns, started, lasts),
            policies(&admin, started, lasts),
            changes(&fleet, &ringfence, started, lasts, &mut looks),
        )
    };
    let (reviewed, _, ()) = traffic.await;
    fleet.mends("the soak").await;
    report(&looks, lasts, reviewed);
    let log = ringfence.log();
    let errors = log
        .lines()
        .filter(|line| line.contains("ERROR") || line.contains("panicked"));
    assert_eq!(errors.count(), 0, "{}", ringfence.tail());
    drop(cluster);
}

/// Pods in and out of the fence, as fast as a busy namespace makes them, and all pods of a rollout at once every minute. While it warms up
/// those come one after the other: each thread's heap is as large as the largest work that it ever did, and that must not come late by
/// chance. Returns how many were asked about.
async fn reviews(lea: &Actor, ns: &str, started: Instant, lasts: Duration) -> u64 {
    let path = format!("{}?dryRun=All", all("Pod", ns));
    let (mut asked, mut next) = (0, Duration::ZERO);
    while started.elapsed() < lasts {
        if started.elapsed() >= next {
            rollout(lea, &path, asked).await;
            asked += ROLLOUT;
            let is_warm = started.elapsed() >= lasts / 6;
            next = started.elapsed() + Duration::from_secs(if is_warm { 60 } else { 3 });
        }
        let inside = lea.post(&path, &pod(&format!("in-{asked}"), "first")).await;
        assert_eq!(inside.code, 201, "{}", inside.body);
        let mut outside = pod(&format!("out-{asked}"), "first");
        outside["spec"]["containers"][0]["image"] = json!("evil.example.com/x:1");
        lea.post(&path, &outside).await.refused_by("approved-images");
        asked += 2;
        sleep(Duration::from_millis(50)).await;
    }
    asked
}

/// Every fourth of them is refused.
async fn rollout(lea: &Actor, path: &str, first: u64) {
    let asked = (0..ROLLOUT).map(|number| {
        let mut pod = pod(&format!("rollout-{}", first + number), "first");
        if number % 4 == 3 {
            pod["spec"]["containers"][0]["image"] = json!("evil.example.com/x:1");
        }
        async move { (number % 4 == 3, lea.post(path, &pod).await) }
    });
    for (is_outside, answer) in futures::future::join_all(asked).await {
        assert_eq!(answer.code, if is_outside { 403 } else { 201 }, "{}", answer.body);
    }
}

/// A policy that changes every 20 seconds, and now and then to what cannot work.
async fn policies(admin: &Actor, started: Instant, lasts: Duration) -> u32 {
    let mut edits = 0;
    while started.elapsed() < lasts {
        let source = format!(
            "package soak\n\ndeny contains \"the label forbidden-{edits} is set\" if input.pod.metadata.labels[\"forbidden-{edits}\"]\n"
        );
        let spec = |source: &str| {
            json!({
                "validationActions": ["Deny"],
                "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]},
                "rego": {"modules": [{"name": "soak.rego", "source": source}]},
            })
        };
        let path = format!("{POLICIES}/soak");
        if edits == 0 {
            let object = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "metadata": {"name": "soak"}, "spec": spec(&source)});
            admin.post(POLICIES, &object).await.ok();
        } else if edits % 7 == 6 {
            let broken = json!({"spec": spec("package soak\n\ndeny contains")});
            admin.patch(&path, &broken).await.refused_by("valid-policy");
        } else {
            admin.patch(&path, &json!({"spec": spec(&source)})).await.ok();
        }
        edits += 1;
        sleep(Duration::from_secs(20)).await;
    }
    edits
}

/// Workflows that come, change and go, and a look at the process after each round.
async fn changes(fleet: &Fleet, ringfence: &Ringfence, started: Instant, lasts: Duration, looks: &mut Vec<Look>) {
    let mut round = 0_u16;
    while started.elapsed() < lasts {
        let name = format!("w{}", round % WORKFLOWS);
        let port = 10_000 + round % 50_000;
        let begun = Instant::now();
        if round < WORKFLOWS {
            fleet.declare(&name, port).await;
        } else if round.is_multiple_of(11) {
            fleet.withdraw(&name).await;
            fleet.declare(&name, port).await;
        } else {
            fleet.change(&name, port).await;
        }
        fleet.reaches(&name, port).await;
        looks.push(Look {
            at: started.elapsed(),
            kib: resident(ringfence.pid().expect("a process")).expect("its memory") as f64,
            seconds: begun.elapsed().as_secs_f64(),
        });
        round += 1;
        sleep(Duration::from_millis(500)).await;
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().expect("no look at all")
}

/// The second sixth is compared with the last one.
fn report(looks: &[Look], lasts: Duration, reviewed: u64) {
    let part = |number: u32, of: fn(&Look) -> f64| {
        let (from, to) = (lasts * number / 6, lasts * (number + 1) / 6);
        median(
            looks
                .iter()
                .filter(|look| look.at >= from && look.at < to)
                .map(of)
                .collect(),
        )
    };
    let [(early, late), (soon, then)] =
        [|look: &Look| look.kib, |look: &Look| look.seconds].map(|of| (part(1, of), part(5, of)));
    eprintln!(
        "soak: {reviewed} reviews, {} changes; memory {early:.0} KiB, then {late:.0} KiB; a change took {:.0} ms, then {:.0} ms",
        looks.len(),
        1000.0 * soon,
        1000.0 * then
    );
    let sixths: Vec<String> = (0..6)
        .map(|number| format!("{:.0}", part(number, |look| look.kib)))
        .collect();
    eprintln!("soak: memory by sixths of the time: {} KiB", sixths.join(", "));
    assert!(late <= early * GROWTH, "memory grew from {early} to {late} KiB");
    assert!(
        then <= soon * LATER + 0.05,
        "a change took {soon} s, and {then} s at the end"
    );
}
