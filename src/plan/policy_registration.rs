//! What the API server is to ask about RegoPolicies: the webhooks of the registration `ringfence-policies`.
//!
//! Must never: leave out a request that a policy matches; write what the API server would refuse, because then no policy's webhook
//! would be written; narrow a webhook that fails open by what an object holds: an object that is too much for the condition would
//! pass unreviewed.

use serde_json::{Map, Value, json};

use super::registration::{CHANGES, CHANGES_NAME, NOT_RINGFENCE};
use super::selector;
use crate::api::{FailurePolicy, KINDS_WEBHOOK, LabelSelector, MatchOperation, exempt_namespaces};
use crate::policy::{Entry, EntryRule};

/// Path of the chart's webhook whose address is taken.
const KINDS_PATH: &str = "/admit/kinds";
/// What must go on whatever a policy says: heartbeats, records, questions about who may do what, and the way out of a bad policy.
const MAY_BE_ASKED: &str = "!((request.resource.group == '' && request.resource.resource in ['nodes', 'events']) \
|| (request.resource.group == 'events.k8s.io' && request.resource.resource == 'events') \
|| (request.resource.group == 'coordination.k8s.io' && request.resource.resource == 'leases') \
|| request.resource.group in ['authentication.k8s.io', 'authorization.k8s.io', 'ringfence.dev'])";
/// What must go on with no replica there, or the cluster does not come up again: roles that the API server makes at its own start, tokens
/// that kubelets renew for pods that run, and the authority that every new namespace is given. Whoever may impersonate these may write
/// registrations too.
const COMES_UP: &str = "!(has(request.userInfo) && has(request.userInfo.username) && ( \
(request.resource.group == 'rbac.authorization.k8s.io' && request.userInfo.username == 'system:apiserver') \
|| (request.resource.group == '' && request.resource.resource == 'serviceaccounts' && has(request.subResource) \
&& request.subResource == 'token' && has(request.userInfo.groups) && 'system:nodes' in request.userInfo.groups) \
|| (request.resource.group == '' && request.resource.resource == 'configmaps' && has(request.name) \
&& request.name == 'kube-root-ca.crt' && request.userInfo.username == 'system:serviceaccount:kube-system:root-ca-cert-publisher')))";

/// The webhooks for `entries`, each with the version of what answers there, as the API server would store them: with its defaults
/// filled in. They are reached where `registration`, the chart's, is reached, and trust whom it trusts.
///
/// # Errors
/// Why the registration does not say where that is.
pub fn policy_webhooks(
    entries: &[(Entry, String)],
    registration: &Value,
    release_namespace: &str,
) -> Result<Vec<Value>, String> {
    // The way to nothing need not be known.
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let client = client(registration)?;
    let mut webhooks = Vec::new();
    for (entry, version) in entries {
        let rules: Vec<Value> = entry.rules.iter().filter_map(rule).collect();
        // What matches nothing is asked by nothing.
        if rules.is_empty() {
            continue;
        }
        webhooks.push(json!({
            "name": format!("{}.policies.ringfence.dev", entry.id),
            "clientConfig": at(&client, &format!("/admit/policies/{}/{version}", entry.id)).ok_or_else(unreadable)?,
            "rules": rules,
            "namespaceSelector": namespaces(entry.namespace_selector.as_ref(), release_namespace),
            "objectSelector": readable(entry.object_selector.as_ref()).map_or_else(|| json!({}), |found| json!(found)),
            "matchConditions": conditions(entry.failure, release_namespace),
            "failurePolicy": entry.failure,
            "matchPolicy": entry.match_policy,
            "sideEffects": "None",
            "timeoutSeconds": 5,
            "admissionReviewVersions": ["v1"],
        }));
    }
    Ok(webhooks)
}

/// Whether a registration, as the API server stores it, says exactly that.
pub fn registers(stored: &Value, webhooks: &[Value]) -> bool {
    webhooks_of(stored) == webhooks
}

/// The webhooks of a registration as it is stored: none are left out.
pub fn webhooks_of(stored: &Value) -> &[Value] {
    let found = stored.get("webhooks").and_then(Value::as_array);
    found.map_or(&[][..], Vec::as_slice)
}

/// Whether what the API server answered to a write says all that was written, and nothing but fields that it has filled in beside
/// that: a newer one may know more of them.
pub fn says_all(answered: &[Value], written: &[Value]) -> bool {
    answered.len() == written.len() && answered.iter().zip(written).all(|(answered, one)| says(answered, one))
}

fn says(answered: &Value, written: &Value) -> bool {
    match (answered, written) {
        (Value::Object(answered), Value::Object(written)) => written
            .iter()
            .all(|(key, value)| answered.get(key).is_some_and(|answered| says(answered, value))),
        (Value::Array(answered), Value::Array(written)) => says_all(answered, written),
        _ => answered == written,
    }
}

/// What is stored with these webhooks in place of its own. The rest, such as whose release it is part of, belongs to others.
pub fn with_webhooks(mut stored: Value, webhooks: Vec<Value>) -> Value {
    if let Some(stored) = stored.as_object_mut() {
        stored.insert("webhooks".to_owned(), Value::Array(webhooks));
    }
    stored
}

