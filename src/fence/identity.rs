//! Promise 1 and 3, identity: a pod runs as its workflow's service account, and that account is the one that Ringfence made.
//!
//! Bindings and cloud roles go by an account's name, so an account that was deleted and made again by somebody else would
//! inherit them all. Must never: take an account for the workflow's because of its name.

use serde_json::Value;

use super::object::{at, being_deleted, shown, type_of, violation};
use super::template::Template;
use crate::api::{AIWorkflow, OWNER_UID_ANNOTATION};
use crate::review::Violation;

const RULE: &str = "own-service-account";

/// Checks the account that a pod or a template names.
pub(super) fn check_name(template: &Template<'_>, name: &str, workflow: &AIWorkflow, violations: &mut Vec<Violation>) {
    let wanted = workflow.service_account_name();
    let spec = template.pod.get("spec").unwrap_or(&Value::Null);
    // `serviceAccount` is the deprecated name of the same field, into which the API server copies it; one that differs is an attempt to
    // say two things.
    for (key, required) in [("serviceAccountName", true), ("serviceAccount", false)] {
        let path = at(template.path, &format!("spec.{key}"));
        let fix = format!("set {path}: {wanted}");
        let (value, message) = match spec.get(key) {
            None | Some(Value::Null) if !required => continue,
            copied if !required && copied == spec.get("serviceAccountName") => continue,
            Some(Value::String(account)) if account == wanted => continue,
            Some(Value::String(account)) if account.is_empty() && !required => continue,
            Some(Value::String(account)) if !account.is_empty() => (
                Some(shown(account)),
                format!("AIWorkflow {} runs as {wanted} only", shown(name)),
            ),
            Some(Value::String(_)) | None | Some(Value::Null) => {
                let message = format!(
                    "names no account, so the pod would run as default; AIWorkflow {} runs as {wanted} only",
                    shown(name)
                );
                (None, message)
            }
            other => (
                None,
                format!("must be the name of an account, and is {}", type_of(other)),
            ),
        };
        violations.push(violation(RULE, &path, value.as_deref(), message, fix));
    }
}

/// Checks that the live account is the one that was made for this very workflow.
pub(super) fn check_account(name: &str, workflow: &AIWorkflow, account: Option<&Value>) -> Option<Violation> {
    let wanted = workflow.service_account_name();
    let path = "spec.serviceAccountName";
    let wait = format!("wait for it: kubectl wait --for=condition=Ready aiworkflow/{name}; then create the pod again");
    let Some(account) = account.filter(|account| !being_deleted(account)) else {
        let message = "is not there yet, or is being deleted; Ringfence makes it from the AIWorkflow";
        return Some(violation(RULE, path, Some(wanted), message, wait));
    };
    let owner = account
        .pointer("/metadata/annotations")
        .and_then(|all| all.get(OWNER_UID_ANNOTATION))
        .and_then(Value::as_str);
    let uid = workflow.metadata.uid.as_deref().filter(|uid| !uid.is_empty());
    if uid.is_some() && owner == uid {
        return None;
    }
    let message = format!(
        "is an account that Ringfence did not make for this AIWorkflow {name} (annotation {OWNER_UID_ANNOTATION})"
    );
    let fix = format!(
        "delete that service account, so that Ringfence makes its own, or have it join; see kubectl describe aiworkflow {name} --namespace {}",
        workflow.metadata.namespace.as_deref().unwrap_or_default()
    );
    Some(violation(RULE, path, Some(wanted), message, fix))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::testing::workflow;
    use super::*;

    #[rstest]
    #[case::right(json!({"serviceAccountName": "triage", "serviceAccount": "triage"}), &[])]
    #[case::deprecated_left_out(json!({"serviceAccountName": "triage"}), &[])]
    #[case::deprecated_empty(json!({"serviceAccountName": "triage", "serviceAccount": ""}), &[])]
    #[case::other(json!({"serviceAccountName": "other"}), &["serviceAccountName"])]
    #[case::other_as_the_api_server_stores_it(json!({"serviceAccountName": "other", "serviceAccount": "other"}), &["serviceAccountName"])]
    #[case::default_by_omission(json!({}), &["serviceAccountName"])]
    #[case::empty(json!({"serviceAccountName": ""}), &["serviceAccountName"])]
    #[case::only_deprecated(json!({"serviceAccount": "triage"}), &["serviceAccountName"])]
    #[case::two_answers(json!({"serviceAccountName": "triage", "serviceAccount": "other"}), &["serviceAccount"])]
    #[case::wrong_type(json!({"serviceAccountName": ["triage"]}), &["serviceAccountName"])]
    #[case::deprecated_of_wrong_type(json!({"serviceAccountName": "triage", "serviceAccount": 1}), &["serviceAccount"])]
    fn a_template_names_the_account_of_its_workflow(#[case] spec: Value, #[case] refused: &[&str]) {
        let pod = json!({"spec": spec});
        let mut violations = Vec::new();
        check_name(
            &Template {
                path: "spec.template",
                pod: &pod,
            },
            "triage",
            &workflow(),
            &mut violations,
        );
        let paths: Vec<_> = violations
            .iter()
            .map(|violation| violation.path.replace("spec.template.spec.", ""))
            .collect();
        assert_eq!(paths, refused);
    }

    fn account(owner: &str) -> Value {
        json!({"metadata": {"name": "triage", "annotations": {"ringfence.dev/owner-uid": owner}}})
    }

    #[rstest]
    #[case::made_for_it(Some(account("workflow-uid")), true)]
    #[case::absent(None, false)]
    #[case::reborn_without_annotation(Some(json!({"metadata": {"name": "triage"}})), false)]
    #[case::made_for_a_former_workflow_of_that_name(Some(account("former-uid")), false)]
    #[case::being_deleted(Some(json!({"metadata": {
        "deletionTimestamp": "2026-01-01T00:00:00Z", "annotations": {"ringfence.dev/owner-uid": "workflow-uid"},
    }})), false)]
    fn a_reborn_account_is_not_the_account(#[case] account: Option<Value>, #[case] expected: bool) {
        assert_eq!(
            check_account("triage", &workflow(), account.as_ref()).is_none(),
            expected
        );
    }

    #[test]
    fn two_missing_uids_are_not_the_same_uid() {
        let mut workflow = workflow();
        workflow.metadata.uid = None;
        assert!(check_account("triage", &workflow, Some(&json!({"metadata": {}}))).is_some());
        workflow.metadata.uid = Some(String::new());
        assert!(check_account("triage", &workflow, Some(&account(""))).is_some());
    }
}
