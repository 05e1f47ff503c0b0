//! RBAC rules: what no workflow may ever hold, and what its class lets it declare.

use std::collections::BTreeSet;

use super::{Problem, outside};
use crate::api::{AIWorkflowClass, PolicyRule};

/// The verbs of RBAC that act on objects. Everything else (`*`, `impersonate`, `escalate`, `bind`, `approve`, `sign`, verbs
/// that are newer than this list) moves a fence rather than an object.
const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// Verbs that `resourceNames` cannot narrow: RBAC sees no name in such a request.
const NAMELESS_VERBS: [&str; 4] = ["create", "deletecollection", "list", "watch"];

/// API groups whose objects decide about rights or about admission.
const FORBIDDEN_GROUPS: [&str; 6] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "certificates.k8s.io",
    "rbac.authorization.k8s.io",
    "ringfence.dev",
];

/// Resources, with all their subresources, that are somebody's identity, the network's fence or the cluster's floor.
const FORBIDDEN_RESOURCES: [&str; 13] = [
    "bindings",
    "endpoints",
    "endpointslices",
    "groups",
    "namespaces",
    "networkpolicies",
    "nodes",
    "persistentvolumes",
    "secrets",
    "serviceaccounts",
    "uids",
    "userextras",
    "users",
];

/// Status that others act on: from the addresses of a pod or a Service follows whose traffic a NetworkPolicy lets through.
const FORBIDDEN_TO_WRITE: [&str; 2] = ["pods/status", "services/status"];

/// Subresources that reach into a running pod, or past its review.
const FORBIDDEN_SUBRESOURCES: [&str; 8] = [
    "pods/attach",
    "pods/binding",
    "pods/ephemeralcontainers",
    "pods/exec",
    "pods/portforward",
    "pods/proxy",
    "pods/resize",
    "services/proxy",
];

/// What is wrong with a rule whatever the class says.
pub(super) fn invalid(path: &str, rule: &PolicyRule, problems: &mut Vec<Problem>) {
    let mut refuse = |field: &str, value: &str, message: &str, fix: &str| {
        problems.push(Problem::new(format!("{path}.{field}"), Some(value), message, fix));
    };
    for (field, list) in [
        ("apiGroups", &rule.api_groups),
        ("resources", &rule.resources),
        ("verbs", &rule.verbs),
    ] {
        if list.is_empty() {
            refuse(
                field,
                "[]",
                "is empty, and empty never means all",
                "name what the workflow needs",
            );
        }
    }
    for group in &rule.api_groups {
        if group.contains('*') {
            refuse(
                "apiGroups",
                group,
                "is a wildcard",
                "name the API groups one by one; the core group is \"\"",
            );
        } else if FORBIDDEN_GROUPS.contains(&group.to_ascii_lowercase().as_str()) {
            refuse(
                "apiGroups",
                group,
                "is an API group that no workflow may touch",
                "leave it out",
            );
        }
    }
    for resource in &rule.resources {
        let lower = resource.to_ascii_lowercase();
        let base = lower.split('/').next().unwrap_or_default();
        if resource.contains('*') {
            refuse("resources", resource, "is a wildcard", "name the resources one by one");
        } else if FORBIDDEN_RESOURCES.contains(&base)
            || FORBIDDEN_SUBRESOURCES.contains(&lower.as_str())
            || lower.ends_with("/scale")
        {
            refuse(
                "resources",
                resource,
                "is a resource that no workflow may touch",
                "leave it out; a Secret is mounted, not read",
            );
        }
    }
    let writes = rule.verbs.iter().any(|verb| !READ_VERBS.contains(&verb.as_str()));
    let is_status = |resource: &&String| FORBIDDEN_TO_WRITE.contains(&resource.to_ascii_lowercase().as_str());
    if let Some(resource) = rule.resources.iter().find(is_status).filter(|_| writes) {
        refuse(
            "resources",
            resource,
            "is a status that no workflow may write",
            "read it, or leave it out: the cluster's own controllers write it",
        );
    }
    for verb in &rule.verbs {
        if !VERBS.contains(&verb.as_str()) {
            refuse(
                "verbs",
                verb,
                "is not a verb that a workflow may hold",
                "use get, list, watch, create, update, patch, delete or deletecollection",
            );
        } else if !rule.resource_names.is_empty() && NAMELESS_VERBS.contains(&verb.as_str()) {
            refuse(
                "verbs",
                verb,
                "cannot be narrowed by resourceNames",
                "write it as a rule of its own, without resourceNames",
            );
        }
    }
    if rule.resource_names.iter().any(|name| name.is_empty() || name == "*") {
        refuse(
            "resourceNames",
            "*",
            "names nothing: RBAC has no wildcard here",
            "name the objects, or leave resourceNames out",
        );
    }
}

