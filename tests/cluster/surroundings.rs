//! What a tenant's declaration may meet: references to nothing, names that somebody else holds, a namespace that goes. It waits,
//! says for what, and the others are served on meanwhile.

use anyhow::ensure;
use ringfence::plan::owned_name;
use serde_json::json;
use support::eventually;

use crate::bad_input::{Place, to};
use crate::objects::said;
use crate::world::{CLASSES, NAMESPACES, SOON, TENANT, all, condition, one, unasked, workflow};

#[tokio::test]
async fn what_refers_to_nothing_waits_for_it_and_says_so() {
    let place = Place::new(
        "missing",
        json!({"network": {"namespaces": ["nowhere"]}, "crossNamespacePermissions": [{"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}]}),
    )
    .await;
    let peer = json!({"workflow": {"namespace": "nowhere", "name": "ghost"}});
    place.declare("peer", &to(peer)).await.ok();
    let parts = [
        "spec.network.egress[0]",
        "AIWorkflow nowhere/ghost does not exist",
        "create it",
    ];
    place
        .says("peer", ["ResolvedRefs", "False", "PeerMissing"], &parts)
        .await;

    let rule = json!({"apiGroups": [""], "resources": ["services"], "verbs": ["get"]});
    let across = json!({"permissions": {"crossNamespace": [{"namespace": "nowhere", "rules": [rule]}]}});
    place.declare("across", &across).await.ok();
    let parts = [
        "spec.permissions.crossNamespace[0].rules[0]",
        "no AIWorkflowGrant in namespace nowhere",
        "ask its team",
    ];
    place.says("across", ["ResolvedRefs", "False", "NoGrant"], &parts).await;

    // Pods and Secrets come and go: nothing to wait for, and nothing open until they are there.
    let pods = to(json!({"pods": {"namespace": "nowhere", "selector": {"matchLabels": {"app": "x"}}}}));
    let mut pods = pods;
    pods["identity"] = json!({"imagePullSecrets": [{"name": "not-there-yet"}]});
    place.declare("pods", &pods).await.ok();
    place.says("pods", ["Ready", "True", "Fenced"], &[]).await;

    // The class goes under the namespace: who stands goes on, who comes is told.
    let class = format!("{CLASSES}/{}", place.class);
    let spec = place.world.admin.get(&class).await.ok()["spec"].clone();
    place.others_are_served_on("before").await;
    place.world.admin.delete(&class).await.ok();
    let answer = place.declare("classless", &json!({})).await;
    assert!(
        answer.warnings.iter().any(|warning| warning.contains("ClassMissing")),
        "{:?}",
        answer.warnings
    );
    answer.ok();
    let parts = [place.class.as_str(), "does not exist", "create it", "kubectl get aiwc"];
    place
        .says("classless", ["Accepted", "False", "ClassMissing"], &parts)
        .await;
    let account = one("ServiceAccount", &place.ns, "good");
    assert!(
        place.tenant.is_there(&account).await.unwrap(),
        "what stood was right when it was made"
    );
    let again = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": place.class}, "spec": spec});
    place.world.admin.post(CLASSES, &again).await.ok();
    for name in ["classless", "good"] {
        place.says(name, ["Ready", "True", "Fenced"], &[]).await;
    }
}

/// An object of somebody else under a name that the workflow would own, with the labels of an owned one: never taken over.
#[tokio::test]
async fn a_foreign_object_under_an_owned_name_is_never_taken_over() {
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]});
    let place = Place::new("names", json!({"permissions": [rule]})).await;
    let secrets = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    let stranger = json!([{"kind": "User", "name": "stranger", "apiGroup": "rbac.authorization.k8s.io"}]);
    let open = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]});
    let cases = [
        ("ServiceAccount", "", json!({"automountServiceAccountToken": true})),
        ("Role", "role", json!({"rules": secrets})),
        ("RoleBinding", "binding", json!({"roleRef": role, "subjects": stranger})),
        ("NetworkPolicy", "allow", json!({"spec": open})),
    ];
    // As they stand where they were made before the fence.
    let earlier = unasked(place.world.cluster).await;
    for (kind, part, body) in cases {
        let name = format!("of-{}", kind.to_lowercase());
        let owned = if part.is_empty() {
            name.clone()
        } else {
            owned_name(&place.ns, &name, part)
        };
        let mut foreign = body;
        foreign["metadata"] = json!({
            "name": owned,
            "labels": {"app.kubernetes.io/managed-by": "ringfence", "app.kubernetes.io/instance": name, "ringfence.dev/owner": name},
        });
        let path = one(kind, &place.ns, &owned);
        let before = said(&earlier.post(&all(kind, &place.ns), &foreign).await.ok());
        place
            .declare(&name, &json!({"permissions": {"rules": [rule]}}))
            .await
            .ok();
        let reason = ["Programmed", "False", "NameTaken"];
        place
            .says(
                &name,
                reason,
                &[&format!("{kind} {owned}"), "is not Ringfence's", "delete it"],
            )
            .await;
        place.says(&name, ["Ready", "False", "NameTaken"], &[]).await;
        let after = said(&place.world.admin.read(&path).await.unwrap());
        assert_eq!(after, before, "{kind} of somebody else was changed");
        if kind != "NetworkPolicy" {
            let bindings = place.world.admin.items(&all("RoleBinding", &place.ns)).await.unwrap();
            let bound = bindings
                .iter()
                .any(|binding| binding["subjects"][0]["name"] == name.as_str());
            assert!(!bound, "{kind}: rights were given all the same");
        }
        // Theirs to remove, and then the fence stands without hands.
        place.world.admin.delete(&path).await.ok();
        place.says(&name, ["Ready", "True", "Fenced"], &[]).await;
    }
    place.others_are_served_on("after").await;
}

/// Deleted while somebody's finalizer keeps something in it, as it happens for hours.
#[tokio::test]
async fn a_namespace_that_is_going_takes_nobody_along() {
    let place = Place::new("staying", json!({})).await;
    let going = &place
        .world
        .namespace("going", &json!({"ringfence.dev/enforce": place.class}))
        .await;
    let (_, tenant) = place.world.person(going, TENANT).await;
    for name in ["kept", "free"] {
        let mut object = workflow(name, &json!({}));
        if name == "kept" {
            object["metadata"]["finalizers"] = json!(["example.com/keep"]);
        }
        tenant.post(&all("AIWorkflow", going), &object).await.ok();
        place.world.condition(going, name, "Ready", "True", "Fenced").await;
    }
    let namespace = format!("{NAMESPACES}/{going}");
    place.world.admin.delete(&namespace).await.ok();
    place.world.admin.gone(&one("AIWorkflow", going, "free")).await;

    let admin = &place.world.admin;
    let late = admin
        .post(&all("AIWorkflow", going), &workflow("late", &json!({})))
        .await;
    assert_eq!(late.code, 403, "{}", late.body);
    assert!(late.message().contains("being terminated"), "{}", late.message());
    let kept = one("AIWorkflow", going, "kept");
    eventually(SOON, || async {
        let workflow = admin.read(&kept).await?;
        let ready = condition(&workflow, "Ready");
        let message = ready["message"].as_str().unwrap_or_default();
        ensure!(
            ready["status"] == "False" && message.contains("being deleted"),
            "{ready}"
        );
        Ok(())
    })
    .await;
    place.others_are_served_on("meanwhile").await;
    admin
        .patch(&kept, &json!({"metadata": {"finalizers": null}}))
        .await
        .ok();
    admin.gone(&namespace).await;
    place.others_are_served_on("after").await;
}
