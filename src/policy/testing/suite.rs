//! Policies, what they share, and their tests, loaded together.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use regorus::{Engine, Value};
use serde::{Deserialize, Serialize};

use super::cover::{Cover, FileCoverage, Statements, Stop, rules_named};
use crate::policy::compile::{self, Like, Parsed, Source};
use crate::policy::error::{EvalError, LoadError};
use crate::policy::library;
use crate::policy::metadata::{self, RegoVersion, Target};
use crate::policy::registered::Registered;
use crate::policy::rewrite::Origins;
use crate::policy::set::PolicySet;
use crate::policy::vet::{Head, Kind, Path, Purpose, items, rule_path};

/// Most lines that are kept of what a test prints.
pub(super) const MAX_PRINTS: usize = 50;
/// Longest of them, in characters.
const MAX_PRINT: usize = 500;

/// What is tested together.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Suite {
    /// Policies with METADATA. Each is loaded alone, as in the cluster, and the tests see all of them.
    pub policies: Vec<Source>,
    /// Modules without METADATA, which see each other.
    pub modules: Vec<Source>,
    /// Modules with tests, which see everything.
    pub tests: Vec<Source>,
    /// Version of the language of modules, and of tests; where these are of policies, those say it.
    pub version: RegoVersion,
}

/// A test.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct TestRule {
    /// Its file.
    pub file: String,
    /// Where it begins; 0 where that is not known.
    pub line: u32,
    /// Its package, with dots; empty for a sample.
    pub package: String,
    /// Its name.
    pub name: String,
    /// Whether it is left out for now: `todo_test_*`.
    pub skipped: bool,
}

impl TestRule {
    /// The path by which it is chosen, as with OPA.
    pub fn path(&self) -> String {
        if self.package.is_empty() {
            self.name.clone()
        } else {
            format!("data.{}.{}", self.package, self.name)
        }
    }
}

/// What became of a test. Whatever is not `true` is a failure.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum TestVerdict {
    /// It is `true`.
    Passed,
    /// It is something else, or undefined.
    Failed(String),
    /// It could not be evaluated.
    Error(String),
}

/// One run of a test.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ran {
    /// What became of it.
    pub verdict: TestVerdict,
    /// What it printed: file, line, text.
    pub prints: Vec<String>,
    /// Where it did not get further, one for each rule of its name.
    pub stops: Vec<Stop>,
    /// Lines that it reached, where they were asked for, by file.
    pub reached: BTreeMap<String, BTreeSet<u32>>,
}

/// A suite, ready to be run.
pub struct Testing {
    engine: Engine,
    origins: Origins,
    rules: Vec<TestRule>,
    paths: Vec<String>,
    cover: Cover,
    modules: Vec<Parsed>,
    texts: BTreeMap<String, String>,
}

impl Testing {
    /// Loads policies, modules and tests.
    ///
    /// # Errors
    /// Everything that is wrong with the first of them that has something wrong.
    pub fn load(suite: &Suite) -> Result<Self, Vec<LoadError>> {
        let name = suite.tests.first().or(suite.policies.first()).or(suite.modules.first());
        let name = name.map_or("tests", |source| source.file.as_str());
        let mut engine = compile::new_engine_for_tests(name)?;
        let mut origins = Origins::default();
        let mut there = Vec::new();
        let mut versions = BTreeSet::new();
        for policy in &suite.policies {
            let version = as_in_the_cluster(policy)?;
            versions.insert(version);
            let like = Like {
                version,
                purpose: Purpose::Policy,
                inventory: false,
            };
            let module = compile::add(&mut engine, std::slice::from_ref(policy), like, &mut origins)?;
            there.extend(module.parsed);
        }
        if !suite.modules.is_empty() {
            let like = Like {
                version: suite.version,
                purpose: Purpose::Query,
                inventory: true,
            };
            there.extend(compile::add(&mut engine, &suite.modules, like, &mut origins)?.parsed);
        }
        if versions.len() > 1 {
            let message = "it looks at policies of both versions of Rego: write a file of tests for each";
            return Err(vec![LoadError::file(name, message)]);
        }
        let like = Like {
            version: versions.pop_first().unwrap_or(suite.version),
            purpose: Purpose::Tests,
            inventory: true,
        };
        let mut tests = Vec::new();
        if !suite.tests.is_empty() {
            tests = compile::add_beside(&mut engine, &there, &suite.tests, like, &mut origins)?.parsed;
        }
        let errors = strays(&there, &tests);
        if !errors.is_empty() {
            return Err(errors);
        }
        let (rules, paths) = found(there.iter().chain(&tests))?;
        if paths.is_empty() {
            // What nothing asks for is analysed all the same.
            for path in there.iter().filter_map(first_rule) {
                compile::prepare(&mut engine, name, &path, &origins)?;
            }
        }
        for (rule, path) in rules.iter().zip(&paths) {
            compile::prepare(&mut engine, &rule.file, path, &origins)?;
        }
        let cover = Cover::new(&there, &origins);
        let sources = [&suite.policies, &suite.modules, &suite.tests].into_iter().flatten();
        Ok(Self {
            engine,
            rules,
            paths,
            cover,
            texts: sources
                .map(|source| (source.file.clone(), source.text.clone()))
                .collect(),
            modules: there.into_iter().chain(tests).collect(),
            origins,
        })
    }

