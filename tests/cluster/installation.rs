//! `ringfence check installation`: nothing to say of an installation that works, and each thing that is broken is named with what to
//! do. On a control plane of its own, because all of it is taken apart.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::{Value, json};
use support::{ControlPlane, Identity, Output, Ringfence, eventually};

use crate::world::{Actor, BINARY, CLASSES, POLICIES, SOON, all, condition, namespace, one, own, unasked, workflow};

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
    /// each time, and so is that no canary ran. Guards and rights act a moment after they are written.
    async fn finds(&self, code: i32, expected: &[(&str, &str)]) {
        eventually(SOON, || async {
            let (found, mut wrong) = self.wrong().await;
            // Nobody ran a canary here: there is no node.
            let usual = [
                "warning replicas: the Deployment has no replicas",
                "warning network: nobody has tried",
            ];
            wrong.retain(|said| !usual.iter().any(|usual| said.starts_with(usual)));
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
    assert!(
        told.stdout
            .contains("127.0.0.1 serves what Secret ringfence-webhook-tls holds, and is trusted, until "),
        "{told}"
    );
    the_pod_of_helm_test_may_ask_all_of_it(&scene).await;
    the_whole_doctor_looks_at_access_too(&scene).await;
    a_broken_policy(&scene, &author).await;
    domains_that_wait_for_a_proxy(&scene).await;
    who_may_read_nothing_is_not_told_that_all_is_well(&scene).await;

    rights_that_are_gone_are_named(&scene, &ringfence).await;

    // From here on nobody puts anything back. Left alone, the Lease would run out in the middle of it.
    ringfence.kill();
    scene.finds(1, &[UNREACHED]).await;
    let lease = "/apis/coordination.k8s.io/v1/namespaces/ringfence-system/leases/ringfence";
    scene.patch(lease, &json!({"spec": {"holderIdentity": ""}})).await;
    scene.finds(1, &[UNREACHED, LEADERLESS]).await;
    registrations(&scene).await;
    certificates(&scene).await;
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

/// By the replica itself, which takes no requests then, and by the doctor.
async fn rights_that_are_gone_are_named(scene: &Scene, ringfence: &Ringfence) {
    let path = format!("{RBAC}/clusterrolebindings/ringfence");
    let mut stood = scene.admin.read(&path).await.expect("the binding");
    scene.admin.delete(&path).await.ok();
    eventually(SOON, || async {
        let (code, body) = ringfence.get("/readyz").await?;
        ensure!(code == 503 && body.contains("cannot be listed"), "{code} {body}");
        let (_, wrong) = scene.wrong().await;
        ensure!(
            wrong
                .iter()
                .any(|said| said.starts_with("error rights: ") && said.contains("may not get namespaces")),
            "{wrong:#?}"
        );
        Ok(())
    })
    .await;
    stood["metadata"] = json!({"name": "ringfence", "labels": stood["metadata"]["labels"]});
    scene
        .admin
        .post(&format!("{RBAC}/clusterrolebindings"), &stood)
        .await
        .ok();
    eventually(SOON, || async {
        let (code, body) = ringfence.get("/readyz").await?;
        ensure!(code == 200, "{code} {body}");
        Ok(())
    })
    .await;
    scene.finds(0, &[]).await;
}

/// Without a subcommand.
async fn the_whole_doctor_looks_at_access_too(scene: &Scene) {
    let said = scene
        .cluster
        .ringfence_as(&Identity::Admin, BINARY, &["check", "-o", "json"])
        .await;
    let said = said.expect("ringfence");
    let json: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let checks = json["checks"].as_array().expect("checks");
    for part in ["version", "webhook", "access", "network"] {
        assert!(checks.iter().any(|check| check["check"] == part), "{part}: {said}");
    }
    assert_eq!(said.code, Some(0), "{said}");
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

/// A class opens them, and nothing is there that would lead to them.
async fn domains_that_wait_for_a_proxy(scene: &Scene) {
    let class = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "wide"},
        "spec": {"images": {"allowed": ["**"]}, "network": {"domains": ["*"]}},
    });
    scene.admin.post(CLASSES, &class).await.ok();
    let ns = namespace(&scene.admin, "domains", &json!({"ringfence.dev/enforce": "wide"})).await;
    let egress = json!([{"name": "a", "to": {"domains": ["api.example.com"]}, "ports": [{"port": 443}]}]);
    let waiting = workflow("triage", &json!({"network": {"egress": egress}}));
    scene.admin.post(&all("AIWorkflow", &ns), &waiting).await.ok();
    let names = format!("stay closed: {ns}/triage");
    scene.finds(0, &[("warning egress: it is not installed", &names)]).await;
    scene.admin.delete(&one("AIWorkflow", &ns, "triage")).await.ok();
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
        "egress",
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
    let mut again = stood.clone();
    again["metadata"] = json!({"name": "ringfence"});
    let all = format!("{ADMISSION}/validatingwebhookconfigurations");
    scene.admin.post(&all, &again).await.ok();
    scene.finds(1, &[UNREACHED, LEADERLESS]).await;

    let mut edited = stood["webhooks"].clone();
    let more = json!({"name": "never", "expression": "false"});
    edited[at("fence.ringfence.dev")]["timeoutSeconds"] = json!(1);
    edited[at("fence.ringfence.dev")]["rules"][0]["operations"] = json!(["CREATE"]);
    edited[at("kinds.ringfence.dev")]["matchConditions"]
        .as_array_mut()
        .expect("conditions")
        .push(more);
    edited[at("tokens.ringfence.dev")]["namespaceSelector"] = json!({"matchLabels": {"no": "namespace"}});
    let mut own = edited[at("fence.ringfence.dev")].clone();
    own["name"] = json!("another.example.com");
    edited.as_array_mut().expect("webhooks").push(own);
    scene.patch(&path, &json!({"webhooks": edited})).await;
    scene
        .finds(
            1,
            &[
                UNREACHED,
                LEADERLESS,
                (
                    "error registrations: ",
                    "webhook fence.ringfence.dev has other rules, timeoutSeconds than",
                ),
                (
                    "error registrations: ",
                    "webhook kinds.ringfence.dev has other matchConditions than",
                ),
                (
                    "error registrations: ",
                    "webhook tokens.ringfence.dev has other namespaceSelector than",
                ),
                ("error registrations: ", "a webhook another.example.com is registered"),
            ],
        )
        .await;
    scene.patch(&path, &json!({"webhooks": stood["webhooks"]})).await;
    scene.finds(1, &[UNREACHED, LEADERLESS]).await;
}

/// Nobody serves it any more: what the Secret holds is held against what the API server trusts.
async fn certificates(scene: &Scene) {
    let path = "/api/v1/namespaces/ringfence-system/secrets/ringfence-webhook-tls";
    let stood = scene.admin.read(path).await.expect("the Secret")["data"]["tls.crt"].clone();
    let signed = |names: &[&str], days: i64| {
        let mut params = rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
            .expect("names");
        params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days);
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").pem()
    };
    for (what, word) in [
        (
            signed(&["127.0.0.1"], 300),
            "was not signed by a CA that the API server trusts",
        ),
        (signed(&["127.0.0.1"], -1), "has expired"),
        ("no certificate".to_owned(), "holds no certificate"),
    ] {
        scene.patch(path, &json!({"stringData": {"tls.crt": what}})).await;
        scene
            .finds(
                1,
                &[
                    UNREACHED,
                    LEADERLESS,
                    ("error certificate: tls.crt of Secret ringfence-webhook-tls", word),
                ],
            )
            .await;
    }
    scene.patch(path, &json!({"data": {"tls.crt": stood}})).await;
    scene.finds(1, &[UNREACHED, LEADERLESS]).await;

    let map = "/api/v1/namespaces/ringfence-system/configmaps/ringfence-registrations";
    let mut rendered = scene.admin.read(map).await.expect("the ConfigMap");
    scene.admin.delete(map).await.ok();
    let gone = (
        "warning registrations: ",
        "ConfigMap ringfence-registrations is not there",
    );
    scene.finds(1, &[UNREACHED, LEADERLESS, gone]).await;
    rendered["metadata"] = json!({"name": "ringfence-registrations"});
    let mut less = rendered.clone();
    let keys = less["data"].as_object_mut().expect("data");
    keys.retain(|key, _| key != "validatingadmissionpolicy.ringfence-modes");
    let path = "/api/v1/namespaces/ringfence-system/configmaps";
    scene.admin.post(path, &less).await.ok();
    let missing = (
        "warning guards: ",
        "does not say what ValidatingAdmissionPolicy ringfence-modes is like",
    );
    scene.finds(1, &[UNREACHED, LEADERLESS, missing]).await;
    scene.admin.delete(map).await.ok();
    scene
        .admin
        .post("/api/v1/namespaces/ringfence-system/configmaps", &rendered)
        .await
        .ok();
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

    let policy = format!("{ADMISSION}/validatingadmissionpolicies/ringfence-modes");
    let validations = scene.admin.read(&policy).await.expect("a guard")["spec"]["validations"].clone();
    let mut edited = validations.clone();
    edited[0]["expression"] = json!("true");
    scene.patch(&policy, &json!({"spec": {"validations": edited}})).await;
    let other = "ValidatingAdmissionPolicy ringfence-modes has other validations than the chart rendered";
    scene
        .finds(1, &[UNREACHED, LEADERLESS, ("error guards: ", other)])
        .await;
    scene
        .patch(&policy, &json!({"spec": {"validations": validations}}))
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

    let binding = format!("{RBAC}/namespaces/ringfence-system/rolebindings/ringfence");
    scene.admin.delete(&binding).await.ok();
    let missing = "may not create leases.coordination.k8s.io in namespace ringfence-system";
    scene
        .finds(1, &[UNREACHED, LEADERLESS, ("error rights: ", missing)])
        .await;
    let again = json!({
        "metadata": {"name": "ringfence"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "ringfence"},
        "subjects": [{"kind": "ServiceAccount", "name": "ringfence", "namespace": "ringfence-system"}],
    });
    let all = format!("{RBAC}/namespaces/ringfence-system/rolebindings");
    scene.admin.post(&all, &again).await.ok();
    scene.finds(1, &[UNREACHED, LEADERLESS]).await;
}
