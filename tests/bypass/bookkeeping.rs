//! Door: what launchers' tools keep on an object: by it they decide what to change and what to delete, so that what a launcher withdraws stays.

use std::fs;

use serde_json::{Value, json};
use support::{Identity, eventually};

use crate::attackers::{MAKERS, force_apply, holder};
use crate::launch::custom_kind;
use crate::operators::{Launched, launches_as};
use crate::world::{SOON, World, all, one, pod, workload};

const KEYS: [&str; 23] = [
    "action.timoni.sh/prune",
    "app.oam.dev/last-applied-configuration",
    "argocd.argoproj.io/sync-options",
    "banzaicloud.com/last-applied",
    "config.k8s.io/owning-inventory",
    "configmanagement.gke.io/managed",
    "configsync.gke.io/resource-id",
    "deployment.kubernetes.io/revision",
    "deprecated.deployment.rollback.to",
    "fluxcd.io/automated",
    "helm.sh/resource-policy",
    "kapp.k14s.io/delete-strategy",
    "keel.sh/policy",
    "kluctl.io/skip-delete",
    "kubecfg.ksonnet.io/garbage-collect-tag",
    "kubectl.kubernetes.io/last-applied-configuration",
    "kustomize.config.k8s.io/behavior",
    "kustomize.toolkit.fluxcd.io/prune",
    "meta.helm.sh/release-name",
    "objectset.rio.cattle.io/id",
    "reloader.stakater.com/auto",
    "caching.spinnaker.io/ignore",
    "rollouts.kruise.io/rollout-id",
];

fn annotated(key: &str, value: &Value) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}

/// To keep it (`helm.sh/resource-policy`), to give it away, or to have a field forgotten.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_writes_what_a_launchers_tool_goes_by() {
    let world = World::shared().await;
    let ns = &world.enforced("kept-books").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.tenant(ns).await;
    let launcher = Identity::user("lea", &["system:masters"]);
    let folder = tempfile::tempdir().unwrap();
    let apply = async |object: &Value| {
        let file = folder.path().join("app.json");
        fs::write(&file, object.to_string()).unwrap();
        let file = file.to_str().unwrap();
        let done = world
            .cluster
            .kubectl_as(&launcher, &["apply", "--namespace", ns, "-f", file])
            .await
            .unwrap();
        assert!(done.success, "{done}");
    };
    for kind in ["Deployment", "CronJob"] {
        let app = kind.to_lowercase();
        let mut made = workload(kind, &pod(&app, "triage"));
        made["metadata"]["annotations"] = json!({"example.com/who": "lea"});
        apply(&made).await;
        let path = one(kind, ns, &app);
        for attacker in [&world.tess, &edith, &world.admin] {
            for key in KEYS {
                let answer = attacker.patch(&path, &annotated(key, &json!("7"))).await;
                let said = answer.refused_by("launcher");
                assert!(said.contains("what their tools keep there"), "{said}");
            }
            let gone = annotated("kubectl.kubernetes.io/last-applied-configuration", &Value::Null);
            attacker.patch(&path, &gone).await.refused_by("launcher");
            let owner = json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}});
            attacker.patch(&path, &owner).await.refused_by("launcher");
        }
        // Notes are anybody's, and a launcher's next apply goes through: what is left out goes.
        world
            .tess
            .patch(&path, &annotated("example.com/note", &json!("x")))
            .await
            .ok();
        made["metadata"]["annotations"] = json!({});
        apply(&made).await;
        let now = world.admin.read(&path).await.unwrap();
        let words = &now["metadata"]["annotations"];
        assert!(
            words["example.com/who"].is_null() && words["example.com/note"] == "x",
            "{words}"
        );
    }
    // The Deployment controller counts its rollouts itself.
    eventually(SOON, || async {
        let now = world.admin.read(&one("Deployment", ns, "deployment")).await?;
        let revision = &now["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
        anyhow::ensure!(revision == "1", "{revision}");
        Ok(())
    })
    .await;
}

