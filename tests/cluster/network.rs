//! The network that people declare is the network that there is: what the operator made of their declarations, read back from
//! the API server and given to somebody else's implementation of NetworkPolicy, opens every declared path and no other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use support::eventually;
use support::network::{Declared, Labels, Pod, Scene, Simulator, declared, differences, open_paths, ports};
use tokio::sync::Mutex;

use crate::world::{Actor, CLASSES, NAMESPACES as NAMESPACES_PATH, SOON, TENANT, World, all, condition, one};

/// Namespaces, and the mode and class of each.
const NAMESPACES: [(&str, &str, &str); 5] = [
    ("net-finance", "ringfence.dev/enforce", "net-wide"),
    ("net-vectors", "ringfence.dev/enforce", "net-narrow"),
    // Fenced, and nobody declared anything.
    ("net-quiet", "ringfence.dev/enforce", "net-wide"),
    // On the way into a fence: allow policies, and no default-deny.
    ("net-trial", "ringfence.dev/warn", "net-wide"),
    ("net-shop", "", ""),
];

const CLASSES_YAML: &str = "
- metadata: {name: net-wide}
  spec:
    images: {allowed: ['**']}
    network: {cidrs: [0.0.0.0/0, '::/0'], namespaces: [net-finance, net-vectors, net-shop]}
- metadata: {name: net-narrow}
  spec:
    images: {allowed: ['**']}
    network: {cidrs: [203.0.113.0/24, 10.0.0.0/8], namespaces: [net-finance]}
    cluster: {dns: {cidrs: [169.254.20.10/32]}, apiServer: {cidrs: [192.0.2.0/28], ports: [443, 6443]}}
";

/// What tenants declare. Ends of one path are named alike: `<source>-<destination>`.
const WORKFLOWS: &str = "
- metadata: {namespace: net-finance, name: triage}
  spec:
    network:
      ingress:
      - {name: shop-triage, from: {pods: {namespace: net-shop, selector: {matchLabels: {app: web}}}}, ports: [{port: 8080}]}
      - {name: office, from: {cidrs: [198.51.100.0/24], except: [198.51.100.64/26]}, ports: [{port: 8443}]}
      egress:
      - {name: triage-qdrant, to: {workflow: {namespace: net-vectors, name: qdrant}}, ports: [{port: 6334}]}
      - {name: triage-summarise, to: {workflow: {name: summarise}}, ports: [{port: 7000, endPort: 7010}, {port: 514, protocol: UDP}]}
      - {name: unanswered, to: {workflow: {name: summarise}}, ports: [{port: 9000}]}
      - {name: bank, to: {cidrs: [203.0.113.0/24, 203.0.113.192/28], except: [203.0.113.128/25]}, ports: [{port: 443}]}
      - {name: shop, to: {pods: {namespace: net-shop, selector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}}}, ports: [{port: 5000, protocol: SCTP}]}
      - {name: api-server, to: {apiServer: {}}}
- metadata: {namespace: net-finance, name: summarise}
  spec:
    network:
      ingress:
      - {name: triage-summarise, from: {workflow: {name: triage}}, ports: [{port: 7005, endPort: 7020}, {port: 514, protocol: UDP}]}
      - {name: uninvited, from: {workflow: {namespace: net-vectors, name: qdrant}}, ports: [{port: 9100}]}
      egress:
      - {name: summarise-cache, to: {pods: {selector: {matchLabels: {app: cache}}}}, ports: [{port: 6379}]}
- metadata: {namespace: net-finance, name: cache}
  spec:
    network:
      ingress:
      - {name: summarise-cache, from: {pods: {selector: {matchExpressions: [{key: ringfence.dev/workflow, operator: In, values: [summarise]}]}}}, ports: [{port: 6379}]}
- metadata: {namespace: net-finance, name: crawler}
  spec:
    network:
      egress:
      - {name: everywhere, to: {cidrs: [0.0.0.0/1, 128.0.0.0/1, '::/0']}, ports: [{port: 1, endPort: 65535}, {port: 1, endPort: 65535, protocol: UDP}]}
