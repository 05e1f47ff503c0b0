//! The facts of one request, beside the request itself as raw JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use super::value::Keep;
use super::{MAX_UID, size, uid_of, value};
use crate::api::GROUP;

/// What is kept of a review: everything, but for what nobody reads of who wrote which field. Whoever may write an object writes its
/// `managedFields` as they like, two hundred levels deep, and is asked about no more than how large it gets; what others do to the object
/// must not fail by it.
const REVIEW: Keep = Keep::But(&[("request", Keep::But(&[("object", OBJECT), ("oldObject", OBJECT)]))]);
const OBJECT: Keep = Keep::But(&[("metadata", Keep::But(&[("managedFields", RECORD)]))]);
/// One entry: who, and of the fields those that somebody withdraws by leaving them out. Who adds to them is asked about each time.
const RECORD: Keep = Keep::Only(&[
    ("apiVersion", Keep::Whole),
    ("fieldsType", Keep::Whole),
    ("manager", Keep::Whole),
    ("operation", Keep::Whole),
    ("subresource", Keep::Whole),
    ("time", Keep::Whole),
    (
        "fieldsV1",
        Keep::Only(&[("f:metadata", METADATA), ("f:spec", FIELDS), ("f:template", FIELDS)]),
    ),
]);
const METADATA: Keep = Keep::Only(&[("f:annotations", KEYS), ("f:finalizers", KEYS), ("f:labels", KEYS)]);
/// Deeper than any field of a pod lies.
const FIELDS: Keep = Keep::Down(32);
const KEYS: Keep = Keep::Down(1);

/// One admission request.
#[derive(Clone, Debug)]
pub struct Review {
    /// The request's own uid, which the answer echoes.
    pub uid: String,
    /// What is being done.
    pub operation: Operation,
    /// The kind as the webhook registered for it.
    pub kind: Gvk,
    /// The resource as the webhook registered for it.
    pub resource: Gvr,
    /// Such as `status` or `ephemeralcontainers`; empty for the object itself.
    pub subresource: String,
    /// The namespace; `None` for a cluster-scoped object.
    pub namespace: Option<String>,
    /// Who asks.
    pub user: User,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// How large the object was as it was sent, who wrote which field included; 0 where it is small, or was not sent.
    pub bytes: usize,
    /// Whether it makes the object larger than the API server bears beside what ends it.
    pub swells: bool,
    /// The raw AdmissionRequest. Holds fields that our types do not know, and may hold secrets: never log it.
    pub request: Value,
}

/// What is being done to the object.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Operation {
    /// Something is opened on it, such as a shell.
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

/// Who asks, as the API server authenticated it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct User {
    /// Such as `system:serviceaccount:airflow:scheduler`.
    pub username: String,
    /// Empty where the authenticator knows none, and for an impersonated user.
    pub uid: String,
    /// Groups of the user.
    pub groups: Vec<String>,
    /// Such as `authentication.kubernetes.io/credential-id`.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why bytes are not a review. Never quotes them.
#[derive(Debug, Error)]
#[error("{problem}")]
pub struct ParseError {
    /// The uid, where it could be read all the same.
    pub uid: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with the bytes.
#[derive(Debug, Error)]
pub enum Problem {
    /// A field is missing or of another type.
    #[error("{0} is missing or not what admission.k8s.io/v1 says it is")]
    Field(&'static str),
    /// Nested deeper than JSON is read.
    #[error("the object nests deeper than 128 levels")]
    Depth,
    /// The bytes are no JSON, or are cut off.
    #[error("the body is not JSON that can be read: {0}")]
    Json(String),
    /// A review begins as the API server writes it, and an object in it is no JSON that can be read.
    #[error("the object holds text or a number that is no JSON: {0}")]
    Text(String),
    /// Parsed, it would take more memory than a review may.
    #[error("the body holds more values than any object that the API server can store")]
    Weight,
}

impl Operation {
    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Create => "CREATE",
            Self::Delete => "DELETE",
            Self::Update => "UPDATE",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Connect, Self::Create, Self::Delete, Self::Update]
            .into_iter()
            .find(|operation| operation.as_str() == word)
    }
}

