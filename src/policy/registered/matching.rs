//! Which requests a RegoPolicy is asked about, as the API server would tell for a ValidatingAdmissionPolicy.
//!
//! Must never: take a selector that cannot be read for one that selects nothing. The registration is the union of these matches, and
//! may ask about more than any of them; what is not matched here is not judged.

use serde_json::Value;

use crate::api::{LabelSelector, MatchConstraints, MatchOperation, MatchRule, MatchScope, RegoPolicySpec, Templates};
use crate::plan::{selector_problems, selects};
use crate::review::{Operation, Review};

/// Kinds whose pod templates are judged as pods, by group.
pub(super) const WORKLOADS: [(&str, &[&str]); 3] = [
    ("", &["podtemplates", "replicationcontrollers"]),
    ("apps", &["daemonsets", "deployments", "replicasets", "statefulsets"]),
    ("batch", &["cronjobs", "jobs"]),
];

/// How a request is matched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Matched {
    /// As it is.
    Itself,
    /// As the pod that would come of its template.
    Template,
}

/// Whether one of `rules` matches a request as it is, and nothing excludes it. Selectors are apart.
pub(super) fn matches_itself<'a>(
    constraints: &MatchConstraints,
    mut rules: impl Iterator<Item = &'a MatchRule>,
    review: &Review,
) -> bool {
    let resource = (
        review.resource.group.as_str(),
        review.resource.version.as_str(),
        review.resource.resource.as_str(),
    );
    let original = requested(review).unwrap_or(resource);
    let excluded = |rule: &MatchRule| names(rule, review, resource) || names(rule, review, original);
    rules.any(|rule| names(rule, review, resource)) && !constraints.exclude_resource_rules.iter().any(excluded)
}

/// Whether the pod that would come of a request's template is matched.
pub(super) fn matches_template(spec: &RegoPolicySpec, review: &Review) -> bool {
    let (group, resource) = (review.resource.group.as_str(), review.resource.resource.as_str());
    let makes_pods = WORKLOADS
        .iter()
        .any(|(of, resources)| *of == group && resources.contains(&resource));
    let is_written = matches!(review.operation, Operation::Create | Operation::Update) && review.subresource.is_empty();
    let is_pods = |rule: &MatchRule| expands(rule);
    makes_pods
        && is_written
        && spec.templates == Templates::Expand
        && spec.match_constraints.resource_rules.iter().any(is_pods)
        && !spec.match_constraints.exclude_resource_rules.iter().any(is_pods)
}

/// Whether a rule is about the creation of pods that have no name yet.
pub(super) fn expands(rule: &MatchRule) -> bool {
    let has = |list: &[String], one: &str| list.iter().any(|entry| entry == "*" || entry == one);
    has(&rule.api_groups, "")
        && has(&rule.api_versions, "v1")
        && rule
            .resources
            .iter()
            .any(|resource| matches!(resource.as_str(), "pods" | "pods/*" | "*" | "*/*"))
        && does(rule, Operation::Create)
        && rule.scope != MatchScope::Cluster
        && rule.resource_names.is_empty()
}

/// Whether the object selector selects the object, as it is or as it was.
pub(super) fn object_selected(selector: Option<&LabelSelector>, review: &Review) -> bool {
    let Some(selector) = selector else { return true };
    let objects = [review.object(), review.old_object()];
    objects.into_iter().flatten().any(|object| {
        let metadata = object.get("metadata").filter(|metadata| metadata.is_object());
        metadata.is_some_and(|metadata| selected(selector, metadata.get("labels")))
    })
}

/// Whether the labels of a pod that would be made are selected.
pub(super) fn template_selected(selector: Option<&LabelSelector>, labels: Option<&Value>) -> bool {
    selector.is_none_or(|selector| selected(selector, labels))
}

/// Whether the namespace selector selects a request by the labels of its namespace; `None` for what lies in none.
pub(super) fn namespace_selected(selector: Option<&LabelSelector>, labels: Option<Option<&Value>>) -> bool {
    match (selector, labels) {
        (None, _) | (_, None) => true,
        (Some(selector), Some(labels)) => selected(selector, labels),
    }
}

/// A selector that is empty or cannot be read selects everything: whoever wrote it meant to narrow a policy, and would not know that it is off.
fn selected(selector: &LabelSelector, labels: Option<&Value>) -> bool {
    let is_empty = selector.match_labels.is_empty() && selector.match_expressions.is_empty();
    is_empty || !selector_problems("", selector).is_empty() || selects(selector, labels)
}

fn names(rule: &MatchRule, review: &Review, (group, version, resource): (&str, &str, &str)) -> bool {
    let has = |list: &[String], one: &str| list.iter().any(|entry| entry == "*" || entry == one);
    let is_resource = |entry: &String| {
        let (wanted, sub) = entry.split_once('/').unwrap_or((entry, ""));
        (wanted == "*" || wanted == resource) && (sub == "*" || sub == review.subresource)
    };
    // The API server fills in the namespace of a request about a Namespace itself, which lies in none.
    let is_namespace = group.is_empty() && resource == "namespaces";
    let in_namespace = review.namespace.is_some() && !is_namespace;
    let in_scope = match rule.scope {
        MatchScope::All => true,
        MatchScope::Cluster => !in_namespace,
        MatchScope::Namespaced => in_namespace,
    };
    let is_named = rule.resource_names.is_empty() || rule.resource_names.iter().any(|name| name == review.name());
    has(&rule.api_groups, group)
        && has(&rule.api_versions, version)
        && rule.resources.iter().any(is_resource)
        && does(rule, review.operation)
        && in_scope
        && is_named
}

fn does(rule: &MatchRule, operation: Operation) -> bool {
    let word = match operation {
        Operation::Connect => MatchOperation::Connect,
        Operation::Create => MatchOperation::Create,
        Operation::Delete => MatchOperation::Delete,
        Operation::Update => MatchOperation::Update,
    };
    rule.operations.contains(&MatchOperation::All) || rule.operations.contains(&word)
}

/// Group, version and resource as the caller asked for them, before a conversion.
fn requested(review: &Review) -> Option<(&str, &str, &str)> {
    let resource = review.request.get("requestResource")?;
    let text = |field: &str| resource.get(field).and_then(Value::as_str);
    Some((text("group").unwrap_or_default(), text("version")?, text("resource")?))
}
