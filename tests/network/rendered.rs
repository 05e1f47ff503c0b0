//! Small random sets of workflows, rendered without an API server: every path as declared, and no other.

use std::collections::BTreeSet;
use std::sync::Mutex;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};
use ringfence::api::{AIWorkflow, AIWorkflowClass, Reason};
use ringfence::plan::{Change, Child, NamespaceFacts, Observed, default_deny, plan};
use serde_json::{Value, json};
use support::network::{Declared, PROTOCOLS, Pod, Scene, Simulator, declared, differences, open_paths, ports};

const CASES: u32 = 100;
const API_SERVER: [(&str, u16); 2] = [("10.96.0.1", 443), ("192.0.2.10", 6443)];
/// Namespaces and the mode of each.
const NAMESPACES: [(&str, &str); 6] = [
    ("ai-a", "ringfence.dev/enforce"),
    ("ai-b", "ringfence.dev/enforce"),
    ("ai-w", "ringfence.dev/warn"),
    ("shop", ""),
    ("kube-system", ""),
    (PROXY, ""),
];
const RANGES: [&str; 14] = [
    "0.0.0.0/0",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.3/32",
    "169.254.0.0/16",
    "168.63.128.0/20",
    "203.0.113.0/24",
    "::/0",
    "64:ff9b::/96",
    "fd00::/8",
    "2001:db8::/32",
];
const NUMBERS: [u16; 5] = [53, 80, 443, 8080, 8090];

/// Where the egress proxy is.
const PROXY: &str = "ringfence-system";
const DOMAINS: [&str; 4] = [
    "api.example.com",
    "*.example.com",
    "*.blob.example.com",
    "other.example",
];

/// Source and destination of paths that some case must open, by what they begin with.
const OPENED: [(&str, &str); 7] = [
    ("ai-a/", "ai-b/"),
    ("ai-b/", "ai-a/"),
    ("ai-a/", "203.0.113.7:"),
    ("ai-b/", "10.96.0.1:443/TCP"),
    ("ai-a/", "kube-system/dns:53/UDP"),
    ("ai-a/", "ringfence-system/egress:3128/TCP"),
    ("198.51.100.1", "ai-a/"),
];

/// Labels of the egress proxy's pods.
const NAME: (&str, &str) = ("app.kubernetes.io/name", "ringfence-egress");
const COMPONENT: (&str, &str) = ("app.kubernetes.io/component", "egress");

fn scene() -> Scene {
    let namespaces = NAMESPACES.map(|(name, mode)| {
        let labels = [("kubernetes.io/metadata.name", name), (mode, "class")];
        let labels = labels.into_iter().filter(|(key, _)| !key.is_empty());
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        (name.to_owned(), labels.collect())
    });
    let mut pods = vec![
        Pod::new("kube-system", "dns", &[("k8s-app", "kube-dns")], "10.1.0.53"),
        Pod::new("kube-system", "other", &[], "10.1.0.54"),
        Pod::new(PROXY, "egress", &[NAME, COMPONENT], "10.1.0.55"),
        Pod::new(
            PROXY,
            "ringfence",
            &[("app.kubernetes.io/name", "ringfence")],
            "10.1.0.56",
        ),
        Pod::new(PROXY, "another", &[NAME], "10.1.0.57"),
        Pod::new("shop", "egress", &[NAME, COMPONENT], "10.1.0.58"),
    ];
    for (number, namespace) in ["ai-a", "ai-b", "ai-w", "shop"].into_iter().enumerate() {
        let ip = |host: u8| format!("10.1.{}.{host}", number + 2);
        for (host, workflow) in ["one", "two"].into_iter().enumerate() {
            let labels = [("ringfence.dev/workflow", workflow), ("app", workflow)];
            pods.push(Pod::new(namespace, workflow, &labels, &ip(host as u8 + 1)));
        }
        pods.push(Pod::new(namespace, "app", &[("app", "one"), ("tier", "x")], &ip(3)));
        pods.push(Pod::new(namespace, "bare", &[], &format!("fd00::{number}:4")));
    }
    let addresses = [
        "169.254.169.254",
        "169.254.20.10",
        "168.63.129.16",
        "168.63.129.17",
        "100.100.100.200",
        "203.0.113.7",
        "198.51.100.1",
        "10.1.2.3",
        "10.2.0.1",
        "10.96.0.1",
        "192.0.2.10",
        "64:ff9b::169.254.169.254",
        "64:ff9b::198.51.100.1",
        "fd00:ec2::254",
        "fd00:ec2::253",
        "2001:db8::1",
    ];
    Scene {
        namespaces: namespaces.into(),
        pods,
        addresses: addresses.map(|ip| ip.parse().unwrap()).to_vec(),
        ports: ports(NUMBERS.into_iter().chain([54, 81, 3127, 3128, 6443, 8079, 8085])),
    }
}

