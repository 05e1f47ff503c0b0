//! Door: the objects of our own group. What no class could take, and CEL cannot say of one object, is refused where it is written;
//! what only its surroundings keep out today is a warning, because a namespace, its class and its workflows come in any order.
//!
//! Must never: refuse a write that leaves the spec as it was. An old object that is invalid today must still be ended.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::MAX_VIOLATIONS;
use super::facts::{Facts, read};
use super::object::{shown, violation};
use crate::api::{AIWorkflow, AIWorkflowClass, AIWorkflowGrant, GROUP, RegoPolicyException, is_dns_label};
use crate::plan::{self, NamespaceFacts, Problem};
use crate::review::{Operation, Review, Violation};

const VALID: &str = "valid-declaration";
const ACCEPTED: &str = "accepted-declaration";
const EXEMPT: &str = "exempt-namespace";
const SIZE: &str = "declaration-size";

/// What the metadata of one object may hold, in bytes of JSON, with the annotations that its account is to carry. Ringfence keeps
/// every such object in memory, and nothing else bounds these: an apply by kubectl and two field managers of the longest workflow
/// need half of it.
const MAX_METADATA: usize = 128 << 10;

/// A kind of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Class,
    Exception,
    Grant,
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
        let old = match review.operation {
            Operation::Create => None,
            Operation::Update => Some(
                review
                    .old_object()
                    .ok_or("the review of an UPDATE holds no oldObject")?,
            ),
            Operation::Connect | Operation::Delete => return Ok(None),
        };
        let kind = match (review.kind.group.as_str(), review.kind.kind.as_str()) {
            (GROUP, "AIWorkflow") => Kind::Workflow,
            (GROUP, "AIWorkflowClass") => Kind::Class,
            (GROUP, "AIWorkflowGrant") => Kind::Grant,
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
        if self.changes_spec() {
            let namespace = self.review.namespace.as_deref().unwrap_or_default();
            let exempt_here = self.kind != Kind::Class && exempt(namespace);
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
                Kind::Class | Kind::Exception | Kind::Grant | Kind::Workflow => Ok(Vec::new()),
            };
            warnings = outside.unwrap_or_else(|violation| vec![*violation]);
        }
        refusals.truncate(MAX_VIOLATIONS);
        warnings.truncate(MAX_VIOLATIONS);
        (refusals, warnings)
    }

    fn changes_spec(&self) -> bool {
        self.old.is_none_or(|old| old.get("spec") != self.object.get("spec"))
    }

    /// What is wrong with the object by itself. Of a class, what is new: narrowing one must not wait for all of it to be mended.
    fn problems(&self) -> Result<Vec<Problem>, Box<Violation>> {
        Ok(match self.kind {
            Kind::Workflow => plan::workflow_problems(&self.typed(self.object)?),
            Kind::Exception => plan::exception_problems(&self.typed(self.object)?),
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
}

/// Bytes of JSON of what nothing else bounds.
fn size(object: &Value) -> usize {
    let parts = [object.get("metadata"), object.pointer("/spec/identity/annotations")];
    parts.into_iter().flatten().map(|part| part.to_string().len()).sum()
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
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::super::testing::{facts, review, set, workflow_object};
    use super::*;

    fn object(kind: &str, spec: Value) -> Value {
        let mut object = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": kind, "metadata": {"name": "x", "namespace": "ai"}, "spec": spec,
        });
        if kind == "AIWorkflowClass" {
            object["metadata"].as_object_mut().unwrap().remove("namespace");
        }
        object
    }

    fn rule(resource: &str) -> Value {
        json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]})
    }

    /// Rules that refuse and rules that warn, each with the field.
    fn judged(kind: &str, old: Option<&Value>, new: &Value, facts: &Facts) -> (Vec<String>, Vec<String>) {
        let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
        let mut review = review(operation, "ringfence.dev", kind, Some(new), old);
        review.namespace = new["metadata"]["namespace"].as_str().map(str::to_owned);
        let subject = Subject::of(&review).unwrap().unwrap();
        let (refusals, warnings) = subject.judge(facts, |name| name == "kube-system");
        refusals
            .iter()
            .for_each(|refusal| assert!(!refusal.fix.is_empty(), "says what to do: {refusal:?}"));
        let named = |list: Vec<Violation>| {
            list.into_iter()
                .map(|said| format!("{} {}", said.policy, said.path))
                .collect()
        };
        (named(refusals), named(warnings))
    }

    fn with_cidr(cidr: &str) -> Value {
        let rule = json!({"name": "x", "to": {"cidrs": [cidr]}, "ports": [{"port": 1}]});
        set(workflow_object(), "/spec/network", json!({"egress": [rule]}))
    }

    fn refused(what: &[&str]) -> (Vec<String>, Vec<String>) {
        (what.iter().map(|&what| what.to_owned()).collect(), Vec::new())
    }

    fn warned(what: &[&str]) -> (Vec<String>, Vec<String>) {
        let (what, none) = refused(what);
        (none, what)
    }

    const CIDR: &str = "valid-declaration spec.network.egress[0].to.cidrs[0]";

    #[rstest]
    #[case::fine(workflow_object(), refused(&[]))]
    #[case::host_bits(with_cidr("203.0.113.1/24"), refused(&[CIDR]))]
    #[case::mapped(with_cidr("::ffff:203.0.113.0/120"), refused(&[CIDR]))]
    #[case::outside_the_class(with_cidr("203.0.113.0/24"), warned(&["accepted-declaration spec.network.egress[0].to.cidrs[0]"]))]
    #[case::secrets(set(workflow_object(), "/spec/permissions", json!({"rules": [rule("secrets")]})), refused(&["valid-declaration spec.permissions.rules[0].resources"]))]
    #[case::all_at_once(
        set(with_cidr("10.0.0.1/8"), "/spec/images", json!(["UPPER"])),
        refused(&["valid-declaration spec.images[0]", CIDR])
    )]
    #[case::exempt(set(workflow_object(), "/metadata/namespace", json!("kube-system")), refused(&["exempt-namespace metadata.namespace"]))]
    #[case::cannot_be_read(set(workflow_object(), "/spec/images", json!("x")), refused(&["valid-declaration "]))]
    fn a_workflow_is_refused_for_what_it_is_and_warned_of_what_it_meets(
        #[case] new: Value,
        #[case] expected: (Vec<String>, Vec<String>),
    ) {
        assert_eq!(judged("AIWorkflow", None, &new, &facts()), expected, "on CREATE");
        let old = set(workflow_object(), "/spec/images", json!(["docker.io/ok/former"]));
        assert_eq!(judged("AIWorkflow", Some(&old), &new, &facts()), expected, "on UPDATE");
        let touched = set(new.clone(), "/metadata/labels", json!({"a": "b"}));
        assert_eq!(
            judged("AIWorkflow", Some(&new), &touched, &facts()),
            refused(&[]),
            "the spec stays"
        );
    }

    #[rstest]
    #[case::no_mode(json!({"metadata": {"name": "ai"}}), "NamespaceNotFenced")]
    #[case::no_such_class(json!({"metadata": {"name": "ai", "labels": {"ringfence.dev/enforce": "gold"}}}), "ClassMissing")]
    fn what_may_come_later_is_a_warning(#[case] namespace: Value, #[case] reason: &str) {
        let facts = Facts {
            namespace: Some(namespace),
            classes: [("gold".to_owned(), None)].into(),
            ..Facts::default()
        };
        let review = review("CREATE", "ringfence.dev", "AIWorkflow", Some(&workflow_object()), None);
        let (refusals, warnings) = Subject::of(&review).unwrap().unwrap().judge(&facts, |_| false);
        assert_eq!((refusals.len(), warnings.len()), (0, 1));
        assert!(warnings[0].message.contains(reason), "{warnings:?}");
    }

    #[rstest]
    #[case::fine(json!([rule("services")]), &[])]
    #[case::secrets(json!([rule("services"), rule("secrets")]), &["valid-declaration spec.rules[1].resources"])]
    fn a_grant_is_judged_by_itself(#[case] rules: Value, #[case] expected: &[&str]) {
        let grant = object(
            "AIWorkflowGrant",
            json!({"from": [{"namespace": "ai", "name": "a"}], "rules": rules}),
        );
        assert_eq!(
            judged("AIWorkflowGrant", None, &grant, &Facts::default()),
            refused(expected)
        );
        let exempt = set(grant, "/metadata/namespace", json!("kube-system"));
        let refused = judged("AIWorkflowGrant", None, &exempt, &Facts::default()).0;
        assert_eq!(refused[0], "exempt-namespace metadata.namespace");
        assert_eq!(refused.len(), 1 + expected.len());
    }

    #[test]
    fn a_class_is_refused_for_new_problems_alone() {
        let class = |rules: &[&str]| {
            let rules: Vec<_> = rules.iter().map(|resource| rule(resource)).collect();
            object(
                "AIWorkflowClass",
                json!({"images": {"allowed": ["**"]}, "permissions": rules}),
            )
        };
        let judged = |old: Option<&Value>, new: &Value| judged("AIWorkflowClass", old, new, &Facts::default());
        let old = class(&["pods", "secrets"]);
        assert_eq!(
            judged(None, &old),
            refused(&["valid-declaration spec.permissions[1].resources"])
        );
        assert_eq!(
            judged(Some(&old), &class(&["configmaps", "pods", "secrets"])),
            refused(&[]),
            "moved, not new"
        );
        assert_eq!(
            judged(Some(&old), &class(&["nodes", "secrets"])),
            refused(&["valid-declaration spec.permissions[0].resources"])
        );
        let in_exempt = set(class(&["pods"]), "/metadata/namespace", json!("kube-system"));
        assert_eq!(judged(None, &in_exempt), refused(&[]), "a class is in no namespace");
    }

    #[rstest]
    #[case::fine(json!({}), refused(&[]))]
    #[case::for_nothing(json!({"names": []}), refused(&["valid-declaration spec"]))]
    #[case::every_policy(json!({"policies": ["*"]}), refused(&["valid-declaration spec.policies[0]"]))]
    #[case::too_long(json!({"expiresAt": "2026-12-22T12:00:00Z"}), warned(&["accepted-declaration "]))]
    #[case::over(json!({"expiresAt": "2026-11-22T12:00:00Z"}), warned(&["accepted-declaration "]))]
    #[case::unreadable(json!({"names": 1}), refused(&["valid-declaration "]))]
    fn an_exception_is_warned_of_what_keeps_it_from_acting(
        #[case] patch: Value,
        #[case] expected: (Vec<String>, Vec<String>),
    ) {
        let spec = json!({"policies": ["a"], "names": ["x"], "reason": "x", "expiresAt": "2026-11-23T12:00:00Z"});
        let mut new = object("RegoPolicyException", spec);
        new["metadata"]["creationTimestamp"] = json!("2026-11-22T12:00:00Z");
        for (key, value) in patch.as_object().unwrap() {
            new["spec"][key] = value.clone();
        }
        let mut facts = facts();
        facts.now = Some("2026-11-22T12:00:00Z".parse().unwrap());
        let class = facts.classes.get_mut("default").unwrap().as_mut().unwrap();
        class["spec"]["exceptions"] = json!({"namespaces": ["ai"], "maxDays": 2});
        assert_eq!(judged("RegoPolicyException", None, &new, &facts), expected);
        facts.classes.insert("default".into(), None);
        let closed = judged("RegoPolicyException", None, &new, &facts);
        assert_eq!(
            closed.1.len(),
            usize::from(expected.0.is_empty()),
            "no class allows it: {closed:?}"
        );
        let exempt = set(new, "/metadata/namespace", json!("kube-system"));
        assert_eq!(
            judged("RegoPolicyException", None, &exempt, &facts).0[0],
            "exempt-namespace metadata.namespace"
        );
    }

    #[test]
    fn what_stays_in_memory_is_bounded_and_may_shrink() {
        let big = |bytes: usize| {
            set(
                workflow_object(),
                "/metadata/annotations",
                json!({"a": "x".repeat(bytes)}),
            )
        };
        let judged = |old: Option<&Value>, new: &Value| judged("AIWorkflow", old, new, &facts());
        let size = refused(&["declaration-size metadata"]);
        assert_eq!(judged(None, &big(MAX_METADATA - 1_000)), refused(&[]));
        assert_eq!(judged(None, &big(MAX_METADATA)), size);
        assert_eq!(
            judged(Some(&workflow_object()), &big(MAX_METADATA)),
            size,
            "with the spec as it was, too"
        );
        assert_eq!(judged(Some(&big(MAX_METADATA + 9)), &big(MAX_METADATA)), refused(&[]));
        let cloud = set(
            workflow_object(),
            "/spec/identity",
            json!({"annotations": {"a": "x".repeat(MAX_METADATA)}}),
        );
        assert_eq!(judged(None, &cloud), size);
    }

    #[test]
    fn reviews_of_another_registration_are_faults() {
        let other = review("CREATE", "ringfence.dev", "RegoPolicy", Some(&json!({})), None);
        assert!(Subject::of(&other).is_err());
        let halved = review("UPDATE", "ringfence.dev", "AIWorkflow", Some(&workflow_object()), None);
        assert!(Subject::of(&halved).is_err());
        let gone = review("DELETE", "ringfence.dev", "AIWorkflow", None, Some(&workflow_object()));
        assert!(Subject::of(&gone).unwrap().is_none());
    }
}
