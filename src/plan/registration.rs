//! The registration under which writes of our kinds are reviewed: whether it is there, and asks about every one of them.
//!
//! Must never: take a webhook for a reviewer that some write of our kinds passes by, whatever narrows it.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::api::{GROUP, KINDS_WEBHOOK};

/// Our kinds, and whether they live in namespaces.
const KINDS: [(&str, bool); 5] = [
    ("aiworkflows", true),
    ("aiworkflowclasses", false),
    ("aiworkflowgrants", true),
    ("regopolicies", false),
    ("regopolicyexceptions", true),
];
/// The chart's condition that lets Ringfence's own writes pass: this around the namespace of its account.
pub(super) const NOT_RINGFENCE: (&str, &str) = ("request.userInfo.username != 'system:serviceaccount:", ":ringfence'");
/// The chart's condition of a webhook that judges objects: it lets pass what changes nothing that a rule looks at. Tests hold the chart
/// to it.
macro_rules! changes {
    () => {
        "request.operation != 'UPDATE' || object == null || oldObject == null \
|| !object.all(k, k == 'metadata' || (k in oldObject && object[k] == oldObject[k])) \
|| !oldObject.all(k, k in object) \
|| !has(object.metadata) || !has(oldObject.metadata) \
|| has(object.metadata.labels) != has(oldObject.metadata.labels) \
|| (has(object.metadata.labels) && object.metadata.labels != oldObject.metadata.labels) \
|| has(object.metadata.annotations) != has(oldObject.metadata.annotations) \
|| (has(object.metadata.annotations) && object.metadata.annotations != oldObject.metadata.annotations) \
|| (has(object.metadata.ownerReferences) \
&& (!has(oldObject.metadata.ownerReferences) \
|| (object.metadata.ownerReferences != oldObject.metadata.ownerReferences \
&& (size(oldObject.metadata.ownerReferences) > 32 \
|| !object.metadata.ownerReferences.all(r, r in oldObject.metadata.ownerReferences)))))"
    };
}
pub(super) const CHANGES: &str = changes!();
/// Its name.
pub(super) const CHANGES_NAME: &str = "changes-what-is-judged";
/// The same for our own kinds, which asks about more.
const CHANGES_OF_KINDS: &str = concat!(
    "!(request.userInfo.username in ['system:kube-controller-manager', \
'system:serviceaccount:kube-system:generic-garbage-collector'] \
|| (object != null && oldObject != null && has(object.metadata) && has(oldObject.metadata) \
&& ((has(oldObject.metadata.deletionTimestamp) && !has(object.metadata.finalizers)) \
|| (has(object.metadata.managedFields) == has(oldObject.metadata.managedFields) \
&& (!has(object.metadata.managedFields) || object.metadata.managedFields == oldObject.metadata.managedFields) \
&& (!has(object.metadata.finalizers) \
|| (has(oldObject.metadata.finalizers) \
&& (size(object.metadata.finalizers) < size(oldObject.metadata.finalizers) \
|| object.metadata.finalizers == oldObject.metadata.finalizers))))))) \
|| ",
    changes!()
);

/// The registration under which writes of our kinds are reviewed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registration {
    /// UID.
    pub uid: String,
    /// When it was made.
    pub created: Timestamp,
}

impl Registration {
    /// Reads a ValidatingWebhookConfiguration. `None` where some write of our kinds is not reviewed, or passes where it cannot be
    /// asked about.
    pub fn from_object(object: &Value) -> Option<Self> {
        let mut webhooks = object.get("webhooks")?.as_array()?.iter();
        let reviews = webhooks
            .any(|webhook| webhook.get("name").and_then(Value::as_str) == Some(KINDS_WEBHOOK) && is_whole(webhook));
        let text = |field: &str| object.get("metadata")?.get(field)?.as_str();
        let uid = text("uid").filter(|uid| !uid.is_empty())?.to_owned();
        let created = text("creationTimestamp")?.parse().ok()?;
        reviews.then_some(Self { uid, created })
    }
}

