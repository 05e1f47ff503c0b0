//! What kubectl reads otherwise than YAML has it: its parser goes by YAML 1.1, a merge key wins over what stands before it, and keys are
//! told apart by their texts alone.
//!
//! Must never: let pass what is applied otherwise than it is judged. What is not certain is refused.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::{Location, MergeKeyPolicy, Spanned};

use super::{
    Document, Problem,
    parse::{at, options, told},
};

/// What ends a line in YAML 1.1, and so a comment or a text, and is a letter like others in YAML 1.2.
const BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];
pub(super) const MERGE: &str = "<<";

/// Whether kubectl sees more lines than one in a line.
pub(super) fn is_broken(line: &[u8]) -> bool {
    let has = |bytes: &[u8]| line.windows(bytes.len()).any(|found| found == bytes);
    let returns = line.iter().enumerate().filter(|(_, byte)| **byte == b'\r');
    let is_alone = |at: usize| line.get(at.saturating_add(1)) != Some(&b'\n');
    returns.map(|(at, _)| at).any(is_alone)
        || !line.is_ascii() && BREAKS.iter().any(|c| has(c.encode_utf8(&mut [0; 4]).as_bytes()))
}

/// What stands before the first character that ends a line to kubectl alone, and that character. A carriage return is one to all that
/// read YAML; but borders are looked for in lines that a line feed ends, as editors show them.
fn first_break(text: &str) -> Option<(&str, char)> {
    let is_break = |(at, c): &(usize, char)| match c {
        '\r' => !text.get(*at..).is_some_and(|rest| rest.starts_with("\r\n")),
        c => BREAKS.contains(c),
    };
    let (at, found) = text.char_indices().find(is_break)?;
    Some((text.get(..at)?, found))
}

/// Refuses a text that kubectl reads as other lines.
pub(super) fn lines(document: &Document) -> Result<(), Problem> {
    let text = &document.text;
    let Some((before, found)) = first_break(text) else {
        return Ok(());
    };
    // What begins with a JSON value is no YAML to kubectl either.
    if document.first == 1 && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        return Ok(());
    }
    let code = u32::from(found);
    let message = match found {
        '\r' => "a carriage return is here without a line feed behind it, which ends a line for kubectl and is not seen: end lines with a line feed, or write \\r in double quotes".to_owned(),
        _ => format!(
            "U+{code:04X} is here, which ends a line for kubectl, and does not in YAML: leave it out, or write \\u{code:04x} in double quotes"
        ),
    };
    Err(Problem::behind(document.first, before, message))
}

/// Refuses keys that kubectl merges otherwise. `value` is what the document was read as, and nothing in it has a tag.
pub(super) fn merges(document: &Document, value: &Value) -> Result<(), Problem> {
    if !document.text.contains(MERGE) {
        return Ok(());
    }
    let mut options = options();
    options.merge_keys = MergeKeyPolicy::AsOrdinary;
    let keys: Keys =
        serde_saphyr::from_str_with_options(&document.text, options).map_err(|error| told(document, &error))?;
    if let Some((place, message)) = keys.refused {
        return Err(at(document, place, message));
    }
    match keys.merge {
        Some(place) if is_left(value) => {
            let message = format!("a key {MERGE} in quotes may be a merge key for kubectl: write it without quotes");
            Err(at(document, place, message))
        }
        _ => Ok(()),
    }
}

/// Whether a merge key was read as an ordinary one.
fn is_left(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| key == MERGE || is_left(value)),
        Value::Array(items) => items.iter().any(is_left),
        _ => false,
    }
}

/// The keys of a map, or of the maps in a list, which a merge key takes alike; and what was found below.
#[derive(Default)]
struct Keys {
    all: BTreeSet<String>,
    /// Where the first merge key is.
    merge: Option<Location>,
    /// Where the first one is that is read otherwise, and what to do about it.
    refused: Option<(Location, String)>,
}

impl Keys {
    fn found(&mut self, below: &mut Self) {
        self.merge = self.merge.or(below.merge.take());
        self.refused = self.refused.take().or(below.refused.take());
    }

    fn merge(&mut self, key: &Spanned<String>, merged: BTreeSet<String>) {
        let message = if key.referenced != key.defined {
            Some(format!(
                "{MERGE} is written by an alias, which merges nothing for kubectl: write {MERGE} itself"
            ))
        } else {
            let twice = merged.intersection(&self.all).next();
            twice.map(|twice| {
                let twice = twice.escape_debug();
                format!("{MERGE} merges {twice} too, which stands before it: kubectl takes what it merges, YAML what stands before: put {MERGE} first, or leave one of them out")
            })
        };
        let refused = message.map(|message| (key.referenced, message));
        self.refused = self.refused.take().or(refused);
        self.merge = self.merge.or(Some(key.referenced));
        self.all.extend(merged);
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

macro_rules! leaves {
    ($($visit:ident: $of:ty),*) => {
        $(fn $visit<E>(self, _: $of) -> Result<Keys, E> {
            Ok(Keys::default())
        })*
    };
}

impl<'de> Visitor<'de> for Reading {
    type Value = Keys;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any YAML")
    }

    leaves!(visit_bool: bool, visit_i64: i64, visit_i128: i128, visit_u64: u64, visit_u128: u128, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Keys, E> {
        Ok(Keys::default())
    }

    fn visit_none<E>(self) -> Result<Keys, E> {
        Ok(Keys::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Keys, D::Error> {
        Keys::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Keys, A::Error> {
        let mut keys = Keys::default();
        while let Some(mut item) = items.next_element::<Keys>()? {
            keys.found(&mut item);
            keys.all.append(&mut item.all);
        }
        Ok(keys)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Keys, A::Error> {
        let mut keys = Keys::default();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let mut below = entries.next_value::<Keys>()?;
            keys.found(&mut below);
            if key.value == MERGE {
                keys.merge(&key, below.all);
            } else {
                keys.all.insert(key.value);
            }
        }
        Ok(keys)
    }
}