/// What is wrong with a rule whatever the class says, at home or in another namespace.
pub fn rule_problems(rule: &PolicyRule, is_across: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    invalid("rule", rule, &mut problems);
    if is_across {
        invalid_across("rule", rule, &mut problems);
    }
    problems
}

/// Whether every right of a rule is one of `allowed`.
pub fn is_covered(rule: &PolicyRule, allowed: &[PolicyRule]) -> bool {
    first_uncovered(rule, allowed).is_none()
}

/// Verbs that change nothing.
const READ_VERBS: [&str; 3] = ["get", "list", "watch"];

/// API groups whose objects become pods: a right to write one of these in another namespace is a pod outside every fence.
/// Operators beyond this list are held by the class, which opens nothing across namespaces but reading.
const POD_MAKING_GROUPS: [&str; 14] = [
    "apps",
    "argoproj.io",
    "batch",
    "batch.volcano.sh",
    "jobset.x-k8s.io",
    "keda.sh",
    "knative.dev",
    "kubeflow.org",
    "leaderworkerset.x-k8s.io",
    "ray.io",
    "serving.knative.dev",
    "sparkoperator.k8s.io",
    "tekton.dev",
    "workload.codeflare.dev",
];
const POD_MAKING_RESOURCES: [&str; 3] = ["pods", "podtemplates", "replicationcontrollers"];

/// What is wrong with a rule in another namespace, beyond what is wrong with it anywhere.
pub(super) fn invalid_across(path: &str, rule: &PolicyRule, problems: &mut Vec<Problem>) {
    let group = rule
        .api_groups
        .iter()
        .find(|group| POD_MAKING_GROUPS.contains(&group.to_ascii_lowercase().as_str()));
    let resource = rule
        .resources
        .iter()
        .find(|resource| POD_MAKING_RESOURCES.contains(&resource.to_ascii_lowercase().as_str()));
    let verb = rule.verbs.iter().find(|verb| !READ_VERBS.contains(&verb.as_str()));
    if let (Some(what), Some(verb)) = (group.or(resource), verb) {
        let fix = "read it there if you must; run pods as a workflow of that namespace";
        problems.push(Problem::new(
            format!("{path}.verbs"),
            Some(verb),
            format!("on {what} would make pods in another namespace"),
            fix,
        ));
    }
}

/// Whether nothing is wrong with a rule by itself, at home or in another namespace.
pub(super) fn is_valid(rule: &PolicyRule, is_across: bool) -> bool {
    rule_problems(rule, is_across).is_empty()
}

/// What a class lets a workflow declare at home. A rule of a class that is invalid allows nothing; its status names it.
pub(super) fn at_home(class: &AIWorkflowClass) -> Vec<PolicyRule> {
    let rules = class.spec.permissions.iter().filter(|rule| is_valid(rule, false));
    rules.cloned().collect()
}

/// What a class lets a workflow declare across namespaces: reading what it may read at home, and what the class names. As at home,
/// an invalid rule allows nothing.
pub(super) fn across(class: &AIWorkflowClass) -> Vec<PolicyRule> {
    let read = at_home(class).into_iter().map(|rule| PolicyRule {
        verbs: rule
            .verbs
            .iter()
            .filter(|verb| READ_VERBS.contains(&verb.as_str()))
            .cloned()
            .collect(),
        ..rule
    });
    let named = class.spec.cross_namespace_permissions.iter();
    read.filter(|rule| !rule.verbs.is_empty())
        .chain(named.filter(|rule| is_valid(rule, true)).cloned())
        .collect()
}

/// A rule as people write it: `configmaps, jobs.batch named nightly: get, list`.
pub(super) fn compact(rule: &PolicyRule) -> String {
    let mut what = Vec::new();
    for group in &rule.api_groups {
        what.extend(rule.resources.iter().map(|resource| match group.as_str() {
            "" => resource.clone(),
            group => format!("{resource}.{group}"),
        }));
    }
    let names = match rule.resource_names.as_slice() {
        [] => String::new(),
        names => format!(" named {}", names.join(", ")),
    };
    format!("{}{names}: {}", what.join(", "), rule.verbs.join(", "))
}

