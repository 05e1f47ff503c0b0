//! Where a field of an object stands in its document, and the line as it may be shown.
//!
//! Must never: show a value that may be secret. What of a line is no value that is known to be readable is masked.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use crate::{
    cli::documents::{Document, options},
    decisions::{is_plain, masked_object},
    review::clean,
};

/// Longest line that is shown, in characters.
const MAX_LINE: usize = 160;
/// What stands for a value.
const MASK: &str = "(masked)";
/// Fields whose values are shown of no object.
const CLOSED: [&str; 8] = [
    "annotations",
    "args",
    "binaryData",
    "command",
    "data",
    "env",
    "envFrom",
    "stringData",
];
/// Parts of names of fields that hold secrets.
const SECRETIVE: [&str; 5] = ["credential", "passw", "secret", "token", "key"];

/// A step on the way to a field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Field(String),
    Item(usize),
}

/// A place in a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Place {
    /// Line, from 1.
    pub(super) line: u32,
    /// Column of the first character, from 1.
    pub(super) column: u32,
    /// Column behind the last one.
    pub(super) end: u32,
    /// The line, masked, and where in that the place is.
    pub(super) shown: Option<Shown>,
}

/// A line as it may be shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Shown {
    pub(super) text: String,
    /// Characters in front of the place, and of the place.
    pub(super) before: usize,
    pub(super) long: usize,
}

/// A document with the places of its parts.
pub(super) struct Places<'a> {
    document: &'a Document,
    root: Option<Spanned<Node>>,
}

/// An object in it, and what of its text is masked.
pub(super) struct ObjectPlaces<'a> {
    document: &'a Document,
    place: Location,
    node: &'a Node,
    masks: Vec<Mask>,
}

/// The steps of a path as violations name it: `spec.containers[0].image`, `metadata.labels[example.com/key]`.
pub(super) fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (key, after) = inner.split_once(']').unwrap_or((inner, ""));
            let key = key.trim_matches(['"', '\'']);
            steps.push(key.parse().map_or_else(|_| Step::Field(key.to_owned()), Step::Item));
            rest = after;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (field, after) = rest.split_at(end);
            if !field.is_empty() {
                steps.push(Step::Field(field.to_owned()));
            }
            rest = after;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
    steps
}

impl<'a> Places<'a> {
    /// Reads the document once more, for places alone.
    pub(super) fn of(document: &'a Document) -> Self {
        let root = serde_saphyr::from_str_with_options(&document.text, options()).ok();
        Self { document, root }
    }

    /// The line of what stands behind these steps.
    pub(super) fn line(&self, prefix: &[Step]) -> Option<u32> {
        let root = self.root.as_ref()?;
        let mut at = (root.referenced, &root.value);
        for step in prefix {
            at = at.1.step(step)?;
        }
        let line = u32::try_from(at.1.head().unwrap_or(at.0).line()).ok()?;
        Some(self.document.first.saturating_add(line.saturating_sub(1)))
    }

    /// The places of an object that stands in the document behind these steps.
    pub(super) fn object(
        &self,
        prefix: &[Step],
        (group, kind): (&str, &str),
        object: &Value,
    ) -> Option<ObjectPlaces<'_>> {
        let root = self.root.as_ref()?;
        let mut at = (root.referenced, &root.value);
        for step in prefix {
            at = at.1.step(step)?;
        }
        let masked = masked_object(group, kind, object);
        let mut masks = Vec::new();
        let is_secret = crate::policy::is_secret(kind);
        at.1.masks(at.0, Some(object), Some(&masked), is_secret, &mut masks);
        Some(ObjectPlaces {
            document: self.document,
            place: at.1.head().unwrap_or(at.0),
            node: at.1,
            masks,
        })
    }
}

impl ObjectPlaces<'_> {
    /// The place of a field, or of the nearest thing above it that is there.
    pub(super) fn find(&self, path: &str) -> Option<Place> {
        let mut at = (self.place, self.node);
        for step in steps(path) {
            let Some(next) = at.1.step(&step) else { break };
            at = next;
        }
        let place = at.0;
        let number = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let of_document = usize::try_from(place.line()).ok()?;
        let text = self.document.text.lines().nth(of_document.checked_sub(1)?)?;
        let column = number(place.column()).max(1);
        let start = usize::try_from(column).ok()?.saturating_sub(1);
        let long = width(text, start);
        let is_there = start < text.chars().count();
        let shown = is_there.then(|| shown(text, of_document, (start, long), &self.masks, &self.document.text));
        Some(Place {
            line: self
                .document
                .first
                .saturating_add(number(place.line()).saturating_sub(1)),
            column,
            end: column.saturating_add(u32::try_from(long).unwrap_or(1)),
            shown,
        })
    }
}

/// How many characters the word at a place takes: a key, or a value up to what ends it.
fn width(text: &str, start: usize) -> usize {
    let rest = text.chars().skip(start);
    let word = rest.take_while(|c| !c.is_whitespace() && !",]}#".contains(*c)).count();
    word.max(1)
}

/// Characters of the document that are not shown: from where to where.
type Mask = (u64, u64);

fn mask_of(place: Location) -> Mask {
    let span = place.span();
    (span.offset(), span.offset().saturating_add(span.len().max(1)))
}

