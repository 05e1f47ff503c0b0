//! Every shipped engine, declared by a tenant under a ceiling that holds its rules: on a control plane of its own, because the ceiling
//! is the cluster's.

use anyhow::ensure;
use ringfence::plan::{owned_name, shipped};
use serde_json::{Value, json};
use support::{ControlPlane, eventually};

use crate::world::{Actor, BINARY, CLASSES, SOON, TENANT, all, condition, in_force, namespace, one, workflow};

#[tokio::test]
async fn each_shipped_engine_gives_workers_and_launchers_what_its_profile_says() {
    let cluster = ControlPlane::start(Default::default()).expect("a control plane");
    let names: Vec<_> = shipped().iter().map(|profile| profile.name.as_str()).collect();
    let values = json!({"ceiling": {"engines": names}});
    let _ringfence = cluster.start_ringfence(BINARY, &values).await.expect("ringfence");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let tess = Actor::new(cluster.user("tess", &[]).await);
    for profile in shipped() {
        let engine = profile.name.as_str();
        let class = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": engine},
            "spec": {"engines": [{"name": engine}], "images": {"allowed": ["**"]}},
        });
        admin.post(CLASSES, &class).await.ok();
        let ns = &namespace(&admin, engine, &json!({"ringfence.dev/enforce": engine})).await;
        let binding = json!({
            "metadata": {"name": "tess"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": TENANT},
            "subjects": [{"kind": "User", "name": "tess"}],
        });
        admin.post(&all("RoleBinding", ns), &binding).await.ok();
        eventually(SOON, || async { tess.read(&all("AIWorkflow", ns)).await }).await;

        let launcher = json!({"serviceAccount": {"namespace": ns, "name": "scheduler"}});
        let account = json!({"metadata": {"name": "scheduler"}});
        admin.post(&all("ServiceAccount", ns), &account).await.ok();
        let declared = workflow("triage", &json!({"engine": engine, "launchers": [launcher]}));
        tess.post(&all("AIWorkflow", ns), &declared).await.ok();
        let path = one("AIWorkflow", ns, "triage");
        let made = eventually(SOON, || async {
            let workflow = tess.read(&path).await?;
            ensure!(
                condition(&workflow, "Ready")["reason"] == "Fenced",
                "{engine}: {}",
                workflow["status"]
            );
            Ok(workflow)
        })
        .await;
        let status = &made["status"];
        assert_eq!(status["engine"], engine);
        for (part, binding, rules, shown, subject) in [
            ("role", "binding", &profile.worker, "effectiveRules", "triage"),
            ("launcher", "launchers", &profile.launcher, "launcherRules", "scheduler"),
        ] {
            let role = one("Role", ns, &owned_name(ns, "triage", part));
            let binding = one("RoleBinding", ns, &owned_name(ns, "triage", binding));
            if rules.is_empty() {
                assert_eq!(status[shown], Value::Null, "{engine}: {shown}");
                for path in [role, binding] {
                    assert!(!admin.is_there(&path).await.unwrap(), "{engine}: {path}");
                }
                continue;
            }
            assert_eq!(status[shown], json!(rules), "{engine}: {shown}");
            assert_eq!(admin.get(&role).await.ok()["rules"], json!(rules), "{engine}: {part}");
            let subjects = admin.get(&binding).await.ok()["subjects"].clone();
            assert_eq!(
                subjects,
                json!([{"kind": "ServiceAccount", "name": subject, "namespace": ns}]),
                "{engine}: {part}"
            );
        }
    }
}
