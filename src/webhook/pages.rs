//! Lists, page by page, as raw JSON.
//!
//! Must never: hold more of a list than one page, or let a page be as large as its objects can be made: five hundred objects of
//! a megabyte each are one tenant's work.

use axum::http::StatusCode;
use futures::future::BoxFuture;
use kube::Client;
use kube::core::Request;
use kube::core::params::ListParams;
use serde_json::{Map, Value};

use super::fetch::{Answer, Size, fetch, refusal, short};
use super::lookup::{LookupError, busy, no_room};
use crate::review::{FaultCause, Gvk, Gvr, Keep};

/// Most that a page may weigh once it is parsed.
const MAX_PAGE_WEIGHT: usize = 32 << 20;
/// What is kept of a list. Nobody reads `managedFields`, which can outweigh all the rest.
const OBJECTS: Keep = Keep::But(&[("items", Keep::UNMANAGED)]);
/// The same where names are all that is asked for.
const NAMES: Keep = Keep::Only(&[
    ("metadata", Keep::Only(&[("continue", Keep::Whole)])),
    (
        "items",
        Keep::Only(&[(
            "metadata",
            Keep::Only(&[("name", Keep::Whole), ("namespace", Keep::Whole)]),
        )]),
    ),
]);
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
    /// Most objects of a page: fewer where each is likely to be large.
    pub most: u32,
    /// Where the last page ended; `None` for the first.
    pub next: Option<String>,
    /// How many to begin with, by what the last page says; `None` for the first.
    pub first: Option<u32>,
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Objects, without `apiVersion` and `kind`.
    pub items: Vec<Map<String, Value>>,
    /// Where the next page begins; `None` where there is none.
    pub next: Option<String>,
    /// How many objects to ask for there at first: where these were large, the next are likely to be. To begin with all of them again would
    /// cost as many answers that break off for each large one.
    pub first: Option<u32>,
    /// An object that is left out, because it alone is more than is read at a time: why, by its name. What others write must not keep
    /// all the rest from being read, and whoever asks must say that this one was not.
    pub unread: Option<String>,
    /// How many bytes the API server sent.
    pub bytes: usize,
    /// What the objects weigh.
    pub weight: usize,
}

/// Asks for lists. Whoever asks sets a deadline.
pub trait List: Send + Sync + 'static {
    /// Asks for one page.
    fn list<'a>(&'a self, ask: &'a Ask) -> BoxFuture<'a, Result<Page, LookupError>>;

    /// Whether a kind is served, at that version. Anybody may ask, where listing takes a right.
    fn serves(&self, kind: Listed) -> BoxFuture<'_, Result<bool, LookupError>>;
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
            most: PAGE,
            next: None,
            first: None,
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
    let mut limit = ask.first.unwrap_or(ask.most).min(ask.most);
    // What went well at once may be more next time.
    let mut growth = 2;
    loop {
        match attempt(client, ask, limit, OBJECTS).await? {
            Some(page) => {
                let first = Some(limit.saturating_mul(growth).min(ask.most));
                return Ok(Page { first, ..page });
            }
            None if limit > 1 => (limit, growth) = ((limit / 8).max(1), 1),
            None => {
                let page = beyond(client, ask).await?;
                return Ok(Page { first: Some(1), ..page });
            }
        }
    }
}

/// The page of the one object that is too large: its name, and where the list goes on.
async fn beyond(client: &Client, ask: &Ask) -> Result<Page, LookupError> {
    let named = Ask {
        metadata_only: true,
        ..ask.clone()
    };
    let too_large = || LookupError {
        cause: FaultCause::TooLarge,
        ..failed(ask, "one of them is larger than any object can be")
    };
    let page = attempt(client, &named, 1, NAMES).await?.ok_or_else(too_large)?;
    let next = page.next;
    let Some(object) = page.items.into_iter().next() else {
        return Ok(Page {
            next,
            ..Page::default()
        });
    };
    let text = |field: &str| object.get("metadata")?.get(field)?.as_str();
    let name = text("name").ok_or_else(too_large)?;
    let name = match text("namespace") {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    };
    let unread = format!(
        "{} {name} was not looked at: it is larger than any that works, or holds what is no JSON; look at it, and delete it if nobody needs it",
        ask.kind.kind
    );
    Ok(Page {
        next,
        unread: Some(unread),
        ..Page::default()
    })
}

