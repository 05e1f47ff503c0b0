//! Whom a binding names.

use std::fmt;

use serde_json::Value;

/// Longest name that is shown.
const MAX_SHOWN: usize = 128;

/// Somebody who holds a right.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// A service account.
    Account {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// All that the authenticator puts into a group.
    Group(String),
    /// A user.
    User(String),
}

/// Groups and users that are Kubernetes itself, or the administrator whom no authorizer is asked about.
const SYSTEM_GROUPS: [&str; 2] = ["system:masters", "system:nodes"];
const SYSTEM_USERS: [&str; 5] = [
    "system:apiserver",
    "system:kube-apiserver",
    "system:kube-controller-manager",
    "system:kube-proxy",
    "system:kube-scheduler",
];
const SYSTEM_NAMESPACE: &str = "kube-system";
/// Accounts of the controllers that Kubernetes brings along (1.31 to 1.36), all in its own namespace. By name: whoever else is bound
/// there is an add-on, and holds what it holds.
const CONTROLLERS: [&str; 50] = [
    "attachdetach-controller",
    "bootstrap-signer",
    "certificate-controller",
    "cloud-provider",
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemon-set-controller",
    "deployment-controller",
    "device-taint-eviction-controller",
    "disruption-controller",
    "endpoint-controller",
    "endpointslice-controller",
    "endpointslicemirroring-controller",
    "ephemeral-volume-controller",
    "expand-controller",
    "generic-garbage-collector",
    "horizontal-pod-autoscaler",
    "job-controller",
    "kube-apiserver-serving-clustertrustbundle-publisher",
    "kube-controller-manager",
    "kube-scheduler",
    "leader-election-controller",
    "legacy-service-account-token-cleaner",
    "namespace-controller",
    "node-controller",
    "persistent-volume-binder",
    "pod-garbage-collector",
    "podcertificaterequestcleaner",
    "podgroup-protection-controller",
    "pv-protection-controller",
    "pvc-protection-controller",
    "replicaset-controller",
    "replication-controller",
    "resource-claim-controller",
    "resourcepoolstatusrequest-controller",
    "resourcequota-controller",
    "root-ca-cert-publisher",
    "route-controller",
    "selinux-warning-controller",
    "service-account-controller",
    "service-cidrs-controller",
    "service-controller",
    "statefulset-controller",
    "storage-version-garbage-collector",
    "storage-version-migrator-controller",
    "token-cleaner",
    "ttl-after-finished-controller",
    "ttl-controller",
    "validatingadmissionpolicy-status-controller",
    "volumeattributesclass-protection-controller",
];

impl Subject {
    /// Reads a subject of a binding in that namespace. `None` for what RBAC does not know, which holds nothing.
    pub(super) fn of(subject: &Value, namespace: &str) -> Option<Self> {
        let text = |key: &str| subject.get(key).and_then(Value::as_str).unwrap_or_default();
        let name = text("name").to_owned();
        match text("kind") {
            "ServiceAccount" => {
                let namespace = match text("namespace") {
                    "" => namespace,
                    of => of,
                };
                Some(Self::Account {
                    namespace: namespace.to_owned(),
                    name,
                })
            }
            // One name for one somebody, however a binding writes it.
            "User" => match name
                .strip_prefix("system:serviceaccount:")
                .and_then(|of| of.split_once(':'))
            {
                Some((namespace, name)) => Some(Self::Account {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                }),
                None => Some(Self::User(name)),
            },
            "Group" => Some(Self::Group(name)),
            _ => None,
        }
    }

    /// Whether it is a part of Kubernetes, by its own name and not by that of a binding, which anybody may choose.
    pub(super) fn is_kubernetes(&self) -> bool {
        match self {
            Self::Account { namespace, name } => namespace == SYSTEM_NAMESPACE && CONTROLLERS.contains(&name.as_str()),
            Self::Group(name) => SYSTEM_GROUPS.contains(&name.as_str()),
            Self::User(name) => SYSTEM_USERS.contains(&name.as_str()) || name.starts_with("system:node:"),
        }
    }

    /// The namespace of the accounts that it holds, where it holds those of one.
    pub(super) fn namespace(&self) -> Option<&str> {
        match self {
            Self::Account { namespace, .. } => Some(namespace),
            Self::Group(name) => name.strip_prefix("system:serviceaccounts:"),
            Self::User(_) => None,
        }
    }

    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Account { namespace, name } => namespace.len() + name.len(),
            Self::Group(name) | Self::User(name) => name.len(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account { namespace, name } => write!(f, "service account {}/{}", shown(namespace), shown(name)),
            Self::Group(name) => write!(f, "group {}", shown(name)),
            Self::User(name) => write!(f, "user {}", shown(name)),
        }
    }
}

/// RBAC lets names hold anything, of any length; they end in somebody's terminal.
pub(super) fn shown(name: &str) -> String {
    let mut text: String = crate::review::clean(name).chars().take(MAX_SHOWN).collect();
    if name.chars().count() > MAX_SHOWN {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::user(json!({"kind": "User", "name": "ann"}), Some("user ann"))]
    #[case::group(json!({"kind": "Group", "name": "devs"}), Some("group devs"))]
    #[case::account(json!({"kind": "ServiceAccount", "namespace": "ci", "name": "bot"}), Some("service account ci/bot"))]
    #[case::account_here(json!({"kind": "ServiceAccount", "name": "bot"}), Some("service account here/bot"))]
    #[case::account_as_a_user(json!({"kind": "User", "name": "system:serviceaccount:ci:bot"}), Some("service account ci/bot"))]
    #[case::no_account(json!({"kind": "User", "name": "system:serviceaccount:ci"}), Some("user system:serviceaccount:ci"))]
    #[case::unknown(json!({"kind": "Robot", "name": "x"}), None)]
    #[case::nothing(json!(7), None)]
    fn a_subject_has_one_name(#[case] subject: Value, #[case] expected: Option<&str>) {
        let found = Subject::of(&subject, "here").map(|subject| subject.to_string());
        assert_eq!(found.as_deref(), expected);
    }

    #[rstest]
    #[case::masters(json!({"kind": "Group", "name": "system:masters"}), true)]
    #[case::a_node(json!({"kind": "User", "name": "system:node:a"}), true)]
    #[case::controller(json!({"kind": "ServiceAccount", "namespace": "kube-system", "name": "job-controller"}), true)]
    #[case::its_name_elsewhere(json!({"kind": "ServiceAccount", "namespace": "ci", "name": "job-controller"}), false)]
    #[case::an_add_on(json!({"kind": "ServiceAccount", "namespace": "kube-system", "name": "tiller"}), false)]
    #[case::all_accounts_of_the_system(json!({"kind": "Group", "name": "system:serviceaccounts:kube-system"}), false)]
    #[case::everybody(json!({"kind": "Group", "name": "system:authenticated"}), false)]
    #[case::a_name_like_it(json!({"kind": "User", "name": "system:nodes"}), false)]
    fn kubernetes_is_known_by_its_names(#[case] subject: Value, #[case] expected: bool) {
        assert_eq!(Subject::of(&subject, "here").unwrap().is_kubernetes(), expected);
    }

    /// RBAC takes such names.
    #[test]
    fn a_name_cannot_speak_to_a_terminal_or_fill_it() {
        assert_eq!(Subject::User("a\u{1b}[2J".into()).to_string(), "user a [2J");
        assert!(Subject::Group("x".repeat(100_000)).to_string().len() < 200);
    }
}