/// What two apply goes only when both leave it out: a tenant who applies the same template keeps what a launcher takes out of it.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_shares_in_owning_the_template() {
    let world = World::shared().await;
    let ns = &world.enforced("shared-books").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    for kind in ["Deployment", "CronJob", "StatefulSet"] {
        let app = kind.to_lowercase();
        let path = one(kind, ns, &app);
        let mut with = workload(kind, &pod(&app, "triage"));
        let template = crate::objects::template_of(kind);
        let container = format!("{template}/spec/containers/0");
        with.pointer_mut(&container).unwrap()["env"] = json!([{"name": "A", "value": "b"}]);
        let by_lea = format!("{path}?fieldManager=ci");
        let apply = async |object: &Value| {
            let bytes = object.to_string().into_bytes();
            let sent = lea.bytes(
                axum::http::Method::PATCH,
                &by_lea,
                "application/apply-patch+yaml",
                bytes,
            );
            sent.await.ok()
        };
        apply(&with).await;
        for attacker in [&world.tess, &edith, &world.admin] {
            let said = force_apply(attacker, &path, &with).await;
            let said = said.refused_by("launcher");
            assert!(said.contains("managedFields"), "{said}");
            // Forgotten, it is nobody's to take out.
            let forgotten = json!({"metadata": {"managedFields": [{}]}});
            attacker.patch(&path, &forgotten).await.refused_by("launcher");
        }
        // How much of it runs is anybody's to apply.
        if kind != "CronJob" {
            let scaled = json!({
                "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": app}, "spec": {"replicas": 2},
            });
            force_apply(&world.tess, &path, &scaled).await.ok();
            world.tess.patch(&path, &json!({"spec": {"replicas": 1}})).await.ok();
        }
        let without = workload(kind, &pod(&app, "triage"));
        let now = apply(&without).await;
        let env = now.pointer(&format!("{container}/env"));
        assert!(env.is_none(), "{env:?}");
        lea.delete(&format!("{path}?propagationPolicy=Background")).await.ok();
    }
    assert_eq!(world.admin.items(&all("CronJob", ns)).await.unwrap(), [] as [Value; 0]);
}

/// By the name under which they wrote it before, tools know what is theirs to take out, and by the names of others what they leave alone
/// (`managedFieldsManagers` of Argo CD): who wrote otherwise than by applying it counts by name too. kubectl goes over to server-side apply by
/// them, also where the API server has put the oldest into one entry.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_gives_a_launchers_fields_to_another_name() {
    let world = World::shared().await;
    let launched = Launched::new(&world, "renamed-books").await;
    let of_the_kind = launched.holder(&world, &["get", "patch"]).await;
    let Launched {
        ns, lea, path: of_flow, ..
    } = &launched;
    let (_, edith) = world.tenant(ns).await;
    let launcher = Identity::user("lea", &["system:masters"]);
    let folder = tempfile::tempdir().unwrap();
    let apply = async |object: &Value, how: &[&str]| {
        let file = folder.path().join("app.json");
        fs::write(&file, object.to_string()).unwrap();
        let file = file.to_str().unwrap();
        let arguments = [&["apply", "--namespace", ns, "-f", file], how].concat();
        let done = world.cluster.kubectl_as(&launcher, &arguments).await.unwrap();
        assert!(done.success, "{done}");
    };
    let path = one("Deployment", ns, "web");
    let without = workload("Deployment", &pod("web", "triage"));
    let mut with = without.clone();
    with["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "b"}]);
    apply(&with, &[]).await;
    for (path, attackers) in [
        (&path, [&world.tess, &edith, &world.admin]),
        (of_flow, [&of_the_kind, &world.admin, &world.admin]),
    ] {
        for attacker in attackers {
            let stands = lea.get(path).await.ok();
            let entries = stands["metadata"]["managedFields"].as_array().expect("a record");
            let is_lea = |entry: &&Value| entry["fieldsV1"]["f:spec"].is_object() && entry["operation"] == "Update";
            let hers = entries.iter().find(is_lea).expect("an entry of hers").clone();
            let others: Vec<_> = entries.iter().filter(|entry| **entry != hers).cloned().collect();
            let but = |field: &str, value: &str| {
                let mut entry = hers.clone();
                entry[field] = json!(value);
                entry
            };
            let (mut notes, mut spec) = (hers.clone(), but("manager", "x"));
            notes["fieldsV1"].as_object_mut().unwrap().remove("f:spec");
            spec["fieldsV1"].as_object_mut().unwrap().remove("f:metadata");
            for instead in [
                vec![but("manager", "kube-controller-manager")],
                vec![but("manager", "ancient-changes")],
                vec![but("subresource", "status")],
                vec![notes, spec],
                vec![hers.clone(), but("manager", "x")],
            ] {
                let all = [others.clone(), instead].concat();
                let record = json!({"metadata": {"managedFields": all}});
                let said = attacker.patch(path, &record).await;
                let said = said.refused_by("launcher");
                assert!(said.contains("managedFields"), "{said}");
            }
        }
    }
    // Whose a note is counts for nothing, and of more than ten who wrote some, the API server puts the oldest together.
    for number in 0..11 {
        let note = annotated(&format!("example.com/note-{number}"), &json!("x"));
        let path = format!("{path}?fieldManager=notes-{number}");
        world.tess.patch(&path, &note).await.ok();
    }
    let now = lea.get(&path).await.ok();
    let entries = now["metadata"]["managedFields"].as_array().expect("a record");
    let mut oldest = entries.iter().filter(|entry| entry["manager"] == "ancient-changes");
    assert!(
        oldest.any(|entry| entry["fieldsV1"]["f:spec"].is_object()),
        "{entries:?}"
    );
    apply(&without, &["--server-side", "--force-conflicts"]).await;
    let now = lea.get(&path).await.ok();
    let env = &now["spec"]["template"]["spec"]["containers"][0]["env"];
    assert!(env.is_null(), "{env:?}");
}

