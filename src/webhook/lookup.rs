//! What admission asks of the API server, live.
//!
//! Every question is a consistent GET or LIST: no resourceVersion, so the answer comes from etcd and not from a watch cache. Must
//! never: answer from memory, or take any failure for "is not there". Objects come as raw JSON, with the fields that are
//! newer than our types.

mod kept;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{BoxFuture, FutureExt};
use kube::Client;
use kube::core::Request;
use kube::core::params::GetParams;
use serde_json::{Value, json};

use kept::{IDENTITY, KINDS, MAX_IDENTITY, OBJECT, OWNER};

use super::fetch::{Answer, MAX_OBJECT, fetch, refusal, short};
use super::held::has_room;
use super::pages::{Ask, List, Listed, Page, page, serves};
use crate::api::{DEFAULT_DENY_NAME, GROUP, is_dns_subdomain};
use crate::fence::{Named, OwnerRef, is_quiet};
use crate::plan::account_of;
use crate::review::{FaultCause, Keep};

const EXCEPTIONS: Listed = Listed {
    group: GROUP,
    version: "v1alpha1",
    kind: "RegoPolicyException",
    plural: "regopolicyexceptions",
};

const WORKFLOWS: Listed = Listed {
    group: GROUP,
    version: "v1alpha1",
    kind: "AIWorkflow",
    plural: "aiworkflows",
};

/// One object to ask for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Key {
    /// A ServiceAccount.
    Account(Named),
    /// The AIWorkflow, one of them, whose account has that name, or would have it.
    AccountOwner(Named),
    /// An AIWorkflowClass.
    Class(String),
    /// The default-deny NetworkPolicy of a namespace.
    DefaultDeny(String),
    /// The RegoPolicyExceptions of a namespace: a list, whose `metadata.continue` tells that there are more.
    Exceptions(String),
    /// A Namespace.
    Namespace(String),
    /// An owner, of whatever kind, in a namespace.
    Owner(String, OwnerRef),
    /// A Pod.
    Pod(Named),
    /// The ValidatingWebhookConfiguration under which writes of our kinds are reviewed.
    Registration,
    /// An AIWorkflow.
    Workflow(Named),
}

/// Why an object could not be asked for. Names the object and the failure, never a content.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} could not be read from the API server: {why}")]
pub struct LookupError {
    /// The object.
    pub what: String,
    /// The failure.
    pub why: String,
    /// What a review is told that needs the object: [`FaultCause::TooLarge`] or [`FaultCause::Crowded`] where it is there, and its size, or
    /// what is read beside it, keeps it from being read. Whoever sends a review may have chosen that, and must not pass by it.
    pub cause: FaultCause,
}

/// Asks for objects. `Ok(None)` means that the API server said "not found"; whatever else went wrong is an error.
pub trait Lookup: Send + Sync + 'static {
    /// Asks for one object.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Value>, LookupError>>;
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Account(named) => write!(f, "ServiceAccount {}/{}", named.namespace, named.name),
            Self::AccountOwner(named) => {
                write!(f, "the AIWorkflow of ServiceAccount {}/{}", named.namespace, named.name)
            }
            Self::Class(name) => write!(f, "AIWorkflowClass {name}"),
            Self::DefaultDeny(namespace) => write!(f, "NetworkPolicy {namespace}/{DEFAULT_DENY_NAME}"),
            Self::Exceptions(namespace) => write!(f, "RegoPolicyExceptions of namespace {namespace}"),
            Self::Namespace(name) => write!(f, "Namespace {name}"),
            Self::Registration => write!(f, "the ValidatingWebhookConfiguration of Ringfence"),
            Self::Owner(namespace, owner) => write!(f, "owner {} {namespace}/{}", owner.kind, owner.name),
            Self::Pod(named) => write!(f, "Pod {}/{}", named.namespace, named.name),
            Self::Workflow(named) => write!(f, "AIWorkflow {}/{}", named.namespace, named.name),
        }
    }
}

/// What the platform can do about an owner that Ringfence may not read.
const OWNERS_HINT: &str =
    "; for an operator's own kinds, label a ClusterRole that may get them ringfence.dev/aggregate-to-owners=true";

