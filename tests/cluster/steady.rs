//! Where nothing changes, nothing is written: counted by the API server itself, because a resourceVersion does not show a PUT that
//! changes nothing. On a control plane of its own, where whoever else writes what Ringfence writes would be counted as well.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use support::cel::valid;
use support::{ControlPlane, Identity, Options, Ringfence, eventually, unique};

use crate::world::{
    Actor, BINARY, CLASSES, NAMESPACES, POLICIES, SOON, TENANT, all, condition, counted, in_force, namespace, one,
    unasked, workflow,
};

/// How often every controller looks at everything again: each start is such a look, as a resync is.
const LOOKS: u32 = 3;
const CONTROLLERS: [&str; 6] = [
    "aiworkflow",
    "aiworkflowclass",
    "aiworkflowgrant",
    "namespace",
    "regopolicy",
    "regopolicyexception",
];

struct Scene {
    cluster: ControlPlane,
    admin: Actor,
    tenant: Identity,
    ns: String,
    class: String,
}

/// Writes that the API server was asked for: of what Ringfence writes.
pub async fn writes(admin: &Actor) -> BTreeMap<String, f64> {
    support::calls::writes(&admin.text("/metrics").await).expect("counters")
}

#[tokio::test]
async fn nothing_is_written_where_nothing_changes() {
    let cluster = ControlPlane::start(Options::default()).expect("a control plane");
    let often = ["--scan-period=1s".to_owned()];
    let mut ringfence = cluster
        .start_ringfence_with(BINARY, &Value::Null, &often)
        .await
        .expect("ringfence");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let class = unique("steady");
    let scene = Scene {
        ns: namespace(&admin, "steady", &json!({})).await,
        tenant: Identity::user("tara", &[]),
        cluster,
        admin,
        class,
    };
    let declared = scene.declare().await;
    // Events, and what a condition says of another object, come a moment after the rest.
    eventually(SOON, || async {
        let before = writes(&scene.admin).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        ensure!(writes(&scene.admin).await == before, "it is not quiet yet");
        Ok(())
    })
    .await;
    let before = writes(&scene.admin).await;
    for written in [
        "POST roles/",
        "POST networkpolicies/",
        "PUT aiworkflows/status",
        "PUT regopolicies/status",
        "PUT validatingwebhookconfigurations/",
        "POST events/",
    ] {
        assert!(before.contains_key(written), "{written} was not counted: {before:?}");
    }
    for look in 1..=LOOKS {
        let (port, metrics_port) = (ringfence.port, ringfence.metrics_port);
        ringfence.kill();
        let again = scene.cluster.spawn_ringfence(BINARY, port, metrics_port).await;
        ringfence = again.expect("ringfence again");
        scene.every_controller_has_looked(&ringfence).await;
        // Whether its Role is still below the ceiling, once: what else wakes the controller asks nothing.
        let asked = support::calls::dry_runs(&scene.admin.text("/metrics").await).expect("counters");
        assert_eq!(asked.get("PATCH roles/"), Some(&f64::from(look)), "{asked:?}");
    }
    assert_eq!(writes(&scene.admin).await, before, "by resyncs");
    scene.applied_again(&declared).await;
    scene.every_controller_has_looked(&ringfence).await;
    assert_eq!(writes(&scene.admin).await, before, "by applying the same again");
}

