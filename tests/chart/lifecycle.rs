//! Upgrade, uninstall, install again.

use std::sync::Arc;

use ringfence::policy::{Declared, Registered, Snapshot};
use serde_json::{Value, json};
use support::ControlPlane;

use crate::api::{Api, eventually, fate};
use crate::chart::{RELEASE, RINGFENCE, VALUES, helm, in_force, install, namespace, with_chart_alone};

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

/// A certificate of a throw-away authority.
pub fn authority() -> Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["test".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    json!(k8s_openapi::ByteString(certificate.pem().into_bytes()))
}

fn each_webhook(configuration: &Value, what: &str) -> Vec<Value> {
    let webhooks = configuration["webhooks"].as_array().unwrap();
    webhooks
        .iter()
        .map(|webhook| webhook["clientConfig"][what].clone())
        .collect()
}

async fn ceiling(admin: &Api) -> Value {
    admin
        .get("/apis/rbac.authorization.k8s.io/v1/clusterroles/ringfence-ceiling")
        .await
        .unwrap()["rules"]
        .clone()
}

/// Writes what the operator would write for a policy, with its rights. Returns where it is, and what is stored.
async fn filled_with_policies(admin: &Api, chart: &Value) -> (String, Value) {
    // Of no kind that is served, so that no other test is asked about.
    let mut spec = support::cel::valid("RegoPolicy", "x", &json!({}))["spec"].take();
    spec["matchConstraints"]["resourceRules"][0]["apiGroups"] = json!(["test.example.com"]);
    let declared = Declared {
        name: "x".to_owned(),
        uid: "x".to_owned(),
        generation: 1,
        spec: serde_json::from_value(spec).unwrap(),
    };
    let policy = Registered::broken(declared, "of a test");
    let entries = Snapshot::new(vec![Arc::new(policy)]).entries();
    let wanted = ringfence::plan::policy_webhooks(&entries, chart, RELEASE).unwrap();
    let path = format!("{ADMISSION}/validatingwebhookconfigurations/ringfence-policies");
    let stored = admin.get(&path).await.unwrap();
    assert!(ringfence::plan::registers(&stored, &[]), "{stored}");
    let whole = ringfence::plan::with_webhooks(stored, wanted.clone());
    let put = format!("{path}?fieldManager=ringfence");
    let written = admin.user(RINGFENCE).put(&put, whole).await.unwrap();
    assert!(ringfence::plan::registers(&written, &wanted), "{written}");
    (path, json!(wanted))
}

#[tokio::test]
async fn an_upgrade_keeps_what_others_filled_in() {
    let (admin, _chart) = with_chart_alone().await;
    let path = format!("{ADMISSION}/validatingwebhookconfigurations/ringfence");
    let authority = authority();
    let mut configuration = admin.get(&path).await.unwrap();
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        assert_eq!(webhook["clientConfig"]["caBundle"], Value::Null);
        webhook["clientConfig"]["caBundle"] = authority.clone();
    }
    // With Ringfence's own rights.
    let filled = admin
        .user(RINGFENCE)
        .patch(
            &format!("{path}?fieldManager=ringfence"),
            json!({"webhooks": configuration["webhooks"]}),
        )
        .await
        .unwrap();
    let bundles = each_webhook(&filled, "caBundle");
    assert!(bundles.iter().all(|bundle| *bundle == authority));
    let (policies, wanted) = filled_with_policies(&admin, &filled).await;
    eventually("the aggregated ceiling", || async {
        let rules = ceiling(&admin).await;
        if rules.as_array().is_some_and(|rules| !rules.is_empty()) {
            Ok(())
        } else {
            Err(rules.to_string())
        }
    })
    .await;
    let rules = ceiling(&admin).await;
    for (values, client_side) in [
        (&["replicaCount=0"] as &[&str], false),
        (&VALUES, true),
        (&["replicaCount=1"], true),
        (&VALUES, false),
    ] {
        let mut upgrade = vec!["upgrade", "ringfence"];
        if client_side {
            upgrade.push("--server-side=false");
        }
        helm(&upgrade, values).await.unwrap();
        let upgraded = admin.get(&path).await.unwrap();
        assert_eq!(each_webhook(&upgraded, "caBundle"), bundles, "{values:?}");
        let by_url = each_webhook(&upgraded, "url").iter().all(Value::is_string);
        assert_eq!(by_url, values.contains(&VALUES[1]), "{values:?}");
        assert_eq!(ceiling(&admin).await, rules, "{values:?}");
        let upgraded = admin.get(&policies).await.unwrap();
        assert_eq!(upgraded["webhooks"], wanted, "{values:?}");
    }
    let mut empty = admin.get(&policies).await.unwrap();
    empty["webhooks"] = json!([]);
    admin.user(RINGFENCE).put(&policies, empty).await.unwrap();
    // The rest of the suite expects connections refused at a port of its own, so the last upgrade is the first install.
    in_force(&admin).await;
}