- metadata: {namespace: net-vectors, name: qdrant}
  spec:
    network:
      ingress:
      - {name: triage-qdrant, from: {workflow: {namespace: net-finance, name: triage}}, ports: [{port: 6334}]}
      - {name: nobody-yet, from: {workflow: {namespace: net-finance, name: later}}, ports: [{port: 6335}]}
      egress:
      - {name: api-server, to: {apiServer: {}}}
- metadata: {namespace: net-vectors, name: beyond}
  spec:
    network:
      ingress:
      - {name: not-ours, from: {pods: {namespace: net-shop, selector: {matchLabels: {app: web}}}}, ports: [{port: 8080}]}
      egress:
      - {name: bank, to: {cidrs: [203.0.113.0/24]}, ports: [{port: 443}]}
      - {name: too-far, to: {cidrs: [203.0.113.0/24, 198.51.100.0/24]}, ports: [{port: 444}]}
- metadata: {namespace: net-trial, name: pilot}
  spec:
    network:
      egress:
      - {name: shop, to: {pods: {namespace: net-shop, selector: {matchLabels: {app: web}}}}, ports: [{port: 8080}]}
";

/// Two ways to write what cannot be rendered: nothing of it is open.
const INVALID: &str = "
- metadata: {namespace: net-finance, name: hostbits}
  spec:
    network:
      egress:
      - {name: bank, to: {cidrs: [203.0.113.7/24]}, ports: [{port: 443}]}
      - {name: triage, to: {workflow: {name: triage}}, ports: [{port: 8080}]}
- metadata: {namespace: net-finance, name: mapped}
  spec:
    network:
      egress:
      - {name: bank, to: {cidrs: ['::ffff:203.0.113.0/120']}, ports: [{port: 443}]}
";

fn read(yaml: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = serde_saphyr::from_str(yaml).expect("YAML");
    for object in &mut objects {
        if object["metadata"]["namespace"].is_string() {
            object["spec"]["launchers"] = json!([{"user": "lea"}]);
            object["spec"]["images"] = json!(["registry.example.com/finance/**"]);
        }
    }
    objects
}

struct Place {
    world: World,
    simulator: Mutex<Simulator>,
    scene: Scene,
}

/// Pods of every kind that there can be: of each workflow, of one that lives elsewhere, of none, and with no label at all. They
/// need no pod object: a network plugin sees labels and addresses. Not every one of them would be admitted.
fn pods() -> Vec<Pod> {
    let label = "ringfence.dev/workflow";
    vec![
        Pod::new(
            "net-finance",
            "triage-1",
            &[(label, "triage"), ("app", "web")],
            "10.244.1.1",
        ),
        Pod::new("net-finance", "triage-2", &[(label, "triage")], "10.244.1.2"),
        Pod::new("net-finance", "summarise", &[(label, "summarise")], "10.244.1.3"),
        Pod::new(
            "net-finance",
            "cache",
            &[(label, "cache"), ("app", "cache")],
            "10.244.1.4",
        ),
        Pod::new("net-finance", "crawler", &[(label, "crawler")], "10.244.1.5"),
        Pod::new("net-finance", "hostbits", &[(label, "hostbits")], "10.244.1.6"),
        Pod::new("net-finance", "mapped", &[(label, "mapped")], "10.244.1.7"),
        Pod::new("net-finance", "stray-cache", &[("app", "cache")], "10.244.1.8"),
        Pod::new("net-finance", "of-elsewhere", &[(label, "qdrant")], "10.244.1.9"),
        Pod::new(
            "net-vectors",
            "qdrant",
            &[(label, "qdrant"), ("app", "cache")],
            "10.244.2.1",
        ),
        Pod::new(
            "net-vectors",
            "beyond",
            &[(label, "beyond"), ("app", "web")],
            "10.244.2.2",
        ),
        Pod::new("net-vectors", "of-elsewhere", &[(label, "triage")], "10.244.2.3"),
        Pod::new("net-vectors", "bare", &[], "fd00:10:244::4"),
        Pod::new("net-quiet", "bare", &[], "10.244.3.1"),
        Pod::new(
            "net-quiet",
            "triage",
            &[(label, "triage"), ("app", "web")],
            "10.244.3.2",
        ),
        Pod::new("net-trial", "pilot", &[(label, "pilot")], "10.244.4.1"),
        Pod::new("net-trial", "bare", &[("app", "web")], "10.244.4.2"),
        Pod::new("net-shop", "web", &[("app", "web")], "10.244.5.1"),
        Pod::new("net-shop", "till", &[("app", "till")], "10.244.5.2"),
        Pod::new("net-shop", "triage", &[(label, "triage")], "10.244.5.3"),
        Pod::new("kube-system", "dns", &[("k8s-app", "kube-dns")], "10.244.6.1"),
        Pod::new("kube-system", "other", &[], "10.244.6.2"),
    ]
}

