//! The network that people declare is the network that there is: what the operator made of their declarations, read back
//! from the API server and given to somebody else's implementation of NetworkPolicy, opens every declared path and no other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use support::network::{Declared, Labels, Pod, Scene, Simulator, declared, differences, open_paths, ports};
use support::{RELEASE_NAMESPACE, eventually};
use tokio::sync::Mutex;

use crate::world::{Actor, CLASSES, NAMESPACES as NAMESPACES_PATH, SOON, TENANT, World, all, condition, one, unasked};

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

/// `tests/fixtures/network.yaml`.
#[derive(Deserialize)]
struct Story {
    classes: Vec<Value>,
    workflows: Vec<Value>,
    invalid: Vec<Value>,
    pods: Vec<Pod>,
    addresses: Vec<IpAddr>,
}

/// The story, with what every object of a kind has in common.
fn story() -> Story {
    let mut story: Story =
        serde_saphyr::from_str(include_str!("../fixtures/network.yaml")).expect("the fixture can be read");
    for class in &mut story.classes {
        class["apiVersion"] = json!("ringfence.dev/v1alpha1");
        class["kind"] = json!("AIWorkflowClass");
    }
    for workflow in story.workflows.iter_mut().chain(&mut story.invalid) {
        workflow["apiVersion"] = json!("ringfence.dev/v1alpha1");
        workflow["kind"] = json!("AIWorkflow");
        workflow["spec"]["launchers"] = json!([{"user": "lea"}]);
        workflow["spec"]["images"] = json!(["registry.example.com/finance/**"]);
    }
    story
}

struct Place {
    world: World,
    simulator: Mutex<Simulator>,
    scene: Scene,
}

/// Each declared port, both its neighbours, and those that somebody would try.
fn port_numbers(workflows: &[Value], api_server: &[(IpAddr, u16)]) -> BTreeSet<u16> {
    let mut numbers = BTreeSet::from([22, 53, 443, 3127, 3128, 6443]);
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
        Ok(differences(&self.scene, &declared(&self.scene, said), &simulated))
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
    let story = story();
    for class in &story.classes {
        world.admin.post(CLASSES, class).await.ok();
    }
    let mut tenants = std::collections::BTreeMap::new();
    for (name, mode, class) in NAMESPACES {
        let mut labels = json!({"owner": "ml", "pod-security.kubernetes.io/enforce": "restricted"});
        if !mode.is_empty() {
            labels[mode] = json!(class);
        }
        let namespace = json!({"metadata": {"name": name, "labels": labels}});
        world.admin.post(NAMESPACES_PATH, &namespace).await.ok();
        tenants.insert(name, world.person(name, TENANT).await.1);
    }
    let declare = async |workflow: &Value| {
        let namespace = workflow["metadata"]["namespace"].as_str().unwrap();
        tenants[namespace].post(&all("AIWorkflow", namespace), workflow).await
    };
    for workflow in &story.workflows {
        declare(workflow).await.ok();
    }
    for workflow in &story.invalid {
        declare(workflow).await.refused_by("valid-declaration");
        // As an older version let it in.
        let namespace = workflow["metadata"]["namespace"].as_str().unwrap();
        let unasked = unasked(world.cluster).await;
        unasked.post(&all("AIWorkflow", namespace), workflow).await.ok();
    }

    let api_server = api_server(&world.admin).await;
    let scene = scene(&world.admin, &story, &api_server).await;
    // Of an invalid one stands what is valid: here all but its range that cannot be read.
    let mut workflows = story.workflows;
    for mut workflow in story.invalid {
        let egress = workflow["spec"]["network"]["egress"].as_array_mut().unwrap();
        egress.retain(|rule| rule["to"].get("cidrs").is_none());
        workflows.push(workflow);
    }
    let mut said = Declared {
        workflows,
        classes: story.classes,
        cluster_ranges: Some(cluster_ranges(&world.admin).await),
        api_server,
        egress_proxy: Some(RELEASE_NAMESPACE.to_owned()),
    };
    let place = Place {
        scene,
        simulator: Mutex::new(Simulator::start().expect("the simulator")),
        world,
    };
    let policies = place.settles(&said).await;
    assert_some_are_open(&place, &policies).await;
    for (namespace, name, type_, status, reason) in [
        ("net-finance", "triage", "Ready", "True", "Fenced"),
        ("net-finance", "crawler", "Ready", "True", "Fenced"),
        ("net-finance", "hostbits", "Accepted", "False", "Invalid"),
        ("net-finance", "mapped", "Accepted", "False", "Invalid"),
        ("net-finance", "summarise", "Ready", "False", "PeerDoesNotNameUs"),
        ("net-vectors", "qdrant", "Ready", "False", "PeerMissing"),
        ("net-vectors", "exporter", "Ready", "True", "Fenced"),
        ("net-vectors", "beyond", "Accepted", "False", "OutsideClass"),
        ("net-finance", "inside", "Accepted", "False", "OutsideClass"),
        ("net-finance", "asker", "Accepted", "False", "OutsideClass"),
        ("net-trial", "pilot", "Ready", "False", "NotEnforced"),
    ] {
        place.world.condition(namespace, name, type_, status, reason).await;
    }
    each_change_of_a_policy_is_seen(&place, &said, &policies).await;
    the_network_follows_what_is_declared(&place, &mut said, &tenants["net-finance"]).await;
}

