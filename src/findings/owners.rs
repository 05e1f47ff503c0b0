//! Who owns what Ringfence makes, and under what names it makes it.
//!
//! Must never: take an annotation's word. Whoever could write while the guards were away could copy an owner's UID onto an object
//! of their own, and would have it kept for Ringfence's: what Ringfence makes has a name that follows from its owner's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Declared;
use crate::api::DEFAULT_DENY_NAME;
use crate::plan::{granted_names, name_of, owned_names, owner_uid, role_of};

/// What says whose an object is, as far as it is there to be read.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Origin {
    kind: &'static str,
    /// Namespace of the object.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// UID of the owner that its annotation names.
    pub owner: String,
}

impl Origin {
    /// Reads an object. `None` where it names no owner of ours.
    pub fn of(kind: &'static str, object: &Value) -> Option<Self> {
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
        let owner = owner_uid(object).filter(|uid| !uid.is_empty())?;
        Some(Self {
            kind,
            namespace: namespace.unwrap_or_default().to_owned(),
            name: name_of(object).to_owned(),
            owner: owner.to_owned(),
        })
    }

    /// What the Role that this binding names must say of itself.
    #[must_use]
    pub fn of_its_role(&self, binding: &Value) -> Self {
        Self {
            kind: "Role",
            name: role_of(binding).to_owned(),
            ..self.clone()
        }
    }
}

/// What an owner may have made, by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Makes {
    namespace: String,
    account: Option<String>,
    names: BTreeSet<String>,
}

/// Owners by UID.
#[derive(Clone, Debug, Default)]
pub struct Owners(BTreeMap<String, Makes>);

impl Owners {
    /// Adds an AIWorkflow.
    pub fn add_workflow(&mut self, workflow: &Declared) {
        let makes = Makes {
            namespace: workflow.namespace.clone(),
            account: Some(workflow.account.clone()),
            names: owned_names(&workflow.namespace, &workflow.name).into(),
        };
        self.0.insert(workflow.uid.clone(), makes);
    }

    /// Adds an AIWorkflowGrant, from raw JSON.
    pub fn add_grant(&mut self, grant: &Value) {
        let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let (Some(uid), Some(namespace)) = (text(grant, "/metadata/uid"), text(grant, "/metadata/namespace")) else {
            return;
        };
        let from = grant
            .pointer("/spec/from")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let grantees = from.filter_map(|from| Some((text(from, "/namespace")?, text(from, "/name")?)));
        let names = grantees.flat_map(|(namespace, name)| granted_names(&namespace, &name, name_of(grant)));
        let makes = Makes {
            namespace,
            account: None,
            names: names.collect(),
        };
        self.0.insert(uid, makes);
    }

    /// Adds a Namespace, which owns its default-deny.
    pub fn add_namespace(&mut self, name: &str, uid: &str) {
        let makes = Makes {
            namespace: name.to_owned(),
            account: None,
            names: BTreeSet::from([DEFAULT_DENY_NAME.to_owned()]),
        };
        self.0.insert(uid.to_owned(), makes);
    }

    /// Whether there is an owner of that UID.
    pub fn has(&self, uid: &str) -> bool {
        self.0.contains_key(uid)
    }

    /// Whether an object is what its owner, of those that are known, makes.
    pub fn made(&self, origin: &Origin) -> bool {
        self.0.get(&origin.owner).is_some_and(|makes| {
            let is_named = match origin.kind {
                "ServiceAccount" => makes.account.as_ref() == Some(&origin.name),
                _ => makes.names.contains(&origin.name),
            };
            is_named && origin.namespace == makes.namespace
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::plan::owned_name;

    fn owners() -> Owners {
        let mut owners = Owners::default();
        owners.add_workflow(&Declared {
            namespace: "ai".into(),
            name: "triage".into(),
            uid: "w-1".into(),
            generation: Some(1),
            account: "runner".into(),
            secrets: Vec::new(),
        });
        let grant = json!({"metadata": {"name": "g", "namespace": "there", "uid": "g-1"}, "spec": {"from": [{"namespace": "ai", "name": "triage"}]}});
        owners.add_grant(&grant);
        owners.add_namespace("ai", "n-1");
        owners
    }

    #[rstest]
    #[case::role("Role", "ai", owned_name("ai", "triage", "role"), "w-1", true)]
    #[case::policy("NetworkPolicy", "ai", owned_name("ai", "triage", "allow"), "w-1", true)]
    #[case::launchers("RoleBinding", "ai", owned_name("ai", "triage", "launchers"), "w-1", true)]
    #[case::account("ServiceAccount", "ai", "runner".to_owned(), "w-1", true)]
    #[case::account_of_another_name("ServiceAccount", "ai", "triage".to_owned(), "w-1", false)]
    #[case::copied_uid("RoleBinding", "ai", "hidden".to_owned(), "w-1", false)]
    #[case::copied_prefix("RoleBinding", "ai", "ringfence-triage-hidden-0123456789".to_owned(), "w-1", false)]
    #[case::another_namespace("RoleBinding", "there", owned_name("ai", "triage", "binding"), "w-1", false)]
    #[case::granted("RoleBinding", "there", owned_name("ai", "triage", "binding-g"), "g-1", true)]
    #[case::not_granted("RoleBinding", "there", owned_name("ai", "other", "binding-g"), "g-1", false)]
    #[case::default_deny("NetworkPolicy", "ai", "ringfence".to_owned(), "n-1", true)]
    #[case::beside_the_default_deny("NetworkPolicy", "ai", "open".to_owned(), "n-1", false)]
    #[case::unknown_owner("Role", "ai", owned_name("ai", "triage", "role"), "w-0", false)]
    fn what_is_ours_has_the_name_that_its_owner_gives(
        #[case] kind: &'static str,
        #[case] namespace: &str,
        #[case] name: String,
        #[case] owner: &str,
        #[case] expected: bool,
    ) {
        let object = json!({"metadata": {"name": name, "namespace": namespace, "annotations": {"ringfence.dev/owner-uid": owner}}});
        let origin = Origin::of(kind, &object).unwrap();
        assert_eq!(owners().made(&origin), expected);
    }
}
