//! Pods that are older than the workflow that they name, or run as an account of its account's name: what a deleted declaration
//! left running, its own or another one's.
//! An account may become free long after the workflow was accepted: so its pods are looked for whenever it is to be made.
//!
//! A pod's label and its account's name are all that ties it to a workflow, and both outlive the declaration: such a pod would come
//! under a fence that it was never judged by, and its tokens would be the new account's. So nothing is made until it is gone.

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::{Child, owner_uid};
use crate::api::{AIWorkflow, ConditionStatus, ConditionType, find, is_dns_subdomain};

/// Names that a message lists.
const SHOWN: usize = 3;

/// What was found of older pods.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Predecessors {
    count: usize,
    names: Vec<String>,
    /// There were more pods than were looked at: they count as older.
    unseen: bool,
}

impl Predecessors {
    /// Counts a pod, if it is older than the workflow. Timestamps have whole seconds: one of the same second is not older, because
    /// both may be of one apply.
    pub fn look_at(&mut self, workflow: &AIWorkflow, name: &str, created: Option<Timestamp>) {
        let own = workflow.metadata.creation_timestamp.as_ref().map(|time| time.0);
        if created.zip(own).is_some_and(|(pod, own)| pod >= own) {
            return;
        }
        self.add(name);
    }

    /// Counts a pod, however old it is.
    pub fn add(&mut self, name: &str) {
        self.count += 1;
        if self.names.len() < SHOWN {
            self.names.push(name.to_owned());
        }
    }

    /// Says that not all pods were looked at.
    pub fn cut_off(&mut self) {
        self.unseen = true;
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && !self.unseen
    }

    pub(super) fn explain(&self, workflow: &AIWorkflow) -> String {
        let label = format!("ringfence.dev/workflow={}", workflow.name_any());
        let what = self.described("older pods");
        format!(
            "{what} carry the label {label} or run as ServiceAccount {account}, and were made before this AIWorkflow: nothing is made until they are gone. Delete them, or scale what made them to 0 and up again: a rollout restart would wait for new ones first, and these for their ServiceAccount. kubectl get pods --namespace {namespace} lists them, with --selector {label} or --field-selector spec.serviceAccountName={account}",
            account = workflow.service_account_name(),
            namespace = workflow.namespace().unwrap_or_default()
        )
    }

    /// What is said of an account that is not there, while pods of others run as one of its name.
    pub(super) fn explain_account(&self, workflow: &AIWorkflow) -> String {
        let what = self.described("pods");
        format!(
            "ServiceAccount {account} is not there, and {what} of others run under its name: their tokens would be its own, so neither it nor its rights are made until they are gone. Delete them; kubectl get pods --namespace {namespace} --field-selector spec.serviceAccountName={account} lists them",
            account = workflow.service_account_name(),
            namespace = workflow.namespace().unwrap_or_default()
        )
    }

    fn described(&self, pods: &str) -> String {
        let more = match self.count - self.names.len() {
            0 if self.unseen => " and perhaps more, for there are too many to look at".to_owned(),
            0 => String::new(),
            more => format!(" and {}{more} more", if self.unseen { "at least " } else { "" }),
        };
        let (count, names) = (self.count, self.names.join(", "));
        if count == 0 {
            "pods".to_owned()
        } else {
            format!("{count} {pods} ({names}{more})")
        }
    }
}

