//! Requests and facts for the tests of the rules.

use serde_json::{Value, json};

use super::{Facts, Owner, OwnerRef};
use crate::api::AIWorkflow;
use crate::plan::{NamespaceFacts, default_deny};
use crate::review::Review;

/// A review in namespace `ai`, sent by `ann`.
pub(crate) fn review(operation: &str, group: &str, kind: &str, object: Option<&Value>, old: Option<&Value>) -> Review {
    let mut review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "operation": operation, "namespace": "ai",
            "kind": {"group": group, "version": "v1", "kind": kind},
            "resource": {"group": group, "version": "v1", "resource": format!("{}s", kind.to_lowercase())},
            "userInfo": {"username": "ann", "groups": ["data"]},
        },
    });
    for (key, value) in [("object", object), ("oldObject", old)] {
        review["request"][key] = value.cloned().unwrap_or_default();
    }
    Review::parse(&serde_json::to_vec(&review).unwrap()).unwrap()
}

/// Sets what a JSON pointer names; makes the objects on the way.
pub(crate) fn set(mut object: Value, pointer: &str, value: Value) -> Value {
    let mut place = &mut object;
    for key in pointer.split('/').skip(1) {
        let key = key.replace("~1", "/");
        place = match key.parse::<usize>() {
            Ok(index) if place.is_array() => &mut place[index],
            _ => &mut place[key.as_str()],
        };
    }
    *place = value;
    object
}

/// Puts one object over another, field by field.
pub(crate) fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}

/// Removes what a JSON pointer names.
pub(crate) fn unset(mut object: Value, pointer: &str) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    object
        .pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove(&key.replace("~1", "/"));
    object
}

/// The AIWorkflow `triage` of namespace `ai`.
pub(crate) fn workflow_object() -> Value {
    json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflow",
        "metadata": {"name": "triage", "namespace": "ai", "uid": "workflow-uid"},
        "spec": {
            "images": ["docker.io/ok/*"],
            "launchers": [
                {"user": "ann"}, {"group": "launchers"}, {"serviceAccount": {"namespace": "airflow", "name": "scheduler"}},
            ],
        },
    })
}

pub(crate) fn workflow() -> AIWorkflow {
    serde_json::from_value(workflow_object()).unwrap()
}

/// A pod of `triage` that fits the fence.
pub(crate) fn pod() -> Value {
    json!({
        "metadata": {"name": "p", "labels": {"ringfence.dev/workflow": "triage"}},
        "spec": {"serviceAccountName": "triage", "containers": [{"name": "a", "image": "ok/a"}]},
    })
}

/// A workload of `triage` that fits the fence, with its template under `spec.template`.
pub(crate) fn workload(uid: &str) -> Value {
    json!({
        "metadata": {"name": "w", "namespace": "ai", "uid": uid, "labels": {"ringfence.dev/workflow": "triage"}},
        "spec": {"template": pod()},
    })
}

/// What is there when all is well: namespace `ai` in enforce, class `default`, account and default-deny made.
pub(crate) fn facts() -> Facts {
    let labels = json!({"ringfence.dev/enforce": "default", "pod-security.kubernetes.io/enforce": "restricted"});
    let namespace = json!({"metadata": {"name": "ai", "uid": "ns-uid", "labels": labels}});
    let read = NamespaceFacts::from_object(&namespace, |_| false).unwrap();
    let class = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "default"},
        "spec": {"images": {"allowed": ["docker.io/**"]}, "launchers": [{"user": "argo"}]},
    });
    Facts {
        namespace: Some(namespace),
        workflow: Some(workflow_object()),
        default_deny: Some(default_deny(&read)),
        account: Some(
            json!({"metadata": {"name": "triage", "uid": "sa-uid", "annotations": {"ringfence.dev/owner-uid": "workflow-uid"}}}),
        ),
        launcher: None,
        registration: None,
        owners: Vec::new(),
        classes: [("default".to_owned(), Some(class))].into(),
        pod: None,
        exceptions: None,
        now: None,
    }
}

/// An owner, as found.
pub(crate) fn owner(api_version: &str, kind: &str, uid: &str, found: Option<Value>) -> Owner {
    let reference = OwnerRef {
        api_version: api_version.into(),
        kind: kind.into(),
        name: "w".into(),
        uid: uid.into(),
    };
    Owner { reference, found }
}

/// The entry of `metadata.ownerReferences` for an owner.
pub(crate) fn owner_reference(owner: &Owner) -> Value {
    let OwnerRef {
        api_version,
        kind,
        name,
        uid,
    } = &owner.reference;
    json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true})
}