/// The cluster's own ranges, where no class says them: those of Services, for this cluster has no node.
async fn cluster_ranges(admin: &Actor) -> Vec<String> {
    let ranges = admin.items("/apis/networking.k8s.io/v1/servicecidrs").await.unwrap();
    let ranges = ranges
        .iter()
        .flat_map(|range| range["spec"]["cidrs"].as_array().unwrap());
    ranges.map(|range| range.as_str().unwrap().to_owned()).collect()
}

/// With the labels that the API server gave the namespaces.
async fn scene(admin: &Actor, story: &Story, api_server: &[(IpAddr, u16)]) -> Scene {
    let mut namespaces = std::collections::BTreeMap::new();
    for name in NAMESPACES
        .map(|(name, ..)| name)
        .into_iter()
        .chain(["kube-system", RELEASE_NAMESPACE])
    {
        let namespace = admin.get(&format!("{NAMESPACES_PATH}/{name}")).await.ok();
        let labels: Labels = serde_json::from_value(namespace["metadata"]["labels"].clone()).unwrap();
        namespaces.insert(name.to_owned(), labels);
    }
    let mut addresses: BTreeSet<IpAddr> = story.addresses.iter().copied().collect();
    addresses.extend(api_server.iter().map(|(ip, _)| *ip));
    Scene {
        namespaces,
        pods: story.pods.clone(),
        addresses: addresses.into_iter().collect(),
        ports: ports(port_numbers(&story.workflows, api_server)),
    }
}

/// By name, so that nobody has to believe that two empty matrices are alike; and what must be shut whatever is declared.
async fn assert_some_are_open(place: &Place, policies: &[Value]) {
    let simulated = place.simulator.lock().await.ask(&place.scene, policies).unwrap();
    let open = open_paths(&place.scene, &simulated);
    for path in [
        "net-finance/triage-1 -> net-vectors/qdrant:6334/TCP",
        "net-finance/triage-2 -> net-finance/summarise:7005/TCP",
        "net-finance/triage-2 -> net-finance/summarise:514/UDP",
        "net-finance/triage-1 -> net-shop/till:5000/SCTP",
        "net-finance/triage-1 -> 203.0.113.127:443/TCP",
        "net-finance/summarise -> net-finance/cache:6379/TCP",
        "net-finance/crawler -> 2001:db8::1:65535/UDP",
        "net-finance/crawler -> kube-system/dns:53/UDP",
        "net-finance/asker -> ringfence-system/egress:3128/TCP",
        "net-finance/inside -> 203.0.113.200:443/TCP",
        "net-finance/hostbits -> kube-system/dns:53/UDP",
        "net-finance/mapped -> 169.254.20.10:53/TCP",
        "net-vectors/exporter -> 10.7.0.1:3306/TCP",
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
    none("a path by a range that cannot be read", &|from, to| {
        let is_invalid = |end: &str| {
            ["net-finance/hostbits", "net-finance/mapped"]
                .iter()
                .any(|name| end.starts_with(name))
        };
        let is_dns = ["kube-system/dns:53/", "169.254.20.10:53/"]
            .iter()
            .any(|dns| to.starts_with(dns));
        is_invalid(to) || is_invalid(from) && !is_dns
    });
    let nobodys = ["stray-cache", "of-elsewhere", "bare"];
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
