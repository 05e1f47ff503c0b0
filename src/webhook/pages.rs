//! Lists, page by page, as raw JSON.
//!
//! Must never: hold more of a list than one page, or let a page be as large as its objects can be made: five hundred objects of
//! a megabyte each are one tenant's work.

use futures::future::BoxFuture;
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::core::Request;
use kube::core::params::ListParams;
use serde_json::{Map, Value};

use super::lookup::LookupError;
use crate::review::{Gvk, Gvr, parse_within};

/// Most bytes of one page. An object of the API server has at most 3 MiB.
const MAX_PAGE: usize = 8 << 20;
/// Most that a page may weigh once it is parsed.
const MAX_PAGE_WEIGHT: usize = 32 << 20;
/// Longest text of the API server that an error repeats.
const MAX_REASON: usize = 200;
/// Objects of a page, where nothing says that they are large.
const PAGE: u32 = 500;

/// A kind that can be listed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Listed {
    /// Group; empty for the core group.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Plural, as in a URL.
    pub plural: &'static str,
}

/// What to list, and from where on.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The kind.
    pub kind: Listed,
    /// The namespace; `None` for the whole cluster.
    pub namespace: Option<String>,
    /// Label selector; empty for everything.
    pub labels: String,
    /// Field selector; empty for everything.
    pub fields: String,
    /// Whether names and other metadata are enough: then the API server sends nothing else.
    pub metadata_only: bool,
    /// Where the last page ended; `None` for the first.
    pub next: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Objects, without `apiVersion` and `kind`.
    pub items: Vec<Map<String, Value>>,
    /// Where the next page begins; `None` where there is none.
    pub next: Option<String>,
}

/// Asks for lists. Whoever asks sets a deadline.
pub trait List: Send + Sync + 'static {
    /// Asks for one page.
    fn list<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Page, LookupError>>;
}

impl Listed {
    /// The kind as a review has it.
    pub fn gvk(self) -> Gvk {
        Gvk {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            kind: self.kind.to_owned(),
        }
    }

    /// The resource as a review has it.
    pub fn gvr(self) -> Gvr {
        Gvr {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            resource: self.plural.to_owned(),
        }
    }
}

impl Ask {
    /// Everything of a kind, in a namespace or the whole cluster.
    pub fn all(kind: Listed, namespace: Option<&str>) -> Self {
        Self {
            kind,
            namespace: namespace.map(str::to_owned),
            labels: String::new(),
            fields: String::new(),
            metadata_only: false,
            next: None,
        }
    }

    fn path(&self) -> String {
        let root = match self.kind.group {
            "" => format!("/api/{}", self.kind.version),
            group => format!("/apis/{group}/{}", self.kind.version),
        };
        match &self.namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.kind.plural),
            None => format!("{root}/{}", self.kind.plural),
        }
    }
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "the {} of namespace {namespace}", self.kind.plural),
            None => write!(f, "the {} of the cluster", self.kind.plural),
        }
    }
}

/// Asks for one page; for a smaller one where the objects are large.
pub(super) async fn page(client: &Client, ask: &Ask) -> Result<Page, LookupError> {
    let mut limit = PAGE;
    loop {
        match attempt(client, ask, limit).await? {
            Some(page) => return Ok(page),
            None if limit > 1 => limit = (limit / 8).max(1),
            None => return Err(failed(ask, "one of them is larger than any object can be")),
        }
    }
}

fn failed(ask: &Ask, why: impl Into<String>) -> LookupError {
    let why: String = why.into();
    LookupError {
        what: ask.to_string(),
        why: why.chars().take(MAX_REASON).collect(),
    }
}

/// `None` where the page is larger than may be.
async fn attempt(client: &Client, ask: &Ask, limit: u32) -> Result<Option<Page>, LookupError> {
    let mut params = ListParams::default().limit(limit);
    params.label_selector = Some(ask.labels.clone()).filter(|labels| !labels.is_empty());
    params.field_selector = Some(ask.fields.clone()).filter(|fields| !fields.is_empty());
    params.continue_token.clone_from(&ask.next);
    let request = Request::new(ask.path());
    let request = if ask.metadata_only {
        request.list_metadata(&params)
    } else {
        request.list(&params)
    };
    let request = request.map_err(|error| failed(ask, error.to_string()))?;
    // The text of a transport error may hold anything.
    let sent = client.send(request.map(Into::into)).await;
    let response = sent.map_err(|_| failed(ask, "it did not answer"))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_PAGE).collect().await;
    let bytes = match body {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => return Ok(None),
        Err(_) => return Err(failed(ask, "the answer broke off")),
    };
    let answer = match parse_within(&bytes, MAX_PAGE_WEIGHT) {
        Ok(answer) => answer,
        // Too heavy, or nested too deep: alone on its page, an object is the one that is at fault.
        Err(error) if error.is_data() && limit > 1 => return Ok(None),
        Err(_) => {
            return Err(failed(
                ask,
                format!("the answer is no JSON that can be read ({status})"),
            ));
        }
    };
    if !status.is_success() {
        let said = answer
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or("no reason given");
        return Err(failed(ask, format!("{said} ({})", status.as_u16())));
    }
    read(answer)
        .map(Some)
        .ok_or_else(|| failed(ask, "the answer is no list"))
}

fn read(mut answer: Value) -> Option<Page> {
    let next = answer.pointer("/metadata/continue").and_then(Value::as_str);
    let next = next.filter(|token| !token.is_empty()).map(str::to_owned);
    let items = match answer.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        // How an empty list may be written.
        Some(Value::Null) => Vec::new(),
        _ => return None,
    };
    let items = items.into_iter().map(|item| match item {
        Value::Object(object) => Some(object),
        _ => None,
    });
    Some(Page {
        items: items.collect::<Option<_>>()?,
        next,
    })
}
