//! `AIWorkflowClass`: the platform's ceiling for the namespaces whose mode labels name it.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::{POSITIVE_MESSAGE, POSITIVE_RULE};
use super::{Condition, LabelSelector, Launcher, PolicyRule};

/// What the platform lets workflows declare.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "ringfence.dev",
    version = "v1alpha1",
    kind = "AIWorkflowClass",
    plural = "aiworkflowclasses",
    shortname = "aiwc",
    category = "ringfence",
    derive = "PartialEq",
    status = "AIWorkflowClassStatus",
    doc = "The platform's ceiling for the AIWorkflows of the namespaces whose mode labels name this class.",
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].message",
        priority = 1
    ),
    printcolumn(
        name = "Ranges",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"ClusterRangesKnown\")].reason"
    ),
    printcolumn(
        name = "RangesMessage",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"ClusterRangesKnown\")].message",
        priority = 1
    ),
    printcolumn(
        name = "Tenants",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"TenantsBounded\")].reason"
    ),
    printcolumn(
        name = "TenantsMessage",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"TenantsBounded\")].message",
        priority = 1
    ),
    printcolumn(
        name = "Network",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"NetworkEnforced\")].reason"
    ),
    printcolumn(
        name = "NetworkMessage",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"NetworkEnforced\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AIWorkflowClassSpec {
    /// Engines that workflows may name, each with what the platform adds to its shipped profile. `custom` needs no opening.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub engines: Vec<Engine>,
    /// Images. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ClassImages>,
    /// RBAC rules that a workflow may declare. Absent: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub permissions: Vec<PolicyRule>,
    /// RBAC rules that a workflow may declare across namespaces beyond reading what `permissions` lets it read. Absent: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub cross_namespace_permissions: Vec<PolicyRule>,
    /// Peers. Absent: the workflow's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<ClassNetwork>,
    /// Accounts and tokens. Absent: no annotations, and no tokens but for the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<ClassIdentity>,
    /// Pod Security Standard that the API server itself must enforce in each namespace, and that policies ask of pods. Absent:
    /// Restricted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_security: Option<PodSecurity>,
    /// Volumes of pods. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<ClassVolumes>,
    /// What pods may ask of nodes beyond what every pod gets. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<ClassNodes>,
    /// Annotations that pods may carry: a key, or a prefix that ends with `/`. Absent: none. What reads a pod's annotations
    /// obeys them: a second network interface comes by one (`k8s.v1.cni.cncf.io/networks`). Who may write a pod may change
    /// these while it runs: what an engine goes by belongs to its entry in `engines`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            length(min = 1, max = 317),
            regex(pattern = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")
        )
    )]
    pub pod_annotations: Vec<String>,
    /// Launchers of every workflow of the class, joined with the workflow's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub launchers: Vec<Launcher>,
    /// Windows in which people may look into running pods. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<ClassDebug>,
    /// Exceptions to Rego policies. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exceptions: Option<ClassExceptions>,
    /// Facts about the cluster. Absent: detected, or the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterFacts>,
    /// How pods reach the domains that their workflow declares. Absent: Auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<ClassEgress>,
}

/// An engine that the class opens: a shipped profile, what is added to it, or a profile of the platform's own.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// Name, as in a workflow's `spec.engine`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Rights of each workflow's own account, in its own namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub worker: Vec<PolicyRule>,
    /// Rights of each launcher that is a service account, in the workflow's namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub launcher: Vec<PolicyRule>,
    /// Repository patterns that pods may run beside their workflow's `spec.images`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 255)))]
    pub images: Vec<String>,
    /// Annotations by which the engine knows its pods: keys and prefixes, as in `podAnnotations` of the class. Pods of workflows
    /// that name the engine may carry them, and while a pod runs only launchers change them: what the engine took for
    /// another's, or for done, would run on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 1, max = 317),
            regex(pattern = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")
        )
    )]
    pub pod_annotations: Vec<String>,
}

/// Images that a workflow may declare.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassImages {
    /// Repository patterns: `*` is one path segment, `**` any number. A pod's image must match one of these and one of its
    /// workflow's.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub allowed: Vec<String>,
    /// Repository patterns of what the platform's own webhooks put into pods (Istio, Linkerd, the Vault agent): such an image
    /// needs to match neither `allowed` nor the workflow's patterns. Anybody's pod may run it, so name whole repositories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 255)))]
    pub injected: Vec<String>,
    /// Whether every image of a pod, those injected included, must end in `@sha256:` and its digest: a tag can be moved.
    #[serde(default)]
    pub require_digest: bool,
}

/// Pod Security Standard that the API server itself must enforce in each namespace, and that policies ask of pods. Absent:
/// Restricted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum PodSecurity {
    /// What is known to lead out of a container is refused.
    Baseline,
    /// And so is root, a kept capability, a container without seccomp profile.
    #[default]
    Restricted,
}

