use rstest::rstest;
use serde_json::json;

use super::super::template::shape;
use super::super::testing::{review, set};
use super::*;

fn pod() -> Value {
    json!({
        "metadata": {
            "name": "p", "labels": {"ringfence.dev/workflow": "a"}, "finalizers": ["f"], "resourceVersion": "1",
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "1", "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {"containers": [{"image": "a", "resources": {}}]},
        "status": {"phase": "Running"},
    })
}

fn judged(group: &str, kind: &str, old: &Value, new: &Value) -> Option<Change> {
    let review = review("UPDATE", group, kind, Some(new), Some(old));
    change(&review, shape(group, kind), new)
}

#[rstest]
#[case::nothing("/spec/containers/0/image", json!("a"), Change::Inert)]
#[case::finalizers_gone("/metadata/finalizers", json!([]), Change::Inert)]
#[case::status("/status", json!({"phase": "Failed"}), Change::Inert)]
#[case::version("/metadata/resourceVersion", json!("2"), Change::Inert)]
#[case::managed_fields("/metadata/managedFields", json!([{}]), Change::Inert)]
#[case::generation("/metadata/generation", json!(3), Change::Inert)]
#[case::owner_gone("/metadata/ownerReferences", json!([]), Change::Launch("metadata.ownerReferences"))]
#[case::deletion_unblocked("/metadata/ownerReferences/0/blockOwnerDeletion", json!(false), Change::Inert)]
#[case::owner_no_longer_controls("/metadata/ownerReferences/0/controller", json!(false), Change::Launch("metadata.ownerReferences"))]
#[case::another_uid("/metadata/ownerReferences/0/uid", json!("2"), Change::Launch("metadata.ownerReferences"))]
#[case::annotation("/metadata/annotations", json!({"k8s.v1.cni.cncf.io/networks": "x"}), Change::Plain)]
#[case::other_label("/metadata/labels/x", json!("y"), Change::Plain)]
#[case::label_moved("/metadata/labels/ringfence.dev~1workflow", json!("b"), Change::Launch("metadata.labels[ringfence.dev/workflow]"))]
#[case::image("/spec/containers/0/image", json!("b"), Change::Launch("spec"))]
#[case::ephemeral("/spec/ephemeralContainers", json!([{"image": "a"}]), Change::Debug)]
#[case::newer_field("/spec/newerThanUs", json!(1), Change::Launch("spec"))]
#[case::newer_top_level_field("/newerThanUs", json!(1), Change::Plain)]
#[case::resize("/spec/containers/0/resources", json!({"limits": {"cpu": "1"}}), Change::Plain)]
#[case::gate("/spec/schedulingGates", json!([{"name": "g"}]), Change::Plain)]
#[case::deadline("/spec/activeDeadlineSeconds", json!(1), Change::Plain)]
fn a_change_of_a_pod_is_weighed(#[case] pointer: &str, #[case] value: Value, #[case] expected: Change) {
    let new = set(pod(), pointer, value);
    assert_eq!(judged("", "Pod", &pod(), &new), Some(expected));
}

#[rstest]
#[case::pod("", "Pod", Change::Plain)]
#[case::replica_set("apps", "ReplicaSet", Change::Launch("metadata.labels"))]
#[case::deployment("apps", "Deployment", Change::Launch("metadata.labels"))]
fn labels_are_weighed(#[case] group: &str, #[case] kind: &str, #[case] of_controlled: Change) {
    let controlled = match kind {
        "Pod" => pod(),
        _ => set(
            deployment(),
            "/metadata/ownerReferences",
            pod()["metadata"]["ownerReferences"].clone(),
        ),
    };
    let labelled = |object: &Value| set(object.clone(), "/metadata/labels/app", json!("other"));
    assert_eq!(
        judged(group, kind, &controlled, &labelled(&controlled)),
        Some(of_controlled)
    );
    for owners in [
        Value::Null,
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "2"}]),
        json!([{"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": "r", "uid": "2", "controller": true}]),
    ] {
        let alone = set(controlled.clone(), "/metadata/ownerReferences", owners);
        assert_eq!(
            judged(group, kind, &alone, &labelled(&alone)),
            Some(Change::Launch("metadata.labels"))
        );
    }
}

