//! The door of our own kinds, with a tenant's credentials.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::world::{CLASSES, SOON, World, all, one, unasked, workflow};

fn reads(cidr: &str) -> Value {
    json!({"network": {"egress": [{"name": "x", "to": {"cidrs": [cidr]}, "ports": [{"port": 1}]}]}})
}

#[tokio::test]
async fn a_declaration_that_nothing_could_accept_is_refused_where_it_is_written() {
    let world = World::shared().await;
    let ns = &world.enforced("kinds").await;
    let (_, tenant) = world.tenant(ns).await;
    let workflows = all("AIWorkflow", ns);
    // The rights of the chart's roles come by aggregation.
    eventually(SOON, || async {
        let answer = tenant
            .post(&format!("{workflows}?dryRun=All"), &workflow("x", &json!({})))
            .await;
        ensure!(answer.code == 201, "{}", answer.message());
        Ok(())
    })
    .await;
    let bad = workflow(
        "triage",
        &json!({"images": ["UPPER"], "network": reads("10.0.0.1/8")["network"]}),
    );
    let answer = tenant.post(&workflows, &bad).await;
    let said = answer.refused_by("valid-declaration");
    for part in [
        "2 reasons",
        "spec.images[0] = \"UPPER\"",
        "spec.network.egress[0].to.cidrs[0] = \"10.0.0.1/8\"",
    ] {
        assert!(said.contains(part), "{part} is missing in: {said}");
    }
    for cidr in ["::ffff:203.0.113.0/120", "203.0.113.0/24,10.0.0.0/8", "300.0.0.0/8"] {
        tenant
            .post(&workflows, &workflow("triage", &reads(cidr)))
            .await
            .refused_by("valid-declaration");
    }

    // Outside the class is a warning: the class may come after it.
    let answer = tenant
        .post(&workflows, &workflow("triage", &reads("203.0.113.0/24")))
        .await;
    assert!(
        answer
            .warnings
            .iter()
            .any(|warning| warning.contains("OutsideClass") && warning.contains("203.0.113.0/24")),
        "{:?}",
        answer.warnings
    );
    answer.ok();
    world.condition(ns, "triage", "Accepted", "False", "OutsideClass").await;
    let one_of = one("AIWorkflow", ns, "triage");
    let worse = json!({"spec": reads("10.0.0.1/8")});
    tenant.patch(&one_of, &worse).await.refused_by("valid-declaration");

    // What an older version let in can be labelled and ended, not written again.
    unasked(world.cluster).await.patch(&one_of, &worse).await.ok();
    tenant
        .patch(&one_of, &json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .ok();
    tenant
        .patch(&one_of, &json!({"spec": {"owner": {"team": "ml"}}}))
        .await
        .refused_by("valid-declaration");
    let huge = json!({"metadata": {"annotations": {"a": "x".repeat(200_000)}}});
    tenant.patch(&one_of, &huge).await.refused_by("declaration-size");
    tenant.delete(&one_of).await.ok();
}

#[tokio::test]
async fn what_comes_in_any_order_is_warned_of_and_the_platforms_own_namespaces_take_nothing() {
    let world = World::shared().await;
    let plain = &world.namespace("kinds-plain", &json!({})).await;
    let answer = world
        .tess
        .post(&all("AIWorkflow", plain), &workflow("triage", &json!({})))
        .await;
    assert!(
        answer
            .warnings
            .iter()
            .any(|warning| warning.contains("NamespaceNotFenced")),
        "{:?}",
        answer.warnings
    );
    answer.ok();
    for exempt in ["kube-system", "kube-public", support::RELEASE_NAMESPACE] {
        let answer = world
            .tess
            .post(&all("AIWorkflow", exempt), &workflow("triage", &json!({})))
            .await;
        answer.refused_by("exempt-namespace");
    }

    let name = unique("class");
    let class = |spec: Value| json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": name}, "spec": spec});
    let secrets = json!({"permissions": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    let answer = world.admin.post(CLASSES, &class(secrets.clone())).await;
    assert!(
        answer
            .refused_by("valid-declaration")
            .contains("spec.permissions[0].resources = \"secrets\""),
        "{}",
        answer.message()
    );
    unasked(world.cluster).await.post(CLASSES, &class(secrets)).await.ok();
    let narrower = json!({"spec": {"images": {"allowed": ["a.example/**"]}}});
    world.admin.patch(&format!("{CLASSES}/{name}"), &narrower).await.ok();
    let worse = json!({"spec": {"network": {"cidrs": ["10.0.0.1/8"]}}});
    world
        .admin
        .patch(&format!("{CLASSES}/{name}"), &worse)
        .await
        .refused_by("valid-declaration");
    // The namespace may name it after the workflow was written.
    world
        .admin
        .patch(
            &format!("{CLASSES}/{name}"),
            &json!({"spec": {"permissions": null, "images": {"allowed": ["**"]}}}),
        )
        .await
        .ok();
    let labels = json!({"metadata": {"labels": {"ringfence.dev/enforce": name}}});
    world
        .admin
        .patch(&format!("{}/{plain}", crate::world::NAMESPACES), &labels)
        .await
        .ok();
    world.condition(plain, "triage", "Ready", "True", "Fenced").await;
}
