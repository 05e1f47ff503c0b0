//! Runs the `test_*` rules of Rego tests, or one rule, in the engine and under the rules that a policy itself runs in.
//!
//! Must never: take a rule that is not `true` for one that passes, or load for a test what the cluster would refuse.

mod cover;
mod suite;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use regorus::Value;

pub use cover::{FileCoverage, Stop};
pub use suite::{Ran, Suite, TestRule, TestVerdict, Testing};

use super::compile::{self, Source};
use super::convert::Converter;
use super::error::{EvalError, LoadError};
use super::metadata::{self, RegoVersion};
use super::rewrite::Origins;
use super::vet::Purpose;

/// Longest run of one test rule, where nobody says another.
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
    let testing = Testing::load(&Suite {
        policies: vec![policy.clone()],
        modules: Vec::new(),
        tests: vec![tests.clone()],
        version: metadata.rego,
    })?;
    if testing.rules().is_empty() {
        return Err(vec![LoadError::file(
            &tests.file,
            "there is no rule whose name starts with `test_`",
        )]);
    }
    let ran = testing.rules().iter().enumerate().filter_map(|(number, rule)| {
        let outcome = match testing.run(number, LIMIT, false)?.verdict {
            TestVerdict::Passed => Ok(true),
            TestVerdict::Failed(_) => Ok(false),
            TestVerdict::Error(what) => Err(EvalError::Error(what)),
        };
        let name = rule.name.clone();
        Some(TestOutcome { name, outcome })
    });
    Ok(ran.collect())
}

/// Why a rule has no value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The module was refused.
    Load(Vec<LoadError>),
    /// The rule failed.
    Eval(EvalError),
}

/// Value of one rule of a module, which needs no METADATA and no verdict; `None` where it is undefined. Sets become sorted
/// arrays. It is what conformance is measured by, so nothing may differ from how a policy is loaded and evaluated.
pub fn evaluate(
    source: &Source,
    version: RegoVersion,
    rule: &str,
    input: &serde_json::Value,
) -> Result<Option<serde_json::Value>, Failure> {
    let mut engine = compile::new_engine(&source.file).map_err(Failure::Load)?;
    let mut origins = Origins::default();
    let like = compile::Like {
        version,
        purpose: Purpose::Query,
        inventory: false,
    };
    let module = std::slice::from_ref(source);
    let module = compile::add(&mut engine, module, like, &mut origins).map_err(Failure::Load)?;
    let path = module.rule_path(rule);
    compile::prepare(&mut engine, &source.file, &path, &origins).map_err(Failure::Load)?;
    let failed = |what: &str| Failure::Eval(EvalError::Error(what.to_owned()));
    let input = Converter::new(None).convert(input);
    let input = input.ok_or_else(|| failed("the input is nested too deeply"))?;
    let run = AssertUnwindSafe(|| {
        let mut engine = engine.clone();
        engine.set_input(input);
        compile::evaluate_rule(&mut engine, &path, LIMIT, &origins)
    });
    let value = catch_unwind(run)
        .unwrap_or(Err(EvalError::Panic))
        .map_err(Failure::Eval)?;
    if value == Value::Undefined {
        return Ok(None);
    }
    let text = value.to_json_str().map_err(|_| failed("the value is no JSON"))?;
    let json = serde_json::from_str(&text).map_err(|_| failed("the value is no JSON"))?;
    Ok(Some(json))
}