#[rstest]
#[case::another(json!(["f", "x"]), Change::Launch("metadata.finalizers"))]
#[case::instead(json!(["x"]), Change::Launch("metadata.finalizers"))]
#[case::of_the_collector(json!(["f", "foregroundDeletion"]), Change::Launch("metadata.finalizers"))]
#[case::in_another_order(json!(["g", "f"]), Change::Inert)]
#[case::gone(Value::Null, Change::Inert)]
fn a_finalizer_is_weighed(#[case] finalizers: Value, #[case] expected: Change) {
    let old = set(deployment(), "/metadata/finalizers", json!(["f", "g"]));
    let new = set(old.clone(), "/metadata/finalizers", finalizers.clone());
    assert_eq!(judged("apps", "Deployment", &old, &new), Some(expected));
    let old = set(pod(), "/metadata/finalizers", json!(["f", "g"]));
    let new = set(old.clone(), "/metadata/finalizers", finalizers);
    assert_eq!(judged("", "Pod", &old, &new), Some(expected));
    let mut by_controller = review("UPDATE", "", "Pod", Some(&new), Some(&old));
    by_controller.user.username = "system:kube-controller-manager".to_owned();
    let weighed = change(&by_controller, shape("", "Pod"), &new);
    assert_eq!(weighed, Some(Change::Inert), "the Job controller's own");
    let free = |pod: &Value| set(pod.clone(), "/metadata/labels", json!({}));
    assert_eq!(
        judged("", "Pod", &free(&old), &free(&new)),
        Some(Change::Inert),
        "nobody's pod"
    );
}

/// Without it, `kubectl apply --prune` leaves what it applied.
#[rstest]
#[case::of_nobody(Value::Null, Change::Launch("metadata.annotations"))]
#[case::controlled(pod()["metadata"]["ownerReferences"].clone(), Change::Plain)]
fn what_a_tool_keeps_on_a_pod_is_weighed(#[case] owners: Value, #[case] expected: Change) {
    let kept = json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"});
    let bare = set(pod(), "/metadata/ownerReferences", owners);
    let with = set(bare.clone(), "/metadata/annotations", kept);
    assert_eq!(judged("", "Pod", &bare, &with), Some(expected));
    assert_eq!(judged("", "Pod", &with, &bare), Some(expected));
    let noted = set(bare.clone(), "/metadata/annotations", json!({"example.com/note": "x"}));
    assert_eq!(judged("", "Pod", &bare, &noted), Some(Change::Plain));
}

#[test]
fn a_controller_keeps_its_own_record() {
    let new = set(
        deployment(),
        "/metadata/annotations",
        json!({"deployment.kubernetes.io/revision": "2"}),
    );
    let mut review = review("UPDATE", "apps", "Deployment", Some(&new), Some(&deployment()));
    let weighed = |review: &Review| change(review, shape("apps", "Deployment"), &new);
    assert_eq!(weighed(&review), Some(Change::Launch("metadata.annotations")));
    review.user.username = "system:kube-controller-manager".to_owned();
    assert_eq!(weighed(&review), Some(Change::Plain));
}

/// What a class allows may have changed since the pod was made.
#[rstest]
#[case::its_name("/metadata/labels/statefulset.kubernetes.io~1pod-name", json!("p"), Change::Inert)]
#[case::its_index("/metadata/labels/apps.kubernetes.io~1pod-index", json!("0"), Change::Inert)]
#[case::another_label("/metadata/labels/x", json!("y"), Change::Plain)]
#[case::workflow("/metadata/labels/ringfence.dev~1workflow", json!("b"), Change::Launch("metadata.labels[ringfence.dev/workflow]"))]
#[case::adopted("/metadata/ownerReferences/0/uid", json!("2"), Change::Launch("metadata.ownerReferences"))]
fn a_controller_puts_back_which_of_its_pods_one_is(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] expected: Change,
) {
    let new = set(pod(), pointer, value);
    let mut review = review("UPDATE", "", "Pod", Some(&new), Some(&pod()));
    review.user.username = "system:kube-controller-manager".to_owned();
    let weighed = |review: &Review| change(review, shape("", "Pod"), &new);
    assert_eq!(weighed(&review), Some(expected));
    review.user.username = "tess".to_owned();
    assert_ne!(weighed(&review), Some(Change::Inert), "anybody else is judged");
}