/// Asks whether a kind is served.
pub(super) async fn serves(client: &Client, kind: Listed) -> Result<bool, LookupError> {
    let version = format!("{}/{}", kind.group, kind.version);
    match client.list_api_group_resources(&version).await {
        Ok(served) => Ok(served.resources.iter().any(|resource| resource.name == kind.plural)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(_) => Err(LookupError {
            what: format!("the kinds of {version}"),
            why: "it did not answer".to_owned(),
            cause: FaultCause::Unavailable,
        }),
    }
}

fn failed(ask: &Ask, why: impl AsRef<str>) -> LookupError {
    LookupError {
        what: ask.to_string(),
        why: short(why.as_ref()),
        cause: FaultCause::Unavailable,
    }
}

/// `None` where the page is larger than may be: alone on its page, an object is the one that is at fault.
async fn attempt(client: &Client, ask: &Ask, limit: u32, keep: Keep) -> Result<Option<Page>, LookupError> {
    let (status, answer) = match once(client, ask, limit, keep).await? {
        Once::Page(page) => return Ok(page),
        Once::Refused(status, answer) => (status, answer),
    };
    // A list that takes longer than the API server keeps its past, some minutes, goes on from the same place as things are now. What was made
    // before that place since it began is in neither, as with any list that is over.
    let Some(next) = next(&answer).filter(|_| status == StatusCode::GONE && ask.next.is_some()) else {
        return Err(failed(ask, refusal(status, &answer)));
    };
    let rest = Ask {
        next: Some(next),
        ..ask.clone()
    };
    match once(client, &rest, limit, keep).await? {
        Once::Page(page) => Ok(page),
        Once::Refused(status, answer) => Err(failed(ask, refusal(status, &answer))),
    }
}

/// What the API server answers to one request.
enum Once {
    /// `None` where it is larger than may be.
    Page(Option<Page>),
    Refused(StatusCode, Value),
}

async fn once(client: &Client, ask: &Ask, limit: u32, keep: Keep) -> Result<Once, LookupError> {
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
    match fetch(client, request, keep, MAX_PAGE_WEIGHT).await {
        Err(why) => Err(failed(ask, why)),
        Ok(Answer::TooLarge) => Ok(Once::Page(None)),
        Ok(Answer::Crowded) => Err(no_room(ask.to_string())),
        Ok(Answer::Busy) => Err(busy(ask.to_string())),
        Ok(Answer::Json(status, answer, _)) if !status.is_success() => Ok(Once::Refused(status, answer)),
        Ok(Answer::Json(_, answer, Size { bytes, weight })) => {
            let page = read(answer).ok_or_else(|| failed(ask, "the answer is no list"))?;
            Ok(Once::Page(Some(Page { bytes, weight, ..page })))
        }
    }
}

/// Where an answer says that the list goes on.
fn next(answer: &Value) -> Option<String> {
    let token = answer.pointer("/metadata/continue").and_then(Value::as_str);
    token.filter(|token| !token.is_empty()).map(str::to_owned)
}

fn read(mut answer: Value) -> Option<Page> {
    let next = next(&answer);
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
        ..Page::default()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::http;
    use kube::client::Body;
    use serde_json::json;

    use super::super::fetch::MAX_BYTES;
    use super::*;

    const PODS: Listed = Listed {
        group: "",
        version: "v1",
        kind: "Pod",
        plural: "pods",
    };

    /// Answers each request by what `answer` makes of its URL; and remembers the URLs.
    async fn asked(
        ask: &Ask,
        answer: impl Fn(&str) -> (u16, Vec<u8>) + Clone + Send + 'static,
    ) -> (Result<Page, LookupError>, Vec<String>) {
        let urls = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&urls);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let url = request.uri().to_string();
            let (status, body) = answer(&url);
            log.lock().unwrap().push(url);
            std::future::ready(http::Response::builder().status(status).body(Body::from(body)))
        });
        let found = page(&Client::new(service, "default"), ask).await;
        let urls = urls.lock().unwrap().clone();
        (found, urls)
    }

    fn bytes(value: &Value) -> Vec<u8> {
        serde_json::to_vec(value).unwrap()
    }

    #[tokio::test]
    async fn a_page_is_raw_and_says_where_the_next_begins() {
        let list = json!({"metadata": {"continue": "tok/en"}, "items": [{"newerThanUs": 1}]});
        let (found, urls) = asked(&Ask::all(PODS, Some("ai")), move |_| (200, bytes(&list))).await;
        let found = found.unwrap();
        assert_eq!(found.next.as_deref(), Some("tok/en"));
        assert_eq!(Value::Object(found.items[0].clone()), json!({"newerThanUs": 1}));
        let (_, next) = asked(
            &Ask {
                next: found.next,
                ..Ask::all(PODS, None)
            },
            |_| (200, bytes(&json!({"items": null}))),
        )
        .await;
        assert_eq!(
            (urls[0].as_str(), next[0].as_str()),
            (
                "/api/v1/namespaces/ai/pods?&limit=500",
                "/api/v1/pods?&limit=500&continue=tok%2Fen"
            )
        );
    }

    /// Five hundred objects of a megabyte each are a tenant's work, and must not be held at once.
    #[tokio::test]
    async fn large_objects_come_in_small_pages() {
        let answer = |url: &str| {
            let limit: usize = url.rsplit_once("limit=").unwrap().1.parse().unwrap();
            let item = json!({"x": "x".repeat(1 << 20)});
            (200, bytes(&json!({"items": vec![item; limit.min(20)]})))
        };
        let (found, urls) = asked(&Ask::all(PODS, None), answer).await;
        assert_eq!(found.unwrap().items.len(), 7);
        let limits: Vec<_> = urls.iter().map(|url| url.rsplit_once('=').unwrap().1).collect();
        assert_eq!(limits, ["500", "62", "7"]);
        let (heavy, urls) = asked(&Ask::all(PODS, None), |_| {
            (
                200,
                format!("{{\"items\": [{}{{}}]}}", "{\"\":0},".repeat(500_000)).into_bytes(),
            )
        })
        .await;
        assert_eq!(urls.len(), 5, "down to one, and its name");
        assert!(heavy.unwrap_err().to_string().contains("larger than any object can be"));
    }

    /// Each of them would cost three answers that break off, for as many as somebody writes.
    #[tokio::test]
    async fn a_list_of_large_objects_goes_on_as_it_went_well() {
        let limit = |url: &str| {
            url.rsplit("limit=")
                .next()
                .unwrap()
                .split('&')
                .next()
                .unwrap()
                .parse::<usize>()
                .unwrap()
        };
        let answer = move |size: usize| {
            move |url: &str| {
                let item = json!({"x": "x".repeat(size)});
                let list = json!({"metadata": {"continue": "on"}, "items": vec![item; limit(url).min(20)]});
                (200, bytes(&list))
            }
        };
        let mut ask = Ask::all(PODS, None);
        let mut limits = Vec::new();
        for size in [8 << 20, 8 << 20, 8 << 20, 8 << 20, 10, 10, 10] {
            let (found, urls) = asked(&ask, answer(size)).await;
            let page = found.unwrap();
            (ask.next, ask.first) = (page.next, page.first);
            limits.push(urls.iter().map(|url| limit(url)).collect::<Vec<_>>());
        }
        let asked: [&[usize]; 7] = [&[500, 62, 7, 1], &[1], &[2, 1], &[1], &[2], &[4], &[8]];
        assert_eq!(limits, asked);
        ask.first = Some(1000);
        assert_eq!(limit(&self::asked(&ask, answer(10)).await.1[0]), 500);
    }

    /// Whoever makes it long must not keep it from coming to its end.
    #[tokio::test]
    async fn a_list_goes_on_where_its_past_is_forgotten() {
        let expired = |token: &str| {
            let body = json!({"kind": "Status", "message": "too old", "code": 410, "metadata": {"continue": token}});
            (410, bytes(&body))
        };
        let ask = |next: Option<&str>| Ask {
            next: next.map(str::to_owned),
            ..Ask::all(PODS, None)
        };
        let now = move |url: &str| match url.rsplit_once("continue=").map(|(_, token)| token) {
            Some("old") => expired("now"),
            Some("now") => (
                200,
                bytes(&json!({"metadata": {"continue": "on"}, "items": [{"x": 1}]})),
            ),
            // Neither a first page nor what is answered so again and again has a place to go on from.
            _ => expired("again"),
        };
        let (found, urls) = asked(&ask(Some("old")), now).await;
        let found = found.unwrap();
        assert_eq!(
            (found.items.len(), found.next.as_deref(), urls.len()),
            (1, Some("on"), 2)
        );
        for (next, asked_for) in [(None, 1), (Some("again"), 2)] {
            let (found, urls) = asked(&ask(next), now).await;
            let error = found.unwrap_err().to_string();
            assert!(error.contains("too old (410)"), "{error}");
            assert_eq!(urls.len(), asked_for);
        }
        // Without a place to go on from it is an error too.
        let (found, _) = asked(&ask(Some("old")), |_| (410, bytes(&json!({"message": "too old"})))).await;
        assert!(found.unwrap_err().to_string().contains("too old (410)"));
    }

    /// One object of anybody's must not hide all others.
    #[tokio::test]
    async fn an_object_that_is_too_large_is_named_and_the_list_goes_on() {
        let fat = json!({"metadata": {"namespace": "b", "name": "fat"}, "subjects": [{"name": "x".repeat(13 << 20)}]});
        for body in [
            bytes(&fat),
            format!("{{\"x\": [{}1]}}", "{\"\":0},".repeat(500_000)).into_bytes(),
        ] {
            let answer = move |url: &str| {
                assert!(url.contains("continue=before"));
                let items = body.clone();
                let list = if url.contains("limit=1&") {
                    [
                        b"{\"metadata\": {\"continue\": \"after\"}, \"items\": [".as_slice(),
                        &items,
                        b"]}",
                    ]
                    .concat()
                } else {
                    vec![b' '; MAX_BYTES + 1]
                };
                (200, list)
            };
            let names = bytes(
                &json!({"metadata": {"continue": "after"}, "items": [{"metadata": {"namespace": "b", "name": "fat"}}]}),
            );
            let calls = Arc::new(Mutex::new(0));
            let (seen, ask) = (
                calls.clone(),
                Ask {
                    next: Some("before".to_owned()),
                    ..Ask::all(PODS, None)
                },
            );
            let (found, urls) = asked(&ask, move |url| {
                let mut calls = seen.lock().unwrap();
                *calls += 1;
                // The fifth asks for its name.
                if *calls == 5 { (200, names.clone()) } else { answer(url) }
            })
            .await;
            let found = found.unwrap();
            assert_eq!(
                (found.items.len(), found.next.as_deref(), urls.len()),
                (0, Some("after"), 5)
            );
            assert!(found.unread.unwrap().contains("Pod b/fat was not looked at"));
        }
    }

    /// Who owns which field outweighs all the rest, and nobody asks.
    #[tokio::test]
    async fn who_owns_which_field_is_not_kept() {
        let annotations = json!({"f:a": {}});
        let fields = json!({"f:metadata": {"f:annotations": annotations, "f:labels": {}}, "f:spec": {"f:x": {}}});
        let list = json!({"items": [{"metadata": {"name": "n", "managedFields": [{"manager": "m", "subresource": "status", "fieldsV1": fields}]}}]});
        let (found, _) = asked(&Ask::all(PODS, None), move |_| (200, bytes(&list))).await;
        assert_eq!(
            Value::Object(found.unwrap().items.remove(0)),
            json!({"metadata": {"name": "n"}})
        );
    }

    #[tokio::test]
    async fn whatever_is_no_list_is_an_error_and_never_an_empty_page() {
        let forbidden = json!({"kind": "Status", "message": "pods is forbidden: no", "code": 403});
        for (status, body, said) in [
            (403, bytes(&forbidden), "pods is forbidden: no (403)"),
            (500, b"oops".to_vec(), "the answer is no JSON that can be read (500"),
            (200, b"{".to_vec(), "the answer is no JSON that can be read (200"),
            (200, bytes(&json!({})), "the answer is no list"),
            (200, bytes(&json!({"items": [1]})), "the answer is no list"),
        ] {
            let (found, _) = asked(&Ask::all(PODS, Some("ai")), move |_| (status, body.clone())).await;
            let error = found.unwrap_err().to_string();
            assert!(
                error.starts_with("the pods of namespace ai could not be read from the API server: ")
                    && error.contains(said),
                "{error}"
            );
        }
    }
}
