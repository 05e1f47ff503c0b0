//! Small shapes that several kinds use. Every list and string is bounded, because CEL's cost budget counts the bounds.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may create a workflow's objects or change their pod templates. Exactly one field is set.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("[has(self.serviceAccount), has(self.user), has(self.group)].exists_one(set, set)", "a launcher is exactly one of serviceAccount, user or group"),
    validation = ("!has(self.user) || !self.user.startsWith('system:')", "a launcher's user must not start with 'system:'; name a service account by serviceAccount"),
    validation = ("!has(self.group) || !self.group.startsWith('system:')", "a launcher's group must not start with 'system:': such groups hold everybody"),
)]
pub struct Launcher {
    /// A service account. Counts only with the live account's UID and a credential ID, so an impersonated request does not. Name
    /// one that is there: an AIWorkflow of another namespace that declares one that is not is held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountRef>,
    /// A user name, as the API server's authenticator gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub user: Option<String>,
    /// A group of users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub group: Option<String>,
}

/// A service account by namespace and name.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// Namespace of the account.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Name of the account.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One RBAC rule. Wildcards are refused, and `resourceNames` never goes with a verb that RBAC cannot narrow by name.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!self.apiGroups.exists(group, group.contains('*'))", "apiGroups must be named one by one: '*' is refused"),
    validation = ("!self.resources.exists(resource, resource.contains('*'))", "resources must be named one by one: '*' is refused"),
    validation = ("!self.verbs.exists(verb, verb.contains('*'))", "verbs must be named one by one: '*' is refused"),
    validation = ("!has(self.resourceNames) || self.resourceNames.size() == 0 || !self.verbs.exists(verb, verb in ['create', 'list', 'watch', 'deletecollection'])", "resourceNames cannot narrow create, list, watch or deletecollection: write these verbs as a rule of their own"),
)]
pub struct PolicyRule {
    /// API groups; the empty string is the core group.
    #[schemars(length(min = 1, max = 16), inner(length(max = 253)))]
    pub api_groups: Vec<String>,
    /// Resources and subresources, in the plural: `configmaps`, `pods/log`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 128)))]
    pub resources: Vec<String>,
    /// Names that the rule is narrowed to. Absent: every name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    pub resource_names: Vec<String>,
    /// Verbs: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 32)))]
    pub verbs: Vec<String>,
}

/// On a selector of pods: what it only says of labels that pods must not have names every other pod, and those to come. What is empty
/// is another rule's.
pub(super) const POSITIVE_RULE: &str = "!has(self.matchExpressions) || self.matchExpressions.size() == 0 || (has(self.matchLabels) && self.matchLabels.size() > 0) || self.matchExpressions.exists(term, term.operator in ['In', 'Exists'])";
/// What is said of one.
pub(super) const POSITIVE_MESSAGE: &str = "a selector of pods names a label that they have, by matchLabels, In or Exists: DoesNotExist and NotIn alone would name every other pod";

/// A label selector that selects something: an empty one is refused, because empty never means all.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "(has(self.matchLabels) && self.matchLabels.size() > 0) || (has(self.matchExpressions) && self.matchExpressions.size() > 0)",
    "a selector needs matchLabels or matchExpressions: empty never means all",
))]
pub struct LabelSelector {
    /// Labels that must be there with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements that must all hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// Label key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How the label's value relates to `values`.
    pub operator: SelectorOperator,
    /// Values; none for `Exists` and `DoesNotExist`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// Operator of a [`Requirement`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum SelectorOperator {
    /// The label is absent.
    DoesNotExist,
    /// The label is there, whatever its value.
    Exists,
    /// The label's value is one of `values`.
    In,
    /// The label is absent or its value is none of `values`.
    NotIn,
}
