//! Door: the DNS that a pod asks, where its class has it ask the egress proxy alone.

use anyhow::ensure;
use ringfence::plan::{EGRESS_PROXY, owned_name};
use serde_json::{Value, json};
use support::{RELEASE_NAMESPACE, eventually};

use crate::world::{CLASSES, SOON, WORKLOADS, World, all, one, pod, template_of, workload};

/// Services of Ringfence's own namespace.
fn services() -> String {
    format!("/api/v1/namespaces/{RELEASE_NAMESPACE}/services")
}

/// What the chart makes with `egress.enabled`: the Service of the proxy, and the right to read where it is.
async fn install(world: &World) {
    let (rbac, account) = ("rbac.authorization.k8s.io", "ringfence");
    let rules =
        json!([{"apiGroups": [""], "resources": ["services"], "resourceNames": [EGRESS_PROXY], "verbs": ["get"]}]);
    let subject = json!({"kind": "ServiceAccount", "name": account, "namespace": RELEASE_NAMESPACE});
    let ports = json!([{"name": "dns", "port": 53, "protocol": "UDP"}]);
    let metadata = json!({"name": EGRESS_PROXY});
    for (path, object) in [
        (services(), json!({"metadata": metadata, "spec": {"ports": ports}})),
        (
            all("Role", RELEASE_NAMESPACE),
            json!({"metadata": metadata, "rules": rules}),
        ),
        (
            all("RoleBinding", RELEASE_NAMESPACE),
            json!({"metadata": metadata, "roleRef": {"apiGroup": rbac, "kind": "Role", "name": EGRESS_PROXY}, "subjects": [subject]}),
        ),
    ] {
        let answer = world.admin.post(&path, &object).await;
        assert!(matches!(answer.code, 201 | 409), "{}", answer.body);
    }
}

/// What the pod asks for names.
fn asking(policy: Value, servers: Value) -> Value {
    let mut pod = pod("names", "triage");
    pod["spec"]["dnsPolicy"] = policy;
    pod["spec"]["dnsConfig"] = json!({"nameservers": servers});
    pod
}

/// A resolver of the world passes on whatever is asked for, in any pod and in any template; and the one of the cluster does too. Where one is
/// named all the same, no NetworkPolicy leads there.
///
/// Held by: `pod-dns`, `NetworkPolicy`
#[tokio::test]
async fn a_pod_names_a_dns_that_passes_everything_on() {
    let world = World::shared().await;
    install(&world).await;
    let spec = json!({"images": {"allowed": ["**"]}, "cluster": {"dns": {"mode": "ClusterOnly"}}});
    let class = world.class(&spec).await;
    let ns = &world.namespace("names", &json!({"ringfence.dev/enforce": class})).await;
    let address = eventually(SOON, || async {
        let class = world.admin.read(&format!("{CLASSES}/{class}")).await?;
        let address = class["status"]["dns"]["addresses"][0].as_str().map(str::to_owned);
        address.ok_or_else(|| anyhow::anyhow!("not yet: {}", class["status"]))
    })
    .await;
    let service = world
        .admin
        .read(&format!("{}/{EGRESS_PROXY}", services()))
        .await
        .unwrap();
    assert_eq!(service["spec"]["clusterIP"], address);
    world
        .ready(ns, "triage", &json!({"launchers": [{"user": "tess"}]}))
        .await;
    world
        .condition(ns, "triage", "DnsExfiltration", "False", "Closed")
        .await;

    let right = asking(json!("None"), json!([address]));
    // Of these, tenants may make all but the last.
    for kind in WORKLOADS.into_iter().filter(|kind| *kind != "PodTemplate") {
        let path = format!("{}?dryRun=All", all(kind, ns));
        world.tess.post(&path, &workload(kind, &right)).await.ok();
        for wrong in [
            pod("names", "triage"),
            asking(json!("ClusterFirst"), json!([address])),
            asking(json!("Default"), json!(["192.0.2.53"])),
            asking(json!("None"), json!(["192.0.2.53"])),
            asking(json!("None"), json!([address, "192.0.2.53"])),
        ] {
            let answer = world.tess.post(&path, &workload(kind, &wrong)).await;
            let message = answer.refused_by("pod-dns");
            assert!(
                message.contains(&format!("dnsConfig.nameservers to {address}")),
                "{message}"
            );
        }
    }
    // Nor by a change of what stands.
    let deployment = workload("Deployment", &right);
    world.tess.post(&all("Deployment", ns), &deployment).await.ok();
    let pointer = template_of("Deployment");
    assert_eq!(pointer, "/spec/template");
    let other = json!({"spec": {"template": {"spec": {"dnsConfig": {"nameservers": ["192.0.2.53"]}}}}});
    let path = one("Deployment", ns, "names");
    world.tess.patch(&path, &other).await.refused_by("pod-dns");

    // Of the ports at which a DNS may be, the proxy's alone is open.
    let allow = one("NetworkPolicy", ns, &owned_name(ns, "triage", "allow"));
    let allow = world.admin.read(&allow).await.unwrap();
    let rules = allow["spec"]["egress"].as_array().unwrap();
    assert_eq!(rules.len(), 1, "{rules:?}");
    assert_eq!(
        rules[0]["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"],
        EGRESS_PROXY
    );

    // A class that has them ask no proxy takes the address out of its status, and the rule goes with it.
    let usual = json!({"spec": {"cluster": {"dns": {"mode": "Cluster"}}}});
    world.admin.patch(&format!("{CLASSES}/{class}"), &usual).await.ok();
    eventually(SOON, || async {
        let now = world.admin.read(&format!("{CLASSES}/{class}")).await?;
        ensure!(now["status"]["dns"] == Value::Null, "{}", now["status"]);
        let path = format!("{}?dryRun=All", all("Pod", ns));
        let answer = world.tess.post(&path, &pod("names", "triage")).await;
        ensure!(answer.code == 201, "{}", answer.body);
        Ok(())
    })
    .await;
}
