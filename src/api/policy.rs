//! `RegoPolicy`: a policy that the platform brings, what it is asked about, and what its refusals do.

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Condition, LabelSelector, Mode};

/// A policy in Rego, matched in the words of a ValidatingAdmissionPolicy.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "ringfence.dev",
    version = "v1alpha1",
    kind = "RegoPolicy",
    plural = "regopolicies",
    category = "ringfence",
    derive = "PartialEq",
    status = "RegoPolicyStatus",
    doc = "A policy in Rego, matched in the words of a ValidatingAdmissionPolicy. It is vetted when it is written, and in force once Compiled and Enforced are True.",
    printcolumn(name = "Actions", type_ = "string", json_path = ".spec.validationActions"),
    printcolumn(name = "OnError", type_ = "string", json_path = ".spec.failurePolicy"),
    printcolumn(
        name = "Compiled",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Compiled\")].status"
    ),
    printcolumn(
        name = "Enforced",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Enforced\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Enforced\")].reason"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Compiled\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!('Deny' in self.validationActions && 'Warn' in self.validationActions)",
    "validationActions cannot hold both Deny and Warn: a refusal says all that a warning would",
))]
pub struct RegoPolicySpec {
    /// What it demands and why, for whoever is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub description: Option<String>,
    /// What the author of a refused object should do, where a finding does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub remediation: Option<String>,
    /// What a refusal of the policy does: `Deny` refuses the request, `Warn` warns the caller, `Audit` only logs and counts, and costs
    /// the caller nothing. In a namespace with mode labels the weaker of this and its strongest mode counts.
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub validation_actions: Vec<ValidationAction>,
    /// What it means that the policy gives no verdict: an error, a time-out, data that is not there yet. `Fail`: a refusal, which does
    /// what validationActions say; `Ignore`: nothing, but where there was no room for the request, or who sent it brought it about by its
    /// size or by how much they send.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// Which requests it is asked about.
    pub match_constraints: MatchConstraints,
    /// `Expand`: where it is asked about the creation of pods, it is also asked about the pod templates of Deployments, ReplicaSets,
    /// StatefulSets, DaemonSets, ReplicationControllers, Jobs, CronJobs and PodTemplates, each as the Pod that would come of it.
    #[serde(default)]
    pub templates: Templates,
    /// What the policy sees as `input.parameters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form")]
    pub parameters: Option<Map<String, Value>>,
    /// JSON Schema (draft 2020-12) that `parameters` must fulfil. References to other documents are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form")]
    pub parameters_schema: Option<Map<String, Value>>,
    /// Kinds whose objects the policy sees as `data.inventory`, in Gatekeeper's shape. Ringfence watches these and no others, and
    /// its account must be allowed to (ClusterRole label `ringfence.dev/aggregate-to-inventory`). Until all are synced the policy
    /// gives no verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub inventory: Vec<InventoryKind>,
    /// Requests that the policy is tried on before it is trusted: a wrong verdict on one is an error of the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub samples: Vec<PolicySample>,
    /// The policy itself.
    pub rego: Rego,
}

/// What a refusal of a policy does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum ValidationAction {
    /// It is logged and counted.
    Audit,
    /// The caller is warned.
    Warn,
    /// The request is refused.
    Deny,
}

impl ValidationAction {
    /// The word in the object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "Audit",
            Self::Warn => "Warn",
            Self::Deny => "Deny",
        }
    }

    /// The weaker of a policy's action and the namespace's strongest mode; without one, as it is written.
    #[must_use]
    pub fn under(self, mode: Option<Mode>) -> Self {
        self.min(match mode {
            None | Some(Mode::Enforce) => Self::Deny,
            Some(Mode::Warn) => Self::Warn,
            Some(Mode::Audit) => Self::Audit,
        })
    }
}

/// What it means that a policy gives no verdict.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum FailurePolicy {
    /// It is a refusal.
    #[default]
    Fail,
    /// It is nothing, but logged and counted.
    Ignore,
}

impl FailurePolicy {
    /// The word in the object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "Fail",
            Self::Ignore => "Ignore",
        }
    }
}

/// Whether pod templates of workloads are judged too.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Templates {
    /// Only what is matched.
    #[default]
    Ignore,
    /// Templates of what makes pods, where pods are matched.
    Expand,
}

/// Which requests a policy is asked about: what any of `resourceRules` matches and none of `excludeResourceRules`, where both
/// selectors match. Objects of `kube-system`, `kube-node-lease`, `kube-public` and Ringfence's own namespace are never asked about,
/// nor are Nodes, Events, Leases, reviews of the authentication and authorization APIs, and Ringfence's own kinds.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MatchConstraints {
    /// Requests that are matched.
    #[schemars(length(min = 1, max = 16))]
    pub resource_rules: Vec<MatchRule>,
    /// Requests that are not, whatever `resourceRules` say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub exclude_resource_rules: Vec<MatchRule>,
    /// Namespaces by their labels; a Namespace is selected by its own. Absent: all. Objects that lie in no namespace are always
    /// selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Objects by their labels, as they are or as they were. Absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_selector: Option<LabelSelector>,
    /// Whether a request for another version of a matched resource is matched too, converted to the version that the rule names.
    #[serde(default)]
    pub match_policy: MatchPolicy,
}

