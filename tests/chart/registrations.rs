//! What is asked about, by which registration, and what goes on unasked.

use serde_json::{Value, json};

use crate::api::{Api, fate};
use crate::chart::{RELEASE, RINGFENCE, namespace, with_chart, with_chart_alone};

const FENCE: &str = "webhook fence.ringfence.dev";
const LABEL: &str = "webhook label.ringfence.dev";
const KINDS: &str = "webhook kinds.ringfence.dev";
const SERVICES: &str = "webhook services.ringfence.dev";
const LABEL_ENFORCED: &str = "webhook label-enforced.ringfence.dev";

fn container(image: &str, cpu: &str) -> Value {
    json!({"name": "c", "image": image, "resources": {"requests": {"cpu": cpu}}})
}

fn pod_spec() -> Value {
    // No token, so that a merge patch of the containers leaves out no mount that was added.
    json!({"automountServiceAccountToken": false, "containers": [container("a/b", "100m")]})
}

/// Every kind that makes pods: where its collection is, and an object.
fn pod_makers(ns: &str, labels: &Value) -> Vec<(String, Value)> {
    let metadata = json!({"name": "x", "labels": labels});
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": pod_spec()});
    let mut job_template = template.clone();
    job_template["spec"]["restartPolicy"] = json!("Never");
    let workload =
        json!({"metadata": metadata, "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template}});
    let mut stateful = workload.clone();
    stateful["spec"]["serviceName"] = json!("x");
    let (core, apps) = (
        format!("/api/v1/namespaces/{ns}"),
        format!("/apis/apps/v1/namespaces/{ns}"),
    );
    let batch = format!("/apis/batch/v1/namespaces/{ns}");
    let cron = json!({"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": job_template}}});
    vec![
        (
            format!("{core}/pods"),
            json!({"metadata": metadata, "spec": pod_spec()}),
        ),
        (
            format!("{core}/replicationcontrollers"),
            json!({"metadata": metadata, "spec": {"selector": {"app": "x"}, "template": template}}),
        ),
        (
            format!("{core}/podtemplates"),
            json!({"metadata": metadata, "template": template}),
        ),
        (format!("{apps}/deployments"), workload.clone()),
        (format!("{apps}/replicasets"), workload.clone()),
        (format!("{apps}/daemonsets"), workload),
        (format!("{apps}/statefulsets"), stateful),
        (
            format!("{batch}/jobs"),
            json!({"metadata": metadata, "spec": {"template": job_template}}),
        ),
        (format!("{batch}/cronjobs"), json!({"metadata": metadata, "spec": cron})),
        // A stored template, from which a StatefulSet or DaemonSet makes pods again.
        (
            format!("{apps}/controllerrevisions"),
            json!({"metadata": metadata, "data": {}, "revision": 1}),
        ),
    ]
}

async fn tried(user: &Api, path: &str, body: Value) -> String {
    fate(user.post(&format!("{path}?dryRun=All"), body).await)
}