/// What has two owners goes with the last of them.
#[rstest]
#[case::beside_the_one_that_controls("/metadata/ownerReferences/1", Change::Launch("metadata.ownerReferences"))]
#[case::in_its_place("/metadata/ownerReferences/0", Change::Launch("metadata.ownerReferences"))]
fn an_owner_is_weighed(
    #[case] pointer: &str,
    #[case] expected: Change,
    #[values(("", "Pod"), ("apps", "Deployment"), ("ray.io", "RayJob"))] of: (&str, &str),
) {
    let (group, kind) = of;
    let dead = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "dead", "uid": "9"});
    let mut new = pod();
    new["metadata"]["ownerReferences"]
        .as_array_mut()
        .unwrap()
        .push(Value::Null);
    let mut new = set(new, pointer, dead.clone());
    new["metadata"]["ownerReferences"]
        .as_array_mut()
        .unwrap()
        .retain(|owner| !owner.is_null());
    assert_eq!(judged(group, kind, &pod(), &new), Some(expected));
    let mut named = pod();
    named["metadata"]["ownerReferences"][0]["kind"] = json!("Nothing");
    assert_eq!(judged(group, kind, &pod(), &named), Some(expected), "named otherwise");
    // The collector deletes nothing of which it cannot find out one owner.
    let mut twice = pod();
    let owners = twice["metadata"]["ownerReferences"].as_array_mut().unwrap();
    owners.push(json!({"apiVersion": "gone.example/v1", "kind": "Nothing", "name": "x", "uid": "1"}));
    assert_eq!(judged(group, kind, &pod(), &twice), Some(expected), "twice");
    let alone = set(pod(), "/metadata/ownerReferences", Value::Null);
    let of_one = set(pod(), "/metadata/ownerReferences", json!([dead]));
    assert_eq!(judged(group, kind, &alone, &of_one), Some(expected), "of nobody before");
    assert_eq!(
        judged(group, kind, &of_one, &alone),
        Some(expected),
        "one that controls nothing"
    );
}

/// Whoever lets go by its work shows a credential.
#[test]
fn the_collector_takes_owners_away() {
    let new = set(pod(), "/metadata/ownerReferences", Value::Null);
    let mut review = review("UPDATE", "", "Pod", Some(&new), Some(&pod()));
    review.user.username = "system:serviceaccount:kube-system:generic-garbage-collector".to_owned();
    let weighed = |review: &Review| change(review, shape("", "Pod"), &new);
    assert_eq!(
        weighed(&review),
        Some(Change::Launch("metadata.ownerReferences")),
        "its name"
    );
    review.user.uid = "1".to_owned();
    let credential = (
        "authentication.kubernetes.io/credential-id".to_owned(),
        vec!["JTI=1".to_owned()],
    );
    review.user.extra.extend([credential]);
    assert_eq!(weighed(&review), Some(Change::Inert));
}

#[rstest]
#[case::pod("", "Pod", true)]
#[case::workload("apps", "Deployment", true)]
#[case::operator("ray.io", "RayJob", true)]
#[case::what_runs_nothing("", "ConfigMap", false)]
fn what_gets_too_large_to_be_deleted_is_weighed(#[case] group: &str, #[case] kind: &str, #[case] is_weighed: bool) {
    let junk =
        json!([{"manager": "tess", "operation": "Update", "fieldsV1": {"f:status": {"x".repeat(400 << 10): {}}}}]);
    let large = set(pod(), "/metadata/managedFields", junk);
    let expected = if is_weighed {
        Change::Launch("metadata")
    } else {
        Change::Inert
    };
    assert_eq!(judged(group, kind, &pod(), &large), Some(expected));
    assert_eq!(
        judged(group, kind, &large, &large),
        Some(Change::Inert),
        "as large as before"
    );
    assert_eq!(judged(group, kind, &large, &pod()), Some(Change::Inert), "smaller");
    let mut review = review("UPDATE", group, kind, Some(&large), Some(&pod()));
    review.user.username = "system:kube-controller-manager".to_owned();
    assert_eq!(
        change(&review, shape(group, kind), &large),
        Some(Change::Inert),
        "a controller's own"
    );
}

