//! Whether a declaration is valid and inside its class: condition `Accepted`, for the reconciler and for admission alike.

use super::{NamespaceFacts, Problem, cidr, engine, rules, selector};
use crate::api::{
    AIWorkflow, AIWorkflowClass, EgressPeer, IngressPeer, Launcher, MAX_WORKFLOW_NAME, PodPeer, Reason, WorkflowPeer,
};
use crate::images::is_pattern;
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
/// `class_name` is what the namespace's label says for the mode that is asked about; `class` is that class if it exists.
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
        } else {
            format!(
                "namespace {} is not fenced: ask the platform team to label it ringfence.dev/enforce=<class> (verb approve on that class)",
                namespace.name
            )
        };
        return refused(Reason::NamespaceNotFenced, message, Vec::new());
    };
    let invalid = invalid(workflow);
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

fn refused(reason: Reason, message: String, problems: Vec<Problem>) -> Acceptance {
    Acceptance {
        accepted: false,
        reason,
        message,
        problems,
    }
}

fn invalid(workflow: &AIWorkflow) -> Vec<Problem> {
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
    if account == "default" || account.is_empty() || !account.split('.').all(is_dns_label) {
        let fix = "name an account of the workflow's own; never 'default'";
        problems.push(Problem::new(
            "spec.identity.serviceAccountName",
            Some(account),
            "cannot be a workflow's account",
            fix,
        ));
    }
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
    let network = spec.network.clone().unwrap_or_default();
    for (index, rule) in network.ingress.iter().enumerate() {
        let path = format!("spec.network.ingress[{index}]");
        invalid_peer(&format!("{path}.from"), &Peer::from(&rule.from), &mut problems);
        invalid_ports(&path, &rule.ports, false, &mut problems);
    }
    for (index, rule) in network.egress.iter().enumerate() {
        let path = format!("spec.network.egress[{index}]");
        let peer = Peer::from(&rule.to);
        invalid_peer(&format!("{path}.to"), &peer, &mut problems);
        invalid_ports(&path, &rule.ports, peer.api_server, &mut problems);
    }
    problems
}

pub(super) fn is_dns_label(text: &str) -> bool {
    let inner = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    !text.is_empty()
        && text.len() <= 63
        && text.starts_with(inner)
        && text.ends_with(inner)
        && text.chars().all(|character| inner(character) || character == '-')
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

/// Both directions of a declared peer, seen alike.
struct Peer<'a> {
    pods: Option<&'a PodPeer>,
    workflow: Option<&'a WorkflowPeer>,
    cidrs: Option<&'a [String]>,
    except: Option<&'a [String]>,
    api_server: bool,
}

impl<'a> From<&'a EgressPeer> for Peer<'a> {
    fn from(peer: &'a EgressPeer) -> Self {
        Self {
            pods: peer.pods.as_ref(),
            workflow: peer.workflow.as_ref(),
            cidrs: peer.cidrs.as_deref(),
            except: peer.except.as_deref(),
            api_server: peer.api_server.is_some(),
        }
    }
}

impl<'a> From<&'a IngressPeer> for Peer<'a> {
    fn from(peer: &'a IngressPeer) -> Self {
        Self {
            pods: peer.pods.as_ref(),
            workflow: peer.workflow.as_ref(),
            cidrs: peer.cidrs.as_deref(),
            except: peer.except.as_deref(),
            api_server: false,
        }
    }
}

