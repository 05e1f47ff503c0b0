//! Door: launching as a workflow without being its launcher, by writing what carries its label.
//!
//! Nothing records who made a Job, so launching is gated at writes: whoever creates, or changes what runs of, anything with the label
//! is a launcher, or refused. Cluster administrators are none by right.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{Identity, eventually, unique};

use crate::attackers::forbidden;
use crate::world::{Actor, SOON, WORKLOADS, World, all, one, pod, workflow, workload};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn dry(path: &str) -> String {
    format!("{path}?dryRun=All")
}

fn labelled(name: &str, label: &str) -> Value {
    json!({"name": name, "labels": {"ringfence.dev/workflow": label}})
}

/// An operator's kind that makes pods, as Argo's Workflow is one. Returns its plural, which is a group's too.
pub async fn custom_kind(world: &World) -> (String, String) {
    let plural = unique("flows");
    let group = format!("{plural}.example.com");
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": plural, "singular": plural, "kind": "Flow", "listKind": "FlowList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    });
    world.admin.post(DEFINITIONS, &definition).await.ok();
    let path = format!("/apis/{group}/v1/namespaces/default/{plural}");
    eventually(SOON, || async { world.admin.read(&path).await }).await;
    (group, plural)
}

/// Held by: `launcher`, `RBAC`
#[tokio::test]
async fn who_is_no_launcher_makes_what_carries_the_label() {
    let world = World::shared().await;
    let ns = &world.enforced("makes").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.person(ns, "edit").await;
    let (_, ada) = world.person(ns, "admin").await;
    for kind in WORKLOADS {
        let object = workload(kind, &pod("x", "triage"));
        let path = dry(&all(kind, ns));
        world.admin.post(&path, &object).await.refused_by("launcher");
        for tenant in [&world.tess, &edith, &ada] {
            let answer = tenant.post(&path, &object).await;
            match kind {
                "PodTemplate" => forbidden(&answer),
                _ => drop(answer.refused_by("launcher")),
            }
        }
        lea.post(&path, &object).await.ok();
    }
    // Kinds that run nothing today are somebody's input tomorrow.
    let (group, plural) = custom_kind(&world).await;
    let flows = format!("/apis/{group}/v1/namespaces/{ns}/{plural}");
    let flow = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Flow", "metadata": labelled("x", "triage"),
        "spec": {"image": "registry.example.com/finance/triage:1", "suspend": true},
    });
    let core = |plural: &str| format!("/api/v1/namespaces/{ns}/{plural}");
    let objects = [
        (core("configmaps"), json!({"metadata": labelled("x", "triage")})),
        (core("secrets"), json!({"metadata": labelled("x", "triage")})),
        (
            core("services"),
            json!({"metadata": labelled("x", "triage"), "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}),
        ),
        (core("serviceaccounts"), json!({"metadata": labelled("x", "triage")})),
        (flows.clone(), flow.clone()),
    ];
    for (path, object) in &objects {
        world.admin.post(&dry(path), object).await.refused_by("launcher");
        for tenant in [&edith, &ada] {
            let answer = tenant.post(&dry(path), object).await;
            match path == &flows {
                true => forbidden(&answer),
                false => drop(answer.refused_by("launcher")),
            }
        }
        lea.post(&dry(path), object).await.ok();
    }
    world
        .tess
        .post(&dry(&objects[0].0), &objects[0].1)
        .await
        .refused_by("launcher");

    // Nor does one change what a launcher made, or label what is there.
    lea.post(&flows, &flow).await.ok();
    let path = format!("{flows}/x");
    let image = json!({"spec": {"image": "registry.example.com/finance/triage:2"}});
    world.admin.patch(&path, &image).await.refused_by("launcher");
    let shell = json!({"template": {"command": ["sh"]}});
    world.admin.patch(&path, &shell).await.refused_by("launcher");
    world
        .admin
        .patch(&path, &json!({"spec": {"suspend": false}}))
        .await
        .ok();
    lea.patch(&path, &image).await.ok();
    let map = json!({"metadata": {"name": "plain"}});
    world.tess.post(&core("configmaps"), &map).await.ok();
    let take = json!({"metadata": {"labels": {"ringfence.dev/workflow": "triage"}}});
    let plain = format!("{}/plain", core("configmaps"));
    for attacker in [&world.tess, &edith, &world.admin] {
        attacker.patch(&plain, &take).await.refused_by("launcher");
    }
    world.tess.patch(&plain, &json!({"data": {"a": "b"}})).await.ok();
}

/// Held by: `approved-namespace`
#[tokio::test]
async fn anybody_makes_what_carries_the_label_where_nothing_is_fenced() {
    let world = World::shared().await;
    let plain = &world.namespace("unfenced", &json!({})).await;
    let (_, edith) = world.person(plain, "edit").await;
    let lea = world.master("lea", &[]).await;
    for kind in WORKLOADS.into_iter().chain(["ConfigMap"]) {
        let mut object = match kind {
            "ConfigMap" => json!({"metadata": labelled("x", "triage")}),
            _ => workload(kind, &pod("x", "triage")),
        };
        if kind == "Pod" {
            object["spec"]["serviceAccountName"] = json!("default");
        }
        for attacker in [&world.admin, &lea] {
            attacker
                .post(&dry(&all(kind, plain)), &object)
                .await
                .refused_by("approved-namespace");
        }
        for tenant in [&world.tess, &edith] {
            let answer = tenant.post(&dry(&all(kind, plain)), &object).await;
            match kind {
                "PodTemplate" => forbidden(&answer),
                _ => drop(answer.refused_by("approved-namespace")),
            }
        }
    }
    let (group, plural) = custom_kind(&world).await;
    let flow =
        json!({"apiVersion": format!("{group}/v1"), "kind": "Flow", "metadata": labelled("x", "triage"), "spec": {}});
    let flows = format!("/apis/{group}/v1/namespaces/{plain}/{plural}");
    world
        .admin
        .post(&dry(&flows), &flow)
        .await
        .refused_by("approved-namespace");
    let role = json!({"metadata": labelled(&unique("role"), "triage"), "rules": []});
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    // It runs nothing, and lies in no namespace.
    world.admin.post(&dry(roles), &role).await.ok();
    let unlabelled = json!({"metadata": {"name": "x", "labels": {"team": "triage"}}});
    world.tess.post(&all("ConfigMap", plain), &unlabelled).await.ok();
}

/// Held by: `launcher`
#[tokio::test]
async fn a_faked_owner_launches() {
    let world = World::shared().await;
    let ns = &world.enforced("owners").await;
    world.ready(ns, "triage", &json!({})).await;
    world.ready(ns, "other", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let made = lea
        .post(&all("Job", ns), &workload("Job", &pod("real", "triage")))
        .await
        .ok();
    let secret = json!({"metadata": {"name": "model"}, "stringData": {"key": "x"}});
    world
        .admin
        .post(&format!("/api/v1/namespaces/{ns}/secrets"), &secret)
        .await
        .ok();
    let owner = |kind: &str, name: &str, uid: &Value| json!([{"apiVersion": "batch/v1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
    let owned = |owners: Value| {
        let mut pod = pod("faked", "triage");
        pod["metadata"]["ownerReferences"] = owners;
        pod
    };
    let real = owned(owner("Job", "real", &made["metadata"]["uid"]));
    let path = dry(&all("Pod", ns));
    let (_, edith) = world.person(ns, "edit").await;
    for attacker in [&world.tess, &edith, &world.admin] {
        attacker.post(&path, &real).await.refused_by("launcher");
    }

    // Names of controllers with accounts of their own, and no token of them.
    for controller in [
        "job-controller",
        "replicaset-controller",
        "cronjob-controller",
        "generic-garbage-collector",
    ] {
        let name = format!("system:serviceaccount:kube-system:{controller}");
        let faked = Actor::new(world.cluster.impersonate(&name, &["system:masters"]).await);
        faked.post(&path, &real).await.refused_by("launcher");
    }

    // The shared name of all controllers is believed as far as the chain of owners holds.
    let manager = Actor::new(
        world
            .cluster
            .impersonate("system:kube-controller-manager", &["system:masters"])
            .await,
    );
    manager.post(&path, &real).await.ok();
    for (what, owners) in [
        ("no owner", json!(null)),
        (
            "an owner of another life",
            owner("Job", "real", &json!("11111111-1111-1111-1111-111111111111")),
        ),
        (
            "an owner that is not there",
            owner("Job", "absent", &made["metadata"]["uid"]),
        ),
        (
            "an owner of another kind",
            owner("CronJob", "real", &made["metadata"]["uid"]),
        ),
        ("an owner that Ringfence may not read", {
            let mut owner = owner("Secret", "model", &made["metadata"]["uid"]);
            owner[0]["apiVersion"] = json!("v1");
            owner
        }),
        ("an owner that makes no pods", {
            let mut owner = owner("ConfigMap", "kube-root-ca.crt", &made["metadata"]["uid"]);
            owner[0]["apiVersion"] = json!("v1");
            owner
        }),
    ] {
        let answer = manager.post(&path, &owned(owners)).await;
        assert!(!answer.refused_by("launcher").is_empty(), "{what}");
    }
    // A launcher's pod is judged by its owner too, and whether a Secret is there Ringfence cannot say: it is none, and no fault of ours.
    let mut of_a_secret = owner("Secret", "model", &made["metadata"]["uid"]);
    of_a_secret[0]["apiVersion"] = json!("v1");
    lea.post(&path, &owned(of_a_secret)).await.refused_by("launcher");
    lea.post(&path, &real).await.ok();
    // An owner whose own workflow is another one.
    let mut of_other = pod("faked", "other");
    of_other["metadata"]["ownerReferences"] = owner("Job", "real", &made["metadata"]["uid"]);
    manager.post(&path, &of_other).await.refused_by("launcher");

    // A pod that is there is not adopted by a stranger.
    lea.post(&all("Pod", ns), &pod("lonely", "triage")).await.ok();
    let adopt = json!({"metadata": {"ownerReferences": owner("Job", "real", &made["metadata"]["uid"])}});
    for attacker in [&world.tess, &edith, &world.admin] {
        attacker
            .patch(&one("Pod", ns, "lonely"), &adopt)
            .await
            .refused_by("launcher");
    }
}

/// Held by: `approved-images`, `launcher`
#[tokio::test]
async fn who_is_no_launcher_changes_what_a_running_pod_runs() {
    let world = World::shared().await;
    let ns = &world.enforced("running").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    lea.post(&all("Pod", ns), &pod("runs", "triage")).await.ok();
    let path = one("Pod", ns, "runs");
    let (_, edith) = world.person(ns, "edit").await;
    let image = |image: &str| json!({"spec": {"containers": [{"name": "main", "image": image}]}});
    lea.strategic(&path, &image("docker.io/library/evil:1"))
        .await
        .refused_by("approved-images");
    for attacker in [&world.tess, &edith, &world.admin] {
        attacker
            .strategic(&path, &image("registry.example.com/finance/triage:1.5"))
            .await
            .refused_by("launcher");
    }
    lea.strategic(&path, &image("registry.example.com/finance/triage:1.5"))
        .await
        .ok();
    // Annotations of its own are anybody's with the right to; labels are its launchers', where no controller has it.
    let own = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/note": "x"}}});
    world.tess.patch(&path, &own).await.ok();
}

/// Held by: `launcher`, `declared-workflow`
#[tokio::test]
async fn a_tenant_changes_what_a_launcher_made() {
    let world = World::shared().await;
    let ns = &world.enforced("scales").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    for kind in ["Deployment", "StatefulSet", "Job", "CronJob"] {
        lea.post(&all(kind, ns), &workload(kind, &pod("app", "triage")))
            .await
            .ok();
    }
    let (identity, edith) = world.tenant(ns).await;
    for tenant in [&edith, &world.tess] {
        for kind in ["Deployment", "StatefulSet"] {
            let path = one(kind, ns, "app");
            let replicas = |count: u32| json!({"spec": {"replicas": count}});
            tenant.patch(&format!("{path}/scale"), &replicas(2)).await.ok();
            tenant.patch(&path, &replicas(0)).await.ok();
            let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "registry.example.com/finance/triage:2"}]}}}});
            tenant.strategic(&path, &image).await.refused_by("launcher");
        }
        for kind in ["Job", "CronJob"] {
            for suspended in [true, false] {
                let suspend = json!({"spec": {"suspend": suspended}});
                tenant.patch(&one(kind, ns, "app"), &suspend).await.ok();
            }
        }
    }
    let command = json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "main", "command": ["sh"]}]}}}}}});
    world
        .tess
        .strategic(&one("CronJob", ns, "app"), &command)
        .await
        .refused_by("launcher");
    let restart = ["rollout", "restart", "deployment/app", "--namespace", ns];
    let refused = world.cluster.kubectl_as(&identity, &restart).await.unwrap();
    assert!(!refused.success && refused.stderr.contains("[launcher]"), "{refused}");
    let launcher = Identity::user("lea", &["system:masters"]);
    let done = world.cluster.kubectl_as(&launcher, &restart).await.unwrap();
    assert!(done.success, "{done}");

    // The tenant's own ReplicaSet would adopt the fenced pods: without the label it is refused, with it as well.
    let mut adopting = workload("ReplicaSet", &pod("app", "triage"));
    adopting["metadata"]["name"] = json!("adopting");
    edith
        .post(&all("ReplicaSet", ns), &adopting)
        .await
        .refused_by("launcher");
    for place in ["/metadata/labels", "/spec/template/metadata/labels"] {
        adopting
            .pointer_mut(place)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove("ringfence.dev/workflow");
    }
    edith
        .post(&all("ReplicaSet", ns), &adopting)
        .await
        .refused_by("declared-workflow");
}

