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
    POD,
];

pub(super) const NAMESPACE: Listed = listed("", "v1", "Namespace", "namespaces");
pub(super) const GUARD: Listed = listed(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
);
pub(super) const NETWORK_POLICY: Listed = listed("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies");
pub(super) const WORKFLOW: Listed = listed("ringfence.dev", "v1alpha1", "AIWorkflow", "aiworkflows");
pub(crate) const GRANT: Listed = listed("ringfence.dev", "v1alpha1", "AIWorkflowGrant", "aiworkflowgrants");
pub(crate) const POD: Listed = listed("", "v1", "Pod", "pods");
pub(crate) const ROLE_BINDING: Listed = listed("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings");
pub(crate) const CLUSTER_ROLE_BINDING: Listed = listed(
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

pub(super) const SERVICE: Listed = listed("", "v1", "Service", "services");
pub(super) const ENDPOINT_SLICE: Listed = listed("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices");

const CILIUM: &str = "cilium.io";
const CALICO: &str = "crd.projectcalico.org";
const ANTREA: &str = "crd.antrea.io";
const GKE: &str = "networking.gke.io";
const EKS: &str = "networking.k8s.aws";
const NSX: &str = "crd.nsx.vmware.com";
const POLICY: &str = "policy.networking.k8s.io";
const GATEWAY: &str = "gateway.networking.k8s.io";

/// Policies of a namespace that a network plugin may let overrule every NetworkPolicy, where they are served.
pub(super) const OTHER_POLICIES: [Listed; 11] = [
    listed(CILIUM, "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies"),
    listed(CILIUM, "v2", "CiliumLocalRedirectPolicy", "ciliumlocalredirectpolicies"),
    listed(CILIUM, "v2", "CiliumEnvoyConfig", "ciliumenvoyconfigs"),
    listed(CALICO, "v1", "NetworkPolicy", "networkpolicies"),
    listed("projectcalico.org", "v3", "NetworkPolicy", "networkpolicies"),
    listed(ANTREA, "v1beta1", "NetworkPolicy", "networkpolicies"),
    listed(GKE, "v1alpha1", "FQDNNetworkPolicy", "fqdnnetworkpolicies"),
    listed(
        EKS,
        "v1alpha1",
        "ApplicationNetworkPolicy",
        "applicationnetworkpolicies",
    ),
    listed(
        "vpcresources.k8s.aws",
        "v1beta1",
        "SecurityGroupPolicy",
        "securitygrouppolicies",
    ),
    listed(NSX, "v1alpha1", "SecurityPolicy", "securitypolicies"),
    // The same where NSX has no VPCs.
    listed("nsx.vmware.com", "v1alpha1", "SecurityPolicy", "securitypolicies"),
];

/// The same of the whole cluster.
pub(super) const CLUSTER_POLICIES: [Listed; 8] = [
    listed(POLICY, "v1alpha1", "AdminNetworkPolicy", "adminnetworkpolicies"),
    listed(POLICY, "v1alpha2", "ClusterNetworkPolicy", "clusternetworkpolicies"),
    listed(
        CILIUM,
        "v2",
        "CiliumClusterwideNetworkPolicy",
        "ciliumclusterwidenetworkpolicies",
    ),
    listed(
        CILIUM,
        "v2",
        "CiliumClusterwideEnvoyConfig",
        "ciliumclusterwideenvoyconfigs",
    ),
    listed(CALICO, "v1", "GlobalNetworkPolicy", "globalnetworkpolicies"),
    listed(
        "projectcalico.org",
        "v3",
        "GlobalNetworkPolicy",
        "globalnetworkpolicies",
    ),
    listed(ANTREA, "v1beta1", "ClusterNetworkPolicy", "clusternetworkpolicies"),
    listed(EKS, "v1alpha1", "ClusterNetworkPolicy", "clusternetworkpolicies"),
];

/// What leads traffic from elsewhere to Services of a namespace, where it is served. A ReferenceGrant lets routes of other namespaces.
pub(super) const ROUTES: [Listed; 8] = [
    listed("networking.k8s.io", "v1", "Ingress", "ingresses"),
    listed(GATEWAY, "v1", "HTTPRoute", "httproutes"),
    listed(GATEWAY, "v1", "GRPCRoute", "grpcroutes"),
    listed(GATEWAY, "v1alpha2", "TLSRoute", "tlsroutes"),
    listed(GATEWAY, "v1alpha2", "TCPRoute", "tcproutes"),
    listed(GATEWAY, "v1alpha2", "UDPRoute", "udproutes"),
    listed(GATEWAY, "v1beta1", "ReferenceGrant", "referencegrants"),
    listed("route.openshift.io", "v1", "Route", "routes"),
];

/// Whether every API server serves it.
pub(super) fn is_built_in(kind: Listed) -> bool {
    matches!(kind.group, "" | "discovery.k8s.io" | "networking.k8s.io")
}

#[cfg(test)]
mod tests {
    use super::CLUSTER_POLICIES;
    use crate::access::CAPABILITIES;

    /// Whoever writes what the scan warns of is told of too.
    #[test]
    fn policies_of_the_cluster_are_settings_of_the_cluster() {
        let settings = CAPABILITIES.iter().find(|of| of.name == "write-cluster-settings");
        let rights = settings.expect("there is one").rights;
        for kind in &CLUSTER_POLICIES {
            let known = rights
                .iter()
                .any(|right| right.group == kind.group && right.resources.contains(&kind.plural));
            assert!(known, "{}/{}", kind.group, kind.plural);
        }
    }
}