/// What a class allows, for a message.
pub(super) fn shown(rules: &[PolicyRule]) -> String {
    outside::shown_of(rules, |rule| format!("[{}]", compact(rule)))
}

/// The first right of a rule that no rule of the class covers, see [`Covering`].
pub(super) fn first_uncovered(rule: &PolicyRule, class: &[PolicyRule]) -> Option<String> {
    Covering::of(class).first_uncovered(rule)
}

/// Rules of a class, to look things up in: once for all that is asked of them, because both sides can be long.
pub(super) struct Covering<'a>(Vec<Allowed<'a>>);

impl<'a> Covering<'a> {
    pub(super) fn of(class: &'a [PolicyRule]) -> Self {
        Self(class.iter().map(Allowed::of).collect())
    }

    /// The first right of a rule that none of these covers, spelled out; `None` when they cover all of it. Lists can name the same thing
    /// many times: what a rule of the class says of each thing is found out once.
    pub(super) fn first_uncovered(&self, rule: &PolicyRule) -> Option<String> {
        first_of(rule, &self.0)
    }

    /// Whether these cover all of a rule.
    pub(super) fn covers(&self, rule: &PolicyRule) -> bool {
        self.first_uncovered(rule).is_none()
    }
}

fn first_of(rule: &PolicyRule, allowed: &[Allowed<'_>]) -> Option<String> {
    let [groups, resources, verbs, names] = [
        distinct(&rule.api_groups),
        distinct(&rule.resources),
        distinct(&rule.verbs),
        distinct(&rule.resource_names),
    ];
    for group in &groups {
        let of_group: Vec<_> = allowed
            .iter()
            .filter(|allowed| allowed.groups.contains(group))
            .collect();
        for resource in &resources {
            let of_resource: Vec<_> = of_group
                .iter()
                .filter(|allowed| allowed.resources.contains(resource))
                .collect();
            for verb in &verbs {
                let of_verb = || of_resource.iter().filter(|allowed| allowed.verbs.contains(verb));
                if of_verb().any(|allowed| allowed.names.is_empty()) {
                    continue;
                }
                let name = names
                    .iter()
                    .find(|name| !of_verb().any(|allowed| allowed.names.contains(*name)));
                if names.is_empty() || name.is_some() {
                    let group = if group.is_empty() { "core" } else { group };
                    let name = name.map(|name| format!(" named {name}")).unwrap_or_default();
                    return Some(format!("{verb} {resource} ({group}){name}"));
                }
            }
        }
    }
    None
}

/// A rule of a class, to look things up in. Without names it is about all.
struct Allowed<'a> {
    groups: BTreeSet<&'a str>,
    resources: BTreeSet<&'a str>,
    verbs: BTreeSet<&'a str>,
    names: BTreeSet<&'a str>,
}

impl<'a> Allowed<'a> {
    fn of(rule: &'a PolicyRule) -> Self {
        Self {
            groups: distinct(&rule.api_groups),
            resources: distinct(&rule.resources),
            verbs: distinct(&rule.verbs),
            names: distinct(&rule.resource_names),
        }
    }
}

