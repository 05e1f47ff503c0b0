//! Promise 2, beside the NetworkPolicies: what else carries traffic into or out of an enforced namespace, or overrules them.
//!
//! A Service gives its pods one address inside the cluster and nothing else; who is behind it the API server's controllers find out; and
//! no policy but Ringfence's opens anything. An Ingress or a route of a Gateway is let be: it moves nothing by itself, and the proxy
//! that obeys it reaches a pod only where the AIWorkflow declares that proxy. Must never: judge what an update leaves as it was, or
//! take a type that is newer than us for harmless.

use serde_json::Value;

use super::object::{shown, type_of, violation};
use crate::findings::Foreign;
use crate::review::{Review, Violation};

const SERVICE: &str = "closed-service";
const ENDPOINTS: &str = "foreign-endpoints";
const POLICY: &str = "foreign-network-policy";
const DEBUG: &str = "debug-window";

const DECLARE: &str = "declare who may reach what in spec.network of the AIWorkflow";

/// Judges a Service. One that is open, from before the fence, may be left as it is, and closed: what is changed is judged as a whole, because
/// an open way that leads to other pods is a new one.
pub(super) fn check_service(object: &Value, old: Option<&Value>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut refuse = |path: &str, value: Option<&str>, message: String, fix: &str| {
        violations.push(violation(SERVICE, path, value, message, fix));
    };
    if old.is_some_and(|old| closes_at_most(old, object)) {
        return Vec::new();
    }
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    // Of each Service new containers are told as NAME_SERVICE_HOST, and as NAME_PORT.
    if old.is_none() && matches!(name, Some("kubernetes" | "kubernetes-service")) {
        let message =
            "takes the place of the API server in what each new container of the namespace is told".to_owned();
        refuse("metadata.name", name, message, "choose another name");
    }
    let message = match object.pointer("/spec/type") {
        None | Some(Value::Null) => None,
        Some(Value::String(type_)) => match type_.as_str() {
            "ClusterIP" => None,
            "NodePort" => Some("opens a port on every node, past what the AIWorkflow declares".to_owned()),
            "LoadBalancer" => {
                Some("has the cloud open an address to the world, past what the AIWorkflow declares".to_owned())
            }
            "ExternalName" => {
                Some("is another name for a host outside, so whoever asks for this Service talks to that".to_owned())
            }
            _ => Some("is a type that this version of Ringfence does not know".to_owned()),
        },
        other => Some(format!("must be a text, and is {}", type_of(other))),
    };
    if let Some(message) = message {
        let value = object.pointer("/spec/type").and_then(Value::as_str);
        refuse("spec.type", value, message, &format!("use ClusterIP; {DECLARE}"));
    }
    let external = object.pointer("/spec/externalIPs");
    if !is_empty(external) {
        let value = external.and_then(|list| list.get(0)).and_then(Value::as_str);
        let message = "draws traffic for that address to itself, on every node".to_owned();
        refuse("spec.externalIPs", value, message, &format!("leave it out; {DECLARE}"));
    }
    // The API server lets it stand beside any type, and a resolver or a proxy that reads it first follows it out.
    let external_name = object.pointer("/spec/externalName");
    let by_name = object.pointer("/spec/type").and_then(Value::as_str) == Some("ExternalName");
    if !by_name
        && !matches!(external_name, None | Some(Value::Null))
        && external_name.and_then(Value::as_str) != Some("")
    {
        let value = external_name.and_then(Value::as_str);
        let message = "names a host outside".to_owned();
        refuse("spec.externalName", value, message, &format!("leave it out; {DECLARE}"));
    }
    if is_empty(object.pointer("/spec/selector")) && !by_name {
        let message = "selects no pods, so whoever writes its endpoints decides where its traffic goes".to_owned();
        let fix = "set spec.selector to labels of the workflow's pods (ringfence.dev/workflow: <name>)";
        refuse("spec.selector", None, message, fix);
    }
    violations
}

/// Whether an update does no more than that addresses are taken off.
fn closes_at_most(old: &Value, new: &Value) -> bool {
    let without = |object: &Value| {
        let mut spec = object
            .get("spec")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        if is_empty(new.pointer("/spec/externalIPs")) {
            spec.remove("externalIPs");
        }
        spec
    };
    without(old) == without(new)
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(_) => false,
    }
}

/// Judges Endpoints or an EndpointSlice of somebody who is no controller of the API server.
pub(super) fn check_endpoints(review: &Review) -> Vec<Violation> {
    let message = format!(
        "says where traffic of a Service goes, which the built-in controllers find out from its selector; {} is none of them",
        shown(&review.user.username)
    );
    let fix = "leave it out, and give the Service a selector";
    vec![violation(ENDPOINTS, "metadata.name", Some(review.name()), message, fix)]
}

