//! What a workflow that is not accepted keeps: an older value that became invalid, or a class that became narrower, takes away what it
//! is about and nothing else, because pods run behind the fence. What nobody reviewed gives nothing new.
//!
//! Must never: give a right or a path that the declaration alone, or its class alone, would not; nor one that did not stand before.

use std::collections::BTreeMap;

use ipnet::IpNet;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::given::{self, Record};
use super::object::{REVISION_ANNOTATION, comparable};
use super::rules::{self, Covering};
use super::{
    Child, Observed, cilium, cluster_policy, domains, engine, name_of, network, owned_name, owner_uid, resolved,
};
use crate::{
    api::{AIWorkflow, AIWorkflowClass, OWNER_UID_ANNOTATION, PolicyRule, is_dns_label, is_dns_subdomain},
    egress,
};

/// Where a NetworkPolicy says who may come in.
const INGRESS: &str = "/spec/ingress";

/// Whose word it is what policies open.
pub(super) struct Word {
    /// The class's: the rule that it puts into the allow policy, if it does.
    dns: Option<Value>,
    /// The declaration's: what it takes out of its ranges, by digest. Rules may name one range, each with as much taken out of it, and all of
    /// that stands for the range in each of them.
    except: BTreeMap<(bool, String), String>,
}

impl Word {
    pub(super) fn new(workflow: &AIWorkflow, dns: Option<Value>) -> Self {
        let except = network::declared_except(workflow).into_iter();
        Self {
            dns,
            except: except.map(|(range, out)| (range, given::digest(&json!(out)))).collect(),
        }
    }
}

/// Whether everything that is made for a workflow can bear the names that it declares. Where not, nothing is made at all.
pub(super) fn can_be_named(workflow: &AIWorkflow) -> bool {
    let (name, account) = (workflow.name_any(), workflow.service_account_name());
    let is_name = name.len() <= crate::api::MAX_WORKFLOW_NAME && is_dns_label(&name);
    is_name && account != "default" && is_dns_subdomain(account)
}

/// Rules that Ringfence gave, of the workflow's Role and of its launchers', where these stand: by its status, which nobody else may
/// write, and neither by its spec, which somebody wrote unreviewed, nor by the Roles, which the same one could edit. What the class takes
/// away since goes: it needs nobody's review. Which engine was in force the spec says, so each that the class opens counts.
pub(super) fn on_record(
    workflow: &AIWorkflow,
    observed: &Observed,
    class: &AIWorkflowClass,
) -> (Vec<PolicyRule>, Vec<PolicyRule>) {
    let keep = |given: Vec<PolicyRule>, part: &str, allowed: &[PolicyRule]| {
        let stands = role_that_stands(workflow, observed, part).is_some();
        let allowed = Covering::of(allowed);
        given
            .into_iter()
            .filter(|rule| stands && allowed.covers(rule))
            .collect()
    };
    let (mut own, mut launching) = (rules::at_home(class), Vec::new());
    for engine in engine::opened(class) {
        own.extend(engine.worker);
        // One that launches itself holds these as its own.
        own.extend_from_slice(&engine.launcher);
        launching.extend(engine.launcher);
    }
    let status = workflow.status.clone().unwrap_or_default();
    (
        keep(status.effective_rules, "role", &own),
        keep(status.launcher_rules, "launcher", &launching),
    )
}

