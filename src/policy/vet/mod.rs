//! Reads the syntax tree of a policy before it may be evaluated: its entry points, the functions that it calls, recursion.
//!
//! Recursion overflows the stack and takes the process along, and an unknown function or an unknown document is found by the
//! engine only when the rule is reached. Must never trust a name that it cannot resolve.

mod patterns;
mod recursion;
mod tree;
mod unbound;

use std::collections::{BTreeMap, BTreeSet};

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

/// How an entry point gives its value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shape {
    /// One value, or none.
    Complete,
    /// Element by element.
    Partial,
}

/// What the trees of modules say.
#[derive(Debug)]
pub(super) struct Vetted {
    pub entry_points: Vec<(EntryPoint, Shape)>,
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

/// A module as the engine renders it: its file, its text, its tree, and the components of its package.
#[derive(Clone, Copy)]
pub(super) struct Unit<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub tree: &'a Value,
    pub package: &'a [String],
    /// `None` where it has been vetted already, and others look into it.
    pub purpose: Option<Purpose>,
}

/// Vets modules that are loaded together. The package of the first gives the verdict. With an inventory, `data.inventory` is there.
pub(super) fn vet(units: &[Unit<'_>], inventory: bool) -> Result<Vetted, Vec<LoadError>> {
    let Some(main) = units.first() else {
        return Err(vec![LoadError::file("policy", "there is no module")]);
    };
    let known = Known::of(units);
    let mut rules = BTreeMap::new();
    let mut errors = known.conflicts(main.file, inventory);
    for unit in units {
        let mut reader = Reader {
            file: unit.file,
            package: unit.package,
            purpose: unit.purpose.unwrap_or(Purpose::Query),
            known: &known,
            inventory,
            imports: BTreeMap::new(),
            rules,
            errors,
        };
        reader.read(unit, unit.purpose.is_some());
        (rules, errors) = (reader.rules, reader.errors);
    }
    errors.extend(recursion::check(main.file, &rules));
    let entry_points = if main.purpose == Some(Purpose::Policy) {
        entry_points(main.file, &rules, &mut errors)
    } else {
        Vec::new()
    };
    if errors.is_empty() {
        Ok(Vetted { entry_points })
    } else {
        Err(errors)
    }
}

/// The rules that are there, by package, and how each is called where rules are compared.
struct Known {
    main: Vec<String>,
    packages: BTreeMap<Vec<String>, BTreeSet<String>>,
}

impl Known {
    fn of(units: &[Unit<'_>]) -> Self {
        let mut packages: BTreeMap<Vec<String>, BTreeSet<String>> = BTreeMap::new();
        for unit in units {
            let heads = items(unit.tree, "rules").filter_map(Head::read);
            packages
                .entry(unit.package.to_vec())
                .or_default()
                .extend(heads.map(|head| head.name));
        }
        Self {
            main: units.first().map(|unit| unit.package.to_vec()).unwrap_or_default(),
            packages,
        }
    }

    fn has(&self, package: &[String], rule: &str) -> bool {
        self.packages.get(package).is_some_and(|rules| rules.contains(rule))
    }

    /// Plain in the package that gives the verdict, and the whole path elsewhere.
    fn key(&self, package: &[String], rule: &str) -> String {
        if package == self.main {
            rule.to_owned()
        } else {
            rule_path(package, rule)
        }
    }

    /// Of a path below `data`: the package that it leads into, the innermost where one lies in another.
    fn package_of(&self, path: &[&str]) -> Option<&Vec<String>> {
        let leads_in = |package: &&Vec<String>| {
            path.len() > package.len() && package.iter().zip(path).all(|(name, step)| name == step)
        };
        self.packages
            .keys()
            .filter(leads_in)
            .max_by_key(|package| package.len())
    }

    /// Where a rule stands in the way of a package, or of what is synced, one of them would not be seen.
    fn conflicts(&self, file: &str, inventory: bool) -> Vec<LoadError> {
        let mut errors = Vec::new();
        for (outer, rules) in &self.packages {
            for inner in self.packages.keys() {
                let next = inner.get(outer.len()).filter(|_| inner.starts_with(outer));
                if let Some(name) = next.filter(|name| rules.contains(*name)) {
                    let message = format!(
                        "rule `{name}` of package `{}` and package `{}` are in each other's way: rename one",
                        outer.join("."),
                        inner.join(".")
                    );
                    errors.push(LoadError::file(file, message));
                }
            }
            if inventory && outer.first().is_some_and(|first| first == "inventory") {
                let message = "no package may begin with `inventory`: that is where the synced objects are";
                errors.push(LoadError::file(file, message));
            }
        }
        errors
    }
}

/// Path of a rule, with brackets where a component is no identifier.
pub(super) fn rule_path(package: &[String], rule: &str) -> String {
    let mut path = "data".to_owned();
    for component in package.iter().map(String::as_str).chain([rule]) {
        let plain = component.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !component.starts_with(|c: char| c.is_ascii_digit());
        if plain {
            path.push('.');
            path.push_str(component);
        } else {
            path.push_str(&format!("[{}]", Value::from(component)));
        }
    }
    path
}

struct Reader<'a> {
    file: &'a str,
    package: &'a [String],
    purpose: Purpose,
    known: &'a Known,
    inventory: bool,
    /// Alias to the path that it stands for.
    imports: BTreeMap<String, Vec<String>>,
    /// By key, of all modules so far.
    rules: BTreeMap<String, Rule>,
    errors: Vec<LoadError>,
}

impl Reader<'_> {
    /// Reads one module. One that is not judged is read for what it uses.
    fn read(&mut self, unit: &Unit<'_>, judged: bool) {
        let before = self.errors.len();
        self.imports(unit.text, unit.tree);
        for rule in items(unit.tree, "rules") {
            let Some(head) = Head::read(rule) else {
                self.errors
                    .push(LoadError::file(self.file, "a rule has a head that is not a name"));
                continue;
            };
            let key = self.known.key(self.package, &head.name);
            self.rules
                .entry(key)
                .or_insert_with(|| Rule::new(self.file, head.place))
                .kinds
                .insert(head.kind);
            self.literal(&head, rule);
        }
        for rule in items(unit.tree, "rules") {
            if let Some(head) = Head::read(rule) {
                let key = self.known.key(self.package, &head.name);
                for part in head.parts(rule) {
                    self.visit(&key, part);
                }
                if judged {
                    self.unbound(unit.text, rule);
                    self.patterns(rule);
                }
            }
        }
        if !judged {
            self.errors.truncate(before);
        }
    }

    /// An entry point that is a number, or nothing, gives no verdict about anything.
    fn literal(&mut self, head: &Head, rule: &Value) {
        let is_entry =
            self.package == self.known.main && EntryPoint::ALL.iter().any(|entry| entry.as_str() == head.name);
        let assign = rule.pointer("/Spec/head/Compr/assign");
        let value = assign.map(|assign| assign.get("value").unwrap_or(assign));
        let is = |kind: &str| value.is_some_and(|value| value.get(kind).is_some());
        if is_entry && head.kind == Kind::Complete && self.purpose == Purpose::Policy && (is("Number") || is("Null")) {
            let message = format!(
                "`{}` must be a set of texts or of objects with msg, or one of them: this is no verdict",
                head.name
            );
            self.errors.push(at(self.file, head.place, message));
        }
    }

    /// Whether it is a rule of this package, in whichever module.
    fn is_rule(&self, name: &str) -> bool {
        self.known.has(self.package, name)
    }

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
        let local = path.names.is_empty() && self.is_rule(path.root);
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
        self.uses(rule, self.package, path.root);
        if let Some(imported) = &imported {
            full = imported.iter().map(String::as_str).collect();
        }
        full.extend(&path.names);
        let Some(("data", rest)) = full.split_first().map(|(root, rest)| (*root, rest)) else {
            return;
        };
        if self.inventory && rest.first() == Some(&"inventory") {
            return;
        }
        let owner = self.known.package_of(rest);
        if let Some((package, name)) = owner.and_then(|package| Some((package, rest.get(package.len())?))) {
            if !self.known.has(package, name) && self.purpose != Purpose::Tests {
                let whose = if package == self.package {
                    "this package"
                } else {
                    "that package"
                };
                let message = format!("`{}` is not there: {whose} has no rule `{name}`", full.join("."));
                self.errors.push(at(self.file, path.place, message));
            }
            self.uses(rule, package, name);
        } else if self.purpose != Purpose::Tests {
            let message = format!(
                "`{}` is not there, and a rule that looks at it would never fire: a policy sees `input` and the rules of its \
                 own package",
                full.join(".")
            );
            self.errors.push(at(self.file, path.place, message));
        }
    }

    fn uses(&mut self, rule: &str, package: &[String], name: &str) {
        if self.known.has(package, name)
            && let Some(rule) = self.rules.get_mut(rule)
        {
            rule.uses.insert(self.known.key(package, name));
        }
    }
}

