//! Refuses what is no text in YAML 1.1 and another one, or none, in YAML 1.2: keys, values, and texts in a flow that end elsewhere.
//!
//! Goes by the parser's events, as what reads them knows neither quotes nor where a key ends. Must never: quote what is refused.

use std::collections::HashMap;

use serde_json::Value;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle, Tag};

use super::{
    Document, Problem,
    alike::MERGE,
    parse::placed,
    words::{Word, judged, may_differ},
};

const TAGGED: &str = "a key has a tag, which kubectl does not tell it from others by: write the key without";
const TWICE: &str = "this key is written plain and in quotes, which are two keys for kubectl, of which it keeps any: leave one of them out";
const UNLIKE: &str = "this key is written plain here and in quotes elsewhere, or the other way round, which are two keys for kubectl where one is merged: put both in quotes";

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
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                let key = Key::of(&text, is_plain, tag.as_deref());
                let map = self.next();
                if is_plain && self.flows > 0 {
                    self.flow(&text, map.is_some(), span)?;
                }
                match map {
                    Some(map) => self.key(map, key.clone())?,
                    None => value(&text, is_plain, tag.as_deref())?,
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
    fn of(text: &str, is_plain: bool, tag: Option<&Tag>) -> Self {
        let is_text = tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
        let word = Word::of(text);
        let is_plain = is_plain && tag.is_none();
        let refused = if tag.is_some() && !is_text {
            Some(TAGGED)
        } else if is_plain && !word.is_written_as(text) {
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

/// Refuses a value that kubectl reads otherwise. Behind YAML's own tag of a word or a number, quotes make no difference.
fn value(text: &str, is_plain: bool, tag: Option<&Tag>) -> Result<(), &'static str> {
    let word = match tag.map(Tag::core_suffix) {
        None if is_plain && may_differ(text) => Word::of(text),
        Some(Some(core)) if core != "str" => Word::of(text),
        // To kubectl, any other tag makes a text of it.
        Some(None) if is_plain && tag.is_some_and(|tag| tag.parts() != ("", "!")) => Word::Text,
        _ => return Ok(()),
    };
    let judged = judged(text);
    if word.is(&judged) {
        return Ok(());
    }
    Err(match (word, judged) {
        (Word::Text, _) if tag.is_some() => {
            "kubectl reads this as a text because of its tag: leave the tag out, or put the text in quotes"
        }
        (_, Value::Bool(_) | Value::Null) => {
            "kubectl reads this word otherwise: write it in small letters, or in quotes if it is a text"
        }
        _ => {
            "kubectl, which goes by YAML 1.1, reads another number here: write it in decimal, without zeros in front and underscores, or in quotes if it is a text"
        }
    })
}
