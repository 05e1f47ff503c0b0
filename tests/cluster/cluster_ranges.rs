//! The cluster's own ranges stay closed, whatever a workflow declares: on a control plane of its own, because its Nodes and
//! ServiceCIDRs are every namespace's.

use std::time::{Duration, Instant};

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::{ControlPlane, Options, Ringfence, eventually};

use crate::world::{
    Actor, BINARY, CLASSES, SOON, all, condition, in_force, master, namespace, one, pod, tenant_everywhere, workflow,
};

const CLASS: &str = "/apis/ringfence.dev/v1alpha1/aiworkflowclasses/ranges";
const NODES: &str = "/api/v1/nodes";
const SERVICE_CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const OWN_ROLE: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ringfence";
/// A new node reaches every fence in that time.
const QUICK: Duration = Duration::from_secs(20);

struct Scene {
    cluster: ControlPlane,
    admin: Actor,
    tess: Actor,
    lea: Actor,
    ns: String,
}

#[tokio::test]
async fn what_is_the_clusters_own_stays_closed() {
    let cluster = ControlPlane::start(Options::default()).expect("a control plane");
    let quiet = ["--scan-period=0".to_owned()];
    let ringfence = cluster.start_ringfence_with(BINARY, &Value::Null, &quiet).await;
    let ringfence = ringfence.expect("ringfence");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let class = json!({"images": {"allowed": ["**"]}, "network": {"cidrs": ["0.0.0.0/0", "::/0"]}});
    let class = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "ranges"}, "spec": class});
    admin.post(CLASSES, &class).await.ok();
    let ns = namespace(&admin, "ranges", &json!({"ringfence.dev/enforce": "ranges"})).await;
    let lea = master(&cluster, "lea", &[]).await;
    let tess = tenant_everywhere(&cluster, &admin).await;
    let scene = Scene {
        cluster,
        admin,
        tess,
        lea,
        ns,
    };
    services_are_carved_out(&scene).await;
    a_node_reaches_the_fences_and_its_heartbeats_write_nothing(&scene).await;
    what_lies_inside_is_refused(&scene).await;
    what_cannot_be_detected_closes_every_range(&scene).await;
    too_many_ranges_are_not_detected(&scene).await;
    a_right_that_is_missing_is_said(&scene, ringfence).await;
}

impl Scene {
    async fn declare(&self, name: &str, network: &Value) {
        let object = workflow(name, &json!({"network": network}));
        self.tess.post(&all("AIWorkflow", &self.ns), &object).await.ok();
    }

    async fn ready(&self, name: &str, status: &str, reason: &str) -> Value {
        let path = one("AIWorkflow", &self.ns, name);
        eventually(SOON, || async {
            let workflow = self.admin.read(&path).await?;
            let found = condition(&workflow, "Ready");
            ensure!(
                found["status"] == status && found["reason"] == reason,
                "{name}: {}",
                workflow["status"]
            );
            Ok(workflow)
        })
        .await
    }

    /// Waits until the class says that of the ranges.
    async fn class_says(&self, reason: &str, part: &str) {
        eventually(SOON, || async {
            let class = self.admin.read(CLASS).await?;
            let found = condition(&class, "ClusterRangesKnown");
            let message = found["message"].as_str().unwrap_or_default();
            ensure!(
                found["reason"] == reason && message.contains(part),
                "{}",
                class["status"]
            );
            Ok(())
        })
        .await;
    }

    fn policy(&self) -> String {
        one("NetworkPolicy", &self.ns, &owned_name(&self.ns, "world", "allow"))
    }

    /// What of the cluster is carved out of what is open: every exception that is no metadata service.
    async fn carved(&self) -> anyhow::Result<Vec<String>> {
        let policy = self.admin.read(&self.policy()).await?;
        let lists = [("ingress", "from"), ("egress", "to")];
        let rules = lists.into_iter().flat_map(|(list, peers)| {
            let rules = policy["spec"][list].as_array().into_iter().flatten();
            rules.flat_map(move |rule| rule[peers].as_array().into_iter().flatten())
        });
        let metadata = [
            "168.63.",
            "169.254.",
            "100.100.100.",
            "100.80.80.80",
            "100.96.0.96",
            "fd00:100::100:200",
            "192.0.0.192",
            "fd00:42:",
            "fd00:a9fe:a9fe:",
            "fd00:ec2:",
            "fd00:c1:",
            "fd20:ce:",
            "fe80:",
            "64:ff9b:",
        ];
        let mut found: Vec<_> = rules
            .flat_map(|peer| peer["ipBlock"]["except"].as_array().into_iter().flatten())
            .filter_map(|except| except.as_str())
            .filter(|except| !metadata.iter().any(|start| except.starts_with(start)))
            .map(str::to_owned)
            .collect();
        found.sort();
        found.dedup();
        Ok(found)
    }

