use rstest::rstest;

use super::*;
use crate::{
    api::AIWorkflow,
    plan::{
        Change, Child, Observed, PluginPolicies, owner_uid, plan,
        tests::{is_put_back, observed, stored, workflow},
    },
};

/// Where any domain may be declared, and Cilium's policies are written.
fn place(dns: Value) -> Observed {
    let mut observed = observed();
    let spec = &mut observed.class.as_mut().unwrap().spec;
    spec.network.as_mut().unwrap().domains = vec!["*".to_owned()];
    spec.cluster = (!dns.is_null()).then(|| serde_json::from_value(json!({"dns": dns})).unwrap());
    observed.cilium = PluginPolicies::Writable;
    observed
}

fn declaring(egress: Value) -> AIWorkflow {
    workflow(json!({"network": {"egress": egress}}))
}

fn policy(children: &[(Child, Value)]) -> &Value {
    let is_it = |(child, _): &&(Child, Value)| *child == Child::CiliumNetworkPolicy;
    &children.iter().find(is_it).expect("a policy of Cilium's").1
}

#[test]
fn it_opens_what_is_declared_and_the_dns_for_these_names() {
    let ports = json!([{"port": 443}, {"port": 8000, "endPort": 8010, "protocol": "TCP"}]);
    let declared = declaring(json!([
        {"name": "llm", "to": {"domains": ["api.llm.example", "*.blob.example"]}, "ports": ports},
        {"name": "mail", "to": {"domains": ["mail.example.com"]}, "ports": [{"port": 587}]},
        {"name": "api", "to": {"apiServer": {}}},
    ]));
    let observed = place(Value::Null);
    let made = stored(&plan(&declared, &observed).changes);
    let policy = policy(&made);
    assert_eq!(
        (&policy["apiVersion"], &policy["kind"]),
        (&json!("cilium.io/v2"), &json!("CiliumNetworkPolicy"))
    );
    assert!(owner_uid(policy).is_some() && policy["metadata"]["ownerReferences"][0]["kind"] == "AIWorkflow");
    assert!(
        policy["metadata"]["annotations"]
            .get(crate::egress::ANNOTATION)
            .is_none(),
        "that is the proxy's"
    );
    let dns = json!([{
            "ports": [{"port": "53", "protocol": "UDP"}, {"port": "53", "protocol": "TCP"}],
            "rules": {"dns": [
    {"matchName": "api.llm.example"},
                {"matchName": "api.llm.example.ai.svc.cluster.local"},
                {"matchName": "api.llm.example.cluster.local"},
                {"matchName": "api.llm.example.svc.cluster.local"},
                {"matchName": "kubernetes.default.svc.cluster.local"},
                {"matchName": "mail.example.com"},
                {"matchName": "mail.example.com.ai.svc.cluster.local"},
                {"matchName": "mail.example.com.cluster.local"},
                {"matchName": "mail.example.com.svc.cluster.local"},
                {"matchPattern": "**.ai.svc.cluster.local"},
                {"matchPattern": "**.blob.example"},
                {"matchPattern": "**.blob.example.ai.svc.cluster.local"},
                {"matchPattern": "**.blob.example.cluster.local"},
                {"matchPattern": "**.blob.example.svc.cluster.local"},
                {"matchPattern": "*.*.ai.svc.cluster.local"},
                {"matchPattern": "*.ai.svc.cluster.local"},
            ]},
        }]);
    let kube_dns = json!({"k8s:k8s-app": "kube-dns", "k8s:io.kubernetes.pod.namespace": "kube-system"});
    let spec = &policy["spec"];
    assert_eq!(
        spec["endpointSelector"],
        json!({"matchLabels": {"k8s:ringfence.dev/workflow": "triage"}})
    );
    assert_eq!(
        spec["egress"],
        json!([
            {"toEndpoints": [{"matchLabels": kube_dns, "matchExpressions": []}], "toPorts": dns},
            {"toCIDRSet": [{"cidr": "169.254.20.10/32", "except": []}], "toPorts": dns},
            {
                "toFQDNs": [{"matchName": "api.llm.example"}, {"matchPattern": "**.blob.example"}],
                "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}, {"port": "8000", "endPort": 8010, "protocol": "TCP"}]}],
            },
            {"toFQDNs": [{"matchName": "mail.example.com"}], "toPorts": [{"ports": [{"port": "587", "protocol": "TCP"}]}]},
        ])
    );
    let refused = spec["egressDeny"][0]["toCIDR"].as_array().unwrap();
    for address in ["169.254.169.254/32", "168.63.129.16/32", "fd00:ec2::254/128"] {
        assert!(refused.contains(&json!(address)), "{refused:?}");
    }
    let standing = Observed {
        children: made,
        ..observed
    };
    assert_eq!(plan(&declared, &standing).changes, []);
}

