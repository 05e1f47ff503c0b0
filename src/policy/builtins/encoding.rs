//! JSON and base64, as Go reads and writes them.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regorus::Value;

use super::super::convert::Converter;
use super::arguments::{Answer, Arguments, Own};
use crate::review::parse_within;

pub(super) const FUNCTIONS: [Own; 5] = [
    ("base64.decode", 1, decode),
    ("base64.is_valid", 1, is_base64),
    ("json.is_valid", 1, is_json),
    ("json.marshal", 1, marshal),
    ("json.unmarshal", 1, unmarshal),
];

/// What a document that is read may weigh: many times what Kubernetes takes for annotations, which are what holds JSON as text.
const MAX_UNMARSHALLED: usize = 16 << 20;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// Line ends count for nothing.
fn bytes(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.replace(['\r', '\n'], "")).ok()
}

fn decode(arguments: &Arguments<'_>) -> Answer {
    let bytes = bytes(arguments.text(0)?).ok_or_else(|| arguments.expects("base64"))?;
    Ok(Value::from(String::from_utf8_lossy(&bytes).into_owned()))
}

fn is_base64(arguments: &Arguments<'_>) -> Answer {
    Ok(Value::from(
        matches!(arguments.get(0), Value::String(text) if bytes(text).is_some()),
    ))
}

fn is_json(arguments: &Arguments<'_>) -> Answer {
    let Value::String(text) = arguments.get(0) else {
        return Ok(Value::from(false));
    };
    let valid = parse_within(text.as_bytes(), MAX_UNMARSHALLED).is_ok();
    // Go takes half a surrogate, numbers without bound, and more depth.
    if !valid && (text.contains("\\u") || text.contains(['e', 'E']) || text.len() > 128) {
        return Err(arguments.expects("JSON that can be read here"));
    }
    Ok(Value::from(valid))
}

/// As Go does, what HTML would read is escaped.
fn marshal(arguments: &Arguments<'_>) -> Answer {
    arguments.writable(arguments.get(0))?;
    let failed = |_| arguments.expects("a value that JSON can hold");
    let pretty = arguments.get(0).to_json_str().map_err(failed)?;
    let json: serde_json::Value =
        serde_json::from_str(&pretty).map_err(|_| arguments.expects("a value that JSON can hold"))?;
    let mut text = json.to_string();
    for (from, to) in [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ] {
        text = text.replace(from, to);
    }
    Ok(Value::from(text))
}

/// Not by the engine's own reader, which takes some objects for numbers.
fn unmarshal(arguments: &Arguments<'_>) -> Answer {
    let text = arguments.text(0)?.as_bytes();
    let json = parse_within(text, MAX_UNMARSHALLED).map_err(|_| arguments.expects("JSON"))?;
    let value = Converter::new(None).convert(&json);
    value.ok_or_else(|| arguments.expects("JSON that is not nested deeply"))
}
