//! Argo Workflows: its controller with the token of its own account, run as `examples/argo` says.

use anyhow::ensure;
use serde_json::{Value, json};
use support::eventually;

use crate::client::{Client, Log, Started};
use crate::engine::{Cluster, documents};
use crate::world::{Actor, Answer, SOON, all};

const NAMESPACE: &str = "ai-argo";
const WORKFLOWS: &str = "/apis/argoproj.io/v1alpha1/namespaces/ai-argo/workflows";
const RESULTS: &str = "/apis/argoproj.io/v1alpha1/namespaces/ai-argo/workflowtaskresults";

/// The example, and the controller's settings.
struct Argo {
    cluster: Cluster,
    client: Client,
}

impl Argo {
    async fn new() -> Self {
        let cluster = Cluster::shared().await;
        let client = Client::controller(&cluster, "argo");
        cluster.apply("argo", &[(NAMESPACE, "ingest")]).await;
        cluster.kubectl(&["apply", "-f", "examples/argo/controller.yaml"]).await;
        // In a pod its port is its own.
        let settings = "/api/v1/namespaces/argo/configmaps/workflow-controller-configmap";
        let no_metrics = json!({"data": {"metricsConfig": "{enabled: false}"}});
        cluster.admin.patch(settings, &no_metrics).await.ok();
        Self { cluster, client }
    }

    /// Starts the controller as an account of the namespace `argo`.
    async fn controller(&self, account: &str, settings: &[(&str, &str)]) -> (Started, Log) {
        let kubeconfig = self.cluster.kubeconfig("argo", account).await.display().to_string();
        let arguments = [
            "--kubeconfig",
            &kubeconfig,
            "--namespace",
            "argo",
            "--namespaced",
            "--managed-namespace",
            NAMESPACE,
        ];
        self.client.with(settings).start("workflow-controller", &arguments)
    }

    /// The one pod of a Workflow.
    async fn pod(&self, workflow: &str, log: &Log) -> Value {
        let pods = format!(
            "{}?labelSelector=workflows.argoproj.io/workflow={workflow}",
            all("Pod", NAMESPACE)
        );
        eventually(SOON, || async {
            let mut found = self.cluster.admin.items(&pods).await?;
            ensure!(found.len() == 1, "{} pods of {workflow}: {}", found.len(), log.text());
            Ok(found.remove(0))
        })
        .await
    }

    /// What a Workflow's own status says of why it failed: what its people see.
    async fn failure(&self, workflow: &str, log: &Log) -> String {
        let path = format!("{WORKFLOWS}/{workflow}");
        eventually(SOON, || async {
            let status = self.cluster.admin.read(&path).await?["status"].clone();
            let over = ["Error", "Failed"].iter().any(|phase| status["phase"] == **phase);
            ensure!(over, "{workflow} goes on: {status} {}", log.text());
            Ok(status["nodes"].to_string())
        })
        .await
    }
}

/// The example's Workflow, with fields of its spec put over those that it has.
fn steps(spec: &Value) -> Value {
    let mut workflow = documents("examples/argo/steps.yaml").remove(0);
    for (key, value) in spec.as_object().into_iter().flatten() {
        workflow["spec"][key] = value.clone();
    }
    workflow
}

async fn submit(by: &Actor, workflow: &Value) -> String {
    let made: Answer = by.post(WORKFLOWS, workflow).await;
    made.ok()["metadata"]["name"].as_str().expect("a name").to_owned()
}

