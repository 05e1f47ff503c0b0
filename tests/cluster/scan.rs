//! The background scan, on a control plane of its own, where it runs every second: what stands and does not fit is told within a
//! period, by conditions, metrics, Events and reports, and nothing of it is touched.

mod policies;

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use support::{ControlPlane, Identity, Options, Output, Ringfence, eventually, unique};

use crate::world::{
    Actor, BINARY, NAMESPACES, SOON, all, condition, counted, in_force, master, namespace, one, pod, tenant_everywhere,
    unasked, workflow, workload,
};

const CLUSTER_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const OWN_ROLE: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ringfence";
/// Several scans.
const SCANS: Duration = Duration::from_secs(5);

struct Scene {
    cluster: ControlPlane,
    ringfence: Ringfence,
    admin: Actor,
    tess: Actor,
    lea: Actor,
    ns: String,
}

#[tokio::test]
async fn what_stands_and_does_not_fit_is_told_within_a_period_and_nothing_is_killed() {
    let cluster = ControlPlane::start(Options::default()).expect("a control plane");
    let often = ["--scan-period=1s".to_owned()];
    let ringfence = cluster.start_ringfence_with(BINARY, &Value::Null, &often).await;
    let ringfence = ringfence.expect("ringfence");
    let admin = Actor::new(cluster.admin().await);
    in_force(&admin).await;
    let ns = namespace(&admin, "scanned", &json!({"ringfence.dev/enforce": "default"})).await;
    let lea = master(&cluster, "lea", &[]).await;
    let tess = tenant_everywhere(&cluster, &admin).await;
    let scene = Scene {
        cluster,
        ringfence,
        admin,
        tess,
        lea,
        ns,
    };
    scene.what_fits_is_compliant_and_then_nothing_is_written().await;
    scene
        .what_a_policy_would_refuse_is_named_for_as_long_as_it_is_there()
        .await;
    let pods = scene.what_slipped_in_is_named().await;
    scene.extra_rights_and_foreign_policies_are_named().await;
    scene.what_every_account_holds_is_an_extra_right().await;
    scene.what_nobody_owns_is_found().await;
    scene.reports_are_for_people_and_machines().await;
    scene.what_may_not_be_read_is_a_gap_and_not_a_pass().await;
    scene.secrets_that_are_missing_are_found_by_who_may_read_them().await;
    assert_eq!(scene.pods().await, pods, "nothing was killed");
    scene.what_is_mended_is_compliant_again().await;
    scene.what_cannot_be_looked_at_is_not_called_compliant().await;
}

impl Scene {
    async fn compliant(&self, status: &str, reason: &str) -> Value {
        let path = one("AIWorkflow", &self.ns, "triage");
        eventually(SOON, || async {
            let workflow = self.admin.read(&path).await?;
            let found = condition(&workflow, "Compliant");
            let wanted = json!([status, reason, workflow["metadata"]["generation"]]);
            ensure!(
                json!([found["status"], found["reason"], found["observedGeneration"]]) == wanted,
                "Compliant should be {wanted}: {}",
                workflow["status"]
            );
            Ok(workflow)
        })
        .await
    }

    /// Waits until the condition says that among others.
    async fn tells(&self, part: &str) {
        eventually(SOON, || async {
            let workflow = self.admin.read(&one("AIWorkflow", &self.ns, "triage")).await?;
            let message = condition(&workflow, "Compliant")["message"].to_string();
            ensure!(message.contains(part), "{part} is missing in: {message}");
            Ok(())
        })
        .await;
    }

    /// Waits until the last scan counted that many findings of a rule.
    async fn counts(&self, rule: &str, wanted: f64) {
        let label = format!("rule=\"{rule}\"");
        eventually(SOON, || async {
            let found = counted(&self.ringfence, "ringfence_scan_findings", &[&label]).await;
            ensure!((found - wanted).abs() < 0.5, "{rule} should count {wanted}: {found}");
            Ok(())
        })
        .await;
    }