/// Addresses of no pod: metadata services in every form, both sides of each range's edge, a node, the cluster's DNS on a node.
const ADDRESSES: [&str; 24] = [
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::254",
    "169.254.20.10",
    "203.0.112.255",
    "203.0.113.0",
    "203.0.113.127",
    "203.0.113.128",
    "203.0.113.200",
    "203.0.114.0",
    "198.51.100.63",
    "198.51.100.64",
    "198.51.100.128",
    "198.51.101.0",
    "192.0.2.1",
    "192.0.2.16",
    "10.7.0.1",
    "2001:db8::1",
    "fd00:10:244::99",
];

/// Each declared port, both its neighbours, and those that somebody would try.
fn port_numbers(workflows: &[Value], api_server: &[(IpAddr, u16)]) -> BTreeSet<u16> {
    let mut numbers = BTreeSet::from([22, 53, 443, 6443]);
    let networks = workflows.iter().map(|workflow| &workflow["spec"]["network"]);
    let rules = networks.flat_map(|network| [&network["ingress"], &network["egress"]]);
    let declared = rules.flat_map(|rules| rules.as_array().into_iter().flatten());
    for port in declared.flat_map(|rule| rule["ports"].as_array().into_iter().flatten()) {
        for end in [&port["port"], &port["endPort"]] {
            let near = end.as_u64().into_iter().flat_map(|end| end.saturating_sub(1)..=end + 1);
            numbers.extend(
                near.filter_map(|port| u16::try_from(port).ok())
                    .filter(|port| *port > 0),
            );
        }
    }
    numbers.extend(api_server.iter().map(|(_, port)| port));
    numbers
}

/// Where the API server says that it is: by its Service, and behind it.
async fn api_server(admin: &Actor) -> Vec<(IpAddr, u16)> {
    let service = admin.get("/api/v1/namespaces/default/services/kubernetes").await.ok();
    let slice = admin
        .get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")
        .await
        .ok();
    let mut found = Vec::new();
    let mut add = |addresses: &Value, ports: &Value| {
        for address in addresses.as_array().into_iter().flatten() {
            for port in ports.as_array().into_iter().flatten() {
                let port = u16::try_from(port["port"].as_u64().unwrap()).unwrap();
                found.push((address.as_str().unwrap().parse().unwrap(), port));
            }
        }
    };
    add(&service["spec"]["clusterIPs"], &service["spec"]["ports"]);
    for endpoint in slice["endpoints"].as_array().unwrap() {
        add(&endpoint["addresses"], &slice["ports"]);
    }
    found
}

impl Place {
    async fn policies(&self) -> Result<Vec<Value>> {
        let mut policies = Vec::new();
        for (namespace, ..) in NAMESPACES {
            policies.extend(self.world.admin.items(&all("NetworkPolicy", namespace)).await?);
        }
        Ok(policies)
    }

    async fn compare(&self, said: &Declared, policies: &[Value]) -> Result<Vec<String>> {
        let simulated = self.simulator.lock().await.ask(&self.scene, policies)?;
        Ok(differences(&declared(&self.scene, said), &simulated))
    }

