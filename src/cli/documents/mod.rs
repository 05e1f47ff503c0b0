//! Documents of a file or a pipe, one after the other, each with the line where it begins: YAML, JSON, or one JSON value a line.
//!
//! Borders are found without a parser, so that a broken document costs itself alone. Must never: hold more of an input than one
//! document, read on for ever, or quote an input in a problem.

mod alike;
mod json;
mod objects;
mod parse;
mod plain;
mod words;

use std::{
    fmt,
    io::{self, BufRead, Read as _},
};

use serde_json::Value;

use self::json::Brackets;
pub(super) use self::{
    objects::Objects,
    parse::{options, parse},
};

/// Longest document, in bytes. An object of the API server has at most 1.5 MiB; a List holds several.
pub(super) const MAX_DOCUMENT: usize = 8 << 20;
/// Longest line that is looked at for a border, in bytes: an API server's whole object may be one.
const MAX_LINE: u64 = MAX_DOCUMENT as u64 + 1;

/// One document as it is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Document {
    /// Number of its first line that is no comment, from 1.
    pub(super) line: u32,
    /// Number of the first line of `text`, from 1.
    pub(super) first: u32,
    /// Its text, with the comments above it.
    pub(super) text: String,
}

/// What is wrong, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Problem {
    /// Line, from 1.
    pub(super) line: u32,
    /// Column, from 1.
    pub(super) column: Option<u32>,
    /// What is wrong and what to do about it.
    pub(super) message: String,
}

impl Problem {
    pub(super) fn at(line: u32, message: impl Into<String>) -> Self {
        Self {
            line,
            column: None,
            message: message.into(),
        }
    }

    /// A problem so many lines below line `first`, behind so many characters.
    fn below(first: u32, lines: usize, characters: usize, message: String) -> Self {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            line: first.saturating_add(number(lines)),
            column: Some(number(characters).saturating_add(1)),
            message,
        }
    }

    /// A problem behind a text that begins at the start of line `first`.
    fn behind(first: u32, before: &str, message: String) -> Self {
        let characters = before.chars().rev().take_while(|c| *c != '\n').count();
        Self::below(first, before.matches('\n').count(), characters, message)
    }
}

impl std::error::Error for Problem {}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}", self.line)?;
        if let Some(column) = self.column {
            write!(formatter, ", column {column}")?;
        }
        write!(formatter, ": {}", self.message)
    }
}

/// The values of a text of at most so many bytes, each with the line that its document begins at.
pub(super) fn values(text: &str, most: u64) -> impl Iterator<Item = Result<(u32, Value), Problem>> {
    Documents::new(text.as_bytes(), most).map(|document| {
        let document = document?;
        Ok((document.line, parse(&document)?))
    })
}

/// The documents of a source, up to a number of bytes.
pub(super) struct Documents<R> {
    source: R,
    left: u64,
    most: u64,
    /// Number of the last line that was read.
    line: u32,
    open: Open,
    /// Whether it begins as JSON does, of which kubectl reads one value after the other. `None` before anything was read.
    is_json: Option<bool>,
    /// Whether a document was ended, and nothing parts from it what follows.
    is_closed: bool,
    ended: bool,
    /// What is told before anything else.
    waiting: Option<Problem>,
}

/// The document that is being read.
#[derive(Default)]
struct Open {
    bytes: Vec<u8>,
    first: u32,
    /// Line of what is neither comment nor blank.
    content: Option<u32>,
    /// A directive, which belongs to what follows the next `---`.
    directive: bool,
    /// Nothing parts it from the document before it.
    unparted: bool,
    too_long: bool,
    brackets: Brackets,
}

/// What a line is to a document.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Line {
    Blank,
    Comment,
    Directive,
    Content,
    /// `---`, and whether something follows on the same line.
    Start(bool),
    /// `...`
    End,
}

impl<R: BufRead> Documents<R> {
    /// The documents of a source that has at most so many bytes.
    pub(super) fn new(source: R, most: u64) -> Self {
        Self {
            source,
            left: most,
            most,
            line: 0,
            open: Open::default(),
            is_json: None,
            is_closed: false,
            ended: false,
            waiting: None,
        }
    }

    /// One line with its end; empty at the end of the source. What is longer than any line is read over.
    fn read_line(&mut self) -> io::Result<(Vec<u8>, bool)> {
        let mut bytes = Vec::new();
        let mut too_long = false;
        loop {
            let most = self.left.min(MAX_LINE);
            let read = (&mut self.source).take(most).read_until(b'\n', &mut bytes)? as u64;
            self.left = self.left.saturating_sub(read);
            if bytes.last() == Some(&b'\n') || read < MAX_LINE {
                break;
            }
            too_long = true;
            bytes.clear();
        }
        if too_long {
            bytes.clear();
        }
        Ok((bytes, too_long))
    }