    /// The tests, in the order of files and lines.
    pub fn rules(&self) -> &[TestRule] {
        &self.rules
    }

    /// Lines of the policies and modules that can be reached, by file.
    pub fn lines(&self) -> BTreeMap<String, BTreeSet<u32>> {
        self.cover.lines()
    }

    /// Runs one of them; `None` where there are not so many, or where it is skipped. With `reached`, tells which lines it got to.
    pub fn run(&self, number: usize, limit: Duration, reached: bool) -> Option<Ran> {
        let rule = self.rules.get(number).filter(|rule| !rule.skipped)?;
        let path = self.paths.get(number)?;
        let mut engine = self.engine.clone();
        engine.set_enable_coverage(reached);
        let (verdict, mut engine) = self.evaluate(engine, path, limit);
        let prints = engine.as_mut().map(|engine| self.printed(engine)).unwrap_or_default();
        let reached = engine.filter(|_| reached).map(|engine| self.cover.reached(&engine));
        let stops = match verdict {
            TestVerdict::Failed(_) => self.stops(rule, path, limit),
            TestVerdict::Passed | TestVerdict::Error(_) => Vec::new(),
        };
        Some(Ran {
            verdict,
            prints,
            stops,
            reached: reached.unwrap_or_default(),
        })
    }

    /// The engine that was asked comes back, where it did not panic.
    fn evaluate(&self, mut engine: Engine, path: &str, limit: Duration) -> (TestVerdict, Option<Engine>) {
        let run = AssertUnwindSafe(|| {
            let value = compile::evaluate_rule(&mut engine, path, limit, &self.origins);
            (value, engine)
        });
        let Ok((value, engine)) = catch_unwind(run) else {
            return (TestVerdict::Error(EvalError::Panic.to_string()), None);
        };
        let verdict = match value {
            Ok(value) if value == Value::from(true) => TestVerdict::Passed,
            Ok(Value::Undefined) => TestVerdict::Failed("it is undefined".to_owned()),
            Ok(Value::Bool(false)) => TestVerdict::Failed("it is false".to_owned()),
            Ok(_) => TestVerdict::Failed("its value is not `true`".to_owned()),
            Err(EvalError::Timeout) => TestVerdict::Error(format!("it did not finish in {} ms", limit.as_millis())),
            Err(EvalError::Error(what)) => TestVerdict::Error(what),
            Err(EvalError::Memory { .. } | EvalError::NoMemory) => {
                TestVerdict::Error("it took more memory than there is for tests".to_owned())
            }
            Err(error) => TestVerdict::Error(error.to_string()),
        };
        (verdict, Some(engine))
    }

    fn printed(&self, engine: &mut Engine) -> Vec<String> {
        let prints = engine.take_prints().unwrap_or_default();
        let more = prints.len().saturating_sub(MAX_PRINTS);
        let mut told: Vec<_> = prints.iter().take(MAX_PRINTS).map(|print| self.place(print)).collect();
        if more > 0 {
            told.push(format!("{more} more lines were printed"));
        }
        told
    }

    /// The engine puts file and line in front, which are those of what it was given.
    fn place(&self, print: &str) -> String {
        let of_file = self.texts.keys().find_map(|file| {
            let (line, text) = print.strip_prefix(file.as_str())?.strip_prefix(':')?.split_once(':')?;
            let (line, _) = self.origins.author(file, line.parse().ok()?, 1);
            Some(format!("{file}:{line}:{text}"))
        });
        let mut text = of_file.unwrap_or_else(|| print.to_owned());
        if let Some((at, _)) = text.char_indices().nth(MAX_PRINT) {
            text.truncate(at);
            text.push('…');
        }
        text
    }

