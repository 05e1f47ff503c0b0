//! By what pods reach the domains that their workflow declares: as the class says, and as the cluster has it, while definitions of Cilium's
//! come, go for a moment, and come back. On a control plane of its own: which kinds are served is the whole cluster's.

use anyhow::{Context, ensure};
use ringfence::plan::owned_name;
use serde_json::{Value, json};
use support::{ControlPlane, Identity, Options, eventually};

use crate::diff::diff_as;
use crate::objects::{CLUSTER_POLICIES, cilium_definition, cluster_policy, cluster_policy_definition};
use crate::world::{
    Actor, BINARY, CLASSES, NAMESPACES, SOON, World, all, condition, in_force, one, tenant_everywhere, unasked,
    workflow,
};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ciliumnetworkpolicies.cilium.io";

/// A control plane without an egress proxy, where Ringfence may write policies of network plugins as far as the chart says.
async fn world(flags: &[&str]) -> World {
    let cluster: &'static ControlPlane = Box::leak(Box::new(
        ControlPlane::start(Options::default()).expect("a control plane"),
    ));
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let values = json!({"egress": {"cilium": {"enabled": true}, "clusterNetworkPolicy": {"enabled": true}}});
    let ringfence = cluster.start_ringfence_with(BINARY, &values, &flags).await;
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let tess = tenant_everywhere(cluster, &admin).await;
    World {
        cluster,
        ringfence: Box::leak(Box::new(ringfence.expect("ringfence"))),
        admin,
        tess,
    }
}

/// A workflow with a domain under a class of its own.
struct Place<'a> {
    world: &'a World,
    ns: String,
    class: String,
}

impl<'a> Place<'a> {
    async fn new(world: &'a World, mode: &str, egress: Value) -> Self {
        let mut spec = json!({"images": {"allowed": ["**"]}, "network": {"domains": ["*.example.com"]}});
        if !egress.is_null() {
            spec["egress"] = egress;
        }
        let class = world.class(&spec).await;
        let ns = world
            .namespace("backend", &json!({format!("ringfence.dev/{mode}"): class}))
            .await;
        let declared = workflow("triage", &declaring(&["api.example.com"]));
        world.tess.post(&all("AIWorkflow", &ns), &declared).await.ok();
        Self { world, ns, class }
    }

    fn path(&self, kind: &str, part: &str) -> String {
        one(kind, &self.ns, &owned_name(&self.ns, "triage", part))
    }

    async fn says(&self, type_: &'static str, status: &'static str, reason: &'static str) -> Value {
        self.world.condition(&self.ns, "triage", type_, status, reason).await
    }

    /// Waits until the status says that this is the backend.
    async fn reached_by(&self, backend: Value) {
        eventually(SOON, || async {
            let workflow = self.world.admin.read(&one("AIWorkflow", &self.ns, "triage")).await?;
            let said = &workflow["status"]["egress"]["backend"];
            ensure!(*said == backend, "{said} is not {backend}: {}", workflow["status"]);
            Ok(())
        })
        .await;
    }

    /// Waits until Cilium's policy opens these names and no others.
    async fn opens(&self, names: &[&str]) -> Value {
        let wanted: Vec<_> = names.iter().map(|name| json!({"matchName": name})).collect();
        eventually(SOON, || async {
            let policy = self
                .world
                .admin
                .read(&self.path("CiliumNetworkPolicy", "domains"))
                .await?;
            let egress = policy["spec"]["egress"].as_array().into_iter().flatten();
            let opened = egress.filter_map(|rule| rule["toFQDNs"].as_array());
            let opened: Vec<_> = opened.flatten().cloned().collect();
            ensure!(opened == wanted, "{opened:?}");
            Ok(policy)
        })
        .await
    }

    /// Waits until the policy for all else opens the DNS, or does not.
    async fn dns_is_open(&self, is_open: bool) {
        eventually(SOON, || async {
            ensure!(self.opens_dns().await? == is_open, "the DNS is open: {}", !is_open);
            Ok(())
        })
        .await;
    }