/// The same of what stands outside the template: a partition keeps what a launcher replaces, a pause holds it back, and a tool keeps what it is
/// told to keep. Cut out of the launcher's own entry, it is nobody's to take out.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_shares_in_owning_what_stands_outside_the_template() {
    let world = World::shared().await;
    let ns = &world.enforced("shared-rest").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let (group, plural) = custom_kind(&world).await;
    let rules = json!([{"apiGroups": [group], "resources": [plural], "verbs": ["get", "patch", "update"]}]);
    let of_the_kind = holder(&world, &rules).await;
    let apply = async |path: &str, object: &Value| {
        let bytes = object.to_string().into_bytes();
        let path = format!("{path}?fieldManager=ci");
        let sent = lea.bytes(axum::http::Method::PATCH, &path, "application/apply-patch+yaml", bytes);
        sent.await.ok()
    };
    let built_in = |kind: &str| {
        let app = kind.to_lowercase();
        (one(kind, ns, &app), workload(kind, &pod(&app, "triage")))
    };
    let mut tries = Vec::new();
    for (kind, at, value) in [
        (
            "StatefulSet",
            "/spec/updateStrategy",
            json!({"rollingUpdate": {"partition": 1}}),
        ),
        ("Deployment", "/spec/paused", json!(true)),
        ("Deployment", "/spec/minReadySeconds", json!(30)),
        (
            "Deployment",
            "/metadata/annotations",
            json!({"helm.sh/resource-policy": "keep"}),
        ),
        ("Deployment", "/metadata/finalizers", json!(["example.com/stays"])),
        ("CronJob", "/spec/timeZone", json!("Asia/Tokyo")),
        ("CronJob", "/spec/jobTemplate/spec/backoffLimit", json!(9)),
    ] {
        let (path, object) = built_in(kind);
        tries.push((path, object, at, value));
    }
    // A pod that nothing controls, and a label by which a peer may know it.
    let alone = (one("Pod", ns, "alone"), pod("alone", "triage"));
    tries.push((alone.0, alone.1, "/metadata/labels/role", json!("db-client")));
    let flow = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Flow", "metadata": {"name": "run", "labels": {"ringfence.dev/workflow": "triage"}},
        "spec": {"image": "x"},
    });
    let of_flow = format!("/apis/{group}/v1/namespaces/{ns}/{plural}/run");
    tries.push((of_flow, flow, "/spec/args", json!(["--all"])));
    for (path, without, at, value) in &tries {
        let (place, key) = at.rsplit_once('/').expect("a pointer");
        let mut with = without.clone();
        with.pointer_mut(place).expect("a place")[key] = value.clone();
        let stands = apply(path, &with).await;
        let mut cut = stands.clone();
        let spot = at.replace('/', "/f:");
        let (place, key) = spot.rsplit_once('/').expect("a pointer");
        let entry = &mut cut["metadata"]["managedFields"][0]["fieldsV1"];
        let fields = entry.pointer_mut(place).and_then(Value::as_object_mut).expect("fields");
        fields.remove(key).expect("owned");
        let attackers = if path.contains(&group) {
            [&of_the_kind, &world.admin, &world.admin]
        } else {
            [&world.tess, &edith, &world.admin]
        };
        for attacker in attackers {
            let answer = force_apply(attacker, path, &with).await;
            let said = answer.refused_by("launcher");
            assert!(said.contains("managedFields"), "{said}");
            let record = json!({"metadata": {"managedFields": cut["metadata"]["managedFields"]}});
            attacker.patch(path, &record).await.refused_by("launcher");
            attacker
                .patch(path, &json!({"metadata": {"managedFields": [{}]}}))
                .await
                .refused_by("launcher");
        }
        let now = apply(path, without).await;
        let left = now.pointer(at).filter(|left| *left == value);
        assert!(left.is_none(), "{path}: {left:?}");
    }
    // How much of it runs is anybody's, and so is a note, and to let a rollout go on.
    let (path, mut paused) = built_in("Deployment");
    paused["spec"]["paused"] = json!(true);
    apply(&path, &paused).await;
    for free in [
        json!({"spec": {"replicas": 2}}),
        json!({"metadata": {"annotations": {"example.com/note": "x"}}}),
    ] {
        let mut whole = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "deployment"}});
        for key in ["metadata", "spec"] {
            for (field, value) in free[key].as_object().into_iter().flatten() {
                whole[key][field] = value.clone();
            }
        }
        force_apply(&world.tess, &path, &whole).await.ok();
    }
    world.tess.patch(&path, &json!({"spec": {"paused": false}})).await.ok();
    for (path, ..) in &tries {
        lea.delete(&format!("{path}?propagationPolicy=Background")).await;
    }
}