/// What a Deployment said stays on its ReplicaSets.
#[test]
fn a_note_that_is_taken_off_is_weighed() {
    for (group, kind, expected) in [
        ("apps", "Deployment", Change::Launch("metadata.annotations")),
        ("apps", "StatefulSet", Change::Plain),
    ] {
        let noted = set(
            deployment(),
            "/metadata/annotations",
            json!({"note": "x", "other": "y"}),
        );
        let fewer = set(deployment(), "/metadata/annotations", json!({"note": "x"}));
        assert_eq!(judged(group, kind, &noted, &fewer), Some(expected));
        assert_eq!(judged(group, kind, &fewer, &noted), Some(Change::Plain));
    }
}

/// By what an operator goes that made it, nobody else can tell.
#[rstest]
#[case::annotated("/metadata/annotations", json!({"scale-down-deadline": "2099-01-01T00:00:00Z"}), Change::Launch("metadata.annotations"))]
#[case::more("/spec/replicas", json!(2), Change::Launch("spec.replicas"))]
#[case::fewer("/spec/replicas", json!(0), Change::Plain)]
fn what_an_operator_goes_by_is_weighed(#[case] pointer: &str, #[case] value: Value, #[case] expected: Change) {
    let owned_by = |api: &str, kind: &str| {
        let owner = json!([{"apiVersion": api, "kind": kind, "name": "o", "uid": "1", "controller": true}]);
        let old = set(deployment(), "/metadata/ownerReferences", owner);
        let new = set(old.clone(), pointer, value.clone());
        judged("apps", "ReplicaSet", &old, &new)
    };
    assert_eq!(owned_by("argoproj.io/v1alpha1", "Rollout"), Some(expected));
    assert_eq!(
        owned_by("apps/v1", "Deployment"),
        Some(Change::Plain),
        "held by a guard"
    );
}

#[test]
fn a_pod_on_its_way_out_is_weighed_like_any_other() {
    let dying = set(pod(), "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"));
    let new = set(dying.clone(), "/spec/containers/0/image", json!("b"));
    assert_eq!(judged("", "Pod", &dying, &new), Some(Change::Launch("spec")));
    let new = set(dying.clone(), "/metadata/finalizers", json!([]));
    assert_eq!(judged("", "Pod", &dying, &new), Some(Change::Inert));
}

#[rstest]
#[case::fewer(json!(3), json!(2), Change::Launch("spec"))]
#[case::not_said(json!(3), Value::Null, Change::Launch("spec"))]
#[case::more(json!(3), json!(4), Change::Plain)]
fn a_job_that_forgets_what_it_has_run_is_launched(
    #[case] before: Value,
    #[case] after: Value,
    #[case] expected: Change,
) {
    let job = |completions: &Value| json!({"metadata": {"labels": {"ringfence.dev/workflow": "a"}}, "spec": {"completions": completions, "template": pod()}});
    let (old, new) = (job(&before), job(&after));
    assert_eq!(judged("batch", "Job", &old, &new), Some(expected));
}

fn deployment() -> Value {
    json!({"metadata": {"labels": {"ringfence.dev/workflow": "a"}}, "spec": {"replicas": 1, "template": pod()}})
}

