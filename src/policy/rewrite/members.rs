//! Finds each `in` whose value is used, and where its operands are: from a whole down to its parts, since the tree alone does not
//! say where a part ends.

use serde_json::Value;

use super::hoist::{Member, Uncertain, Walker, span};
use super::tokens::Region;
use crate::policy::vet::{comprehension, items};

impl Walker<'_> {
    /// Those of a statement. One that is all of a statement is false or undefined alike.
    pub(super) fn members_of(&mut self, literal: &Value, expression: Region, start: usize) -> Result<(), Uncertain> {
        let within = |part: &str| literal.get(part);
        if let Some(expr) = within("Expr").and_then(|literal| literal.get("expr")) {
            let region = Region {
                from: start,
                to: expression.to,
            };
            return self.members(expr, region, false);
        }
        if let Some(expr) = within("NotExpr").and_then(|literal| literal.get("expr")) {
            return self.members(expr, expression, true);
        }
        let some = within("SomeIn").and_then(|literal| literal.get("collection"));
        let every = within("Every");
        let (node, to) = match (some, every) {
            (Some(collection), _) => (collection, expression.to),
            (None, Some(every)) => {
                let (brace, _) = every
                    .get("query")
                    .and_then(|query| query.get("span"))
                    .and_then(span)
                    .ok_or(Uncertain)?;
                (every.get("domain").ok_or(Uncertain)?, self.tokens.holding(brace))
            }
            (None, None) => return Ok(()),
        };
        if !has_member(node) {
            return Ok(());
        }
        let at = expression
            .outer(&self.tokens)
            .find(|number| self.tokens.is(*number, "in"))
            .ok_or(Uncertain)?;
        self.members(node, Region { from: at + 1, to }, true)
    }

    /// Those of heads and of what comprehensions put together.
    pub(super) fn terms(&mut self, node: &Value) {
        let found = self
            .assigned(node)
            .and_then(|()| self.contained(node))
            .and_then(|()| self.comprehended(node));
        if found.is_err() {
            self.uncertain(node);
        }
    }

    /// `:= value` of a head or of `else`.
    fn assigned(&mut self, node: &Value) -> Result<(), Uncertain> {
        let Some(assign) = node.get("assign").filter(|assign| has_member(assign)) else {
            return Ok(());
        };
        let (start, end) = assign.get("span").and_then(span).ok_or(Uncertain)?;
        let region = Region {
            from: self.tokens.holding(start) + 1,
            to: self.tokens.behind(end),
        };
        self.members(assign.get("value").ok_or(Uncertain)?, region, true)
    }

    /// `contains key`; a key in brackets has no place of its own.
    fn contained(&mut self, node: &Value) -> Result<(), Uncertain> {
        let Some(head) = node
            .get("head")
            .and_then(|head| head.get("Set"))
            .filter(|head| has_member(head))
        else {
            return Ok(());
        };
        let (start, end) = head.get("span").and_then(span).ok_or(Uncertain)?;
        let all = Region {
            from: self.tokens.holding(start),
            to: self.tokens.behind(end),
        };
        let at = all
            .outer(&self.tokens)
            .find(|number| self.tokens.is(*number, "contains"))
            .ok_or(Uncertain)?;
        self.members(
            head.get("key").ok_or(Uncertain)?,
            Region {
                from: at + 1,
                to: all.to,
            },
            true,
        )
    }

    /// What stands before the `|`.
    fn comprehended(&mut self, node: &Value) -> Result<(), Uncertain> {
        let terms: Vec<_> = ["term", "key", "value"]
            .iter()
            .filter_map(|term| node.get(*term))
            .collect();
        let Some(query) = node
            .get("query")
            .filter(|_| node.get("domain").is_none() && terms.iter().any(|term| has_member(term)))
        else {
            return Ok(());
        };
        let (start, _) = node.get("span").and_then(span).ok_or(Uncertain)?;
        let (bar, _) = query.get("span").and_then(span).ok_or(Uncertain)?;
        let all = Region {
            from: self.tokens.holding(start) + 1,
            to: self.tokens.holding(bar),
        };
        let regions = if terms.len() == 2 {
            all.split(&self.tokens, ":")
        } else {
            vec![all]
        };
        self.each(&terms, &regions)
    }

    fn each(&mut self, nodes: &[&Value], regions: &[Region]) -> Result<(), Uncertain> {
        if nodes.len() != regions.len() {
            return Err(Uncertain);
        }
        nodes
            .iter()
            .zip(regions)
            .try_for_each(|(node, region)| self.members(node, *region, true))
    }

    /// Those of an expression. `used`: whether more than its truth counts.
    pub(super) fn members(&mut self, node: &Value, region: Region, used: bool) -> Result<(), Uncertain> {
        if !has_member(node) {
            return Ok(());
        }
        let region = region.bare(&self.tokens);
        let Some((kind, fields)) = node.as_object().and_then(|kinds| kinds.iter().next()) else {
            return Err(Uncertain);
        };
        let sides = || Some([fields.get("lhs")?, fields.get("rhs")?]);
        match kind.as_str() {
            // Their own terms and statements are seen to when they are come by.
            "ArrayCompr" | "SetCompr" | "ObjectCompr" => Ok(()),
            "Membership" => self.member(fields, region, used),
            "Call" => {
                let regions = self.arguments(region)?;
                self.each(&items(fields, "params").collect::<Vec<_>>(), &regions)
            }
            "Array" | "Set" => {
                let regions = self.inside(region)?;
                self.each(&items(fields, "items").collect::<Vec<_>>(), &regions)
            }
            "Object" => {
                let mut regions = Vec::new();
                for field in self.inside(region)? {
                    regions.extend(field.split(&self.tokens, ":"));
                }
                let fields = items(fields, "fields").filter_map(Value::as_array);
                let fields: Vec<_> = fields.flat_map(|field| field.iter().skip(1)).collect();
                self.each(&fields, &regions)
            }
            "AssignExpr" => {
                let op = if fields.get("op").and_then(Value::as_str) == Some("Eq") {
                    "="
                } else {
                    ":="
                };
                let at = region.outer(&self.tokens).find(|number| self.tokens.is(*number, op));
                self.both(sides(), region, at)
            }
            "BoolExpr" => {
                let ops = ["==", "!=", "<", "<=", ">", ">="];
                let is_one = |number: &usize| ops.iter().any(|op| self.tokens.is(*number, op));
                let at = region.outer(&self.tokens).rfind(is_one);
                self.both(sides(), region, at)
            }
            "BinExpr" => {
                let op = if fields.get("op").and_then(Value::as_str) == Some("Union") {
                    "|"
                } else {
                    "&"
                };
                let at = region.outer(&self.tokens).rfind(|number| self.tokens.is(*number, op));
                self.both(sides(), region, at)
            }
            "RefBrack" | "RefDot" | "ArithExpr" | "UnaryExpr" => Err(Uncertain),
            _ => Err(Uncertain),
        }
    }

    fn both(&mut self, sides: Option<[&Value; 2]>, region: Region, at: Option<usize>) -> Result<(), Uncertain> {
        let (sides, at) = (sides.ok_or(Uncertain)?, at.ok_or(Uncertain)?);
        let regions = [
            Region {
                from: region.from,
                to: at,
            },
            Region {
                from: at + 1,
                to: region.to,
            },
        ];
        self.each(&sides, &regions)
    }

    /// The elements between the brackets of a literal.
    fn inside(&self, region: Region) -> Result<Vec<Region>, Uncertain> {
        let open = self.tokens.get(region.from).ok_or(Uncertain)?;
        if open.closes + 1 != region.to || open.closes == region.from {
            return Err(Uncertain);
        }
        let mut elements = Region {
            from: region.from + 1,
            to: open.closes,
        }
        .split(&self.tokens, ",");
        if elements.last().is_some_and(|last| last.is_empty()) {
            elements.pop();
        }
        Ok(elements)
    }

    fn member(&mut self, fields: &Value, region: Region, used: bool) -> Result<(), Uncertain> {
        let at = region
            .outer(&self.tokens)
            .rfind(|number| self.tokens.is(*number, "in"))
            .ok_or(Uncertain)?;
        let mut left = Region {
            from: region.from,
            to: at,
        }
        .split(&self.tokens, ",");
        left.push(Region {
            from: at + 1,
            to: region.to,
        });
        let operands: Vec<_> = ["key", "value", "collection"]
            .iter()
            .filter_map(|part| fields.get(*part).filter(|part| !part.is_null()))
            .collect();
        self.each(&operands, &left)?;
        // A local variable has a value wherever it can be looked at. The engine finds no keys in sets, which are their own.
        let has_key = operands.len() == 3;
        if has_key || used && operands.iter().any(|operand| self.is_dynamic(operand)) {
            let operands = left
                .iter()
                .map(|operand| operand.bytes(&self.tokens))
                .collect::<Option<Vec<_>>>();
            self.members.push(Member {
                operands: operands.ok_or(Uncertain)?,
            });
        }
        Ok(())
    }
}

/// Whether there is one outside of comprehensions, which are seen to on their own.
fn has_member(node: &Value) -> bool {
    match node {
        Value::Array(items) => items.iter().any(has_member),
        Value::Object(fields) => {
            comprehension(fields).is_none() && (fields.contains_key("Membership") || fields.values().any(has_member))
        }
        _ => false,
    }
}
