//! Objects that Ringfence made for an owner that is gone: left behind where somebody deleted it with `--cascade=orphan`, or took
//! the owner reference off.

use serde_json::Value;

use super::{Finding, Owners, Place, Severity};
use crate::api::DEFAULT_DENY_NAME;
use crate::plan::{name_of, owner_uid};
use crate::review::Violation;

/// An object whose owner is not known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ownerless {
    place: Place,
    owner: String,
}

/// Reads an object of a kind that Ringfence makes. `None` where one of these owns it, where it is not Ringfence's, and where the
/// garbage collector is about to take it. A default-deny is never left behind: without it a namespace is open.
pub fn of_no_owner(kind: &str, object: &Value, owners: &Owners) -> Option<Ownerless> {
    let owner = owner_uid(object).filter(|uid| !owners.has(uid))?;
    if kind == "NetworkPolicy" && name_of(object) == DEFAULT_DENY_NAME {
        return None;
    }
    let references = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let names_it = |reference: &Value| reference.get("uid").and_then(Value::as_str) == Some(owner);
    if references.is_some_and(|references| references.iter().any(names_it)) {
        return None;
    }
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    Some(Ownerless {
        place: Place {
            namespace: namespace.unwrap_or_default().to_owned(),
            kind: kind.to_owned(),
            name: name_of(object).to_owned(),
            workflow: None,
        },
        owner: owner.to_owned(),
    })
}

impl Ownerless {
    /// What to say of it, unless its owner is one of these after all.
    pub fn finding(&self, owners: &Owners) -> Option<Finding> {
        if owners.has(&self.owner) {
            return None;
        }
        let message = match self.place.kind.as_str() {
            "Role" | "RoleBinding" => "was made by Ringfence for something that is gone, and still gives its rights",
            _ => "was made by Ringfence for something that is gone",
        };
        let Place {
            kind, name, namespace, ..
        } = &self.place;
        let violation = Violation {
            policy: "ownerless-object".to_owned(),
            path: "metadata.annotations[ringfence.dev/owner-uid]".to_owned(),
            value: Some(self.owner.clone()),
            message: message.to_owned(),
            fix: format!(
                "delete it, as somebody with the verb approve: kubectl delete {} {name} --namespace {namespace}",
                kind.to_lowercase()
            ),
        };
        Some(self.place.finding(violation, Severity::Warning))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn owners(uid: &str) -> Owners {
        let mut owners = Owners::default();
        owners.add_namespace("ai", uid);
        owners
    }

    #[rstest]
    #[case::owned(json!({"annotations": {"ringfence.dev/owner-uid": "w-1"}}), false)]
    #[case::somebody_elses(json!({"labels": {"app.kubernetes.io/managed-by": "ringfence"}}), false)]
    #[case::owner_gone(json!({"annotations": {"ringfence.dev/owner-uid": "w-0"}}), true)]
    #[case::about_to_be_collected(json!({"annotations": {"ringfence.dev/owner-uid": "w-0"}, "ownerReferences": [{"uid": "w-0"}]}), false)]
    #[case::with_another_owner(json!({"annotations": {"ringfence.dev/owner-uid": "w-0"}, "ownerReferences": [{"uid": "x"}]}), true)]
    fn an_object_is_ownerless_when_nobody_keeps_it(#[case] metadata: Value, #[case] expected: bool) {
        let object = json!({"metadata": metadata});
        let found = of_no_owner("Role", &object, &owners("w-1"));
        assert_eq!(found.is_some(), expected);
    }

    #[test]
    fn nobody_is_told_to_delete_a_default_deny() {
        let object = json!({"metadata": {"name": "ringfence", "annotations": {"ringfence.dev/owner-uid": "w-0"}}});
        assert!(of_no_owner("NetworkPolicy", &object, &owners("w-1")).is_none());
        assert!(of_no_owner("Role", &object, &owners("w-1")).is_some());
    }

    #[test]
    fn an_owner_that_is_only_new_is_an_owner() {
        let object = json!({"metadata": {"annotations": {"ringfence.dev/owner-uid": "w-2"}}});
        let found = of_no_owner("Role", &object, &owners("w-1")).unwrap();
        assert!(found.finding(&owners("w-2")).is_none());
        assert!(
            found
                .finding(&owners("w-1"))
                .unwrap()
                .message
                .contains("still gives its rights")
        );
    }
}
