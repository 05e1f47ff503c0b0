//! A registration as the chart rendered it: what the API server is to store of it.
//!
//! Must never: leave a field to whoever wrote it last. What the chart does not say is as the API server has it by default.

use include_dir::{Dir, include_dir};
use serde_json::{Value, json};

use super::policy_registration::webhooks_of;

static GUARDS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/charts/ringfence/guards");

/// ValidatingAdmissionPolicies of the chart of this version, each with a binding of its name.
pub fn guards() -> Vec<String> {
    let files = GUARDS.files().filter_map(|file| file.path().file_stem()?.to_str());
    let mut names: Vec<_> = files.map(|stem| format!("ringfence-{stem}")).collect();
    names.sort_unstable();
    names
}

/// What a rendered guard says, its policy or its binding, with the API server's defaults.
pub fn rendered_guard(rendered: &Value) -> Value {
    let mut spec = rendered.get("spec").cloned().unwrap_or_default();
    for field in ["matchConstraints", "matchResources"] {
        let Some(matched) = spec.get_mut(field).and_then(Value::as_object_mut) else {
            continue;
        };
        matched.entry("matchPolicy").or_insert_with(|| json!("Equivalent"));
        for selector in ["namespaceSelector", "objectSelector"] {
            matched.entry(selector).or_insert_with(|| json!({}));
        }
        for rules in ["resourceRules", "excludeResourceRules"] {
            let rules = matched.get_mut(rules).and_then(Value::as_array_mut);
            for rule in rules.into_iter().flatten().filter_map(Value::as_object_mut) {
                rule.entry("scope").or_insert_with(|| json!("*"));
            }
        }
    }
    spec
}

/// The webhooks of a rendered registration with the API server's defaults, and each with the `caBundle` that it has in `stored`: the
/// certificate's keeper sees to that one.
pub fn rendered_webhooks(rendered: &Value, stored: &Value) -> Vec<Value> {
    let mut webhooks = webhooks_of(rendered).to_vec();
    for webhook in &mut webhooks {
        let Some(fields) = webhook.as_object_mut() else {
            continue;
        };
        for selector in ["namespaceSelector", "objectSelector"] {
            fields.entry(selector).or_insert_with(|| json!({}));
        }
        let same = webhooks_of(stored)
            .iter()
            .find(|stored| stored.get("name") == fields.get("name"));
        let bundle = same.and_then(|stored| stored.get("clientConfig")?.get("caBundle"));
        if let (Some(bundle), Some(client)) = (bundle, fields.get_mut("clientConfig").and_then(Value::as_object_mut)) {
            client.insert("caBundle".to_owned(), bundle.clone());
        }
    }
    webhooks
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::plan::registers;

    fn rendered() -> Value {
        json!({"webhooks": [
            {"name": "a", "failurePolicy": "Fail", "clientConfig": {"url": "https://x/a"}},
            {"name": "b", "failurePolicy": "Fail", "clientConfig": {"url": "https://x/b"}, "objectSelector": {"matchLabels": {"l": "1"}}},
        ]})
    }

    fn stored() -> Value {
        let mut stored = rendered();
        for (at, bundle) in ["QQ==", "Qg=="].iter().enumerate() {
            stored["webhooks"][at]["clientConfig"]["caBundle"] = json!(bundle);
            stored["webhooks"][at]["namespaceSelector"] = json!({});
        }
        stored["webhooks"][0]["objectSelector"] = json!({});
        stored
    }

    #[test]
    fn what_the_api_server_stores_of_it_is_it() {
        assert!(registers(&stored(), &rendered_webhooks(&rendered(), &stored())));
    }

    #[rstest]
    #[case::fails_open("/webhooks/0/failurePolicy", json!("Ignore"))]
    #[case::sees_less("/webhooks/0/objectSelector", json!({"matchLabels": {"no": "object"}}))]
    #[case::elsewhere("/webhooks/1/clientConfig/url", json!("https://evil/b"))]
    #[case::newer_field("/webhooks/1", json!({"name": "b", "skipsAll": true}))]
    #[case::emptied("/webhooks", json!([]))]
    fn what_somebody_changed_is_not(#[case] at: &str, #[case] value: Value) {
        let mut stored = stored();
        *stored.pointer_mut(at).unwrap() = value;
        assert!(!registers(&stored, &rendered_webhooks(&rendered(), &stored)));
    }

    #[test]
    fn a_guard_is_compared_with_the_defaults_of_the_api_server() {
        let rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
        let rendered = json!({"spec": {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]}}});
        let mut stored = rule;
        stored["scope"] = json!("*");
        let stored = json!({"failurePolicy": "Fail", "matchConstraints": {
            "resourceRules": [stored], "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {},
        }});
        assert_eq!(rendered_guard(&rendered), stored);
        let binding = json!({"spec": {"policyName": "x", "validationActions": ["Deny"]}});
        assert_eq!(rendered_guard(&binding), binding["spec"]);
        assert!(guards().contains(&"ringfence-modes".to_owned()), "{:?}", guards());
    }

    #[test]
    fn what_somebody_added_is_not() {
        let mut stored = stored();
        stored["webhooks"][0]["matchConditions"] = json!([{"name": "never", "expression": "false"}]);
        assert!(!registers(&stored, &rendered_webhooks(&rendered(), &stored)));
    }
}