impl Review {
    /// Reads a review. Strict in what frames the request, and open to anything inside its objects. Of `managedFields` it keeps who wrote
    /// what is withdrawn by leaving it out, and nothing else; but of our own kinds, which the operator and kubectl must be able to read, all.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let read = |keep| {
            let review = value::parse_kept(bytes, value::MAX_WEIGHT, keep).map_err(|error| problem(&error));
            review.and_then(|(review, _)| Self::from_value(review))
        };
        let review = match read(REVIEW) {
            Ok(review) if review.kind.group == GROUP => read(Keep::Whole),
            review => review,
        };
        let mut review = review.map_err(|problem| unread(problem, bytes))?;
        let sizes = size::sizes(bytes);
        review.bytes = sizes.object;
        review.swells = review.operation == Operation::Update && sizes.swells();
        Ok(review)
    }

    /// The object as it would be; `None` on DELETE and where nothing was sent.
    pub fn object(&self) -> Option<&Value> {
        self.sent("object")
    }

    /// The object as it is; `None` on CREATE and CONNECT.
    pub fn old_object(&self) -> Option<&Value> {
        self.sent("oldObject")
    }

    /// The object before an UPDATE; `None` for whatever else is done.
    ///
    /// # Errors
    /// Where the review of an UPDATE lacks it.
    pub fn before(&self) -> Result<Option<&Value>, &'static str> {
        match self.operation {
            Operation::Update => self
                .old_object()
                .map(Some)
                .ok_or("the review of an UPDATE holds no oldObject"),
            Operation::Connect | Operation::Create | Operation::Delete => Ok(None),
        }
    }

    /// The object that the request is about: the new one, or on DELETE the one that goes.
    pub fn current(&self) -> Option<&Value> {
        match self.operation {
            Operation::Delete => self.old_object(),
            Operation::Connect | Operation::Create | Operation::Update => self.object(),
        }
    }

    /// The object's name; empty while `generateName` has not made one, and for a deletecollection without an object.
    pub fn name(&self) -> &str {
        let named = |value: &'_ Value, pointer: &str| value.pointer(pointer).is_some_and(|name| name != "");
        ["/name", "/object/metadata/name", "/oldObject/metadata/name"]
            .into_iter()
            .find(|pointer| named(&self.request, pointer))
            .and_then(|pointer| self.request.pointer(pointer))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    fn sent(&self, key: &str) -> Option<&Value> {
        self.request.get(key).filter(|object| !object.is_null())
    }

    /// Reads a review that is JSON already.
    ///
    /// # Errors
    /// Which field is missing or of another type.
    pub fn from_value(review: Value) -> Result<Self, Problem> {
        let Value::Object(mut review) = review else {
            return Err(Problem::Field("AdmissionReview"));
        };
        if review.get("apiVersion").and_then(Value::as_str) != Some("admission.k8s.io/v1") {
            return Err(Problem::Field("apiVersion"));
        }
        if review.get("kind").and_then(Value::as_str) != Some("AdmissionReview") {
            return Err(Problem::Field("kind"));
        }
        let Some(Value::Object(request)) = review.remove("request") else {
            return Err(Problem::Field("request"));
        };
        let uid = text(&request, "uid", "request.uid")?;
        if uid.is_empty() || uid.len() > MAX_UID {
            return Err(Problem::Field("request.uid"));
        }
        let operation = Operation::parse(&text(&request, "operation", "request.operation")?)
            .ok_or(Problem::Field("request.operation"))?;
        let kind = map(&request, "kind", "request.kind")?;
        let kind = Gvk {
            group: text(kind, "group", "request.kind.group")?,
            version: text(kind, "version", "request.kind.version")?,
            kind: required(kind, "kind", "request.kind.kind")?,
        };
        let resource = map(&request, "resource", "request.resource")?;
        let resource = Gvr {
            group: text(resource, "group", "request.resource.group")?,
            version: text(resource, "version", "request.resource.version")?,
            resource: required(resource, "resource", "request.resource.resource")?,
        };
        let subresource = text(&request, "subResource", "request.subResource")?;
        let namespace =
            Some(text(&request, "namespace", "request.namespace")?).filter(|namespace| !namespace.is_empty());
        text(&request, "name", "request.name")?;
        for (key, field) in [("object", "request.object"), ("oldObject", "request.oldObject")] {
            if !matches!(request.get(key), None | Some(Value::Null | Value::Object(_))) {
                return Err(Problem::Field(field));
            }
        }
        let user = user(map(&request, "userInfo", "request.userInfo")?)?;
        let dry_run = match request.get("dryRun") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(dry_run)) => *dry_run,
            Some(_) => return Err(Problem::Field("request.dryRun")),
        };
        let request = Value::Object(request);
        Ok(Self {
            uid,
            operation,
            kind,
            resource,
            subresource,
            namespace,
            user,
            dry_run,
            bytes: 0,
            swells: false,
            request,
        })
    }
}

/// Who is asked about tells an object that cannot be read from a connection that breaks by the uid, which stands before all objects.
fn unread(problem: Problem, bytes: &[u8]) -> ParseError {
    let uid = uid_of(bytes);
    let problem = match problem {
        Problem::Text(said) if uid.is_none() => Problem::Json(said),
        problem => problem,
    };
    ParseError { uid, problem }
}

fn problem(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    if error.is_data() && text.starts_with(value::TOO_HEAVY) {
        Problem::Weight
    } else if text.starts_with(value::TOO_DEEP) {
        Problem::Depth
    } else if value::is_its_writers(error) {
        Problem::Text(text)
    } else {
        Problem::Json(text)
    }
}

/// A string; empty where there is none, as Go writes it.
fn text(map: &Map<String, Value>, key: &str, field: &'static str) -> Result<String, Problem> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(Problem::Field(field)),
    }
}

fn required(map: &Map<String, Value>, key: &str, field: &'static str) -> Result<String, Problem> {
    text(map, key, field).and_then(|text| {
        if text.is_empty() {
            Err(Problem::Field(field))
        } else {
            Ok(text)
        }
    })
}

fn map<'a>(request: &'a Map<String, Value>, key: &str, field: &'static str) -> Result<&'a Map<String, Value>, Problem> {
    request.get(key).and_then(Value::as_object).ok_or(Problem::Field(field))
}

fn user(info: &Map<String, Value>) -> Result<User, Problem> {
    let mut extra = BTreeMap::new();
    match info.get("extra") {
        None | Some(Value::Null) => {}
        Some(Value::Object(map)) => {
            for (key, values) in map {
                extra.insert(key.clone(), texts(Some(values), "request.userInfo.extra")?);
            }
        }
        Some(_) => return Err(Problem::Field("request.userInfo.extra")),
    }
    Ok(User {
        username: text(info, "username", "request.userInfo.username")?,
        uid: text(info, "uid", "request.userInfo.uid")?,
        groups: texts(info.get("groups"), "request.userInfo.groups")?,
        extra,
    })
}

fn texts(value: Option<&Value>, field: &'static str) -> Result<Vec<String>, Problem> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| value.as_str().map(str::to_owned).ok_or(Problem::Field(field)))
            .collect(),
        Some(_) => Err(Problem::Field(field)),
    }
}

#[cfg(test)]
mod tests;
