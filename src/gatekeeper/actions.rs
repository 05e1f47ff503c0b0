//! What a violation of a constraint does: `enforcementAction`, and `scopedEnforcementActions` as far as they are about requests.
//!
//! Must never: make an action of a word that it does not know.

use serde_json::Value;

use crate::api::{FailurePolicy, ValidationAction};

/// Where an action may be scoped to.
const WEBHOOK: &str = "validation.gatekeeper.sh";
const AUDIT: &str = "audit.gatekeeper.sh";
const OTHERS: [&str; 2] = ["gator.gatekeeper.sh", "vap.k8s.io"];
const EVERYWHERE: &str = "*";

/// What violations do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Actions {
    pub(super) action: ValidationAction,
    pub(super) notes: Vec<String>,
}

impl Actions {
    /// One of `deny`, `warn` and `dryrun`.
    pub(super) fn of_word(word: &str) -> Option<ValidationAction> {
        match word {
            "deny" => Some(ValidationAction::Deny),
            "warn" => Some(ValidationAction::Warn),
            "dryrun" => Some(ValidationAction::Audit),
            _ => None,
        }
    }

    /// Reads a constraint's `spec`.
    pub(super) fn read(spec: &Value) -> Result<Self, Vec<String>> {
        let word = match spec.get("enforcementAction") {
            None | Some(Value::Null) => "deny",
            Some(Value::String(word)) => word,
            Some(_) => return Err(vec!["spec.enforcementAction: must be a text".to_owned()]),
        };
        if word == "scoped" {
            return Self::scoped(spec.get("scopedEnforcementActions"));
        }
        let action = Self::of_word(word)
            .ok_or_else(|| vec!["spec.enforcementAction: must be one of deny, warn, dryrun, scoped".to_owned()])?;
        Ok(Self {
            action,
            notes: Vec::new(),
        })
    }

    fn scoped(list: Option<&Value>) -> Result<Self, Vec<String>> {
        const AT: &str = "spec.scopedEnforcementActions";
        let Some(Value::Array(entries)) = list else {
            return Err(vec![format!("{AT}: must be a list where enforcementAction is scoped")]);
        };
        let mut problems = Vec::new();
        let (mut of_requests, mut of_audits) = (Vec::new(), Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            let word = entry.get("action").and_then(Value::as_str).unwrap_or_default();
            let Some(action) = Self::of_word(word) else {
                problems.push(format!("{AT}[{index}].action: must be one of deny, warn, dryrun"));
                continue;
            };
            let points = entry.get("enforcementPoints").and_then(Value::as_array);
            let points: Vec<_> = points
                .into_iter()
                .flatten()
                .map(|point| point.get("name").and_then(Value::as_str).unwrap_or_default())
                .collect();
            let known = |point: &&str| [WEBHOOK, AUDIT, EVERYWHERE].contains(point) || OTHERS.contains(point);
            if points.is_empty() || !points.iter().all(known) {
                problems.push(format!(
                    "{AT}[{index}].enforcementPoints: must hold {WEBHOOK}, {AUDIT}, {}, or *",
                    OTHERS.join(", ")
                ));
            }
            let is_at = |point: &str| points.iter().any(|at| *at == point || *at == EVERYWHERE);
            if is_at(WEBHOOK) {
                of_requests.push(action);
            }
            if is_at(AUDIT) {
                of_audits.push(action);
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut notes = Vec::new();
        let action = match (of_requests.iter().max(), of_audits.is_empty()) {
            (Some(action), _) => {
                if of_requests.contains(&ValidationAction::Deny) && of_requests.contains(&ValidationAction::Warn) {
                    notes.push("it denies and warns in Gatekeeper; here it denies, which says the same".to_owned());
                }
                *action
            }
            (None, false) => {
                notes.push(format!(
                    "it acts at {AUDIT} alone; here requests are audited too, behind their answers"
                ));
                ValidationAction::Audit
            }
            (None, true) => {
                return Err(vec![format!(
                    "{AT}: names neither {WEBHOOK} nor {AUDIT}: there is nothing in a cluster that it would act on"
                )]);
            }
        };
        Ok(Self { action, notes })
    }
}

/// What it means that there is no verdict. What refuses in Gatekeeper refuses, and what only warns keeps nobody waiting.
pub(super) fn failure_policy(action: ValidationAction) -> FailurePolicy {
    match action {
        ValidationAction::Deny => FailurePolicy::Fail,
        ValidationAction::Warn | ValidationAction::Audit => FailurePolicy::Ignore,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use ValidationAction::{Audit, Deny, Warn};

    fn scoped(entries: Value) -> Value {
        json!({"enforcementAction": "scoped", "scopedEnforcementActions": entries})
    }

    fn entry(action: &str, points: &[&str]) -> Value {
        let points: Vec<_> = points.iter().map(|name| json!({"name": name})).collect();
        json!({"action": action, "enforcementPoints": points})
    }

    #[rstest]
    #[case(json!({}), Deny)]
    #[case(json!({"enforcementAction": "deny"}), Deny)]
    #[case(json!({"enforcementAction": "warn"}), Warn)]
    #[case(json!({"enforcementAction": "dryrun"}), Audit)]
    #[case(json!({"enforcementAction": "warn", "scopedEnforcementActions": [entry("deny", &["*"])]}), Warn)]
    #[case(scoped(json!([entry("deny", &["validation.gatekeeper.sh"])])), Deny)]
    #[case(scoped(json!([entry("warn", &["*"])])), Warn)]
    #[case(scoped(json!([entry("deny", &["audit.gatekeeper.sh"]), entry("warn", &["validation.gatekeeper.sh"])])), Warn)]
    #[case(scoped(json!([entry("deny", &["*"]), entry("warn", &["validation.gatekeeper.sh"])])), Deny)]
    #[case(scoped(json!([entry("deny", &["audit.gatekeeper.sh"])])), Audit)]
    fn actions_are_those_of_requests(#[case] spec: Value, #[case] action: ValidationAction) {
        assert_eq!(Actions::read(&spec).map(|found| found.action), Ok(action));
    }

    #[rstest]
    #[case(json!({"enforcementAction": ""}), "must be one of")]
    #[case(json!({"enforcementAction": "Deny"}), "must be one of")]
    #[case(json!({"enforcementAction": 1}), "must be a text")]
    #[case(json!({"enforcementAction": "scoped"}), "must be a list")]
    #[case(scoped(json!([])), "names neither")]
    #[case(scoped(json!([entry("deny", &[])])), "enforcementPoints")]
    #[case(scoped(json!([entry("deny", &["webhook"])])), "enforcementPoints")]
    #[case(scoped(json!([entry("scoped", &["*"])])), "action")]
    #[case(scoped(json!([entry("deny", &["gator.gatekeeper.sh", "vap.k8s.io"])])), "names neither")]
    fn what_acts_on_nothing_or_is_unknown_is_a_problem(#[case] spec: Value, #[case] words: &str) {
        let problems = Actions::read(&spec).expect_err("a problem").join("; ");
        assert!(problems.contains(words), "{problems}");
    }
}
