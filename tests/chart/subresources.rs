//! The guard on labels and annotations that change through a subresource. Nobody answers for a webhook here: what passes needs none.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::api::{Api, fate};
use crate::chart::{RINGFENCE, namespace, render, with_chart};

const GUARD: &str = "guard ringfence-subresources";
const WORKFLOW: &str = "ringfence.dev/workflow";

fn labels(key: &str, value: Value) -> Value {
    json!({"metadata": {"labels": {key: value}}})
}

fn annotations(key: &str, value: Value) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}

/// Makes a pod as Ringfence, about whom no webhook is asked, and returns its path.
async fn pod(admin: &Api, ns: &str, name: &str, more: Value) -> String {
    let mut metadata = json!({
        "name": name, "labels": {WORKFLOW: "triage", "app": name}, "annotations": {"example.com/a": "b"},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        metadata[key] = value.clone();
    }
    let spec = json!({"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "a/b"}]});
    let pods = format!("/api/v1/namespaces/{ns}/pods");
    let made = admin
        .master(RINGFENCE)
        .post(&pods, json!({"metadata": metadata, "spec": spec}))
        .await;
    made.unwrap();
    format!("{pods}/{name}")
}

fn binding(name: &str, metadata: Value) -> Value {
    let mut binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}});
    for (key, value) in metadata.as_object().into_iter().flatten() {
        binding["metadata"][key] = value.clone();
    }
    binding
}

#[tokio::test]
async fn a_pods_status_moves_no_label_and_brings_no_annotation() {
    let (admin, _chart) = with_chart().await;
    let enforced = namespace(&admin, "status-enforced", json!({"ringfence.dev/enforce": "default"})).await;
    let plain = namespace(&admin, "status-plain", json!({"ringfence.dev/warn": "default"})).await;
    for (ns, of_enforced) in [(&enforced, GUARD), (&plain, "done")] {
        let status = format!("{}/status", pod(&admin, ns, "p", json!({})).await);
        for user in [
            "system:node:n1",
            "system:kube-scheduler",
            "system:kube-controller-manager",
            RINGFENCE,
        ] {
            let user = admin.master(user);
            for (change, expected) in [
                (labels(WORKFLOW, json!("other")), GUARD),
                (labels(WORKFLOW, json!("")), GUARD),
                (labels(WORKFLOW, json!(null)), GUARD),
                (labels("ringfence.dev/anything", json!("x")), GUARD),
                (json!({"metadata": {"labels": null}}), GUARD),
                (annotations("ringfence.dev/owner-uid", json!("1")), GUARD),
                (annotations("k8s.v1.cni.cncf.io/networks", json!("dark")), of_enforced),
                (
                    annotations("k8s.v1.cni.cncf.io/network-status-x", json!("x")),
                    of_enforced,
                ),
                (annotations("example.com/a", json!("c")), of_enforced),
                (labels("controller-revision-hash", json!("p-2")), of_enforced),
                (labels("pod-template-generation", json!("2")), of_enforced),
                // What nothing in a fence goes by; what network plugins report; less than before; and what kubelets write.
                (labels("team", json!("x")), "done"),
                (annotations("cni.projectcalico.org/podIP", json!("10.0.0.7/32")), "done"),
                (
                    annotations("cni.projectcalico.org/podNetns", json!("/run/netns/x")),
                    "done",
                ),
                (annotations("k8s.v1.cni.cncf.io/network-status", json!("[]")), "done"),
                (annotations("example.com/a", json!(null)), "done"),
                (json!({"status": {"phase": "Running"}}), "done"),
            ] {
                let dry = format!("{status}?dryRun=All");
                assert_eq!(fate(user.patch(&dry, change.clone()).await), expected, "{ns} {change}");
            }
        }
        let refusal = admin
            .patch(&status, labels(WORKFLOW, json!("other")))
            .await
            .unwrap_err();
        for part in ["ringfence.dev/workflow does not change through pods/status", "Fix:"] {
            assert!(
                refusal.message.contains(part),
                "{part} is missing in: {}",
                refusal.message
            );
        }
    }
}

