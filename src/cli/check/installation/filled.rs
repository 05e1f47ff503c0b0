//! What the registrations that the operator fills say of themselves, beside what there is to be asked about. Pure.
//!
//! Must never: call one good by which nobody is asked, or which lets pass what waits for an answer.

use serde_json::Value;

use super::told::PUT_BACK;
use crate::{
    api::{FailurePolicy, is_exempt},
    cli::check::told::{Told, has_condition},
    plan::{NamespaceFacts, name_of, webhooks_of},
    policy::EntryId,
};

const CHECK: &str = "registrations";

/// Of a registration; `reason` says why the operator would have webhooks in it, where it would.
pub(super) fn registration(name: &str, found: Option<&Value>, reason: Option<&str>) -> Vec<Told> {
    let Some(found) = found else {
        let message = format!("ValidatingWebhookConfiguration {name} is not there");
        return vec![Told::error(CHECK, message, "helm upgrade the release")];
    };
    let webhooks = webhooks_of(found);
    if let (true, Some(reason)) = (webhooks.is_empty(), reason) {
        let message = format!("ValidatingWebhookConfiguration {name} has no webhook, though {reason}: nobody is asked");
        return vec![Told::error(CHECK, message, PUT_BACK)];
    }
    webhooks.iter().flat_map(|webhook| of_webhook(name, webhook)).collect()
}

fn of_webhook(registration: &str, webhook: &Value) -> Vec<Told> {
    let name = webhook.get("name").and_then(Value::as_str).unwrap_or_default();
    // As the operator calls them: one that asks what only audits may let pass.
    let id = name.strip_suffix(".policies.ringfence.dev");
    let id = id.and_then(|id| id.parse::<EntryId>().ok());
    let is_closed = id.is_none_or(|id| id.failure == FailurePolicy::Fail);
    let mut told = Vec::new();
    if is_closed && webhook["failurePolicy"] != "Fail" {
        let message = format!(
            "webhook {name} of {registration} has another failurePolicy than Fail: while no replica answers, what it asks about passes"
        );
        told.push(Told::error(CHECK, message, PUT_BACK));
    }
    let bundle = webhook.pointer("/clientConfig/caBundle").and_then(Value::as_str);
    if bundle.is_none_or(str::is_empty) {
        let message = format!("webhook {name} of {registration} has no caBundle: the API server trusts nobody there");
        told.push(Told::error(CHECK, message, PUT_BACK));
    }
    told
}

/// Why there are to be webhooks for bindings: the first namespace of a list that is fenced.
pub(super) fn fenced(namespaces: &Value, release: &str) -> Option<String> {
    let exempt = |name: &str| is_exempt(name, Some(release));
    let mut facts = items(namespaces).filter_map(|namespace| NamespaceFacts::from_object(namespace, exempt));
    let found = facts.find(|namespace| namespace.fencing_class().is_some())?;
    Some(format!("namespace {} is fenced", found.name))
}

/// Why there are to be webhooks for policies: the first RegoPolicy of a list that can be asked.
pub(super) fn compiled(policies: &Value) -> Option<String> {
    let found = items(policies).find(|policy| has_condition(policy, "Compiled"))?;
    Some(format!("RegoPolicy {} is compiled", name_of(found)))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.get("items").and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const FAIL: &str = "fail-0123456789abcdef.policies.ringfence.dev";
    const IGNORE: &str = "ignore-0123456789abcdef.policies.ringfence.dev";

    fn with(name: &str, failure: &str, client: Value) -> Value {
        json!({"webhooks": [{"name": name, "failurePolicy": failure, "clientConfig": client}]})
    }

    fn trusting() -> Value {
        json!({"caBundle": "Q0E="})
    }

    #[rstest]
    #[case::as_it_is(Some(with(FAIL, "Fail", trusting())), Some("because"), "")]
    #[case::of_bindings(Some(with("bindings.ringfence.dev", "Fail", trusting())), None, "")]
    #[case::what_audits(Some(with(IGNORE, "Ignore", trusting())), None, "")]
    #[case::nothing_to_ask(Some(json!({"webhooks": []})), None, "")]
    #[case::nothing_to_ask_either(Some(json!({})), None, "")]
    #[case::gone(None, None, "r is not there")]
    #[case::emptied(Some(json!({"webhooks": []})), Some("because"), "r has no webhook, though because")]
    #[case::emptied_whole(Some(json!({})), Some("because"), "r has no webhook, though because")]
    #[case::open(Some(with(FAIL, "Ignore", trusting())), None, "of r has another failurePolicy")]
    #[case::open_for_bindings(
        Some(with("bindings.ringfence.dev", "Ignore", trusting())),
        None,
        "of r has another failurePolicy"
    )]
    #[case::of_no_name_of_ours(
        Some(with("ignore-all.policies.ringfence.dev", "Ignore", trusting())),
        None,
        "of r has another failurePolicy"
    )]
    #[case::trusts_nobody(Some(with(IGNORE, "Ignore", json!({"url": "https://x"}))), None, "of r has no caBundle")]
    #[case::trusts_nothing(Some(with(FAIL, "Fail", json!({"caBundle": ""}))), None, "of r has no caBundle")]
    fn a_registration_asks_fails_closed_and_trusts(
        #[case] found: Option<Value>,
        #[case] reason: Option<&str>,
        #[case] words: &str,
    ) {
        let told = registration("r", found.as_ref(), reason);
        if words.is_empty() {
            assert_eq!(told, []);
        } else {
            assert!(told.len() == 1 && told[0].message.contains(words), "{told:?}");
            assert!(!told[0].fix.is_empty());
        }
    }

    #[test]
    fn what_there_is_to_be_asked_about_is_known() {
        let namespace = |name: &str, label: &str| json!({"metadata": {"name": name, "labels": {label: "default"}}});
        let of = |namespaces: &[Value]| fenced(&json!({"items": namespaces}), "ours");
        let exempt = ["kube-system", "ours"].map(|name| namespace(name, "ringfence.dev/enforce"));
        assert_eq!(of(&exempt), None);
        assert_eq!(of(&[namespace("ai", "ringfence.dev/audit")]), None);
        let warned = namespace("ai", "ringfence.dev/warn");
        assert_eq!(
            of(&[&exempt[..], &[warned]].concat()).as_deref(),
            Some("namespace ai is fenced")
        );
        let policy = |status: &str| {
            let conditions = json!([{"type": "Compiled", "status": status}]);
            json!({"items": [{"metadata": {"name": "p"}, "status": {"conditions": conditions}}]})
        };
        assert_eq!(compiled(&policy("False")), None);
        assert_eq!(compiled(&policy("True")).as_deref(), Some("RegoPolicy p is compiled"));
    }
}