    /// Waits until what is there is what is declared.
    async fn settles(&self, said: &Declared) -> Vec<Value> {
        eventually(SOON, || async {
            let policies = self.policies().await?;
            let found = self.compare(said, &policies).await?;
            let shown = found[..found.len().min(40)].join("\n");
            ensure!(found.is_empty(), "{} paths differ:\n{shown}", found.len());
            Ok(policies)
        })
        .await
    }
}

#[tokio::test]
async fn every_declared_path_is_open_and_every_other_one_closed() {
    let world = World::shared().await;
    let classes = read(CLASSES_YAML);
    for class in &classes {
        let mut class = class.clone();
        class["apiVersion"] = json!("ringfence.dev/v1alpha1");
        class["kind"] = json!("AIWorkflowClass");
        world.admin.post(CLASSES, &class).await.ok();
    }
    let mut tenants = std::collections::BTreeMap::new();
    for (name, mode, class) in NAMESPACES {
        let mut labels = json!({"owner": "ml", "pod-security.kubernetes.io/enforce": "baseline"});
        if !mode.is_empty() {
            labels[mode] = json!(class);
        }
        let namespace = json!({"metadata": {"name": name, "labels": labels}});
        world.admin.post(NAMESPACES_PATH, &namespace).await.ok();
        tenants.insert(name, world.person(name, TENANT).await.1);
    }
    let declare = async |workflow: &Value| {
        let mut workflow = workflow.clone();
        workflow["apiVersion"] = json!("ringfence.dev/v1alpha1");
        workflow["kind"] = json!("AIWorkflow");
        let namespace = workflow["metadata"]["namespace"].as_str().unwrap().to_owned();
        tenants[namespace.as_str()]
            .post(&all("AIWorkflow", &namespace), &workflow)
            .await
            .ok();
    };
    let workflows = read(WORKFLOWS);
    for workflow in workflows.iter().chain(&read(INVALID)) {
        declare(workflow).await;
    }

    let api_server = api_server(&world.admin).await;
    let mut said = Declared {
        workflows,
        classes,
        cluster_ranges: cluster_ranges(),
        api_server,
    };
    let place = Place {
        scene: scene(&world.admin, &said).await,
        simulator: Mutex::new(Simulator::start().expect("the simulator")),
        world,
    };
    let policies = place.settles(&said).await;
    assert_some_are_open(&place, &policies).await;
    for (namespace, name, type_, status, reason) in [
        ("net-finance", "triage", "Ready", "True", "Fenced"),
        ("net-finance", "crawler", "Ready", "True", "Fenced"),
        ("net-finance", "summarise", "Ready", "False", "PeerDoesNotNameUs"),
        ("net-finance", "hostbits", "Accepted", "False", "Invalid"),
        ("net-finance", "mapped", "Accepted", "False", "Invalid"),
        ("net-vectors", "qdrant", "Ready", "False", "PeerMissing"),
        ("net-vectors", "beyond", "Accepted", "False", "OutsideClass"),
        ("net-trial", "pilot", "Ready", "False", "NotEnforced"),
    ] {
        place.world.condition(namespace, name, type_, status, reason).await;
    }
    each_change_of_a_policy_is_seen(&place, &said, &policies).await;
    the_network_follows_what_is_declared(&place, &mut said, &tenants["net-finance"]).await;
}

/// The cluster's own ranges, out of which no declared range opens anything.
fn cluster_ranges() -> Vec<String> {
    Vec::new()
}

/// With the labels that the API server gave the namespaces.
async fn scene(admin: &Actor, said: &Declared) -> Scene {
    let mut namespaces = std::collections::BTreeMap::new();
    for name in NAMESPACES.map(|(name, ..)| name).into_iter().chain(["kube-system"]) {
        let namespace = admin.get(&format!("{NAMESPACES_PATH}/{name}")).await.ok();
        let labels: Labels = serde_json::from_value(namespace["metadata"]["labels"].clone()).unwrap();
        namespaces.insert(name.to_owned(), labels);
    }
    let mut addresses: BTreeSet<IpAddr> = ADDRESSES.map(|ip| ip.parse().unwrap()).into();
    addresses.extend(said.api_server.iter().map(|(ip, _)| *ip));
    Scene {
        namespaces,
        pods: pods(),
        addresses: addresses.into_iter().collect(),
        ports: ports(port_numbers(&said.workflows, &said.api_server)),
    }
}

