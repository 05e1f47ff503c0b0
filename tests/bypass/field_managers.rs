//! Door: who wrote which field, which anybody may write who may write an object: nested deeper than others read, denser than they may, or
//! longer than the API server bears.

use anyhow::ensure;
use axum::http::Method;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::attackers::holder;
use crate::legitimate::has_pods;
use crate::operators::{Launched, OperatorsKind};
use crate::world::{Actor, POLICIES, SOON, World, all, condition, one, pod, workload};

/// Fields of fields, as deep as the API server takes them: deeper than most readers of JSON go.
pub fn deep() -> Value {
    (0..200).fold(json!({}), |inner, _| json!({"f:a": inner}))
}

/// In memory, a hundred times as large as they are written.
fn dense(count: usize) -> Value {
    let nested = (0..60).fold(json!({}), |inner, _| json!({"f:a": inner}));
    Value::Object((0..count).map(|n| (format!("f:{n}"), nested.clone())).collect())
}

/// Who wrote which field, as it stands.
async fn entries(actor: &Actor, path: &str) -> Vec<Value> {
    let object = actor.read(path).await.unwrap();
    object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .expect("entries")
}

/// The entries, and as many more of whoever has applied the object.
fn applied(mut entries: Vec<Value>, count: usize, version: &str, fields: &Value) -> Value {
    entries.extend((0..count).map(|n| {
        json!({
            "manager": format!("m{n}"), "operation": "Apply", "apiVersion": version, "time": "2024-02-29T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        })
    }));
    json!({"metadata": {"managedFields": entries}})
}

/// What is written beside the entries that are there.
fn recorded(mut entries: Vec<Value>, below: &Value, version: &str) -> Value {
    entries.push(json!({
        "manager": "x", "operation": "Update", "apiVersion": version, "time": "2024-02-29T00:00:00Z", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:annotations": {"f:x": below}}},
    }));
    json!({"metadata": {"managedFields": entries}})
}

/// A review that cannot be read is a refusal, of whoever the next writer is: a controller that scales down, or a launcher.
///
/// Held by: `operator`
#[tokio::test]
async fn a_tenant_makes_unreadable_what_a_launcher_withdraws() {
    let world = World::shared().await;
    let ns = &world.enforced("unreadable").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let deployment = workload("Deployment", &pod("web", "triage"));
    lea.post(&all("Deployment", ns), &deployment).await.ok();
    has_pods(&world, ns, "web", 1).await;
    let sets = format!("{}?labelSelector=app%3Dweb", all("ReplicaSet", ns));
    let set = world.admin.items(&sets).await.unwrap().remove(0);
    let set = one("ReplicaSet", ns, set["metadata"]["name"].as_str().expect("a name"));
    let path = one("Deployment", ns, "web");
    for of in [&set, &path] {
        let stand = entries(&world.tess, of).await;
        // What is denser still would be too large to be deleted.
        let written = recorded(stand.clone(), &dense(2500), "apps/v1");
        world.tess.patch(of, &written).await.refused_by("launcher");
        for below in [dense(600), deep()] {
            let written = recorded(stand.clone(), &below, "apps/v1");
            world.tess.patch(of, &written).await.ok();
        }
    }
    // Their own pods withdraw launchers all the same, and nobody else does more than before.
    let second = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-11-27T12:00:00Z"}}}}});
    world.tess.patch(&path, &second).await.refused_by("launcher");
    lea.patch(&path, &second).await.ok();
    lea.patch(&path, &json!({"spec": {"replicas": 0}})).await.ok();
    has_pods(&world, ns, "web", 0).await;
}

/// With a thousand of them a write takes the API server longer than a request may.
///
/// Held by: `ringfence-field-managers`
#[tokio::test]
async fn a_tenant_has_a_workload_applied_by_thousands() {
    let world = World::shared().await;
    let ns = &world.enforced("applied").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let deployment = workload("Deployment", &pod("web", "triage"));
    lea.post(&all("Deployment", ns), &deployment).await.ok();
    let path = one("Deployment", ns, "web");
    // With what its controller writes, which is no tenant's to cut.
    let made = eventually(SOON, || async {
        let entries = entries(&lea, &path).await;
        let is_numbered = json!(entries)
            .to_string()
            .contains("f:deployment.kubernetes.io/revision");
        ensure!(is_numbered, "{entries:?}");
        Ok(entries)
    })
    .await;
    let annotation = json!({"f:metadata": {"f:annotations": {"f:x": {}}}});
    let many = |count: usize| applied(made.clone(), count, "apps/v1", &annotation);
    let (_, edith) = world.tenant(ns).await;
    for attacker in [&world.tess, &edith] {
        for count in [65, 3000] {
            let answer = attacker.patch(&path, &many(count)).await;
            let said = answer.refused_by_guard("ringfence-field-managers");
            assert!(said.contains("Fix: "), "{said}");
        }
        // As many as anybody has, and fewer.
        attacker.patch(&path, &many(64)).await.ok();
        attacker.patch(&path, &many(3)).await.ok();
    }
    // A launcher forgets all of them.
    lea.patch(&path, &json!({"metadata": {"managedFields": [{}]}}))
        .await
        .ok();
}

/// A Scale shows nobody who has applied the object, and each that applies it is one more.
///
/// Held by: `ringfence-field-managers`
#[tokio::test]
async fn a_tenant_has_a_workload_applied_by_hundreds_through_its_scale() {
    let world = World::shared().await;
    let ns = &world.enforced("scaled").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let (_, edith) = world.tenant(ns).await;
    for kind in ["Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"] {
        let name = kind.to_lowercase();
        let made = workload(kind, &pod(&name, "triage"));
        lea.post(&all(kind, ns), &made).await.ok();
        let path = format!("{}/scale", one(kind, ns, &name));
        let scale = json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": name, "namespace": ns}, "spec": {"replicas": 0},
        });
        for attacker in [&world.tess, &edith] {
            for query in ["fieldManager=m1&force=true", "fieldManager=m2&force=true"] {
                let bytes = scale.to_string().into_bytes();
                let applied = format!("{path}?{query}");
                let answer = attacker
                    .bytes(Method::PATCH, &applied, "application/apply-patch+yaml", bytes)
                    .await;
                let said = answer.refused_by_guard("ringfence-field-managers");
                assert!(said.contains("Fix: "), "{said}");
            }
            // As kubectl scale does, and who scales by itself.
            attacker.patch(&path, &json!({"spec": {"replicas": 0}})).await.ok();
            let mut read = attacker.get(&path).await.ok();
            read["spec"]["replicas"] = json!(1);
            // Its controller writes as well.
            read["metadata"]["resourceVersion"].take();
            attacker.put(&path, &read).await.ok();
        }
    }
}

