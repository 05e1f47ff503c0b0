//! `run --policies`: sets and files that judge objects, beside RegoPolicies, exceptions and restarts. On a control plane of its own,
//! because policies act on the whole cluster.

use std::fs;

use anyhow::ensure;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use support::{ControlPlane, Ringfence, eventually, unique};

use crate::world::{
    Actor, Answer, BINARY, CLASSES, NAMESPACES, POLICIES, SOON, all, condition, master, namespace, one, own,
};

const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

/// Says who decides of the two that have its name.
fn policy(says: &str) -> Value {
    json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "metadata": {"name": "contested"},
        "spec": {
            "validationActions": ["Deny"],
            "matchConstraints": {
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["limitranges"], "operations": ["CREATE"]}],
            },
            "rego": {"modules": [{"name": "policy.rego", "source": format!("package p\ndeny contains \"{says} decides\"\n")}]},
        },
    })
}

const GATEKEEPER: &str = r#"
apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata: {name: k8sdenyvendor}
spec:
  crd:
    spec:
      names: {kind: K8sDenyVendor}
      validation:
        openAPIV3Schema: {type: object, properties: {prefix: {type: string}}}
  targets:
  - target: admission.k8s.gatekeeper.sh
    rego: |
      package k8sdenyvendor
      violation[{"msg": msg}] {
        startswith(input.review.object.metadata.name, input.parameters.prefix)
        msg := sprintf("%v is a vendor's", [input.review.object.metadata.name])
      }
---
apiVersion: constraints.gatekeeper.sh/v1beta1
kind: K8sDenyVendor
metadata: {name: vendors}
spec:
  match:
    kinds: [{apiGroups: [""], kinds: [ResourceQuota]}]
  parameters: {prefix: vendor}
"#;

struct Scene {
    cluster: ControlPlane,
    folder: tempfile::TempDir,
    admin: Actor,
    fenced: String,
    plain: String,
}

impl Scene {
    async fn start(&self, ringfence: Ringfence) -> Ringfence {
        let (port, metrics_port) = (ringfence.port, ringfence.metrics_port);
        ringfence.kill();
        let folder = format!("--policies={}", self.folder.path().display());
        let flags = [
            "--scan-period=0".to_owned(),
            "--policies=ai-workflow".to_owned(),
            folder,
        ];
        let started = self
            .cluster
            .spawn_ringfence_with(BINARY, port, metrics_port, &flags)
            .await;
        started.expect("ringfence")
    }

    async fn dry(&self, actor: &Actor, path: &str, object: &Value) -> Answer {
        actor.post(&format!("{path}?dryRun=All"), object).await
    }

    async fn role(&self, namespace: &str, name: &str, verb: &str) -> Answer {
        self.dry(&self.admin, &all("Role", namespace), &role(name, verb)).await
    }
}

fn role(name: &str, verb: &str) -> Value {
    json!({"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": [verb]}]})
}

#[tokio::test]
async fn policies_of_files_judge_objects() {
    let (cluster, ringfence, admin) = own(&["--scan-period=0"]).await;
    let class = unique("class");
    let fenced = namespace(&admin, "fenced", &json!({})).await;
    let spec = json!({"images": {"allowed": ["**"]}, "exceptions": {"namespaces": [fenced], "maxDays": 1}});
    let object = json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": class}, "spec": spec});
    admin.post(CLASSES, &object).await.ok();
    let labels = json!({"metadata": {"labels": {"ringfence.dev/enforce": class}}});
    admin.patch(&format!("{NAMESPACES}/{fenced}"), &labels).await.ok();
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("gatekeeper.yaml"), GATEKEEPER).expect("written");
    fs::write(folder.path().join("contested.yaml"), policy("the file").to_string()).expect("written");
    let scene = Scene {
        plain: namespace(&admin, "plain", &json!({})).await,
        cluster,
        folder,
        admin,
        fenced,
    };

    // Without a word about sets, nothing but pods and namespaces is judged.
    scene.role(&scene.fenced, "wide", "*").await.ok();
    scene.admin.post(POLICIES, &policy("the object")).await.ok();
    decides(&scene, "the object").await;

    let ringfence = scene.start(ringfence).await;
    sets_and_files_refuse(&scene).await;
    a_name_of_a_file_is_not_an_objects(&scene).await;
    an_exception_excuses_a_policy_of_files(&scene).await;
    let (_, metrics) = ringfence.get("/metrics").await.expect("metrics");
    assert!(metrics.contains("policy_info{policy=\"no-wildcard-rbac\""), "{metrics}");

    let (port, metrics_port) = (ringfence.port, ringfence.metrics_port);
    ringfence.kill();
    what_brings_a_cluster_up_goes_on_without_a_replica(&scene).await;
    let folder = format!("--policies={}", scene.folder.path().display());
    let flags = [
        "--scan-period=0".to_owned(),
        "--policies=ai-workflow".to_owned(),
        folder,
    ];
    let again = scene
        .cluster
        .spawn_ringfence_with(BINARY, port, metrics_port, &flags)
        .await;
    let _again = again.expect("ringfence");
    // Ready is ready for all of them.
    scene
        .role(&scene.fenced, "wide", "*")
        .await
        .refused_by("no-wildcard-rbac");
    decides(&scene, "the file").await;
}