/// How often each registration failed to get an answer, as the API server counts it.
async fn asked(admin: &Api) -> f64 {
    let request = axum::http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = admin.text(request).await;
    let counted = text.lines().filter(|line| {
        line.starts_with("apiserver_admission_webhook_rejection_count{") && line.contains("ringfence.dev\"")
    });
    counted
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

#[tokio::test]
async fn everything_that_makes_pods_is_asked_about_once() {
    let (admin, _chart) = with_chart_alone().await;
    let enforced = namespace(&admin, "asked-enforced", json!({"ringfence.dev/enforce": "default"})).await;
    let plain = namespace(&admin, "asked-plain", json!({"ringfence.dev/warn": "default"})).await;
    for (ns, labels, expected) in [
        (&enforced, json!({}), FENCE),
        (&enforced, json!({"ringfence.dev/workflow": "triage"}), FENCE),
        (&plain, json!({}), "done"),
        (&plain, json!({"ringfence.dev/workflow": "triage"}), LABEL),
        (&plain, json!({"ringfence.dev/workflow": ""}), LABEL),
    ] {
        for (path, body) in pod_makers(ns, &labels) {
            let before = asked(&admin).await;
            assert_eq!(tried(&admin, &path, body.clone()).await, expected, "{path} {labels}");
            let calls = if expected == "done" { 0.0 } else { 1.0 };
            assert_eq!(asked(&admin).await - before, calls, "{path} {labels}");
            assert_eq!(
                tried(&admin.master(RINGFENCE), &path, body).await,
                "done",
                "our own: {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_label_anywhere_is_asked_about() {
    let (admin, _chart) = with_chart().await;
    let enforced = namespace(&admin, "label-enforced", json!({"ringfence.dev/enforce": "default"})).await;
    let plain = namespace(&admin, "label-plain", json!({})).await;
    let labelled = json!({"metadata": {"name": "x", "labels": {"ringfence.dev/workflow": "triage"}}});
    let bare = json!({"metadata": {"name": "x"}});
    for (ns, expected) in [(&enforced, LABEL_ENFORCED), (&plain, LABEL)] {
        let core = format!("/api/v1/namespaces/{ns}");
        let configmaps = format!("{core}/configmaps");
        assert_eq!(tried(&admin, &configmaps, bare.clone()).await, "done");
        assert_eq!(tried(&admin, &configmaps, labelled.clone()).await, expected);
        let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{ns}/leases");
        assert_eq!(tried(&admin, &lease, labelled.clone()).await, "done");
        let mut event = labelled.clone();
        event["involvedObject"] = json!({"namespace": ns});
        assert_eq!(tried(&admin, &format!("{core}/events"), event).await, "done");

        let mut slice = labelled.clone();
        slice["addressType"] = json!("IPv4");
        slice["endpoints"] = json!([]);
        let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices");
        // Where something is enforced two ask, and the API server tells of whichever it hears first.
        let asked_by: &[&str] = if ns == &enforced {
            &[SERVICES, LABEL_ENFORCED]
        } else {
            &[LABEL]
        };
        let refused = tried(&admin, &slices, slice.clone()).await;
        assert!(asked_by.contains(&refused.as_str()), "{ns}: {refused}");
        for controller in [
            "system:serviceaccount:kube-system:endpointslice-controller",
            "system:kube-controller-manager",
        ] {
            assert_eq!(
                tried(&admin.master(controller), &slices, slice.clone()).await,
                "done",
                "{controller}"
            );
            assert_eq!(
                tried(&admin.master(controller), &configmaps, labelled.clone()).await,
                expected,
                "{controller}"
            );
        }
        // Taking the label off, and putting it on, are asked about as well.
        admin
            .master(RINGFENCE)
            .post(&configmaps, labelled.clone())
            .await
            .unwrap();
        let off = json!({"metadata": {"labels": null}});
        assert_eq!(fate(admin.patch(&format!("{configmaps}/x"), off).await), expected);
        admin
            .post(&configmaps, json!({"metadata": {"name": "y"}}))
            .await
            .unwrap();
        assert_eq!(
            fate(admin.patch(&format!("{configmaps}/y"), labelled_patch()).await),
            expected
        );
    }
    // What lies in no namespace runs nothing there, and other products copy labels to it.
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    assert_eq!(tried(&admin, roles, labelled.clone()).await, "done");
    assert_eq!(tried(&admin, "/api/v1/nodes", labelled.clone()).await, "done");
    for exempt in ["kube-system", "kube-public", "kube-node-lease", RELEASE] {
        assert_eq!(
            tried(
                &admin,
                &format!("/api/v1/namespaces/{exempt}/configmaps"),
                labelled.clone()
            )
            .await,
            "done"
        );
    }
}

fn labelled_patch() -> Value {
    json!({"metadata": {"labels": {"ringfence.dev/workflow": "triage"}}})
}

#[tokio::test]
async fn updates_that_change_nothing_judged_go_on_unasked() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "unasked", json!({"ringfence.dev/enforce": "default"})).await;
    let core = format!("/api/v1/namespaces/{ns}");
    let own = admin.master(RINGFENCE);
    let reference = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "name": name, "uid": name});
    let metadata = json!({"name": "p", "finalizers": ["test/hold"], "labels": {"a": "b"}});
    own.post(
        &format!("{core}/pods"),
        json!({"metadata": metadata, "spec": pod_spec()}),
    )
    .await
    .unwrap();
    let pod = format!("{core}/pods/p");
    let change = |metadata: Value| json!({"metadata": metadata});

    // Dry runs: an owner that is not there would have the pod collected.
    let dry = format!("{pod}?dryRun=All");
    assert_eq!(
        fate(
            admin
                .patch(&dry, change(json!({"ownerReferences": [reference("a")]})))
                .await
        ),
        FENCE
    );
    assert_eq!(
        fate(admin.patch(&dry, change(json!({"labels": {"a": "c"}}))).await),
        FENCE
    );
    assert_eq!(fate(admin.patch(&dry, change(json!({"labels": null}))).await), FENCE);
    assert_eq!(
        fate(admin.patch(&dry, change(json!({"annotations": {"a": "c"}}))).await),
        FENCE
    );
    let image = json!([container("a/c", "100m")]);
    assert_eq!(
        fate(admin.patch(&dry, json!({"spec": {"containers": image}})).await),
        FENCE
    );
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "a/d"}]}});
    assert_eq!(
        fate(
            admin
                .patch(&format!("{pod}/ephemeralcontainers?dryRun=All"), debug)
                .await
        ),
        FENCE
    );
    let bigger = json!({"spec": {"containers": [container("a/b", "200m")]}});
    assert_eq!(
        fate(admin.patch(&format!("{pod}/resize?dryRun=All"), bigger).await),
        FENCE
    );

    assert_eq!(
        fate(
            admin
                .patch(&format!("{pod}/status"), json!({"status": {"message": "x"}}))
                .await
        ),
        "done"
    );
    let more = change(json!({"finalizers": ["test/hold", "test/more"]}));
    assert_eq!(
        fate(admin.patch(&pod, more.clone()).await),
        FENCE,
        "it would stay by it"
    );
    own.patch(&pod, more).await.unwrap();
    let in_another_order = change(json!({"finalizers": ["test/more", "test/hold"]}));
    assert_eq!(fate(admin.patch(&pod, in_another_order).await), "done");
    // With fewer its record changes along, and that of anybody but a built-in controller is asked about.
    let fewer = change(json!({"finalizers": ["test/hold"]}));
    assert_eq!(fate(admin.patch(&pod, fewer.clone()).await), FENCE);
    own.patch(&pod, fewer).await.unwrap();
    assert_eq!(fate(admin.patch(&pod, json!({})).await), "done");
    assert_eq!(fate(admin.delete(&pod).await), "done");
    assert_eq!(
        fate(admin.patch(&dry, change(json!({"labels": {"a": "d"}}))).await),
        FENCE,
        "terminating is no way around"
    );
    assert_eq!(
        fate(admin.patch(&pod, change(json!({"finalizers": null}))).await),
        FENCE
    );
    own.patch(&pod, change(json!({"finalizers": null}))).await.unwrap();

    // Many owners, one of them going: a removed reference is asked about with its record, and no cost limit refuses it.
    let deployments = format!("/apis/apps/v1/namespaces/{ns}/deployments");
    let (_, mut deployment) = pod_makers(&ns, &json!({}))
        .into_iter()
        .find(|(path, _)| *path == deployments)
        .unwrap();
    let alive = admin.get(&core).await.unwrap()["metadata"]["uid"].clone();
    let owner = |i: i32| json!({"apiVersion": "v1", "kind": "Namespace", "name": ns, "uid": alive, "blockOwnerDeletion": i % 2 == 0});
    deployment["spec"]["replicas"] = json!(0);
    deployment["metadata"]["ownerReferences"] = json!((0..2).map(owner).collect::<Vec<_>>());
    deployment["metadata"]["name"] = json!("owned");
    own.post(&deployments, deployment.clone()).await.unwrap();
    let fewer = change(json!({"ownerReferences": [owner(1)]}));
    assert_eq!(
        fate(admin.patch(&format!("{deployments}/owned?dryRun=All"), fewer).await),
        FENCE
    );
    assert_eq!(
        fate(
            admin
                .patch(
                    &format!("{deployments}/owned?dryRun=All"),
                    change(json!({"ownerReferences": null}))
                )
                .await
        ),
        FENCE
    );
    assert_eq!(
        fate(
            admin
                .patch(
                    &format!("{deployments}/owned/scale?dryRun=All"),
                    json!({"spec": {"replicas": 3}})
                )
                .await
        ),
        "done"
    );
    assert_eq!(
        fate(
            admin
                .patch(
                    &format!("{deployments}/owned?dryRun=All"),
                    json!({"spec": {"paused": true}})
                )
                .await
        ),
        FENCE
    );

    deployment["metadata"]["name"] = json!("many");
    // These owners are not there: the finalizer keeps the object from being collected meanwhile.
    let absent = |i: i32| reference(&format!("absent-{i}"));
    deployment["metadata"]["finalizers"] = json!(["test/hold"]);
    deployment["metadata"]["ownerReferences"] = json!((0..1000).map(absent).collect::<Vec<_>>());
    own.post(&deployments, deployment).await.unwrap();
    let fewer = change(json!({"ownerReferences": (1..1000).map(absent).collect::<Vec<_>>()}));
    let found = fate(admin.patch(&format!("{deployments}/many?dryRun=All"), fewer).await);
    assert_eq!(found, FENCE, "too many to compare: asked, not an error");
}

