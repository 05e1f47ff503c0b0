//! A request that nobody sent: the one that would make what stands already.

use serde_json::{Map, Value, json};

use super::{Gvk, Gvr, Operation, Review, User};

impl Review {
    /// The CREATE of an object as it stands, by nobody: who made it is not recorded. Items of a list come without their type, so
    /// it is put there; `managedFields` say nothing of what runs, are half of many an object, and are as whoever made it has them.
    pub fn standing(kind: &Gvk, resource: &Gvr, namespace: Option<&str>, mut object: Map<String, Value>) -> Self {
        let api_version = match kind.group.as_str() {
            "" => kind.version.clone(),
            group => format!("{group}/{}", kind.version),
        };
        object.insert("apiVersion".to_owned(), api_version.into());
        object.insert("kind".to_owned(), kind.kind.clone().into());
        let mut name = Value::Null;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
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
            bytes: 0,
            swells: false,
            request,
        }
    }

    /// Whether nobody sent it: every request of the API server has a uid.
    pub fn stands(&self) -> bool {
        self.uid.is_empty()
    }

    /// Whether it is about a Namespace itself.
    pub fn is_of_namespace(&self) -> bool {
        self.kind.group.is_empty() && self.kind.kind == "Namespace"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
