//! Reads the syntax tree of a policy before it may be evaluated: its entry points, the functions that it calls, recursion.
//!
//! Recursion overflows the stack and takes the process along, and an unknown function or an unknown document is found by the
//! engine only when the rule is reached. Must never trust a name that it cannot resolve.

mod patterns;
mod recursion;
mod tree;
mod unbound;

use std::collections::BTreeMap;

use serde_json::Value;

pub(super) use tree::{Head, Kind, Path, comprehension, items, span_place, variables};
use tree::{Place, Rule};

use super::builtins;
use super::error::LoadError;

/// A rule that gives a verdict.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum EntryPoint {
    /// Set of strings or of objects with `msg`, `path`, `value`, `fix`: each refuses.
    Deny,
    /// Set of objects with `msg` and `details`: each refuses.
    Violation,
    /// Like `Deny`, but each warns.
    Warn,
    /// Boolean: whatever is not `true` refuses.
    Allow,
}

impl EntryPoint {
    pub(super) const ALL: [Self; 4] = [Self::Deny, Self::Violation, Self::Warn, Self::Allow];

    /// Name of the rule.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Violation => "violation",
            Self::Warn => "warn",
            Self::Allow => "allow",
        }
    }
}

/// What the tree of one module says.
#[derive(Debug)]
pub(super) struct Vetted {
    pub entry_points: Vec<EntryPoint>,
    /// Names of the rules, in order of appearance.
    pub rules: Vec<String>,
}

/// What the module is for.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Purpose {
    Policy,
    /// As a policy, but any of its rules is asked, and none need give a verdict.
    Query,
    /// Tests may look into other packages and mock what they like.
    Tests,
}

/// Vets one module. `module` is the engine's own rendering of its tree, `package` its components.
pub(super) fn vet(
    file: &str,
    text: &str,
    module: &Value,
    package: &[String],
    purpose: Purpose,
) -> Result<Vetted, Vec<LoadError>> {
    let mut reader = Reader {
        file,
        package,
        purpose,
        imports: BTreeMap::new(),
        rules: BTreeMap::new(),
        errors: Vec::new(),
    };
    reader.imports(text, module);
    let mut order = Vec::new();
    for rule in items(module, "rules") {
        let Some(head) = Head::read(rule) else {
            reader
                .errors
                .push(LoadError::file(file, "a rule has a head that is not a name"));
            continue;
        };
        if !order.contains(&head.name) {
            order.push(head.name.clone());
        }
        reader
            .rules
            .entry(head.name)
            .or_insert_with(|| Rule::new(head.place))
            .kinds
            .insert(head.kind);
    }
    for rule in items(module, "rules") {
        if let Some(head) = Head::read(rule) {
            for part in head.parts(rule) {
                reader.visit(&head.name, part);
            }
            reader.unbound(text, rule);
            reader.patterns(rule);
        }
    }
    reader.recursion();
    let entry_points = if purpose == Purpose::Policy {
        reader.entry_points()
    } else {
        Vec::new()
    };
    if reader.errors.is_empty() {
        Ok(Vetted {
            entry_points,
            rules: order,
        })
    } else {
        Err(reader.errors)
    }
}

struct Reader<'a> {
    file: &'a str,
    package: &'a [String],
    purpose: Purpose,
    /// Alias to the path that it stands for.
    imports: BTreeMap<String, Vec<String>>,
    rules: BTreeMap<String, Rule>,
    errors: Vec<LoadError>,
}

