use rstest::rstest;
use serde_json::json;

use super::super::bookkeeping::{RECORD, changed};
use super::*;
use crate::review::Review;

fn entry(manager: &str, operation: &str, fields: &Value) -> Value {
    json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields})
}

fn managed(entries: &[Value]) -> Value {
    json!({"metadata": {"finalizers": ["example.com/stays"], "managedFields": entries}})
}

/// A review keeps of that record what is compared here, and nothing else: the one list must not forget what the other names.
#[rstest]
fn a_review_keeps_all_that_is_compared(
    #[values(
        &["f:spec", "f:template"],
        &["f:spec", "f:jobTemplate", "f:metadata"],
        &["f:spec", "f:jobTemplate", "f:spec", "f:template"],
        &["f:spec", "f:updateStrategy", "f:rollingUpdate"],
        &["f:template"],
        &["f:metadata", "f:labels"],
        &["f:metadata", "f:annotations"],
    )]
    path: &[&str],
) {
    let fields = |of: &str| {
        let path = path.iter().rev();
        path.fold(json!({of: {}}), |inner, key| json!({*key: inner}))
    };
    let of = |fields| managed(&[entry("lea", "Apply", &fields)]);
    assert_eq!(
        reviewed(&of(fields("f:helm.sh/a")), &of(fields("f:helm.sh/b"))),
        Some(RECORD)
    );
}

#[test]
fn a_review_keeps_who_owns_what_ends_it() {
    let fields = json!({"f:metadata": {"f:finalizers": {"v:\"example.com/stays\"": {}}}});
    let old = managed(&[entry("lea", "Apply", &fields)]);
    assert_eq!(reviewed(&old, &managed(&[])), Some(RECORD));
}

/// What is found to differ in a review of both.
fn reviewed(old: &Value, new: &Value) -> Option<&'static str> {
    let request = json!({
        "uid": "u", "operation": "UPDATE", "userInfo": {},
        "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
        "oldObject": old, "object": new,
    });
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    let review = Review::parse(review.to_string().as_bytes()).expect("a review");
    changed(review.old_object().expect("old"), review.object().expect("new"))
}

