//! Pod templates: wherever one is planted, in whatever surroundings, it is found there; and nowhere else.

use proptest::prelude::*;
use proptest::sample::select;
use ringfence::fence::{occasion, template_of};
use ringfence::review::Review;
use serde_json::{Value, json};

use crate::json::{any_json, any_object, metadata};
use crate::{corpus, runner};

/// Where Kubernetes' reference has the pod of each kind.
const PLACES: [(&str, &str, &[&str]); 9] = [
    ("", "Pod", &[]),
    ("", "PodTemplate", &["template"]),
    ("", "ReplicationController", &["spec", "template"]),
    ("apps", "DaemonSet", &["spec", "template"]),
    ("apps", "Deployment", &["spec", "template"]),
    ("apps", "ReplicaSet", &["spec", "template"]),
    ("apps", "StatefulSet", &["spec", "template"]),
    ("batch", "CronJob", &["spec", "jobTemplate", "spec", "template"]),
    ("batch", "Job", &["spec", "template"]),
];

/// Puts a value there, whatever was on the way.
fn plant(object: &mut Value, path: &[&str], value: Value) {
    let mut place = object;
    for key in path {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[*key];
    }
    *place = value;
}

fn review(group: &str, kind: &str, version: &str, object: &Value) -> Review {
    let request = json!({
        "uid": "u", "operation": "CREATE", "namespace": "ai", "object": object,
        "kind": {"group": group, "version": version, "kind": kind}, "resource": {"group": group, "version": version, "resource": "r"},
        "userInfo": {"username": "ann"},
    });
    Review::from_value(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}))
        .expect("a review")
}

fn check(group: &str, kind: &str, version: &str, object: &Value) -> Result<(), TestCaseError> {
    let place = PLACES.iter().find(|(of, name, _)| (*of, *name) == (group, kind));
    let there = place.and_then(|(_, _, path)| path.iter().try_fold(object, |value, key| value.get(key)));
    // A pod has a spec; what has none makes nothing, and is refused by the fence.
    let there = there.filter(|pod| pod.is_object() && pod.get("spec").is_some_and(Value::is_object));
    let found = template_of(group, kind, object);
    prop_assert_eq!(found.map(|(_, pod)| pod), there, "{} of {}", kind, object);
    if let (Some((path, _)), Some((_, _, wanted))) = (found, place) {
        prop_assert_eq!(path, wanted.join("."));
    }
    let review = review(group, kind, version, object);
    let occasion = occasion(&review);
    prop_assert_eq!(occasion.template, found);
    prop_assert_eq!(occasion.changes_template, found.is_some());
    Ok(())
}

#[test]
fn a_template_is_found_where_it_is_and_nowhere_else() {
    for (name, bytes) in corpus("templates") {
        let case: Value = serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let text = |key: &str| case[key].as_str().unwrap_or_else(|| panic!("{name} has no {key}"));
        check(text("group"), text("kind"), "v1", &case["object"]).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let other = select(vec![
        ("argoproj.io", "Workflow"),
        ("", "ConfigMap"),
        ("apps", "Pod"),
        ("batch", "Deployment"),
        ("", "pod"),
    ]);
    let kinds = prop_oneof![4 => select(PLACES.map(|(group, kind, _)| (group, kind)).to_vec()), 1 => other];
    let pod = (metadata(), any_json()).prop_map(|(metadata, spec)| json!({"metadata": metadata, "spec": spec}));
    let pod = prop_oneof![3 => pod.boxed(), 1 => any_json().boxed()];
    let version = select(vec!["v1", "v1beta1", "v2"]);
    let planted = select(PLACES.map(|(_, _, path)| path).to_vec());
    let run = runner(2000).run(
        &(kinds, version, planted, any_object(), pod),
        |((group, kind), version, path, mut object, pod)| {
            plant(
                &mut object,
                path,
                if path.is_empty() && !pod.is_object() {
                    json!({})
                } else {
                    pod
                },
            );
            check(group, kind, version, &object)
        },
    );
    run.unwrap_or_else(|error| panic!("{error}"));
}