/// Of any other namespace's, Services that stand for names outside would tell these what a pod asks for.
#[test]
fn names_of_the_cluster_are_those_of_namespaces_that_are_reached() {
    let domain = json!({"name": "a", "to": {"domains": ["a.example.com"]}, "ports": [{"port": 443}]});
    let pods = |namespace: &str| json!({"name": namespace, "to": {"pods": {"namespace": namespace, "selector": {"matchLabels": {"a": "b"}}}}, "ports": [{"port": 1}]});
    let of_namespaces = |policy: &Value| {
        let names = asked(policy).map(|name| name["matchPattern"].as_str().unwrap_or_default().to_owned());
        names.filter(|name| name.starts_with("**")).collect::<BTreeSet<_>>()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let mut observed = place(Value::Null);
    let alone = declaring(json!([domain]));
    let made = plan(&alone, &observed);
    let own = "**.ai.svc.cluster.local";
    assert_eq!(of_namespaces(policy(&stored(&made.changes))), set(&[own]));
    // The class opens one of them.
    let mut both = declaring(json!([domain, pods("vectors"), pods("elsewhere")]));
    let children = stored(&plan(&both, &observed).changes);
    assert_eq!(
        of_namespaces(policy(&children)),
        set(&[own, "**.vectors.svc.cluster.local"])
    );
    // Who declares it while nobody reviews, and writes it there as well, may not ask for it.
    let now = "2026-11-22T08:00:00Z".parse().unwrap();
    let said = crate::plan::status(&alone, &observed, &made, &crate::plan::Outcome::Applied(None), now);
    both.status = Some(said);
    both.metadata.generation = Some(4);
    observed.children = children;
    observed.registration.as_mut().unwrap().uid = "another".to_owned();
    let held = plan(&both, &observed);
    assert!(held.held);
    let [
        Change::Replace(Child::NetworkPolicy, _),
        Change::Replace(Child::CiliumNetworkPolicy, policy),
    ] = held.changes.as_slice()
    else {
        panic!("{:?}", held.changes)
    };
    assert_eq!(of_namespaces(policy), set(&[own]));
}

/// Beside a policy that opens the DNS without a look at names, Cilium would look at none.
#[rstest]
#[case::said(
    json!({"namespace": "dns", "selector": {"matchLabels": {"app": "coredns"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a"]}]}}),
    json!([{"toEndpoints": [{
        "matchLabels": {"k8s:app": "coredns", "k8s:io.kubernetes.pod.namespace": "dns"},
        "matchExpressions": [{"key": "k8s:tier", "operator": "In", "values": ["a"]}],
    }]}])
)]
#[case::by_address(json!({"cidrs": ["203.0.113.53/32", "169.254.0.0/16"]}), json!(["203.0.113.53/32", "169.254.0.0/16"]))]
fn the_dns_is_the_classs_and_no_other_policy_opens_it(#[case] dns: Value, #[case] expected: Value) {
    let declared = declaring(json!([{"name": "a", "to": {"domains": ["a.example.com"]}, "ports": [{"port": 443}]}]));
    let made = stored(&plan(&declared, &place(dns)).changes);
    let egress = policy(&made)["spec"]["egress"].as_array().unwrap().clone();
    assert_eq!(egress.len(), 2, "{egress:?}");
    let blocks = egress[0].get("toCIDRSet").and_then(Value::as_array);
    match blocks {
        Some(blocks) => {
            let ranges: Vec<_> = blocks.iter().map(|block| block["cidr"].clone()).collect();
            assert_eq!(json!(ranges), expected);
            assert!(
                blocks[1]["except"].to_string().contains("169.254.169.254"),
                "{blocks:?}"
            );
        }
        None => assert_eq!(json!([{"toEndpoints": egress[0]["toEndpoints"]}]), expected),
    }
    let plain = made.iter().filter(|(child, _)| *child == Child::NetworkPolicy);
    for (_, policy) in plain {
        assert_eq!(policy["spec"]["egress"], json!([]), "{policy}");
    }
}

/// What somebody with every right on these kinds would write.
#[rstest]
#[case::any_name("/spec/egress/0/toPorts/0/rules/dns", json!([{"matchPattern": "*"}]))]
#[case::no_look_at_names("/spec/egress/0/toPorts/0", json!({"ports": [{"port": "53", "protocol": "ANY"}]}))]
#[case::a_wider_name("/spec/egress/2/toFQDNs/0", json!({"matchPattern": "*"}))]
#[case::any_port("/spec/egress/2/toPorts", json!([]))]
#[case::everywhere("/spec/egress", json!([{"toEntities": ["all"]}]))]
#[case::nothing_refused("/spec/egressDeny", json!([]))]
#[case::other_pods("/spec/endpointSelector", json!({}))]
#[case::no_default_deny("/spec/enableDefaultDeny", json!({"egress": false, "ingress": false}))]
#[case::a_way_in("/spec/ingress", json!([{}]))]
#[case::more_than_one("/specs", json!([{"endpointSelector": {}, "egress": [{"toEntities": ["all"]}]}]))]
#[case::a_finalizer("/metadata/finalizers", json!(["a.example/b"]))]
fn what_somebody_else_writes_into_it_is_put_back(#[case] pointer: &str, #[case] foreign: Value) {
    let declared = declaring(json!([{"name": "a", "to": {"domains": ["a.example.com"]}, "ports": [{"port": 443}]}]));
    let mut observed = place(Value::Null);
    observed.children = stored(&plan(&declared, &observed).changes);
    is_put_back(&declared, observed, Child::CiliumNetworkPolicy, (pointer, foreign));
}

/// Pods of a cluster whose names are below another domain ask for those.
#[test]
fn names_of_the_cluster_are_below_its_domain() {
    let mut observed = place(Value::Null);
    let status = json!({"clusterDomain": "k8s.example"});
    observed.class.as_mut().unwrap().status = Some(serde_json::from_value(status).unwrap());
    let declared = declaring(json!([
        {"name": "llm", "to": {"domains": ["api.llm.example"]}, "ports": [{"port": 443}]},
        {"name": "api", "to": {"apiServer": {}}},
    ]));
    let made = stored(&plan(&declared, &observed).changes);
    let names: Vec<_> = asked(policy(&made)).collect();
    let expected = json!([
        {"matchName": "api.llm.example"},
        {"matchName": "api.llm.example.ai.svc.k8s.example"},
        {"matchName": "api.llm.example.k8s.example"},
        {"matchName": "api.llm.example.svc.k8s.example"},
        {"matchName": "kubernetes.default.svc.k8s.example"},
        {"matchPattern": "**.ai.svc.k8s.example"},
        {"matchPattern": "*.*.ai.svc.k8s.example"},
        {"matchPattern": "*.ai.svc.k8s.example"},
    ]);
    // By pods of the DNS, and by its address.
    let (by_pods, by_address) = names.split_at(names.len() / 2);
    assert_eq!((json!(by_pods), json!(by_address)), (expected.clone(), expected));
}
