//! Door: Ringfence's own words, its labels and annotations and its status, are written by somebody else.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::attackers::{force_apply, holder};
use crate::world::{Actor, CLASSES, POLICIES, SOON, World, all, one, pod, unasked, workflow, workload};

const GUARD: &str = "ringfence-reserved-keys";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn grant() -> Value {
    let rules = json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}]);
    json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowGrant", "metadata": {"name": "readers"},
        "spec": {"from": [{"namespace": "x", "name": "x"}], "rules": rules},
    })
}

/// One object of each kind on which such a key says something, in a namespace or in none: where it is, and the object.
fn kinds(ns: &str) -> Vec<(String, Value)> {
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "x"});
    let cluster_role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "x"});
    let of_rbac = |kind: &str, more: Value| {
        let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {}});
        object
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        object
    };
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    });
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {}});
    let class = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {}, "spec": {}});
    let exception = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicyException", "metadata": {},
        "spec": {"policies": ["no-literal-secrets"], "names": ["x"], "reason": "x", "expiresAt": "2030-12-01T12:00:00Z"},
    });
    vec![
        (all("ServiceAccount", ns), account),
        (all("Role", ns), of_rbac("Role", json!({"rules": []}))),
        (all("RoleBinding", ns), of_rbac("RoleBinding", json!({"roleRef": role}))),
        (all("NetworkPolicy", ns), policy),
        (all("AIWorkflow", ns), workflow("x", &json!({}))),
        (all("AIWorkflowGrant", ns), grant()),
        (all("RegoPolicyException", ns), exception),
        (
            format!("{RBAC}/clusterroles"),
            of_rbac("ClusterRole", json!({"rules": []})),
        ),
        (
            format!("{RBAC}/clusterrolebindings"),
            of_rbac("ClusterRoleBinding", json!({"roleRef": cluster_role})),
        ),
        (crate::world::NAMESPACES.to_owned(), namespace),
        (CLASSES.to_owned(), class),
        (POLICIES.to_owned(), support::cel::valid("RegoPolicy", "x", &json!({}))),
    ]
}

/// Who may write each of these kinds everywhere, and does not approve.
async fn writer(world: &World) -> Actor {
    let rules = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["namespaces", "namespaces/status", "namespaces/finalize", "serviceaccounts", "services"], "verbs": ["*"]},
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["*"]},
        {"apiGroups": ["ringfence.dev"], "verbs": ["get", "list", "create", "update", "patch", "delete"],
         "resources": ["aiworkflows", "aiworkflowclasses", "aiworkflowgrants", "regopolicies", "regopolicyexceptions", "*/status"]},
    ]);
    holder(world, &rules).await
}

/// With the object and afterwards, as label and as annotation, by every patch; also a key that means nothing yet.
/// Held by: `ringfence-reserved-keys`
#[tokio::test]
async fn somebody_signs_with_ringfences_name() {
    let world = World::shared().await;
    let ns = &world.namespace("signs", &json!({})).await;
    let wren = writer(&world).await;
    for (collection, object) in kinds(ns) {
        let name = unique("signed");
        let mut plain = object.clone();
        plain["metadata"] = json!({"name": name});
        let path = format!("{collection}/{name}");
        wren.post(&collection, &plain).await.ok();
        for key in [
            "owner-uid",
            "adopt",
            "reviewed",
            "Workflow",
            "Enforce",
            "aggregate-to-ceiling",
            "anything",
        ] {
            let key = format!("ringfence.dev/{key}");
            for map in ["labels", "annotations"] {
                let metadata = json!({map: {&key: "x"}});
                let mut signed = plain.clone();
                signed["metadata"] = json!({"generateName": "signed-", map: {&key: "x"}});
                wren.post(&collection, &signed).await.refused_by_guard(GUARD);
                wren.post(&format!("{collection}?dryRun=All"), &signed)
                    .await
                    .refused_by_guard(GUARD);
                wren.patch(&path, &json!({"metadata": metadata}))
                    .await
                    .refused_by_guard(GUARD);
                let pointer = format!("/metadata/{map}");
                let added = json!([{"op": "add", "path": pointer, "value": {&key: "x"}}]);
                wren.json_patch(&path, &added).await.refused_by_guard(GUARD);
                let applied = json!({"apiVersion": plain["apiVersion"], "kind": plain["kind"], "metadata": metadata});
                force_apply(&wren, &path, &applied).await.refused_by_guard(GUARD);
            }
        }
        // Other keys are anybody's.
        wren.patch(
            &path,
            &json!({"metadata": {"annotations": {"example.com/ringfence.dev": "x"}}}),
        )
        .await
        .ok();
        wren.delete(&path).await.ok();
    }
    // By a subresource as well.
    let key = json!({"metadata": {"annotations": {"ringfence.dev/anything": "x"}}});
    let path = format!("{}/{ns}", crate::world::NAMESPACES);
    wren.patch(&format!("{path}/status"), &key)
        .await
        .refused_by_guard(GUARD);
    let mut whole = world.admin.get(&path).await.ok();
    whole["metadata"]["annotations"] = key["metadata"]["annotations"].clone();
    wren.put(&format!("{path}/finalize"), &whole)
        .await
        .refused_by_guard(GUARD);
}

