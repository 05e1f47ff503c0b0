//! What a write changes: nothing that a rule looks at, something, or something that only a launcher may change.
//!
//! Compares raw JSON, so that a change in a field newer than our types is a change. Must never: take a field for harmless
//! because it is unknown.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::object::{OwnerRef, controller, workflow_label};
use super::template::{Shape, has_shape};
use super::{bookkeeping, launch};
use crate::review::{Gvk, Operation, Review};

/// What a write does to what the fence looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// It makes the object.
    Create,
    /// It takes finalizers off, touches status, what the API server writes, or takes owners away that control nothing. Controllers do this to
    /// end things; refusing it would leave Jobs and namespaces hanging. Or a controller puts back by what it knows a pod of its own.
    Inert,
    /// It puts containers for debugging beside those of a pod that runs, and nothing else.
    Debug,
    /// It changes something, and nothing that decides what runs.
    Plain,
    /// It changes what runs, or whose it is: the path of it.
    Launch(&'static str),
}

/// Metadata that says nothing about what runs.
const INERT_METADATA: [&str; 5] = [
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
];

/// Labels by which a StatefulSet's controller tells its pods apart.
const IDENTITY: [&str; 2] = ["apps.kubernetes.io/pod-index", "statefulset.kubernetes.io/pod-name"];

/// Fields of a pod's spec whose change starts nothing: how long it may run, and when it may be placed.
const FREE_POD_FIELDS: [&str; 5] = [
    "activeDeadlineSeconds",
    "resources",
    "schedulingGates",
    "terminationGracePeriodSeconds",
    "tolerations",
];

/// Fields of a workload's spec whose change starts nothing but what its template says: how much of it runs, whether, and how much of
/// its past is kept. What else there is decides which template runs, and when: a strategy, `minReadySeconds` or a pause holds a
/// rollout back, and keeps running, or brings back, what a launcher withdrew.
pub(super) const FREE_FIELDS: [&str; 7] = [
    "completions",
    "failedJobsHistoryLimit",
    "parallelism",
    "replicas",
    "revisionHistoryLimit",
    "successfulJobsHistoryLimit",
    "suspend",
];

/// By which an operator's object is scaled or suspended, by convention.
const SWITCHES: [&str; 2] = ["replicas", "suspend"];

/// By which a controller takes up a pod, or a Deployment a ReplicaSet, that nobody controls; and by which an operator finds its pods, and a
/// launcher's tool a workload.
pub(super) const TAKES_UP: &str = "metadata.labels";
/// What is kept by one goes on after it was deleted.
pub(super) const KEEPS: &str = "metadata.finalizers";

/// By which something goes with what made it.
pub(super) const OWNERS: &str = "metadata.ownerReferences";
/// What is too large to be written again cannot be deleted: that is a write, too.
pub(super) const SWELLS: &str = "metadata";

/// How many pods run of a workload.
const REPLICAS: &str = "spec.replicas";

/// Path of what a pod runs.
const RUNNING: &str = "spec";

/// Lists of containers whose `resources` may be resized.
const RESIZABLE: [&str; 2] = ["containers", "initContainers"];

/// Groups of the API server itself whose other kinds make no pods. Every other group is somebody's operator; and `apps` and
/// `batch` may bring a kind that is newer than us.
const QUIET_GROUPS: [&str; 20] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Whether a kind is one of the API server's own that makes no pods.
pub fn is_quiet(group: &str, kind: &str) -> bool {
    QUIET_GROUPS.contains(&group) && super::template::shape(group, kind).is_none()
}

