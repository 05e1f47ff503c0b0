//! Variables that nothing gives a value.

use std::collections::BTreeSet;

use serde_json::Value;

use super::tree::{comprehension, items, place, variables};
use super::{Reader, at};

impl Reader<'_> {
    /// A variable that is put out and that nothing gives a value. The engine finds those of bodies itself, and takes a rule
    /// or comprehension with one in its head for one that yields nothing.
    pub(super) fn unbound(&mut self, rule: &Value) {
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