/// Whether older pods must be looked for: not once the workflow has been accepted, because no older pod can appear after that.
pub fn may_have_predecessors(workflow: &AIWorkflow, children: &[(Child, serde_json::Value)]) -> bool {
    let conditions = workflow.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let accepted = find(conditions, ConditionType::Accepted).is_some_and(|said| said.status == ConditionStatus::True);
    let uid = workflow.metadata.uid.as_deref().filter(|uid| !uid.is_empty());
    let has_a_child = uid.is_some() && children.iter().any(|(_, child)| owner_uid(child) == uid);
    // A name that is none is no label's value either; such a workflow is invalid.
    !accepted
        && !has_a_child
        && workflow.metadata.deletion_timestamp.is_none()
        && is_dns_subdomain(&workflow.name_any())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::tests::{kinds, observed, read_config, stored, workflow};
    use super::super::{Observed, Outcome, plan, status};
    use super::*;
    use crate::api::Reason;

    fn at(time: &str) -> Option<Timestamp> {
        Some(time.parse().unwrap())
    }

    /// Pods `p0`, `p1` … of that many seconds before the workflow.
    fn older(workflow: &AIWorkflow, count: usize) -> Predecessors {
        let mut found = Predecessors::default();
        (0..count).for_each(|number| found.look_at(workflow, &format!("p{number}"), at("2026-01-01T23:59:59Z")));
        found
    }

    #[rstest]
    #[case::a_second_older(at("2026-01-01T23:59:59Z"), true)]
    #[case::of_the_same_second(at("2026-01-02T00:00:00Z"), false)]
    #[case::younger(at("2026-01-02T00:00:01Z"), false)]
    #[case::without_a_time(None, true)]
    fn a_pod_is_older_or_not(#[case] created: Option<Timestamp>, #[case] expected: bool) {
        let mut found = Predecessors::default();
        found.look_at(&workflow(json!({})), "p", created);
        assert_eq!(!found.is_empty(), expected);
    }

    #[rstest]
    #[case::two(2, false, "2 older pods (p0, p1) carry the label ringfence.dev/workflow=triage")]
    #[case::more(5, false, "5 older pods (p0, p1, p2 and 2 more) carry")]
    #[case::too_many(5, true, "5 older pods (p0, p1, p2 and at least 2 more) carry")]
    #[case::too_many_and_few_older(
        1,
        true,
        "1 older pods (p0 and perhaps more, for there are too many to look at) carry"
    )]
    #[case::too_many_to_tell(0, true, "pods carry the label")]
    fn older_pods_hold_everything_back(#[case] count: usize, #[case] cut_off: bool, #[case] said: &str) {
        let workflow = workflow(json!({"permissions": read_config()}));
        let mut predecessors = older(&workflow, count);
        if cut_off {
            predecessors.cut_off();
        }
        let held = plan(
            &workflow,
            &Observed {
                predecessors,
                ..observed()
            },
        );
        assert_eq!(
            (held.acceptance.reason, held.changes.len(), held.held),
            (Reason::PredecessorPods, 0, true)
        );
        assert!(held.acceptance.message.starts_with(said), "{}", held.acceptance.message);
    }

    #[rstest]
    #[case::two(2, false, "is not there, and 2 pods (p0, p1) of others run")]
    #[case::too_many_to_tell(0, true, "is not there, and pods of others run")]
    fn pods_of_others_hold_the_account_and_its_rights_back(
        #[case] count: usize,
        #[case] cut_off: bool,
        #[case] said: &str,
    ) {
        let workflow = workflow(json!({"permissions": read_config()}));
        let mut strangers = Predecessors::default();
        (0..count).for_each(|number| strangers.add(&format!("p{number}")));
        if cut_off {
            strangers.cut_off();
        }
        let around = Observed {
            strangers,
            ..observed()
        };
        let held = plan(&workflow, &around);
        assert_eq!((held.acceptance.reason, held.held), (Reason::Accepted, false));
        assert_eq!(kinds(&held.changes), [("create", "NetworkPolicy")]);
        let conflict = held.conflict.unwrap();
        assert!(conflict.contains(said), "{conflict}");
    }

    #[test]
    fn what_is_outside_its_class_says_so_and_is_held_all_the_same() {
        let secrets = json!({"rules": [{"apiGroups": [""], "resources": ["limitranges"], "verbs": ["get"]}]});
        let outside = workflow(json!({"permissions": secrets}));
        let predecessors = older(&outside, 1);
        let held = plan(
            &outside,
            &Observed {
                predecessors,
                ..observed()
            },
        );
        assert_eq!((held.acceptance.reason, held.changes.len()), (Reason::OutsideClass, 0));
    }

    #[test]
    fn they_are_looked_for_until_the_workflow_was_accepted() {
        let mut workflow = workflow(json!({"permissions": read_config()}));
        assert!(may_have_predecessors(&workflow, &[]));
        let made = plan(&workflow, &observed());
        assert_eq!(kinds(&made.changes).len(), 4);
        assert!(
            !may_have_predecessors(&workflow, &stored(&made.changes)),
            "what stands was made once none was there"
        );
        let now = at("2026-01-03T00:00:00Z").unwrap();
        workflow.status = Some(status(&workflow, &observed(), &made, &Outcome::Applied(None), now));
        assert!(!may_have_predecessors(&workflow, &[]));
        let mut anothers = stored(&made.changes);
        anothers
            .iter_mut()
            .for_each(|(_, child)| child["metadata"]["annotations"]["ringfence.dev/owner-uid"] = json!("former"));
        workflow.status = None;
        assert!(
            may_have_predecessors(&workflow, &anothers),
            "what a former workflow left tells nothing"
        );
    }
}
