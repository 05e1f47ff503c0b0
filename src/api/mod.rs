//! The kinds of the `ringfence.dev` group, one file each, and the names that they share.
//!
//! Shapes, bounds and CEL rules live here and become `crds/`. What an object means in its surroundings is `plan`'s and
//! `fence`'s business: nothing here may look at a second object.

#[allow(clippy::duplicated_attributes, reason = "each printcolumn has a type of its own")]
mod class;
mod conditions;
mod definitions;
#[allow(clippy::duplicated_attributes, reason = "each printcolumn has a type of its own")]
mod exception;
#[allow(clippy::duplicated_attributes, reason = "each printcolumn has a type of its own")]
mod grant;
mod names;
mod network;
#[allow(clippy::duplicated_attributes, reason = "each printcolumn has a type of its own")]
mod policy;
#[allow(clippy::duplicated_attributes, reason = "each printcolumn has a type of its own")]
mod resolved;
mod resources;
mod secrets;
mod shared;
mod workflow;

pub use class::{
    AIWorkflowClass, AIWorkflowClassSpec, AIWorkflowClassStatus, ApiServerAddress, BackendChoice, ClassDebug,
    ClassEgress, ClassExceptions, ClassIdentity, ClassImages, ClassNetwork, ClassNodes, ClassVolumes, ClusterFacts,
    ClusterNetworkPolicyPlace, ClusterStatus, DnsAddress, DnsMode, DnsStatus, Engine, MAX_CLUSTER_DOMAINS, PodSecurity,
};
pub use conditions::{Condition, ConditionStatus, ConditionType, Reason, find, set};
pub use definitions::{committed, definitions};
pub use exception::{RegoPolicyException, RegoPolicyExceptionSpec, RegoPolicyExceptionStatus};
pub use grant::{AIWorkflowGrant, AIWorkflowGrantSpec, AIWorkflowGrantStatus, GrantedWorkflow};
pub use names::{
    ANYBODY, GROUPS_OF_ALL_ACCOUNTS, WITHOUT_CREDENTIAL, exempt_namespaces, is_anybody, is_dns_label, is_dns_subdomain,
    is_exempt, is_exempt_kind,
};
pub use network::{
    Classification, DataFlow, EgressPeer, EgressRule, Empty, IngressPeer, IngressRule, Network, PodPeer, Port,
    Protocol, WorkflowPeer,
};
pub use policy::{
    FailurePolicy, InventoryKind, MatchConstraints, MatchOperation, MatchPolicy, MatchRule, MatchScope, PolicySample,
    Rego, RegoModule, RegoPolicy, RegoPolicySpec, RegoPolicyStatus, RegoVersion, Templates, ValidationAction, Verdict,
};
pub use resolved::{
    LookUp, ResolvedAddress, ResolvedName, ResolvedNames, ResolvedNamesSpec, ResolvedNamesStatus, ResolvedPort,
    ResolvedRule,
};
pub use resources::{builtin_groups, builtin_version, is_of_cluster, plural_of};
pub use secrets::{DeclaredSecret, SecretReference};
pub use shared::{LabelSelector, Launcher, PolicyRule, Requirement, SelectorOperator, ServiceAccountRef};
pub use workflow::{
    AIWorkflow, AIWorkflowSpec, AIWorkflowStatus, Audience, Backend, CrossNamespace, DebugAction, DebugWindow,
    EgressStatus, Identity, MAX_GIVEN, MAX_WORKFLOW_NAME, Mode, NonCompliant, Owner, Permissions, Reviewed, SecretName,
    ServiceAccountStatus,
};

/// API group of every kind of Ringfence.
pub const GROUP: &str = "ringfence.dev";
/// Label that names the `AIWorkflow` which a pod, a pod template or an object that makes pods belongs to.
pub const WORKFLOW_LABEL: &str = "ringfence.dev/workflow";
/// Namespace label that names the class in force: refusals, guards and the default-deny.
pub const ENFORCE_LABEL: &str = "ringfence.dev/enforce";
/// Namespace label that names the class whose refusals are warnings.
pub const WARN_LABEL: &str = "ringfence.dev/warn";
/// Namespace label that names the class whose refusals are only logged and counted.
pub const AUDIT_LABEL: &str = "ringfence.dev/audit";
/// Annotation that holds the UID of the owner of an object that Ringfence made. The only proof of ownership.
pub const OWNER_UID_ANNOTATION: &str = "ringfence.dev/owner-uid";
/// Annotation by which an administrator acknowledges a generation that nobody reviewed: `<generation>.<UID of the registration>`.
pub const REVIEWED_ANNOTATION: &str = "ringfence.dev/reviewed";
/// Annotation of an existing service account that names the workflow of its namespace which it is to join.
pub const ADOPT_ANNOTATION: &str = "ringfence.dev/adopt";
/// The webhook, in the registration, that reviews the objects of our own group.
pub const KINDS_WEBHOOK: &str = "kinds.ringfence.dev";
/// Label of what Ringfence makes of a workflow, a grant or a namespace, and of nothing else: nobody else may set it, so that objects of
/// somebody else, of whatever size and shape, come into none of Ringfence's lists and watches.
pub const OWNER_LABEL: &str = "ringfence.dev/owner";
/// Label that says to people and tools who made an object. Helm and Argo CD write it too, so it proves nothing.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Field manager of every write, and the value of [`MANAGED_BY_LABEL`].
pub const MANAGER: &str = "ringfence";
/// Name of the class that the operator makes when it is missing.
pub const DEFAULT_CLASS: &str = "default";
/// Name of a namespace's default-deny NetworkPolicy. No workflow can form it: theirs are `ringfence-<workflow>-…`.
pub const DEFAULT_DENY_NAME: &str = "ringfence";