    async fn opens_dns(&self) -> anyhow::Result<bool> {
        let policy = self.world.admin.read(&self.path("NetworkPolicy", "allow")).await?;
        let mut rules = policy["spec"]["egress"].as_array().into_iter().flatten();
        Ok(rules.any(|rule| rule["ports"][0]["port"] == 53))
    }

    async fn change_class(&self, egress: Value) {
        let path = format!("{CLASSES}/{}", self.class);
        self.world
            .admin
            .patch(&path, &json!({"spec": {"egress": egress}}))
            .await
            .ok();
    }
}

fn declaring(domains: &[&str]) -> Value {
    let name = |domain: &str| domain.replace('*', "all").replace('.', "-");
    let rule = |domain: &&str| json!({"name": name(domain), "to": {"domains": [domain]}, "ports": [{"port": 443}]});
    json!({"network": {"egress": domains.iter().map(rule).collect::<Vec<_>>()}})
}

async fn define(world: &World) {
    world.admin.post(DEFINITIONS, &cilium_definition()).await.ok();
}

#[tokio::test]
async fn what_the_class_names_or_the_cluster_has_is_what_pods_go_by() {
    let names = "--cluster-domain=k8s.test.example.com,sets.example.com";
    let world = &world(&["--scan-period=0", "--egress-cilium", names]).await;
    let by_itself = &Place::new(world, "enforce", Value::Null).await;
    let named = &Place::new(world, "enforce", json!({"backend": "Cilium"})).await;

    // Nothing is there: the class that names nothing keeps what every workflow has, and the other one keeps the DNS closed.
    let said = by_itself.says("Programmed", "False", "NoEgressProxy").await;
    assert!(
        condition(&said, "Programmed")["message"]
            .to_string()
            .contains("egress.enabled")
    );
    assert_eq!(said["status"]["egress"], Value::Null);
    by_itself.dns_is_open(true).await;
    by_itself.says("DnsExfiltration", "True", "Possible").await;
    let said = named.says("Ready", "False", "NoEgressBackend").await;
    assert!(
        condition(&said, "Programmed")["message"]
            .to_string()
            .contains("does not serve")
    );
    named.reached_by(json!("Cilium")).await;
    named.dns_is_open(false).await;

    // Cilium comes, and nobody touches anything.
    define(world).await;
    for place in [by_itself, named] {
        let policy = place.opens(&["api.example.com"]).await;
        let owner = &policy["metadata"]["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["name"]),
            (&json!("AIWorkflow"), &json!("triage"))
        );
        // All of it passes the bounds of the kind, and nothing of it is lost.
        let dns = &policy["spec"]["egress"][0]["toPorts"][0]["rules"]["dns"];
        assert_eq!(dns[0], json!({"matchName": "api.example.com"}));
        // The name as it is and as a pod's resolver asks for it first, and those of the namespace.
        assert_eq!(dns.as_array().map(Vec::len), Some(4 + 3), "{dns}");
        let refused = policy["spec"]["egressDeny"][0]["toCIDR"].to_string();
        assert!(refused.contains("169.254.169.254/32"), "{refused}");
        place.says("Ready", "True", "Fenced").await;
        place.says("DnsExfiltration", "False", "Closed").await;
        place.reached_by(json!("Cilium")).await;
        place.dns_is_open(false).await;
        assert!(
            !world
                .admin
                .is_there(&place.path("NetworkPolicy", "domains"))
                .await
                .unwrap()
        );
    }

    // Of the class that names nothing no wildcard above the cluster's names was refused, and Cilium would open these with it.
    let path = one("AIWorkflow", &by_itself.ns, "triage");
    let above = declaring(&["api.example.com", "*.test.example.com"]);
    world.tess.patch(&path, &json!({"spec": above})).await.ok();
    let said = by_itself.says("Programmed", "False", "WildcardDomains").await;
    let message = condition(&said, "Programmed")["message"].to_string();
    assert!(message.contains("below k8s.test.example.com"), "{message}");
    by_itself.opens(&["api.example.com"]).await;
    let class = world
        .admin
        .read(&format!("{CLASSES}/{}", by_itself.class))
        .await
        .unwrap();
    assert_eq!(class["status"]["clusterDomain"], "k8s.test.example.com");
    assert_eq!(class["status"]["clusterDomains"], json!(["sets.example.com"]));
    let one_host = declaring(&["api.example.com"]);
    world.tess.patch(&path, &json!({"spec": one_host})).await.ok();
    by_itself.says("Ready", "True", "Fenced").await;

    // The definition goes, with all policies: what had closed the DNS is no reason to open it.
    world.admin.delete(DEFINITION).await.ok();
    for place in [by_itself, named] {
        place.says("Programmed", "False", "NoEgressBackend").await;
        place.reached_by(json!("Cilium")).await;
        assert!(!place.opens_dns().await.unwrap());
    }
    world.admin.gone(DEFINITION).await;
    define(world).await;
    for place in [by_itself, named] {
        place.opens(&["api.example.com"]).await;
        place.says("Ready", "True", "Fenced").await;
    }

    // The declaration changes, and its last domain goes.
    let path = one("AIWorkflow", &named.ns, "triage");
    let two = declaring(&["api.example.com", "b.example.com"]);
    world.tess.patch(&path, &json!({"spec": two})).await.ok();
    named.opens(&["api.example.com", "b.example.com"]).await;
    world.tess.patch(&path, &json!({"spec": {"network": null}})).await.ok();
    world.admin.gone(&named.path("CiliumNetworkPolicy", "domains")).await;
    named.dns_is_open(true).await;
    named.reached_by(Value::Null).await;
    named.says("Ready", "True", "Fenced").await;

    // The class changes to what is not there: nothing takes its place, and nothing of the other stays.
    by_itself.change_class(json!({"backend": "Proxy"})).await;
    world
        .admin
        .gone(&by_itself.path("CiliumNetworkPolicy", "domains"))
        .await;
    by_itself.says("Programmed", "False", "NoEgressProxy").await;
    by_itself.reached_by(json!("Proxy")).await;
    by_itself.dns_is_open(true).await;
    by_itself.change_class(json!({"backend": "Auto"})).await;
    by_itself.opens(&["api.example.com"]).await;

    // With the workflow it goes.
    world
        .tess
        .delete(&one("AIWorkflow", &by_itself.ns, "triage"))
        .await
        .ok();
    world
        .admin
        .gone(&by_itself.path("CiliumNetworkPolicy", "domains"))
        .await;
    let other = json!({"spec": {"egress": {"backend": "Iptables"}}});
    let answer = world
        .admin
        .patch(&format!("{CLASSES}/{}", by_itself.class), &other)
        .await;
    assert_eq!(answer.code, 422, "{}", answer.body);
}

