//! Bounds on the text of a policy, checked before the parser sees it.
//!
//! The parser's time is exponential in the nesting of brackets, and a long chain of operators overflows the stack, which no
//! `catch_unwind` catches. Must never let a text through that it could not read to the end.

use super::error::LoadError;

/// Largest policy file: what a RegoPolicy may carry, well under what the engine takes.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// Deepest nesting of brackets. Depth 12 takes the parser 6 ms, 16 takes 0.1 s, 20 takes 1.4 s.
const MAX_NESTING: usize = 12;
/// Longest chain of operators. 15 000 abort the process; a policy written by hand has fewer than ten.
const MAX_CHAIN: u32 = 64;

/// Refuses a text that is too long to be looked at.
pub(super) fn bounded(file: &str, text: &str) -> Result<(), LoadError> {
    if text.len() > MAX_BYTES {
        return Err(LoadError::file(
            file,
            format!(
                "the policy is {} bytes long, the limit is {MAX_BYTES}: split it",
                text.len()
            ),
        ));
    }
    Ok(())
}

/// Refuses a text that would take the parser too long or overflow the stack.
pub(super) fn check(file: &str, text: &str) -> Result<(), LoadError> {
    bounded(file, text)?;
    let mut scan = Scan {
        line: 1,
        line_start: 0,
        chains: vec![0],
        fresh_line: true,
        after_operator: false,
        after_operand: false,
    };
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' => scan.newline(at + 1),
            '#' => while chars.next_if(|(_, c)| *c != '\n').is_some() {},
            '"' => {
                scan.operand();
                let mut escaped = false;
                while let Some((_, c)) = chars.next_if(|(_, c)| *c != '\n') {
                    match c {
                        _ if escaped => escaped = false,
                        '\\' => escaped = true,
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '`' => {
                scan.operand();
                for (at, c) in chars.by_ref() {
                    match c {
                        '`' => break,
                        '\n' => scan.newline(at + 1),
                        _ => {}
                    }
                }
                scan.operand();
            }
            '(' if scan.goes_on() => {
                let message =
                    "a line that begins with `(` is read as a call of the line before: end that line with `;`";
                return Err(scan.error(file, at, message.to_owned()));
            }
            '(' | '[' | '{' => scan.open(file, at)?,
            ')' | ']' | '}' => scan.close(),
            ',' | ';' => scan.separate(),
            '+' | '-' | '*' | '/' | '%' | '|' | '&' | '<' | '>' | '=' | '!' => scan.operator(file, at)?,
            c if c.is_alphabetic() || c == '_' => {
                let mut end = at + c.len_utf8();
                while let Some((at, c)) = chars.next_if(|(_, c)| c.is_alphanumeric() || *c == '_') {
                    end = at + c.len_utf8();
                }
                match text.get(at..end) {
                    Some("in" | "not" | "with") => scan.operator(file, at)?,
                    _ => scan.operand(),
                }
            }
            c if c.is_whitespace() => {}
            _ => scan.operand(),
        }
    }
    Ok(())
}

struct Scan {
    line: u32,
    line_start: usize,
    /// Operators of the expression that is open at each depth of brackets.
    chains: Vec<u32>,
    fresh_line: bool,
    after_operator: bool,
    /// Whether what stands before could be called.
    after_operand: bool,
}

impl Scan {
    fn newline(&mut self, next: usize) {
        self.line = self.line.saturating_add(1);
        self.line_start = next;
        self.fresh_line = true;
    }

    /// An operand that starts a line and follows no operator starts a new expression.
    fn operand(&mut self) {
        if self.fresh_line && !self.after_operator {
            self.separate();
        }
        self.fresh_line = false;
        self.after_operator = false;
        self.after_operand = true;
    }

    /// Whether a bracket that opens now would go on with the line before. The engine takes one for a call, and OPA does not.
    fn goes_on(&self) -> bool {
        self.fresh_line && self.after_operand && !self.after_operator
    }

    fn separate(&mut self) {
        self.after_operand = false;
        if let Some(chain) = self.chains.last_mut() {
            *chain = 0;
        }
        self.after_operator = false;
    }

    fn operator(&mut self, file: &str, at: usize) -> Result<(), LoadError> {
        self.after_operator = true;
        self.after_operand = false;
        self.fresh_line = false;
        let Some(chain) = self.chains.last_mut() else {
            return Ok(());
        };
        *chain = chain.saturating_add(1);
        if *chain > MAX_CHAIN {
            let message =
                format!("an expression has more than {MAX_CHAIN} operators: use a set, a comprehension or a rule");
            return Err(self.error(file, at, message));
        }
        Ok(())
    }

    fn open(&mut self, file: &str, at: usize) -> Result<(), LoadError> {
        self.operand();
        if self.chains.len() > MAX_NESTING {
            let message = format!("brackets are nested more than {MAX_NESTING} deep: name the inner part as a rule");
            return Err(self.error(file, at, message));
        }
        self.chains.push(0);
        self.after_operand = false;
        Ok(())
    }

    fn close(&mut self) {
        // A surplus bracket is the parser's to report, with the better message.
        if self.chains.len() > 1 {
            self.chains.pop();
        }
        self.fresh_line = false;
        self.after_operator = false;
        self.after_operand = true;
    }

    fn error(&self, file: &str, at: usize, message: String) -> LoadError {
        let column = u32::try_from(at.saturating_sub(self.line_start))
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        LoadError::at(file, self.line, Some(column), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nested_arrays(&format!("package a\nx := {}1{}", "[".repeat(40), "]".repeat(40)), "nested")]
    #[case::nested_objects(&format!("package a\nx := {}1{}", "{\"a\":".repeat(40), "}".repeat(40)), "nested")]
    #[case::chain_on_one_line(&format!("package a\nx := 1{}", " + 1".repeat(15_000)), "operators")]
    #[case::chain_over_lines(&format!("package a\nx := 1 +\n{}1", "1 +\n".repeat(15_000)), "operators")]
    #[case::chain_that_leads_lines(&format!("package a\nx := 1\n{}", "+ 1\n".repeat(15_000)), "operators")]
    #[case::chain_of_membership(&format!("package a\nx := 1{}", " in [1]".repeat(100)), "operators")]
    #[case::minus_signs(&format!("package a\nx := {}1", "-".repeat(100)), "operators")]
    #[case::chain_with_comments(&format!("package a\nx := 1{}", " + # why\n 1".repeat(100)), "operators")]
    #[case::huge(&"# \n".repeat(MAX_BYTES), "bytes")]
    fn a_text_that_would_hang_or_kill_the_engine_is_refused(#[case] text: &str, #[case] word: &str) {
        let error = check("p.rego", text).expect_err("must be refused");
        assert!(error.message.contains(word), "{error}");
    }

    #[test]
    fn the_place_is_named() {
        let text = format!("package a\n\n  x := {}", "[".repeat(20));
        let error = check("p.rego", &text).expect_err("must be refused");
        assert_eq!((error.line, error.column), (Some(3), Some(20)));
    }

    #[rstest]
    #[case::brackets_in_strings("package a\nx := \"[[[[[[[[[[[[[[[[[[[[\"")]
    #[case::brackets_in_raw_strings("package a\nx := `[[[[[[[[[[\n[[[[[[[[[[[[[`")]
    #[case::escaped_quote("package a\nx := \"\\\"[[[[[[[[[[[[[[[[[[\"")]
    #[case::brackets_in_comments("package a\n# [[[[[[[[[[[[[[[[[[[[[[")]
    #[case::many_lines(&format!("package a\n{}", "x if 1 + 1 == 2\n".repeat(500)))]
    #[case::unfinished_string("package a\nx := \"abc")]
    #[case::surplus_brackets("package a\n]]]})")]
    fn what_only_looks_deep_passes(#[case] text: &str) {
        assert_eq!(check("p.rego", text), Ok(()));
    }
}