/// Narrows what is desired by today's declaration to what stands of it and was given, while the declaration is held. Whether it stands at all.
pub(super) fn as_it_stood(
    (child, name): (Child, &str),
    desired: &mut Value,
    (workflow, class, word): (&AIWorkflow, &AIWorkflowClass, &Word),
    observed: &Observed,
) -> bool {
    let uid = workflow.uid().unwrap_or_default();
    let ours = observed
        .children
        .iter()
        .find(|(kind, seen)| *kind == child && name_of(seen) == name && owner_uid(seen) == Some(uid.as_str()));
    let Some((_, seen)) = ours else { return false };
    let record = Record::of(workflow);
    for part in lists(child) {
        // Who edited the one while nobody reviewed may have edited the other: of one of them it must be known that nobody did.
        let was_given = |declared: &Value, stood: &Value| {
            let declared = as_declared((child, part), &comparable(declared), word);
            declared.is_some_and(|declared| record.holds((child, name), part, &declared))
                || record.holds((child, name), part, &comparable(stood))
        };
        only_of(desired, seen, part, |element| read(child, element, word), was_given);
    }
    if child == Child::CiliumNetworkPolicy {
        let was_given = |asked: &Value| record.holds((child, name), cilium::DNS_NAMES, asked);
        let inside = network::inside(workflow, observed, class);
        if !cilium::asks_for_what_it_opens(desired, &inside, was_given) {
            return false;
        }
    }
    let opens_any = match child {
        Child::ResolvedNames => resolved::names_any(desired),
        Child::ClusterNetworkPolicy => cluster_policy::opens_any(desired),
        _ => true,
    };
    if !opens_any {
        return false;
    }
    let stood = seen.pointer("/metadata/annotations").and_then(Value::as_object);
    if let Some((wanted, stood)) = desired
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
        .zip(stood)
    {
        if let Some(leads_to) = wanted.get_mut(egress::ANNOTATION) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let before = stood.get(egress::ANNOTATION).map(text).unwrap_or_default();
            let was_given = |rule: &Value| record.holds((child, name), egress::ANNOTATION, rule);
            let Some(narrowed) = domains::only_what_stood(&text(&*leads_to), &before, was_given) else {
                return false;
            };
            *leads_to = narrowed.into();
        }
        let is_narrowed = |key: &str| key == OWNER_UID_ANNOTATION || key == egress::ANNOTATION;
        let is_made = |key: &str| key == REVISION_ANNOTATION;
        wanted.retain(|key, value| {
            let stays = stood.get(key) == Some(value) && (is_made(key) || record.holds((child, name), key, value));
            is_narrowed(key) || stays
        });
        // Made from what was declared then.
        if let Some(revision) = stood.get(REVISION_ANNOTATION) {
            wanted.insert(REVISION_ANNOTATION.to_owned(), revision.clone());
        }
    }
    true
}

/// Lists of what is declared, in objects of that kind. The rules of a Role are those on record, as they are.
pub(super) const fn lists(child: Child) -> &'static [&'static str] {
    match child {
        Child::NetworkPolicy => &[INGRESS, "/spec/egress"],
        Child::RoleBinding => &["/subjects"],
        Child::ServiceAccount => &["/imagePullSecrets"],
        Child::ResolvedNames => &["/spec/rules"],
        Child::CiliumNetworkPolicy | Child::ClusterNetworkPolicy => &["/spec/egress"],
        Child::Role => &[],
    }
}

/// Whether an element of such a list is the declaration's.
pub(super) fn is_declared(child: Child, element: &Value, word: &Word) -> bool {
    match child {
        Child::NetworkPolicy => Some(element) != word.dns.as_ref(),
        Child::CiliumNetworkPolicy => cilium::is_opening(element),
        Child::ClusterNetworkPolicy => cluster_policy::is_opening(element),
        Child::ResolvedNames | Child::RoleBinding | Child::ServiceAccount | Child::Role => true,
    }
}

/// An element of such a list, to be compared; `None` where no declaration gives it.
pub(super) fn read(child: Child, element: &Value, word: &Word) -> Option<Value> {
    is_declared(child, element, word).then(|| match child {
        Child::NetworkPolicy => without_excepts(&comparable(element)),
        _ => comparable(element),
    })
}

/// An element as its declaration has it, where that differs: of a range, with what the declaration takes out of it, and not what the cluster
/// does. `element` is comparable.
pub(super) fn as_declared((child, part): (Child, &str), element: &Value, word: &Word) -> Option<Value> {
    let mut ranges = Vec::new();
    if child == Child::NetworkPolicy {
        ranges_in(element, &mut ranges);
    }
    if ranges.is_empty() {
        return None;
    }
    let except = ranges
        .into_iter()
        .map(|range| word.except.get(&(part == INGRESS, range.to_owned())));
    Some(json!([without_excepts(element), except.collect::<Vec<_>>()]))
}

fn ranges_in<'a>(rule: &'a Value, ranges: &mut Vec<&'a str>) {
    match rule {
        Value::Array(items) => items.iter().for_each(|item| ranges_in(item, ranges)),
        Value::Object(fields) => {
            ranges.extend(fields.get("cidr").and_then(Value::as_str));
            fields.values().for_each(|value| ranges_in(value, ranges));
        }
        _ => {}
    }
}

