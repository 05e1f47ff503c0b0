//! Rendering and installing the chart.

use serde_json::{Value, json};
use support::ControlPlane;
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::api::{Api, eventually, fate};

/// The release namespace.
pub use support::RELEASE_NAMESPACE as RELEASE;
/// Ringfence's own account.
pub const RINGFENCE: &str = "system:serviceaccount:ringfence-system:ringfence";
/// A port where nobody listens, and no pod, because no node could run it.
pub const VALUES: [&str; 2] = ["replicaCount=0", "webhook.url.host=127.0.0.1:1"];

/// Runs Helm on the chart: `helm(&["template", "ringfence"], &["replicaCount=0"])`.
pub async fn helm(verb: &[&str], values: &[&str]) -> Result<String, String> {
    let mut arguments = verb.to_vec();
    arguments.extend(["--namespace", RELEASE]);
    if !matches!(verb, ["uninstall", ..]) {
        arguments.push("charts/ringfence");
    }
    for value in values {
        // What `--set` cannot say: an empty list.
        let is_json = value.ends_with("=[]") || value.contains("={\"");
        arguments.extend([if is_json { "--set-json" } else { "--set" }, value]);
    }
    let output = ControlPlane::shared().helm(&arguments).await.unwrap();
    if output.success {
        Ok(output.stdout)
    } else {
        Err(output.to_string())
    }
}

/// The chart's objects that an install makes: those of `helm test` are there only while it runs.
pub async fn render(values: &[&str]) -> Vec<Value> {
    objects(&helm(&["template", "ringfence", "--no-hooks"], values).await.unwrap())
}

/// The objects of what Helm printed.
pub fn objects(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple::<Value>(text)
        .unwrap()
        .into_iter()
        .filter(|object| !object.is_null())
        .collect()
}

static INSTALLED: OnceCell<()> = OnceCell::const_new();
static RELEASE_LOCK: RwLock<()> = RwLock::const_new(());

pub async fn install(admin: &Api) {
    helm(&["install", "ringfence", "--create-namespace"], &VALUES)
        .await
        .unwrap();
    in_force(admin).await;
}

/// Waits until every guard and registration acts: the API server learns of them by watches.
pub async fn in_force(admin: &Api) {
    let probe = |user: &'static str, path: &'static str, body: Value, expected: &'static str| async move {
        eventually(expected, || async {
            let found = fate(admin.master(user).post(path, body.clone()).await);
            if found == expected { Ok(()) } else { Err(found) }
        })
        .await;
    };
    let labelled = json!({"metadata": {"name": "probe", "labels": {"ringfence.dev/workflow": "x"}}});
    let owned = json!({"metadata": {"name": "probe", "annotations": {"ringfence.dev/owner-uid": "x"}}});
    let empty_mode = json!({"metadata": {"name": "probe", "labels": {"ringfence.dev/warn": ""}}});
    probe(
        "someone",
        "/api/v1/namespaces/default/configmaps?dryRun=All",
        labelled,
        "webhook label.ringfence.dev",
    )
    .await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts?dryRun=All";
    probe("someone", accounts, owned, "guard ringfence-reserved-keys").await;
    probe(
        "someone",
        "/api/v1/namespaces?dryRun=All",
        empty_mode,
        "guard ringfence-modes",
    )
    .await;
}

async fn installed() -> Api {
    let admin = Api::admin().await;
    INSTALLED
        .get_or_init(|| async {
            install(&admin).await;
            let everything = |groups: &[&str], resources: &[&str]| {
                json!({"apiGroups": groups, "resources": resources, "verbs": ["get", "list", "create", "update", "patch", "delete", "deletecollection"]})
            };
            let rules = json!([
                everything(&[""], &["namespaces", "namespaces/status", "namespaces/finalize", "serviceaccounts", "configmaps", "pods"]),
                everything(&["rbac.authorization.k8s.io"], &["roles", "rolebindings", "clusterroles"]),
                everything(&["networking.k8s.io"], &["networkpolicies"]),
                everything(&["ringfence.dev"], &["aiworkflows", "aiworkflowclasses", "resolvednames"]),
                everything(&["apiextensions.k8s.io"], &["customresourcedefinitions"]),
                everything(&["apiregistration.k8s.io"], &["apiservices"]),
            ]);
            let nothing = json!({"metadata": {"name": "test-nothing"}, "rules": []});
            admin.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", nothing).await.unwrap();
            let approve = |class: &str| json!([{"apiGroups": ["ringfence.dev"], "resources": ["aiworkflowclasses"], "resourceNames": [class], "verbs": ["approve"]}]);
            admin.allow("test-everything", &["tenant", "approver", "default-approver", "gold-approver"], rules).await;
            admin.allow("test-default", &["default-approver"], approve("default")).await;
            admin.allow("test-gold", &["gold-approver"], approve("gold")).await;
            let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "ringfence-approver"});
            let binding = json!({"metadata": {"name": "test-approver"}, "roleRef": role, "subjects": [{"kind": "User", "name": "approver"}]});
            admin.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await.unwrap();
        })
        .await;
    admin
}

/// An administrator of a cluster with the chart in it, which stays while the lock is held.
pub async fn with_chart() -> (Api, RwLockReadGuard<'static, ()>) {
    let lock = RELEASE_LOCK.read().await;
    (installed().await, lock)
}

/// The same for a test that takes the chart away for a while.
pub async fn with_chart_alone() -> (Api, RwLockWriteGuard<'static, ()>) {
    let lock = RELEASE_LOCK.write().await;
    (installed().await, lock)
}

/// A new namespace, made by Ringfence's account with every right: its requests never ask the webhook that is not there.
pub async fn namespace(admin: &Api, name: &str, labels: Value) -> String {
    let made = admin
        .master(RINGFENCE)
        .post(
            "/api/v1/namespaces",
            json!({"metadata": {"name": name, "labels": labels}}),
        )
        .await;
    made.unwrap();
    eventually("the default service account", || async {
        let account = admin
            .get(&format!("/api/v1/namespaces/{name}/serviceaccounts/default"))
            .await;
        account.map(drop).map_err(|refusal| refusal.message)
    })
    .await;
    name.to_owned()
}
