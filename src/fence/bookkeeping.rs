//! What launchers' tools keep on a workload beside its spec, by which they decide later what to change and what to delete: Helm, Argo CD, Flux,
//! kapp, `kubectl apply`, the Deployment controller, and the API server's own record of who applied what. Labels count all: any may be what a
//! tool selects by.
//!
//! Must never: take a record for unchanged because a part of it cannot be read; or hold a controller to what it keeps itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::object::{LABEL_PATH, workflow_label};
use super::update::{TAKES_UP, words};

/// Prefixes of annotations, as tools document them.
const PREFIXES: [&str; 13] = [
    "argocd.argoproj.io/",
    "cli-utils.sigs.k8s.io/",
    "client.lifecycle.config.k8s.io/",
    "config.k8s.io/",
    "config.kubernetes.io/",
    "configmanagement.gke.io/",
    "configsync.gke.io/",
    "deployment.kubernetes.io/",
    "helm.sh/",
    "kapp.k14s.io/",
    "kustomize.config.k8s.io/",
    "meta.helm.sh/",
    "objectset.rio.cattle.io/",
];
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Has the Deployment controller write an earlier template. As long as that is refused, it does nothing else, and scales nothing down.
const ROLL_BACK: &str = "deprecated.deployment.rollback.to";
/// Each of Flux's controllers has a prefix of its own below that.
const FLUX: &str = ".toolkit.fluxcd.io";

/// Where a workload holds what it runs, in the words of managedFields. Of a CronJob's Jobs, how many run at a time is free.
const TEMPLATES: [&[&str]; 4] = [
    &["f:spec", "f:template"],
    &["f:spec", "f:jobTemplate", "f:metadata"],
    &["f:spec", "f:jobTemplate", "f:spec", "f:template"],
    &["f:template"],
];

fn is_kept_by_a_tool(key: &str) -> bool {
    [LAST_APPLIED, ROLL_BACK].contains(&key)
        || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
        || key.split_once('/').is_some_and(|(domain, _)| domain.ends_with(FLUX))
}

/// Where what tools keep differs.
pub(super) fn changed(old: &Value, new: &Value) -> Option<&'static str> {
    let kept = |object: &Value| -> BTreeMap<String, Value> {
        let all = words(object, "annotations").into_iter().flatten();
        let kept = all.filter(|(key, _)| is_kept_by_a_tool(key));
        kept.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    if kept(old) != kept(new) {
        Some("metadata.annotations")
    } else if workflow_label(old) != workflow_label(new) {
        Some(LABEL_PATH)
    } else if words(old, "labels") != words(new, "labels") {
        Some(TAKES_UP)
    } else {
        (template_owners(old) != template_owners(new)).then_some("metadata.managedFields")
    }
}

/// Who owns what of the template: what one applies and no more names goes only where nobody else owns it. Those who wrote it otherwise count
/// together, because the API server puts the oldest of them into one entry.
fn template_owners(object: &Value) -> BTreeMap<String, Value> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let mut owners = BTreeMap::new();
    for entry in entries.into_iter().flatten() {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        let who = match text("operation") {
            "Apply" => format!("Apply {} {}", text("subresource"), text("manager")),
            _ => String::new(),
        };
        for path in TEMPLATES {
            let fields = path
                .iter()
                .try_fold(entry.get("fieldsV1").unwrap_or(&Value::Null), |fields, key| {
                    fields.get(key)
                });
            if let Some(fields) = fields {
                let owned = owners.entry(who.clone()).or_insert_with(|| Value::Object(Map::new()));
                merge(owned, fields);
            }
        }
    }
    owners
}

