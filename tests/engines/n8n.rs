//! n8n, which is no client of Kubernetes: its parts as the account of a pipeline deploys them, and who may talk to whom then.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::{Value, json};
use support::network::{Pod, Scene, Simulator, open_paths};
use support::{Identity, RELEASE_NAMESPACE, eventually};

use crate::engine::{Cluster, documents};
use crate::world::{SOON, all};

const NAMESPACE: &str = "ai-n8n";
const PARTS: [&str; 4] = ["n8n-main", "n8n-postgres", "n8n-redis", "n8n-worker"];
const FILE: &str = "examples/n8n/deploy.yaml";

/// The workload of a part, as its file has it.
fn workload(part: &str) -> Value {
    let mut found = documents(FILE);
    found.retain(|object| object["kind"] != "Service" && object["metadata"]["name"] == part);
    assert_eq!(found.len(), 1, "{part}");
    found.remove(0)
}

/// A pod as a network plugin would see it, had it an address.
fn placed(pod: &Value, ip: &str) -> Pod {
    let labels = serde_json::from_value(pod["metadata"]["labels"].clone()).expect("labels");
    Pod {
        labels,
        ..Pod::new(
            NAMESPACE,
            pod["metadata"]["labels"]["app"].as_str().expect("app"),
            &[],
            ip,
        )
    }
}

#[tokio::test]
async fn its_parts_run_inside_the_fence_and_talk_to_whom_they_declare() {
    let cluster = Cluster::shared().await;
    cluster.apply("n8n", &PARTS.map(|part| (NAMESPACE, part))).await;
    let pipeline = Identity::service_account("deploy", "deployer");
    let said = cluster
        .plane
        .kubectl_as(&pipeline, &["apply", "-f", FILE])
        .await
        .expect("kubectl");
    assert!(said.success && !said.stderr.contains("Warning"), "{said}");
    let mut pods = eventually(SOON, || async {
        let pods = cluster.admin.items(&all("Pod", NAMESPACE)).await?;
        ensure!(
            pods.len() == 5,
            "{} pods, not one of each part and two workers",
            pods.len()
        );
        Ok(pods)
    })
    .await;
    for pod in &pods {
        assert_eq!(pod["spec"]["serviceAccountName"], pod["metadata"]["labels"]["app"]);
        assert!(
            !pod["spec"]["volumes"].to_string().contains("serviceAccountToken"),
            "none has a token"
        );
    }

    // Both workers are alike.
    pods.dedup_by_key(|pod| pod["metadata"]["labels"]["app"].clone());
    let mut placed: Vec<Pod> = pods
        .iter()
        .zip(1..)
        .map(|(pod, last)| placed(pod, &format!("10.0.0.{last}")))
        .collect();
    placed.push(Pod::new("ingress", "proxy", &[("app", "ingress")], "10.0.1.1"));
    placed.push(Pod::new("ingress", "stranger", &[], "10.0.1.2"));
    let proxy = [
        ("app.kubernetes.io/name", "ringfence-egress"),
        ("app.kubernetes.io/component", "egress"),
    ];
    placed.push(Pod::new(RELEASE_NAMESPACE, "egress", &proxy, "10.0.3.1"));
    placed.push(Pod::new("elsewhere", "redis", &[("app", "ingress")], "10.0.2.1"));
    let scene = Scene::of(
        placed,
        &["203.0.113.7", "198.51.100.7", "169.254.169.254"],
        [22, 443, 3128, 5432, 5678, 6379],
    );
    let policies = cluster
        .admin
        .items(&all("NetworkPolicy", NAMESPACE))
        .await
        .expect("policies");
    let matrix = Simulator::start().and_then(|mut simulator| simulator.ask(&scene, &policies));
    let open = open_paths(&scene, &matrix.expect("an answer"));
    let inside = format!("{NAMESPACE}/");
    let of_n8n: BTreeSet<&str> = open
        .iter()
        .filter(|path| path.contains(&inside))
        .map(String::as_str)
        .collect();
    let expected = [
        "ai-n8n/n8n-main -> ai-n8n/n8n-postgres:5432/TCP",
        "ai-n8n/n8n-main -> ai-n8n/n8n-redis:6379/TCP",
        "ai-n8n/n8n-worker -> ai-n8n/n8n-postgres:5432/TCP",
        "ai-n8n/n8n-worker -> ai-n8n/n8n-redis:6379/TCP",
        "ai-n8n/n8n-worker -> ringfence-system/egress:3128/TCP",
        "ingress/proxy -> ai-n8n/n8n-main:5678/TCP",
    ];
    assert_eq!(of_n8n, BTreeSet::from(expected));

    // What a chart, or its user, may get wrong, from the account that may deploy.
    let deployer = cluster.actor("deploy", "deployer").await;
    let deployments = all("Deployment", NAMESPACE);
    for (name, pointer, value, rule) in [
        (
            "serviceAccountName",
            "/spec/template/spec/serviceAccountName",
            json!("n8n-main"),
            "own-service-account",
        ),
        (
            "image",
            "/spec/template/spec/containers/0/image",
            json!("docker.io/library/redis:8.2"),
            "approved-images",
        ),
        (
            "labels",
            "/spec/template/metadata/labels",
            json!({"app": "n8n-worker"}),
            "declared-workflow",
        ),
        (
            "secret",
            "/spec/template/spec/containers/0/env/3/valueFrom/secretKeyRef/name",
            json!("another"),
            "declared-secrets",
        ),
    ] {
        let mut wrong = workload("n8n-worker");
        wrong["metadata"]["name"] = json!(format!("wrong-{}", name.to_lowercase()));
        *wrong.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        deployer.post(&deployments, &wrong).await.refused_by(rule);
    }
    cluster.account("deploy", "other").await;
    cluster
        .bind(NAMESPACE, ("ClusterRole", "edit"), ("deploy", "other"))
        .await;
    let other = cluster.actor("deploy", "other").await;
    let worker = format!("{deployments}/n8n-worker");
    eventually(SOON, || async { other.read(&worker).await }).await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "n8n", "image": "docker.io/n8nio/n8n:1.0.0"}]}}}});
    other.strategic(&worker, &image).await.refused_by("launcher");
    other.patch(&worker, &json!({"spec": {"replicas": 3}})).await.ok();
}
