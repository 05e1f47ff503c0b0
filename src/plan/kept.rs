//! What a workflow that is not accepted keeps: an older value that became invalid, or a class that became narrower, takes away what it
//! is about and nothing else, because pods run behind the fence.
//!
//! Must never: give a right or a path that the declaration alone, or its class alone, would not; nor one that did not stand before.

use kube::ResourceExt;
use serde_json::Value;

use super::{Child, Observed, engine, name_of, owned_name, owner_uid, rules};
use crate::api::{AIWorkflow, AIWorkflowClass, PolicyRule, is_dns_label, is_dns_subdomain};

/// Whether everything that is made for a workflow can bear the names that it declares. Where not, nothing is made at all.
pub(super) fn can_be_named(workflow: &AIWorkflow) -> bool {
    let (name, account) = (workflow.name_any(), workflow.service_account_name());
    let is_name = name.len() <= crate::api::MAX_WORKFLOW_NAME && is_dns_label(&name);
    is_name && account != "default" && is_dns_subdomain(account)
}

/// Rules of the Role that stood and may stay: each valid by itself, inside the class, or of the engine that it opens.
pub(super) fn rules(
    workflow: &AIWorkflow,
    observed: &Observed,
    class_name: &str,
    class: &AIWorkflowClass,
) -> Vec<PolicyRule> {
    let stood = rules_that_stand(workflow, observed);
    let at_home = rules::at_home(class);
    let declared = workflow.rules().iter();
    let inside = declared.filter(|rule| rules::is_valid(rule, false) && rules::is_covered(rule, &at_home));
    let of_engine = engine::profile(workflow, class_name, class).map_or_else(|_| Vec::new(), |profile| profile.worker);
    let all = of_engine.iter().chain(inside);
    all.filter(|rule| rules::is_covered(rule, &stood)).cloned().collect()
}