fn invalid_peer(path: &str, peer: &Peer<'_>, problems: &mut Vec<Problem>) {
    let set = [
        peer.pods.is_some(),
        peer.workflow.is_some(),
        peer.cidrs.is_some(),
        peer.api_server,
    ];
    if set.into_iter().filter(|set| *set).count() != 1 {
        problems.push(Problem::new(
            path,
            None,
            "is not exactly one peer",
            "name one of pods, workflow, cidrs (or, to, apiServer)",
        ));
    }
    if let Some(pods) = peer.pods
        && pods.selector.match_labels.is_empty()
        && pods.selector.match_expressions.is_empty()
    {
        problems.push(Problem::new(
            format!("{path}.pods.selector"),
            Some("{}"),
            "is empty, and empty never means all",
            "name labels",
        ));
    }
    // What the API server would refuse in a NetworkPolicy would keep the old, wider policy standing.
    let names = [
        ("pods.namespace", peer.pods.and_then(|pods| pods.namespace.as_deref())),
        (
            "workflow.namespace",
            peer.workflow.and_then(|workflow| workflow.namespace.as_deref()),
        ),
        ("workflow.name", peer.workflow.map(|workflow| workflow.name.as_str())),
    ];
    for (field, name) in names {
        if let Some(name) = name.filter(|name| !is_dns_label(name)) {
            let fix = "use lower-case letters, digits and '-'";
            problems.push(Problem::new(
                format!("{path}.{field}"),
                Some(name),
                "is nothing's name",
                fix,
            ));
        }
    }
    if let Some(pods) = peer.pods {
        selector::invalid(&format!("{path}.pods.selector"), &pods.selector, problems);
    }
    if peer.cidrs.is_some_and(<[String]>::is_empty) {
        problems.push(Problem::new(
            format!("{path}.cidrs"),
            Some("[]"),
            "is empty, and empty never means all",
            "name a range",
        ));
    }
    for (field, list) in [("cidrs", peer.cidrs), ("except", peer.except)] {
        for (index, text) in list.unwrap_or_default().iter().enumerate() {
            if let Err(message) = cidr::parse(text) {
                let fix = "write it in its shortest form, prefix and all";
                problems.push(Problem::new(
                    format!("{path}.{field}[{index}]"),
                    Some(text),
                    message,
                    fix,
                ));
            }
        }
    }
    let nets: Vec<_> = peer
        .cidrs
        .unwrap_or_default()
        .iter()
        .filter_map(|text| cidr::parse(text).ok())
        .collect();
    for (index, net) in nets.iter().enumerate() {
        if cidr::metadata_in(net).contains(net) {
            let fix = "leave it out: no pod behind a fence may ask for the node's credentials";
            problems.push(Problem::new(
                format!("{path}.cidrs[{index}]"),
                Some(&net.to_string()),
                "is a metadata service",
                fix,
            ));
        }
    }
    for (index, text) in peer.except.unwrap_or_default().iter().enumerate() {
        let inside =
            cidr::parse(text).is_ok_and(|except| nets.iter().any(|net| net.contains(&except) && *net != except));
        if cidr::parse(text).is_ok() && !inside {
            let fix = "name a part of a range in cidrs, smaller than it";
            problems.push(Problem::new(
                format!("{path}.except[{index}]"),
                Some(text),
                "lies in no range of cidrs",
                fix,
            ));
        }
    }
}

fn invalid_ports(path: &str, ports: &[crate::api::Port], api_server: bool, problems: &mut Vec<Problem>) {
    let path = format!("{path}.ports");
    if ports.is_empty() && !api_server {
        problems.push(Problem::new(
            &path,
            Some("[]"),
            "is empty, and empty never means all",
            "name the ports",
        ));
    }
    for (index, port) in ports.iter().enumerate() {
        let valid = |number: i32| (1..=65535).contains(&number);
        if !valid(port.port) || port.end_port.is_some_and(|end| !valid(end) || end < port.port) {
            let value = port
                .end_port
                .map_or_else(|| port.port.to_string(), |end| format!("{}-{end}", port.port));
            problems.push(Problem::new(
                format!("{path}[{index}]"),
                Some(&value),
                "is no port or range of ports",
                "use 1 to 65535",
            ));
        }
    }
}

