//! What goes wrong, on a control plane of its own: the process killed, its trust tampered with, its registration gone. And
//! what needs a quiet cluster: writes and counts that must not be there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{ControlPlane, Options, Ringfence, eventually};

use crate::direct::{UID, certificate_of, review};
use crate::world::{
    Actor, BINARY, SOON, all, condition, counted, in_force, master, namespace, one, pod, unasked, workflow, workload,
};

const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ringfence";
/// By which a deleted registration is put back.
const RENDERED: &str = "/api/v1/namespaces/ringfence-system/configmaps/ringfence-registrations";
const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/aiworkflows.ringfence.dev";

struct Scene {
    cluster: ControlPlane,
    admin: Actor,
    lea: Actor,
    /// An enforced namespace with the ready workflow `triage`.
    fenced: String,
    /// A namespace that Ringfence has nothing to do with.
    plain: String,
}

#[tokio::test]
async fn what_fails_fails_closed_and_mends_itself() {
    let cluster = ControlPlane::start(Options {
        use_service_account_credentials: false,
        ..Options::default()
    })
    .expect("a control plane");
    let ringfence = cluster.start_ringfence(BINARY, &Value::Null).await.expect("ringfence");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let fenced = namespace(&admin, "fenced", &json!({"ringfence.dev/enforce": "default"})).await;
    let plain = namespace(&admin, "plain", &json!({})).await;
    let lea = master(&cluster, "lea", &[]).await;
    let scene = Scene {
        cluster,
        admin,
        lea,
        fenced,
        plain,
    };
    scene
        .admin
        .post(&all("AIWorkflow", &scene.fenced), &workflow("triage", &json!({})))
        .await
        .ok();
    scene.condition("triage", "Ready", "True").await;
    scene.post("Pod", "first").await.ok();

    one_account_for_every_controller_launches_as_well(&scene).await;
    a_dry_run_counts_nowhere(&scene, &ringfence).await;
    what_stands_is_left_alone(&ringfence).await;
    an_old_value_that_breaks_a_rule_of_today_is_found(&scene).await;
    tampered_trust_is_repaired(&scene).await;
    a_missing_registration_is_named(&scene, &ringfence).await;
    let certificate = a_second_process_serves_alike(&scene, &ringfence).await;
    killed_it_fails_closed_and_comes_back(&scene, ringfence, &certificate).await;
}

impl Scene {
    async fn condition(&self, name: &str, type_: &str, status: &str) -> Value {
        let path = one("AIWorkflow", &self.fenced, name);
        eventually(SOON, || async {
            let workflow = self.admin.read(&path).await?;
            let found = condition(&workflow, type_);
            let now = found["observedGeneration"] == workflow["metadata"]["generation"];
            ensure!(found["status"] == status && now, "{}", workflow["status"]);
            Ok(workflow)
        })
        .await
    }

    async fn post(&self, kind: &str, name: &str) -> crate::world::Answer {
        self.lea
            .post(&all(kind, &self.fenced), &workload(kind, &pod(name, "triage")))
            .await
    }
}

/// Here all controllers are `system:kube-controller-manager`.
async fn one_account_for_every_controller_launches_as_well(scene: &Scene) {
    scene.post("Deployment", "shared").await.ok();
    scene.post("CronJob", "shared").await.ok();
    scene.post("Job", "shared").await.ok();
    eventually(SOON, || async {
        let pods = scene.admin.items(&all("Pod", &scene.fenced)).await?;
        let made = pods
            .iter()
            .filter(|pod| pod["metadata"]["ownerReferences"].is_array())
            .count();
        ensure!(made >= 2, "{made} pods of controllers");
        Ok(())
    })
    .await;
}

async fn a_dry_run_counts_nowhere(scene: &Scene, ringfence: &Ringfence) {
    let of_config_maps = ["decision=\"deny\"", "webhook=\"label\""];
    let refusals = || counted(ringfence, "ringfence_admission_requests_total", &of_config_maps);
    let labelled = json!({"metadata": {"name": "x", "labels": {"ringfence.dev/workflow": "triage"}}});
    let collection = all("ConfigMap", &scene.plain);
    let before = refusals().await;
    let dry_run = scene.admin.post(&format!("{collection}?dryRun=All"), &labelled).await;
    dry_run.refused_by("approved-namespace");
    assert_eq!(refusals().await, before);
    let real = scene.admin.post(&collection, &labelled).await;
    assert_eq!(real.refused_by("approved-namespace"), dry_run.message());
    assert_eq!(refusals().await, before + 1.0);
}

/// Nothing is reconciled, let alone written, when nothing happens.
async fn what_stands_is_left_alone(ringfence: &Ringfence) {
    let looks = || counted(ringfence, "ringfence_reconcile_total", &[]);
    eventually(SOON, || async {
        let before = looks().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after = looks().await;
        ensure!(after == before, "{} looks in 3 s of peace", after - before);
        Ok(())
    })
    .await;
}

