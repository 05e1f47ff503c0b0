//! Promise 3, rights: an account of a fenced namespace holds what its AIWorkflow declares, whoever would bind more to it, and wherever.
//!
//! Every account there, also one that no workflow has yet: rights go by its name, and a workflow may be given that name tomorrow. So does a
//! group that holds every account of the cluster (`system:serviceaccounts`, `system:authenticated`), and whoever shows no credential
//! (`system:unauthenticated`, `system:anonymous`), which any pod can be, where what they are given is in the fenced namespace itself. Elsewhere, and in the whole cluster, the scan tells of it: refusing it would let one fenced namespace decide
//! about all others. Must never: judge subjects that were there before, or take a
//! namespace for unfenced because it was not asked about.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::object::{shown, violation};
use crate::api::{ANYBODY, GROUPS_OF_ALL_ACCOUNTS, Mode, is_anybody, is_dns_label};
use crate::plan::{NamespaceFacts, text_at};
use crate::review::{Operation, Review, Violation};

const RULE: &str = "extra-binding";

const DECLARE: &str = "declare the rights in spec.permissions of the AIWorkflow, and take the subject out of this binding; an account \
                       that is no workflow's belongs into a namespace that is not fenced";

/// Most namespaces that are asked for, for one binding: a request each, which whoever may write bindings anywhere has us make.
const MAX_NAMESPACES: usize = 64;
/// Most refusals that one judgement lists: a person takes these out first.
const MAX_VIOLATIONS: usize = 32;

