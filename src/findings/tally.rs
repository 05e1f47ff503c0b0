//! A scan's findings as the operator keeps them: numbers by rule, and a little of each workflow.

use std::collections::BTreeMap;

use super::{Declared, Extent, Finding, Severity, Sink, bindings, clipped, policies};
use crate::plan::Compliance;
use crate::review::{clean, clip_bytes};

/// Most bytes of a gap that are kept of each workflow that it concerns.
const MAX_GAP: usize = 1024;

/// Namespace and name of a workflow.
type Key = (String, String);

/// What a scan found. Grows with the number of workflows and rules, not with what they run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Findings by rule.
    pub rules: BTreeMap<String, usize>,
    /// Workflows of the namespaces that were looked at.
    pub workflows: BTreeMap<Key, Compliance>,
    /// What the whole came to.
    pub extent: Extent,
}

impl Sink for Tally {
    fn found(&mut self, finding: Finding) {
        let is_error = finding.severity == Severity::Error;
        // Bindings come after the namespaces, so every workflow is known.
        if finding.rule == bindings::RULE && finding.workflow.is_none() && is_error {
            let shown = shown(&finding);
            for ((namespace, _), compliance) in &mut self.workflows {
                // In its own namespace it is its own.
                let list = match *namespace == finding.namespace {
                    true => &mut compliance.bindings,
                    false => &mut compliance.shared,
                };
                list.insert(&shown);
            }
        }
        let Some(compliance) = self.about(&finding).filter(|_| is_error) else {
            *self.rules.entry(finding.rule).or_default() += 1;
            return;
        };
        let shown = shown(&finding);
        let list = match finding.rule.as_str() {
            bindings::RULE => Some(&mut compliance.bindings),
            policies::RULE | policies::SERVICE => Some(&mut compliance.openings),
            // Pods come by name, each.
            _ if finding.kind == "Pod" => None,
            _ => Some(&mut compliance.workloads),
        };
        if let Some(list) = list {
            list.insert(&shown);
        }
        *self.rules.entry(finding.rule).or_default() += 1;
    }

    fn declared(&mut self, namespace: &str, workflow: &Declared) {
        let compliance = self.workflows.entry((namespace.to_owned(), workflow.name.clone()));
        let compliance = compliance.or_default();
        compliance.uid.clone_from(&workflow.uid);
        compliance.generation = workflow.generation;
    }

    fn refused_pod(&mut self, namespace: &str, workflow: Option<&str>, name: &str) {
        let key = workflow.map(|workflow| (namespace.to_owned(), workflow.to_owned()));
        if let Some(compliance) = key.and_then(|key| self.workflows.get_mut(&key)) {
            compliance.pods.insert(name);
        }
    }

    fn looked_at_namespace(&mut self, namespace: &str, extent: &Extent) {
        self.extent.add(extent.clone());
        let Some(gap) = extent.gaps.first().map(|gap| cut(gap)) else {
            return;
        };
        for ((of, _), compliance) in &mut self.workflows {
            if of == namespace {
                compliance.gap = Some(gap.clone());
            }
        }
    }
}

impl Tally {
    /// Something that concerns every workflow could not be looked at.
    pub fn gap(&mut self, extent: Extent) {
        if let Some(gap) = extent.gaps.first().map(|gap| cut(gap)) {
            for compliance in self.workflows.values_mut() {
                compliance.gap.get_or_insert_with(|| gap.clone());
            }
        }
        self.extent.add(extent);
    }

    fn about(&mut self, finding: &Finding) -> Option<&mut Compliance> {
        let workflow = finding.workflow.as_deref()?;
        let (namespace, name) = workflow.split_once('/').unwrap_or((&finding.namespace, workflow));
        self.workflows.get_mut(&(namespace.to_owned(), name.to_owned()))
    }
}

/// As much of a gap as each workflow keeps: the whole of it is kept once.
fn cut(gap: &str) -> String {
    clip_bytes(gap, MAX_GAP).to_owned()
}

