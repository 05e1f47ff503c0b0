//! The condition `TenantsBounded` of a class: whether tenants of its namespaces are no more than tenants.

use std::collections::BTreeMap;

use super::Some20;
use crate::api::{ConditionStatus, Reason};

/// What a scan found about who holds what no admission controller sees.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tenants {
    /// Holders of more than a tenant, by the class of the namespace; every class that fences one is there.
    pub by_class: BTreeMap<String, Some20>,
    /// What could not be looked at.
    pub gap: Option<String>,
}

/// The condition of a class; `None` where nothing was looked at yet, and what was said before may stay.
pub fn tenants_condition(class: &str, found: Option<&Tenants>) -> Option<(ConditionStatus, Reason, String)> {
    const ALL: &str = "Run ringfence check access";
    let found = found?;
    let holders = found.by_class.get(class);
    let told = holders.and_then(|holders| {
        holders.told(
            "holder of impersonation, tokens or Secrets beyond ringfence-tenant",
            "holders of impersonation, tokens or Secrets beyond ringfence-tenant",
        )
    });
    Some(match (told, &found.gap) {
        (Some(told), _) => (
            ConditionStatus::False,
            Reason::TenantsHoldMore,
            format!("{told}. {ALL}"),
        ),
        (None, Some(gap)) => (
            ConditionStatus::Unknown,
            Reason::ApiUnavailable,
            format!("nobody was found, but not all could be looked at: {gap}. {ALL}"),
        ),
        (None, None) if holders.is_none() => (
            ConditionStatus::True,
            Reason::TenantsBounded,
            "no fenced namespace names this class".to_owned(),
        ),
        (None, None) => (
            ConditionStatus::True,
            Reason::TenantsBounded,
            "in the namespaces of this class nobody holds impersonation, tokens or Secrets beyond ringfence-tenant, but who approves it or is trusted".to_owned(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(holders: usize, gap: Option<&str>) -> Tenants {
        let mut some = Some20::default();
        (0..holders).for_each(|index| some.insert(&format!("user ann-{index:03} (RoleBinding ai/devs)")));
        Tenants {
            by_class: BTreeMap::from([("default".to_owned(), some)]),
            gap: gap.map(str::to_owned),
        }
    }

    #[test]
    fn it_says_who_holds_more_and_never_calls_bounded_what_was_not_seen() {
        let said = |class: &str, found: &Tenants| {
            let (status, reason, message) = tenants_condition(class, Some(found)).unwrap();
            (status, reason.as_str(), message)
        };
        assert_eq!(tenants_condition("default", None), None);
        let (status, reason, _) = said("default", &found(0, None));
        assert_eq!((status, reason), (ConditionStatus::True, "TenantsBounded"));
        let (status, _, message) = said("other", &found(1, None));
        assert_eq!(
            (status, message.as_str()),
            (ConditionStatus::True, "no fenced namespace names this class")
        );
        for gap in [None, Some("rolebindings")] {
            let (status, reason, message) = said("default", &found(1, gap));
            assert_eq!((status, reason), (ConditionStatus::False, "TenantsHoldMore"));
            assert_eq!(
                message,
                "1 holder of impersonation, tokens or Secrets beyond ringfence-tenant: user ann-000 (RoleBinding ai/devs). Run ringfence check access"
            );
        }
        for class in ["default", "other"] {
            let (status, reason, message) = said(class, &found(0, Some("the roles of the cluster")));
            assert_eq!((status, reason), (ConditionStatus::Unknown, "ApiUnavailable"));
            assert!(message.contains("the roles of the cluster"), "{message}");
        }
        let (_, _, message) = said("default", &found(1000, None));
        assert!(message.contains("and 980 more") && message.len() < 2000, "{message}");
    }
}
