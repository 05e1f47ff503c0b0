//! Bindings that give a workflow's account more than it declares, whoever wrote them.
//!
//! What every service account of the cluster holds is more too, and is told once for a binding, not once for each workflow. What
//! everybody who logs in holds in the whole cluster, or where the platform keeps its own, is not, nor what whoever shows no credential does:
//! Kubernetes itself gives `system:authenticated` and `system:unauthenticated` rights there. In another namespace somebody who has no say about the cluster may have given it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Declared, Finding, Origin, Place, Severity, clipped};
use crate::api::{ANYBODY, GROUPS_OF_ALL_ACCOUNTS, is_anybody};
use crate::plan::name_of;
use crate::review::Violation;

/// Rule of these findings.
pub(super) const RULE: &str = "extra-binding";

/// Every service account of the cluster.
const EVERY_ACCOUNT: &str = GROUPS_OF_ALL_ACCOUNTS[0];
/// Everybody who logs in.
const EVERYBODY: &str = GROUPS_OF_ALL_ACCOUNTS[1];
/// ClusterRoleBindings to that group that Kubernetes itself ships, each to the ClusterRole of its name: public keys and
/// certificates. By both names, because whoever may write a binding may also put Kubernetes' label on it.
const SHIPPED: [&str; 2] = [
    "system:cluster-trust-bundle-discovery",
    "system:service-account-issuer-discovery",
];

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
        let role = format!("{} {}", text("/roleRef/kind"), clipped(text("/roleRef/name")));
        let subjects = binding.get("subjects").and_then(Value::as_array);
        let mut findings = Vec::new();
        let is_shipped = kind == "ClusterRoleBinding"
            && SHIPPED.contains(&name_of(binding))
            && role == format!("ClusterRole {}", name_of(binding));
        let is_told = |subject: &Value| {
            let group = group(subject);
            group == Some(EVERY_ACCOUNT)
                || (group == Some(EVERYBODY) || is_anybody(subject))
                    && kind == "RoleBinding"
                    && !is_the_platforms(namespace)
        };
        let mut every = subjects.into_iter().flatten().enumerate();
        let every = every.find(|(_, subject)| is_told(subject));
        if let Some((index, subject)) = every.filter(|_| !is_shipped && !self.by_account.is_empty()) {
            let whom = match is_anybody(subject) {
                true => ANYBODY,
                false => "every service account of the cluster",
            };
            let place = Place {
                namespace: namespace.to_owned(),
                kind: kind.to_owned(),
                name: clipped(name_of(binding)),
                workflow: None,
            };
            let violation = Violation {
                policy: RULE.to_owned(),
                path: format!("subjects[{index}]"),
                value: subject.get("name").and_then(Value::as_str).map(str::to_owned),
                message: format!(
                    "gives {role} to {whom}, those of every AIWorkflow included, beside what these declare"
                ),
                fix: "bind the people and service accounts that need it by name, and take this subject out of the binding"
                    .to_owned(),
            };
            findings.push(place.finding(violation, Severity::Error));
        }
        // Once for each workflow, however often a binding names it.
        let (mut named, mut seen) = (BTreeMap::new(), BTreeSet::new());
        for (index, subject) in subjects.into_iter().flatten().enumerate() {
            // Thousands of subjects that are alike would cost as many times all workflows of a namespace.
            if !seen.insert(["kind", "namespace", "name"].map(|key| subject.get(key).and_then(Value::as_str))) {
                continue;
            }
            let (of, workflows) = self.named_by(subject, namespace);
            for workflow in workflows.into_iter().flatten() {
                named.entry((of, workflow)).or_insert((index, subject));
            }
        }
        for ((of, workflow), (index, subject)) in named {
            let shown = if of == namespace {
                workflow.clone()
            } else {
                format!("{of}/{workflow}")
            };
            let place = Place {
                namespace: namespace.to_owned(),
                kind: kind.to_owned(),
                name: clipped(name_of(binding)),
                workflow: Some(shown),
            };
            let violation = Violation {
                policy: RULE.to_owned(),
                path: format!("subjects[{index}]"),
                value: subject.get("name").and_then(Value::as_str).map(clipped),
                message: format!("gives {role} to the account of AIWorkflow {of}/{workflow}, beside what it declares"),
                fix:
                    "declare the rights in spec.permissions of the AIWorkflow, and take the subject out of this binding"
                        .to_owned(),
            };
            findings.push(place.finding(violation, Severity::Error));
        }
        findings
    }

    /// The workflows whose account a subject names, with their namespace.
    fn named_by<'a>(&'a self, subject: &'a Value, namespace: &'a str) -> (&'a str, Option<&'a BTreeSet<String>>) {
        let text = |key: &str| subject.get(key).and_then(Value::as_str).unwrap_or_default();
        let account = |of: &str, name: &str| self.by_account.get(&(of.to_owned(), name.to_owned()));
        let name = text("name");
        match text("kind") {
            "ServiceAccount" => {
                let of = match text("namespace") {
                    "" => namespace,
                    of => of,
                };
                (of, account(of, name))
            }
            "User" => {
                let named = name.strip_prefix("system:serviceaccount:");
                let named = named.and_then(|named| named.split_once(':'));
                named.map_or((namespace, None), |(of, name)| (of, account(of, name)))
            }
            "Group" => {
                let of = name.strip_prefix("system:serviceaccounts:");
                of.map_or((namespace, None), |of| (of, self.by_namespace.get(of)))
            }
            _ => (namespace, None),
        }
    }
}

