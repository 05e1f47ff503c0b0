//! Door: none. Other products work inside the fence as the class lets them: queues, injectors of sidecars, controllers of repositories.

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::json;
use support::{Identity, eventually, unique};
use tokio::time::{Duration, sleep};

use crate::attackers::holder;
use crate::legitimate::has_pods;
use crate::owned::{GUARD as OWNED, spec as granted};
use crate::world::{Actor, SOON, World, all, container, one, pod, workflow, workload};

/// As Kueue does: it is no launcher, and decides when a Job runs; where it also says where, it is one by the class.
/// Legitimate: a queue suspends and resumes Jobs, and as a launcher of the class sets their nodes.
#[tokio::test]
async fn a_queue_holds_jobs_back_and_lets_them_run() {
    let world = World::shared().await;
    let system = &world.namespace("kueue", &json!({})).await;
    let account = json!({"serviceAccount": {"namespace": system, "name": "kueue"}});
    world
        .admin
        .post(&all("ServiceAccount", system), &json!({"metadata": {"name": "kueue"}}))
        .await
        .ok();
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "launchers": [account]}))
        .await;
    let lea = world.master("lea", &[]).await;
    for (labels, sets_nodes) in [("default".to_owned(), false), (class, true)] {
        let ns = &world
            .namespace("queue", &json!({"ringfence.dev/enforce": labels}))
            .await;
        world.ready(ns, "triage", &json!({})).await;
        let subject = json!({"kind": "ServiceAccount", "namespace": system, "name": "kueue"});
        world.bind(ns, "edit", &subject).await;
        let kueue = Actor::new(world.cluster.service_account(system, "kueue").await);
        eventually(SOON, || async { kueue.read(&all("Job", ns)).await }).await;
        let mut job = workload("Job", &pod("queued", "triage"));
        job["spec"]["suspend"] = json!(true);
        lea.post(&all("Job", ns), &job).await.ok();
        let path = one("Job", ns, "queued");
        let nodes = json!({"spec": {"template": {"spec": {"nodeSelector": {"pool": "gpu"}}}}});
        let answer = kueue.patch(&path, &nodes).await;
        if sets_nodes {
            answer.ok();
        } else {
            answer.refused_by("launcher");
        }
        kueue.patch(&path, &json!({"spec": {"suspend": false}})).await.ok();
        let pods = has_pods(&world, ns, "queued", 1).await;
        assert_eq!(
            pods[0]["spec"]["nodeSelector"].is_null(),
            !sets_nodes,
            "{}",
            pods[0]["spec"]
        );
        kueue.patch(&path, &json!({"spec": {"suspend": true}})).await.ok();
        has_pods(&world, ns, "queued", 0).await;
    }
}

/// What an injector puts into a pod when its author is done: a container, a volume, an annotation.
/// Legitimate: a sidecar that the class knows is injected; one that it does not know is refused.
#[tokio::test]
async fn a_sidecar_is_injected_that_the_class_allows() {
    let world = World::shared().await;
    let class = json!({
        "images": {"allowed": ["registry.example.com/**"], "injected": ["docker.io/istio/proxyv2"]},
        "volumes": {"types": ["emptyDir"]}, "podAnnotations": ["sidecar.istio.io/"],
    });
    let class = world.class(&class).await;
    let ns = &world
        .namespace("injected", &json!({"ringfence.dev/enforce": class}))
        .await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let injected = |image: &str, annotation: &str| {
        let mut sidecar = container("istio-proxy");
        sidecar["image"] = json!(image);
        sidecar["volumeMounts"] = json!([{"name": "istio-envoy", "mountPath": "/etc/istio/proxy"}]);
        let mut whole = pod("meshed", "triage");
        whole["metadata"]["annotations"] = json!({annotation: "{}"});
        whole["spec"]["containers"].as_array_mut().unwrap().push(sidecar);
        whole["spec"]["volumes"] = json!([{"name": "istio-envoy", "emptyDir": {}}]);
        whole
    };
    let pods = all("Pod", ns);
    lea.post(&pods, &injected("docker.io/linkerd/proxy:1", "sidecar.istio.io/status"))
        .await
        .refused_by("approved-images");
    lea.post(&pods, &injected("istio/proxyv2:1.29", "k8s.v1.cni.cncf.io/networks"))
        .await
        .refused_by("pod-annotations");
    lea.post(&pods, &injected("istio/proxyv2:1.29", "sidecar.istio.io/status"))
        .await
        .ok();
}