impl Reader<'_> {
    fn imports(&mut self, text: &str, module: &Value) {
        for import in items(module, "imports") {
            let Some(path) = import.get("refr").and_then(Path::read) else {
                continue;
            };
            let mut full = vec![path.root.to_owned()];
            full.extend(path.names.iter().map(|name| (*name).to_owned()));
            let number = |span: &Value, key| {
                span.get(key)
                    .and_then(Value::as_u64)
                    .and_then(|at| usize::try_from(at).ok())
            };
            let alias = import
                .get("as")
                .and_then(|span| text.get(number(span, "start")?..number(span, "end")?));
            match path.root {
                "rego" | "future" => self.keyword(&path),
                _ => {
                    if let Some(alias) = alias.map(str::to_owned).or_else(|| full.last().cloned()) {
                        self.imports.insert(alias, full);
                    }
                }
            }
        }
    }

    /// The engine takes any keyword for one that it knows, and reads `not` as it did before.
    fn keyword(&mut self, path: &Path<'_>) {
        let known = ["in", "every", "if", "contains"];
        let unknown = match (path.root, path.names.as_slice()) {
            ("rego", names) => names.first().filter(|name| **name != "v1"),
            (_, names) => names.get(1).filter(|name| !known.contains(name)),
        };
        if let Some(name) = unknown {
            let message =
                format!("`{name}` of newer versions of OPA is not known to this engine: leave out the import");
            self.errors.push(at(self.file, path.place, message));
        }
    }

    fn visit(&mut self, rule: &str, node: &Value) {
        match node {
            Value::Array(items) => items.iter().for_each(|item| self.visit(rule, item)),
            Value::Object(fields) => {
                if let Some(call) = node.get("Call") {
                    self.call(rule, call);
                } else if let Some(path) = Path::read(node) {
                    self.reference(rule, &path);
                    path.indices.iter().for_each(|index| self.visit(rule, index));
                } else {
                    fields.values().for_each(|field| self.visit(rule, field));
                }
            }
            _ => {}
        }
    }

    fn call(&mut self, rule: &str, call: &Value) {
        if let Some(params) = call.get("params") {
            self.visit(rule, params);
        }
        let Some(path) = call.get("fcn").and_then(Path::read).filter(|path| path.constant) else {
            let place = call.get("span").map_or((0, 0), span_place);
            self.errors
                .push(at(self.file, place, "a call of something that is not a name"));
            return;
        };
        let local = path.names.is_empty() && self.rules.contains_key(path.root);
        if local || path.root == "data" || self.imports.contains_key(path.root) {
            self.reference(rule, &path);
        } else if self.purpose != Purpose::Tests
            && let Some(why) = builtins::refusal(&path.dotted())
        {
            self.errors.push(at(self.file, path.place, why));
        }
    }

    fn reference(&mut self, rule: &str, path: &Path<'_>) {
        let mut full: Vec<&str> = vec![path.root];
        let imported = self.imports.get(path.root).cloned();
        // Which of a rule, an import and a local variable of that name is meant is not decided here: each counts.
        self.uses(rule, path.root);
        if let Some(imported) = &imported {
            full = imported.iter().map(String::as_str).collect();
        }
        full.extend(&path.names);
        let Some(("data", rest)) = full.split_first().map(|(root, rest)| (*root, rest)) else {
            return;
        };
        let own = rest.len() > self.package.len() && rest.iter().zip(self.package).all(|(name, own)| *name == own);
        if let Some(name) = rest.get(self.package.len()).filter(|_| own) {
            if !self.rules.contains_key(*name) && self.purpose != Purpose::Tests {
                let message = format!("`{}` is not there: this package has no rule `{name}`", full.join("."));
                self.errors.push(at(self.file, path.place, message));
            }
            self.uses(rule, name);
        } else if self.purpose != Purpose::Tests {
            let message = format!(
                "`{}` is not there, and a rule that looks at it would never fire: a policy sees `input` and the rules of its \
                 own package",
                full.join(".")
            );
            self.errors.push(at(self.file, path.place, message));
        }
    }

    fn uses(&mut self, rule: &str, name: &str) {
        if self.rules.contains_key(name)
            && let Some(rule) = self.rules.get_mut(rule)
        {
            rule.uses.insert(name.to_owned());
        }
    }

    fn recursion(&mut self) {
        let names: Vec<String> = self.rules.keys().cloned().collect();
        let mut depths: BTreeMap<String, usize> = BTreeMap::new();
        for name in names {
            let mut trail = Vec::new();
            if let Err(message) = recursion::depth(&self.rules, &name, &mut trail, &mut depths) {
                let place = trail
                    .last()
                    .and_then(|last| self.rules.get(last))
                    .map_or((0, 0), |rule| rule.place);
                self.errors.push(at(self.file, place, message));
                return;
            }
        }
    }

    fn entry_points(&mut self) -> Vec<EntryPoint> {
        let mut found = Vec::new();
        for entry in EntryPoint::ALL {
            let name = entry.as_str();
            let Some(rule) = self.rules.get(name) else { continue };
            let (good, advice) = match entry {
                EntryPoint::Allow => (
                    rule.kinds
                        .iter()
                        .all(|kind| matches!(kind, Kind::Complete | Kind::Default)),
                    "must be a boolean rule: write `allow if { … }`",
                ),
                _ => (
                    rule.kinds.iter().all(|kind| *kind == Kind::Set),
                    "must be a set, whose elements refuse or warn: write `contains message if { … }` after its name",
                ),
            };
            if good {
                found.push(entry);
            } else {
                self.errors
                    .push(at(self.file, rule.place, format!("`{name}` {advice}")));
            }
        }
        if found.is_empty() && self.errors.is_empty() {
            let message = "no rule gives a verdict: a policy has `deny` (strings, or objects with msg, path, value, fix), \
                           `violation` (objects with msg, details), `warn`, or `allow` (boolean)";
            self.errors.push(LoadError::file(self.file, message));
        }
        found
    }
}

fn at(file: &str, (line, column): Place, message: impl Into<String>) -> LoadError {
    if line == 0 {
        LoadError::file(file, message)
    } else {
        LoadError::at(file, line, Some(column), message)
    }
}

#[cfg(test)]
mod tests;
