//! KubeRay: its operator with the token of its own account, run as `examples/ray` says.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::{Value, json};
use support::eventually;
use support::network::{Pod, Scene, Simulator, open_paths};

use crate::client::{Client, Log, Started};
use crate::engine::{Cluster, documents};
use crate::world::{Actor, SOON, all, one};

const NAMESPACE: &str = "ai-ray";
const JOBS: &str = "/apis/ray.io/v1/namespaces/ai-ray/rayjobs";

/// The example.
struct Ray {
    cluster: Cluster,
    client: Client,
}

impl Ray {
    async fn new() -> Self {
        let cluster = Cluster::shared().await;
        let client = Client::controller(&cluster, "ray");
        cluster.apply("ray", &[(NAMESPACE, "train")]).await;
        Self { cluster, client }
    }

    /// Starts the operator as an account of the namespace `kuberay`.
    async fn operator(&self, account: &str) -> (Started, Log) {
        let kubeconfig = self.cluster.kubeconfig("kuberay", account).await.display().to_string();
        let flags = [
            "--leader-election-namespace=kuberay",
            "--watch-namespace=ai-ray",
            // In a pod its ports are its own.
            "--metrics-addr=0",
            "--health-probe-bind-address=127.0.0.1:0",
        ];
        self.client
            .with(&[("KUBECONFIG", &kubeconfig)])
            .start("ray-operator", &flags)
    }

    /// The pods of a RayJob's cluster, of head first, once there are so many.
    async fn pods(&self, job: &str, number: usize, log: &Log) -> Vec<Value> {
        eventually(SOON, || async {
            let status = self.cluster.admin.read(&format!("{JOBS}/{job}")).await?["status"].clone();
            let cluster = status["rayClusterName"].as_str().unwrap_or("none yet");
            let mut pods = self.cluster.admin.items(&all("Pod", NAMESPACE)).await?;
            pods.retain(|pod| pod["metadata"]["labels"]["ray.io/cluster"] == cluster);
            pods.sort_by_key(|pod| pod["metadata"]["labels"]["ray.io/node-type"].to_string());
            ensure!(pods.len() == number, "{} pods of {job}: {}", pods.len(), log.text());
            Ok(pods)
        })
        .await
    }

    /// Waits for an Event about something whose name begins so, with these words: what people see.
    async fn event(&self, about: &str, words: &str, log: &Log) {
        eventually(SOON, || async {
            let mut events = self.cluster.admin.items(&all("Event", NAMESPACE)).await?;
            events.retain(|event| {
                let name = event["regarding"]["name"].as_str().unwrap_or_default();
                name.starts_with(about) && event["note"].as_str().is_some_and(|note| note.contains(words))
            });
            ensure!(
                !events.is_empty(),
                "no Event about {about} says {words}: {}",
                log.text()
            );
            Ok(())
        })
        .await;
    }
}

/// The example's RayJob under a name of its own, with a field put over what it has.
fn job(name: &str, pointer: &str, value: Value) -> Value {
    let mut job = documents("examples/ray/rayjob.yaml").remove(0);
    job["metadata"]["name"] = json!(name);
    // It asks for nothing that is not there already.
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    job.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"))[key] = value;
    job
}

async fn submit(by: &Actor, job: &Value) {
    by.post(JOBS, job).await.ok();
}

/// Who may talk to whom, had head, worker and others addresses.
async fn open_between(cluster: &Cluster, pods: &[Value]) -> BTreeSet<String> {
    let mut placed: Vec<Pod> = pods
        .iter()
        .zip(["head", "worker"])
        .zip(1..)
        .map(|((pod, name), last)| Pod {
            labels: serde_json::from_value(pod["metadata"]["labels"].clone()).expect("labels"),
            ..Pod::new(NAMESPACE, name, &[], &format!("10.0.0.{last}"))
        })
        .collect();
    let operator = [("app.kubernetes.io/name", "kuberay-operator")];
    placed.push(Pod::new("kuberay", "operator", &operator, "10.0.1.1"));
    placed.push(Pod::new("kuberay", "stranger", &[], "10.0.1.2"));
    placed.push(Pod::new("elsewhere", "operator", &operator, "10.0.2.1"));
    let scene = Scene::of(placed, &["203.0.113.7"], [22, 443, 6379, 8265, 10001, 10002]);
    let policies = cluster
        .admin
        .items(&all("NetworkPolicy", NAMESPACE))
        .await
        .expect("policies");
    let matrix = Simulator::start().and_then(|mut simulator| simulator.ask(&scene, &policies));
    let inside = format!("{NAMESPACE}/");
    let mut open = open_paths(&scene, &matrix.expect("an answer"));
    open.retain(|path| path.contains(&inside));
    open
}

