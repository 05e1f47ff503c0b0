//! What a class says of the shape of pods: images, volumes, annotations, tokens, and the standard that the API server enforces.

use anyhow::ensure;
use serde_json::{Value, json};
use support::{eventually, unique};

use crate::world::{CLASSES, NAMESPACES, SOON, World, all, annotated, one, pod, workload};

const LEVEL: &str = "pod-security.kubernetes.io/enforce";

fn dry(kind: &str, namespace: &str) -> String {
    format!("{}?dryRun=All", all(kind, namespace))
}

#[tokio::test]
async fn a_declaration_that_its_class_no_longer_allows_says_so_until_it_fits() {
    let world = World::shared().await;
    let strict = json!({"images": {"allowed": ["**"]}, "identity": {"audiences": ["vault"], "maxTokenSeconds": 1800}});
    let class = world.class(&strict).await;
    let ns = &world.namespace("shape", &json!({"ringfence.dev/enforce": class})).await;
    let vault = json!({"identity": {"audiences": [{"audience": "vault", "maxExpirationSeconds": 900}]}});
    world.ready(ns, "triage", &vault).await;
    let shorter = json!({"spec": {"identity": {"maxTokenSeconds": 600}}});
    world.admin.patch(&format!("{CLASSES}/{class}"), &shorter).await.ok();
    let outside = world.condition(ns, "triage", "Accepted", "False", "OutsideClass").await;
    let message = crate::world::condition(&outside, "Accepted")["message"].to_string();
    for said in ["maxExpirationSeconds", "900", "600 seconds that AIWorkflowClass"] {
        assert!(message.contains(said), "{message}");
    }
    let fits = json!({"spec": {"identity": {"audiences": [{"audience": "vault", "maxExpirationSeconds": 600}]}}});
    world.tess.patch(&one("AIWorkflow", ns, "triage"), &fits).await.ok();
    world.condition(ns, "triage", "Accepted", "True", "Accepted").await;
}

/// What the API server itself puts into pods fits the class that Ringfence makes.
#[tokio::test]
async fn the_class_default_takes_what_the_api_server_adds() {
    let world = World::shared().await;
    let ns = &world.enforced("defaults").await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let limits = json!({"metadata": {"name": "limits"}, "spec": {"limits": [{
        "type": "Container", "default": {"memory": "64Mi"}, "defaultRequest": {"memory": "64Mi"},
    }]}});
    world
        .admin
        .post(&format!("/api/v1/namespaces/{ns}/limitranges"), &limits)
        .await
        .ok();
    let mut mounted = annotated("mounted");
    mounted["spec"]["automountServiceAccountToken"] = json!(true);
    mounted["spec"]["containers"][0]["securityContext"]["appArmorProfile"] = json!({"type": "RuntimeDefault"});
    // What the range fills in.
    mounted["spec"]["containers"][0]["resources"] = json!({});
    // Admission plugins learn of the range by a watch.
    let made = eventually(SOON, || async {
        lea.post(&all("Pod", ns), &mounted).await.ok();
        let made = world.admin.read(&one("Pod", ns, "mounted")).await?;
        world
            .admin
            .delete(&format!("{}?gracePeriodSeconds=0", one("Pod", ns, "mounted")))
            .await
            .ok();
        ensure!(
            made["metadata"]["annotations"]
                .get("kubernetes.io/limit-ranger")
                .is_some(),
            "{}",
            made["metadata"]
        );
        Ok(made)
    })
    .await;
    assert!(
        made["spec"]["volumes"].to_string().contains("3607"),
        "{}",
        made["spec"]["volumes"]
    );
}

