//! What a verdict needs to know beyond the request, and what was found out.
//!
//! Must never: mistake "could not be asked" for "is not there". A [`Facts`] holds answers only; whoever could not get one
//! refuses the request without asking the fence.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::object::{OwnerRef, controller, shown, uid, violation, workflow_label};
use super::template::{Shape, Template, has_shape, shape};
use super::update::{Change, change, is_quiet};
use super::{launch, object};
use crate::api::{MAX_WORKFLOW_NAME, is_dns_label, is_dns_subdomain};
use crate::policy::Excusable;
use crate::review::{Operation, Review, Violation};

/// Longest chain of owners. Kubernetes' own is three (Pod, Job, CronJob); operators put one or two above it.
pub const MAX_OWNERS: usize = 5;

/// What a request is about, as the fence sees it.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    pub(super) review: &'a Review,
    pub(super) object: &'a Value,
    pub(super) shape: Option<&'static Shape>,
    /// The workflow that it says it belongs to; on itself, else on its template. That it belonged to, where `leaves`.
    pub(super) label: Option<&'a str>,
    /// Whether an object without a template says no more that it belongs to a workflow.
    pub(super) leaves: bool,
    /// Namespace; `None` for cluster-scoped objects, and for a Namespace, which is not *in* itself.
    pub(super) namespace: Option<&'a str>,
    pub(super) change: Change,
    /// Whether it stands already: who launched it is not known, and what Ringfence makes beside it need not be there yet.
    pub(super) stands: bool,
}

impl<'a> Subject<'a> {
    /// Reads the subject of a request. `Ok(None)` where the fence has nothing to say; `Err` where a review lacks what every
    /// review of its operation has.
    pub fn of(review: &'a Review) -> Result<Option<Self>, &'static str> {
        match review.operation {
            Operation::Delete => return Ok(None),
            Operation::Connect => return Err("a CONNECT is no subject: it is a session"),
            Operation::Create | Operation::Update => {}
        }
        let object = review.object().ok_or("the review holds no object")?;
        let shape = shape(&review.kind.group, &review.kind.kind);
        let change = change(review, shape, object).ok_or("the review of an UPDATE holds no oldObject")?;
        let is_namespace = review.kind.group.is_empty() && review.kind.kind == "Namespace";
        let namespace = review.namespace.as_deref().filter(|_| !is_namespace);
        let label = workflow_of(shape, object);
        let former = review.old_object().and_then(workflow_label);
        // Whatever else the same write changes is done to an object of the workflow.
        let leaves = shape.is_none() && label.is_none() && former.is_some();
        let subject = Self {
            review,
            object,
            shape,
            label: if leaves { former } else { label },
            leaves,
            namespace,
            change,
            stands: false,
        };
        Ok(subject.is_judged().then_some(subject))
    }

    /// The same of an object that stands, in a review that makes it. Not judged of it: who launched it, which nobody recorded.
    pub fn standing(review: &'a Review) -> Result<Option<Self>, &'static str> {
        let subject = Self::of(review)?;
        Ok(subject.map(|subject| Self {
            stands: true,
            ..subject
        }))
    }

    /// The workflow that it says it belongs to.
    pub const fn workflow(&self) -> Option<&'a str> {
        self.label
    }

    /// Whether a rule can apply at all.
    fn is_judged(&self) -> bool {
        match (self.change, self.shape) {
            (Change::Inert, _) => false,
            // Scaling, resuming and a rollout's own bookkeeping: each pod that comes of it is judged by itself, and the
            // controllers must be able to end what came before the fence.
            (Change::Plain, Some(shape)) => shape.is_pod(),
            (Change::Debug | Change::Plain, None) => false,
            (Change::Create | Change::Debug | Change::Launch(_), Some(_)) => true,
            // Built-in controllers copy labels to what runs nothing: slices of endpoints, stored revisions.
            (Change::Create | Change::Launch(_), None) => {
                (self.label.is_some() || self.is_revision()) && !launch::is_built_in(&self.review.user)
            }
        }
    }

    /// The workflow that it said it belongs to before an UPDATE.
    pub(super) fn former(&self) -> Option<&'a str> {
        let is_update = self.review.operation == Operation::Update;
        let old = self.review.old_object().filter(|_| is_update)?;
        workflow_of(self.shape, old)
    }