/// Tells what a CREATE or UPDATE changes. `None` where an UPDATE does not say what was there before.
pub(super) fn change(review: &Review, shape: Option<&Shape>, object: &Value) -> Option<Change> {
    if review.operation == Operation::Create {
        return Some(Change::Create);
    }
    let old = review.old_object()?;
    if writes_status_as_content(review, shape, old, object) {
        return Some(Change::Launch("status"));
    }
    let is_built_in = launch::is_built_in(&review.user);
    let is_pod = shape.is_some_and(Shape::is_pod);
    let is_workload = shape.is_some() && !is_pod;
    let is_custom = shape.is_none() && !QUIET_GROUPS.contains(&review.kind.group.as_str());
    // What of a pod does not go holds back what made it. The Job controller counts its pods by a finalizer.
    let is_of_a_workflow = (is_pod || is_custom) && workflow_label(object).is_some() && !is_built_in;
    if (is_workload || is_of_a_workflow) && gains_finalizer(old, object) {
        return Some(Change::Launch(KEEPS));
    }
    if (is_workload && !is_built_in || is_of_a_workflow) && review.swells {
        return Some(Change::Launch(SWELLS));
    }
    // Controllers keep what is theirs there, and nobody else's.
    if is_workload
        && !is_built_in
        && let Some(path) = bookkeeping::changed(old, object).or_else(|| orders_an_operator(&review.kind, old, object))
    {
        return Some(Change::Launch(path));
    }
    let is_deployment = is_workload && review.kind.kind == "Deployment";
    if is_deployment && !is_built_in && bookkeeping::takes_off(old, object) {
        return Some(Change::Launch(bookkeeping::NOTES));
    }
    if is_custom && is_of_a_workflow && bookkeeping::is_shared(old, object) {
        return Some(Change::Launch(bookkeeping::RECORD));
    }
    if (is_workload || is_of_a_workflow) && !launch::lets_go(&review.user) && stays_behind(old, object) {
        return Some(Change::Launch(OWNERS));
    }
    if is_inert(old, object) || is_pod && is_built_in && puts_back(old, object) {
        return Some(Change::Inert);
    }
    Some(match launch_path(&review.kind, shape, old, object) {
        None => Change::Plain,
        Some(RUNNING) if shape.is_some_and(Shape::is_pod) && debugs(old, object) => Change::Debug,
        Some(path) => Change::Launch(path),
    })
}

/// Whether a workload that an operator's object controls gets other annotations: by which of them the operator goes only itself knows, some keep
/// a template running there that was withdrawn. Or whether more is to run of a ReplicaSet of one: it may be of such a template.
fn orders_an_operator(kind: &Gvk, old: &Value, new: &Value) -> Option<&'static str> {
    controller(old).filter(|owner| !has_shape(owner))?;
    let replicas = |object: &Value| object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    if words(old, "annotations") != words(new, "annotations") {
        Some(bookkeeping::NOTES)
    } else {
        (kind.kind == "ReplicaSet" && replicas(new) > replicas(old)).then_some(REPLICAS)
    }
}

/// Whether an object gets a finalizer that it did not have. That of a deletion in the foreground comes by a DELETE, never by an UPDATE: written
/// beforehand, it is one like any other.
fn gains_finalizer(old: &Value, new: &Value) -> bool {
    let had: HashSet<_> = list(old, "finalizers").iter().collect();
    list(new, "finalizers").iter().any(|one| !had.contains(one))
}

/// Whether an object no longer goes with what controls it: that was taken from it, or there is another owner beside it. What nobody controls
/// goes with the last of its owners.
fn stays_behind(old: &Value, new: &Value) -> bool {
    let had: HashSet<_> = owners(old).map(|owner| owner.get("uid")).collect();
    let added = owners(new).any(|owner| !had.contains(&owner.get("uid")));
    added || controller(old).is_some_and(|owner| controller(new).as_ref() != Some(&owner))
}

/// Whether a custom resource that has no status subresource gets another status: then its status is written like everything else of it, and
/// an engine may run what it says (Argo Workflows keeps the template there that it runs).
fn writes_status_as_content(review: &Review, shape: Option<&Shape>, old: &Value, new: &Value) -> bool {
    shape.is_none()
        && review.subresource.is_empty()
        && !QUIET_GROUPS.contains(&review.kind.group.as_str())
        && old.get("status") != new.get("status")
}

fn debugs(old: &Value, new: &Value) -> bool {
    let without = |pod: &Value| {
        let mut spec = running(pod)?;
        spec.as_object_mut()?.remove("ephemeralContainers");
        Some(spec)
    };
    without(old) == without(new)
}