/// Asks the API server.
#[derive(Clone)]
pub struct Live {
    client: Client,
    registration: String,
}

/// A kind as the API server serves it.
struct Served {
    plural: String,
    namespaced: bool,
}

impl Live {
    /// Asks by that client; the name is that of [`Key::Registration`]. Its own time-outs are a second line: whoever asks sets a
    /// deadline.
    pub fn new(client: Client, registration: &str) -> Self {
        Self {
            client,
            registration: registration.to_owned(),
        }
    }

    async fn find(&self, key: &Key) -> Result<Option<Value>, LookupError> {
        let core = |namespace: &str, plural: &str| format!("/api/v1/namespaces/{namespace}/{plural}");
        let ours = format!("/apis/{GROUP}/v1alpha1");
        let (collection, name) = match key {
            Key::Account(named) => (core(&named.namespace, "serviceaccounts"), named.name.as_str()),
            Key::AccountOwner(named) => return self.account_owner(named).await,
            Key::Class(name) => (format!("{ours}/aiworkflowclasses"), name.as_str()),
            Key::DefaultDeny(namespace) => (
                format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"),
                DEFAULT_DENY_NAME,
            ),
            Key::Exceptions(namespace) => return self.exceptions(namespace).await.map(Some),
            Key::Namespace(name) => ("/api/v1/namespaces".to_owned(), name.as_str()),
            Key::Pod(named) => (core(&named.namespace, "pods"), named.name.as_str()),
            Key::Workflow(named) => (
                format!("{ours}/namespaces/{}/aiworkflows", named.namespace),
                named.name.as_str(),
            ),
            Key::Registration => (
                "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations".to_owned(),
                self.registration.as_str(),
            ),
            Key::Owner(namespace, owner) => {
                let Some(collection) = self.collection(key, namespace, owner).await? else {
                    return Ok(None);
                };
                (collection, owner.name.as_str())
            }
        };
        let (keep, most) = match key {
            Key::Owner(..) => (OWNER, MAX_IDENTITY),
            Key::Account(_) | Key::Pod(_) => (IDENTITY, MAX_IDENTITY),
            _ => (OBJECT, MAX_OBJECT),
        };
        self.request(key, &collection, name, keep, most).await
    }

    /// Where owners of that kind are. `None` where no object can have such an owner.
    async fn collection(&self, key: &Key, namespace: &str, owner: &OwnerRef) -> Result<Option<String>, LookupError> {
        let segments: Vec<&str> = owner.api_version.split('/').collect();
        let root = match segments.as_slice() {
            ["v1"] => "/api".to_owned(),
            [group, _] => format!("/apis/{group}"),
            _ => return Ok(None),
        };
        // An owner reference is somebody's text: only what can be a name may become part of a URL. Names of RBAC objects may
        // hold more, and own nothing that runs.
        if !segments
            .iter()
            .chain([&owner.name.as_str()])
            .all(|part| is_dns_subdomain(part))
        {
            return Ok(None);
        }
        let version = segments.last().copied().unwrap_or_default();
        let Some(served) = self.served(key, &root, version, owner).await? else {
            return Ok(None);
        };
        let place = if served.namespaced {
            format!("/namespaces/{namespace}")
        } else {
            String::new()
        };
        Ok(Some(format!("{root}/{version}{place}/{}", served.plural)))
    }

