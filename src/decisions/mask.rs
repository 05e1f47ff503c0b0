//! JSON as a log may hold it: what is listed as harmless, and of everything else how long it was.
//!
//! Must never: show a text because nobody thought of its field. A shape lists what is readable, and even there a text must look like
//! a name: no blanks, no URLs, nothing that credentials look like.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

use crate::images::repository;

/// Longest text that is shown, in bytes: a label's key, prefix and all, and a little.
const MAX_SHOWN: usize = 320;
/// Longest key of a field or an entry that is shown, in bytes.
const MAX_KEY: usize = 128;
/// How every masked text begins.
pub(super) const MASKED: &str = "(masked, ";
/// How credentials begin that say what they are.
const CREDENTIALS: [&str; 15] = [
    "AKIA",
    "ASIA",
    "AIza",
    "eyJ",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "hvs.",
    "sk-",
    "xox",
    "npm_",
    "pypi-",
];
/// Fields of our own kinds that hold whatever their author writes.
const FREE: [&str; 5] = ["annotations", "contact", "description", "message", "reason"];
/// Fields of our own kinds that hold who somebody is, or who a token is for: mostly by URL.
const CALLERS: [&str; 4] = ["audience", "audiences", "group", "user"];
/// Shortest text with such a beginning that is taken for one: names begin like that too.
const MIN_CREDENTIAL: usize = 16;
/// Longest run of letters and digits that is shown where it mixes cases and digits, as keys do and names do not.
const MAX_RUN: usize = 24;

/// What of a value is readable. Booleans, nulls and the structure always are.
#[derive(Debug)]
pub(super) enum Shape {
    /// Nothing more.
    Closed,
    /// Not even that: it is left out.
    Dropped,
    /// A number, or a text that looks like a name.
    Plain,
    /// An image reference.
    Image,
    /// Who somebody is, or a list of that.
    Who,
    /// The object of the request: see [`Masked::request`].
    Object,
    /// One of these texts, which say nothing of anybody.
    OneOf(&'static [&'static str]),
    /// Any keys, each with a value of that shape.
    Map(&'static Self),
    /// Items of that shape.
    List(&'static Self),
    /// Known fields; others are closed.
    Fields(&'static [(&'static str, &'static Self)]),
    /// Like [`Self::Plain`] at any depth, but for what annotations hold and people write.
    Open,
}

/// A value that serialises masked.
#[derive(Clone, Copy)]
pub(super) struct Masked<'a> {
    value: &'a Value,
    shape: &'static Shape,
    object: &'static Shape,
}

impl<'a> Masked<'a> {
    /// A value of that shape.
    pub(super) fn new(value: &'a Value, shape: &'static Shape) -> Self {
        let object = &Shape::Closed;
        Self { value, shape, object }
    }

    /// A request with an object of that shape.
    pub(super) fn request(value: &'a Value, shape: &'static Shape, object: &'static Shape) -> Self {
        Self { value, shape, object }
    }

    fn inner(self, value: &'a Value, shape: &'static Shape) -> Self {
        let shape = match shape {
            Shape::Object => self.object,
            other => other,
        };
        Self { value, shape, ..self }
    }
}

impl Serialize for Masked<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(bool) => serializer.serialize_bool(*bool),
            Value::Number(number) => match self.shape {
                Shape::Plain | Shape::Open => number.serialize(serializer),
                _ => serializer.serialize_str(&masked(&number.to_string())),
            },
            Value::String(text) if self.shape.shows(text) => serializer.serialize_str(text),
            Value::String(text) => serializer.serialize_str(&masked(text)),
            Value::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&self.inner(item, self.shape.item()))?;
                }
                list.end()
            }
            Value::Object(fields) => {
                let mut map = serializer.serialize_map(None)?;
                for (at, (key, value)) in fields.iter().enumerate() {
                    let inner = self.inner(value, self.shape.field(key));
                    if !matches!(inner.shape, Shape::Dropped) {
                        map.serialize_entry(&shown_key(at, key), &inner)?;
                    }
                }
                map.end()
            }
        }
    }
}