/// Whether an UPDATE touches nothing but finalizers, status, what the API server writes, or takes owners away.
pub fn is_inert(old: &Value, new: &Value) -> bool {
    let (Some(old_fields), Some(new_fields)) = (old.as_object(), new.as_object()) else {
        return false;
    };
    let none = Map::new();
    equal_but(old_fields, new_fields, &["metadata", "status"])
        && equal_but(
            metadata_of(old).unwrap_or(&none),
            metadata_of(new).unwrap_or(&none),
            &INERT_METADATA,
        )
        && loses_owners_only(old, new)
}

/// Whether a controller only tells its pod again which of its pods it is. A StatefulSet's ends its work where that is refused, and a class may
/// allow less by now than when the pod was made.
fn puts_back(old: &Value, new: &Value) -> bool {
    let without = |pod: &Value| {
        let mut pod = pod.clone();
        if let Some(labels) = pod.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.retain(|label, _| !IDENTITY.contains(&label.as_str()));
        }
        pod
    };
    is_inert(&without(old), &without(new))
}

fn loses_owners_only(old: &Value, new: &Value) -> bool {
    let had: HashSet<_> = owners(old).map(without_block).collect();
    owners(new).all(|owner| had.contains(&without_block(owner)))
}

/// An owner without `blockOwnerDeletion`, which the garbage collector lifts.
fn without_block(owner: &Value) -> Value {
    let mut owner = owner.clone();
    if let Some(owner) = owner.as_object_mut() {
        owner.remove("blockOwnerDeletion");
    }
    owner
}

fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    list(object, "ownerReferences").iter()
}

/// A list of the metadata. It may have ten thousand entries, and so may the one before: whoever compares two of them looks each entry up,
/// and never goes through the other list for it.
fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    let list = metadata_of(object).and_then(|metadata| metadata.get(field)?.as_array());
    list.map_or(&[], Vec::as_slice)
}

fn metadata_of(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.as_object()
}

fn equal_but(old: &Map<String, Value>, new: &Map<String, Value>, but: &[&str]) -> bool {
    old.keys()
        .chain(new.keys())
        .filter(|key| !but.contains(&key.as_str()))
        .all(|key| old.get(key) == new.get(key))
}

/// Path of what changed among the things that a launcher answers for.
fn launch_path(kind: &Gvk, shape: Option<&Shape>, old: &Value, new: &Value) -> Option<&'static str> {
    if workflow_label(new) != workflow_label(old) {
        return Some(super::object::LABEL_PATH);
    }
    let owner: Option<OwnerRef> = controller(new);
    if owner.is_some() && owner != controller(old) {
        return Some(OWNERS);
    }
    match shape {
        Some(shape) if shape.is_pod() => (running(old) != running(new))
            .then_some(RUNNING)
            .or_else(|| taken_up(old, new)),
        Some(shape) => template_path(shape, old, new)
            .or_else(|| spec_path(old, new))
            .or_else(|| taken_up(old, new).filter(|_| kind.kind == "ReplicaSet")),
        None if QUIET_GROUPS.contains(&kind.group.as_str()) => None,
        None if content(old, goes_on(new)) != content(new, goes_on(new)) => Some("spec"),
        // Engines take orders by them too: to run again, to run in another queue, to run what a label selects.
        None => ["annotations", "labels"]
            .iter()
            .any(|map| words(old, map) != words(new, map))
            .then_some("metadata"),
    }
}

/// Whether something that nobody controls gets other labels: a controller that selects them makes it its own, and what it made before goes.
/// Or something of an operator's: that finds its own by labels that only itself knows, and what it no longer finds runs on.
fn taken_up(old: &Value, new: &Value) -> Option<&'static str> {
    let is_built_in = controller(old).as_ref().is_some_and(has_shape);
    (!is_built_in && words(old, "labels") != words(new, "labels")).then_some(TAKES_UP)
}

