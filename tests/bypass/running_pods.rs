//! Door: a pod that runs already is entered, or changed into another one.
//!
//! Looking into it is closed, but in a window that the workflow declares and its class allows.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{Identity, eventually, unique};

use crate::attackers::forbidden;
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

/// Exec, attach, port-forward, proxy and ephemeral containers, by either verb, as the platform's administrator too.
///
/// Held by: `debug-window`, `approved-images`, `projected-tokens`
#[tokio::test]
async fn somebody_looks_into_a_pod_without_a_window_or_in_one_that_is_over() {
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
    // Nor does it give an account of a Windows domain.
    let mut of_a_domain = tools.clone();
    of_a_domain["spec"]["ephemeralContainers"][0]["securityContext"]["windowsOptions"] =
        json!({"gmsaCredentialSpecName": "payroll"});
    dev.strategic(&door, &of_a_domain).await.refused_by("projected-tokens");
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
    for of in [
        path.clone(),
        format!("{path}:80"),
        path.replace("/pods/", "/pods/http:") + ":80",
    ] {
        let answer = world.admin.get(&format!("{of}/proxy/")).await;
        assert!(answer.refused_by("debug-window").contains("no window opens it"), "{of}");
    }
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

/// Held by: `debug-window`
#[tokio::test]
async fn somebody_enters_a_pod_from_before_the_fence_that_nobody_declared() {
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

    world.enforce(ns).await;
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

/// The chart's role for tenants holds none of these rights, whatever window is open.
///
/// Held by: `RBAC`
#[tokio::test]
async fn a_tenant_enters_a_pod_of_their_own_workflow() {
    let world = World::shared().await;
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "debug": {"maxHours": 8}}))
        .await;
    let ns = &world
        .namespace("entered", &json!({"ringfence.dev/enforce": class}))
        .await;
    let window = json!({
        "launchers": [{"user": "tess"}],
        "debug": {"allow": ["Exec", "Attach", "PortForward", "EphemeralContainers"], "until": hours(1)},
    });
    world.ready(ns, "triage", &window).await;
    world.tess.post(&all("Pod", ns), &pod("runs", "triage")).await.ok();
    let path = one("Pod", ns, "runs");
    for door in [
        "exec?command=id",
        "attach?stdout=true",
        "portforward?ports=80",
        "proxy/",
    ] {
        forbidden(&world.tess.get(&format!("{path}/{door}")).await);
        forbidden(&world.tess.post(&format!("{path}/{door}"), &json!({})).await);
    }
    let tools = ephemeral("registry.example.com/finance/tools:1");
    forbidden(
        &world
            .tess
            .strategic(&format!("{path}/ephemeralcontainers"), &tools)
            .await,
    );
    world.tess.get(&path).await.ok();
}

/// By the pod itself, where only images and some times may change; by the subresources, which are for other fields. Whoever is no launcher
/// changes no image at all.
///
/// Held by: `approved-images`, `launcher`, `API server`
#[tokio::test]
async fn the_image_of_a_running_pod_is_changed() {
    let world = World::shared().await;
    let ns = &world.enforced("changed").await;
    let launchers = json!({"launchers": [{"user": "lea"}, {"user": "tess"}]});
    world.ready(ns, "triage", &launchers).await;
    let mut runs = pod("runs", "triage");
    runs["spec"]["initContainers"] = json!([container("first")]);
    world.tess.post(&all("Pod", ns), &runs).await.ok();
    let path = one("Pod", ns, "runs");
    let (_, edith) = world.person(ns, "edit").await;
    let lea = world.master("lea", &[]).await;
    let to = |list: &str, name: &str, image: &str| json!({"spec": {list: [{"name": name, "image": image}]}});
    let evil = "docker.io/library/miner:1";
    let newer = "registry.example.com/finance/triage:1.5";
    for (list, name) in [("containers", "main"), ("initContainers", "first")] {
        let change = to(list, name, evil);
        world.tess.strategic(&path, &change).await.refused_by("approved-images");
        lea.strategic(&path, &change).await.refused_by("approved-images");
        edith.strategic(&path, &change).await.refused_by("approved-images");
        edith
            .strategic(&path, &to(list, name, newer))
            .await
            .refused_by("launcher");
        world
            .admin
            .strategic(&path, &to(list, name, newer))
            .await
            .refused_by("launcher");
        for subresource in ["resize", "status", "ephemeralcontainers"] {
            let answer = lea.strategic(&format!("{path}/{subresource}"), &change).await;
            let now = world.admin.read(&path).await.unwrap();
            assert_ne!(
                now["spec"][list][0]["image"], evil,
                "{subresource}: {} {}",
                answer.code, answer.body
            );
        }
    }
    world.tess.strategic(&path, &to("containers", "main", newer)).await.ok();
    assert_eq!(
        world.admin.read(&path).await.unwrap()["spec"]["containers"][0]["image"],
        newer
    );
}

