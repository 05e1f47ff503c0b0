//! Calls of our functions: the engine neither counts their arguments nor knows that the last may be for the result.

use serde_json::Value;

use super::hoist::{Taken, Uncertain, Walker, span};
use super::tokens::Region;
use crate::policy::builtins;
use crate::policy::vet::{Path, items};

impl Walker<'_> {
    /// A function of ours that is called with too few or too many arguments: the engine would find out when it is called.
    pub(super) fn counted(&mut self, call: &Value) {
        let Some((name, takes)) = self.ours(call) else { return };
        let given = items(call, "params").count();
        let takes_result = call.get("span").and_then(span).is_some_and(|(start, end)| {
            self.results
                .iter()
                .rev()
                .any(|taken| taken.start == start && taken.end == end)
        });
        if given != takes && !takes_result {
            let message = format!("`{name}` takes {takes} arguments, and is given {given}");
            self.error(call, &message);
        }
    }

    /// Name and number of arguments of a function of ours, where a call is of one.
    fn ours(&self, call: &Value) -> Option<(String, usize)> {
        let path = call.get("fcn").and_then(Path::read).filter(|path| path.constant)?;
        if self.globals.contains(path.root) {
            return None;
        }
        let name = path.dotted();
        let takes = builtins::arguments_of_ours(&name)?;
        Some((name, takes))
    }

    /// `f(x, y)` as all of a statement.
    pub(super) fn result(&mut self, node: &Value, region: Region) -> Result<(), Uncertain> {
        let Some(call) = node.get("Call") else { return Ok(()) };
        let arguments: Vec<_> = items(call, "params").collect();
        if self.ours(call).is_none_or(|(_, takes)| takes + 1 != arguments.len()) {
            return Ok(());
        }
        let region = region.bare(&self.tokens);
        let regions = self.arguments(region)?;
        let (Some((result, into)), Some(last)) = (regions.split_last(), arguments.last()) else {
            return Err(Uncertain);
        };
        let simple = ["Var", "Array", "String", "Number", "Bool", "Null", "RefDot", "RefBrack"];
        if !simple.iter().any(|kind| last.get(kind).is_some()) || contains_object(last) {
            return Err(Uncertain);
        }
        let (start, end) = region.bytes(&self.tokens).ok_or(Uncertain)?;
        let open = region.outer(&self.tokens).find(|number| self.tokens.is(*number, "("));
        let open_end = open.and_then(|open| self.tokens.get(open)).ok_or(Uncertain)?.end;
        let arguments_end = into
            .last()
            .map_or(Some(open_end), |last| last.bytes(&self.tokens).map(|(_, end)| end));
        let result = result.bytes(&self.tokens).ok_or(Uncertain)?;
        let arguments_end = arguments_end.ok_or(Uncertain)?;
        self.results.push(Taken {
            start,
            end,
            arguments_end,
            result,
        });
        Ok(())
    }
}

fn contains_object(node: &Value) -> bool {
    match node {
        Value::Array(items) => items.iter().any(contains_object),
        Value::Object(fields) => fields.contains_key("Object") || fields.values().any(contains_object),
        _ => false,
    }
}
