//! The account: made, or had by adoption. An existing one, with its Vault role or cloud identity, joins where an administrator has
//! put `ringfence.dev/adopt: <workflow>` on it, and it already is what `identity` declares.
//!
//! Must never: take an account over because of its name, change one that differs, or repeat a value of it. The guard keeps the
//! annotation to those with the verb `approve`, but only while it stands: what carries it from before is for the platform to look at
//! when it installs.

use std::collections::BTreeSet;

use kube::ResourceExt;
use serde_json::{Map, Value};

use super::{Child, Observed, accept, name_of, owner_uid};
use crate::api::{ADOPT_ANNOTATION, AIWorkflow, AIWorkflowClass, OWNER_UID_ANNOTATION};

/// What `kubectl apply` keeps beside the object: a copy of what was applied, which says nothing of its own.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Fields of an account that adoption sets, or that are compared.
const KNOWN: [&str; 6] = [
    "apiVersion",
    "kind",
    "metadata",
    "automountServiceAccountToken",
    "imagePullSecrets",
    "secrets",
];

/// Differences that a message lists.
const SHOWN: usize = 16;

/// How the workflow comes by its account.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Account {
    /// Nobody has one of that name, or it is ours already.
    Ours,
    /// It joins: the account as it is, marked as ours, to be replaced by what is desired.
    Joins(Value),
    /// It is to join, and differs: the message.
    Differs(String),
    /// It is somebody else's.
    Taken,
}

impl Account {
    /// Why an account that is to join does not.
    pub(super) fn conflict(self) -> Option<String> {
        match self {
            Self::Differs(message) => Some(message),
            Self::Ours | Self::Joins(_) | Self::Taken => None,
        }
    }
}

/// Decides about the account that stands under the workflow's name for it.
pub(super) fn account(workflow: &AIWorkflow, observed: &Observed, class: &AIWorkflowClass) -> Account {
    let Some(found) = &observed.account else {
        return Account::Ours;
    };
    // One that is another workflow's, or is going, joins nobody.
    let is_free = owner_uid(found).is_none() && found.pointer("/metadata/deletionTimestamp").is_none_or(Value::is_null);
    let asks = text(metadata(found, "annotations"), ADOPT_ANNOTATION) == Some(workflow.name_any().as_str());
    let uid = workflow
        .uid()
        .filter(|uid| !uid.is_empty() && workflow.metadata.deletion_timestamp.is_none());
    let Some(uid) = uid.filter(|_| is_free && asks) else {
        return Account::Taken;
    };
    let differing = differences(workflow, class, found);
    if differing.is_empty() {
        let mut ours = found.clone();
        if let Some(annotations) = ours.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            annotations.insert(OWNER_UID_ANNOTATION.to_owned(), uid.into());
        }
        return Account::Joins(ours);
    }
    let more = match differing.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown: Vec<_> = differing.into_iter().take(SHOWN).collect();
    Account::Differs(format!(
        "{} {} is to join (annotation {ADOPT_ANNOTATION}) and differs in {}{more}; nothing of it was changed. Declare annotations and imagePullSecrets in spec.identity, or take off the account what is named; a Secret in secrets is a token that outlives every fence: delete it and take it off the list",
        Child::ServiceAccount.kind(),
        name_of(found),
        shown.join(", "),
    ))
}