/// Where the chart's webhook for our kinds is reached, and whom it trusts.
pub(super) fn client(registration: &Value) -> Result<Map<String, Value>, String> {
    let webhooks = registration.get("webhooks").and_then(Value::as_array);
    let mut webhooks = webhooks.into_iter().flatten();
    let kinds = webhooks.find(|webhook| webhook.get("name").and_then(Value::as_str) == Some(KINDS_WEBHOOK));
    let client = kinds.and_then(|webhook| webhook.get("clientConfig"));
    let client = client.and_then(Value::as_object).ok_or_else(unreadable)?;
    let bundle = client.get("caBundle").and_then(Value::as_str).unwrap_or_default();
    if bundle.is_empty() {
        return Err(format!(
            "webhook {KINDS_WEBHOOK} has no caBundle yet, so nobody could be trusted: Ringfence fills it as soon as its certificate is \
             there (see /readyz)"
        ));
    }
    Ok(client.clone())
}

pub(super) fn unreadable() -> String {
    format!("where webhook {KINDS_WEBHOOK} is reached cannot be told from its clientConfig: apply the chart again")
}

/// The same client by another path.
pub(super) fn at(client: &Map<String, Value>, path: &str) -> Option<Value> {
    let mut client = client.clone();
    match (client.get("url"), client.get("service")) {
        (Some(url), None) => {
            let base = url.as_str()?.strip_suffix(KINDS_PATH)?;
            let url = format!("{base}{path}");
            client.insert("url".to_owned(), url.into());
        }
        (None, Some(service)) => {
            let mut service = service.as_object()?.clone();
            service.insert("path".to_owned(), path.into());
            client.insert("service".to_owned(), Value::Object(service));
        }
        (Some(_), Some(_)) | (None, None) => return None,
    }
    Some(Value::Object(client))
}

/// A selector that the API server would take. One that it would not selects everything: so it does where policies are matched.
fn readable(selector: Option<&LabelSelector>) -> Option<&LabelSelector> {
    selector.filter(|selector| selector::problems("", selector).is_empty())
}

fn namespaces(own: Option<&LabelSelector>, release_namespace: &str) -> Value {
    let mut selector = readable(own).map_or_else(|| json!({}), |found| json!(found));
    let exempt = json!({
        "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": exempt_namespaces(release_namespace),
    });
    let mut expressions = match selector.get_mut("matchExpressions").map(Value::take) {
        Some(Value::Array(expressions)) => expressions,
        _ => Vec::new(),
    };
    expressions.push(exempt);
    if let Some(selector) = selector.as_object_mut() {
        selector.insert("matchExpressions".to_owned(), Value::Array(expressions));
    }
    selector
}

fn conditions(failure: FailurePolicy, release_namespace: &str) -> Value {
    let (start, end) = NOT_RINGFENCE;
    let mut conditions = vec![
        json!({"name": "not-ringfence", "expression": format!("{start}{release_namespace}{end}")}),
        json!({"name": "may-be-asked-about", "expression": MAY_BE_ASKED}),
        json!({"name": "does-not-come-up", "expression": COMES_UP}),
    ];
    match failure {
        // While no replica is there, what takes finalizers off goes on, and so does garbage collection where no policy is about deletions.
        FailurePolicy::Fail => conditions.push(json!({"name": CHANGES_NAME, "expression": CHANGES})),
        FailurePolicy::Ignore => {}
    }
    Value::Array(conditions)
}

/// A rule in the form that the API server takes; `None` where it names nothing. Only what could not be vetted needs it, but one such
/// rule would keep all webhooks from being written.
fn rule(rule: &EntryRule) -> Option<Value> {
    let groups = alone(&rule.api_groups);
    let versions: Vec<_> = alone(&rule.api_versions).into_iter().filter(is_something).collect();
    let resources = resources(&rule.resources);
    let mut operations = rule.operations.clone();
    if operations.contains(&MatchOperation::All) {
        operations = vec![MatchOperation::All];
    }
    if groups.is_empty() || versions.is_empty() || resources.is_empty() || operations.is_empty() {
        return None;
    }
    Some(json!({
        "apiGroups": groups, "apiVersions": versions, "resources": resources, "operations": operations, "scope": rule.scope,
    }))
}

fn is_something(text: &&str) -> bool {
    !text.is_empty()
}

/// `*` stands alone.
fn alone(list: &[String]) -> Vec<&str> {
    if list.iter().any(|one| one == "*") {
        return vec!["*"];
    }
    list.iter().map(String::as_str).collect()
}

/// Without what a wildcard among them holds already.
fn resources(list: &[String]) -> Vec<&str> {
    let has = |wanted: &str| list.iter().any(|one| one == wanted);
    if has("*/*") {
        return vec!["*/*"];
    }
    let is_needed = |one: &&str| match one.split_once('/') {
        None => *one == "*" || !has("*"),
        Some(("*", _) | (_, "*")) => true,
        Some((resource, sub)) => !has(&format!("{resource}/*")) && !has(&format!("*/{sub}")),
    };
    let list = list.iter().map(String::as_str);
    list.filter(is_something).filter(is_needed).collect()
}

#[cfg(test)]
mod tests;