#[tokio::test]
async fn the_api_server_holds_pods_to_the_standard_that_the_class_names() {
    let world = World::shared().await;
    let loose = world
        .class(&json!({"images": {"allowed": ["**"], "requireDigest": true}, "podSecurity": "Baseline"}))
        .await;
    let with = |labels: Value| {
        let mut all = json!({"owner": "ml"});
        all.as_object_mut().unwrap().extend(labels.as_object().unwrap().clone());
        json!({"metadata": {"name": unique("level"), "labels": all}})
    };
    let dry_run = format!("{NAMESPACES}?dryRun=All");
    for (labels, fix) in [
        (json!({"ringfence.dev/enforce": "default"}), "enforce=restricted"),
        (
            json!({"ringfence.dev/enforce": "default", LEVEL: "baseline"}),
            "enforce=restricted",
        ),
        (
            json!({"ringfence.dev/enforce": loose, LEVEL: "privileged"}),
            "enforce=baseline",
        ),
        (
            json!({"ringfence.dev/enforce": loose, LEVEL: "baseline", "pod-security.kubernetes.io/enforce-version": "v1.24"}),
            "enforce-version-",
        ),
    ] {
        let answer = world.admin.post(&dry_run, &with(labels)).await;
        let message = answer.refused_by("pod-security");
        assert!(message.contains("(1 reason)") && message.contains(fix), "{message}");
    }
    world
        .admin
        .post(
            &dry_run,
            &with(json!({"ringfence.dev/enforce": loose, LEVEL: "baseline"})),
        )
        .await
        .ok();
    let warned = world
        .admin
        .post(&dry_run, &with(json!({"ringfence.dev/warn": "default"})))
        .await;
    assert!(
        warned.warnings.iter().any(|warning| warning.contains("[pod-security]")),
        "{:?}",
        warned.warnings
    );
    warned.ok();
    let audited = world
        .admin
        .post(&dry_run, &with(json!({"ringfence.dev/audit": "default"})))
        .await;
    assert_eq!(audited.warnings, [] as [String; 0]);
    audited.ok();

    // At baseline a pod may run as root, and may not take the node; by digest only.
    let ns = &world
        .namespace("level", &json!({"ringfence.dev/enforce": loose, LEVEL: "baseline"}))
        .await;
    world.ready(ns, "triage", &json!({})).await;
    let lea = world.master("lea", &[]).await;
    let pinned = format!(
        "registry.example.com/finance/triage@sha256:{}",
        "0123456789abcdef".repeat(4)
    );
    let mut root = pod("root", "triage");
    root["spec"]["securityContext"] = json!({"runAsUser": 0});
    root["spec"]["containers"] = json!([{"name": "main", "image": pinned}]);
    lea.post(&dry("Pod", ns), &root).await.ok();
    lea.post(&dry("Deployment", ns), &workload("Deployment", &root))
        .await
        .ok();
    let mut node = workload("Deployment", &root);
    node["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    lea.post(&dry("Deployment", ns), &node)
        .await
        .refused_by("restricted-pod-security");
    let mut tagged = root.clone();
    tagged["spec"]["containers"][0]["image"] = json!("registry.example.com/finance/triage:1");
    let answer = lea.post(&dry("Pod", ns), &tagged).await;
    assert!(
        answer.refused_by("approved-images").contains("(1 reason)"),
        "told once: {}",
        answer.message()
    );

    // A class that becomes strict refuses the next pod, says what ends that, and holds up nothing else.
    lea.post(&all("Pod", ns), &root).await.ok();
    let class = format!("{CLASSES}/{loose}");
    world
        .admin
        .patch(&class, &json!({"spec": {"podSecurity": null}}))
        .await
        .ok();
    let mut strict = pod("strict", "triage");
    strict["spec"]["containers"][0]["image"] = json!(pinned);
    let answer = lea.post(&dry("Pod", ns), &strict).await;
    let command = format!("kubectl label --overwrite namespace {ns} {LEVEL}=restricted");
    assert!(
        answer.refused_by("pod-security").contains(&command),
        "{}",
        answer.message()
    );
    world
        .admin
        .patch(
            &format!("{NAMESPACES}/{ns}"),
            &json!({"metadata": {"labels": {"team": "x"}}}),
        )
        .await
        .ok();
    world
        .admin
        .patch(
            &format!("{NAMESPACES}/{ns}"),
            &json!({"metadata": {"labels": {LEVEL: "restricted"}}}),
        )
        .await
        .ok();
    lea.post(&dry("Pod", ns), &strict).await.ok();
}

#[tokio::test]
async fn a_class_is_told_which_of_its_fields_cannot_be_read() {
    let world = World::shared().await;
    let spec = json!({
        "images": {"allowed": ["**"], "injected": ["istio/*"]},
        "identity": {"audiences": ["*"]},
        "volumes": {"types": ["hostpath", "csi"], "csiDrivers": ["a..b"]},
        "podAnnotations": ["ringfence.dev/", "a..b/"],
    });
    let class = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": unique("odd")}, "spec": spec});
    let answer = world.admin.post(CLASSES, &class).await;
    let said = answer.refused_by("valid-declaration");
    for path in [
        "spec.images.injected[0]",
        "spec.identity.audiences[0]",
        "spec.volumes.types[0]",
        "spec.volumes.csiDrivers[0]",
        "spec.podAnnotations[0]",
        "spec.podAnnotations[1]",
    ] {
        assert!(said.contains(path), "{path}: {said}");
    }
}
