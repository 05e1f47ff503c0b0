//! `ringfence check installation`: nothing to say of an installation that works, and each thing that is broken is named with what to
//! do. On a control plane of its own, because all of it is taken apart.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::{Value, json};
use support::{ControlPlane, Identity, Output, eventually};

use crate::world::{Actor, BINARY, POLICIES, SOON, condition, own, unasked};

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Of a replica that is gone.
const UNREACHED: (&str, &str) = ("error webhook: the API server cannot ask it", "label.ringfence.dev");
const LEADERLESS: (&str, &str) = ("error leader: ", "nobody holds Lease ringfence");

struct Scene {
    cluster: ControlPlane,
    admin: Actor,
}

impl Scene {
    async fn says(&self, identity: &Identity, arguments: &[&str]) -> Output {
        let arguments = [&["check", "installation"], arguments].concat();
        let said = self.cluster.ringfence_as(identity, BINARY, &arguments).await;
        said.expect("ringfence")
    }

    /// Exit code, and what is not good: `error webhook: …`.
    async fn wrong(&self) -> (Option<i32>, BTreeSet<String>) {
        let said = self.says(&Identity::Admin, &["-o", "json"]).await;
        let json: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        let checks = json["checks"].as_array().expect("checks").iter();
        let wrong = checks.filter(|check| check["state"] != "ok").map(|check| {
            let text = |field: &str| check[field].as_str().expect("text");
            assert!(!text("fix").is_empty(), "{check}");
            format!("{} {}: {}", text("state"), text("check"), text("message"))
        });
        (said.code, wrong.collect())
    }

    /// Waits until exactly these are found, each by how it begins and a word of it; the chart of a test has no replicas, which is said
    /// each time. Guards and rights act a moment after they are written.
    async fn finds(&self, code: i32, expected: &[(&str, &str)]) {
        eventually(SOON, || async {
            let (found, mut wrong) = self.wrong().await;
            wrong.retain(|said| !said.starts_with("warning replicas: the Deployment has no replicas"));
            let is_said =
                |(start, word): &(&str, &str)| wrong.iter().any(|said| said.starts_with(start) && said.contains(word));
            ensure!(
                found == Some(code) && wrong.len() == expected.len() && expected.iter().all(is_said),
                "{found:?} {wrong:#?} should be {code} {expected:#?}"
            );
            Ok(())
        })
        .await;
    }

    async fn patch(&self, path: &str, patch: &Value) {
        self.admin.patch(path, patch).await.ok();
    }
}

#[tokio::test]
async fn what_is_broken_is_named_with_what_to_do() {
    let (cluster, ringfence, admin) = own(&["--scan-period=0"]).await;
    let author = unasked(&cluster).await;
    let scene = Scene { cluster, admin };

    scene.finds(0, &[]).await;
    let told = scene.says(&Identity::Admin, &[]).await;
    assert!(
        told.stdout
            .contains("ok       webhook        it answers the API server, which trusts it"),
        "{told}"
    );
    the_pod_of_helm_test_may_ask_all_of_it(&scene).await;
    a_broken_policy(&scene, &author).await;
    who_may_read_nothing_is_not_told_that_all_is_well(&scene).await;

    // From here on nobody puts anything back. Left alone, the Lease would run out in the middle of it.
    ringfence.kill();
    scene.finds(1, &[UNREACHED]).await;
    let lease = "/apis/coordination.k8s.io/v1/namespaces/ringfence-system/leases/ringfence";
    scene.patch(lease, &json!({"spec": {"holderIdentity": ""}})).await;
    scene.finds(1, &[UNREACHED, LEADERLESS]).await;
    registrations(&scene).await;
    guards_definitions_and_rights(&scene).await;
}

