//! What the engine reads otherwise than OPA. In objects that take values apart it takes `{"a": x}` for any object with an `a`, and OPA for one with nothing else.

use std::collections::BTreeSet;

use serde_json::Value;

use super::tree::{items, span_place, variables};
use super::{Reader, at};

impl Reader<'_> {
    /// Refuses objects with variables where a value is taken apart: parameters, `some … in`, the left of `:=` and `=`.
    pub(super) fn patterns(&mut self, rule: &Value) {
        let head = rule
            .get("Spec")
            .and_then(|spec| spec.get("head"))
            .and_then(|head| head.get("Func"));
        if let Some(head) = head {
            if items(head, "args").next().is_none() {
                let place = head.get("span").map_or((0, 0), span_place);
                let message = "a function without parameters is a rule: leave out the brackets";
                self.errors.push(at(self.file, place, message));
            }
            items(head, "args").for_each(|argument| self.taken_apart(argument));
        }
        self.within(rule);
    }

    fn within(&mut self, node: &Value) {
        match node {
            Value::Array(items) => items.iter().for_each(|item| self.within(item)),
            Value::Object(fields) => {
                if let Some(not) = node.get("NotExpr") {
                    self.negated_braces(not);
                }
                if let Some(some) = node.get("SomeIn") {
                    ["key", "value"]
                        .iter()
                        .filter_map(|part| some.get(*part))
                        .for_each(|part| self.taken_apart(part));
                }
                if let Some(assignment) = node.get("AssignExpr") {
                    let (left, right) = (assignment.get("lhs"), assignment.get("rhs"));
                    left.into_iter().for_each(|left| self.taken_apart(left));
                    // `x = {"a": y}` makes an object of what has a value.
                    let unifies = assignment.get("op").and_then(Value::as_str) != Some("ColEq");
                    if unifies && left.is_some_and(is_no_variable) {
                        right.into_iter().for_each(|right| self.taken_apart(right));
                    }
                }
                fields.values().for_each(|field| self.within(field));
            }
            _ => {}
        }
    }

    fn negated_braces(&mut self, not: &Value) {
        let kinds = ["Set", "Object", "SetCompr", "ObjectCompr"];
        if kinds
            .iter()
            .any(|kind| not.get("expr").is_some_and(|expression| expression.get(kind).is_some()))
        {
            let message = "`not` of braces is a query of its own in newer versions of OPA, which this engine does not know: \
                           make the query a rule, and negate that";
            let place = not.get("span").map_or((0, 0), span_place);
            self.errors.push(at(self.file, place, message));
        }
    }

    fn taken_apart(&mut self, pattern: &Value) {
        let Some((kind, fields)) = pattern.as_object().and_then(|kinds| kinds.iter().next()) else {
            return;
        };
        match kind.as_str() {
            "Array" => items(fields, "items").for_each(|item| self.taken_apart(item)),
            "Object" => {
                let mut found = BTreeSet::new();
                variables(pattern, &mut found);
                if !found.is_empty() {
                    let place = fields.get("span").map_or((0, 0), span_place);
                    let message = "an object with variables takes apart more objects here than in OPA: take the value whole, \
                                   and its fields by reference";
                    self.errors.push(at(self.file, place, message));
                }
            }
            _ => {}
        }
    }
}

/// `input` and `data` have a value: what they are compared with is taken apart.
fn is_no_variable(node: &Value) -> bool {
    let name = node.get("Var").and_then(|var| var.get("value")).and_then(Value::as_str);
    name.is_none_or(|name| matches!(name, "input" | "data"))
}
