//! What stands is judged as if it were made now, but for what nobody recorded and what Ringfence makes itself.

use serde_json::{Value, json};

use super::testing::{facts, pod, set, unset, workload};
use super::*;
use crate::review::{Gvk, Gvr, Review};

fn standing(group: &str, kind: &str, object: &Value, facts: &Facts) -> Vec<String> {
    let gvk = Gvk {
        group: group.into(),
        version: "v1".into(),
        kind: kind.into(),
    };
    let review = Review::standing(&gvk, &Gvr::default(), Some("ai"), object.as_object().unwrap().clone());
    let subject = Subject::standing(&review)
        .unwrap()
        .expect("every kind that runs something is judged");
    let case = Case::new(&subject, facts, |_| false);
    let modes = case.modes();
    let violations = modes.iter().flat_map(|(mode, class)| case.violations(*mode, class));
    let mut rules: Vec<_> = violations.map(|violation| violation.policy).collect();
    rules.dedup();
    rules
}

#[test]
fn nobody_has_to_have_launched_it() {
    assert_eq!(standing("", "Pod", &pod(), &facts()), [""; 0]);
    assert_eq!(standing("batch", "Job", &workload("j"), &facts()), [""; 0]);
}

#[test]
fn what_ringfence_makes_need_not_be_there_yet() {
    let facts = Facts {
        default_deny: None,
        account: None,
        ..facts()
    };
    assert_eq!(standing("", "Pod", &pod(), &facts), [""; 0]);
}

#[test]
fn the_namespace_answers_for_its_standard_and_no_record_for_an_annotation() {
    let bare = json!({"metadata": {"name": "ai", "uid": "ns-uid", "labels": {"ringfence.dev/enforce": "default"}}});
    let facts = Facts {
        namespace: Some(bare),
        ..facts()
    };
    assert_eq!(standing("", "Pod", &pod(), &facts), [""; 0]);
    let annotated = set(
        pod(),
        "/metadata/annotations",
        json!({"cni.projectcalico.org/podIP": "10.0.0.1/32"}),
    );
    assert_eq!(standing("", "Pod", &annotated, &facts), ["pod-annotations"]);
    let fields = json!({"f:metadata": {"f:annotations": {"f:cni.projectcalico.org/podIP": {}}}});
    let by_plugin = json!([{"manager": "calico", "subresource": "status", "fieldsV1": fields}]);
    let annotated = set(annotated, "/metadata/managedFields", by_plugin);
    assert_eq!(standing("", "Pod", &annotated, &facts), ["pod-annotations"]);
}

#[test]
fn an_account_of_that_name_that_is_another_is_still_another() {
    let facts = Facts {
        account: Some(json!({"metadata": {"name": "triage", "uid": "1"}})),
        ..facts()
    };
    assert_eq!(standing("", "Pod", &pod(), &facts), ["own-service-account"]);
}

#[test]
fn everything_else_is_judged_as_ever() {
    let cases = [
        (unset(pod(), "/metadata/labels"), "declared-workflow"),
        (
            set(pod(), "/spec/serviceAccountName", json!("x")),
            "own-service-account",
        ),
        (
            set(pod(), "/spec/containers/0/image", json!("evil.example/a")),
            "approved-images",
        ),
        (unset(pod(), "/spec"), "pod-template"),
    ];
    for (pod, rule) in cases {
        assert_eq!(standing("", "Pod", &pod, &facts()), [rule]);
    }
    let facts = Facts {
        workflow: None,
        ..facts()
    };
    assert_eq!(
        standing("apps", "Deployment", &workload("d"), &facts),
        ["declared-workflow"]
    );
}