/// Keeps of a list what is in the same list of what stands, by that reading of an element, and was given; and what has no reading. What was taken
/// out of a range stays out of it.
fn only_of(
    desired: &mut Value,
    seen: &Value,
    pointer: &str,
    read: impl Fn(&Value) -> Option<Value>,
    was_given: impl Fn(&Value, &Value) -> bool,
) {
    let stood = seen.pointer(pointer).and_then(Value::as_array);
    let stood: Vec<_> = stood
        .into_iter()
        .flatten()
        .filter_map(|element| Some((read(element)?, element)))
        .collect();
    let Some(list) = desired.pointer_mut(pointer).and_then(Value::as_array_mut) else {
        return;
    };
    list.retain_mut(|element| {
        let Some(now) = read(element) else { return true };
        let alike = || stood.iter().filter(|(before, _)| *before == now);
        let same = alike().find(|(_, before)| comparable(before) == comparable(element));
        let Some((_, before)) = same.or_else(|| alike().next()) else {
            return false;
        };
        let stays = was_given(element, before);
        take_out(element, before);
        stays
    });
}

/// Takes out of the ranges of a rule what is taken out of the same ones of another, which is the same rule but for that.
fn take_out(rule: &mut Value, other: &Value) {
    match (rule, other) {
        (Value::Array(items), Value::Array(others)) => {
            items
                .iter_mut()
                .zip(others)
                .for_each(|(item, other)| take_out(item, other));
        }
        (Value::Object(fields), Value::Object(others)) => {
            let taken = others.get("except").and_then(Value::as_array).into_iter().flatten();
            for range in taken {
                let out = fields.entry("except").or_insert_with(|| json!([]));
                if let Some(out) = out.as_array_mut().filter(|out| !out.contains(range)) {
                    out.push(range.clone());
                    // As they are written otherwise: in another order they are a difference.
                    out.sort_by_key(|range| range.as_str().and_then(|text| text.parse::<IpNet>().ok()));
                }
            }
            for (key, value) in fields.iter_mut().filter(|(key, _)| *key != "except") {
                if let Some(other) = others.get(key) {
                    take_out(value, other);
                }
            }
        }
        _ => {}
    }
}

/// A rule of a NetworkPolicy without what is taken out of its ranges: the cluster's own ranges change while a workflow is held, and
/// stay closed.
fn without_excepts(rule: &Value) -> Value {
    match rule {
        Value::Array(items) => Value::Array(items.iter().map(without_excepts).collect()),
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| *key != "except");
            Value::Object(kept.map(|(key, value)| (key.clone(), without_excepts(value))).collect())
        }
        other => other.clone(),
    }
}

/// Rules of the Role that stood and may stay: each valid by itself, inside the class, or of the engine that it opens.
pub(super) fn rules(
    workflow: &AIWorkflow,
    observed: &Observed,
    class_name: &str,
    class: &AIWorkflowClass,
) -> Vec<PolicyRule> {
    let (stood, at_home) = (rules_that_stand(workflow, observed), rules::at_home(class));
    let (stood, at_home) = (Covering::of(&stood), Covering::of(&at_home));
    let declared = workflow.rules().iter();
    let inside = declared.filter(|rule| rules::is_valid(rule, false) && at_home.covers(rule));
    let of_engine = engine::profile(workflow, class_name, class).map_or_else(|_| Vec::new(), |profile| profile.worker);
    let all = of_engine.iter().chain(inside);
    all.filter(|rule| stood.covers(rule)).cloned().collect()
}

/// Rules of the workflow's Role, as far as they can be read.
fn rules_that_stand(workflow: &AIWorkflow, observed: &Observed) -> Vec<PolicyRule> {
    let rules = role_that_stands(workflow, observed, "role").and_then(|role| role.get("rules")?.as_array());
    let read = |rule: &Value| serde_json::from_value(rule.clone()).ok();
    rules.into_iter().flatten().filter_map(read).collect()
}

/// That Role of the workflow's.
fn role_that_stands<'a>(workflow: &AIWorkflow, observed: &'a Observed, part: &str) -> Option<&'a Value> {
    let name = owned_name(&observed.namespace.name, &workflow.name_any(), part);
    let uid = workflow.uid().unwrap_or_default();
    let is_role = |(child, seen): &&(Child, Value)| {
        *child == Child::Role && name_of(seen) == name && owner_uid(seen) == Some(uid.as_str())
    };
    let role = observed.children.iter().find(is_role);
    role.map(|(_, role)| role)
}

#[cfg(test)]
mod tests;