/// Its operator has to write it, to do what a launcher withdraws.
///
/// Held by: `ringfence-operators-field-managers`
#[tokio::test]
async fn somebody_has_an_operators_object_applied_by_hundreds() {
    let world = World::shared().await;
    let launched = Launched::new(&world, "flows").await;
    let of_the_kind = launched.holder(&world, &["get", "list", "patch"]).await;
    let Launched {
        kind, lea, flows, path, ..
    } = launched;
    lea.post(&flows, &kind.object("free")).await.ok();
    let many = async |path: &str, count: usize| {
        let mut entries = entries(&lea, path).await;
        entries.retain(|entry| entry["operation"] != "Apply");
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        applied(entries, count, &format!("{}/v1", kind.group), &replicas)
    };
    for count in [65, 400] {
        let answer = of_the_kind.patch(&path, &many(&path, count).await).await;
        let said = answer.refused_by_guard("ringfence-operators-field-managers");
        assert!(said.contains("Fix: "), "{said}");
    }
    of_the_kind.patch(&path, &many(&path, 64).await).await.ok();
    of_the_kind.patch(&path, &many(&path, 3).await).await.ok();
    // What is no workflow's is nobody's to withdraw.
    let free = format!("{flows}/free");
    of_the_kind.patch(&free, &many(&free, 65).await).await.ok();
}

/// A Scale has none of its object's labels, so nothing tells that it is a workflow's.
///
/// Held by: `ringfence-field-managers`
#[tokio::test]
async fn somebody_has_an_operators_object_applied_by_hundreds_through_its_scale() {
    let world = World::shared().await;
    let ns = &world.enforced("scaled-flows").await;
    world.ready(ns, "triage", &json!({})).await;
    let kind = OperatorsKind::new(&world).await;
    let scales = json!([{
        "apiGroups": [kind.group], "resources": [kind.plural, format!("{}/scale", kind.plural)], "verbs": ["get", "patch", "update"],
    }]);
    let of_the_kind = holder(&world, &scales).await;
    let lea = world.master("lea", &[]).await;
    let flows = kind.all(ns);
    let mut run = kind.labelled("run");
    run["spec"]["replicas"] = json!(1);
    lea.post(&flows, &run).await.ok();
    let path = format!("{flows}/run/scale");
    for attacker in [&of_the_kind, &world.admin] {
        // Of a kind whose schema knows the field it may be applied, too: by which way the manager comes makes no difference to the guard.
        let named = format!("{path}?fieldManager=m1");
        let answer = attacker.patch(&named, &json!({"spec": {"replicas": 2}})).await;
        let said = answer.refused_by_guard("ringfence-field-managers");
        assert!(said.contains("Fix: "), "{said}");
        // As kubectl scale does, and an autoscaler.
        attacker.patch(&path, &json!({"spec": {"replicas": 3}})).await.ok();
        let mut read = attacker.get(&path).await.ok();
        read["spec"]["replicas"] = json!(1);
        attacker.put(&path, &read).await.ok();
    }
}

