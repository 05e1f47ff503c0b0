//! What a write changes: nothing that a rule looks at, something, or something that only a launcher may change.
//!
//! Compares raw JSON, so that a change in a field newer than our types is a change. Must never: take a field for harmless
//! because it is unknown.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::object::{OwnerRef, controller, workflow_label};
use super::template::{Shape, has_shape};
use super::{bookkeeping, launch, record};
use crate::review::{Gvk, Operation, Review};

/// What a write does to what the fence looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// It makes the object.
    Create,
    /// It takes finalizers off, or owners where that is the writer's to do, touches status, or what the API server writes. Controllers do this
    /// to end things; refusing it would leave Jobs and namespaces hanging. Or a controller puts back by what it knows a pod of its own.
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
pub(super) const FREE_POD_FIELDS: [&str; 5] = [
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
pub(super) const RESIZABLE: [&str; 2] = ["containers", "initContainers"];

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
    if (is_workload || is_of_a_workflow) && !launch::lets_go(&review.user) && stays_behind(old, object) {
        return Some(Change::Launch(OWNERS));
    }
    // Controllers keep what is theirs there, and nobody else's.
    if is_workload
        && !is_built_in
        && let Some(path) = bookkeeping::changed(old, object).or_else(|| orders_an_operator(&review.kind, old, object))
    {
        return Some(Change::Launch(path));
    }
    // What made a pod writes it anew; a pod by itself is what a tool applied.
    let is_by_itself = is_pod && is_of_a_workflow && controller(old).is_none();
    if is_by_itself && bookkeeping::notes_changed(old, object) {
        return Some(Change::Launch(bookkeeping::NOTES));
    }
    if is_by_itself && record::is_shared_of_a_pod(old, object) {
        let path = launch_path(&review.kind, shape, old, object);
        return Some(Change::Launch(path.unwrap_or(bookkeeping::RECORD)));
    }
    let is_deployment = is_workload && review.kind.kind == "Deployment";
    if is_deployment && !is_built_in && bookkeeping::takes_off(old, object) {
        return Some(Change::Launch(bookkeeping::NOTES));
    }
    if is_custom && is_of_a_workflow && record::is_shared(old, object) {
        return Some(Change::Launch(bookkeeping::RECORD));
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

/// Whether an object no longer goes with what it belongs to: an owner was taken from it, is named otherwise, or no longer controls it, or there
/// is another beside it. What nobody controls goes with the last of its owners.
fn stays_behind(old: &Value, new: &Value) -> bool {
    let belongs_to = |object| -> HashSet<_> { owners(object).map(without_block).collect() };
    belongs_to(old) != belongs_to(new)
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
pub(super) fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
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
mod tests;
