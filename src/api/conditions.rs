//! Conditions and their reasons. Both are API: people wait for them, and alert on them.

use k8s_openapi::jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One condition, in the shape of `meta/v1`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Generation of the object that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When `status` last changed, RFC 3339.
    #[schemars(extend("format" = "date-time"), length(max = 64))]
    pub last_transition_time: String,
    /// Why, in one word.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Why, and what to do.
    #[schemars(length(max = 32768))]
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ConditionStatus {
    /// It does not.
    False,
    /// It does.
    True,
    /// Nobody could tell.
    Unknown,
}

impl ConditionStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::False, Self::True, Self::Unknown];
}

/// The conditions that Ringfence writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConditionType {
    /// The declaration is valid and inside its class.
    Accepted,
    /// What it refers to is there and agrees.
    ResolvedRefs,
    /// The fence stands as declared.
    Programmed,
    /// What stands in its namespace fits inside the fence, as far as the last scan saw.
    Compliant,
    /// All of them, and the namespace enforces.
    Ready,
    /// Its pods may ask a DNS, and so send data out in the names that they ask for. Outside `Ready`: most clusters cannot do without.
    DnsExfiltration,
    /// Of a class: the ranges of the cluster's own pods, Services and nodes are known, so that they can stay closed.
    ClusterRangesKnown,
    /// Of a class: nobody in its namespaces holds more of what no admission controller sees than a tenant, but who is expected to.
    TenantsBounded,
    /// Of a class: NetworkPolicies stop connections on this cluster, as `ringfence check --canary` saw.
    NetworkEnforced,
    /// Of a RegoPolicy: this generation was vetted, and decides.
    Compiled,
    /// Of a RegoPolicy: the API server asks about all that it matches.
    Enforced,
    /// Of ResolvedNames: every name has an address, and each replica of the DNS was asked.
    Resolved,
}

impl ConditionType {
    /// Every condition of an `AIWorkflow`.
    pub const ALL: [Self; 6] = [
        Self::Accepted,
        Self::ResolvedRefs,
        Self::Programmed,
        Self::Compliant,
        Self::Ready,
        Self::DnsExfiltration,
    ];

    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Programmed => "Programmed",
            Self::Compliant => "Compliant",
            Self::Ready => "Ready",
            Self::DnsExfiltration => "DnsExfiltration",
            Self::ClusterRangesKnown => "ClusterRangesKnown",
            Self::TenantsBounded => "TenantsBounded",
            Self::NetworkEnforced => "NetworkEnforced",
            Self::Compiled => "Compiled",
            Self::Enforced => "Enforced",
            Self::Resolved => "Resolved",
        }
    }
}

/// Reasons of conditions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Accepted: valid and inside the class.
    Accepted,
    /// Not accepted: the class named by the namespace does not exist.
    ClassMissing,
    /// Not accepted: it breaks a rule that the declaration alone can break.
    Invalid,
    /// Not accepted: it is being deleted, and something keeps it.
    Deleting,
    /// Not accepted: the namespace carries no mode label that fences it.
    NamespaceNotFenced,
    /// Not accepted: it was written while no webhook reviewed it, and nobody has acknowledged it.
    NotReviewed,
    /// Not accepted: pods that are older than it carry its label.
    PredecessorPods,
    /// Not accepted: the class does not allow it.
    OutsideClass,
    /// References are resolved.
    Resolved,
    /// No grant covers a right in another namespace.
    NoGrant,
    /// A peer workflow does not name this one.
    PeerDoesNotNameUs,
    /// A peer workflow does not exist.
    PeerMissing,
    /// Everything is applied.
    Applied,
    /// Not programmed: it declares a right that Ringfence itself does not hold. Only the API server compares the two, when the Role is
    /// written and when it is asked again, so this is said of `Programmed`: what the declaration and its class say is in order.
    AboveCeiling,
    /// The API server could not be asked or did not answer.
    ApiUnavailable,
    /// Somebody wrote at the same time, and it is tried again; or an account that is to join differs from what is declared; or others
    /// rely on the name of one that is not there.
    Conflict,
    /// The API server refused a write of Ringfence.
    Forbidden,
    /// An object of that name exists and is not ours.
    NameTaken,
    /// Not programmed: it declares domains, and nothing is there through which its pods could reach them.
    NoEgressProxy,
    /// Not programmed: it declares domains, and what its class has pods reach them by is not there, or cannot serve them.
    NoEgressBackend,
    /// Not programmed: it declares wildcards, which what pods reach domains by cannot open: nobody can resolve one, and Cilium opens one above the
    /// cluster's domain with the cluster's names.
    WildcardDomains,
    /// Not programmed: a name has more addresses than a policy is made of, or all of them together do.
    TooManyAddresses,
    /// Not programmed: more names are declared than are resolved, or more rules than fit into a policy.
    TooManyNames,
    /// Not resolved: a name has no address, or nobody could tell.
    NotResolved,
    /// Compliant: what stands fits.
    Compliant,
    /// Pods or workloads that stand would be refused today.
    NonCompliantPods,
    /// Its account holds more than it declares.
    ExtraRights,
    /// Every account of the cluster holds more than it declares, and so does its own.
    SharedRights,
    /// A NetworkPolicy, a policy of another kind or a Service of somebody else opens more than it declares.
    ForeignPolicy,
    /// Its pods may ask a DNS.
    Possible,
    /// Its pods reach no DNS, or one that answers for what they may reach alone.
    Closed,
    /// Ready: the fence stands.
    Fenced,
    /// Not ready: the namespace warns only.
    NotEnforced,
    /// The cluster's ranges are known: the class declares them.
    Declared,
    /// The cluster's ranges are known: ServiceCIDRs and Nodes say them.
    Detected,
    /// The cluster's ranges are not known: the class has to declare them.
    NotDetected,
    /// Tenants are bounded: nobody holds more.
    TenantsBounded,
    /// Tenants are not bounded: somebody holds more.
    TenantsHoldMore,
    /// The network is enforced: a NetworkPolicy stopped a connection, in both directions.
    PoliciesBite,
    /// The network is not enforced: a connection went on under a NetworkPolicy that forbids it.
    PoliciesIgnored,
    /// Nobody saw whether the network is enforced.
    NotObserved,
    /// Not accepted: its time is over.
    Expired,
    /// Not accepted: the class opens no exceptions for the namespace.
    NamespaceNotAllowed,
    /// Not accepted: it is being deleted.
    Terminating,
    /// Not accepted: it ends later than the class allows.
    TooLong,
    /// Not accepted: there are more in the namespace than are looked at.
    TooMany,
    /// It names a policy that judges no object of a namespace.
    UnknownPolicy,
    /// Compiled: it was vetted and decides.
    Vetted,
    /// Not compiled: it does not compile, fails a sample, or did not survive vetting.
    Rejected,
    /// Not enforced: its generation does not decide, or the data that it asks for is not there.
    NotReady,
    /// Not enforced everywhere: the objects that it looks at take more room than there is for them, in a namespace or in all.
    InventoryTooLarge,
    /// Enforced: the webhook configuration covers all that it matches.
    Intercepted,
    /// Not enforced: the webhook configuration does not cover its match.
    NotIntercepted,
}

