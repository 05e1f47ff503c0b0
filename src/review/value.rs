//! JSON as it was sent, with a bound on what it weighs in memory.
//!
//! 32 MiB of `{"":0}` would become gigabytes of maps: the length of a body says little about its weight. Must never: change a field, or
//! drop one that whoever reads did not name.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// What a review may weigh once parsed. Two objects of 1.5 MB, the most that etcd takes, weigh 20 MiB when they are the
/// densest that controllers write (`managedFields`: empty maps under short keys). What weighs more was made to weigh.
pub const MAX_WEIGHT: usize = 64 << 20;
/// A value in its parent.
const VALUE: usize = size_of::<Value>();
/// A map that is not empty allocates a node for eleven entries, however many it holds.
const MAP: usize = 11 * (size_of::<String>() + VALUE);

/// Owners and finalizers that are read of an object of anybody's. Nothing that works has as many, and forty thousand of them fit into one.
const MAX_LISTED: usize = 64;

/// Marks the error for a weight beyond the bound; serde_json keeps nothing of a custom error but its text.
pub(super) const TOO_HEAVY: &str = "weighs too much";
/// How serde_json says that its limit of 128 levels is exceeded; it has no category for that.
pub(super) const TOO_DEEP: &str = "recursion limit exceeded";

/// What is kept of a document while it is read. The rest is stepped over, and weighs nothing, however it is nested. In a list it is
/// said of each element; a text or number where an object should be is kept as it is, so that whoever reads sees that it is wrong.
#[derive(Clone, Copy, Debug)]
pub enum Keep {
    /// As it was sent.
    Whole,
    /// As it was sent, but for what is said of these fields.
    But(&'static [(&'static str, Keep)]),
    /// These fields alone.
    Only(&'static [(&'static str, Keep)]),
    /// As it was sent, down to so many levels, and nothing of what lies deeper.
    Down(u8),
    /// Of a list, the first so many as they were sent.
    First(usize),
    /// Nothing.
    Nothing,
}

impl Keep {
    /// An object as it was sent, but for its `managedFields`: whoever may write it writes those as they like, and they can outweigh and outnest
    /// all the rest.
    pub const UNMANAGED: Self = Self::But(&[("metadata", Self::But(&[("managedFields", Self::Nothing)]))]);

    /// What is kept of a field.
    fn field(self, name: &str) -> Self {
        let said = |fields: &'static [(&'static str, Self)]| fields.iter().find(|(field, _)| *field == name);
        match self {
            Self::Whole | Self::First(_) => Self::Whole,
            Self::But(fields) => said(fields).map_or(Self::Whole, |(_, keep)| *keep),
            Self::Only(fields) => said(fields).map_or(Self::Nothing, |(_, keep)| *keep),
            Self::Down(levels) => levels.checked_sub(1).map_or(Self::Nothing, Self::Down),
            Self::Nothing => Self::Nothing,
        }
    }
}

/// Whether a document could not be read because of what is in it, which is up to who wrote it: it weighs more, or nests deeper, than may be,
/// or holds what Go takes for JSON, half a surrogate pair or a number beyond all bounds. The API server passes on as it was sent what it
/// does not read itself. What ends too early was cut off on the way.
pub fn is_its_writers(error: &serde_json::Error) -> bool {
    error.is_data() || error.is_syntax()
}

/// What a body can weigh at the most once it is parsed, told from its brackets and commas; those in texts are text. Where it is no JSON,
/// parsing ends at the first byte that is none. Bounded by [`MAX_WEIGHT`], at which parsing ends too.
pub fn weight_of(bytes: &[u8]) -> usize {
    let mut nodes = 0_usize;
    let (mut in_text, mut escaped) = (false, false);
    for (at, byte) in bytes.iter().enumerate() {
        nodes = nodes.saturating_add(match byte {
            _ if escaped => {
                escaped = false;
                continue;
            }
            b'\\' if in_text => {
                escaped = true;
                continue;
            }
            b'"' => {
                in_text = !in_text;
                continue;
            }
            _ if in_text => continue,
            // An empty one allocates nothing, and nearly all maps of `managedFields` are.
            b'{' if bytes.get(at + 1) == Some(&b'}') => VALUE,
            // Itself and its first value; every further one has a comma before it.
            b'{' => 2 * VALUE + MAP,
            b'[' => 2 * VALUE,
            b',' => VALUE + size_of::<String>(),
            _ => continue,
        });
    }
    nodes.saturating_add(bytes.len()).saturating_add(VALUE).min(MAX_WEIGHT)
}