impl Shape {
    fn shows(&self, text: &str) -> bool {
        // Whether a text is empty is mostly what matters of it, and no secret.
        if text.is_empty() {
            return true;
        }
        match self {
            Self::Plain | Self::Open => is_plain(text),
            Self::Image => is_image(text),
            Self::Who => is_who(text),
            Self::OneOf(known) => known.contains(&text),
            Self::Closed | Self::Dropped | Self::Object | Self::Map(_) | Self::List(_) | Self::Fields(_) => false,
        }
    }

    fn item(&self) -> &'static Self {
        match self {
            Self::List(item) => item,
            Self::Open => &Self::Open,
            Self::Who => &Self::Who,
            _ => &Self::Closed,
        }
    }

    fn field(&self, key: &str) -> &'static Self {
        match self {
            Self::Map(value) => value,
            Self::Fields(known) => known
                .iter()
                .find(|(name, _)| *name == key)
                .map_or(&Self::Closed, |(_, shape)| shape),
            Self::Open if FREE.contains(&key) => &Self::Closed,
            Self::Open if CALLERS.contains(&key) => &Self::Who,
            Self::Open => &Self::Open,
            _ => &Self::Closed,
        }
    }
}

/// An object of that kind with every value masked that may be secret.
pub fn masked_object(group: &str, kind: &str, object: &Value) -> Value {
    let masked = Masked::new(object, super::shapes::of_kind(group, kind));
    // What cannot be written is masked as a whole.
    serde_json::to_value(masked).unwrap_or_default()
}

/// What stands for a text.
fn masked(text: &str) -> String {
    let characters = text.chars().count();
    let plural = if characters == 1 { "" } else { "s" };
    format!("{MASKED}{characters} character{plural})")
}

/// Keys are fields, labels, annotations and names of settings; but whoever writes an object chooses them.
fn shown_key(at: usize, key: &str) -> String {
    if key.len() <= MAX_KEY && is_plain(key) {
        return key.to_owned();
    }
    // The number keeps two of the same length apart.
    format!("(masked key {at}, {} characters)", key.chars().count())
}

/// Whether a text looks like a name, and like no credential.
pub fn is_plain(text: &str) -> bool {
    let usual = |c: char| c.is_ascii_alphanumeric() || "-._/:*+%,[]'".contains(c);
    text.len() <= MAX_SHOWN && text.chars().all(usual) && !text.contains("://") && !is_credential(text)
}

/// An image as runtimes read it: what else stands before an `@` than a repository may be a password.
fn is_image(text: &str) -> bool {
    let name = text.split_once('@').map_or(text, |(name, _)| name);
    text.len() <= MAX_SHOWN && repository(text).is_ok() && !is_credential(name)
}

fn is_who(text: &str) -> bool {
    let is_url_with_password = text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    text.len() <= MAX_SHOWN && !text.chars().any(char::is_control) && !is_url_with_password && !is_credential(text)
}

