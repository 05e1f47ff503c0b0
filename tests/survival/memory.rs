//! Memory near its limit: a policy that eats what there is, for as long as workflows are declared and changed.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};
use support::eventually;
use support::process::peak;
use tokio::time::sleep;

use crate::fleet::{Fleet, Stranger};
use crate::world::{Actor, Answer, POLICIES, SOON, all, condition, master, own, pod};

/// The least that the operator takes: what is left for evaluations is some hundred mebibytes less than it has at rest.
const LIMIT_MIB: u64 = 936;
/// Reviews that eat at a time: more than are evaluated at a time.
const EATERS: u64 = 4;
/// Texts of 2 MiB that each would take.
const COURSES: u32 = 1000;
/// For how long they are asked for.
const LASTS: Duration = Duration::from_secs(30);

/// Texts of 2 MiB, one for each argument of a container: no sample has the label that it takes.
fn hungry() -> String {
    let rule = |number: usize| format!("a{number} := concat(\"\", [a{0}, a{0}])\n", number - 1);
    let doubled: String = (1..=18).map(rule).collect();
    format!(
        "package hungry\n\na0 := \"xxxxxxxx\"\n{doubled}\ndeny contains \"more than there is\" if {{\n\
         \tinput.request.object.metadata.labels.hungry\n\
         \tcount([concat(\"\", [a18, n]) | some n in input.request.object.spec.containers[0].args]) < 0\n}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_is_near_its_limit() {
    let limit = format!("--memory-limit={LIMIT_MIB}Mi");
    let (cluster, mut ringfence, admin) = own(&["--scan-period=0", &limit]).await;
    let fleet = Fleet::start(&admin).await;
    let stranger = Stranger::start(&admin, &fleet.ns);
    let lea = master(&cluster, "lea", &[]).await;
    is_in_force(&admin).await;
    asks(&lea, &fleet.ns, "before", &json!({})).await.ok();

    let eating = futures::future::join_all((0..EATERS).map(|number| eats(&lea, &fleet.ns, number)));
    let working = async {
        for number in 0..10 {
            fleet.declare(&format!("w{number}"), 1000 + number).await;
            fleet.change(&format!("w{number}"), 2000 + number).await;
        }
    };
    let (short, ()) = tokio::join!(eating, working);
    let short: u32 = short.iter().sum();
    assert!(short >= 10, "{short} reviews found no memory: too few to say anything");
    assert_eq!(ringfence.has_ended().expect("a process"), None, "{}", ringfence.tail());
    fleet.mends("memory was near its limit").await;

    // What was eaten is free again.
    eventually(SOON, async || {
        let answer = asks(&lea, &fleet.ns, "after", &json!({})).await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
    let held = peak(ringfence.pid().expect("a process")).expect("its peak") / 1024;
    eprintln!("survival: {short} reviews found no memory; at most {held} MiB of {LIMIT_MIB} were held");
    assert!(held < LIMIT_MIB, "{held} MiB were held");
    stranger.was_kept_out(&admin, &fleet.ns).await;
}

async fn is_in_force(admin: &Actor) {
    let policy = json!({
        "apiVersion": "ringfence.dev/v1alpha1",
        "kind": "RegoPolicy",
        "metadata": {"name": "hungry"},
        "spec": {
            "validationActions": ["Deny"],
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]},
            "rego": {"modules": [{"name": "hungry.rego", "source": hungry()}]},
        },
    });
    admin.post(POLICIES, &policy).await.ok();
    eventually(SOON, async || {
        let policy = admin.read(&format!("{POLICIES}/hungry")).await?;
        ensure!(
            condition(&policy, "Enforced")["status"] == "True",
            "{}",
            policy["status"]
        );
        Ok(())
    })
    .await;
}

/// A pod that fits, with labels of its own.
async fn asks(lea: &Actor, ns: &str, name: &str, labels: &Value) -> Answer {
    let mut object = pod(name, "first");
    object["spec"]["containers"][0]["args"] = (0..COURSES).map(|number| number.to_string()).collect();
    for (key, value) in labels.as_object().into_iter().flatten() {
        object["metadata"]["labels"][key] = value.clone();
    }
    lea.post(&format!("{}?dryRun=All", all("Pod", ns)), &object).await
}

/// Asks for what eats, again and again: nobody can judge it, so nothing of it comes in. Returns how often memory was why.
async fn eats(lea: &Actor, ns: &str, number: u64) -> u32 {
    let started = Instant::now();
    let mut short = 0;
    while started.elapsed() < LASTS {
        let answer = asks(lea, ns, &format!("hungry-{number}"), &json!({"hungry": "true"})).await;
        assert!(answer.code >= 400, "it was admitted: {}", answer.body);
        short += u32::from(answer.message().contains("memory"));
        sleep(Duration::from_millis(50)).await;
    }
    short
}
