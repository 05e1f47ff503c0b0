//! Door: a pod that runs other code, has other ways out, or stands elsewhere than its workflow and class say.
//!
//! Every kind that makes pods is tried, as whoever may launch: a tenant who is a launcher herself is the strongest there is.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::world::{
    Actor, CLASSES, SOON, WORKLOADS, World, all, annotated, container, one, pod, template_of, workload,
};

const RUNTIME_CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";

/// A rule, and what it refuses.
type Change = (&'static str, fn(&mut Value));

/// A rule, what of its refusal is looked for, and what breaks it.
type Breach = (&'static str, &'static str, fn(&mut Value));

fn token(audience: &str, seconds: u32) -> Value {
    json!([{"name": "t", "projected": {"sources": [
        {"serviceAccountToken": {"path": "t", "audience": audience, "expirationSeconds": seconds}},
    ]}}])
}

/// A workflow that the tenant may launch herself.
fn launched_by_tenants() -> Value {
    json!({"launchers": [{"user": "lea"}, {"user": "tess"}]})
}

fn of_image(name: &str, image: &str) -> Value {
    let mut container = container(name);
    container["image"] = json!(image);
    container
}

/// Keeps off each node where its pod runs whatever pods of those namespaces.
fn apart(of: &Value) -> Value {
    let mut term = of.clone();
    term["topologyKey"] = json!("kubernetes.io/hostname");
    term["labelSelector"] = json!({});
    json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})
}

