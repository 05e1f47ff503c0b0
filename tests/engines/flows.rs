//! Flows as their teams handle them, with Prefect's own commands: pools, deployments and runs, on a server that somebody else started.

use anyhow::Context;
use support::{eventually, repository};

use crate::client::Client;
use crate::world::SOON;

/// Where the example's flows run.
pub const NAMESPACE: &str = "ai-prefect";
/// The server's password.
pub const AUTH: &str = "worker:not-a-real-one";
/// What the flow's team built. Its workflow declares where such images are.
pub const IMAGE: &str = "registry.example.com/finance/flows:1";
/// The flow, as its team has it.
pub const FLOW: &str = "tests/engines/prefect/flow.py";
/// What the example's page tells to set a worker to.
pub const WORKER: [(&str, &str); 3] = [
    ("PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES", NAMESPACE),
    (
        "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_NAME",
        "prefect-auth",
    ),
    (
        "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_KEY",
        "auth",
    ),
];

/// What those set who talk to a server. A worker hands its settings on to the pods: it must not know what only the server is set to.
pub fn settings(api: &str) -> [(&str, &str); 3] {
    [
        ("PREFECT_API_URL", api),
        ("PREFECT_API_AUTH_STRING", AUTH),
        ("DO_NOT_TRACK", "1"),
    ]
}

/// What the server is set to.
pub const SERVER: [(&str, &str); 2] = [("PREFECT_SERVER_API_AUTH_STRING", AUTH), ("DO_NOT_TRACK", "1")];

/// A client of a server.
pub struct Flows(pub Client);

impl Flows {
    /// Waits for the server, which makes its database first. `log` says what it said.
    pub async fn answers(&self, log: impl Fn() -> String) {
        eventually(SOON * 3, || async {
            let pools = self.0.run("prefect", &["work-pool", "ls"]).await;
            pools.with_context(&log)
        })
        .await;
    }

    /// Makes a pool of this template, with the flow in it.
    pub async fn pool(&self, name: &str, template: Option<&str>) {
        let mut arguments = vec!["work-pool", "create", name, "--type", "kubernetes"];
        let template = template.map(|file| repository().join(file).display().to_string());
        if let Some(template) = &template {
            arguments.extend(["--base-job-template", template]);
        }
        self.0.run("prefect", &arguments).await.expect("a work pool");
        std::fs::copy(repository().join(FLOW), self.0.home().join("flow.py")).expect("the flow");
        let registered = self.0.run("python", &["flow.py", name, IMAGE]).await;
        registered.expect("a deployment");
    }

    /// Asks for a run of the flow, which waits for a worker.
    pub async fn ask(&self, pool: &str, variables: &[&str]) {
        let deployment = format!("triage/{pool}");
        let mut run = vec!["deployment", "run", &deployment];
        for variable in variables {
            run.extend(["--job-variable", variable]);
        }
        self.0.run("prefect", &run).await.expect("a flow run");
    }
}