/// Under warn alone everybody was told and nobody refused, and nothing records who made what stands: whoever sets `enforce`, which takes
/// `approve` on the class, takes it over. New writes are gated from then on.
///
/// Out of scope: what was labelled under warn launches on under enforce; who holds `approve` decides that.
#[tokio::test]
async fn what_was_labelled_under_warn_launches_on() {
    let world = World::shared().await;
    let ns = &world
        .namespace("warned", &json!({"ringfence.dev/warn": "default"}))
        .await;
    let (_, edith) = world.person(ns, "edit").await;
    world
        .tess
        .post(&all("AIWorkflow", ns), &workflow("triage", &json!({})))
        .await
        .ok();
    world.condition(ns, "triage", "Ready", "False", "NotEnforced").await;
    let mut deployment = workload("Deployment", &pod("app", "triage"));
    deployment["spec"]["replicas"] = json!(0);
    let answer = edith.post(&all("Deployment", ns), &deployment).await;
    assert!(
        answer.warnings.iter().any(|said| said.contains("[launcher]")),
        "{:?}",
        answer.warnings
    );
    answer.ok();
    let enforce = json!({"metadata": {"labels": {"ringfence.dev/enforce": "default"}}});
    let namespace = format!("{}/{ns}", crate::world::NAMESPACES);
    forbidden(&edith.patch(&namespace, &enforce).await);
    world.admin.patch(&namespace, &enforce).await.ok();
    world.condition(ns, "triage", "Ready", "True", "Fenced").await;
    let path = one("Deployment", ns, "app");
    edith.patch(&path, &json!({"spec": {"replicas": 1}})).await.ok();
    let pods = format!("{}?labelSelector=app%3Dapp", all("Pod", ns));
    eventually(SOON, || async {
        ensure!(!world.admin.items(&pods).await?.is_empty(), "no pod yet");
        Ok(())
    })
    .await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "registry.example.com/finance/triage:2"}]}}}});
    edith.strategic(&path, &image).await.refused_by("launcher");
}

/// With it, those who declare a workflow would have to be launchers of another.
///
/// Held by: `launcher`
#[tokio::test]
async fn somebody_labels_a_declaration() {
    let world = World::shared().await;
    let ns = &world.enforced("labelled-declaration").await;
    world.ready(ns, "triage", &json!({})).await;
    world.ready(ns, "mine", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let path = one("AIWorkflow", ns, "triage");
    let label = json!({"metadata": {"labels": {"ringfence.dev/workflow": "mine"}}});
    for attacker in [&world.tess, &lea, &world.admin] {
        let answer = attacker.patch(&path, &label).await;
        let said = answer.refused_by("launcher");
        assert!(said.contains("leave the label out"), "{said}");
        let mut third = workflow("third", &json!({}));
        third["metadata"]["labels"] = label["metadata"]["labels"].clone();
        attacker
            .post(&all("AIWorkflow", ns), &third)
            .await
            .refused_by("launcher");
    }
    let other = json!({"metadata": {"labels": {"team": "a"}}});
    world.tess.patch(&path, &other).await.ok();
}