/// Whether a text looks like a key or a token, wherever it stands.
fn is_credential(text: &str) -> bool {
    let begins = |part: &str| part.len() >= MIN_CREDENTIAL && CREDENTIALS.iter().any(|known| part.starts_with(known));
    let is_mixed = |run: &str| {
        run.len() > MAX_RUN
            && run.contains(|c: char| c.is_ascii_lowercase())
            && run.contains(|c: char| c.is_ascii_uppercase())
            && run.contains(|c: char| c.is_ascii_digit())
    };
    text.split(['/', ':', ',', '=', ' ', '@', '[', '\'']).any(begins)
        || text.split(|c: char| !c.is_ascii_alphanumeric()).any(is_mixed)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    static NAMES: Shape = Shape::Map(&Shape::Plain);
    static CONTAINER: Shape = Shape::Fields(&[("image", &Shape::Image), ("names", &NAMES), ("old", &Shape::Dropped)]);

    fn told(value: &Value, shape: &'static Shape) -> Value {
        serde_json::to_value(Masked::new(value, shape)).unwrap()
    }

    #[test]
    fn what_is_listed_is_readable_and_the_rest_has_a_length() {
        let value = json!({
            "image": "a.example/b:1", "names": {"a": "b", "n": 7}, "old": {"x": "y"},
            "newer": {"deep": ["s3cr3t", 42, true, null, ""], "é": "ü"}, "args": "x",
        });
        let expected = json!({
            "image": "a.example/b:1", "names": {"a": "b", "n": 7},
            "newer": {
                "deep": ["(masked, 6 characters)", "(masked, 2 characters)", true, null, ""],
                "(masked key 1, 1 characters)": "(masked, 1 character)",
            },
            "args": "(masked, 1 character)",
        });
        assert_eq!(told(&value, &CONTAINER), expected);
    }

    #[test]
    fn a_value_of_another_type_than_its_fields_is_masked() {
        let value = json!({"image": ["hunter2"], "names": "hunter2"});
        let expected = json!({"image": ["(masked, 7 characters)"], "names": "(masked, 7 characters)"});
        assert_eq!(told(&value, &CONTAINER), expected);
        assert_eq!(
            told(&json!({"image": {"x": "hunter2"}}), &CONTAINER)["image"]["x"],
            "(masked, 7 characters)"
        );
    }

    #[rstest]
    #[case::name("invoice-triage", true)]
    #[case::quantity("100m", true)]
    #[case::path("/etc/config", true)]
    #[case::field("metadata.labels['app']", true)]
    #[case::version("2026-11-26T12:00:00Z", true)]
    #[case::uid("0f3c9a71-b2d8-4e65-a9c1-0f3c9a71b2d8", true)]
    #[case::commit("0f3c9a71b2d84e65a9c10f3c9a71b2d84e65a9c1", true)]
    #[case::learner("sk-learn-job", true)]
    #[case::blanks("it is a secret", false)]
    #[case::url("https://a.example/b", false)]
    #[case::password("user:pw@host", false)]
    #[case::json("{\"auths\":{}}", false)]
    #[case::openai("sk-abcdefghijklmnopqrst", false)]
    #[case::after_a_path("/x/ghp_abcdefghijklmnop", false)]
    #[case::aws("AKIAABCDEFGHIJKLMNOP", false)]
    #[case::random("wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY", false)]
    #[case::token("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0", false)]
    #[case::unicode("p\u{e4}ssword", false)]
    #[case::escape("a\u{1b}[2J", false)]
    fn a_text_must_look_like_a_name(#[case] text: &str, #[case] shown: bool) {
        assert_eq!(is_plain(text), shown, "{text}");
    }

    #[rstest]
    #[case::tag("registry.example.com/finance/app:1.0", true)]
    #[case::digest(&format!("a.example/b@sha256:{}", "0a".repeat(32)), true)]
    #[case::password("user:pw@registry.example.com/app", false)]
    #[case::url("https://registry.example.com/app", false)]
    #[case::key("registry.example.com/sk-abcdefghijklmnopqrst", false)]
    fn an_image_must_be_a_reference(#[case] text: &str, #[case] shown: bool) {
        assert_eq!(is_image(text), shown, "{text}");
    }

    #[rstest]
    #[case::account("system:serviceaccount:airflow:scheduler", true)]
    #[case::mail("mia@example.com", true)]
    #[case::issuer("https://login.example.com#mia", true)]
    #[case::password("https://mia:pw@login.example.com", false)]
    #[case::token("oidc:eyJhbGciOiJIUzI1NiJ9.e30", false)]
    fn a_caller_is_who_it_is(#[case] text: &str, #[case] shown: bool) {
        assert_eq!(is_who(text), shown, "{text}");
    }

    #[test]
    fn long_texts_and_keys_are_bounded() {
        let value = json!({"names": {"k".repeat(MAX_KEY + 1): "v".repeat(MAX_SHOWN + 1), "k".repeat(MAX_KEY): "v".repeat(MAX_SHOWN)}});
        let told = told(&value, &CONTAINER);
        assert_eq!(told["names"]["k".repeat(MAX_KEY)], "v".repeat(MAX_SHOWN));
        assert_eq!(
            told["names"]["(masked key 1, 129 characters)"],
            "(masked, 321 characters)"
        );
    }
}