/// As an autoscaler does: how much of the node a container gets is no part of the fence.
///
/// Legitimate: resizing a running pod within the namespace's quota is free.
#[tokio::test]
async fn a_running_pod_is_given_more_memory() {
    let world = World::shared().await;
    let ns = &world.enforced("resized").await;
    world
        .ready(ns, "triage", &json!({"launchers": [{"user": "tess"}]}))
        .await;
    world.tess.post(&all("Pod", ns), &pod("runs", "triage")).await.ok();
    let autoscaler = world.master("autoscaler", &[]).await;
    let more = json!({"spec": {"containers": [{"name": "main", "resources": {
        "requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"},
    }}]}});
    let resize = format!("{}/resize", one("Pod", ns, "runs"));
    let resized = autoscaler.strategic(&resize, &more).await.ok();
    assert_eq!(
        resized["spec"]["containers"][0]["resources"]["limits"]["memory"],
        "512Mi"
    );
    // Nobody takes the occasion to put something else in.
    let mut also = more.clone();
    also["spec"]["containers"][0]["image"] = json!("docker.io/library/miner:1");
    also["metadata"] = json!({"annotations": {"k8s.v1.cni.cncf.io/networks": "second"}, "labels": {"ringfence.dev/workflow": "other"}});
    autoscaler.strategic(&resize, &also).await;
    let now = world.admin.read(&one("Pod", ns, "runs")).await.unwrap();
    assert_ne!(now["spec"]["containers"][0]["image"], "docker.io/library/miner:1");
    assert_eq!(now["metadata"]["labels"]["ringfence.dev/workflow"], "triage");
    assert_eq!(now["metadata"]["annotations"].get("k8s.v1.cni.cncf.io/networks"), None);
}

/// A kubelet runs what lies in its own folder, and tells the API server of it by a mirror pod. That is no pod of a fence: it is refused,
/// which is logged and counted each time the kubelet tries; and the scan names one that is there already.
///
/// Out of scope: whoever writes files on a node runs what they like there, whatever the API server says; the platform holds its nodes.
#[tokio::test]
async fn a_node_runs_a_static_pod_in_the_fence() {
    let world = World::shared().await;
    let kubelet = world
        .cluster
        .impersonate("system:node:n1", &["system:nodes", "system:masters"]);
    let kubelet = Actor::new(kubelet.await);
    let mirror = |name: &str| {
        let mut mirror = pod(name, "x");
        mirror["metadata"]["labels"] = json!({"app": "x"});
        mirror["metadata"]["annotations"] =
            json!({"kubernetes.io/config.mirror": "x", "kubernetes.io/config.source": "file"});
        mirror["spec"]["nodeName"] = json!("n1");
        mirror["spec"].as_object_mut().unwrap().remove("serviceAccountName");
        mirror
    };
    let ns = &world.namespace("static", &json!({})).await;
    kubelet.post(&all("Pod", ns), &mirror("before")).await.ok();
    world.enforce(ns).await;
    world
        .ready(ns, "triage", &json!({"launchers": [{"user": "tess"}]}))
        .await;
    let answer = kubelet.post(&all("Pod", ns), &mirror("after")).await;
    answer.refused_by("declared-workflow");
    let arguments = ["scan", "--namespace", ns, "-o", "json"];
    let said = world
        .cluster
        .ringfence_as(&Identity::Admin, BINARY, &arguments)
        .await
        .unwrap();
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let found = report["findings"].as_array().unwrap().iter();
    let mut told = found.filter(|found| found["kind"] == "Pod" && found["name"] == "before");
    assert!(told.any(|found| found["rule"] == "declared-workflow"), "{said}");
    world.tess.post(&all("Pod", ns), &pod("own", "triage")).await.ok();
}
