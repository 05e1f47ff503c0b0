//! Who asks for what, read from what stands ahead of the object in a review: whose turn it is, and whom to name where the review itself cannot
//! be read.
//!
//! Must never: decide anything, or look into the object: a name in there is whatever its writer likes.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::Operation;
use crate::api::is_dns_label;

/// What is received of a body that there is no room for: most say all of it within that.
pub const HEAD: usize = 16 << 10;
/// What follows, and is whatever its sender likes. The API server writes all of a head ahead of these.
const BEHIND: [&str; 3] = ["object", "oldObject", "options"];

/// What the bytes ahead of the object say; empty where they do not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Head {
    /// Name of who asks.
    pub user: String,
    /// What is being done.
    pub operation: Option<Operation>,
    /// API group of the resource.
    pub group: String,
    /// The resource.
    pub resource: String,
    /// Such as `status`.
    pub subresource: String,
    /// The namespace, if it can be one.
    pub namespace: String,
    /// Name of the object, as far as the request has it.
    pub name: String,
}

impl Head {
    /// Reads as far as the bytes can be read, and no further than the object. Not only so many of them: a name stands ahead of the
    /// namespace, and those of some kinds have no bound.
    pub fn of(bytes: &[u8]) -> Self {
        let mut head = Self::default();
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let at = Level {
            place: Place::Review,
            head: &mut head,
        };
        // The result is of no interest: bytes that are cut off end the reading with an error, and so does the object.
        let _ = at.deserialize(&mut json);
        head
    }
}

#[derive(Clone, Copy)]
enum Place {
    Review,
    Request,
    Resource,
    User,
}

/// One object on the way. Other values are skipped by serde_json without recursion, so depth does not matter.
struct Level<'a> {
    place: Place,
    head: &'a mut Head,
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
        let Self { place, head } = self;
        while let Some(key) = map.next_key::<String>()? {
            let below = match (place, key.as_str()) {
                (Place::Request, key) if BEHIND.contains(&key) => return Err(A::Error::custom("the object")),
                (Place::Review, "request") => Place::Request,
                (Place::Request, "resource") => Place::Resource,
                (Place::Request, "userInfo") => Place::User,
                (Place::Request, "operation") => {
                    head.operation = Operation::parse(&map.next_value::<String>()?);
                    continue;
                }
                (Place::Request, "namespace") => {
                    head.namespace = Some(map.next_value()?)
                        .filter(|name: &String| is_dns_label(name))
                        .unwrap_or_default();
                    continue;
                }
                _ => {
                    let field = match (place, key.as_str()) {
                        (Place::Request, "name") => &mut head.name,
                        (Place::Request, "subResource") => &mut head.subresource,
                        (Place::Resource, "group") => &mut head.group,
                        (Place::Resource, "resource") => &mut head.resource,
                        (Place::User, "username") => &mut head.user,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *field = map.next_value()?;
                    continue;
                }
            };
            map.next_value_seed(Level { place: below, head })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn whole() -> String {
        // As the API server writes it: in the order of its own struct.
        let start = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u-1","kind":{"group":"apps","version":"v1","kind":"Deployment"},"resource":{"group":"apps","version":"v1","resource":"deployments"},"subResource":"scale","requestKind":{"group":"evil"},"name":"web","namespace":"ai","operation":"UPDATE","userInfo":{"username":"ann","uid":"evil","groups":["evil"]},"object":"#;
        let object = json!({"metadata": {"name": "evil", "namespace": "evil"}, "userInfo": {"username": "evil"}});
        format!("{start}{object}}}}}")
    }

    fn expected() -> Head {
        Head {
            user: "ann".to_owned(),
            operation: Some(Operation::Update),
            group: "apps".to_owned(),
            resource: "deployments".to_owned(),
            subresource: "scale".to_owned(),
            namespace: "ai".to_owned(),
            name: "web".to_owned(),
        }
    }

    #[test]
    fn who_asks_for_what_is_read_however_the_review_goes_on() {
        let whole = whole();
        let object = whole.find(r#","object":"#).unwrap();
        for rest in [&whole[object..], "", "]]]]", r#","object":{"a":["#] {
            let bytes = format!("{}{rest}", &whole[..object]);
            assert_eq!(Head::of(bytes.as_bytes()), expected(), "{rest}");
        }
        let deep = format!(r#"{},"object":{}"#, &whole[..object], "[".repeat(100_000));
        assert_eq!(Head::of(deep.as_bytes()), expected());
    }

    #[rstest]
    #[case::only_the_objects(r#"{"request":{"uid":"u","object":{"metadata":{"namespace":"evil","name":"evil"}}}}"#)]
    #[case::no_name(r#"{"request":{"uid":"u","namespace":"A B"}}"#)]
    #[case::beside_the_request(r#"{"name":"evil","namespace":"evil","userInfo":{"username":"evil"}}"#)]
    #[case::cut_off_inside(r#"{"request":{"userInfo":{"username":"an"#)]
    #[case::of_another_type(r#"{"request":{"userInfo":["ann"]}}"#)]
    #[case::no_operation(r#"{"request":{"operation":"PAINT"}}"#)]
    #[case::empty("")]
    fn what_is_not_said_is_not_guessed(#[case] bytes: &str) {
        assert_eq!(Head::of(bytes.as_bytes()), Head::default());
    }

    /// Whose name is as long as an object can be shares with nobody but its namespace all the same.
    #[rstest]
    #[case::name("name")]
    #[case::group_of_who_asks("groups")]
    fn nobody_leaves_the_namespace_by_what_is_written_ahead_of_it(#[case] field: &str) {
        let long = "n".repeat(1_400_000);
        let review =
            format!(r#"{{"request":{{"{field}":"{long}","namespace":"ai","userInfo":{{"username":"ann"}}}}}}"#);
        let head = Head::of(review.as_bytes());
        assert_eq!((head.namespace.as_str(), head.user.as_str()), ("ai", "ann"));
    }

    #[rstest]
    fn nothing_behind_the_object_is_read(#[values("object", "oldObject", "options")] key: &str) {
        let late = format!(r#"{{"request":{{"{key}":null,"name":"late","namespace":"late"}}}}"#);
        assert_eq!(Head::of(late.as_bytes()), Head::default());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..256), cut in 0usize..1000) {
            let _ = Head::of(&bytes);
            let whole = whole();
            let _ = Head::of(&whole.as_bytes()[..cut.min(whole.len())]);
        }
    }
}