/// What a kubelet would write once a pod runs.
async fn run(cluster: &Cluster, pod: &Value) {
    let name = pod["metadata"]["name"].as_str().expect("a name");
    let status = json!({"status": {
        "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }});
    let path = format!("{}/status", one("Pod", NAMESPACE, name));
    cluster.admin.patch(&path, &status).await.ok();
}

#[tokio::test]
async fn its_operator_makes_clusters_inside_the_fence_and_nowhere_else() {
    let ray = Ray::new().await;
    let cluster = &ray.cluster;
    let submitter = cluster.actor("kuberay", "submitter").await;
    let (operator, log) = ray.operator("kuberay-operator").await;

    submit(&submitter, &documents("examples/ray/rayjob.yaml").remove(0)).await;
    let pods = ray.pods("train-nightly", 2, &log).await;
    let expected = [
        "ai-ray/head -> ai-ray/worker:10002/TCP",
        "ai-ray/head -> ai-ray/worker:6379/TCP",
        "ai-ray/worker -> ai-ray/head:10002/TCP",
        "ai-ray/worker -> ai-ray/head:6379/TCP",
        "kuberay/operator -> ai-ray/head:8265/TCP",
        "kuberay/operator -> ai-ray/worker:8265/TCP",
    ];
    let open = open_between(cluster, &pods).await;
    assert_eq!(open.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    // The operator may do what it does: nothing of it was forbidden by RBAC.
    assert!(!log.text().contains("\" cannot "), "{}", log.text());

    // What a launcher may write, and Ray makes pods of that do not fit.
    let head = "/spec/rayClusterSpec/headGroupSpec/template";
    let worker = "/spec/rayClusterSpec/workerGroupSpecs/0/template";
    for (name, pointer, value, rule) in [
        (
            "account",
            format!("{head}/spec/serviceAccountName"),
            json!("default"),
            "[own-service-account]",
        ),
        (
            "image",
            format!("{worker}/spec/containers/0/image"),
            json!("docker.io/library/busybox:1"),
            "[approved-images]",
        ),
        (
            "label",
            format!("{worker}/metadata/labels"),
            json!({}),
            "[declared-workflow]",
        ),
        // Its side-car is KubeRay's own, and says nothing of privileges.
        (
            "sidecar",
            "/spec/submissionMode".to_owned(),
            json!("SidecarMode"),
            "violates PodSecurity",
        ),
    ] {
        submit(&submitter, &job(name, &pointer, value)).await;
        ray.event(name, rule, &log).await;
    }

    // The submitter Job, once the cluster runs: nothing says whose it is, whatever its template says.
    let template = documents("examples/ray/rayjob.yaml").remove(0);
    let mut template = template.pointer(head).expect("a template").clone();
    template["spec"]["restartPolicy"] = json!("Never");
    let mut by_job = job("by-job", "/spec/submissionMode", json!("K8sJobMode"));
    by_job["spec"]["submitterPodTemplate"] = template;
    submit(&submitter, &by_job).await;
    for pod in ray.pods("by-job", 2, &log).await {
        run(cluster, &pod).await;
    }
    ray.event("by-job", "[declared-workflow]", &log).await;

    // The autoscaler, from an operator with the rights of its own ClusterRole: Ray would bind the fence's account more.
    let rules = json!([
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["create", "get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods/resize"], "verbs": ["patch"]},
    ]);
    let role = json!({"metadata": {"name": "autoscaler"}, "rules": rules});
    cluster.admin.post(&all("Role", NAMESPACE), &role).await.ok();
    cluster
        .bind(NAMESPACE, ("Role", "autoscaler"), ("kuberay", "kuberay-operator"))
        .await;
    submit(
        &submitter,
        &job("scaled", "/spec/rayClusterSpec/enableInTreeAutoscaling", json!(true)),
    )
    .await;
    ray.event("scaled", "[extra-binding]", &log).await;

    // Somebody who may make RayJobs in Kubernetes, and is no launcher: neither by name, nor through the operator.
    cluster.account("kuberay", "other").await;
    cluster
        .bind(NAMESPACE, ("Role", "submitter"), ("kuberay", "other"))
        .await;
    let other = cluster.actor("kuberay", "other").await;
    eventually(SOON, || async { other.read(JOBS).await }).await;
    let labelled = job("by-other", "/spec/backoffLimit", json!(0));
    other.post(JOBS, &labelled).await.refused_by("launcher");
    submit(&other, &job("unlabelled", "/metadata/labels", json!({}))).await;
    ray.event("unlabelled", "[launcher]", &log).await;

    // Another operator, with the same rights in Kubernetes.
    drop(operator);
    for namespace in ["kuberay", NAMESPACE] {
        cluster
            .bind(namespace, ("Role", "kuberay-operator"), ("kuberay", "other"))
            .await;
    }
    let (_operator, log) = ray.operator("other").await;
    submit(&submitter, &job("foreign", "/spec/backoffLimit", json!(0))).await;
    // It cannot even put its finalizer on: nobody sees an Event.
    log.says("kuberay:other is no launcher of AIWorkflow train").await;

    for pod in cluster.admin.items(&all("Pod", NAMESPACE)).await.expect("pods") {
        assert_eq!(pod["spec"]["serviceAccountName"], "train");
        assert_eq!(pod["metadata"]["labels"]["ringfence.dev/workflow"], "train");
        assert_eq!(pod["spec"]["containers"][0]["image"], "docker.io/rayproject/ray:2.46.0");
        assert_eq!(pod["spec"]["containers"].as_array().map(Vec::len), Some(1));
        assert!(
            !pod["spec"]["volumes"].to_string().contains("serviceAccountToken"),
            "none has a token"
        );
    }
}