/// The keys end at their letters: in others they are an annotation that means nothing, or no label at all.
/// Out of scope: a key in other letters is nobody's word; nothing reads it, and the object stays its owner's.
#[tokio::test]
async fn somebody_signs_in_other_letters() {
    let world = World::shared().await;
    let ns = &world.enforced("letters").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, owner) = world.person(ns, "cluster-admin").await;
    let key = "Ringfence.dev/owner-uid";
    let role = json!({"metadata": {"name": "mine", "annotations": {key: "x"}}, "rules": []});
    owner.post(&all("Role", ns), &role).await.ok();
    owner
        .patch(
            &one("Role", ns, "mine"),
            &json!({"metadata": {"annotations": {"a": "b"}}}),
        )
        .await
        .ok();
    owner.delete(&one("Role", ns, "mine")).await.ok();
    let mut labelled = pod("letters", "triage");
    labelled["metadata"]["labels"] = json!({"Ringfence.dev/workflow": "triage"});
    let lea = world.master("lea", &[]).await;
    assert_eq!(
        lea.post(&all("Pod", ns), &labelled).await.code,
        422,
        "no label can be called so"
    );
    labelled["metadata"]["labels"] = json!({"ringfence.dev/Workflow": "triage"});
    lea.post(&all("Pod", ns), &labelled)
        .await
        .refused_by("declared-workflow");
}

/// Where it stands on a kind that nothing reads it on, it is a text like any other: a Deployment hands its annotations on.
/// Legitimate: the controllers of Kubernetes copy annotations, and nothing of Ringfence follows from what they copy.
#[tokio::test]
async fn a_deployment_with_such_an_annotation_rolls_out() {
    let world = World::shared().await;
    let ns = &world.enforced("copied").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let mut deployment = workload("Deployment", &pod("copied", "triage"));
    deployment["metadata"]["annotations"] = json!({"ringfence.dev/owner-uid": "x"});
    lea.post(&all("Deployment", ns), &deployment).await.ok();
    let set = eventually(SOON, || async {
        let sets = world.admin.items(&all("ReplicaSet", ns)).await?;
        let copied = sets
            .iter()
            .find(|set| set["metadata"]["annotations"]["ringfence.dev/owner-uid"] == "x");
        ensure!(copied.is_some_and(|set| set["status"]["replicas"] == 1), "{sets:?}");
        Ok(sets[0]["metadata"]["name"].as_str().unwrap_or_default().to_owned())
    })
    .await;
    world.admin.delete(&one("Deployment", ns, "copied")).await.ok();
    world.admin.gone(&one("ReplicaSet", ns, &set)).await;
}