    /// Asks what a kind is called in URLs; the kinds of Kubernetes itself are known.
    async fn served(
        &self,
        key: &Key,
        root: &str,
        version: &str,
        owner: &OwnerRef,
    ) -> Result<Option<Served>, LookupError> {
        let known = match (owner.group(), owner.kind.as_str()) {
            ("", "ReplicationController") => Some("replicationcontrollers"),
            ("apps", "DaemonSet") => Some("daemonsets"),
            ("apps", "Deployment") => Some("deployments"),
            ("apps", "ReplicaSet") => Some("replicasets"),
            ("apps", "StatefulSet") => Some("statefulsets"),
            ("batch", "CronJob") => Some("cronjobs"),
            ("batch", "Job") => Some("jobs"),
            _ => None,
        };
        if let Some(plural) = known {
            return Ok(Some(Served {
                plural: plural.to_owned(),
                namespaced: true,
            }));
        }
        let Some(list) = self.request(key, root, version, KINDS, MAX_OBJECT).await? else {
            return Ok(None);
        };
        let mut resources = list.get("resources").and_then(Value::as_array).into_iter().flatten();
        let text = |resource: &Value, field: &str| {
            resource
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let found = resources
            .find(|resource| text(resource, "kind") == owner.kind && is_dns_subdomain(&text(resource, "name")));
        Ok(found.map(|resource| Served {
            plural: text(resource, "name"),
            namespaced: resource.get("namespaced").and_then(Value::as_bool).unwrap_or_default(),
        }))
    }

    /// The first page of a namespace's exceptions, as a list whose `metadata.continue` tells that there are more.
    async fn exceptions(&self, namespace: &str) -> Result<Value, LookupError> {
        let ask = Ask::all(EXCEPTIONS, Some(namespace));
        let first = whole(&ask, page(&self.client, &ask).await?)?;
        if !has_room(first.weight) {
            return Err(no_room(ask.to_string()));
        }
        Ok(json!({"metadata": {"continue": first.next.unwrap_or_default()}, "items": first.items}))
    }

    /// Looks through the AIWorkflows of a namespace, a page at a time.
    async fn account_owner(&self, account: &Named) -> Result<Option<Value>, LookupError> {
        let mut ask = Ask::all(WORKFLOWS, Some(&account.namespace));
        loop {
            let page = whole(&ask, page(&self.client, &ask).await?)?;
            let weight = page.weight;
            let mut workflows = page.items.into_iter().map(Value::Object);
            if let Some(owner) = workflows.find(|workflow| account_of(workflow) == account.name) {
                // That of its page: one workflow weighs no more.
                return has_room(weight.min(MAX_OBJECT))
                    .then_some(Some(owner))
                    .ok_or_else(|| no_room(ask.to_string()));
            }
            if page.next.is_none() {
                return Ok(None);
            }
            (ask.next, ask.first) = (page.next, page.first);
        }
    }

    async fn request(
        &self,
        key: &Key,
        collection: &str,
        name: &str,
        keep: Keep,
        most: usize,
    ) -> Result<Option<Value>, LookupError> {
        let fail = |why: &str| LookupError {
            what: key.to_string(),
            why: short(why),
            cause: FaultCause::Unavailable,
        };
        let request = Request::new(collection)
            .get(name, &GetParams::default())
            .map_err(|error| fail(&error.to_string()))?;
        let (status, object, weight) = match fetch(&self.client, request, keep, most).await {
            Ok(Answer::Json(status, object, size)) => (status, object, size.weight),
            Ok(Answer::TooLarge) => {
                let why = "it is larger than any that works, or holds what is no JSON: look at it, and write it anew";
                return Err(LookupError {
                    cause: FaultCause::TooLarge,
                    ..fail(why)
                });
            }
            Ok(Answer::Crowded) => return Err(no_room(key.to_string())),
            Ok(Answer::Busy) => return Err(busy(key.to_string())),
            Err(why) => return Err(fail(&why)),
        };
        match status.as_u16() {
            200..=299 if has_room(weight) => Ok(Some(object)),
            200..=299 => Err(no_room(key.to_string())),
            404 => Ok(None),
            // Anybody may name a Secret as owner, and Ringfence reads none: what makes no pods owns none either, and asking again, as
            // clients do after a fault, would not change that.
            403 if matches!(key, Key::Owner(_, owner) if is_quiet(owner.group(), &owner.kind)) => Ok(None),
            code => {
                let mut error = fail(&refusal(status, &object));
                if code == 403 && matches!(key, Key::Owner(..)) {
                    error.why.push_str(OWNERS_HINT);
                }
                Err(error)
            }
        }
    }
}

/// A page of which nothing is missing.
fn whole(ask: &Ask, page: Page) -> Result<Page, LookupError> {
    match page.unread {
        None => Ok(page),
        Some(why) => Err(LookupError {
            what: ask.to_string(),
            why,
            cause: FaultCause::TooLarge,
        }),
    }
}

pub(super) fn no_room(what: String) -> LookupError {
    LookupError {
        what,
        why: "it is large, and the reviews that are being judged hold all the memory that they may".to_owned(),
        cause: FaultCause::Crowded,
    }
}

pub(super) fn busy(what: String) -> LookupError {
    LookupError {
        what,
        why: "the API server is asked as much as may be at a time (429)".to_owned(),
        cause: FaultCause::Crowded,
    }
}

impl Lookup for Live {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Value>, LookupError>> {
        self.find(key).boxed()
    }
}

impl List for Live {
    fn list<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Page, LookupError>> {
        page(&self.client, ask).boxed()
    }

