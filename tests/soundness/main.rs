//! The fence as a whole: people do what comes to their minds, in any order, on a real API server; then a checker that shares no code with
//! the fence looks at what there is, and whether the five promises are kept. It looks both ways: what is legitimate may not be refused.
//!
//! The sequences come from a seed, which is printed. `RINGFENCE_SEED` gives another one, `RINGFENCE_CASES` and `RINGFENCE_LENGTH` more
//! and longer ones. A sequence is not shortened when it fails: each step is a request to a real server.

mod act;
mod breaks;
mod checker;
mod declarations;
mod fit;
mod images;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/objects.rs"]
mod objects;
mod operations;
mod past;
mod place;
mod rights;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with tests/cluster, which needs all of it"
)]
#[path = "../cluster/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use checker::{Broken, broken};
use futures::future::join_all;
use operations::sequence;
use place::Place;
use serde_json::{Value, json};
use support::Identity;
use support::network::Simulator;
use tokio::sync::Mutex;
use world::{BINARY, World, own, tenant_everywhere};

/// Gave sequences that do a lot; any other one will do.
const SEED: u64 = 3;
const CASES: u64 = 12;
const LENGTH: u64 = 25;
/// How long controllers may take, after the last act, to do what they do.
const SETTLES: Duration = Duration::from_secs(30);

fn setting(name: &str, usual: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(usual, |given| {
        given.parse().unwrap_or_else(|error| panic!("{name}={given}: {error}"))
    })
}

/// A control plane of these tests alone, which lasts as long as the process.
async fn world() -> World {
    let (cluster, ringfence, admin) = own(&["--scan-period=0", "--egress-proxy"]).await;
    let tess = tenant_everywhere(&cluster, &admin).await;
    place::helpdesk(&admin).await;
    World {
        cluster: Box::leak(Box::new(cluster)),
        ringfence: Box::leak(Box::new(ringfence)),
        admin,
        tess,
    }
}

/// Lets each place have its sequence, all at once.
async fn live(places: &mut [Place], seed: u64, length: u64) {
    let sequences = places.iter_mut().zip(0..).map(|(place, case)| async move {
        // Every third place stood before its fence, and every third is without it for a while.
        let sequence = sequence(seed, case, length as usize, case % 3 == 1);
        let before = if place.left.1.is_empty() {
            length as usize / 4
        } else {
            0
        };
        for (index, (who, operation)) in sequence.iter().enumerate() {
            if index == before && place.left.1.is_empty() && case % 3 == 2 {
                place.begin().await;
            }
            place.act(*who, operation).await;
        }
        place.fence(true).await;
        place.quiet().await;
    });
    join_all(sequences).await;
}

/// What a scan of the whole cluster tells.
async fn scan(world: &World) -> Vec<Value> {
    let said = world
        .cluster
        .ringfence_as(&Identity::Admin, BINARY, &["scan", "-o", "json"])
        .await;
    let said = said.expect("ringfence");
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(report["summary"]["complete"], true, "{said}");
    report["findings"].as_array().cloned().unwrap_or_default()
}

/// The promises that are not kept, by place.
async fn look(world: &World, places: &[Place], simulator: &Mutex<Simulator>) -> Vec<Vec<Broken>> {
    let findings = scan(world).await;
    let mut found = Vec::new();
    for place in places {
        let mut seen = place
            .seen(simulator)
            .await
            .unwrap_or_else(|error| panic!("{}: {error:#}", place.ns));
        let of_place = |finding: &&Value| {
            let workflow = finding["workflow"].as_str().unwrap_or_default();
            finding["namespace"] == place.ns.as_str()
                || workflow.starts_with(&format!("{}/", place.ns))
                || finding["namespace"] == ""
        };
        seen.findings = findings.iter().filter(of_place).cloned().collect();
        found.push(broken(&seen, &place.past));
    }
    found
}

#[tokio::test]
async fn whatever_people_do_in_whatever_order_the_five_promises_are_kept() {
    let (seed, cases) = (setting("RINGFENCE_SEED", SEED), setting("RINGFENCE_CASES", CASES));
    let length = setting("RINGFENCE_LENGTH", LENGTH);
    println!("RINGFENCE_SEED={seed} RINGFENCE_CASES={cases} RINGFENCE_LENGTH={length}");
    let world = world().await;
    let simulator = Mutex::new(Simulator::start().expect("the simulator"));
    let mut places = join_all((0..cases).map(|case| Place::new(&world, case % 3 == 2))).await;
    live(&mut places, seed, length).await;
    let end = Instant::now() + SETTLES;
    let mut found = look(&world, &places, &simulator).await;
    while found.iter().any(|found| !found.is_empty()) && Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(2)).await;
        found = look(&world, &places, &simulator).await;
    }
    let mut told = String::new();
    for (place, found) in places.iter().zip(&found).filter(|(_, found)| !found.is_empty()) {
        let lines: Vec<String> = found.iter().map(Broken::to_string).collect();
        let (lines, trail) = (lines.join("\n  "), place.trail.join("\n    "));
        told.push_str(&format!("{}:\n  {lines}\n  after\n    {trail}\n", place.ns));
    }
    assert!(told.is_empty(), "RINGFENCE_SEED={seed}: promises are not kept:\n{told}");
    let admitted: usize = places.iter().map(|place| place.past.writes.len()).sum();
    let refused: usize = places.iter().map(|place| place.past.refusals.len()).sum();
    println!("{admitted} acts were admitted, {refused} refused by the fence");
    let acts = usize::try_from(cases * length).unwrap_or(usize::MAX);
    assert!(
        admitted * 20 > acts && refused * 20 > acts,
        "too little happens: {admitted} admitted, {refused} refused of {acts}"
    );
}

/// The same acts on a cluster whose guards somebody took away: if the checker found nothing there, it would find nothing anywhere.
#[tokio::test]
async fn without_its_guards_the_same_acts_break_each_promise_but_the_last() {
    let world = world().await;
    let simulator = Mutex::new(Simulator::start().expect("the simulator"));
    let mut places = join_all((0..8).map(|_| Place::new(&world, false))).await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    // With it the operator would put the registrations back.
    let rendered = "/api/v1/namespaces/ringfence-system/configmaps/ringfence-registrations";
    world.admin.delete(rendered).await.ok();
    for kind in ["validatingadmissionpolicybindings", "validatingwebhookconfigurations"] {
        for object in world.admin.items(&format!("{group}/{kind}")).await.unwrap() {
            let name = object["metadata"]["name"].as_str().unwrap();
            world.admin.delete(&format!("{group}/{kind}/{name}")).await.ok();
        }
    }
    // Until the API server has seen it too.
    let probe = json!({"metadata": {"name": "probe", "labels": {"ringfence.dev/workflow": "nothing"}}});
    let path = place::all("ConfigMap", &places[0].other);
    support::eventually(world::SOON, || async {
        let answer = world.admin.post(&format!("{path}?dryRun=All"), &probe).await;
        anyhow::ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
    live(&mut places, SEED, 2 * LENGTH).await;
    let found = look(&world, &places, &simulator).await;
    let promises: BTreeSet<u8> = found.iter().flatten().map(|broken| broken.promise).collect();
    assert!(
        promises.is_superset(&[1, 2, 3, 4].into()),
        "the checker found only {found:?}"
    );
}
