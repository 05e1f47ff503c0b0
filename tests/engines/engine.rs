//! What the engines share: the control plane, controllers, and the example that they follow.

use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::{Value, json};
use support::{ControlPlane, Identity, Options, Output, Ringfence, unique};
use tokio::sync::OnceCell;

use crate::client::{Client, built};
use crate::world::{Actor, BINARY, all, in_force};

/// Those with values for the chart.
const EXAMPLES: [&str; 3] = ["airflow", "argo", "prefect"];
/// Those whose controller is a program of Go, with kinds of its own.
const CONTROLLERS: [&str; 2] = ["argo", "ray"];

/// The control plane of all tests of this binary, with Ringfence.
static SHARED: OnceCell<(ControlPlane, Ringfence)> = OnceCell::const_new();

/// The cluster of all tests of this binary, as one of them sees it: a client ends with the runtime of the test that made it.
pub struct Cluster {
    pub plane: &'static ControlPlane,
    pub admin: Actor,
}

impl Cluster {
    /// With the values of every example, every engine's rights under the ceiling, and every engine's kinds.
    pub async fn shared() -> Self {
        let start = async || {
            let plane = ControlPlane::start(Options::default()).expect("a control plane");
            let values = values();
            // What the chart would mount.
            let parameters = plane.directory().join("policy-parameters.yaml");
            std::fs::write(&parameters, values["policyParameters"].to_string()).expect("the parameters");
            // As where the chart has egress.enabled.
            let flags = [
                format!("--policy-parameters={}", parameters.display()),
                "--egress-proxy".to_owned(),
            ];
            let ringfence = plane.start_ringfence_with(BINARY, &values, &flags).await;
            let ringfence = ringfence.expect("ringfence");
            in_force(&Actor::new(plane.admin().await)).await;
            // Before any engine runs: Airflow's client ends when it meets a group that has come but is not served yet.
            built("tests/engines/controllers/build.sh", &[controllers().as_ref()]).await;
            for engine in CONTROLLERS {
                let definitions = controllers().join(engine).display().to_string();
                plane.define(&definitions).await.expect("its kinds");
            }
            (plane, ringfence)
        };
        let (plane, _) = SHARED.get_or_init(start).await;
        let admin = Actor::new(plane.admin().await);
        Self { plane, admin }
    }

    /// Applies files of `examples/<engine>`, the platform's first, and waits until its workflows are ready.
    pub async fn apply(&self, engine: &str, workflows: &[(&str, &str)]) {
        for file in ["platform.yaml", "workflow.yaml"] {
            let file = format!("examples/{engine}/{file}");
            let said = self.kubectl(&["apply", "-f", &file]).await;
            assert!(
                !said.stderr.contains("Warning"),
                "an example that warns teaches what it should not: {said}"
            );
        }
        for (namespace, workflow) in workflows {
            let workflow = format!("aiworkflow/{workflow}");
            let wait = [
                "wait",
                "--for=condition=Ready",
                &workflow,
                "--namespace",
                namespace,
                "--timeout=60s",
            ];
            self.kubectl(&wait).await;
        }
    }

    /// Runs kubectl as the administrator, which must go well.
    pub async fn kubectl(&self, arguments: &[&str]) -> Output {
        let said = self.plane.kubectl(arguments).await.expect("kubectl");
        assert!(said.success, "{said}");
        said
    }

    /// An account with its own token, as an engine's pod would have it.
    pub async fn actor(&self, namespace: &str, account: &str) -> Actor {
        Actor::new(self.plane.service_account(namespace, account).await)
    }

    /// A kubeconfig of an account's own token, as an engine's pod would have it.
    pub async fn kubeconfig(&self, namespace: &str, account: &str) -> PathBuf {
        let identity = Identity::service_account(namespace, account);
        self.plane.kubeconfig_for(&identity).await.expect("a kubeconfig")
    }

    /// Makes an account.
    pub async fn account(&self, namespace: &str, name: &str) {
        let account = json!({"metadata": {"name": name}});
        self.admin.post(&all("ServiceAccount", namespace), &account).await.ok();
    }

    /// Gives an account a role, by kind and name, in a namespace.
    pub async fn bind(&self, namespace: &str, role: (&str, &str), account: (&str, &str)) {
        let binding = json!({
            "metadata": {"name": unique("binding")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1},
            "subjects": [{"kind": "ServiceAccount", "namespace": account.0, "name": account.1}],
        });
        self.admin.post(&all("RoleBinding", namespace), &binding).await.ok();
    }
}

/// The values of all examples as one: lists of engines are joined.
fn values() -> Value {
    let mut engines = Vec::new();
    let mut parameters = json!({});
    for engine in EXAMPLES {
        let values = documents(&format!("examples/{engine}/values.yaml")).remove(0);
        let keys: Vec<&String> = values.as_object().expect("an object").keys().collect();
        assert!(
            keys.iter()
                .all(|key| ["ceiling", "policyParameters"].contains(&key.as_str())),
            "{keys:?}"
        );
        engines.extend(values["ceiling"]["engines"].as_array().expect("engines").clone());
        for (policy, of) in values["policyParameters"].as_object().into_iter().flatten() {
            assert!(parameters[policy].is_null(), "two examples set {policy}");
            parameters[policy] = of.clone();
        }
    }
    json!({"ceiling": {"engines": engines}, "policyParameters": parameters})
}

impl Client {
    /// A controller of Go.
    pub fn controller(cluster: &Cluster, engine: &str) -> Self {
        Self::at(cluster.plane.directory(), engine, controllers())
    }
}

/// Where the controllers of Go are, with their definitions.
fn controllers() -> PathBuf {
    support::repository().join("target/engines/controllers")
}

/// The objects of a file of the repository.
pub fn documents(file: &str) -> Vec<Value> {
    let text =
        std::fs::read_to_string(support::repository().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A port that nobody has now. It lies below those that outgoing connections are given: an engine takes half a minute until it listens,
/// and would find such a one taken.
pub fn free_port() -> u16 {
    let first = u16::try_from(std::process::id() % 10_000).expect("a small number");
    let mut ports = (0..10_000).map(|next| 20_000 + (first + next) % 10_000);
    let free = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.expect("a port")
}
