//! What is asked of the API server about one kind: what it is called, its objects page by page, and their changes.
//!
//! Must never: hold more of a list than a page, or let a page be as large as its objects can be made; repeat what an answer holds
//! beyond the API server's own words for a failure.

use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::ACCEPT_ENCODING;
use futures::{Stream, StreamExt, TryStreamExt};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use kube::core::Request;
use kube::core::params::{ListParams, WatchParams};
use serde_json::Value as Json;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, FramedRead};
use tokio_util::io::StreamReader;

use super::Kind;
use crate::api::is_dns_subdomain;
use crate::review::{Keep, is_its_writers, parse_kept};

/// What is kept of a page, and of an event.
const LIST: Keep = Keep::But(&[("items", Keep::UNMANAGED)]);
const EVENT: Keep = Keep::But(&[("object", Keep::UNMANAGED)]);
/// The same of one that cannot be read: where it lies.
const PLACE: Keep = Keep::Only(&[(
    "metadata",
    Keep::Only(&[
        ("name", Keep::Whole),
        ("namespace", Keep::Whole),
        ("resourceVersion", Keep::Whole),
    ]),
)]);
const PLACES: Keep = Keep::Only(&[
    ("items", PLACE),
    (
        "metadata",
        Keep::Only(&[("continue", Keep::Whole), ("resourceVersion", Keep::Whole)]),
    ),
]);
const PLACED: Keep = Keep::Only(&[("type", Keep::Whole), ("object", PLACE)]);

/// Most bytes of one page, and of one event: an object of the API server has at most 1.5 MiB in its store, each byte of which may be written
/// as seven.
const MAX_PAGE: usize = 12 << 20;
/// Most that a page may weigh once it is parsed.
const MAX_PAGE_WEIGHT: usize = 32 << 20;
/// Objects of a page, where nothing says that they are large.
const PAGE: u32 = 250;
/// Pages that are read at a time, of all kinds: the others wait.
pub(super) const PAGES: usize = 2;
/// Longest until the API server begins to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest that a page may take from there on.
const BODY: Duration = Duration::from_secs(15);
/// Longest text of the API server that an error repeats.
const MAX_REASON: usize = 200;

/// Why something could not be had.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Failure {
    /// For whoever is refused.
    pub why: String,
    /// Whether what is known of the objects cannot be gone on from: they must be listed again.
    pub lost: bool,
}

impl Failure {
    pub(super) fn lost(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            lost: true,
        }
    }

    pub(super) fn passing(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            lost: false,
        }
    }
}

/// Where the objects of a kind are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Served {
    /// Path of all of them.
    pub path: String,
    pub plural: String,
    pub namespaced: bool,
}

/// Some objects of a list.
pub(super) struct Page {
    pub items: Vec<Read>,
    /// Where the next page begins.
    pub next: Option<String>,
    /// What a watch goes on from.
    pub version: String,
}

/// An object as it was read.
pub(super) enum Read {
    Whole(Json),
    /// It weighs more, or nests deeper, than is read, or is no JSON: where it lies. What one writes must not keep all others from being read.
    Beyond(Json),
}

/// What happened to an object; `Version` is how far the watch has come where nothing did.
pub(super) enum Change {
    Put(Read),
    Gone(Json),
    Version(String),
}

