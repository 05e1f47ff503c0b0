//! One policy: from its text to a prepared engine that is cloned for each evaluation.
//!
//! Each policy has an engine of its own, so that two of the same package cannot add rules to each other. Must never evaluate
//! on the prepared engine itself: a panic leaves an engine that answers nothing but errors.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, PolicyLengthConfig, Value};
use serde::{Deserialize, Serialize};

use super::builtins;
use super::convert::Converter;
use super::error::{EvalError, LoadError};
use super::findings::{Defaults, Findings};
use super::lexical;
use super::metadata::{Metadata, RegoVersion};
use super::rewrite::{self, Origins};
use super::vet::{self, EntryPoint, Purpose, Vetted};

/// Steps of the engine between two looks at the clock: a look costs as much as a step.
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::new(64).unwrap();

/// One file of Rego.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Source {
    /// Its name in errors.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// What a loaded policy is.
#[derive(Clone, Debug)]
pub struct PolicyInfo {
    /// Its METADATA.
    pub metadata: Metadata,
    /// Its file.
    pub file: String,
    /// The rules that give its verdict.
    pub entry_points: Vec<EntryPoint>,
    /// `input.parameters`: the defaults with the platform's values over them.
    pub parameters: BTreeMap<String, serde_json::Value>,
}

/// A policy, ready to be evaluated.
pub(super) struct Policy {
    pub info: PolicyInfo,
    pub parameters: Value,
    engine: Engine,
    origins: Origins,
    entries: Vec<(EntryPoint, String)>,
}

impl Policy {
    pub(super) fn compile(
        metadata: Metadata,
        source: &Source,
        parameters: Option<&serde_json::Value>,
        defaults_are_complete: bool,
    ) -> Result<Self, Vec<LoadError>> {
        let parameters = effective(&metadata, source, parameters, defaults_are_complete)?;
        let mut engine = new_engine(&source.file)?;
        let mut origins = Origins::default();
        let module = add(&mut engine, source, metadata.rego, Purpose::Policy, &mut origins)?;
        let entries: Vec<_> = module
            .vetted
            .entry_points
            .iter()
            .map(|entry| (*entry, module.rule_path(entry.as_str())))
            .collect();
        for (_, path) in &entries {
            prepare(&mut engine, &source.file, path, &origins)?;
        }
        let json = serde_json::Value::Object(parameters.clone().into_iter().collect());
        let Some(value) = Converter::new(None).convert(&json) else {
            return Err(vec![LoadError::file(
                &source.file,
                "the parameters are nested too deeply",
            )]);
        };
        let info = PolicyInfo {
            metadata,
            file: source.file.clone(),
            entry_points: module.vetted.entry_points,
            parameters,
        };
        Ok(Self {
            info,
            parameters: value,
            engine,
            origins,
            entries,
        })
    }

    /// Evaluates every entry point; the time is for all of them.
    pub(super) fn evaluate(
        &self,
        input: Value,
        path: &str,
        limit: &mut dyn FnMut() -> Duration,
    ) -> Result<Findings, EvalError> {
        let metadata = &self.info.metadata;
        let defaults = Defaults {
            policy: &metadata.name,
            title: &metadata.title,
            fix: &metadata.remediation,
            path,
        };
        // The clone is dropped, whatever happened to it; nothing else is reachable from the closure.
        let run = AssertUnwindSafe(|| {
            let mut engine = self.engine.clone();
            engine.set_input(input);
            let mut findings = Findings::default();
            for (entry, path) in &self.entries {
                let value = evaluate_rule(&mut engine, path, limit(), &self.origins)?;
                findings.add(*entry, &value, &defaults)?;
            }
            Ok(findings.finish())
        });
        catch_unwind(run).unwrap_or(Err(EvalError::Panic))
    }
}

/// A module that was added to an engine.
pub(super) struct Module {
    pub vetted: Vetted,
    package: Vec<String>,
}

impl Module {
    /// Path of a rule, with brackets where a component is no identifier.
    pub(super) fn rule_path(&self, rule: &str) -> String {
        let mut path = "data".to_owned();
        for component in self.package.iter().map(String::as_str).chain([rule]) {
            let plain = component.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !component.starts_with(|c: char| c.is_ascii_digit());
            if plain {
                path.push('.');
                path.push_str(component);
            } else {
                path.push_str(&format!("[{}]", serde_json::Value::from(component)));
            }
        }
        path
    }
}

pub(super) fn new_engine(file: &str) -> Result<Engine, Vec<LoadError>> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    // Otherwise `print` writes what it is given, and so the request, to standard error.
    engine.set_gather_prints(true);
    // The author's text is held to the engine's own limits before: what is made of it has longer lines.
    engine.set_policy_length_config(PolicyLengthConfig {
        max_col: NonZeroU32::MAX,
        max_file_bytes: NonZeroUsize::MAX,
        max_lines: NonZeroUsize::MAX,
    });
    builtins::install(&mut engine).map_err(|error| vec![LoadError::engine(file, &error, &Origins::default())])?;
    Ok(engine)
}