#[rstest]
#[case::scale("/spec/replicas", json!(9), Change::Plain)]
#[case::history("/spec/revisionHistoryLimit", json!(0), Change::Plain)]
#[case::suspend("/spec/suspend", json!(true), Change::Plain)]
#[case::fewer_at_once("/spec/parallelism", json!(1), Change::Plain)]
#[case::in_all("/spec/completions", json!(1), Change::Plain)]
#[case::not_paused("/spec/paused", json!(false), Change::Plain)]
#[case::pause("/spec/paused", json!(true), Change::Launch("spec"))]
#[case::pause_in_other_words("/spec/paused", json!("yes"), Change::Launch("spec"))]
#[case::slower("/spec/minReadySeconds", json!(9), Change::Launch("spec"))]
#[case::strategy("/spec/strategy", json!({"type": "Recreate"}), Change::Launch("spec"))]
#[case::partition("/spec/updateStrategy", json!({"rollingUpdate": {"partition": 9}}), Change::Launch("spec"))]
#[case::again("/spec/backoffLimit", json!(9), Change::Launch("spec"))]
#[case::newer_field_outside_the_template("/spec/newerThanUs", json!(1), Change::Launch("spec"))]
#[case::spec_gone("/spec", Value::Null, Change::Launch("spec.template"))]
#[case::annotation("/metadata/annotations", json!({"example.com/note": "2"}), Change::Plain)]
#[case::last_applied("/metadata/annotations", json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"}), Change::Launch("metadata.annotations"))]
#[case::image("/spec/template/spec/containers/0/image", json!("b"), Change::Launch("spec.template"))]
#[case::restart("/spec/template/metadata/annotations", json!({"kubectl.kubernetes.io/restartedAt": "now"}), Change::Launch("spec.template"))]
#[case::newer_field_inside_the_template("/spec/template/newerThanUs", json!(1), Change::Launch("spec.template"))]
#[case::template_gone("/spec/template", Value::Null, Change::Launch("spec.template"))]
fn a_change_of_a_workload_is_weighed(#[case] pointer: &str, #[case] value: Value, #[case] expected: Change) {
    let new = set(deployment(), pointer, value);
    assert_eq!(judged("apps", "Deployment", &deployment(), &new), Some(expected));
}

#[rstest]
#[case::resumed(json!(false), Change::Plain)]
#[case::resumed_by_taking_it_off(Value::Null, Change::Plain)]
#[case::paused_as_before(json!(true), Change::Plain)]
fn a_paused_rollout_goes_on_or_is_scaled(#[case] paused: Value, #[case] expected: Change) {
    let old = set(deployment(), "/spec/paused", json!(true));
    let new = set(set(deployment(), "/spec/paused", paused), "/spec/replicas", json!(4));
    assert_eq!(judged("apps", "Deployment", &old, &new), Some(expected));
}

#[rstest]
#[case::suspend("/spec/suspend", json!(true), Change::Plain)]
#[case::parallelism("/spec/jobTemplate/spec/parallelism", json!(2), Change::Plain)]
#[case::history("/spec/failedJobsHistoryLimit", json!(2), Change::Plain)]
#[case::schedule("/spec/schedule", json!("* * * * *"), Change::Launch("spec"))]
#[case::time_zone("/spec/timeZone", json!("Asia/Tokyo"), Change::Launch("spec"))]
#[case::at_once("/spec/concurrencyPolicy", json!("Allow"), Change::Launch("spec"))]
#[case::again("/spec/jobTemplate/spec/backoffLimit", json!(9), Change::Launch("spec"))]
#[case::newer_field("/spec/newerThanUs", json!(1), Change::Launch("spec"))]
#[case::job_labels("/spec/jobTemplate/metadata/labels", json!({"ringfence.dev/workflow": "b"}), Change::Launch("spec.jobTemplate"))]
#[case::image("/spec/jobTemplate/spec/template/spec/containers/0/image", json!("b"), Change::Launch("spec.jobTemplate.spec.template"))]
fn a_change_of_a_cron_job_is_weighed(#[case] pointer: &str, #[case] value: Value, #[case] expected: Change) {
    let old = json!({"metadata": {}, "spec": {"suspend": false, "jobTemplate": {"metadata": {}, "spec": {"template": pod()}}}});
    let new = set(old.clone(), pointer, value);
    assert_eq!(judged("batch", "CronJob", &old, &new), Some(expected));
}

