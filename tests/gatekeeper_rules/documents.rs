//! Templates, constraints and requests to vary.

use serde_json::{Value, json};

/// Finds whatever it is asked about, and says what it sees of it.
pub const FINDS_ALL: &str = r#"package findsall

violation[{"msg": msg, "details": {"a": 1}}] {
  msg := sprintf("%v %v %v in %v", [input.review.operation, input.review.kind.kind, object.get(input.review, "name", "unnamed"), object.get(input.review, "namespace", "none")])
}
"#;

/// Puts a patch over a value; null takes a field away.
pub fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    target.remove(key);
                } else {
                    merge(target.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

pub fn patched(mut value: Value, patch: &Value) -> Value {
    merge(&mut value, patch);
    value
}

/// A template of kind `FindsAll`, whose parameters may be anything.
pub fn template(rego: &str) -> Value {
    json!({
        "apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate", "metadata": {"name": "findsall"},
        "spec": {
            "crd": {"spec": {"names": {"kind": "FindsAll"}, "validation": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}},
            "targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": rego}],
        },
    })
}

pub fn constraint(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "FindsAll", "metadata": {"name": name}, "spec": spec})
}

/// The Namespace of requests.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": "ml", "env": "prod"}}})
}

/// A request for an object as the API server sends it, with the Namespace that it names.
pub fn asked(operation: &str, resource: &str, object: &Value, old: &Value) -> Value {
    let current = if object.is_object() { object } else { old };
    let text = |pointer: &str| current.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", text("/apiVersion")));
    let is_namespace = (group, text("/kind")) == ("", "Namespace");
    let lies_in = if is_namespace {
        text("/metadata/name")
    } else {
        text("/metadata/namespace")
    };
    let kind = json!({"group": group, "version": version, "kind": text("/kind")});
    let resource = json!({"group": group, "version": version, "resource": resource});
    let mut request = json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": operation, "kind": kind, "requestKind": kind,
        "resource": resource, "requestResource": resource, "dryRun": false,
        "userInfo": {"username": "ann", "groups": ["system:authenticated"]},
        "object": object, "oldObject": old, "options": null,
    });
    // Sent where there is one.
    if !text("/metadata/name").is_empty() {
        request["name"] = text("/metadata/name").into();
    }
    if !lies_in.is_empty() {
        request["namespace"] = lies_in.into();
    }
    let namespace = if lies_in.is_empty() {
        Value::Null
    } else {
        namespace(lies_in)
    };
    json!({"request": request, "namespace": namespace})
}

pub fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web-1", "namespace": "ai", "labels": {"app": "web", "tier": "front"}},
        "spec": {"containers": [{"name": "c", "image": "evil.example/x:latest"}]},
    })
}

pub fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "ai", "labels": {"app": "web"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web", "of": "template"}}, "spec": {"containers": [{"name": "c", "image": "x"}]},
        }},
    })
}

pub fn cluster_role() -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "web-role", "labels": {"app": "web"}}, "rules": []})
}

pub fn config_map() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "kube-ai"}, "data": {"a": "b"}})
}

/// Requests of every kind of place, with single fields that differ.
pub fn requests() -> Vec<Value> {
    let none = Value::Null;
    let relabelled = patched(pod(), &json!({"metadata": {"labels": {"app": "api", "tier": null}}}));
    let unlabelled = patched(pod(), &json!({"metadata": {"labels": null}}));
    let unnamed = patched(pod(), &json!({"metadata": {"name": null, "generateName": "web-"}}));
    let ai = namespace("ai");
    let other = patched(
        namespace("kube-ai"),
        &json!({"metadata": {"labels": {"team": null, "app": "web"}}}),
    );
    let group = patched(
        cluster_role(),
        &json!({"apiVersion": "example.com/v1", "kind": "Namespace", "metadata": {"name": "ai"}}),
    );
    vec![
        asked("CREATE", "pods", &pod(), &none),
        asked("CREATE", "pods", &unnamed, &none),
        asked("CREATE", "pods", &unlabelled, &none),
        asked("UPDATE", "pods", &pod(), &relabelled),
        asked("UPDATE", "pods", &relabelled, &pod()),
        asked("UPDATE", "pods", &relabelled, &unlabelled),
        asked("CREATE", "deployments", &deployment(), &none),
        asked("CREATE", "configmaps", &config_map(), &none),
        asked("CREATE", "namespaces", &ai, &none),
        asked("UPDATE", "namespaces", &other, &other),
        asked(
            "UPDATE",
            "namespaces",
            &patched(ai.clone(), &json!({"metadata": {"labels": {"team": "x"}}})),
            &ai,
        ),
        asked("CREATE", "clusterroles", &cluster_role(), &none),
        asked("UPDATE", "clusterroles", &cluster_role(), &cluster_role()),
        asked("CREATE", "namespaces", &group, &none),
    ]
}
