//! Door: the objects of our own group. What no class could take, and CEL cannot say of one object, is refused where it is written;
//! what only its surroundings keep out today is a warning, because a namespace, its class and its workflows come in any order.
//!
//! Must never: refuse a write that leaves the spec as it was. An old object that is invalid today must still be ended.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::facts::{Facts, read};
use super::object::{MAX_VIOLATIONS, shown, violation};
use crate::api::{AIWorkflow, AIWorkflowClass, AIWorkflowGrant, GROUP, RegoPolicy, RegoPolicyException, is_dns_label};
use crate::plan::{self, NamespaceFacts, Problem};
use crate::policy::Declared;
use crate::review::{Operation, Review, Violation, weight};

const VALID: &str = "valid-declaration";
const ACCEPTED: &str = "accepted-declaration";
const EXEMPT: &str = "exempt-namespace";
const SIZE: &str = "declaration-size";

/// What the metadata of one object may hold, in bytes of JSON, with the annotations that its account is to carry. Ringfence keeps
/// every such object in memory, and nothing else bounds these: an apply by kubectl and two field managers of the longest workflow
/// need half of it.
const MAX_METADATA: usize = 128 << 10;

/// What a declaration may have as it is sent, in bytes, without its status: half of what the API server stores of an object, and the NetworkPolicy
/// made of it may be larger by what its ranges leave out.
const MAX_BYTES: usize = 768 << 10;

/// What a declaration may weigh once it is read, without its status. Less than what a review reads of one object: what could not be read would
/// keep every review from a verdict that is about its workflow. All lists full at once weigh more, and no declaration needs them so.
pub const MAX_WEIGHT: usize = 6 << 20;

/// A kind of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Class,
    Exception,
    Grant,
    Policy,
    Workflow,
}

/// A write of one of our objects.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    review: &'a Review,
    object: &'a Value,
    old: Option<&'a Value>,
    kind: Kind,
}

impl<'a> Subject<'a> {
    /// Reads the subject of a request. `Ok(None)` where there is nothing to say; `Err` where a review lacks what every review of its
    /// operation has.
    pub fn of(review: &'a Review) -> Result<Option<Self>, &'static str> {
        if matches!(review.operation, Operation::Connect | Operation::Delete) {
            return Ok(None);
        }
        let old = review.before()?;
        let kind = match (review.kind.group.as_str(), review.kind.kind.as_str()) {
            (GROUP, "AIWorkflow") => Kind::Workflow,
            (GROUP, "AIWorkflowClass") => Kind::Class,
            (GROUP, "AIWorkflowGrant") => Kind::Grant,
            (GROUP, "RegoPolicy") => Kind::Policy,
            (GROUP, "RegoPolicyException") => Kind::Exception,
            _ => return Err("this Ringfence does not know that kind: its registrations are of another version"),
        };
        let object = review.object().ok_or("the review holds no object")?;
        Ok(Some(Self {
            review,
            object,
            old,
            kind,
        }))
    }

    /// The namespace whose class decides whether the declaration could stand.
    pub fn namespace_to_read(&self) -> Option<&'a str> {
        let namespace = self.review.namespace.as_deref();
        let by_class = matches!(self.kind, Kind::Exception | Kind::Workflow);
        namespace.filter(|name| by_class && self.changes_spec() && is_dns_label(name))
    }

    /// Refusals and warnings.
    pub fn judge(&self, facts: &Facts, exempt: impl Fn(&str) -> bool) -> (Vec<Violation>, Vec<Violation>) {
        let (mut refusals, mut warnings) = (Vec::new(), Vec::new());
        refusals.extend(self.check_size());
        refusals.extend(self.check_bytes());
        refusals.extend(self.check_weight());
        if self.changes_spec() {
            let namespace = self.review.namespace.as_deref().unwrap_or_default();
            let exempt_here = !matches!(self.kind, Kind::Class | Kind::Policy) && exempt(namespace);
            if exempt_here {
                let message = format!(
                    "{} belongs to the platform, and no workflow reaches into it",
                    shown(namespace)
                );
                let fix = "put it into a namespace of workloads";
                refusals.push(violation(EXEMPT, "metadata.namespace", Some(namespace), message, fix));
            }
            match self.problems() {
                Err(violation) => refusals.push(*violation),
                Ok(problems) => refusals.extend(problems.into_iter().map(|problem| said(VALID, problem))),
            }
            let namespace = facts
                .namespace
                .as_ref()
                .and_then(|object| NamespaceFacts::from_object(object, exempt));
            let outside = match self.kind {
                Kind::Workflow if refusals.is_empty() => self.outside(namespace, facts),
                Kind::Exception if refusals.is_empty() => self.idle(namespace, facts),
                Kind::Class | Kind::Exception | Kind::Grant | Kind::Policy | Kind::Workflow => Ok(Vec::new()),
            };
            warnings = outside.unwrap_or_else(|violation| vec![*violation]);
        }
        refusals.truncate(MAX_VIOLATIONS);
        warnings.truncate(MAX_VIOLATIONS);
        (refusals, warnings)
    }