/// The platform takes the right to write them away: what was written is still a way out, and said to be one.
#[tokio::test]
async fn what_may_not_be_taken_back_is_told() {
    let world = &world(&["--scan-period=0", "--egress-cilium"]).await;
    define(world).await;
    let place = Place::new(world, "enforce", Value::Null).await;
    place.opens(&["api.example.com"]).await;
    place.says("Ready", "True", "Fenced").await;
    // As an upgrade of the chart with egress.cilium.enabled=false leaves it.
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ringfence";
    let mut without = world.admin.get(role).await.ok();
    let rules = without["rules"].as_array_mut().unwrap();
    let before = rules.len();
    let writes_cilium = |rule: &Value| {
        rule["resources"] == json!(["ciliumnetworkpolicies"]) && rule["verbs"].to_string().contains("create")
    };
    rules.retain(|rule| !writes_cilium(rule));
    assert_eq!(rules.len(), before - 1);
    world.admin.put(role, &without).await.ok();
    place.change_class(json!({"backend": "Proxy"})).await;
    let said = place.says("Ready", "False", "Forbidden").await;
    let message = condition(&said, "Programmed")["message"].to_string();
    assert!(message.contains("delete CiliumNetworkPolicy"), "{message}");
    place.reached_by(json!("Cilium")).await;
    // The right is given back.
    without["rules"].as_array_mut().unwrap().push(
        json!({"apiGroups": ["cilium.io"], "resources": ["ciliumnetworkpolicies"], "verbs": ["get", "list", "watch", "create", "update", "delete"]}),
    );
    without["metadata"]["resourceVersion"] = Value::Null;
    world.admin.put(role, &without).await.ok();
    world.admin.gone(&place.path("CiliumNetworkPolicy", "domains")).await;
    place.says("Programmed", "False", "NoEgressProxy").await;
}

