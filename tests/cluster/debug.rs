//! Looking into pods that run: closed, but in a window that the workflow declares and its class allows.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{Identity, eventually, unique};

use crate::world::*;

/// What the API server says once admission let a session through: there is no node in this control plane.
const LET_THROUGH: &str = "does not have a host assigned";

fn hours(ahead: i64) -> String {
    (Timestamp::now() + SignedDuration::from_hours(ahead)).to_string()
}

fn ephemeral(image: &str) -> Value {
    let mut debugger = container("debugger");
    debugger["image"] = json!(image);
    // The API server takes none for them.
    debugger["resources"].take();
    json!({"spec": {"ephemeralContainers": [debugger]}})
}

#[tokio::test]
async fn people_look_into_a_pod_in_a_declared_window_and_never_else() {
    let world = World::shared().await;
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "debug": {"maxHours": 8}}))
        .await;
    let ns = &world
        .namespace("debugs", &json!({"ringfence.dev/enforce": class}))
        .await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    lea.post(&all("Pod", ns), &pod("runs", "triage")).await.ok();
    let path = one("Pod", ns, "runs");

    // Somebody with the shipped role, which RBAC asks for before we are asked.
    let name = unique("dev");
    world
        .bind(ns, "ringfence-debugger", &json!({"kind": "User", "name": name}))
        .await;
    let dev = Actor::new(world.cluster.client(&Identity::user(&name, &[])).await);
    let ways = [
        ("Exec", "exec?command=id&stdout=true"),
        ("Attach", "attach?stdout=true"),
        ("PortForward", "portforward?ports=80"),
    ];
    eventually(SOON, || async {
        let answer = dev
            .post(&format!("{path}/exec?command=id&stdout=true"), &json!({}))
            .await;
        ensure!(
            answer.message().contains("ringfence"),
            "no right yet: {}",
            answer.message()
        );
        Ok(())
    })
    .await;

    // Nothing declared: everything is closed, to the platform's administrator as well, by either verb.
    for (action, way) in ways {
        let door = format!("{path}/{way}");
        for answer in [
            dev.post(&door, &json!({})).await,
            dev.get(&door).await,
            world.admin.get(&door).await,
        ] {
            let said = answer.refused_by("debug-window");
            assert!(said.contains(action) && said.contains("at most 8 h ahead"), "{said}");
        }
    }
    let door = format!("{path}/ephemeralcontainers");
    let tools = ephemeral("registry.example.com/finance/tools:1");
    for who in [&dev, &lea, &world.admin] {
        who.strategic(&door, &tools).await.refused_by("debug-window");
    }

    let declare = async |window: Value| {
        let workflow = one("AIWorkflow", ns, "triage");
        world
            .admin
            .patch(&workflow, &json!({"spec": {"debug": window}}))
            .await
            .ok();
    };
    // For ever is not a window, nor is what is over.
    for until in [hours(9), hours(-1)] {
        declare(json!({"allow": ["Exec"], "until": until})).await;
        dev.get(&format!("{path}/exec?command=id&stdout=true"))
            .await
            .refused_by("debug-window");
    }

    // Open, at once: every fact is read live.
    declare(json!({"allow": ["Exec", "EphemeralContainers"], "until": hours(1)})).await;
    for answer in [
        dev.post(&format!("{path}/exec?command=id&stdout=true"), &json!({}))
            .await,
        dev.get(&format!("{path}/exec?command=id&stdout=true")).await,
    ] {
        assert!(answer.message().contains(LET_THROUGH), "{}", answer.message());
    }
    dev.get(&format!("{path}/attach?stdout=true"))
        .await
        .refused_by("debug-window");
    // The window opens a way in, and not the list of images.
    dev.strategic(&door, &ephemeral("docker.io/library/busybox"))
        .await
        .refused_by("approved-images");
    dev.strategic(&door, &tools).await.ok();

    // A window ends by itself.
    let soon = Timestamp::now() + SignedDuration::from_secs(3);
    declare(json!({"allow": ["Exec"], "until": soon.to_string()})).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    dev.get(&format!("{path}/exec?command=id&stdout=true"))
        .await
        .refused_by("debug-window");

    // No window opens the proxy.
    declare(json!({"allow": ["Exec", "Attach", "PortForward"], "until": hours(1)})).await;
    world
        .admin
        .get(&format!("{path}/proxy/"))
        .await
        .refused_by("debug-window");
    let answer = dev.get(&format!("{path}/portforward?ports=80")).await;
    assert!(answer.message().contains(LET_THROUGH), "{}", answer.message());

    // The class takes it away for all.
    world
        .admin
        .patch(&format!("{CLASSES}/{class}"), &json!({"spec": {"debug": null}}))
        .await
        .ok();
    dev.get(&format!("{path}/exec?command=id&stdout=true"))
        .await
        .refused_by("debug-window");
    let workflow = world.condition(ns, "triage", "Accepted", "False", "OutsideClass").await;
    let message = condition(&workflow, "Accepted")["message"].as_str().unwrap_or_default();
    assert!(message.contains("spec.debug"), "{message}");
}

#[tokio::test]
async fn a_pod_that_nobody_declared_is_closed_where_enforced_and_open_elsewhere() {
    let world = World::shared().await;
    let ns = &world.namespace("strangers", &json!({})).await;
    let mut stranger = pod("stranger", "x");
    stranger["metadata"]["labels"] = json!({"app": "x"});
    stranger["spec"]["serviceAccountName"] = json!("default");
    eventually(SOON, || async {
        world.admin.read(&one("ServiceAccount", ns, "default")).await
    })
    .await;
    world.admin.post(&all("Pod", ns), &stranger).await.ok();
    let door = format!("{}/exec?command=id&stdout=true", one("Pod", ns, "stranger"));
    let answer = world.admin.get(&door).await;
    assert!(answer.message().contains(LET_THROUGH), "{}", answer.message());

    let enforce = json!({"metadata": {"labels": {"ringfence.dev/enforce": "default"}}});
    world.admin.patch(&format!("{NAMESPACES}/{ns}"), &enforce).await.ok();
    eventually(SOON, || async {
        let answer = world.admin.get(&door).await;
        ensure!(answer.message().contains("[debug-window]"), "{}", answer.message());
        ensure!(
            answer.message().contains("belongs to no AIWorkflow"),
            "{}",
            answer.message()
        );
        Ok(())
    })
    .await;
}
