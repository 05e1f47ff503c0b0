//! Promise 1, declaration: a pod belongs to the AIWorkflow that its label names, in an approved namespace, behind a standing
//! fence.
//!
//! Must never: rest on what the reconciler wrote into a status. Acceptance is computed again, by `plan`'s own function. The one
//! exception is the record of what was reviewed, which nothing else can tell.

use kube::ResourceExt;
use serde_json::Value;

use super::facts::{Facts, Subject, is_workflow_name, read};
use super::object::{LABEL_PATH, at, being_deleted, shown, violation, workflow_label};
use super::update::is_quiet;
use crate::api::{AIWorkflow, AIWorkflowClass, DEFAULT_DENY_NAME, ENFORCE_LABEL, Reason, WORKFLOW_LABEL};
use crate::plan::{self, NamespaceFacts};
use crate::review::{Operation, Violation};

const DECLARED: &str = "declared-workflow";
const APPROVED: &str = "approved-namespace";
const FIXED: &str = "fixed-label";
const DEFAULT_DENY: &str = "default-deny";

/// Checks that whatever is labelled sits in a namespace that may run workflows. `Err` ends the judgement: without a mode there
/// is no class, and nothing else to compare with.
pub(super) fn check_namespace(
    subject: &Subject<'_>,
    namespace: Option<&NamespaceFacts>,
) -> Result<(), Option<Violation>> {
    let Some(label) = subject.label.filter(|_| !subject.leaves) else {
        return if namespace.is_some_and(|namespace| namespace.mode().is_some()) {
            Ok(())
        } else {
            Err(None)
        };
    };
    let refuse = |message: String, fix: &str| Err(Some(violation(APPROVED, LABEL_PATH, Some(label), message, fix)));
    let remove = "remove the label, or put the object into a namespace that is labelled ringfence.dev/enforce";
    let Some(name) = subject.namespace else {
        // What runs nothing by itself may lie in none: other products copy labels there. It owns nothing of a workflow.
        let refusal = refuse(
            "lies in no namespace, where no workflow runs".to_owned(),
            "remove the label",
        );
        return if subject.shape.is_some() { refusal } else { Err(None) };
    };
    match namespace {
        None => refuse(
            format!("namespace {} does not exist", shown(name)),
            "create the namespace first",
        ),
        Some(namespace) if namespace.exempt => refuse(
            format!(
                "namespace {} is the platform's own and runs no AI workflows",
                shown(name)
            ),
            remove,
        ),
        Some(namespace) if namespace.mode().is_none() => refuse(
            format!("namespace {} is not approved to run AI workflows", shown(name)),
            &format!(
                "ask the platform team for: kubectl label namespace {} {ENFORCE_LABEL}=<class>; or remove the label",
                shown(name)
            ),
        ),
        Some(_) => Ok(()),
    }
}

/// Checks that a Pod keeps the label that it was made with: its network and its account follow from it. And that nothing that runs, or makes
/// what runs, goes from one workflow to another in one act, of which the other's launchers alone would be asked: they would take it over,
/// with all that the same act changes of it.
pub(super) fn check_fixed(subject: &Subject<'_>) -> Option<Violation> {
    let is_binding = subject.review.kind.group.is_empty() && subject.review.kind.kind == "Binding";
    if is_binding && let Some(label) = workflow_label(subject.object) {
        let message = "a Binding's labels overwrite those of its pod, and a pod keeps the label that it was made with";
        return Some(violation(
            FIXED,
            LABEL_PATH,
            Some(label),
            message,
            "leave the label out of the Binding",
        ));
    }
    if subject.review.operation != Operation::Update {
        return None;
    }
    if !subject.is_pod() {
        return check_stays(subject);
    }
    let (old, new) = (
        subject.review.old_object().and_then(workflow_label),
        workflow_label(subject.object),
    );
    if old == new {
        return None;
    }
    let was = old.map_or_else(|| "without the label".to_owned(), |old| format!("with {}", shown(old)));
    let message = format!("a pod keeps the label that it was made with, and this one was made {was}");
    Some(violation(
        FIXED,
        LABEL_PATH,
        new,
        message,
        "delete the pod, and create it with the right label",
    ))
}

fn check_stays(subject: &Subject<'_>) -> Option<Violation> {
    let kind = &subject.review.kind;
    let former = subject.former().filter(|_| !is_quiet(&kind.group, &kind.kind))?;
    let label = subject.label.filter(|label| *label != former)?;
    let message = format!("it belongs to AIWorkflow {}, and goes to no other one", shown(former));
    let fix = format!("delete this {}, and make it anew with the right label", kind.kind);
    Some(violation(FIXED, LABEL_PATH, Some(label), message, fix))
}

