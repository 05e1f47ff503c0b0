//! Variables that nothing gives a value.

use std::collections::BTreeSet;

use serde_json::Value;

use super::tree::{comprehension, items, place, span_place, variables};
use super::{Reader, at};
use crate::policy::builtins;

impl Reader<'_> {
    /// A variable that is put out and that nothing gives a value. The engine finds those of bodies itself, and takes a rule
    /// or comprehension with one in its head for one that yields nothing.
    pub(super) fn unbound(&mut self, text: &str, rule: &Value) {
        let Some(spec) = rule.get("Spec") else { return };
        let Some(head) = spec
            .get("head")
            .and_then(Value::as_object)
            .and_then(|kinds| kinds.values().next())
        else {
            return;
        };
        self.never_bound(text, rule, spec, head);
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

    /// A variable that stands nowhere in its rule where it could get a value. The engine has one of another rule of the same name
    /// for it at times, and takes the statement for undefined when it gets there.
    fn never_bound(&mut self, text: &str, rule: &Value, spec: &Value, head: &Value) {
        let mut given = BTreeSet::new();
        head.get("args")
            .into_iter()
            .for_each(|arguments| variables(arguments, &mut given));
        giving(text, rule, false, &mut given);
        let mut used = BTreeSet::new();
        let queries = items(spec, "bodies").filter_map(|body| body.get("query"));
        queries.for_each(|query| variables(query, &mut used));
        for name in used {
            let global = self.is_rule(name) || self.imports.contains_key(name);
            if !global
                && !given.contains(name)
                && !matches!(name, "input" | "data" | "_")
                && !builtins::starts_one(name)
            {
                let place = head.get("span").map_or((0, 0), span_place);
                let message = format!("nothing in this rule gives variable `{name}` a value: it would never apply");
                self.errors.push(at(self.file, place, message));
            }
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
                    let global = self.is_rule(name) || self.imports.contains_key(name);
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
}

/// Adds the variables that stand where they can get a value: what is assigned, unified or taken out of a collection, what stands in
/// brackets, and the result of a call. `is_pattern`: whether the node itself stands so.
fn giving<'a>(text: &'a str, node: &'a Value, is_pattern: bool, given: &mut BTreeSet<&'a str>) {
    match node {
        Value::Array(items) => items.iter().for_each(|item| giving(text, item, is_pattern, given)),
        Value::Object(fields) => {
            // Nothing under `not` gives a value to what is outside.
            for (kind, part) in fields.iter().filter(|(kind, _)| *kind != "NotExpr") {
                if kind == "Every" {
                    let names = ["key", "value"].into_iter().filter_map(|name| part.get(name));
                    given.extend(names.filter_map(|span| named(text, span)));
                }
                let patterns: &[&str] = match kind.as_str() {
                    "Var" if is_pattern => {
                        given.extend(part.get("value").and_then(Value::as_str));
                        continue;
                    }
                    "AssignExpr" if part.get("op").and_then(Value::as_str) == Some("ColEq") => &["lhs"],
                    "AssignExpr" => &["lhs", "rhs"],
                    "SomeIn" => &["key", "value"],
                    "RefBrack" => &["index"],
                    "Array" | "Set" | "Object" if is_pattern => &["items", "fields"],
                    _ => &[],
                };
                if let ("Call", Some(last)) = (kind.as_str(), items(part, "params").last()) {
                    giving(text, last, true, given);
                }
                match part {
                    Value::Object(inner) if !patterns.is_empty() => {
                        for (name, value) in inner {
                            giving(text, value, patterns.contains(&name.as_str()), given);
                        }
                    }
                    _ => giving(text, part, false, given),
                }
            }
        }
        _ => {}
    }
}

/// What a span is of.
fn named<'a>(text: &'a str, span: &Value) -> Option<&'a str> {
    let number = |key| span.get(key)?.as_u64().and_then(|at| usize::try_from(at).ok());
    text.get(number("start")?..number("end")?)
}