/// Where the guard on owned objects does not stand: whoever may write it does, and it is put back.
#[tokio::test]
async fn what_somebody_writes_into_it_is_put_back() {
    let world = &World::shared().await;
    let definition = world.admin.post(DEFINITIONS, &cilium_definition()).await;
    assert!(matches!(definition.code, 201 | 409), "{}", definition.body);
    let place = Place::new(world, "warn", json!({"backend": "Cilium"})).await;
    let before = place.opens(&["api.example.com"]).await;
    let path = place.path("CiliumNetworkPolicy", "domains");
    let edits = [
        json!({"spec": {"egress": [{"toEntities": ["all"]}]}}),
        json!({"spec": {"egressDeny": null}}),
        json!({"spec": {"endpointSelector": {"matchLabels": {"k8s:app": "x"}}}}),
        json!({"specs": [{"endpointSelector": {}, "egress": [{"toEntities": ["all"]}]}]}),
        json!({"metadata": {"labels": {"ringfence.dev/owner": null}}}),
    ];
    for edit in edits {
        world.admin.patch(&path, &edit).await.ok();
        eventually(SOON, || async {
            let now = world.admin.read(&path).await?;
            let parts = |object: &Value| {
                json!([
                    object["spec"],
                    object["specs"],
                    object["metadata"]["labels"],
                    object["metadata"]["annotations"]
                ])
            };
            ensure!(parts(&now) == parts(&before), "{now}");
            Ok(())
        })
        .await;
    }
    world.admin.delete(&path).await.ok();
    let again = place.opens(&["api.example.com"]).await;
    assert_ne!(again["metadata"]["uid"], before["metadata"]["uid"]);
}

