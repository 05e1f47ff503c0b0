//! Plans beside what is there: which declarations and objects would differ, and what would be said of the declarations.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    super::render::namespace_of,
    declared::{self, Named, worse},
};
use crate::{
    api::{
        AIWorkflow, AIWorkflowClass, AIWorkflowClassSpec, AIWorkflowGrant, AIWorkflowGrantSpec, AIWorkflowSpec,
        Condition, ConditionStatus, ConditionType, DEFAULT_DENY_NAME, Mode, Reason,
    },
    plan::{self, Change, Child, DefaultDenyPlan, GrantPlan, Observed, Outcome, Plan},
};

/// One declaration or object that would be made, changed or removed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    pub(super) kind: &'static str,
    /// `None` where it is of the cluster.
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// As it is, without what the API server writes; `None` where there is none.
    pub(super) before: Option<Value>,
    /// As it would be; `None` where it would go.
    pub(super) after: Option<Value>,
}

/// What would be said of one declaration.
#[derive(Debug)]
struct Said {
    named: Named,
    conditions: Vec<Condition>,
}

/// Everything that would differ.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) differences: Vec<Difference>,
    notes: Vec<String>,
    said: Vec<Said>,
}

impl Comparison {
    /// Something that a reader of the differences should know.
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// A class of the input: how it differs, and what is wrong with it.
    pub(super) fn class(&mut self, class: &AIWorkflowClass, before: Option<&AIWorkflowClassSpec>) -> Result<()> {
        let named = Named {
            kind: "AIWorkflowClass",
            namespace: None,
            name: class.name_any(),
        };
        self.differences.extend(named.differs(before, &class.spec, &[])?);
        let problems = plan::class_problems(class);
        if !problems.is_empty() {
            self.note(format!(
                "AIWorkflowClass {}: Accepted=False (Invalid)",
                class.name_any()
            ));
            self.notes.extend(problems.iter().map(|problem| format!("  {problem}")));
        }
        Ok(())
    }

    /// A namespace of the input.
    pub(super) fn namespace(
        &mut self,
        name: &str,
        before: Option<&BTreeMap<String, String>>,
        labels: &BTreeMap<String, String>,
    ) {
        self.differences.extend(declared::labels(name, before, labels));
    }

    /// What is to be done about a namespace's default-deny.
    pub(super) fn default_deny(&mut self, namespace: &str, plan: &DefaultDenyPlan, seen: Option<Value>) {
        match plan {
            DefaultDenyPlan::Stands => {}
            DefaultDenyPlan::Taken => self.note(default_deny_taken(namespace)),
            DefaultDenyPlan::Write(change) => {
                let seen: Vec<_> = seen.into_iter().map(|seen| (Child::NetworkPolicy, seen)).collect();
                self.changes(namespace, std::slice::from_ref(change), &seen);
            }
        }
    }

    /// What is to be done about a workflow. `before`: what it declares until now. `deny_taken`: the namespace's default-deny cannot be made.
    pub(super) fn workflow(
        &mut self,
        workflow: &AIWorkflow,
        before: Option<&AIWorkflowSpec>,
        (observed, plan): (&Observed, &Plan),
        deny_taken: bool,
    ) -> Result<()> {
        let facts = &observed.namespace;
        let is_touched = facts.fencing_class().is_some() && observed.class.is_some() && !facts.terminating;
        let outcome = if !is_touched || (plan.held && plan.changes.is_empty()) {
            Outcome::Untouched
        } else if deny_taken && facts.mode() == Some(Mode::Enforce) {
            Outcome::Failed(Reason::NameTaken, default_deny_taken(&facts.name))
        } else {
            Outcome::Applied(None)
        };
        let status = plan::status(workflow, observed, plan, &outcome, Timestamp::UNIX_EPOCH);
        let live = workflow.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let named = Named {
            kind: "AIWorkflow",
            namespace: Some(namespace_of(workflow)),
            name: workflow.name_any(),
        };
        self.declared(named, (before, &workflow.spec), (live, status.conditions))?;
        // Where the default-deny cannot be made, nothing is.
        if matches!(outcome, Outcome::Applied(_)) {
            let account = observed
                .account
                .iter()
                .map(|account| (Child::ServiceAccount, account.clone()));
            let seen: Vec<_> = observed.children.iter().cloned().chain(account).collect();
            self.changes(&facts.name, &plan.changes, &seen);
        }
        Ok(())
    }

