//! Runs the `test_*` rules of a policy's tests, in the engine and under the rules that the policy itself runs in.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use regorus::Value;

use super::compile::{self, Source};
use super::error::{EvalError, LoadError};
use super::metadata;
use super::vet::Purpose;

/// Longest run of one test rule.
const LIMIT: Duration = Duration::from_secs(10);

/// Outcome of one `test_*` rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TestOutcome {
    /// Name of the rule.
    pub name: String,
    /// `true` when the rule is `true`; everything else, undefined included, is a failure.
    pub outcome: Result<bool, EvalError>,
}

/// Runs the tests of one policy, in the order of the file. The policy needs its METADATA, for the version of the language.
pub fn run_tests(policy: &Source, tests: &Source) -> Result<Vec<TestOutcome>, Vec<LoadError>> {
    let metadata = metadata::parse(&policy.file, &policy.text).map_err(|error| vec![error])?;
    let mut engine = compile::new_engine(&tests.file)?;
    compile::add(&mut engine, policy, metadata.rego, Purpose::Policy)?;
    let module = compile::add(&mut engine, tests, metadata.rego, Purpose::Tests)?;
    let names: Vec<_> = module
        .vetted
        .rules
        .iter()
        .filter(|name| name.starts_with("test_"))
        .cloned()
        .collect();
    if names.is_empty() {
        return Err(vec![LoadError::file(
            &tests.file,
            "there is no rule whose name starts with `test_`",
        )]);
    }
    for name in &names {
        compile::prepare(&mut engine, &tests.file, &module.rule_path(name))?;
    }
    Ok(names
        .into_iter()
        .map(|name| {
            let run = AssertUnwindSafe(|| compile::evaluate_rule(&mut engine.clone(), &module.rule_path(&name), LIMIT));
            let outcome = catch_unwind(run)
                .unwrap_or(Err(EvalError::Panic))
                .map(|value| value == Value::from(true));
            TestOutcome { name, outcome }
        })
        .collect())
}
