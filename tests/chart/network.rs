//! The NetworkPolicy of Ringfence's own pods, as an implementation by somebody else reads it.

use std::collections::BTreeSet;

use serde_json::Value;
use support::network::{Pod, Scene, Simulator, open_paths};

use crate::chart::{RELEASE, helm, render};

const API_SERVER: &str = "192.0.2.10";
const ELSEWHERE: &str = "203.0.113.7";

/// Ringfence as it is rendered, beside a Prometheus, the cluster's DNS and a neighbour.
async fn scene(values: &[&str]) -> (Scene, Vec<Value>) {
    let objects = render(values).await;
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let labels = deployment["spec"]["template"]["metadata"]["labels"]
        .as_object()
        .unwrap();
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap()))
        .collect();
    let pods = vec![
        Pod::new(RELEASE, "ringfence", &labels, "10.1.0.1"),
        Pod::new(RELEASE, "neighbour", &[], "10.1.0.2"),
        Pod::new("monitoring", "prometheus", &[("app", "prometheus")], "10.1.1.1"),
        Pod::new("kube-system", "dns", &[("k8s-app", "kube-dns")], "10.1.2.1"),
        Pod::new("shop", "web", &[], "fd00::1"),
    ];
    let scene = Scene::of(pods, &[API_SERVER, ELSEWHERE], [53, 443, 6443, 8080, 9443]);
    let policies = objects.into_iter().filter(|object| object["kind"] == "NetworkPolicy");
    (scene, policies.collect())
}

/// What is open to Ringfence, and from it.
async fn open(values: &[&str]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (scene, policies) = scene(values).await;
    let matrix = Simulator::start().unwrap().ask(&scene, &policies).unwrap();
    let paths = open_paths(&scene, &matrix);
    let own = format!("{RELEASE}/ringfence");
    let into = paths.iter().filter_map(|path| {
        let (from, to) = path.split_once(" -> ")?;
        Some(format!("{from} to {}", to.strip_prefix(&format!("{own}:"))?))
    });
    let out = paths.iter().filter_map(|path| path.strip_prefix(&format!("{own} -> ")));
    (into.collect(), out.map(str::to_owned).collect())
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// A wrong guess would lock the cluster, so the webhook and the API server are reached wherever they are, and little else.
#[tokio::test]
async fn by_default_the_webhook_is_open_and_what_goes_out_is_tcp_and_dns() {
    let (into, out) = open(&[]).await;
    let others = [
        "ringfence-system/neighbour",
        "monitoring/prometheus",
        "kube-system/dns",
        "shop/web",
    ];
    let mut expected: BTreeSet<String> = others
        .iter()
        .flat_map(|from| [format!("{from} to 9443/TCP"), format!("{from} to 8080/TCP")])
        .collect();
    expected.extend([API_SERVER, ELSEWHERE].map(|from| format!("{from} to 9443/TCP")));
    assert_eq!(into, expected);
    let by_tcp = |path: &&String| path.ends_with("/TCP");
    let ports = 5;
    assert_eq!(out.iter().filter(by_tcp).count(), (others.len() + 2) * ports, "{out:?}");
    let rest: BTreeSet<String> = out.iter().filter(|path| !by_tcp(path)).cloned().collect();
    assert_eq!(rest, set(&["kube-system/dns:53/UDP"]));
}

#[tokio::test]
async fn who_knows_the_cluster_narrows_it() {
    let (into, out) = open(&[
        "networkPolicy.webhookFrom[0].ipBlock.cidr=192.0.2.10/32",
        "networkPolicy.apiServerCIDRs={192.0.2.10/32,fd00:9::/64}",
        "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name=monitoring",
        "networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus",
        "networkPolicy.dnsTo=[]",
    ])
    .await;
    assert_eq!(
        into,
        set(&["192.0.2.10 to 9443/TCP", "monitoring/prometheus to 8080/TCP"])
    );
    let ports = ["53", "443", "6443", "8080", "9443"];
    assert_eq!(out, ports.map(|port| format!("192.0.2.10:{port}/TCP")).into());
}

/// In a NetworkPolicy a rule without peers is for everybody.
#[tokio::test]
async fn empty_never_means_all() {
    let (into, out) = open(&["networkPolicy.metricsFrom=[]", "networkPolicy.dnsTo=[]"]).await;
    assert!(into.iter().all(|path| path.ends_with(" to 9443/TCP")), "{into:?}");
    assert!(out.iter().all(|path| path.ends_with("/TCP")), "{out:?}");
    for empty in ["networkPolicy.webhookFrom=[]", "networkPolicy.apiServerCIDRs=[]"] {
        let refusal = helm(&["template", "ringfence"], &[empty]).await.expect_err(empty);
        assert!(
            refusal.contains("don't meet the specifications of the schema"),
            "{empty}: {refusal}"
        );
    }
}

#[tokio::test]
async fn it_can_be_left_to_others() {
    let (_, policies) = scene(&["networkPolicy.enabled=false"]).await;
    assert!(policies.is_empty(), "{policies:?}");
}
