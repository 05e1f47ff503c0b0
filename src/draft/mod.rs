//! From what runs in a namespace to the AIWorkflows that would fence it: `(objects, options) -> declarations + comments`.
//!
//! Must never: declare more than was seen, name a launcher that nobody gave, or show a value of a pod's environment. What may
//! not be declared becomes a comment that says why.

mod group;
mod identity;
mod network;
mod peers;
mod rights;
mod secrets;
mod selector;
mod text;
mod workload;

use std::collections::{BTreeMap, BTreeSet};

use kube::core::ObjectMeta;
use serde_json::Value;

use crate::api::{AIWorkflow, AIWorkflowSpec, Launcher};
use crate::plan::text_at as text;

pub use group::MAX_WORKFLOWS;
pub use rights::{RoleName, roles_of};
pub use text::write;

/// What was seen of a namespace, as the API server sent it. What could not be read is absent.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The namespace.
    pub namespace: String,
    /// Pods, and whatever makes pods.
    pub workloads: Vec<Value>,
    /// Its ServiceAccounts.
    pub accounts: Vec<Value>,
    /// RoleBindings of every namespace that could be read.
    pub role_bindings: Vec<Value>,
    /// ClusterRoleBindings.
    pub cluster_role_bindings: Vec<Value>,
    /// Roles and ClusterRoles that those bindings refer to.
    pub roles: Vec<Value>,
    /// Its NetworkPolicies.
    pub policies: Vec<Value>,
    /// Its Services.
    pub services: Vec<Value>,
    /// Every namespace with its labels; `None` where they could not be read.
    pub namespaces: Option<BTreeMap<String, BTreeMap<String, String>>>,
    /// AIWorkflows that are there already.
    pub workflows: Vec<AIWorkflow>,
}

/// What whoever asks has said.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Launchers of every workflow. Who made the objects of a namespace is recorded nowhere, so nobody is guessed.
    pub launchers: Vec<Launcher>,
    /// Labels, as key and value: the pods of each are one workflow.
    pub groups: Vec<(String, String)>,
}

/// Part of a declaration that a comment stands before, in the order of the parts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Section {
    Whole,
    Engine,
    Launchers,
    Identity,
    Images,
    Permissions,
    Secrets,
    Network,
}

/// Comments by the part that they are about.
#[derive(Clone, Debug, Default)]
struct Notes(BTreeMap<Section, Vec<String>>);

impl Notes {
    fn say(&mut self, section: Section, note: impl Into<String>) {
        let notes = self.0.entry(section).or_default();
        let note = note.into();
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    fn of(&self, section: Section) -> &[String] {
        self.0.get(&section).map_or(&[], Vec::as_slice)
    }
}

/// One declaration and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Drafted {
    /// The declaration.
    pub workflow: AIWorkflow,
    /// Whether its account exists, and must be adopted.
    adopts: bool,
    notes: Notes,
}

/// Everything that was drafted.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The namespace.
    pub namespace: String,
    /// The declarations, by name.
    pub workflows: Vec<Drafted>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

/// Drafts the declarations of a namespace. The same objects give the same text, in whatever order they come.
pub fn draft(seen: &Seen, options: &Options) -> Draft {
    let mut draft = Draft {
        namespace: seen.namespace.clone(),
        ..Draft::default()
    };
    let groups = group::groups(seen, options, &mut draft.left_out);
    draft.workflows = groups.iter().map(|group| declare(group, seen, options)).collect();
    draft
}

fn declare(group: &group::Group<'_>, seen: &Seen, options: &Options) -> Drafted {
    let mut notes = Notes::default();
    group.describe(&mut notes);
    let engine = workload::engine(group, &mut notes);
    let identity = identity::identity(group, &mut notes);
    let images = workload::images(group, &mut notes);
    let permissions = rights::permissions(group, seen, engine, &mut notes);
    let secrets = secrets::secrets(group, &mut notes);
    let asks_the_api_server = permissions.is_some() || engine.is_some_and(|engine| !engine.worker.is_empty());
    let network = network::network(group, seen, asks_the_api_server, &mut notes);
    if options.launchers.is_empty() {
        notes.say(
            Section::Launchers,
            "Who makes these objects is recorded nowhere. Name who may, or only the class's launchers can: --launcher does it for all.",
        );
    }
    let metadata = ObjectMeta {
        name: Some(group.name.clone()),
        namespace: Some(seen.namespace.clone()),
        ..ObjectMeta::default()
    };
    let spec = AIWorkflowSpec {
        engine: engine.map(|engine| engine.name.clone()),
        owner: None,
        launchers: options.launchers.clone(),
        identity: Some(identity),
        images,
        permissions,
        secrets,
        network,
        debug: None,
    };
    let workflow = AIWorkflow {
        metadata,
        spec,
        status: None,
    };
    Drafted {
        workflow,
        adopts: group.account.exists,
        notes,
    }
}

/// The elements of a list of an object; none where it is no list.
fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The texts of a list of an object.
fn texts<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    list(object, pointer).filter_map(Value::as_str)
}

/// A map of texts of an object.
fn labels(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    let fields = object.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    fields
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Names in one line, at most twenty.
fn enumerated<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 20;
    let names: BTreeSet<&str> = names.into_iter().collect();
    let mut line = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        line.push_str(&format!(" and {} more", names.len() - MOST));
    }
    line
}

#[cfg(test)]
mod tests;