/// Volumes that pods may have.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.csiDrivers) || self.csiDrivers.size() == 0 || (has(self.types) && self.types.exists(type, type == 'csi'))",
    "csiDrivers open nothing without the type csi: add csi to types",
))]
pub struct ClassVolumes {
    /// Types, by the field that a pod's volume has: `configMap`, `secret`, `emptyDir`, `projected`, `downwardAPI`,
    /// `persistentVolumeClaim`, `ephemeral`, `csi`, `image`. Some dial out from the node, past every NetworkPolicy: `nfs`,
    /// `iscsi`, `rbd`, `cephfs` and CSI drivers for file shares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 64), regex(pattern = "^[A-Za-z]+$")))]
    pub types: Vec<String>,
    /// CSI drivers that a volume of type `csi` may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))
    )]
    pub csi_drivers: Vec<String>,
}

/// What pods may ask of nodes. No NetworkPolicy stands between a pod and its own node, so it matters which one that is.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassNodes {
    /// RuntimeClasses that a pod may name in `runtimeClassName`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))
    )]
    pub runtime_classes: Vec<String>,
    /// Keys of taints that a pod may tolerate, such as `nvidia.com/gpu`, beside those of Kubernetes' own conditions
    /// (`node.kubernetes.io/`), `node.kubernetes.io/network-unavailable` excepted. Whole keys: with one of the control plane, pods run beside the API server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(
            length(min = 1, max = 317),
            regex(pattern = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
        )
    )]
    pub taints: Vec<String>,
}

/// What a workflow may say of its account.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassIdentity {
    /// Annotation keys that an account may carry: they are rights in a cloud. Whole keys, such as
    /// `eks.amazonaws.com/role-arn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 317)))]
    pub annotations: Vec<String>,
    /// Audiences other than the API server that workflows may declare tokens for, word for word, such as `vault`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub audiences: Vec<String>,
    /// Longest life of a token that a pod mounts, in seconds. Default: 3600. The token that the API server adds by itself
    /// (`automountServiceAccountToken`) asks for 3607 and counts as 3600; most API servers then accept it for up to a year, as
    /// long as its pod is there. Less than 3600 refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 600, max = 86400))]
    pub max_token_seconds: Option<i64>,
}

/// Windows that a workflow may declare in `spec.debug`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassDebug {
    /// How many hours ahead a window may close, seen from whoever uses it. A week at the most.
    #[schemars(range(min = 1, max = 168))]
    pub max_hours: i32,
}

/// Where `RegoPolicyException`s count, and for how long.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassExceptions {
    /// Namespaces whose exceptions count.
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    pub namespaces: Vec<String>,
    /// How many days after it was made an exception may end. A year at the most.
    #[schemars(range(min = 1, max = 366))]
    pub max_days: i32,
}

/// Peers that a workflow may declare.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassNetwork {
    /// Address ranges that a declared range must lie in. Empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 49)))]
    pub cidrs: Vec<String>,
    /// Namespaces, beside the workflow's own, whose pods and workflows may be peers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
    /// Domains that workflows may declare: a name, `*.example.com` for every name below it and every such pattern, or `*` for any. Empty:
    /// none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            length(min = 1, max = 253),
            regex(pattern = r"^(\*|(\*\.)?[a-z0-9_]([-a-z0-9_.]*[a-z0-9_])?)$")
        )
    )]
    pub domains: Vec<String>,
}

/// How pods reach the domains that their workflow declares.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.backend) || self.backend != 'ClusterNetworkPolicy' || has(self.clusterNetworkPolicy)",
    "a ClusterNetworkPolicy has a place among the platform's own: say clusterNetworkPolicy.priority",
))]
pub struct ClassEgress {
    /// By what. One that is named and is not there is replaced by no other: domains stay closed, and workflows say so. Default: Auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendChoice>,
    /// The ClusterNetworkPolicies of workflows. Counts with that backend alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_network_policy: Option<ClusterNetworkPolicyPlace>,
}

/// The place of workflows' ClusterNetworkPolicies among the platform's own in tier Admin.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetworkPolicyPlace {
    /// Priority, one that no other policy of the tier has: those with a lower number overrule them, and those with a higher one are overruled
    /// for what workflows declare.
    #[schemars(range(min = 0, max = 1000))]
    pub priority: i32,
}

