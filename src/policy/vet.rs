//! Reads the syntax tree of a policy before it may be evaluated: its entry points, the functions that it calls, recursion.
//!
//! Recursion overflows the stack and takes the process along, and an unknown function or an unknown document is found by the
//! engine only when the rule is reached. Must never trust a name that it cannot resolve.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

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

/// Longest chain of rules and functions that call each other; three thousand overflow the stack.
const MAX_CALL_DEPTH: usize = 64;

/// What the tree of one module says.
#[derive(Debug)]
pub(super) struct Vetted {
    pub entry_points: Vec<EntryPoint>,
    /// Names of the rules, in order of appearance.
    pub rules: Vec<String>,
}

/// Whether the module is a policy or its tests, which may look into other packages and mock what they like.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Purpose {
    Policy,
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
            reader.unbound(rule);
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

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    Complete,
    Set,
    Object,
    Function,
    Default,
}

type Place = (u32, u32);

struct Rule {
    place: Place,
    kinds: BTreeSet<Kind>,
    uses: BTreeSet<String>,
}

impl Rule {
    fn new(place: Place) -> Self {
        Self {
            place,
            kinds: BTreeSet::new(),
            uses: BTreeSet::new(),
        }
    }
}

struct Head {
    name: String,
    kind: Kind,
    place: Place,
}

impl Head {
    fn read(rule: &Value) -> Option<Self> {
        let (kind, refr) = if let Some(default) = rule.get("Default") {
            (Kind::Default, default.get("refr")?)
        } else {
            let head = rule.get("Spec")?.get("head")?;
            let (kind, head) = [(Kind::Complete, "Compr"), (Kind::Set, "Set"), (Kind::Function, "Func")]
                .into_iter()
                .find_map(|(kind, name)| Some((kind, head.get(name)?)))?;
            (kind, head.get("refr")?)
        };
        let path = Path::read(refr)?;
        let plain = path.names.is_empty() && path.indices.is_empty();
        let kind = if plain || kind == Kind::Function {
            kind
        } else {
            Kind::Object
        };
        Some(Self {
            name: path.root.to_owned(),
            kind,
            place: path.place,
        })
    }

    /// Everything of a rule but its own name, which would look like recursion.
    fn parts<'a>(&self, rule: &'a Value) -> Vec<&'a Value> {
        let mut parts = Vec::new();
        let mut head = |head: &'a Value| {
            parts.extend(
                ["args", "assign", "key", "value"]
                    .iter()
                    .filter_map(|part| head.get(*part)),
            );
            parts.extend(
                head.get("refr")
                    .and_then(Path::read)
                    .map(|path| path.indices)
                    .unwrap_or_default(),
            );
        };
        if let Some(default) = rule.get("Default") {
            head(default);
        }
        if let Some(spec) = rule.get("Spec") {
            spec.get("head")
                .and_then(Value::as_object)
                .into_iter()
                .flat_map(|kinds| kinds.values())
                .for_each(head);
            parts.extend(spec.get("bodies"));
        }
        parts
    }
}

/// A reference: `root.a["b"][i]` has the names `a` and `b` and the index `i`.
struct Path<'a> {
    root: &'a str,
    place: Place,
    /// Names up to the first index that is not a constant.
    names: Vec<&'a str>,
    constant: bool,
    indices: Vec<&'a Value>,
}

impl<'a> Path<'a> {
    fn read(node: &'a Value) -> Option<Self> {
        if let Some(var) = node.get("Var") {
            let root = var.get("value")?.as_str()?;
            return Some(Self {
                root,
                place: place(var),
                names: Vec::new(),
                constant: true,
                indices: Vec::new(),
            });
        }
        if let Some(dot) = node.get("RefDot") {
            let mut path = Self::read(dot.get("refr")?)?;
            if path.constant {
                path.names.push(dot.get("field")?.get(1)?.as_str()?);
            }
            return Some(path);
        }
        let brack = node.get("RefBrack")?;
        let mut path = Self::read(brack.get("refr")?)?;
        let index = brack.get("index")?;
        let text = ["String", "RawString"]
            .iter()
            .find_map(|kind| index.get(*kind)?.get("value")?.as_str());
        match text {
            Some(name) if path.constant => path.names.push(name),
            Some(_) => {}
            None => {
                path.constant = false;
                path.indices.push(index);
            }
        }
        Some(path)
    }

