//! Pods made to slip by: whatever else of a bad pod is bent, it stays refused.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use ringfence::policy::{PolicyInput, PolicySet};
use serde_json::{Value, json};

use crate::loading::input;
use crate::shipped::joined;

static SHIPPED: LazyLock<PolicySet> =
    LazyLock::new(|| PolicySet::embedded(&BTreeMap::new()).unwrap_or_else(|errors| panic!("{}", joined(&errors))));

fn good_pod() -> Value {
    json!({
        "metadata": {"labels": {"ringfence.dev/workflow": "triage"}, "annotations": {"a": "b"}},
        "spec": {
            "serviceAccountName": "triage",
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "tmp", "emptyDir": {}}],
            "initContainers": [container("prepare")],
            "containers": [container("main")],
            "ephemeralContainers": [container("debug")],
        },
    })
}

fn container(name: &str) -> Value {
    json!({
        "name": name,
        "image": "registry.example.com/finance/triage:1",
        "command": ["run"],
        "args": ["--level=info"],
        "env": [{"name": "LEVEL", "value": "info"}],
        "ports": [{"containerPort": 8080}],
        "livenessProbe": {"httpGet": {"path": "/", "port": 8080}},
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    })
}

/// Policies that refuse, those that fail included.
fn refusing(pod: &Value) -> Vec<String> {
    refusing_at(pod, "Restricted")
}

fn refusing_at(pod: &Value, level: &str) -> Vec<String> {
    let request = json!({"namespace": "ai-secure", "object": pod});
    let pod = request.get("object").expect("there");
    let workflow = json!({"metadata": {"name": "triage"}, "spec": {"images": ["registry.example.com/finance/*"]}});
    let class = json!({"metadata": {"name": "default"}, "spec": {"images": {"allowed": ["**"]}, "podSecurity": level}});
    let namespace = json!({"metadata": {"name": "ai-secure", "labels": {"ringfence.dev/enforce": "default"}}});
    let input = PolicyInput {
        pod: Some(("", pod)),
        workflow: Some(&workflow),
        class: Some(&class),
        engine: None,
        namespace: Some(&namespace),
        ..input(&request)
    };
    let verdicts = SHIPPED.evaluate(&input, Duration::from_secs(20));
    assert_eq!(verdicts.len(), 6, "every policy for pods answers");
    let refuses = |verdict: &ringfence::policy::Verdict| {
        verdict
            .outcome
            .as_ref()
            .map_or(true, |findings| !findings.deny.is_empty())
    };
    verdicts
        .iter()
        .filter(|verdict| refuses(verdict))
        .map(|verdict| verdict.policy.clone())
        .collect()
}

/// Where, what is put there, and which policy must refuse it.
const EVILS: [(&str, &str, &str); 14] = [
    ("/spec/hostNetwork", "true", "restricted-pod-security"),
    ("/spec/hostPID", "true", "restricted-pod-security"),
    (
        "/spec/volumes/0/hostPath",
        r#"{"path": "/"}"#,
        "restricted-pod-security",
    ),
    (
        "/spec/containers/0/securityContext/privileged",
        "true",
        "restricted-pod-security",
    ),
    (
        "/spec/initContainers/0/securityContext/privileged",
        "true",
        "restricted-pod-security",
    ),
    (
        "/spec/ephemeralContainers/0/securityContext/privileged",
        "true",
        "restricted-pod-security",
    ),
    (
        "/spec/containers/0/securityContext/runAsUser",
        "0",
        "restricted-pod-security",
    ),
    (
        "/spec/containers/0/livenessProbe/httpGet/host",
        "\"169.254.169.254\"",
        "restricted-pod-security",
    ),
    ("/spec/containers/0/ports/0/hostPort", "80", "restricted-pod-security"),
    ("/spec/containers/0/image", "\"evil.example/a\"", "approved-images"),
    (
        "/spec/volumes/0/image",
        r#"{"reference": "evil.example/a"}"#,
        "approved-images",
    ),
    ("/spec/serviceAccountName", "\"admin\"", "dedicated-service-account"),
    (
        "/spec/containers/0/env/0/value",
        "\"postgres://a:hunter2@db/x\"",
        "no-literal-secrets",
    ),
    (
        "/spec/ephemeralContainers/0/args/0",
        "\"--password=hunter2\"",
        "no-literal-secrets",
    ),
];

