//! Nobody answers: what the attackers then send still fails, and what the cluster lives by goes on.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{ControlPlane, eventually};

use crate::world::{Actor, BINARY, NAMESPACES, SOON, all, in_force, namespace, one, tenant_everywhere, workflow};

const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ringfence-bindings";

fn to_account(namespace: &str) -> Value {
    json!({
        "metadata": {"generateName": "b-"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": "triage"}],
    })
}

#[tokio::test]
async fn the_attacker_waits_until_no_replica_is_there() {
    let cluster = ControlPlane::start(Default::default()).expect("a control plane");
    let ringfence = cluster.start_ringfence(BINARY, &Value::Null).await.expect("ringfence");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let tess = tenant_everywhere(&cluster, &admin).await;
    let ns = &namespace(&admin, "fenced", &json!({"ringfence.dev/enforce": "default"})).await;
    let plain = &namespace(&admin, "plain", &json!({})).await;
    tess.post(&all("AIWorkflow", ns), &workflow("triage", &json!({})))
        .await
        .ok();
    let account = one("ServiceAccount", ns, "triage");
    eventually(SOON, || async { admin.read(&account).await }).await;

    // Somebody empties what the operator filled, while it can see that: it is put back.
    let mut emptied = admin.read(REGISTRATION).await.unwrap();
    emptied["webhooks"] = json!([]);
    admin.put(REGISTRATION, &emptied).await.ok();
    let bindings = all("RoleBinding", plain);
    eventually(SOON, || async {
        let registration = admin.read(REGISTRATION).await?;
        ensure!(
            registration["webhooks"]
                .as_array()
                .is_some_and(|filled| filled.len() == 1),
            "still empty"
        );
        let answer = admin.post(&format!("{bindings}?dryRun=All"), &to_account(ns)).await;
        ensure!(answer.message().contains("[extra-binding]"), "{}", answer.message());
        Ok(())
    })
    .await;

    ringfence.kill();
    let token =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    let secret = json!({
        "metadata": {"name": "token", "annotations": {"kubernetes.io/service-account.name": "triage"}},
        "type": "kubernetes.io/service-account-token",
    });
    for (path, object) in [
        (bindings.clone(), to_account(ns)),
        (format!("{account}/token"), token.clone()),
        (format!("/api/v1/namespaces/{ns}/secrets"), secret),
        (all("ServiceAccount", ns), json!({"metadata": {"name": "helper"}})),
    ] {
        let answer = admin.post(&path, &object).await;
        assert!(
            answer.message().contains("failed calling webhook"),
            "{path}: {}",
            answer.message()
        );
    }

    let kubelet = Actor::new(
        cluster
            .impersonate("system:node:n1", &["system:nodes", "system:masters"])
            .await,
    );
    kubelet.post(&format!("{account}/token"), &token).await.ok();
    admin.post(&bindings, &to_account(plain)).await.ok();
    admin
        .post(
            &format!("/api/v1/namespaces/{ns}/secrets"),
            &json!({"metadata": {"name": "plain"}}),
        )
        .await
        .ok();
    // The built-in controllers: the account `default` and the root certificate come back, and what lost its owner goes.
    for path in [
        one("ServiceAccount", ns, "default"),
        one("ConfigMap", ns, "kube-root-ca.crt"),
    ] {
        let uid = admin.read(&path).await.unwrap()["metadata"]["uid"].clone();
        admin.delete(&path).await.ok();
        eventually(SOON, || async {
            ensure!(
                admin.read(&path).await?["metadata"]["uid"] != uid,
                "{path} is still the old one"
            );
            Ok(())
        })
        .await;
    }
    admin.delete(&one("AIWorkflow", ns, "triage")).await.ok();
    admin.gone(&account).await;
    admin.delete(&format!("{NAMESPACES}/{ns}")).await.ok();
    admin.gone(&format!("{NAMESPACES}/{ns}")).await;
}