/// Adds fields to those that are owned. The API server bounds how deep both are.
fn merge(owned: &mut Value, fields: &Value) {
    let Some(fields) = fields.as_object() else {
        return;
    };
    for (key, below) in fields {
        if let Some(owned) = owned.as_object_mut() {
            merge(owned.entry(key).or_insert_with(|| Value::Object(Map::new())), below);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::review::Review;

    #[rstest]
    #[case::kubectl("kubectl.kubernetes.io/last-applied-configuration", true)]
    #[case::a_restart("kubectl.kubernetes.io/restartedAt", false)]
    #[case::revision("deployment.kubernetes.io/revision", true)]
    #[case::helm("meta.helm.sh/release-name", true)]
    #[case::helm_keeps("helm.sh/resource-policy", true)]
    #[case::argo("argocd.argoproj.io/sync-options", true)]
    #[case::flux("kustomize.toolkit.fluxcd.io/prune", true)]
    #[case::another_of_flux("helm.toolkit.fluxcd.io/driftDetection", true)]
    #[case::somebody_called_like_flux("toolkit.fluxcd.io.example.com/x", false)]
    #[case::kapp("kapp.k14s.io/delete-strategy", true)]
    #[case::rancher("objectset.rio.cattle.io/id", true)]
    #[case::config_sync("configsync.gke.io/resource-id", true)]
    #[case::config_management("configmanagement.gke.io/managed", true)]
    #[case::a_rollback("deprecated.deployment.rollback.to", true)]
    #[case::called_like_a_rollback("deprecated.deployment.rollback.to/x", false)]
    #[case::another("example.com/note", false)]
    #[case::without_a_domain("note", false)]
    fn what_a_tool_keeps_is_told_apart(#[case] key: &str, #[case] expected: bool) {
        for (map, path) in [
            ("annotations", expected.then_some("metadata.annotations")),
            // A tool may select by any label.
            ("labels", Some("metadata.labels")),
        ] {
            let none = json!({"metadata": {"name": "a"}});
            let with = json!({"metadata": {"name": "a", map: {key: "x"}}});
            let other = json!({"metadata": {"name": "a", map: {key: "y"}}});
            for (old, new) in [(&none, &with), (&with, &other), (&with, &none)] {
                assert_eq!(changed(old, new), path, "{key}");
            }
            assert_eq!(changed(&with, &with), None);
            let empty = json!({"metadata": {"name": "a", map: {}}});
            assert_eq!(changed(&none, &empty), None);
        }
    }

    /// A review keeps of that record what is compared here, and nothing else: the one list must not forget what the other names.
    #[rstest]
    fn a_review_keeps_all_that_is_compared(#[values(0, 1, 2, 3)] number: usize) {
        let fields = |of: &str| {
            let path = TEMPLATES[number].iter().rev();
            path.fold(json!({of: {}}), |inner, key| json!({*key: inner}))
        };
        let request = json!({
            "uid": "u", "operation": "UPDATE", "userInfo": {},
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "oldObject": managed(&[entry("lea", "Apply", &fields("f:a"))]),
            "object": managed(&[entry("lea", "Apply", &fields("f:b"))]),
        });
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let review = Review::parse(review.to_string().as_bytes()).expect("a review");
        let (old, new) = (review.old_object().expect("old"), review.object().expect("new"));
        assert_eq!(changed(old, new), Some("metadata.managedFields"));
    }

    #[test]
    fn whose_a_workload_is_has_a_path_of_its_own() {
        let of =
            |workflow: &str| json!({"metadata": {"labels": {"ringfence.dev/workflow": workflow, "team": workflow}}});
        assert_eq!(changed(&of("a"), &of("b")), Some(LABEL_PATH));
    }

    fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
    }

    fn managed(entries: &[Value]) -> Value {
        json!({"metadata": {"managedFields": entries}})
    }

    #[test]
    fn who_owns_the_template_stays() {
        let template =
            json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {"f:image": {}}}}}}});
        let env =
            json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {"f:env": {}}}}}}});
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        let lea = entry("lea", "Apply", &template);
        let old = managed(std::slice::from_ref(&lea));
        for new in [
            vec![lea.clone(), entry("tess", "Apply", &template)],
            vec![lea.clone(), entry("tess", "Update", &template)],
            vec![entry("tess", "Apply", &template)],
            vec![entry("lea", "Apply", &env)],
            vec![entry("lea", "Update", &template)],
            vec![],
        ] {
            assert_eq!(changed(&old, &managed(&new)), Some("metadata.managedFields"), "{new:?}");
            assert_eq!(changed(&managed(&new), &old), Some("metadata.managedFields"), "{new:?}");
        }
        let mut later = lea.clone();
        later["time"] = json!("2026-01-01T00:00:00Z");
        let scaled = managed(&[
            later,
            entry("tess", "Update", &replicas),
            entry("hpa", "Apply", &replicas),
        ]);
        assert_eq!(changed(&old, &scaled), None);
        // The API server puts the oldest writers into one entry.
        let many = managed(&[entry("a", "Update", &template), entry("b", "Update", &env)]);
        let mut both = template.clone();
        both["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"main\"}"]["f:env"] = json!({});
        let fewer = managed(&[entry("ancient-changes", "Update", &both)]);
        assert_eq!(changed(&many, &fewer), None);
        for (below, expected) in [
            (json!({"f:spec": {"f:template": {}}}), Some("metadata.managedFields")),
            (json!({"f:metadata": {"f:labels": {}}}), Some("metadata.managedFields")),
            (json!({"f:spec": {"f:parallelism": {}}}), None),
        ] {
            let cron = entry("tess", "Apply", &json!({"f:spec": {"f:jobTemplate": below}}));
            assert_eq!(changed(&managed(&[]), &managed(&[cron])), expected);
        }
        // A stored template without a spec.
        let stored = json!({"f:template": {"f:spec": {}}});
        assert_eq!(
            changed(&managed(&[]), &managed(&[entry("tess", "Apply", &stored)])),
            Some("metadata.managedFields")
        );
    }
}
