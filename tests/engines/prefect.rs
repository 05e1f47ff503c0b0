//! Prefect: its server, and its Kubernetes worker with the token of its own account, run as `examples/prefect` says.

use anyhow::{Context, ensure};
use serde_json::json;
use support::eventually;

use crate::engine::{Client, Cluster, free_port};
use crate::world::{SOON, all};

const NAMESPACE: &str = "ai-prefect";
const AUTH: &str = "worker:not-a-real-one";

/// A server with the example's work pool, and the flow in it.
struct Prefect {
    cluster: Cluster,
    client: Client,
    _server: tokio::process::Child,
}

impl Prefect {
    async fn start() -> Self {
        let cluster = Cluster::shared().await;
        cluster.apply("prefect", &[(NAMESPACE, "flows")]).await;
        let port = free_port().to_string();
        let api = format!("http://127.0.0.1:{port}/api");
        let installed = Client::install(&cluster, "prefect").await;
        // What a worker is set to, it hands on to the pods: it must not know what only the server is set to.
        let client = installed.with(&[
            ("PREFECT_API_URL", &api),
            ("PREFECT_API_AUTH_STRING", AUTH),
            ("DO_NOT_TRACK", "1"),
        ]);
        let arguments = ["server", "start", "--host", "127.0.0.1", "--port", &port, "--no-ui"];
        let (server, log) = installed
            .with(&[("PREFECT_SERVER_API_AUTH_STRING", AUTH), ("DO_NOT_TRACK", "1")])
            .start("prefect", &arguments);
        // It makes its database first.
        eventually(SOON * 3, || async {
            let pools = client.run("prefect", &["work-pool", "ls"]).await;
            pools.with_context(|| log.text())
        })
        .await;
        Self {
            cluster,
            client,
            _server: server,
        }
    }

    /// Makes a pool of this template, with the flow in it.
    async fn pool(&self, name: &str, template: Option<&str>) {
        let mut arguments = vec!["work-pool", "create", name, "--type", "kubernetes"];
        let template = template.map(|file| support::repository().join(file).display().to_string());
        if let Some(template) = &template {
            arguments.extend(["--base-job-template", template]);
        }
        self.client.run("prefect", &arguments).await.expect("a work pool");
        let source = support::repository().join("tests/engines/prefect/flow.py");
        std::fs::copy(source, self.client.home().join("flow.py")).expect("the flow");
        self.client
            .run("python", &["flow.py", name])
            .await
            .expect("a deployment");
    }

    /// Asks for a run of the flow, and starts a worker with the token of an account. It ends once the run is over for it.
    async fn work(
        &self,
        pool: &str,
        account: (&str, &str),
        variables: &[&str],
    ) -> (tokio::process::Child, crate::engine::Log) {
        let deployment = format!("triage/{pool}");
        let mut run = vec!["deployment", "run", &deployment];
        for variable in variables {
            run.extend(["--job-variable", variable]);
        }
        self.client.run("prefect", &run).await.expect("a flow run");
        let kubeconfig = self
            .cluster
            .kubeconfig(account.0, account.1)
            .await
            .display()
            .to_string();
        let worker = self.client.with(&[
            ("KUBECONFIG", kubeconfig.as_str()),
            ("PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES", NAMESPACE),
            (
                "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_NAME",
                "prefect-auth",
            ),
            (
                "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_KEY",
                "auth",
            ),
        ]);
        worker.start("prefect", &["worker", "start", "--pool", pool, "--run-once"])
    }
}

#[tokio::test]
async fn its_worker_starts_flow_runs_inside_the_fence_and_nowhere_else() {
    let prefect = Prefect::start().await;
    let cluster = &prefect.cluster;
    let template = Some("examples/prefect/base-job-template.json");
    prefect.pool("fenced", template).await;
    prefect.pool("stock", None).await;
    let launcher = ("prefect", "prefect-worker");

    let (worker, log) = prefect.work("fenced", launcher, &[]).await;
    let pods = eventually(SOON, || async {
        let pods = cluster.admin.items(&all("Pod", NAMESPACE)).await?;
        ensure!(pods.len() == 1, "{} pods: {}", pods.len(), log.text());
        Ok(pods)
    })
    .await;
    drop(worker);
    let pod = &pods[0];
    assert_eq!(pod["spec"]["serviceAccountName"], "flows");
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["ringfence.dev/workflow"], "flows");
    assert!(labels["prefect.io/flow-run-id"].is_string(), "{labels}");
    let env = pod["spec"]["containers"][0]["env"].as_array().expect("its environment");
    let auth = env.iter().find(|env| env["name"] == "PREFECT_API_AUTH_STRING");
    let of_secret = json!({"name": "prefect-auth", "key": "auth"});
    assert_eq!(auth.expect("the password")["valueFrom"]["secretKeyRef"], of_secret);
    assert!(!pod.to_string().contains(AUTH), "the server's password is in no pod");
    // The worker may do what it does: nothing of it was forbidden by RBAC.
    assert!(!log.text().contains("cannot "), "{}", log.text());

    // A pool as Prefect makes it by default: nothing says whose pods these are.
    let stock = ["namespace=ai-prefect", "service_account_name=flows"];
    let (_worker, log) = prefect.work("stock", launcher, &stock).await;
    log.says("[declared-workflow]").await;

    // Whoever may start a deployment may name another image.
    let (_worker, log) = prefect
        .work("fenced", launcher, &["image=docker.io/library/busybox:1"])
        .await;
    log.says("[approved-images]").await;

    // Another worker of the same server, which has the rights in Kubernetes, but is no launcher.
    cluster.account("prefect", "other-worker").await;
    cluster
        .bind(NAMESPACE, ("ClusterRole", "edit"), ("prefect", "other-worker"))
        .await;
    let (_worker, log) = prefect.work("fenced", ("prefect", "other-worker"), &[]).await;
    log.says("[launcher]").await;

    let pods = cluster.admin.items(&all("Pod", NAMESPACE)).await.expect("pods");
    assert_eq!(pods.len(), 1, "nothing else got in");
}
