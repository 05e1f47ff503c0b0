//! Puts in front of a statement what OPA evaluates in front of it, so that what is undefined there means the same here.
//!
//! To OPA the arguments of a call under `not` are statements of their own: where one is undefined, the whole body is. To the
//! engine the call is undefined then, and its negation true: `allow if not is_bad(input.x)` would let pass what has no `x`. The
//! same holds for the values of `with`. So `not f(input.x)` becomes `held := (input.x); not f(held)`. And `x in y` is false to the
//! engine where `y` is undefined, and undefined to OPA: where its value is used, a function of ours takes its place. And the
//! engine knows of its own functions alone that `f(x, y)` may mean `y = f(x)`.
//!
//! Must never guess: what cannot be taken apart with certainty is refused, with its place.

mod aliases;
mod hoist;
mod members;
mod negated;
mod places;
mod results;
pub(super) mod tokens;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use serde_json::Value;

use super::builtins::{MEMBER_2, MEMBER_3, SAME};
use super::error::LoadError;
use super::lexical::MAX_BYTES;
use aliases::Alias;
use hoist::{Hoist, Member, Part, Taken, Walker};
pub(super) use places::{Lines, Origins, Places};

/// Longest text that is made of a policy: copies of `with` could make it as long as one likes.
pub(super) const MAX_REWRITTEN: usize = 4 * MAX_BYTES;

/// The text for the engine, and where its parts come from.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) text: String,
    pub(super) places: Places,
}

/// Rewrites a text that the engine has parsed. `module` is the engine's own rendering of its tree, `siblings` are those of the
/// other modules of its package, whose rules it sees by their bare names. `is_of_tests`: imports are written out too.
pub(super) fn rewrite(
    file: &str,
    text: &str,
    module: &Value,
    siblings: &[&Value],
    is_of_tests: bool,
) -> Result<Rewritten, Vec<LoadError>> {
    let aliases = if is_of_tests {
        aliases::find(text, module)
    } else {
        Vec::new()
    };
    let mut walker = Walker::new(file, text, module, siblings);
    walker.visit(module);
    if !walker.errors.is_empty() {
        return Err(walker.errors);
    }
    let writer = Writer::new(text, &walker, &aliases);
    let mut places = Places::new(text);
    let mut out = String::with_capacity(text.len());
    if !writer.write(0, text.len(), As::Whole, &mut out, &mut places) {
        let message = "written out as it is evaluated the policy is too long: name the values of `with` as rules";
        return Err(vec![LoadError::file(file, message)]);
    }
    places.of(&out);
    Ok(Rewritten { text: out, places })
}