fn template_path(shape: &Shape, old: &Value, new: &Value) -> Option<&'static str> {
    let places = shape.labelled(old).into_iter().zip(shape.labelled(new));
    let template = shape.template(new).map_or("", |template| template.path);
    for ((path, old), (_, new)) in places {
        // Of what lies between, only the metadata is handed on: `suspend` and the like are free.
        let handed = |value: Option<&Value>| {
            if path == template {
                value.cloned()
            } else {
                value?.get("metadata").cloned()
            }
        };
        if handed(old) != handed(new) {
            return Some(path);
        }
    }
    None
}

/// Of a spec outside its template, only to scale it, to pause or resume its Jobs, to resume a rollout, and how much of its past is kept, is
/// free.
fn spec_path(old: &Value, new: &Value) -> Option<&'static str> {
    let goes_on = goes_on(new);
    let decided = |object: &Value| {
        let mut spec = object.get("spec")?.as_object()?.clone();
        spec.retain(|key, _| !(FREE_FIELDS.contains(&key.as_str()) || goes_on && key == "paused"));
        if let Some(job) = spec
            .get_mut("jobTemplate")
            .and_then(|job| job.get_mut("spec")?.as_object_mut())
        {
            job.retain(|key, _| !FREE_FIELDS.contains(&key.as_str()));
        }
        Some(spec)
    };
    (decided(old) != decided(new) || lowers_completions(old, new)).then_some("spec")
}

/// Whether a Job forgets what it has run: of an Indexed one, all indexes from there on are run again when there are as many as before.
fn lowers_completions(old: &Value, new: &Value) -> bool {
    let of = |job: &Value| job.pointer("/spec/completions").and_then(Value::as_i64);
    of(new) < of(old)
}

/// Whether no rollout of a workload, or of an operator's object, is paused.
pub(super) fn goes_on(workload: &Value) -> bool {
    matches!(
        workload.pointer("/spec/paused"),
        None | Some(Value::Null | Value::Bool(false))
    )
}

/// Whether anybody may change a field of an operator's object: to scale it, to suspend it, or to let it go on.
pub(super) fn is_switch(field: &str, goes_on: bool) -> bool {
    SWITCHES.contains(&field) || goes_on && field == "paused"
}

/// A pod's spec without what may change freely.
fn running(pod: &Value) -> Option<Value> {
    let mut spec = pod.get("spec")?.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|key, _| !FREE_POD_FIELDS.contains(&key.as_str()));
        for list in RESIZABLE {
            for container in fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(container) = container.as_object_mut() {
                    container.remove("resources");
                }
            }
        }
    }
    Some(spec)
}

/// An object of an unknown kind without metadata, status, and the switches that by convention scale or suspend it. A pause is one where it is
/// lifted: set, it holds back what a launcher is about to roll out.
fn content(object: &Value, goes_on: bool) -> Option<Value> {
    let mut object = object.as_object()?.clone();
    object.retain(|key, _| key != "metadata" && key != "status");
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|key, value| !(is_switch(key, goes_on) && (value.is_boolean() || value.is_number())));
    }
    Some(Value::Object(object))
}

/// Labels or annotations; none is the same as an empty map.
pub(super) fn words<'a>(object: &'a Value, map: &str) -> Option<&'a Map<String, Value>> {
    let words = object.get("metadata")?.get(map)?.as_object();
    words.filter(|words| !words.is_empty())
}

#[cfg(test)]
mod tests {
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
        let alone = set(pod(), "/metadata/ownerReferences", Value::Null);
        let of_one = set(pod(), "/metadata/ownerReferences", json!([dead]));
        assert_eq!(judged(group, kind, &alone, &of_one), Some(expected), "of nobody before");
        assert_eq!(
            judged(group, kind, &of_one, &alone),
            Some(Change::Inert),
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
        let old =
            json!({"metadata": {"labels": {"ringfence.dev/workflow": "a"}}, "spec": {"replicas": 1, "paused": true}});
        let new = set(old.clone(), pointer, value);
        assert_eq!(judged("argoproj.io", "Rollout", &old, &new), Some(expected));
    }

    #[test]
    fn an_update_without_an_old_object_cannot_be_weighed() {
        let review = review("UPDATE", "", "Pod", Some(&pod()), None);
        assert_eq!(change(&review, shape("", "Pod"), &pod()), None);
    }
}