/// All of them pass the restricted standard: nobody but the fence refuses them.
fn breaches() -> Vec<Breach> {
    vec![
        ("approved-images", "docker.io/library/miner", |template| {
            template["spec"]["containers"] = json!([of_image("main", "docker.io/library/miner:1")]);
        }),
        ("approved-images", "docker.io/istio/proxyv2-evil", |template| {
            template["spec"]["initContainers"] = json!([of_image("first", "docker.io/istio/proxyv2-evil:1")]);
        }),
        ("approved-images", "docker.io/library/miner", |template| {
            let mut sidecar = of_image("beside", "docker.io/library/miner:1");
            sidecar["restartPolicy"] = json!("Always");
            template["spec"]["initContainers"] = json!([sidecar]);
        }),
        ("volumes", "spec.volumes.types of AIWorkflowClass", |template| {
            template["spec"]["volumes"] = json!([{"name": "v", "downwardAPI": {"items": []}}]);
        }),
        ("volumes", "spec.volumes.types of AIWorkflowClass", |template| {
            let reference = "registry.example.com/finance/triage:1.4";
            template["spec"]["volumes"] = json!([{"name": "v", "image": {"reference": reference}}]);
        }),
        ("volumes", "spec.volumes.types of AIWorkflowClass", |template| {
            let claim = json!({
                "accessModes": ["ReadWriteOnce"], "storageClassName": "shared-files",
                "resources": {"requests": {"storage": "1Gi"}},
            });
            template["spec"]["volumes"] = json!([{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}]);
        }),
        ("volumes", "secrets-store.csi.k8s.io", |template| {
            template["spec"]["volumes"] = json!([{"name": "v", "csi": {"driver": "smb.csi.k8s.io"}}]);
        }),
        ("volumes", "spec.resourceClaims", |template| {
            template["spec"]["resourceClaims"] = json!([{"name": "nic", "resourceClaimName": "nic"}]);
        }),
        ("pod-annotations", "k8s.v1.cni.cncf.io/networks", |template| {
            template["metadata"]["annotations"] = json!({"k8s.v1.cni.cncf.io/networks": "second"});
        }),
        ("projected-tokens", "does not declare", |template| {
            template["spec"]["volumes"] = token("sts.amazonaws.com", 600);
        }),
        ("projected-tokens", "900 seconds that AIWorkflow triage", |template| {
            template["spec"]["volumes"] = token("vault", 1200);
        }),
        ("projected-tokens", "1800 seconds that AIWorkflowClass", |template| {
            template["spec"]["volumes"] = token("", 3600);
        }),
        ("pod-node", "spec.nodeName = \"control-plane-1\"", |template| {
            template["spec"]["nodeName"] = json!("control-plane-1");
        }),
        ("pod-node", "spec.nodes.taints of AIWorkflowClass", |template| {
            template["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        }),
        ("pod-node", "node-role.kubernetes.io/control-plane", |template| {
            let taint = "node-role.kubernetes.io/control-plane";
            template["spec"]["tolerations"] = json!([{"key": taint, "operator": "Exists", "effect": "NoSchedule"}]);
        }),
        ("pod-node", "spec.nodes.runtimeClasses of AIWorkflowClass", |template| {
            template["spec"]["runtimeClassName"] = json!("bypass-bare");
        }),
        ("pod-node", "podAntiAffinity", |template| {
            template["spec"]["affinity"] = apart(&json!({"namespaces": ["ringfence"]}));
        }),
        ("pod-node", "podAntiAffinity", |template| {
            template["spec"]["affinity"] = apart(&json!({"namespaceSelector": {}}));
        }),
        ("pod-node", "system-node-critical", |template| {
            template["spec"]["priorityClassName"] = json!("system-node-critical");
        }),
    ]
}

fn strict() -> Value {
    json!({
        "images": {"allowed": ["registry.example.com/**"], "injected": ["docker.io/istio/proxyv2"]},
        "identity": {"audiences": ["vault"], "maxTokenSeconds": 1800},
        "volumes": {"types": ["emptyDir", "projected", "csi"], "csiDrivers": ["secrets-store.csi.k8s.io"]},
        "podAnnotations": ["kubectl.kubernetes.io/"],
        "nodes": {"runtimeClasses": ["bypass-sandbox"], "taints": ["nvidia.com/gpu"]},
    })
}

fn dry(kind: &str, namespace: &str) -> String {
    format!("{}?dryRun=All", all(kind, namespace))
}

/// What the fence allows, with something of everything that the class names.
fn good(kind: &str) -> Value {
    let mut good = workload(kind, &pod("good", "triage"));
    let template = good.pointer_mut(template_of(kind)).unwrap();
    template["spec"]["initContainers"] = json!([of_image("istio", "istio/proxyv2:1.29")]);
    template["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/default-container": "main"});
    template["spec"]["volumes"] = token("vault", 900);
    let more = [
        json!({"name": "e", "emptyDir": {}}),
        json!({"name": "c", "csi": {"driver": "secrets-store.csi.k8s.io"}}),
    ];
    template["spec"]["volumes"].as_array_mut().unwrap().extend(more);
    template["spec"]["runtimeClassName"] = json!("bypass-sandbox");
    template["spec"]["tolerations"] = json!([{"key": "nvidia.com/gpu", "operator": "Exists"}]);
    template["spec"]["containers"][0]["livenessProbe"] = json!({"httpGet": {"port": 8080}});
    template["spec"]["affinity"] = apart(&json!({}));
    good
}

async fn runtime_classes(world: &World) {
    for name in ["bypass-sandbox", "bypass-bare"] {
        let class = json!({"metadata": {"name": name}, "handler": "x"});
        let answer = world.admin.post(RUNTIME_CLASSES, &class).await;
        assert!(matches!(answer.code, 201 | 409), "{}", answer.body);
    }
}

/// In the pod itself, and in the template of every kind that makes pods.
///
/// Held by: `approved-images`, `volumes`, `pod-annotations`, `projected-tokens`, `pod-node`
#[tokio::test]
async fn a_launcher_gives_pods_what_the_class_does_not_allow() {
    let world = World::shared().await;
    runtime_classes(&world).await;
    let class = world.class(&strict()).await;
    let ns = &world.namespace("shape", &json!({"ringfence.dev/enforce": class})).await;
    let mut spec = launched_by_tenants();
    spec["identity"] = json!({"audiences": [{"audience": "vault", "maxExpirationSeconds": 900}]});
    world.ready(ns, "triage", &spec).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.person(ns, "edit").await;
    let kinds = WORKLOADS.map(async |kind| {
        let good = good(kind);
        lea.post(&dry(kind, ns), &good).await.ok();
        for (rule, said, breach) in breaches() {
            let mut broken = good.clone();
            breach(broken.pointer_mut(template_of(kind)).unwrap());
            let answer = lea.post(&dry(kind, ns), &broken).await;
            let message = answer.refused_by(rule);
            let reasons: Vec<_> = message.lines().filter(|line| line.contains(". [")).collect();
            let of_rule = reasons.iter().all(|line| line.contains(&format!(". [{rule}] ")));
            assert!(message.contains(said) && of_rule, "{kind}, {said}: {message}");
            // The chart's role gives tenants no PodTemplates to write.
            if kind != "PodTemplate" {
                let answer = world.tess.post(&dry(kind, ns), &broken).await;
                assert!(answer.refused_by(rule).contains(said), "{kind}: {}", answer.message());
                edith.post(&dry(kind, ns), &broken).await.refused_by(rule);
            }
        }
    });
    futures::future::join_all(kinds).await;
    world.tess.post(&dry("Job", ns), &good("Job")).await.ok();

    // What an image holds as a volume is code like any other, for both rules to judge.
    let mut unpacked = pod("unpacked", "triage");
    let reference = "docker.io/library/miner:1";
    unpacked["spec"]["volumes"] = json!([{"name": "v", "image": {"reference": reference}}]);
    let answer = world.tess.post(&dry("Job", ns), &workload("Job", &unpacked)).await;
    assert!(
        answer.refused_by("volumes").contains("[approved-images]"),
        "{}",
        answer.message()
    );

    let mut claims = workload("StatefulSet", &pod("claims", "triage"));
    let wanted = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    claims["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": wanted}]);
    let answer = world.tess.post(&dry("StatefulSet", ns), &claims).await;
    let message = answer.refused_by("volumes");
    assert!(message.contains("spec.volumeClaimTemplates"), "{message}");

    // The token that the API server mounts unasked is good for longer than this class lets any be.
    let mut unasked = pod("unasked", "triage");
    unasked["spec"]["automountServiceAccountToken"] = json!(true);
    let answer = world.tess.post(&dry("Pod", ns), &unasked).await;
    let message = answer.refused_by("projected-tokens");
    assert!(
        message.contains("3607") && message.contains("automountServiceAccountToken: false"),
        "{message}"
    );
}

