//! Words and signs of a policy's text, and which bracket closes which.
//!
//! The engine's tree says what stands in a text, but not always where it ends: brackets and quotes are left out, and an object
//! starts at its last field. Must never take a text for whole that the engine's own parser has not taken.

/// A word, a sign, a number or a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Number of the bracket that closes this one; its own where it is none, or where nothing closes it.
    pub(crate) closes: usize,
    pub(crate) depth: usize,
}

#[derive(Debug)]
pub(crate) struct Tokens<'a> {
    text: &'a str,
    all: Vec<Token>,
}

const PAIRS: [&str; 5] = [":=", "==", "!=", "<=", ">="];

impl<'a> Tokens<'a> {
    pub(crate) fn read(text: &'a str) -> Self {
        let mut all: Vec<Token> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        let mut at = 0;
        while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
            let rest = text.get(at..).unwrap_or_default();
            let length = match c {
                '#' => {
                    at += rest.find('\n').unwrap_or(rest.len());
                    continue;
                }
                '"' => quoted(rest),
                '`' => rest
                    .get(1..)
                    .and_then(|rest| rest.find('`'))
                    .map_or(rest.len(), |at| at + 2),
                c if c.is_alphanumeric() || c == '_' => rest
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len()),
                c if c.is_whitespace() => {
                    at += c.len_utf8();
                    continue;
                }
                _ if PAIRS.iter().any(|pair| rest.starts_with(pair)) => 2,
                c => c.len_utf8(),
            };
            let number = all.len();
            if matches!(c, ')' | ']' | '}')
                && let Some(opening) = open.pop().and_then(|opening| all.get_mut(opening))
            {
                opening.closes = number;
            }
            all.push(Token {
                start: at,
                end: at + length,
                closes: number,
                depth: open.len(),
            });
            if matches!(c, '(' | '[' | '{') {
                open.push(number);
            }
            at += length;
        }
        Self { text, all }
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Token> {
        self.all.get(number)
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn text(&self, number: usize) -> Option<&'a str> {
        self.get(number).and_then(|token| self.text.get(token.start..token.end))
    }

    pub(crate) fn is(&self, number: usize, word: &str) -> bool {
        self.text(number) == Some(word)
    }

    /// Number of the token that holds a place of the text.
    pub(super) fn holding(&self, at: usize) -> usize {
        self.all.partition_point(|token| token.end <= at)
    }

    /// Number of the token behind the one that a span ends in.
    pub(super) fn behind(&self, end: usize) -> usize {
        self.all.partition_point(|token| token.end < end) + 1
    }
}

/// Length of a text in quotes, quotes included.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Tokens of an expression: from one number to before another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Region {
    pub(super) from: usize,
    pub(super) to: usize,
}

impl Region {
    pub(super) fn is_empty(self) -> bool {
        self.from >= self.to
    }

    /// Without brackets around the whole.
    pub(super) fn bare(mut self, tokens: &Tokens<'_>) -> Self {
        while tokens.is(self.from, "(") && tokens.get(self.from).is_some_and(|open| open.closes + 1 == self.to) {
            self.from += 1;
            self.to -= 1;
        }
        self
    }

    /// Where it is in the text.
    pub(super) fn bytes(self, tokens: &Tokens<'_>) -> Option<(usize, usize)> {
        if self.is_empty() {
            return None;
        }
        Some((tokens.get(self.from)?.start, tokens.get(self.to - 1)?.end))
    }

    /// Numbers of its tokens that are in no bracket of it.
    pub(super) fn outer<'a>(self, tokens: &'a Tokens<'_>) -> impl DoubleEndedIterator<Item = usize> + 'a {
        let depth = tokens.get(self.from).map_or(0, |token| token.depth);
        (self.from..self.to).filter(move |number| tokens.get(*number).is_some_and(|token| token.depth == depth))
    }

    /// Its parts between tokens that are in no bracket of it.
    pub(super) fn split(self, tokens: &Tokens<'_>, at: &str) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut from = self.from;
        for number in self.outer(tokens).filter(|number| tokens.is(*number, at)) {
            parts.push(Self { from, to: number });
            from = number + 1;
        }
        parts.push(Self { from, to: self.to });
        parts
    }
}