/// Requests by operation and resource. A request is matched where each list names it.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!('*' in self.apiGroups) || self.apiGroups.size() == 1", "'*' must be the only one of apiGroups"),
    validation = ("!('*' in self.apiVersions) || self.apiVersions.size() == 1", "'*' must be the only one of apiVersions"),
    validation = ("!('*' in self.operations) || self.operations.size() == 1", "'*' must be the only one of operations"),
    validation = ("!('*/*' in self.resources) || self.resources.size() == 1", "'*/*' must be the only one of resources"),
)]
pub struct MatchRule {
    /// API groups; the empty string is the core group, `*` every group.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 253), regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"))
    )]
    pub api_groups: Vec<String>,
    /// Versions; `*` is every version.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 63), regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$"))
    )]
    pub api_versions: Vec<String>,
    /// Resources and subresources in the plural: `pods`, `pods/log`, `pods/*`, `*/scale`; `*` is every resource without its
    /// subresources, `*/*` with them.
    #[schemars(
        length(min = 1, max = 32),
        inner(
            length(max = 128),
            regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9.]*[a-z0-9])?)(/(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?))?$")
        )
    )]
    pub resources: Vec<String>,
    /// What is done.
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub operations: Vec<MatchOperation>,
    /// Objects of namespaces, of the cluster, or both.
    #[serde(default)]
    pub scope: MatchScope,
    /// Names that the rule is narrowed to. Absent: every name. An object whose name the API server has yet to make has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub resource_names: Vec<String>,
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum MatchOperation {
    /// Whatever is done.
    #[serde(rename = "*")]
    All,
    /// Something is opened on it.
    #[serde(rename = "CONNECT")]
    Connect,
    /// It is made.
    #[serde(rename = "CREATE")]
    Create,
    /// It is removed.
    #[serde(rename = "DELETE")]
    Delete,
    /// It is changed.
    #[serde(rename = "UPDATE")]
    Update,
}

/// Where a matched object lies.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum MatchScope {
    /// Anywhere.
    #[default]
    #[serde(rename = "*")]
    All,
    /// In no namespace.
    Cluster,
    /// In a namespace.
    Namespaced,
}

/// Whether requests for other versions of a resource are matched.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum MatchPolicy {
    /// They are, converted.
    #[default]
    Equivalent,
    /// They are not.
    Exact,
}

/// A kind whose objects a policy looks at beside the request.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InventoryKind {
    /// API group; the empty string is the core group.
    #[serde(default)]
    #[schemars(length(max = 253), regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"))]
    pub group: String,
    /// Version.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub version: String,
    /// Kind, such as `Ingress`. Secrets are never read.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z][A-Za-z0-9]*$"))]
    pub kind: String,
    /// Fields that the policy looks at, such as `spec.rules`; a list on the way is looked into element by element. Beside them an
    /// object keeps its apiVersion, kind, name, namespace and labels.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub fields: Vec<String>,
}

/// A request with the verdict that the policy must give.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.input), has(self.object)].exists_one(set, set)",
    "a sample is exactly one of input or object",
))]
pub struct PolicySample {
    /// What it shows, such as `a pod without an owner is refused`.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// The verdict: `Deny` where anything refuses, else `Warn` where anything warns, else `Allow`.
    pub expect: Verdict,
    /// What the policy sees, whole: `{request: …, namespace: …}`. `review` and `parameters` are filled in where they are absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form")]
    pub input: Option<Map<String, Value>>,
    /// An object that is created, instead of the whole input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form")]
    pub object: Option<Map<String, Value>>,
    /// What the policy sees as `data.inventory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_form")]
    pub inventory: Option<Map<String, Value>>,
}

/// What a policy says of a sample.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Verdict {
    /// Nothing refuses and nothing warns.
    Allow,
    /// Something refuses.
    Deny,
    /// Nothing refuses and something warns.
    Warn,
}

/// The text of a policy.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rego {
    /// Version of the language.
    #[serde(default)]
    pub version: RegoVersion,
    /// Its files. The package of the first gives the verdict; others may add to it, or be packages of their own that it uses. All of
    /// them together are at most 256 KiB.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub modules: Vec<RegoModule>,
}

/// Version of the language.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum RegoVersion {
    /// Before OPA 1.0: no `if` and `contains` needed.
    V0,
    /// OPA 1.0.
    #[default]
    V1,
}

/// One file of a policy.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegoModule {
    /// Its name in errors, such as `policy.rego`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9][-A-Za-z0-9_.]*$"))]
    pub name: String,
    /// Its text.
    #[schemars(length(min = 1, max = 262_144))]
    pub source: String,
}

/// Whether a policy acts.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegoPolicyStatus {
    /// Generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Condition `Compiled`: whether this generation was vetted and is what decides; where not, what is wrong, and what decides instead.
    /// Condition `Enforced`: whether the API server asks about all that it matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

fn free_form(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
