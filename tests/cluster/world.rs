//! What the stories share: one control plane, one Ringfence, requests as somebody, and namespaces of a test's own.
//!
//! Raw paths and raw JSON, because the attacks are in them: subresources, old names, fields that no type knows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::{Method, Request};
use kube::Client;
use kube::client::Body;
use ringfence::review::{Keep, is_its_writers, parse_kept};
use serde_json::{Value, json};
use support::{ControlPlane, Identity, Options, Ringfence, eventually, unique};
use tokio::sync::OnceCell;
use tokio::time::timeout;

pub use crate::objects::{WORKLOADS, all, annotated, condition, container, one, pod, template_of, workflow, workload};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_ringfence");
/// Long enough for a busy machine; nothing waits for it that goes well.
pub const SOON: Duration = Duration::from_secs(60);
const REQUEST: Duration = Duration::from_secs(60);

/// The chart's role for the tenants of a fenced namespace.
pub const TENANT: &str = "ringfence-tenant";
/// Where classes are.
pub const CLASSES: &str = "/apis/ringfence.dev/v1alpha1/aiworkflowclasses";
/// Where RegoPolicies are.
pub const POLICIES: &str = "/apis/ringfence.dev/v1alpha1/regopolicies";
/// Where namespaces are.
pub const NAMESPACES: &str = "/api/v1/namespaces";

/// Somebody who sends requests.
#[derive(Clone)]
pub struct Actor(Client);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub body: Value,
    pub warnings: Vec<String>,
}

/// As a client reads an answer; where it cannot be read, without who wrote which field; where that is not enough, its names.
fn read(bytes: &[u8]) -> Result<Value> {
    let unmanaged = || parse_kept(bytes, usize::MAX, Keep::UNMANAGED);
    let named = || {
        parse_kept(
            bytes,
            usize::MAX,
            Keep::Only(&[("metadata", Keep::Only(&[("name", Keep::Whole)]))]),
        )
    };
    match serde_json::from_slice(bytes) {
        Err(error) if is_its_writers(&error) => Ok(unmanaged().or_else(|_| named())?.0),
        read => Ok(read?),
    }
}

impl Actor {
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    async fn send(&self, method: Method, path: &str, content_type: &str, body: Option<&Value>) -> Result<Answer> {
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.send_bytes(method, path, content_type, bytes).await
    }