/// Whether a webhook asks about every write of our kinds. Fields are as the API server stores them, with its defaults filled in.
fn is_whole(webhook: &Value) -> bool {
    let is = |field: &str, value: &str| webhook.get(field).and_then(Value::as_str) == Some(value);
    let selects_all = |field: &str| match webhook.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::Object(selector)) => selector.is_empty(),
        Some(_) => false,
    };
    let conditions = match webhook.get("matchConditions") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(conditions)) => conditions,
        Some(_) => return false,
    };
    let rules = webhook.get("rules").and_then(Value::as_array);
    let covers = |operation: &str, (kind, in_namespaces): (&str, bool)| {
        rules
            .into_iter()
            .flatten()
            .any(|rule| is_covered(rule, operation, kind, in_namespaces))
    };
    is("failurePolicy", "Fail")
        && is("matchPolicy", "Equivalent")
        && selects_all("objectSelector")
        && selects_all("namespaceSelector")
        && conditions.iter().all(is_the_charts)
        && KINDS
            .iter()
            .all(|kind| covers("CREATE", *kind) && covers("UPDATE", *kind))
}

fn is_covered(rule: &Value, operation: &str, kind: &str, in_namespaces: bool) -> bool {
    let has = |field: &str, wanted: &str| {
        let list = rule.get(field).and_then(Value::as_array);
        list.into_iter().flatten().any(|value| value == wanted || value == "*")
    };
    let scope = match rule.get("scope").and_then(Value::as_str) {
        None | Some("*") => true,
        Some(scope) => scope == if in_namespaces { "Namespaced" } else { "Cluster" },
    };
    has("operations", operation)
        && has("apiGroups", GROUP)
        && has("apiVersions", "v1alpha1")
        && has("resources", kind)
        && scope
}

