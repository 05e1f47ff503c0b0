//! The uid of a review, read from its first bytes.
//!
//! The API server drops an answer whose uid is not its own, and `failurePolicy` then speaks in our place. So the uid is read
//! before anything else, from bodies that are cut off, too deep or broken further on. Must never: take another `uid` than
//! `request.uid` for it (the caller and every object have one too).

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// The longest uid that is echoed. The API server sends 36 characters.
pub const MAX_UID: usize = 256;

/// Reads `request.uid` from the start of a review, whatever follows it.
pub fn uid_of(prefix: &[u8]) -> Option<String> {
    let found = Cell::new(None);
    let mut json = serde_json::Deserializer::from_slice(prefix);
    // The result is of no interest: a find ends the reading with an error too.
    let _ = json.deserialize_map(Level {
        key: "request",
        then: Then::Descend("uid"),
        found: &found,
    });
    found
        .into_inner()
        .filter(|uid: &String| !uid.is_empty() && uid.len() <= MAX_UID)
}

/// What to do at the key that is looked for.
#[derive(Clone, Copy)]
enum Then {
    Descend(&'static str),
    Take,
}

/// One object on the way to it. Other values are skipped by serde_json without recursion, so depth does not matter.
struct Level<'a> {
    key: &'static str,
    then: Then,
    found: &'a Cell<Option<String>>,
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
        write!(formatter, "an object with the key {}", self.key)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key != self.key {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            match self.then {
                Then::Descend(field) => {
                    map.next_value_seed(Level {
                        key: field,
                        then: Then::Take,
                        found: self.found,
                    })?;
                }
                Then::Take => self.found.set(Some(map.next_value::<String>()?)),
            }
            return Err(A::Error::custom("done"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const DEEP: usize = 100_000;

    #[rstest]
    #[case::first(r#"{"request":{"uid":"u-1","object":{}}}"#, Some("u-1"))]
    #[case::cut_off(r#"{"kind":"AdmissionReview","request":{"uid":"u-1","object":{"a":["#, Some("u-1"))]
    #[case::cut_off_at_once(r#"{"request":{"uid":"u-1""#, Some("u-1"))]
    #[case::no_json_any_more(r#"{"request":{"uid":"u-1"]]]]"#, Some("u-1"))]
    #[case::escaped(r#"{"request":{"uid":"\u0075-1"}}"#, Some("u-1"))]
    #[case::caller_has_one_too(r#"{"request":{"userInfo":{"uid":"evil"},"uid":"u-1"}}"#, Some("u-1"))]
    #[case::object_has_one_too(
        r#"{"request":{"object":{"metadata":{"uid":"evil"},"uid":"evil"},"uid":"u-1"}}"#,
        Some("u-1")
    )]
    #[case::beside_the_request(r#"{"uid":"evil","request":{"uid":"u-1"}}"#, Some("u-1"))]
    #[case::request_inside_something(r#"{"x":{"request":{"uid":"evil"}},"request":{"uid":"u-1"}}"#, Some("u-1"))]
    #[case::only_the_callers(r#"{"request":{"userInfo":{"uid":"evil"}}}"#, None)]
    #[case::cut_off_inside(r#"{"request":{"uid":"u-"#, None)]
    #[case::not_a_string(r#"{"request":{"uid":7}}"#, None)]
    #[case::empty_uid(r#"{"request":{"uid":""}}"#, None)]
    #[case::request_is_a_list(r#"{"request":["uid","evil"]}"#, None)]
    #[case::empty("", None)]
    #[case::list(r#"[{"request":{"uid":"evil"}}]"#, None)]
    #[case::text("uid", None)]
    fn uid_is_the_requests_own(#[case] prefix: &str, #[case] expected: Option<&str>) {
        assert_eq!(uid_of(prefix.as_bytes()).as_deref(), expected);
    }

    #[test]
    fn uid_is_found_before_and_after_an_object_too_deep_to_parse() {
        let deep = format!("{}1{}", "[".repeat(DEEP), "]".repeat(DEEP));
        assert_eq!(
            uid_of(format!(r#"{{"request":{{"uid":"u-1","object":{deep}}}}}"#).as_bytes()).as_deref(),
            Some("u-1")
        );
        assert_eq!(
            uid_of(format!(r#"{{"request":{{"object":{deep},"uid":"u-1"}}}}"#).as_bytes()).as_deref(),
            Some("u-1")
        );
    }

    #[test]
    fn uid_beyond_the_limit_is_not_echoed() {
        let uid = |len: usize| uid_of(format!(r#"{{"request":{{"uid":"{}"}}}}"#, "u".repeat(len)).as_bytes());
        assert_eq!(uid(MAX_UID).map(|uid| uid.len()), Some(MAX_UID));
        assert_eq!(uid(MAX_UID + 1), None);
    }

    proptest! {
        #[test]
        fn uid_survives_any_truncation_and_any_rubbish_after_it(
            uid in "[a-f0-9-]{1,36}", cut in 0usize..200, rubbish in prop::collection::vec(any::<u8>(), 0..64)
        ) {
            let head = format!(r#"{{"kind":"AdmissionReview","request":{{"userInfo":{{"uid":"evil"}},"uid":"{uid}""#);
            let whole = format!(r#"{head},"object":{{"metadata":{{"name":"p","uid":"evil"}},"spec":{{"a":[1,2,{{"b":null}}]}}}}}}}}"#);
            let end = (head.len() + cut).min(whole.len());
            prop_assert_eq!(uid_of(&whole.as_bytes()[..end]), Some(uid.clone()));
            let mut spoiled = head.into_bytes();
            spoiled.extend(rubbish);
            prop_assert_eq!(uid_of(&spoiled), Some(uid));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = uid_of(&bytes);
        }
    }
}