fn selector() -> impl Strategy<Value = Value> {
    let expression = |operator: &str, values: &[&str]| {
        let requirement = json!({"key": "app", "operator": operator, "values": values});
        json!({"matchExpressions": [requirement]})
    };
    select(vec![
        json!({"matchLabels": {"app": "one"}}),
        json!({"matchLabels": {"app": "one", "tier": "x"}}),
        json!({"matchLabels": {"tier": ""}}),
        expression("In", &["one", "two"]),
        json!({"matchExpressions": [{"key": "app", "operator": "Exists"}, {"key": "app", "operator": "NotIn", "values": ["one"]}]}),
        expression("Exists", &[]),
        json!({"matchLabels": {"tier": "x"}, "matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}),
    ])
}

fn in_some_namespace(peer: Value, namespace: Option<&str>) -> Value {
    let mut peer = peer;
    if let Some(namespace) = namespace {
        peer["namespace"] = json!(namespace);
    }
    peer
}

fn peer() -> impl Strategy<Value = Value> {
    let namespace = || prop::option::of(select(vec!["ai-a", "ai-b", "ai-w", "shop"]));
    let pods = (selector(), namespace())
        .prop_map(|(selector, namespace)| json!({"pods": in_some_namespace(json!({"selector": selector}), namespace)}));
    let workflow = (
        select(vec!["one", "one", "two", "two", "absent"]),
        select(vec![None, Some("ai-a"), Some("ai-b"), Some("ai-w")]),
    )
        .prop_map(|(name, namespace)| json!({"workflow": in_some_namespace(json!({"name": name}), namespace)}));
    let cidrs = (vec(select(RANGES.to_vec()), 1..4), subsequence(RANGES.to_vec(), 0..4)).prop_map(|(cidrs, except)| {
        // What lies in none of the ranges is another test's: it is refused.
        let inside = |range: &&str| cidrs.iter().any(|cidr| cidr != range && lies_in(range, cidr));
        let except: Vec<_> = except.into_iter().filter(inside).collect();
        json!({"cidrs": cidrs, "except": except})
    });
    prop_oneof![2 => pods, 4 => workflow, 3 => cidrs]
}

fn lies_in(inner: &str, outer: &str) -> bool {
    let [inner, outer] = [inner, outer].map(|range| range.parse::<ipnet::IpNet>().unwrap());
    outer.contains(&inner)
}

fn some_ports() -> impl Strategy<Value = Vec<Value>> {
    let port = (
        select(NUMBERS.to_vec()),
        prop::option::of(0..20_u16),
        prop::option::of(select(PROTOCOLS.to_vec())),
    );
    let port = port.prop_map(|(port, more, protocol)| {
        let mut said = json!({"port": port});
        if let Some(more) = more {
            said["endPort"] = json!(port + more);
        }
        if let Some(protocol) = protocol {
            said["protocol"] = json!(protocol);
        }
        said
    });
    vec(port, 1..3)
}

fn rules(direction: &'static str) -> impl Strategy<Value = Vec<Value>> {
    // Now and then to what is no source.
    let outward = prop_oneof![
        8 => Just(None),
        1 => Just(Some(json!({"apiServer": {}}))),
        1 => subsequence(DOMAINS.to_vec(), 1..=3).prop_map(|domains| Some(json!({"domains": domains}))),
    ];
    vec((peer(), some_ports(), outward), 0..5).prop_map(move |rules| {
        let rule = |(index, (peer, ports, outward)): (usize, (Value, Vec<Value>, Option<Value>))| {
            let name = format!("rule-{index}");
            match outward.filter(|_| direction == "to") {
                Some(to) if to.get("domains").is_some() => json!({"name": name, "to": to, "ports": [{"port": 443}]}),
                Some(to) => json!({"name": name, "to": to}),
                None => json!({"name": name, direction: peer, "ports": ports}),
            }
        };
        rules.into_iter().enumerate().map(rule).collect()
    })
}

fn workflows() -> impl Strategy<Value = Vec<Value>> {
    let places: Vec<_> = ["ai-a", "ai-b", "ai-w"]
        .into_iter()
        .flat_map(|namespace| [(namespace, "one"), (namespace, "two")])
        .collect();
    let answered = prop::bool::weighted(0.9);
    let networks = vec((rules("from"), rules("to")), 6);
    (subsequence(places, 2..=6), networks, answered).prop_map(|(places, networks, answered)| {
        let places = places.into_iter().zip(networks);
        let workflows = places.map(|((namespace, name), (ingress, egress))| {
            let metadata = json!({"name": name, "namespace": namespace, "uid": format!("uid-of-{namespace}-{name}")});
            let network = json!({"ingress": ingress, "egress": egress});
            let spec = json!({"launchers": [], "images": ["registry.example.com/x/**"], "network": network});
            json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": metadata, "spec": spec})
        });
        let mut workflows: Vec<_> = workflows.collect();
        if answered {
            answer(&mut workflows);
        }
        workflows
    })
}

/// Names each workflow that names another as destination there as source: chance alone seldom opens a path between two.
fn answer(workflows: &mut [Value]) {
    let mut answers = Vec::new();
    for from in workflows.iter() {
        for rule in from["spec"]["network"]["egress"].as_array().unwrap() {
            let to = &rule["to"]["workflow"];
            let namespace = to["namespace"]
                .as_str()
                .map_or(&from["metadata"]["namespace"], |_| &to["namespace"]);
            let source = json!({"name": from["metadata"]["name"], "namespace": from["metadata"]["namespace"]});
            let name = format!("answer-{}", answers.len());
            let answer = json!({"name": name, "from": {"workflow": source}, "ports": rule["ports"]});
            answers.push((namespace.clone(), to["name"].clone(), answer));
        }
    }
    for (namespace, name, rule) in answers {
        let target = workflows
            .iter_mut()
            .find(|to| to["metadata"]["namespace"] == namespace && to["metadata"]["name"] == name);
        if let Some(target) = target {
            target["spec"]["network"]["ingress"].as_array_mut().unwrap().push(rule);
        }
    }
}

fn class() -> impl Strategy<Value = Value> {
    let cluster = select(vec![
        json!({}),
        json!({"dns": {"cidrs": ["169.254.0.0/16"]}}),
        json!({"dns": {"mode": "None"}}),
        json!({"dns": {"mode": "Cluster"}}),
        json!({"dns": {"namespace": "shop", "selector": {"matchLabels": {"app": "one"}}}}),
        json!({"apiServer": {"cidrs": ["203.0.113.0/24"], "ports": [443, 8090]}}),
    ]);
    // Declared by the class, detected, or unknown.
    let own = select(vec![
        vec!["10.1.0.0/16", "10.96.0.0/12", "fd00::/48"],
        vec!["10.1.2.0/24", "10.1.3.0/24"],
    ]);
    let own = (
        own,
        prop_oneof![4 => Just("declared"), 3 => Just("detected"), 1 => Just("unknown")],
    );
    let ranges = prop_oneof![2 => Just(vec!["0.0.0.0/0", "::/0"]), 1 => subsequence(RANGES.to_vec(), 0..6)];
    let all = vec!["ai-a", "ai-b", "ai-w", "shop"];
    let namespaces = prop_oneof![3 => Just(all.clone()), 1 => subsequence(all, 0..=4)];
    let domains = subsequence(vec!["*", "*.example.com", "api.example.com"], 0..=3);
    (namespaces, ranges, domains, cluster, own).prop_map(|(namespaces, cidrs, domains, mut cluster, (own, how))| {
        let mut status = json!({});
        match how {
            "declared" => cluster["clusterCIDRs"] = json!(own),
            "detected" => status["cluster"] = json!({"ranges": own}),
            _ => {}
        }
        let network = json!({"namespaces": namespaces, "cidrs": cidrs, "domains": domains});
        let spec = json!({"images": {"allowed": ["**"]}, "network": network, "cluster": cluster});
        let metadata = json!({"name": "class"});
        json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": metadata,
            "spec": spec, "status": status,
        })
    })
}