/// Adds a module once its text and its tree have been found harmless.
pub(super) fn add(
    engine: &mut Engine,
    source: &Source,
    version: RegoVersion,
    purpose: Purpose,
    origins: &mut Origins,
) -> Result<Module, Vec<LoadError>> {
    let Source { file, text } = source;
    lexical::check(file, text).map_err(|error| vec![error])?;
    let failed = |error: &anyhow::Error| vec![LoadError::engine(file, error, &Origins::default())];
    let unreadable = || {
        vec![LoadError::file(
            file,
            "the policy is nested too deeply: name the inner parts as rules",
        )]
    };
    // Vetted in an engine of its own first: a module cannot be taken out of an engine again.
    let mut alone = Engine::new();
    let parse = |engine: &mut Engine, text: &str| {
        engine.set_rego_v0(version == RegoVersion::V0);
        catch_unwind(AssertUnwindSafe(|| engine.add_policy(file.clone(), text.to_owned())))
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the parser panicked")))
    };
    parse(&mut alone, text).map_err(|error| failed(&error))?;
    let tree = alone.get_ast_as_json().map_err(|_| unreadable())?;
    let tree: serde_json::Value = serde_json::from_str(&tree).map_err(|_| unreadable())?;
    let Some(module) = tree.get(0).and_then(|module| module.get("ast")) else {
        return Err(unreadable());
    };
    let package = alone.get_policy_package_components().map_err(|error| failed(&error))?;
    let package = package
        .into_iter()
        .next()
        .map(|package| package.components)
        .unwrap_or_default();
    let vetted = vet::vet(file, text, module, &package, purpose)?;
    let rewritten = rewrite::rewrite(file, text, module)?;
    origins.add(file, rewritten.places);
    parse(engine, &rewritten.text).map_err(|error| vec![LoadError::engine(file, &error, origins)])?;
    Ok(Module { vetted, package })
}

/// Makes the engine analyse the rules now, so that what it finds is a load error, and clones need not do it again.
pub(super) fn prepare(engine: &mut Engine, file: &str, rule: &str, origins: &Origins) -> Result<(), Vec<LoadError>> {
    let compile = AssertUnwindSafe(|| engine.compile_with_entrypoint(&rule.into()).map(drop));
    catch_unwind(compile)
        .unwrap_or_else(|_| Err(anyhow::anyhow!("the engine panicked while it analysed the rules")))
        .map_err(|error| vec![LoadError::engine(file, &error, origins)])
}

pub(super) fn evaluate_rule(
    engine: &mut Engine,
    path: &str,
    limit: Duration,
    origins: &Origins,
) -> Result<Value, EvalError> {
    if limit.is_zero() {
        return Err(EvalError::Timeout);
    }
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit,
        check_interval: CHECK_INTERVAL,
    });
    engine
        .eval_rule(path.to_owned())
        .map_err(|error| EvalError::engine(&error, origins))
}

/// Defaults with overrides over them. A name or a type that the policy does not know is an error, not a rule switched off.
fn effective(
    metadata: &Metadata,
    source: &Source,
    parameters: Option<&serde_json::Value>,
    defaults_are_complete: bool,
) -> Result<BTreeMap<String, serde_json::Value>, Vec<LoadError>> {
    use serde_json::Value as Json;
    let wrong = |message: String| LoadError::file(&source.file, format!("policy {}: {message}", metadata.name));
    let mut effective = metadata.parameters.clone();
    let overrides = match parameters {
        None => return Ok(effective),
        Some(Json::Object(overrides)) => overrides,
        Some(_) => {
            return Err(vec![wrong(
                "its parameters must be an object of names and values".to_owned(),
            )]);
        }
    };
    let mut errors = Vec::new();
    for (name, value) in overrides {
        let known: Vec<_> = metadata.parameters.keys().map(String::as_str).collect();
        match metadata.parameters.get(name) {
            None if defaults_are_complete => {
                errors.push(wrong(format!(
                    "it has no parameter `{name}`; it has: {}",
                    known.join(", ")
                )));
            }
            Some(default) if !default.is_null() && std::mem::discriminant(default) != std::mem::discriminant(value) => {
                errors.push(wrong(format!(
                    "parameter `{name}` must be of the type of its default, {default}"
                )));
            }
            _ => {
                effective.insert(name.clone(), value.clone());
            }
        }
    }
    if errors.is_empty() { Ok(effective) } else { Err(errors) }
}