/// By a policy that looks at all objects of a kind, one that cannot be read would leave everybody without a verdict; one that fails open
/// would be passed by an object that cannot be read.
///
/// Held by: `operator`
#[tokio::test]
async fn an_object_that_nobody_can_read_blinds_policies() {
    let world = World::shared().await;
    let [ns, neighbour] = [
        &world.namespace("seen", &json!({})).await,
        &world.namespace("blinds", &json!({})).await,
    ];
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let role = json!({
        "metadata": {"name": unique("maps-for-policies"), "labels": {"ringfence.dev/aggregate-to-inventory": "true"}},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}],
    });
    world.admin.post(roles, &role).await.ok();
    let name = unique("one-owner");
    let constraints = json!({
        "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}],
        "namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": [ns, neighbour]}]},
    });
    let source = "package owners\n\n\
        owner := input.review.object.metadata.labels.owner\n\
        deny contains {\"msg\": \"the owner has one already\", \"path\": \"metadata.labels.owner\"} if {\n  \
        some other in data.inventory.namespace[_].v1.ConfigMap\n  other.metadata.labels.owner == owner\n  \
        other.metadata.namespace != input.review.namespace\n}\n";
    let policy = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "metadata": {"name": name},
        "spec": {
            "description": "An owner has maps in one namespace", "validationActions": ["Deny"], "failurePolicy": "Ignore",
            "matchConstraints": constraints, "inventory": [{"version": "v1", "kind": "ConfigMap", "fields": ["metadata.labels"]}],
            "rego": {"modules": [{"name": "policy.rego", "source": source}]},
        },
    });
    world.admin.post(POLICIES, &policy).await.ok();
    let of = |name: &str, owner: &str| json!({"metadata": {"name": name, "labels": {"owner": owner}}});
    world
        .admin
        .post(&all("ConfigMap", neighbour), &of("first", "ned"))
        .await
        .ok();
    let dry = format!("{}?dryRun=All", all("ConfigMap", ns));
    let is_refused = async |owner: &str| {
        let answer = world.admin.post(&dry, &of("other", owner)).await;
        ensure!(
            answer.message().contains(&format!("[{name}]")),
            "{} {:?}",
            answer.message(),
            answer.warnings
        );
        Ok(())
    };
    eventually(SOON, async || is_refused("ned").await).await;
    // What is held is not lost by it, and it is seen itself.
    let first = one("ConfigMap", neighbour, "first");
    let stand = entries(&world.admin, &first).await;
    for below in [deep(), dense(2500)] {
        let mut written = recorded(stand.clone(), &below, "v1");
        written["metadata"]["labels"] = json!({"owner": "nell"});
        world.admin.patch(&first, &written).await.ok();
        eventually(SOON, async || is_refused("nell").await).await;
        let back = json!({"metadata": {"labels": {"owner": "ned"}}});
        world.admin.patch(&first, &back).await.ok();
        eventually(SOON, async || is_refused("ned").await).await;
    }
    // Though it fails open, nobody passes by being unreadable.
    world.admin.post(&all("ConfigMap", ns), &of("own", "lou")).await.ok();
    let own = one("ConfigMap", ns, "own");
    let plain = json!({"metadata": {"labels": {"owner": "ned"}}});
    world.admin.patch(&own, &plain).await.refused_by(&name);
    let stand = entries(&world.admin, &own).await;
    for below in [deep(), dense(2500)] {
        let mut written = recorded(stand.clone(), &below, "v1");
        written["metadata"]["labels"] = plain["metadata"]["labels"].clone();
        world.admin.patch(&own, &written).await.refused_by(&name);
    }
    let path = format!("{POLICIES}/{name}");
    let policy = world.admin.read(&path).await.unwrap();
    assert_eq!(condition(&policy, "Enforced")["status"], "True", "{}", policy["status"]);
    world.admin.delete(&path).await.ok();
}

