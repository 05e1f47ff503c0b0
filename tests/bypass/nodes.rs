//! Door: the pod's own node, before which no NetworkPolicy stands: its networks, its processes, and what it sends for a pod.

use anyhow::ensure;
use serde_json::{Value, json};
use support::network::{Pod, Scene, Simulator, open_paths};
use support::{eventually, unique};

use crate::world::{SOON, World, all, container, pod, workload};

/// A field, and what sets it.
type Change = (&'static str, fn(&mut Value));

/// A workflow that the tenant may launch herself.
fn launched_by_tenants() -> Value {
    json!({"launchers": [{"user": "lea"}, {"user": "tess"}]})
}

fn dry(kind: &str, namespace: &str) -> String {
    format!("{}?dryRun=All", all(kind, namespace))
}

/// The node would send it, past every NetworkPolicy: to the metadata service, or to what listens on the node alone. The fence refuses
/// it by itself, whatever the version of the standard knows, and whoever excuses a RegoPolicy.
///
/// Held by: `node-dials`
#[tokio::test]
async fn a_probe_or_hook_has_the_node_send_a_request_elsewhere() {
    let world = World::shared().await;
    let ns = &world.enforced("dials").await;
    world.ready(ns, "triage", &launched_by_tenants()).await;
    let (_, edith) = world.person(ns, "edit").await;
    let mut sent = Vec::new();
    for host in ["169.254.169.254", "127.0.0.1", "::1", "evil.example"] {
        for request in [
            json!({"httpGet": {"host": host, "port": 80}}),
            json!({"tcpSocket": {"host": host, "port": 80}}),
        ] {
            for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                sent.push((probe.to_owned(), json!({probe: request})));
            }
            for hook in ["postStart", "preStop"] {
                sent.push((format!("lifecycle.{hook}"), json!({"lifecycle": {hook: request}})));
            }
        }
    }
    let tried = sent.iter().map(async |(path, fields)| {
        for (list, restart) in [("containers", Value::Null), ("initContainers", json!("Always"))] {
            let mut pod = pod("dials", "triage");
            let mut other = container("other");
            other["restartPolicy"] = restart;
            for (key, value) in fields.as_object().unwrap() {
                other[key] = value.clone();
            }
            pod["spec"][list] = if list == "containers" {
                json!([container("main"), other])
            } else {
                json!([other])
            };
            for attacker in [&world.tess, &edith] {
                let answer = attacker
                    .post(&dry("Deployment", ns), &workload("Deployment", &pod))
                    .await;
                let message = answer.refused_by("node-dials");
                assert!(message.contains(path.as_str()), "{path}: {message}");
                // Of a pod the API server's own standard may speak first.
                let answer = attacker.post(&dry("Pod", ns), &pod).await;
                assert_eq!(answer.code, 403, "{}", answer.body);
            }
        }
    });
    futures::future::join_all(tried).await;
    let mut own = pod("own", "triage");
    own["spec"]["containers"][0]["livenessProbe"] =
        json!({"httpGet": {"port": 80, "httpHeaders": [{"name": "Host", "value": "triage.example"}]}});
    own["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"exec": {"command": ["sleep", "1"]}}});
    world.tess.post(&dry("Pod", ns), &own).await.ok();
}

/// Of pods the API server's own Pod Security says it first; of templates it only warns.
///
/// Held by: `API server`, `restricted-pod-security`
#[tokio::test]
async fn a_pod_takes_the_host() {
    let world = World::shared().await;
    let ns = &world.enforced("host").await;
    world.ready(ns, "triage", &launched_by_tenants()).await;
    let (_, edith) = world.person(ns, "edit").await;
    let hosts: [Change; 7] = [
        ("hostNetwork", |pod| pod["spec"]["hostNetwork"] = json!(true)),
        ("hostPID", |pod| pod["spec"]["hostPID"] = json!(true)),
        ("hostIPC", |pod| pod["spec"]["hostIPC"] = json!(true)),
        ("hostPort", |pod| {
            pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 80}]);
        }),
        ("hostPath", |pod| {
            pod["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": "/"}}]);
        }),
        ("privileged", |pod| {
            pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
        }),
        ("hostProcess", |pod| {
            pod["spec"]["securityContext"]["windowsOptions"] = json!({"hostProcess": true});
            pod["spec"]["hostNetwork"] = json!(true);
        }),
    ];
    for (what, take) in hosts {
        let mut pod = pod("host", "triage");
        take(&mut pod);
        for attacker in [&world.tess, &edith] {
            let answer = attacker.post(&dry("Pod", ns), &pod).await;
            assert_eq!(answer.code, 403, "{what}: {}", answer.body);
            assert!(
                answer.message().contains("violates PodSecurity"),
                "{}",
                answer.message()
            );
            let answer = attacker
                .post(&dry("Deployment", ns), &workload("Deployment", &pod))
                .await;
            let message = answer.refused_by("restricted-pod-security");
            assert!(message.contains(what), "{what}: {message}");
        }
    }
    world.tess.post(&dry("Pod", ns), &pod("guest", "triage")).await.ok();
}

