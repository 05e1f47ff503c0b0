//! Whether a RoleBinding of ours may stand. It names its Role by name alone, and gives whatever stands under that name: to somebody
//! else's Role it hands the workflow whatever that one says, today and after each edit; to none, whatever comes.
//!
//! Must never: let a binding stand, or come, whose Role is not the same owner's, by the annotation that nobody else may set.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Change, Child, name_of, owner_uid, text_at};

/// Name of the Role that a binding names.
pub fn role_of(binding: &Value) -> &str {
    text_at(binding, "/roleRef/name")
}

/// Bindings of that owner under which no Role of the same owner was seen.
pub(super) fn adrift<'a>(owner: &str, seen: &'a [(Child, Value)]) -> BTreeSet<&'a str> {
    let of = |kind| {
        let ours = move |(child, object): &&(Child, Value)| *child == kind && owner_uid(object) == Some(owner);
        seen.iter().filter(ours).map(|(_, object)| object)
    };
    let roles: BTreeSet<_> = of(Child::Role).map(name_of).collect();
    let bindings = of(Child::RoleBinding).filter(|binding| !roles.contains(role_of(binding)));
    bindings.map(name_of).collect()
}

/// Drops the desired bindings whose Role is not desired beside them, or cannot be made because its name is taken.
pub(super) fn only_with_role(desired: &mut BTreeMap<(Child, String), Value>, taken: &BTreeSet<(Child, String)>) {
    let roles: BTreeSet<_> = desired
        .keys()
        .filter(|key| key.0 == Child::Role && !taken.contains(key))
        .map(|(_, name)| name.clone())
        .collect();
    desired.retain(|(child, _), object| *child != Child::RoleBinding || roles.contains(role_of(object)));
}

/// Names of the bindings that a Role takes along when it cannot be as it should: those that were seen, and those that are planned,
/// which may stand without having been seen.
pub fn bound_to(role: &str, seen: &[(Child, Value)], changes: &[Change]) -> BTreeSet<String> {
    let planned = changes.iter().filter_map(|change| match change {
        Change::Create(child, object) | Change::Replace(child, object) => Some((child, object)),
        Change::Delete { .. } => None,
    });
    let all = seen.iter().map(|(child, object)| (child, object)).chain(planned);
    let to_it = all.filter(|(child, object)| **child == Child::RoleBinding && role_of(object) == role);
    to_it.map(|(_, object)| name_of(object).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::plan::{
        Plan, Registration, owned_name, plan,
        tests::{kinds, observed, read_config, stored, workflow},
    };

    /// A workflow with one right, as it stands, and what is planned once `change` went over what was seen.
    fn seen(change: impl FnOnce(&mut Vec<(Child, Value)>)) -> Plan {
        let workflow = workflow(json!({"permissions": read_config()}));
        let mut observed = observed();
        observed.children = stored(&plan(&workflow, &observed).changes);
        change(&mut observed.children);
        plan(&workflow, &observed)
    }

    fn role(children: &mut [(Child, Value)]) -> &mut Value {
        &mut children.iter_mut().find(|(child, _)| *child == Child::Role).unwrap().1
    }

    #[test]
    fn what_stands_on_its_own_role_is_left_alone() {
        assert_eq!(seen(|_| {}).changes, []);
        let plan = seen(|children| role(children)["rules"] = json!([]));
        assert_eq!(
            kinds(&plan.changes),
            [("replace", "Role")],
            "a blip takes no rights away"
        );
    }

    #[rstest]
    #[case::gone(|children: &mut Vec<(Child, Value)>| children.retain(|(child, _)| *child != Child::Role))]
    #[case::of_nobody(|children: &mut Vec<(Child, Value)>| role(children)["metadata"]["annotations"] = json!({}))]
    #[case::of_another(|children: &mut Vec<(Child, Value)>| role(children)["metadata"]["annotations"]["ringfence.dev/owner-uid"] = json!("x"))]
    #[case::of_another_name(|children: &mut Vec<(Child, Value)>| role(children)["metadata"]["name"] = json!("x"))]
    fn a_binding_goes_first_when_its_role_is_not_seen_to_be_ours(#[case] change: fn(&mut Vec<(Child, Value)>)) {
        let plan = seen(change);
        let found = kinds(&plan.changes);
        assert_eq!(found[0], ("delete", "RoleBinding"), "{found:?}");
        let rest: Vec<_> = found[1..].iter().filter(|(verb, _)| *verb == "create").collect();
        assert_eq!(rest, [&("create", "Role"), &("create", "RoleBinding")]);
    }

    #[test]
    fn it_goes_even_while_nobody_reviewed_the_workflow() {
        let mut workflow = workflow(json!({"permissions": read_config()}));
        let mut observed = observed();
        let made = plan(&workflow, &observed);
        observed.children = stored(&made.changes);
        let given = json!({
            "effectiveRules": made.effective_rules, "given": made.given, "reviewed": {"generation": 2, "registrationUID": "registration-uid"},
        });
        workflow.status = Some(serde_json::from_value(given).unwrap());
        observed.registration = Some(Registration {
            uid: "new".into(),
            created: "2100-01-01T00:00:00Z".parse().unwrap(),
        });
        assert!(plan(&workflow, &observed).held && plan(&workflow, &observed).changes.is_empty());
        observed.children.retain(|(child, _)| *child != Child::Role);
        assert_eq!(kinds(&plan(&workflow, &observed).changes), [("delete", "RoleBinding")]);
    }

    #[test]
    fn a_role_takes_along_what_was_seen_and_what_is_planned() {
        let plan = plan(&workflow(json!({"permissions": read_config()})), &observed());
        let (role, binding) = (
            owned_name("ai", "triage", "role"),
            owned_name("ai", "triage", "binding"),
        );
        let name = BTreeSet::from([binding]);
        assert_eq!(bound_to(&role, &[], &plan.changes), name);
        assert_eq!(bound_to(&role, &stored(&plan.changes), &[]), name);
        assert!(bound_to("another", &stored(&plan.changes), &plan.changes).is_empty());
    }
}