/// Somebody whom a RoleBinding or ClusterRoleBinding names.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Named<'a> {
    namespace: &'a str,
    whom: Whom<'a>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Whom<'a> {
    Account(&'a str),
    /// Every account of the namespace.
    Namespace,
    /// Every account of the cluster, by that group, in a RoleBinding of the namespace.
    Cluster(&'a str),
    /// Whoever shows no credential, by that name, in a RoleBinding of the namespace.
    Anybody(&'a str),
}

/// A write of a RoleBinding or ClusterRoleBinding, with the accounts that it names and did not name before.
#[derive(Clone, Debug)]
pub struct Binding<'a> {
    object: &'a Value,
    named: BTreeMap<Named<'a>, usize>,
}

impl<'a> Binding<'a> {
    /// Reads a write of a binding. `Ok(None)` where it names no account that it did not name before; `Err` where a review lacks what
    /// every review of its operation has.
    pub fn of(review: &'a Review) -> Result<Option<Self>, &'static str> {
        let is_binding = review.kind.group == "rbac.authorization.k8s.io"
            && matches!(review.kind.kind.as_str(), "RoleBinding" | "ClusterRoleBinding");
        if !is_binding {
            return Err("this Ringfence knows no bindings of that kind: its registrations are of another version");
        }
        if matches!(review.operation, Operation::Connect | Operation::Delete) {
            return Ok(None);
        }
        let old = review.before()?;
        let object = review.object().ok_or("the review holds no object")?;
        let own = review.namespace.as_deref().unwrap_or_default();
        let before: BTreeSet<_> = old
            .into_iter()
            .flat_map(|old| named(old, own))
            .map(|(_, who)| who)
            .collect();
        let mut found = BTreeMap::new();
        for (index, who) in named(object, own) {
            if !before.contains(&who) {
                found.entry(who).or_insert(index);
            }
        }
        Ok((!found.is_empty()).then_some(Self { object, named: found }))
    }

    /// The namespaces that must be asked for. `Err` where they are more than can be.
    pub fn namespaces(&self) -> Result<BTreeSet<String>, Box<Violation>> {
        let found: BTreeSet<_> = self.named.keys().map(|who| who.namespace.to_owned()).collect();
        if found.len() <= MAX_NAMESPACES {
            return Ok(found);
        }
        let message = format!(
            "names accounts of {} namespaces at once, and {MAX_NAMESPACES} are the most that can be looked at",
            found.len()
        );
        let fix = "split it into several bindings, or add the subjects step by step";
        Err(Box::new(violation(RULE, "subjects", None, message, fix)))
    }

    /// What is refused about a namespace that is there, in the modes that it has.
    pub fn check(&self, namespace: &NamespaceFacts) -> Vec<Violation> {
        let text = |pointer: &str| self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let role = format!("{} {}", shown(text("/roleRef/kind")), shown(text("/roleRef/name")));
        let of_it = self.named.iter().filter(|(who, _)| who.namespace == namespace.name);
        let refused = of_it.take(MAX_VIOLATIONS).map(|(who, index)| {
            let name = &namespace.name;
            let whom = match who.whom {
                Whom::Account(account) => format!("service account {} of namespace {name}", shown(account)),
                Whom::Namespace => format!("every service account of namespace {name}"),
                Whom::Cluster(group) => {
                    format!("group {group}, which holds every service account, those of namespace {name} included")
                }
                Whom::Anybody(who) => {
                    format!("{who}, which is {ANYBODY}, those of namespace {name} included")
                }
            };
            let message = format!(
                "gives {role} to {whom}, which is fenced: an account there holds what its AIWorkflow declares, and nothing else"
            );
            let fix = match who.whom {
                Whom::Cluster(_) | Whom::Anybody(_) => "bind people, their groups, or accounts of namespaces that are not fenced by name instead",
                Whom::Account(_) | Whom::Namespace => DECLARE,
            };
            let value = self.object.pointer(&format!("/subjects/{index}/name")).and_then(Value::as_str);
            violation(RULE, format!("subjects[{index}]"), value, message, fix)
        });
        refused.collect()
    }

    /// The modes in which a namespace refuses or warns. Where it only audits, nothing is fenced yet.
    pub fn modes(namespace: &NamespaceFacts) -> Vec<Mode> {
        let modes = namespace.modes().into_iter().map(|(mode, _)| mode);
        modes.filter(|mode| *mode != Mode::Audit).collect()
    }
}

/// The accounts that a binding, as it stands, names itself, each by its namespace and name. Not by a group: that is of all accounts there.
pub fn accounts_named(binding: &Value) -> impl Iterator<Item = (&str, &str)> {
    let own = text_at(binding, "/metadata/namespace");
    named(binding, own).filter_map(|(_, who)| match who.whom {
        Whom::Account(account) => Some((who.namespace, account)),
        Whom::Namespace | Whom::Cluster(_) | Whom::Anybody(_) => None,
    })
}

/// The accounts that a binding names, each with its place among the subjects. Text that no namespace can be called names none.
fn named<'a>(binding: &'a Value, own: &'a str) -> impl Iterator<Item = (usize, Named<'a>)> {
    let subjects = binding.get("subjects").and_then(Value::as_array);
    let named = subjects.into_iter().flatten().enumerate();
    let named = named.filter_map(move |(index, subject)| Some((index, of_subject(subject, own)?)));
    named.filter(|(_, who)| is_dns_label(who.namespace))
}

fn of_subject<'a>(subject: &'a Value, own: &'a str) -> Option<Named<'a>> {
    let text = |key: &str| subject.get(key).and_then(Value::as_str).unwrap_or_default();
    if is_anybody(subject) {
        let whom = Whom::Anybody(text("name"));
        return Some(Named { namespace: own, whom });
    }
    let (namespace, whom) = match text("kind") {
        "ServiceAccount" => match text("namespace") {
            "" => (own, Whom::Account(text("name"))),
            namespace => (namespace, Whom::Account(text("name"))),
        },
        "User" => {
            let (namespace, account) = text("name").strip_prefix("system:serviceaccount:")?.split_once(':')?;
            (namespace, Whom::Account(account))
        }
        "Group" if GROUPS_OF_ALL_ACCOUNTS.contains(&text("name")) => (own, Whom::Cluster(text("name"))),
        "Group" => (text("name").strip_prefix("system:serviceaccounts:")?, Whom::Namespace),
        _ => return None,
    };
    Some(Named { namespace, whom })
}

#[cfg(test)]
mod tests;