    async fn send_bytes(&self, method: Method, path: &str, content_type: &str, bytes: Vec<u8>) -> Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Content-Type", content_type)
            .body(Body::from(bytes))?;
        let response = timeout(REQUEST, self.0.send(request))
            .await
            .context("no answer in time")??;
        let warnings = response.headers().get_all("Warning").iter();
        // 299 - "text", with quotes and backslashes escaped.
        let warnings = warnings
            .filter_map(|value| {
                std::str::from_utf8(value.as_bytes())
                    .ok()?
                    .strip_prefix("299 - \"")?
                    .strip_suffix('"')
            })
            .map(|text| text.replace("\\\"", "\"").replace("\\\\", "\\"))
            .collect();
        let code = response.status().as_u16();
        let bytes = timeout(REQUEST, response.into_body().collect_bytes())
            .await
            .context("no body in time")??;
        let body = read(&bytes).with_context(|| String::from_utf8_lossy(&bytes).into_owned())?;
        Ok(Answer { code, body, warnings })
    }

    /// What is no JSON, as the API server's metrics.
    pub async fn text(&self, path: &str) -> String {
        let request = Request::get(path).body(Vec::new()).expect("a request");
        let answer = timeout(REQUEST, self.0.request_text(request)).await;
        answer
            .expect("an answer in time")
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn must(&self, method: Method, path: &str, content_type: &str, body: Option<&Value>) -> Answer {
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.bytes(method, path, content_type, bytes).await
    }

    /// A body of any media type, as it is.
    pub async fn bytes(&self, method: Method, path: &str, content_type: &str, body: Vec<u8>) -> Answer {
        let sent = self.send_bytes(method, path, content_type, body).await;
        sent.unwrap_or_else(|error| panic!("{path}: {error:#}"))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.must(Method::GET, path, "application/json", None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let sent = self.try_post(path, body).await;
        sent.unwrap_or_else(|error| panic!("{path}: {error:#}"))
    }

    /// The same where no answer may come.
    pub async fn try_post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, "application/json", Some(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.must(Method::PUT, path, "application/json", Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        let sent = self.try_patch(path, body).await;
        sent.unwrap_or_else(|error| panic!("{path}: {error:#}"))
    }

    /// The same where no answer may come.
    pub async fn try_patch(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PATCH, path, "application/merge-patch+json", Some(body))
            .await
    }

    /// Merges lists by their keys, as kubectl does for built-in kinds.
    pub async fn strategic(&self, path: &str, body: &Value) -> Answer {
        self.must(
            Method::PATCH,
            path,
            "application/strategic-merge-patch+json",
            Some(body),
        )
        .await
    }

    pub async fn json_patch(&self, path: &str, body: &Value) -> Answer {
        self.must(Method::PATCH, path, "application/json-patch+json", Some(body))
            .await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.must(Method::DELETE, path, "application/json", None).await
    }

    /// An object that must be there: an error while it is not, so that it can be waited for.
    pub async fn read(&self, path: &str) -> Result<Value> {
        let answer = self.send(Method::GET, path, "application/json", None).await?;
        ensure!(answer.code == 200, "{path}: {}", answer.message());
        Ok(answer.body)
    }

    /// Whether an object is there.
    pub async fn is_there(&self, path: &str) -> Result<bool> {
        let answer = self.send(Method::GET, path, "application/json", None).await?;
        ensure!(matches!(answer.code, 200 | 404), "{path}: {}", answer.message());
        Ok(answer.code == 200)
    }

    /// Waits until an object is gone.
    #[track_caller]
    pub fn gone(&self, path: &str) -> impl Future<Output = ()> {
        let (actor, path) = (self.clone(), path.to_owned());
        eventually(SOON, move || {
            let (actor, path) = (actor.clone(), path.clone());
            async move {
                ensure!(!actor.is_there(&path).await?, "{path} is still there");
                Ok(())
            }
        })
    }

    /// The items of a list.
    pub async fn items(&self, path: &str) -> Result<Vec<Value>> {
        let list = self.read(path).await?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }
}

impl Answer {
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    /// The object, of a request that must have gone well.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.code), "{} {}", self.code, self.message());
        self.body
    }

    /// What Ringfence said, of a request that one of its rules or policies must have refused.
    #[track_caller]
    pub fn refused_by(&self, rule: &str) -> &str {
        assert_eq!(self.code, 403, "{rule} should refuse: {}", self.body);
        assert!(
            self.message().contains("denied the request: ringfence refused this"),
            "{}",
            self.message()
        );
        assert!(
            self.message().contains(&format!("[{rule}]")),
            "{rule} should refuse: {}",
            self.message()
        );
        assert!(self.message().contains(" Fix: "), "says what to do: {}", self.message());
        self.message()
    }

    /// What the guard said, of a request that it must have refused.
    #[track_caller]
    pub fn refused_by_guard(&self, policy: &str) -> &str {
        let by = format!("ValidatingAdmissionPolicy '{policy}'");
        assert_eq!(self.code, 403, "{policy} should refuse: {}", self.body);
        assert!(
            self.message().contains(&by),
            "{policy} should refuse: {}",
            self.message()
        );
        assert!(!self.message().contains("resulted in error"), "{}", self.message());
        self.message()
    }
}

/// A control plane with Ringfence, and its administrator.
#[derive(Clone)]
pub struct World {
    pub cluster: &'static ControlPlane,
    pub ringfence: &'static Ringfence,
    pub admin: Actor,
    /// A tenant of every namespace: what she may do is the chart's role for tenants, and nothing else. By kubectl she is
    /// [`tess`].
    pub tess: Actor,
}

/// See [`World::tess`].
pub fn tess() -> Identity {
    Identity::user("tess", &[])
}