/// A definition of yesterday let it in; ratcheting keeps it, and the operator must not grant it.
async fn an_old_value_that_breaks_a_rule_of_today_is_found(scene: &Scene) {
    let mut definition = scene.admin.get(DEFINITION).await.ok();
    let today = definition["spec"].clone();
    without_rules(&mut definition["spec"]["versions"][0]["schema"]);
    scene.admin.put(DEFINITION, &definition).await.ok();
    let collection = all("AIWorkflow", &scene.fenced);
    let old = workflow(
        "yesterday",
        &json!({
            "launchers": [{"group": "system:authenticated"}],
            "permissions": {"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]},
        }),
    );
    // Before there was a webhook that judges such writes.
    let unasked = unasked(&scene.cluster).await;
    eventually(SOON, || async {
        let answer = unasked.post(&collection, &old).await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
    eventually(SOON, || async {
        let mut definition = scene.admin.read(DEFINITION).await?;
        definition["spec"] = today.clone();
        let answer = scene.admin.put(DEFINITION, &definition).await;
        ensure!(answer.code == 200, "{}", answer.message());
        let refused = scene
            .admin
            .post(&format!("{collection}?dryRun=All"), &workflow("today", &old["spec"]))
            .await;
        ensure!(refused.code == 422, "the rules are not back yet: {}", refused.code);
        Ok(())
    })
    .await;
    // Another field may change beside it, and the value stays, as far as the definition goes.
    let path = format!("{collection}/yesterday");
    let touch = json!({"spec": {"owner": {"team": "ml"}}});
    scene.admin.patch(&path, &touch).await.refused_by("valid-declaration");
    unasked.patch(&path, &touch).await.ok();
    let label = json!({"metadata": {"labels": {"team": "ml"}}});
    scene.admin.patch(&path, &label).await.ok();
    let found = scene.condition("yesterday", "Accepted", "False").await;
    let accepted = condition(&found, "Accepted");
    assert_eq!(accepted["reason"], "Invalid");
    let message = accepted["message"].as_str().unwrap();
    for part in [
        "spec.launchers[0].group",
        "system:authenticated",
        "spec.permissions.rules[0].apiGroups",
        "\"*\"",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    let roles = scene.admin.items(&all("Role", &scene.fenced)).await.unwrap();
    assert!(roles.is_empty(), "it must not be granted: {roles:?}");
    let mut of_old = workload("Job", &pod("old", "yesterday"));
    of_old["spec"]["suspend"] = json!(true);
    scene
        .lea
        .post(&all("Job", &scene.fenced), &of_old)
        .await
        .refused_by("declared-workflow");
    scene.admin.delete(&path).await.ok();
}

fn without_rules(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_rules),
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            fields.values_mut().for_each(without_rules);
        }
        _ => {}
    }
}

async fn trusted(scene: &Scene) -> Result<Vec<String>> {
    let registration = scene.admin.read(REGISTRATION).await?;
    let webhooks = registration["webhooks"].as_array().context("no webhooks")?;
    let bundles = webhooks.iter().map(|webhook| {
        webhook["clientConfig"]["caBundle"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    });
    Ok(bundles.collect())
}

async fn tampered_trust_is_repaired(scene: &Scene) {
    let before = trusted(scene).await.unwrap();
    assert!(
        before.iter().all(|bundle| !bundle.is_empty() && *bundle == before[0]),
        "{before:?}"
    );
    // A bundle that can be read, of somebody else: that of the API server itself.
    let ca = std::fs::read(&scene.cluster.ready().ca_certificate).expect("the CA");
    let foreign = serde_json::to_value(k8s_openapi::ByteString(ca)).expect("base64");
    let tamper: Vec<Value> = (0..before.len())
        .map(|i| json!({"op": "replace", "path": format!("/webhooks/{i}/clientConfig/caBundle"), "value": foreign}))
        .collect();
    scene.admin.json_patch(REGISTRATION, &json!(tamper)).await.ok();
    eventually(SOON, || async {
        ensure!(trusted(scene).await? == before, "it is not repaired yet");
        let answer = scene
            .lea
            .post(
                &format!("{}?dryRun=All", all("Pod", &scene.fenced)),
                &pod("trusted", "triage"),
            )
            .await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
}

async fn a_missing_registration_is_named(scene: &Scene, ringfence: &Ringfence) {
    scene.admin.delete(RENDERED).await.ok();
    scene.admin.delete(REGISTRATION).await.ok();
    eventually(SOON, || async {
        let (code, body) = ringfence.get("/readyz").await?;
        ensure!(code == 503, "{code} {body}");
        let report: Value = serde_json::from_str(&body)?;
        ensure!(report["pending"][0]["gate"] == "certificate", "{report}");
        let reason = report["pending"][0]["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains("ValidatingWebhookConfiguration ringfence"), "{report}");
        Ok(())
    })
    .await;
    let (code, _) = ringfence.get("/livez").await.unwrap();
    assert_eq!(code, 200, "a restart would mend nothing");
    scene
        .cluster
        .install(ringfence.port, &json!({}))
        .await
        .expect("Helm puts it back");
    eventually(SOON, || async {
        let (code, body) = ringfence.get("/readyz").await?;
        ensure!(code == 200, "{code} {body}");
        Ok(())
    })
    .await;
    in_force(&scene.admin).await;
    scene.cluster.trusted().await.expect("the registration");
}

async fn a_second_process_serves_alike(scene: &Scene, first: &Ringfence) -> Vec<u8> {
    let [port, metrics_port] = free_ports();
    let second = scene
        .cluster
        .spawn_ringfence(BINARY, port, metrics_port)
        .await
        .expect("a second process");
    let bundle = &trusted(scene).await.unwrap()[0];
    let certificate = certificate_of(bundle, first.port).await;
    assert_eq!(
        certificate_of(bundle, second.port).await,
        certificate,
        "both serve what the Secret holds"
    );
    let mut broken = pod("broken", "triage");
    broken["spec"]["containers"][0]["image"] = json!("docker.io/library/evil:1");
    for port in [first.port, second.port] {
        let fits = review(bundle, port, &scene.fenced, &pod("fits", "triage"))
            .await
            .expect("an answer");
        assert_eq!(fits["response"]["allowed"], true, "{fits}");
        let refused = review(bundle, port, &scene.fenced, &broken).await.expect("an answer");
        assert_eq!(refused["response"]["uid"], UID);
        assert_eq!(refused["response"]["allowed"], false, "{refused}");
    }
    let code = second.terminate(Duration::from_secs(30)).await.expect("its end");
    assert_eq!(code, 0, "a stop is no failure");
    certificate
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port"));
    listeners
        .each_ref()
        .map(|listener| listener.local_addr().expect("an address").port())
}

/// Refused, because nobody answers at a webhook.
#[track_caller]
fn not_asked(answer: &crate::world::Answer, webhook: &str) {
    let said = format!("failed calling webhook \"{webhook}.ringfence.dev\"");
    assert!(answer.message().contains(&said), "{}", answer.message());
}

async fn killed_it_fails_closed_and_comes_back(scene: &Scene, ringfence: Ringfence, certificate: &[u8]) {
    let (port, metrics_port) = (ringfence.port, ringfence.metrics_port);
    let first = one("Pod", &scene.fenced, "first");
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    let held = finalizers(json!(["example.com/x"]));
    scene.lea.patch(&first, &held).await.ok();
    ringfence.kill();

    for kind in ["Pod", "Job"] {
        let answer = scene.post(kind, "down").await;
        assert_eq!(answer.code, 500, "{}", answer.body);
        not_asked(&answer, "fence");
    }
    let account = one("ServiceAccount", &scene.plain, "default");
    eventually(SOON, || async { scene.admin.read(&account).await }).await;
    let mut plain = pod("plain", "x");
    plain["metadata"]["labels"] = json!({});
    plain["spec"]["serviceAccountName"] = json!("default");
    scene.admin.post(&all("Pod", &scene.plain), &plain).await.ok();
    // What carries the label is asked about everywhere.
    plain["metadata"] = json!({"name": "labelled", "labels": {"ringfence.dev/workflow": "triage"}});
    let answer = scene.admin.post(&all("Pod", &scene.plain), &plain).await;
    not_asked(&answer, "label");

    // Nobody holds a pod, and its end begins; who takes a finalizer off that its record names waits, because what else that record then says
    // is asked about.
    let more = finalizers(json!(["example.com/x", "example.com/y"]));
    let answer = scene.admin.patch(&first, &more).await;
    not_asked(&answer, "fence");
    scene.admin.delete(&first).await.ok();
    let answer = scene.admin.patch(&first, &finalizers(Value::Null)).await;
    not_asked(&answer, "fence");

    let back = scene
        .cluster
        .spawn_ringfence(BINARY, port, metrics_port)
        .await
        .expect("ringfence again");
    eventually(SOON, || async {
        let answer = scene.post("Pod", "back").await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
    scene.admin.patch(&first, &finalizers(Value::Null)).await.ok();
    scene.admin.gone(&first).await;
    assert_eq!(
        certificate_of(&trusted(scene).await.unwrap()[0], port).await,
        certificate,
        "the certificate is the Secret's"
    );
    back.kill();
}
