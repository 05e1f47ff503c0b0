//! Bindings that give a workflow's account more than it declares, whoever wrote them.
//!
//! What every authenticated account holds is not more: groups `system:authenticated` and `system:serviceaccounts` do not count.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Declared, Finding, Place, Severity};
use crate::plan::name_of;
use crate::review::Violation;

/// Rule of these findings.
pub(super) const RULE: &str = "extra-binding";

/// Accounts of workflows, by the names that a binding can have for them.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    by_account: BTreeMap<(String, String), BTreeSet<String>>,
    by_namespace: BTreeMap<String, BTreeSet<String>>,
}

impl Accounts {
    /// Adds the account of a workflow.
    pub fn add(&mut self, workflow: &Declared) {
        let key = (workflow.namespace.clone(), workflow.account.clone());
        self.by_account.entry(key).or_default().insert(workflow.name.clone());
        let namespace = self.by_namespace.entry(workflow.namespace.clone()).or_default();
        namespace.insert(workflow.name.clone());
    }

    /// What a RoleBinding or ClusterRoleBinding gives these accounts. The caller knows that it is not Ringfence's own.
    pub fn bound_by(&self, kind: &str, binding: &Value) -> Vec<Finding> {
        let text = |pointer: &str| binding.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let namespace = text("/metadata/namespace");
        let role = format!("{} {}", text("/roleRef/kind"), text("/roleRef/name"));
        let subjects = binding.get("subjects").and_then(Value::as_array);
        let mut findings = Vec::new();
        for (index, subject) in subjects.into_iter().flatten().enumerate() {
            for (of, workflow) in self.named_by(subject, namespace) {
                let shown = if of == namespace {
                    workflow.clone()
                } else {
                    format!("{of}/{workflow}")
                };
                let place = Place {
                    namespace: namespace.to_owned(),
                    kind: kind.to_owned(),
                    name: name_of(binding).to_owned(),
                    workflow: Some(shown),
                };
                let violation = Violation {
                    policy: RULE.to_owned(),
                    path: format!("subjects[{index}]"),
                    value: subject.get("name").and_then(Value::as_str).map(str::to_owned),
                    message: format!("gives {role} to the account of AIWorkflow {of}/{workflow}, beside what it declares"),
                    fix: "declare the rights in spec.permissions of the AIWorkflow, and take the subject out of this binding"
                        .to_owned(),
                };
                findings.push(place.finding(violation, Severity::Error));
            }
        }
        findings
    }

    /// Namespace and name of the workflows whose account a subject names.
    fn named_by(&self, subject: &Value, namespace: &str) -> Vec<(String, String)> {
        let text = |key: &str| subject.get(key).and_then(Value::as_str).unwrap_or_default();
        let (of, workflows) = match text("kind") {
            "ServiceAccount" => {
                let of = match text("namespace") {
                    "" => namespace,
                    of => of,
                };
                (of, self.by_account.get(&(of.to_owned(), text("name").to_owned())))
            }
            "User" => {
                let account = text("name").strip_prefix("system:serviceaccount:");
                let Some((of, name)) = account.and_then(|account| account.split_once(':')) else {
                    return Vec::new();
                };
                (of, self.by_account.get(&(of.to_owned(), name.to_owned())))
            }
            "Group" => {
                let Some(of) = text("name").strip_prefix("system:serviceaccounts:") else {
                    return Vec::new();
                };
                (of, self.by_namespace.get(of))
            }
            _ => return Vec::new(),
        };
        let workflows = workflows.into_iter().flatten();
        workflows.map(|workflow| (of.to_owned(), workflow.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn accounts() -> Accounts {
        let mut accounts = Accounts::default();
        for (namespace, name, account) in [
            ("ai", "triage", "triage"),
            ("ai", "index", "indexer"),
            ("other", "x", "x"),
        ] {
            accounts.add(&Declared {
                namespace: namespace.into(),
                name: name.into(),
                uid: format!("{namespace}-{name}"),
                generation: Some(1),
                account: account.into(),
            });
        }
        accounts
    }

    #[rstest]
    #[case::account(json!({"kind": "ServiceAccount", "namespace": "ai", "name": "indexer"}), &["ai/index"])]
    #[case::account_here(json!({"kind": "ServiceAccount", "name": "x"}), &["x"])]
    #[case::by_the_workflows_name(json!({"kind": "ServiceAccount", "namespace": "ai", "name": "index"}), &[])]
    #[case::as_a_user(json!({"kind": "User", "name": "system:serviceaccount:ai:triage"}), &["ai/triage"])]
    #[case::as_a_group(json!({"kind": "Group", "name": "system:serviceaccounts:ai"}), &["ai/index", "ai/triage"])]
    #[case::everybody(json!({"kind": "Group", "name": "system:serviceaccounts"}), &[])]
    #[case::all_who_log_in(json!({"kind": "Group", "name": "system:authenticated"}), &[])]
    #[case::a_person_of_that_name(json!({"kind": "User", "name": "triage"}), &[])]
    #[case::a_user_without_a_name(json!({"kind": "User", "name": "system:serviceaccount:ai"}), &[])]
    #[case::another_namespace(json!({"kind": "ServiceAccount", "namespace": "there", "name": "triage"}), &[])]
    #[case::nothing(json!(7), &[])]
    fn a_binding_names_an_account_in_three_ways(#[case] subject: Value, #[case] workflows: &[&str]) {
        let binding = json!({
            "metadata": {"name": "b", "namespace": "other"}, "subjects": [{"kind": "User", "name": "ann"}, subject],
            "roleRef": {"kind": "ClusterRole", "name": "admin"},
        });
        let found = accounts().bound_by("RoleBinding", &binding);
        let named: Vec<_> = found
            .iter()
            .map(|finding| finding.workflow.as_deref().unwrap())
            .collect();
        assert_eq!(named, workflows);
        for finding in found {
            assert_eq!(
                (finding.path.as_str(), finding.namespace.as_str()),
                ("subjects[1]", "other")
            );
            assert!(
                finding
                    .message
                    .starts_with("gives ClusterRole admin to the account of AIWorkflow ")
            );
        }
    }
}