/// By a ClusterNetworkPolicy: made where the class says so, kept as it is declared, and gone with whatever it was made for.
#[tokio::test]
async fn a_cluster_network_policy_stands_no_longer_than_what_it_was_made_for() {
    let world = &world(&["--scan-period=0", "--egress-cluster-network-policy"]).await;
    let admin = &world.admin;
    let chosen = json!({"backend": "ClusterNetworkPolicy", "clusterNetworkPolicy": {"priority": 40}});
    let place = &Place::new(world, "enforce", chosen.clone()).await;
    let others = &Place::new(world, "enforce", chosen.clone()).await;
    let path = &cluster_policy(&place.ns, "triage");
    let aiw = one("AIWorkflow", &place.ns, "triage");

    // Nothing is there, and nothing takes its place.
    let said = place.says("Ready", "False", "NoEgressBackend").await;
    let message = condition(&said, "Programmed")["message"].to_string();
    assert!(message.contains("does not serve"), "{message}");
    place.reached_by(chosen["backend"].clone()).await;
    place.dns_is_open(true).await;
    place.says("DnsExfiltration", "True", "Possible").await;

    admin.post(DEFINITIONS, &cluster_policy_definition()).await.ok();
    let egress = |names: &[&str]| {
        let rule = |name: &&str| {
            json!({
                "name": name.replace('.', "-"), "action": "Accept", "to": [{"domainNames": [name]}],
                "protocols": [{"tcp": {"destinationPort": {"number": 443}}}],
            })
        };
        names.iter().map(rule).collect::<Vec<_>>()
    };
    let stands = async |priority: i64, names: &[&str]| {
        let wanted = json!({
            "tier": "Admin", "priority": priority, "egress": egress(names),
            "subject": {"pods": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.ns}},
                "podSelector": {"matchLabels": {"ringfence.dev/workflow": "triage"}},
            }},
        });
        eventually(SOON, || async {
            let policy = admin.read(path).await?;
            let mut spec = policy["spec"].clone();
            let rules = spec["egress"].as_array_mut().filter(|rules| !rules.is_empty());
            // What hands out credentials is refused before anything is accepted.
            let refused = rules.context("no rule")?.remove(0);
            let refuses = |address: &str| refused["to"].to_string().contains(address);
            ensure!(
                refused["action"] == "Deny" && refuses("169.254.169.254/32") && refuses("fd00:ec2::254/128"),
                "{refused}"
            );
            ensure!(spec == wanted, "{spec} is not {wanted}");
            Ok(policy)
        })
        .await
    };
    let made = stands(40, &["api.example.com"]).await;
    place.says("Ready", "True", "Fenced").await;
    a_diff_tells_what_becomes_of_it(place).await;
    place.dns_is_open(true).await;
    let owner = &made["metadata"]["ownerReferences"];
    let namespace = admin.read(&format!("{NAMESPACES}/{}", place.ns)).await.unwrap();
    assert_eq!(
        *owner,
        json!([{"apiVersion": "v1", "kind": "Namespace", "name": place.ns, "uid": namespace["metadata"]["uid"]}])
    );

    // It follows the declaration and the class; what is written or deleted past Ringfence is put back.
    let two = declaring(&["api.example.com", "b.example.com"]);
    world.tess.patch(&aiw, &json!({"spec": two})).await.ok();
    let before = stands(40, &["api.example.com", "b.example.com"]).await;
    let ours = &unasked(world.cluster).await;
    for edit in [
        json!({"spec": {"priority": 1}}),
        json!({"spec": {"egress": egress(&["evil.example.com"])}}),
        json!({"metadata": {"finalizers": ["example.com/stay"]}}),
        json!({"metadata": {"labels": {"ringfence.dev/owner": null}}}),
    ] {
        ours.patch(path, &edit).await.ok();
        eventually(SOON, || async {
            let now = admin.read(path).await?;
            let said = |policy: &Value| {
                json!([
                    policy["spec"],
                    policy["metadata"]["labels"],
                    policy["metadata"]["finalizers"]
                ])
            };
            ensure!(said(&now) == said(&before), "{now}");
            Ok(())
        })
        .await;
    }
    admin.delete(path).await.ok();
    let again = stands(40, &["api.example.com", "b.example.com"]).await;
    assert_ne!(again["metadata"]["uid"], before["metadata"]["uid"]);
    place
        .change_class(json!({"clusterNetworkPolicy": {"priority": 41}}))
        .await;
    stands(41, &["api.example.com", "b.example.com"]).await;
    let refused = admin
        .patch(
            &format!("{CLASSES}/{}", place.class),
            &json!({"spec": {"egress": {"clusterNetworkPolicy": null}}}),
        )
        .await;
    assert_eq!(refused.code, 422, "{}", refused.body);

    // The class names another backend; the namespace does not enforce any more.
    place.change_class(json!({"backend": "Proxy"})).await;
    admin.gone(path).await;
    place.says("Programmed", "False", "NoEgressProxy").await;
    place.change_class(json!({"backend": "ClusterNetworkPolicy"})).await;
    stands(41, &["api.example.com", "b.example.com"]).await;
    let mode = async |enforce: Value, warn: Value| {
        let labels = json!({"metadata": {"labels": {"ringfence.dev/enforce": enforce, "ringfence.dev/warn": warn}}});
        admin.patch(&format!("{NAMESPACES}/{}", place.ns), &labels).await.ok();
    };
    mode(Value::Null, json!(place.class)).await;
    admin.gone(path).await;
    place.says("Programmed", "False", "NoEgressBackend").await;
    mode(json!(place.class), Value::Null).await;
    stands(41, &["api.example.com", "b.example.com"]).await;
    mode(Value::Null, Value::Null).await;
    admin.gone(path).await;
    mode(json!(place.class), Value::Null).await;
    stands(41, &["api.example.com", "b.example.com"]).await;

    // Of a workflow that was, and of another one of that name: as nobody swept while Ringfence was away.
    let left = |workflow: &str| {
        let mut left = made.clone();
        left["metadata"] = json!({
            "name": format!("ringfence.{}.{workflow}", place.ns), "ownerReferences": owner,
            "labels": {"ringfence.dev/owner": workflow}, "annotations": {"ringfence.dev/owner-uid": "of-another-life"},
        });
        left["spec"]["subject"]["pods"]["podSelector"]["matchLabels"]["ringfence.dev/workflow"] = json!(workflow);
        left
    };
    ours.post(CLUSTER_POLICIES, &left("gone")).await.ok();
    ours.post(CLUSTER_POLICIES, &left("tomorrow")).await.ok();
    let tomorrow = workflow("tomorrow", &declaring(&["api.example.com"]));
    let tomorrow = world.tess.post(&all("AIWorkflow", &place.ns), &tomorrow).await.ok();
    admin.gone(&cluster_policy(&place.ns, "gone")).await;
    eventually(SOON, || async {
        let policy = admin.read(&cluster_policy(&place.ns, "tomorrow")).await?;
        let owner = &policy["metadata"]["annotations"]["ringfence.dev/owner-uid"];
        ensure!(*owner == tomorrow["metadata"]["uid"], "{owner}");
        Ok(())
    })
    .await;

    // With the workflow it goes; with the namespace also while Ringfence is away.
    world.tess.delete(&aiw).await.ok();
    admin.gone(path).await;
    let other = &cluster_policy(&others.ns, "triage");
    eventually(SOON, || async { admin.read(other).await }).await;
    let pid = world.ringfence.pid().expect("a process").to_string();
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status();
    assert!(killed.expect("kill").success());
    admin.delete(&one("AIWorkflow", &others.ns, "triage")).await;
    admin.delete(&format!("{NAMESPACES}/{}", others.ns)).await.ok();
    admin.gone(other).await;
}

