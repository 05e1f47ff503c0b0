//! A RegoPolicy is asked about what was there before it.

use super::*;

const POLICIES: &str = "/apis/ringfence.dev/v1alpha1/regopolicies";

impl Scene {
    async fn acting(&self, name: &str, action: &str) {
        let path = format!("{POLICIES}/{name}");
        let change = json!({"spec": {"validationActions": [action]}});
        self.admin.patch(&path, &change).await.ok();
        eventually(SOON, || async {
            let policy = self.admin.read(&path).await?;
            let found = condition(&policy, "Enforced");
            let now = found["observedGeneration"] == policy["metadata"]["generation"];
            ensure!(now && found["status"] == "True", "{}", policy["status"]);
            Ok(())
        })
        .await;
    }

    pub(super) async fn what_a_policy_would_refuse_is_named_for_as_long_as_it_is_there(&self) {
        let name = unique("owned");
        let source = "package p\ndeny contains {\"msg\": \"has no owner\", \"path\": \"metadata.labels.owner\"} if not input.review.object.metadata.labels.owner\n";
        let policy = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "metadata": {"name": name},
            "spec": {
                "validationActions": ["Audit"],
                "matchConstraints": {
                    "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.ns}},
                },
                "rego": {"modules": [{"name": "policy.rego", "source": source}]},
            },
        });
        self.admin.post(POLICIES, &policy).await.ok();
        // What only audits is counted, and nobody is less compliant for it.
        self.counts(&name, 1.0).await;
        self.compliant("True", "Compliant").await;
        let said = self.says(&Identity::Admin, &["scan"]).await;
        assert!(said.code == Some(0) && said.stdout.contains(&name), "{said}");

        self.acting(&name, "Deny").await;
        let workflow = self.compliant("False", "NonCompliantPods").await;
        let message = condition(&workflow, "Compliant")["message"].as_str().unwrap();
        assert!(message.starts_with("1 pod would be refused today: fits"), "{message}");
        self.counts(&name, 1.0).await;
        let check = ["check", "namespace", self.ns.as_str()];
        for command in [&["scan"][..], &check[..]] {
            let said = self.says(&Identity::Admin, command).await;
            assert_eq!(said.code, Some(1), "{said}");
            for words in [name.as_str(), "metadata.labels.owner", "has no owner"] {
                assert!(said.stdout.contains(words), "{words}: {said}");
            }
            let without = [command, &["--skip-rego-policies"][..]].concat();
            let said = self.says(&Identity::Admin, &without).await;
            assert!(said.code == Some(0) && !said.stdout.contains(&name), "{said}");
        }
        self.what_looks_beside_the_request_is_judged_in_the_cluster_only(&name)
            .await;

        self.admin.delete(&format!("{POLICIES}/{name}")).await.ok();
        self.compliant("True", "Compliant").await;
        self.counts(&name, 0.0).await;
    }

    async fn what_looks_beside_the_request_is_judged_in_the_cluster_only(&self, name: &str) {
        let path = format!("{POLICIES}/{name}");
        let inventory = json!([{"version": "v1", "kind": "ConfigMap", "fields": ["data"]}]);
        self.admin
            .patch(&path, &json!({"spec": {"inventory": inventory}}))
            .await
            .ok();
        let said = self.says(&Identity::Admin, &["scan"]).await;
        let gap = format!("RegoPolicies with an inventory are judged in the cluster only: {name}");
        assert!(said.code == Some(2) && said.stderr.contains(&gap), "{said}");
    }
}
