//! Prefect: its server, and its Kubernetes worker with the token of its own account, run as `examples/prefect` says.

use anyhow::ensure;
use serde_json::json;
use support::eventually;

use crate::client::{Client, Log, Started};
use crate::engine::{Cluster, free_port};
use crate::flows::{AUTH, Flows, IMAGE, NAMESPACE, SERVER, WORKER, settings};
use crate::world::{SOON, all};

/// A server with the example's work pool, and the flow in it.
struct Prefect {
    cluster: Cluster,
    flows: Flows,
    _server: Started,
}

impl Prefect {
    async fn start() -> Self {
        let cluster = Cluster::shared().await;
        cluster.apply("prefect", &[(NAMESPACE, "flows")]).await;
        let port = free_port().to_string();
        let installed = Client::install(cluster.plane.directory(), "prefect").await;
        let flows = Flows(installed.with(&settings(&format!("http://127.0.0.1:{port}/api"))));
        let arguments = ["server", "start", "--host", "127.0.0.1", "--port", &port, "--no-ui"];
        let (server, log) = installed.with(&SERVER).start("prefect", &arguments);
        flows.answers(|| log.text()).await;
        Self {
            cluster,
            flows,
            _server: server,
        }
    }

    /// Asks for a run of the flow, and starts a worker with the token of an account. It ends once the run is over for it.
    async fn work(&self, pool: &str, account: (&str, &str), variables: &[&str]) -> (Started, Log) {
        self.flows.ask(pool, variables).await;
        let kubeconfig = self.cluster.kubeconfig(account.0, account.1).await;
        let kubeconfig = kubeconfig.display().to_string();
        let worker = self.flows.0.with(&WORKER).with(&[("KUBECONFIG", &kubeconfig)]);
        worker.start("prefect", &["worker", "start", "--pool", pool, "--run-once"])
    }
}

#[tokio::test]
async fn its_worker_starts_flow_runs_inside_the_fence_and_nowhere_else() {
    let prefect = Prefect::start().await;
    let cluster = &prefect.cluster;
    let template = Some("examples/prefect/base-job-template.json");
    prefect.flows.pool("fenced", template).await;
    prefect.flows.pool("stock", None).await;
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
    assert_eq!(pod["spec"]["containers"][0]["image"], IMAGE);
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
