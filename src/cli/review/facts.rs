//! What the reviewed files and the context say of the cluster, asked as admission asks the API server.
//!
//! Must never: answer for a fact that nobody gave as if it were known. What is supposed in its place is recorded, and whoever judges
//! gives no verdict that rests on it. What Ringfence itself would make of what was given (an account, a default-deny) is given too.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::ready,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::kinds::{Kinds, Resource};
use crate::{
    api::{ClusterStatus, DEFAULT_CLASS, DEFAULT_DENY_NAME, ENFORCE_LABEL, GROUP, OWNER_UID_ANNOTATION, is_exempt},
    decisions::Need,
    fence::{Named, OwnerRef},
    plan::{self, NamespaceFacts, text_at as text},
    webhook::lookup::{Key, Lookup, LookupError},
};

/// Most bytes of JSON that facts may take.
const MAX_FACTS: usize = 64 << 20;
/// Most differences that are told.
const MAX_NOTES: usize = 32;
/// Stands for the UID of what has none yet.
pub(super) const SUPPOSED: &str = "supposed";
/// The level that the namespace of a fence has at least.
const POD_SECURITY: (&str, &str) = ("pod-security.kubernetes.io/enforce", "restricted");
/// What the API server puts on every Namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Where an object was given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Given {
    /// To be reviewed.
    Reviewed,
    /// As standing in the cluster.
    Context,
    /// For policies to see beside the request.
    Inventory,
}

/// Everything that is known.
#[derive(Default)]
pub(super) struct Store {
    namespaces: BTreeMap<String, Value>,
    workflows: BTreeMap<Named, Value>,
    classes: BTreeMap<String, Value>,
    accounts: BTreeMap<Named, Value>,
    denies: BTreeMap<String, Value>,
    exceptions: BTreeMap<String, Vec<Value>>,
    pods: BTreeMap<Named, Value>,
    /// By UID.
    owners: BTreeMap<String, Value>,
    pub(super) kinds: Kinds,
    inventory: Option<Vec<Value>>,
    weight: usize,
    /// Where each was given first.
    origins: BTreeMap<String, Given>,
    /// What was given twice in one place, and not the same.
    pub(super) notes: Vec<String>,
}