/// The same of a binding that Ringfence made, to a Role that it did not.
#[must_use]
pub fn of_foreign_role(finding: Finding, role: &Origin) -> Finding {
    let Origin { namespace, name, .. } = role;
    Finding {
        path: "roleRef.name".to_owned(),
        value: Some(name.clone()),
        message: format!(
            "{}: Ringfence made the binding, and no Role of that name",
            finding.message
        ),
        fix: format!(
            "kubectl delete role {name} --namespace {namespace}: Ringfence makes its own, or takes the binding away"
        ),
        ..finding
    }
}

fn group(subject: &Value) -> Option<&str> {
    let text = |key: &str| subject.get(key).and_then(Value::as_str);
    text("name").filter(|_| text("kind") == Some("Group"))
}

/// Whether a namespace has a name that Kubernetes, or OpenShift, keeps for itself.
fn is_the_platforms(namespace: &str) -> bool {
    namespace == "openshift"
        || ["kube-", "openshift-"]
            .iter()
            .any(|prefix| namespace.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::api::WITHOUT_CREDENTIAL;

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
                secrets: Vec::new(),
                way: None,
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

    /// One binding may have some ten thousand subjects, and a name as long as an object.
    #[test]
    fn a_binding_is_told_once_for_each_workflow_and_its_name_is_cut() {
        let group = json!({"kind": "Group", "name": "system:serviceaccounts:ai"});
        let account = json!({"kind": "ServiceAccount", "namespace": "ai", "name": "triage"});
        let mut subjects = vec![account; 3];
        subjects.extend(vec![group; 1000]);
        let long = "x".repeat(480_000);
        let binding = json!({
            "metadata": {"name": long, "namespace": "other"}, "subjects": subjects, "roleRef": {"kind": "Role", "name": long},
        });
        let found = accounts().bound_by("RoleBinding", &binding);
        let told: Vec<_> = found
            .iter()
            .map(|finding| (finding.workflow.as_deref().unwrap(), finding.path.as_str()))
            .collect();
        assert_eq!(told, [("ai/index", "subjects[3]"), ("ai/triage", "subjects[0]")]);
        for finding in found {
            assert!(
                finding.name.starts_with("xxx") && finding.name.chars().count() == 254,
                "{}",
                finding.name.len()
            );
            assert!(finding.message.len() < 1000, "{}", finding.message.len());
        }
    }

    #[rstest]
    #[case::of_somebodys_namespace("RoleBinding", "team-b", true)]
    #[case::of_one_called_almost_so("RoleBinding", "kubernetes", true)]
    #[case::of_the_cluster("ClusterRoleBinding", "", false)]
    #[case::of_kubernetes("RoleBinding", "kube-public", false)]
    #[case::of_openshift("RoleBinding", "openshift", false)]
    #[case::of_openshifts_parts("RoleBinding", "openshift-config-managed", false)]
    fn what_everybody_holds_is_told_where_no_platform_gave_it(
        #[case] kind: &str,
        #[case] namespace: &str,
        #[case] expected: bool,
    ) {
        for (of, whom) in WITHOUT_CREDENTIAL
            .into_iter()
            .chain([("Group", "system:authenticated")])
        {
            let binding = json!({
                "metadata": {"name": "b", "namespace": namespace},
                "subjects": [{"kind": "User", "name": "ann"}, {"kind": of, "name": whom}],
                "roleRef": {"kind": "ClusterRole", "name": "admin"},
            });
            let found = accounts().bound_by(kind, &binding);
            let said: Vec<_> = found
                .iter()
                .map(|finding| (finding.path.as_str(), finding.value.as_deref().unwrap_or_default()))
                .collect();
            let wanted = expected.then_some(("subjects[1]", whom));
            assert_eq!(said, Vec::from_iter(wanted));
            assert_eq!(Accounts::default().bound_by(kind, &binding), [], "nobody is fenced");
        }
    }

    #[rstest]
    #[case::of_the_cluster("ClusterRoleBinding", "b", "ClusterRole", "view", true)]
    #[case::of_a_namespace("RoleBinding", "b", "Role", "x", true)]
    #[case::shipped("ClusterRoleBinding", SHIPPED[0], "ClusterRole", SHIPPED[0], false)]
    #[case::shipped_too("ClusterRoleBinding", SHIPPED[1], "ClusterRole", SHIPPED[1], false)]
    #[case::by_another_name("ClusterRoleBinding", "b", "ClusterRole", SHIPPED[1], true)]
    #[case::to_another_role("ClusterRoleBinding", SHIPPED[1], "ClusterRole", "view", true)]
    #[case::to_the_other_role("ClusterRoleBinding", SHIPPED[1], "ClusterRole", SHIPPED[0], true)]
    #[case::in_a_namespace("RoleBinding", SHIPPED[1], "ClusterRole", SHIPPED[1], true)]
    fn what_every_account_holds_is_told_once(
        #[case] kind: &str,
        #[case] name: &str,
        #[case] role_kind: &str,
        #[case] role: &str,
        #[case] expected: bool,
    ) {
        let group = json!({"kind": "Group", "name": "system:serviceaccounts"});
        let binding = json!({
            // A label that anybody can put there.
            "metadata": {"name": name, "namespace": "x", "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}},
            "subjects": [{"kind": "User", "name": "ann"}, group, group], "roleRef": {"kind": role_kind, "name": role},
        });
        let found = accounts().bound_by(kind, &binding);
        assert_eq!(found.len(), usize::from(expected), "{found:?}");
        for finding in found {
            assert_eq!((finding.path.as_str(), finding.workflow), ("subjects[1]", None));
            let said = format!("gives {role_kind} {role} to every service account of the cluster");
            assert!(finding.message.starts_with(&said), "{}", finding.message);
        }
        assert_eq!(Accounts::default().bound_by(kind, &binding), [], "nobody is fenced");
    }
}
