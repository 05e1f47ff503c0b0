use rstest::rstest;
use serde_json::json;

use super::super::testing::{facts, review};
use super::*;

fn asked(operation: &str, resource: &str, subresource: &str) -> Review {
    let object = json!({"metadata": {"name": "triage"}, "type": "kubernetes.io/service-account-token"});
    let mut review = review(operation, "", "X", Some(&object), Some(&object));
    review.resource.resource = resource.to_owned();
    review.subresource = subresource.to_owned();
    review
}

/// Names of the rules that refuse.
fn refused(review: &Review, facts: &Facts) -> Vec<String> {
    let door = Door::of(review).unwrap().unwrap();
    door.check(facts, "default")
        .into_iter()
        .map(|found| found.policy)
        .collect()
}

#[rstest]
#[case::token_request("CREATE", "serviceaccounts", "token", &["token-request"])]
#[case::token_secret("CREATE", "secrets", "", &["token-secret"])]
#[case::workflows_account("CREATE", "serviceaccounts", "", &["workflow-account"])]
#[case::service("CREATE", "services", "", &["closed-service"])]
#[case::endpoints("CREATE", "endpoints", "", &["foreign-endpoints"])]
#[case::proxy("CONNECT", "services", "proxy", &["debug-window"])]
fn each_door_has_its_rule(#[case] operation: &str, #[case] resource: &str, #[case] sub: &str, #[case] rules: &[&str]) {
    assert_eq!(refused(&asked(operation, resource, sub), &facts()), rules);
}

#[rstest]
#[case::slice("discovery.k8s.io", "endpointslices", "foreign-endpoints")]
#[case::network_policy("networking.k8s.io", "networkpolicies", "foreign-network-policy")]
#[case::cilium("cilium.io", "ciliumnetworkpolicies", "foreign-network-policy")]
#[case::cilium_redirect("cilium.io", "ciliumlocalredirectpolicies", "foreign-network-policy")]
#[case::gke("networking.gke.io", "fqdnnetworkpolicies", "foreign-network-policy")]
#[case::eks("networking.k8s.aws", "applicationnetworkpolicies", "foreign-network-policy")]
#[case::calico("crd.projectcalico.org", "networkpolicies", "foreign-network-policy")]
#[case::calico_by_its_own_server("projectcalico.org", "networkpolicies", "foreign-network-policy")]
#[case::antrea("crd.antrea.io", "networkpolicies", "foreign-network-policy")]
#[case::nsx("crd.nsx.vmware.com", "securitypolicies", "foreign-network-policy")]
#[case::nsx_without_vpcs("nsx.vmware.com", "securitypolicies", "foreign-network-policy")]
#[case::security_groups("vpcresources.k8s.aws", "securitygrouppolicies", "foreign-network-policy")]
fn kinds_of_other_groups_have_theirs(#[case] group: &str, #[case] resource: &str, #[case] rule: &str) {
    let mut review = asked("CREATE", resource, "");
    review.resource.group = group.to_owned();
    review.request["object"] = json!({"metadata": {"name": "x"}, "spec": {"ingress": [{}]}});
    assert_eq!(refused(&review, &facts()), [rule]);
}

#[rstest]
#[case::pods("pods", "")]
#[case::another_subresource("secrets", "status")]
#[case::another_kind("configmaps", "")]
fn everything_else_is_no_door(#[case] resource: &str, #[case] subresource: &str) {
    assert!(Door::of(&asked("CREATE", resource, subresource)).unwrap().is_none());
}

#[rstest]
#[case::deleted(asked("DELETE", "secrets", ""))]
#[case::connected(asked("CONNECT", "serviceaccounts", "token"))]
#[case::proxy_without_connecting(asked("CREATE", "services", "proxy"))]
#[case::update_without_what_was({
    let mut review = asked("UPDATE", "secrets", "");
    review.request["oldObject"] = Value::Null;
    review
})]
#[case::without_an_object({
    let mut review = asked("CREATE", "secrets", "");
    review.request["object"] = Value::Null;
    review
})]
#[case::without_a_namespace({
    let mut review = asked("CREATE", "secrets", "");
    review.namespace = None;
    review
})]
fn what_cannot_be_judged_is_a_fault(#[case] review: Review) {
    assert!(Door::of(&review).is_err());
}

#[test]
fn modes_are_those_of_the_namespace_and_none_is_a_refusal() {
    let review = asked("CREATE", "secrets", "");
    let door = Door::of(&review).unwrap().unwrap();
    assert_eq!(
        door.modes(&facts(), |_| false),
        Ok(vec![(Mode::Enforce, "default".to_owned())])
    );
    assert_eq!(door.modes(&facts(), |_| true), Ok(Vec::new()), "an exempt one has none");
    let refused = door.modes(&Facts::default(), |_| false).unwrap_err();
    assert_eq!(refused.policy, APPROVED);
}

#[test]
fn a_class_that_cannot_be_read_allows_no_account() {
    let review = asked("UPDATE", "serviceaccounts", "");
    let mut facts = facts();
    facts.workflow = None;
    assert!(refused(&review, &facts).is_empty());
    facts.classes.insert("default".to_owned(), Some(json!({"spec": 1})));
    assert_eq!(refused(&review, &facts), ["cloud-identity"]);
}