/// Whoever applies with `--prune -l team=x`, or tracks by a label as Argo CD and kapp do, deletes what has the label and is no more in what is
/// applied: without it, what a launcher withdrew runs on.
///
/// Held by: `launcher`
#[tokio::test]
async fn a_tenant_hides_a_workload_from_what_prunes_it() {
    let world = World::shared().await;
    let ns = &world.enforced("pruned").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    let tracked = ["app.kubernetes.io/instance", "kapp.k14s.io/app", "team"];
    let labels = |labels: &Value| json!({"metadata": {"labels": labels}});
    for kind in MAKERS {
        let app = kind.to_lowercase();
        let mut made = workload(kind, &pod(&app, "triage"));
        if kind == "DaemonSet" {
            made["spec"]["template"]["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "nowhere"});
        }
        for key in tracked {
            made["metadata"]["labels"][key] = json!("x");
        }
        lea.post(&all(kind, ns), &made).await.ok();
        let path = one(kind, ns, &app);
        for attacker in [&world.tess, &edith, &world.admin] {
            for key in tracked {
                for value in [Value::Null, json!("y")] {
                    let answer = attacker.patch(&path, &labels(&json!({key: value}))).await;
                    let said = answer.refused_by("launcher");
                    assert!(said.contains("a tool takes something up"), "{said}");
                }
            }
            // One that it did not have, by which another tool may take it for its own.
            let answer = attacker.patch(&path, &labels(&json!({"queue": "x"}))).await;
            answer.refused_by("launcher");
        }
        lea.patch(&path, &labels(&json!({"queue": "x"}))).await.ok();
        let note = annotated("example.com/note", &json!("x"));
        world.tess.patch(&path, &note).await.ok();
        // On its pods, what no selector names.
        if kind == "Deployment" {
            let made = crate::legitimate::has_pods(&world, ns, &app, 1).await.remove(0);
            let of_it = one("Pod", ns, made["metadata"]["name"].as_str().expect("a name"));
            world.tess.patch(&of_it, &labels(&json!({"queue": "x"}))).await.ok();
        }
    }
    // The launcher applies a set without the Deployment, and it goes.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("set.json");
    let mut stays = workload("Deployment", &pod("stays", "triage"));
    stays["metadata"]["labels"]["team"] = json!("x");
    let mut goes = workload("Deployment", &pod("goes", "triage"));
    goes["metadata"]["labels"]["team"] = json!("x");
    let mut alone = pod("alone", "triage");
    alone["metadata"]["labels"]["team"] = json!("x");
    let forgotten = annotated("kubectl.kubernetes.io/last-applied-configuration", &Value::Null);
    for items in [json!([stays, goes, alone]), json!([stays])] {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        fs::write(&file, list.to_string()).unwrap();
        let launcher = Identity::user("lea", &["system:masters"]);
        let arguments = [
            "apply",
            "--namespace",
            ns,
            "--prune",
            "-l",
            "team=x",
            "--prune-allowlist=apps/v1/Deployment",
            "--prune-allowlist=core/v1/Pod",
            "-f",
            file.to_str().unwrap(),
        ];
        let done = world.cluster.kubectl_as(&launcher, &arguments).await.unwrap();
        assert!(done.success, "{done}");
        let hidden = labels(&json!({"team": null}));
        for app in ["stays", "goes"] {
            let path = one("Deployment", ns, app);
            if world.admin.is_there(&path).await.unwrap() {
                world.tess.patch(&path, &hidden).await.refused_by("launcher");
            }
        }
        if items[1].is_object() {
            for attacker in [&world.tess, &edith, &world.admin] {
                let answer = attacker.patch(&one("Pod", ns, "alone"), &forgotten).await;
                answer.refused_by("launcher");
            }
        }
    }
    for (kind, app) in [("Deployment", "goes"), ("Pod", "alone")] {
        world.admin.gone(&one(kind, ns, app)).await;
    }
    world.admin.read(&one("Deployment", ns, "stays")).await.unwrap();
}

/// Argo Rollouts keeps a template running by an annotation of its ReplicaSet, and KEDA a Job by one of the Job; the list of such operators is
/// nobody's. So of what an operator's object controls, all annotations are a launcher's, and more pods of a ReplicaSet, which may be of a
/// template that was withdrawn.
/// Through its scale nobody sees whose a ReplicaSet is: those of Argo Rollouts are told by their label, and no other operator is known to keep any.
///
/// Held by: `launcher`, `ringfence-replica-sets`
#[tokio::test]
async fn a_tenant_orders_an_operator_by_the_workloads_that_it_controls() {
    let world = World::shared().await;
    let launched = Launched::new(&world, "orders").await;
    let (ns, lea) = (&launched.ns, &launched.lea);
    let (_, edith) = world.tenant(ns).await;
    let owned = |kind: &str, app: &str, annotations: Value| {
        let mut made = workload(kind, &pod(app, "triage"));
        made["metadata"]["ownerReferences"] = json!([launched.kind.owner(&launched.run)]);
        made["metadata"]["annotations"] = annotations;
        made
    };
    let mut old = owned("ReplicaSet", "old", json!({"rollout.argoproj.io/revision": "1"}));
    old["spec"]["replicas"] = json!(0);
    old["spec"]["selector"]["matchLabels"]["rollouts-pod-template-hash"] = json!("abc");
    old["spec"]["template"]["metadata"]["labels"]["rollouts-pod-template-hash"] = json!("abc");
    let job = owned("Job", "job", json!({"scaledjob.keda.sh/generation": "1"}));
    for (kind, object) in [("ReplicaSet", &old), ("Job", &job)] {
        launches_as(lea, &all(kind, ns), object).await;
    }
    let (old, job) = (one("ReplicaSet", ns, "old"), one("Job", ns, "job"));
    let deadline = json!({"metadata": {"annotations": {"scale-down-deadline": "2099-01-01T00:00:00Z"}}});
    let generation = json!({"metadata": {"annotations": {"scaledjob.keda.sh/generation": "2"}}});
    let replicas = |count: u32| json!({"spec": {"replicas": count}});
    for attacker in [&world.tess, &edith, &world.admin] {
        for (path, change) in [(&old, &deadline), (&job, &generation), (&old, &replicas(1))] {
            attacker.patch(path, change).await.refused_by("launcher");
        }
        let answer = attacker.patch(&format!("{old}/scale"), &replicas(1)).await;
        answer.refused_by_guard("ringfence-replica-sets");
    }
    // Its operator does, and anybody may want less of it.
    lea.patch(&old, &deadline).await.ok();
    lea.patch(&old, &replicas(1)).await.ok();
    world.tess.patch(&old, &replicas(0)).await.ok();
    lea.patch(&job, &generation).await.ok();
}