/// By name, so that nobody has to believe that two empty matrices are alike; and what must be shut whatever is said elsewhere.
async fn assert_some_are_open(place: &Place, policies: &[Value]) {
    let open = open_paths(&place.simulator.lock().await.ask(&place.scene, policies).unwrap());
    for path in [
        "net-finance/triage-1 -> net-vectors/qdrant:6334/TCP",
        "net-finance/triage-2 -> net-finance/summarise:7005/TCP",
        "net-finance/triage-2 -> net-finance/summarise:514/UDP",
        "net-finance/triage-1 -> net-shop/till:5000/SCTP",
        "net-finance/triage-1 -> net-shop/triage:5000/SCTP",
        "net-finance/triage-1 -> 203.0.113.127:443/TCP",
        "net-finance/summarise -> net-finance/cache:6379/TCP",
        "net-finance/crawler -> 2001:db8::1:65535/UDP",
        "net-finance/crawler -> kube-system/dns:53/UDP",
        "net-vectors/qdrant -> 169.254.20.10:53/TCP",
        "net-vectors/qdrant -> 192.0.2.1:6443/TCP",
        "net-vectors/beyond -> 203.0.113.200:443/TCP",
        "net-shop/web -> net-finance/triage-1:8080/TCP",
        "198.51.100.63 -> net-finance/triage-1:8443/TCP",
        "net-trial/pilot -> net-shop/web:8080/TCP",
        // Under warn a pod without the label is as free as before.
        "net-trial/bare -> 203.0.113.0:22/TCP",
        "net-shop/web -> net-trial/bare:22/TCP",
    ] {
        assert!(open.contains(path), "{path} is not open");
    }
    let none = |what: &str, is: &dyn Fn(&str, &str) -> bool| {
        let found = open
            .iter()
            .find(|path| path.split_once(" -> ").is_some_and(|(from, to)| is(from, to)));
        assert_eq!(found, None, "{what}");
    };
    let fenced =
        |pod: &str| pod.starts_with("net-finance/") || pod.starts_with("net-vectors/") || pod.starts_with("net-quiet/");
    none("a fenced pod asks for a cloud's credentials", &|from, to| {
        let metadata = [
            "169.254.169.254:",
            "169.254.170.",
            "168.63.129.16:",
            "100.100.100.200:",
            "fd00:ec2::",
            "64:ff9b::",
            "::ffff:",
        ];
        fenced(from) && metadata.iter().any(|address| to.starts_with(address))
    });
    none("a path of a namespace where nobody declared anything", &|from, to| {
        from.starts_with("net-quiet/") || to.starts_with("net-quiet/")
    });
    let nobodys = ["stray-cache", "of-elsewhere", "bare", "hostbits", "mapped"];
    none("a path of a fenced pod that is no workflow's", &|from, to| {
        let is = |end: &str| fenced(end) && nobodys.iter().any(|name| end.contains(name));
        is(from) || is(to)
    });
}