/// Asks what a kind is called in URLs, and where its objects lie.
pub(super) async fn discover(client: &Client, kind: &Kind) -> Result<Served, Failure> {
    let root = if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    let absent = || {
        Failure::lost(format!(
            "the API server serves no {} of {}: install what brings it, or correct the policy",
            kind.kind,
            kind.group_version()
        ))
    };
    let request = axum::http::Request::get(&root).body(Vec::new());
    let request = request.map_err(|_| Failure::lost("its group or version cannot be part of a URL"))?;
    let list = match answer(client, request, None, Keep::Whole).await? {
        Answer::Json(list) => list,
        Answer::TooLarge => {
            return Err(Failure::lost(
                "what the API server says of its group is too large, or no JSON",
            ));
        }
        Answer::Refused(404, _) => return Err(absent()),
        Answer::Refused(code, said) => return Err(Failure::lost(format!("{said} ({code})"))),
    };
    let resources = list.get("resources").and_then(Json::as_array);
    let text = |resource: &Json, field: &str| {
        resource
            .get(field)
            .and_then(Json::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    // A subresource may be of the same kind; its name holds a slash.
    let is_it = |resource: &&Json| text(resource, "kind") == kind.kind && is_dns_subdomain(&text(resource, "name"));
    let resource = resources.into_iter().flatten().find(is_it).ok_or_else(absent)?;
    let verbs = resource.get("verbs").and_then(Json::as_array);
    let can = |verb: &str| verbs.is_some_and(|verbs| verbs.iter().any(|known| known == verb));
    if !can("list") || !can("watch") {
        return Err(Failure::lost(
            "it is of a kind that cannot be listed and watched: correct the policy",
        ));
    }
    let plural = text(resource, "name");
    Ok(Served {
        path: format!("{root}/{plural}"),
        namespaced: resource.get("namespaced").and_then(Json::as_bool).unwrap_or_default(),
        plural,
    })
}

/// A list in the making.
pub(super) struct Listing<'a> {
    client: &'a Client,
    pages: &'a Semaphore,
    kind: &'a Kind,
    served: Served,
    /// How many objects to ask for at first: where those of the last page were large, the next are likely to be, and each answer that is too
    /// large costs the time of one.
    first: u32,
}

impl<'a> Listing<'a> {
    pub(super) fn new(client: &'a Client, pages: &'a Semaphore, kind: &'a Kind, served: Served) -> Self {
        Self {
            client,
            pages,
            kind,
            served,
            first: PAGE,
        }
    }

    /// Asks for one page; for a smaller one where the objects are large.
    pub(super) async fn page(&mut self, next: Option<&str>) -> Result<Page, Failure> {
        let mut limit = self.first;
        loop {
            match self.attempt(next, limit, false).await? {
                Some(page) => {
                    let growth = if limit == self.first { 2 } else { 1 };
                    self.first = limit.saturating_mul(growth).min(PAGE);
                    return Ok(page);
                }
                None if limit > 1 => limit = (limit / 8).max(1),
                None => break,
            }
        }
        self.first = 1;
        let page = self.attempt(next, 1, true).await?;
        page.ok_or_else(|| Failure::lost("one of its objects cannot be read, nor what it is called"))
    }

    /// `None` where the page is larger, heavier or deeper than may be, or no JSON; only where its objects lie, if that is enough.
    async fn attempt(&self, next: Option<&str>, limit: u32, places: bool) -> Result<Option<Page>, Failure> {
        let mut params = ListParams::default().limit(limit);
        params.continue_token = next.map(str::to_owned);
        let request = Request::new(&*self.served.path);
        let request = if places {
            request.list_metadata(&params)
        } else {
            request.list(&params)
        };
        let request = request.map_err(|error| Failure::lost(error.to_string()))?;
        let keep = if places { PLACES } else { LIST };
        let mut list = match answer(self.client, request, Some(self.pages), keep).await? {
            Answer::Json(list) => list,
            Answer::TooLarge => return Ok(None),
            Answer::Refused(code, said) => return Err(refused(self.kind, &self.served, "list", code, &said)),
        };
        let text = |pointer: &str| list.pointer(pointer).and_then(Json::as_str).map(str::to_owned);
        let next = text("/metadata/continue").filter(|token| !token.is_empty());
        let version = text("/metadata/resourceVersion").unwrap_or_default();
        let items = match list.get_mut("items").map(Json::take) {
            Some(Json::Array(items)) => items,
            // How an empty list may be written.
            Some(Json::Null) => Vec::new(),
            _ => return Err(Failure::lost("what the API server answers is no list")),
        };
        let read = if places { Read::Beyond } else { Read::Whole };
        let items = items.into_iter().map(read).collect();
        Ok(Some(Page { items, next, version }))
    }
}

/// Opens the stream of changes since a version. It ends by itself after so long.
pub(super) async fn changes(
    client: &Client,
    kind: &Kind,
    served: &Served,
    version: &str,
    length: Duration,
) -> Result<impl Stream<Item = Result<Change, Failure>> + use<>, Failure> {
    let params = WatchParams {
        timeout: u32::try_from(length.as_secs()).ok(),
        ..WatchParams::default()
    };
    let request = Request::new(&*served.path).watch(&params, version);
    let mut request = request.map_err(|error| Failure::lost(error.to_string()))?;
    // Newer API servers compress each event by itself, of which the client would read the first alone.
    let encoding = HeaderValue::from_static("identity");
    request.headers_mut().insert(ACCEPT_ENCODING, encoding);
    let silent = || Failure::passing("the API server does not answer its watch");
    let sent = timeout(ANSWER, client.send(request.map(Body::from))).await;
    let response = sent.map_err(|_| silent())?.map_err(|_| silent())?;
    let status = response.status();
    if !status.is_success() {
        let body = timeout(BODY, Limited::new(response.into_body(), MAX_PAGE).collect()).await;
        let bytes = body.map_err(|_| silent())?.map_err(|_| silent())?.to_bytes();
        let said = said(&bytes);
        return Err(refused(kind, served, "watch", status.as_u16(), &said));
    }
    let bytes = response.into_body().into_data_stream().map_err(std::io::Error::other);
    // Bytes: text that is none would end the watch, and each that goes on from the same version.
    let codec = AnyDelimiterCodec::new_with_max_length(b"\n".to_vec(), b"\n".to_vec(), MAX_PAGE);
    let lines = FramedRead::new(StreamReader::new(bytes), codec);
    Ok(lines.map(|line| match line {
        Ok(line) => event(&line),
        Err(AnyDelimiterCodecError::MaxChunkLengthExceeded) => {
            Err(Failure::lost("an event of its watch is larger than any object can be"))
        }
        Err(AnyDelimiterCodecError::Io(_)) => Err(Failure::passing("its watch broke off")),
    }))
}

/// What a line of a watch says.
fn event(line: &[u8]) -> Result<Change, Failure> {
    let unread = |_| Failure::lost("an event of its watch could not be read");
    let (mut event, is_whole) = match parse_kept(line, MAX_PAGE_WEIGHT, EVENT) {
        Ok((event, _)) => (event, true),
        Err(error) if is_its_writers(&error) => (parse_kept(line, MAX_PAGE_WEIGHT, PLACED).map_err(unread)?.0, false),
        // Cut off where the connection ended.
        Err(error) if error.is_eof() => return Err(Failure::passing("its watch broke off")),
        Err(error) => return Err(unread(error)),
    };
    let object = event.get_mut("object").map(Json::take).unwrap_or_default();
    match event.get("type").and_then(Json::as_str) {
        Some("ADDED" | "MODIFIED") if is_whole => Ok(Change::Put(Read::Whole(object))),
        Some("ADDED" | "MODIFIED") => Ok(Change::Put(Read::Beyond(object))),
        Some("DELETED") => Ok(Change::Gone(object)),
        Some("BOOKMARK") => {
            let version = object.pointer("/metadata/resourceVersion").and_then(Json::as_str);
            Ok(Change::Version(version.unwrap_or_default().to_owned()))
        }
        Some("ERROR") => {
            let code = object.get("code").and_then(Json::as_u64).unwrap_or_default();
            let said = object.get("message").and_then(Json::as_str);
            let code = u16::try_from(code).unwrap_or_default();
            Err(Failure::lost(short(said.unwrap_or("no reason given"), code)))
        }
        _ => Err(Failure::lost("an event of its watch is of no kind that is known")),
    }
}

/// What to do about an answer that is no list.
fn refused(kind: &Kind, served: &Served, verb: &str, code: u16, said: &str) -> Failure {
    let of = if kind.group.is_empty() {
        String::new()
    } else {
        format!(" of {}", kind.group)
    };
    match code {
        401 | 403 => Failure::lost(format!(
            "Ringfence may not {verb} {plural}{of}: label a ClusterRole that may get, list and watch {plural}{of} \
             ringfence.dev/aggregate-to-inventory: \"true\"",
            plural = served.plural
        )),
        404 => Failure::lost(format!("the API server serves no {}{of} any more", served.plural)),
        // Too many requests, or something that passes.
        429 | 500.. if verb == "watch" => Failure {
            lost: false,
            ..Failure::lost(short(said, code))
        },
        _ => Failure::lost(short(said, code)),
    }
}

fn short(said: &str, code: u16) -> String {
    let said: String = said.chars().take(MAX_REASON).collect();
    format!("{said} ({code})")
}

enum Answer {
    Json(Json),
    /// Larger or heavier than may be, or no JSON.
    TooLarge,
    /// Status and the API server's own words.
    Refused(u16, String),
}

/// Sends a request; what is read of the answer at a time is bounded by turns.
async fn answer(
    client: &Client,
    request: axum::http::Request<Vec<u8>>,
    turns: Option<&Semaphore>,
    keep: Keep,
) -> Result<Answer, Failure> {
    let silent = || Failure::passing("the API server does not answer");
    // The text of a transport error may hold anything.
    let sent = timeout(ANSWER, client.send(request.map(Into::into))).await;
    let response = sent.map_err(|_| silent())?.map_err(|_| silent())?;
    let status = response.status();
    let _turn = match turns {
        Some(turns) => Some(turns.acquire().await.map_err(|_| silent())?),
        None => None,
    };
    let broke_off = || Failure::passing("the API server's answer broke off");
    let body = timeout(BODY, Limited::new(response.into_body(), MAX_PAGE).collect()).await;
    let bytes = match body.map_err(|_| broke_off())? {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => return Ok(Answer::TooLarge),
        Err(_) => return Err(broke_off()),
    };
    if !status.is_success() {
        return Ok(Answer::Refused(status.as_u16(), said(&bytes)));
    }
    match parse_kept(&bytes, MAX_PAGE_WEIGHT, keep) {
        Ok((json, _)) => Ok(Answer::Json(json)),
        Err(error) if is_its_writers(&error) => Ok(Answer::TooLarge),
        Err(_) => Err(Failure::lost("what the API server answers is no JSON that can be read")),
    }
}

/// The API server's own words for a failure.
fn said(bytes: &[u8]) -> String {
    let json = parse_kept(bytes, MAX_PAGE_WEIGHT, Keep::Only(&[("message", Keep::Whole)]));
    let said = json.as_ref().ok().and_then(|(said, _)| said.get("message")?.as_str());
    said.unwrap_or("no reason given").chars().take(MAX_REASON).collect()
}
