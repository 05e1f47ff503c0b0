//! Where pod templates sit, kind by kind, in raw JSON.
//!
//! Must never: skip a kind that makes pods because its template is not where, or not what, it should be.

use serde_json::Value;

use super::object::{OwnerRef, type_of, violation};
use crate::review::Violation;

/// Lists of containers in a pod's spec, as Kubernetes 1.36 knows them.
pub(super) const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const RULE: &str = "pod-template";

/// A pod, or what a controller makes pods of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Template<'a> {
    /// Path of it: empty for a Pod, else such as `spec.template`.
    pub path: &'static str,
    /// Its metadata and spec.
    pub pod: &'a Value,
}

/// A kind that makes pods.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Shape {
    group: &'static str,
    kind: &'static str,
    /// Path of the pod or pod template, and the same as JSON pointer.
    template: (&'static str, &'static str),
    /// What lies between object and template and hands its labels on to what is made.
    between: Option<(&'static str, &'static str)>,
}

const SPEC_TEMPLATE: (&str, &str) = ("spec.template", "/spec/template");

const SHAPES: [Shape; 9] = [
    Shape {
        group: "",
        kind: "Pod",
        template: ("", ""),
        between: None,
    },
    Shape {
        group: "",
        kind: "PodTemplate",
        template: ("template", "/template"),
        between: None,
    },
    Shape {
        group: "",
        kind: "ReplicationController",
        template: SPEC_TEMPLATE,
        between: None,
    },
    Shape {
        group: "apps",
        kind: "DaemonSet",
        template: SPEC_TEMPLATE,
        between: None,
    },
    Shape {
        group: "apps",
        kind: "Deployment",
        template: SPEC_TEMPLATE,
        between: None,
    },
    Shape {
        group: "apps",
        kind: "ReplicaSet",
        template: SPEC_TEMPLATE,
        between: None,
    },
    Shape {
        group: "apps",
        kind: "StatefulSet",
        template: SPEC_TEMPLATE,
        between: None,
    },
    Shape {
        group: "batch",
        kind: "Job",
        template: SPEC_TEMPLATE,
        between: None,
    },
    Shape {
        group: "batch",
        kind: "CronJob",
        template: ("spec.jobTemplate.spec.template", "/spec/jobTemplate/spec/template"),
        between: Some(("spec.jobTemplate", "/spec/jobTemplate")),
    },
];

/// The shape of a kind that makes pods, or is one. Whatever its version: where templates sit has never changed.
pub(super) fn shape(group: &str, kind: &str) -> Option<&'static Shape> {
    SHAPES.iter().find(|shape| shape.group == group && shape.kind == kind)
}

/// Whether an owner is of a kind that has one: of those of Kubernetes' own controllers, and no operator's.
pub(super) fn has_shape(owner: &OwnerRef) -> bool {
    shape(owner.group(), &owner.kind).is_some()
}

/// The pod, or the pod template, of an object of a kind that makes pods, and its path; `None` for every other kind, and where it is
/// none.
pub fn template_of<'a>(group: &str, kind: &str, object: &'a Value) -> Option<(&'static str, &'a Value)> {
    let template = shape(group, kind)?.template(object).ok()?;
    Some((template.path, template.pod))
}

impl Shape {
    /// Whether it is the pod itself.
    pub(super) fn is_pod(&self) -> bool {
        self.kind == "Pod"
    }