    fn serves(&self, kind: Listed) -> BoxFuture<'_, Result<bool, LookupError>> {
        serves(&self.client, kind).boxed()
    }
}

/// Answers from a table: for tests and benches. What is not in it is not there.
#[derive(Clone, Debug, Default)]
pub struct Fixed {
    objects: BTreeMap<Key, Value>,
    failing: BTreeMap<Key, FaultCause>,
    lists: BTreeMap<(&'static str, Option<String>), Vec<Value>>,
    unlisted: BTreeSet<&'static str>,
    served: BTreeSet<&'static str>,
}

impl Fixed {
    /// Adds an object.
    #[must_use]
    pub fn with(mut self, key: Key, object: Value) -> Self {
        self.failing.remove(&key);
        self.objects.insert(key, object);
        self
    }

    /// Takes an object away.
    #[must_use]
    pub fn without(mut self, key: &Key) -> Self {
        self.objects.remove(key);
        self
    }

    /// Adds what a list of a kind holds, in a namespace or the whole cluster; pages hold two.
    #[must_use]
    pub fn listing(mut self, plural: &'static str, namespace: Option<&str>, objects: Vec<Value>) -> Self {
        self.lists.insert((plural, namespace.map(str::to_owned)), objects);
        self
    }

    /// Serves the kinds of a group that is not built in.
    #[must_use]
    pub fn serving(mut self, group: &'static str) -> Self {
        self.served.insert(group);
        self
    }

    /// Makes the lists of a kind fail.
    #[must_use]
    pub fn not_listing(mut self, plural: &'static str) -> Self {
        self.unlisted.insert(plural);
        self
    }

    fn page(&self, ask: &Ask) -> Result<Page, LookupError> {
        if self.unlisted.contains(ask.kind.plural) {
            return Err(LookupError {
                what: ask.to_string(),
                why: "it did not answer".to_owned(),
                cause: FaultCause::Unavailable,
            });
        }
        let at: usize = ask.next.as_deref().and_then(|next| next.parse().ok()).unwrap_or(0);
        let whole = self.lists.get(&(ask.kind.plural, ask.namespace.clone()));
        let items = whole.map_or(&[][..], Vec::as_slice);
        let objects = items.iter().skip(at).take(2).filter_map(Value::as_object);
        Ok(Page {
            items: objects.cloned().collect(),
            next: (items.len() > at + 2).then(|| (at + 2).to_string()),
            ..Page::default()
        })
    }

    /// Makes a question fail.
    #[must_use]
    pub fn failing(self, key: Key) -> Self {
        self.failing_by(key, FaultCause::Unavailable)
    }

    /// Makes a question fail in that way.
    #[must_use]
    pub fn failing_by(mut self, key: Key, cause: FaultCause) -> Self {
        self.failing.insert(key, cause);
        self
    }
}

impl Lookup for Fixed {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Value>, LookupError>> {
        let answer = if let Some(cause) = self.failing.get(key) {
            Err(LookupError {
                what: key.to_string(),
                why: "it did not answer".to_owned(),
                cause: *cause,
            })
        } else {
            Ok(self.objects.get(key).cloned())
        };
        std::future::ready(answer).boxed()
    }
}

impl List for Fixed {
    fn list<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Page, LookupError>> {
        std::future::ready(self.page(ask)).boxed()
    }

    fn serves(&self, kind: Listed) -> BoxFuture<'_, Result<bool, LookupError>> {
        std::future::ready(Ok(self.served.contains(kind.group))).boxed()
    }
}

#[cfg(test)]
mod tests;