/// The standard of the API server lets a pod off for these: for Windows, and where root is nobody outside.
///
/// Held by: `restricted-pod-security`
#[tokio::test]
async fn a_pod_is_let_off_the_standard_by_its_system_or_users() {
    let world = World::shared().await;
    let ns = &world.enforced("letoff").await;
    world.ready(ns, "triage", &launched_by_tenants()).await;
    let mut windows = pod("windows", "triage");
    windows["spec"]["os"] = json!({"name": "windows"});
    windows["spec"]["securityContext"] = json!({"runAsNonRoot": true});
    windows["spec"]["containers"][0]["securityContext"] = Value::Null;
    let answer = world.tess.post(&dry("Pod", ns), &windows).await;
    let message = answer.refused_by("restricted-pod-security");
    assert!(message.contains("allowPrivilegeEscalation"), "{message}");
    let mut root = pod("root", "triage");
    root["spec"]["hostUsers"] = json!(false);
    root["spec"]["securityContext"] = json!({"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}});
    for kind in ["Pod", "Deployment"] {
        let answer = world.tess.post(&dry(kind, ns), &workload(kind, &root)).await;
        assert_eq!(answer.code, 403, "{kind}: {}", answer.body);
        if kind == "Deployment" {
            answer.refused_by("restricted-pod-security");
        }
    }
    // Users of its own are no fault.
    let mut apart = pod("apart", "triage");
    apart["spec"]["hostUsers"] = json!(false);
    world.tess.post(&dry("Pod", ns), &apart).await.ok();
}

/// Names and addresses inside the pod, and what chooses among nodes that are open to all: none of it opens a connection. A resolver of its
/// own is an address like any other, and closed. Ranks that are not the cluster's own are the ResourceQuota's to bound.
///
/// Out of scope: these fields break no promise, so no class bounds them; NetworkPolicies, taints and ResourceQuotas hold what they lead to.
#[tokio::test]
async fn a_pod_names_hosts_resolvers_and_schedulers_as_it_likes() {
    let world = World::shared().await;
    let ns = &world.enforced("names").await;
    world.ready(ns, "triage", &launched_by_tenants()).await;
    let rank = unique("rank");
    let class = json!({"metadata": {"name": rank}, "value": 10, "globalDefault": false});
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    world.admin.post(classes, &class).await.ok();
    let mut named = pod("named", "triage");
    let fields = json!({
        "dnsPolicy": "None", "dnsConfig": {"nameservers": ["203.0.113.7"], "searches": ["evil.example"]},
        "hostAliases": [{"ip": "203.0.113.7", "hostnames": ["bank.example"]}],
        "hostname": "kubernetes", "subdomain": "default", "schedulerName": "another",
        "priorityClassName": rank, "nodeSelector": {"kubernetes.io/hostname": "n1"},
    });
    for (key, value) in fields.as_object().unwrap() {
        named["spec"][key] = value.clone();
    }
    // Plugins of the API server learn of ranks by a watch.
    eventually(SOON, || async {
        let answer = world.tess.post(&all("Pod", ns), &named).await;
        ensure!((200..300).contains(&answer.code), "{}", answer.message());
        Ok(())
    })
    .await;

    let policies = world.admin.items(&all("NetworkPolicy", ns)).await.unwrap();
    let scene = Scene::of(
        vec![
            Pod::new(ns, "named", &[("ringfence.dev/workflow", "triage")], "10.0.0.1"),
            Pod::new("kube-system", "dns", &[("k8s-app", "kube-dns")], "10.0.0.2"),
        ],
        &["203.0.113.7"],
        [53, 443],
    );
    let matrix = Simulator::start().unwrap().ask(&scene, &policies).unwrap();
    let open = open_paths(&scene, &matrix);
    let out: Vec<_> = open
        .iter()
        .filter_map(|path| path.strip_prefix(&format!("{ns}/named -> ")))
        .collect();
    assert_eq!(
        out,
        ["kube-system/dns:53/TCP", "kube-system/dns:53/UDP"],
        "the cluster's own resolver alone"
    );
}
