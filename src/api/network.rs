//! `spec.network` of an `AIWorkflow`: the peers that it may reach and that may reach it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LabelSelector;
use super::shared::{POSITIVE_MESSAGE, POSITIVE_RULE};

/// Declared peers. What is not declared is closed: without ingress nobody reaches the pods, without egress they reach nothing but the
/// cluster's DNS.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Who may reach the workflow's pods. Absent: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ingress: Vec<IngressRule>,
    /// What the workflow's pods may reach, beside the cluster's DNS. Absent: nothing but the DNS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub egress: Vec<EgressRule>,
}

/// One declared source.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressRule {
    /// Name of the rule, unique in its list.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The source.
    pub from: IngressPeer,
    /// Ports of the workflow's own pods.
    #[schemars(length(min = 1, max = 32))]
    pub ports: Vec<Port>,
    /// What flows here, for the data-flow map. Describes; opens and closes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataFlow>,
}

/// One declared destination.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.to.apiServer) || (has(self.ports) && self.ports.size() > 0)", "ports are required: empty never means all"),
    validation = ("!has(self.to.apiServer) || !has(self.ports) || self.ports.size() == 0", "ports of the API server are known: leave them out"),
    validation = ("!has(self.to.domains) || !has(self.ports) || self.ports.all(port, !has(port.protocol) || port.protocol == 'TCP')", "domains are reached through the egress proxy, by TCP alone: leave protocol out"),
)]
pub struct EgressRule {
    /// Name of the rule, unique in its list.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The destination.
    pub to: EgressPeer,
    /// Ports of the destination; required except for `apiServer`, whose ports are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub ports: Vec<Port>,
    /// What flows here, for the data-flow map. Describes; opens and closes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataFlow>,
}

/// Exactly one of pods, workflow or cidrs.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("[has(self.pods), has(self.workflow), has(self.cidrs)].exists_one(set, set)", "a source is exactly one of pods, workflow or cidrs"),
    validation = ("!has(self.except) || has(self.cidrs)", "except of a source narrows cidrs: it needs them"),
)]
pub struct IngressPeer {
    /// Pods by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodPeer>,
    /// The pods of another workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowPeer>,
    /// Address ranges, at least one. The cluster's own pods, Services and nodes are always excepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 49)))]
    pub cidrs: Option<Vec<String>>,
    /// Ranges inside `cidrs` that stay closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 49)))]
    pub except: Option<Vec<String>>,
}

/// Exactly one of pods, workflow, cidrs, apiServer or domains.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("[has(self.pods), has(self.workflow), has(self.cidrs), has(self.apiServer), has(self.domains)].exists_one(set, set)", "a destination is exactly one of pods, workflow, cidrs, apiServer or domains"),
    validation = ("!has(self.except) || has(self.cidrs)", "except of a destination narrows cidrs: it needs them"),
)]
pub struct EgressPeer {
    /// Pods by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodPeer>,
    /// The pods of another workflow. Opens nothing that the other one's ingress does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowPeer>,
    /// Address ranges, at least one. Metadata services and the cluster's own pods, Services and nodes are always excepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 49)))]
    pub cidrs: Option<Vec<String>>,
    /// Ranges inside `cidrs` that stay closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 49)))]
    pub except: Option<Vec<String>>,
    /// The cluster's API server, wherever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server: Option<Empty>,
    /// Domains of the world outside, such as `api.example.com`, or `*.example.com` for every name below it. Reached through the egress proxy,
    /// which pods name by `HTTPS_PROXY` and `HTTP_PROXY`, and by nothing else; by TCP alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 25),
        inner(
            length(min = 1, max = 253),
            regex(pattern = r"^(\*\.)?[a-z0-9_]([-a-z0-9_.]*[a-z0-9_])?$")
        )
    )]
    pub domains: Option<Vec<String>>,
}

/// Pods of one namespace by label.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodPeer {
    /// Namespace of the pods. Default: the workflow's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Which pods there, by a label at least that they have (matchLabels, In, Exists): DoesNotExist and NotIn only narrow.
    #[x_kube(validation = (POSITIVE_RULE, POSITIVE_MESSAGE))]
    pub selector: LabelSelector,
}

/// Another workflow.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowPeer {
    /// Namespace of the workflow. Default: the workflow's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Name of the workflow.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// An object without fields, for a member of a union that needs none today.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Empty {}

/// A port, or a range of ports up to `endPort`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.endPort) || self.endPort >= self.port", "endPort must not be less than port"))]
pub struct Port {
    /// First port, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Last port of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub end_port: Option<i32>,
    /// Protocol. Default: TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Protocol {
    /// Stream Control Transmission Protocol.
    SCTP,
    /// Transmission Control Protocol.
    TCP,
    /// User Datagram Protocol.
    UDP,
}

/// What flows to or from a peer. The map of data flows is the fence itself: these words only describe its gates.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataFlow {
    /// The system at the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub system: Option<String>,
    /// How the data is classified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classification: Option<Classification>,
    /// Whether it holds personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal: Option<bool>,
    /// Why it flows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub purpose: Option<String>,
}

/// Classes of data, the least sensitive first.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Classification {
    /// May be known by anybody.
    Public,
    /// For the organisation.
    Internal,
    /// For those who need it.
    Confidential,
    /// For few, named.
    Restricted,
}
