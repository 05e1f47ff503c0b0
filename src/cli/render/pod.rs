//! The block that a pod template needs to run in its workflow's fence.

use anyhow::{Result, bail};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{super::manifests::Manifests, Rendered, namespace_of, surroundings::Surroundings};
use crate::{
    api::{AIWorkflow, WORKFLOW_LABEL},
    plan,
};

pub(super) fn pod(manifests: &Manifests, wanted: &str, namespace: Option<&str>) -> Result<Rendered> {
    let (namespace, name) = match wanted.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (namespace, wanted),
    };
    let named = |workflow: &&AIWorkflow| {
        workflow.name_any() == name && namespace.is_none_or(|namespace| namespace == namespace_of(workflow))
    };
    let found: Vec<_> = manifests.workflows.iter().filter(named).collect();
    let workflow = match found.as_slice() {
        [workflow] => *workflow,
        [] => bail!("there is no AIWorkflow {wanted} in the input"),
        _ => bail!("there are several AIWorkflows {name} in the input: name one as NAMESPACE/{name}"),
    };
    let shown = format!("AIWorkflow {}/{name}", namespace_of(workflow));
    let Surroundings {
        facts, class, assumed, ..
    } = Surroundings::of(&namespace_of(workflow), manifests)?;
    let mut rendered = Rendered::default();
    rendered.comments.extend(assumed);
    let acceptance = plan::accept(workflow, &facts, facts.fencing_class(), class.as_ref());
    rendered.say_acceptance(&shown, &acceptance);
    let comment = format!(
        "A pod template of {shown}. Put the label on the object around it as well (Job, Deployment, …),\n\
         and the securityContext into every container."
    );
    let class_name = facts.fencing_class().unwrap_or_default();
    let rules = class
        .as_ref()
        .map(|class| plan::effective_rules(workflow, class_name, class))
        .unwrap_or_default();
    rendered.objects = vec![(comment, template(workflow, !rules.is_empty()))];
    Ok(rendered)
}

fn template(workflow: &AIWorkflow, holds_rules: bool) -> Value {
    let pattern = workflow.spec.images.first().map_or("", String::as_str);
    // The account mounts no token by itself: one that nobody asked for is one to steal.
    let needs_token = holds_rules || !workflow.cross_namespace().is_empty();
    let mut spec = json!({
        "serviceAccountName": workflow.service_account_name(),
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "main",
            "image": format!("<an image of {pattern}>"),
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }],
    });
    if let Some(spec) = spec.as_object_mut().filter(|_| needs_token) {
        spec.insert("automountServiceAccountToken".to_owned(), true.into());
    }
    json!({"metadata": {"labels": {WORKFLOW_LABEL: workflow.name_any()}}, "spec": spec})
}