/// Beforehand: that nothing differs, what would, and that it would go. It is of the cluster, and shown so.
async fn a_diff_tells_what_becomes_of_it(place: &Place<'_>) {
    let name = format!("ringfence.{}.triage", place.ns);
    let diff = async |domains: &[&str], more: &[&str]| {
        let mut declared = workflow("triage", &declaring(domains));
        declared["metadata"]["namespace"] = json!(place.ns);
        diff_as(place.world, &Identity::Admin, &[declared], more).await
    };
    let same = diff(&["api.example.com"], &[]).await;
    assert_eq!((same.code, same.stdout.as_str()), (Some(0), ""), "{same}");
    let said = diff(&["b.example.com"], &[]).await;
    assert!(
        said.stdout.contains(&format!("--- live/ClusterNetworkPolicy/{name}\n")),
        "{said}"
    );
    let is_new = |line: &str| line.starts_with('+') && line.ends_with("- b.example.com");
    assert!(said.stdout.lines().any(is_new), "{said}");
    for (domains, change) in [(&["b.example.com"][..], "replace"), (&[], "delete")] {
        let said = diff(domains, &["-o", "json"]).await;
        let told: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        let [declaration, only] = told["changes"].as_array().expect("changes").as_slice() else {
            panic!("{told}")
        };
        assert_eq!(declaration["kind"], "AIWorkflow", "{told}");
        assert_eq!(
            (&only["change"], &only["kind"], &only["name"], &only["namespace"]),
            (
                &json!(change),
                &json!("ClusterNetworkPolicy"),
                &json!(name),
                &Value::Null
            )
        );
        assert_eq!(
            only["before"]["spec"]["egress"][1]["to"],
            json!([{"domainNames": ["api.example.com"]}])
        );
    }
}

/// Where the chart does not let it, nothing is written, and the class's word is replaced by nothing.
#[tokio::test]
async fn a_cluster_network_policy_is_written_only_where_the_chart_lets_it() {
    let world = &world(&["--scan-period=0", "--egress-cilium"]).await;
    define(world).await;
    world.admin.post(DEFINITIONS, &cluster_policy_definition()).await.ok();
    let chosen = json!({"backend": "ClusterNetworkPolicy", "clusterNetworkPolicy": {"priority": 40}});
    let place = Place::new(world, "enforce", chosen).await;
    let by_itself = Place::new(world, "enforce", Value::Null).await;
    let said = place.says("Ready", "False", "NoEgressBackend").await;
    let message = condition(&said, "Programmed")["message"].to_string();
    assert!(message.contains("egress.clusterNetworkPolicy.enabled"), "{message}");
    by_itself.opens(&["api.example.com"]).await;
    let all = world.admin.items(CLUSTER_POLICIES).await.unwrap();
    assert_eq!(all, Vec::<Value>::new());
    assert!(
        !world
            .admin
            .is_there(&place.path("CiliumNetworkPolicy", "domains"))
            .await
            .unwrap()
    );
}