    /// The policy that is written, where it is one and is not what it was.
    pub fn policy(&self) -> Option<Declared> {
        let is_new = self.kind == Kind::Policy && self.changes_spec();
        let policy: RegoPolicy = is_new.then(|| self.typed(self.object).ok()).flatten()?;
        Some(Declared {
            name: self.review.name().to_owned(),
            uid: policy.uid().unwrap_or_default(),
            generation: policy.metadata.generation.unwrap_or_default(),
            spec: policy.spec,
        })
    }

    fn changes_spec(&self) -> bool {
        self.old.is_none_or(|old| old.get("spec") != self.object.get("spec"))
    }

    /// What is wrong with the object by itself. Of a class, what is new: narrowing one must not wait for all of it to be mended.
    fn problems(&self) -> Result<Vec<Problem>, Box<Violation>> {
        Ok(match self.kind {
            Kind::Workflow => plan::workflow_problems(&self.typed(self.object)?),
            Kind::Exception => plan::exception_problems(&self.typed(self.object)?),
            // What its Rego is worth, a child process finds out.
            Kind::Policy => self.typed::<RegoPolicy>(self.object).map(|_| Vec::new())?,
            // The namespace has been judged.
            Kind::Grant => {
                plan::grant_problems(&self.typed::<AIWorkflowGrant>(self.object)?, &NamespaceFacts::default())
            }
            Kind::Class => {
                let found = plan::class_problems(&self.typed(self.object)?);
                // What stood there and cannot be read excuses nothing.
                let before = self.old.and_then(|old| self.typed::<AIWorkflowClass>(old).ok());
                let before: BTreeSet<_> = before
                    .iter()
                    .flat_map(plan::class_problems)
                    .map(|problem| place(&problem))
                    .collect();
                found
                    .into_iter()
                    .filter(|problem| !before.contains(&place(problem)))
                    .collect()
            }
        })
    }

    /// Why the declaration would not be accepted as things are now.
    fn outside(&self, namespace: Option<NamespaceFacts>, facts: &Facts) -> Result<Vec<Violation>, Box<Violation>> {
        let workflow: AIWorkflow = self.typed(self.object)?;
        let namespace = namespace.unwrap_or_else(|| NamespaceFacts {
            name: workflow.namespace().unwrap_or_default(),
            ..NamespaceFacts::default()
        });
        let class_name = namespace.fencing_class();
        let class = match class_name.and_then(|name| Some((name, facts.class(name)?))) {
            Some((name, object)) => Some(read::<AIWorkflowClass>(ACCEPTED, "AIWorkflowClass", name, object)?),
            None => None,
        };
        let acceptance = plan::accept(&workflow, &namespace, class_name, class.as_ref());
        if acceptance.accepted {
            return Ok(Vec::new());
        }
        let head = format!("not accepted as things are ({})", acceptance.reason.as_str());
        if acceptance.problems.is_empty() {
            let message = format!("{head}: {}", acceptance.message);
            return Ok(vec![violation(ACCEPTED, "", None, message, "")]);
        }
        let problems = acceptance.problems.into_iter().map(|problem| said(ACCEPTED, problem));
        Ok(problems
            .map(|told| Violation {
                message: format!("{head}: it {}", told.message),
                ..told
            })
            .collect())
    }

