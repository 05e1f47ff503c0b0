//! JSON as it was sent, with a bound on what it weighs in memory.
//!
//! 32 MiB of `{"":0}` would become gigabytes of maps: the length of a body says little about its weight. Must never: drop or
//! change a field.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// What a review may weigh once parsed. Two objects of 1.5 MB, the most that etcd takes, weigh 20 MiB when they are the
/// densest that controllers write (`managedFields`: empty maps under short keys). What weighs more was made to weigh.
pub const MAX_WEIGHT: usize = 64 << 20;
/// A value in its parent.
const VALUE: usize = size_of::<Value>();
/// A map that is not empty allocates a node for eleven entries, however many it holds.
const MAP: usize = 11 * (size_of::<String>() + VALUE);

/// Marks the error for a weight beyond the bound; serde_json keeps nothing of a custom error but its text.
pub(super) const TOO_HEAVY: &str = "weighs too much";
/// How serde_json says that its limit of 128 levels is exceeded; it has no category for that.
pub(super) const TOO_DEEP: &str = "recursion limit exceeded";

/// What a body can weigh at the most once it is parsed, told from its brackets and commas: those in strings count too, so
/// it is never too little. Bounded by [`MAX_WEIGHT`], at which parsing ends.
pub fn weight_of(bytes: &[u8]) -> usize {
    let node = |byte: &u8| match byte {
        // Itself and its first value; every further one has a comma before it.
        b'{' => 2 * VALUE + MAP,
        b'[' => 2 * VALUE,
        b',' => VALUE + size_of::<String>(),
        _ => 0,
    };
    let nodes = bytes.iter().map(node).fold(0, usize::saturating_add);
    nodes.saturating_add(bytes.len()).saturating_add(VALUE).min(MAX_WEIGHT)
}

/// Parses JSON, or says why not. The error never quotes the input.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    parse_within(bytes, MAX_WEIGHT)
}

/// Parses JSON that may weigh so much, or says why not. The error never quotes the input.
pub fn parse_within(bytes: &[u8], weight: usize) -> Result<Value, serde_json::Error> {
    let left = Cell::new(weight);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = Weighed { left: &left }.deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Weighed<'a> {
    left: &'a Cell<usize>,
}

impl Weighed<'_> {
    fn charge<E: Error>(self, weight: usize) -> Result<(), E> {
        let left = self
            .left
            .get()
            .checked_sub(weight)
            .ok_or_else(|| E::custom(TOO_HEAVY))?;
        self.left.set(left);
        Ok(())
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
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.charge(VALUE)?;
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.charge(VALUE)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let node = if map.is_empty() { MAP } else { size_of::<String>() };
            self.charge(node.saturating_add(key.len()))?;
            map.insert(key, entries.next_value_seed(self)?);
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
            prop_assert_eq!(parse(&bytes).unwrap(), serde_json::from_slice::<Value>(&bytes).unwrap());
        }

        /// What is told from the bytes is what is set aside before they are parsed: too little would be memory nobody counted.
        #[test]
        fn a_body_weighs_no_more_than_is_told_from_its_bytes(value in json()) {
            let bytes = serde_json::to_vec(&value).unwrap();
            prop_assert!(parse_within(&bytes, weight_of(&bytes)).is_ok());
        }
    }

    #[test]
    fn small_maps_that_grow_a_hundredfold_are_refused() {
        let bytes = format!("[{}1]", r#"{"":0},"#.repeat(10_000));
        let error = parse_within(bytes.as_bytes(), 4 << 20).unwrap_err();
        assert!(error.to_string().starts_with(TOO_HEAVY), "{error}");
        assert!(parse(bytes.as_bytes()).is_ok());
    }

    #[test]
    fn bytes_after_the_value_are_refused() {
        assert!(parse(b"{} {}").is_err());
    }
}