#[tokio::test]
async fn its_controller_makes_steps_inside_the_fence_and_nowhere_else() {
    let argo = Argo::new().await;
    let cluster = &argo.cluster;
    let submitter = cluster.actor("argo", "submitter").await;
    let (controller, log) = argo.controller("argo", &[("LEADER_ELECTION_IDENTITY", "first")]).await;

    let workflow = submit(&submitter, &steps(&Value::Null)).await;
    let pod = argo.pod(&workflow, &log).await;
    let spec = &pod["spec"];
    assert_eq!(spec["serviceAccountName"], "ingest");
    assert_eq!(pod["metadata"]["labels"]["ringfence.dev/workflow"], "ingest");
    let images = |containers: &Value| -> Vec<String> {
        let containers = containers.as_array().into_iter().flatten();
        let of = containers.map(|container| format!("{}: {}", container["name"], container["image"]).replace('"', ""));
        of.collect()
    };
    let executor = "quay.io/argoproj/argoexec:v4.0.5-nonroot";
    assert_eq!(images(&spec["initContainers"]), [format!("init: {executor}")]);
    assert_eq!(
        images(&spec["containers"]),
        [
            format!("wait: {executor}"),
            "main: registry.example.com/search/fetch:2.1".to_owned()
        ]
    );
    // What the executor beside the step does with the token that is mounted for it, and nothing else.
    assert!(
        spec["volumes"].to_string().contains("serviceAccountToken"),
        "{}",
        spec["volumes"]
    );
    let account = cluster.actor(NAMESPACE, "ingest").await;
    let name = pod["metadata"]["annotations"]["workflows.argoproj.io/node-id"].clone();
    let result = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTaskResult", "phase": "Succeeded",
        "metadata": {"name": name, "labels": {"workflows.argoproj.io/workflow": workflow}},
    });
    eventually(SOON, || async {
        let made = account.try_post(RESULTS, &result).await?;
        ensure!(made.code == 201, "{}", made.message());
        Ok(())
    })
    .await;
    for path in [all("Pod", NAMESPACE).as_str(), WORKFLOWS, RESULTS] {
        assert_eq!(account.get(path).await.code, 403, "{path}");
    }
    // The controller may do what it does: nothing of it was forbidden by RBAC.
    assert!(!log.text().contains("\" cannot "), "{}", log.text());

    // A launcher may write any Workflow. It is the pod that counts, whatever Argo was told to make of it.
    let patched = |patch: &Value| json!({"podSpecPatch": patch.to_string()});
    let image = json!({"containers": [{"name": "main", "image": "docker.io/library/busybox:1"}]});
    for (spec, rule) in [
        (
            patched(&json!({"serviceAccountName": "default"})),
            "own-service-account",
        ),
        (patched(&image), "approved-images"),
        (patched(&json!({"nodeName": "control-plane-1"})), "pod-node"),
        (json!({"podMetadata": {}}), "declared-workflow"),
    ] {
        let workflow = submit(&submitter, &steps(&spec)).await;
        let said = argo.failure(&workflow, &log).await;
        assert!(said.contains(&format!("[{rule}]")), "{rule}: {said}");
    }

    // Somebody who may make Workflows in Kubernetes, and is no launcher: neither by name, nor through the controller.
    cluster.account("argo", "other").await;
    cluster.bind(NAMESPACE, ("Role", "submitter"), ("argo", "other")).await;
    let other = cluster.actor("argo", "other").await;
    eventually(SOON, || async { other.read(WORKFLOWS).await }).await;
    other.post(WORKFLOWS, &steps(&Value::Null)).await.refused_by("launcher");
    let mut unlabelled = steps(&Value::Null);
    unlabelled["metadata"]["labels"] = json!({});
    let workflow = submit(&other, &unlabelled).await;
    let said = argo.failure(&workflow, &log).await;
    assert!(said.contains("[launcher]"), "{said}");

    // Another controller, with the same rights in Kubernetes.
    drop(controller);
    for namespace in ["argo", NAMESPACE] {
        cluster
            .bind(namespace, ("Role", "workflow-controller"), ("argo", "other"))
            .await;
    }
    let (_controller, log) = argo.controller("other", &[("LEADER_ELECTION_DISABLE", "true")]).await;
    submit(&submitter, &steps(&Value::Null)).await;
    // It cannot even write what came of it: nobody sees a status.
    log.says("argo:other is no launcher of AIWorkflow ingest").await;

    let pods = cluster.admin.items(&all("Pod", NAMESPACE)).await.expect("pods");
    assert_eq!(pods.len(), 1, "nothing else got in");
}
