//! Finds what is to stand in front of a statement: the engine's tree says what is there, the tokens where.

use std::collections::BTreeSet;

use serde_json::Value;

use super::tokens::{Region, Tokens};
use crate::policy::builtins;
use crate::policy::error::LoadError;
use crate::policy::vet::{Head, Kind, Path, comprehension, items, span_place, variables};

/// What is to stand in front of one statement.
#[derive(Debug)]
pub(super) struct Hoist {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether the statement is a body without braces.
    pub(super) bare: bool,
    pub(super) parts: Vec<Part>,
    /// Where its `with` modifiers are.
    pub(super) with: Option<(usize, usize)>,
    /// Whether they apply to the parts alone.
    pub(super) without: bool,
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) name: String,
    /// Whether the modifiers apply to it.
    pub(super) within: bool,
}

/// An `in` whose value is used.
#[derive(Debug)]
pub(super) struct Member {
    /// Where its two or three operands are.
    pub(super) operands: Vec<(usize, usize)>,
}

/// `f(x, y)` for `y = f(x)`.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) arguments_end: usize,
    pub(super) result: (usize, usize),
}

pub(super) struct Walker<'a> {
    file: &'a str,
    text: &'a str,
    pub(super) tokens: Tokens<'a>,
    /// Names that may have no value: rules, imports, `input` and `data`.
    pub(super) globals: BTreeSet<String>,
    imports: BTreeSet<String>,
    functions: BTreeSet<String>,
    /// Whether every keyword is imported, those that this engine does not know included.
    all_keywords: bool,
    prefix: String,
    pub(super) held: usize,
    pub(super) hoists: Vec<Hoist>,
    pub(super) members: Vec<Member>,
    pub(super) results: Vec<Taken>,
    /// What stands in brackets and is a value.
    pub(super) indices: Vec<(usize, usize)>,
    pub(super) errors: Vec<LoadError>,
}

/// The tree and the text do not fit together.
pub(super) struct Uncertain;

impl<'a> Walker<'a> {
    pub(super) fn new(file: &'a str, text: &'a str, module: &Value, siblings: &[&Value]) -> Self {
        let modules = siblings.iter().copied().chain([module]);
        let heads: Vec<_> = modules
            .flat_map(|module| items(module, "rules"))
            .filter_map(Head::read)
            .collect();
        let functions = heads.iter().filter(|head| head.kind == Kind::Function);
        let functions = functions.map(|head| head.name.clone()).collect();
        let all_keywords = items(module, "imports")
            .filter_map(|import| import.get("refr").and_then(Path::read))
            .any(|path| path.root == "future" && path.names == ["keywords"]);
        let imports = items(module, "imports").filter_map(|import| {
            let alias = import
                .get("as")
                .and_then(span)
                .and_then(|(start, end)| text.get(start..end));
            let last = || {
                let path = import.get("refr").and_then(Path::read)?;
                Some(path.names.last().copied().unwrap_or(path.root).to_owned())
            };
            alias.map(str::to_owned).or_else(last)
        });
        let imports: BTreeSet<_> = imports.collect();
        let globals = ["input", "data"]
            .map(str::to_owned)
            .into_iter()
            .chain(imports.iter().cloned());
        let globals = globals.chain(heads.iter().map(|head| head.name.clone())).collect();
        let mut prefix = "held_".to_owned();
        while text.contains(&prefix) {
            prefix.push('_');
        }
        Self {
            file,
            text,
            tokens: Tokens::read(text),
            globals,
            imports,
            functions,
            all_keywords,
            prefix,
            held: 0,
            hoists: Vec::new(),
            members: Vec::new(),
            results: Vec::new(),
            indices: Vec::new(),
            errors: Vec::new(),
        }
    }

