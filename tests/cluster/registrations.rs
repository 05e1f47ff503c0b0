//! Registrations that somebody edits, empties or deletes are put back as the chart has them, an upgrade goes on from there, and an
//! uninstall leaves none. On a control plane of its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{ControlPlane, Options, RELEASE_NAMESPACE, Ringfence, eventually};

use crate::world::{Actor, BINARY, SOON, counted, in_force, namespace};

const REGISTRATIONS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const NAMES: [&str; 3] = ["ringfence", "ringfence-bindings", "ringfence-policies"];
/// Somebody's edit is put back within this: three seconds in which it must last, a look, and a slow machine.
const WITHIN: Duration = Duration::from_secs(20);

struct Scene {
    cluster: ControlPlane,
    admin: Actor,
    ringfence: Ringfence,
}

#[tokio::test]
async fn what_somebody_makes_of_registrations_is_put_back() {
    let cluster = ControlPlane::start(Options::default()).expect("a control plane");
    let ringfence = cluster.start_ringfence(BINARY, &Value::Null).await.expect("ringfence");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    // So that the registration of bindings says something.
    namespace(&admin, "fenced", &json!({"ringfence.dev/enforce": "default"})).await;
    let scene = Scene {
        cluster,
        admin,
        ringfence,
    };
    scene.filled().await;
    what_is_edited_is_put_back(&scene).await;
    what_is_deleted_is_made_again(&scene).await;
    an_upgrade_goes_on_from_there(&scene).await;
    without_what_the_chart_said_nothing_is_made_up(&scene).await;
    an_uninstall_leaves_none(&scene).await;
}

fn path(name: &str) -> String {
    format!("{REGISTRATIONS}/{name}")
}