/// Each of these once was, or could be, a bug. A comparison that does not see it is worth nothing.
async fn each_change_of_a_policy_is_seen(place: &Place, said: &Declared, policies: &[Value]) {
    let of = |workflow: &str| format!("ringfence-{workflow}-allow-");
    let change = |name: &str, namespace: &str, pointer: &str, value: Value| {
        let mut changed = policies.to_vec();
        let policy = changed.iter_mut().find(|policy| {
            let metadata = &policy["metadata"];
            metadata["namespace"] == namespace && metadata["name"].as_str().is_some_and(|is| is.starts_with(name))
        });
        let place = policy.expect("the policy").pointer_mut(pointer);
        *place.unwrap_or_else(|| panic!("{name} has no {pointer}")) = value;
        changed
    };
    let cases = [
        (
            "a port less",
            change(
                &of("triage"),
                "net-finance",
                "/spec/egress/1/ports",
                json!([{"port": 1}]),
            ),
            "net-finance/triage-1 -> net-vectors/qdrant:6334/TCP: declared open, simulated closed by the source",
        ),
        (
            "a protocol more",
            change(
                &of("cache"),
                "net-finance",
                "/spec/ingress/0/ports/0",
                json!({"port": 6379, "protocol": "UDP"}),
            ),
            "net-finance/summarise -> net-finance/cache:6379/TCP: declared open, simulated closed by the destination",
        ),
        (
            "a range that is a port longer",
            change(
                &of("triage"),
                "net-finance",
                "/spec/egress/2/ports/0/endPort",
                json!(7011),
            ),
            "net-finance/triage-1 -> net-finance/summarise:7011/TCP: declared closed by the source, simulated open",
        ),
        (
            "a peer of every namespace",
            change(
                &of("qdrant"),
                "net-vectors",
                "/spec/ingress/0/from/0/namespaceSelector",
                json!({}),
            ),
            "net-vectors/of-elsewhere -> net-vectors/qdrant:6334/TCP: declared closed by both ends, simulated closed by the source",
        ),
        (
            "a peer of every pod",
            change(&of("pilot"), "net-trial", "/spec/egress/1/to/0/podSelector", json!({})),
            "net-trial/pilot -> net-shop/till:8080/TCP: declared closed by the source, simulated open",
        ),
        (
            "an exception forgotten",
            change(
                &of("crawler"),
                "net-finance",
                "/spec/egress/1/to/1/ipBlock/except",
                json!([]),
            ),
            "net-finance/crawler -> 169.254.169.254:443/TCP: declared closed by the source, simulated open",
        ),
        (
            "a rule that lost its peers",
            change(&of("beyond"), "net-vectors", "/spec/egress/1/to", json!([])),
            "net-vectors/beyond -> net-shop/web:443/TCP: declared closed by the source, simulated open",
        ),
        (
            "a default-deny that denies nothing out",
            change("ringfence", "net-quiet", "/spec/policyTypes", json!(["Ingress"])),
            "net-quiet/bare -> 203.0.113.0:443/TCP: declared closed by the source, simulated open",
        ),
    ];
    for (what, changed, expected) in cases {
        let found = place.compare(said, &changed).await.unwrap();
        assert!(
            found.iter().any(|line| line == expected),
            "{what}: {expected}\nis not among:\n{}",
            found.join("\n")
        );
    }
    let without = |name: &str| {
        policies
            .iter()
            .filter(|policy| policy["metadata"]["name"] != name)
            .cloned()
            .collect::<Vec<_>>()
    };
    let found = place.compare(said, &without("ringfence")).await.unwrap();
    let expected = "net-shop/web -> net-quiet/bare:22/TCP: declared closed by the destination, simulated open";
    assert!(found.iter().any(|line| line == expected), "{}", found.join("\n"));
}

/// A tenant's edit, and a workflow that goes: the matrix is the new one, whole.
async fn the_network_follows_what_is_declared(place: &Place, said: &mut Declared, tenant: &Actor) {
    let path = one("AIWorkflow", "net-finance", "triage");
    let at = said
        .workflows
        .iter()
        .position(|workflow| workflow["metadata"]["name"] == "triage")
        .unwrap();
    let triage = &mut said.workflows[at]["spec"]["network"];
    triage["egress"]
        .as_array_mut()
        .unwrap()
        .retain(|rule| rule["name"] != "bank" && rule["name"] != "api-server");
    triage["ingress"][1]["from"] = json!({"cidrs": ["198.51.100.64/26"]});
    tenant.patch(&path, &json!({"spec": {"network": triage}})).await.ok();
    place.settles(said).await;

    said.workflows
        .retain(|workflow| workflow["metadata"]["name"] != "crawler");
    tenant.delete(&one("AIWorkflow", "net-finance", "crawler")).await.ok();
    place.settles(said).await;
    let triage = place
        .world
        .condition("net-finance", "triage", "Ready", "True", "Fenced")
        .await;
    assert_eq!(condition(&triage, "Accepted")["status"], "True");
}