fn outside_class(
    workflow: &AIWorkflow,
    namespace: &NamespaceFacts,
    class_name: &str,
    class: &AIWorkflowClass,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(engine::profile(workflow, class_name, class).err());
    for (index, rule) in workflow.rules().iter().enumerate() {
        if let Some(right) = rules::first_uncovered(rule, &class.spec.permissions) {
            let message = format!("asks for a right that AIWorkflowClass {class_name} does not allow");
            let fix = format!(
                "leave it out, or ask the platform team to add it to spec.permissions of AIWorkflowClass {class_name}"
            );
            problems.push(Problem::new(
                format!("spec.permissions.rules[{index}]"),
                Some(&right),
                message,
                fix,
            ));
        }
    }
    let across = rules::across(class);
    for (index, entry) in workflow.cross_namespace().iter().enumerate() {
        for (number, rule) in entry.rules.iter().enumerate() {
            if let Some(right) = rules::first_uncovered(rule, &across) {
                let message = format!(
                    "asks for a right in namespace {} that AIWorkflowClass {class_name} does not allow",
                    entry.namespace
                );
                let fix = format!(
                    "leave it out, or ask the platform team to add it to spec.crossNamespacePermissions of AIWorkflowClass {class_name}"
                );
                problems.push(Problem::new(
                    format!("spec.permissions.crossNamespace[{index}].rules[{number}]"),
                    Some(&right),
                    message,
                    fix,
                ));
            }
        }
    }
    if class
        .spec
        .images
        .as_ref()
        .is_none_or(|images| images.allowed.is_empty())
    {
        let message = format!("names images, and AIWorkflowClass {class_name} allows none");
        problems.push(Problem::new(
            "spec.images",
            None,
            message,
            "ask the platform team to fill the class's spec.images.allowed",
        ));
    }
    let network = workflow.spec.network.clone().unwrap_or_default();
    for (index, rule) in network.ingress.iter().enumerate() {
        peer_outside_class(
            &format!("spec.network.ingress[{index}].from"),
            &Peer::from(&rule.from),
            namespace,
            class_name,
            class,
            &mut problems,
        );
    }
    for (index, rule) in network.egress.iter().enumerate() {
        peer_outside_class(
            &format!("spec.network.egress[{index}].to"),
            &Peer::from(&rule.to),
            namespace,
            class_name,
            class,
            &mut problems,
        );
    }
    problems
}

/// Whether a class lets a workflow of `namespace` declare this source.
pub(super) fn ingress_allowed(peer: &IngressPeer, namespace: &NamespaceFacts, class: &AIWorkflowClass) -> bool {
    allowed(&Peer::from(peer), namespace, class)
}

/// Whether a class lets a workflow of `namespace` declare this destination.
pub(super) fn egress_allowed(peer: &EgressPeer, namespace: &NamespaceFacts, class: &AIWorkflowClass) -> bool {
    allowed(&Peer::from(peer), namespace, class)
}

fn allowed(peer: &Peer<'_>, namespace: &NamespaceFacts, class: &AIWorkflowClass) -> bool {
    let mut problems = Vec::new();
    peer_outside_class("", peer, namespace, "", class, &mut problems);
    problems.is_empty()
}

fn peer_outside_class(
    path: &str,
    peer: &Peer<'_>,
    namespace: &NamespaceFacts,
    class_name: &str,
    class: &AIWorkflowClass,
    problems: &mut Vec<Problem>,
) {
    let network = class.spec.network.clone().unwrap_or_default();
    let elsewhere = [
        ("pods", peer.pods.and_then(|pods| pods.namespace.as_deref())),
        (
            "workflow",
            peer.workflow.and_then(|workflow| workflow.namespace.as_deref()),
        ),
    ];
    for (field, other) in elsewhere {
        if let Some(other) =
            other.filter(|other| *other != namespace.name && !network.namespaces.iter().any(|ns| ns == other))
        {
            let message = format!("is a namespace that AIWorkflowClass {class_name} does not open");
            let fix =
                format!("ask the platform team to add it to spec.network.namespaces of AIWorkflowClass {class_name}");
            problems.push(Problem::new(
                format!("{path}.{field}.namespace"),
                Some(other),
                message,
                fix,
            ));
        }
    }
    for (index, text) in peer.cidrs.unwrap_or_default().iter().enumerate() {
        if cidr::parse(text).is_ok_and(|net| !cidr::covered(&net, &network.cidrs)) {
            let message = format!("lies in no range that AIWorkflowClass {class_name} opens");
            let fix = format!("ask the platform team to add it to spec.network.cidrs of AIWorkflowClass {class_name}");
            problems.push(Problem::new(format!("{path}.cidrs[{index}]"), Some(text), message, fix));
        }
    }
}

/// All problems in one message, as many as fit.
fn summary(problems: &[Problem]) -> String {
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