/// Judges a NetworkPolicy: one that opens nothing goes.
pub(super) fn check_network_policy(object: &Value, old: Option<&Value>, namespace: &str) -> Vec<Violation> {
    if old.is_some_and(|old| old.get("spec") == object.get("spec")) {
        return Vec::new();
    }
    let policy = object.as_object().cloned().unwrap_or_default();
    let opens = Foreign::of(namespace, policy).map(|foreign| foreign.opens());
    let refused = opens.map(|opens| {
        let message = format!(
            "opens {opens} beside what is declared: NetworkPolicies add up, and only Ringfence's open anything here"
        );
        violation(
            POLICY,
            "spec",
            None,
            message,
            format!("{DECLARE}, and leave the policy out"),
        )
    });
    refused.into_iter().collect()
}

/// Judges a policy of another kind, which its network plugin may let overrule every NetworkPolicy.
pub(super) fn check_other_policy(review: &Review, object: &Value, old: Option<&Value>) -> Vec<Violation> {
    let without = |object: &Value| {
        let mut fields = object.as_object().cloned().unwrap_or_default();
        fields.retain(|key, _| key != "metadata" && key != "status");
        fields
    };
    if old.is_some_and(|old| without(old) == without(object)) {
        return Vec::new();
    }
    let message = format!(
        "a {} of {} may overrule every NetworkPolicy, and so open what no AIWorkflow declares",
        shown(&review.kind.kind),
        shown(&review.kind.group)
    );
    let fix = format!(
        "{DECLARE}, and leave this policy out; for all of the cluster the platform has policies of the cluster's own"
    );
    vec![violation(POLICY, "kind", Some(&review.kind.kind), message, fix)]
}

