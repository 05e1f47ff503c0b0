//! What keeps a plan from being carried out, whatever it says: nobody reviewed the declaration, older pods would come under it, or it
//! is on its way out.

use kube::ResourceExt;

use super::{Acceptance, Observed, Plan, accept, reviewed};
use crate::api::{AIWorkflow, Reason};

/// Holds back a declaration that nobody reviewed, or that older pods would come under.
pub(super) fn hold(workflow: &AIWorkflow, observed: &Observed, plan: &mut Plan) {
    let registration = observed.registration.as_ref();
    let (reason, message) = if !reviewed::is_reviewed(workflow, registration) {
        (Reason::NotReviewed, reviewed::explain(workflow, registration))
    } else if matches!(
        plan.acceptance.reason,
        Reason::Accepted | Reason::Invalid | Reason::OutsideClass
    ) && !observed.predecessors.is_empty()
    {
        (Reason::PredecessorPods, observed.predecessors.explain(workflow))
    } else {
        return;
    };
    plan.held = true;
    // What is invalid or outside its class must be corrected first, whatever runs.
    let must_be_corrected = matches!(plan.acceptance.reason, Reason::Invalid | Reason::OutsideClass);
    if !must_be_corrected || reason != Reason::PredecessorPods {
        plan.acceptance = accept::refused(reason, message, Vec::new());
    }
}

/// Says that a workflow is on its way out, and what keeps it.
pub(super) fn deleting(workflow: &AIWorkflow) -> Acceptance {
    let message = match workflow.finalizers() {
        [] => "it is being deleted: its rights are gone, and nothing of it is launched any more".to_owned(),
        finalizers => format!(
            "it is being deleted and kept by {}: its rights are gone, and nothing of it is launched any more; whoever set these finalizers must finish",
            finalizers.join(", ")
        ),
    };
    accept::refused(Reason::Deleting, message, Vec::new())
}