    async fn carves(&self, expected: &[&str]) {
        eventually(SOON, || async {
            let found = self.carved().await?;
            ensure!(found == expected, "carved out: {found:?}");
            Ok(())
        })
        .await;
    }

    async fn node(&self, name: &str, pods: &[&str], addresses: &[&str]) {
        let spec = match pods {
            [] => json!({}),
            [first, ..] => json!({"podCIDR": first, "podCIDRs": pods}),
        };
        self.admin
            .post(NODES, &json!({"metadata": {"name": name}, "spec": spec}))
            .await
            .ok();
        let addresses: Vec<_> = addresses
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .chain([json!({"type": "Hostname", "address": name})])
            .collect();
        let status = json!({"status": {"addresses": addresses}});
        self.admin
            .strategic(&format!("{NODES}/{name}/status"), &status)
            .await
            .ok();
    }
}

async fn services_are_carved_out(scene: &Scene) {
    let range = |name: &str, range: &str| json!({"name": name, "to": {"cidrs": [range]}, "ports": [{"port": 443}]});
    let network = json!({
        "ingress": [{"name": "all", "from": {"cidrs": ["0.0.0.0/0"]}, "ports": [{"port": 443}]}],
        "egress": [
            range("lower", "0.0.0.0/1"), range("upper", "128.0.0.0/1"), range("six", "::/0"),
            {"name": "api-server", "to": {"apiServer": {}}},
        ],
    });
    scene.declare("world", &network).await;
    let pods =
        json!({"name": "db", "to": {"pods": {"selector": {"matchLabels": {"app": "db"}}}}, "ports": [{"port": 5432}]});
    scene.declare("plain", &json!({"egress": [pods]})).await;
    scene.ready("world", "True", "Fenced").await;
    scene.class_says("Detected", "ServiceCIDRs and Nodes").await;
    scene.carves(&["10.96.0.0/16"]).await;
    let policy = scene.admin.get(&scene.policy()).await.ok();
    let block = &policy["spec"]["egress"][3]["to"][0]["ipBlock"];
    assert_eq!(block["cidr"], "::/0");
    assert!(
        block["except"]
            .as_array()
            .unwrap()
            .contains(&json!("64:ff9b::a60:0/112")),
        "through NAT64 as well: {block}"
    );

    let more = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.112.0.0/20"]}});
    scene.admin.post(SERVICE_CIDRS, &more).await.ok();
    scene.carves(&["10.112.0.0/20", "10.96.0.0/16"]).await;
}

async fn a_node_reaches_the_fences_and_its_heartbeats_write_nothing(scene: &Scene) {
    // Whoever may write EndpointSlices there would else say where the API server is.
    let foreign = json!({
        "metadata": {"name": "kubernetes-2", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["203.0.113.66"]}], "ports": [{"name": "https", "port": 6443}],
    });
    scene.admin.post(SLICES, &foreign).await.ok();
    let started = Instant::now();
    scene
        .node("a", &["10.244.0.0/24", "fd00:244::/64"], &["198.18.0.7", "fd00:18::7"])
        .await;
    scene
        .carves(&[
            "10.112.0.0/20",
            "10.244.0.0/24",
            "10.96.0.0/16",
            "198.18.0.7/32",
            "fd00:18::7/128",
            "fd00:244::/64",
        ])
        .await;
    assert!(started.elapsed() < QUICK, "{:?}", started.elapsed());
    let policy = scene.admin.get(&scene.policy()).await.ok().to_string();
    assert!(
        policy.contains("192.0.2.1/32") && !policy.contains("203.0.113.66"),
        "{policy}"
    );

    scene.ready("world", "True", "Fenced").await;
    let versions = || async {
        let mut versions = Vec::new();
        for path in [CLASS.to_owned(), scene.policy(), one("AIWorkflow", &scene.ns, "world")] {
            versions.push(scene.admin.get(&path).await.ok()["metadata"]["resourceVersion"].clone());
        }
        versions
    };
    // The status follows the policy.
    let before = eventually(QUICK, || async {
        let before = versions().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        ensure!(versions().await == before, "they are written still");
        Ok(before)
    })
    .await;
    for round in 0..5 {
        let beat = json!({"type": "Ready", "status": "True", "reason": "x", "lastHeartbeatTime": format!("2026-11-22T08:00:0{round}Z")});
        let change = json!({"metadata": {"labels": {"round": round.to_string()}}, "status": {"conditions": [beat]}});
        scene.admin.strategic(&format!("{NODES}/a/status"), &change).await.ok();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(versions().await, before, "class, policy and workflow are left alone");
}