/// What of an account is not as `identity` declares it, by field and key.
fn differences(workflow: &AIWorkflow, class: &AIWorkflowClass, found: &Value) -> BTreeSet<String> {
    let mut differing = BTreeSet::new();
    let declared = accept::allowed_annotations(workflow, class);
    let empty = Map::new();
    let carried = metadata(found, "annotations").unwrap_or(&empty);
    for key in declared
        .keys()
        .chain(carried.keys())
        .filter(|key| ![ADOPT_ANNOTATION, LAST_APPLIED].contains(&key.as_str()))
    {
        if carried.get(key).and_then(Value::as_str) != declared.get(key).map(String::as_str) {
            differing.insert(format!("metadata.annotations[{key}]"));
        }
    }
    let identity = workflow.spec.identity.iter();
    let wanted: BTreeSet<&str> = identity
        .flat_map(|identity| &identity.image_pull_secrets)
        .map(|secret| secret.name.as_str())
        .collect();
    let has = names(found, "imagePullSecrets");
    differing.extend(
        has.symmetric_difference(&wanted)
            .map(|name| entry("imagePullSecrets", name)),
    );
    differing.extend(names(found, "secrets").into_iter().map(|name| entry("secrets", name)));
    // Whoever owns it would put it back or take it away, and whoever has a finalizer on it counts on being asked.
    for field in ["ownerReferences", "finalizers"] {
        let list = found.pointer(&format!("/metadata/{field}"));
        if list.is_some_and(|list| !list.is_null() && !list.as_array().is_some_and(Vec::is_empty)) {
            differing.insert(format!("metadata.{field}"));
        }
    }
    let unknown = found
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| !KNOWN.contains(&key.as_str()) && !value.is_null());
    differing.extend(unknown.map(|(key, _)| key.clone()));
    differing
}

/// The API server takes any text for a name in these lists.
fn entry(field: &str, name: &str) -> String {
    let name: String = name.chars().take(253).collect();
    format!("{field}[{}]", name.escape_default())
}

fn metadata<'a>(object: &'a Value, field: &str) -> Option<&'a Map<String, Value>> {
    object.get("metadata")?.get(field)?.as_object()
}

fn text<'a>(map: Option<&'a Map<String, Value>>, key: &str) -> Option<&'a str> {
    map?.get(key)?.as_str()
}

