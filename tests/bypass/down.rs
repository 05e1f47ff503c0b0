//! Door: nobody answers: what the attackers then send still fails, and what the cluster lives by goes on.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{ControlPlane, Identity, eventually};

use crate::world::{
    Actor, BINARY, NAMESPACES, SOON, all, counted, in_force, master, namespace, one, pod, tenant_everywhere, workflow,
    workload,
};

const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ringfence-bindings";

async fn has_pods_of(admin: &Actor, namespace: &str, count: usize) {
    eventually(SOON, || async {
        let pods = admin.items(&all("Pod", namespace)).await?;
        ensure!(pods.len() == count, "{} pods in {namespace}", pods.len());
        Ok(())
    })
    .await;
}

async fn sets_are_of(admin: &Actor, namespace: &str, replicas: u64) {
    eventually(SOON, || async {
        let sets = admin.items(&all("ReplicaSet", namespace)).await?;
        let all_of_them = sets.iter().all(|set| set["spec"]["replicas"] == replicas);
        ensure!(!sets.is_empty() && all_of_them, "{sets:?}");
        Ok(())
    })
    .await;
}

fn to_account(namespace: &str) -> Value {
    json!({
        "metadata": {"generateName": "b-"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": "triage"}],
    })
}

/// The guards are the API server's own, and what only a webhook could judge is refused while none answers. The rest of the cluster goes on:
/// kubelets' tokens, other namespaces, garbage collection, and the way out by `approve`, which is told of as soon as somebody is back.
/// Held by: `ringfence-modes`, `ringfence-owned-objects`, `ringfence-reserved-keys`, `ringfence-status`, `API server`
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

    let glass = &namespace(&admin, "glass", &json!({"ringfence.dev/enforce": "default"})).await;
    let deny = one("NetworkPolicy", glass, "ringfence");
    eventually(SOON, || async { admin.read(&deny).await }).await;
    let owner = owner_of(&cluster, &admin, ns).await;
    // What is to be stopped while nobody is there: also where it is the label alone that has it asked about.
    let warned = &namespace(&admin, "warned", &json!({"ringfence.dev/warn": "default"})).await;
    let lea = master(&cluster, "lea", &[]).await;
    tess.post(&all("AIWorkflow", warned), &workflow("triage", &json!({})))
        .await
        .ok();
    for ns in [ns, warned] {
        let made = one("ServiceAccount", ns, "triage");
        eventually(SOON, || async { admin.read(&made).await }).await;
        lea.post(&all("Deployment", ns), &workload("Deployment", &pod("web", "triage")))
            .await
            .ok();
        has_pods_of(&admin, ns, 1).await;
    }
    let (port, metrics_port) = (ringfence.port, ringfence.metrics_port);
    ringfence.kill();
    let off = json!({"metadata": {"labels": {"ringfence.dev/enforce": null}}});
    let fenced = format!("{NAMESPACES}/{ns}");
    owner.patch(&fenced, &off).await.refused_by_guard("ringfence-modes");
    for path in [&account, &one("NetworkPolicy", ns, "ringfence")] {
        owner.delete(path).await.refused_by_guard("ringfence-owned-objects");
        admin.delete(path).await.refused_by_guard("ringfence-owned-objects");
    }
    let signed = json!({"metadata": {"name": "signed", "annotations": {"ringfence.dev/owner-uid": "x"}}, "rules": []});
    owner
        .post(&all("Role", ns), &signed)
        .await
        .refused_by_guard("ringfence-reserved-keys");
    let record = json!({"status": {"reviewed": {"generation": 1, "registrationUID": "x"}}});
    let status = format!("{}/status", one("AIWorkflow", ns, "triage"));
    owner.patch(&status, &record).await.refused_by_guard("ringfence-status");
    // What the platform may do with nobody there.
    admin.patch(&format!("{NAMESPACES}/{glass}"), &off).await.ok();
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
    for ns in [ns, warned] {
        for replicas in [2, 0] {
            let scaled = json!({"spec": {"replicas": replicas}});
            lea.patch(&format!("{}/scale", one("Deployment", ns, "web")), &scaled)
                .await
                .ok();
            sets_are_of(&admin, ns, replicas).await;
        }
        has_pods_of(&admin, ns, 0).await;
    }
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

    // What was done while it was away is seen, done, counted and told.
    let back = cluster
        .spawn_ringfence(BINARY, port, metrics_port)
        .await
        .expect("ringfence again");
    admin.gone(&deny).await;
    assert!(counted(&back, "ringfence_break_glass_total", &[]).await >= 1.0);
    eventually(SOON, || async {
        let events = admin.items(&all("Event", "default")).await?;
        let told = events
            .iter()
            .any(|event| event["reason"] == "BreakGlass" && event["regarding"]["name"] == *glass.as_str());
        ensure!(told, "no Event tells of it");
        Ok(())
    })
    .await;
}

/// Somebody who is `cluster-admin` in one namespace.
async fn owner_of(cluster: &ControlPlane, admin: &Actor, ns: &str) -> Actor {
    let identity = Identity::user("olga", &[]);
    let binding = json!({
        "metadata": {"name": "olga"}, "subjects": [{"kind": "User", "name": "olga"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    });
    admin.post(&all("RoleBinding", ns), &binding).await.ok();
    let actor = Actor::new(cluster.client(&identity).await);
    eventually(SOON, || async { actor.read(&all("Pod", ns)).await }).await;
    actor
}