impl Store {
    /// Takes in an object; an error where there is no room for it.
    pub(super) fn add(&mut self, object: &Value, given: Given, default_namespace: &str) -> Result<(), String> {
        if given != Given::Reviewed {
            self.inventory.get_or_insert_default();
        }
        let api_version = text(object, "/apiVersion");
        let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
        self.kinds.learn(object);
        let Resource {
            group, is_namespaced, ..
        } = self.kinds.of(api_version, kind, object);
        let namespace = match text(object, "/metadata/namespace") {
            "" => default_namespace,
            own => own,
        };
        let uid = text(object, "/metadata/uid");
        let is_ours = group == GROUP;
        let is_secret = crate::policy::is_secret(kind);
        let is_fact = match (group.as_str(), kind) {
            ("", "Namespace" | "ServiceAccount" | "Pod") | ("networking.k8s.io", "NetworkPolicy") => true,
            _ => is_ours || !uid.is_empty() && !is_secret,
        };
        let is_looked_at = given != Given::Reviewed && !is_secret;
        if (!is_fact && !is_looked_at) || name.is_empty() {
            return Ok(());
        }
        self.weight = self.weight.saturating_add(object.to_string().len());
        if self.weight > MAX_FACTS {
            return Err(format!("more than {MAX_FACTS} bytes of facts: give less as context"));
        }
        let mut object = object.clone();
        if is_namespaced && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
        if is_looked_at && let Some(inventory) = &mut self.inventory {
            inventory.push(object.clone());
        }
        if given == Given::Inventory || !is_fact {
            return Ok(());
        }
        if !uid.is_empty() {
            self.owners.entry(uid.to_owned()).or_insert_with(|| object.clone());
        }
        let named = || Named {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let of_namespace = if is_namespaced { namespace } else { "" };
        let what = format!("{kind} {of_namespace}/{name}");
        let first = *self.origins.entry(what.clone()).or_insert(given);
        let differs = match (group.as_str(), kind) {
            ("", "Namespace") => put(&mut self.namespaces, name.to_owned(), whole(object)),
            ("", "ServiceAccount") => put(&mut self.accounts, named(), object),
            ("", "Pod") => put(&mut self.pods, named(), object),
            ("networking.k8s.io", "NetworkPolicy") if name == DEFAULT_DENY_NAME => {
                put(&mut self.denies, namespace.to_owned(), object)
            }
            (GROUP, "AIWorkflow") => put(&mut self.workflows, named(), new(object)),
            (GROUP, "AIWorkflowClass") => put(&mut self.classes, name.to_owned(), with_cluster(object)),
            (GROUP, "RegoPolicyException") => {
                self.exceptions.entry(namespace.to_owned()).or_default().push(object);
                false
            }
            _ => false,
        };
        // What is reviewed differs from what stands: that is why it is reviewed.
        if differs && first == given && self.notes.len() < MAX_NOTES {
            self.notes
                .push(format!("{what} is there twice, and not the same: the first one counts"));
        }
        Ok(())
    }

    /// What policies see beside the request, where anything was given for them to see.
    pub(super) fn inventory(&self) -> Option<&[Value]> {
        self.inventory.as_deref()
    }

    fn namespace(&self, name: &str) -> Option<Value> {
        self.namespaces.get(name).cloned()
    }

    fn class(&self, name: &str) -> Option<Value> {
        let known = self.classes.get(name).cloned();
        known.or_else(|| {
            let class = (name == DEFAULT_CLASS).then(plan::default_class)?;
            serde_json::to_value(class).ok().map(with_cluster)
        })
    }

    /// The workflow whose account has that name.
    fn owner_of(&self, named: &Named) -> Option<&Value> {
        self.workflows.values().find(|workflow| {
            text(workflow, "/metadata/namespace") == named.namespace && plan::account_of(workflow) == named.name
        })
    }

    /// The account that a pod names. That of a workflow is there once Ringfence has made it.
    fn account(&self, named: &Named) -> Option<Value> {
        let given = self.accounts.get(named).cloned();
        let Some(workflow) = self.owner_of(named) else {
            return given;
        };
        let owner = text(workflow, "/metadata/uid");
        let is_owned = |account: &Value| {
            let annotations = account.pointer("/metadata/annotations");
            annotations.is_some_and(|all| all.get(OWNER_UID_ANNOTATION).is_some())
        };
        match given {
            // Whose it is, its owner's UID would tell.
            Some(account) if owner != SUPPOSED || !is_owned(&account) => Some(account),
            _ => {
                let annotations = json!({OWNER_UID_ANNOTATION: owner});
                Some(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {
                    "name": named.name, "namespace": named.namespace, "uid": SUPPOSED, "annotations": annotations,
                }}))
            }
        }
    }

    /// The default-deny that Ringfence makes, unless another was given.
    fn default_deny(&self, namespace: &Value) -> Option<Value> {
        let facts = NamespaceFacts::from_object(namespace, |name| is_exempt(name, None))?;
        let given = self.denies.get(&facts.name).filter(|_| facts.uid != SUPPOSED);
        Some(given.cloned().unwrap_or_else(|| plan::default_deny(&facts)))
    }
}

/// Puts it there where nothing is yet; whether it is not the same as what is there.
fn put<K: Ord>(map: &mut BTreeMap<K, Value>, key: K, object: Value) -> bool {
    let first = map.entry(key).or_insert_with(|| object.clone());
    *first != object
}

/// A Namespace with what the API server adds.
fn whole(mut object: Value) -> Value {
    let name = text(&object, "/metadata/name").to_owned();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("namespace");
        if metadata.get("uid").and_then(Value::as_str).is_none_or(str::is_empty) {
            metadata.insert("uid".to_owned(), SUPPOSED.into());
        }
        let labels = metadata.entry("labels").or_insert_with(|| Map::new().into());
        if labels.is_null() {
            *labels = Map::new().into();
        }
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(NAME_LABEL.to_owned(), name.into());
        }
    }
    object
}

/// An AIWorkflow as it is once it is written: whether that was reviewed is a question to a cluster.
fn new(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("generation");
        if metadata.get("uid").and_then(Value::as_str).is_none_or(str::is_empty) {
            metadata.insert("uid".to_owned(), SUPPOSED.into());
        }
    }
    object
}

/// The cluster's own ranges are found in the cluster: declarations are judged without them.
fn with_cluster(mut class: Value) -> Value {
    let known = serde_json::from_value(class.clone()).is_ok_and(|class| plan::knows_cluster(&class));
    let status = class.as_object_mut().filter(|_| !known);
    if let Some(class) = status
        && let Ok(cluster) = serde_json::to_value(ClusterStatus::default())
    {
        let status = class.entry("status").or_insert_with(|| Map::new().into());
        if let Some(status) = status.as_object_mut() {
            status.insert("cluster".to_owned(), cluster);
        }
    }
    class
}

