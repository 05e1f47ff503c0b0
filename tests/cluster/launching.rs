//! The fence against the real controllers: what they do for a launcher passes, and what looks like it does not.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use ringfence::api::AIWorkflow;
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};
use support::{ControlPlane, eventually, unique};

const SOON: Duration = Duration::from_secs(60);
const BINARY: &str = env!("CARGO_BIN_EXE_ringfence");

/// An enforced namespace with the AIWorkflow `triage`, whose launchers are `ann` and the account `scheduler`; `ann`, `bob` and
/// the account may do there what built-in `edit` may.
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
        let account = json!({"metadata": {"name": "scheduler"}});
        create(&Api::<ServiceAccount>::namespaced(admin.clone(), &namespace), account)
            .await
            .unwrap();
        let binding = json!({
            "metadata": {"name": "edit"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"},
                {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"},
                {"kind": "ServiceAccount", "name": "scheduler", "namespace": namespace},
            ],
        });
        // As it stood before the fence: nobody but Ringfence binds an account of an enforced namespace.
        let ringfence = "system:serviceaccount:ringfence-system:ringfence";
        let before = cluster.impersonate(ringfence, &["system:masters"]).await;
        create(&Api::<RoleBinding>::namespaced(before, &namespace), binding)
            .await
            .unwrap();
        let workflow = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"name": "triage"},
            "spec": {
                "images": ["registry.example.com/finance/*"],
                "launchers": [{"user": "ann"}, {"serviceAccount": {"namespace": namespace, "name": "scheduler"}}],
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

    async fn client(&self, account: &str) -> Client {
        self.cluster.service_account(&self.namespace, account).await
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
async fn who_is_no_launcher_makes_nothing() {
    let fenced = Fenced::new().await;
    assert_refused(create(&fenced.user::<Job>("bob").await, job("a")).await, "launcher");
    let admin: Api<Job> = Api::namespaced(fenced.cluster.admin().await, &fenced.namespace);
    assert_refused(create(&admin, job("b")).await, "launcher");
    let account = format!("system:serviceaccount:{}:scheduler", fenced.namespace);
    let groups = ["system:serviceaccounts", "system:authenticated"];
    let impersonated = Api::<Job>::namespaced(fenced.cluster.impersonate(&account, &groups).await, &fenced.namespace);
    assert_refused(create(&impersonated, job("c")).await, "launcher");
    let own = Api::<Job>::namespaced(fenced.client("scheduler").await, &fenced.namespace);
    create(&own, job("d"))
        .await
        .expect("the account with a token of its own");
}

/// Whoever could be the controller by name only would run any command as the workflow.
#[tokio::test]
async fn a_controller_by_name_only_makes_nothing() {
    let fenced = Fenced::new().await;
    let made = create(&fenced.user::<Job>("ann").await, job("owner"))
        .await
        .expect("a launcher's Job");
    let mut pod = template("forged");
    pod["metadata"]["name"] = json!("forged");
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "Job", "name": "owner", "uid": made.uid(), "controller": true,
    }]);
    eventually(SOON, || async {
        let name = "system:serviceaccount:kube-system:job-controller";
        let pods = Api::<Pod>::namespaced(
            fenced.cluster.impersonate(name, &["system:masters"]).await,
            &fenced.namespace,
        );
        match create(&pods, pod.clone()).await {
            // Before the account is made, the API server's own plugin refuses.
            Err(kube::Error::Api(status)) if status.message.contains("[launcher]") => Ok(()),
            other => anyhow::bail!("{other:?}"),
        }
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

/// A ReplicaSet adopts by selector, and with no replicas wanted deletes what it adopts.
#[tokio::test]
async fn a_replica_set_from_before_the_fence_adopts_no_pod() {
    let fenced = Fenced::new().await;
    let namespaces: Api<Namespace> = Api::all(fenced.cluster.admin().await);
    let enforce = async |class: Value| {
        let patch = json!({"metadata": {"labels": {"ringfence.dev/enforce": class}}});
        let patched = namespaces
            .patch(&fenced.namespace, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        patched.expect("setting the mode");
    };
    let mut unlabelled = template("victim");
    unlabelled["metadata"]["labels"] = json!({"app": "victim"});
    let selector = json!({"matchLabels": {"app": "victim"}});
    let thief =
        json!({"metadata": {"name": "thief"}, "spec": {"replicas": 0, "selector": selector, "template": unlabelled}});
    let sets: Api<ReplicaSet> = fenced.user("bob").await;
    assert_refused(create(&sets, thief.clone()).await, "declared-workflow");
    enforce(Value::Null).await;
    // An API server may look up the old labels for a moment.
    eventually(SOON, || async { Ok(create(&sets, thief.clone()).await?) }).await;
    enforce(json!("default")).await;

    let pods: Api<Pod> = fenced.user("ann").await;
    let mut pod = template("victim");
    pod["metadata"]["name"] = json!("victim");
    eventually(SOON, || async { Ok(create(&pods, pod.clone()).await?) }).await;
    // Two seconds of tries: adopted, it would be gone in milliseconds.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let victim = pods.get("victim").await.expect("the victim is still there");
        assert!(
            victim.owner_references().is_empty() && victim.metadata.deletion_timestamp.is_none(),
            "{victim:?}"
        );
    }
}
