//! A control plane with namespaces, pods and declarations, as many as are wanted.

use anyhow::{Context, Result, ensure};
use axum::http::Request;
use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use ringfence::api::{DEFAULT_CLASS, ENFORCE_LABEL};
use serde_json::{Value, json};
use support::{ControlPlane, Options};

/// Workflows in one namespace.
pub const IN_NAMESPACE: usize = 10;
/// Pods to each workflow.
pub const PODS: usize = 10;
/// Requests in flight while objects are made.
const IN_FLIGHT: usize = 24;

pub const OURS: &str = "/apis/ringfence.dev/v1alpha1";

/// A control plane of its own; ends when dropped.
pub struct World {
    pub plane: ControlPlane,
    pub admin: Client,
}

impl World {
    pub async fn start() -> Result<Self> {
        let plane = ControlPlane::start(Options::default())?;
        let admin = plane.admin().await;
        Ok(Self { plane, admin })
    }

    /// Namespaces that are not fenced yet, and their pods: nobody reviews what was there before.
    pub async fn before(&self, workflows: usize) -> Result<()> {
        let namespaces = workflows.div_ceil(IN_NAMESPACE);
        self.all(namespaces, |index| {
            (
                "/api/v1/namespaces".to_owned(),
                json!({"metadata": {"name": namespace(index * IN_NAMESPACE)}}),
            )
        })
        .await?;
        // Else the pods wait for it one by one.
        self.accounts(namespaces).await?;
        self.all(workflows * PODS, |index| {
            let workflow = index / PODS;
            let pod = json!({
                "metadata": {"name": format!("pod-{index}"), "labels": {"app": format!("step-{workflow}"), "job-name": format!("step-{workflow}")}},
                "spec": {
                    "automountServiceAccountToken": false,
                    "containers": [{"name": "step", "image": "registry.example.com/step:1.0", "args": ["--step"]}],
                },
            });
            (format!("/api/v1/namespaces/{}/pods", namespace(workflow)), pod)
        })
        .await
    }

    async fn accounts(&self, namespaces: usize) -> Result<()> {
        let path = |index: usize| {
            format!(
                "/api/v1/namespaces/{}/serviceaccounts/default",
                namespace(index * IN_NAMESPACE)
            )
        };
        for index in 0..namespaces {
            let mut asked = 0;
            while self.ask(Request::get(path(index)), &Value::Null).await.is_err() {
                asked += 1;
                ensure!(
                    asked < 600,
                    "no default service account in {}",
                    namespace(index * IN_NAMESPACE)
                );
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// What the platform allows, and the namespaces fenced.
    pub async fn fence(&self, workflows: usize) -> Result<()> {
        let class = json!({"spec": {
            "images": {"allowed": ["registry.example.com/**"]},
            "permissions": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}],
            "network": {"cidrs": ["203.0.113.0/24"]},
        }});
        let of_class = format!("{OURS}/aiworkflowclasses/{DEFAULT_CLASS}");
        self.patch(&of_class, &class).await?;
        let labels = json!({ENFORCE_LABEL: DEFAULT_CLASS, "owner": "finance-ml", "pod-security.kubernetes.io/enforce": "restricted"});
        let label = json!({"metadata": {"labels": labels}});
        let paths = (0..workflows.div_ceil(IN_NAMESPACE))
            .map(|index| format!("/api/v1/namespaces/{}", namespace(index * IN_NAMESPACE)));
        stream::iter(paths)
            .map(|path| self.patch_at(path, &label))
            .buffer_unordered(IN_FLIGHT)
            .try_collect()
            .await
    }

    pub async fn declare(&self, workflows: usize) -> Result<()> {
        self.all(workflows, |index| {
            let path = format!("{OURS}/namespaces/{}/aiworkflows", namespace(index));
            (path, workflow(index))
        })
        .await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Result<()> {
        let request = Request::patch(path).header("content-type", "application/merge-patch+json");
        self.ask(request, body).await.map(drop)
    }

    async fn patch_at(&self, path: String, body: &Value) -> Result<()> {
        self.patch(&path, body).await
    }

    async fn all(&self, count: usize, one: impl Fn(usize) -> (String, Value)) -> Result<()> {
        stream::iter((0..count).map(one))
            .map(|(path, body)| async move { self.ask(Request::post(path), &body).await.map(drop) })
            .buffer_unordered(IN_FLIGHT)
            .try_collect()
            .await
    }

    async fn ask(&self, request: axum::http::request::Builder, body: &Value) -> Result<Value> {
        let body = if body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(body)?
        };
        let request = match request.headers_ref() {
            Some(headers) if headers.contains_key("content-type") => request,
            _ => request.header("content-type", "application/json"),
        };
        let request = request.body(body)?;
        let what = format!("{} {}", request.method(), request.uri());
        self.admin.request(request).await.context(what)
    }
}

pub fn namespace(workflow: usize) -> String {
    format!("team-{}", workflow / IN_NAMESPACE)
}

pub fn name(workflow: usize) -> String {
    format!("step-{workflow}")
}

/// About what a team declares: images, a right, a Secret, two destinations.
fn workflow(index: usize) -> Value {
    json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": {"name": name(index)},
        "spec": {
            "owner": {"team": "finance-ml", "contact": "finance-ml@example.com"},
            "launchers": [{"user": "scheduler"}],
            "images": ["registry.example.com/step"],
            "permissions": {"rules": [
                {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["settings"], "verbs": ["get"]},
            ]},
            "secrets": [{"name": "model-key", "secretRef": {"name": "openai", "keys": ["API_KEY"]}}],
            "network": {"egress": egress(443)},
        },
    })
}

/// Destinations at a port by which one change is told from the next.
pub fn egress(port: u16) -> Value {
    json!([
        {"name": "store", "to": {"pods": {"selector": {"matchLabels": {"app": "qdrant"}}}}, "ports": [{"port": 6334}]},
        {"name": "model", "to": {"cidrs": ["203.0.113.0/24"]}, "ports": [{"port": port}]},
    ])
}
