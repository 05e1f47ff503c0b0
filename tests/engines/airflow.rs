//! Airflow: its scheduler with KubernetesExecutor, and its KubernetesPodOperator in a worker, each with the token of its own account, run as
//! `examples/airflow` says.

use anyhow::{Result, ensure};
use support::eventually;

use crate::client::{Client, Log, Started};
use crate::engine::Cluster;
use crate::world::{SOON, all};

const NAMESPACE: &str = "ai-airflow";

/// An Airflow with the example's DAG and those that are refused.
struct Airflow {
    cluster: Cluster,
    client: Client,
}

impl Airflow {
    async fn new() -> Self {
        let cluster = Cluster::shared().await;
        cluster.apply("airflow", &[(NAMESPACE, "triage")]).await;
        let installed = Client::install(cluster.plane.directory(), "airflow").await;
        let folder = installed.home().join("dags");
        std::fs::create_dir(&folder).expect("a folder of DAGs");
        for file in [
            "examples/airflow/dag.py",
            "tests/engines/airflow/overridden.py",
            "tests/engines/airflow/refused.py",
        ] {
            let file = support::repository().join(file);
            let copy = folder.join(file.file_name().expect("a file"));
            std::fs::copy(file, copy).expect("a DAG");
        }
        let home = installed.home().display().to_string();
        let template = support::repository().join("examples/airflow/pod-template.yaml");
        let client = installed.with(&[
            ("AIRFLOW_HOME", home.as_str()),
            ("AIRFLOW__CORE__EXECUTOR", "KubernetesExecutor"),
            ("AIRFLOW__CORE__LOAD_EXAMPLES", "False"),
            ("AIRFLOW__API_AUTH__JWT_SECRET", "of-this-test"),
            ("AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE", NAMESPACE),
            (
                "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE",
                &template.display().to_string(),
            ),
            (
                "AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY",
                "docker.io/apache/airflow",
            ),
            ("AIRFLOW__KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG", "3.3.2"),
            // The tests' kubeconfig; in a cluster the pod's own token.
            ("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False"),
        ]);
        client.run("airflow", &["db", "migrate"]).await.expect("a database");
        client.run("airflow", &["dags", "reserialize"]).await.expect("the DAGs");
        Self { cluster, client }
    }

    /// The same as an account of the namespace `airflow`.
    async fn by(&self, account: &str) -> Client {
        let kubeconfig = self.cluster.kubeconfig("airflow", account).await.display().to_string();
        let connection =
            serde_json::json!({"conn_type": "kubernetes", "extra": {"kube_config_path": kubeconfig}}).to_string();
        self.client.with(&[
            ("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", kubeconfig.as_str()),
            ("AIRFLOW_CONN_KUBERNETES_DEFAULT", connection.as_str()),
        ])
    }

    /// Starts a task as a worker would.
    async fn task(&self, account: &str, dag: &str, task: &str) -> (Started, Log) {
        self.by(account).await.start("airflow", &["tasks", "test", dag, task])
    }

    /// What Airflow's own audit log says of a DAG's tasks that ended without having run: what its people see.
    async fn audit_log(&self, dag: &str) -> Result<String> {
        let script = support::repository()
            .join("tests/engines/airflow/audit_log.py")
            .display()
            .to_string();
        self.client.run("python", &[&script, dag]).await
    }

    /// Asks for a run of a DAG.
    async fn trigger(&self, dag: &str) {
        for arguments in [["dags", "unpause", dag], ["dags", "trigger", dag]] {
            self.client.run("airflow", &arguments).await.expect("a run of the DAG");
        }
    }
}

#[tokio::test]
async fn its_executor_and_its_operator_make_pods_inside_the_fence_and_nowhere_else() {
    let airflow = Airflow::new().await;
    let cluster = &airflow.cluster;
    let pod_of = async |task: &str, log: &Log| {
        eventually(SOON * 2, || async {
            let mut pods = cluster.admin.items(&all("Pod", NAMESPACE)).await?;
            pods.retain(|pod| pod["metadata"]["labels"]["task_id"] == task);
            ensure!(pods.len() == 1, "{} pods of {task}: {}", pods.len(), log.text());
            Ok(pods.remove(0))
        })
        .await
    };

    // The scheduler, as it runs in a cluster.
    // Whoever writes a DAG may override the pod; what comes of it is judged all the same.
    for dag in ["overridden", "triage"] {
        airflow.trigger(dag).await;
    }
    let (_scheduler, log) = airflow.by("airflow-scheduler").await.start("airflow", &["scheduler"]);
    let pod = pod_of("collect", &log).await;
    assert_eq!(pod["spec"]["serviceAccountName"], "triage");
    assert_eq!(pod["spec"]["containers"][0]["image"], "docker.io/apache/airflow:3.3.2");
    assert_eq!(pod["metadata"]["labels"]["kubernetes_executor"], "True");
    eventually(SOON * 2, || async {
        let said = airflow.audit_log("overridden").await?;
        ensure!(said.contains("[own-service-account]"), "{said} {}", log.text());
        Ok(())
    })
    .await;
    // It may do what it does: nothing of it was forbidden by RBAC.
    assert!(!log.text().contains("cannot "), "{}", log.text());

    // A worker outside of the fence, with the operator.
    let (_worker, log) = airflow.task("airflow-worker", "triage", "classify").await;
    let pod = pod_of("classify", &log).await;
    assert_eq!(pod["spec"]["serviceAccountName"], "triage");
    for (task, rule) in [
        // The API server's own standard for the namespace comes first.
        ("xcom", "airflow-xcom-sidecar"),
        ("image", "[approved-images]"),
        ("account", "[own-service-account]"),
        ("unlabelled", "[declared-workflow]"),
    ] {
        let (_worker, log) = airflow.task("airflow-worker", "refused", task).await;
        log.says(rule).await;
    }
    cluster.account("airflow", "other-worker").await;
    cluster
        .bind(NAMESPACE, ("ClusterRole", "edit"), ("airflow", "other-worker"))
        .await;
    let (_worker, log) = airflow.task("other-worker", "triage", "classify").await;
    log.says("[launcher]").await;
}
