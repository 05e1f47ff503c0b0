//! An API server of one map, strict about names and resourceVersions as the real one is. For tests of this room only.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use serde_json::{Value, json};

type Edit = Box<dyn FnOnce(&mut Value) + Send>;

#[derive(Clone, Default)]
pub(super) struct FakeApi(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Value>,
    version: u64,
    failing: usize,
    before_write: Option<(String, Edit)>,
}

impl FakeApi {
    pub(super) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                // Others get their turn between any two calls: that is where races are.
                tokio::task::yield_now().await;
                let (code, answer) = api.answer(&head.method, head.uri.path(), &body);
                let response = Response::builder()
                    .status(code)
                    .body(Body::from(answer.to_string()))
                    .unwrap();
                Ok::<_, Infallible>(response)
            }
        });
        Client::new(service, "default")
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }

    pub(super) fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().write(path, object);
    }

    pub(super) fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).unwrap();
        edit(&mut object);
        self.put(path, object);
    }

    /// Edits the object when the next write of it arrives, before that is looked at.
    pub(super) fn before_next_write(&self, path: &str, edit: impl FnOnce(&mut Value) + Send + 'static) {
        self.0.lock().unwrap().before_write = Some((path.to_owned(), Box::new(edit)));
    }

    /// Answers the next calls with 500.
    pub(super) fn fail_next(&self, calls: usize) {
        self.0.lock().unwrap().failing = calls;
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        let mut inner = self.0.lock().unwrap();
        if inner.failing > 0 {
            inner.failing -= 1;
            return status(500, "InternalError");
        }
        if method != Method::GET && inner.before_write.as_ref().is_some_and(|(edited, _)| edited == path) {
            let (_, edit) = inner.before_write.take().unwrap();
            let mut object = inner.objects[path].clone();
            edit(&mut object);
            inner.write(path, object);
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let found = inner.objects.get(path).cloned();
        match (method.as_str(), found) {
            ("GET", Some(found)) => (200, found),
            ("POST", _) => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if inner.objects.contains_key(&path) {
                    status(409, "AlreadyExists")
                } else {
                    (201, inner.write(&path, body))
                }
            }
            ("PUT", Some(found)) if found["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] => {
                status(409, "Conflict")
            }
            ("PUT", Some(_)) => (200, inner.write(path, body)),
            ("PATCH", Some(found)) => match patched(found, &body) {
                Some(object) => (200, inner.write(path, object)),
                None => status(422, "Invalid"),
            },
            _ => status(404, "NotFound"),
        }
    }
}

impl Inner {
    fn write(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }
}

/// The two operations of JSON patch that are in use.
fn patched(mut object: Value, patch: &Value) -> Option<Value> {
    for operation in patch.as_array().unwrap() {
        let path = operation["path"].as_str().unwrap();
        match operation["op"].as_str().unwrap() {
            "test" if object.pointer(path) == Some(&operation["value"]) => {}
            "add" => {
                let (parent, key) = path.rsplit_once('/').unwrap();
                object
                    .pointer_mut(parent)?
                    .as_object_mut()?
                    .insert(key.to_owned(), operation["value"].clone());
            }
            _ => return None,
        }
    }
    Some(object)
}

fn status(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason}),
    )
}
