//! Go's syntax of regular expressions, which is OPA's, in that of the crate `regex`.
//!
//! The two look alike and are not: `\d`, `\w`, `\s` and `\b` are of ASCII in Go, `[a&&b]` is four characters, `(?x)` is an error.
//! Must never hand on what it has not understood: a pattern that means something else guards something else.

use std::iter::Peekable;
use std::str::Chars;

/// Why a pattern is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refused {
    /// OPA refuses it too.
    Invalid,
    /// OPA takes it.
    Unsupported,
}

use Refused::{Invalid, Unsupported};

const MAX_REPEAT: u32 = 1000;

/// The same pattern for the crate.
pub(super) fn translate(pattern: &str) -> Result<String, Refused> {
    let mut reader = Reader {
        chars: pattern.chars().peekable(),
        out: String::with_capacity(pattern.len()),
        state: State::Start,
    };
    while let Some(c) = reader.chars.next() {
        reader.piece(c)?;
    }
    Ok(reader.out)
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    /// Nothing that could be repeated.
    Start,
    Atom,
    Repeated,
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    out: String,
    state: State,
}

impl Reader<'_> {
    fn piece(&mut self, c: char) -> Result<(), Refused> {
        match c {
            '\\' => self.escape()?,
            '[' => self.class()?,
            '(' => self.group()?,
            '|' => {
                self.out.push('|');
                self.state = State::Start;
            }
            '*' | '+' | '?' => self.repeat(&c.to_string())?,
            '{' => match self.counted()? {
                Some(counted) => self.repeat(&counted)?,
                None => self.literal('{'),
            },
            '.' | '^' | '$' | ')' => {
                self.out.push(c);
                self.state = State::Atom;
            }
            c => self.literal(c),
        }
        Ok(())
    }

    fn literal(&mut self, c: char) {
        self.out.push_str(&hex(c));
        self.state = State::Atom;
    }

    fn repeat(&mut self, operator: &str) -> Result<(), Refused> {
        if self.state != State::Atom {
            return Err(Invalid);
        }
        self.out.push_str(operator);
        if self.chars.next_if_eq(&'?').is_some() {
            self.out.push('?');
        }
        self.state = State::Repeated;
        Ok(())
    }

    /// `{2}`, `{2,}`, `{2,3}`; anything else is a brace.
    fn counted(&mut self) -> Result<Option<String>, Refused> {
        let mut ahead = self.chars.clone();
        let text: String = ahead.by_ref().take_while(|c| *c != '}').take(32).collect();
        let (least, most) = text.split_once(',').unwrap_or((&text, &text));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        let is_closed = self.chars.clone().nth(text.chars().count()) == Some('}');
        if !is_closed || !digits(least) || !(digits(most) || most.is_empty()) {
            return Ok(None);
        }
        let bound = |text: &str| {
            text.parse::<u32>()
                .ok()
                .filter(|count| *count <= MAX_REPEAT)
                .ok_or(Invalid)
        };
        if !most.is_empty() && bound(most)? < bound(least)? {
            return Err(Invalid);
        }
        bound(least)?;
        self.chars = ahead;
        Ok(Some(format!("{{{text}}}")))
    }

    fn group(&mut self) -> Result<(), Refused> {
        self.state = State::Start;
        if self.chars.next_if_eq(&'?').is_none() {
            self.out.push('(');
            return Ok(());
        }
        let named = self.chars.peek() == Some(&'P') || self.chars.peek() == Some(&'<');
        if named {
            self.chars.next_if_eq(&'P');
            if self.chars.next() != Some('<') {
                return Err(Invalid);
            }
            let name: String = self.chars.by_ref().take_while(|c| *c != '>').collect();
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(Invalid);
            }
            self.out.push_str(&format!("(?P<{name}>"));
            return Ok(());
        }
        self.out.push_str("(?");
        loop {
            match self.chars.next() {
                Some(c @ ('i' | 'm' | 's' | 'U' | '-')) => self.out.push(c),
                Some(c @ (':' | ')')) => {
                    self.out.push(c);
                    return Ok(());
                }
                _ => return Err(Invalid),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Refused> {
        let c = self.chars.next().ok_or(Invalid)?;
        match c {
            'A' | 'z' => {
                self.out.push('\\');
                self.out.push(c);
            }
            'b' => self.out.push_str("(?-u:\\b)"),
            // Between bytes of one letter the crate does not look.
            'B' | 'C' => return Err(Unsupported),
            'Q' => {
                let mut escaped = false;
                while let Some(c) = self.chars.next() {
                    if c == '\\' && self.chars.next_if_eq(&'E').is_some() {
                        break;
                    }
                    escaped = true;
                    self.literal(c);
                }
                if !escaped {
                    return Ok(());
                }
            }
            _ => match self.set(c)? {
                Some(set) => self.out.push_str(&set),
                None => {
                    let c = self.single(c)?;
                    self.literal(c);
                }
            },
        }
        self.state = State::Atom;
        Ok(())
    }

    /// An escape that stands for several characters.
    fn set(&mut self, c: char) -> Result<Option<String>, Refused> {
        Ok(Some(match c {
            'd' => "[0-9]".to_owned(),
            'D' => "[^0-9]".to_owned(),
            'w' => "[0-9A-Za-z_]".to_owned(),
            'W' => "[^0-9A-Za-z_]".to_owned(),
            's' => "[\\t\\n\\f\\r ]".to_owned(),
            'S' => "[^\\t\\n\\f\\r ]".to_owned(),
            'p' | 'P' => match self.chars.next() {
                Some('{') => {
                    let name: String = self.chars.by_ref().take_while(|c| *c != '}').collect();
                    if !SETS.contains(&name.as_str()) {
                        return Err(Unsupported);
                    }
                    format!("\\{c}{{{name}}}")
                }
                Some(letter) if "CLMNPSZ".contains(letter) => format!("\\{c}{letter}"),
                _ => return Err(Invalid),
            },
            _ => return Ok(None),
        }))
    }

    /// An escape that stands for one character.
    fn single(&mut self, c: char) -> Result<char, Refused> {
        Ok(match c {
            'a' => '\x07',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'x' => {
                let braced = self.chars.next_if_eq(&'{').is_some();
                let digits: String = if braced {
                    self.chars.by_ref().take_while(|c| *c != '}').collect()
                } else {
                    self.chars.by_ref().take(2).collect()
                };
                let plain = (braced || digits.len() == 2)
                    && !digits.is_empty()
                    && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| plain).ok_or(Invalid)?;
                char::from_u32(code).ok_or(Invalid)?
            }
            '0'..='7' => return Err(Unsupported),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c,
            _ => return Err(Invalid),
        })
    }

    fn class(&mut self) -> Result<(), Refused> {
        self.out.push('[');
        if self.chars.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let c = self.chars.next().ok_or(Invalid)?;
            if c == ']' && !first {
                break;
            }
            first = false;
            if c == '[' && self.chars.peek() == Some(&':') && self.named()? {
                continue;
            }
            let low = if c == '\\' {
                let c = self.chars.next().ok_or(Invalid)?;
                if let Some(set) = self.set(c)? {
                    self.out.push_str(&set);
                    continue;
                }
                self.single(c)?
            } else {
                c
            };
            let mut ahead = self.chars.clone();
            let is_range = ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']');
            self.out.push_str(&hex(low));
            if is_range {
                self.chars.next();
                let high = match self.chars.next().ok_or(Invalid)? {
                    '\\' => {
                        let c = self.chars.next().ok_or(Invalid)?;
                        self.single(c)?
                    }
                    c => c,
                };
                if high < low {
                    return Err(Invalid);
                }
                self.out.push('-');
                self.out.push_str(&hex(high));
            }
        }
        self.out.push(']');
        self.state = State::Atom;
        Ok(())
    }

    /// `[:alpha:]`; `false` where it is not closed and so a bracket and a colon.
    fn named(&mut self) -> Result<bool, Refused> {
        let mut rest = self.chars.clone();
        rest.next();
        let text: String = rest.take(16).collect();
        let Some((name, _)) = text.split_once(":]") else {
            return Ok(false);
        };
        if !ASCII_SETS.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(Invalid);
        }
        self.out.push_str(&format!("[:{name}:]"));
        for _ in 0..name.len() + 3 {
            self.chars.next();
        }
        Ok(true)
    }
}

/// A character that means only itself, in a class and outside.
fn hex(c: char) -> String {
    format!("\\x{{{:x}}}", u32::from(c))
}

const ASCII_SETS: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// General categories and scripts that are spelt alike; others are scarce in policies.
const SETS: [&str; 44] = [
    "C",
    "Cc",
    "Cf",
    "L",
    "Ll",
    "Lm",
    "Lo",
    "Lt",
    "Lu",
    "M",
    "Mc",
    "Me",
    "Mn",
    "N",
    "Nd",
    "Nl",
    "No",
    "P",
    "Pc",
    "Pd",
    "Pe",
    "Pf",
    "Pi",
    "Po",
    "Ps",
    "S",
    "Sc",
    "Sk",
    "Sm",
    "So",
    "Z",
    "Zl",
    "Zp",
    "Zs",
    "Arabic",
    "Armenian",
    "Cyrillic",
    "Devanagari",
    "Greek",
    "Han",
    "Hebrew",
    "Hiragana",
    "Katakana",
    "Latin",
];