/// No node runs a pod here: what it would run is run with its arguments, as its account.
async fn the_pod_of_helm_test_may_ask_all_of_it(scene: &Scene) {
    let template = [
        "template",
        "ringfence",
        "charts/ringfence",
        "--namespace",
        "ringfence-system",
    ];
    let source = ["--show-only", "templates/tests/installation.yaml"];
    let rendered = scene
        .cluster
        .helm(&[&template[..], &source].concat())
        .await
        .expect("helm");
    let hooks = serde_saphyr::from_multiple::<Value>(&rendered.stdout).expect("objects");
    let mut arguments = Vec::new();
    for hook in hooks.iter().filter(|hook| !hook.is_null()) {
        let container = &hook["spec"]["containers"][0];
        if hook["kind"] == "Pod" {
            let all = container["args"].as_array().expect("arguments").iter();
            arguments = all
                .map(|argument| argument.as_str().expect("text").to_owned())
                .collect();
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("hook.json");
        std::fs::write(&file, hook.to_string()).expect("written");
        let file = file.display().to_string();
        let applied = scene.cluster.kubectl(&["apply", "-f", &file]).await.expect("kubectl");
        assert!(applied.success, "{applied}");
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let account = Identity::service_account("ringfence-system", "ringfence-test");
    eventually(SOON, || async {
        let said = scene.cluster.ringfence_as(&account, BINARY, &arguments).await?;
        ensure!(said.code == Some(0), "{said}");
        ensure!(
            !said.stdout.contains("unknown ") && said.stdout.contains("ok       rights"),
            "{said}"
        );
        Ok(())
    })
    .await;
}

async fn a_broken_policy(scene: &Scene, author: &Actor) {
    let mut policy = support::cel::valid("RegoPolicy", "broken", &json!({}));
    policy["spec"]["matchConstraints"]["resourceRules"][0]["apiGroups"] = json!(["test.example.com"]);
    policy["spec"]["rego"]["modules"][0]["source"] = json!("package valid\n\ndeny contains \"no\" if unknown_thing\n");
    author.post(POLICIES, &policy).await.ok();
    let path = format!("{POLICIES}/broken");
    eventually(SOON, || async {
        let found = scene.admin.read(&path).await?;
        ensure!(
            condition(&found, "Compiled")["status"] == "False",
            "{}",
            found["status"]
        );
        Ok(())
    })
    .await;
    scene
        .finds(0, &[("warning policies: ", "RegoPolicy broken is not compiled")])
        .await;
    scene.admin.delete(&path).await.ok();
    scene.finds(0, &[]).await;
}

async fn who_may_read_nothing_is_not_told_that_all_is_well(scene: &Scene) {
    let nobody = Identity::user("nobody", &[]);
    let said = scene.says(&nobody, &[]).await;
    assert_eq!(said.code, Some(2), "{said}");
    for part in [
        "definitions",
        "registrations",
        "guards",
        "replicas",
        "leader",
        "policies",
        "webhook",
        "rights",
    ] {
        let unknown = format!("unknown  {part:<14} ");
        assert!(said.stdout.contains(&unknown), "{part}: {said}");
    }
    assert!(
        said.stdout.contains("ask whoever runs the cluster for this right"),
        "{said}"
    );
}

async fn registrations(scene: &Scene) {
    let path = format!("{ADMISSION}/validatingwebhookconfigurations/ringfence");
    let stood = scene.admin.read(&path).await.expect("the registration");
    let mut edited = stood.clone();
    let webhooks = edited["webhooks"].as_array_mut().expect("webhooks");
    let at = |name: &str| {
        let mut all = stood["webhooks"].as_array().expect("webhooks").iter();
        all.position(|webhook| webhook["name"] == name).expect("a webhook")
    };
    webhooks[at("fence.ringfence.dev")]["failurePolicy"] = json!("Ignore");
    webhooks[at("tokens.ringfence.dev")]["clientConfig"]["caBundle"] = Value::Null;
    webhooks.remove(at("modes.ringfence.dev"));
    scene.patch(&path, &json!({"webhooks": webhooks})).await;
    scene
        .finds(
            1,
            &[
                UNREACHED,
                LEADERLESS,
                (
                    "error registrations: ",
                    "webhook fence.ringfence.dev has another failurePolicy than Fail",
                ),
                ("error registrations: ", "has no webhook modes.ringfence.dev"),
                ("error certificate: ", "webhook tokens.ringfence.dev has no caBundle"),
            ],
        )
        .await;
    scene.admin.delete(&path).await.ok();
    scene
        .finds(
            1,
            &[
                LEADERLESS,
                (
                    "error registrations: ",
                    "ValidatingWebhookConfiguration ringfence is not there",
                ),
                (
                    "error webhook: a labelled object in namespace default",
                    "nobody was asked",
                ),
            ],
        )
        .await;
    let mut again = stood;
    again["metadata"] = json!({"name": "ringfence"});
    let all = format!("{ADMISSION}/validatingwebhookconfigurations");
    scene.admin.post(&all, &again).await.ok();
    scene.finds(1, &[UNREACHED, LEADERLESS]).await;
}

async fn guards_definitions_and_rights(scene: &Scene) {
    let binding = format!("{ADMISSION}/validatingadmissionpolicybindings/ringfence-modes");
    scene
        .patch(&binding, &json!({"spec": {"validationActions": ["Audit"]}}))
        .await;
    scene
        .finds(
            1,
            &[
                UNREACHED,
                LEADERLESS,
                (
                    "error guards: ",
                    "ValidatingAdmissionPolicy ringfence-modes does not refuse",
                ),
            ],
        )
        .await;
    scene
        .patch(&binding, &json!({"spec": {"validationActions": ["Deny"]}}))
        .await;

    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/aiworkflowgrants.ringfence.dev";
    let stood = scene.admin.read(definition).await.expect("the definition");
    let mut versions = stood["spec"]["versions"].clone();
    versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["description"] = json!("another version's");
    scene.patch(definition, &json!({"spec": {"versions": versions}})).await;
    let other = "CustomResourceDefinition aiworkflowgrants.ringfence.dev is of another version";
    scene
        .finds(1, &[UNREACHED, LEADERLESS, ("error definitions: ", other)])
        .await;
    scene
        .patch(definition, &json!({"spec": {"versions": stood["spec"]["versions"]}}))
        .await;

    let path = format!("{RBAC}/rolebindings?fieldSelector=metadata.name=ringfence-api-server-address");
    assert_eq!(scene.admin.items(&path).await.expect("bindings").len(), 1);
    let binding = format!("{RBAC}/namespaces/default/rolebindings/ringfence-api-server-address");
    scene.admin.delete(&binding).await.ok();
    let missing = "may not get endpointslices.discovery.k8s.io in namespace default";
    scene
        .finds(1, &[UNREACHED, LEADERLESS, ("error rights: ", missing)])
        .await;
    let again = json!({
        "metadata": {"name": "ringfence-api-server-address"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "ringfence-api-server-address"},
        "subjects": [{"kind": "ServiceAccount", "name": "ringfence", "namespace": "ringfence-system"}],
    });
    let all = format!("{RBAC}/namespaces/default/rolebindings");
    scene.admin.post(&all, &again).await.ok();
    scene.finds(1, &[UNREACHED, LEADERLESS]).await;
}
