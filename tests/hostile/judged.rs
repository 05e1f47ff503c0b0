//! One policy and one request: what Ringfence makes of them, and what OPA does.

use std::collections::BTreeMap;
use std::time::Duration;

use ringfence::policy::{EvalError, Plain, PolicyInput, PolicySet, RegoVersion, Source, Target};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use support::opa::{Answer, Opa};

use crate::grammar::{self, Made};
use crate::inputs;
use crate::random::Random;

/// What becomes of a request.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Verdict {
    /// The messages; none where it passes.
    Says(Vec<String>),
    /// No verdict, and so a refusal: the policy was not loaded, or failed.
    Refused(String),
    Failed(String),
}

pub fn made(number: u64) -> (Made, Value) {
    let mut random = Random::new(number);
    let policy = grammar::policy(&mut random);
    let request = inputs::request(&mut random);
    (policy, request)
}

/// How long one evaluation may take.
pub const BUDGET: Duration = Duration::from_secs(2);

pub fn ours(policy: &Made, request: &Value) -> Verdict {
    let plain = Plain {
        name: "p".to_owned(),
        target: Target::Pod,
        rego: if policy.v0 { RegoVersion::V0 } else { RegoVersion::V1 },
    };
    let source = Source {
        file: "p.rego".to_owned(),
        text: policy.text.clone(),
    };
    let set = match PolicySet::compile_plain(vec![(plain, source)], &BTreeMap::new()) {
        Ok(set) => set,
        Err(errors) => {
            return Verdict::Refused(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        }
    };
    let input = PolicyInput {
        target: Target::Pod,
        request,
        pod: None,
        workflow: None,
        class: None,
        engine: None,
        namespace: None,
    };
    let mut verdicts = set.evaluate(&input, BUDGET);
    match verdicts.pop().map(|verdict| verdict.outcome) {
        Some(Ok(findings)) => {
            let mut says: Vec<_> = findings.deny.into_iter().map(|finding| finding.message).collect();
            says.sort();
            says.dedup();
            Verdict::Says(says)
        }
        Some(Err(EvalError::Panic)) => Verdict::Failed("the engine panicked".to_owned()),
        Some(Err(error)) => Verdict::Failed(error.to_string()),
        None => Verdict::Failed("it was not asked".to_owned()),
    }
}

/// `lax`: with errors of built-in functions for undefined, as OPA has it where nobody says otherwise.
pub fn theirs(opa: &mut Opa, policy: &Made, request: &Value, lax: bool) -> Verdict {
    let input = json!({"request": request, "review": request, "parameters": {}});
    let query = format!("data.p.{}", policy.entry);
    let answer = if lax {
        opa.ask_lax(&policy.text, policy.v0, &input, &query)
    } else {
        opa.ask(&policy.text, policy.v0, &input, &query)
    };
    match (policy.entry, answer.expect("OPA answers")) {
        (_, Answer::Error(error)) if error.contains("rego_") => Verdict::Refused(error),
        (_, Answer::Error(error)) => Verdict::Failed(error),
        ("allow", Answer::Value(Value::Bool(true))) => Verdict::Says(Vec::new()),
        ("allow", _) => Verdict::Says(vec!["Policy p: `allow` is not true".to_owned()]),
        (_, Answer::Value(Value::Array(found))) => {
            let message = |value: &Value| value.get("msg").unwrap_or(value).as_str().map(str::to_owned);
            match found.iter().map(message).collect::<Option<Vec<_>>>() {
                Some(mut says) => {
                    says.sort();
                    says.dedup();
                    Verdict::Says(says)
                }
                None => Verdict::Failed("no messages".to_owned()),
            }
        }
        (_, other) => Verdict::Failed(format!("{other:?}")),
    }
}
