//! Whether a declaration is valid and inside its class: condition `Accepted`, for the reconciler and for admission alike.

use super::{
    NamespaceFacts, Problem, domains,
    outside::outside_class,
    peer::{Peer, invalid_peer, invalid_ports},
    rules, secrets, shape,
};
use crate::api::{
    AIWorkflow, AIWorkflowClass, Launcher, MAX_WORKFLOW_NAME, Mode, Reason, is_dns_label, is_dns_subdomain,
};
use crate::images::is_pattern;
use std::collections::BTreeMap;

use kube::ResourceExt;

/// Answer to "may this declaration stand here?".
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Acceptance {
    /// Whether it may.
    pub accepted: bool,
    /// Reason of the condition.
    pub reason: Reason,
    /// Message of the condition: what is wrong, all of it, and what to do.
    pub message: String,
    /// What is wrong, one by one. Empty when the reason says it all.
    pub problems: Vec<Problem>,
}

/// Longest message: what does not fit is counted.
const MAX_MESSAGE: usize = 4096;

/// Judges a declaration by itself and against its class.
///
/// `class_name` is what the namespace's label says for the mode that is asked about; `class` is that class if it exists. Where no label
/// fences, `class` may be the one that `audit` names: it is asked, and what it says is told.
/// Ratcheting lets values stay that today's CRD would refuse, so everything that CEL checks is checked again.
pub fn accept(
    workflow: &AIWorkflow,
    namespace: &NamespaceFacts,
    class_name: Option<&str>,
    class: Option<&AIWorkflowClass>,
) -> Acceptance {
    let Some(class_name) = class_name.filter(|_| !namespace.exempt) else {
        let message = if namespace.exempt {
            format!(
                "namespace {} belongs to the platform and is never fenced: declare the workflow elsewhere",
                namespace.name
            )
        } else if let Some(audit) = namespace.class_for(Mode::Audit) {
            only_audits(workflow, namespace, audit, class)
        } else {
            format!(
                "namespace {} is not fenced: ask the platform team to label it ringfence.dev/warn=<class> first, and ringfence.dev/enforce=<class> once nothing is warned of (verb approve on that class)",
                namespace.name
            )
        };
        return refused(Reason::NamespaceNotFenced, message, Vec::new());
    };
    let invalid = workflow_problems(workflow);
    if !invalid.is_empty() {
        return refused(Reason::Invalid, summary(&invalid), invalid);
    }
    let Some(class) = class else {
        let message = format!(
            "AIWorkflowClass {class_name}, named by namespace {}, does not exist: create it, or label the namespace with one of `kubectl get aiwc`",
            namespace.name
        );
        return refused(Reason::ClassMissing, message, Vec::new());
    };
    let outside = outside_class(workflow, namespace, class_name, class);
    if !outside.is_empty() {
        return refused(Reason::OutsideClass, summary(&outside), outside);
    }
    let message = format!("valid, and inside AIWorkflowClass {class_name}");
    Acceptance {
        accepted: true,
        reason: Reason::Accepted,
        message,
        problems: Vec::new(),
    }
}

/// What a workflow hears where decisions are only counted: that nothing is made, and what the class would say of it.
fn only_audits(
    workflow: &AIWorkflow,
    namespace: &NamespaceFacts,
    audit: &str,
    class: Option<&AIWorkflowClass>,
) -> String {
    let mut message = format!(
        "namespace {} only audits (ringfence.dev/audit={audit}): nothing is made until the platform team labels it ringfence.dev/warn=<class>, and nothing is refused until ringfence.dev/enforce=<class> (verb approve on that class)",
        namespace.name
    );
    let mut problems = workflow_problems(workflow);
    if problems.is_empty() {
        problems.extend(
            class
                .into_iter()
                .flat_map(|class| outside_class(workflow, namespace, audit, class)),
        );
    }
    if !problems.is_empty() {
        message.push_str(&format!(
            ". AIWorkflowClass {audit} would not accept it: {}",
            summary(&problems)
        ));
    }
    message
}

pub(super) fn refused(reason: Reason, message: String, problems: Vec<Problem>) -> Acceptance {
    Acceptance {
        accepted: false,
        reason,
        message,
        problems,
    }
}