/// Whether pods ask the egress proxy for names, and only the cluster knows where that is.
fn lacks_proxy(class: &Value) -> bool {
    let class = serde_json::from_value(class.clone());
    class.is_ok_and(|class| plan::dns_addresses(&class).is_some_and(<[String]>::is_empty))
}

/// A fact that nobody gave.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Missing {
    pub(super) need: Need,
    /// Such as `Namespace ai-secure`.
    pub(super) what: String,
}

/// The facts of one review, and which of them were missing.
pub(super) struct Asking {
    store: Arc<Store>,
    /// The account that asks, and whether that it does is supposed.
    launcher: Option<(Named, bool)>,
    missing: Mutex<BTreeSet<Missing>>,
}

impl Asking {
    pub(super) fn new(store: Arc<Store>, launcher: Option<(Named, bool)>) -> Self {
        Self {
            store,
            launcher,
            missing: Mutex::default(),
        }
    }

    /// What was asked for and is not known.
    pub(super) fn missing(&self) -> BTreeSet<Missing> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn miss(&self, need: Need, what: impl Into<String>) {
        let what = what.into();
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.insert(Missing { need, what });
    }

    fn namespace(&self, name: &str) -> Value {
        if let Some(known) = self.store.namespace(name) {
            return known;
        }
        if is_exempt(name, None) {
            return json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": name, "uid": SUPPOSED, "labels": {NAME_LABEL: name},
            }});
        }
        self.miss(Need::Namespace, format!("Namespace {name}"));
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": name, "uid": SUPPOSED,
            "labels": {NAME_LABEL: name, ENFORCE_LABEL: DEFAULT_CLASS, POD_SECURITY.0: POD_SECURITY.1},
        }})
    }

    fn owner(&self, namespace: &str, owner: &OwnerRef) -> Option<Value> {
        let found = self.store.owners.get(&owner.uid).cloned();
        if found.is_none() {
            self.miss(Need::Owner, format!("{} {namespace}/{}", owner.kind, owner.name));
        }
        found
    }

    fn account(&self, named: &Named) -> Option<Value> {
        match &self.launcher {
            Some((launcher, true)) if launcher == named => Some(json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": named.name, "namespace": named.namespace, "uid": SUPPOSED},
            })),
            Some((launcher, false)) if launcher == named => {
                let found = self
                    .store
                    .accounts
                    .get(named)
                    .filter(|account| !text(account, "/metadata/uid").is_empty());
                if found.is_none() {
                    self.miss(
                        Need::Launcher,
                        format!("ServiceAccount {}/{} with its uid", named.namespace, named.name),
                    );
                }
                found.cloned()
            }
            _ => self.store.account(named),
        }
    }

    fn answer(&self, key: &Key) -> Option<Value> {
        let known = |found: Option<Value>, need: Need| {
            if found.is_none() {
                self.miss(need, key.to_string());
            }
            found
        };
        match key {
            Key::Account(named) => self.account(named),
            Key::AccountOwner(named) => known(self.store.owner_of(named).cloned(), Need::Workflow),
            Key::Class(name) => {
                let class = known(self.store.class(name), Need::Class);
                if class.as_ref().is_some_and(lacks_proxy) {
                    self.miss(Need::EgressProxy, format!("status.dns of AIWorkflowClass {name}"));
                }
                class
            }
            Key::DefaultDeny(namespace) => self.store.default_deny(&self.namespace(namespace)),
            Key::Exceptions(namespace) => {
                let items = self.store.exceptions.get(namespace).cloned().unwrap_or_default();
                Some(json!({"metadata": {"continue": ""}, "items": items}))
            }
            Key::Namespace(name) => Some(self.namespace(name)),
            Key::Owner(namespace, owner) => self.owner(namespace, owner),
            Key::Pod(named) => known(self.store.pods.get(named).cloned(), Need::Pod),
            Key::Registration => known(None, Need::Workflow),
            Key::Workflow(named) => known(self.store.workflows.get(named).cloned(), Need::Workflow),
        }
    }
}

impl Lookup for Asking {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Value>, LookupError>> {
        Box::pin(ready(Ok(self.answer(key))))
    }
}
