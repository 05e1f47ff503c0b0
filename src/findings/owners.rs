//! Who owns what Ringfence makes, and under what names it makes it.
//!
//! Must never: take an annotation's word. Whoever could write while the guards were away could copy an owner's UID onto an object
//! of their own, and would have it kept for Ringfence's: what Ringfence makes has a name that follows from its owner's, for each
//! kind another, and the label by which the operator finds it, and deletes it or puts it right.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Declared;
use crate::api::{DEFAULT_DENY_NAME, OWNER_LABEL};
use crate::plan::{Child, granted_names, name_of, owned_names, owner_uid, role_of};

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
    /// Name of the owner, as its label has it.
    pub owner_name: String,
}

impl Origin {
    /// Reads an object. `None` where it names no owner of ours, or lacks the label without which the operator never sees it.
    pub fn of(kind: &'static str, object: &Value) -> Option<Self> {
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
        let owner = owner_uid(object).filter(|uid| !uid.is_empty())?;
        let owner_name = object.pointer("/metadata/labels")?.get(OWNER_LABEL)?.as_str()?;
        Some(Self {
            kind,
            namespace: namespace.unwrap_or_default().to_owned(),
            name: name_of(object).to_owned(),
            owner: owner.to_owned(),
            owner_name: owner_name.to_owned(),
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

/// What an owner may have made, by kind and name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Makes {
    namespace: String,
    /// What the label of all of it says.
    owner_name: String,
    parts: BTreeSet<(&'static str, String)>,
}

/// Owners by UID.
#[derive(Clone, Debug, Default)]
pub struct Owners(BTreeMap<String, Makes>);

impl Owners {
    /// Adds an AIWorkflow.
    pub fn add_workflow(&mut self, workflow: &Declared) {
        let account = (Child::ServiceAccount, workflow.account.clone());
        // Where the operator writes no policy of a network plugin's, it looks at none either: one that bears the name is somebody else's.
        let of_plugins = [Child::CiliumNetworkPolicy, Child::ClusterNetworkPolicy];
        let is_made = |(child, _): &(Child, String)| !of_plugins.contains(child) || workflow.way == Some(*child);
        let parts = owned_names(&workflow.namespace, &workflow.name)
            .filter(is_made)
            .chain([account]);
        let makes = Makes {
            namespace: workflow.namespace.clone(),
            owner_name: workflow.name.clone(),
            parts: parts.map(|(child, name)| (child.kind(), name)).collect(),
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
        let parts = grantees.flat_map(|(namespace, name)| {
            let [role, binding] = granted_names(&namespace, &name, name_of(grant));
            [(Child::Role.kind(), role), (Child::RoleBinding.kind(), binding)]
        });
        let makes = Makes {
            namespace,
            owner_name: name_of(grant).to_owned(),
            parts: parts.collect(),
        };
        self.0.insert(uid, makes);
    }

    /// Adds a Namespace, which owns its default-deny.
    pub fn add_namespace(&mut self, name: &str, uid: &str) {
        let makes = Makes {
            namespace: name.to_owned(),
            owner_name: DEFAULT_DENY_NAME.to_owned(),
            parts: BTreeSet::from([(Child::NetworkPolicy.kind(), DEFAULT_DENY_NAME.to_owned())]),
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
            let is_named = makes.parts.contains(&(origin.kind, origin.name.clone()));
            // What is of the cluster says the namespace in its name.
            let is_there = match origin.kind == Child::ClusterNetworkPolicy.kind() {
                true => origin.namespace.is_empty(),
                false => origin.namespace == makes.namespace,
            };
            is_named && origin.owner_name == makes.owner_name && is_there
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
            way: None,
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
    #[case::policy_named_like_a_role("NetworkPolicy", "ai", owned_name("ai", "triage", "role"), "w-1", false)]
    #[case::binding_named_like_a_role("RoleBinding", "ai", owned_name("ai", "triage", "launcher"), "w-1", false)]
    #[case::role_named_like_a_policy("Role", "ai", owned_name("ai", "triage", "allow"), "w-1", false)]
    #[case::binding_named_like_the_account("RoleBinding", "ai", "runner".to_owned(), "w-1", false)]
    #[case::account("ServiceAccount", "ai", "runner".to_owned(), "w-1", true)]
    #[case::account_of_another_name("ServiceAccount", "ai", "triage".to_owned(), "w-1", false)]
    #[case::copied_uid("RoleBinding", "ai", "hidden".to_owned(), "w-1", false)]
    #[case::copied_prefix("RoleBinding", "ai", "ringfence-triage-hidden-0123456789".to_owned(), "w-1", false)]
    #[case::another_namespace("RoleBinding", "there", owned_name("ai", "triage", "binding"), "w-1", false)]
    #[case::granted("RoleBinding", "there", owned_name("ai", "triage", "binding-g"), "g-1", true)]
    #[case::not_granted("RoleBinding", "there", owned_name("ai", "other", "binding-g"), "g-1", false)]
    #[case::granted_role_as_binding("RoleBinding", "there", owned_name("ai", "triage", "role-g"), "g-1", false)]
    #[case::default_deny("NetworkPolicy", "ai", "ringfence".to_owned(), "n-1", true)]
    #[case::binding_named_like_the_default_deny("RoleBinding", "ai", "ringfence".to_owned(), "n-1", false)]
    #[case::beside_the_default_deny("NetworkPolicy", "ai", "open".to_owned(), "n-1", false)]
    #[case::unknown_owner("Role", "ai", owned_name("ai", "triage", "role"), "w-0", false)]
    fn what_is_ours_has_the_name_that_its_owner_gives(
        #[case] kind: &'static str,
        #[case] namespace: &str,
        #[case] name: String,
        #[case] owner: &str,
        #[case] expected: bool,
    ) {
        let labelled = match owner {
            "g-1" => "g",
            "n-1" => "ringfence",
            _ => "triage",
        };
        let made = |label: &str| {
            let object = json!({"metadata": {
                "name": name, "namespace": namespace,
                "labels": {"ringfence.dev/owner": label}, "annotations": {"ringfence.dev/owner-uid": owner},
            }});
            owners().made(&Origin::of(kind, &object).unwrap())
        };
        assert_eq!(made(labelled), expected);
        // The operator lists by the name of each owner: under another it sees nothing.
        assert!(!made("other"));
    }

    /// Where the operator does not look, nothing would be put right of what somebody wrote under its name while the guards were away.
    #[test]
    fn a_policy_of_a_plugins_is_ours_only_while_the_operator_writes_one() {
        for backend in ["Cilium", "ClusterNetworkPolicy", "Proxy"] {
            let declared = json!({
                "metadata": {"namespace": "ai", "name": "triage", "uid": "w-1"},
                "status": {"egress": {"backend": backend}},
            });
            let mut owners = Owners::default();
            owners.add_workflow(&Declared::of(declared.as_object().unwrap().clone()).unwrap());
            let object = |name: &str, namespace: Option<&str>| {
                json!({"metadata": {
                    "name": name, "namespace": namespace,
                    "labels": {"ringfence.dev/owner": "triage"}, "annotations": {"ringfence.dev/owner-uid": "w-1"},
                }})
            };
            let made = |kind, name: &str, namespace| owners.made(&Origin::of(kind, &object(name, namespace)).unwrap());
            let own = owned_name("ai", "triage", "domains");
            assert!(made("NetworkPolicy", &own, Some("ai")));
            assert_eq!(made("CiliumNetworkPolicy", &own, Some("ai")), backend == "Cilium");
            let kind = "ClusterNetworkPolicy";
            assert_eq!(made(kind, "ringfence.ai.triage", None), backend == kind);
            // Of another group, in a namespace; and of the cluster, under another name.
            assert!(!made(kind, "ringfence.ai.triage", Some("ai")));
            assert!(!made(kind, "ringfence.other.triage", None) && !made(kind, &own, None));
        }
    }

    #[rstest]
    #[case::without_the_label(json!({"annotations": {"ringfence.dev/owner-uid": "w-1"}}))]
    #[case::with_other_labels(json!({"labels": {"app.kubernetes.io/managed-by": "ringfence"}, "annotations": {"ringfence.dev/owner-uid": "w-1"}}))]
    #[case::without_the_annotation(json!({"labels": {"ringfence.dev/owner": "triage"}}))]
    #[case::of_nobody(json!({"labels": {"ringfence.dev/owner": "triage"}, "annotations": {"ringfence.dev/owner-uid": ""}}))]
    fn what_the_operator_does_not_find_is_not_ours(#[case] mut metadata: Value) {
        metadata["name"] = owned_name("ai", "triage", "binding").into();
        metadata["namespace"] = "ai".into();
        assert_eq!(Origin::of("RoleBinding", &json!({"metadata": metadata})), None);
    }
}
