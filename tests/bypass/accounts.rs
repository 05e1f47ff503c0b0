//! Door: the workflow's account, or another one, for a pod that was not declared to have it.
//!
//! Bindings, cloud roles and Vault roles go by an account's name: whoever makes it anew, or is given it, has them all.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::attackers::forbidden;
use crate::direct;
use crate::objects::template_of;
use crate::world::{Actor, Answer, SOON, WORKLOADS, World, all, condition, one, pod, workflow, workload};

const OWNED: &str = "ringfence-owned-objects";
const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ringfence";

async fn tried(actor: &Actor, kind: &str, ns: &str, object: &Value) -> Answer {
    actor.post(&format!("{}?dryRun=All", all(kind, ns)), object).await
}

/// Takes the workflow label off wherever it is.
fn unlabelled(mut object: Value) -> Value {
    fn strip(value: &mut Value) {
        if let Some(labels) = value.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove("ringfence.dev/workflow");
        }
        for inner in value.as_object_mut().into_iter().flat_map(|fields| fields.values_mut()) {
            strip(inner);
        }
    }
    strip(&mut object);
    object
}

/// Held by: `declared-workflow`
#[tokio::test]
async fn a_pod_that_belongs_to_no_workflow_runs_as_its_account() {
    let world = World::shared().await;
    let ns = &world.enforced("no-label").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.person(ns, "edit").await;
    for kind in WORKLOADS {
        let fitting = workload(kind, &pod("x", "triage"));
        let attack = unlabelled(fitting.clone());
        for attacker in [&world.admin, &lea] {
            tried(attacker, kind, ns, &attack).await.refused_by("declared-workflow");
        }
        for tenant in [&world.tess, &edith] {
            let answer = tried(tenant, kind, ns, &attack).await;
            match kind {
                "PodTemplate" => forbidden(&answer),
                _ => drop(answer.refused_by("declared-workflow")),
            }
        }
        tried(&lea, kind, ns, &fitting).await.ok();
    }
}

