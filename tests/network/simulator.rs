//! That the simulator reads NetworkPolicies as the Kubernetes documentation has them, where its answers are relied on.

use rstest::rstest;
use serde_json::{Value, json};
use support::network::{Pod, Scene, Simulator, open_paths, ports};

fn scene() -> Scene {
    let namespaces = ["a", "b"].map(|name| {
        let labels = [("kubernetes.io/metadata.name".to_owned(), name.to_owned())];
        (name.to_owned(), labels.into())
    });
    Scene {
        namespaces: namespaces.into(),
        pods: vec![
            Pod::new("a", "web", &[("app", "web")], "10.0.0.1"),
            Pod::new("b", "db", &[("app", "db"), ("tier", "")], "10.0.0.2"),
            Pod::new("b", "bare", &[], "fd00::3"),
        ],
        addresses: ["203.0.113.7", "203.0.113.8", "2001:db8::1"]
            .map(|ip| ip.parse().unwrap())
            .to_vec(),
        ports: ports([80, 81]),
    }
}

fn policy(name: &str, spec: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": "a"});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
}

/// Where `web`, behind a default-deny, gets by these egress rules.
fn reached(egress: &Value) -> Vec<String> {
    let deny = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []});
    let allow = json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": egress});
    let mut simulator = Simulator::start().unwrap();
    let matrix = simulator.ask(&scene(), &[policy("deny", &deny), policy("allow", &allow)]);
    let open = open_paths(&scene(), &matrix.unwrap());
    let from_web = open.iter().filter_map(|path| path.strip_prefix("a/web -> "));
    from_web.map(str::to_owned).collect()
}

#[rstest]
#[case::nothing(json!([]), &[])]
#[case::a_port(
    json!([{"to": [{"ipBlock": {"cidr": "203.0.113.7/32"}}], "ports": [{"port": 80, "protocol": "UDP"}]}]),
    &["203.0.113.7:80/UDP"],
)]
#[case::tcp_by_default(
    json!([{"to": [{"ipBlock": {"cidr": "203.0.113.7/32"}}], "ports": [{"port": 80, "endPort": 90}]}]),
    &["203.0.113.7:80/TCP", "203.0.113.7:81/TCP"],
)]
#[case::a_range_without_a_part(
    json!([{"to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.8/32"]}}], "ports": [{"port": 80}]}]),
    &["203.0.113.7:80/TCP"],
)]
#[case::a_range_holds_pods_too(
    json!([{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 80}]}]),
    &["b/db:80/TCP"],
)]
#[case::pods_of_the_own_namespace(json!([{"to": [{"podSelector": {}}], "ports": [{"port": 80}]}]), &[])]
#[case::absent_is_in_no_list(
    json!([{"to": [{
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "b"}},
        "podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]},
    }], "ports": [{"port": 80}]}]),
    &["b/bare:80/TCP"],
)]
#[case::empty_is_not_absent(
    json!([{"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"tier": ""}}}], "ports": [{"port": 80}]}]),
    &["b/db:80/TCP"],
)]
#[case::no_peers_are_all(
    json!([{"ports": [{"port": 80}]}]),
    &["2001:db8::1:80/TCP", "203.0.113.7:80/TCP", "203.0.113.8:80/TCP", "b/bare:80/TCP", "b/db:80/TCP"],
)]
fn it_reads_what_is_written(#[case] egress: Value, #[case] expected: &[&str]) {
    assert_eq!(reached(&egress), expected);
}

#[rstest]
#[case::no_range(json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "x"}}]}]}), "unable to parse CIDR")]
#[case::of_no_type(json!({"podSelector": {}}), "need at least 1 type")]
#[case::not_in_of_its_own(json!({"podSelector": {"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["y"]}]}, "policyTypes": ["Egress"]}), "NotIn is not simulated")]
#[case::newer_than_it(json!({"podSelector": {}, "policyTypes": ["Egress"], "gate": "x"}), "no answer")]
fn what_it_cannot_read_is_no_answer(#[case] spec: Value, #[case] said: &str) {
    let mut simulator = Simulator::start().unwrap();
    let error = simulator.ask(&scene(), &[policy("x", &spec)]).unwrap_err();
    assert!(format!("{error:#}").contains(said), "{error:#}");
}