/// The template is clean, and what is sent in its name is not: a controller's pod is judged like any other.
///
/// Held by: `approved-images`, `volumes`, `own-service-account`
#[tokio::test]
async fn a_controllers_pod_is_another_than_its_template() {
    let world = World::shared().await;
    let ns = &world.enforced("differs").await;
    world.ready(ns, "triage", &launched_by_tenants()).await;
    let mut job = workload("Job", &pod("clean", "triage"));
    job["spec"]["suspend"] = json!(true);
    let job = world.tess.post(&all("Job", ns), &job).await.ok();
    let mut made = pod("made", "triage");
    made["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "batch/v1", "kind": "Job", "name": "clean", "uid": job["metadata"]["uid"], "controller": true,
    }]);
    let changes: [Change; 3] = [
        ("approved-images", |pod| {
            pod["spec"]["containers"][0]["image"] = json!("docker.io/library/miner:1");
        }),
        ("volumes", |pod| {
            pod["spec"]["volumes"] = json!([{"name": "v", "csi": {"driver": "smb.csi.k8s.io"}}]);
        }),
        ("own-service-account", |pod| {
            pod["spec"]["serviceAccountName"] = json!("default")
        }),
    ];
    let controller = world
        .cluster
        .impersonate("system:kube-controller-manager", &["system:masters"]);
    let controller = Actor::new(controller.await);
    for (rule, change) in changes {
        let mut other = made.clone();
        change(&mut other);
        controller.post(&dry("Pod", ns), &other).await.refused_by(rule);
    }
    controller.post(&dry("Pod", ns), &made).await.ok();
}