/// Rules of the workflow's Role, as far as they can be read.
fn rules_that_stand(workflow: &AIWorkflow, observed: &Observed) -> Vec<PolicyRule> {
    let name = owned_name(&observed.namespace.name, &workflow.name_any(), "role");
    let uid = workflow.uid().unwrap_or_default();
    let is_role = |(child, seen): &&(Child, Value)| {
        *child == Child::Role && name_of(seen) == name && owner_uid(seen) == Some(uid.as_str())
    };
    let role = observed.children.iter().find(is_role);
    let rules = role.and_then(|(_, role)| role.get("rules")?.as_array());
    let read = |rule: &Value| serde_json::from_value(rule.clone()).ok();
    rules.into_iter().flatten().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::{
        api::{ConditionStatus, ConditionType, Reason, find},
        plan::{
            Change, Outcome, Plan, plan, status,
            tests::{kinds, observed, stored, workflow},
        },
    };

    fn rule(resource: &str, verb: &str) -> Value {
        json!({"apiGroups": [""], "resources": [resource], "verbs": [verb]})
    }

    fn peer(app: &str) -> Value {
        json!({"name": app, "to": {"pods": {"selector": {"matchLabels": {"app": app}}}}, "ports": [{"port": 1}]})
    }

    /// A workflow that was accepted with two rights and two paths, and what is planned when `change` goes over its spec.
    fn changed(change: &Value) -> (AIWorkflow, Observed, Plan) {
        let mut spec = json!({
            "permissions": {"rules": [rule("configmaps", "get"), rule("services", "list")]},
            "network": {"egress": [peer("a"), peer("b")]},
        });
        let mut observed = observed();
        observed.children = stored(&plan(&workflow(spec.clone()), &observed).changes);
        spec.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let changed = workflow(spec);
        let plan = plan(&changed, &observed);
        (changed, observed, plan)
    }

    #[rstest]
    #[case::images(json!({"images": ["registry.example.com/x:1"]}))]
    #[case::no_images(json!({"images": []}))]
    #[case::launchers(json!({"launchers": [{"group": "system:authenticated"}]}))]
    #[case::a_right_elsewhere(json!({"permissions": {
        "rules": [rule("configmaps", "get"), rule("services", "list")],
        "crossNamespace": [{"namespace": "x", "rules": [rule("secrets", "get")]}],
    }}))]
    #[case::a_secret_of_no_name(json!({"identity": {"imagePullSecrets": [{"name": "../x"}]}}))]
    #[case::reserved(json!({"identity": {"annotations": {"ringfence.dev/owner-uid": "x"}}}))]
    fn what_has_nothing_to_do_with_an_invalid_value_stays_as_it_was(#[case] change: Value) {
        let (workflow, observed, plan) = changed(&change);
        assert_eq!(plan.acceptance.reason, Reason::Invalid);
        assert_eq!(plan.changes, [], "{:?}", kinds(&plan.changes));
        assert_eq!(plan.effective_rules.len(), 2);
        let now = "2026-11-22T08:00:00Z".parse().unwrap();
        let said = status(&workflow, &observed, &plan, &Outcome::Applied(None), now);
        let programmed = find(&said.conditions, ConditionType::Programmed).unwrap();
        assert_eq!(
            (programmed.status, programmed.reason.as_str()),
            (ConditionStatus::False, "Invalid")
        );
        assert!(programmed.message.contains("what is valid"), "{}", programmed.message);
    }

    #[test]
    fn an_invalid_path_and_an_invalid_right_go_alone() {
        let (_, _, plan) = changed(&json!({
            "permissions": {"rules": [rule("configmaps", "get"), rule("secrets", "get"), rule("pods", "list")]},
            "network": {"egress": [peer("a"), {"name": "b", "to": {"cidrs": ["10.0.0.1/8"]}, "ports": [{"port": 1}]}]},
        }));
        assert_eq!(plan.acceptance.reason, Reason::Invalid);
        assert_eq!(
            kinds(&plan.changes),
            [("replace", "NetworkPolicy"), ("replace", "Role")]
        );
        let [Change::Replace(_, policy), Change::Replace(_, role)] = plan.changes.as_slice() else {
            unreachable!()
        };
        assert_eq!(
            role["rules"],
            json!([rule("configmaps", "get")]),
            "neither what is invalid nor what never stood"
        );
        let egress = policy["spec"]["egress"].as_array().unwrap();
        assert_eq!(egress.len(), 2, "DNS and the other peer: {egress:?}");
    }

    #[test]
    fn what_never_stood_is_not_given() {
        let declared = json!({"images": [], "permissions": {"rules": [rule("configmaps", "get")]}});
        let plan = plan(&workflow(declared), &observed());
        assert_eq!(
            kinds(&plan.changes),
            [("create", "NetworkPolicy"), ("create", "ServiceAccount")]
        );
    }

    #[test]
    fn outside_its_class_it_keeps_the_rules_that_are_inside() {
        let (declared, mut observed, _) = changed(&json!({}));
        let narrower = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
        observed.class.as_mut().unwrap().spec.permissions = serde_json::from_value(narrower).unwrap();
        let plan = plan(&declared, &observed);
        assert_eq!(plan.acceptance.reason, Reason::OutsideClass);
        assert_eq!(kinds(&plan.changes), [("replace", "Role")]);
        assert_eq!(plan.effective_rules.len(), 1);
    }

    #[test]
    fn the_account_default_is_never_made_ours() {
        let plan = plan(
            &workflow(json!({"identity": {"serviceAccountName": "default"}})),
            &observed(),
        );
        assert_eq!((plan.acceptance.reason, plan.changes.len()), (Reason::Invalid, 0));
    }

    #[test]
    fn older_pods_do_not_come_under_an_invalid_one_either() {
        let mut observed = observed();
        observed.predecessors.cut_off();
        let plan = plan(&workflow(json!({"images": []})), &observed);
        assert_eq!((plan.held, plan.changes.len()), (true, 0));
        assert_eq!(plan.acceptance.reason, Reason::Invalid, "what must be corrected first");
    }
}