impl World {
    /// That of this test binary, once every guard and registration acts.
    pub async fn shared() -> Self {
        static IN_FORCE: OnceCell<()> = OnceCell::const_new();
        let cluster = ControlPlane::shared();
        let ringfence = cluster.ringfence(BINARY).await;
        let admin = Actor::new(cluster.admin().await);
        let ready = async || {
            in_force(&admin).await;
            tenant_everywhere(cluster, &admin).await;
        };
        IN_FORCE.get_or_init(ready).await;
        let tess = Actor::new(cluster.client(&tess()).await);
        Self {
            cluster,
            ringfence,
            admin,
            tess,
        }
    }

    /// Somebody whom RBAC lets do anything, so that only admission can refuse.
    pub async fn master(&self, name: &str, groups: &[&str]) -> Actor {
        master(self.cluster, name, groups).await
    }

    /// A tenant as most clusters have them: the built-in role `edit` in one namespace.
    pub async fn tenant(&self, namespace: &str) -> (Identity, Actor) {
        self.person(namespace, "edit").await
    }

    /// Somebody with a certificate, who holds one ClusterRole in one namespace and nothing else.
    pub async fn person(&self, namespace: &str, role: &str) -> (Identity, Actor) {
        let name = unique("person");
        self.bind(namespace, role, &json!({"kind": "User", "name": name})).await;
        let identity = Identity::user(&name, &[]);
        let actor = Actor::new(self.cluster.client(&identity).await);
        let pods = all("Pod", namespace);
        eventually(SOON, || async { actor.read(&pods).await }).await;
        (identity, actor)
    }

