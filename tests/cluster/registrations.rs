//! Registrations and guards that somebody edits, empties or deletes are put back as the chart has them, an upgrade goes on from there, and
//! an uninstall leaves none. On a control plane of its own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::Method;
use serde_json::{Value, json};
use support::{ControlPlane, Options, RELEASE_NAMESPACE, Ringfence, eventually};

use crate::world::{Actor, BINARY, SOON, counted, in_force, namespace};

const REGISTRATIONS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
const POLICY: &str = "ValidatingAdmissionPolicy";
const BINDING: &str = "ValidatingAdmissionPolicyBinding";
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
    guards_that_stand_are_left_alone(&scene).await;
    a_guard_that_is_edited_is_put_back(&scene).await;
    a_guard_that_is_deleted_is_made_again(&scene).await;
    a_slow_upgrade_is_waited_for(&scene).await;
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
        self.reverted_of("ValidatingWebhookConfiguration").await
    }

    async fn reverted_of(&self, kind: &str) -> f64 {
        let kind = format!("kind=\"{kind}\"");
        counted(&self.ringfence, "ringfence_drift_reverted_total", &[&kind]).await
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

/// What was made again belongs to Helm as before, and goes with the chart's ClusterRole.
fn is_the_charts(now: &Value, before: &Value, role: &Value) -> Result<()> {
    for field in ["labels", "annotations"] {
        ensure!(
            now["metadata"][field] == before["metadata"][field],
            "it is not Helm's: {}",
            now["metadata"]
        );
    }
    let owner = &now["metadata"]["ownerReferences"][0];
    ensure!(owner["kind"] == "ClusterRole" && owner["uid"] == *role, "{owner}");
    Ok(())
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
            is_the_charts(&now, &before, &role)?;
            Ok(())
        })
        .await;
        assert!(scene.reverted().await > reverted, "{name} is not counted");
        scene.told(name, "deleted by somebody").await;
    }
    in_force(&scene.admin).await;
}

fn guard(kind: &str, name: &str) -> String {
    let resource = if kind == POLICY {
        "validatingadmissionpolicies"
    } else {
        "validatingadmissionpolicybindings"
    };
    format!("{ADMISSION}/{resource}/{name}")
}

/// Each is stored as it was rendered: nothing is written where nobody changed anything.
async fn guards_that_stand_are_left_alone(scene: &Scene) {
    for kind in [POLICY, BINDING] {
        assert_eq!(scene.reverted_of(kind).await, 0.0, "{kind}");
    }
    for name in ringfence::plan::guards() {
        for kind in [POLICY, BINDING] {
            let found = scene.admin.get(&guard(kind, &name)).await.ok();
            assert_eq!(found["metadata"]["generation"], 1, "{kind} {name}");
        }
    }
}

/// Whoever may patch a namespace, and may not approve, takes its mode off; or is refused.
async fn takes_the_mode_off(tenant: &Actor, fenced: &str) -> u16 {
    let path = format!("/api/v1/namespaces/{fenced}?dryRun=All");
    let off = json!({"metadata": {"labels": {"ringfence.dev/enforce": null}}});
    tenant.patch(&path, &off).await.code
}

async fn a_guard_that_is_edited_is_put_back(scene: &Scene) {
    let fenced = namespace(&scene.admin, "guarded", &json!({"ringfence.dev/enforce": "default"})).await;
    let tenant = tenant(scene).await;
    assert_eq!(takes_the_mode_off(&tenant, &fenced).await, 403);
    let never = json!([{"name": "never", "expression": "false"}]);
    for (what, kind, edit) in [
        (
            "it fails open",
            POLICY,
            json!([{"op": "replace", "path": "/spec/failurePolicy", "value": "Ignore"}]),
        ),
        (
            "it never looks",
            POLICY,
            json!([{"op": "add", "path": "/spec/matchConditions", "value": never}]),
        ),
        (
            "it sees other objects",
            POLICY,
            json!([{"op": "replace", "path": "/spec/matchConstraints/objectSelector", "value": {"matchLabels": {"no": "object"}}}]),
        ),
        (
            "it finds nothing wrong",
            POLICY,
            json!([{"op": "replace", "path": "/spec/validations/0/expression", "value": "true"}]),
        ),
        (
            "it only says so",
            BINDING,
            json!([{"op": "replace", "path": "/spec/validationActions", "value": ["Audit"]}]),
        ),
        (
            "it is bound to some",
            BINDING,
            json!([{"op": "add", "path": "/spec/matchResources", "value": {"namespaceSelector": {"matchLabels": {"no": "namespace"}}}}]),
        ),
    ] {
        let path = guard(kind, "ringfence-modes");
        let before = scene.admin.get(&path).await.ok();
        let reverted = scene.reverted_of(kind).await;
        scene.admin.json_patch(&path, &edit).await.ok();
        eventually(WITHIN, || async {
            let now = scene.admin.read(&path).await?;
            ensure!(now["spec"] == before["spec"], "{what}: it is not put back");
            for field in ["uid", "labels", "annotations"] {
                ensure!(
                    now["metadata"][field] == before["metadata"][field],
                    "{what}: {}",
                    now["metadata"]
                );
            }
            Ok(())
        })
        .await;
        eventually(SOON, || async {
            ensure!(scene.reverted_of(kind).await > reverted, "{what} is not counted");
            Ok(())
        })
        .await;
    }
    scene.told("ringfence-modes", "changed by somebody else").await;
    eventually(SOON, || async {
        let code = takes_the_mode_off(&tenant, &fenced).await;
        ensure!(code == 403, "{code}");
        Ok(())
    })
    .await;
}

