//! `AIWorkflow`: who a workflow is, what it may touch and where it may talk.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, DeclaredSecret, Launcher, Network, PolicyRule};

/// Longest name of an `AIWorkflow`, in characters: the names of what it owns are built from it, and it is a label's value.
pub const MAX_WORKFLOW_NAME: usize = 40;

/// The declaration of one secured AI workflow.
#[derive(Clone, CustomResource, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "ringfence.dev",
    version = "v1alpha1",
    kind = "AIWorkflow",
    plural = "aiworkflows",
    shortname = "aiw",
    category = "ringfence",
    namespaced,
    derive = "PartialEq",
    status = "AIWorkflowStatus",
    doc = "A secured AI workflow: its identity, its rights, its network and who may launch it. Ringfence makes the fence from it and keeps it true.",
    printcolumn(name = "Engine", type_ = "string", json_path = ".status.engine"),
    printcolumn(name = "Account", type_ = "string", json_path = ".status.serviceAccount.name"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".status.mode"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = ("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", "metadata.name must be a DNS label of at most 40 characters"),
    validation = ("(has(self.spec.identity) && has(self.spec.identity.serviceAccountName) ? self.spec.identity.serviceAccountName : self.metadata.name) != 'default'", "the service account must not be 'default': every pod that names no account runs as it"),
    validation = ("(has(self.spec.identity) && has(self.spec.identity.serviceAccountName) ? self.spec.identity.serviceAccountName : self.metadata.name) == (has(oldSelf.spec.identity) && has(oldSelf.spec.identity.serviceAccountName) ? oldSelf.spec.identity.serviceAccountName : oldSelf.metadata.name)", "identity.serviceAccountName is immutable: delete the AIWorkflow and create it again"),
    validation = ("!has(self.spec.secrets) || self.spec.secrets.all(one, has(one.secretRef.keys) || self.spec.secrets.exists_one(other, other.secretRef.name == one.secretRef.name))", "a Secret that is declared whole is declared once: give each of its entries keys, or leave one entry"),
)]
#[serde(rename_all = "camelCase")]
pub struct AIWorkflowSpec {
    /// Engine that runs the workflow, by the name of a profile. Default: `custom`, which gives nothing beside what is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub engine: Option<String>,
    /// Who answers for the workflow. Describes; grants nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// Who may create the workflow's objects or change their pod templates, joined with the class's launchers. Nobody is a
    /// launcher by right, cluster administrators included.
    #[schemars(length(max = 32))]
    pub launchers: Vec<Launcher>,
    /// The workflow's service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Image repositories that the pods may run: `*` is one path segment, `**` any number. Tags and digests do not count.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 255)))]
    pub images: Vec<String>,
    /// What the service account may do at the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
    /// Every Secret that the pods may take something from: by environment, volume or driver. What is not declared may not be
    /// referred to, be it there or not. Absent: none. Secrets by which images are pulled are declared in `identity`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub secrets: Vec<DeclaredSecret>,
    /// Where the pods may talk. Absent: nobody reaches them, and they reach nothing but the cluster's DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// What people may open into running pods, and until when. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<DebugWindow>,
}

impl AIWorkflow {
    /// By what its pods reach the domains that it declares, as its status says.
    pub fn egress_backend(&self) -> Option<Backend> {
        self.status.as_ref()?.egress.map(|egress| egress.backend)
    }

    /// Name of the service account that the workflow's pods run as.
    pub fn service_account_name(&self) -> &str {
        let declared = self
            .spec
            .identity
            .as_ref()
            .and_then(|identity| identity.service_account_name.as_deref());
        declared.or(self.metadata.name.as_deref()).unwrap_or_default()
    }

    /// Declared rights in other namespaces.
    pub fn cross_namespace(&self) -> &[CrossNamespace] {
        self.spec
            .permissions
            .as_ref()
            .map_or(&[], |permissions| &permissions.cross_namespace)
    }

    /// Declared RBAC rules.
    pub fn rules(&self) -> &[PolicyRule] {
        self.spec
            .permissions
            .as_ref()
            .map_or(&[], |permissions| &permissions.rules)
    }
}

/// A window in time in which people may look into running pods. RBAC says who; the class says for how long.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DebugWindow {
    /// What may be opened.
    #[schemars(length(min = 1, max = 4))]
    pub allow: Vec<DebugAction>,
    /// When the window closes, RFC 3339. It is open while this lies ahead, and no further ahead than `debug.maxHours` of the
    /// class: a window cannot be declared for ever. What was opened stays open until it is closed by hand.
    #[schemars(extend("format" = "date-time"), length(max = 64))]
    pub until: String,
}

/// A way into a running pod.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DebugAction {
    /// The streams of a process that runs: `kubectl attach`.
    Attach,
    /// A container beside those that run, of an image that the workflow may run: `kubectl debug`.
    EphemeralContainers,
    /// A new process in a container: `kubectl exec`, `kubectl cp`.
    Exec,
    /// A port of the pod, past its NetworkPolicy: `kubectl port-forward`.
    PortForward,
}