    /// Evaluates it once more, for where it stops.
    fn stops(&self, rule: &TestRule, path: &str, limit: Duration) -> Vec<Stop> {
        let mut engine = self.engine.clone();
        engine.set_enable_coverage(true);
        let (_, Some(engine)) = self.evaluate(engine, path, limit) else {
            return Vec::new();
        };
        let reached = Cover::new(&self.modules, &self.origins).reached(&engine);
        let of_package = self
            .modules
            .iter()
            .filter(|module| module.package.join(".") == rule.package);
        let mut stops = Vec::new();
        for module in of_package {
            let nothing = BTreeSet::new();
            let reached = reached.get(&module.file).unwrap_or(&nothing);
            let text = self.texts.get(&module.file).map_or("", String::as_str);
            for tree in rules_named(&module.tree, &rule.name) {
                stops.extend(Statements::of_body(tree).stop(&module.file, text, reached));
            }
        }
        stops
    }
}

/// Refuses what a cluster would refuse, and tells the version of the language.
fn as_in_the_cluster(policy: &Source) -> Result<RegoVersion, Vec<LoadError>> {
    let metadata = metadata::parse(&policy.file, &policy.text).map_err(|error| vec![error])?;
    PolicySet::compile_alone(policy.clone(), &BTreeMap::new())?;
    if metadata.target == Target::Object {
        for object in library::objects(std::slice::from_ref(policy), &BTreeMap::new())? {
            Registered::compile(&object).map_err(|errors| {
                let of_file = |error: LoadError| LoadError {
                    message: format!("{}: {}", error.file, error.message),
                    file: policy.file.clone(),
                    ..error
                };
                errors.into_iter().map(of_file).collect::<Vec<_>>()
            })?;
        }
    }
    Ok(metadata.rego)
}

/// The tests of modules. A rule that gives one value per case would keep silent about the cases that fail.
fn found<'a>(modules: impl Iterator<Item = &'a Parsed>) -> Result<(Vec<TestRule>, Vec<String>), Vec<LoadError>> {
    let (mut rules, mut errors) = (BTreeMap::new(), Vec::new());
    for module in modules {
        for head in items(&module.tree, "rules").filter_map(Head::read) {
            let skipped = head.name.starts_with("todo_test_");
            if !skipped && !head.name.starts_with("test_") || head.kind == Kind::Function {
                continue;
            }
            let (line, column) = head.place;
            if matches!(head.kind, Kind::Set | Kind::Object) {
                let message = format!(
                    "`{}` gives one value for each case, so that a case that fails is only missing in it: use `every`, or a rule for each",
                    head.name
                );
                errors.push(LoadError::at(&module.file, line, Some(column), message));
                continue;
            }
            let rule = TestRule {
                file: module.file.clone(),
                line,
                package: module.package.join("."),
                skipped,
                name: head.name,
            };
            let path = rule_path(&module.package, &rule.name);
            rules.entry(path).or_insert(rule);
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut rules: Vec<_> = rules.into_iter().collect();
    rules.sort_by(|(_, a), (_, b)| a.cmp(b));
    Ok(rules.into_iter().map(|(path, rule)| (rule, path)).unzip())
}

/// Imports of tests that lead nowhere: everything below would be undefined.
fn strays(there: &[Parsed], tests: &[Parsed]) -> Vec<LoadError> {
    let mut errors = Vec::new();
    for module in tests {
        for path in items(&module.tree, "imports").filter_map(|import| import.get("refr").and_then(Path::read)) {
            let leads = |package: &Vec<String>| package.iter().zip(&path.names).all(|(step, name)| step == name);
            let is_known = there.iter().chain(tests).any(|module| leads(&module.package));
            if path.root == "data" && !is_known && path.names.first() != Some(&"inventory") {
                let (line, column) = path.place;
                let message = format!(
                    "`{}` is not among what is tested: name its file or folder too",
                    path.dotted()
                );
                errors.push(LoadError::at(&module.file, line, Some(column), message));
            }
        }
    }
    errors
}

fn first_rule(module: &Parsed) -> Option<String> {
    let head = items(&module.tree, "rules").find_map(Head::read)?;
    Some(rule_path(&module.package, &head.name))
}

impl FileCoverage {
    /// Of files, by the lines that can be reached and those that were.
    pub fn of(lines: &BTreeMap<String, BTreeSet<u32>>, reached: &BTreeMap<String, BTreeSet<u32>>) -> Vec<Self> {
        let files = lines.iter().map(|(file, lines)| {
            let nothing = BTreeSet::new();
            let reached = reached.get(file).unwrap_or(&nothing);
            Self {
                file: file.clone(),
                covered: lines.intersection(reached).count(),
                uncovered: lines.difference(reached).copied().collect(),
            }
        });
        files.collect()
    }
}