/// The rules of the package that give its verdict.
fn entry_points(file: &str, rules: &BTreeMap<String, Rule>, errors: &mut Vec<LoadError>) -> Vec<(EntryPoint, Shape)> {
    let mut found = Vec::new();
    for entry in EntryPoint::ALL {
        let Some(rule) = rules.get(entry.as_str()) else {
            continue;
        };
        let all = |good: &[Kind]| rule.kinds.iter().all(|kind| good.contains(kind));
        let shape = if all(&[Kind::Complete, Kind::Default]) {
            Ok(Shape::Complete)
        } else if entry == EntryPoint::Allow {
            Err("must be a boolean rule: write `allow if { … }`")
        } else if all(&[Kind::Set]) {
            Ok(Shape::Partial)
        } else {
            Err("must be a set, whose elements refuse or warn: write `contains message if { … }` after its name")
        };
        match shape {
            Ok(shape) => found.push((entry, shape)),
            Err(advice) => errors.push(at(&rule.file, rule.place, format!("`{}` {advice}", entry.as_str()))),
        }
    }
    if found.is_empty() && errors.is_empty() {
        let message = "no rule gives a verdict: a policy has `deny` (strings, or objects with msg, path, value, fix), \
                       `violation` (objects with msg, details), `warn`, or `allow` (boolean)";
        errors.push(LoadError::file(file, message));
    }
    found
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