/// What a value weighs, as it is counted while it is read.
pub fn weight(value: &Value) -> usize {
    let inner = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(weight).sum(),
        Value::Object(map) => {
            let entries = map
                .iter()
                .map(|(key, value)| size_of::<String>() + key.len() + weight(value));
            let node = if map.is_empty() { 0 } else { MAP };
            node + entries.sum::<usize>()
        }
    };
    VALUE + inner
}

/// Parses JSON that may weigh so much, or says why not. The error never quotes the input.
pub fn parse_within(bytes: &[u8], weight: usize) -> Result<Value, serde_json::Error> {
    parse_kept(bytes, weight, Keep::Whole).map(|(value, _)| value)
}

/// The same, of what is kept of it; and what that weighs.
pub fn parse_kept(bytes: &[u8], weight: usize, keep: Keep) -> Result<(Value, usize), serde_json::Error> {
    let left = Cell::new(weight);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = Weighed {
        left: &left,
        keep,
        cut: None,
    }
    .deserialize(&mut json)?;
    json.end()?;
    Ok((value, weight.saturating_sub(left.get())))
}

/// What is kept of a value that is read from anywhere, whatever it weighs.
pub fn read_kept<'de, D: Deserializer<'de>>(deserializer: D, keep: Keep) -> Result<Value, D::Error> {
    let left = Cell::new(usize::MAX);
    Weighed {
        left: &left,
        keep,
        cut: None,
    }
    .deserialize(deserializer)
}

/// An object that is read from anywhere, without its `managedFields`: the rest of its metadata, of owners and finalizers the first
/// [`MAX_LISTED`], and of what is beside that so much. Where that weighs more nothing of it is kept; and whether that is so.
pub fn read_object<'de, D: Deserializer<'de>>(deserializer: D, most: usize) -> Result<(Value, bool), D::Error> {
    deserializer.deserialize_map(Object { most })
}

struct Object {
    most: usize,
}

impl<'de> Visitor<'de> for Object {
    type Value = (Value, bool);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        const METADATA: Keep = Keep::But(&[
            ("managedFields", Keep::Nothing),
            ("ownerReferences", Keep::First(MAX_LISTED)),
            ("finalizers", Keep::First(MAX_LISTED)),
        ]);
        let (all, left, cut) = (Cell::new(usize::MAX), Cell::new(self.most), Cell::new(false));
        let (mut names, mut beside) = (Map::new(), Map::new());
        while let Some(key) = entries.next_key::<String>()? {
            let keep = if key == "metadata" { METADATA } else { Keep::Whole };
            // What an object is called is no work of who wrote it.
            let (into, left, cut) = match key.as_str() {
                "metadata" | "apiVersion" | "kind" => (&mut names, &all, None),
                _ => (&mut beside, &left, Some(&cut)),
            };
            let value = entries.next_value_seed(Weighed { left, keep, cut })?;
            into.insert(key, value);
        }
        if !cut.get() {
            names.append(&mut beside);
        }
        Ok((Value::Object(names), cut.get()))
    }
}

#[derive(Clone, Copy)]
struct Weighed<'a> {
    left: &'a Cell<usize>,
    keep: Keep,
    /// Told when there is more than may be: then the rest is stepped over, and is else an error.
    cut: Option<&'a Cell<bool>>,
}

impl Weighed<'_> {
    fn charge<E: Error>(self, weight: usize) -> Result<(), E> {
        match (self.left.get().checked_sub(weight), self.cut) {
            (Some(left), _) => self.left.set(left),
            (None, Some(cut)) => {
                self.left.set(0);
                cut.set(true);
            }
            (None, None) => return Err(E::custom(TOO_HEAVY)),
        }
        Ok(())
    }

    fn is_cut(self) -> bool {
        self.cut.is_some_and(Cell::get)
    }
}

