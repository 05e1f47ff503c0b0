//! A pod template judged as the pod that would come of it, so that a policy about pods speaks when the workload is written.
//!
//! Must never: stand in for judging the pod. A controller may change what it makes of a template, and the pod is asked about again.

use serde_json::{Map, Value, json};

use super::Occasion;
use crate::policy::findings::Findings;
use crate::policy::input::{PolicyInput, Shared};

/// The pod of a template, as a request of its own.
pub(super) struct Template {
    pub shared: Shared,
    /// Path of the template in the workload.
    path: String,
    /// Kind and name of the workload.
    via: String,
}

impl Template {
    /// `None` where there is no template, or the request is nested too deeply.
    pub(super) fn of(input: &PolicyInput<'_>, occasion: &Occasion<'_>) -> Option<Self> {
        let (path, template) = occasion.template?;
        let review = occasion.review;
        let pod = pod_of(template, review.namespace.as_deref());
        // But for the objects, which are replaced: they may be large.
        let kept = review.request.as_object().into_iter().flatten();
        let kept = kept.filter(|(field, _)| !matches!(field.as_str(), "object" | "oldObject"));
        let mut request: Map<String, Value> = kept.map(|(field, value)| (field.clone(), value.clone())).collect();
        let (kind, resource) = (
            json!({"group": "", "version": "v1", "kind": "Pod"}),
            json!({"group": "", "version": "v1", "resource": "pods"}),
        );
        for (field, value) in [
            ("kind", kind.clone()),
            ("requestKind", kind),
            ("resource", resource.clone()),
            ("requestResource", resource),
            ("name", Value::from("")),
            ("operation", Value::from("CREATE")),
            ("object", pod.clone()),
            ("oldObject", Value::Null),
        ] {
            request.insert(field.to_owned(), value);
        }
        let request = Value::Object(request);
        let name = review.name();
        let kind = &review.kind.kind;
        let template = json!({"group": review.kind.group, "kind": kind, "name": name, "path": path});
        let shared = Shared::new(&PolicyInput {
            request: &request,
            pod: Some(("", &pod)),
            ..*input
        })?
        .and("template", &template)?;
        Some(Self {
            shared,
            path: path.to_owned(),
            via: if name.is_empty() {
                kind.clone()
            } else {
                format!("{kind}/{name}")
            },
        })
    }

    /// What was found in the pod, said of the workload in which it is to be corrected.
    pub(super) fn said_of_workload(&self, mut found: Findings) -> Findings {
        for finding in found.deny.iter_mut().chain(&mut found.warn) {
            finding.path = match finding.path.as_str() {
                "" => self.path.clone(),
                path => format!("{}.{path}", self.path),
            };
            finding.message = format!("{} (via {})", finding.message.trim_end_matches('.'), self.via);
        }
        found
    }
}

fn pod_of(template: &Value, namespace: Option<&str>) -> Value {
    let mut pod = template.as_object().cloned().unwrap_or_default();
    pod.insert("apiVersion".to_owned(), "v1".into());
    pod.insert("kind".to_owned(), "Pod".into());
    let metadata = pod.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    if let (Some(metadata), Some(namespace)) = (metadata.as_object_mut(), namespace) {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    Value::Object(pod)
}
