//! Trust only what was reviewed: whether a declaration was written while the webhook stood that judges such writes.
//!
//! The definitions outlive an uninstall and come before the webhook at an install, and with the webhook the guards are away: whoever
//! may write AIWorkflows then writes what nobody looks at. Must never: count a generation as reviewed for lack of a fact.

use kube::ResourceExt;

use super::Registration;
use crate::api::{AIWorkflow, KINDS_WEBHOOK, REVIEWED_ANNOTATION, Reviewed};

/// How much younger than the registration an object must be, in seconds. Timestamps have whole ones, so a difference of two is
/// more than one; and the API server heeds a registration only when it has heard of it, a moment after it is there.
const YOUNGER: i64 = 2;

/// Whether the present generation of a workflow is the one on record: then no registration needs to be asked for.
pub fn is_on_record(workflow: &AIWorkflow) -> bool {
    recorded(workflow).is_some_and(|recorded| Some(recorded.generation) == workflow.metadata.generation)
}

/// Whether the present generation of a workflow counts as reviewed.
///
/// It does if it is on record; if the registration on record is today's; if none is on record and the workflow is younger than the
/// registration; or if somebody with the verb `approve` has acknowledged it. What was never stored has no generation, and nothing
/// to review.
pub fn is_reviewed(workflow: &AIWorkflow, registration: Option<&Registration>) -> bool {
    let Some(generation) = workflow.metadata.generation else {
        return true;
    };
    if is_on_record(workflow) {
        return true;
    }
    let Some(registration) = registration else {
        return false;
    };
    let acknowledged = workflow.annotations().get(REVIEWED_ANNOTATION);
    if acknowledged == Some(&acknowledgement(generation, registration)) {
        return true;
    }
    match recorded(workflow) {
        Some(recorded) => recorded.registration_uid == registration.uid,
        None => {
            workflow.metadata.creation_timestamp.as_ref().is_some_and(|created| {
                created.0.as_second().saturating_sub(registration.created.as_second()) >= YOUNGER
            })
        }
    }
}

/// What to put on record of a workflow that counts as reviewed. What is on record stays while there is no registration.
pub(super) fn record(workflow: &AIWorkflow, registration: Option<&Registration>) -> Option<Reviewed> {
    match (registration, workflow.metadata.generation) {
        (Some(registration), Some(generation)) if is_reviewed(workflow, Some(registration)) => Some(Reviewed {
            generation,
            registration_uid: registration.uid.clone(),
        }),
        _ => recorded(workflow).cloned(),
    }
}

/// Says why nothing is made of a workflow that was not reviewed, and what to do.
pub(super) fn explain(workflow: &AIWorkflow, registration: Option<&Registration>) -> String {
    let generation = workflow.metadata.generation.unwrap_or_default();
    let why = format!(
        "generation {generation} was written while no webhook of Ringfence reviewed it: what stands stays, and nothing new is made"
    );
    let Some(registration) = registration else {
        return format!(
            "{why}. There is no ValidatingWebhookConfiguration in which {KINDS_WEBHOOK} stands as the chart has it, so that it judges every write (failurePolicy Fail, no selector, no condition of somebody else's): apply the chart"
        );
    };
    let (name, namespace) = (workflow.name_any(), workflow.namespace().unwrap_or_default());
    let value = acknowledgement(generation, registration);
    format!(
        "{why}. Read its spec; if it is as it should be, somebody with the verb approve on the class runs: kubectl annotate aiworkflow {name} --namespace {namespace} --overwrite {REVIEWED_ANNOTATION}={value}"
    )
}

fn recorded(workflow: &AIWorkflow) -> Option<&Reviewed> {
    workflow.status.as_ref()?.reviewed.as_ref()
}