fn distinct(list: &[String]) -> BTreeSet<&str> {
    list.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn rule(groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str]) -> PolicyRule {
        let strings = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        PolicyRule {
            api_groups: strings(groups),
            resources: strings(resources),
            resource_names: strings(names),
            verbs: strings(verbs),
        }
    }

    /// Billions of combinations of the same right, which would take hours one by one.
    #[test]
    fn lists_that_name_one_thing_many_times_are_looked_at_once() {
        let many = |name: &'static str| vec![name; 3000];
        let declared = rule(&many(""), &many("configmaps"), &many("a"), &many("get"));
        let class = vec![declared.clone(); 16];
        assert_eq!(first_uncovered(&declared, &class), None);
        let other = [rule(&[""], &["configmaps"], &["b"], &["get"])];
        assert_eq!(
            first_uncovered(&declared, &other).unwrap(),
            "get configmaps (core) named a"
        );
    }

    #[test]
    fn rules_of_a_class_cover_together() {
        let class = [
            rule(&[""], &["configmaps"], &["a"], &["get"]),
            rule(&[""], &["configmaps"], &["b"], &["get"]),
            rule(&[""], &["pods"], &[], &["get"]),
        ];
        assert_eq!(
            first_uncovered(&rule(&[""], &["configmaps"], &["a", "b"], &["get"]), &class),
            None
        );
        assert_eq!(first_uncovered(&rule(&[""], &["pods"], &["x"], &["get"]), &class), None);
        let unnamed = first_uncovered(&rule(&[""], &["configmaps"], &[], &["get"]), &class);
        assert_eq!(
            unnamed.unwrap(),
            "get configmaps (core)",
            "all of them are more than those that are named"
        );
    }

    #[rstest]
    #[case::wildcard_group(rule(&["*"], &["configmaps"], &[], &["get"]))]
    #[case::wildcard_resource(rule(&[""], &["*"], &[], &["get"]))]
    #[case::wildcard_subresource(rule(&[""], &["pods/*"], &[], &["get"]))]
    #[case::wildcard_verb(rule(&[""], &["configmaps"], &[], &["*"]))]
    #[case::any_scale(rule(&["apps"], &["deployments/scale"], &[], &["update"]))]
    #[case::secrets(rule(&[""], &["secrets"], &["a"], &["get"]))]
    #[case::secrets_in_capitals(rule(&[""], &["Secrets"], &["a"], &["get"]))]
    #[case::tokens(rule(&[""], &["serviceaccounts/token"], &[], &["create"]))]
    #[case::exec(rule(&[""], &["pods/exec"], &[], &["create"]))]
    #[case::pod_status(rule(&[""], &["pods/status"], &["a"], &["get", "patch"]))]
    #[case::service_status(rule(&[""], &["Services/Status"], &[], &["update"]))]
    #[case::service_proxy(rule(&[""], &["services/proxy"], &[], &["get"]))]
    #[case::node_proxy(rule(&[""], &["nodes/proxy"], &[], &["get"]))]
    #[case::rbac(rule(&["rbac.authorization.k8s.io"], &["roles"], &[], &["create"]))]
    #[case::own_group(rule(&["ringfence.dev"], &["aiworkflows"], &[], &["update"]))]
    #[case::impersonate(rule(&[""], &["configmaps"], &[], &["impersonate"]))]
    #[case::verb_of_tomorrow(rule(&[""], &["configmaps"], &[], &["impersonate-on:user-info"]))]
    #[case::names_with_list(rule(&[""], &["configmaps"], &["a"], &["list"]))]
    #[case::no_groups(rule(&[], &["configmaps"], &[], &["get"]))]
    #[case::no_resources(rule(&[""], &[], &[], &["get"]))]
    #[case::no_verbs(rule(&[""], &["configmaps"], &[], &[]))]
    #[case::empty_name(rule(&[""], &["configmaps"], &[""], &["get"]))]
    fn a_rule_above_every_ceiling_is_invalid(#[case] rule: PolicyRule) {
        let mut problems = Vec::new();
        invalid("spec.permissions.rules[0]", &rule, &mut problems);
        assert_eq!(problems.len(), 1, "{problems:?}");
    }

    #[test]
    fn an_ordinary_rule_is_valid() {
        let mut problems = Vec::new();
        invalid(
            "r",
            &rule(
                &["", "batch"],
                &["configmaps", "jobs", "pods/log"],
                &["a"],
                &["get", "patch"],
            ),
            &mut problems,
        );
        let status = rule(
            &[""],
            &["pods/status", "services/status"],
            &[],
            &["get", "list", "watch"],
        );
        invalid("r", &status, &mut problems);
        assert_eq!(problems, []);
    }

    #[rstest]
    #[case::covered(rule(&[""], &["configmaps"], &[], &["get"]), None)]
    #[case::narrower_by_name(rule(&[""], &["configmaps"], &["a"], &["get"]), None)]
    #[case::other_verb(rule(&[""], &["configmaps"], &[], &["get", "delete"]), Some("delete configmaps (core)"))]
    #[case::other_group(rule(&["apps"], &["configmaps"], &[], &["get"]), Some("get configmaps (apps)"))]
    #[case::named_in_class(rule(&["batch"], &["jobs"], &["nightly"], &["get"]), None)]
    #[case::other_name(rule(&["batch"], &["jobs"], &["hourly"], &["get"]), Some("get jobs (batch) named hourly"))]
    #[case::all_names(rule(&["batch"], &["jobs"], &[], &["get"]), Some("get jobs (batch)"))]
    fn a_class_covers_rule_by_rule(#[case] wanted: PolicyRule, #[case] expected: Option<&str>) {
        let class = [
            rule(&[""], &["configmaps"], &[], &["get", "list"]),
            rule(&["batch"], &["jobs"], &["nightly"], &["get"]),
        ];
        assert_eq!(first_uncovered(&wanted, &class).as_deref(), expected);
    }
}