/// Whether a condition is one that the chart sets. Without them more is asked about.
fn is_the_charts(condition: &Value) -> bool {
    let text = |field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default();
    let expression = text("expression");
    match text("name") {
        "not-ringfence" => {
            let (start, end) = NOT_RINGFENCE;
            let namespace = expression.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
            namespace.is_some_and(|name| {
                !name.is_empty()
                    && name
                        .bytes()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
            })
        }
        CHANGES_NAME => expression.split_whitespace().eq(CHANGES_OF_KINDS.split_whitespace()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const OWN: &str = "request.userInfo.username != 'system:serviceaccount:ringfence-system:ringfence'";

    fn read(change: &Value) -> Option<Registration> {
        let mut webhook = json!({
            "name": KINDS_WEBHOOK, "failurePolicy": "Fail", "matchPolicy": "Equivalent",
            "objectSelector": {}, "namespaceSelector": {},
            "rules": [{
                "operations": ["CREATE", "UPDATE"], "apiGroups": ["ringfence.dev"], "apiVersions": ["*"], "scope": "*",
                "resources": ["aiworkflows", "aiworkflowclasses", "aiworkflowgrants", "regopolicies", "regopolicyexceptions"],
            }],
            "matchConditions": [
                {"name": "not-ringfence", "expression": OWN},
                {"name": "changes-what-is-judged", "expression": CHANGES_OF_KINDS.replace(" || ", "\n  || ")},
            ],
        });
        for (field, value) in change.as_object().unwrap() {
            match value {
                Value::Null => drop(webhook.as_object_mut().unwrap().remove(field)),
                _ => webhook[field] = value.clone(),
            }
        }
        let webhooks = json!([{"name": "fence.ringfence.dev", "failurePolicy": "Fail"}, webhook]);
        let metadata = json!({"uid": "now", "creationTimestamp": "2026-01-01T12:00:00Z"});
        Registration::from_object(&json!({"metadata": metadata, "webhooks": webhooks}))
    }

    fn rule(change: &Value) -> Value {
        let mut rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
        rule.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        rule
    }

    #[rstest]
    #[case::as_the_chart_has_it(json!({}))]
    #[case::with_nothing_left_out(json!({"matchConditions": null, "objectSelector": null, "namespaceSelector": null}))]
    #[case::of_everything(json!({"rules": [rule(&json!({}))]}))]
    #[case::of_two_rules(json!({"rules": [rule(&json!({"scope": "Cluster"})), rule(&json!({"scope": "Namespaced"}))]}))]
    #[case::of_an_operation_each(json!({"rules": [rule(&json!({"operations": ["CREATE"]})), rule(&json!({"operations": ["UPDATE"]}))]}))]
    #[case::of_our_version(json!({"rules": [rule(&json!({"apiVersions": ["v1alpha1"]}))]}))]
    fn what_reviews_every_write_is_a_registration(#[case] change: Value) {
        assert_eq!(read(&change).map(|read| read.uid).as_deref(), Some("now"));
    }

    #[rstest]
    #[case::of_another_name(json!({"name": "other.ringfence.dev"}))]
    #[case::fails_open(json!({"failurePolicy": "Ignore"}))]
    #[case::of_objects(json!({"objectSelector": {"matchLabels": {"a": "b"}}}))]
    #[case::of_no_object(json!({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}))]
    #[case::of_namespaces(json!({"namespaceSelector": {"matchLabels": {"a": "b"}}}))]
    #[case::of_exact_versions(json!({"matchPolicy": "Exact"}))]
    #[case::of_no_policy(json!({"matchPolicy": null}))]
    #[case::never(json!({"matchConditions": [{"name": "never", "expression": "false"}]}))]
    #[case::never_by_a_name_of_ours(json!({"matchConditions": [{"name": "changes-what-is-judged", "expression": "false"}]}))]
    #[case::nobody(json!({"matchConditions": [{"name": "not-ringfence", "expression": "false"}]}))]
    #[case::more_than_ours(json!({"matchConditions": [{"name": "not-ringfence", "expression": format!("{OWN} && 1 != 1 || 'x' != 'x:ringfence'")}]}))]
    #[case::as_a_user(json!({"matchConditions": [{"name": "not-ringfence", "expression": "request.userInfo.username != 'mallory'"}]}))]
    #[case::no_list(json!({"matchConditions": "x"}))]
    #[case::without_rules(json!({"rules": null}))]
    #[case::of_no_rule(json!({"rules": []}))]
    #[case::of_creations(json!({"rules": [rule(&json!({"operations": ["CREATE"]}))]}))]
    #[case::of_deletions(json!({"rules": [rule(&json!({"operations": ["DELETE"]}))]}))]
    #[case::of_others(json!({"rules": [rule(&json!({"apiGroups": ["apps"]}))]}))]
    #[case::of_other_versions(json!({"rules": [rule(&json!({"apiVersions": ["v9"]}))]}))]
    #[case::of_all_but_policies(json!({"rules": [rule(&json!({"resources": ["aiworkflows", "aiworkflowclasses", "aiworkflowgrants", "regopolicyexceptions"]}))]}))]
    #[case::of_one_kind(json!({"rules": [rule(&json!({"resources": ["aiworkflows"]}))]}))]
    #[case::of_subresources(json!({"rules": [rule(&json!({"resources": ["*/status"]}))]}))]
    #[case::of_the_cluster(json!({"rules": [rule(&json!({"scope": "Cluster"}))]}))]
    #[case::of_what_is_in_namespaces(json!({"rules": [rule(&json!({"scope": "Namespaced"}))]}))]
    fn what_some_write_passes_by_is_none(#[case] change: Value) {
        assert_eq!(read(&change), None);
    }

    #[rstest]
    #[case(json!({"metadata": {"uid": "now", "creationTimestamp": "2026-01-01T12:00:00Z"}, "webhooks": null}))]
    #[case(json!({"metadata": {"uid": "now", "creationTimestamp": "2026-01-01T12:00:00Z"}, "webhooks": [7]}))]
    #[case(json!(null))]
    fn what_is_no_registration_is_none(#[case] object: Value) {
        assert_eq!(Registration::from_object(&object), None);
    }
}