/// Judges a way through the API server's proxy to the pods of a Service.
pub(super) fn check_proxy(review: &Review) -> Vec<Violation> {
    let message =
        "the API server's proxy reaches the pods of a Service past their NetworkPolicies, and no window opens it";
    let fix =
        "use kubectl port-forward in a window that allows PortForward, or declare the caller in spec.network.ingress";
    vec![violation(DEBUG, "services/proxy", Some(review.name()), message, fix)]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::testing::{review, set, unset};
    use super::*;

    fn service() -> Value {
        json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP", "selector": {"app": "a"}, "ports": [{"port": 80}]}})
    }

    fn paths(found: Vec<Violation>, rule: &str) -> Vec<String> {
        let paths = found.into_iter().map(|found| {
            assert_eq!(found.policy, rule);
            found.path
        });
        paths.collect()
    }

    #[rstest]
    #[case::plain(service(), &[])]
    #[case::without_a_type(unset(service(), "/spec/type"), &[])]
    #[case::headless(set(service(), "/spec/clusterIP", json!("None")), &[])]
    #[case::node_port(set(service(), "/spec/type", json!("NodePort")), &["spec.type"])]
    #[case::load_balancer(set(service(), "/spec/type", json!("LoadBalancer")), &["spec.type"])]
    #[case::newer_than_us(set(service(), "/spec/type", json!("Tunnel")), &["spec.type"])]
    #[case::no_text(set(service(), "/spec/type", json!(7)), &["spec.type"])]
    #[case::another_host(json!({"spec": {"type": "ExternalName", "externalName": "evil.example"}}), &["spec.type"])]
    #[case::a_name_outside_beside_a_type(set(service(), "/spec/externalName", json!("evil.example")), &["spec.externalName"])]
    #[case::a_name_that_is_no_text(set(service(), "/spec/externalName", json!(7)), &["spec.externalName"])]
    #[case::no_name(set(service(), "/spec/externalName", json!("")), &[])]
    #[case::external(set(service(), "/spec/externalIPs", json!(["203.0.113.1"])), &["spec.externalIPs"])]
    #[case::no_external(set(service(), "/spec/externalIPs", json!([])), &[])]
    #[case::without_a_selector(unset(service(), "/spec/selector"), &["spec.selector"])]
    #[case::selects_nothing(set(service(), "/spec/selector", json!({})), &["spec.selector"])]
    #[case::all_at_once(json!({"spec": {"type": "NodePort", "externalIPs": ["203.0.113.1"]}}), &["spec.type", "spec.externalIPs", "spec.selector"])]
    #[case::without_a_spec(json!({"metadata": {"name": "s"}}), &["spec.selector"])]
    fn a_service_stays_inside(#[case] object: Value, #[case] expected: &[&str]) {
        assert_eq!(paths(check_service(&object, None), SERVICE), expected, "made");
        assert_eq!(
            paths(check_service(&object, Some(&object)), SERVICE),
            [""; 0],
            "as it was"
        );
        let made_so = paths(check_service(&object, Some(&service())), SERVICE);
        assert_eq!(made_so, expected, "turned into it");
    }

    #[test]
    fn a_service_from_before_the_fence_can_be_closed() {
        let open = json!({"spec": {"type": "NodePort", "externalIPs": ["203.0.113.1"]}});
        assert!(check_service(&service(), Some(&open)).is_empty());
        let without_addresses = unset(open.clone(), "/spec/externalIPs");
        assert!(
            check_service(&without_addresses, Some(&open)).is_empty(),
            "step by step"
        );
        let labelled = set(open.clone(), "/metadata", json!({"labels": {"a": "b"}}));
        assert!(check_service(&labelled, Some(&open)).is_empty(), "as it was");
    }

    #[rstest]
    #[case::other_pods("/spec/selector", json!({"ringfence.dev/workflow": "triage"}))]
    #[case::another_port("/spec/ports", json!([{"port": 9999, "targetPort": 6379, "nodePort": 31999}]))]
    #[case::another_host("/spec/externalName", json!("evil.example"))]
    fn an_open_service_from_before_the_fence_is_not_aimed_elsewhere(#[case] field: &str, #[case] to: Value) {
        // A name beside another type is one more.
        let also = (field == "/spec/externalName").then_some("spec.externalName");
        for type_ in ["NodePort", "LoadBalancer", "ExternalName"] {
            let open = set(service(), "/spec/type", json!(type_));
            let aimed = set(open.clone(), field, to.clone());
            let also = also.filter(|_| type_ != "ExternalName");
            let expected: Vec<_> = ["spec.type"].into_iter().chain(also).collect();
            assert_eq!(paths(check_service(&aimed, Some(&open)), SERVICE), expected, "{type_}");
        }
        let external = set(service(), "/spec/externalIPs", json!(["203.0.113.1"]));
        let aimed = set(external.clone(), field, to);
        let expected: Vec<_> = ["spec.externalIPs"].into_iter().chain(also).collect();
        assert_eq!(paths(check_service(&aimed, Some(&external)), SERVICE), expected);
    }

    #[test]
    fn endpoints_are_refused_whatever_they_say() {
        let object = json!({"metadata": {"name": "s"}});
        let found = check_endpoints(&review("CREATE", "", "Endpoints", Some(&object), None));
        assert_eq!(paths(found, ENDPOINTS), ["metadata.name"]);
    }

    #[rstest]
    #[case::all_in(json!({"podSelector": {}, "ingress": [{}]}), true)]
    #[case::all_out(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}), true)]
    #[case::closes(json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}), false)]
    fn a_policy_that_opens_is_refused(#[case] spec: Value, #[case] refused: bool) {
        let policy = json!({"metadata": {"name": "p"}, "spec": spec});
        let wanted = Vec::from_iter(refused.then_some("spec"));
        assert_eq!(paths(check_network_policy(&policy, None, "ai"), POLICY), wanted);
        let closed = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}}});
        assert_eq!(
            paths(check_network_policy(&policy, Some(&closed), "ai"), POLICY),
            wanted,
            "turned into it"
        );
        let labelled = set(policy.clone(), "/metadata/labels", json!({"a": "b"}));
        assert!(
            check_network_policy(&labelled, Some(&policy), "ai").is_empty(),
            "as it was"
        );
    }

    #[test]
    fn a_policy_of_another_kind_is_refused_and_may_be_ended() {
        let policy = |spec: Value| json!({"metadata": {"name": "p"}, "specs": [spec], "status": {"a": 1}});
        let (old, new) = (policy(json!({})), policy(json!({"egress": [{}]})));
        let sent = review("CREATE", "cilium.io", "CiliumNetworkPolicy", Some(&new), None);
        assert_eq!(paths(check_other_policy(&sent, &new, None), POLICY), ["kind"]);
        assert_eq!(paths(check_other_policy(&sent, &new, Some(&old)), POLICY), ["kind"]);
        let ended = set(
            set(new.clone(), "/metadata/labels", json!({"a": "b"})),
            "/status",
            Value::Null,
        );
        assert!(check_other_policy(&sent, &ended, Some(&new)).is_empty());
    }

    #[test]
    fn no_way_leads_through_the_proxy() {
        let options = json!({"path": "/"});
        let sent = review("CONNECT", "", "ServiceProxyOptions", Some(&options), None);
        assert_eq!(paths(check_proxy(&sent), DEBUG), ["services/proxy"]);
    }
}