    /// The template of an object of this kind.
    pub(super) fn template<'a>(&self, object: &'a Value) -> Result<Template<'a>, Violation> {
        let (path, pointer) = self.template;
        let pod = object.pointer(pointer);
        let Some(pod) = pod.filter(|pod| pod.is_object()) else {
            let message = format!(
                "must be the pod template of this {}, and is {}",
                self.kind,
                type_of(pod)
            );
            return Err(violation(
                RULE,
                path,
                None,
                message,
                format!("put the pod's metadata and spec under {path}"),
            ));
        };
        let spec = pod.get("spec");
        if !spec.is_some_and(Value::is_object) {
            let path = super::object::at(path, "spec");
            let message = format!("must be the pod's spec, and is {}", type_of(spec));
            return Err(violation(
                RULE,
                &path,
                None,
                message,
                format!("put the pod's containers under {path}"),
            ));
        }
        Ok(Template { path, pod })
    }

    /// Every place, beside the object itself, whose labels come to be on what is made: path and value.
    pub(super) fn labelled<'a>(&self, object: &'a Value) -> Vec<(&'static str, Option<&'a Value>)> {
        let own = (!self.is_pod()).then_some(self.template);
        self.between
            .into_iter()
            .chain(own)
            .map(|(path, pointer)| (path, object.pointer(pointer)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}})
    }

    #[rstest]
    #[case::pod("", "Pod", pod(), "")]
    #[case::pod_template("", "PodTemplate", json!({"template": pod()}), "template")]
    #[case::controller("", "ReplicationController", json!({"spec": {"template": pod()}}), "spec.template")]
    #[case::daemon_set("apps", "DaemonSet", json!({"spec": {"template": pod()}}), "spec.template")]
    #[case::deployment("apps", "Deployment", json!({"spec": {"template": pod()}}), "spec.template")]
    #[case::replica_set("apps", "ReplicaSet", json!({"spec": {"template": pod()}}), "spec.template")]
    #[case::stateful_set("apps", "StatefulSet", json!({"spec": {"template": pod()}}), "spec.template")]
    #[case::job("batch", "Job", json!({"spec": {"template": pod()}}), "spec.template")]
    #[case::cron_job("batch", "CronJob", json!({"spec": {"jobTemplate": {"spec": {"template": pod()}}}}), "spec.jobTemplate.spec.template")]
    fn every_kind_shows_its_template(
        #[case] group: &str,
        #[case] kind: &str,
        #[case] object: Value,
        #[case] path: &str,
    ) {
        let template = shape(group, kind).unwrap().template(&object).unwrap();
        assert_eq!((template.path, template.pod), (path, &pod()));
    }

    #[rstest]
    #[case::config_map("", "ConfigMap")]
    #[case::same_kind_of_another_group("example.com", "Deployment")]
    #[case::pod_of_another_group("example.com", "Pod")]
    fn other_kinds_have_none(#[case] group: &str, #[case] kind: &str) {
        assert_eq!(shape(group, kind), None);
    }

    #[rstest]
    #[case::missing("batch", "Job", json!({"spec": {}}), "spec.template")]
    #[case::no_spec("batch", "Job", json!({}), "spec.template")]
    #[case::null("apps", "Deployment", json!({"spec": {"template": null}}), "spec.template")]
    #[case::list("apps", "Deployment", json!({"spec": {"template": [pod()]}}), "spec.template")]
    #[case::text("", "PodTemplate", json!({"template": "pod"}), "template")]
    #[case::no_job_template("batch", "CronJob", json!({"spec": {"template": pod()}}), "spec.jobTemplate.spec.template")]
    #[case::template_without_spec("batch", "Job", json!({"spec": {"template": {"metadata": {}}}}), "spec.template.spec")]
    #[case::pod_without_spec("", "Pod", json!({"metadata": {}}), "spec")]
    #[case::pod_with_a_list("", "Pod", json!({"spec": []}), "spec")]
    fn what_is_missing_or_of_another_type_is_a_violation(
        #[case] group: &str,
        #[case] kind: &str,
        #[case] object: Value,
        #[case] path: &str,
    ) {
        let violation = shape(group, kind).unwrap().template(&object).unwrap_err();
        assert_eq!((violation.policy.as_str(), violation.path.as_str()), (RULE, path));
    }

    #[test]
    fn a_cron_job_hands_on_two_sets_of_labels() {
        let object = json!({"spec": {"jobTemplate": {"metadata": {"name": "j"}, "spec": {"template": pod()}}}});
        let places: Vec<_> = shape("batch", "CronJob")
            .unwrap()
            .labelled(&object)
            .into_iter()
            .map(|(path, _)| path)
            .collect();
        assert_eq!(places, ["spec.jobTemplate", "spec.jobTemplate.spec.template"]);
        assert_eq!(shape("", "Pod").unwrap().labelled(&pod()), []);
    }
}
