//! Which lines of an author were reached, of those where something is evaluated.
//!
//! The engine counts lines of the text that it reads, and of expressions; told are those of the author, and of statements and of
//! values in heads, as OPA does. A statement over several lines counts where it begins.

use std::collections::{BTreeMap, BTreeSet};

use regorus::Engine;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::policy::compile::Parsed;
use crate::policy::rewrite::{Lines, Origins};
use crate::policy::vet::{Head, items, span_place};

/// Longest line of source that is quoted, in characters.
const MAX_QUOTED: usize = 200;

/// Where a test did not get further.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stop {
    /// File.
    pub file: String,
    /// Line.
    pub line: u32,
    /// The line itself.
    pub text: String,
}

/// What of a file was reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileCoverage {
    /// File.
    pub file: String,
    /// How many lines were.
    pub covered: usize,
    /// Which were not.
    pub uncovered: Vec<u32>,
}

/// Modules of which it is asked.
pub(super) struct Cover(Vec<(String, Statements, Lines)>);

impl Cover {
    pub(super) fn new(modules: &[Parsed], origins: &Origins) -> Self {
        let of = |module: &Parsed| {
            let statements = Statements::of_module(&module.tree);
            (module.file.clone(), statements, origins.lines(&module.file))
        };
        Self(modules.iter().map(of).collect())
    }

    pub(super) fn lines(&self) -> BTreeMap<String, BTreeSet<u32>> {
        let of = |(file, statements, _): &(String, Statements, Lines)| (file.clone(), statements.begin());
        self.0.iter().map(of).collect()
    }

    /// Where statements begin that an engine has got to.
    pub(super) fn reached(&self, engine: &Engine) -> BTreeMap<String, BTreeSet<u32>> {
        let report = engine.get_coverage_report().unwrap_or_default();
        let of = |(file, statements, lines): &(String, Statements, Lines)| {
            let covered = report.files.iter().filter(|found| found.path == *file);
            let covered = covered.flat_map(|found| &found.covered);
            let reached: BTreeSet<_> = covered.flat_map(|line| lines.of(*line)).collect();
            (file.clone(), statements.reached(&reached))
        };
        self.0.iter().map(of).collect()
    }
}

/// Lines of the expressions of each statement, that where it begins first of all.
#[derive(Debug, Default)]
pub(super) struct Statements(Vec<BTreeSet<u32>>);

impl Statements {
    fn of_module(tree: &Value) -> Self {
        let mut found = Self::default();
        for rule in items(tree, "rules") {
            let heads = rule.pointer("/Spec/head").and_then(Value::as_object);
            let heads = heads.into_iter().flat_map(|heads| heads.values());
            let values = heads.flat_map(|head| [head.pointer("/assign/value"), head.get("key")]);
            for value in values.chain([rule.pointer("/Default/value")]).flatten() {
                found.add(value);
                found.within(value);
            }
            rule.pointer("/Spec/bodies")
                .into_iter()
                .for_each(|bodies| found.within(bodies));
        }
        found
    }

    /// Those of the bodies of a rule, but not of what is within them.
    pub(super) fn of_body(rule: &Value) -> Self {
        let mut found = Self::default();
        let bodies = rule.pointer("/Spec/bodies").and_then(Value::as_array);
        for query in bodies.into_iter().flatten().filter_map(|body| body.get("query")) {
            items(query, "stmts").for_each(|statement| found.add(statement));
        }
        found
    }

    fn within(&mut self, node: &Value) {
        match node {
            Value::Array(items) => items.iter().for_each(|item| self.within(item)),
            Value::Object(fields) => {
                // `some x` evaluates nothing.
                let evaluated = |statement: &&Value| statement.pointer("/literal/SomeVars").is_none();
                items(node, "stmts")
                    .filter(evaluated)
                    .for_each(|statement| self.add(statement));
                fields.values().for_each(|field| self.within(field));
            }
            _ => {}
        }
    }

    fn add(&mut self, node: &Value) {
        let mut lines = BTreeSet::new();
        gather(node, &mut lines);
        if !lines.is_empty() {
            self.0.push(lines);
        }
    }

    fn begin(&self) -> BTreeSet<u32> {
        self.0.iter().filter_map(|lines| lines.first().copied()).collect()
    }

    fn reached(&self, reached: &BTreeSet<u32>) -> BTreeSet<u32> {
        let of_them = self.0.iter().filter(|lines| !lines.is_disjoint(reached));
        of_them.filter_map(|lines| lines.first().copied()).collect()
    }

    /// The last of them that was reached.
    pub(super) fn stop(&self, file: &str, text: &str, reached: &BTreeSet<u32>) -> Option<Stop> {
        let line = self.reached(reached).last().copied()?;
        let quoted = usize::try_from(line)
            .ok()
            .and_then(|line| text.lines().nth(line.checked_sub(1)?));
        Some(Stop {
            file: file.to_owned(),
            line,
            text: quoted.unwrap_or_default().trim().chars().take(MAX_QUOTED).collect(),
        })
    }
}

/// Lines of a node and of what it is made of. The engine counts no line of a comprehension but those of its query.
fn gather(node: &Value, lines: &mut BTreeSet<u32>) {
    match node {
        Value::Array(items) => items.iter().for_each(|item| gather(item, lines)),
        Value::Object(fields) => {
            let (line, _) = node.get("span").map_or((0, 0), span_place);
            if line > 0 {
                lines.insert(line);
            }
            fields.values().for_each(|field| gather(field, lines));
        }
        _ => {}
    }
}

/// Rules of a module by that name.
pub(super) fn rules_named<'a>(tree: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    items(tree, "rules").filter(move |rule| Head::read(rule).is_some_and(|head| head.name == name))
}
