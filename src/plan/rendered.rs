//! A registration as the chart rendered it: what the API server is to store of it.
//!
//! Must never: leave a field to whoever wrote it last. What the chart does not say is as the API server has it by default.

use include_dir::{Dir, include_dir};
use serde_json::{Map, Value, json};

use super::policy_registration::webhooks_of;

static GUARDS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/charts/ringfence/guards");

/// ValidatingAdmissionPolicies of the chart of this version, each with a binding of its name.
pub fn guards() -> Vec<String> {
    let files = GUARDS.files().filter_map(|file| file.path().file_stem()?.to_str());
    let mut names: Vec<_> = files.map(|stem| format!("ringfence-{stem}")).collect();
    names.sort_unstable();
    names
}

/// The guard that lets network plugins report through a pod's status, and names by which annotations.
pub const REPORTS_GUARD: &str = "ringfence-subresources";
/// Its variable that names them.
const LISTED: &str = "reports";

/// Annotations by which network plugins report, as the chart has them by default: whole keys.
pub const REPORTS: [&str; 8] = [
    "ambient.istio.io/redirection",
    "cni.projectcalico.org/containerID",
    "cni.projectcalico.org/podIP",
    "cni.projectcalico.org/podIPs",
    "cni.projectcalico.org/podNetns",
    "k8s.ovn.org/pod-networks",
    "k8s.v1.cni.cncf.io/network-status",
    "k8s.v1.cni.cncf.io/networks-status",
];

/// The same as that guard has them: whole keys, or prefixes that end with a slash. `None` where it does not say so in the chart's words.
pub fn reports(guard: &Value) -> Option<Vec<String>> {
    let variables = guard.pointer("/spec/variables")?.as_array()?;
    let named = |variable: &&Value| variable.get("name").and_then(Value::as_str) == Some(LISTED);
    let expression = variables.iter().find(named)?.get("expression")?.as_str()?;
    let list = expression.strip_prefix('[')?.strip_suffix(']')?;
    let keys = list.split(',').map(str::trim).filter(|key| !key.is_empty());
    let bare = |key: &str| {
        let key = key.strip_prefix('\'')?.strip_suffix('\'')?;
        (!key.contains('\'')).then(|| key.to_owned())
    };
    keys.map(bare).collect()
}

/// Takes the annotations from a pod by which network plugins report: they were no part of what was made. Who wrote them is not asked,
/// because `managedFields` say what their writer likes.
pub fn without_reports(pod: &mut Map<String, Value>, reports: &[String]) {
    let annotations = pod
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("annotations"));
    let is_report = |key: &str| {
        let is = |report: &String| key == report || report.ends_with('/') && key.starts_with(report.as_str());
        reports.iter().any(is)
    };
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !is_report(key));
    }
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

    /// The chart's own words, with these keys.
    fn guard(keys: &[&str]) -> Value {
        let template = GUARDS.get_file("subresources.yaml").unwrap().contents_utf8().unwrap();
        let (_, after) = template.split_once("name: reports\n").unwrap();
        let (before, rest) = after.split_once("{{ range").unwrap();
        let (_, rest) = rest.split_once("{{ end }}'{{ $key }}'{{ end }}").unwrap();
        let keys: Vec<_> = keys.iter().map(|key| format!("'{key}'")).collect();
        let (_, opening) = before.split_once('"').unwrap();
        let expression = format!("{opening}{}{}", keys.join(", "), rest.split_once('"').unwrap().0);
        json!({"spec": {"variables": [{"name": "isPod", "expression": "[x]"}, {"name": "reports", "expression": expression}]}})
    }

    #[test]
    fn the_guard_says_by_which_annotations_plugins_report() {
        let keys = ["k8s.ovn.org/pod-networks", "cni.example.com/"];
        assert_eq!(reports(&guard(&keys)).unwrap(), keys);
        assert_eq!(reports(&guard(&[])).unwrap(), [""; 0]);
        for unread in [
            json!({}),
            json!({"spec": {"variables": [{"name": "unlisted", "expression": "['a']"}]}}),
            json!({"spec": {"variables": [{"name": "reports", "expression": "[a, 'b']"}]}}),
            json!({"spec": {"variables": [{"name": "reports", "expression": "['a'] + ['b']"}]}}),
        ] {
            assert_eq!(reports(&unread), None, "{unread}");
        }
        let values: Value = serde_saphyr::from_str(include_str!("../../charts/ringfence/values.yaml")).unwrap();
        assert_eq!(values["podReports"]["annotations"], json!(REPORTS));
    }

    #[rstest]
    #[case::whole("cni.example.com/ip", false)]
    #[case::of_a_prefix("net.example.com/any", false)]
    #[case::longer_than_a_whole_key("cni.example.com/ips", true)]
    #[case::what_asks("k8s.v1.cni.cncf.io/networks", true)]
    fn what_plugins_report_is_no_part_of_what_was_made(#[case] key: &str, #[case] stays: bool) {
        let reports = ["cni.example.com/ip".to_owned(), "net.example.com/".to_owned()];
        // Whoever wrote it: a pod is made with the record that its author wants.
        let record = json!([{"manager": "multus", "operation": "Update", "subresource": "status", "fieldsV1": {"f:metadata": {"f:annotations": {format!("f:{key}"): {}}}}}]);
        let mut pod = json!({"metadata": {"annotations": {key: "x", "own.example/a": "1"}, "managedFields": record}});
        without_reports(pod.as_object_mut().unwrap(), &reports);
        let left = &pod["metadata"]["annotations"];
        assert_eq!((left.get(key).is_some(), &left["own.example/a"]), (stays, &json!("1")));
    }

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