/// Sets a value; `false` where its parent is gone, and the evil with it.
fn set(document: &mut Value, pointer: &str, value: Value) -> bool {
    let Some((parent, key)) = pointer.rsplit_once('/') else {
        return false;
    };
    match document.pointer_mut(parent) {
        Some(Value::Object(fields)) => {
            fields.insert(key.to_owned(), value);
            true
        }
        Some(Value::Array(items)) => match key.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
            Some(item) => {
                *item = value;
                true
            }
            None => false,
        },
        _ => false,
    }
}

fn pointers(value: &Value, path: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, child)| (key.replace('~', "~0").replace('/', "~1"), child))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, child)| (index.to_string(), child))
            .collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        let path = format!("{path}/{key}");
        pointers(child, &path, found);
        found.push(path);
    }
}

#[test]
fn the_good_pod_passes_every_policy() {
    assert_eq!(refusing(&good_pod()), Vec::<String>::new());
}

#[test]
fn each_evil_is_refused_by_its_policy() {
    for (pointer, value, policy) in EVILS {
        let mut pod = good_pod();
        assert!(
            set(&mut pod, pointer, serde_json::from_str(value).expect("json")),
            "{pointer}"
        );
        assert_eq!(refusing(&pod), [policy], "{pointer}");
    }
}

fn junk() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(null),
        json!(false),
        json!(true),
        json!(0),
        json!(-1.5),
        json!(""),
        json!("x"),
        json!("\u{0}\u{202e}"),
        json!([]),
        json!([null]),
        json!({}),
        json!({"a": {"b": []}}),
        json!([["x"]]),
        json!({"$serde_json::private::Number": "1"}),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A field of the wrong type may make a policy fail, never make it blind.
    #[test]
    fn no_bending_elsewhere_hides_an_evil(
        (pointer, value, policy) in prop::sample::select(EVILS.to_vec()),
        level in prop::sample::select(vec!["Restricted", "Baseline"]),
        bends in prop::collection::vec((any::<Index>(), junk()), 0..4),
    ) {
        let mut pod = good_pod();
        let evil: Value = serde_json::from_str(value).expect("json");
        prop_assert!(set(&mut pod, pointer, evil.clone()));
        for (index, junk) in bends {
            let mut places = Vec::new();
            pointers(&pod, "", &mut places);
            // The evil and what leads to it stay: without them the pod would be harmless, or not be a pod.
            places.retain(|place| !pointer.starts_with(place.as_str()) && !place.starts_with(pointer));
            let place = index.get(&places);
            if let Some(target) = pod.pointer_mut(place) {
                *target = junk;
            }
        }
        prop_assert_eq!(pod.pointer(pointer), Some(&evil));
        // Root is the one of them that the lower standard lets pass.
        let refusing = refusing_at(&pod, if pointer.ends_with("/runAsUser") { "Restricted" } else { level });
        prop_assert!(refusing.iter().any(|name| name == policy), "only {:?} refuse {}", refusing, pod);
    }

    /// Nothing at all may be missing from a pod without its policies saying so.
    #[test]
    fn a_pod_of_junk_is_refused(spec in junk(), metadata in junk()) {
        let pod = json!({"metadata": metadata, "spec": spec});
        prop_assert!(!refusing(&pod).is_empty());
    }

    #[test]
    fn a_secret_is_never_repeated(secret in "[A-Za-z0-9]{24,60}", name in prop::sample::select(vec!["API_KEY", "PASSWORD", "X"])) {
        let mut pod = good_pod();
        let value = format!("sk-{secret}");
        set(&mut pod, "/spec/containers/0/env/0", json!({"name": name, "value": value}));
        let request = json!({"namespace": "ai-secure", "object": pod});
        let input = PolicyInput { pod: Some(("", request.get("object").expect("there"))), ..input(&request) };
        let verdicts = SHIPPED.evaluate(&input, Duration::from_secs(20));
        let found = verdicts.iter().any(|verdict| {
            verdict.policy == "no-literal-secrets" && verdict.outcome.as_ref().is_ok_and(|findings| !findings.deny.is_empty())
        });
        prop_assert!(found);
        let said = format!("{verdicts:?}");
        prop_assert!(!said.contains(&secret[..8]), "{}", said);
    }
}
