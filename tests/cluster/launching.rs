//! The fence against the real controllers: what they do for a launcher passes, and what looks like it does not.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use ringfence::api::AIWorkflow;
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};
use support::{ControlPlane, eventually, unique};

const SOON: Duration = Duration::from_secs(60);
const BINARY: &str = env!("CARGO_BIN_EXE_ringfence");

/// An enforced namespace with the AIWorkflow `triage`, whose launcher is `ann`; `ann` and `bob` may do there what built-in `edit` may.
struct Fenced {
    cluster: &'static ControlPlane,
    namespace: String,
}

impl Fenced {
    async fn new() -> Self {
        let cluster = ControlPlane::shared();
        cluster.ringfence(BINARY).await;
        let admin = cluster.admin().await;
        let namespace = unique("fence");
        let labels = json!({
            "owner": "ml", "pod-security.kubernetes.io/enforce": "restricted", "ringfence.dev/enforce": "default",
        });
        let object = json!({"metadata": {"name": namespace, "labels": labels}});
        let namespaces = Api::<Namespace>::all(admin.clone());
        // The class `default` comes a moment after the first replica is ready.
        eventually(SOON, || async { Ok(create(&namespaces, object.clone()).await?) }).await;
        let binding = json!({
            "metadata": {"name": "edit"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"},
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"},
            ],
        });
        create(&Api::<RoleBinding>::namespaced(admin.clone(), &namespace), binding)
            .await
            .unwrap();
        let workflow = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"name": "triage"},
            "spec": {
                "images": ["registry.example.com/finance/*"],
                "launchers": [{"user": "ann"}],
            },
        });
        create(&Api::<AIWorkflow>::namespaced(admin, &namespace), workflow)
            .await
            .unwrap();
        Self { cluster, namespace }
    }

    async fn user<K>(&self, name: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.cluster.user(name, &[]).await, &self.namespace)
    }

    async fn pods_of(&self, selector: &str) -> Vec<Pod> {
        let api: Api<Pod> = Api::namespaced(self.cluster.admin().await, &self.namespace);
        let pods = api.list(&ListParams::default().labels(selector)).await.expect("pods");
        pods.items
    }
}

async fn create<K>(api: &Api<K>, object: Value) -> kube::Result<K>
where
    K: Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    api.create(&PostParams::default(), &from_value(object).expect("an object"))
        .await
}

fn template(app: &str) -> Value {
    json!({
        "metadata": {"labels": {"ringfence.dev/workflow": "triage", "app": app}},
        "spec": {
            "serviceAccountName": "triage",
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "a", "image": "registry.example.com/finance/triage:1",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "labels": {"ringfence.dev/workflow": "triage"}})
}

fn job(name: &str) -> Value {
    let mut template = template(name);
    template["spec"]["restartPolicy"] = json!("Never");
    json!({"metadata": metadata(name), "spec": {"template": template}})
}

fn deployment(name: &str) -> Value {
    let selector = json!({"matchLabels": {"app": name}});
    json!({"metadata": metadata(name), "spec": {"replicas": 1, "selector": selector, "template": template(name)}})
}

fn assert_refused<T: std::fmt::Debug>(result: kube::Result<T>, rule: &str) {
    match result {
        Err(kube::Error::Api(status)) => {
            assert!(
                status.code == 403 && status.message.contains(&format!("[{rule}]")),
                "{status:?}"
            );
        }
        other => panic!("must be refused by {rule}: {other:?}"),
    }
}

#[tokio::test]
async fn what_a_launcher_makes_runs_through_its_controllers() {
    let fenced = Fenced::new().await;
    create(&fenced.user::<Job>("ann").await, job("once"))
        .await
        .expect("a launcher's Job");
    create(&fenced.user::<Deployment>("ann").await, deployment("served"))
        .await
        .expect("a launcher's Deployment");
    let cron_job = json!({"metadata": metadata("often"), "spec": {"schedule": "* * * * *", "suspend": true, "jobTemplate": job("often")}});
    let mut cron_job = cron_job;
    cron_job["spec"]["jobTemplate"]["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("name");
    create(&fenced.user::<CronJob>("ann").await, cron_job)
        .await
        .expect("a launcher's CronJob");
    for selector in ["app=once", "app=served"] {
        eventually(SOON, || async {
            let pods = fenced.pods_of(selector).await;
            anyhow::ensure!(!pods.is_empty(), "no pod of {selector} yet");
            Ok(())
        })
        .await;
    }
    // A rollout: the controller makes a second ReplicaSet, and scales the first one down by UPDATE.
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "registry.example.com/finance/triage:2"}]}}}});
    let as_bob = fenced.user::<Deployment>("bob").await;
    assert_refused(
        as_bob
            .patch("served", &PatchParams::default(), &Patch::Strategic(&image))
            .await,
        "launcher",
    );
    let scale = json!({"spec": {"replicas": 2}});
    as_bob
        .patch("served", &PatchParams::default(), &Patch::Merge(&scale))
        .await
        .expect("scaling is free");
    let as_ann = fenced.user::<Deployment>("ann").await;
    as_ann
        .patch("served", &PatchParams::default(), &Patch::Strategic(&image))
        .await
        .expect("a launcher's rollout");
    eventually(SOON, || async {
        let sets: Api<ReplicaSet> = fenced.user("ann").await;
        let sets = sets.list(&ListParams::default().labels("app=served")).await?;
        anyhow::ensure!(sets.items.len() == 2, "{} ReplicaSets", sets.items.len());
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_job_ends_and_goes_after_its_workflow_is_gone() {
    let fenced = Fenced::new().await;
    create(&fenced.user::<Job>("ann").await, job("ending"))
        .await
        .expect("a launcher's Job");
    eventually(SOON, || async {
        anyhow::ensure!(!fenced.pods_of("app=ending").await.is_empty(), "no pod yet");
        Ok(())
    })
    .await;
    let admin = fenced.cluster.admin().await;
    let workflows: Api<AIWorkflow> = Api::namespaced(admin.clone(), &fenced.namespace);
    workflows
        .delete("triage", &DeleteParams::default())
        .await
        .expect("deleting the workflow");
    let jobs: Api<Job> = fenced.user("bob").await;
    jobs.delete("ending", &DeleteParams::background())
        .await
        .expect("deleting the Job");
    // The pod has the Job's finalizer, which the controller takes off by UPDATE; no kubelet is here to end it otherwise.
    eventually(SOON, || async {
        anyhow::ensure!(jobs.get_opt("ending").await?.is_none(), "the Job is still there");
        let left = fenced.pods_of("app=ending").await;
        anyhow::ensure!(
            left.iter().all(|pod| pod.finalizers().is_empty()),
            "a finalizer is still there"
        );
        Ok(())
    })
    .await;
}
