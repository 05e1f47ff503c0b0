//! The fields of a decision line. Their names are a contract: `docs/decision-line.schema.json` is made of them.

use std::borrow::Cow;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::review::Outcome;

/// Target of the line among other log lines.
pub const TARGET: &str = "ringfence::decision";
/// Its message.
pub const MESSAGE: &str = "decided";
/// What a line has for the webhook where RegoPolicies were asked.
pub const REGISTERED: &str = "policies";
/// The same of an audit that is made behind an answer. Its uid is that of the answer's line.
pub const BEHIND: &str = "policies-audit";

/// What one decision leaves in the log. Names that were sent are cut at 256 bytes. A text that does not apply is empty; fields that
/// are not required are left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Line<'a> {
    /// The webhook that was asked: the last segment of its path.
    pub webhook: Cow<'a, str>,
    /// The AdmissionRequest's uid.
    pub uid: Cow<'a, str>,
    /// Who asked, as the API server authenticated it. Of a request that could not be read this and the next six say what its first 16 KiB
    /// say, and are empty where these do not.
    #[serde(default)]
    pub user: Cow<'a, str>,
    /// CREATE, UPDATE, DELETE or CONNECT.
    #[serde(default)]
    pub operation: Cow<'a, str>,
    /// API group of the resource; empty for the core group.
    #[serde(default)]
    pub group: Cow<'a, str>,
    /// The resource, such as pods.
    #[serde(default)]
    pub resource: Cow<'a, str>,
    /// The subresource, such as ephemeralcontainers.
    #[serde(default)]
    pub subresource: Cow<'a, str>,
    /// Namespace of the object.
    #[serde(default)]
    pub namespace: Cow<'a, str>,
    /// Name of the object; empty while generateName has not made one.
    #[serde(default)]
    pub name: Cow<'a, str>,
    /// Whether nothing would have been stored. Not known, and false, of a request that could not be read.
    #[serde(default)]
    pub dry_run: bool,
    /// allow; warn: allowed, the caller was warned; audit: allowed, only this line tells; deny; fault: refused, because it could
    /// not be decided.
    pub verdict: Outcome,
    /// Policies and built-in rules that found something, separated by commas.
    #[serde(default)]
    pub policies: Cow<'a, str>,
    /// RegoPolicyExceptions of the namespace by which it passed, separated by commas.
    #[serde(default)]
    pub exceptions: Cow<'a, str>,
    /// Revision of the policies that decided: a hash over their sources and parameters.
    #[serde(default)]
    pub revision: Cow<'a, str>,
    /// SHA-256 of the AdmissionReview as it was sent, in hex; empty where it was not read wholly.
    #[serde(default)]
    pub sha256: Cow<'a, str>,
    /// From the first byte of the request to the answer.
    #[serde(default)]
    pub seconds: f64,
    /// Why it could not be decided, in the words of meta/v1. There when the verdict is fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Cow<'a, str>>,
    /// JSON of what the decision was made from, masked. There with --decision-input=masked, where the request could be read
    /// and is not too large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Cow<'a, str>>,
    /// Size in bytes of an input that was left out for its size: above 65536.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_left_out: Option<u64>,
}

/// JSON Schema of a line as the log writes it with `--log-format=json`.
pub fn schema() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<Line<'_>>().to_value();
    let written = [
        (
            "timestamp",
            json!({"type": "string", "format": "date-time", "description": "When it was decided."}),
        ),
        (
            "level",
            json!({"type": "string", "enum": ["INFO", "WARN"], "description": "WARN for the verdict fault."}),
        ),
        (
            "target",
            json!({"type": "string", "const": TARGET, "description": "What tells a decision line from others."}),
        ),
        ("message", json!({"type": "string", "const": MESSAGE})),
    ];
    for property in schema
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(|properties| properties.values_mut())
    {
        tidy(property);
    }
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.extend(written.iter().map(|(name, _)| Value::from(*name)));
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.extend(written.map(|(name, schema)| (name.to_owned(), schema)));
    }
    if let Value::Object(fields) = &mut schema {
        fields.insert("additionalProperties".to_owned(), false.into());
        if let Some(Value::String(description)) = fields.get_mut("description") {
            *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        fields.insert("title".to_owned(), "A line of Ringfence's decision log".into());
    }
    schema
}

/// What is not there is left out of a line, never null; and a reader must not fill in what a line lacks.
fn tidy(property: &mut Value) {
    let Value::Object(keywords) = property else { return };
    for rust_only in ["default", "format"] {
        keywords.remove(rust_only);
    }
    if let Some(Value::Array(types)) = keywords.get_mut("type") {
        types.retain(|name| name != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            keywords.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::String(description)) = keywords.get_mut("description") {
        *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    }
}