/// Held by: `own-service-account`
#[tokio::test]
async fn a_pod_of_the_workflow_runs_as_another_account() {
    let world = World::shared().await;
    let ns = &world.enforced("other-account").await;
    world.ready(ns, "triage", &json!({})).await;
    world.ready(ns, "other", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.person(ns, "edit").await;
    edith
        .post(&all("ServiceAccount", ns), &json!({"metadata": {"name": "helper"}}))
        .await
        .ok();
    for kind in WORKLOADS {
        for account in [Some("other"), Some("helper"), Some("default"), None] {
            let mut attack = pod("x", "triage");
            attack["spec"]["serviceAccountName"] = json!(account);
            let answer = tried(&lea, kind, ns, &workload(kind, &attack)).await;
            answer.refused_by("own-service-account");
        }
        // By the field's older name.
        let mut older = pod("x", "triage");
        older["spec"]["serviceAccountName"] = json!(null);
        older["spec"]["serviceAccount"] = json!("other");
        tried(&lea, kind, ns, &workload(kind, &older))
            .await
            .refused_by("own-service-account");
    }
    for kind in ["Deployment", "StatefulSet", "CronJob"] {
        lea.post(&all(kind, ns), &workload(kind, &pod("runs", "triage")))
            .await
            .ok();
        let at = |field: &str| format!("{}/spec/{field}", template_of(kind));
        let patch = json!([
            {"op": "replace", "path": at("serviceAccountName"), "value": "other"},
            {"op": "replace", "path": at("serviceAccount"), "value": "other"},
        ]);
        let path = one(kind, ns, "runs");
        lea.json_patch(&path, &patch).await.refused_by("own-service-account");
        let patch = json!([{"op": "replace", "path": at("containers/0/image"), "value": "registry.example.com/finance/triage:2"}]);
        lea.json_patch(&path, &patch).await.ok();
    }
}

/// Held by: `projected-tokens`, `API server`
#[tokio::test]
async fn a_pod_mounts_a_token_for_somebody_else_or_for_longer() {
    let world = World::shared().await;
    let class = world
        .class(&json!({
            "images": {"allowed": ["**"]}, "identity": {"audiences": ["vault", "sts.amazonaws.com"]},
            "volumes": {"types": ["configMap", "emptyDir", "projected"]},
        }))
        .await;
    let ns = &world
        .namespace("tokens", &json!({"ringfence.dev/enforce": class}))
        .await;
    let identity = json!({"audiences": [{"audience": "vault", "maxExpirationSeconds": 900}]});
    world.ready(ns, "triage", &json!({"identity": identity})).await;
    let lea = world.master("lea", &[]).await;
    let mounting = |source: &Value| {
        let mut pod = pod("x", "triage");
        pod["spec"]["volumes"] =
            json!([{"name": "t", "projected": {"sources": [{"configMap": {"name": "c"}}, source]}}]);
        pod
    };
    let token = |audience: Option<&str>, seconds: Option<u64>| json!({"serviceAccountToken": {"path": "t", "audience": audience, "expirationSeconds": seconds}});
    for kind in ["Pod", "Deployment", "CronJob"] {
        for (audience, seconds) in [
            (Some("sts.amazonaws.com"), Some(600)),
            (Some("https://kubernetes.default.svc"), Some(600)),
            (Some("Vault"), Some(600)),
            (Some("vault"), Some(901)),
            (Some("vault"), None),
            (None, Some(86_400)),
            (None, Some(3_608)),
        ] {
            let attack = workload(kind, &mounting(&token(audience, seconds)));
            tried(&lea, kind, ns, &attack).await.refused_by("projected-tokens");
        }
        for (audience, seconds) in [(Some("vault"), Some(900)), (None, Some(3_600)), (None, None)] {
            let fitting = workload(kind, &mounting(&token(audience, seconds)));
            tried(&lea, kind, ns, &fitting).await.ok();
        }
    }

    // A certificate is an identity without a token. This API server knows no such field yet, and leaves it out; one that does, asks.
    let certified = mounting(&json!({"podCertificate": {"signerName": "example.com/any", "keyType": "ED25519"}}));
    let stored = tried(&lea, "Pod", ns, &certified).await;
    assert!(
        !stored.body.to_string().contains("podCertificate\":{"),
        "{}",
        stored.body
    );
    let registration = world.admin.read(REGISTRATION).await.unwrap();
    let bundle = registration["webhooks"][0]["clientConfig"]["caBundle"]
        .as_str()
        .unwrap();
    let asked = async |object: &Value| direct::review(bundle, world.ringfence.port, ns, object).await.unwrap();
    let response = asked(&certified).await["response"].clone();
    assert_eq!(response["allowed"], false, "{response}");
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("[projected-tokens]") && message.contains("podCertificate"),
        "{message}"
    );
    let fitting = asked(&mounting(&token(Some("vault"), Some(900)))).await;
    assert_eq!(fitting["response"]["allowed"], true, "{fitting}");
}

