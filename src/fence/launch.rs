//! Promise 1, launchers: who may make a workflow's objects, or change what they run.
//!
//! Gated at writes, because nothing records who made a Job: by the time its pod is made, only a controller asks. So a built-in
//! controller is believed only as far as the chain of owners above the object holds, and each link of it was gated when it was
//! written. Must never: let a name stand for a person or an account (impersonation gives names away), or make somebody a
//! launcher by right, cluster administrators included.

use serde_json::{Map, Value};

use super::bookkeeping::{NOTES, RECORD};
use super::facts::{Facts, MAX_OWNERS, Named, Owner, Subject};
use super::object::{LABEL_PATH, OwnerRef, controller, shown, uid, violation, workflow_label};
use super::template::shape;
use super::update::{KEEPS, OWNERS, SWELLS, TAKES_UP, words};
use crate::api::{AIWorkflow, AIWorkflowClass, GROUP, Launcher, is_dns_label, is_dns_subdomain};
use crate::plan;
use crate::plan::shape::allows_annotation;
use crate::review::{Review, User, Violation};

const RULE: &str = "launcher";
/// Where a pod leaves its controller.
const RELEASED: &str = "metadata.labels";
const LETS_GO: &str = "take a pod out of what made it, which would run on when that is changed or deleted";
const PASSES_FOR_NEW: &str = "change the labels by which a StatefulSet or DaemonSet knows a pod's revision: an old one would be taken for what was rolled out";
const MISLEADS: &str = "change the annotations by which its engine knows its pods: what it takes for another's, or for done, would run on, or run again";
/// By these a StatefulSet and a DaemonSet tell an old pod from a new one. Their selectors do not name them.
const REVISIONS: [&str; 2] = ["controller-revision-hash", "pod-template-generation"];

const ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// The controller manager when its controllers share one credential.
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
/// Its controllers when each has its own (`--use-service-account-credentials`).
const CONTROLLERS: [&str; 10] = [
    "system:serviceaccount:kube-system:cronjob-controller",
    "system:serviceaccount:kube-system:daemon-set-controller",
    "system:serviceaccount:kube-system:deployment-controller",
    "system:serviceaccount:kube-system:endpoint-controller",
    "system:serviceaccount:kube-system:endpointslice-controller",
    "system:serviceaccount:kube-system:ephemeral-volume-controller",
    "system:serviceaccount:kube-system:job-controller",
    "system:serviceaccount:kube-system:replicaset-controller",
    "system:serviceaccount:kube-system:replication-controller",
    "system:serviceaccount:kube-system:statefulset-controller",
];

const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";

/// Names the credential that authenticated a request. An impersonated request has none, and setting one takes cluster-wide rights.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// How it begins where that is a token, by the token's own ID. A client certificate has one too, by its hash, and in newer API servers a
/// UID of its signer's choice.
const OF_A_TOKEN: &str = "JTI=";

/// Whether a built-in controller asks. One with an account of its own must show a token of it: whoever may impersonate
/// service accounts in `kube-system` has its name, but neither its UID nor a credential.
pub(super) fn is_built_in(user: &User) -> bool {
    user.username == CONTROLLER_MANAGER || (CONTROLLERS.contains(&user.username.as_str()) && has_credential(user))
}

/// Whether a built-in controller adopts what it did not make: what lies about in the namespace and has the labels that it selects. Its work ends
/// where it may not, but for what is gone in the meantime.
pub fn is_adoption(review: &Review) -> bool {
    let (Some(old), Some(new)) = (review.old_object(), review.current()) else {
        return false;
    };
    is_built_in(&review.user) && controller(old).is_none() && controller(new).is_some()
}

/// Whether who asks takes owners away by its work: built-in controllers, of what they no longer select, and the garbage collector.
pub(super) fn lets_go(user: &User) -> bool {
    is_built_in(user) || (user.username == COLLECTOR && has_credential(user))
}

fn has_credential(user: &User) -> bool {
    !user.uid.is_empty()
        && user.extra.get(CREDENTIAL_ID).is_some_and(|ids| {
            ids.iter()
                .any(|id| id.len() > OF_A_TOKEN.len() && id.starts_with(OF_A_TOKEN))
        })
}