    /// The mark in front of some texts: of UTF-8 it is left out, of another encoding it is a problem.
    fn without_mark(&mut self, bytes: &mut Vec<u8>) {
        if bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        } else if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            self.ended = true;
            self.waiting = Some(Problem::at(1, "this is UTF-16: save it as UTF-8"));
        }
    }

    fn take(&mut self) -> Option<Result<Document, Problem>> {
        let open = std::mem::take(&mut self.open);
        let line = open.content?;
        if open.unparted {
            let message =
                "kubectl does not read this, as no --- parts it from what is before it: write --- in front of it";
            return Some(Err(Problem::at(line, message)));
        }
        if open.too_long {
            let message = format!("more than {MAX_DOCUMENT} bytes in one document: split it");
            return Some(Err(Problem::at(line, message)));
        }
        Some(match String::from_utf8(open.bytes) {
            Ok(text) => Ok(Document {
                line,
                first: open.first,
                text,
            }),
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let before = error.as_bytes().get(..good).unwrap_or_default();
                let before = String::from_utf8_lossy(before);
                let message = "this is no UTF-8: save it in that encoding".to_owned();
                Err(Problem::behind(open.first, &before, message))
            }
        })
    }

    /// Adds a line to the open document, or ends that one.
    fn add(&mut self, bytes: &[u8], too_long: bool) -> Option<Result<Document, Problem>> {
        let number = self.line;
        let kind = if too_long { Line::Content } else { Line::of(bytes) };
        if kind != Line::Blank {
            self.is_json
                .get_or_insert_with(|| bytes.trim_ascii_start().starts_with(b"{"));
        }
        let has_content = self.open.content.is_some();
        if let Line::Start(_) = kind {
            self.is_closed = false;
        }
        let ended = match kind {
            Line::Start(_) if has_content => self.take(),
            Line::End => {
                self.is_closed = true;
                return self.take();
            }
            Line::Start(_) if !self.open.directive => {
                self.open = Open::default();
                None
            }
            Line::Content if !self.open.unparted && self.open.brackets.are_closed() && bytes.first() == Some(&b'{') => {
                self.is_closed = self.is_json != Some(true);
                self.take()
            }
            _ => None,
        };
        let open = &mut self.open;
        if open.bytes.is_empty() && !open.too_long {
            open.first = number;
        }
        match kind {
            Line::Content | Line::Start(true) => {
                if open.content.is_none() {
                    open.content = Some(number);
                    open.unparted = self.is_closed;
                }
                open.brackets.add(bytes);
            }
            Line::Directive if !has_content => open.directive = true,
            Line::Directive => open.brackets.add(bytes),
            Line::Blank | Line::Comment | Line::Start(false) | Line::End => {}
        }
        open.too_long |= too_long || open.bytes.len().saturating_add(bytes.len()) > MAX_DOCUMENT;
        if open.too_long {
            open.bytes = Vec::new();
        } else {
            open.bytes.extend_from_slice(bytes);
        }
        ended
    }
}

impl<R: BufRead> Iterator for Documents<R> {
    type Item = Result<Document, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.ended {
                return self.take().or_else(|| self.waiting.take().map(Err));
            }
            let number = self.line.saturating_add(1);
            let (mut bytes, too_long) = match self.read_line() {
                Ok(line) => line,
                Err(error) => {
                    self.ended = true;
                    // What came before may be cut anywhere.
                    self.open = Open::default();
                    self.waiting = Some(Problem::at(number, format!("cannot be read: {}", error.kind())));
                    continue;
                }
            };
            if bytes.is_empty() && !too_long {
                self.ended = true;
                continue;
            }
            self.line = number;
            if number == 1 {
                self.without_mark(&mut bytes);
                if self.ended {
                    continue;
                }
            }
            let is_cut = self.left == 0 && has_more(&mut self.source);
            if is_cut {
                self.ended = true;
                self.open = Open::default();
                let message = format!("more than {} bytes: split it; what follows was not read", self.most);
                self.waiting = Some(Problem::at(number, message));
                continue;
            }
            if let Some(ended) = self.add(&bytes, too_long) {
                return Some(ended);
            }
        }
    }
}

fn has_more(source: &mut impl BufRead) -> bool {
    // That it cannot be read is told by who reads on.
    source.fill_buf().is_ok_and(|bytes| !bytes.is_empty())
}

impl Line {
    fn of(bytes: &[u8]) -> Self {
        let text = bytes.trim_ascii();
        // To kubectl, what follows the break is no part of a comment, a border or a directive.
        let is_broken = alike::is_broken(bytes);
        match text.first() {
            None => return Self::Blank,
            Some(b'#') if !is_broken => return Self::Comment,
            Some(_) => {}
        }
        let marks = |mark: &[u8]| {
            let rest = bytes.strip_prefix(mark)?;
            rest.first()
                .is_none_or(|next| next.is_ascii_whitespace())
                .then(|| rest.trim_ascii())
        };
        if let Some(rest) = marks(b"---") {
            return Self::Start(is_broken || !rest.is_empty() && !rest.starts_with(b"#"));
        }
        if marks(b"...").is_some() && !is_broken {
            return Self::End;
        }
        if bytes.starts_with(b"%") && !is_broken {
            Self::Directive
        } else {
            Self::Content
        }
    }
}

#[cfg(test)]
mod tests;