    pub async fn bind(&self, namespace: &str, role: &str, subject: &Value) {
        let binding = json!({
            "metadata": {"name": unique("binding")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [subject],
        });
        self.admin.post(&all("RoleBinding", namespace), &binding).await.ok();
    }

    pub async fn namespace(&self, prefix: &str, labels: &Value) -> String {
        namespace(&self.admin, prefix, labels).await
    }

    pub async fn enforced(&self, prefix: &str) -> String {
        self.namespace(prefix, &json!({"ringfence.dev/enforce": "default"}))
            .await
    }

    /// Has a namespace enforce that stood without.
    pub async fn enforce(&self, namespace: &str) {
        let labels = json!({"metadata": {"labels": {"ringfence.dev/enforce": "default"}}});
        let path = format!("{NAMESPACES}/{namespace}");
        self.admin.patch(&path, &labels).await.ok();
    }

    /// A class of the test's own, over the usual one.
    pub async fn class(&self, spec: &Value) -> String {
        let name = unique("class");
        let class = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": name}, "spec": spec});
        self.admin.post(CLASSES, &class).await.ok();
        name
    }

    /// Creates a workflow as its tenant does, and waits until it is ready.
    pub async fn ready(&self, namespace: &str, name: &str, spec: &Value) -> Value {
        self.tess
            .post(&all("AIWorkflow", namespace), &workflow(name, spec))
            .await
            .ok();
        self.condition(namespace, name, "Ready", "True", "Fenced").await
    }

    /// Waits until a condition says that of the present generation. Returns the workflow.
    #[track_caller]
    pub fn condition(
        &self,
        namespace: &str,
        name: &str,
        type_: &'static str,
        status: &'static str,
        reason: &'static str,
    ) -> impl Future<Output = Value> {
        let (admin, path) = (self.admin.clone(), one("AIWorkflow", namespace, name));
        eventually(SOON, move || {
            let (admin, path) = (admin.clone(), path.clone());
            async move {
                let workflow = admin.read(&path).await?;
                let found = condition(&workflow, type_);
                let wanted = json!([status, reason, workflow["metadata"]["generation"]]);
                ensure!(
                    json!([found["status"], found["reason"], found["observedGeneration"]]) == wanted,
                    "{path}: {type_} should be {wanted}: {}",
                    workflow["status"]
                );
                Ok(workflow)
            }
        })
    }

    /// The sum of a counter over the series whose labels hold all of `labels`.
    pub async fn counted(&self, name: &str, labels: &[&str]) -> f64 {
        counted(self.ringfence, name, labels).await
    }

    /// Applies manifests with one kubectl.
    pub async fn apply(&self, manifests: &[Value]) -> support::Output {
        self.apply_as(&Identity::Admin, manifests).await
    }

    /// Applies manifests with one kubectl, as somebody.
    pub async fn apply_as(&self, identity: &Identity, manifests: &[Value]) -> support::Output {
        let path = self.cluster.directory().join(format!("{}.json", unique("manifests")));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": manifests});
        std::fs::write(&path, list.to_string()).expect("writing manifests");
        let path = path.display().to_string();
        self.cluster
            .kubectl_as(identity, &["apply", "-f", &path])
            .await
            .expect("kubectl")
    }
}

/// A control plane of a test's own, with Ringfence under these flags, once every guard acts.
pub async fn own(flags: &[&str]) -> (ControlPlane, Ringfence, Actor) {
    let cluster = ControlPlane::start(Options::default()).expect("a control plane");
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let ringfence = cluster.start_ringfence_with(BINARY, &Value::Null, &flags).await;
    let ringfence = ringfence.expect("ringfence");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    (cluster, ringfence, admin)
}

/// Makes [`tess`] the tenant of every namespace of a cluster.
pub async fn tenant_everywhere(cluster: &ControlPlane, admin: &Actor) -> Actor {
    let tess = Actor::new(cluster.client(&tess()).await);
    let binding = json!({
        "metadata": {"name": "tess"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": TENANT},
        "subjects": [{"kind": "User", "name": "tess"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    admin.post(bindings, &binding).await.ok();
    let workflows = all("AIWorkflow", "default");
    eventually(SOON, || async { tess.read(&workflows).await }).await;
    tess
}

/// The sum of a counter over the series whose labels hold all of `labels`.
pub async fn counted(ringfence: &Ringfence, name: &str, labels: &[&str]) -> f64 {
    let (code, text) = ringfence.get("/metrics").await.expect("metrics");
    assert_eq!(code, 200, "{text}");
    let series = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (family, of) = series.split_once('{').unwrap_or((series, ""));
        (family == name && labels.iter().all(|label| of.contains(label))).then_some(value)
    });
    series.map(|value| value.parse::<f64>().expect("a number")).sum()
}

/// A namespace of the test's own that meets the policy on namespaces.
pub async fn namespace(admin: &Actor, prefix: &str, labels: &Value) -> String {
    let name = unique(prefix);
    let mut all =
        json!({"owner": "ml", "classification": "internal", "pod-security.kubernetes.io/enforce": "restricted"});
    for (key, value) in labels.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    admin
        .post(NAMESPACES, &json!({"metadata": {"name": name, "labels": all}}))
        .await
        .ok();
    name
}

/// Somebody whom RBAC lets do anything, so that only admission can refuse.
pub async fn master(cluster: &ControlPlane, name: &str, groups: &[&str]) -> Actor {
    let groups: Vec<&str> = groups.iter().copied().chain(["system:masters"]).collect();
    Actor::new(cluster.user(name, &groups).await)
}

/// Ringfence's own name with every right: nobody asks about what it writes. For what an older definition or version let in.
pub async fn unasked(cluster: &ControlPlane) -> Actor {
    let name = "system:serviceaccount:ringfence-system:ringfence";
    Actor::new(cluster.impersonate(name, &["system:masters"]).await)
}

/// Waits until guards and registrations act: the API server learns of them by watches.
pub async fn in_force(admin: &Actor) {
    eventually(SOON, || async {
        let probe = unique("probe");
        let answer = admin
            .post(
                &format!("{NAMESPACES}?dryRun=All"),
                &json!({"metadata": {"name": probe, "labels": {"ringfence.dev/enforce": ""}}}),
            )
            .await;
        ensure!(
            answer.message().contains("ringfence-modes"),
            "no guard yet: {}",
            answer.body
        );
        let labelled = json!({"metadata": {"name": probe, "labels": {"ringfence.dev/workflow": "probe"}}});
        let answer = admin
            .post("/api/v1/namespaces/default/configmaps?dryRun=All", &labelled)
            .await;
        ensure!(
            answer.message().contains("approved-namespace"),
            "no registration yet: {}",
            answer.body
        );
        Ok(())
    })
    .await;
}