    /// Whether what controls it is new: it makes itself somebody's, who may change and delete it, and counts it as its own.
    pub(super) fn gains_a_controller(&self) -> bool {
        let old = self.review.old_object().filter(|_| self.change != Change::Create);
        self.shape.is_some() && old.and_then(controller) != controller(self.object)
    }

    /// Whether it is a stored template, from which a StatefulSet or DaemonSet makes pods again.
    pub(super) fn is_revision(&self) -> bool {
        self.review.kind.group == "apps" && self.review.kind.kind == "ControllerRevision"
    }

    /// Whether it is a Pod, by whatever subresource.
    pub(super) fn is_pod(&self) -> bool {
        self.shape.is_some_and(Shape::is_pod)
    }

    /// Whether it brings a pod into being.
    pub(super) fn makes_a_pod(&self) -> bool {
        self.is_pod() && self.change == Change::Create
    }

    /// The pod as it was before an UPDATE; nothing for what is new, or a template.
    pub(super) fn pod_before(&self) -> Option<&'a Value> {
        let is_update = self.is_pod() && self.review.operation == Operation::Update;
        self.review.old_object().filter(|_| is_update)
    }

    /// Where a launcher must answer: the path of what was changed, or the label for what is new.
    pub(super) fn launched(&self) -> Option<&'static str> {
        match self.change {
            Change::Create => Some(object::LABEL_PATH),
            Change::Launch(path) => Some(path),
            Change::Debug | Change::Inert | Change::Plain => None,
        }
    }

    /// The built-in controller that may let go of a pod, because its labels are others than before.
    pub(super) fn may_leave(&self) -> Option<OwnerRef> {
        let old = self.pod_before().filter(|_| self.change == Change::Plain)?;
        let labels = |pod: &'a Value| pod.pointer("/metadata/labels");
        let asks = !self.stands && labels(old) != labels(self.object) && !launch::is_built_in(&self.review.user);
        controller(old).filter(|owner| asks && has_shape(owner))
    }

    /// Whether a pod's annotations are others than before, by which an engine may know its own. Built-in controllers keep theirs there.
    pub(super) fn may_mislead(&self) -> bool {
        let words = |pod| super::update::words(pod, "annotations");
        let before = self
            .pod_before()
            .filter(|_| self.change == Change::Plain && !self.stands);
        before.is_some_and(|before| words(before) != words(self.object)) && !launch::is_built_in(&self.review.user)
    }

    /// The pod or pod template that policies judge.
    pub fn template(&self) -> Option<Result<Template<'a>, Violation>> {
        self.shape.map(|shape| shape.template(self.object))
    }

    /// What must be found out before it can be judged.
    pub fn needs(&self) -> Needs {
        // No namespace has another name; without the fact, whatever needs it is refused.
        let Some(namespace) = self.namespace.filter(|name| is_dns_label(name)) else {
            return Needs::default();
        };
        let user = &self.review.user;
        let label = self.label.filter(|label| is_workflow_name(label));
        let in_namespace = |name: &str| Named {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let leaves = self.may_leave().filter(|_| label.is_some());
        let asks_a_launcher = self.launched().is_some() || leaves.is_some() || self.may_mislead();
        let is_launched = label.is_some() && asks_a_launcher && !self.stands;
        let account = self.object.pointer("/spec/serviceAccountName").and_then(Value::as_str);
        let is_made = label.is_some() && self.makes_a_pod();
        let is_asked = self.gains_a_controller() || launch::is_built_in(user) && self.shape.is_some();
        let controlled = is_launched && is_asked;
        Needs {
            namespace: Some(namespace.to_owned()),
            workflow: label.map(in_namespace),
            default_deny: (is_made && !self.stands).then(|| namespace.to_owned()),
            account: account
                .filter(|name| is_made && is_dns_subdomain(name))
                .map(in_namespace),
            launcher: launch::service_account(&user.username).filter(|_| is_launched),
            // No built-in controller works for another kind: it is refused without asking.
            owner: leaves.or_else(|| {
                controller(self.object).filter(|owner| controlled && (!launch::is_built_in(user) || has_shape(owner)))
            }),
        }
    }

    /// The owner that it says controls it.
    pub fn controller(&self) -> Option<OwnerRef> {
        controller(self.object)
    }
}