    /// Why the exception would not act as things are now.
    fn idle(&self, namespace: Option<NamespaceFacts>, facts: &Facts) -> Result<Vec<Violation>, Box<Violation>> {
        let exception: RegoPolicyException = self.typed(self.object)?;
        let (Some(namespace), Some(now)) = (namespace, facts.now) else {
            return Ok(Vec::new());
        };
        let mut classes = BTreeMap::new();
        for (name, object) in &facts.classes {
            if let Some(object) = object {
                classes.insert(name.clone(), read(ACCEPTED, "AIWorkflowClass", name, object)?);
            }
        }
        let idle = plan::exception_standing(&exception, &namespace, &classes, now).err();
        Ok(idle
            .map(|idle| {
                let message = format!(
                    "does not act as things are ({}): {}",
                    idle.reason.as_str(),
                    idle.message
                );
                violation(ACCEPTED, "", None, message, "")
            })
            .into_iter()
            .collect())
    }

    fn typed<T: DeserializeOwned>(&self, object: &Value) -> Result<T, Box<Violation>> {
        read(VALID, &self.review.kind.kind, self.review.name(), object).map_err(Box::new)
    }

    fn check_size(&self) -> Option<Violation> {
        let now = size(self.object);
        let fix = "keep documents in a ConfigMap, and apply with kubectl apply --server-side, which keeps no copy in an annotation";
        let grows = now > MAX_METADATA && self.old.is_none_or(|old| size(old) < now);
        let message = format!("holds {now} bytes with what identity.annotations says, and {MAX_METADATA} are the most");
        grows.then(|| violation(SIZE, "metadata", None, message, fix))
    }

    const fn is_of_tenants(&self) -> bool {
        matches!(self.kind, Kind::Exception | Kind::Grant | Kind::Workflow)
    }

    /// Of what tenants write, and policies are made of: one that is too large to be stored leaves the one before it in force.
    fn check_bytes(&self) -> Option<Violation> {
        let grows = self.old.is_none() || self.review.swells;
        if !self.is_of_tenants() || !grows || self.review.bytes <= MAX_BYTES / 2 {
            return None;
        }
        let bytes = |pointer: &str| self.object.pointer(pointer).map_or(0, |part| part.to_string().len());
        // What there is of a status is Ringfence's; it will repeat the rules.
        let declared = self.review.bytes.saturating_sub(bytes("/status"));
        let now = declared.saturating_add(bytes("/spec/permissions/rules"));
        let message = format!(
            "has {now} bytes, who wrote which field included, and its rules twice, and {MAX_BYTES} are the most: its status, and what is made of it, must find room"
        );
        let fix = "shorten the longest lists; peers that share labels are one rule, and what applied it no more is forgotten with metadata.managedFields [{}]";
        (now > MAX_BYTES).then(|| violation(SIZE, "", None, message, fix))
    }

    /// Of what tenants write, and reviews read.
    fn check_weight(&self) -> Option<Violation> {
        let now = if self.is_of_tenants() { weighs(self.object) } else { 0 };
        let grows = now > MAX_WEIGHT && self.old.is_none_or(|old| weighs(old) < now);
        let message = format!("takes {now} bytes of memory when a review reads it, and {MAX_WEIGHT} are the most");
        let fix = "shorten the longest lists: ports of many rules become one with endPort, and peers that share labels one rule";
        grows.then(|| violation(SIZE, "spec", None, message, fix))
    }
}

/// Bytes of JSON of what nothing else bounds.
fn size(object: &Value) -> usize {
    let parts = [object.get("metadata"), object.pointer("/spec/identity/annotations")];
    parts.into_iter().flatten().map(|part| part.to_string().len()).sum()
}

/// What of an object its writer sends and a review keeps.
fn weighs(object: &Value) -> usize {
    let metadata = object.get("metadata").and_then(Value::as_object).into_iter().flatten();
    let metadata = metadata.filter(|(field, _)| *field != "managedFields");
    let parts = metadata.map(|(_, part)| part).chain(object.get("spec"));
    parts.map(weight).sum()
}

fn said(rule: &str, problem: Problem) -> Violation {
    violation(
        rule,
        problem.path,
        problem.value.as_deref(),
        problem.message,
        problem.fix,
    )
}

/// What a problem is about, wherever in its list it stands.
fn place(problem: &Problem) -> (String, Option<String>, String) {
    let path = problem.path.chars().filter(|c| !c.is_ascii_digit()).collect();
    (path, problem.value.clone(), problem.message.clone())
}

#[cfg(test)]
mod tests;
