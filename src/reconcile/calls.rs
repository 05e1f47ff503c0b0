//! Calls of the API server on raw objects, each with a deadline.
//!
//! Raw, because a typed object drops the fields that are newer than our types, and a foreign edit of such a field would
//! then be neither seen nor reverted.

use std::{future::Future, time::Duration};

use axum::http;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, GetParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams,
        Preconditions,
    },
    core::{PartialObjectMeta, Request, request::Error as RequestError},
};
use serde_json::{Value, json};
use tracing::warn;

use super::lean::{ALONE, Lean, MAX_OBJECT};
use crate::api::{OWNER_LABEL, OWNER_UID_ANNOTATION};
use crate::plan::{Child, REVISION_ANNOTATION};
use crate::review::weight;
use crate::webhook::pages::{Ask, List, Page};

/// Longest that one call may take.
pub const DEADLINE: Duration = Duration::from_secs(15);
/// Objects in one page of a list. Few, because each may be as large as an object can be (9 MB as text), and eight lists run at a time.
pub(super) const PAGE: u32 = 4;

/// Most that the objects of one list may weigh that are kept as they are. Of what is beyond that only who they are is kept, which is no
/// object that anybody declared: it is replaced or deleted.
const OWNED: usize = 32 << 20;

/// Whose objects are listed: those that say so by their label and by their annotation. Whoever can write objects wrote as many as they liked
/// with that label, before guards stood.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owner<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: Option<&'a str>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The API server answered no, or could not be reached.
    #[error("cannot {what}")]
    Api {
        /// What was tried.
        what: String,
        /// What came back.
        #[source]
        source: kube::Error,
    },
    /// No answer within the deadline.
    #[error("cannot {what}: no answer in {} s", DEADLINE.as_secs())]
    Timeout {
        /// What was tried.
        what: String,
    },
    /// An object did not have the shape that its kind promises.
    #[error("cannot {what}: unexpected shape")]
    Shape {
        /// What was tried.
        what: String,
        /// Where it differs.
        #[source]
        source: serde_json::Error,
    },
    /// A list of anybody's objects could not be read, or one of them could not.
    #[error("{0}")]
    Unread(String),
}

impl CallError {
    /// The API server's answer, if it gave one.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api {
                source: kube::Error::Api(status),
                ..
            } => Some(status),
            Self::Api { .. } | Self::Shape { .. } | Self::Timeout { .. } | Self::Unread(_) => None,
        }
    }

    /// Whether there is no such object. While a definition is served anew, as when its names have changed, the API server finds nothing of its
    /// kind and names no object: of that nothing would tell the end, so it is a fault, and tried again.
    pub(super) fn is_not_found(&self) -> bool {
        let names_one =
            |status: &kube::core::Status| status.details.as_ref().is_some_and(|details| !details.name.is_empty());
        self.status()
            .is_some_and(|status| status.is_not_found() && names_one(status))
    }

    pub(super) fn already_exists(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_already_exists)
    }

    pub(super) fn is_conflict(&self) -> bool {
        self.status()
            .is_some_and(|status| status.is_conflict() && !status.is_already_exists())
    }

    pub(super) fn is_forbidden(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_forbidden)
    }

    /// Whether an answer came, and is nothing that can be read: that is up to who wrote the object, and stays so.
    pub(super) const fn is_unreadable(&self) -> bool {
        matches!(
            self,
            Self::Shape { .. }
                | Self::Api {
                    source: kube::Error::SerdeError(_),
                    ..
                }
        )
    }

    /// Whether the API server did not answer.
    pub(super) fn is_unanswered(&self) -> bool {
        self.status().is_none() && !self.is_unreadable()
    }

    pub(super) fn is_invalid(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_invalid)
    }

    /// Whether the object is larger than can be stored, which the API server has from etcd, and tells as a fault of its own.
    pub(super) fn is_too_large(&self) -> bool {
        self.status()
            .is_some_and(|status| status.code == 413 || status.message.contains("request is too large"))
    }

    /// Whether the API server understood, and said no: to ask again would change nothing.
    pub(super) fn is_refused(&self) -> bool {
        self.is_forbidden() || self.is_invalid()
    }

    /// One line for a condition: what was tried, and what the API server said.
    pub fn explain(&self) -> String {
        match (self.status(), self) {
            (Some(status), _) => format!("{self}: {}", status.message),
            (None, Self::Api { source, .. }) => format!("{self}: {source}"),
            (None, _) => self.to_string(),
        }
    }
}