#[test]
fn who_owns_the_template_stays() {
    let template =
        json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {"f:image": {}}}}}}});
    let env = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {"f:env": {}}}}}}});
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
    for (below, expected) in [
        (json!({"f:spec": {"f:template": {}}}), Some("metadata.managedFields")),
        (json!({"f:metadata": {"f:labels": {}}}), Some("metadata.managedFields")),
        (
            json!({"f:spec": {"f:backoffLimit": {}}}),
            Some("metadata.managedFields"),
        ),
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

/// By its name tools know what they wrote before, and by the name of another what they leave alone.
#[rstest]
#[case::under_another_name(&[("kube-controller-manager", "", "a/v1", "f:image f:env")])]
#[case::by_another_door(&[("kubectl", "status", "a/v1", "f:image f:env")])]
#[case::of_another_version(&[("kubectl", "", "a/v2", "f:image f:env")])]
#[case::in_two(&[("kubectl", "", "a/v1", "f:image"), ("x", "", "a/v1", "f:env")])]
#[case::shared(&[("kubectl", "", "a/v1", "f:image f:env"), ("x", "", "a/v1", "f:env")])]
#[case::of_a_name_with_a_blank(&[(" kubectl", "", "a/v1", "f:image f:env")])]
#[case::as_one_of_the_oldest(&[("ancient-changes", "", "a/v1", "f:image f:env")])]
fn who_wrote_the_template_stays(
    #[case] new: &[(&str, &str, &str, &str)],
    #[values("Apply", "Update")] operation: &str,
) {
    let old = managed(&[written(operation, ("kubectl", "", "a/v1", "f:image f:env"))]);
    let new: Vec<_> = new.iter().map(|one| written(operation, *one)).collect();
    assert_eq!(changed(&old, &managed(&new)), Some(RECORD));
    assert_eq!(changed(&managed(&new), &old), Some(RECORD));
    assert!(is_shared(&old, &managed(&new)));
}

fn written(operation: &str, of: (&str, &str, &str, &str)) -> Value {
    let (manager, subresource, version, fields) = of;
    let fields: Map<_, _> = fields
        .split_whitespace()
        .map(|field| (field.to_owned(), json!({})))
        .collect();
    let mut entry = entry(manager, operation, &json!({"f:spec": {"f:template": fields}}));
    entry["subresource"] = json!(subresource);
    entry["apiVersion"] = json!(version);
    entry
}

/// The API server puts the oldest writers into one entry for each version, when there are more than ten.
#[rstest]
#[case::the_oldest(10, &[("ancient-changes", "a/v1", "f:image f:env")], true)]
#[case::too_few(9, &[("ancient-changes", "a/v1", "f:image f:env")], false)]
#[case::one_of_them(10, &[("helm", "a/v1", "f:image"), ("ancient-changes", "a/v1", "f:env")], true)]
#[case::more_than_they_owned(10, &[("ancient-changes", "a/v1", "f:image f:env f:x")], false)]
#[case::less_than_they_owned(10, &[("ancient-changes", "a/v1", "f:image")], false)]
#[case::a_part_of_one(10, &[("helm", "a/v1", ""), ("kubectl", "a/v1", "f:env"), ("ancient-changes", "a/v1", "f:image f:env")], false)]
#[case::of_another_version(10, &[("ancient-changes", "a/v2", "f:image f:env")], false)]
#[case::under_another_name(10, &[("x", "a/v1", "f:image f:env")], false)]
fn the_oldest_writers_come_into_one_entry(
    #[case] writers: usize,
    #[case] new: &[(&str, &str, &str)],
    #[case] expected: bool,
) {
    let replicas = json!({"f:spec": {"f:replicas": {}}});
    let others = |from: usize| (from..writers).map(|one| entry(&format!("scales-{one}"), "Update", &replicas));
    let mut old = vec![
        written("Update", ("helm", "", "a/v1", "f:image")),
        written("Update", ("kubectl", "scale", "a/v1", "f:env")),
    ];
    old.extend(others(2));
    let new = new
        .iter()
        .map(|(manager, version, fields)| written("Update", (manager, "", version, fields)));
    let new: Vec<_> = new.chain(others(2)).collect();
    let changed = changed(&managed(&old), &managed(&new));
    assert_eq!(changed, (!expected).then_some(RECORD));
}

/// What two own stays when one leaves it out.
#[rstest]
#[case::partition(json!({"f:spec": {"f:updateStrategy": {"f:rollingUpdate": {"f:partition": {}}}}}), true)]
#[case::slower(json!({"f:spec": {"f:minReadySeconds": {}}}), true)]
#[case::newer_field(json!({"f:spec": {"f:newerThanUs": {}}}), true)]
#[case::job_of_a_schedule(json!({"f:spec": {"f:jobTemplate": {"f:spec": {"f:activeDeadlineSeconds": {}}}}}), true)]
#[case::kept_by_helm(json!({"f:metadata": {"f:annotations": {"f:helm.sh/resource-policy": {}}}}), true)]
#[case::label(json!({"f:metadata": {"f:labels": {"f:team": {}}}}), true)]
#[case::all_of_it(json!({"f:spec": {}}), true)]
#[case::how_many(json!({"f:spec": {"f:replicas": {}, "f:suspend": {}}}), false)]
#[case::at_once(json!({"f:spec": {"f:jobTemplate": {"f:spec": {"f:parallelism": {}}}}}), false)]
#[case::note(json!({"f:metadata": {"f:annotations": {".": {}, "f:example.com/note": {}}}}), false)]
#[case::nothing_that_is_kept(json!({"f:metadata": {}}), false)]
#[case::finalizer_that_stays(json!({"f:metadata": {"f:finalizers": {".": {}, "v:\"example.com/stays\"": {}}}}), true)]
#[case::finalizer_that_is_taken_off(json!({"f:metadata": {"f:finalizers": {".": {}, "v:\"a/b\"": {}}}}), false)]
#[case::status(json!({"f:status": {"f:replicas": {}}}), false)]
fn who_owns_what_is_withdrawn_by_leaving_it_out_stays(#[case] fields: Value, #[case] counts: bool) {
    let lea = entry("lea", "Apply", &fields);
    for operation in ["Apply", "Update"] {
        let tess = entry("tess", operation, &fields);
        let with = managed(&[lea.clone(), tess]);
        let (old, expected) = (managed(std::slice::from_ref(&lea)), counts.then_some(RECORD));
        assert_eq!(changed(&old, &with), expected);
        assert_eq!(changed(&with, &old), expected);
    }
    assert_eq!(
        changed(&managed(&[lea]), &managed(&[])),
        counts.then_some(RECORD),
        "cut"
    );
}

/// To let a rollout go on is anybody's.
#[test]
fn who_owns_a_pause_stays_while_it_lasts() {
    let paused = |paused: bool, entries: &[Value]| {
        let mut object = managed(entries);
        object["spec"] = json!({"paused": paused});
        object
    };
    let of = |manager: &str| entry(manager, "Apply", &json!({"f:spec": {"f:paused": {}}}));
    let old = paused(true, &[of("lea")]);
    assert_eq!(changed(&old, &paused(true, &[of("lea"), of("tess")])), Some(RECORD));
    assert_eq!(changed(&old, &paused(false, &[of("tess")])), None);
}

#[rstest]
#[case::image(json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {"f:image": {}}}}}), true)]
#[case::label(json!({"f:metadata": {"f:labels": {"f:team": {}}}}), true)]
#[case::applied(json!({"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/last-applied-configuration": {}}}}), true)]
#[case::note(json!({"f:metadata": {"f:annotations": {"f:note": {}}}}), false)]
#[case::resized(json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {"f:resources": {"f:limits": {}}}}}}), false)]
#[case::how_long(json!({"f:spec": {"f:activeDeadlineSeconds": {}, "f:tolerations": {}}}), false)]
#[case::debugged(json!({"f:spec": {"f:ephemeralContainers": {"k:{\"name\":\"d\"}": {"f:image": {}}}}}), false)]
#[case::status(json!({"f:status": {"f:phase": {}}}), false)]
fn who_owns_a_pod_by_itself_stays(#[case] fields: Value, #[case] counts: bool) {
    let lea = entry("kubectl", "Update", &fields);
    let tess = entry("kube-controller-manager", "Update", &fields);
    let old = managed(std::slice::from_ref(&lea));
    for new in [vec![tess.clone()], vec![lea.clone(), tess]] {
        assert_eq!(is_shared_of_a_pod(&old, &managed(&new)), counts);
    }
    // To resize it is anybody's who may, and to end that an owner waits.
    let owned = |more: Value, owner: Value| {
        let fields = json!({
            "f:metadata": {"f:ownerReferences": {"k:{\"uid\":\"1\"}": owner}},
            "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": more}},
        });
        managed(&[entry("kubectl", "Update", &fields)])
    };
    let before = owned(
        json!({"f:image": {}, "f:resources": {"f:limits": {}}}),
        json!({"f:uid": {}, "f:blockOwnerDeletion": {}}),
    );
    assert!(!is_shared_of_a_pod(
        &before,
        &owned(json!({"f:image": {}}), json!({"f:uid": {}}))
    ));
}

