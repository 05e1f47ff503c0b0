//! `RegoPolicyException`: which objects of a namespace may stand although Rego policies refuse them, why, and until when.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{Condition, LabelSelector};

/// The platform's consent that some objects stand for a while against some policies. Built-in rules have no exceptions.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "ringfence.dev",
    version = "v1alpha1",
    kind = "RegoPolicyException",
    plural = "regopolicyexceptions",
    shortname = "rpx",
    category = "ringfence",
    namespaced,
    derive = "PartialEq",
    status = "RegoPolicyExceptionStatus",
    doc = "The platform's consent that some objects of this namespace stand for a while although Rego policies refuse them. Acts only where the namespace's class opens exceptions.",
    printcolumn(name = "Policies", type_ = "string", json_path = ".spec.policies"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].reason"
    ),
    printcolumn(name = "Why", type_ = "string", json_path = ".spec.reason", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.objectSelector), has(self.names)].exists_one(set, set)",
    "an exception is for exactly one of objectSelector or names",
))]
pub struct RegoPolicyExceptionSpec {
    /// Policies that do not count, by name. All that refuse an object must be named in one exception: two never add up. What a
    /// policy cannot judge is refused all the same.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub policies: Vec<String>,
    /// Objects by their own labels: a workload by `metadata.labels`, not by those of its pod template, and its pods by theirs.
    /// Whoever may launch in the namespace may set labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_selector: Option<LabelSelector>,
    /// Objects by name, with what controllers make of them: the CronJob `nightly`, its Jobs and their pods. An object goes by its
    /// own name and those of the owners above it that control it, as they are there. Names are of any kind, and whoever may
    /// launch in the namespace may take one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Option<Vec<String>>,
    /// Why, for whoever reads it later.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"\S"))]
    pub reason: String,
    /// When it ends, RFC 3339: by itself, without an edit. At most `exceptions.maxDays` of the class after the exception was
    /// made, so an edit cannot prolong it for ever: delete it and make another, which is a new consent.
    #[schemars(extend("format" = "date-time"), length(max = 64))]
    pub expires_at: String,
}

/// Whether an exception acts.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegoPolicyExceptionStatus {
    /// Generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Condition `Accepted`: whether it is in force for the strongest mode of its namespace, and if not, why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
