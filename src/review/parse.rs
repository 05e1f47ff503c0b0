//! The facts of one request. Placeholder until the review room is merged: that room's own reader takes its place.

use std::collections::BTreeMap;

use serde_json::Value;

/// One admission request.
#[derive(Clone, Debug)]
pub struct Review {
    /// The request's own uid.
    pub uid: String,
    /// What is being done.
    pub operation: Operation,
    /// The kind.
    pub kind: Gvk,
    /// The resource.
    pub resource: Gvr,
    /// Empty for the object itself.
    pub subresource: String,
    /// `None` for a cluster-scoped object.
    pub namespace: Option<String>,
    /// Who asks.
    pub user: User,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The raw AdmissionRequest.
    pub request: Value,
}

/// What is being done to the object.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Operation {
    /// Something is opened on it.
    Connect,
    /// It is made.
    Create,
    /// It is removed.
    Delete,
    /// It is changed.
    Update,
}

/// A kind with its group and version.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Gvk {
    /// Empty for the core group.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Such as `Pod`.
    pub kind: String,
}

/// A resource with its group and version.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Gvr {
    /// Empty for the core group.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Such as `pods`.
    pub resource: String,
}

/// Who asks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct User {
    /// Name.
    pub username: String,
    /// UID.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Such as `authentication.kubernetes.io/credential-id`.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why bytes are not a review.
#[derive(Debug, thiserror::Error)]
#[error("the body is not an AdmissionReview")]
pub struct ParseError;

impl Review {
    /// Reads a review.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut review: Value = serde_json::from_slice(bytes).map_err(|_| ParseError)?;
        let request = review.get_mut("request").map(Value::take).ok_or(ParseError)?;
        let text = |pointer: &str| {
            request
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let operation = match text("/operation").as_str() {
            "CONNECT" => Operation::Connect,
            "CREATE" => Operation::Create,
            "DELETE" => Operation::Delete,
            "UPDATE" => Operation::Update,
            _ => return Err(ParseError),
        };
        let list = |pointer: &str| -> Vec<String> {
            request
                .pointer(pointer)
                .and_then(|value| serde_json::from_value(value.clone()).ok())
                .unwrap_or_default()
        };
        let extra = request
            .pointer("/userInfo/extra")
            .and_then(|value| serde_json::from_value(value.clone()).ok());
        Ok(Self {
            uid: text("/uid"),
            operation,
            kind: Gvk {
                group: text("/kind/group"),
                version: text("/kind/version"),
                kind: text("/kind/kind"),
            },
            resource: Gvr {
                group: text("/resource/group"),
                version: text("/resource/version"),
                resource: text("/resource/resource"),
            },
            subresource: text("/subResource"),
            namespace: Some(text("/namespace")).filter(|namespace| !namespace.is_empty()),
            user: User {
                username: text("/userInfo/username"),
                uid: text("/userInfo/uid"),
                groups: list("/userInfo/groups"),
                extra: extra.unwrap_or_default(),
            },
            dry_run: request.get("dryRun").and_then(Value::as_bool).unwrap_or_default(),
            request,
        })
    }

    /// The object as it would be.
    pub fn object(&self) -> Option<&Value> {
        self.request.get("object").filter(|object| !object.is_null())
    }

    /// The object as it is.
    pub fn old_object(&self) -> Option<&Value> {
        self.request.get("oldObject").filter(|object| !object.is_null())
    }
}