#[derive(Clone, Copy)]
enum Change<'a> {
    /// What stands in front of a statement.
    Before(&'a Hoist),
    /// A part that stands in front of its statement now, by name.
    Name(&'a Part),
    /// `in`, as a call of a function that has no value where one of its operands has none.
    Member(&'a Member),
    /// A variable in brackets, as a value: under `not` in `every` the engine takes it for a loop.
    Index(usize, usize),
    /// A call whose last argument is for its result, as an equation.
    Result(&'a Taken),
    /// The name of an import, as what it stands for.
    Alias(&'a str),
    /// Modifiers that are of the parts alone.
    Nothing,
    /// The end of a body that had no braces.
    Brace,
}

struct Edit<'a> {
    start: usize,
    end: usize,
    change: Change<'a>,
}

impl Edit<'_> {
    /// What stands in front comes first, then what holds the most.
    fn order(&self) -> (usize, bool, Reverse<usize>, bool) {
        let is_before = matches!(self.change, Change::Before(_));
        let is_name = matches!(self.change, Change::Name(_));
        (self.start, !is_before, Reverse(self.end), !is_name)
    }
}

/// What a range is written as a part of, whose own edit is not applied to it.
#[derive(Clone, Copy, Eq, PartialEq)]
enum As<'a> {
    Whole,
    Part(&'a str),
    Modifiers,
    Operand,
}

struct Writer<'a> {
    text: &'a str,
    edits: Vec<Edit<'a>>,
}

impl<'a> Writer<'a> {
    fn new(text: &'a str, walker: &'a Walker<'_>, aliases: &'a [Alias]) -> Self {
        let mut edits = Vec::new();
        let mut edit = |start, end, change| edits.push(Edit { start, end, change });
        for hoist in &walker.hoists {
            edit(hoist.start, hoist.start, Change::Before(hoist));
            for part in &hoist.parts {
                edit(part.start, part.end, Change::Name(part));
            }
            if let Some((start, end)) = hoist.with.filter(|_| hoist.without) {
                edit(start, end, Change::Nothing);
            }
            if hoist.bare {
                edit(hoist.end, hoist.end, Change::Brace);
            }
        }
        for alias in aliases {
            edit(alias.start, alias.end, Change::Alias(&alias.path));
        }
        for taken in &walker.results {
            edit(taken.start, taken.end, Change::Result(taken));
        }
        for (start, end) in &walker.indices {
            edit(*start, *end, Change::Index(*start, *end));
        }
        for member in &walker.members {
            if let (Some((start, _)), Some((_, end))) = (member.operands.first(), member.operands.last()) {
                edits.push(Edit {
                    start: *start,
                    end: *end,
                    change: Change::Member(member),
                });
            }
        }
        edits.sort_by_key(Edit::order);
        Self { text, edits }
    }

    /// Writes a range of the text with its edits; `false` when it gets too long.
    fn write(&self, from: usize, to: usize, written: As<'_>, out: &mut String, places: &mut Places) -> bool {
        let mut at = from;
        let first = self.edits.partition_point(|edit| edit.start < from);
        for edit in self.edits.get(first..).unwrap_or_default() {
            if edit.start > to {
                break;
            }
            let is_own = match edit.change {
                Change::Name(part) => written == As::Part(&part.name),
                Change::Index(start, end) => written == As::Operand && (start, end) == (from, to),
                Change::Nothing => written == As::Modifiers && edit.start == from,
                // A statement that ends with the range has its brace behind it.
                Change::Brace => written != As::Whole && edit.start == to,
                Change::Before(_) | Change::Member(_) | Change::Result(_) | Change::Alias(_) => false,
            };
            if edit.start < at || edit.end > to || is_own {
                continue;
            }
            self.copy(at, edit.start, out, places);
            at = edit.end;
            places.made(out.len(), edit.start);
            let fits = match edit.change {
                Change::Name(part) => {
                    out.push_str(&part.name);
                    true
                }
                Change::Alias(path) => {
                    out.push_str(path);
                    true
                }
                Change::Nothing => true,
                Change::Index(start, end) => {
                    out.push_str(SAME);
                    out.push('(');
                    let fits = self.write(start, end, As::Operand, out, places);
                    places.made(out.len(), end);
                    out.push(')');
                    fits
                }
                Change::Brace => {
                    out.push_str(" }");
                    true
                }
                Change::Before(hoist) => self.before(hoist, out, places),
                Change::Member(member) => self.member(member, out, places),
                Change::Result(taken) => self.result(taken, out, places),
            };
            if !fits {
                return false;
            }
        }
        self.copy(at, to, out, places);
        out.len() <= MAX_REWRITTEN
    }

    fn before(&self, hoist: &Hoist, out: &mut String, places: &mut Places) -> bool {
        let made = |text: &str, out: &mut String, places: &mut Places| {
            places.made(out.len(), hoist.start);
            out.push_str(text);
        };
        if hoist.bare {
            made("{ ", out, places);
        }
        for part in &hoist.parts {
            made(&format!("{} := (", part.name), out, places);
            if !self.write(part.start, part.end, As::Part(&part.name), out, places) {
                return false;
            }
            made(")", out, places);
            if let Some((start, end)) = hoist.with.filter(|_| part.within) {
                made(" ", out, places);
                if !self.write(start, end, As::Modifiers, out, places) {
                    return false;
                }
            }
            made("; ", out, places);
        }
        true
    }

    fn member(&self, member: &Member, out: &mut String, places: &mut Places) -> bool {
        out.push_str(if member.operands.len() == 3 { MEMBER_3 } else { MEMBER_2 });
        for (number, (start, end)) in member.operands.iter().enumerate() {
            places.made(out.len(), *start);
            out.push_str(if number == 0 { "(" } else { ", " });
            if !self.write(*start, *end, As::Operand, out, places) {
                return false;
            }
        }
        places.made(out.len(), member.operands.last().map_or(0, |(_, end)| *end));
        out.push(')');
        true
    }

    fn result(&self, taken: &Taken, out: &mut String, places: &mut Places) -> bool {
        if !self.write(taken.result.0, taken.result.1, As::Operand, out, places) {
            return false;
        }
        places.made(out.len(), taken.start);
        out.push_str(" = ");
        if !self.write(taken.start, taken.arguments_end, As::Operand, out, places) {
            return false;
        }
        places.made(out.len(), taken.arguments_end);
        out.push(')');
        true
    }

    fn copy(&self, from: usize, to: usize, out: &mut String, places: &mut Places) {
        if from < to {
            places.copied(out.len(), from);
            out.push_str(self.text.get(from..to).unwrap_or_default());
        }
    }
}