/// The UID is in it because nobody guards the annotation while the registration is away, and nobody knows the next one's UID then.
fn acknowledgement(generation: i64, registration: &Registration) -> String {
    format!("{generation}.{}", registration.uid)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::tests::{kinds, observed, read_config, stored};
    use super::super::{Observed, Outcome, plan};
    use super::*;
    use crate::api::{ConditionType, Reason, find};

    fn registration(uid: &str) -> Registration {
        Registration {
            uid: uid.to_owned(),
            created: "2026-01-01T12:00:00Z".parse().unwrap(),
        }
    }

    /// Generation 3, made at that second of twelve o'clock.
    fn workflow(second: &str, recorded: Value, annotation: Option<&str>) -> AIWorkflow {
        let metadata = json!({
            "name": "triage", "namespace": "ai", "generation": 3, "creationTimestamp": format!("2026-01-01T12:00:{second}Z"),
            "annotations": annotation.map(|value| json!({"ringfence.dev/reviewed": value})),
        });
        let spec = json!({"launchers": [], "images": ["a.example/**"]});
        serde_json::from_value(json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow", "metadata": metadata, "spec": spec,
            "status": {"reviewed": recorded},
        }))
        .unwrap()
    }

    fn record_of(generation: i64, uid: &str) -> Value {
        json!({"generation": generation, "registrationUID": uid})
    }

    #[rstest]
    #[case::younger("02", json!(null), None, true)]
    #[case::of_the_next_second_may_be_a_moment_later("01", json!(null), None, false)]
    #[case::of_the_same_second("00", json!(null), None, false)]
    #[case::on_record("00", record_of(3, "old"), None, true)]
    #[case::edited_under_the_same_registration("00", record_of(2, "now"), None, true)]
    #[case::edited_while_it_was_away("59", record_of(2, "old"), None, false)]
    #[case::edited_while_it_was_away_without_a_uid("59", record_of(2, ""), None, false)]
    #[case::acknowledged("00", json!(null), Some("3.now"), true)]
    #[case::acknowledged_after_an_edit("00", record_of(2, "old"), Some("3.now"), true)]
    #[case::acknowledged_another_generation("00", json!(null), Some("2.now"), false)]
    #[case::acknowledged_before_it_stood("00", json!(null), Some("3.old"), false)]
    #[case::acknowledged_without_it("00", json!(null), Some("3"), false)]
    fn a_generation_counts(
        #[case] second: &str,
        #[case] recorded: Value,
        #[case] annotation: Option<&str>,
        #[case] expected: bool,
    ) {
        let workflow = workflow(second, recorded, annotation);
        let now = registration("now");
        assert_eq!(is_reviewed(&workflow, Some(&now)), expected);
        let recorded = record(&workflow, Some(&now));
        assert_eq!(
            recorded
                .as_ref()
                .is_some_and(|record| record.registration_uid == "now" && record.generation == 3),
            expected
        );
        assert_eq!(
            is_reviewed(&workflow, None),
            is_on_record(&workflow),
            "nothing new without a registration"
        );
        assert_eq!(
            record(&workflow, None),
            workflow.status.unwrap().reviewed,
            "and what is on record stays"
        );
    }

    #[test]
    fn what_was_never_stored_has_nothing_to_review() {
        let mut offline = workflow("00", json!(null), None);
        offline.metadata.generation = None;
        assert!(is_reviewed(&offline, None));
        assert_eq!(record(&offline, Some(&registration("now"))), None);
    }

    #[test]
    fn the_message_is_the_command() {
        let said = explain(&workflow("00", json!(null), None), Some(&registration("now")));
        let command = "kubectl annotate aiworkflow triage --namespace ai --overwrite ringfence.dev/reviewed=3.now";
        assert!(said.ends_with(command), "{said}");
        assert!(explain(&workflow("00", json!(null), None), None).contains("apply the chart"));
    }

    #[test]
    fn what_was_not_reviewed_changes_nothing_and_shows_what_stood() {
        let before = super::super::tests::workflow(json!({"permissions": read_config()}));
        let now = "2026-01-03T00:00:00Z".parse().unwrap();
        let made = plan(&before, &observed());
        let outcome = Outcome::Applied(None);
        let standing = Observed {
            children: stored(&made.changes),
            ..observed()
        };
        let status = super::super::status(&before, &standing, &made, &outcome, now);
        assert_eq!(status.reviewed.as_ref().map(|reviewed| reviewed.generation), Some(3));

        // Edited while it was away: rights taken back as well as asked for, and a field that breaks a rule.
        let mut edited =
            super::super::tests::workflow(json!({"launchers": [{"user": "system:anonymous"}], "engine": "job"}));
        edited.metadata.generation = Some(4);
        edited.status = Some(status.clone());
        let other = Registration {
            uid: "other".to_owned(),
            ..registration("x")
        };
        let standing = Observed {
            registration: Some(other),
            ..standing
        };
        let held = plan(&edited, &standing);
        assert_eq!(
            (held.acceptance.reason, held.changes.len(), held.held),
            (Reason::NotReviewed, 0, true)
        );
        let said = super::super::status(&edited, &standing, &held, &Outcome::Untouched, now);
        assert_eq!(
            (&said.effective_rules, &said.reviewed, &said.engine),
            (&status.effective_rules, &status.reviewed, &status.engine)
        );
        assert_eq!(
            find(&said.conditions, ConditionType::Ready).unwrap().reason,
            "NotReviewed"
        );

        // Its end takes its rights along, reviewed or not.
        edited.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-03T00:00:00Z")).unwrap();
        let going = plan(&edited, &standing);
        assert_eq!(kinds(&going.changes), [("delete", "RoleBinding"), ("delete", "Role")]);
        assert_eq!(going.acceptance.reason, Reason::Deleting);
    }
}
