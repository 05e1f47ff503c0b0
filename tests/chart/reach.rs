//! Services, endpoints and policies of enforced namespaces: what is asked about, and what goes on while nobody answers.

use serde_json::{Value, json};

use crate::api::{Api, eventually, fate};
use crate::chart::{RINGFENCE, namespace, with_chart};

const SERVICES: &str = "webhook services.ringfence.dev";
const POLICIES: &str = "webhook network-policies.ringfence.dev";
const FENCE: &str = "webhook fence.ringfence.dev";

async fn finalizers_change_unasked(admin: &Api, object: &str) {
    for finalizers in [json!(["test/hold"]), Value::Null] {
        let change = json!({"metadata": {"finalizers": finalizers}});
        assert_eq!(fate(admin.patch(object, change).await), "done", "{object}");
    }
}

#[tokio::test]
async fn services_are_asked_about_and_their_controllers_go_on() {
    let (admin, _chart) = with_chart().await;
    let enforced = namespace(&admin, "reach-enforced", json!({"ringfence.dev/enforce": "default"})).await;
    let plain = namespace(&admin, "reach-plain", json!({"ringfence.dev/warn": "default"})).await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"selector": {"app": "a"}, "ports": [{"port": 80}]}});
    let endpoints = json!({"metadata": {"name": "x"}});
    let slice = json!({"metadata": {"name": "x"}, "addressType": "IPv4", "endpoints": []});
    for (path, object) in [
        ("/api/v1/namespaces/{}/services", &service),
        ("/api/v1/namespaces/{}/endpoints", &endpoints),
        ("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", &slice),
    ] {
        let at = |ns: &str| format!("{}?dryRun=All", path.replace("{}", ns));
        let controllers = if path.ends_with("services") { SERVICES } else { "done" };
        for (user, expected) in [
            (&admin, SERVICES),
            (&admin.master("system:kube-controller-manager"), controllers),
            (
                &admin.master("system:serviceaccount:kube-system:endpointslice-controller"),
                controllers,
            ),
            (
                &admin.master("system:serviceaccount:kube-system:endpoint-controller"),
                controllers,
            ),
            (
                &admin.master("system:serviceaccount:kube-system:job-controller"),
                SERVICES,
            ),
            (&admin.master("system:apiserver"), "done"),
            (&admin.master(RINGFENCE), "done"),
        ] {
            assert_eq!(
                fate(user.post(&at(&enforced), object.clone()).await),
                expected,
                "{path}"
            );
            assert_eq!(fate(user.post(&at(&plain), object.clone()).await), "done", "{path}");
        }
    }
    // With nobody there to ask, a Service that stands is served on.
    let services = format!("/api/v1/namespaces/{enforced}/services");
    admin.master(RINGFENCE).post(&services, service).await.unwrap();
    let of_it = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{enforced}/endpointslices?labelSelector=kubernetes.io/service-name=s"
    );
    eventually("its EndpointSlice", || async {
        let found = admin.get(&of_it).await.unwrap()["items"].as_array().map_or(0, Vec::len);
        if found == 1 {
            Ok(())
        } else {
            Err(format!("{found} slices"))
        }
    })
    .await;
    let one = format!("{services}/s");
    assert_eq!(
        fate(admin.patch(&one, json!({"spec": {"type": "NodePort"}})).await),
        SERVICES
    );
    finalizers_change_unasked(&admin, &one).await;
    assert_eq!(fate(admin.get(&format!("{one}/proxy/")).await), FENCE);
    assert_eq!(fate(admin.delete(&one).await), "done");
}

#[tokio::test]
async fn network_policies_are_asked_about() {
    let (admin, _chart) = with_chart().await;
    let enforced = namespace(&admin, "policies-enforced", json!({"ringfence.dev/enforce": "default"})).await;
    let plain = namespace(&admin, "policies-plain", json!({"ringfence.dev/warn": "default"})).await;
    let policy = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}, "ingress": [{}]}});
    let at = |ns: &str| format!("/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies");
    assert_eq!(fate(admin.post(&at(&enforced), policy.clone()).await), POLICIES);
    assert_eq!(fate(admin.post(&at(&plain), policy.clone()).await), "done");
    assert_eq!(fate(admin.master(RINGFENCE).post(&at(&enforced), policy).await), "done");
    let one = format!("{}/p", at(&enforced));
    assert_eq!(
        fate(admin.patch(&one, json!({"spec": {"egress": [{}]}})).await),
        POLICIES
    );
    finalizers_change_unasked(&admin, &one).await;
    assert_eq!(fate(admin.delete(&one).await), "done");
}
