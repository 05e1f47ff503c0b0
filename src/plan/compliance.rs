//! What the last scan found about a workflow, and the condition that it makes.

use std::collections::BTreeSet;

use crate::api::{ConditionStatus, NonCompliant, Reason};

/// Most names that are kept of one list.
const MAX_NAMES: usize = 20;

/// How many there are, and the first twenty names in order, so that the same things always read the same.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Some20 {
    total: usize,
    names: BTreeSet<String>,
    last: String,
}

impl Some20 {
    /// Adds one. What is said twice in a row, or is among the names that are kept, counts once.
    pub fn insert(&mut self, name: &str) {
        if self.last == name || self.names.contains(name) {
            return;
        }
        name.clone_into(&mut self.last);
        self.total += 1;
        self.names.insert(name.to_owned());
        if self.names.len() > MAX_NAMES {
            self.names.pop_last();
        }
    }

    /// The names that are kept.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// `3 pods would be refused: a, b, c`; `None` where there are none.
    pub(super) fn told(&self, one: &str, many: &str) -> Option<String> {
        let what = match self.total {
            0 => return None,
            1 => format!("1 {one}"),
            total => format!("{total} {many}"),
        };
        let names = self.names().collect::<Vec<_>>().join(", ");
        let more = self.total.saturating_sub(self.names.len());
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        Some(format!("{what}: {names}{more}"))
    }
}

/// What a scan found about a workflow.
#[derive(Clone, Debug, Default)]
pub struct Compliance {
    /// UID of the workflow that was scanned.
    pub uid: String,
    /// Generation of it.
    pub generation: Option<i64>,
    /// Its pods that would be refused today.
    pub pods: Some20,
    /// Its workloads that would be refused today, as `Job ai/x`.
    pub workloads: Some20,
    /// Bindings that give its account more than it declares.
    pub bindings: Some20,
    /// Bindings that give every account of the cluster more: one of them, anywhere, concerns every workflow.
    pub shared: Some20,
    /// Policies and Services of others that open something for its pods.
    pub openings: Some20,
    /// What could not be looked at.
    pub gap: Option<String>,
}

impl Compliance {
    /// Whether another scan found the same.
    pub fn says_the_same(&self, other: &Self, namespace: &str) -> bool {
        (&self.uid, self.generation) == (&other.uid, other.generation)
            && self.condition(namespace) == other.condition(namespace)
    }

    /// The condition `Compliant`.
    pub(super) fn condition(&self, namespace: &str) -> (ConditionStatus, Reason, String) {
        let told = [
            (
                Reason::NonCompliantPods,
                self.pods
                    .told("pod would be refused today", "pods would be refused today"),
            ),
            (
                Reason::NonCompliantPods,
                self.workloads
                    .told("workload would be refused today", "workloads would be refused today"),
            ),
            (
                Reason::ExtraRights,
                self.bindings.told(
                    "binding gives its account more than is declared",
                    "bindings give its account more than is declared",
                ),
            ),
            (
                Reason::ForeignPolicy,
                self.openings.told(
                    "policy or Service of somebody else opens more than is declared",
                    "policies and Services of somebody else open more than is declared",
                ),
            ),
            // Last: whatever is the workflow's own gives the reason.
            (
                Reason::SharedRights,
                self.shared.told(
                    "binding gives every account of the cluster, its own included, more than is declared",
                    "bindings give every account of the cluster, its own included, more than is declared",
                ),
            ),
        ];
        let mut told = told
            .into_iter()
            .filter_map(|(reason, told)| Some((reason, told?)))
            .peekable();
        match (told.peek().map(|(reason, _)| *reason), &self.gap) {
            (Some(reason), _) => {
                let all: Vec<_> = told.map(|(_, told)| told).collect();
                let message = format!(
                    "{}. See all of it: ringfence scan --namespace {namespace}",
                    all.join("; ")
                );
                (ConditionStatus::False, reason, message)
            }
            (None, Some(gap)) => {
                let message = format!("nothing was found, but not all could be looked at: {gap}");
                (ConditionStatus::Unknown, Reason::ApiUnavailable, message)
            }
            (None, None) => (
                ConditionStatus::True,
                Reason::Compliant,
                "what stands fits inside the fence".to_owned(),
            ),
        }
    }

