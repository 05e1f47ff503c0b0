//! Promise 2, names: where the class has pods ask the egress proxy alone for names, each names it, and no other DNS.
//!
//! The NetworkPolicy lets no other be reached; a pod that names one would come up without names, and nobody would say why. Must never: take
//! "the address is not known" for "any address".

use std::net::IpAddr;

use serde_json::Value;

use super::object::{at, is_full, violation};
use super::template::Template;
use crate::api::AIWorkflowClass;
use crate::plan::{dns_addresses, shape::listed};
use crate::review::Violation;

const RULE: &str = "pod-dns";

/// Checks a pod that is being made, or a template. `before` is the pod as it was: what it asks for names never changes.
pub(super) fn check(
    template: &Template<'_>,
    before: Option<&Value>,
    (class_name, class): (&str, Option<&AIWorkflowClass>),
    violations: &mut Vec<Violation>,
) {
    let Some(addresses) = class.and_then(dns_addresses).filter(|_| before.is_none()) else {
        return;
    };
    let spec = template.pod.get("spec").unwrap_or(&Value::Null);
    let asked = format!(
        "AIWorkflowClass {class_name} has pods ask the egress proxy alone for names (spec.cluster.dns.mode: ClusterOnly)"
    );
    let mut refuse = |field: &str, value: Option<&str>, message: String, fix: String| {
        let path = at(template.path, &format!("spec.{field}"));
        violations.push(violation(RULE, path, value, message, fix));
    };
    if addresses.is_empty() {
        let message = format!("{asked}, and does not know its address yet");
        let fix = format!(
            "wait until status.dns of AIWorkflowClass {class_name} names it, or ask the platform team to set egress.enabled of Ringfence's chart"
        );
        refuse("dnsPolicy", None, message, fix);
        return;
    }
    let fix = format!(
        "set dnsPolicy: None, and dnsConfig.nameservers to {}, with the search list of the namespace; ringfence render --pod prints it",
        listed(addresses)
    );
    let policy = spec.get("dnsPolicy").and_then(Value::as_str);
    if policy != Some("None") {
        let message = format!("is not None, and {asked}");
        refuse("dnsPolicy", policy, message, fix.clone());
    }
    let servers = spec.pointer("/dnsConfig/nameservers").and_then(Value::as_array);
    let servers = servers.map_or(&[][..], Vec::as_slice);
    if servers.is_empty() {
        let message = format!("names none, and {asked}");
        refuse("dnsConfig.nameservers", None, message, fix);
        return;
    }
    for (index, server) in servers.iter().enumerate() {
        if is_full(violations) {
            return;
        }
        let address = server.as_str().and_then(|text| text.parse::<IpAddr>().ok());
        let is_the_proxy = |known: &String| known.parse::<IpAddr>().ok().is_some_and(|known| Some(known) == address);
        if !addresses.iter().any(is_the_proxy) {
            let path = at(template.path, &format!("spec.dnsConfig.nameservers[{index}]"));
            let message = format!("is not the egress proxy's, and {asked}");
            violations.push(violation(RULE, path, server.as_str(), message, fix.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn class(mode: &str, addresses: Value) -> AIWorkflowClass {
        let class = json!({
            "metadata": {"name": "c"}, "spec": {"cluster": {"dns": {"mode": mode}}}, "status": {"dns": {"addresses": addresses}},
        });
        serde_json::from_value(class).unwrap()
    }

    fn judged(spec: Value, before: Option<Value>, class: &AIWorkflowClass) -> Vec<String> {
        let pod = json!({"spec": spec});
        let template = Template {
            path: "spec.template",
            pod: &pod,
        };
        let mut violations = Vec::new();
        check(&template, before.as_ref(), ("c", Some(class)), &mut violations);
        violations.iter().for_each(|found| assert_eq!(found.policy, RULE));
        let paths = violations.into_iter().map(|found| found.path);
        paths.map(|path| path.replace("spec.template.spec.", "")).collect()
    }

    fn asks(servers: Value) -> Value {
        json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": servers, "searches": ["a.svc.cluster.local"]}})
    }

    #[rstest]
    #[case::the_proxy(asks(json!(["10.96.0.53"])), &[])]
    #[case::both_of_it(asks(json!(["10.96.0.53", "fd00::35"])), &[])]
    #[case::written_at_length(asks(json!(["fd00:0:0::0035"])), &[])]
    #[case::nothing_said(json!({}), &["dnsPolicy", "dnsConfig.nameservers"])]
    #[case::of_the_cluster(json!({"dnsPolicy": "ClusterFirst", "dnsConfig": {"nameservers": ["10.96.0.53"]}}), &["dnsPolicy"])]
    #[case::of_the_node(json!({"dnsPolicy": "Default"}), &["dnsPolicy", "dnsConfig.nameservers"])]
    #[case::another_beside_it(asks(json!(["10.96.0.53", "192.0.2.53"])), &["dnsConfig.nameservers[1]"])]
    #[case::no_address(asks(json!(["10.96.0.53 "])), &["dnsConfig.nameservers[0]"])]
    #[case::a_number(asks(json!([7])), &["dnsConfig.nameservers[0]"])]
    #[case::no_list(asks(json!("10.96.0.53")), &["dnsConfig.nameservers"])]
    #[case::empty(asks(json!([])), &["dnsConfig.nameservers"])]
    #[case::no_spec(Value::Null, &["dnsPolicy", "dnsConfig.nameservers"])]
    fn a_pod_names_the_proxy_and_nothing_else(#[case] spec: Value, #[case] expected: &[&str]) {
        let known = class("ClusterOnly", json!(["10.96.0.53", "fd00::35"]));
        assert_eq!(judged(spec.clone(), None, &known), expected);
        assert_eq!(judged(spec.clone(), Some(json!({})), &known), [""; 0], "it stands");
        for other in ["Cluster", "None"] {
            assert_eq!(judged(spec.clone(), None, &class(other, json!([]))), [""; 0]);
        }
    }

    #[test]
    fn while_no_address_is_known_none_is_taken() {
        for addresses in [json!([]), json!(["rubbish"])] {
            let unknown = class("ClusterOnly", addresses);
            assert!(!judged(asks(json!(["10.96.0.53"])), None, &unknown).is_empty());
            assert!(!judged(asks(json!(["rubbish"])), None, &unknown).is_empty());
        }
    }
}
