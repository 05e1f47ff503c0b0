//! `ResolvedNames`: which addresses the declared names of a workflow have had, and when they were last seen. One for each workflow whose class
//! says `ResolvedAddresses`, made and written by Ringfence alone: it is the memory from which the workflow's policy is made, so that neither a new
//! leader nor a DNS that is away forgets an address.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Condition;

/// What of a workflow's egress by domain is resolved.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "ringfence.dev",
    version = "v1alpha1",
    kind = "ResolvedNames",
    plural = "resolvednames",
    category = "ringfence",
    namespaced,
    derive = "PartialEq",
    status = "ResolvedNamesStatus",
    doc = "Addresses that the declared names of an AIWorkflow have, as the cluster's DNS answered. Ringfence makes it, writes it and removes it: change the AIWorkflow instead.",
    printcolumn(
        name = "Workflow",
        type_ = "string",
        json_path = ".metadata.labels.ringfence\\.dev/owner"
    ),
    printcolumn(
        name = "Resolved",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Resolved\")].status"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Resolved\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedNamesSpec {
    /// Rules of the AIWorkflow that are in force and name no wildcard.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<ResolvedRule>,
}

/// One rule of `spec.network.egress` of the AIWorkflow.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedRule {
    /// Name of the rule.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Names that are resolved.
    #[schemars(length(min = 1, max = 25), inner(length(min = 1, max = 253)))]
    pub domains: Vec<String>,
    /// Ports of TCP that are opened at their addresses.
    #[schemars(length(min = 1, max = 32))]
    pub ports: Vec<ResolvedPort>,
}

/// A port of TCP, or a range of ports up to `endPort`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedPort {
    /// First port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Last port of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
}

/// What the cluster's DNS answered, and when.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedNamesStatus {
    /// Generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Condition `Resolved`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Each name with its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub names: Vec<ResolvedName>,
}

/// One name.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedName {
    /// The name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// What came of the last question for addresses of IPv4.
    pub ipv4: LookUp,
    /// What came of the last question for addresses of IPv6.
    pub ipv6: LookUp,
    /// How many of the addresses that were answered last are never opened: private, of the cluster, or of what hands out credentials.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub refused: i32,
    /// When more addresses were last answered than are kept, RFC 3339. Absent once that is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"), length(max = 64))]
    pub overflowed: Option<String>,
    /// Its addresses, those of IPv4 first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["address".into()]))]
    pub addresses: Vec<ResolvedAddress>,
}

/// An address that a name has, or has had a while ago.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedAddress {
    /// The address.
    #[schemars(length(min = 2, max = 45))]
    pub address: String,
    /// How long it was last said to hold.
    #[schemars(range(min = 0, max = 86400))]
    pub ttl_seconds: i32,
    /// When it was last answered, to a quarter of an hour, RFC 3339.
    #[schemars(extend("format" = "date-time"), length(max = 64))]
    pub last_seen: String,
}

/// What came of a question, asked of every replica of the DNS.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum LookUp {
    /// Some replica answered with addresses.
    Resolved,
    /// The name has none of this family.
    NoAddress,
    /// There is no such name.
    NoName,
    /// No replica could tell.
    Failed,
    /// Not asked: it has not come to it yet.
    #[default]
    Pending,
    /// Not asked: more names are declared, in the namespace or in all, than are looked up.
    BeyondBounds,
}

const fn is_zero(number: &i32) -> bool {
    *number == 0
}
