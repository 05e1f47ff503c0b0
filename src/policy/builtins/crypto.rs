//! Digests, and what a token says. Nothing here verifies a signature or holds a key that is not the policy's own.

use std::collections::BTreeMap;

use anyhow::anyhow;
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, Mac};
use md5::Md5;
use regorus::Value;
use sha1::Sha1;
use sha2::digest::Digest;
use sha2::{Sha256, Sha512};

use super::arguments::{Answer, Arguments, Own};

pub(super) const FUNCTIONS: [Own; 9] = [
    ("crypto.hmac.equal", 2, hmac_equal),
    ("crypto.hmac.md5", 2, |arguments| hmac::<Hmac<Md5>>(arguments)),
    ("crypto.hmac.sha1", 2, |arguments| hmac::<Hmac<Sha1>>(arguments)),
    ("crypto.hmac.sha256", 2, |arguments| hmac::<Hmac<Sha256>>(arguments)),
    ("crypto.hmac.sha512", 2, |arguments| hmac::<Hmac<Sha512>>(arguments)),
    ("crypto.md5", 1, |arguments| digest::<Md5>(arguments)),
    ("crypto.sha1", 1, |arguments| digest::<Sha1>(arguments)),
    ("crypto.sha256", 1, |arguments| digest::<Sha256>(arguments)),
    ("io.jwt.decode", 1, decode),
];

fn hex(bytes: &[u8]) -> Value {
    Value::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn digest<D: Digest>(arguments: &Arguments<'_>) -> Answer {
    Ok(hex(D::digest(arguments.text(0)?).as_slice()))
}

fn hmac<M: Mac + hmac::digest::KeyInit>(arguments: &Arguments<'_>) -> Answer {
    let text = arguments.text(0)?;
    let mac = <M as Mac>::new_from_slice(arguments.text(1)?.as_bytes());
    let mut mac = mac.map_err(|_| arguments.expects("a key"))?;
    mac.update(text.as_bytes());
    Ok(hex(mac.finalize().into_bytes().as_slice()))
}

/// The whole of both is looked at: how long it takes says nothing of where they differ.
fn hmac_equal(arguments: &Arguments<'_>) -> Answer {
    let (a, b) = (arguments.text(0)?.as_bytes(), arguments.text(1)?.as_bytes());
    let differ = a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b));
    Ok(Value::from(a.len() == b.len() && differ == 0))
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Header, payload and signature in hexadecimal. It says what a token claims, and nothing about whether it is true.
fn decode(arguments: &Arguments<'_>) -> Answer {
    let mut parts = arguments.text(0)?.split('.');
    let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(arguments.expects("a token of three parts"));
    };
    let bytes = |part: &str| {
        // As in OPA, padding at the end counts for nothing.
        BASE64
            .decode(part.trim_end_matches('='))
            .map_err(|_| arguments.expects("base64 in a token"))
    };
    let document = |part: &str| {
        let json: serde_json::Value =
            serde_json::from_slice(&bytes(part)?).map_err(|_| arguments.expects("JSON objects in a token"))?;
        match json {
            serde_json::Value::Object(_) => super::super::convert::Converter::new(None)
                .convert(&json)
                .ok_or_else(|| anyhow!("`{}` expects a token that is not nested deeply", arguments.name)),
            _ => Err(arguments.expects("JSON objects in a token")),
        }
    };
    let header = document(header)?;
    if let Value::Object(fields) = &header {
        let fields: BTreeMap<&Value, &Value> = fields.iter().collect();
        if fields.contains_key(&Value::from("enc")) {
            return Err(arguments.expects("a token that is not encrypted"));
        }
        if fields.get(&Value::from("cty")) == Some(&&Value::from("JWT")) {
            return Err(arguments.expects("a token that holds no other token"));
        }
    }
    Ok(Value::from(vec![header, document(payload)?, hex(&bytes(signature)?)]))
}