/// What is wrong with a declaration by itself, whatever stands around it.
pub fn workflow_problems(workflow: &AIWorkflow) -> Vec<Problem> {
    let mut problems = Vec::new();
    let spec = &workflow.spec;
    let name = workflow.name_any();
    if name.len() > MAX_WORKFLOW_NAME || !is_dns_label(&name) {
        let fix = "use lower-case letters, digits and '-', at most 40 characters";
        problems.push(Problem::new(
            "metadata.name",
            Some(&name),
            "is not a workflow name",
            fix,
        ));
    }
    let account = workflow.service_account_name();
    if account == "default" || !is_dns_subdomain(account) {
        let fix = "name an account of the workflow's own; never 'default'";
        problems.push(Problem::new(
            "spec.identity.serviceAccountName",
            Some(account),
            "cannot be a workflow's account",
            fix,
        ));
    }
    let identity = spec.identity.clone().unwrap_or_default();
    for key in identity
        .annotations
        .keys()
        .filter(|key| key.starts_with("ringfence.dev/"))
    {
        let fix = "leave it out: Ringfence's own keys are not a workflow's to set";
        problems.push(Problem::new("spec.identity.annotations", Some(key), "is reserved", fix));
    }
    for (index, secret) in identity.image_pull_secrets.iter().enumerate() {
        if !is_dns_subdomain(&secret.name) {
            let path = format!("spec.identity.imagePullSecrets[{index}].name");
            problems.push(Problem::new(
                path,
                Some(&secret.name),
                "is no name of a Secret",
                "use its name, as kubectl get secrets shows it",
            ));
        }
    }
    shape::invalid_audiences(&identity.audiences, &mut problems);
    if spec.images.is_empty() {
        let fix = "list the repositories, such as registry.example.com/team/**";
        problems.push(Problem::new(
            "spec.images",
            Some("[]"),
            "is empty, and empty never means all",
            fix,
        ));
    }
    for (index, pattern) in spec
        .images
        .iter()
        .enumerate()
        .filter(|(_, pattern)| !is_pattern(pattern))
    {
        let fix = "write registry and path in full and in lower case, * and ** as whole segments, neither tag nor digest: docker.io/library/python";
        problems.push(Problem::new(
            format!("spec.images[{index}]"),
            Some(pattern),
            "matches no repository",
            fix,
        ));
    }
    for (index, launcher) in spec.launchers.iter().enumerate() {
        invalid_launcher(&format!("spec.launchers[{index}]"), launcher, &mut problems);
    }
    for (index, rule) in workflow.rules().iter().enumerate() {
        rules::invalid(&format!("spec.permissions.rules[{index}]"), rule, &mut problems);
    }
    for (index, entry) in workflow.cross_namespace().iter().enumerate() {
        for (number, rule) in entry.rules.iter().enumerate() {
            let path = format!("spec.permissions.crossNamespace[{index}].rules[{number}]");
            rules::invalid(&path, rule, &mut problems);
            rules::invalid_across(&path, rule, &mut problems);
        }
    }
    secrets::invalid(&spec.secrets, &mut problems);
    let network = spec.network.clone().unwrap_or_default();
    for (index, rule) in network.ingress.iter().enumerate() {
        let path = format!("spec.network.ingress[{index}]");
        let peer = Peer::from(&rule.from);
        invalid_peer(&format!("{path}.from"), &peer, &mut problems);
        invalid_ports(&path, &rule.ports, &peer, &mut problems);
    }
    for (index, rule) in network.egress.iter().enumerate() {
        let path = format!("spec.network.egress[{index}]");
        let peer = Peer::from(&rule.to);
        invalid_peer(&format!("{path}.to"), &peer, &mut problems);
        invalid_ports(&path, &rule.ports, &peer, &mut problems);
    }
    domains::invalid_together(&network.egress, &mut problems);
    problems
}

fn invalid_launcher(path: &str, launcher: &Launcher, problems: &mut Vec<Problem>) {
    let set = [
        launcher.service_account.is_some(),
        launcher.user.is_some(),
        launcher.group.is_some(),
    ];
    if set.into_iter().filter(|set| *set).count() != 1 {
        problems.push(Problem::new(
            path,
            None,
            "is not exactly one of serviceAccount, user or group",
            "name one of them",
        ));
    }
    for (field, value) in [("user", &launcher.user), ("group", &launcher.group)] {
        if let Some(value) = value
            .as_deref()
            .filter(|value| value.is_empty() || value.starts_with("system:"))
        {
            let fix = "name a person, a group of people, or a serviceAccount; system: names hold everybody or the control plane";
            problems.push(Problem::new(
                format!("{path}.{field}"),
                Some(value),
                "cannot be a launcher",
                fix,
            ));
        }
    }
    if let Some(account) = &launcher.service_account
        && (account.namespace.is_empty() || account.name.is_empty())
    {
        problems.push(Problem::new(
            format!("{path}.serviceAccount"),
            None,
            "needs namespace and name",
            "give both",
        ));
    }
}

/// Annotations of the account that the class lets the workflow declare.
pub(super) fn allowed_annotations(workflow: &AIWorkflow, class: &AIWorkflowClass) -> BTreeMap<String, String> {
    let keys = class
        .spec
        .identity
        .as_ref()
        .map_or(&[][..], |identity| &identity.annotations);
    let declared = workflow.spec.identity.iter().flat_map(|identity| &identity.annotations);
    declared
        .filter(|(key, _)| keys.contains(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// All problems in one message, as many as fit.
pub(super) fn summary(problems: &[Problem]) -> String {
    let mut message = String::new();
    for (index, problem) in problems.iter().enumerate() {
        let line = problem.to_string();
        if message.len() + line.len() > MAX_MESSAGE {
            message.push_str(&format!("; and {} more", problems.len() - index));
            break;
        }
        if index > 0 {
            message.push_str("; ");
        }
        message.push_str(&line);
    }
    message
}