/// Checks that the label is a name, and that object and template carry the same one.
pub(super) fn check_label(subject: &Subject<'_>, violations: &mut Vec<Violation>) {
    // What runs nothing is no workflow's by another word than a name, either: nobody would be asked who may take it away.
    if let Some(label) = subject
        .label
        .filter(|label| !subject.leaves && !is_workflow_name(label))
    {
        let fix =
            "use the name of an AIWorkflow (kubectl get aiworkflow): at most 40 lower-case letters, digits and '-'";
        let message = "no AIWorkflow can have that name";
        violations.push(violation(DECLARED, LABEL_PATH, Some(label), message, fix));
    }
    let Some(shape) = subject.shape else { return };
    let Some(label) = subject.label else {
        let kind = &subject.review.kind.kind;
        let message = format!(
            "nothing says which AIWorkflow this {kind} belongs to, and this namespace runs declared workflows only"
        );
        let and_template = if kind == "Pod" { "" } else { " and its pod template" };
        let fix = format!("set the label {WORKFLOW_LABEL}: <AIWorkflow> on the {kind}{and_template}");
        violations.push(violation(DECLARED, LABEL_PATH, None, message, fix));
        return;
    };
    let places = [("", Some(subject.object))]
        .into_iter()
        .chain(shape.labelled(subject.object));
    for (path, place) in places {
        let carries = place.and_then(workflow_label);
        if carries != Some(label) {
            let path = at(path, LABEL_PATH);
            let message = format!(
                "must be {} like elsewhere in this object, because what is made of it takes the label from here",
                shown(label)
            );
            violations.push(violation(
                DECLARED,
                &path,
                carries,
                message,
                format!("set {WORKFLOW_LABEL}: {} there", shown(label)),
            ));
        }
    }
}

/// The AIWorkflow that the label names, if it is there and can be relied on.
pub(super) fn workflow(subject: &Subject<'_>, facts: &Facts) -> Result<Option<AIWorkflow>, Violation> {
    let Some(label) = subject.label.filter(|label| is_workflow_name(label)) else {
        return Ok(None);
    };
    let Some(object) = &facts.workflow else {
        // What is left behind by a workflow that is gone may be cleared up.
        if subject.leaves {
            return Ok(None);
        }
        let namespace = subject.namespace.unwrap_or_default();
        let message = format!("there is no AIWorkflow of that name in namespace {}", shown(namespace));
        let fix =
            "apply the AIWorkflow first (kubectl get aiworkflow shows those that are there), or correct the label";
        return Err(violation(DECLARED, LABEL_PATH, Some(label), message, fix));
    };
    read(DECLARED, "AIWorkflow", label, object).map(Some)
}

/// Whether a workflow's record leaves open if its present generation was reviewed, so that the registration must be known.
pub fn needs_registration(workflow: &Value) -> bool {
    let generation = workflow.pointer("/metadata/generation").and_then(Value::as_i64);
    let recorded = workflow.pointer("/status/reviewed/generation").and_then(Value::as_i64);
    generation.is_some() && generation != recorded
}

/// Checks that somebody has reviewed what the declaration says.
pub(super) fn check_reviewed(label: &str, facts: &Facts, workflow: &AIWorkflow) -> Option<Violation> {
    let registration = facts.registration.as_ref().and_then(plan::Registration::from_object);
    if plan::is_reviewed(workflow, registration.as_ref()) {
        return None;
    }
    let message = format!(
        "this AIWorkflow is not accepted ({}): it was written while no webhook of Ringfence reviewed it",
        Reason::NotReviewed.as_str()
    );
    let fix = format!(
        "kubectl describe aiworkflow {} --namespace {} shows the command by which an administrator acknowledges it",
        shown(label),
        workflow.namespace().unwrap_or_default()
    );
    Some(violation(DECLARED, LABEL_PATH, Some(label), message, fix))
}

/// Checks that the declaration holds: it stays, it was reviewed, and its class takes it.
///
/// That it was reviewed is asked here too, although nothing new is made of what was not: an account of an earlier generation
/// stands, and the declaration names who launches as it, and from which images.
pub(super) fn check_accepted(
    label: &str,
    facts: &Facts,
    workflow: &AIWorkflow,
    namespace: &NamespaceFacts,
    class: (&str, Option<&AIWorkflowClass>),
    violations: &mut Vec<Violation>,
) {
    if facts.workflow.as_ref().is_some_and(being_deleted) {
        let fix = "wait until it is gone, and apply it again";
        violations.push(violation(
            DECLARED,
            LABEL_PATH,
            Some(label),
            "this AIWorkflow is being deleted",
            fix,
        ));
    }
    violations.extend(check_reviewed(label, facts, workflow));
    let (class_name, class) = class;
    let acceptance = plan::accept(workflow, namespace, Some(class_name), class);
    if !acceptance.accepted {
        let message = format!(
            "this AIWorkflow is not accepted ({}): {}",
            acceptance.reason.as_str(),
            acceptance.message
        );
        let fix = format!(
            "correct the AIWorkflow; kubectl describe aiworkflow {} --namespace {} shows its conditions",
            shown(label),
            namespace.name
        );
        violations.push(violation(DECLARED, LABEL_PATH, Some(label), message, fix));
    }
}

/// Checks that the namespace's default-deny stands as Ringfence wants it. An allow that is still missing only closes more.
pub(super) fn check_default_deny(namespace: &NamespaceFacts, observed: Option<&Value>) -> Option<Violation> {
    let path = "metadata.namespace";
    let name = Some(namespace.name.as_str());
    match observed {
        None => {
            let message = format!(
                "its default-deny, NetworkPolicy {DEFAULT_DENY_NAME}, is not there yet, so a pod would run unfenced"
            );
            let fix = "wait for it (kubectl wait --for=condition=Ready aiworkflow/<name>) and create the pod again";
            Some(violation(DEFAULT_DENY, path, name, message, fix))
        }
        Some(policy) if being_deleted(policy) || !plan::same(&plan::default_deny(namespace), policy) => {
            let message = format!(
                "its default-deny, NetworkPolicy {DEFAULT_DENY_NAME}, is not as Ringfence makes it, so a pod would run unfenced"
            );
            let fix =
                "wait until Ringfence has restored it and create the pod again; if it stays so, tell the platform team";
            Some(violation(DEFAULT_DENY, path, name, message, fix))
        }
        Some(_) => None,
    }
}