    /// What is to be done about a grant. `before`: what it declares until now.
    pub(super) fn grant(
        &mut self,
        grant: &AIWorkflowGrant,
        before: Option<&AIWorkflowGrantSpec>,
        plan: &GrantPlan,
        children: &[(Child, Value)],
    ) -> Result<()> {
        let namespace = grant.namespace().unwrap_or_default();
        let status = plan::grant_status(grant, plan, &Outcome::Applied(None), Timestamp::UNIX_EPOCH);
        let live = grant.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let named = Named {
            kind: "AIWorkflowGrant",
            namespace: Some(namespace.clone()),
            name: grant.name_any(),
        };
        self.declared(named, (before, &grant.spec), (live, status.conditions))?;
        self.changes(&namespace, &plan.changes, children);
        Ok(())
    }

    /// A declaration with a status: how it and its conditions differ, and what would be said of it.
    fn declared<S: PartialEq + Serialize>(
        &mut self,
        named: Named,
        (before, after): (Option<&S>, &S),
        (live, conditions): (&[Condition], Vec<Condition>),
    ) -> Result<()> {
        let worse = worse(live, &conditions);
        self.differences.extend(named.differs(before, after, &worse)?);
        self.said.push(Said { named, conditions });
        Ok(())
    }

    fn changes(&mut self, namespace: &str, changes: &[Change], seen: &[(Child, Value)]) {
        let seen = |child: Child, name: &str| {
            let found = seen
                .iter()
                .find(|(kind, seen)| *kind == child && plan::name_of(seen) == name);
            found.map(|(_, seen)| plan::comparable(seen))
        };
        for change in changes {
            let child = change.child();
            let (name, before, after) = match change {
                Change::Create(_, object) => (plan::name_of(object), None, Some(object)),
                Change::Replace(_, object) => (plan::name_of(object), seen(child, plan::name_of(object)), Some(object)),
                Change::Delete { name, .. } => (name.as_str(), seen(child, name), None),
            };
            self.differences.push(Difference {
                kind: child.kind(),
                namespace: (!child.is_of_cluster()).then(|| namespace.to_owned()),
                name: name.to_owned(),
                before,
                after: after.map(plan::comparable),
            });
        }
    }

    /// What is to be said beside the differences, one line each.
    pub(super) fn comments(&self) -> Vec<String> {
        let mut lines = self.notes.clone();
        for said in &self.said {
            let Said { named, conditions } = said;
            let short =
                |condition: &Condition| format!("{}={:?} ({})", condition.type_, condition.status, condition.reason);
            let all: Vec<_> = conditions.iter().map(short).collect();
            lines.push(format!("{named}: {}", all.join(", ")));
            let mut messages: Vec<&str> = Vec::new();
            // What is outside `Ready` keeps nothing from standing.
            let wanting = |condition: &&Condition| {
                condition.status != ConditionStatus::True && condition.type_ != ConditionType::DnsExfiltration.as_str()
            };
            for condition in conditions.iter().filter(wanting) {
                // `Ready` repeats the first that is not true.
                if !messages.contains(&condition.message.as_str()) {
                    messages.push(&condition.message);
                }
            }
            lines.extend(messages.into_iter().map(|message| format!("  {message}")));
        }
        lines
    }

    /// The same for machines.
    pub(super) fn as_value(&self) -> Value {
        let changes = self.differences.iter().map(|difference| {
            let change = match (&difference.before, &difference.after) {
                (None, _) => "create",
                (Some(_), Some(_)) => "replace",
                (Some(_), None) => "delete",
            };
            let mut value = json!({
                "change": change,
                "kind": difference.kind,
                "namespace": difference.namespace,
                "name": difference.name,
            });
            for (key, side) in [("before", &difference.before), ("after", &difference.after)] {
                if let (Some(side), Some(fields)) = (side, value.as_object_mut()) {
                    fields.insert(key.to_owned(), side.clone());
                }
            }
            value
        });
        let said = self.said.iter().map(|said| {
            let conditions = said.conditions.iter().map(|condition| {
                json!({
                    "type": condition.type_,
                    "status": condition.status,
                    "reason": condition.reason,
                    "message": condition.message,
                })
            });
            json!({
                "kind": said.named.kind,
                "namespace": said.named.namespace,
                "name": said.named.name,
                "conditions": conditions.collect::<Vec<_>>(),
            })
        });
        json!({
            "changes": changes.collect::<Vec<_>>(),
            "conditions": said.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

fn default_deny_taken(namespace: &str) -> String {
    format!(
        "NetworkPolicy {DEFAULT_DENY_NAME} of namespace {namespace} exists and is not Ringfence's: delete it, so that the default-deny can be made"
    )
}
