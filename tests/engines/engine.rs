//! What the engines share: the control plane, an engine's installed client, its processes, and the example that they follow.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{ControlPlane, Identity, Options, Ringfence, eventually, unique};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::world::{Actor, BINARY, all, in_force};

/// Those with values for the chart.
const EXAMPLES: [&str; 2] = ["airflow", "prefect"];
/// A command of an engine starts an interpreter and imports all of the engine.
const COMMAND: Duration = Duration::from_secs(120);

/// The cluster of all tests of this binary.
pub struct Cluster {
    pub plane: ControlPlane,
    pub admin: Actor,
    _ringfence: Ringfence,
}

impl Cluster {
    /// With the values of every example, and every engine's rights under the ceiling.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                let plane = ControlPlane::start(Options::default()).expect("a control plane");
                let values = values();
                // What the chart would mount.
                let parameters = plane.directory().join("policy-parameters.yaml");
                std::fs::write(&parameters, values["policyParameters"].to_string()).expect("the parameters");
                let flags = [format!("--policy-parameters={}", parameters.display())];
                let ringfence = plane
                    .start_ringfence_with(BINARY, &values, &flags)
                    .await
                    .expect("ringfence");
                let admin = Actor::new(plane.admin().await);
                in_force(&admin).await;
                Self {
                    plane,
                    admin,
                    _ringfence: ringfence,
                }
            })
            .await
    }

    /// Applies files of `examples/<engine>`, the platform's first, and waits until its workflows are ready.
    pub async fn apply(&self, engine: &str, workflows: &[(&str, &str)]) {
        for file in ["platform.yaml", "workflow.yaml"] {
            let file = format!("examples/{engine}/{file}");
            let said = self.plane.kubectl(&["apply", "-f", &file]).await.expect("kubectl");
            assert!(said.success, "{said}");
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
            let said = self.plane.kubectl(&wait).await.expect("kubectl");
            assert!(said.success, "{said}");
        }
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

    /// Gives an account a ClusterRole in a namespace.
    pub async fn bind(&self, namespace: &str, role: &str, account: (&str, &str)) {
        let binding = json!({
            "metadata": {"name": unique("binding")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
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
        let file = support::repository().join("examples").join(engine).join("values.yaml");
        let text = std::fs::read_to_string(file).expect("the values of an example");
        let values: Value = serde_saphyr::from_str(&text).expect("values");
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

/// An engine's client, installed from its registry, with a home of its own.
pub struct Client {
    environment: PathBuf,
    home: PathBuf,
    settings: Vec<(String, String)>,
}

impl Client {
    /// Installs it where it is missing.
    pub async fn install(cluster: &Cluster, engine: &str) -> Self {
        let environment = support::repository().join("target/engines").join(engine);
        let script = support::repository().join("tests/support/build-venv.sh");
        let status = Command::new(script)
            .arg(format!("engines/{engine}"))
            .arg(&environment)
            .stdin(Stdio::null())
            .status()
            .await;
        assert!(
            status.expect("tests/support/build-venv.sh").success(),
            "the client of {engine} is not installed: see above"
        );
        let home = cluster.plane.directory().join(unique(engine));
        std::fs::create_dir(&home).expect("a home");
        Self {
            environment: environment.join("venv/bin"),
            home,
            settings: Vec::new(),
        }
    }

    /// The same client with further settings.
    pub fn with(&self, settings: &[(&str, &str)]) -> Self {
        let more = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self {
            environment: self.environment.clone(),
            home: self.home.clone(),
            settings: self.settings.iter().cloned().chain(more).collect(),
        }
    }

    /// A folder for its files.
    pub fn home(&self) -> &Path {
        &self.home
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.environment.join(program));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.environment.display()))
            .env("HOME", &self.home)
            .envs(self.settings.iter().map(|(key, value)| (key, value)))
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = timeout(COMMAND, self.command(program, arguments).output());
        let output = output
            .await
            .with_context(|| format!("{program} {arguments:?} took too long"))??;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        ensure!(output.status.success(), "{program} {arguments:?}: {said}");
        Ok(said)
    }

    /// Starts one that stays until it is dropped. Returns it with the file that it writes to.
    pub fn start(&self, program: &str, arguments: &[&str]) -> (Child, Log) {
        let log = self.home.join(unique("log"));
        let file = std::fs::File::create(&log).expect("a log");
        let errors = file.try_clone().expect("a log");
        let child = self.command(program, arguments).stdout(file).stderr(errors).spawn();
        (child.unwrap_or_else(|error| panic!("{program}: {error}")), Log(log))
    }
}

/// What a process wrote so far.
pub struct Log(PathBuf);

impl Log {
    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap_or_default()
    }

    /// Waits until it says that.
    pub async fn says(&self, words: &str) -> String {
        eventually(COMMAND, || async {
            let text = self.text();
            ensure!(text.contains(words), "not said yet: {words}\n{text}");
            Ok(text)
        })
        .await
    }
}

/// A port that nobody listens at now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}