/// A kind that somebody has just defined, with a status and a scale, by which no metadata comes along.
/// Held by: `approved-namespace`, `launcher`, `API server`
#[tokio::test]
async fn somebody_labels_an_object_of_a_kind_of_his_own() {
    let world = World::shared().await;
    let plural = format!("{}s", unique("widget").replace('-', ""));
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "metadata": {"name": format!("{plural}.bypass.example.com")},
        "spec": {
            "group": "bypass.example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": "Widget", "listKind": "Widgets"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
            }],
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    world.admin.post(definitions, &definition).await.ok();
    let ns = &world.enforced("widgets").await;
    let plain = &world.namespace("widgets", &json!({})).await;
    world.ready(ns, "triage", &json!({})).await;
    let collection = |ns: &str| format!("/apis/bypass.example.com/v1/namespaces/{ns}/{plural}");
    let widget = |name: &str, labels: Value| {
        json!({
            "apiVersion": "bypass.example.com/v1", "kind": "Widget", "metadata": {"name": name, "labels": labels}, "spec": {"replicas": 1},
        })
    };
    let (_, owner) = world.person(ns, "cluster-admin").await;
    let (_, of_plain) = world.person(plain, "cluster-admin").await;
    let label = json!({"ringfence.dev/workflow": "triage"});
    eventually(SOON, || async {
        let answer = of_plain.post(&collection(plain), &widget("free", json!({}))).await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
    of_plain
        .post(&collection(plain), &widget("x", label.clone()))
        .await
        .refused_by("approved-namespace");
    owner
        .post(&collection(ns), &widget("x", label.clone()))
        .await
        .refused_by("launcher");
    let labelled = json!({"metadata": {"labels": label}});
    let free = format!("{}/free", collection(plain));
    of_plain.patch(&free, &labelled).await.refused_by("approved-namespace");
    of_plain.patch(&format!("{free}/status"), &labelled).await.ok();
    of_plain
        .patch(
            &format!("{free}/scale"),
            &json!({"metadata": {"labels": label}, "spec": {"replicas": 2}}),
        )
        .await;
    assert_eq!(
        world.admin.get(&free).await.ok()["metadata"]["labels"]["ringfence.dev/workflow"],
        Value::Null
    );

    // A launcher makes it, and its operator, whoever that is, writes its status.
    let lea = world.master("lea", &[]).await;
    lea.post(&collection(ns), &widget("runs", label)).await.ok();
    let runs = format!("{}/runs", collection(ns));
    owner
        .patch(&format!("{runs}/status"), &json!({"status": {"phase": "Running"}}))
        .await
        .ok();
    owner
        .patch(&format!("{runs}/scale"), &json!({"spec": {"replicas": 3}}))
        .await
        .ok();
    assert_eq!(world.admin.get(&runs).await.ok()["spec"]["replicas"], 3);
    world
        .admin
        .delete(&format!("{definitions}/{plural}.bypass.example.com"))
        .await
        .ok();
}

/// What was reviewed is on record in the status, and what is accepted is said there.
/// Held by: `ringfence-status`, `RBAC`
#[tokio::test]
async fn somebody_writes_the_status_of_our_kinds() {
    const GUARD: &str = "ringfence-status";
    let world = World::shared().await;
    let ns = &world.enforced("status").await;
    world.ready(ns, "triage", &json!({})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let (_, ada) = world.person(ns, "admin").await;
    let (_, owner) = world.person(ns, "cluster-admin").await;
    let wren = writer(&world).await;
    unasked(world.cluster)
        .await
        .post(&all("AIWorkflowGrant", ns), &grant())
        .await
        .ok();
    let record = json!({"status": {"reviewed": {"generation": 1, "registrationUID": "x"}}});
    let workflow = format!("{}/status", one("AIWorkflow", ns, "triage"));
    let before = world.admin.read(&one("AIWorkflow", ns, "triage")).await.unwrap()["status"].clone();
    for attacker in [&owner, &wren] {
        for path in [
            workflow.clone(),
            format!("{}/status", one("AIWorkflowGrant", ns, "readers")),
        ] {
            attacker.patch(&path, &record).await.refused_by_guard(GUARD);
            let forged = json!({"status": {"conditions": []}});
            attacker.patch(&path, &forged).await.refused_by_guard(GUARD);
        }
    }
    wren.patch(
        &format!("{CLASSES}/default/status"),
        &json!({"status": {"conditions": []}}),
    )
    .await
    .refused_by_guard(GUARD);
    for attacker in [&world.tess, &edith, &ada] {
        let answer = attacker.patch(&workflow, &record).await;
        assert!(
            answer.code == 403 && answer.message().contains("cannot patch"),
            "{}",
            answer.message()
        );
    }
    let after = world.admin.read(&one("AIWorkflow", ns, "triage")).await.unwrap()["status"].clone();
    assert_eq!(before, after);
}

/// An object whose times cannot be read would make every list of its kind unreadable, and Ringfence blind after a restart.
/// Held by: `ringfence-reserved-keys`
#[tokio::test]
async fn somebody_makes_an_object_unreadable() {
    let world = World::shared().await;
    let ns = &world.namespace("times", &json!({})).await;
    let (_, tenant) = world.tenant(ns).await;
    let fields = json!([{
        "manager": "x", "operation": "Update", "apiVersion": "ringfence.dev/v1alpha1", "time": "9999-12-31T23:59:59Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:images": {}}},
    }]);
    tenant
        .post(&all("AIWorkflow", ns), &workflow("late", &json!({})))
        .await
        .ok();
    let path = one("AIWorkflow", ns, "late");
    let late = json!({"metadata": {"managedFields": fields}});
    tenant
        .patch(&path, &late)
        .await
        .refused_by_guard("ringfence-reserved-keys");
    let mut fields = fields;
    fields[0]["apiVersion"] = json!("v1");
    fields[0]["fieldsV1"] = json!({"f:automountServiceAccountToken": {}});
    let accounts = all("ServiceAccount", ns);
    tenant
        .post(&accounts, &json!({"metadata": {"name": "late"}}))
        .await
        .ok();
    let unmounted = json!({"automountServiceAccountToken": false});
    tenant.patch(&format!("{accounts}/late"), &unmounted).await.ok();
    let late = json!({"metadata": {"managedFields": fields}});
    tenant
        .patch(&format!("{accounts}/late"), &late)
        .await
        .refused_by_guard("ringfence-reserved-keys");
    let plain = json!({"metadata": {"annotations": {"a": "b"}}});
    tenant.patch(&path, &plain).await.ok();
}