    async fn pods(&self) -> Vec<Value> {
        let pods = self.admin.items(&all("Pod", &self.ns)).await.unwrap();
        pods.iter().map(|pod| pod["metadata"]["uid"].clone()).collect()
    }

    async fn mode(&self, enforce: Option<&str>) {
        let change = json!({"metadata": {"labels": {"ringfence.dev/enforce": enforce}}});
        let path = format!("{NAMESPACES}/{}", self.ns);
        self.admin.patch(&path, &change).await.ok();
    }

    async fn says(&self, who: &Identity, arguments: &[&str]) -> Output {
        let said = self.cluster.ringfence_as(who, BINARY, arguments).await;
        said.expect("ringfence")
    }

    async fn what_fits_is_compliant_and_then_nothing_is_written(&self) {
        let object = workflow("triage", &json!({}));
        self.tess.post(&all("AIWorkflow", &self.ns), &object).await.ok();
        let path = one("AIWorkflow", &self.ns, "triage");
        eventually(SOON, || async {
            let answer = self.lea.post(&all("Pod", &self.ns), &pod("fits", "triage")).await;
            ensure!((200..300).contains(&answer.code), "{}", answer.body);
            Ok(())
        })
        .await;
        let before = self.compliant("True", "Compliant").await;
        assert_eq!(before["status"]["nonCompliant"], Value::Null);
        tokio::time::sleep(SCANS).await;
        let after = self.admin.get(&path).await.ok();
        assert_eq!(
            after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"],
            "a scan that finds the same writes nothing"
        );
        for rule in ["declared-workflow", "extra-binding", "foreign-network-policy"] {
            self.counts(rule, 0.0).await;
        }
        let scans = counted(&self.ringfence, "ringfence_scan_duration_seconds_count", &[]).await;
        assert!(scans >= 2.0, "{scans}");
        let last = counted(&self.ringfence, "ringfence_scan_last_success_timestamp_seconds", &[]).await;
        assert!(last > 1.7e9, "{last}");
        let said = self.says(&Identity::Admin, &["scan"]).await;
        assert_eq!(said.code, Some(0), "{said}");
    }

    /// While the fence is down, which only the platform can do, somebody starts what would not pass.
    async fn what_slipped_in_is_named(&self) -> Vec<Value> {
        self.mode(None).await;
        let mut unlabelled = pod("unlabelled", "triage");
        unlabelled["metadata"]["labels"]
            .as_object_mut()
            .unwrap()
            .remove("ringfence.dev/workflow");
        let mut stranger = workload("Deployment", &unlabelled);
        stranger["metadata"]["name"] = json!("stranger");
        stranger["spec"]["replicas"] = json!(2);
        self.lea.post(&all("Deployment", &self.ns), &stranger).await.ok();
        let mut bare = unlabelled.clone();
        bare["metadata"]["name"] = json!("bare");
        bare["spec"]["containers"][0]["image"] = json!("docker.io/library/miner");
        self.lea.post(&all("Pod", &self.ns), &bare).await.ok();
        eventually(SOON, || async {
            let pods = self.pods().await;
            ensure!(pods.len() == 4, "one that fits, one bare, two made: {pods:?}");
            Ok(())
        })
        .await;
        let pods = self.pods().await;
        let scans = async || counted(&self.ringfence, "ringfence_scan_duration_seconds_count", &[]).await;
        self.mode(Some("default")).await;
        let before = scans().await;

        // They run as the account of triage: that is whose they are.
        let workflow = self.compliant("False", "NonCompliantPods").await;
        // The scan that is under way may have passed the namespace already; the next one sees it, and others may end meanwhile.
        let passed = scans().await - before;
        assert!(passed <= 4.0, "told after {passed} scans");
        let message = condition(&workflow, "Compliant")["message"].as_str().unwrap();
        assert!(
            message.starts_with("3 pods would be refused today: bare, stranger-"),
            "{message}"
        );
        assert!(
            message.contains(&format!("Deployment {}/stranger", self.ns))
                && message.ends_with(&format!("See all of it: ringfence scan --namespace {}", self.ns)),
            "{message}"
        );
        let shown = &workflow["status"]["nonCompliant"];
        assert_eq!(shown["total"], 3, "{shown}");
        assert_eq!(shown["pods"][0], "bare", "{shown}");
        let ready = condition(&workflow, "Ready");
        assert_eq!(
            (&ready["status"], &ready["reason"]),
            (&json!("False"), &json!("NonCompliantPods"))
        );
        self.counts("declared-workflow", 2.0).await;
        eventually(SOON, || async {
            let events = self.admin.items(&all("Event", &self.ns)).await?;
            let told = events
                .iter()
                .any(|event| event["reason"] == "NonCompliantPods" && event["type"] == "Warning");
            ensure!(told, "an Event should tell of it: {events:?}");
            Ok(())
        })
        .await;
        pods
    }

