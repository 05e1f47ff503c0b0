//! What OPA reads and the engine's parser does not, written as the parser takes it: nothing is given another meaning.
//!
//! - A line of a query that begins with `(` is a statement of its own to OPA, and a call of the line before to the engine.
//! - Bodies chained after a set rule are rules with the same head.
//! - A function without parameters is a rule.
//!
//! Must never: move a line, or a column but behind a chained body's head. Where that is not possible, the text stays as it is and is
//! refused.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::lexical::MAX_BYTES;
use super::metadata::RegoVersion;
use super::rewrite::tokens::Tokens;

/// Words behind which no statement can end.
const OPEN: [&str; 13] = [
    "as", "contains", "default", "else", "every", "if", "import", "in", "not", "package", "some", "with", "set",
];

/// Names of the functions without parameters that a text defines.
pub(super) fn without_parameters(text: &str) -> BTreeSet<String> {
    let tokens = Tokens::read(text);
    let mut found = BTreeSet::new();
    for number in 0..tokens.len() {
        let is_head = tokens.get(number).is_some_and(|token| token.depth == 0)
            && is_empty_call(&tokens, number)
            && begins_line(&tokens, text, number)
            && !tokens.is(number + 3, ".");
        if is_head && let Some(name) = tokens.text(number) {
            found.insert(name.to_owned());
        }
    }
    found
}

/// The text as the engine's parser takes it. `empty`: functions without parameters, of all modules.
pub(super) fn spelled<'a>(text: &'a str, version: RegoVersion, empty: &BTreeSet<String>) -> Cow<'a, str> {
    let tokens = Tokens::read(text);
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut room = MAX_BYTES;
    for number in 0..tokens.len() {
        let Some(token) = tokens.get(number) else { break };
        while open
            .last()
            .and_then(|opening| tokens.get(*opening))
            .is_some_and(|opening| opening.closes <= number)
        {
            open.pop();
        }
        if tokens.is(number, "(") && open.last().is_some_and(|opening| tokens.is(*opening, "{")) {
            edits.extend(statement(&tokens, text, number));
        }
        if is_empty_call(&tokens, number) && tokens.text(number).is_some_and(|name| empty.contains(name)) {
            for bracket in [number + 1, number + 2] {
                edits.extend(
                    tokens
                        .get(bracket)
                        .map(|bracket| (bracket.start, bracket.end, " ".to_owned())),
                );
            }
        }
        if version == RegoVersion::V0 && token.depth == 0 && begins_line(&tokens, text, number) {
            edits.extend(chained(&tokens, text, number, &mut room));
        }
        if ["(", "[", "{"].iter().any(|bracket| tokens.is(number, bracket)) {
            open.push(number);
        }
    }
    if edits.is_empty() {
        return Cow::Borrowed(text);
    }
    edits.sort_by_key(|(start, _, _)| *start);
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for (start, end, with) in edits {
        if start < at {
            continue;
        }
        out.push_str(text.get(at..start).unwrap_or_default());
        out.push_str(&with);
        at = end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    Cow::Owned(out)
}

/// `name()`.
fn is_empty_call(tokens: &Tokens<'_>, number: usize) -> bool {
    let is_name = tokens
        .text(number)
        .is_some_and(|text| text.starts_with(|c: char| c.is_alphabetic() || c == '_'));
    is_name && tokens.is(number + 1, "(") && tokens.get(number + 1).is_some_and(|open| open.closes == number + 2)
}

fn begins_line(tokens: &Tokens<'_>, text: &str, number: usize) -> bool {
    let Some(start) = tokens.get(number).map(|token| token.start) else {
        return false;
    };
    let before = text.get(..start).unwrap_or_default();
    // No further back than the token before.
    before.chars().rev().take_while(|c| *c != '\n').all(char::is_whitespace)
}

/// The blank before a bracket that begins a line, as the end of the statement before.
fn statement(tokens: &Tokens<'_>, text: &str, number: usize) -> Option<(usize, usize, String)> {
    let bracket = tokens.get(number)?;
    let before = tokens.text(number.checked_sub(1)?)?;
    let ends = before
        .chars()
        .last()
        .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '"' | '`' | ')' | ']' | '}'));
    let blank = text
        .get(..bracket.start)?
        .chars()
        .next_back()
        .filter(|c| matches!(c, ' ' | '\t'))?;
    let is_statement = ends && !OPEN.contains(&before) && begins_line(tokens, text, number);
    // The engine counts four columns for a tab.
    let with = if blank == '\t' { "   ;" } else { ";" };
    is_statement.then(|| (bracket.start - blank.len_utf8(), bracket.start, with.to_owned()))
}