/// With a token of its own, by server-side apply, everything in one go and again.
/// Legitimate: Argo CD or Flux applies a workflow and what it runs as a launcher of the class, over and over.
#[tokio::test]
async fn a_repository_is_applied_by_its_controller() {
    let world = World::shared().await;
    let argo = &world.namespace("argocd", &json!({})).await;
    world
        .admin
        .post(
            &all("ServiceAccount", argo),
            &json!({"metadata": {"name": "controller"}}),
        )
        .await
        .ok();
    let account = json!({"serviceAccount": {"namespace": argo, "name": "controller"}});
    let class = world
        .class(&json!({"images": {"allowed": ["**"]}, "launchers": [account], "podAnnotations": ["kubectl.kubernetes.io/"]}))
        .await;
    let ns = &world
        .namespace("applied", &json!({"ringfence.dev/enforce": class}))
        .await;
    let subject = json!({"kind": "ServiceAccount", "namespace": argo, "name": "controller"});
    world.bind(ns, "edit", &subject).await;
    let controller = Identity::service_account(argo, "controller");
    let actor = Actor::new(world.cluster.client(&controller).await);
    eventually(SOON, || async { actor.read(&all("AIWorkflow", ns)).await }).await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "model", "labels": {"ringfence.dev/workflow": "triage"}}, "data": {"a": "b"}});
    let mut objects = vec![
        workflow("triage", &json!({"launchers": []})),
        map,
        workload("Deployment", &pod("served", "triage")),
        workload("Job", &pod("once", "triage")),
    ];
    for object in &mut objects {
        object["metadata"]["namespace"] = json!(ns);
    }
    let path = world.cluster.directory().join(format!("{}.json", unique("repository")));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(&path, list.to_string()).expect("writing manifests");
    let path = path.display().to_string();
    let apply = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=argocd-controller",
        "-f",
        &path,
    ];
    let done = world.cluster.kubectl_as(&controller, &apply).await.unwrap();
    assert!(done.success, "{done}");
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    for app in ["served", "once"] {
        has_pods(&world, ns, app, 1).await;
    }
    let again = world.cluster.kubectl_as(&controller, &apply).await.unwrap();
    assert!(again.success, "{again}");
    // A person with the same rights is none.
    let (edith, _) = world.person(ns, "edit").await;
    let restart = ["rollout", "restart", "deployment/served", "--namespace", ns];
    let refused = world.cluster.kubectl_as(&edith, &restart).await.unwrap();
    assert!(!refused.success && refused.stderr.contains("[launcher]"), "{refused}");
    let restarted = world.cluster.kubectl_as(&controller, &restart).await.unwrap();
    assert!(restarted.success, "{restarted}");
}

/// As Cilium and Kuma do for each pod, in every mode: what it writes down has the pod's labels, and without it the pod has no identity.
/// Legitimate: a network plugin keeps a record of each pod, labels included, in the cluster and in its namespace.
#[tokio::test]
async fn a_network_plugin_writes_down_the_labels_of_pods() {
    let world = World::shared().await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let ns = &world.enforced("recorded").await;
    // So do others, to what runs nothing where it lies.
    let role =
        json!({"metadata": {"name": unique("copied"), "labels": {"ringfence.dev/workflow": "triage"}}, "rules": []});
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    world.admin.post(roles, &role).await.ok();
    let in_it = format!("namespaces/{ns}/");
    for (group, kind, plural, of) in [
        ("cilium.io", "CiliumIdentity", "ciliumidentities", ""),
        ("cilium.io", "CiliumEndpoint", "ciliumendpoints", &*in_it),
        ("cilium.io", "CiliumEndpointSlice", "ciliumendpointslices", ""),
        ("cilium.io", "PodInfo", "podinfo", &*in_it),
        ("kuma.io", "Dataplane", "dataplanes", &*in_it),
    ] {
        let scope = if of.is_empty() { "Cluster" } else { "Namespaced" };
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let definition = json!({
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group, "scope": scope, "names": {"kind": kind, "plural": plural},
                "versions": [{"name": "v2", "served": true, "storage": true, "schema": schema}],
            },
        });
        world.admin.post(definitions, &definition).await.ok();
        let path = format!("/apis/{group}/v2/{of}{plural}");
        eventually(SOON, || async { world.admin.read(&path).await }).await;
        let name = unique("record");
        let record = json!({
            "apiVersion": format!("{group}/v2"), "kind": kind,
            "metadata": {"name": name, "labels": {"ringfence.dev/workflow": "triage", "app": "web"}},
        });
        world.admin.post(&path, &record).await.ok();
        let heartbeat = json!({"metadata": {"annotations": {"io.cilium.heartbeat": "1"}, "labels": {"ringfence.dev/workflow": "other"}}});
        let path = format!("{path}/{name}");
        world.admin.patch(&path, &heartbeat).await.ok();
        world.admin.delete(&path).await.ok();
    }
}

