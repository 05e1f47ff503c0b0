//! `AIWorkflowGrant`: what workflows of other namespaces may do in the namespace that it lies in.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, PolicyRule};

/// Consent of the namespace that is reached into. Without one, a workflow's `crossNamespace` rules give nothing.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "ringfence.dev",
    version = "v1alpha1",
    kind = "AIWorkflowGrant",
    plural = "aiworkflowgrants",
    shortname = "aiwg",
    category = "ringfence",
    namespaced,
    derive = "PartialEq",
    status = "AIWorkflowGrantStatus",
    validation = ("self.metadata.name.size() <= 63", "metadata.name must be at most 63 characters: it is the value of a label of what the grant owns"),
    doc = "Consent of this namespace to what workflows of other namespaces may do in it. It owns the roles that are made for them: delete it, and they go.",
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status"
    ),
    printcolumn(name = "Workflows", type_ = "string", json_path = ".spec.from[*].name"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AIWorkflowGrantSpec {
    /// Workflows that may hold rights here, each by namespace and name.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into(), "name".into()]))]
    pub from: Vec<GrantedWorkflow>,
    /// The most that they may hold here. A workflow holds what it declares in `crossNamespace` and this list covers.
    #[schemars(length(min = 1, max = 16))]
    pub rules: Vec<PolicyRule>,
}

/// A workflow by namespace and name.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantedWorkflow {
    /// Namespace of the workflow.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Name of the workflow.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// What Ringfence made of a grant.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AIWorkflowGrantStatus {
    /// Generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Digests of what workflows were given here, rule by rule. Of a workflow whose declaration nobody reviewed no rule stands that is not among
    /// them. Written by Ringfence alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), inner(length(max = 32)))]
    pub given: Option<Vec<String>>,
    /// Conditions `Accepted` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
