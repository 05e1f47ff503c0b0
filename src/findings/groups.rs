//! Findings by rule, as warnings to who sets a mode: what would be refused, the worst first, one example and a number each.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Extent, Finding, Severity, Sink};
use crate::api::Mode;
use crate::review::Violation;

/// Rule of what is said about the whole.
const RULE: &str = "namespace-mode";

/// What was found, by rule. Grows with the number of rules alone.
#[derive(Debug, Default)]
pub struct Groups {
    rules: BTreeMap<(Severity, String), Group>,
}

#[derive(Debug)]
struct Group {
    /// How many rules were heard of before it: what a fence rule says of an object comes before what policies say.
    order: usize,
    example: Finding,
    objects: usize,
    last: (String, String),
}

impl Sink for Groups {
    fn found(&mut self, finding: Finding) {
        let object = (finding.kind.clone(), finding.name.clone());
        match self.rules.get_mut(&(finding.severity, finding.rule.clone())) {
            Some(group) if group.last == object => {}
            Some(group) => {
                group.objects += 1;
                group.last = object;
            }
            None => {
                let group = Group {
                    order: self.rules.len(),
                    objects: 1,
                    last: object,
                    example: finding,
                };
                self.rules
                    .insert((group.example.severity, group.example.rule.clone()), group);
            }
        }
    }
}

impl Groups {
    /// The warnings to who sets that mode: what it comes to, gaps in what was looked at, then one for each rule. None where all
    /// of it was looked at and fits.
    pub fn warnings(self, namespace: &str, mode: Mode, extent: &Extent) -> Vec<Violation> {
        let mut warnings = Vec::new();
        if extent.refused > 0 {
            let message = format!(
                "{} of the {} workloads and bare pods here would be refused if they were made under enforce; what runs goes on",
                extent.refused, extent.units
            );
            let fix = match mode {
                Mode::Enforce => "correct them now, or set ringfence.dev/warn until they are",
                Mode::Audit | Mode::Warn => "correct them before ringfence.dev/enforce is set",
            };
            warnings.push(about(message, fix.to_owned()));
        }
        let whole = format!("see all of it: ringfence check namespace {namespace}");
        if extent.cut {
            let message = format!("only the first {} pods and workloads were looked at", extent.looked);
            warnings.push(about(message, whole.clone()));
        }
        for gap in &extent.gaps {
            warnings.push(about(format!("this list is incomplete: {gap}"), whole.clone()));
        }
        let mut groups: Vec<_> = self.rules.into_values().collect();
        groups.sort_by(|one, other| {
            let rank = |group: &Group| (group.example.severity, Reverse(group.objects), group.order);
            rank(one).cmp(&rank(other))
        });
        warnings.extend(groups.into_iter().map(Group::warning));
        warnings
    }
}

impl Group {
    fn warning(self) -> Violation {
        let Self { example, objects, .. } = self;
        let mut message = format!("{} {}", example.kind.to_lowercase(), example.name);
        match objects {
            0 | 1 => message.push_str(": "),
            more => message.push_str(&format!(" (and {} more): ", more - 1)),
        }
        if !example.path.is_empty() {
            message.push_str(&example.path);
            if let Some(value) = &example.value {
                message.push_str(&format!(" = {value:?}"));
            }
            message.push_str(": ");
        }
        message.push_str(&example.message);
        Violation {
            policy: example.rule,
            path: String::new(),
            value: None,
            message,
            fix: example.fix,
        }
    }
}

fn about(message: String, fix: String) -> Violation {
    Violation {
        policy: RULE.to_owned(),
        path: String::new(),
        value: None,
        message,
        fix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: &str, name: &str, rule: &str, severity: Severity) -> Finding {
        Finding {
            namespace: "ai".into(),
            kind: kind.into(),
            name: name.into(),
            workflow: None,
            rule: rule.into(),
            path: "spec.x".into(),
            value: Some("v".into()),
            message: "is wrong".into(),
            fix: "correct it".into(),
            severity,
        }
    }

    fn told(groups: Groups, extent: &Extent) -> Vec<String> {
        let warnings = groups.warnings("ai", Mode::Enforce, extent);
        warnings
            .into_iter()
            .map(|warning| format!("[{}] {}", warning.policy, warning.message))
            .collect()
    }

    #[test]
    fn each_rule_is_told_once_with_an_example_and_a_number_the_worst_first() {
        let mut groups = Groups::default();
        groups.found(finding("Deployment", "w", "hints", Severity::Warning));
        groups.found(finding("Deployment", "a", "images", Severity::Error));
        groups.found(finding("Deployment", "a", "images", Severity::Error));
        groups.found(finding("Deployment", "a", "label", Severity::Error));
        groups.found(finding("Deployment", "b", "label", Severity::Error));
        groups.found(finding("Job", "b", "label", Severity::Error));
        let extent = Extent {
            units: 7,
            refused: 3,
            ..Extent::default()
        };
        assert_eq!(
            told(groups, &extent),
            [
                "[namespace-mode] 3 of the 7 workloads and bare pods here would be refused if they were made under enforce; what runs goes on",
                "[label] deployment a (and 2 more): spec.x = \"v\": is wrong",
                "[images] deployment a: spec.x = \"v\": is wrong",
                "[hints] deployment w: spec.x = \"v\": is wrong",
            ]
        );
    }

    #[test]
    fn what_was_not_looked_at_is_said_before_what_was_found() {
        let mut groups = Groups::default();
        groups.found(finding("Job", "b", "label", Severity::Error));
        let extent = Extent {
            looked: 1000,
            refused: 1,
            gaps: vec!["the jobs of namespace ai could not be read".to_owned()],
            cut: true,
            ..Extent::default()
        };
        let told = told(groups, &extent);
        assert_eq!(
            told[1],
            "[namespace-mode] only the first 1000 pods and workloads were looked at"
        );
        assert_eq!(
            told[2],
            "[namespace-mode] this list is incomplete: the jobs of namespace ai could not be read"
        );
        assert_eq!(told.len(), 4);
    }

    #[test]
    fn where_all_fits_there_is_nothing_to_say() {
        assert_eq!(told(Groups::default(), &Extent::default()), [""; 0]);
    }
}