    async fn extra_rights_and_foreign_policies_are_named(&self) {
        let subject = format!("system:serviceaccounts:{}", self.ns);
        let binding = json!({
            "metadata": {"name": "everybody-here"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": subject}],
        });
        // As they stand where they were made before the fence.
        let before = unasked(&self.cluster).await;
        before.post(CLUSTER_BINDINGS, &binding).await.ok();
        let policy = json!({"metadata": {"name": "open"}, "spec": {"podSelector": {}, "egress": [{}], "policyTypes": ["Egress"]}});
        before.post(&all("NetworkPolicy", &self.ns), &policy).await.ok();
        self.counts("extra-binding", 1.0).await;
        self.counts("foreign-network-policy", 1.0).await;
        self.tells("1 binding gives its account more than is declared: ClusterRoleBinding everybody-here")
            .await;
        self.tells(&format!("opens more than is declared: NetworkPolicy {}/open", self.ns))
            .await;
        let selector = json!({"ringfence.dev/workflow": "triage"});
        let service = json!({"metadata": {"name": "open"}, "spec": {"type": "NodePort", "selector": selector, "ports": [{"port": 80}]}});
        let services = format!("/api/v1/namespaces/{}/services", self.ns);
        before.post(&services, &service).await.ok();
        let backend = json!({"service": {"name": "open", "port": {"number": 80}}});
        let ingress = json!({"metadata": {"name": "in"}, "spec": {"defaultBackend": backend}});
        let ingresses = format!("/apis/networking.k8s.io/v1/namespaces/{}/ingresses", self.ns);
        self.tess.post(&ingresses, &ingress).await.ok();
        self.counts("closed-service", 1.0).await;
        self.counts("exposed-route", 1.0).await;
        self.tells(&format!(
            "2 policies and Services of somebody else open more than is declared: NetworkPolicy {ns}/open, Service {ns}/open",
            ns = self.ns
        ))
        .await;
        self.admin.delete(&format!("{ingresses}/in")).await.ok();
    }

    /// Kubernetes ships such bindings, and they say nothing; another one is everybody's, and told once.
    async fn what_every_account_holds_is_an_extra_right(&self) {
        let every =
            json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:serviceaccounts"}]);
        let shipped = self.admin.items(CLUSTER_BINDINGS).await.unwrap();
        assert!(
            shipped.iter().any(|binding| binding["subjects"] == every),
            "Kubernetes ships none any more"
        );
        self.counts("extra-binding", 1.0).await;
        let name = "everybody-everywhere";
        let binding = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}, "subjects": every,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        });
        self.admin.post(CLUSTER_BINDINGS, &binding).await.ok();
        self.counts("extra-binding", 2.0).await;
        self.tells(&format!(
            "1 binding gives every account of the cluster, its own included, more than is declared: ClusterRoleBinding {name}"
        ))
        .await;
        self.admin.delete(&format!("{CLUSTER_BINDINGS}/{name}")).await.ok();
        self.counts("extra-binding", 1.0).await;
    }

    async fn what_nobody_owns_is_found(&self) {
        let left = json!({"metadata": {
            "name": "left-behind",
            "labels": {"ringfence.dev/owner": "triage"},
            "annotations": {"ringfence.dev/owner-uid": "00000000-0000-0000-0000-000000000000"},
        }, "rules": []});
        // As a restore would, with its guard away.
        let restored = unasked(&self.cluster).await;
        restored.post(&all("Role", &self.ns), &left).await.ok();
        self.counts("ownerless-object", 1.0).await;
    }

    async fn reports_are_for_people_and_machines(&self) {
        let table = self.says(&Identity::Admin, &["scan"]).await;
        assert_eq!(table.code, Some(1), "{table}");
        for words in [
            "declared-workflow",
            "foreign-network-policy",
            "extra-binding",
            "ownerless-object",
            "Fix: ",
        ] {
            assert!(table.stdout.contains(words), "{words}: {table}");
        }
        let report = self.says(&Identity::Admin, &["scan", "-o", "json"]).await;
        let json: Value = serde_json::from_str(&report.stdout).expect("JSON");
        let of = |rule: &str| -> Vec<&Value> {
            let findings = json["findings"].as_array().unwrap().iter();
            findings.filter(|finding| finding["rule"] == rule).collect()
        };
        assert_eq!((report.code, &json["summary"]["complete"]), (Some(1), &json!(true)));
        let names: Vec<_> = of("declared-workflow").iter().map(|finding| &finding["name"]).collect();
        assert_eq!(
            names,
            ["stranger", "bare"].map(|name| json!(name)).iter().collect::<Vec<_>>()
        );
        assert_eq!(of("extra-binding")[0]["workflow"], format!("{}/triage", self.ns));
        assert_eq!(of("ownerless-object")[0]["name"], "left-behind");

        let report = self.says(&Identity::Admin, &["scan", "-o", "sarif"]).await;
        let sarif: Value = serde_json::from_str(&report.stdout).expect("SARIF");
        assert_eq!((report.code, &sarif["version"]), (Some(1), &json!("2.1.0")));
        let results = sarif["runs"][0]["results"].as_array().unwrap();
        assert_eq!(results.len(), json["findings"].as_array().unwrap().len());
        let report = self
            .says(&Identity::Admin, &["scan", "--namespace", &self.ns, "-o", "junit"])
            .await;
        assert!(
            report.code == Some(1) && report.stdout.contains("<testsuites") && report.stdout.contains("<failure"),
            "{report}"
        );
        // What the operator knows, and what a person is told, are one.
        let check = self
            .says(&Identity::Admin, &["check", "namespace", &self.ns, "-o", "json"])
            .await;
        let check: Value = serde_json::from_str(&check.stdout).expect("JSON");
        let rules = check["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["rule"].clone());
        let rules: Vec<_> = rules.filter(|rule| rule == "declared-workflow").collect();
        assert_eq!(rules.len(), 2, "{check}");
        let nowhere = self.says(&Identity::Admin, &["scan", "--namespace", "default"]).await;
        assert_eq!(nowhere.code, Some(2), "{nowhere}");
        assert!(
            nowhere.stderr.contains("no namespace default with a mode label"),
            "{nowhere}"
        );
    }

    /// Somebody who may look at one namespace only.
    async fn what_may_not_be_read_is_a_gap_and_not_a_pass(&self) {
        let name = unique("auditor");
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "ringfence-class-view"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        });
        self.admin.post(CLUSTER_BINDINGS, &binding).await.ok();
        let said = self.says(&Identity::user(&name, &[]), &["scan", "-o", "json"]).await;
        assert_eq!(said.code, Some(2), "{said}");
        let report: Value = serde_json::from_str(&said.stdout).expect("JSON");
        assert_eq!(report["summary"]["complete"], false, "{said}");
        let gaps = report["gaps"].to_string();
        assert!(gaps.contains("forbidden") && gaps.contains("namespaces"), "{gaps}");
        assert!(said.stderr.contains("forbidden"), "{said}");
    }

    async fn secrets_that_are_missing_are_found_by_who_may_read_them(&self) {
        let declared = json!({"spec": {"secrets": [
            {"name": "model", "secretRef": {"name": "model-key", "keys": ["missing"]}},
            {"name": "other", "secretRef": {"name": "nowhere", "keys": ["a"]}},
        ]}});
        let path = one("AIWorkflow", &self.ns, "triage");
        self.tess.patch(&path, &declared).await.ok();
        let mut wants = pod("wants", "triage");
        wants["spec"]["containers"][0]["env"] = json!([
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "model-key", "key": "missing"}}},
            {"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "nowhere", "key": "a"}}},
        ]);
        self.lea
            .post(&all("Job", &self.ns), &workload("Job", &wants))
            .await
            .ok();
        let secret = json!({"metadata": {"name": "model-key"}, "stringData": {"a": "topsecret"}});
        self.admin
            .post(&format!("/api/v1/namespaces/{}/secrets", self.ns), &secret)
            .await
            .ok();
        let said = self.says(&Identity::Admin, &["check", "namespace", &self.ns]).await;
        assert_eq!(said.code, Some(1), "{said}");
        for words in ["model-key", "missing", "nowhere", "spec.secrets[0].secretRef.keys[0]"] {
            assert!(said.stdout.contains(words), "{words}: {said}");
        }
        assert!(
            !said.stdout.contains("topsecret") && !said.stderr.contains("topsecret"),
            "{said}"
        );
        self.admin
            .delete(&format!(
                "{}?propagationPolicy=Background",
                one("Job", &self.ns, "wants")
            ))
            .await
            .ok();
        eventually(SOON, || async {
            let pods = self.pods().await;
            ensure!(pods.len() == 4, "the Job's pod should go: {pods:?}");
            Ok(())
        })
        .await;
    }

    async fn what_is_mended_is_compliant_again(&self) {
        for path in [
            one("Pod", &self.ns, "bare"),
            format!(
                "{}?propagationPolicy=Background",
                one("Deployment", &self.ns, "stranger")
            ),
            one("NetworkPolicy", &self.ns, "open"),
            format!("/api/v1/namespaces/{}/services/open", self.ns),
            one("Role", &self.ns, "left-behind"),
            format!("{CLUSTER_BINDINGS}/everybody-here"),
        ] {
            self.admin.delete(&path).await.ok();
        }
        let workflow = self.compliant("True", "Compliant").await;
        assert_eq!(workflow["status"]["nonCompliant"], Value::Null);
        self.counts("ownerless-object", 0.0).await;
        let said = self.says(&Identity::Admin, &["scan", "--namespace", &self.ns]).await;
        assert_eq!(said.code, Some(0), "{said}");
    }

    /// Without the right to list namespaces a scan finds nothing anywhere, which is no proof of anything.
    async fn what_cannot_be_looked_at_is_not_called_compliant(&self) {
        let role = self.admin.get(OWN_ROLE).await.ok();
        let rules = |lists: bool| {
            let mut rules = role["rules"].clone();
            for rule in rules.as_array_mut().unwrap() {
                let is_of_namespaces = rule["resources"].as_array().unwrap().contains(&json!("namespaces"));
                if is_of_namespaces && !lists {
                    rule["verbs"].as_array_mut().unwrap().retain(|verb| verb != "list");
                }
            }
            json!({"rules": rules})
        };
        self.admin.patch(OWN_ROLE, &rules(false)).await.ok();
        let path = one("AIWorkflow", &self.ns, "triage");
        let says = async |wanted: &str| {
            eventually(SOON, || async {
                let workflow = self.admin.read(&path).await?;
                let found = condition(&workflow, "Compliant");
                ensure!(found["status"] == wanted, "Compliant should be {wanted}: {found}");
                Ok(found["message"].as_str().unwrap_or_default().to_owned())
            })
            .await
        };
        let message = says("Unknown").await;
        assert!(message.contains("the namespaces of"), "{message}");
        self.admin.patch(OWN_ROLE, &rules(true)).await.ok();
        says("True").await;
    }
}