/// As the controller of the VPC CNI does, which puts no policy in force that it does not hold, and whose account EKS chooses: nobody
/// else holds anything.
/// Legitimate: a network plugin holds each NetworkPolicy by its finalizer.
#[tokio::test]
async fn a_network_plugin_holds_policies_by_its_finalizer() {
    let world = World::shared().await;
    let rules = json!([
        {"apiGroups": ["networking.k8s.aws"], "resources": ["policyendpoints"], "verbs": ["create", "patch"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "list", "update", "patch"]},
    ]);
    let plugin = holder(&world, &rules).await;
    let hold = |finalizer: &str| json!({"metadata": {"finalizers": [finalizer]}});
    let engine = hold("networking.k8s.aws/resources");
    for mode in ["enforce", "warn"] {
        let ns = &world
            .namespace("held", &json!({format!("ringfence.dev/{mode}"): "default"}))
            .await;
        let (_, edith) = world.tenant(ns).await;
        let way = json!({"network": {"egress": [{"name": "bank", "to": {"pods": {"selector": {"matchLabels": {"app": "bank"}}}}, "ports": [{"port": 443}]}]}});
        world
            .tess
            .post(&all("AIWorkflow", ns), &workflow("triage", &way))
            .await
            .ok();
        world.condition(ns, "triage", "Programmed", "True", "Applied").await;
        let allow = one("NetworkPolicy", ns, &owned_name(ns, "triage", "allow"));
        if mode == "enforce" {
            for path in [&allow, &one("NetworkPolicy", ns, "ringfence")] {
                edith.patch(path, &engine).await.refused_by_guard(OWNED);
                plugin.patch(path, &hold("a.b/hold")).await.refused_by_guard(OWNED);
                let opened = json!({"metadata": engine["metadata"], "spec": {"egress": [{}]}});
                plugin.patch(path, &opened).await.refused_by_guard(OWNED);
                plugin.patch(path, &engine).await.ok();
                plugin
                    .patch(path, &json!({"metadata": {"finalizers": null}}))
                    .await
                    .ok();
            }
            let lea = world.master("lea", &[]).await;
            plugin.patch(&one("NetworkPolicy", ns, "ringfence"), &engine).await.ok();
            lea.post(&all("Pod", ns), &pod("fine", "triage")).await.ok();
        }
        plugin.patch(&allow, &engine).await.ok();
        let held = world.admin.read(&allow).await.unwrap();
        // A reconcile of something else leaves it, and what is withdrawn goes with it.
        let more = json!({"spec": granted()});
        world.tess.patch(&one("AIWorkflow", ns, "triage"), &more).await.ok();
        let role = one("Role", ns, &owned_name(ns, "triage", "role"));
        eventually(SOON, || async { world.admin.read(&role).await }).await;
        let kept = world.admin.read(&allow).await.unwrap();
        assert_eq!(
            kept["metadata"]["resourceVersion"], held["metadata"]["resourceVersion"],
            "written again"
        );
        world.tess.delete(&one("AIWorkflow", ns, "triage")).await.ok();
        // Whether its plugin lets it go or not.
        world.admin.gone(&allow).await;
    }
}

