//! One policy: from its text to a prepared engine that is cloned for each evaluation.
//!
//! Each policy has an engine of its own, so that two of the same package cannot add rules to each other. Must never evaluate
//! on the prepared engine itself: a panic leaves an engine that answers nothing but errors.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, PolicyLengthConfig, Value};
use serde::{Deserialize, Serialize};

use super::builtins;
use super::convert::Converter;
use super::deadline;
use super::error::{EvalError, LoadError};
use super::findings::{Defaults, Findings};
use super::lexical;
use super::looks::Looks;
use super::memory;
use super::metadata::{Metadata, RegoVersion};
use super::rewrite::{self, Origins};
use super::spelling;
use super::vet::{self, EntryPoint, Purpose, Shape, Vetted};

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
    /// What of the input it may look at.
    pub looks: Looks,
}

/// A policy, ready to be evaluated.
pub(super) struct Policy {
    pub info: PolicyInfo,
    pub parameters: Value,
    engine: Engine,
    origins: Origins,
    entries: Vec<Entry>,
    /// Whether its rules are asked with an inventory.
    looks: bool,
}

/// A rule that gives a verdict, and the path by which it is asked.
struct Entry {
    point: EntryPoint,
    shape: Shape,
    path: String,
}

impl Policy {
    pub(super) fn compile(
        metadata: Metadata,
        source: &Source,
        parameters: Option<&serde_json::Value>,
        defaults_are_complete: bool,
    ) -> Result<Self, Vec<LoadError>> {
        let parameters = effective(&metadata, source, parameters, defaults_are_complete)?;
        Self::of_modules(metadata, std::slice::from_ref(source), parameters, false)
    }

    /// A policy of several modules, of which the first one's package gives the verdict.
    pub(super) fn of_modules(
        metadata: Metadata,
        sources: &[Source],
        parameters: BTreeMap<String, serde_json::Value>,
        inventory: bool,
    ) -> Result<Self, Vec<LoadError>> {
        let file = sources.first().map_or("policy", |source| source.file.as_str());
        let mut engine = new_engine(file)?;
        let mut origins = Origins::default();
        let like = Like {
            version: metadata.rego,
            purpose: Purpose::Policy,
            inventory,
        };
        let module = add(&mut engine, sources, like, &mut origins)?;
        let mut entries = Vec::new();
        for (point, shape) in &module.vetted.entry_points {
            entries.push(Entry {
                point: *point,
                shape: *shape,
                path: module.rule_path(point.as_str()),
            });
        }
        if inventory {
            ask_with_inventory(&mut engine, &mut entries)
                .map_err(|error| vec![LoadError::engine(file, &error, &origins)])?;
        }
        for entry in &entries {
            prepare(&mut engine, file, &entry.path, &origins)?;
        }
        let json = serde_json::Value::Object(parameters.clone().into_iter().collect());
        let Some(value) = Converter::new(None).convert(&json) else {
            return Err(vec![LoadError::file(file, "the parameters are nested too deeply")]);
        };
        let info = PolicyInfo {
            metadata,
            file: file.to_owned(),
            entry_points: entries.iter().map(|entry| entry.point).collect(),
            parameters,
            looks: Looks::of(sources.iter().map(|source| source.text.as_str())),
        };
        Ok(Self {
            info,
            parameters: value,
            engine,
            origins,
            entries,
            looks: inventory,
        })
    }

    /// Evaluates every entry point; the time is for all of them. A policy that looks at an inventory has one, or no verdict.
    pub(super) fn evaluate(
        &self,
        input: Value,
        inventory: Option<Value>,
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
            engine.set_input(match (inventory, self.looks) {
                (Some(inventory), true) => both(input, inventory),
                (None, false) => input,
                (Some(_), false) | (None, true) => {
                    return Err(EvalError::Error(
                        "its inventory was not handed over as it was compiled".to_owned(),
                    ));
                }
            });
            let mut findings = Findings::default();
            for entry in &self.entries {
                let value = evaluate_rule(&mut engine, &entry.path, limit(), &self.origins)?;
                findings.add(entry.point, entry.shape, &value, &defaults)?;
            }
            Ok(findings.finish())
        });
        catch_unwind(run).unwrap_or(Err(EvalError::Panic))
    }
}