#[tokio::test]
async fn huge_objects_are_no_error() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(&admin, "huge", json!({"ringfence.dev/enforce": "default"})).await;
    let many: Value = (0..10_000)
        .map(|i| (format!("k{i}"), json!("v")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let mut labels = many.clone();
    labels["ringfence.dev/workflow"] = json!("triage");
    let data = json!({"blob": "<".repeat(600_000)});
    let maps = format!("/api/v1/namespaces/{ns}/configmaps");
    let huge = json!({"metadata": {"name": "huge", "labels": labels, "annotations": many}, "data": data});
    assert_eq!(fate(admin.post(&maps, huge.clone()).await), LABEL_ENFORCED);
    admin.master(RINGFENCE).post(&maps, huge).await.unwrap();
    let object = format!("{maps}/huge");
    assert_eq!(
        fate(
            admin
                .patch(&object, json!({"metadata": {"finalizers": ["test/hold"]}}))
                .await
        ),
        "done"
    );
    assert_eq!(
        fate(admin.patch(&object, json!({"metadata": {"finalizers": null}})).await),
        "done"
    );
    assert_eq!(
        fate(admin.patch(&object, json!({"data": {"more": "x"}})).await),
        LABEL_ENFORCED
    );
    let wide: Value = (0..20_000)
        .map(|i| (format!("k{i}"), json!("v")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let mut pod = json!({"metadata": {"name": "wide", "labels": wide}, "spec": pod_spec()});
    pod["spec"]["nodeSelector"] = many;
    let pods = format!("/api/v1/namespaces/{ns}/pods");
    assert_eq!(fate(admin.post(&pods, pod).await), FENCE);
    assert_eq!(
        fate(
            admin
                .post(&pods, json!({"metadata": {"generateName": "e-"}, "spec": pod_spec()}))
                .await
        ),
        FENCE
    );
}

#[tokio::test]
async fn our_own_kinds_are_asked_about_everywhere() {
    let (admin, _chart) = with_chart().await;
    let own = admin.master(RINGFENCE);
    let enforced = namespace(&admin, "kinds-enforced", json!({"ringfence.dev/enforce": "default"})).await;
    let plain = namespace(&admin, "kinds-plain", json!({})).await;
    let object = |kind: &str, spec: Value| json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec});
    let group = "/apis/ringfence.dev/v1alpha1";
    let many: Value = (0..4_000)
        .map(|i| (format!("k{i}"), json!("v")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let mut written = vec![(
        format!("{group}/aiworkflowclasses"),
        object("AIWorkflowClass", json!({})),
        json!({"images": {"allowed": ["**"]}}),
    )];
    let grant = json!({
        "from": [{"namespace": "a", "name": "b"}],
        "rules": [{"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}],
    });
    let policy = support::cel::valid("RegoPolicy", "x", &json!({}));
    let changed = json!({"description": "x"});
    written.push((format!("{group}/regopolicies"), policy, changed));
    for ns in [enforced.as_str(), &plain, "kube-system", RELEASE] {
        let place = format!("{group}/namespaces/{ns}");
        let workflow = object("AIWorkflow", json!({"launchers": [], "images": ["a/b"]}));
        written.push((format!("{place}/aiworkflows"), workflow, json!({"images": ["a/c"]})));
        let grant = object("AIWorkflowGrant", grant.clone());
        written.push((
            format!("{place}/aiworkflowgrants"),
            grant,
            json!({"from": [{"namespace": "a", "name": "c"}]}),
        ));
    }
    for (path, body, spec) in written {
        assert_eq!(fate(admin.post(&path, body.clone()).await), KINDS, "{path}");
        let mut named = vec!["x"];
        assert_eq!(fate(own.post(&path, body.clone()).await), "done", "our own: {path}");
        if path.contains(&plain) && path.ends_with("aiworkflows") {
            let mut huge = body;
            huge["metadata"] = json!({"name": "huge", "annotations": many, "labels": many});
            assert_eq!(fate(admin.post(&path, huge.clone()).await), KINDS, "{path}");
            own.post(&path, huge).await.unwrap();
            named.push("huge");
        }
        for name in named {
            let one = format!("{path}/{name}");
            assert_eq!(fate(admin.patch(&one, json!({"spec": spec})).await), KINDS, "{one}");
            let label = json!({"metadata": {"labels": {"more": "x"}}});
            assert_eq!(fate(admin.patch(&one, label).await), KINDS, "{one}");
            let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
            let hold = finalizers(json!(["test/hold"]));
            let fields = json!({"metadata": {"managedFields": [{"apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:x": {}}, "manager": "x", "operation": "Update"}]}});
            for grows in [&hold, &fields] {
                assert_eq!(fate(admin.patch(&one, grows.clone()).await), KINDS, "{one}: {grows}");
            }
            own.patch(&one, hold).await.unwrap();
            assert_eq!(fate(admin.patch(&one, json!({})).await), "done", "{one}");
            // Whoever takes one off could write anything into managedFields with it.
            let mut both = fields.clone();
            both["metadata"]["finalizers"] = Value::Null;
            for free in [both.clone(), finalizers(Value::Null)] {
                assert_eq!(fate(admin.patch(&one, free).await), KINDS, "{one}");
            }
            let status = json!({"status": {"observedGeneration": 1}});
            assert_eq!(
                fate(admin.patch(&format!("{one}/status"), status).await),
                "done",
                "{one}"
            );
            assert_eq!(fate(admin.delete(&one).await), "done", "{one}");
            assert_eq!(fate(admin.patch(&one, fields).await), KINDS, "{one}");
            // It ends with that, whatever is in it.
            assert_eq!(fate(admin.patch(&one, both).await), "done", "{one}");
            assert!(admin.get(&one).await.is_err(), "{one}");
        }
    }
}

#[tokio::test]
async fn removing_a_mode_and_deleting_go_on_unasked() {
    let (admin, _chart) = with_chart().await;
    let ns = namespace(
        &admin,
        "unasked-modes",
        json!({"ringfence.dev/enforce": "default", "ringfence.dev/warn": "default"}),
    )
    .await;
    let path = format!("/api/v1/namespaces/{ns}");
    let label = |value: Value| json!({"metadata": {"labels": {"ringfence.dev/warn": value}}});
    assert_eq!(
        fate(admin.patch(&path, label(json!("gold"))).await),
        "webhook modes.ringfence.dev"
    );
    assert_eq!(
        fate(
            admin
                .patch(&path, json!({"metadata": {"annotations": {"a": "b"}}}))
                .await
        ),
        "done"
    );
    let other = json!({"metadata": {"labels": {"owner": "b"}}});
    assert_eq!(
        fate(admin.patch(&path, other).await),
        "webhook modes.ringfence.dev",
        "policies judge the labels that a mode stands beside"
    );
    let along = json!({"metadata": {"labels": {"ringfence.dev/warn": null, "owner": "b"}}});
    assert_eq!(
        fate(admin.patch(&path, along).await),
        "webhook modes.ringfence.dev",
        "a weaker mode takes nothing along"
    );
    assert_eq!(fate(admin.patch(&path, label(Value::Null)).await), "done");
    // The way out while no replica is there, whatever else goes with it and whichever mode stays.
    let out =
        json!({"metadata": {"labels": {"ringfence.dev/enforce": null, "owner": "b", "ringfence.dev/warn": null}}});
    assert_eq!(fate(admin.patch(&format!("{path}?dryRun=All"), out).await), "done");
    let pods = format!("{path}/pods");
    admin
        .master(RINGFENCE)
        .post(&pods, json!({"metadata": {"name": "x"}, "spec": pod_spec()}))
        .await
        .unwrap();
    assert_eq!(fate(admin.delete(&format!("{pods}/x")).await), "done");
    admin.delete(&path).await.unwrap();
}