/// The head of a set rule before each of its further bodies.
fn chained(tokens: &Tokens<'_>, text: &str, number: usize, room: &mut usize) -> Vec<(usize, usize, String)> {
    let mut edits = Vec::new();
    let mut head = || {
        let name = tokens.get(number)?;
        if !tokens.is(number + 1, "[") {
            return None;
        }
        let close = tokens.get(number + 1)?.closes;
        let head = text.get(name.start..tokens.get(close)?.end)?;
        // What a line break would end, or what holds one, cannot stand in one line.
        let fits = close > number + 1 && tokens.is(close + 1, "{") && !head.contains(['`', '#']);
        let mut body = fits.then_some(close + 1)?;
        loop {
            let end = tokens.get(body)?.closes;
            if end == body || !tokens.is(end + 1, "{") {
                return Some(());
            }
            // A long head before many bodies would be a text without end; without its head a body is refused.
            *room = room.checked_sub(head.len() + 1)?;
            let at = tokens.get(end + 1)?.start;
            edits.push((at, at, format!("{} ", head.replace(['\n', '\r'], " "))));
            body = end + 1;
        }
    };
    let _ = head();
    edits
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::statement("x {\n  a\n  (b == 1)\n}", "x {\n  a\n ;(b == 1)\n}")]
    #[case::tab("x {\n\ta[0]\n\t(b)\n}", "x {\n\ta[0]\n   ;(b)\n}")]
    #[case::first_statement("x {\n  (b)\n}", "x {\n  (b)\n}")]
    #[case::goes_on("x {\n  a +\n  (b)\n}", "x {\n  a +\n  (b)\n}")]
    #[case::negated("x {\n  not\n  (b)\n}", "x {\n  not\n  (b)\n}")]
    #[case::argument("x {\n  f(a,\n  (b))\n}", "x {\n  f(a,\n  (b))\n}")]
    #[case::in_a_list("x := [a\n  (b)]", "x := [a\n  (b)]")]
    #[case::at_the_margin("x {\n  a\n(b)\n}", "x {\n  a\n(b)\n}")]
    #[case::chained("x[a] { a := 1 } { a := 2 }", "x[a] { a := 1 } x[a] { a := 2 }")]
    #[case::chained_twice(
        "x[{\"m\":\n m}] { b } {\n c } { d }",
        "x[{\"m\":\n m}] { b } x[{\"m\":  m}] {\n c } x[{\"m\":  m}] { d }"
    )]
    #[case::not_chained("x[a] { a := 1 }\n\ny[b] { b := 2 }", "x[a] { a := 1 }\n\ny[b] { b := 2 }")]
    #[case::comment_in_the_head("x[ # c\n a] { b } { c }", "x[ # c\n a] { b } { c }")]
    #[case::no_parameters("f() = 1 { true }\n\ny { f() == 1; g() }", "f   = 1 { true }\n\ny { f   == 1; g() }")]
    #[case::in_texts("# f() {\nx := \"f()\" # } {", "# f() {\nx := \"f()\" # } {")]
    #[case::unfinished("x[a] { a } {", "x[a] { a } x[a] {")]
    #[case::empty("", "")]
    fn texts_are_spelled_out(#[case] text: &str, #[case] expected: &str) {
        let spelled = spelled(text, RegoVersion::V0, &without_parameters(text));
        assert_eq!(spelled, expected);
        let columns = |text: &str| text.lines().count();
        assert_eq!(columns(&spelled), columns(text));
    }

    #[test]
    fn heads_are_not_multiplied_without_end() {
        let text = format!("x[\"{}\"] {{ a }}{}", "m".repeat(100_000), " { b }".repeat(20_000));
        assert!(spelled(&text, RegoVersion::V0, &BTreeSet::new()).len() <= text.len() + MAX_BYTES);
    }

    #[test]
    fn bodies_are_chained_in_the_old_language_alone() {
        let text = "x[a] { a } { b }";
        assert_eq!(spelled(text, RegoVersion::V1, &BTreeSet::new()), text);
    }
}