/// Held by: `declared-secrets`
#[tokio::test]
async fn a_pod_mounts_a_token_of_another_account_that_was_written_before_the_fence() {
    let world = World::shared().await;
    let ns = &world.namespace("old-token", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    edith
        .post(&all("ServiceAccount", ns), &json!({"metadata": {"name": "old"}}))
        .await
        .ok();
    let secret = json!({
        "metadata": {"name": "old-token", "annotations": {"kubernetes.io/service-account.name": "old"}},
        "type": "kubernetes.io/service-account-token",
    });
    edith
        .post(&format!("/api/v1/namespaces/{ns}/secrets"), &secret)
        .await
        .ok();
    world.enforce(ns).await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let mut mounts = pod("x", "triage");
    mounts["spec"]["volumes"] = json!([{"name": "t", "secret": {"secretName": "old-token"}}]);
    let mut reads = pod("x", "triage");
    reads["spec"]["containers"][0]["env"] =
        json!([{"name": "T", "valueFrom": {"secretKeyRef": {"name": "old-token", "key": "token"}}}]);
    for attack in [mounts, reads] {
        tried(&lea, "Pod", ns, &attack).await.refused_by("declared-secrets");
    }
    tried(&lea, "Pod", ns, &pod("x", "triage")).await.ok();
}

/// The garbage collector deletes what has lost its owner, by rights of its own.
///
/// Held by: `ringfence-owned-objects`, `RBAC`
#[tokio::test]
async fn the_garbage_collector_is_sent_to_take_the_account() {
    let world = World::shared().await;
    let ns = &world.enforced("collected").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let (_, ada) = world.person(ns, "admin").await;
    let path = one("ServiceAccount", ns, "triage");
    let before = world.admin.read(&path).await.unwrap();
    let dead = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": "dead", "uid": "11111111-1111-1111-1111-111111111111",
    });
    let beside = json!([before["metadata"]["ownerReferences"][0], dead]);
    for attack in [
        json!({"metadata": {"ownerReferences": [dead]}}),
        json!({"metadata": {"ownerReferences": beside}}),
        json!({"metadata": {"ownerReferences": null}}),
        json!({"metadata": {"annotations": {"ringfence.dev/owner-uid": null}}}),
        json!({"metadata": {"finalizers": ["example.com/held"]}}),
        json!({"automountServiceAccountToken": true}),
        json!({"secrets": [{"name": "x"}], "imagePullSecrets": [{"name": "x"}]}),
    ] {
        forbidden(&world.tess.patch(&path, &attack).await);
        for attacker in [&edith, &ada, &world.admin] {
            let answer = attacker.patch(&path, &attack).await;
            // Of what both guards hold, either answers.
            let message = answer.message();
            assert!(
                answer.code == 403 && (message.contains(OWNED) || message.contains("ringfence-reserved-keys")),
                "{attack}: {message}"
            );
        }
    }
    let alone = format!("{}?fieldSelector=metadata.name%3Dtriage", all("ServiceAccount", ns));
    for doomed in [path.clone(), format!("{path}?propagationPolicy=Orphan"), alone] {
        forbidden(&world.tess.delete(&doomed).await);
        for attacker in [&edith, &ada, &world.admin] {
            attacker.delete(&doomed).await.refused_by_guard(OWNED);
        }
    }
    assert_eq!(world.admin.read(&path).await.unwrap(), before, "as it was");
    // With its declaration it goes, by the same collector.
    world.tess.delete(&one("AIWorkflow", ns, "triage")).await.ok();
    world.admin.gone(&path).await;
}

/// A binding that Ringfence made goes with its workflow too: what waits for the name are roles elsewhere.
///
/// Held by: `own-service-account`, `operator`
#[tokio::test]
async fn an_account_is_made_between_two_lives_of_its_workflow() {
    let world = World::shared().await;
    let ns = &world.enforced("two-lives").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let lea = world.master("lea", &[]).await;
    let path = one("ServiceAccount", ns, "triage");
    world.tess.delete(&one("AIWorkflow", ns, "triage")).await.ok();
    world.admin.gone(&path).await;
    let own = json!({"metadata": {"name": "triage"}});
    edith.post(&all("ServiceAccount", ns), &own).await.ok();
    let made = world.admin.read(&path).await.unwrap();
    let reads = json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]});
    let again = workflow("triage", &json!({"permissions": reads}));
    world.tess.post(&all("AIWorkflow", ns), &again).await.ok();
    world.condition(ns, "triage", "Programmed", "False", "NameTaken").await;
    tried(&lea, "Pod", ns, &pod("x", "triage"))
        .await
        .refused_by("own-service-account");
    let bindings = world.admin.items(&all("RoleBinding", ns)).await.unwrap();
    let ours = bindings
        .iter()
        .filter(|binding| binding["metadata"]["annotations"]["ringfence.dev/owner-uid"].is_string());
    assert_eq!(ours.count(), 0, "{bindings:?}");
    let adopted = json!({"metadata": {"annotations": {"ringfence.dev/adopt": "triage"}}});
    edith
        .patch(&path, &adopted)
        .await
        .refused_by_guard("ringfence-reserved-keys");
    assert_eq!(
        world.admin.read(&path).await.unwrap()["metadata"]["uid"],
        made["metadata"]["uid"]
    );
    // Out of the way, the workflow gets an account that nobody else made.
    edith.delete(&path).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    tried(&lea, "Pod", ns, &pod("x", "triage")).await.ok();
}

