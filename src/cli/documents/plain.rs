//! Refuses what is no text in YAML 1.1 and another one, or none, in YAML 1.2: keys, values, and texts in a flow that end elsewhere; and tags, and
//! names of anchors, which kubectl has other ends for.
//!
//! Goes by the parser's events, as what reads them knows neither quotes nor where a key ends. Must never: quote what is refused.

use std::collections::HashMap;

use serde_json::Value;
use serde_saphyr::granit_parser::{
    Event, Marker, Parser, ScalarStyle, Scanner, Span, StrInput, StructureStyle, TokenType,
};

use super::{
    Document, Problem,
    alike::MERGE,
    parse::placed,
    words::{Word, judged, may_differ},
};

const TAGGED: &str = "kubectl knows other tags than YAML has, and ends them elsewhere: leave this one out, and put in quotes what is a text";
const NAMED: &str = "the name of this anchor ends elsewhere for kubectl: use letters, digits, - and _ alone";
const TWICE: &str = "this key is written plain and in quotes, which are two keys for kubectl, of which it keeps any: leave one of them out";
const UNLIKE: &str = "this key is written plain here and in quotes elsewhere, or the other way round, which are two keys for kubectl where one is merged: put both in quotes";

/// Refuses tags, and names of anchors that kubectl may not take for the whole of them.
pub(super) fn marks(document: &Document) -> Result<(), Problem> {
    if !document.text.contains(['!', '&']) {
        return Ok(());
    }
    let place = |marker: &Marker, message: &str| placed(document, marker.line(), marker.col(), message.to_owned());
    let is_plain = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    for token in Scanner::new(StrInput::new(&document.text)) {
        let (span, token) = token
            .map_err(|error| place(error.marker(), "this is no YAML"))?
            .into_parts();
        let message = match token {
            TokenType::Tag(..) => TAGGED,
            // An alias has the name of an anchor before it.
            TokenType::Anchor(name) if !is_plain(&name) => NAMED,
            _ => continue,
        };
        return Err(place(&span.start, message));
    }
    Ok(())
}

/// Refuses words and numbers that kubectl reads otherwise than they are judged.
pub(super) fn words(document: &Document) -> Result<(), Problem> {
    let mut walk = Walk {
        text: &document.text,
        open: Vec::new(),
        flows: 0,
        maps: 0,
        keys: HashMap::new(),
        anchored: HashMap::new(),
        merges: document.text.contains(MERGE),
    };
    for event in Parser::new_from_str(&document.text) {
        let (event, span) = event.map_err(|error| {
            let message = "this is no YAML".to_owned();
            placed(document, error.marker().line(), error.marker().col(), message)
        })?;
        if let Err(message) = walk.step(event, &span) {
            return Err(placed(
                document,
                span.start.line(),
                span.start.col(),
                message.to_owned(),
            ));
        }
    }
    Ok(())
}

/// The way through a document.
struct Walk<'a> {
    text: &'a str,
    open: Vec<Open>,
    /// How many of them are flows.
    flows: usize,
    /// How many maps were opened.
    maps: usize,
    /// Keys that are no texts when they are plain, by the number of their map, and whether they are plain.
    keys: HashMap<(usize, String), bool>,
    /// Texts that an alias may make a key of, as far as it matters.
    anchored: HashMap<usize, Key>,
    /// Whether keys may be merged.
    merges: bool,
}

/// A list or a map.
struct Open {
    is_flow: bool,
    /// The number of a map, and whether a key comes next.
    map: Option<(usize, bool)>,
}

/// A text as a key.
#[derive(Clone)]
struct Key {
    refused: Option<&'static str>,
    /// Its text, if that is none when it is plain; and whether it is.
    word: Option<(String, bool)>,
}

