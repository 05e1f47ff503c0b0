//! Kinds that are listed.

use crate::webhook::pages::Listed;

const fn listed(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Listed {
    Listed {
        group,
        version,
        kind,
        plural,
    }
}

/// What makes pods: what makes others first, so that theirs count with them. Pods last.
pub(super) const RUNNING: [Listed; 8] = [
    listed("apps", "v1", "Deployment", "deployments"),
    listed("batch", "v1", "CronJob", "cronjobs"),
    listed("apps", "v1", "StatefulSet", "statefulsets"),
    listed("apps", "v1", "DaemonSet", "daemonsets"),
    listed("", "v1", "ReplicationController", "replicationcontrollers"),
    listed("apps", "v1", "ReplicaSet", "replicasets"),
    listed("batch", "v1", "Job", "jobs"),
    listed("", "v1", "Pod", "pods"),
];

pub(super) const NAMESPACE: Listed = listed("", "v1", "Namespace", "namespaces");
pub(super) const NETWORK_POLICY: Listed = listed("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies");
pub(super) const WORKFLOW: Listed = listed("ringfence.dev", "v1alpha1", "AIWorkflow", "aiworkflows");
pub(super) const GRANT: Listed = listed("ringfence.dev", "v1alpha1", "AIWorkflowGrant", "aiworkflowgrants");
pub(super) const ROLE_BINDING: Listed = listed("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings");
pub(super) const CLUSTER_ROLE_BINDING: Listed = listed(
    "rbac.authorization.k8s.io",
    "v1",
    "ClusterRoleBinding",
    "clusterrolebindings",
);
pub(super) const ROLE: Listed = listed("rbac.authorization.k8s.io", "v1", "Role", "roles");
pub(super) const CLUSTER_ROLE: Listed = listed("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles");
pub(super) const CLASS: Listed = listed("ringfence.dev", "v1alpha1", "AIWorkflowClass", "aiworkflowclasses");
/// What Ringfence makes, beside RoleBindings.
pub(super) const OWNED: [Listed; 3] = [
    NETWORK_POLICY,
    listed("", "v1", "ServiceAccount", "serviceaccounts"),
    ROLE,
];