/// What Ringfence would write for them.
fn policies(workflows: &[Value], class: &Value) -> Vec<Value> {
    let facts = |namespace: &str| {
        let (_, mode) = NAMESPACES.iter().find(|(name, _)| *name == namespace).unwrap();
        NamespaceFacts {
            name: namespace.to_owned(),
            uid: format!("uid-of-{namespace}"),
            labels: [(String::from(*mode), "class".to_owned())].into(),
            ..NamespaceFacts::default()
        }
    };
    let mut policies: Vec<_> = ["ai-a", "ai-b"]
        .map(|namespace| default_deny(&facts(namespace)))
        .to_vec();
    let class: AIWorkflowClass = serde_json::from_value(class.clone()).unwrap();
    for workflow in workflows {
        let workflow: AIWorkflow = serde_json::from_value(workflow.clone()).unwrap();
        let observed = Observed {
            namespace: facts(workflow.metadata.namespace.as_deref().unwrap()),
            class: Some(class.clone()),
            api_server: API_SERVER.map(|(ip, port)| (ip.parse().unwrap(), port)).into(),
            egress_proxy: Some(PROXY.to_owned()),
            ..Observed::default()
        };
        let plan = plan(&workflow, &observed);
        let reason = plan.acceptance.reason;
        assert!(
            matches!(reason, Reason::Accepted | Reason::OutsideClass),
            "{}",
            plan.acceptance.message
        );
        policies.extend(plan.changes.into_iter().filter_map(|change| match change {
            Change::Create(Child::NetworkPolicy, policy) => Some(policy),
            _ => None,
        }));
    }
    policies
}