#[tokio::test]
async fn a_binding_carries_nothing_of_ours_onto_its_pod() {
    let (admin, _chart) = with_chart().await;
    let enforced = namespace(&admin, "binding-enforced", json!({"ringfence.dev/enforce": "default"})).await;
    let plain = namespace(&admin, "binding-plain", json!({})).await;
    let scheduler = admin.master("system:kube-scheduler");
    for (ns, of_enforced) in [(&enforced, GUARD), (&plain, "done")] {
        for (index, legacy) in [false, true].into_iter().enumerate() {
            let name = format!("p{index}");
            let path = pod(&admin, ns, &name, json!({})).await;
            let to = if legacy {
                format!("/api/v1/namespaces/{ns}/bindings")
            } else {
                format!("{path}/binding")
            };
            for (metadata, expected) in [
                (json!({"labels": {WORKFLOW: "other"}}), GUARD),
                (json!({"labels": {WORKFLOW: "triage"}}), GUARD),
                (json!({"labels": {"a": "b", "ringfence.dev/x": ""}}), GUARD),
                (json!({"annotations": {"ringfence.dev/x": "y"}}), GUARD),
                (json!({"labels": {"controller-revision-hash": "p-2"}}), of_enforced),
                (
                    json!({"annotations": {"k8s.v1.cni.cncf.io/networks": "dark"}}),
                    of_enforced,
                ),
            ] {
                let found = fate(
                    scheduler
                        .post(&format!("{to}?dryRun=All"), binding(&name, metadata.clone()))
                        .await,
                );
                // One that carries the label is asked about in its old place too, where nobody answers.
                assert_eq!(found, expected, "{to} {metadata}");
            }
            let placed = json!({
                "labels": {"topology.kubernetes.io/zone": "a"}, "annotations": {"k8s.v1.cni.cncf.io/network-status": "[]"},
            });
            assert_eq!(fate(scheduler.post(&to, binding(&name, placed)).await), "done", "{to}");
            let bound = admin.get(&path).await.unwrap();
            assert_eq!(bound["spec"]["nodeName"], "n1");
            assert_eq!(bound["metadata"]["labels"][WORKFLOW], "triage");
            assert_eq!(
                bound["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"],
                "[]"
            );
        }
    }
}

/// A chain of owners holds by their labels.
#[tokio::test]
async fn the_status_of_what_makes_pods_moves_no_label() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "status-makers", json!({})).await;
    let template = |restart: &str| {
        json!({
            "metadata": {"labels": {"app": "x"}}, "spec": {"restartPolicy": restart, "containers": [{"name": "c", "image": "a/b"}]},
        })
    };
    let workload = |more: Value| {
        let mut spec = json!({"selector": {"matchLabels": {"app": "x"}}, "template": template("Always")});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        json!({"metadata": {"name": "x"}, "spec": spec})
    };
    let (core, apps, batch) = ("/api/v1", "/apis/apps/v1", "/apis/batch/v1");
    let job = json!({"suspend": true, "template": template("Never")});
    for (group, plural, object) in [
        (
            core,
            "replicationcontrollers",
            workload(json!({"replicas": 0, "selector": {"app": "x"}})),
        ),
        (apps, "replicasets", workload(json!({"replicas": 0}))),
        (apps, "deployments", workload(json!({"replicas": 0}))),
        (
            apps,
            "statefulsets",
            workload(json!({"replicas": 0, "serviceName": "x"})),
        ),
        (apps, "daemonsets", workload(json!({}))),
        (batch, "jobs", json!({"metadata": {"name": "x"}, "spec": job})),
        (
            batch,
            "cronjobs",
            json!({"metadata": {"name": "x"}, "spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": {"template": template("Never")}}}}),
        ),
    ] {
        let collection = format!("{group}/namespaces/{ns}/{plural}");
        admin.post(&collection, object).await.unwrap();
        let path = format!("{collection}/x");
        let answer = fate(
            admin
                .patch(&format!("{path}/status"), labels(WORKFLOW, json!("triage")))
                .await,
        );
        // Of Deployments the API server itself takes no label along.
        assert!(
            answer == GUARD || plural == "deployments" && answer == "done",
            "{plural}: {answer}"
        );
        assert!(
            admin.get(&path).await.unwrap()["metadata"]["labels"]
                .get(WORKFLOW)
                .is_none(),
            "{plural}"
        );
        assert_eq!(
            fate(admin.patch(&format!("{path}/status"), labels("team", json!("x"))).await),
            "done",
            "{plural}"
        );
    }
}