/// With such a time in it, the API server fails each PATCH of an object: of a kubelet, of the controller that would take it up or let it go, and
/// of `kubectl`. So a Job's pod would run on when that is suspended, and a controller do nothing for what it finds beside its own.
///
/// Held by: `ringfence-field-managers`, `ringfence-operators-field-managers`, `readable-times`
#[tokio::test]
async fn a_tenant_writes_a_time_that_the_api_server_cannot_read_again() {
    let world = World::shared().await;
    let launched = Launched::new(&world, "late-times").await;
    let of_the_kind = launched.holder(&world, &["get", "patch"]).await;
    let Launched {
        ns, lea, path: flow, ..
    } = &launched;
    let (_, edith) = world.tenant(ns).await;
    let written = |version: &str, time: &str| {
        json!({"metadata": {"managedFields": [{
            "manager": "x", "operation": "Update", "apiVersion": version, "time": time,
            "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": {"f:example.com/x": {}}}},
        }]}})
    };
    lea.post(&all("Deployment", ns), &workload("Deployment", &pod("web", "triage")))
        .await
        .ok();
    lea.post(&all("Job", ns), &workload("Job", &pod("once", "triage")))
        .await
        .ok();
    let made = has_pods(&world, ns, "web", 1).await.remove(0);
    let of_it = one("Pod", ns, made["metadata"]["name"].as_str().expect("a name"));
    let claim = json!({
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    });
    world.tess.post(&all("PersistentVolumeClaim", ns), &claim).await.ok();
    let claim = one("PersistentVolumeClaim", ns, "data");
    let (web, once) = (one("Deployment", ns, "web"), one("Job", ns, "once"));
    for time in [
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-01:00",
        "0000-01-01T00:00:00+01:00",
    ] {
        for attacker in [&world.tess, &edith, &world.admin, lea] {
            for (path, version) in [(&of_it, "v1"), (&claim, "v1"), (&web, "apps/v1"), (&once, "batch/v1")] {
                let answer = attacker.patch(path, &written(version, time)).await;
                // Where it changes who owns what, the webhook may be first.
                assert_eq!(answer.code, 403, "{path}: {}", answer.body);
            }
        }
        let answer = lea.patch(&of_it, &written("v1", time)).await;
        let said = answer.refused_by_guard("ringfence-field-managers");
        assert!(said.contains("cannot") || said.contains("beyond"), "{said}");
        let version = launched.run["apiVersion"].as_str().expect("a version");
        // Of a custom kind, what is beyond four digits is not taken by the API server, which keeps what it had.
        for attacker in [&world.admin, lea, &of_the_kind] {
            let answer = attacker.patch(flow, &written(version, time)).await;
            let kept = lea.get(flow).await.ok()["metadata"]["managedFields"].clone();
            assert_eq!(
                kept, launched.run["metadata"]["managedFields"],
                "{time}: {}",
                answer.body
            );
        }
        // In a template nobody reads it, and all the same it is part of what a controller would PATCH.
        let mut decoy = workload("ReplicaSet", &pod("decoy", "triage"));
        decoy["spec"]["template"]["metadata"]["creationTimestamp"] = json!(time);
        let answer = lea.post(&all("ReplicaSet", ns), &decoy).await;
        let said = answer.refused_by("readable-times");
        assert!(said.contains("could PATCH the object"), "{said}");
    }
    let version = launched.run["apiVersion"].as_str().expect("a version");
    let answer = lea.patch(flow, &written(version, "9999-12-31T23:59:59Z")).await;
    answer.refused_by_guard("ringfence-operators-field-managers");
    // Another time, and no list at all, which the API server then writes anew.
    lea.patch(&of_it, &written("v1", "2024-02-29T00:00:00+14:00"))
        .await
        .ok();
    lea.patch(&of_it, &json!({"metadata": {"managedFields": [{}]}}))
        .await
        .ok();
    let mut decoy = workload("ReplicaSet", &pod("decoy", "triage"));
    decoy["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
    decoy["spec"]["replicas"] = json!(0);
    lea.post(&all("ReplicaSet", ns), &decoy).await.ok();
    let suspended = json!({"spec": {"suspend": true}});
    world.tess.patch(&once, &suspended).await.ok();
    has_pods(&world, ns, "once", 0).await;
}