#[rstest]
#[case::image(json!({"f:spec": {"f:image": {}}}), true)]
#[case::note(json!({"f:metadata": {"f:annotations": {"f:note": {}}}}), true)]
#[case::paused(json!({"f:spec": {"f:paused": {}}}), false)]
#[case::status(json!({"f:status": {"f:phase": {}}}), false)]
fn who_owns_an_operators_object_stays(#[case] fields: Value, #[case] counts: bool) {
    let lea = entry("lea", "Apply", &fields);
    let with = managed(&[lea.clone(), entry("tess", "Apply", &fields)]);
    assert_eq!(is_shared(&managed(&[lea]), &with), counts);
}

/// A pause that two have applied stays when one of them takes it back.
#[test]
fn who_owns_a_pause_of_an_operators_object_stays_while_it_is_one() {
    let of = |paused: bool, managers: &[&str]| {
        let owned = |manager: &&str| entry(manager, "Apply", &json!({"f:spec": {"f:paused": {}}}));
        let mut object = managed(&managers.iter().map(owned).collect::<Vec<_>>());
        object["spec"] = json!({"paused": paused});
        object
    };
    assert!(is_shared(&of(true, &["lea"]), &of(true, &["lea", "tess"])));
    assert!(!is_shared(&of(true, &["lea"]), &of(false, &["lea", "tess"])));
}