/// RBAC lets names hold anything, as long as an object may be, and a condition ends in somebody's terminal.
fn shown(finding: &Finding) -> String {
    let name = clipped(&finding.name);
    clean(&match finding.namespace.as_str() {
        "" => format!("{} {name}", finding.kind),
        namespace => format!("{} {namespace}/{name}", finding.kind),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Some20;

    fn tally() -> Tally {
        let mut tally = Tally::default();
        let workflow = Declared {
            namespace: "ai".into(),
            name: "triage".into(),
            uid: "w-1".into(),
            generation: Some(3),
            account: "triage".into(),
            secrets: Vec::new(),
            way: None,
        };
        tally.declared("ai", &workflow);
        tally
    }

    fn finding(namespace: &str, kind: &str, workflow: Option<&str>, rule: &str, severity: Severity) -> Finding {
        Finding {
            namespace: namespace.into(),
            kind: kind.into(),
            name: "x".into(),
            workflow: workflow.map(str::to_owned),
            rule: rule.into(),
            path: String::new(),
            value: None,
            message: String::new(),
            fix: String::new(),
            severity,
        }
    }

    #[test]
    fn findings_go_to_their_workflow_and_are_counted_whosever_they_are() {
        let mut tally = tally();
        for (namespace, kind, workflow, rule) in [
            ("ai", "Deployment", Some("triage"), "approved-images"),
            ("ai", "Pod", Some("triage"), "approved-images"),
            ("ai", "Pod", None, "declared-workflow"),
            ("ai", "Pod", Some("nobody"), "declared-workflow"),
            ("ai", "NetworkPolicy", Some("triage"), "foreign-network-policy"),
            ("ai", "Service", Some("triage"), "closed-service"),
            ("there", "RoleBinding", Some("ai/triage"), "extra-binding"),
            ("", "ClusterRoleBinding", Some("ai/triage"), "extra-binding"),
        ] {
            tally.found(finding(namespace, kind, workflow, rule, Severity::Error));
        }
        tally.found(finding("ai", "Deployment", Some("triage"), "hints", Severity::Warning));
        tally.refused_pod("ai", Some("triage"), "p");
        tally.refused_pod("ai", None, "q");
        let compliance = &tally.workflows[&("ai".to_owned(), "triage".to_owned())];
        let names = |list: &Some20| list.names().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!((compliance.uid.as_str(), compliance.generation), ("w-1", Some(3)));
        assert_eq!(names(&compliance.pods), ["p"]);
        assert_eq!(names(&compliance.workloads), ["Deployment ai/x"]);
        assert_eq!(names(&compliance.openings), ["NetworkPolicy ai/x", "Service ai/x"]);
        assert_eq!(
            names(&compliance.bindings),
            ["ClusterRoleBinding x", "RoleBinding there/x"]
        );
        let counted: Vec<_> = tally
            .rules
            .iter()
            .map(|(rule, count)| (rule.as_str(), *count))
            .collect();
        assert_eq!(
            counted,
            [
                ("approved-images", 2),
                ("closed-service", 1),
                ("declared-workflow", 2),
                ("extra-binding", 2),
                ("foreign-network-policy", 1),
                ("hints", 1),
            ]
        );
    }

    #[test]
    fn what_every_account_holds_is_said_of_each_workflow_and_counts_once() {
        let mut tally = tally();
        let other = Declared {
            namespace: "other".into(),
            name: "index".into(),
            uid: "w-2".into(),
            generation: Some(1),
            account: "index".into(),
            secrets: Vec::new(),
            way: None,
        };
        tally.declared("other", &other);
        tally.found(finding(
            "",
            "ClusterRoleBinding",
            None,
            "extra-binding",
            Severity::Error,
        ));
        for compliance in tally.workflows.values() {
            assert_eq!(compliance.shared.names().collect::<Vec<_>>(), ["ClusterRoleBinding x"]);
            assert_eq!(compliance.bindings, Some20::default());
        }
        assert_eq!(tally.rules["extra-binding"], 1);
        // Of those of one namespace it is their own.
        tally.found(finding("ai", "RoleBinding", None, "extra-binding", Severity::Error));
        let own = |namespace: &str, name: &str| {
            let compliance = &tally.workflows[&(namespace.to_owned(), name.to_owned())];
            compliance.bindings.names().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(own("ai", "triage"), ["RoleBinding ai/x"]);
        assert_eq!(own("other", "index"), [""; 0]);
    }

    /// RBAC takes such names.
    #[test]
    fn a_name_in_a_condition_cannot_speak_to_a_terminal() {
        let mut tally = tally();
        let hostile = Finding {
            name: "a\u{1b}[2J\nError\u{202e}".into(),
            ..finding("ai", "RoleBinding", Some("triage"), "extra-binding", Severity::Error)
        };
        tally.found(hostile);
        let compliance = &tally.workflows[&("ai".to_owned(), "triage".to_owned())];
        let names: Vec<_> = compliance.bindings.names().collect();
        assert_eq!(names, ["RoleBinding ai/a [2J Error "]);
    }

    /// Names are kept once for each workflow, and there may be thousands of both.
    #[test]
    fn what_a_workflow_keeps_of_long_names_is_little() {
        let mut tally = tally();
        let long = "x".repeat(480_000);
        for workflow in [Some("triage"), None] {
            let name = format!("{}{long}", workflow.unwrap_or_default());
            let finding = finding("ai", "RoleBinding", workflow, "extra-binding", Severity::Error);
            tally.found(Finding { name, ..finding });
        }
        tally.gap(Extent {
            gaps: vec![format!("RoleBinding {long} was not looked at")],
            ..Extent::default()
        });
        let compliance = &tally.workflows[&("ai".to_owned(), "triage".to_owned())];
        let names: usize = compliance.bindings.names().map(str::len).sum();
        assert_eq!(compliance.bindings.names().count(), 2);
        assert!(names < 600, "{names}");
        assert_eq!(compliance.gap.as_ref().map(String::len), Some(MAX_GAP));
        assert!(tally.extent.gaps[0].len() > long.len());
    }

    #[test]
    fn a_gap_is_known_to_the_workflows_that_it_concerns() {
        let mut tally = tally();
        let gap = |text: &str| Extent {
            gaps: vec![text.to_owned()],
            ..Extent::default()
        };
        tally.looked_at_namespace("other", &gap("pods of other"));
        let of_triage = |tally: &Tally| tally.workflows[&("ai".to_owned(), "triage".to_owned())].gap.clone();
        assert_eq!(of_triage(&tally), None);
        tally.gap(gap("bindings"));
        assert_eq!(of_triage(&tally).as_deref(), Some("bindings"));
        assert_eq!(tally.extent.gaps, ["pods of other", "bindings"]);
    }
}