/// What its price is charged to, as platforms have it on every object that is written.
/// Legitimate: a mutating policy labels everything, what Ringfence makes included.
#[tokio::test]
async fn a_platform_labels_everything() {
    let world = World::shared().await;
    let (name, group) = (unique("label"), "/apis/admissionregistration.k8s.io/v1");
    let resources = json!([
        {"apiGroups": ["networking.k8s.io"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["networkpolicies"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["roles", "rolebindings"]},
    ]);
    let only = json!({"matchLabels": {"billed": name}});
    let policy = json!({"metadata": {"name": name}, "spec": {
        "failurePolicy": "Fail", "reinvocationPolicy": "Never",
        "matchConstraints": {"resourceRules": resources, "namespaceSelector": only},
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {
            "expression": "Object{metadata: Object.metadata{labels: {'team': 'x'}}}",
        }}],
    }});
    let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
    world
        .admin
        .post(&format!("{group}/mutatingadmissionpolicies"), &policy)
        .await
        .ok();
    world
        .admin
        .post(&format!("{group}/mutatingadmissionpolicybindings"), &binding)
        .await
        .ok();
    let ns = &world.namespace("billed", &json!({"billed": name})).await;
    let rules = json!({"metadata": {"name": "probe"}, "rules": []});
    eventually(SOON, || async {
        let answer = world
            .admin
            .post(&format!("{}?dryRun=All", all("Role", ns)), &rules)
            .await;
        ensure!(
            answer.body["metadata"]["labels"]["team"] == "x",
            "{} {}",
            answer.code,
            answer.body
        );
        Ok(())
    })
    .await;
    world.enforce(ns).await;
    world.ready(ns, "triage", &granted()).await;
    let lea = world.master("lea", &[]).await;
    lea.post(&all("Pod", ns), &pod("fine", "triage")).await.ok();
    for path in [
        one("NetworkPolicy", ns, "ringfence"),
        one("Role", ns, &owned_name(ns, "triage", "role")),
    ] {
        let made = world.admin.read(&path).await.unwrap();
        assert_eq!(made["metadata"]["labels"]["team"], "x", "{path}");
        sleep(Duration::from_secs(2)).await;
        let later = world.admin.read(&path).await.unwrap();
        assert_eq!(
            later["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"],
            "written again"
        );
    }
    for kind in ["mutatingadmissionpolicybindings", "mutatingadmissionpolicies"] {
        world.admin.delete(&format!("{group}/{kind}/{name}")).await.ok();
    }
}

/// As the storage version migrator writes every object of a kind once more, and ends at the first that it may not.
/// Legitimate: what Ringfence made is written again as it is, and its definitions are marked as being migrated.
#[tokio::test]
async fn what_is_stored_is_migrated() {
    let world = World::shared().await;
    let ns = &world.enforced("migrated").await;
    world.ready(ns, "triage", &granted()).await;
    let (_, edith) = world.tenant(ns).await;
    for (kind, name) in [
        ("NetworkPolicy", "ringfence".to_owned()),
        ("ServiceAccount", "triage".to_owned()),
        ("Role", owned_name(ns, "triage", "role")),
        ("RoleBinding", owned_name(ns, "triage", "binding")),
    ] {
        let path = one(kind, ns, &name);
        let stored = world.admin.read(&path).await.unwrap();
        world.admin.put(&path, &stored).await.ok();
        let forgotten = json!({"metadata": {"managedFields": [{}]}});
        if matches!(kind, "NetworkPolicy" | "ServiceAccount") {
            edith.put(&path, &stored).await.ok();
            edith.patch(&path, &forgotten).await.refused_by_guard(OWNED);
        } else {
            world.admin.patch(&path, &forgotten).await.refused_by_guard(OWNED);
        }
    }
    let of_definition = holder(&world, &json!([
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions", "customresourcedefinitions/status"], "verbs": ["get", "patch"]},
    ]))
    .await;
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/regopolicyexceptions.ringfence.dev";
    let now = "2026-01-01T00:00:00Z";
    let marked =
        |kind: &str| json!({"type": kind, "status": "True", "reason": "x", "message": "", "lastTransitionTime": now});
    let conditions = world.admin.read(definition).await.unwrap()["status"]["conditions"].clone();
    let with = |kind: &str| {
        let mut conditions = conditions.as_array().cloned().unwrap_or_default();
        conditions.push(marked(kind));
        json!({"status": {"conditions": conditions}})
    };
    let status = format!("{definition}/status");
    of_definition
        .patch(&status, &with("Terminating"))
        .await
        .refused_by_guard("ringfence-definitions");
    of_definition.patch(&status, &with("StorageMigrating")).await.ok();
    of_definition
        .patch(&status, &json!({"status": {"conditions": conditions}}))
        .await
        .ok();
}