/// Modules that were added to an engine.
pub(super) struct Module {
    pub vetted: Vetted,
    pub parsed: Vec<Parsed>,
}

/// A module as its author has written it.
pub(super) struct Parsed {
    pub file: String,
    pub text: String,
    pub package: Vec<String>,
    /// The engine's rendering of its tree.
    pub tree: serde_json::Value,
}

impl Module {
    /// Path of a rule of the package that gives the verdict.
    pub(super) fn rule_path(&self, rule: &str) -> String {
        let package = self.parsed.first().map_or(&[][..], |main| &main.package);
        vet::rule_path(package, rule)
    }
}

pub(super) fn new_engine(file: &str) -> Result<Engine, Vec<LoadError>> {
    with_functions(file, builtins::install)
}

/// The same for tests, which may `print`.
pub(super) fn new_engine_for_tests(file: &str) -> Result<Engine, Vec<LoadError>> {
    with_functions(file, builtins::install_for_tests)
}

fn with_functions(
    file: &str,
    install: impl FnOnce(&mut Engine) -> anyhow::Result<()>,
) -> Result<Engine, Vec<LoadError>> {
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
    install(&mut engine).map_err(|error| vec![LoadError::engine(file, &error, &Origins::default())])?;
    Ok(engine)
}

/// How modules are taken.
#[derive(Clone, Copy)]
pub(super) struct Like {
    pub version: RegoVersion,
    pub purpose: Purpose,
    pub inventory: bool,
}

/// Adds modules once their texts and trees have been found harmless.
pub(super) fn add(
    engine: &mut Engine,
    sources: &[Source],
    like: Like,
    origins: &mut Origins,
) -> Result<Module, Vec<LoadError>> {
    add_beside(engine, &[], sources, like, origins)
}

/// The same of modules that look into others, which the engine has already.
pub(super) fn add_beside(
    engine: &mut Engine,
    there: &[Parsed],
    sources: &[Source],
    like: Like,
    origins: &mut Origins,
) -> Result<Module, Vec<LoadError>> {
    let texts = sources
        .iter()
        .map(|source| &source.text)
        .chain(there.iter().map(|module| &module.text));
    let empty: BTreeSet<_> = texts.flat_map(|text| spelling::without_parameters(text)).collect();
    let mut read = Vec::new();
    for source in sources {
        read.push(Read::parse(source, like.version, &empty)?);
    }
    let others = there.iter().map(|module| vet::Unit {
        file: &module.file,
        text: &module.text,
        tree: &module.tree,
        package: &module.package,
        purpose: None,
    });
    let units: Vec<_> = read
        .iter()
        .map(|module| module.unit(like.purpose))
        .chain(others)
        .collect();
    let vetted = vet::vet(&units, like.inventory)?;
    for (
        number,
        Read {
            source,
            text,
            tree,
            package,
        },
    ) in read.iter().enumerate()
    {
        let file = &source.file;
        let of_package = units
            .iter()
            .enumerate()
            .filter(|(other, unit)| *other != number && unit.package == package);
        let siblings: Vec<_> = of_package.map(|(_, unit)| unit.tree).collect();
        let rewritten = rewrite::rewrite(file, text, tree, &siblings, like.purpose == Purpose::Tests)?;
        origins.add(file, rewritten.places);
        parse(engine, file, &rewritten.text, like.version)
            .map_err(|error| vec![LoadError::engine(file, &error, origins)])?;
    }
    let parsed = read.into_iter().map(Read::parsed).collect();
    Ok(Module { vetted, parsed })
}