#[tokio::test]
async fn big_pods_go_on_and_exempt_namespaces_are_left_alone() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "status-big", json!({"ringfence.dev/enforce": "default"})).await;
    let many: Map<String, Value> = (0..10_000).map(|i| (format!("k{i}"), json!("v"))).collect();
    let path = pod(&admin, &ns, "big", json!({"labels": many, "annotations": many})).await;
    let kubelet = admin.master("system:node:n1");
    // A label that changes has all of them compared. As one: key by key, a single write keeps the API server busy for as long as it takes to
    // look each of ten thousand up among as many.
    // The shorter of two, because machines are busy.
    let took = async |changes: [Value; 2]| {
        let mut shortest = Duration::MAX;
        for change in changes {
            let began = Instant::now();
            assert_eq!(fate(kubelet.patch(&format!("{path}/status"), change).await), "done");
            shortest = shortest.min(began.elapsed());
        }
        shortest
    };
    let unjudged = took(["Running", "Pending"].map(|phase| json!({"status": {"phase": phase}}))).await;
    // What a network plugin reports when the pod comes, and takes back when it goes: without it the pod never ends.
    let reports = ["10.0.0.7/32", ""].map(|address| annotations("cni.projectcalico.org/podIP", json!(address)));
    for (what, changes) in [
        ("a label", ["w", "x"].map(|value| labels("k1", json!(value)))),
        ("a report", reports),
    ] {
        let judged = took(changes).await;
        assert!(
            judged < 2 * unjudged + Duration::from_secs(1),
            "{what}: {judged:?}, and {unjudged:?} where nothing is compared"
        );
    }
    assert_eq!(
        fate(
            kubelet
                .patch(&format!("{path}/status"), labels(WORKFLOW, json!("x")))
                .await
        ),
        GUARD
    );
    // Which annotation it is that comes among so many is not looked for: no other does, nor beside one that reports.
    let mut beside = annotations("cni.projectcalico.org/podIP", json!("10.0.0.8/32"));
    beside["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] = json!("dark");
    assert_eq!(fate(kubelet.patch(&format!("{path}/status"), beside).await), GUARD);
    for annotation in ["k8s.v1.cni.cncf.io/networks", "k1", "ringfence.dev/owner-uid"] {
        let change = annotations(annotation, json!("w"));
        let fate = fate(kubelet.patch(&format!("{path}/status"), change).await);
        assert_eq!(fate, GUARD, "{annotation}");
    }
    let path = pod(&admin, "kube-system", "p", json!({})).await;
    let moved = labels(WORKFLOW, json!("other"));
    assert_eq!(fate(kubelet.patch(&format!("{path}/status"), moved).await), "done");
    admin.delete(&format!("{path}?gracePeriodSeconds=0")).await.unwrap();
}

#[tokio::test]
async fn what_reports_is_the_platforms_to_say() {
    let expressions = async |values: &[&str]| {
        let objects = render(values).await;
        let guard = objects.into_iter().find(|object| {
            object["kind"] == "ValidatingAdmissionPolicy" && object["metadata"]["name"] == "ringfence-subresources"
        });
        guard.expect("the guard")["spec"]["variables"].to_string()
    };
    let usual = expressions(&[]).await;
    assert!(usual.contains("'k8s.ovn.org/pod-networks'"), "{usual}");
    let own = expressions(&["podReports.annotations={volcano.sh/}"]).await;
    assert!(own.contains("['volcano.sh/']") && !own.contains("calico"), "{own}");
    let none = expressions(&["podReports.annotations=null"]).await;
    assert!(none.contains(r#"{"expression":"[]","name":"reports"}"#), "{none}");
}