/// Names in a list of references; what has none counts as a name that nobody declares.
fn names<'a>(object: &'a Value, field: &str) -> BTreeSet<&'a str> {
    let list = object.get(field).and_then(Value::as_array).into_iter().flatten();
    list.map(|entry| entry.get("name").and_then(Value::as_str).unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::tests::{kinds, observed, read_config, workflow};
    use super::super::{Outcome, Plan, plan, status};
    use super::*;
    use crate::api::{ClassIdentity, ConditionType, find};

    const ROLE: &str = "eks.amazonaws.com/role-arn";

    fn declared() -> AIWorkflow {
        let identity = json!({"annotations": {ROLE: "arn:1"}, "imagePullSecrets": [{"name": "registry"}]});
        workflow(json!({"identity": identity, "permissions": read_config()}))
    }

    /// An account that is what `declared` says, with the fields of `other` over it.
    fn existing(other: Value) -> Value {
        let mut account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "triage", "namespace": "ai", "uid": "account-uid", "resourceVersion": "7", "labels": {"team": "ml"}, "annotations": {
                "ringfence.dev/adopt": "triage", LAST_APPLIED: "{}", ROLE: "arn:1",
            }},
            "imagePullSecrets": [{"name": "registry"}],
        });
        merge(&mut account, other);
        account
    }

    fn merge(target: &mut Value, patch: Value) {
        match (target, patch) {
            (Value::Object(fields), Value::Object(patch)) => {
                for (key, value) in patch {
                    merge(fields.entry(key).or_insert(Value::Null), value);
                }
            }
            (target, patch) => *target = patch,
        }
    }

    fn around(account: Value) -> Observed {
        let mut observed = observed();
        let identity = ClassIdentity {
            annotations: vec![ROLE.to_owned()],
            ..ClassIdentity::default()
        };
        observed.class.as_mut().unwrap().spec.identity = Some(identity);
        observed.account = Some(account);
        observed
    }

    fn planned(account: Value) -> Plan {
        plan(&declared(), &around(account))
    }

    #[test]
    fn an_account_that_is_as_declared_joins_with_its_uid() {
        let plan = planned(existing(json!({})));
        assert_eq!(
            kinds(&plan.changes),
            [
                ("create", "NetworkPolicy"),
                ("replace", "ServiceAccount"),
                ("create", "Role"),
                ("create", "RoleBinding")
            ]
        );
        let Some(super::super::Change::Replace(_, account)) = plan.changes.get(1) else {
            panic!()
        };
        assert_eq!(
            (
                account["metadata"]["uid"].as_str(),
                account["metadata"]["resourceVersion"].as_str()
            ),
            (Some("account-uid"), Some("7")),
            "the very account that was seen"
        );
        assert_eq!(owner_uid(account), declared().metadata.uid.as_deref());
        assert_eq!(account["automountServiceAccountToken"], false);
        assert_eq!(account["metadata"]["ownerReferences"][0]["name"], "triage");
        assert_eq!(
            account["metadata"]["annotations"].get(ADOPT_ANNOTATION),
            None,
            "it has done its work"
        );
    }

    #[rstest]
    #[case::another_value(json!({"metadata": {"annotations": {ROLE: "arn:2"}}}), &["metadata.annotations[eks.amazonaws.com/role-arn]"])]
    #[case::missing(json!({"metadata": {"annotations": {ROLE: null}}}), &["metadata.annotations[eks.amazonaws.com/role-arn]"])]
    #[case::one_more(json!({"metadata": {"annotations": {"example.com/x": "arn:3"}}}), &["metadata.annotations[example.com/x]"])]
    #[case::other_pull_secrets(json!({"imagePullSecrets": [{"name": "other"}]}), &["imagePullSecrets[other]", "imagePullSecrets[registry]"])]
    #[case::legacy_token(json!({"secrets": [{"name": "triage-token-x"}]}), &["secrets[triage-token-x]"])]
    #[case::token_without_a_name(json!({"secrets": [{}]}), &["secrets[]"])]
    #[case::owned_by_another(json!({"metadata": {"ownerReferences": [{"kind": "Release"}]}}), &["metadata.ownerReferences"])]
    #[case::finalizer(json!({"metadata": {"finalizers": ["example.com/x"]}}), &["metadata.finalizers"])]
    #[case::newer_than_us(json!({"newField": true}), &["newField"])]
    #[case::all_at_once(json!({"newField": true, "secrets": [{"name": "a"}]}), &["newField", "secrets[a]"])]
    fn an_account_that_differs_is_left_as_it_is_and_says_where(#[case] other: Value, #[case] named: &[&str]) {
        let plan = planned(existing(other));
        assert_eq!(
            kinds(&plan.changes),
            [("create", "NetworkPolicy")],
            "no rights for an account that is not ours"
        );
        let found = status(
            &declared(),
            &around(Value::Null),
            &plan,
            &Outcome::Applied(None),
            "2026-01-03T00:00:00Z".parse().unwrap(),
        );
        let said = find(&found.conditions, ConditionType::Programmed).unwrap();
        assert_eq!(said.reason, "Conflict");
        assert!(
            said.message.contains(&format!("differs in {};", named.join(", "))),
            "{}",
            said.message
        );
        assert!(!said.message.contains("arn:"), "no value is repeated: {}", said.message);
    }

    #[rstest]
    #[case::does_not_ask(json!({"metadata": {"annotations": {"ringfence.dev/adopt": null}}}))]
    #[case::asks_for_another(json!({"metadata": {"annotations": {"ringfence.dev/adopt": "other"}}}))]
    #[case::is_anothers(json!({"metadata": {"annotations": {"ringfence.dev/owner-uid": "other"}}}))]
    #[case::is_going(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))]
    fn an_account_that_does_not_ask_is_somebody_elses(#[case] other: Value) {
        let plan = planned(existing(other));
        assert_eq!(
            (kinds(&plan.changes), plan.conflict),
            (vec![("create", "NetworkPolicy")], None)
        );
        assert_eq!(plan.taken, [(Child::ServiceAccount, "triage".to_owned())]);
    }

    #[test]
    fn nothing_joins_a_workflow_that_is_not_accepted_or_going() {
        let mut around = around(existing(json!({})));
        around.class.as_mut().unwrap().spec.permissions.clear();
        let outside = plan(&declared(), &around);
        assert_eq!(kinds(&outside.changes), [("create", "NetworkPolicy")]);
        assert_eq!(
            (outside.taken, outside.conflict),
            (vec![], None),
            "and nothing is wrong with the account"
        );
        let mut going = declared();
        going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-03T00:00:00Z")).unwrap();
        assert_eq!(plan(&going, &around).changes, []);
    }
}