/// The object of a review as exceptions to policies name it. What made it counts as far as the chain of owners holds.
pub fn excusable<'a>(review: &'a Review, facts: &'a Facts) -> Excusable<'a> {
    let object = review.current();
    let own = object
        .and_then(|object| object.pointer("/metadata/name"))
        .and_then(Value::as_str);
    Excusable {
        namespace: review.namespace.as_deref().unwrap_or_default(),
        labels: object.and_then(|object| object.pointer("/metadata/labels")),
        names: own.into_iter().chain(facts.makers(review)).collect(),
    }
}

/// Whether the owner that an object names may be believed to have made it: anybody may write an owner into what they make, or change. Who
/// made what stands nobody recorded; and what made it goes on to count for those who change something else of it. So an owner that was made up
/// counts from the next change on: it gives no more than the object's own name does, which whoever makes it chooses, too.
fn is_as_it_was_made(review: &Review) -> bool {
    if review.stands() || launch::is_built_in(&review.user) {
        return true;
    }
    let (Some(old), Some(new)) = (review.old_object(), review.current()) else {
        return false;
    };
    let shape = shape(&review.kind.group, &review.kind.kind);
    controller(old) == controller(new) && !matches!(change(review, shape, new), Some(Change::Launch(_)))
}

/// Whether such owners make objects of that kind: by the controller of the kind, which takes away what is too much of it, or an operator's.
pub fn makes(owner: &OwnerRef, (group, kind): (&str, &str)) -> bool {
    match (owner.group(), owner.kind.as_str()) {
        ("apps", "Deployment") => (group, kind) == ("apps", "ReplicaSet"),
        ("batch", "CronJob") => (group, kind) == ("batch", "Job"),
        ("", "ReplicationController") | ("apps", "DaemonSet" | "ReplicaSet" | "StatefulSet") | ("batch", "Job") => {
            (group, kind) == ("", "Pod")
        }
        _ => is_an_operators(owner),
    }
}

fn is_an_operators(owner: &OwnerRef) -> bool {
    !has_shape(owner) && !is_quiet(owner.group(), &owner.kind)
}

/// The workflow that an object says it belongs to; on itself, else on its template.
fn workflow_of<'a>(shape: Option<&Shape>, object: &'a Value) -> Option<&'a str> {
    let handed_on = shape.map(|shape| shape.labelled(object)).unwrap_or_default();
    workflow_label(object).or_else(|| handed_on.into_iter().find_map(|(_, place)| workflow_label(place?)))
}

/// Whether an AIWorkflow can have that name.
pub(super) fn is_workflow_name(name: &str) -> bool {
    name.len() <= MAX_WORKFLOW_NAME && is_dns_label(name)
}

/// An object of a known kind.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Named {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What must be asked of the API server, live. The classes follow from the namespace's labels.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Needs {
    /// The Namespace.
    pub namespace: Option<String>,
    /// The AIWorkflow.
    pub workflow: Option<Named>,
    /// The namespace whose default-deny must stand.
    pub default_deny: Option<String>,
    /// The ServiceAccount that a pod runs as.
    pub account: Option<Named>,
    /// The ServiceAccount that asks.
    pub launcher: Option<Named>,
    /// The first owner; [`Facts::next_owner`] tells the others.
    pub owner: Option<OwnerRef>,
}

/// An owner that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    /// As its dependent names it.
    pub reference: OwnerRef,
    /// What is there by that name.
    pub found: Option<Value>,
}

