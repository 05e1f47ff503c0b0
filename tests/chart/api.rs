//! Raw requests as any user, and what became of them.
//!
//! Raw paths rather than typed clients, because the attacks are in the paths: subresources, collections, old names.

use std::time::Duration;

use axum::http::{Method, Request};
use serde_json::{Value, json};
use support::ControlPlane;

/// One user's requests.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
    user: Option<(String, Vec<String>)>,
}

/// What the API server said no with.
#[derive(Debug)]
pub struct Refusal {
    pub code: u16,
    pub message: String,
}

pub type Answer = Result<Value, Refusal>;

impl Api {
    pub async fn admin() -> Api {
        Api {
            client: ControlPlane::shared().admin().await,
            user: None,
        }
    }

    pub fn user(&self, name: &str) -> Api {
        Api {
            client: self.client.clone(),
            user: Some((name.to_owned(), Vec::new())),
        }
    }

    /// A user whom RBAC lets do anything, so that only admission can refuse. `system:masters` holds `approve` too.
    pub fn master(&self, name: &str) -> Api {
        Api {
            client: self.client.clone(),
            user: Some((name.to_owned(), vec!["system:masters".to_owned()])),
        }
    }

    /// A user in these groups, and no others.
    pub fn in_groups(&self, name: &str, groups: &[&str]) -> Api {
        Api {
            client: self.client.clone(),
            user: Some((name.to_owned(), groups.iter().map(|&group| group.to_owned()).collect())),
        }
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let content_type = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("Content-Type", content_type);
        if let Some((name, groups)) = &self.user {
            request = request.header("Impersonate-User", name);
            for group in groups {
                request = request.header("Impersonate-Group", group);
            }
        }
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.client
            .request::<Value>(request.body(body).unwrap())
            .await
            .map_err(|error| match error {
                kube::Error::Api(status) => Refusal {
                    code: status.code,
                    message: status.message.clone(),
                },
                other => panic!("{path}: {other}"),
            })
    }

    pub async fn text(&self, request: Request<Vec<u8>>) -> String {
        self.client.request_text(request).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Creates a cluster role of these rules and binds it to these users.
    pub async fn allow(&self, name: &str, users: &[&str], rules: Value) {
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let subjects: Vec<Value> = users.iter().map(|user| json!({"kind": "User", "name": user})).collect();
        self.post(
            &format!("{rbac}/clusterroles"),
            json!({"metadata": {"name": name}, "rules": rules}),
        )
        .await
        .unwrap();
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name});
        let binding = json!({"metadata": {"name": name}, "roleRef": role, "subjects": subjects});
        self.post(&format!("{rbac}/clusterrolebindings"), binding)
            .await
            .unwrap();
    }
}

/// What became of a request: `done`, `guard <policy>`, `webhook <registration>`, or the code and message.
pub fn fate(answer: Answer) -> String {
    let Err(refusal) = answer else { return "done".to_owned() };
    let between = |start: &str, end: char| {
        let rest = refusal.message.split_once(start)?.1;
        Some(rest.split_once(end)?.0.to_owned())
    };
    if let Some(policy) = between("ValidatingAdmissionPolicy '", '\'') {
        assert_eq!(refusal.code, 403, "{}", refusal.message);
        // A policy that cannot be evaluated refuses as well, and must never be mistaken for one that judged.
        assert!(!refusal.message.contains("expression '"), "{}", refusal.message);
        assert!(!refusal.message.contains("resulted in error"), "{}", refusal.message);
        return format!("guard {policy}");
    }
    match between("failed calling webhook \"", '"') {
        Some(webhook) => format!("webhook {webhook}"),
        None => format!("{} {}", refusal.code, refusal.message),
    }
}

/// Asks again until it holds. Admission plugins and RBAC learn of new objects by watches.
pub async fn eventually<F: Future<Output = Result<(), String>>>(what: &str, mut check: impl FnMut() -> F) {
    support::eventually(Duration::from_secs(60), || {
        let checked = check();
        async move { checked.await.map_err(|last| anyhow::anyhow!("{what}: {last}")) }
    })
    .await;
}