/// By what pods reach declared domains.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum BackendChoice {
    /// The egress proxy where the chart installs it, else Cilium where it is served and the chart lets Ringfence write its policies.
    #[default]
    Auto,
    /// The egress proxy: pods reach it alone, and it looks names up.
    Proxy,
    /// CiliumNetworkPolicies: pods ask the cluster's DNS for declared names and those of the cluster alone, and reach what it answers.
    Cilium,
    /// Plain NetworkPolicies of the addresses that Ringfence resolves declared names to. Best effort, never chosen by Auto: pods may be answered
    /// with others, wildcards stay closed, and data can leave by DNS.
    ResolvedAddresses,
    /// ClusterNetworkPolicies (`policy.networking.k8s.io/v1alpha2`, of its experimental channel), which go before every NetworkPolicy; in enforced
    /// namespaces alone, never chosen by Auto. Data can leave by DNS.
    ClusterNetworkPolicy,
}

/// Where the cluster's own services are.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFacts {
    /// The cluster's DNS, and whether workflows reach it. Default: they do, as pods `k8s-app: kube-dns` in `kube-system` and where NodeLocal
    /// DNS listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsAddress>,
    /// The API server. Default: what the `kubernetes` Service and its EndpointSlices in `default` say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<ApiServerAddress>,
    /// Ranges of the cluster's pods, Services and nodes, all of them: carved out of every range that a workflow declares. Replaces
    /// what is detected. Default: what ServiceCIDRs and Nodes say, in `status.cluster`; needed where the network plugin hands out
    /// pod addresses of its own pools.
    #[serde(default, rename = "clusterCIDRs", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), inner(length(min = 1, max = 49)))]
    pub cluster_cidrs: Option<Vec<String>>,
}

/// The cluster's DNS, by pods, by address (NodeLocal DNS is 169.254.20.10/32), or both. UDP and TCP 53. Or none.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.mode) || has(self.selector) || has(self.cidrs)", "dns needs a mode, a selector or cidrs"),
    validation = ("has(self.namespace) == has(self.selector)", "namespace and selector go together"),
    validation = ("!has(self.mode) || self.mode == 'Cluster' || !(has(self.selector) || has(self.cidrs))", "with mode None no DNS is reached, and with ClusterOnly the egress proxy alone: leave namespace, selector and cidrs out"),
)]
pub struct DnsAddress {
    /// `Cluster`: every workflow's pods reach the DNS. `None`: no pod does, so that no name carries data out; pods reach domains by an egress
    /// proxy that they name by its address, and Services by `spec.hostAliases` or their addresses. `ClusterOnly`: pods ask the egress proxy,
    /// which passes on names of the cluster and knows no others; they name it in `spec.dnsConfig`, at an address of `status.dns`. Default:
    /// Cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<DnsMode>,
    /// Namespace of the DNS pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Labels of the DNS pods, one at least that they have (matchLabels, In, Exists).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = (POSITIVE_RULE, POSITIVE_MESSAGE))]
    pub selector: Option<LabelSelector>,
    /// Address ranges of the DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 49)))]
    pub cidrs: Option<Vec<String>>,
}

/// Whether workflows reach a DNS.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DnsMode {
    /// That of the cluster.
    #[default]
    Cluster,
    /// None at all.
    None,
    /// The egress proxy, for names of the cluster.
    ClusterOnly,
}

/// The API server as pods reach it.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiServerAddress {
    /// Address ranges.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 49)))]
    pub cidrs: Vec<String>,
    /// TCP ports.
    #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<i32>,
}

/// Most domains, beside the cluster's own, below which names are its.
pub const MAX_CLUSTER_DOMAINS: usize = 8;

/// What Ringfence makes of a class.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AIWorkflowClassStatus {
    /// Generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What was detected of the cluster. Absent: not yet, or not to be detected; the condition says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterStatus>,
    /// Ranges of Services, pods and nodes as they were detected last, while `cluster` is absent: no declared domain leads there, and they
    /// open nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512), inner(length(max = 49)))]
    pub last_known_ranges: Vec<String>,
    /// Addresses of the API server, as ranges of one: no declared domain leads there. Absent: not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 49)))]
    pub api_server: Vec<String>,
    /// Domain below which the cluster's names are. Absent: `cluster.local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub cluster_domain: Option<String>,
    /// Domains beside it below which names are the cluster's, such as `clusterset.local`: none of them is a domain to declare.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_CLUSTER_DOMAINS), inner(length(max = 253)))]
    pub cluster_domains: Vec<String>,
    /// Where pods ask for names, with `spec.cluster.dns.mode: ClusterOnly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsStatus>,
    /// Conditions `Accepted`, `ClusterRangesKnown`, `TenantsBounded` and `NetworkEnforced`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Where pods ask for names.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsStatus {
    /// Addresses of the egress proxy's Service. Empty: there is none.
    #[serde(default)]
    #[schemars(length(max = 2), inner(length(max = 45)))]
    pub addresses: Vec<String>,
}

/// What was detected of the cluster.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Ranges of Services, pods and nodes, joined and sorted.
    #[serde(default)]
    #[schemars(length(max = 512), inner(length(max = 49)))]
    pub ranges: Vec<String>,
}