/// Held by: `own-service-account`, `operator`, `definition`
#[tokio::test]
async fn a_new_workflow_claims_an_account_that_is_anothers() {
    let world = World::shared().await;
    let ns = &world.enforced("claims").await;
    let first = world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let lea = world.master("lea", &[]).await;
    edith
        .post(&all("ServiceAccount", ns), &json!({"metadata": {"name": "helper"}}))
        .await
        .ok();
    for account in ["triage", "helper"] {
        let name = format!("for-{account}");
        let claim = json!({"identity": {"serviceAccountName": account}});
        world
            .tess
            .post(&all("AIWorkflow", ns), &workflow(&name, &claim))
            .await
            .ok();
        world.condition(ns, &name, "Programmed", "False", "NameTaken").await;
        let mut attack = pod("x", &name);
        attack["spec"]["serviceAccountName"] = json!(account);
        tried(&lea, "Pod", ns, &attack).await.refused_by("own-service-account");
    }
    let reserved = workflow("for-default", &json!({"identity": {"serviceAccountName": "default"}}));
    let answer = world.tess.post(&all("AIWorkflow", ns), &reserved).await;
    assert_eq!(answer.code, 422, "{}", answer.body);
    let moved = json!({"spec": {"identity": {"serviceAccountName": "helper"}}});
    let answer = world.tess.patch(&one("AIWorkflow", ns, "triage"), &moved).await;
    assert_eq!(answer.code, 422, "{}", answer.body);
    let account = world.admin.read(&one("ServiceAccount", ns, "triage")).await.unwrap();
    assert_eq!(
        account["metadata"]["annotations"]["ringfence.dev/owner-uid"],
        first["metadata"]["uid"]
    );
    tried(&lea, "Pod", ns, &pod("x", "triage")).await.ok();
}

/// At most one of them ever gets it, whatever order they are seen in.
///
/// Held by: `own-service-account`, `operator`
#[tokio::test]
async fn two_workflows_claim_one_account_in_the_same_moment() {
    let world = World::shared().await;
    let ns = &world.enforced("race").await;
    let lea = world.master("lea", &[]).await;
    for _ in 0..4 {
        let account = unique("shared");
        let names = [unique("left"), unique("right")];
        let claim = json!({"identity": {"serviceAccountName": account}});
        let post = async |name: &str| {
            world
                .tess
                .post(&all("AIWorkflow", ns), &workflow(name, &claim))
                .await
                .ok()
        };
        tokio::join!(post(&names[0]), post(&names[1]));
        let ready = eventually(SOON, || async {
            let mut ready = Vec::new();
            let mut taken = 0;
            for name in &names {
                let found = world.admin.read(&one("AIWorkflow", ns, name)).await?;
                if condition(&found, "Ready")["status"] == "True" {
                    ready.push((name.clone(), found["metadata"]["uid"].clone()));
                }
                taken += usize::from(condition(&found, "Programmed")["reason"] == "NameTaken");
            }
            assert!(ready.len() < 2, "both have it: {ready:?}");
            ensure!(ready.len() == 1 && taken == 1, "{ready:?}, {taken} refused");
            Ok(ready.remove(0))
        })
        .await;
        let (winner, uid) = ready;
        let found = world.admin.read(&one("ServiceAccount", ns, &account)).await.unwrap();
        assert_eq!(found["metadata"]["annotations"]["ringfence.dev/owner-uid"], uid);
        for name in &names {
            let mut claimed = pod("x", name);
            claimed["spec"]["serviceAccountName"] = json!(account);
            let answer = tried(&lea, "Pod", ns, &claimed).await;
            if *name == winner {
                answer.ok();
            } else {
                answer.refused_by("own-service-account");
            }
        }
    }
}
