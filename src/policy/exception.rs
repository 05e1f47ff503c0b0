//! What exceptions make of the verdicts on one object.
//!
//! Two exceptions never add up: what refuses an object is excused by one exception that names all of it, or not at all. Must
//! never: excuse a policy that gave no verdict, or a rule of the fence, which is none of a verdict's; or rely on an exception
//! that says more than this Ringfence can read.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::findings::Findings;
use super::set::Verdict;
use crate::api::{AIWorkflowClass, RegoPolicyException};
use crate::plan::{MAX_EXCEPTIONS, exception_in_force, selects};
use crate::review::Excuse;

/// Fields of a spec that are understood. One more might narrow it.
const FIELDS: [&str; 5] = ["expiresAt", "names", "objectSelector", "policies", "reason"];

/// The object that policies judge, as exceptions name it.
#[derive(Clone, Debug, Default)]
pub struct Excusable<'a> {
    /// Namespace that it lies in.
    pub namespace: &'a str,
    /// Its own labels.
    pub labels: Option<&'a Value>,
    /// Its own name, and those of the owners that control it.
    pub names: Vec<&'a str>,
}

/// The exceptions that are in force for one object and one class.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Exceptions {
    namespace: String,
    in_force: Vec<InForce>,
    too_many: bool,
}

/// How a policy refuses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Refusal {
    Found,
    /// It could not judge. Nothing excuses that.
    NoVerdict,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct InForce {
    name: String,
    policies: Vec<String>,
    until: Timestamp,
}

impl Exceptions {
    /// Those of a list of the API server that match the object, by a class, now. Without a clock there are none.
    pub fn of(
        list: Option<&Value>,
        object: &Excusable<'_>,
        (class_name, class): (&str, Option<&Value>),
        now: Option<Timestamp>,
    ) -> Self {
        let (Some(list), Some(now)) = (list, now) else {
            return Self::default();
        };
        let class = class.and_then(|class| AIWorkflowClass::deserialize(class).ok());
        let class = (class_name, class.as_ref());
        let in_force = items(list)
            .filter_map(|item| in_force(item, object, class, now))
            .collect();
        let too_many = is_cut_off(list) || items(list).count() > MAX_EXCEPTIONS;
        Self {
            namespace: object.namespace.to_owned(),
            in_force: if too_many { Vec::new() } else { in_force },
            too_many,
        }
    }

    /// Whether any matches the object.
    pub fn are_any(&self) -> bool {
        self.too_many || !self.in_force.is_empty()
    }

    /// Turns refusals that one exception excuses into warnings that say so, and tells which. Where none covers all that
    /// refuses, `beside` included, which another webhook says, each refusal stays, and says what an exception lacks.
    pub fn apply(&self, verdicts: &mut [Verdict], beside: &[Verdict]) -> Vec<Excuse> {
        let refusing = verdicts
            .iter()
            .chain(beside)
            .filter_map(|verdict| match &verdict.outcome {
                Err(_) => Some((verdict.policy.clone(), Refusal::NoVerdict)),
                Ok(findings) => (!findings.deny.is_empty()).then(|| (verdict.policy.clone(), Refusal::Found)),
            });
        let refusing: BTreeMap<String, Refusal> = refusing.collect();
        let covers = |one: &&InForce| one.leaves(&refusing).next().is_none();
        let lasting = |one: &&InForce| (one.until, Reverse(one.name.clone()));
        let covering = self.in_force.iter().filter(covers).max_by_key(lasting);
        let mut excuses = Vec::new();
        for verdict in verdicts {
            let Ok(findings) = &mut verdict.outcome else { continue };
            if findings.deny.is_empty() {
                continue;
            }
            match covering {
                Some(one) => {
                    self.excuse(one, findings);
                    excuses.push(Excuse {
                        exception: one.name.clone(),
                        policy: verdict.policy.clone(),
                    });
                }
                None => {
                    if let Some(lacking) = self.lacking(&verdict.policy, &refusing) {
                        for denial in &mut findings.deny {
                            denial.fix = format!("{}; {lacking}", denial.fix.trim_end_matches('.'));
                        }
                    }
                }
            }
        }
        excuses
    }

    fn excuse(&self, one: &InForce, findings: &mut Findings) {
        let mut excused = std::mem::take(&mut findings.deny);
        for finding in &mut excused {
            let by = format!("{}/{} until {}", self.namespace, one.name, one.until);
            finding.message = format!("excused by RegoPolicyException {by}: {}", finding.message);
        }
        excused.append(&mut findings.warn);
        findings.warn = excused;
    }

    /// Why the exceptions that are there do not help against a policy.
    fn lacking(&self, policy: &str, refusing: &BTreeMap<String, Refusal>) -> Option<String> {
        if self.too_many {
            return Some(format!(
                "more than {MAX_EXCEPTIONS} RegoPolicyExceptions, or 8 MiB of them, lie in namespace {}, and so none counts: delete those that are over",
                self.namespace
            ));
        }
        let one = self
            .in_force
            .iter()
            .find(|one| one.policies.iter().any(|name| name == policy))?;
        let others: Vec<_> = one.leaves(refusing).collect();
        Some(format!(
            "RegoPolicyException {}/{} excuses all that refuses an object or nothing of it, and not {}",
            self.namespace,
            one.name,
            others.join(", ")
        ))
    }
}

impl InForce {
    /// What still refuses.
    fn leaves<'a>(&'a self, refusing: &'a BTreeMap<String, Refusal>) -> impl Iterator<Item = &'a str> {
        let is_left = |(policy, refusal): &(&String, &Refusal)| {
            **refusal == Refusal::NoVerdict || !self.policies.contains(policy)
        };
        refusing.iter().filter(is_left).map(|(policy, _)| policy.as_str())
    }
}

/// Whether one of a list's exceptions names objects by name: only then is it worth while to find out who owns one.
pub fn names_objects(list: &Value) -> bool {
    items(list).any(|item| item.pointer("/spec/names").is_some())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.get("items").and_then(Value::as_array).into_iter().flatten()
}

fn is_cut_off(list: &Value) -> bool {
    let next = list.pointer("/metadata/continue").and_then(Value::as_str);
    next.is_some_and(|token| !token.is_empty())
}

fn in_force(
    item: &Value,
    object: &Excusable<'_>,
    class: (&str, Option<&AIWorkflowClass>),
    now: Timestamp,
) -> Option<InForce> {
    let fields = item.get("spec").and_then(Value::as_object)?;
    let is_understood = fields.keys().all(|field| FIELDS.contains(&field.as_str()));
    let exception = RegoPolicyException::deserialize(item).ok().filter(|_| is_understood)?;
    let until = exception_in_force(&exception, object.namespace, class, now).ok()?;
    let spec = exception.spec;
    let names = spec.names.unwrap_or_default();
    let matches = names.iter().any(|name| object.names.contains(&name.as_str()))
        || spec
            .object_selector
            .is_some_and(|selector| selects(&selector, object.labels));
    matches.then(|| InForce {
        name: exception.metadata.name.unwrap_or_default(),
        policies: spec.policies,
        until,
    })
}

#[cfg(test)]
mod tests;