/// What was found out: `None` is "is not there" or "was not needed".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The Namespace.
    pub namespace: Option<Value>,
    /// The AIWorkflow.
    pub workflow: Option<Value>,
    /// The registration under which AIWorkflows are reviewed, where the workflow's record does not settle whether it was.
    pub registration: Option<Value>,
    /// The namespace's default-deny NetworkPolicy.
    pub default_deny: Option<Value>,
    /// The ServiceAccount that the pod runs as.
    pub account: Option<Value>,
    /// The ServiceAccount that asks.
    pub launcher: Option<Value>,
    /// The chain of owners, from the object upwards.
    pub owners: Vec<Owner>,
    /// AIWorkflowClasses by name.
    pub classes: BTreeMap<String, Option<Value>>,
    /// The pod into which something is opened.
    pub pod: Option<Value>,
    /// The list of RegoPolicyExceptions.
    pub exceptions: Option<Value>,
    /// When it was found out. Without it every window in time is closed.
    pub now: Option<Timestamp>,
}

impl Facts {
    /// The owner to ask for next: the one above the last one, as long as the chain holds and is not too long.
    pub fn next_owner(&self) -> Option<OwnerRef> {
        let last = self.owners.last()?;
        let found = last
            .found
            .as_ref()
            .filter(|found| uid(found) == Some(last.reference.uid.as_str()))?;
        if self.owners.len() >= MAX_OWNERS {
            None
        } else {
            controller(found)
        }
    }

    /// Names of the owners that made the object of a review, as far as that can be believed and the chain holds. Nobody knows which account
    /// an operator has: what its object owns counts as made by it.
    fn makers<'a>(&'a self, review: &'a Review) -> impl Iterator<Item = &'a str> {
        let is_believed = |first: &Owner| is_an_operators(&first.reference) || is_as_it_was_made(review);
        let is_believed = self.owners.first().is_some_and(is_believed);
        let mut made = (review.kind.group.as_str(), review.kind.kind.as_str());
        let holds = move |owner: &&'a Owner| {
            let owner: &'a Owner = owner;
            let is_there = owner.found.as_ref().and_then(uid) == Some(owner.reference.uid.as_str());
            let holds = is_believed && is_there && makes(&owner.reference, made);
            made = (owner.reference.group(), owner.reference.kind.as_str());
            holds
        };
        let holding = self.owners.iter().take_while(holds);
        holding.map(|owner| owner.reference.name.as_str())
    }

    /// A class, if it is there.
    pub fn class(&self, name: &str) -> Option<&Value> {
        self.classes.get(name)?.as_ref()
    }
}

/// Reads one of our own kinds. What cannot be read cannot be relied on, and is said to be so.
pub(super) fn read<T: DeserializeOwned>(rule: &str, kind: &str, name: &str, object: &Value) -> Result<T, Violation> {
    T::deserialize(object).map_err(|error| {
        let message = format!(
            "{kind} {} cannot be read: {}",
            shown(name),
            shown(&without_values(&error.to_string()))
        );
        let fix = format!(
            "correct that {kind} with kubectl edit; if its CRD is newer than this Ringfence, upgrade Ringfence"
        );
        violation(rule, "", None, message, fix)
    })
}

/// What serde says is wrong, without what it says is there: the object may be one that who asks may not read.
fn without_values(error: &str) -> String {
    // A name of ours.
    if error.starts_with("missing field") {
        return error.to_owned();
    }
    // What was expected is ours, and stands last.
    match error.rsplit_once(", expected ") {
        Some((_, expected)) => format!("a field is not what it should be: expected {expected}"),
        None => "a field is not what it should be".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::AIWorkflowClass;

    #[test]
    fn who_is_refused_learns_nothing_of_an_object_that_cannot_be_read() {
        for spec in [
            json!({"images": "topsecret, expected topsecret"}),
            json!({"podSecurity": "topsecret"}),
            json!({"identity": {"maxTokenSeconds": "topsecret"}}),
        ] {
            let class = json!({"metadata": {"name": "c"}, "spec": spec});
            let violation = read::<AIWorkflowClass>("r", "AIWorkflowClass", "c", &class).unwrap_err();
            assert!(!violation.message.contains("topsecret"), "{violation:?}");
            assert!(violation.message.contains("should be: expected "), "{violation:?}");
        }
        let missing = read::<AIWorkflowClass>("r", "AIWorkflowClass", "c", &json!({"metadata": {}})).unwrap_err();
        assert!(missing.message.contains("missing field `spec`"), "{missing:?}");
    }
}
