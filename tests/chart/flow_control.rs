//! Whose requests wait with whose, by the API server's own priority and fairness.

use axum::http::Request;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use support::ControlPlane;

use crate::api::{Api, eventually};
use crate::chart::{RELEASE, render, with_chart};

const GROUP: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

/// UIDs of the schema and of the level by which a request is served.
async fn served_by(client: &Client, path: &str) -> [String; 2] {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = client.send(request).await.unwrap();
    ["FlowSchema", "PriorityLevel"].map(|kind| {
        let header = answer.headers().get(format!("X-Kubernetes-PF-{kind}-UID"));
        header.map(|uid| uid.to_str().unwrap().to_owned()).unwrap_or_default()
    })
}

async fn uid(admin: &Api, path: &str) -> String {
    let object = admin.get(&format!("{GROUP}/{path}")).await.unwrap();
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_tenants_flood_the_api_server_with_is_not_what_ringfence_waits_among() {
    let (admin, _chart) = with_chart().await;
    let ours = [
        uid(&admin, "flowschemas/ringfence").await,
        uid(&admin, "prioritylevelconfigurations/ringfence").await,
    ];
    let tenants = [
        uid(&admin, "flowschemas/service-accounts").await,
        uid(&admin, "prioritylevelconfigurations/workload-low").await,
    ];
    let neighbour = json!({"metadata": {"name": "ringfence"}});
    admin
        .post("/api/v1/namespaces/default/serviceaccounts", neighbour)
        .await
        .ok();
    let cluster = ControlPlane::shared();
    let ringfence = cluster.service_account(RELEASE, "ringfence").await;
    let other = cluster.service_account("default", "ringfence").await;
    // Refused or not: whoever asks waits before that.
    for path in [
        "/api/v1/namespaces",
        "/api/v1/namespaces/default/pods",
        "/apis/ringfence.dev/v1alpha1/aiworkflows",
        "/version",
    ] {
        eventually("Ringfence's own level", || async {
            let by = served_by(&ringfence, path).await;
            if by == ours {
                Ok(())
            } else {
                Err(format!("{path}: {by:?}"))
            }
        })
        .await;
        assert_eq!(served_by(&other, path).await, tenants, "{path}: by its name alone");
    }
    // The queue is bounded, and its level is no way past the API server's own bounds.
    let level = admin
        .get(&format!("{GROUP}/prioritylevelconfigurations/ringfence"))
        .await
        .unwrap();
    assert_eq!(level["spec"]["type"], "Limited");
    assert_eq!(
        level["spec"]["limited"]["limitResponse"]["queuing"]["queueLengthLimit"],
        1000
    );
}

#[tokio::test]
async fn who_orders_the_levels_by_hand_leaves_it_out() {
    let kinds = async |values: &[&str]| {
        let objects = render(values).await;
        let found = objects.iter().filter(|object| {
            let version = object["apiVersion"].as_str().unwrap_or_default();
            version.starts_with("flowcontrol.apiserver.k8s.io/")
        });
        found.map(|object| object["spec"].clone()).collect::<Vec<Value>>()
    };
    assert_eq!(kinds(&["flowControl.enabled=false"]).await, [Value::Null; 0]);
    let larger = kinds(&["flowControl.nominalConcurrencyShares=40"]).await;
    assert_eq!(larger.len(), 2);
    assert!(
        larger
            .iter()
            .any(|spec| spec["limited"]["nominalConcurrencyShares"] == 40)
    );
}