impl Scene {
    async fn webhooks(&self, name: &str) -> Result<Vec<Value>> {
        let registration = self.admin.read(&path(name)).await?;
        Ok(registration["webhooks"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until the registrations of the chart and of bindings are trusted.
    async fn filled(&self) {
        eventually(SOON, || async {
            for name in ["ringfence", "ringfence-bindings"] {
                let webhooks = self.webhooks(name).await?;
                let trusts = |webhook: &Value| webhook["clientConfig"]["caBundle"].is_string();
                ensure!(
                    !webhooks.is_empty() && webhooks.iter().all(trusts),
                    "{name} is not filled"
                );
            }
            Ok(())
        })
        .await;
    }

    async fn reverted(&self) -> f64 {
        let kind = "kind=\"ValidatingWebhookConfiguration\"";
        counted(&self.ringfence, "ringfence_drift_reverted_total", &[kind]).await
    }

    async fn told(&self, name: &str, note: &str) {
        let events = "/apis/events.k8s.io/v1/namespaces/default/events";
        eventually(SOON, || async {
            let events = self.admin.items(events).await?;
            let found = events.iter().find(|event| {
                event["reason"] == "DriftReverted"
                    && event["regarding"]["name"] == name
                    && event["note"].as_str().is_some_and(|text| text.contains(note))
            });
            found.map(drop).with_context(|| format!("no Event of {name}"))
        })
        .await;
    }
}

async fn what_is_edited_is_put_back(scene: &Scene) {
    let before = scene.admin.get(&path("ringfence")).await.ok();
    let webhooks = before["webhooks"].as_array().expect("webhooks");
    let kinds = webhooks
        .iter()
        .position(|webhook| webhook["name"] == "kinds.ringfence.dev");
    let at = format!("/webhooks/{}", kinds.expect("the webhook of our kinds"));
    let never = json!({"name": "never", "expression": "false"});
    for (what, edit) in [
        (
            "fails open",
            json!([{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]),
        ),
        (
            "sees another namespace",
            json!([{"op": "replace", "path": "/webhooks/0/namespaceSelector", "value": {"matchLabels": {"no": "namespace"}}}]),
        ),
        (
            "sees no object",
            json!([{"op": "add", "path": format!("{at}/objectSelector"), "value": {"matchLabels": {"no": "object"}}}]),
        ),
        (
            "never asks",
            json!([{"op": "add", "path": format!("{at}/matchConditions/-"), "value": never}]),
        ),
        (
            "asks somebody else",
            json!([{"op": "replace", "path": "/webhooks/0/clientConfig/url", "value": "https://127.0.0.1:1/admit/fence"}]),
        ),
        (
            "asks about less",
            json!([{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["DELETE"]}]),
        ),
        ("one is gone", json!([{"op": "remove", "path": "/webhooks/1"}])),
        ("emptied", json!([{"op": "replace", "path": "/webhooks", "value": []}])),
    ] {
        let reverted = scene.reverted().await;
        scene.admin.json_patch(&path("ringfence"), &edit).await.ok();
        eventually(WITHIN, || async {
            let now = scene.admin.read(&path("ringfence")).await?;
            ensure!(now["webhooks"] == before["webhooks"], "{what}: it is not put back");
            ensure!(
                now["metadata"]["uid"] == before["metadata"]["uid"],
                "{what}: it is another"
            );
            ensure!(
                now["metadata"]["labels"] == before["metadata"]["labels"],
                "{what}: {}",
                now["metadata"]
            );
            Ok(())
        })
        .await;
        eventually(SOON, || async {
            ensure!(scene.reverted().await > reverted, "{what} is not counted");
            Ok(())
        })
        .await;
    }
    scene.told("ringfence", "changed by somebody else").await;
    in_force(&scene.admin).await;
}

async fn what_is_deleted_is_made_again(scene: &Scene) {
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ringfence";
    let role = scene.admin.get(role).await.ok()["metadata"]["uid"].clone();
    for name in NAMES {
        let before = scene.admin.get(&path(name)).await.ok();
        let reverted = scene.reverted().await;
        scene.admin.delete(&path(name)).await.ok();
        eventually(WITHIN, || async {
            let now = scene.admin.read(&path(name)).await?;
            ensure!(now["webhooks"] == before["webhooks"], "{name} is not as it was");
            for field in ["labels", "annotations"] {
                ensure!(
                    now["metadata"][field] == before["metadata"][field],
                    "it is not Helm's: {}",
                    now["metadata"]
                );
            }
            let owner = &now["metadata"]["ownerReferences"][0];
            ensure!(owner["kind"] == "ClusterRole" && owner["uid"] == role, "{owner}");
            Ok(())
        })
        .await;
        assert!(scene.reverted().await > reverted, "{name} is not counted");
        scene.told(name, "deleted by somebody").await;
    }
    in_force(&scene.admin).await;
}

/// What Ringfence put back is no field of somebody else's, and what an upgrade changes is no drift.
async fn an_upgrade_goes_on_from_there(scene: &Scene) {
    let reverted = scene.reverted().await;
    for port in [1, scene.ringfence.port] {
        scene
            .cluster
            .install(port, &json!({}))
            .await
            .expect("an upgrade without a conflict");
        tokio::time::sleep(Duration::from_secs(5)).await;
        let url = format!("https://127.0.0.1:{port}/");
        for webhook in scene.webhooks("ringfence").await.expect("webhooks") {
            let found = webhook["clientConfig"]["url"].as_str().unwrap_or_default();
            assert!(found.starts_with(&url), "the upgrade was undone: {found}");
        }
    }
    assert_eq!(scene.reverted().await, reverted);
    scene.filled().await;
    in_force(&scene.admin).await;
}

async fn without_what_the_chart_said_nothing_is_made_up(scene: &Scene) {
    let map = format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/configmaps/ringfence-registrations");
    scene.admin.delete(&map).await.ok();
    scene.admin.delete(&path("ringfence-policies")).await.ok();
    eventually(SOON, || async {
        let log = scene.ringfence.log();
        ensure!(
            log.contains("are not put back: apply the chart again"),
            "nothing is said"
        );
        Ok(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(
        !scene
            .admin
            .is_there(&path("ringfence-policies"))
            .await
            .expect("an answer")
    );
    scene
        .cluster
        .install(scene.ringfence.port, &json!({}))
        .await
        .expect("the chart again");
    assert!(
        scene
            .admin
            .is_there(&path("ringfence-policies"))
            .await
            .expect("an answer")
    );
}

/// While Ringfence runs, and would make again what goes first.
async fn an_uninstall_leaves_none(scene: &Scene) {
    scene.admin.delete(&path("ringfence")).await.ok();
    eventually(WITHIN, || async { scene.admin.read(&path("ringfence")).await }).await;
    let gone = ["uninstall", "ringfence", "--namespace", RELEASE_NAMESPACE];
    let gone = scene.cluster.helm(&gone).await.expect("Helm");
    assert!(gone.success, "{gone}");
    let left = async || {
        let found = scene.admin.items(REGISTRATIONS).await?;
        ensure!(found.is_empty(), "{} are left", found.len());
        Ok(())
    };
    eventually(SOON, left).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    left().await.expect("none comes back");
}
