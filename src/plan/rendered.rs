//! A registration as the chart rendered it: what the API server is to store of it.
//!
//! Must never: leave a field to whoever wrote it last. What the chart does not say is as the API server has it by default.

use serde_json::{Value, json};

use super::policy_registration::webhooks_of;

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
    fn what_somebody_added_is_not() {
        let mut stored = stored();
        stored["webhooks"][0]["matchConditions"] = json!([{"name": "never", "expression": "false"}]);
        assert!(!registers(&stored, &rendered_webhooks(&rendered(), &stored)));
    }
}
