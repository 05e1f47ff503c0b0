//! The pods that samples change one field of.

use serde_json::{Value, json};

/// Each list of containers, and the place in it that samples change: behind another one, where there is another one.
pub const CONTAINERS: [(&str, usize); 3] = [("initContainers", 0), ("containers", 1), ("ephemeralContainers", 0)];

fn pod(context: Option<Value>, container: &Value) -> Value {
    let named = |name: &str| {
        let mut container = container.clone();
        container["name"] = json!(name);
        container["image"] = json!("registry.example.com/team/app:1");
        container
    };
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app", "labels": {"app": "app"}},
        "spec": {
            "initContainers": [named("init")],
            "containers": [named("first"), named("second")],
            "ephemeralContainers": [named("debug")],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        },
    });
    if let Some(context) = context {
        pod["spec"]["securityContext"] = context;
    }
    pod
}

/// Meets "restricted", by the pod where it can.
pub fn good() -> Value {
    let context = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    let container = json!({"securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}});
    pod(Some(context), &container)
}

/// Meets "restricted", by its containers alone.
pub fn by_containers() -> Value {
    let context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": true,
        "seccompProfile": {"type": "Localhost", "localhostProfile": "app.json"},
    });
    pod(None, &json!({"securityContext": context}))
}

/// Meets "baseline", and asks for nothing.
pub fn bare() -> Value {
    pod(None, &json!({}))
}

/// Asks for all that a user namespace of its own makes harmless.
pub fn rootful() -> Value {
    let context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "procMount": "Unmasked",
        "runAsNonRoot": false,
        "runAsUser": 0,
    });
    let of_pod = json!({"runAsNonRoot": false, "runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}});
    pod(Some(of_pod), &json!({"securityContext": context}))
}
