//! Door: what is withdrawn is kept by a finalizer, and made such that nobody can read it.

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::{ControlPlane, Identity, eventually};

use crate::field_managers::deep;
use crate::rights::rule;
use crate::world::{
    Actor, BINARY, CLASSES, NAMESPACES, SOON, all, condition, namespace, one, own, tenant_everywhere, unasked, workflow,
};

/// What keeps an object, and ends whoever reads who wrote which field of it.
fn kept() -> Value {
    let fields = json!([{
        "manager": "x", "operation": "Update", "apiVersion": "v1", "time": "2024-02-29T00:00:00Z", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:annotations": deep()}},
    }]);
    json!({"metadata": {"finalizers": ["ada.example/keep"], "managedFields": fields}})
}

/// Somebody with a certificate, who holds that ClusterRole in that namespace.
async fn person(cluster: &ControlPlane, admin: &Actor, ns: &str, role: &str) -> Actor {
    let binding = json!({
        "metadata": {"name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": role}],
    });
    admin.post(&all("RoleBinding", ns), &binding).await.ok();
    let actor = Actor::new(cluster.client(&Identity::user(role, &[])).await);
    let pods = all("Pod", ns);
    eventually(SOON, || async { actor.read(&pods).await }).await;
    actor
}

/// Of a namespace that is only warned about, in the moment in which no replica is there; what Ringfence sees in time it puts back before it
/// withdraws it. Another workflow beside keeps what it declares.
///
/// Held by: `operator`
#[tokio::test]
async fn the_admin_of_a_namespace_keeps_what_is_withdrawn() {
    let flags = ["--scan-period=0", "--egress-proxy"];
    let (cluster, ringfence, admin) = own(&flags).await;
    let tess = tenant_everywhere(&cluster, &admin).await;
    let rules = [rule(&[""], &["configmaps"], &["get"])];
    let class = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "wide"},
        "spec": {"images": {"allowed": ["**"]}, "permissions": rules, "network": {"domains": ["*.example.com"]}},
    });
    admin.post(CLASSES, &class).await.ok();
    let ns = &namespace(&admin, "warned", &json!({"ringfence.dev/warn": "wide"})).await;
    let spec = json!({
        "permissions": {"rules": rules},
        "network": {"egress": [{"name": "api", "to": {"domains": ["api.example.com"]}, "ports": [{"port": 443}]}]},
    });
    let path = |kind: &str, name: &str, part: &str| one(kind, ns, &owned_name(ns, name, part));
    let holds = async |name: &str, expected: bool| {
        let attributes = json!({"verb": "get", "resource": "configmaps", "namespace": ns});
        let account = format!("system:serviceaccount:{ns}:{name}");
        let review = json!({"spec": {"user": account, "resourceAttributes": attributes}});
        eventually(SOON, || async {
            let answer = admin
                .post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review)
                .await
                .ok();
            ensure!(answer["status"]["allowed"] == expected, "{name}: {}", answer["status"]);
            Ok(())
        })
        .await;
    };
    for name in ["triage", "other"] {
        tess.post(&all("AIWorkflow", ns), &workflow(name, &spec)).await.ok();
        let way = path("NetworkPolicy", name, "domains");
        eventually(SOON, || async { admin.read(&way).await }).await;
        holds(name, true).await;
    }
    let (ada, edith) = (
        person(&cluster, &admin, ns, "admin").await,
        person(&cluster, &admin, ns, "edit").await,
    );

    let (port, metrics) = (ringfence.port, ringfence.metrics_port);
    ringfence.kill();
    let (binding, role) = (path("RoleBinding", "triage", "binding"), path("Role", "triage", "role"));
    let way = path("NetworkPolicy", "triage", "domains");
    for of in [&binding, &role] {
        ada.patch(of, &kept()).await.ok();
    }
    edith.patch(&way, &kept()).await.ok();
    let none = json!({"spec": {"permissions": null, "network": null}});
    let declared = one("AIWorkflow", ns, "triage");
    unasked(&cluster).await.patch(&declared, &none).await.ok();
    let flags = flags.map(str::to_owned);
    let _again = cluster
        .spawn_ringfence_with(BINARY, port, metrics, &flags)
        .await
        .expect("ringfence");
    holds("triage", false).await;
    for of in [&binding, &role, &way] {
        admin.gone(of).await;
    }
    holds("other", true).await;

    let enforced = json!({"metadata": {"labels": {"ringfence.dev/enforce": "wide"}}});
    admin.patch(&format!("{NAMESPACES}/{ns}"), &enforced).await.ok();
    for name in ["triage", "other"] {
        let path = one("AIWorkflow", ns, name);
        eventually(SOON, || async {
            let workflow = admin.read(&path).await?;
            let ready = condition(&workflow, "Ready");
            ensure!(ready["status"] == "True", "{}", workflow["status"]);
            Ok(())
        })
        .await;
    }
    holds("triage", false).await;
    holds("other", true).await;
}