/// A line without what is masked, and what of it is the place.
fn shown(text: &str, number: usize, (start, long): (usize, usize), masks: &[Mask], document: &str) -> Shown {
    let before: usize = document
        .split_inclusive('\n')
        .take(number.saturating_sub(1))
        .map(|line| line.chars().count())
        .sum();
    let is_masked = |at: usize| {
        let at = u64::try_from(before.saturating_add(at)).unwrap_or(u64::MAX);
        masks.iter().any(|(from, to)| (*from..*to).contains(&at))
    };
    let comment = comment_of(text, &is_masked);
    let mut out = String::new();
    let (mut place, mut place_long) = (0, 0);
    let mut in_mask = false;
    for (at, c) in text.chars().enumerate().take(comment) {
        if at == start {
            place = out.chars().count();
        }
        let masked = is_masked(at);
        if masked && !in_mask {
            out.push_str(MASK);
        } else if !masked {
            out.push(c);
        }
        in_mask = masked;
        if at >= start && at < start.saturating_add(long) {
            place_long = out.chars().count().saturating_sub(place);
        }
    }
    let line: Vec<char> = clean(out.trim_end()).chars().collect();
    // Of a long line what is around the place.
    let from = if place.saturating_add(place_long) > MAX_LINE {
        place.saturating_sub(MAX_LINE / 4)
    } else {
        0
    };
    let mut text: String = line.iter().skip(from).take(MAX_LINE).collect();
    if line.len() > from.saturating_add(MAX_LINE) {
        text.push('…');
    }
    if from > 0 {
        text.insert(0, '…');
    }
    let length = text.chars().count();
    let before = place.saturating_sub(from).saturating_add(usize::from(from > 0));
    let before = before.min(length.saturating_sub(1));
    Shown {
        text,
        before,
        long: place_long.clamp(1, length.saturating_sub(before).max(1)),
    }
}

/// Where the comment at the end of a line begins: what it says is nobody's value, and may be one that was put aside.
fn comment_of(text: &str, is_masked: &dyn Fn(usize) -> bool) -> usize {
    let (mut quote, mut before) = (None, ' ');
    for (at, c) in text.chars().enumerate() {
        match (quote, c) {
            _ if is_masked(at) => {}
            (None, '#') if before.is_whitespace() => return at,
            (None, '"' | '\'') if !before.is_alphanumeric() => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
        before = c;
    }
    text.chars().count()
}

/// A value with the places of what is in it.
enum Node {
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
    List(Vec<Spanned<Self>>),
    Leaf,
}

impl Node {
    /// The part behind a step; of a field, the place of its key.
    fn step(&self, step: &Step) -> Option<(Location, &Self)> {
        match (self, step) {
            (Self::Map(fields), Step::Field(name)) => fields
                .iter()
                .find(|(key, _)| key.value == *name)
                .map(|(key, value)| (key.referenced, &value.value)),
            // A label may be called like a number.
            (Self::Map(fields), Step::Item(number)) => fields
                .iter()
                .find(|(key, _)| key.value == number.to_string())
                .map(|(key, value)| (key.referenced, &value.value)),
            (Self::List(items), Step::Item(number)) => items.get(*number).map(|item| (item.referenced, &item.value)),
            _ => None,
        }
    }

    /// The place that stands for an object: that of its kind.
    fn head(&self) -> Option<Location> {
        let (place, _) = self.step(&Step::Field("kind".to_owned()))?;
        Some(place)
    }

    /// Adds the places of all values that are not to be shown.
    fn masks(
        &self,
        place: Location,
        value: Option<&Value>,
        masked: Option<&Value>,
        closed: bool,
        masks: &mut Vec<Mask>,
    ) {
        match self {
            Self::Map(fields) => {
                for (key, node) in fields {
                    let name = key.value.as_str();
                    if !is_plain(name) {
                        masks.push(mask_of(key.referenced));
                    }
                    let lower = name.to_ascii_lowercase();
                    let closed = closed || CLOSED.contains(&name) || SECRETIVE.iter().any(|part| lower.contains(part));
                    let value = value.and_then(|value| value.get(name));
                    let masked = masked.and_then(|masked| masked.get(name));
                    node.value.masks(node.referenced, value, masked, closed, masks);
                }
            }
            Self::List(items) => {
                for (number, node) in items.iter().enumerate() {
                    let value = value.and_then(|value| value.get(number));
                    let masked = masked.and_then(|masked| masked.get(number));
                    node.value.masks(node.referenced, value, masked, closed, masks);
                }
            }
            Self::Leaf => {
                let is_readable = match value {
                    Some(Value::String(text)) => !closed && is_plain(text),
                    Some(Value::Number(_)) => !closed,
                    Some(Value::Bool(_) | Value::Null) => true,
                    Some(Value::Array(_) | Value::Object(_)) | None => false,
                };
                if !is_readable && (value.is_none() || value != masked) {
                    masks.push(mask_of(place));
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

macro_rules! leaves {
    ($($visit:ident: $of:ty),*) => {
        $(fn $visit<E>(self, _: $of) -> Result<Node, E> {
            Ok(Node::Leaf)
        })*
    };
}

impl<'de> Visitor<'de> for Reading {
    type Value = Node;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("any YAML")
    }

    leaves!(visit_bool: bool, visit_i64: i64, visit_i128: i128, visit_u64: u64, visit_u128: u128, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests;
