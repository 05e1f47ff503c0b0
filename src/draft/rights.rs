//! What the accounts may do today, as far as it may be declared.
//!
//! Must never: declare a right that no binding gives, or leave one out without a word.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Notes, Section, Seen, enumerated, group::Group, list, text, texts};
use crate::{
    api::{CrossNamespace, Permissions, PolicyRule},
    plan::{self, Profile},
};

/// Most rules of one Role.
const MAX_RULES: usize = 32;
/// Most other namespaces, and most rules in one of them.
const MAX_ACROSS: usize = 16;
/// Most groups, resources and verbs of one rule.
const MAX_ITEMS: usize = 16;
/// Most names of one rule.
const MAX_NAMES: usize = 32;

/// What is not declared: of which role, and why; with what it is about.
type LeftOut = BTreeMap<(String, String), BTreeSet<String>>;

/// A binding that gives something to one of the accounts.
struct Given<'a> {
    role: &'a Value,
    /// The role and its binding, for people.
    source: String,
}

pub(super) fn permissions(
    group: &Group<'_>,
    seen: &Seen,
    engine: Option<&Profile>,
    notes: &mut Notes,
) -> Option<Permissions> {
    let mut left_out = LeftOut::new();
    let mut by_namespace: BTreeMap<String, Vec<PolicyRule>> = BTreeMap::new();
    let own = &seen.namespace;
    let (mut everywhere, mut replaced) = (BTreeSet::new(), BTreeSet::new());
    let bindings = seen.role_bindings.iter().chain(&seen.cluster_role_bindings);
    for binding in bindings.filter(|binding| !Group::is_ringfences(binding)) {
        let Some(given) = given(binding, group, seen, notes) else {
            continue;
        };
        replaced.insert(given.source.clone());
        let namespace = match text(binding, "/metadata/namespace") {
            "" => {
                everywhere.insert(given.source.clone());
                own
            }
            namespace => namespace,
        };
        let rules = by_namespace.entry(namespace.to_owned()).or_default();
        for rule in list(given.role, "/rules") {
            for rule in declarable(rule, namespace != own, &given.source, &mut left_out) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    if !everywhere.is_empty() {
        notes.say(
            Section::Permissions,
            format!(
                "Held in the whole cluster today by {}: declared for this namespace alone.",
                enumerated(everywhere.iter().map(String::as_str))
            ),
        );
    }
    if !replaced.is_empty() {
        let replaced = enumerated(replaced.iter().map(String::as_str));
        let note = format!("It holds {replaced} today: delete the bindings once this stands, or it keeps all of that.");
        notes.say(Section::Permissions, note);
    }
    for ((source, why), what) in left_out {
        let what = enumerated(what.iter().map(String::as_str));
        notes.say(
            Section::Permissions,
            format!("Not declared of {source}: {what}: {why}."),
        );
    }
    let mut rules = by_namespace.remove(own).unwrap_or_default();
    if let Some(engine) = engine {
        rules.retain(|rule| !plan::is_covered(rule, &engine.worker));
    }
    rules.sort_by_cached_key(key);
    cut(&mut rules, MAX_RULES, "this namespace", notes);
    let mut across = Vec::new();
    for (namespace, mut rules) in by_namespace.into_iter().filter(|(_, rules)| !rules.is_empty()) {
        if across.len() >= MAX_ACROSS {
            notes.say(
                Section::Permissions,
                format!("Not declared, for {MAX_ACROSS} other namespaces are the most: those in {namespace}."),
            );
            continue;
        }
        notes.say(
            Section::Permissions,
            format!("What it may do in {namespace} needs an AIWorkflowGrant of that namespace's team."),
        );
        rules.sort_by_cached_key(key);
        cut(&mut rules, MAX_ACROSS, &format!("namespace {namespace}"), notes);
        across.push(CrossNamespace { namespace, rules });
    }
    let permissions = Permissions {
        rules,
        cross_namespace: across,
    };
    (permissions != Permissions::default()).then_some(permissions)
}

fn key(rule: &PolicyRule) -> [Vec<String>; 4] {
    let PolicyRule {
        api_groups,
        resources,
        resource_names,
        verbs,
    } = rule.clone();
    [api_groups, resources, resource_names, verbs]
}

fn cut(rules: &mut Vec<PolicyRule>, most: usize, place: &str, notes: &mut Notes) {
    if rules.len() > most {
        notes.say(
            Section::Permissions,
            format!(
                "Not declared, for {most} is the most: {} more rules in {place}. Put rules together.",
                rules.len() - most
            ),
        );
        rules.truncate(most);
    }
}

/// A Role, or without a namespace a ClusterRole.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RoleName {
    /// Namespace of a Role.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// The roles that some account of the namespace is bound to.
pub fn roles_of(seen: &Seen) -> BTreeSet<RoleName> {
    let bindings = seen.role_bindings.iter().chain(&seen.cluster_role_bindings);
    bindings
        .filter(|binding| !Group::is_ringfences(binding) && accounts_of(binding, &seen.namespace).next().is_some())
        .map(|binding| RoleName {
            namespace: (text(binding, "/roleRef/kind") == "Role")
                .then(|| text(binding, "/metadata/namespace").to_owned()),
            name: text(binding, "/roleRef/name").to_owned(),
        })
        .collect()
}

/// Accounts of a namespace that are subjects of a binding, by either of their two names.
fn accounts_of<'a>(binding: &'a Value, own: &'a str) -> impl Iterator<Item = &'a str> {
    let place = text(binding, "/metadata/namespace");
    list(binding, "/subjects").filter_map(move |subject| {
        let name = text(subject, "/name");
        match text(subject, "/kind") {
            "ServiceAccount" => {
                let namespace = match text(subject, "/namespace") {
                    "" => place,
                    namespace => namespace,
                };
                (namespace == own).then_some(name)
            }
            "User" => name
                .strip_prefix("system:serviceaccount:")?
                .strip_prefix(own)?
                .strip_prefix(':'),
            _ => None,
        }
    })
}

/// The role that a binding gives to one of the accounts.
fn given<'a>(binding: &Value, group: &Group<'_>, seen: &'a Seen, notes: &mut Notes) -> Option<Given<'a>> {
    let own = &seen.namespace;
    let place = text(binding, "/metadata/namespace");
    let is_cluster_wide = place.is_empty();
    let kind = if is_cluster_wide {
        "ClusterRoleBinding"
    } else {
        "RoleBinding"
    };
    let mut shown = format!("{kind} {}", text(binding, "/metadata/name"));
    if !is_cluster_wide && place != own {
        shown.push_str(&format!(" of namespace {place}"));
    }
    let all_of_us = format!("system:serviceaccounts:{own}");
    let is_all_of_us = |subject: &Value| text(subject, "/kind") == "Group" && text(subject, "/name") == all_of_us;
    if list(binding, "/subjects").any(is_all_of_us) {
        notes.say(
            Section::Permissions,
            format!("Not declared: what every account of this namespace holds by {shown}. An account of a workflow holds it too."),
        );
    }
    if !accounts_of(binding, own).any(|name| group.account.today.contains_key(name)) {
        return None;
    }
    let (role_kind, name) = (text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"));
    let wanted = if role_kind == "Role" { place } else { "" };
    let role = seen.roles.iter().find(|role| {
        text(role, "/kind") == role_kind
            && text(role, "/metadata/name") == name
            && text(role, "/metadata/namespace") == wanted
    });
    let source = format!("{role_kind} {name} ({shown})");
    if role.is_none() {
        notes.say(Section::Permissions, format!("Not declared: {source} was not seen."));
    }
    Some(Given { role: role?, source })
}

/// A rule in parts that may be declared.
fn declarable(rule: &Value, is_across: bool, source: &str, left_out: &mut LeftOut) -> Vec<PolicyRule> {
    let mut leave = |what: &str, why: &str| {
        let entry = left_out.entry((source.to_owned(), why.to_owned())).or_default();
        entry.insert(what.to_owned());
    };
    for url in texts(rule, "/nonResourceURLs") {
        leave(url, "a workflow holds rights on objects alone");
    }
    let all = |pointer: &str| texts(rule, pointer).map(str::to_owned).collect::<BTreeSet<String>>();
    let names: BTreeSet<_> = all("/resourceNames")
        .into_iter()
        .filter(|name| !name.is_empty())
        .collect();
    let harmless = PolicyRule {
        api_groups: vec![String::new()],
        resources: vec!["configmaps".to_owned()],
        resource_names: names.iter().take(1).cloned().collect(),
        verbs: vec!["get".to_owned()],
    };
    // Each word alone beside harmless ones, so that what is wrong with one does not take the others along.
    let mut kept = |pointer: &str, with: &dyn Fn(String) -> PolicyRule| -> Vec<String> {
        let fits = |word: &String| match plan::rule_problems(&with(word.clone()), is_across).first() {
            Some(problem) => {
                match pointer.strip_prefix('/').filter(|_| word.contains('*')) {
                    Some(field) => leave(&format!("{field} {word}"), &problem.message),
                    None => leave(word, &problem.message),
                }
                false
            }
            None => true,
        };
        all(pointer).into_iter().filter(fits).collect()
    };
    let groups = kept("/apiGroups", &|word| PolicyRule {
        api_groups: vec![word],
        ..harmless.clone()
    });
    let resources = kept("/resources", &|word| PolicyRule {
        resources: vec![word],
        ..harmless.clone()
    });
    let verbs = kept("/verbs", &|word| PolicyRule {
        verbs: vec![word],
        ..harmless.clone()
    });
    let names: Vec<String> = names.into_iter().collect();
    let mut found = Vec::new();
    // Empty never means all: a rule without one of the three gives nothing, and neither does this.
    for groups in groups.chunks(MAX_ITEMS) {
        for resources in resources.chunks(MAX_ITEMS) {
            for names in chunks(&names) {
                let mut rule = PolicyRule {
                    api_groups: groups.to_vec(),
                    resources: resources.to_vec(),
                    resource_names: names.to_vec(),
                    verbs: verbs.clone(),
                };
                if is_across {
                    let whole = rule.clone();
                    rule.verbs.retain(|verb| {
                        let verbs = vec![verb.clone()];
                        let problems = plan::rule_problems(&PolicyRule { verbs, ..whole.clone() }, true);
                        problems.iter().for_each(|problem| leave(verb, &problem.message));
                        problems.is_empty()
                    });
                }
                if !rule.verbs.is_empty() {
                    found.push(rule);
                }
            }
        }
    }
    found
}

/// Parts of a list of names; no names are one part, which means every name.
fn chunks(names: &[String]) -> Vec<&[String]> {
    if names.is_empty() {
        vec![names]
    } else {
        names.chunks(MAX_NAMES).collect()
    }
}
