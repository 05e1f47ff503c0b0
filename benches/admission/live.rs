//! A real API server with the objects that the decision asks for.
//!
//! Ringfence itself is not installed there: nothing registered stands in the way of the objects, and nobody changes them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use kube::Client;
use ringfence::api::DEFAULT_CLASS;
use serde_json::{Value, json};
use support::{ControlPlane, Identity, Options};

use crate::review::{self, NAMESPACE};

/// The control plane; ends when dropped.
pub struct World {
    _plane: ControlPlane,
    kubeconfig: PathBuf,
    job_uid: String,
}

impl World {
    /// Of a service account, as Ringfence has one: the API server authenticates, authorizes and queues its requests.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub fn job_uid(&self) -> &str {
        &self.job_uid
    }
}

/// Whether the control plane was built: the bench must not take ten minutes to begin.
pub fn is_built() -> bool {
    let binaries = root().join("target/controlplane/bin");
    let needed = [
        "controlplane",
        "etcd",
        "helm",
        "kube-apiserver",
        "kube-controller-manager",
        "kubectl",
    ];
    needed.iter().all(|name| binaries.join(name).is_file())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `None` where the control plane was never built.
pub async fn start() -> Result<Option<World>> {
    if !is_built() {
        return Ok(None);
    }
    let plane = ControlPlane::start(Options::default())?;
    let crds = root().join("crds");
    for arguments in [
        &["apply", "-f", crds.to_str().context("the path of crds/ is no text")?][..],
        &["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"],
        &["create", "serviceaccount", "bench"],
        &[
            "create",
            "clusterrolebinding",
            "bench",
            "--clusterrole=cluster-admin",
            "--serviceaccount=default:bench",
        ],
    ] {
        let output = plane.kubectl(arguments).await?;
        ensure!(output.success, "kubectl {}: {output}", arguments.join(" "));
    }
    let admin = plane.admin().await;
    let namespace = create(&admin, "/api/v1/namespaces", review::namespace()).await?;
    let ours = "/apis/ringfence.dev/v1alpha1";
    let mut class = review::class()?;
    class["metadata"] = json!({"name": DEFAULT_CLASS});
    create(&admin, &format!("{ours}/aiworkflowclasses"), class).await?;
    let in_namespace = format!("namespaces/{NAMESPACE}");
    let workflow = create(
        &admin,
        &format!("{ours}/{in_namespace}/aiworkflows"),
        review::workflow(),
    )
    .await?;
    // As the reconciler leaves it: without the record, each review would ask for a registration.
    let name = workflow["metadata"]["name"]
        .as_str()
        .context("a workflow without a name")?;
    let request = axum::http::Request::patch(format!("{ours}/{in_namespace}/aiworkflows/{name}/status"))
        .header("content-type", "application/merge-patch+json")
        .body(
            json!({"status": {"reviewed": {"generation": 1, "registrationUID": "bench"}}})
                .to_string()
                .into_bytes(),
        )?;
    admin
        .request::<Value>(request)
        .await
        .context("recording the workflow as reviewed")?;
    let account = review::account(uid(&workflow)?);
    create(&admin, &format!("/api/v1/{in_namespace}/serviceaccounts"), account).await?;
    let policies = format!("/apis/networking.k8s.io/v1/{in_namespace}/networkpolicies");
    create(&admin, &policies, review::deny(&namespace)?).await?;
    let job = create(&admin, &format!("/apis/batch/v1/{in_namespace}/jobs"), review::job()).await?;
    let kubeconfig = plane
        .kubeconfig_for(&Identity::service_account("default", "bench"))
        .await?;
    Ok(Some(World {
        kubeconfig,
        job_uid: uid(&job)?.to_owned(),
        _plane: plane,
    }))
}

async fn create(client: &Client, collection: &str, object: Value) -> Result<Value> {
    let request = axum::http::Request::post(collection)
        .header("content-type", "application/json")
        .body(object.to_string().into_bytes())?;
    let created = client.request(request).await;
    created.with_context(|| format!("creating in {collection}"))
}

fn uid(object: &Value) -> Result<&str> {
    object["metadata"]["uid"]
        .as_str()
        .context("a stored object without a uid")
}