    fn dotted(&self) -> String {
        let mut text = self.root.to_owned();
        for name in &self.names {
            text.push('.');
            text.push_str(name);
        }
        text
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
                "rego" | "future" => {}
                _ => {
                    if let Some(alias) = alias.map(str::to_owned).or_else(|| full.last().cloned()) {
                        self.imports.insert(alias, full);
                    }
                }
            }
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
        } else if self.purpose == Purpose::Policy
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
            if !self.rules.contains_key(*name) && self.purpose == Purpose::Policy {
                let message = format!("`{}` is not there: this package has no rule `{name}`", full.join("."));
                self.errors.push(at(self.file, path.place, message));
            }
            self.uses(rule, name);
        } else if self.purpose == Purpose::Policy {
            let message = format!(
                "`{}` is not there, and a rule that looks at it would never fire: a policy sees `input` and the rules of its \
                 own package",
                full.join(".")
            );
            self.errors.push(at(self.file, path.place, message));
        }
    }

    /// A variable that is put out and that nothing gives a value. The engine finds those of bodies itself, and takes a rule
    /// or comprehension with one in its head for one that yields nothing.
    fn unbound(&mut self, rule: &Value) {
        let Some(spec) = rule.get("Spec") else { return };
        let Some(head) = spec
            .get("head")
            .and_then(Value::as_object)
            .and_then(|kinds| kinds.values().next())
        else {
            return;
        };
        let mut bound = BTreeSet::new();
        let queries = items(spec, "bodies").filter_map(|body| body.get("query"));
        queries
            .chain(head.get("args"))
            .for_each(|part| variables(part, &mut bound));
        for part in ["key", "assign", "refr"].iter().filter_map(|part| head.get(*part)) {
            self.outputs(part, &bound, true);
        }
        for body in items(spec, "bodies") {
            body.get("assign")
                .into_iter()
                .for_each(|assign| self.outputs(assign, &bound, true));
            body.get("query")
                .into_iter()
                .for_each(|query| self.outputs(query, &bound, false));
        }
    }

    fn outputs(&mut self, node: &Value, bound: &BTreeSet<&str>, is_output: bool) {
        match node {
            Value::Array(items) => items.iter().for_each(|item| self.outputs(item, bound, is_output)),
            Value::Object(fields) => {
                if let Some(comprehension) = comprehension(fields) {
                    let mut inner = bound.clone();
                    comprehension
                        .get("query")
                        .into_iter()
                        .for_each(|query| variables(query, &mut inner));
                    comprehension
                        .get("query")
                        .into_iter()
                        .for_each(|query| self.outputs(query, &inner, false));
                    for term in ["term", "key", "value"]
                        .iter()
                        .filter_map(|term| comprehension.get(*term))
                    {
                        self.outputs(term, &inner, true);
                    }
                } else if let Some(var) = node.get("Var").filter(|_| is_output) {
                    let name = var.get("value").and_then(Value::as_str).unwrap_or_default();
                    let global = self.rules.contains_key(name) || self.imports.contains_key(name);
                    if !global && !bound.contains(name) && !matches!(name, "input" | "data") {
                        let message =
                            format!("nothing gives variable `{name}` a value: this would never yield anything");
                        self.errors.push(at(self.file, place(var), message));
                    }
                } else if let Some(params) = node.get("Call").and_then(|call| call.get("params")) {
                    self.outputs(params, bound, is_output);
                } else {
                    fields.values().for_each(|field| self.outputs(field, bound, is_output));
                }
            }
            _ => {}
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
            if let Err(message) = depth(&self.rules, &name, &mut trail, &mut depths) {
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

/// Length of the longest chain of uses that starts at `name`; an error when it is endless or too long.
fn depth(
    rules: &BTreeMap<String, Rule>,
    name: &str,
    trail: &mut Vec<String>,
    depths: &mut BTreeMap<String, usize>,
) -> Result<usize, String> {
    if let Some(known) = depths.get(name) {
        return Ok(*known);
    }
    let start = trail.iter().position(|passed| passed == name);
    trail.push(name.to_owned());
    if let Some(start) = start {
        let cycle = trail.get(start..).unwrap_or_default().join(" -> ");
        return Err(format!(
            "recursion ({cycle}): Rego forbids it, and it would end the process"
        ));
    }
    let too_long = || format!("rules use each other more than {MAX_CALL_DEPTH} deep, from `{name}` on");
    if trail.len() > MAX_CALL_DEPTH {
        return Err(too_long());
    }
    let mut deepest = 0;
    for used in rules.get(name).into_iter().flat_map(|rule| &rule.uses) {
        deepest = deepest.max(depth(rules, used, trail, depths)?);
    }
    trail.pop();
    let own = deepest + 1;
    if own > MAX_CALL_DEPTH {
        return Err(too_long());
    }
    depths.insert(name.to_owned(), own);
    Ok(own)
}

fn comprehension(fields: &serde_json::Map<String, Value>) -> Option<&Value> {
    ["ArrayCompr", "SetCompr", "ObjectCompr"]
        .iter()
        .find_map(|kind| fields.get(*kind))
}

/// Names of the variables of a part, but for those of functions, and of comprehensions, which keep theirs to themselves.
fn variables<'a>(node: &'a Value, found: &mut BTreeSet<&'a str>) {
    match node {
        Value::Array(items) => items.iter().for_each(|item| variables(item, found)),
        Value::Object(fields) => {
            if comprehension(fields).is_some() {
            } else if let Some(name) = node.get("Var").and_then(|var| var.get("value")).and_then(Value::as_str) {
                found.insert(name);
            } else if let Some(params) = node.get("Call").and_then(|call| call.get("params")) {
                variables(params, found);
            } else {
                fields.values().for_each(|field| variables(field, found));
            }
        }
        _ => {}
    }
}

fn items<'a>(node: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    node.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn place(node: &Value) -> Place {
    node.get("span").map_or((0, 0), span_place)
}

fn span_place(span: &Value) -> Place {
    let number = |key| {
        span.get(key)
            .and_then(Value::as_u64)
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(0)
    };
    (number("line"), number("col"))
}

fn at(file: &str, (line, column): Place, message: impl Into<String>) -> LoadError {
    if line == 0 {
        LoadError::file(file, message)
    } else {
        LoadError::at(file, line, Some(column), message)
    }
}

#[cfg(test)]
mod tests {
    use super::super::compile::{Source, add, new_engine};
    use super::super::metadata::RegoVersion;
    use super::*;
    use rstest::rstest;

    fn vet_as(text: &str, version: RegoVersion) -> Result<Vec<EntryPoint>, String> {
        let source = Source {
            file: "p.rego".to_owned(),
            text: text.to_owned(),
        };
        let mut engine = new_engine("p.rego").expect("engine");
        match add(&mut engine, &source, version, Purpose::Policy) {
            Ok(module) => Ok(module.vetted.entry_points),
            Err(errors) => Err(errors.iter().map(LoadError::to_string).collect::<Vec<_>>().join("\n")),
        }
    }

    fn vet_text(text: &str) -> Result<Vec<EntryPoint>, String> {
        vet_as(text, RegoVersion::V1)
    }

    #[test]
    fn every_entry_point_is_found() {
        let text = "package p\ndeny contains \"x\" if input.x\nviolation contains {\"msg\": \"x\"} if input.y\n\
                    warn contains \"x\" if input.z\ndefault allow := false\nallow if input.w\n";
        assert_eq!(vet_text(text), Ok(EntryPoint::ALL.to_vec()));
        let v0 = "package p\ndeny[msg] { msg := \"x\" }\nviolation[{\"msg\": msg}] { msg := \"x\" }\nwarn[msg] { msg := \"x\" }\nallow { true }\n";
        assert_eq!(vet_as(v0, RegoVersion::V0), Ok(EntryPoint::ALL.to_vec()));
    }

    #[rstest]
    #[case::none("package p\nrefuse contains \"x\" if input.x\n", "`violation`")]
    #[case::empty("package p\n", "no rule gives a verdict")]
    #[case::deny_is_a_boolean("package p\ndeny if input.x\n", "p.rego:2:1: `deny` must be a set")]
    #[case::deny_is_a_list("package p\ndeny := [\"x\"]\n", "`deny` must be a set")]
    #[case::deny_is_an_object("package p\ndeny[msg] if { msg := \"x\" }\n", "`deny` must be a set")]
    #[case::deny_is_a_function("package p\ndeny(x) := \"x\"\n", "`deny` must be a set")]
    #[case::allow_is_a_set("package p\nallow contains \"x\" if input.x\n", "`allow` must be a boolean")]
    fn a_policy_without_a_usable_entry_point_is_refused(#[case] text: &str, #[case] words: &str) {
        let error = vet_text(text).expect_err("must be refused");
        assert!(error.contains(words), "{error}");
    }

    #[rstest]
    #[case::function("f(x) := f(x - 1)\n", "f -> f")]
    #[case::mutual("a if b\nb if a\n", "a -> b -> a")]
    #[case::through_the_package("a if data.p.b\nb if a\n", "recursion")]
    #[case::through_brackets("a if data[\"p\"][\"b\"]\nb if a\n", "recursion")]
    #[case::through_an_import("a if b\nb if q\n", "recursion")]
    #[case::through_a_head("f(x) := {\"a\": f(x)}\n", "recursion")]
    #[case::through_a_key("s contains f(1)\nf(x) := s\n", "recursion")]
    #[case::through_a_default("default a := 1\na := [b][0]\nb := a\n", "recursion")]
    #[case::through_with("f(x) := 1\ng(x) := y if { y := h(x) with f as g }\nh(x) := f(x)\n", "recursion")]
    #[case::through_else("a := 1 if input.x\nelse := b\nb := a\n", "recursion")]
    #[case::through_a_comprehension("a := [x | some x in b]\nb := a\n", "recursion")]
    #[case::through_every("a if every x in input.x { b }\nb if a\n", "recursion")]
    fn recursion_is_refused(#[case] rules: &str, #[case] words: &str) {
        let text = format!("package p\nimport data.p.a as q\ndeny contains \"x\" if input.x\n{rules}a if false\n");
        let text = if rules.contains(" q") {
            text
        } else {
            text.replace("import data.p.a as q\n", "")
        };
        let error = vet_text(&text).expect_err("must be refused");
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn a_long_chain_of_functions_is_refused() {
        let chain: String = (0..3000).map(|i| format!("f{i}(x) := f{}(x)\n", i + 1)).collect();
        let error =
            vet_text(&format!("package p\ndeny contains f0(1)\n{chain}f3000(x) := x\n")).expect_err("must be refused");
        assert!(error.contains("deep"), "{error}");
    }

    #[rstest]
    #[case::unknown("x := no.such(1)", "p.rego:3:")]
    #[case::misspelt("x := startwith(\"a\", \"b\")", "startwith")]
    #[case::http("x := http.send({})", "another server")]
    #[case::http_in_brackets("x := http[\"send\"]({})", "another server")]
    #[case::jwt("x := io.jwt.decode(\"a\")", "no built-in function")]
    #[case::range("x := numbers.range(1, 200000000)", "memory")]
    #[case::runtime("x := opa.runtime()", "environment")]
    #[case::clock("x := time.now_ns()", "same answer")]
    #[case::print("x if print(input)", "log")]
    #[case::other_package("x := data.other.y", "would never fire")]
    #[case::inventory("x := data.inventory.cluster", "would never fire")]
    #[case::all_of_data("x := data", "would never fire")]
    #[case::any_of_data("x := data[input.y]", "would never fire")]
    #[case::missing_rule("x := data.p.y", "no rule `y`")]
    fn what_is_not_there_is_refused(#[case] rule: &str, #[case] words: &str) {
        let error =
            vet_text(&format!("package p\ndeny contains \"x\" if input.x\n{rule}\n")).expect_err("must be refused");
        assert!(error.contains(words), "{error}");
    }

    #[rstest]
    #[case::in_the_head("deny contains x if input.y")]
    #[case::in_an_object_of_the_head("deny contains {\"msg\": x} if input.y")]
    #[case::in_a_call_of_the_head("deny contains upper(x) if input.y")]
    #[case::in_the_body("deny contains \"x\" if x == 1")]
    #[case::in_a_call("deny contains \"x\" if startswith(x, \"a\")")]
    #[case::negated("deny contains \"x\" if not x")]
    #[case::in_a_comparison("deny contains \"x\" if input.y > x")]
    #[case::in_a_comprehension("deny contains \"x\" if count([1 | x > 1]) > 0")]
    #[case::in_a_comprehension_of_the_head("deny contains [x | input.z] if input.y")]
    #[case::in_a_comprehension_of_the_body("deny contains \"x\" if count([x | input.z]) > 0")]
    #[case::only_inside_a_comprehension("deny contains x if count([x | some x in input.z]) > 0")]
    #[case::in_a_function("deny contains f(1) if input.y\nf(a) := x")]
    #[case::in_else("deny contains \"x\" if g == 1\ng := 1 if input.y\nelse := x")]
    #[case::in_a_negated_call("deny contains \"x\" if not startswith(x, \"a\")")]
    fn a_variable_without_a_value_is_refused(#[case] rules: &str) {
        let source = super::super::compile::Source {
            file: "p.rego".to_owned(),
            text: format!("package p\n{rules}\n"),
        };
        let plain = super::super::set::Plain {
            name: "p".to_owned(),
            target: super::super::metadata::Target::Pod,
            rego: RegoVersion::V1,
        };
        let loaded = super::super::set::PolicySet::compile_plain(vec![(plain, source)], &BTreeMap::new());
        assert!(loaded.is_err(), "{rules} was loaded");
    }

    #[test]
    fn functions_and_imports_of_the_own_package_are_fine() {
        let text = "package p[\"q-r\"]\nimport rego.v1\nimport input.request as request\n\
                    deny contains f(request.name) if data.p[\"q-r\"].g\nf(x) := sprintf(\"%s\", [x])\ng if input.y\n";
        assert_eq!(vet_text(text), Ok(vec![EntryPoint::Deny]));
    }
}