    pub(super) fn visit(&mut self, module: &Value) {
        for rule in items(module, "rules") {
            let mut bound = BTreeSet::new();
            let arguments = rule.pointer("/Spec/head/Func/args");
            arguments
                .into_iter()
                .for_each(|arguments| variables(arguments, &mut bound));
            // What a body gives a value is there for the head too.
            for query in rule
                .pointer("/Spec/bodies")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                query
                    .get("query")
                    .into_iter()
                    .for_each(|query| positive(query, &mut bound));
            }
            self.within(rule, &bound);
        }
    }

    /// `bound`: the variables that have a value around it.
    fn within<'b>(&mut self, node: &'b Value, bound: &BTreeSet<&'b str>)
    where
        'a: 'b,
    {
        match node {
            Value::Array(items) => items.iter().for_each(|item| self.within(item, bound)),
            Value::Object(fields) => {
                let inner = self.inner(node, bound);
                let bound = inner.as_ref().unwrap_or(bound);
                for statement in node.get("query").into_iter().flat_map(|query| items(query, "stmts")) {
                    let start = |node: &Value| node.get("span").and_then(span).map(|(start, _)| start);
                    let bare = node.get("query").and_then(start) == start(statement);
                    self.statement(statement, bare, bound);
                }
                self.terms(node);
                if let Some(call) = node.get("Call") {
                    self.counted(call);
                }
                fields.values().for_each(|field| self.within(field, bound));
            }
            _ => {}
        }
    }

    /// The variables that have a value in a query of a node, where it has one.
    fn inner<'b>(&self, node: &'b Value, bound: &BTreeSet<&'b str>) -> Option<BTreeSet<&'b str>>
    where
        'a: 'b,
    {
        let query = node.get("query")?;
        let mut inner = bound.clone();
        positive(query, &mut inner);
        if node.get("domain").is_some() {
            let names = ["key", "value"]
                .into_iter()
                .filter_map(|part| node.get(part).and_then(span));
            inner.extend(names.filter_map(|(start, end)| self.text.get(start..end)));
        }
        Some(inner)
    }

    fn statement(&mut self, statement: &Value, bare: bool, bound: &BTreeSet<&str>) {
        if self.take_apart(statement, bare).is_err() {
            self.uncertain(statement);
        }
        let negated = statement.pointer("/literal/NotExpr/expr");
        let mut named = BTreeSet::new();
        negated.into_iter().for_each(|negated| variables(negated, &mut named));
        let unbound = named
            .iter()
            .find(|name| !self.globals.contains(**name) && !bound.contains(**name));
        if let Some(name) = unbound {
            let message = format!(
                "nothing but what is under `not` gives variable `{name}` a value: take the value in a line before, such as by \
                 `some {name} in …`"
            );
            self.error(statement, &message);
        }
    }

    pub(super) fn uncertain(&mut self, node: &Value) {
        let message = "what this needs to have a value cannot be told with certainty: give its parts names in lines of their own \
                       before it, with `:=`";
        self.error(node, message);
    }

    pub(super) fn error(&mut self, node: &Value, message: &str) {
        let (line, column) = node.get("span").map_or((0, 0), span_place);
        self.errors.push(LoadError::at(self.file, line, Some(column), message));
    }

    fn take_apart(&mut self, statement: &Value, bare: bool) -> Result<(), Uncertain> {
        let (start, end) = statement.get("span").and_then(span).ok_or(Uncertain)?;
        let all = Region {
            from: self.tokens.holding(start),
            to: self.tokens.behind(end),
        };
        let mut parts = Vec::new();
        let mut modifiers = Vec::new();
        for modifier in items(statement, "with_mods") {
            let (start, _) = modifier.get("span").and_then(span).ok_or(Uncertain)?;
            modifiers.push((self.tokens.holding(start), modifier));
        }
        let first = modifiers.first().map_or(all.to, |(from, _)| *from);
        for (number, (from, modifier)) in modifiers.iter().enumerate() {
            let to = modifiers.get(number + 1).map_or(all.to, |(from, _)| *from);
            self.modifier(Region { from: *from, to }, modifier, &mut parts)?;
        }
        let literal = statement.get("literal").ok_or(Uncertain)?;
        let expression = Region {
            from: all.from + 1,
            to: first,
        };
        self.members_of(literal, expression, all.from)?;
        if let Some(expr) = literal.get("Expr").and_then(|literal| literal.get("expr")) {
            let region = Region {
                from: all.from,
                to: first,
            };
            self.result(expr, region)?;
        }
        let before = parts.len();
        let mut without = false;
        if let Some(not) = literal.get("NotExpr") {
            if !self.tokens.is(all.from, "not") {
                return Err(Uncertain);
            }
            self.negated(not.get("expr").ok_or(Uncertain)?, expression, &mut parts)?;
            if self.all_keywords && parts.len() > before {
                let message = "`import future.keywords` gives `not` another meaning in newer versions of OPA than in older ones: \
                               import the keywords by name (`future.keywords.in`), or negate a rule";
                self.error(statement, message);
            }
        } else if literal.get("SomeIn").is_some() && !modifiers.is_empty() {
            // The engine would evaluate what follows under these modifiers too.
            let at = expression
                .outer(&self.tokens)
                .find(|number| self.tokens.is(*number, "in"));
            let from = at.ok_or(Uncertain)? + 1;
            self.hold(Region { from, to: first }, &mut parts)?;
            without = true;
        }
        for part in parts.iter_mut().skip(before) {
            part.within = true;
        }
        if parts.is_empty() {
            return Ok(());
        }
        let (start, end) = all.bytes(&self.tokens).ok_or(Uncertain)?;
        let with = Region {
            from: first,
            to: all.to,
        }
        .bytes(&self.tokens);
        self.hoists.push(Hoist {
            start,
            end,
            bare,
            parts,
            with,
            without,
        });
        Ok(())
    }

    /// A value that is undefined makes the statement so, whichever modifier it is of; it is taken before any applies.
    fn modifier(&mut self, region: Region, modifier: &Value, parts: &mut Vec<Part>) -> Result<(), Uncertain> {
        let (target, value) = (modifier.get("refr"), modifier.get("as").ok_or(Uncertain)?);
        let target = target.and_then(Path::read).ok_or(Uncertain)?;
        let may_be_a_function =
            target.root != "input" && Path::read(value).is_some_and(|path| self.names_a_function(&path));
        if may_be_a_function || !self.is_dynamic(value) {
            return Ok(());
        }
        let is_as = |number: &usize| self.tokens.is(*number, "as") && !self.tokens.is(number.wrapping_sub(1), ".");
        let from = region.outer(&self.tokens).find(is_as).ok_or(Uncertain)? + 1;
        self.members(value, Region { from, to: region.to }, true)?;
        self.hold(Region { from, to: region.to }, parts)
    }

    fn names_a_function(&self, path: &Path<'_>) -> bool {
        self.functions.contains(path.root)
            || path.root == "data"
            || self.imports.contains(path.root)
            || builtins::is_known(&path.dotted())
    }

    /// The arguments of a call that is all of a region.
    pub(super) fn arguments(&self, region: Region) -> Result<Vec<Region>, Uncertain> {
        let open = region.outer(&self.tokens).find(|number| self.tokens.is(*number, "("));
        let open = open.ok_or(Uncertain)?;
        let close = self.tokens.get(open).ok_or(Uncertain)?.closes;
        if close + 1 != region.to || close == open {
            return Err(Uncertain);
        }
        let inside = Region {
            from: open + 1,
            to: close,
        };
        let mut arguments = inside.split(&self.tokens, ",");
        // Nothing between the brackets, or behind the last comma.
        if arguments.last().is_some_and(|last| last.is_empty()) {
            arguments.pop();
        }
        Ok(arguments)
    }

    pub(super) fn hold(&mut self, region: Region, parts: &mut Vec<Part>) -> Result<(), Uncertain> {
        let (start, end) = region.bytes(&self.tokens).ok_or(Uncertain)?;
        self.held += 1;
        let name = format!("{}{}", self.prefix, self.held);
        parts.push(Part {
            start,
            end,
            name,
            within: false,
        });
        Ok(())
    }

    /// Whether it may be undefined: it looks something up, or calls something. What is in a comprehension makes it shorter, and
    /// never undefined.
    pub(super) fn is_dynamic(&self, node: &Value) -> bool {
        match node {
            Value::Array(items) => items.iter().any(|item| self.is_dynamic(item)),
            Value::Object(fields) => {
                if comprehension(fields).is_some() {
                    false
                } else if let Some(var) = node.get("Var") {
                    let name = var.get("value").and_then(Value::as_str).unwrap_or_default();
                    self.globals.contains(name)
                } else if ["RefDot", "RefBrack", "Call"]
                    .iter()
                    .any(|kind| fields.contains_key(*kind))
                {
                    true
                } else {
                    fields.values().any(|field| self.is_dynamic(field))
                }
            }
            _ => false,
        }
    }
}

/// Variables of what is not under `not`.
fn positive<'b>(query: &'b Value, bound: &mut BTreeSet<&'b str>) {
    for statement in items(query, "stmts").filter_map(|statement| statement.get("literal")) {
        if let Some(every) = statement.get("Every") {
            // What is in its body stays there.
            every
                .get("domain")
                .into_iter()
                .for_each(|domain| variables(domain, bound));
        } else if statement.get("NotExpr").is_none() {
            variables(statement, bound);
        }
    }
}

pub(super) fn span(node: &Value) -> Option<(usize, usize)> {
    let number = |key| node.get(key)?.as_u64().and_then(|at| usize::try_from(at).ok());
    Some((number("start")?, number("end")?))
}
