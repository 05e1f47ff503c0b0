//! The plural by which the API server knows a kind.
//!
//! Must never: claim to know the plural of a kind that a cluster defines. For those it is a guess, which is right for all that are named
//! as Kubernetes names its own.

use kube::core::{ApiResource, GroupVersionKind};

use super::GROUP;

/// Kinds that Kubernetes itself serves, by group and preferred version: those that lie in a namespace, and those that lie in none.
const BUILTIN: [(&str, &str, &[&str], &[&str]); 24] = [
    (
        "",
        "v1",
        &[
            "Binding",
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
        &["ComponentStatus", "Namespace", "Node", "PersistentVolume"],
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        &[],
        &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("apiextensions.k8s.io", "v1", &[], &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io", "v1", &[], &["APIService"]),
    (
        "apps",
        "v1",
        &[
            "ControllerRevision",
            "DaemonSet",
            "Deployment",
            "ReplicaSet",
            "StatefulSet",
        ],
        &[],
    ),
    (
        "authentication.k8s.io",
        "v1",
        &[],
        &["SelfSubjectReview", "TokenReview"],
    ),
    (
        "authorization.k8s.io",
        "v1",
        &["LocalSubjectAccessReview"],
        &[
            "SelfSubjectAccessReview",
            "SelfSubjectRulesReview",
            "SubjectAccessReview",
        ],
    ),
    ("autoscaling", "v2", &["HorizontalPodAutoscaler"], &[]),
    ("batch", "v1", &["CronJob", "Job"], &[]),
    ("certificates.k8s.io", "v1", &[], &["CertificateSigningRequest"]),
    ("certificates.k8s.io", "v1beta1", &[], &["ClusterTrustBundle"]),
    ("coordination.k8s.io", "v1", &["Lease"], &[]),
    ("discovery.k8s.io", "v1", &["EndpointSlice"], &[]),
    ("events.k8s.io", "v1", &["Event"], &[]),
    (
        "flowcontrol.apiserver.k8s.io",
        "v1",
        &[],
        &["FlowSchema", "PriorityLevelConfiguration"],
    ),
    (
        "networking.k8s.io",
        "v1",
        &["Ingress", "NetworkPolicy"],
        &["IPAddress", "IngressClass", "ServiceCIDR"],
    ),
    ("node.k8s.io", "v1", &[], &["RuntimeClass"]),
    ("policy", "v1", &["PodDisruptionBudget"], &[]),
    (
        "rbac.authorization.k8s.io",
        "v1",
        &["Role", "RoleBinding"],
        &["ClusterRole", "ClusterRoleBinding"],
    ),
    (
        "resource.k8s.io",
        "v1",
        &["ResourceClaim", "ResourceClaimTemplate"],
        &["DeviceClass", "ResourceSlice"],
    ),
    ("scheduling.k8s.io", "v1", &[], &["PriorityClass"]),
    (
        "storage.k8s.io",
        "v1",
        &["CSIStorageCapacity"],
        &[
            "CSIDriver",
            "CSINode",
            "StorageClass",
            "VolumeAttachment",
            "VolumeAttributesClass",
        ],
    ),
    ("storagemigration.k8s.io", "v1beta1", &[], &["StorageVersionMigration"]),
    ("internal.apiserver.k8s.io", "v1alpha1", &[], &["StorageVersion"]),
];

/// What lies in no namespace beside those: of Ringfence, and where the version is not settled.
const OF_CLUSTER: [(&str, &str); 3] = [
    (GROUP, "AIWorkflowClass"),
    (GROUP, "RegoPolicy"),
    ("resource.k8s.io", "DeviceTaintRule"),
];

/// The plural of a kind. Where Kubernetes does not serve the kind itself it is a guess; a CustomResourceDefinition knows better.
pub fn plural_of(group: &str, kind: &str) -> String {
    match (group, kind) {
        ("", "Endpoints") => "endpoints".to_owned(),
        _ => ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind)).plural,
    }
}

/// The version in which Kubernetes serves a kind of its own; `None` for what is none.
pub fn builtin_version(group: &str, kind: &str) -> Option<&'static str> {
    let found = BUILTIN
        .iter()
        .find(|(of, _, inside, outside)| *of == group && (inside.contains(&kind) || outside.contains(&kind)));
    found.map(|(_, version, ..)| *version)
}

/// Groups in which Kubernetes has a kind of its own by that name.
pub fn builtin_groups(kind: &str) -> impl Iterator<Item = &'static str> {
    BUILTIN
        .iter()
        .filter(move |(_, _, inside, outside)| inside.contains(&kind) || outside.contains(&kind))
        .map(|(group, ..)| *group)
}

/// Whether a kind of Kubernetes or of Ringfence lies in no namespace.
pub fn is_of_cluster(group: &str, kind: &str) -> bool {
    let of_kubernetes = BUILTIN
        .iter()
        .any(|(of, _, _, outside)| *of == group && outside.contains(&kind));
    of_kubernetes || OF_CLUSTER.contains(&(group, kind))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        Resource,
        api::{
            core::v1::{Endpoints, Namespace, Pod},
            discovery::v1::EndpointSlice,
            networking::v1::{IPAddress, Ingress, NetworkPolicy},
            policy::v1::PodDisruptionBudget,
            rbac::v1::ClusterRole,
            storage::v1::{CSIStorageCapacity, StorageClass},
        },
    };
    use rstest::rstest;

    use super::*;

    fn is_served<K: Resource>() {
        assert_eq!(plural_of(K::GROUP, K::KIND), K::URL_PATH_SEGMENT);
        assert_eq!(builtin_version(K::GROUP, K::KIND), Some(K::VERSION));
    }

    #[test]
    fn kinds_of_kubernetes_have_their_own_plurals() {
        is_served::<Pod>();
        is_served::<Namespace>();
        is_served::<Endpoints>();
        is_served::<EndpointSlice>();
        is_served::<Ingress>();
        is_served::<IPAddress>();
        is_served::<NetworkPolicy>();
        is_served::<PodDisruptionBudget>();
        is_served::<ClusterRole>();
        is_served::<StorageClass>();
        is_served::<CSIStorageCapacity>();
    }

    #[rstest]
    #[case("example.com", "Box", "boxes")]
    #[case("example.com", "Gateway", "gateways")]
    #[case("example.com", "Policy", "policies")]
    #[case("example.com", "Tenant", "tenants")]
    fn others_are_guessed(#[case] group: &str, #[case] kind: &str, #[case] plural: &str) {
        assert_eq!(plural_of(group, kind), plural);
        assert_eq!(builtin_version(group, kind), None);
    }

    #[test]
    fn a_kind_may_be_in_two_groups() {
        assert_eq!(builtin_groups("Event").collect::<Vec<_>>(), ["", "events.k8s.io"]);
        assert_eq!(builtin_groups("Tenant").count(), 0);
    }
}