    /// What of it is shown beside the conditions.
    pub(super) fn shown(&self) -> Option<NonCompliant> {
        let pods: Vec<_> = self.pods.names().map(str::to_owned).collect();
        (!pods.is_empty()).then(|| NonCompliant {
            total: i64::try_from(self.pods.total).unwrap_or(i64::MAX),
            pods,
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn some(names: &[&str]) -> Some20 {
        let mut some = Some20::default();
        names.iter().for_each(|name| some.insert(name));
        some
    }

    #[rstest]
    #[case::nothing(Compliance::default(), ConditionStatus::True, Reason::Compliant, "fits inside")]
    #[case::pods(Compliance {pods: some(&["b", "a"]), ..Compliance::default()}, ConditionStatus::False, Reason::NonCompliantPods, "2 pods would be refused today: a, b. See")]
    #[case::workload(Compliance {workloads: some(&["Job ai/x"]), ..Compliance::default()}, ConditionStatus::False, Reason::NonCompliantPods, "1 workload would be refused today: Job ai/x")]
    #[case::rights(Compliance {bindings: some(&["RoleBinding ai/x"]), openings: some(&["NetworkPolicy ai/y"]), ..Compliance::default()}, ConditionStatus::False, Reason::ExtraRights, "; 1 policy or Service of somebody else opens more")]
    #[case::rights_of_all(Compliance {shared: some(&["RoleBinding ai/x"]), ..Compliance::default()}, ConditionStatus::False, Reason::SharedRights, "1 binding gives every account of the cluster")]
    #[case::rights_and_those_of_all(Compliance {bindings: some(&["RoleBinding ai/x"]), shared: some(&["RoleBinding b/y"]), ..Compliance::default()}, ConditionStatus::False, Reason::ExtraRights, "included, more than is declared: RoleBinding b/y")]
    #[case::policy(Compliance {openings: some(&["NetworkPolicy ai/y"]), ..Compliance::default()}, ConditionStatus::False, Reason::ForeignPolicy, "ringfence scan --namespace ai")]
    #[case::gap(Compliance {gap: Some("pods".into()), ..Compliance::default()}, ConditionStatus::Unknown, Reason::ApiUnavailable, "looked at: pods")]
    #[case::gap_and_more(Compliance {pods: some(&["a"]), gap: Some("jobs".into()), ..Compliance::default()}, ConditionStatus::False, Reason::NonCompliantPods, "1 pod would be refused today: a.")]
    fn the_condition_says_what_was_found(
        #[case] compliance: Compliance,
        #[case] status: ConditionStatus,
        #[case] reason: Reason,
        #[case] message: &str,
    ) {
        let found = compliance.condition("ai");
        assert_eq!((found.0, found.1), (status, reason));
        assert!(found.2.contains(message), "{}", found.2);
    }

    #[test]
    fn twenty_names_are_kept_and_always_the_same() {
        let names: Vec<String> = (0..50).map(|at| format!("p{at:02}")).collect();
        let (mut one, mut other) = (Some20::default(), Some20::default());
        names.iter().for_each(|name| one.insert(name));
        one.insert("p49");
        names.iter().rev().for_each(|name| other.insert(name));
        let kept = |some: &Some20| some.names().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(kept(&one), kept(&other), "whatever order they come in");
        let shown = Compliance {
            pods: one,
            ..Compliance::default()
        };
        let told = shown.condition("ai").2;
        assert!(
            told.starts_with("50 pods would be refused today: p00, ") && told.contains("p19 and 30 more."),
            "{told}"
        );
        let shown = shown.shown().unwrap();
        assert_eq!((shown.total, shown.pods.len()), (50, 20));
    }
}