async fn what_lies_inside_is_refused(scene: &Scene) {
    let inside = json!({"egress": [{"name": "x", "to": {"cidrs": ["10.244.0.128/25"]}, "ports": [{"port": 443}]}]});
    scene.declare("inside", &inside).await;
    let refused = scene.ready("inside", "False", "OutsideClass").await;
    let message = condition(&refused, "Accepted")["message"].as_str().unwrap();
    for part in [
        "spec.network.egress[0].to.cidrs[0]",
        "the cluster's own ranges (10.244.0.0/24)",
        "name pods or a workflow",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    let answer = scene.lea.post(&all("Pod", &scene.ns), &pod("inside", "inside")).await;
    assert!(answer.refused_by("declared-workflow").contains("10.244.0.0/24"));
    scene
        .lea
        .post(&all("Pod", &scene.ns), &pod("world", "world"))
        .await
        .ok();
}

/// A network plugin with pools of its own: where its pods are, no Node says.
async fn what_cannot_be_detected_closes_every_range(scene: &Scene) {
    // A new one is waited for, and closes nothing meanwhile; what never gets a range does.
    scene.node("b", &[], &["198.18.0.8"]).await;
    eventually(SOON, || async {
        let carved = scene.carved().await?;
        ensure!(carved.iter().any(|range| range == "198.18.0.8/32"), "{carved:?}");
        Ok(())
    })
    .await;
    scene.class_says("Detected", "ServiceCIDRs and Nodes").await;
    scene
        .class_says("NotDetected", "1 of 2 Nodes have no spec.podCIDRs")
        .await;
    scene.admin.delete(&format!("{NODES}/a")).await.ok();
    let started = Instant::now();
    scene.class_says("NotDetected", "no Node has spec.podCIDRs").await;
    // What was known closes still, and opens nothing.
    let status = scene.admin.get(CLASS).await.ok()["status"].clone();
    let known = status["lastKnownRanges"].as_array().unwrap();
    assert!(
        status.get("cluster").is_none() && known.contains(&json!("10.244.0.0/24")),
        "{status}"
    );
    let refused = scene.ready("world", "False", "OutsideClass").await;
    assert!(started.elapsed() < QUICK, "{:?}", started.elapsed());
    let message = condition(&refused, "Accepted")["message"].as_str().unwrap();
    assert!(
        message.contains("spec.cluster.clusterCIDRs of AIWorkflowClass ranges"),
        "{message}"
    );
    let policy = scene.admin.get(&scene.policy()).await.ok();
    assert!(policy["spec"].get("ingress").is_none(), "{policy}");
    let blocks: Vec<_> = policy["spec"]["egress"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["to"].to_string())
        .collect();
    assert_eq!(blocks.len(), 3, "DNS, and the API server at two addresses: {policy}");
    for (block, part) in blocks.iter().zip(["kube-dns", "10.96.0.1/32", "192.0.2.1/32"]) {
        assert!(block.contains(part), "{part}: {policy}");
    }
    let answer = scene.lea.post(&all("Pod", &scene.ns), &pod("world-2", "world")).await;
    assert!(answer.refused_by("declared-workflow").contains("clusterCIDRs"));
    // Nobody else is held back.
    scene.ready("plain", "True", "Fenced").await;
    scene
        .lea
        .post(&all("Pod", &scene.ns), &pod("plain", "plain"))
        .await
        .ok();

    let declare = |ranges: Value| json!({"spec": {"cluster": {"clusterCIDRs": ranges}}});
    let ranges = json!(["10.0.0.0/8", "192.168.0.0/16"]);
    scene.admin.patch(CLASS, &declare(ranges)).await.ok();
    scene.class_says("Declared", "spec.cluster.clusterCIDRs").await;
    scene.ready("world", "True", "Fenced").await;
    scene.carves(&["10.0.0.0/8", "192.168.0.0/16"]).await;
    let unreadable = scene.admin.patch(CLASS, &declare(json!(["10.0.0.1/8"]))).await;
    assert!(
        unreadable
            .refused_by("valid-declaration")
            .contains("spec.cluster.clusterCIDRs[0]")
    );
    scene.admin.patch(CLASS, &json!({"spec": {"cluster": null}})).await.ok();
}

async fn too_many_ranges_are_not_detected(scene: &Scene) {
    let addresses: Vec<_> = (0..600)
        .map(|n| format!("198.19.{}.{}", n / 100, n % 100 * 2))
        .collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    scene.node("c", &["10.244.2.0/24"], &addresses).await;
    scene.admin.delete(&format!("{NODES}/b")).await.ok();
    scene.class_says("NotDetected", "512 are the most").await;
    scene.admin.delete(&format!("{NODES}/c")).await.ok();
    scene.ready("world", "True", "Fenced").await;
    scene.carves(&["10.112.0.0/20", "10.96.0.0/16"]).await;
    let status = scene.admin.get(CLASS).await.ok()["status"].clone();
    assert!(status.get("lastKnownRanges").is_none(), "{status}");
}

async fn a_right_that_is_missing_is_said(scene: &Scene, ringfence: Ringfence) {
    let role = scene.admin.get(OWN_ROLE).await.ok();
    let rules = role["rules"].as_array().unwrap();
    let without: Vec<_> = rules
        .iter()
        .filter(|rule| rule["resources"] != json!(["nodes"]))
        .collect();
    assert_eq!(without.len() + 1, rules.len());
    let (port, metrics_port) = (ringfence.port, ringfence.metrics_port);
    ringfence.kill();
    scene.admin.patch(OWN_ROLE, &json!({"rules": without})).await.ok();
    let ringfence = scene.cluster.spawn_ringfence(BINARY, port, metrics_port).await;
    let ringfence = ringfence.expect("ready all the same");
    scene.class_says("NotDetected", "Nodes cannot be read").await;
    scene.class_says("NotDetected", "needs list and watch on nodes").await;
    scene.ready("world", "False", "OutsideClass").await;

    // A list without a watch: seldom asked for, and all the same it tells of what is new.
    let mut listed = rules.clone();
    for rule in listed.iter_mut().filter(|rule| rule["resources"] == json!(["nodes"])) {
        rule["verbs"] = json!(["list"]);
    }
    scene.admin.patch(OWN_ROLE, &json!({"rules": listed})).await.ok();
    scene.ready("world", "True", "Fenced").await;
    ringfence.kill();
    let ringfence = scene.cluster.spawn_ringfence(BINARY, port, metrics_port).await;
    let _ringfence = ringfence.expect("ready with a list alone");
    scene.ready("world", "True", "Fenced").await;
    let before = lists_of_nodes(&scene.admin).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let lists = lists_of_nodes(&scene.admin).await - before;
    assert!(lists <= 10.0, "{lists} lists of Nodes in ten seconds");
    scene.node("d", &["10.244.4.0/24"], &[]).await;
    scene.carves(&["10.112.0.0/20", "10.244.4.0/24", "10.96.0.0/16"]).await;
    scene.admin.delete(&format!("{NODES}/d")).await.ok();
    scene.admin.patch(OWN_ROLE, &json!({"rules": rules})).await.ok();
    scene.carves(&["10.112.0.0/20", "10.96.0.0/16"]).await;
}

/// Lists of Nodes that the API server has answered, to whomever.
async fn lists_of_nodes(admin: &Actor) -> f64 {
    let metrics = admin.text("/metrics").await;
    let of_nodes = metrics.lines().filter(|line| {
        let parts = ["apiserver_request_total{", "resource=\"nodes\"", "verb=\"LIST\""];
        parts.iter().all(|part| line.contains(part))
    });
    let counts = of_nodes.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    counts.sum()
}