impl Scene {
    /// One of each kind, and a workflow that is ready. Returns what the tenant and the platform keep in a repository: the
    /// workflow, and the class.
    async fn declare(&self) -> [Value; 2] {
        let read = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
        let class = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": self.class},
            "spec": {
                "images": {"allowed": ["**"]}, "permissions": read, "network": {"cidrs": ["203.0.113.0/24"]},
                "exceptions": {"namespaces": [self.ns], "maxDays": 30},
            },
        });
        let binding = json!({
            "metadata": {"name": "tara"}, "subjects": [{"kind": "User", "name": "tara"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": TENANT},
        });
        self.admin.post(&all("RoleBinding", &self.ns), &binding).await.ok();
        let egress = json!([{"name": "world", "to": {"cidrs": ["203.0.113.0/24"]}, "ports": [{"port": 443}]}]);
        let mut triage = workflow(
            "triage",
            &json!({"permissions": {"rules": read}, "network": {"egress": egress}}),
        );
        triage["metadata"]["namespace"] = json!(self.ns);
        let grant = json!({"metadata": {"name": "readers"}, "spec": {"from": [{"namespace": self.ns, "name": "triage"}], "rules": read}});
        let expires = Timestamp::now() + Duration::from_secs(20 * 24 * 3600);
        let exception = json!({"metadata": {"name": "old"}, "spec": {
            "policies": ["no-literal-secrets"], "names": ["nightly"], "reason": "vendor image", "expiresAt": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }});
        self.apply(&Identity::Admin, &class, &[]).await;
        let enforce = json!({"metadata": {"labels": {"ringfence.dev/enforce": self.class}}});
        self.admin
            .patch(&format!("{NAMESPACES}/{}", self.ns), &enforce)
            .await
            .ok();
        let tenant = Actor::new(self.cluster.client(&self.tenant).await);
        eventually(SOON, || async { tenant.read(&all("AIWorkflow", &self.ns)).await }).await;
        self.apply(&self.tenant, &triage, &[]).await;
        for (kind, object) in [("AIWorkflowGrant", grant), ("RegoPolicyException", exception)] {
            let mut object = object;
            object["apiVersion"] = json!("ringfence.dev/v1alpha1");
            object["kind"] = json!(kind);
            self.admin.post(&all(kind, &self.ns), &object).await.ok();
        }
        // Of no kind that is served: nothing else is asked about.
        let mut policy = valid("RegoPolicy", &unique("steady"), &json!({}));
        policy["spec"]["matchConstraints"]["resourceRules"][0]["apiGroups"] = json!(["test.example.com"]);
        unasked(&self.cluster).await.post(POLICIES, &policy).await.ok();
        eventually(SOON, || async {
            let workflow = self.admin.read(&one("AIWorkflow", &self.ns, "triage")).await?;
            let ready = condition(&workflow, "Ready")["status"] == "True";
            ensure!(ready, "{}", workflow["status"]);
            Ok(())
        })
        .await;
        [triage, class]
    }

    async fn apply(&self, identity: &Identity, object: &Value, how: &[&str]) {
        let path = self.cluster.directory().join(format!("{}.json", unique("steady")));
        std::fs::write(&path, object.to_string()).expect("writing a manifest");
        let path = path.display().to_string();
        let arguments = [&["apply", "-f", path.as_str()], how].concat();
        let said = self.cluster.kubectl_as(identity, &arguments).await.expect("kubectl");
        assert!(said.success, "{how:?}: {said}");
    }

    /// Waits until each has reconciled something, and the others have had time to.
    async fn every_controller_has_looked(&self, ringfence: &Ringfence) {
        eventually(SOON, || async {
            for controller in CONTROLLERS {
                let label = format!("controller=\"{controller}\"");
                let looks = counted(ringfence, "ringfence_reconcile_total", &[&label]).await;
                ensure!(looks >= 1.0, "{controller} has not looked yet");
            }
            Ok(())
        })
        .await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    /// As Argo CD and Flux do, and people beside them: the same manifests by other field managers.
    async fn applied_again(&self, [triage, class]: &[Value; 2]) {
        let paths = [
            one("AIWorkflow", &self.ns, "triage"),
            format!("{CLASSES}/{}", self.class),
        ];
        let generations = async || {
            let mut found = Vec::new();
            for path in &paths {
                found.push(self.admin.get(path).await.ok()["metadata"]["generation"].clone());
            }
            found
        };
        let before = generations().await;
        for (identity, object) in [(&self.tenant, triage), (&Identity::Admin, class)] {
            for how in [
                &[][..],
                &[
                    "--server-side",
                    "--force-conflicts",
                    "--field-manager=argocd-controller",
                ],
                &[
                    "--server-side",
                    "--force-conflicts",
                    "--field-manager=kustomize-controller",
                ],
                &[
                    "--server-side",
                    "--force-conflicts",
                    "--field-manager=argocd-controller",
                ],
                &[],
            ] {
                self.apply(identity, object, how).await;
                assert_eq!(generations().await, before, "{how:?}");
            }
        }
    }
}