impl<'de> DeserializeSeed<'de> for Weighed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Weighed<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.charge(VALUE)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.charge(VALUE)?;
        Ok(Value::from(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.charge(VALUE)?;
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.charge(VALUE)?;
        Ok(Value::from(value))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.charge(VALUE)?;
        Ok(Value::Null)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.charge(VALUE.saturating_add(value.len()))?;
        if self.is_cut() {
            return Ok(Value::Null);
        }
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.charge(VALUE)?;
        let mut list = Vec::new();
        let (keep, most) = match self.keep {
            // Lists in lists are levels too.
            Keep::Down(0) => (Keep::Nothing, 0),
            Keep::Down(levels) => (Keep::Down(levels - 1), usize::MAX),
            Keep::First(most) => (Keep::Whole, most),
            keep => (keep, usize::MAX),
        };
        while !self.is_cut() {
            if list.len() == most {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Value::Array(list));
            }
            let Some(value) = seq.next_element_seed(Self { keep, ..self })? else {
                return Ok(Value::Array(list));
            };
            list.push(value);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.charge(VALUE)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let keep = self.keep.field(&key);
            if self.is_cut() {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            if matches!(keep, Keep::Nothing) {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            let node = if map.is_empty() { MAP } else { size_of::<String>() };
            self.charge(node.saturating_add(key.len()))?;
            map.insert(key, entries.next_value_seed(Self { keep, ..self })?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9f64..1e9).prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// A field that got lost or changed here would be one that no policy ever sees.
        #[test]
        fn json_is_read_as_serde_json_reads_it(value in json()) {
            let bytes = serde_json::to_vec(&value).unwrap();
            prop_assert_eq!(parse_within(&bytes, MAX_WEIGHT).unwrap(), serde_json::from_slice::<Value>(&bytes).unwrap());
        }

        /// What is told from the bytes is what is set aside before they are parsed: too little would be memory nobody counted.
        #[test]
        fn a_body_weighs_no_more_than_is_told_from_its_bytes(value in json()) {
            let bytes = serde_json::to_vec(&value).unwrap();
            prop_assert!(parse_within(&bytes, weight_of(&bytes)).is_ok());
            prop_assert!(parse_within(&bytes, weight(&value)).is_ok());
        }
    }

    /// Somebody who writes brackets into a text must not take the room that reviews of others need.
    #[test]
    fn what_stands_in_a_text_is_text() {
        for text in [r"{[,".repeat(1000), r#"\"{[,\\"#.repeat(1000)] {
            let bytes = serde_json::to_vec(&vec![text]).unwrap();
            assert!(weight_of(&bytes) <= bytes.len() + 4 * VALUE, "{}", weight_of(&bytes));
        }
    }

    /// Nobody keeps `managedFields`: somebody who fills them must not take that room either.
    #[test]
    fn empty_maps_weigh_little() {
        let bytes = format!("{{{}}}", vec![r#""f:x":{}"#; 10_000].join(","));
        let weight = weight_of(bytes.as_bytes());
        assert!(weight <= bytes.len() + 10_001 * (3 * VALUE) + MAP, "{weight}");
        assert!(parse_within(bytes.as_bytes(), weight).is_ok());
    }

    #[test]
    fn small_maps_that_grow_a_hundredfold_are_refused() {
        let bytes = format!("[{}1]", r#"{"":0},"#.repeat(10_000));
        let error = parse_within(bytes.as_bytes(), 4 << 20).unwrap_err();
        assert!(error.to_string().starts_with(TOO_HEAVY), "{error}");
        assert!(parse_within(bytes.as_bytes(), MAX_WEIGHT).is_ok());
    }

    const NAMES: Keep = Keep::Only(&[("items", Keep::Only(&[("name", Keep::Whole)])), ("next", Keep::Whole)]);

    #[rstest::rstest]
    #[case::named_ones(
        NAMES,
        r#"{"a": {"b": 1}, "items": [{"name": {"x": 1}, "c": 2}, "text", {"name": null}], "next": "n"}"#,
        r#"{"items": [{"name": {"x": 1}}, "text", {"name": null}], "next": "n"}"#
    )]
    #[case::down_to_some_level(
        Keep::Only(&[("a", Keep::Down(2))]),
        r#"{"a": {"b": {"c": {"d": 1}, "e": [1]}, "f": [[[1]], 2]}, "g": 1}"#,
        r#"{"a": {"b": {"c": {}, "e": []}, "f": [[], 2]}}"#
    )]
    #[case::the_first(
        Keep::Only(&[("a", Keep::First(2)), ("b", Keep::First(0))]),
        r#"{"a": [{"x": [1]}, 2, 3], "b": [1], "c": 1}"#,
        r#"{"a": [{"x": [1]}, 2], "b": []}"#
    )]
    #[case::no_more_than_the_first(Keep::First(2), "[1, 2]", "[1, 2]")]
    #[case::of_the_wrong_type(NAMES, r#"{"items": "text"}"#, r#"{"items": "text"}"#)]
    #[case::all_but_one(
        Keep::UNMANAGED,
        r#"{"managedFields": 1, "metadata": {"managedFields": [{}], "name": "n"}, "spec": [1]}"#,
        r#"{"managedFields": 1, "metadata": {"name": "n"}, "spec": [1]}"#
    )]
    fn what_is_not_kept_is_stepped_over(#[case] keep: Keep, #[case] sent: &str, #[case] kept: &str) {
        let (value, _) = parse_kept(sent.as_bytes(), 1 << 20, keep).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(kept).unwrap());
    }

    /// As deep as an object can be, and deeper than is read: nobody reads it.
    #[test]
    fn what_is_stepped_over_weighs_nothing() {
        let nested = format!("{}{}", "{\"f:a\":".repeat(200), "0".to_owned() + &"}".repeat(200));
        let fields = vec![nested; 1000].join(",");
        let sent = format!(r#"{{"metadata": {{"managedFields": [{fields}], "name": "n"}}}}"#);
        let (value, weight) = parse_kept(sent.as_bytes(), 4 << 10, Keep::UNMANAGED).unwrap();
        assert_eq!(value, serde_json::json!({"metadata": {"name": "n"}}));
        assert!((1..4 << 10).contains(&weight), "{weight}");
        assert!(parse_within(sent.as_bytes(), 4 << 10).is_err());
    }

    /// One object of anybody's must not end the list that it is in.
    #[test]
    fn what_an_object_outweighs_is_left_out_and_its_metadata_is_not() {
        let read = |text: &str, most| read_object(&mut serde_json::Deserializer::from_str(text), most).unwrap();
        let heads = serde_json::json!({"kind": "K", "metadata": {"name": "n", "labels": {"a": "b"}}});
        for heavy in [
            format!(r#"{{"list": [{}1]}}"#, r#"{"":0},"#.repeat(10_000)),
            format!(r#""{}""#, "x".repeat(1 << 20)),
            format!("[[{}]]", vec!["1"; 100_000].join(",")),
        ] {
            let sent = format!(
                r#"{{"kind": "K", "metadata": {{"name": "n", "managedFields": [1], "labels": {{"a": "b"}}}}, "small": 1, "spec": {heavy}, "after": [{{"a": 1}}]}}"#
            );
            assert_eq!(read(&sent, 64 << 10), (heads.clone(), true));
            let (whole, is_cut) = read(&sent, usize::MAX);
            assert_eq!(
                (is_cut, whole["after"][0]["a"].as_u64(), &whole["metadata"]),
                (false, Some(1), &heads["metadata"])
            );
        }
        assert_eq!(
            read(r#"{"metadata": {"name": "n"}, "x": 1}"#, 0).0,
            serde_json::json!({"metadata": {"name": "n"}})
        );
    }

    #[test]
    fn bytes_after_the_value_are_refused() {
        assert!(parse_within(b"{} {}", MAX_WEIGHT).is_err());
    }
}