/// A module in an engine of its own: one cannot be taken out of an engine again.
struct Read<'a> {
    source: &'a Source,
    /// As the parser takes it.
    text: Cow<'a, str>,
    tree: serde_json::Value,
    package: Vec<String>,
}

impl<'a> Read<'a> {
    fn parse(source: &'a Source, version: RegoVersion, empty: &BTreeSet<String>) -> Result<Self, Vec<LoadError>> {
        let file = &source.file;
        lexical::bounded(file, &source.text).map_err(|error| vec![error])?;
        let text = spelling::spelled(&source.text, version, empty);
        lexical::check(file, &text).map_err(|error| vec![error])?;
        let failed = |error: &anyhow::Error| vec![LoadError::engine(file, error, &Origins::default())];
        let unreadable = || {
            vec![LoadError::file(
                file,
                "the policy is nested too deeply: name the inner parts as rules",
            )]
        };
        let mut alone = Engine::new();
        parse(&mut alone, file, &text, version).map_err(|error| failed(&error))?;
        let tree = alone.get_ast_as_json().map_err(|_| unreadable())?;
        let mut tree: serde_json::Value = serde_json::from_str(&tree).map_err(|_| unreadable())?;
        let tree = tree
            .pointer_mut("/0/ast")
            .map(serde_json::Value::take)
            .ok_or_else(unreadable)?;
        let package = alone.get_policy_package_components().map_err(|error| failed(&error))?;
        let package = package
            .into_iter()
            .next()
            .map(|package| package.components)
            .unwrap_or_default();
        Ok(Self {
            source,
            text,
            tree,
            package,
        })
    }

    fn unit(&self, purpose: Purpose) -> vet::Unit<'_> {
        vet::Unit {
            file: &self.source.file,
            text: &self.text,
            tree: &self.tree,
            package: &self.package,
            purpose: Some(purpose),
        }
    }

    fn parsed(self) -> Parsed {
        Parsed {
            file: self.source.file.clone(),
            text: self.source.text.clone(),
            package: self.package,
            tree: self.tree,
        }
    }
}

fn parse(engine: &mut Engine, file: &str, text: &str, version: RegoVersion) -> anyhow::Result<String> {
    engine.set_rego_v0(version == RegoVersion::V0);
    let add = AssertUnwindSafe(|| engine.add_policy(file.to_owned(), text.to_owned()));
    catch_unwind(add).unwrap_or_else(|_| Err(anyhow::anyhow!("the parser panicked")))
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
    let before = memory::Before::now();
    deadline::within(limit, || engine.eval_rule(path.to_owned()))
        .map_err(|error| before.blame(EvalError::engine(&error, origins)))
}

/// Puts a rule before each entry point that asks it with an inventory, which comes beside the input. Data that is added to an engine
/// makes it analyse all modules again, at every evaluation; `with` only puts it in its place, once both values have been read,
/// and every rule is evaluated under it.
fn ask_with_inventory(engine: &mut Engine, entries: &mut [Entry]) -> anyhow::Result<()> {
    let packages = engine.get_packages()?;
    // A name that the policy has not: its own rules would come together with these.
    let mut package = "asked".to_owned();
    while packages.iter().any(|known| known.contains(&package)) {
        package.push('_');
    }
    let mut text = format!("package {package}\n");
    for entry in entries {
        let (point, path) = (entry.point.as_str(), &entry.path);
        text.push_str(&format!(
            "\n{point} := verdict if {{\n    verdict := {path} with data.inventory as input.inventory with input as input.input\n}}\n"
        ));
        entry.path = vet::rule_path(std::slice::from_ref(&package), point);
    }
    parse(engine, "inventory", &text, RegoVersion::V1).map(drop)
}

fn both(input: Value, inventory: Value) -> Value {
    Value::from(BTreeMap::from([
        (Value::from("input"), input),
        (Value::from("inventory"), inventory),
    ]))
}

/// Defaults with overrides over them. A name or a type that the policy does not know is an error, not a rule switched off.
pub(super) fn effective(
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

#[cfg(test)]
mod tests;
