//! What is under `not`, taken apart: which of its parts OPA evaluates in front of it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::hoist::{Part, Uncertain, Walker};
use super::tokens::Region;
use crate::policy::vet::{items, variables};

impl Walker<'_> {
    /// What is under `not`.
    pub(super) fn negated(&mut self, node: &Value, region: Region, parts: &mut Vec<Part>) -> Result<(), Uncertain> {
        let region = region.bare(&self.tokens);
        if let Some(call) = node.get("Call") {
            let arguments: Vec<_> = items(call, "params").collect();
            let regions = self.arguments(region)?;
            if regions.len() != arguments.len() {
                return Err(Uncertain);
            }
            for (argument, region) in arguments.into_iter().zip(regions) {
                if self.is_dynamic(argument) {
                    self.hold(region, parts)?;
                }
            }
            return Ok(());
        }
        let assignment = node.get("AssignExpr");
        let comparison = node.get("BoolExpr");
        let operator = |node: Option<&Value>| node.and_then(|node| node.get("op")?.as_str().map(str::to_owned));
        let sides = match (operator(assignment).as_deref(), operator(comparison).as_deref()) {
            (Some("Eq"), _) => region.outer(&self.tokens).find(|number| self.tokens.is(*number, "=")),
            (_, Some("Eq")) => region.outer(&self.tokens).rfind(|number| self.tokens.is(*number, "==")),
            (Some(_), _) => return Err(Uncertain),
            _ => return self.operand(node, region, parts),
        };
        let (at, of) = (sides.ok_or(Uncertain)?, assignment.or(comparison).ok_or(Uncertain)?);
        let (left, right) = (of.get("lhs").ok_or(Uncertain)?, of.get("rhs").ok_or(Uncertain)?);
        self.operand(
            left,
            Region {
                from: region.from,
                to: at,
            },
            parts,
        )?;
        self.operand(
            right,
            Region {
                from: at + 1,
                to: region.to,
            },
            parts,
        )
    }

    /// A side of an equation, or what is negated itself: it may be undefined, but not what it is made of.
    fn operand(&mut self, node: &Value, region: Region, parts: &mut Vec<Part>) -> Result<(), Uncertain> {
        let region = region.bare(&self.tokens);
        let Some((kind, _)) = node.as_object().and_then(|fields| fields.iter().next()) else {
            return Err(Uncertain);
        };
        match kind.as_str() {
            "String" | "RawString" | "Number" | "Bool" | "Null" | "Var" | "ArrayCompr" | "SetCompr" | "ObjectCompr" => {
                Ok(())
            }
            "Array" | "Set" | "Object" if !self.is_dynamic(node) => Ok(()),
            "BoolExpr" | "ArithExpr" | "BinExpr" | "Membership" | "UnaryExpr" if !self.is_dynamic(node) => Ok(()),
            "RefDot" | "RefBrack" => self.reference(node, region, parts),
            "Call" => {
                // It must be one to its end: a bracket that closes early would leave a part behind.
                self.arguments(region)?;
                self.hold(region, parts)
            }
            "Array" | "Set" | "Object" | "BoolExpr" | "ArithExpr" | "BinExpr" | "Membership" | "UnaryExpr" => {
                self.hold(region, parts)
            }
            _ => Err(Uncertain),
        }
    }

    /// A reference may lead nowhere, but what it starts at and what its brackets say must be there.
    fn reference(&mut self, node: &Value, region: Region, parts: &mut Vec<Part>) -> Result<(), Uncertain> {
        let mut indices = Vec::new();
        let mut base = node;
        loop {
            if let Some(dot) = base.get("RefDot") {
                base = dot.get("refr").ok_or(Uncertain)?;
            } else if let Some(bracket) = base.get("RefBrack") {
                indices.push(bracket.get("index").ok_or(Uncertain)?);
                base = bracket.get("refr").ok_or(Uncertain)?;
            } else {
                break;
            }
        }
        let mut from = region.from;
        if base.get("Call").is_some() {
            let open = region.outer(&self.tokens).find(|number| self.tokens.is(*number, "("));
            let close = self.tokens.get(open.ok_or(Uncertain)?).ok_or(Uncertain)?.closes;
            self.hold(Region { from, to: close + 1 }, parts)?;
            from = close + 1;
        } else if base.get("Var").is_none() {
            let close = self.tokens.get(from).ok_or(Uncertain)?.closes;
            // `set()` has a word before its bracket, and is nothing to look into.
            if close == from {
                return Err(Uncertain);
            }
            if self.is_dynamic(base) {
                self.hold(Region { from, to: close + 1 }, parts)?;
            }
            from = close + 1;
        }
        let rest = Region { from, to: region.to };
        let depth = self.tokens.get(region.from).ok_or(Uncertain)?.depth;
        let brackets: Vec<_> = (rest.from..rest.to)
            .filter(|number| {
                self.tokens.is(*number, "[") && self.tokens.get(*number).is_some_and(|token| token.depth == depth)
            })
            .collect();
        if brackets.len() != indices.len() {
            return Err(Uncertain);
        }
        for (open, index) in brackets.into_iter().zip(indices.into_iter().rev()) {
            let to = self.tokens.get(open).ok_or(Uncertain)?.closes;
            let inside = Region { from: open + 1, to };
            let mut named = BTreeSet::new();
            variables(index, &mut named);
            if self.is_dynamic(index) {
                self.hold(inside, parts)?;
            } else if !named.is_empty() {
                self.indices.push(inside.bytes(&self.tokens).ok_or(Uncertain)?);
            }
        }
        Ok(())
    }
}