async fn a_guard_that_is_deleted_is_made_again(scene: &Scene) {
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ringfence";
    let role = scene.admin.get(role).await.ok()["metadata"]["uid"].clone();
    for kind in [POLICY, BINDING] {
        let path = guard(kind, "ringfence-status");
        let before = scene.admin.get(&path).await.ok();
        let reverted = scene.reverted_of(kind).await;
        scene.admin.delete(&path).await.ok();
        eventually(WITHIN, || async {
            let now = scene.admin.read(&path).await?;
            ensure!(now["spec"] == before["spec"], "{kind} is not as it was");
            is_the_charts(&now, &before, &role)?;
            ensure!(scene.reverted_of(kind).await > reverted, "{kind} is not counted");
            Ok(())
        })
        .await;
    }
    scene.told("ringfence-status", "deleted by somebody").await;
}

/// Who may patch namespaces, and nothing more.
async fn tenant(scene: &Scene) -> Actor {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules = json!([{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "patch"]}]);
    let role = json!({"metadata": {"name": "patches-namespaces"}, "rules": rules});
    scene.admin.post(&format!("{rbac}/clusterroles"), &role).await.ok();
    let binding = json!({
        "metadata": {"name": "patches-namespaces"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "patches-namespaces"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "tess"}],
    });
    scene
        .admin
        .post(&format!("{rbac}/clusterrolebindings"), &binding)
        .await
        .ok();
    let tess = Actor::new(scene.cluster.user("tess", &[]).await);
    eventually(SOON, || async {
        let found = tess.get("/api/v1/namespaces/default").await;
        ensure!(found.code == 200, "{}", found.message());
        Ok(())
    })
    .await;
    tess
}

/// An upgrade that wrote its ConfigMap and did not come to the rest: for a minute that is no drift, and somebody's edit is one still.
async fn a_slow_upgrade_is_waited_for(scene: &Scene) {
    let map = format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/configmaps/ringfence-registrations");
    let found = scene.admin.get(&map).await.ok();
    let entries = found["metadata"]["managedFields"].as_array().expect("field managers");
    let applied = entries.iter().find(|entry| entry["operation"] == "Apply");
    let manager = applied.expect("Helm applies")["manager"].as_str().expect("a name");
    let mut rendered: Value =
        serde_json::from_str(found["data"]["ringfence"].as_str().expect("the registration")).expect("JSON");
    rendered["webhooks"][0]["timeoutSeconds"] = json!(7);
    let mut data = found["data"].clone();
    data["ringfence"] = json!(rendered.to_string());
    let upgraded = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "ringfence-registrations", "labels": found["metadata"]["labels"], "annotations": found["metadata"]["annotations"]},
        "data": data,
    });
    let before = scene.admin.get(&path("ringfence")).await.ok();
    let reverted = scene.reverted().await;
    let (as_helm, body) = (
        format!("{map}?fieldManager={manager}&force=true"),
        upgraded.to_string().into_bytes(),
    );
    let apply = "application/apply-patch+yaml";
    scene.admin.bytes(Method::PATCH, &as_helm, apply, body).await.ok();

    let modes = guard(BINDING, "ringfence-modes");
    let spec = scene.admin.get(&modes).await.ok()["spec"].clone();
    let audits = json!([{"op": "replace", "path": "/spec/validationActions", "value": ["Audit"]}]);
    scene.admin.json_patch(&modes, &audits).await.ok();
    eventually(WITHIN, || async {
        ensure!(scene.admin.read(&modes).await?["spec"] == spec, "the edit stands");
        Ok(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let now = scene.admin.get(&path("ringfence")).await.ok();
    assert_eq!(now["webhooks"], before["webhooks"], "the upgrade was overtaken");
    assert_eq!(scene.reverted().await, reverted, "the upgrade was taken for an edit");

    eventually(Duration::from_secs(120), || async {
        let webhooks = scene.webhooks("ringfence").await?;
        ensure!(webhooks[0]["timeoutSeconds"] == 7, "what was rendered is not written");
        ensure!(scene.reverted().await > reverted, "it is not counted");
        Ok(())
    })
    .await;
}

/// What Ringfence put back is no field of somebody else's, and what an upgrade changes is no drift.
async fn an_upgrade_goes_on_from_there(scene: &Scene) {
    let (reverted, guards) = (scene.reverted().await, scene.reverted_of(POLICY).await);
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
    let log = scene.ringfence.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("was reverted")).collect();
    assert_eq!(
        scene.reverted_of(POLICY).await,
        guards,
        "the upgrade was taken for an edit: {told:#?}"
    );
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
    let doomed = [
        path("ringfence"),
        guard(POLICY, "ringfence-modes"),
        guard(BINDING, "ringfence-modes"),
    ];
    for path in &doomed {
        scene.admin.delete(path).await.ok();
        eventually(WITHIN, || async { scene.admin.read(path).await }).await;
    }
    let gone = ["uninstall", "ringfence", "--namespace", RELEASE_NAMESPACE];
    let gone = scene.cluster.helm(&gone).await.expect("Helm");
    assert!(gone.success, "{gone}");
    let left = async || {
        let guards = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"];
        for kind in guards
            .map(|kind| format!("{ADMISSION}/{kind}"))
            .iter()
            .map(String::as_str)
            .chain([REGISTRATIONS])
        {
            let found = scene.admin.items(kind).await?;
            ensure!(found.is_empty(), "{} of {kind} are left", found.len());
        }
        Ok(())
    };
    eventually(SOON, left).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    left().await.expect("none comes back");
}