impl Walk<'_> {
    fn step(&mut self, event: Event<'_>, span: &Span) -> Result<(), &'static str> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let is_plain = style == ScalarStyle::Plain;
                let key = Key::of(&text, is_plain);
                let map = self.next();
                if is_plain && self.flows > 0 {
                    self.flow(&text, map.is_some(), span)?;
                }
                match map {
                    Some(map) => self.key(map, key.clone())?,
                    None if is_plain => value(&text)?,
                    None => {}
                }
                if anchor != 0 && (key.refused.is_some() || key.word.is_some()) {
                    self.anchored.insert(anchor, key);
                }
            }
            Event::Alias(anchor) => {
                let key = self.next().zip(self.anchored.get(&anchor).cloned());
                if let Some((map, key)) = key {
                    self.key(map, key)?;
                }
            }
            Event::SequenceStart(style, ..) => self.start(style, None),
            Event::MappingStart(style, ..) => {
                self.maps = self.maps.saturating_add(1);
                self.start(style, Some((self.maps, true)));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let is_flow = self.open.pop().is_some_and(|open| open.is_flow);
                self.flows = self.flows.saturating_sub(usize::from(is_flow));
            }
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, style: StructureStyle, map: Option<(usize, bool)>) {
        self.next();
        let is_flow = style == StructureStyle::Flow;
        self.flows = self.flows.saturating_add(usize::from(is_flow));
        self.open.push(Open { is_flow, map });
    }

    /// The map that what comes now is a key of.
    fn next(&mut self) -> Option<usize> {
        let (map, is_key) = self.open.last_mut()?.map.as_mut()?;
        *is_key = !*is_key;
        (!*is_key).then_some(*map)
    }

    fn key(&mut self, map: usize, key: Key) -> Result<(), &'static str> {
        if let Some(refused) = key.refused {
            return Err(refused);
        }
        let Some((text, is_plain)) = key.word else {
            return Ok(());
        };
        // Which keys come together where one is merged is not followed.
        let map = if self.merges { 0 } else { map };
        if *self.keys.entry((map, text)).or_insert(is_plain) == is_plain {
            return Ok(());
        }
        Err(if self.merges { UNLIKE } else { TWICE })
    }

    /// A plain text in a flow, which kubectl has another end for.
    fn flow(&self, text: &str, is_key: bool, span: &Span) -> Result<(), &'static str> {
        if text.contains('?') {
            return Err("kubectl begins a key at a question mark in a flow: put the text in quotes");
        }
        let behind = span.end.byte_offset().and_then(|end| self.text.get(end..));
        let colon = behind.and_then(|behind| behind.trim_start().strip_prefix(':'));
        if is_key && colon.is_some_and(|behind| !behind.starts_with(char::is_whitespace)) {
            return Err(
                "the colon behind this key belongs to it for kubectl: put a blank behind the colon, or the key in quotes",
            );
        }
        Ok(())
    }
}

impl Key {
    fn of(text: &str, is_plain: bool) -> Self {
        let word = Word::of(text);
        let refused = if is_plain && !word.is_written_as(text) {
            Some(match word {
                Word::Bool(true) => "this key is true for kubectl, which goes by YAML 1.1: put it in quotes",
                Word::Bool(false) => "this key is false for kubectl, which goes by YAML 1.1: put it in quotes",
                Word::Null => "this key is null for kubectl: put it in quotes",
                _ => {
                    "this key is a number for kubectl, which writes it otherwise: put it in quotes, or write it in decimal"
                }
            })
        } else {
            None
        };
        let word = (word != Word::Text).then(|| (text.to_owned(), is_plain));
        Self { refused, word }
    }
}

/// Refuses a plain value that kubectl reads otherwise.
fn value(text: &str) -> Result<(), &'static str> {
    if !may_differ(text) {
        return Ok(());
    }
    let judged = judged(text);
    if Word::of(text).is(&judged) {
        return Ok(());
    }
    Err(match judged {
        Value::Bool(_) | Value::Null => {
            "kubectl reads this word otherwise: write it in small letters, or in quotes if it is a text"
        }
        _ => {
            "kubectl, which goes by YAML 1.1, reads another number here: write it in decimal, without zeros in front and underscores, or in quotes if it is a text"
        }
    })
}