/// What an engine's own object says is the engine's to read: the pod that comes of it is what counts.
///
/// Held by: `approved-images`, `volumes`, `pod-node`, `launcher`
#[tokio::test]
async fn an_engine_is_told_to_make_other_pods() {
    let world = World::shared().await;
    let ns = &world.enforced("engines").await;
    let accounts = all("ServiceAccount", ns);
    world
        .admin
        .post(&accounts, &json!({"metadata": {"name": "engine"}}))
        .await
        .ok();
    let role = json!({"metadata": {"name": "pods"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "list"]}]});
    world.admin.post(&all("Role", ns), &role).await.ok();
    let launchers = json!({"launchers": [
        {"user": "lea"}, {"user": "tess"}, {"serviceAccount": {"namespace": ns, "name": "engine"}},
    ]});
    world.ready(ns, "triage", &launchers).await;
    let binding = json!({
        "metadata": {"name": "pods"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "pods"},
        "subjects": [{"kind": "ServiceAccount", "name": "engine", "namespace": ns}],
    });
    // The platform's: an account of a fenced namespace is given nothing by others.
    let platform = crate::world::unasked(world.cluster).await;
    platform.post(&all("RoleBinding", ns), &binding).await.ok();
    let kind = format!(
        "Engine{}",
        unique("x").replace(|c: char| !c.is_ascii_alphanumeric(), "")
    );
    let plural = format!("{}s", kind.to_lowercase());
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({
        "metadata": {"name": format!("{plural}.engines.example")},
        "spec": {
            "group": "engines.example", "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    world.admin.post(definitions, &definition).await.ok();
    let followed = json!({
        "metadata": {"name": unique("followed"), "labels": {"ringfence.dev/aggregate-to-owners": "true"}},
        "rules": [{"apiGroups": ["engines.example"], "resources": [plural], "verbs": ["get"]}],
    });
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    world.admin.post(roles, &followed).await.ok();
    let path = format!("/apis/engines.example/v1/namespaces/{ns}/{plural}");
    eventually(SOON, || async { world.admin.read(&path).await }).await;
    // As Argo's podSpecPatch, Airflow's pod_override: the platform lets the tenant run engines, and its launcher alone may name the workflow.
    let patch = json!({"containers": [{"name": "main", "image": "docker.io/library/miner:1"}]}).to_string();
    let run = json!({
        "apiVersion": "engines.example/v1", "kind": kind,
        "metadata": {"name": "run", "labels": {"ringfence.dev/workflow": "triage"}}, "spec": {"podSpecPatch": patch},
    });
    let stranger = world.master("mallory", &[]).await;
    stranger.post(&path, &run).await.refused_by("launcher");
    let lea = world.master("lea", &[]).await;
    let made = lea.post(&path, &run).await.ok();

    let engine = Actor::new(world.cluster.service_account(ns, "engine").await);
    let pods = all("Pod", ns);
    eventually(SOON, || async { engine.read(&pods).await }).await;
    let mut pod = pod("run", "triage");
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "engines.example/v1", "kind": kind, "name": "run", "uid": made["metadata"]["uid"], "controller": true,
    }]);
    let overrides: [Change; 3] = [
        ("approved-images", |pod| {
            pod["spec"]["containers"][0]["image"] = json!("docker.io/library/miner:1");
        }),
        ("volumes", |pod| {
            pod["spec"]["volumes"] = json!([{"name": "v", "csi": {"driver": "smb.csi.k8s.io"}}]);
        }),
        ("pod-node", |pod| pod["spec"]["nodeName"] = json!("control-plane-1")),
    ];
    // Ringfence may follow owners of that kind a moment later.
    eventually(SOON, || async {
        let answer = engine.post(&dry("Pod", ns), &pod).await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
    for (rule, change) in overrides {
        let mut patched = pod.clone();
        change(&mut patched);
        engine.post(&dry("Pod", ns), &patched).await.refused_by(rule);
    }
    // An engine runs what it finds, and so owners are what a launcher wrote: the status too, where it is written like everything else.
    let mut strange = run.clone();
    strange["metadata"] = json!({"name": "strange"});
    let strange = stranger.post(&path, &strange).await.ok();
    let mut of_it = pod.clone();
    of_it["metadata"]["ownerReferences"][0]["name"] = json!("strange");
    of_it["metadata"]["ownerReferences"][0]["uid"] = strange["metadata"]["uid"].clone();
    engine.post(&dry("Pod", ns), &of_it).await.refused_by("launcher");
    let stored = json!({"status": {"storedWorkflowTemplateSpec": {"templates": []}}});
    let run = format!("{path}/run");
    stranger.patch(&run, &stored).await.refused_by("launcher");
    let freed = json!({"metadata": {"labels": {"ringfence.dev/workflow": null}}, "spec": {"podSpecPatch": "x"}});
    stranger.patch(&run, &freed).await.refused_by("launcher");
    lea.patch(&run, &stored).await.ok();
}

/// Scaling is free. What comes of it is judged: pods of a Deployment from before the fence belong to nobody.
///
/// Held by: `declared-workflow`
#[tokio::test]
async fn what_was_there_before_the_fence_is_scaled_up() {
    let world = World::shared().await;
    let ns = &world.namespace("scaled", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let mut old = workload("Deployment", &pod("old", "x"));
    old["metadata"]["labels"] = json!({"app": "old"});
    old["spec"]["template"]["metadata"]["labels"] = json!({"app": "old"});
    old["spec"]["template"]["spec"]["serviceAccountName"] = json!("default");
    old["spec"]["replicas"] = json!(0);
    edith.post(&all("Deployment", ns), &old).await.ok();
    let sets = all("ReplicaSet", ns);
    eventually(SOON, || async {
        let found = world.admin.items(&sets).await?;
        ensure!(found.len() == 1, "{} ReplicaSets", found.len());
        Ok(())
    })
    .await;
    world.enforce(ns).await;
    world.ready(ns, "triage", &launched_by_tenants()).await;
    let scale = format!("{}/scale", one("Deployment", ns, "old"));
    world.tess.patch(&scale, &json!({"spec": {"replicas": 2}})).await.ok();
    eventually(SOON, || async {
        let found = world.admin.items(&sets).await?;
        let said = found[0]["status"]["conditions"].to_string();
        ensure!(said.contains("[declared-workflow]"), "not refused yet: {said}");
        Ok(())
    })
    .await;
    assert_eq!(world.admin.items(&all("Pod", ns)).await.unwrap().len(), 0);
    world.tess.patch(&scale, &json!({"spec": {"replicas": 0}})).await.ok();

    let mut own = workload("Deployment", &pod("own", "triage"));
    own["spec"]["replicas"] = json!(0);
    world.tess.post(&all("Deployment", ns), &own).await.ok();
    edith
        .patch(
            &format!("{}/scale", one("Deployment", ns, "own")),
            &json!({"spec": {"replicas": 1}}),
        )
        .await
        .ok();
    eventually(SOON, || async {
        let pods = world.admin.items(&all("Pod", ns)).await?;
        ensure!(pods.len() == 1, "{} pods", pods.len());
        Ok(())
    })
    .await;
}

/// Network plugins and runtimes read the annotations of a running pod too. What it has stays when the class no longer allows it, and
/// stands in nobody's way.
///
/// Held by: `pod-annotations`, `pod-node`
#[tokio::test]
async fn a_running_pod_is_given_a_second_network_or_more_nodes() {
    let world = World::shared().await;
    let class = world.class(&strict()).await;
    let ns = &world
        .namespace("second", &json!({"ringfence.dev/enforce": class}))
        .await;
    world.ready(ns, "triage", &launched_by_tenants()).await;
    world.tess.post(&all("Pod", ns), &annotated("runs")).await.ok();
    let path = one("Pod", ns, "runs");
    let (_, edith) = world.person(ns, "edit").await;
    let network = json!({"metadata": {"annotations": {"k8s.v1.cni.cncf.io/networks": "second"}}});
    let before = world.admin.read(&path).await.unwrap()["spec"]["tolerations"].clone();
    let tolerating = |key: &str| {
        let mut tolerations = before.as_array().cloned().unwrap_or_default();
        tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoSchedule"}));
        json!({"spec": {"tolerations": tolerations}})
    };
    for attacker in [&world.tess, &edith, &world.admin] {
        attacker.patch(&path, &network).await.refused_by("pod-annotations");
        let everywhere = tolerating("node-role.kubernetes.io/control-plane");
        attacker.patch(&path, &everywhere).await.refused_by("pod-node");
    }
    edith.patch(&path, &tolerating("nvidia.com/gpu")).await.ok();
    let narrower = json!({"spec": {"podAnnotations": null, "volumes": null, "nodes": null}});
    world.admin.patch(&format!("{CLASSES}/{class}"), &narrower).await.ok();
    let another = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/other": "x"}}});
    edith.patch(&path, &another).await.refused_by("pod-annotations");
    let label = json!({"metadata": {"labels": {"team": "x"}, "annotations": {"kubectl.kubernetes.io/default-container": null}}});
    world.tess.patch(&path, &label).await.ok();
}
