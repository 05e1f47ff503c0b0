//! How large the two objects of a review were as they were sent, told without keeping either.
//!
//! Must never: count less than was sent, whatever is stepped over when the review is read.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

/// From here on an object is large. The most that etcd takes is four times that: the API server can still write what ends it, and its
/// controllers what they write on it.
pub const LARGE: usize = 384 << 10;

/// How large both are; nothing of a review in which neither can be large.
pub fn sizes(review: &[u8]) -> Sizes {
    // As most are: the object in it cannot be larger than all of it.
    if review.len() <= LARGE {
        return Sizes::default();
    }
    let sizes = Cell::new(Sizes::default());
    let level = Level {
        is_request: false,
        review,
        sizes: &sizes,
    };
    // The result is of no interest: who reads the review says what is wrong with it.
    let _ = level.deserialize(&mut serde_json::Deserializer::from_slice(review));
    sizes.into_inner()
}

/// From behind the name of each to whatever follows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    /// Of the object as it would be.
    pub object: usize,
    /// Of the object as it is.
    pub old: usize,
}

impl Sizes {
    /// Whether an UPDATE makes an object larger, and large.
    pub const fn swells(self) -> bool {
        self.old > 0 && self.object > self.old && self.object > LARGE
    }
}

/// The review, or the request in it. Other values are skipped by serde_json without recursion, so depth does not matter.
#[derive(Clone, Copy)]
struct Level<'a> {
    is_request: bool,
    review: &'a [u8],
    sizes: &'a Cell<Sizes>,
}

impl Level<'_> {
    /// Where a name stands that was read from the review.
    fn place(self, name: &str) -> usize {
        (name.as_ptr() as usize).saturating_sub(self.review.as_ptr() as usize)
    }

    fn note(self, key: &str, until: usize) {
        let size = until.saturating_sub(self.place(key).saturating_add(key.len()));
        let mut sizes = self.sizes.get();
        match key {
            "object" => sizes.object = size,
            "oldObject" => sizes.old = size,
            _ => {}
        }
        self.sizes.set(sizes);
    }
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut last: Option<&str> = None;
        // Names are read where they stand; one that is written with escapes ends the reading, and the API server writes none.
        while let Some(key) = map.next_key::<&'de str>()? {
            if let Some(last) = last.take() {
                self.note(last, self.place(key));
            }
            if !self.is_request && key == "request" {
                let request = Level {
                    is_request: true,
                    ..self
                };
                map.next_value_seed(request)?;
            } else if map.next_value::<Option<IgnoredAny>>()?.is_some() && self.is_request {
                last = Some(key);
            }
        }
        if let Some(last) = last {
            self.note(last, self.review.len());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    /// As the API server writes it: who wrote which field is a part of it.
    fn object(bytes: usize) -> Value {
        json!({"metadata": {"managedFields": [{"fieldsV1": {"f:a": "x".repeat(bytes)}}]}})
    }

    #[rstest]
    #[case::larger(100, LARGE, true)]
    #[case::large_already(LARGE + 100, LARGE + 101, true)]
    #[case::smaller(LARGE + 101, LARGE + 100, false)]
    #[case::as_before(LARGE, LARGE, false)]
    #[case::not_large_yet(100, LARGE - 200, false)]
    fn an_object_that_is_made_large_is_told(#[case] old: usize, #[case] new: usize, #[case] expected: bool) {
        let request = json!({"uid": "u", "object": object(new), "oldObject": object(old), "options": object(LARGE)});
        let review = json!({"kind": "AdmissionReview", "request": request, "oldObject": object(2 * LARGE)});
        let sizes = sizes(review.to_string().as_bytes());
        assert_eq!(sizes.swells(), expected);
        assert!(
            sizes.object == 0 || (new..new + 100).contains(&sizes.object),
            "{sizes:?}"
        );
    }

    #[test]
    fn what_is_made_or_cannot_be_read_is_not() {
        let made = json!({"request": {"object": object(2 * LARGE), "oldObject": null}});
        let made = sizes(made.to_string().as_bytes());
        assert!(!made.swells() && made.object > 2 * LARGE, "{made:?}");
        assert!(!sizes(&vec![b'['; 2 * LARGE]).swells());
    }

    /// Deeper than a review may nest.
    #[test]
    fn depth_hides_nothing() {
        let deep = format!("{}1{}", r#"{"f:a":"#.repeat(LARGE), "}".repeat(LARGE));
        let review = format!(r#"{{"request":{{"object":{deep},"oldObject":{{}}}}}}"#);
        assert!(sizes(review.as_bytes()).swells());
    }
}