/// Unknown fields are errors here, which Helm would let pass.
#[tokio::test]
async fn what_is_rendered_is_what_the_api_server_takes() {
    let (admin, _chart) = with_chart_alone().await;
    // Over what is there, a registration by URL and one by Service would be merged.
    helm(&["uninstall", "ringfence"], &[]).await.unwrap();
    let everything = [
        "image.registry=mirror.example.com:5000",
        "imagePullSecrets[0].name=mirror",
        "ceiling.engines={airflow,argo,custom,job,n8n,prefect}",
        "networkPolicy.apiServerCIDRs={192.0.2.10/32,2001:db8::/64}",
        "networkPolicy.webhookFrom[0].ipBlock.cidr=192.0.2.0/24",
        "policySets={ai-workflow,pod-security-restricted}",
        "policyFiles.configMap=ours",
        "flowControl.nominalConcurrencyShares=40",
        "policyParameters.approved-namespaces.allowed={ai}",
        "policies.approved-images.action=Warn",
        "commonLabels.team=platform",
        "podLabels.mesh=off",
        "podAnnotations.example\\.com/scrape=yes",
        "priorityClassName=system-cluster-critical",
        "nodeSelector.kubernetes\\.io/os=linux",
        "tolerations[0].operator=Exists",
        "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution=[]",
    ];
    for values in [
        &[][..],
        &[
            "networkPolicy.enabled=false",
            "networkPolicy.metricsFrom=[]",
            "flowControl.enabled=false",
        ],
        &everything,
    ] {
        let rendered = helm(&["template", "ringfence", "--no-hooks"], values).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rendered.yaml");
        std::fs::write(&file, rendered).unwrap();
        let (file, strict) = (file.display().to_string(), "--validate=strict");
        let dry = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            strict,
            "-f",
            &file,
        ];
        let said = ControlPlane::shared().kubectl(&dry).await.unwrap();
        assert!(said.success, "{values:?}: {said}");
        assert!(
            said.stdout.contains("deployment.apps/ringfence serverside-applied"),
            "{said}"
        );
        assert!(!said.stderr.contains("Warning"), "{values:?}: {said}");
    }
    install(&admin).await;
}

#[tokio::test]
async fn an_uninstall_leaves_nothing_locked_and_the_definitions() {
    let (admin, _chart) = with_chart_alone().await;
    let ns = namespace(&admin, "uninstall", json!({"ringfence.dev/enforce": "default"})).await;
    let accounts = format!("/api/v1/namespaces/{ns}/serviceaccounts");
    let account = json!({"metadata": {"name": "owned", "annotations": {"ringfence.dev/owner-uid": "1"}}});
    admin.master(RINGFENCE).post(&accounts, account).await.unwrap();
    assert_eq!(
        fate(admin.user("tenant").delete(&format!("{accounts}/owned")).await),
        "guard ringfence-owned-objects"
    );

    let mut chart = admin
        .get(&format!("{ADMISSION}/validatingwebhookconfigurations/ringfence"))
        .await
        .unwrap();
    let authority = authority();
    for webhook in chart["webhooks"].as_array_mut().unwrap() {
        webhook["clientConfig"]["caBundle"] = authority.clone();
    }
    filled_with_policies(&admin, &chart).await;

    helm(&["uninstall", "ringfence"], &[]).await.unwrap();
    for kind in [
        "validatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ] {
        let left = admin.get(&format!("{ADMISSION}/{kind}")).await.unwrap();
        let names: Vec<&str> = left["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|item| item["metadata"]["name"].as_str())
            .collect();
        assert!(
            !names.iter().any(|name| name.starts_with("ringfence")),
            "{kind}: {names:?}"
        );
    }
    for name in [
        "aiworkflows.ringfence.dev",
        "aiworkflowclasses.ringfence.dev",
        "aiworkflowgrants.ringfence.dev",
        "regopolicies.ringfence.dev",
        "regopolicyexceptions.ringfence.dev",
        "resolvednames.ringfence.dev",
    ] {
        admin
            .get(&format!(
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
            ))
            .await
            .unwrap();
    }
    let tenant = admin.user("tenant");
    let path = format!("/api/v1/namespaces/{ns}");
    eventually("the guards are gone", || async {
        let spec = json!({"containers": [{"name": "c", "image": "a/b"}]});
        let labelled = json!({"metadata": {"name": "x", "labels": {"ringfence.dev/workflow": "x"}}, "spec": spec});
        for answer in [
            tenant.delete(&format!("{accounts}/owned?dryRun=All")).await,
            tenant.post(&format!("{path}/pods?dryRun=All"), labelled).await,
            tenant
                .patch(
                    &format!("{path}?dryRun=All"),
                    json!({"metadata": {"labels": {"ringfence.dev/enforce": null}}}),
                )
                .await,
            tenant
                .post(
                    &format!("{accounts}?dryRun=All"),
                    json!({"metadata": {"name": "x", "annotations": {"ringfence.dev/adopt": "x"}}}),
                )
                .await,
        ] {
            let found = fate(answer);
            if found != "done" {
                return Err(found);
            }
        }
        Ok(())
    })
    .await;
    // The definitions that stayed are taken over by the next release.
    install(&admin).await;
}