#[rstest]
#[case::config_map("", "ConfigMap", "/data", json!({"x": "y"}), Change::Plain)]
#[case::config_map_annotated("", "ConfigMap", "/metadata/annotations", json!({"x": "y"}), Change::Plain)]
#[case::operator_annotated("ray.io", "RayJob", "/metadata/annotations", json!({"x": "y"}), Change::Launch("metadata"))]
#[case::operator_labelled("ray.io", "RayJob", "/metadata/labels/x", json!("y"), Change::Launch("metadata"))]
#[case::operator_with_no_annotations("ray.io", "RayJob", "/metadata/annotations", json!({}), Change::Plain)]
#[case::operator_kept_by_a_finalizer("ray.io", "RayJob", "/metadata/finalizers", json!(["ray.io/gcs"]), Change::Launch("metadata.finalizers"))]
#[case::config_map_kept_by_a_finalizer("", "ConfigMap", "/metadata/finalizers", json!(["a/b"]), Change::Inert)]
#[case::operator_with_another_owner("ray.io", "RayJob", "/metadata/ownerReferences", json!([{"uid": "2"}]), Change::Launch("metadata.ownerReferences"))]
#[case::config_map_with_another_owner("", "ConfigMap", "/metadata/ownerReferences", json!([{"uid": "2"}]), Change::Plain)]
#[case::operator_owned_by_another("ray.io", "RayJob", "/metadata/managedFields", json!([{"operation": "Apply", "manager": "tess", "fieldsV1": {"f:spec": {"f:head": {}}}}]), Change::Launch("metadata.managedFields"))]
#[case::operator_that_somebody_scales("ray.io", "RayJob", "/metadata/managedFields", json!([{"operation": "Apply", "manager": "tess", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]), Change::Inert)]
#[case::operator("argoproj.io", "Workflow", "/spec/templates", json!([{}]), Change::Launch("spec"))]
#[case::operator_outside_spec("argoproj.io", "Workflow", "/template", json!({}), Change::Launch("spec"))]
#[case::operator_of_a_k8s_io_group("sparkoperator.k8s.io", "SparkApplication", "/spec/image", json!("x"), Change::Launch("spec"))]
#[case::operator_scaled("ray.io", "RayCluster", "/spec/replicas", json!(3), Change::Plain)]
#[case::operator_with_a_template_as_replicas("ray.io", "RayCluster", "/spec/replicas", json!([{"image": "x"}]), Change::Launch("spec"))]
#[case::operator_paused("argoproj.io", "Rollout", "/spec/paused", json!(true), Change::Launch("spec"))]
#[case::operator_paused_in_other_words("argoproj.io", "Rollout", "/spec/paused", json!(1), Change::Launch("spec"))]
#[case::operator_suspended("ray.io", "RayJob", "/spec/suspend", json!(true), Change::Plain)]
#[case::newer_kind_of_batch("batch", "JobSet", "/spec/x", json!(1), Change::Launch("spec"))]
#[case::operator_status_that_is_written_like_all_else("argoproj.io", "Workflow", "/status", json!({"phase": "Running"}), Change::Launch("status"))]
fn a_change_of_another_kind_is_weighed(
    #[case] group: &str,
    #[case] kind: &str,
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] expected: Change,
) {
    let old = json!({"metadata": {"labels": {"ringfence.dev/workflow": "a"}}, "spec": {"replicas": 1}});
    let new = set(old.clone(), pointer, value);
    assert_eq!(judged(group, kind, &old, &new), Some(expected));
}

#[rstest]
#[case::goes_on("/spec/paused", json!(false), Change::Plain)]
#[case::scaled("/spec/replicas", json!(3), Change::Plain)]
#[case::otherwise("/spec/image", json!("x"), Change::Launch("spec"))]
fn a_paused_object_of_an_operator_goes_on_or_is_scaled(
    #[case] pointer: &str,
    #[case] value: Value,
    #[case] expected: Change,
) {
    let old = json!({"metadata": {"labels": {"ringfence.dev/workflow": "a"}}, "spec": {"replicas": 1, "paused": true}});
    let new = set(old.clone(), pointer, value);
    assert_eq!(judged("argoproj.io", "Rollout", &old, &new), Some(expected));
}

#[test]
fn an_update_without_an_old_object_cannot_be_weighed() {
    let review = review("UPDATE", "", "Pod", Some(&pod()), None);
    assert_eq!(change(&review, shape("", "Pod"), &pod()), None);
}