/// Waits until one of the two that contest a name decides.
async fn decides(scene: &Scene, who: &str) {
    let path = format!("{}/namespaces/{}/limitranges", "/api/v1", scene.plain);
    let object = json!({"metadata": {"name": "l"}, "spec": {"limits": []}});
    eventually(SOON, || async {
        let answer = scene.dry(&scene.admin, &path, &object).await;
        ensure!(
            answer.message().contains(&format!("{who} decides")),
            "{}",
            answer.message()
        );
        Ok(())
    })
    .await;
}

async fn sets_and_files_refuse(scene: &Scene) {
    eventually(SOON, || async {
        let answer = scene.role(&scene.fenced, "wide", "*").await;
        ensure!(answer.message().contains("[no-wildcard-rbac]"), "{}", answer.message());
        Ok(())
    })
    .await;
    scene
        .role(&scene.fenced, "wide", "*")
        .await
        .refused_by("no-wildcard-rbac");
    scene.role(&scene.fenced, "narrow", "get").await.ok();
    scene.role(&scene.plain, "wide", "*").await.ok();
    let wide = scene.dry(&scene.admin, CLUSTER_ROLES, &role("wide", "*")).await;
    wide.refused_by("no-wildcard-rbac");

    let quotas = format!("/api/v1/namespaces/{}/resourcequotas", scene.plain);
    let quota = |name: &str| json!({"metadata": {"name": name}, "spec": {"hard": {"pods": "1"}}});
    let refused = scene.dry(&scene.admin, &quotas, &quota("vendor-a")).await;
    let said = refused.refused_by("k8sdenyvendor-vendors");
    assert!(said.contains("vendor-a is a vendor's"), "{said}");
    scene.dry(&scene.admin, &quotas, &quota("ours")).await.ok();
}

async fn a_name_of_a_file_is_not_an_objects(scene: &Scene) {
    decides(scene, "the file").await;
    let path = format!("{POLICIES}/contested");
    eventually(SOON, || async {
        let object = scene.admin.read(&path).await?;
        for type_ in ["Compiled", "Enforced"] {
            let found = condition(&object, type_);
            ensure!(
                found["status"] == "False" && found["reason"] == "NameTaken",
                "{}",
                object["status"]
            );
        }
        let said = condition(&object, "Compiled")["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        ensure!(
            said.contains("comes with the files that Ringfence is started with"),
            "{said}"
        );
        Ok(())
    })
    .await;
    let edit = json!({"spec": {"description": "mine"}});
    scene.admin.patch(&path, &edit).await.refused_by("valid-policy");
}

async fn an_exception_excuses_a_policy_of_files(scene: &Scene) {
    let ends = Timestamp::now() + SignedDuration::from_hours(1);
    let exception = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicyException", "metadata": {"name": "wide"},
        "spec": {"policies": ["no-wildcard-rbac"], "names": ["wide"], "reason": "late", "expiresAt": ends.to_string()},
    });
    scene
        .admin
        .post(&all("RegoPolicyException", &scene.fenced), &exception)
        .await
        .ok();
    eventually(SOON, || async {
        let answer = scene.role(&scene.fenced, "wide", "*").await;
        ensure!(answer.code == 201, "{}", answer.message());
        let excused = |warning: &String| {
            ["[no-wildcard-rbac]", "excused by RegoPolicyException"]
                .iter()
                .all(|words| warning.contains(words))
        };
        ensure!(answer.warnings.iter().any(excused), "{:?}", answer.warnings);
        Ok(())
    })
    .await;
    scene
        .role(&scene.fenced, "wide-2", "*")
        .await
        .refused_by("no-wildcard-rbac");
    let path = one("RegoPolicyException", &scene.fenced, "wide");
    eventually(SOON, || async {
        let exception = scene.admin.read(&path).await?;
        ensure!(
            condition(&exception, "Accepted")["status"] == "True",
            "{}",
            exception["status"]
        );
        Ok(())
    })
    .await;
    scene.admin.delete(&path).await.ok();
}

/// The API server's own roles at its start, the authority of each namespace, and tokens of pods that run.
async fn what_brings_a_cluster_up_goes_on_without_a_replica(scene: &Scene) {
    let answer = scene.role(&scene.fenced, "wide", "get").await;
    assert!(
        answer.code == 500 && answer.message().contains("policies.ringfence.dev"),
        "{}",
        answer.message()
    );
    let answer = scene.dry(&scene.admin, CLUSTER_ROLES, &role("plain", "get")).await;
    assert_eq!(answer.code, 500, "{}", answer.message());
    let itself = master(&scene.cluster, "system:apiserver", &[]).await;
    scene.dry(&itself, CLUSTER_ROLES, &role("plain", "*")).await.ok();

    let token = format!("{}/default/token", all("ServiceAccount", &scene.fenced));
    let request = json!({"spec": {"expirationSeconds": 7200}});
    let node = master(&scene.cluster, "system:node:node-1", &["system:nodes"]).await;
    node.post(&token, &request).await.ok();
    assert_eq!(scene.admin.post(&token, &request).await.code, 500);

    let publisher = "system:serviceaccount:kube-system:root-ca-cert-publisher";
    let publisher = Actor::new(scene.cluster.impersonate(publisher, &["system:masters"]).await);
    let maps = all("ConfigMap", &scene.fenced);
    let published = publisher
        .post(
            &maps,
            &json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "x"}}),
        )
        .await;
    // The controller itself may have been quicker.
    assert!(
        matches!(published.code, 201 | 409),
        "{} {}",
        published.code,
        published.message()
    );
    let other = publisher
        .post(&maps, &json!({"metadata": {"name": "other"}, "data": {"a": "x"}}))
        .await;
    assert_eq!(other.code, 500, "{}", other.message());
}