impl Reason {
    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ClassMissing => "ClassMissing",
            Self::Invalid => "Invalid",
            Self::Deleting => "Deleting",
            Self::NamespaceNotFenced => "NamespaceNotFenced",
            Self::NotReviewed => "NotReviewed",
            Self::PredecessorPods => "PredecessorPods",
            Self::OutsideClass => "OutsideClass",
            Self::Resolved => "Resolved",
            Self::NoGrant => "NoGrant",
            Self::PeerDoesNotNameUs => "PeerDoesNotNameUs",
            Self::PeerMissing => "PeerMissing",
            Self::Applied => "Applied",
            Self::AboveCeiling => "AboveCeiling",
            Self::ApiUnavailable => "ApiUnavailable",
            Self::Conflict => "Conflict",
            Self::Forbidden => "Forbidden",
            Self::NameTaken => "NameTaken",
            Self::NoEgressProxy => "NoEgressProxy",
            Self::NoEgressBackend => "NoEgressBackend",
            Self::WildcardDomains => "WildcardDomains",
            Self::TooManyAddresses => "TooManyAddresses",
            Self::TooManyNames => "TooManyNames",
            Self::NotResolved => "NotResolved",
            Self::Compliant => "Compliant",
            Self::NonCompliantPods => "NonCompliantPods",
            Self::ExtraRights => "ExtraRights",
            Self::SharedRights => "SharedRights",
            Self::ForeignPolicy => "ForeignPolicy",
            Self::Possible => "Possible",
            Self::Closed => "Closed",
            Self::Fenced => "Fenced",
            Self::NotEnforced => "NotEnforced",
            Self::Declared => "Declared",
            Self::Detected => "Detected",
            Self::NotDetected => "NotDetected",
            Self::TenantsBounded => "TenantsBounded",
            Self::TenantsHoldMore => "TenantsHoldMore",
            Self::PoliciesBite => "PoliciesBite",
            Self::PoliciesIgnored => "PoliciesIgnored",
            Self::NotObserved => "NotObserved",
            Self::Expired => "Expired",
            Self::NamespaceNotAllowed => "NamespaceNotAllowed",
            Self::Terminating => "Terminating",
            Self::TooLong => "TooLong",
            Self::TooMany => "TooMany",
            Self::UnknownPolicy => "UnknownPolicy",
            Self::Vetted => "Vetted",
            Self::Rejected => "Rejected",
            Self::NotReady => "NotReady",
            Self::InventoryTooLarge => "InventoryTooLarge",
            Self::Intercepted => "Intercepted",
            Self::NotIntercepted => "NotIntercepted",
        }
    }
}

/// Longest message, in characters.
const MAX_MESSAGE: usize = 8192;

/// The condition of that type, if it was ever written.
pub fn find(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

/// Sets a condition, keeping its transition time while its status stays the same.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Timestamp,
) {
    let kept = find(conditions, type_)
        .filter(|old| old.status == status)
        .map(|old| old.last_transition_time.clone());
    let condition = Condition {
        type_: type_.as_str().to_owned(),
        status,
        observed_generation: generation,
        last_transition_time: kept.unwrap_or_else(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        reason: reason.as_str().to_owned(),
        message: bounded(message.into()),
    };
    match conditions.iter_mut().find(|old| old.type_ == condition.type_) {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

/// Cuts a message at what a person reads: the API server refuses a status whole whose message is above 32,768 characters, and
/// then nothing would be said at all.
fn bounded(mut message: String) -> String {
    if let Some((at, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(at);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_so_that_it_can_be_written() {
        let mut conditions = Vec::new();
        let message = "é".repeat(40_000);
        let now = "2026-11-22T08:00:00Z".parse().unwrap();
        set(
            &mut conditions,
            ConditionType::Ready,
            ConditionStatus::False,
            Reason::Invalid,
            message,
            Some(1),
            now,
        );
        assert_eq!(conditions[0].message.chars().count(), MAX_MESSAGE + 1);
    }
}