/// The service account behind a user name.
pub(super) fn service_account(username: &str) -> Option<Named> {
    let (namespace, name) = username.strip_prefix(ACCOUNT_PREFIX)?.split_once(':')?;
    (is_dns_label(namespace) && is_dns_subdomain(name)).then(|| Named {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

/// Checks that who writes may launch. `class` is that of the mode which is asked about.
pub(super) fn check(
    subject: &Subject<'_>,
    facts: &Facts,
    workflow: &AIWorkflow,
    (class_name, class): (&str, Option<&AIWorkflowClass>),
) -> Option<Violation> {
    let changed = subject.launched().filter(|_| !subject.stands);
    let strays = strays(subject, facts);
    let misleads = || {
        let of_engine = plan::engine_annotations(workflow, class_name, class?);
        tells_apart(subject, &of_engine).then_some(NOTES)
    };
    let path = changed.or(strays.map(|_| RELEASED)).or_else(misleads)?;
    let label = subject.label?;
    let user = &subject.review.user;
    if subject.review.kind.group == GROUP {
        // One from before says nothing, and is anybody's to take off.
        let now = workflow_label(subject.object);
        let before = subject.review.old_object().and_then(workflow_label);
        return (now.is_some() && now != before).then(|| declares(subject, label));
    }
    if is_built_in(user) {
        return check_controlled(subject, facts, label).err();
    }
    let of_class = class.map_or(&[][..], |class| &class.spec.launchers);
    let mut named_but_not_proven = false;
    for launcher in workflow.spec.launchers.iter().chain(of_class) {
        match standing(launcher, user, facts.launcher.as_ref()) {
            Standing::Launcher => return check_owned(subject, facts, label).err(),
            Standing::NotProven => named_but_not_proven = true,
            Standing::Other => {}
        }
    }
    let name = shown(&user.username);
    if named_but_not_proven {
        let message = format!(
            "{name} is a launcher of AIWorkflow {label}, but this request shows neither the account's UID nor a credential ID: it is \
             impersonated, or its token is a legacy one or of a deleted account"
        );
        let fix = "send it with a token of the account itself (a pod's own, or kubectl create token), without --as";
        return Some(violation(RULE, path, None, message, fix));
    }
    let what = match changed {
        None => strays.unwrap_or(MISLEADS),
        Some(LABEL_PATH) => "make its objects or take them over",
        Some(TAKES_UP) => {
            "change the labels by which a controller or a tool takes something up, or finds what is its own"
        }
        Some(KEEPS) if subject.is_pod() => {
            "put a finalizer on a pod, which holds back the rollout and the scaling down of what made it"
        }
        Some(KEEPS) => "put a finalizer there, which keeps its pods running after it was deleted",
        Some(OWNERS) => "change what it belongs to: when that is deleted, it would run on",
        Some(SWELLS) if subject.review.swells => "make it so large that the API server could not delete it",
        Some(NOTES) => {
            "write what their tools keep there, and decide by what to change and to delete; have annotations of more than 64 KiB; or take \
             one off a Deployment, whose ReplicaSets keep it"
        }
        Some(RECORD) => "write what their tools keep there, and decide by what to change and to delete",
        Some(_) => "change what it runs",
    };
    let message = format!("{name} is no launcher of AIWorkflow {label}, and only launchers {what}");
    Some(violation(RULE, path, None, message, fix(workflow, user)))
}

fn declares(subject: &Subject<'_>, label: &str) -> Violation {
    let message = format!(
        "this {} runs nothing, and with the label its editors would have to be launchers of AIWorkflow {label}",
        subject.review.kind.kind
    );
    let fix = "leave the label out: it belongs on what runs, and on its pod template";
    violation(RULE, LABEL_PATH, Some(label), message, fix)
}

/// What becomes of a pod whose labels change by which its controller selects it, or tells its revision.
fn strays(subject: &Subject<'_>, facts: &Facts) -> Option<&'static str> {
    let (old, owner) = subject.pod_before().zip(subject.may_leave())?;
    // Nothing was found out: then it may be.
    let Some(asked) = facts.owners.first().filter(|asked| asked.reference == owner) else {
        return Some(LETS_GO);
    };
    // What is gone lets go of nothing: the garbage collector takes what it had.
    let found = asked.found.as_ref();
    let found = found.filter(|found| uid(found) == Some(owner.uid.as_str()))?;
    let Some(selector) = found.pointer("/spec/selector").and_then(Value::as_object) else {
        return Some(LETS_GO);
    };
    let label = |pod: &Value, key: &str| pod.get("metadata")?.get("labels")?.get(key).cloned();
    let differs = |key: &str| label(old, key) != label(subject.object, key);
    if selected_by(selector).any(differs) {
        return Some(LETS_GO);
    }
    REVISIONS.into_iter().any(differs).then_some(PASSES_FOR_NEW)
}

/// Whether annotations of a pod change that are among those of its engine.
fn tells_apart(subject: &Subject<'_>, of_engine: &[String]) -> bool {
    let Some(old) = subject.pod_before().filter(|_| subject.may_mislead()) else {
        return false;
    };
    let (before, now) = (words(old, "annotations"), words(subject.object, "annotations"));
    let value = |words: Option<&Map<String, Value>>, key: &str| words.and_then(|words| words.get(key)).cloned();
    let keys = before.into_iter().chain(now).flat_map(Map::keys);
    keys.filter(|key| allows_annotation(of_engine, key))
        .any(|key| value(before, key) != value(now, key))
}

/// The labels that the selector of a workload names.
fn selected_by(selector: &Map<String, Value>) -> impl Iterator<Item = &str> {
    // A ReplicationController's is the map of labels itself.
    let is_plain = !selector.values().any(|part| part.is_object() || part.is_array());
    let labels = if is_plain {
        Some(selector)
    } else {
        selector.get("matchLabels").and_then(Value::as_object)
    };
    let requirements = selector.get("matchExpressions").and_then(Value::as_array);
    let required = requirements
        .into_iter()
        .flatten()
        .filter_map(|one| one.get("key")?.as_str());
    labels
        .into_iter()
        .flat_map(Map::keys)
        .map(String::as_str)
        .chain(required)
}

/// Checks that nobody but its controller writes a stored template: pods of an old revision come from it, past the template that
/// a launcher wrote.
pub(super) fn check_revision(subject: &Subject<'_>) -> Option<Violation> {
    if !subject.is_revision() || is_built_in(&subject.review.user) {
        return None;
    }
    let message = format!(
        "{} is not the controller that stores revisions, and pods are made from them",
        shown(&subject.review.user.username)
    );
    let fix =
        "leave ControllerRevisions to Kubernetes; change the template of the StatefulSet or DaemonSet, as a launcher";
    Some(violation(RULE, "data", None, message, fix))
}

fn fix(workflow: &AIWorkflow, user: &User) -> String {
    let entry = match service_account(&user.username) {
        Some(account) => format!(
            "- serviceAccount: {{namespace: {}, name: {}}}",
            account.namespace, account.name
        ),
        None if user.username.starts_with("system:") => {
            "an entry for the account or person who shall launch".to_owned()
        }
        None => format!("- user: {}", shown(&user.username)),
    };
    let launchers: Vec<_> = workflow.spec.launchers.iter().take(3).filter_map(described).collect();
    let by = if launchers.is_empty() {
        String::new()
    } else {
        format!("have {} do it, or ", launchers.join(" or "))
    };
    format!("{by}ask the workflow's owner to add to spec.launchers: {entry}")
}

fn described(launcher: &Launcher) -> Option<String> {
    if let Some(account) = &launcher.service_account {
        return Some(format!(
            "service account {}/{}",
            shown(&account.namespace),
            shown(&account.name)
        ));
    }
    let user = launcher.user.as_deref().map(|user| format!("user {}", shown(user)));
    user.or_else(|| {
        launcher
            .group
            .as_deref()
            .map(|group| format!("a member of {}", shown(group)))
    })
}

enum Standing {
    Launcher,
    /// The account's name, and nothing to prove that it is the account.
    NotProven,
    Other,
}

fn standing(launcher: &Launcher, user: &User, live: Option<&Value>) -> Standing {
    if let Some(account) = &launcher.service_account {
        let is_named = service_account(&user.username)
            .is_some_and(|asks| asks.namespace == account.namespace && asks.name == account.name);
        return match is_named {
            true if has_credential(user) && live.and_then(uid) == Some(user.uid.as_str()) => Standing::Launcher,
            true => Standing::NotProven,
            false => Standing::Other,
        };
    }
    // The CRD refuses these, but ratcheting keeps old values: `system:` names would hold everybody, or a service account
    // without the proof above.
    let is_person = |name: &&str| !name.is_empty() && !name.starts_with("system:");
    let by_name = launcher
        .user
        .as_deref()
        .filter(is_person)
        .is_some_and(|name| name == user.username && !user.username.starts_with("system:"));
    let by_group = launcher
        .group
        .as_deref()
        .filter(is_person)
        .is_some_and(|name| user.groups.iter().any(|group| group == name));
    if by_name || by_group {
        Standing::Launcher
    } else {
        Standing::Other
    }
}

/// Checks the owners of what a launcher makes, or gives to one. An engine's controller is a launcher, and makes pods for whatever objects it
/// is given: so these were written by a launcher too, which their label says. And a built-in controller counts as its own whatever says
/// that it is: a ReplicaSet of one workflow would hold back the rollout of another's Deployment.
fn check_owned(subject: &Subject<'_>, facts: &Facts, label: &str) -> Result<(), Violation> {
    match controller(subject.object).filter(|_| subject.gains_a_controller()) {
        Some(owner) => check_chain(owner, facts, label, Asks::Launcher),
        None => Ok(()),
    }
}

/// Checks the owners above what a built-in controller makes, up to the one that a launcher made.
fn check_controlled(subject: &Subject<'_>, facts: &Facts, label: &str) -> Result<(), Violation> {
    let refuse = |message: String, fix: &str| violation(RULE, "metadata.ownerReferences", None, message, fix);
    let user = shown(&subject.review.user.username);
    let Some(first) = controller(subject.object) else {
        let message = format!("{user} works for the owners of its objects only, and this one has no controlling owner");
        return Err(refuse(message, "have a launcher of the workflow make it"));
    };
    if shape(first.group(), &first.kind).is_none() {
        let message = format!(
            "{user} works for built-in workloads only, and {} is none",
            described_owner(&first)
        );
        return Err(refuse(message, "have a launcher of the workflow make it"));
    }
    check_chain(first, facts, label, Asks::Controller)
}

/// Who makes something for an owner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asks {
    /// It answers for itself: an engine may clean up by a pod when its object is deleted.
    Launcher,
    /// A built-in controller, which goes on as long as its own object is there.
    Controller,
}

fn check_chain(first: OwnerRef, facts: &Facts, label: &str, asks: Asks) -> Result<(), Violation> {
    let refuse = |message: String, fix: &str| violation(RULE, "metadata.ownerReferences", None, message, fix);
    let mut expected = Some(first);
    for owner in &facts.owners {
        let Some(reference) = expected.filter(|reference| *reference == owner.reference) else {
            let message = format!(
                "{} is not the owner that was looked up",
                described_owner(&owner.reference)
            );
            return Err(refuse(message, "try again: owners changed while they were looked up"));
        };
        expected = check_owner(owner, &reference, label, asks)?;
    }
    match expected {
        None => Ok(()),
        Some(reference) if facts.owners.len() >= MAX_OWNERS => {
            let message = format!(
                "{} is owner number {}, and nobody follows more than {MAX_OWNERS}",
                described_owner(&reference),
                MAX_OWNERS + 1
            );
            Err(refuse(message, "make the workload with fewer owners above it"))
        }
        Some(reference) => {
            let message = format!("owner {} was not looked up", described_owner(&reference));
            Err(refuse(message, "try again"))
        }
    }
}

/// Checks one owner, and tells the next one.
fn check_owner(owner: &Owner, reference: &OwnerRef, label: &str, asks: Asks) -> Result<Option<OwnerRef>, Violation> {
    let refuse = |message: String, fix: String| violation(RULE, "metadata.ownerReferences", None, message, fix);
    let name = described_owner(reference);
    let Some(found) = owner
        .found
        .as_ref()
        .filter(|found| uid(found) == Some(reference.uid.as_str()))
    else {
        let message = format!("owner {name} with UID {} does not exist", shown(&reference.uid));
        let fix = "delete what it left behind, and have a launcher make the workload again".to_owned();
        return Err(refuse(message, fix));
    };
    if found.pointer("/metadata/namespace").is_none() {
        let message = format!("owner {name} lies in no namespace, where nobody is asked who makes what");
        let fix = format!("have a launcher of AIWorkflow {label} make an object in the namespace that owns it");
        return Err(refuse(message, fix));
    }
    let shape = shape(reference.group(), &reference.kind);
    // An engine's own object may be cleaned up by a Job.
    if asks == Asks::Controller && shape.is_some() && found.pointer("/metadata/deletionTimestamp").is_some() {
        let message = format!("owner {name} is being deleted, and nothing more is made for it");
        let fix = "take off the finalizers that keep it, if nobody does; have a launcher make the workload again";
        return Err(refuse(message, fix.to_owned()));
    }
    let handed_on = shape.map(|shape| shape.labelled(found)).unwrap_or_default();
    for (path, place) in [("", Some(found))].into_iter().chain(handed_on) {
        let carries = place.and_then(workflow_label);
        if carries != Some(label) {
            let place = super::object::at(path, LABEL_PATH);
            let message = match carries {
                Some(other) => format!("owner {name} has {place} = {}, not {label}", shown(other)),
                None => format!("owner {name} has no {place}"),
            };
            let fix = format!(
                "have a launcher of AIWorkflow {label} make {name} with that label, on itself and on its template"
            );
            return Err(refuse(message, fix));
        }
    }
    Ok(controller(found))
}

fn described_owner(owner: &OwnerRef) -> String {
    format!("{}/{}", shown(&owner.kind), shown(&owner.name))
}

#[cfg(test)]
mod tests;
