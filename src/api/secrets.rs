//! `spec.secrets` of an `AIWorkflow`: the Secrets that its pods may take something from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DataFlow;

/// One declared Secret, or some of its keys.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredSecret {
    /// Name of the entry, unique in its list.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The Secret.
    pub secret_ref: SecretReference,
    /// What flows here, for the data-flow map. Describes; opens and closes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataFlow>,
}

/// A Secret of the workflow's own namespace.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// Name of the Secret. It need not be there yet.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Keys that pods may take, one by one: no `envFrom`, no volume without `items`. Several entries may name keys of one Secret.
    /// Absent: the whole Secret, keys that are added to it later included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub keys: Option<Vec<String>>,
}
