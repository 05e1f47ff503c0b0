//! A request that nobody sent: the one that would make what stands already.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Gvk, Gvr, Operation, Review, User};

impl Review {
    /// The CREATE of an object as it stands, by nobody: who made it is not recorded. Items of a list come without their type, so
    /// it is put there; `managedFields` say nothing of what runs, and are half of many an object. Nor was part of what was made
    /// what network plugins have since written by `pods/status`.
    pub fn standing(kind: &Gvk, resource: &Gvr, namespace: Option<&str>, mut object: Map<String, Value>) -> Self {
        let api_version = match kind.group.as_str() {
            "" => kind.version.clone(),
            group => format!("{group}/{}", kind.version),
        };
        object.insert("apiVersion".to_owned(), api_version.into());
        object.insert("kind".to_owned(), kind.kind.clone().into());
        let mut name = Value::Null;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            let fields = metadata.remove("managedFields");
            if kind.group.is_empty() && kind.kind == "Pod" {
                remove_written_by_status(metadata, fields.as_ref());
            }
            name = metadata.get("name").cloned().unwrap_or_default();
        }
        let request = json!({
            "uid": "",
            "kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
            "resource": {"group": resource.group, "version": resource.version, "resource": resource.resource},
            "name": name,
            "namespace": namespace,
            "operation": Operation::Create.as_str(),
            "userInfo": {},
            "object": object,
            "oldObject": null,
            "dryRun": true,
        });
        Self {
            uid: String::new(),
            operation: Operation::Create,
            kind: kind.clone(),
            resource: resource.clone(),
            subresource: String::new(),
            namespace: namespace.map(str::to_owned),
            user: User::default(),
            dry_run: true,
            request,
        }
    }

    /// Whether it is about a Namespace itself.
    pub fn is_of_namespace(&self) -> bool {
        self.kind.group.is_empty() && self.kind.kind == "Namespace"
    }
}

/// Removes the annotations that nobody but writers of `status` has written. Who may write `managedFields` could hide others
/// here, and would have had to get them past admission before.
fn remove_written_by_status(metadata: &mut Map<String, Value>, fields: Option<&Value>) {
    let (mut by_status, mut by_others) = (BTreeSet::new(), BTreeSet::new());
    for entry in fields.and_then(Value::as_array).into_iter().flatten() {
        let keys = entry
            .pointer("/fieldsV1/f:metadata/f:annotations")
            .and_then(Value::as_object);
        let keys = keys.into_iter().flatten().filter_map(|(key, _)| key.strip_prefix("f:"));
        match entry.get("subresource").and_then(Value::as_str) {
            Some("status") => by_status.extend(keys),
            _ => by_others.extend(keys),
        }
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !by_status.contains(key.as_str()) || by_others.contains(key.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn written(subresource: &str, key: &str) -> Value {
        let mut fields = json!({"f:metadata": {"f:annotations": {".": {}}}});
        fields["f:metadata"]["f:annotations"][format!("f:{key}")] = json!({});
        json!({"manager": "calico", "subresource": subresource, "fieldsV1": fields})
    }

    #[rstest]
    #[case::by_status(json!([written("status", "x.example/ip")]), false)]
    #[case::by_two_plugins(json!([written("status", "x.example/ip"), written("status", "x.example/ip")]), false)]
    #[case::by_its_author_too(json!([written("status", "x.example/ip"), written("", "x.example/ip")]), true)]
    #[case::by_its_author(json!([written("", "x.example/ip")]), true)]
    #[case::by_another_subresource(json!([written("resize", "x.example/ip")]), true)]
    #[case::another_key(json!([written("status", "x.example/ips")]), true)]
    #[case::not_recorded(json!([]), true)]
    #[case::wrong_type(json!({"0": written("status", "x.example/ip")}), true)]
    fn what_plugins_wrote_into_a_pod_was_no_part_of_what_was_made(#[case] fields: Value, #[case] stays: bool) {
        let annotations = json!({"x.example/ip": "10.0.0.1", "own.example/a": "1"});
        let object = json!({"metadata": {"name": "p", "annotations": annotations, "managedFields": fields}});
        for (kind, stays) in [("Pod", stays), ("Job", true)] {
            let kind = Gvk {
                group: String::new(),
                version: "v1".into(),
                kind: kind.into(),
            };
            let review = Review::standing(&kind, &Gvr::default(), Some("ai"), object.as_object().unwrap().clone());
            let left = &review.object().unwrap()["metadata"]["annotations"];
            assert_eq!(left.get("x.example/ip").is_some(), stays);
            assert_eq!(left["own.example/a"], "1");
        }
    }

    #[test]
    fn what_stands_reads_like_a_request_that_makes_it() {
        let object = json!({"metadata": {"name": "j", "managedFields": [{}]}, "spec": {"newerThanUs": 1}});
        let kind = Gvk {
            group: "batch".into(),
            version: "v1".into(),
            kind: "Job".into(),
        };
        let resource = Gvr {
            group: "batch".into(),
            version: "v1".into(),
            resource: "jobs".into(),
        };
        let review = Review::standing(&kind, &resource, Some("ai"), object.as_object().unwrap().clone());
        let whole =
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"newerThanUs": 1}});
        assert_eq!(review.object(), Some(&whole));
        assert_eq!((review.name(), review.operation), ("j", Operation::Create));
        // It must read back as what it says it is: policies see the request, not our fields.
        let mut sent =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": review.request});
        sent["request"]["uid"] = "u-1".into();
        let read = Review::parse(&serde_json::to_vec(&sent).unwrap()).unwrap();
        assert_eq!(
            (read.kind, read.resource, read.namespace, read.dry_run),
            (kind, resource, Some("ai".into()), true)
        );
    }
}
