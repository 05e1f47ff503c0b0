//! What stands around a workflow: its namespace, its class, its peers, as far as the input says.
//!
//! Must never: choose between two classes. Which one fences a namespace is the platform's word.

use anyhow::{Result, bail};
use kube::ResourceExt;

use super::{super::manifests::Manifests, namespace_of, placeholder};
use crate::{
    api::{AIWorkflow, AIWorkflowClass, AIWorkflowGrant, ClusterStatus, DEFAULT_CLASS, ENFORCE_LABEL, is_exempt},
    plan::{self, NamespaceFacts, Observed},
};

/// What a workflow's namespace says, or what is taken for it.
pub(super) struct Surroundings {
    pub(super) facts: NamespaceFacts,
    pub(super) class: Option<AIWorkflowClass>,
    /// What was assumed, as a comment.
    pub(super) assumed: Option<String>,
    /// Whether the class knows the cluster's ranges. It does in the cluster: here its declarations are judged without them.
    pub(super) knows_cluster: bool,
}

impl Surroundings {
    pub(super) fn of(name: &str, manifests: &Manifests) -> Result<Self> {
        let mut assumed = None;
        let facts = match facts_of(name, manifests) {
            Some(facts) => facts,
            None => {
                let classes: Vec<_> = manifests.classes.keys().map(String::as_str).collect();
                let class = match classes.as_slice() {
                    [] => DEFAULT_CLASS,
                    [only] => only,
                    several => bail!(
                        "which class fences namespace {name}? Add the Namespace, with the label {ENFORCE_LABEL} naming one of {}",
                        several.join(", ")
                    ),
                };
                assumed = Some(format!(
                    "Namespace {name} is not in the input: taken as labelled {ENFORCE_LABEL}={class}"
                ));
                let mut facts = bare(name);
                facts.labels.insert(ENFORCE_LABEL.to_owned(), class.to_owned());
                facts
            }
        };
        let mut class = facts
            .fencing_class()
            .and_then(|class| match manifests.classes.get(class) {
                None if class == DEFAULT_CLASS => Some(plan::default_class()),
                found => found.cloned(),
            });
        let knows_cluster = class.as_ref().is_none_or(plan::knows_cluster);
        if let Some(class) = class.as_mut().filter(|_| !knows_cluster) {
            class.status.get_or_insert_default().cluster = Some(ClusterStatus::default());
        }
        Ok(Self {
            facts,
            class,
            assumed,
            knows_cluster,
        })
    }

    /// What the reconciler would see if the input were all that is there.
    pub(super) fn observe(self, workflow: &AIWorkflow, manifests: &Manifests) -> Observed {
        let entries = workflow.cross_namespace();
        let reached = |grant: &&AIWorkflowGrant| {
            let there = grant.namespace().unwrap_or_default();
            entries.iter().any(|entry| entry.namespace == there)
        };
        let peers = plan::peers_of(workflow);
        let declared = manifests.workflows.iter().filter_map(|peer| {
            let key = (namespace_of(peer), peer.name_any());
            peers.contains(&key).then(|| (key, peer.clone()))
        });
        Observed {
            namespace: self.facts,
            class: self.class,
            grants: manifests.grants.iter().filter(reached).cloned().collect(),
            peers: declared.collect(),
            ..Observed::default()
        }
    }
}

pub(in crate::cli) fn facts_of(name: &str, manifests: &Manifests) -> Option<NamespaceFacts> {
    let mut facts = NamespaceFacts::from_object(manifests.namespaces.get(name)?, is_system)?;
    if facts.uid.is_empty() {
        facts.uid = placeholder(&format!("Namespace {name}"));
    }
    Some(facts)
}

pub(super) fn bare(name: &str) -> NamespaceFacts {
    NamespaceFacts {
        name: name.to_owned(),
        uid: placeholder(&format!("Namespace {name}")),
        exempt: is_system(name),
        ..NamespaceFacts::default()
    }
}

fn is_system(name: &str) -> bool {
    // Which namespace Ringfence is installed in is not known offline.
    is_exempt(name, None)
}