#[test]
fn what_is_rendered_opens_what_is_declared_and_nothing_else() {
    let scene = scene();
    let simulator = Mutex::new(Simulator::start().unwrap());
    let open = Mutex::new(BTreeSet::new());
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let checked = TestRunner::new(config).run(&(workflows(), class()), |(workflows, class)| {
        let policies = policies(&workflows, &class);
        let said = Declared {
            // Each class says them itself, or it was detected.
            cluster_ranges: serde_json::from_value(class["status"]["cluster"]["ranges"].clone()).unwrap(),
            workflows,
            classes: vec![class],
            api_server: API_SERVER.map(|(ip, port)| (ip.parse().unwrap(), port)).to_vec(),
            egress_proxy: Some(PROXY.to_owned()),
        };
        let simulated = simulator.lock().unwrap().ask(&scene, &policies).unwrap();
        let found = differences(&scene, &declared(&scene, &said), &simulated);
        prop_assert!(found.is_empty(), "{}", found.join("\n"));
        open.lock().unwrap().extend(open_paths(&scene, &simulated));
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
    // A generator that opens nothing would prove nothing.
    let open = open.into_inner().unwrap();
    for (from, to) in OPENED {
        let is = |path: &str| {
            path.split_once(" -> ")
                .is_some_and(|(source, target)| source.starts_with(from) && target.starts_with(to))
        };
        assert!(open.iter().any(|path| is(path)), "{from} to {to} was never open");
    }
}