/// Waits for a call, but not for ever.
pub(super) async fn bounded<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(CallError::Api {
            what: what.to_owned(),
            source,
        }),
        Err(_) => Err(CallError::Timeout { what: what.to_owned() }),
    }
}

/// One page of what anybody may have written, within its bounds.
pub(super) async fn page(lists: &dyn List, ask: &Ask) -> Result<Page, CallError> {
    match tokio::time::timeout(DEADLINE, lists.list(ask)).await {
        Ok(page) => page.map_err(|error| CallError::Unread(error.to_string())),
        Err(_) => Err(CallError::Timeout {
            what: format!("list {ask}"),
        }),
    }
}

/// Turns "not found" into `None`; every other failure stays one.
pub(super) fn optional<T>(result: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same, where what cannot be read is not there either: what one writes must not keep rights of others as they are.
pub(super) fn readable<T>(result: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match result {
        Err(error) if error.is_unreadable() => {
            warn!(
                error = error.explain(),
                "an object cannot be read, and counts as absent"
            );
            Ok(None)
        }
        other => optional(other),
    }
}

/// Turns "not served" into `None`, of what an API server may lack for good. By the code alone: of a group that it does not know it says so in
/// plain text, without a reason.
pub(super) fn served<T>(result: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.status().is_some_and(|status| status.code == 404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads and writes of the kinds that Ringfence owns.
pub(super) struct Calls {
    client: Client,
}

impl Calls {
    pub(super) const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Objects as they are sent, but for what their writers make unreadable: also those that an answer to a write brings back.
    fn api(&self, child: Child, namespace: &str) -> Api<Lean<DynamicObject, MAX_OBJECT>> {
        match child.is_of_cluster() {
            true => Api::all_with(self.client.clone(), &resource(child)),
            false => Api::namespaced_with(self.client.clone(), namespace, &resource(child)),
        }
    }

    pub(super) async fn get(&self, child: Child, namespace: &str, name: &str) -> Result<Option<Value>, CallError> {
        let what = format!("read {} {name}", child.kind());
        let api = self.api(child, namespace);
        optional(bounded(&what, api.get(name)).await)?
            .map(|Lean(object)| raw(&what, object))
            .transpose()
    }

    /// Every object of a kind that is an owner's, page by page.
    pub(super) async fn list(&self, child: Child, owner: &Owner<'_>) -> Result<Vec<Value>, CallError> {
        let Owner { namespace, name, uid } = *owner;
        let what = format!("list {} of namespace {namespace}", child.plural());
        let params = ListParams::default().labels(&format!("{OWNER_LABEL}={name}"));
        self.pages(&what, (child, namespace), params, uid).await
    }

    async fn pages(
        &self,
        what: &str,
        (child, namespace): (Child, &str),
        params: ListParams,
        uid: Option<&str>,
    ) -> Result<Vec<Value>, CallError> {
        let api = self.api(child, namespace);
        let mut params = params.limit(PAGE);
        let (mut objects, mut left) = (Vec::new(), OWNED);
        loop {
            let page = bounded(what, api.list(&params)).await?;
            for Lean(mut object) in page.items {
                // Items of a list come without their type.
                object.types.get_or_insert_with(|| kube::api::TypeMeta {
                    api_version: child.api_version(),
                    kind: child.kind().to_owned(),
                });
                if uid.is_none() || object.annotations().get(OWNER_UID_ANNOTATION).map(String::as_str) != uid {
                    continue;
                }
                let object = raw(what, object)?;
                let room = left.checked_sub(weight(&object));
                left = room.unwrap_or(left);
                objects.push(if room.is_some() { object } else { head(&object) });
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(objects),
            }
        }
    }

    /// The same of a kind that not every API server serves. `None` where it is not served, for good or for the moment: that says nothing of
    /// what is stored.
    pub(super) async fn list_served(&self, child: Child, owner: &Owner<'_>) -> Result<Option<Vec<Value>>, CallError> {
        served(self.list(child, owner).await)
    }

    /// The one of that name and owner, of a kind of the whole cluster that not every API server serves; `None` as above. By a list:
    /// where the kind is served an empty one says that there is none, and an answer that nothing is there says that it is not served.
    pub(super) async fn named_where_served(
        &self,
        child: Child,
        name: &str,
        uid: Option<&str>,
    ) -> Result<Option<Vec<Value>>, CallError> {
        let what = format!("list {}", child.plural());
        let params = ListParams::default().fields(&format!("metadata.name={name}"));
        served(self.pages(&what, (child, ""), params, uid).await)
    }

    pub(super) async fn create(&self, child: Child, namespace: &str, object: Value) -> Result<Value, CallError> {
        let what = format!("create {} {}", child.kind(), crate::plan::name_of(&object));
        let object = Lean(parse(&what, object)?);
        let Lean(created) = bounded(&what, self.api(child, namespace).create(&writing(), &object)).await?;
        raw(&what, created)
    }

    /// Replaces the whole object. The value names the resourceVersion that was seen, so a newer write is not lost.
    pub(super) async fn replace(&self, child: Child, namespace: &str, object: Value) -> Result<Value, CallError> {
        let name = crate::plan::name_of(&object).to_owned();
        let what = format!("replace {} {name}", child.kind());
        let object = Lean(parse(&what, object)?);
        let api = self.api(child, namespace);
        let Lean(replaced) = bounded(&what, api.replace(&name, &writing(), &object)).await?;
        raw(&what, replaced)
    }

    /// Deletes the object with this UID; one that is gone, or another one of that name, is left. A finalizer of somebody else's would
    /// keep it with all that it gives, because nothing heeds that it is being deleted: it goes too, whatever else is in the object. Once it
    /// is being deleted nobody can add another.
    pub(super) async fn delete(&self, child: Child, namespace: &str, name: &str, uid: &str) -> Result<(), CallError> {
        let what = format!("delete {} {name}", child.kind());
        let preconditions = Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        };
        let params = DeleteParams {
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let objects = objects(child, namespace);
        let is_over = |error: &CallError| error.is_not_found() || error.is_conflict();
        let kept = match self.named(&what, objects.delete(name, &params)).await {
            Ok(deleted) => deleted.finalizers.unwrap_or_default(),
            Err(error) if is_over(&error) => return Ok(()),
            // What a finalizer keeps is written first, with when it was deleted.
            Err(error) if error.is_too_large() => {
                self.let_go(child, namespace, name, uid).await?;
                return match self.named(&what, objects.delete(name, &params)).await {
                    Err(error) if is_over(&error) => Ok(()),
                    deleted => deleted.map(drop),
                };
            }
            Err(error) => return Err(error),
        };
        if kept.is_empty() {
            return Ok(());
        }
        self.let_go(child, namespace, name, uid).await
    }

    /// The metadata of an object as it is now, but for who wrote which field.
    pub(super) async fn metadata<K: Resource<DynamicType = ()>>(&self, object: &K) -> Result<ObjectMeta, CallError> {
        let name = object.name_any();
        let what = format!("read {} {name} again", K::kind(&()));
        let objects = Request::new(K::url_path(&(), object.namespace().as_deref()));
        self.named(&what, objects.get_metadata(&name, &GetParams::default()))
            .await
    }

    /// Takes off what keeps an object that is being deleted, and what makes it too large to be written.
    pub(super) async fn let_go(&self, child: Child, namespace: &str, name: &str, uid: &str) -> Result<(), CallError> {
        let what = format!("take the finalizers off {} {name}", child.kind());
        let objects = objects(child, namespace);
        let without = Patch::Merge(json!({"metadata": {"uid": uid, "finalizers": null, "managedFields": [{}]}}));
        let params = PatchParams {
            field_manager: Some(crate::api::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match self.named(&what, objects.patch_metadata(name, &params, &without)).await {
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            taken => taken.map(drop),
        }
    }

    /// Asks whether an object could be written as it stands, by a write that is not carried out. Of an annotation that Ringfence alone sets, to a
    /// value that it never has: what changes nothing, or what the garbage collector changes, is compared with nothing.
    pub(super) async fn compare(&self, child: Child, namespace: &str, name: &str, uid: &str) -> Result<(), CallError> {
        let what = format!("keep {} {name}", child.kind());
        let objects = Request::new(DynamicObject::url_path(&resource(child), Some(namespace)));
        let touched = json!({"metadata": {"uid": uid, "annotations": {REVISION_ANNOTATION: "compared"}}});
        let params = PatchParams {
            dry_run: true,
            field_manager: Some(crate::api::MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let touched = objects.patch_metadata(name, &params, &Patch::Merge(touched));
        self.named(&what, touched).await.map(drop)
    }

    /// What is said of an object beside its content; nothing, where the answer is about none.
    async fn named(
        &self,
        what: &str,
        request: Result<http::Request<Vec<u8>>, RequestError>,
    ) -> Result<ObjectMeta, CallError> {
        let answered = async {
            let request = request.map_err(kube::Error::BuildRequest)?;
            self.client.request::<Lean<PartialObjectMeta, ALONE>>(request).await
        };
        bounded(what, answered).await.map(|Lean(object)| object.metadata)
    }
}

fn objects(child: Child, namespace: &str) -> Request {
    let namespace = Some(namespace).filter(|_| !child.is_of_cluster());
    Request::new(DynamicObject::url_path(&resource(child), namespace))
}

fn resource(child: Child) -> ApiResource {
    ApiResource {
        group: child.group().to_owned(),
        version: child.version().to_owned(),
        api_version: child.api_version(),
        kind: child.kind().to_owned(),
        plural: child.plural().to_owned(),
    }
}

pub(super) fn writing() -> PostParams {
    PostParams {
        field_manager: Some(crate::api::MANAGER.to_owned()),
        ..PostParams::default()
    }
}

pub(super) fn parse(what: &str, object: Value) -> Result<DynamicObject, CallError> {
    serde_json::from_value(object).map_err(|source| CallError::Shape {
        what: what.to_owned(),
        source,
    })
}

pub(super) fn raw(what: &str, object: DynamicObject) -> Result<Value, CallError> {
    serde_json::to_value(object).map_err(|source| CallError::Shape {
        what: what.to_owned(),
        source,
    })
}

/// Who an object is, and whose.
fn head(object: &Value) -> Value {
    let at = |field: &str| object.pointer(&format!("/metadata/{field}"));
    let owner = at("annotations").and_then(|annotations| annotations.get(OWNER_UID_ANNOTATION));
    json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": {
            "name": at("name"), "namespace": at("namespace"), "uid": at("uid"), "resourceVersion": at("resourceVersion"),
            "annotations": {OWNER_UID_ANNOTATION: owner},
        },
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use axum::body::Body;
    use axum::http::{Request, Response};
    use rstest::rstest;

    use super::*;

    /// Whoever may write an object decides what of it comes back with each answer.
    #[tokio::test]
    async fn what_is_kept_and_cannot_be_read_is_let_go_all_the_same() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        let object = format!(
            r#"{{"apiVersion":"v1","kind":"x","metadata":{{"name":"a","uid":"1","finalizers":["b.example/keep"],"managedFields":{deep}}},"roleRef":{deep}}}"#
        );
        assert!(serde_json::from_str::<DynamicObject>(&object).is_err());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (object, log) = (object.clone(), Arc::clone(&log));
            async move {
                let method = request.method().to_string();
                let body = request.into_body().collect_bytes().await.unwrap();
                log.lock()
                    .unwrap()
                    .push((method, serde_json::from_slice::<Value>(&body).unwrap()));
                Ok::<_, Infallible>(Response::new(Body::from(object)))
            }
        });
        let calls = Calls::new(Client::new(service, "default"));
        calls.delete(Child::RoleBinding, "ai", "a", "1").await.unwrap();
        let asked = asked.lock().unwrap();
        let [(first, _), (second, patch)] = asked.as_slice() else {
            panic!("{asked:?}")
        };
        assert_eq!((first.as_str(), second.as_str()), ("DELETE", "PATCH"));
        assert_eq!(
            *patch,
            json!({"metadata": {"uid": "1", "finalizers": null, "managedFields": [{}]}}),
            "and of no newer one"
        );
    }

    /// As API servers answer for a group that they do not know, for a kind whose definition goes, and for what may not be read.
    #[rstest]
    #[case::no_such_group(404, "404 page not found\n", Some(false))]
    #[case::no_such_kind(
        404,
        r#"{"kind":"Status","status":"Failure","reason":"NotFound","code":404,"details":{}}"#,
        Some(false)
    )]
    #[case::none_of_them(200, r#"{"metadata":{"resourceVersion":"1"},"items":[]}"#, Some(true))]
    #[case::forbidden(403, r#"{"kind":"Status","status":"Failure","reason":"Forbidden","code":403}"#, None)]
    #[case::away(503, "no endpoints", None)]
    #[tokio::test]
    async fn what_is_not_served_is_no_empty_list(
        #[case] code: u16,
        #[case] body: &'static str,
        #[case] expected: Option<bool>,
    ) {
        let answer = move |_: Request<kube::client::Body>| {
            let answer = Response::builder().status(code).body(Body::from(body)).unwrap();
            std::future::ready(Ok::<_, Infallible>(answer))
        };
        let calls = Calls::new(Client::new(tower::service_fn(answer), "default"));
        let found = calls.list_served(Child::CiliumNetworkPolicy, &Owner::default()).await;
        assert_eq!(found.as_ref().ok().map(Option::is_some), expected, "{found:?}");
    }

    /// As the API server passes on what etcd says; nothing of its code or reason tells it from a fault that goes by.
    #[rstest]
    #[case::of_etcd(500, "etcdserver: request is too large", true)]
    #[case::of_the_api_server(413, "the body is longer than may be", true)]
    #[case::another_fault(500, "etcdserver: leader changed", false)]
    fn what_is_too_large_to_be_stored_is_known(#[case] code: u16, #[case] message: &str, #[case] expected: bool) {
        let status = json!({"kind": "Status", "status": "Failure", "reason": "", "code": code, "message": message});
        let error = CallError::Api {
            what: "replace it".to_owned(),
            source: kube::Error::Api(serde_json::from_value(status).unwrap()),
        };
        assert_eq!(error.is_too_large(), expected);
    }

    #[test]
    fn a_kind_that_is_not_served_for_a_moment_is_no_object_that_is_gone() {
        let refused = |details: Value| {
            let status =
                json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "details": details});
            CallError::Api {
                what: "read it".to_owned(),
                source: kube::Error::Api(serde_json::from_value(status).unwrap()),
            }
        };
        let gone = refused(json!({"name": "triage", "group": "ringfence.dev", "kind": "aiworkflows"}));
        assert!(gone.is_not_found() && matches!(optional::<()>(Err(gone)), Ok(None)));
        for details in [json!({}), json!(null)] {
            let unserved = refused(details);
            assert!(!unserved.is_not_found() && optional::<()>(Err(unserved)).is_err());
        }
    }
}