impl DebugAction {
    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attach => "Attach",
            Self::EphemeralContainers => "EphemeralContainers",
            Self::Exec => "Exec",
            Self::PortForward => "PortForward",
        }
    }
}

/// Who answers for a workflow.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Team.
    #[schemars(length(min = 1, max = 63))]
    pub team: String,
    /// Where the team is reached: an address, a channel, a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub contact: Option<String>,
}

/// The workflow's service account.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Name of the service account that Ringfence makes. Default: the name of the AIWorkflow. Immutable, never `default`,
    /// never shared with another AIWorkflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,
    /// Tokens that pods may mount for others than the API server, by audience. Each must be allowed by the class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["audience".into()]))]
    pub audiences: Vec<Audience>,
    /// Annotations of the account by which a cloud knows it (IRSA, GKE, Azure). Each key must be allowed by the class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub annotations: BTreeMap<String, String>,
    /// Secrets of the namespace by which the account's pods pull images: no pod may name another one in `imagePullSecrets`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<SecretName>,
}

/// Whom a mounted token is for.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Audience {
    /// As the one who takes the token calls itself, such as `vault`.
    #[schemars(length(min = 1, max = 253))]
    pub audience: String,
    /// Longest life of such a token, in seconds. Default: 3600, or what the class allows where that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 600, max = 86400))]
    pub max_expiration_seconds: Option<i64>,
}

/// A Secret of the workflow's namespace, by name.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// Name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What the service account may do, each right declared.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Permissions {
    /// Rules of the one Role in the workflow's own namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub rules: Vec<PolicyRule>,
    /// Rights in other namespaces, each effective only with an `AIWorkflowGrant` there that covers it. Read verbs, unless the
    /// class opens more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["namespace".into()]))]
    pub cross_namespace: Vec<CrossNamespace>,
}

/// Rights in one other namespace.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CrossNamespace {
    /// The other namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Rules of the Role there.
    #[schemars(length(min = 1, max = 16))]
    pub rules: Vec<PolicyRule>,
}

/// What Ringfence last saw and did.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AIWorkflowStatus {
    /// Generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Engine whose profile is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub engine: Option<String>,
    /// Mode of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The service account that Ringfence made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountStatus>,
    /// The last generation that counted as reviewed. Written by Ringfence alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewed: Option<Reviewed>,
    /// Rules that the service account holds by its Role: those of the engine's profile, then those declared, then a launcher's
    /// where it launches itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 96))]
    pub effective_rules: Vec<PolicyRule>,
    /// Rules that each launcher that is a service account of its own holds in this namespace by the engine's profile, and not the
    /// workflow's pods. Absent: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub launcher_rules: Vec<PolicyRule>,
    /// Digests of all else that the declaration gives: of each rule of a NetworkPolicy, each domain, each launcher that holds rights here, and
    /// each annotation and pull secret of the account. Of a generation that nobody reviewed none stands that is not among them. Written by
    /// Ringfence alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), inner(length(max = 32)))]
    pub given: Option<Vec<String>>,
    /// How its pods reach the domains that it declares. Absent: none is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<EgressStatus>,
    /// Its pods that would be refused if they were made today, from the last scan. Absent: none, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub non_compliant: Option<NonCompliant>,
    /// Conditions `Accepted`, `ResolvedRefs`, `Programmed`, `Compliant` and, over them all, `Ready`; and beside them `DnsExfiltration`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Most digests in `given`.
pub const MAX_GIVEN: usize = 512;

/// How pods reach declared domains.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressStatus {
    /// By what, as the class and the cluster have it. Whether it is there, condition `Programmed` says.
    pub backend: Backend,
}

/// By what pods reach declared domains.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Backend {
    /// The egress proxy.
    Proxy,
    /// A CiliumNetworkPolicy.
    Cilium,
    /// A NetworkPolicy of the addresses in its ResolvedNames.
    ResolvedAddresses,
    /// A ClusterNetworkPolicy.
    ClusterNetworkPolicy,
}

/// The strongest mode that a namespace carries.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Mode {
    /// Decisions are logged and counted.
    Audit,
    /// Decisions are warnings to the caller.
    Warn,
    /// Decisions are refusals.
    Enforce,
}

/// A generation that was written under the eyes of the webhook, or that an administrator has acknowledged.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reviewed {
    /// `metadata.generation`.
    pub generation: i64,
    /// UID of the ValidatingWebhookConfiguration that stood then: while it is today's, every later generation was reviewed too.
    #[serde(rename = "registrationUID")]
    #[schemars(length(max = 64))]
    pub registration_uid: String,
}

/// Pods that would be refused if they were made today.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NonCompliant {
    /// How many.
    #[schemars(range(min = 0))]
    pub total: i64,
    /// Names of the first of them, in order.
    #[schemars(length(max = 20), inner(length(max = 253)))]
    pub pods: Vec<String>,
}

/// Name and UID of the service account.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountStatus {
    /// Name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// UID, by which external systems can tell a reborn account from the first one.
    #[schemars(length(max = 64))]
    pub uid: String,
}
