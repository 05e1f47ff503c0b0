//! Lists of the API server, in pages that are bounded by their bytes and not by their objects alone.
//!
//! Whoever may write pods writes a hundred of the largest: a page of them is a gigabyte as text, and kept from the proxy whoever it serves.
//! Must never: hold more of a list than a small page, or than one object.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{Request, Response, Uri};
use kube::Client;
use kube::client::Body;
use tower::BoxError;
use tower::service_fn;

/// Objects that are asked for at a time, where they are small.
pub(super) const PAGE: u32 = 100;
/// Most bytes of a page of several.
const MANY: usize = 4 << 20;
/// Most bytes of one object: what a request to write it may hold, each byte of which may be written as six (`<` is `\u003c`).
const ONE: usize = 20 << 20;
const LIMIT: &str = "limit=";

/// The same client, for one kind: what it lists comes in smaller pages where the objects are large.
pub(super) fn bounded(client: &Client) -> Client {
    let (namespace, limit) = (client.default_namespace().to_owned(), Arc::new(AtomicU32::new(PAGE)));
    let client = client.clone();
    let bounded = service_fn(move |request: Request<Body>| {
        let (client, limit) = (client.clone(), Arc::clone(&limit));
        async move {
            match asks_for_pages(request.uri()) {
                true => page(&client, request, &limit).await,
                false => Ok(client.send(request).await?),
            }
        }
    });
    Client::new(bounded, namespace)
}

/// One page, beginning with as many objects as went well last time.
async fn page(client: &Client, request: Request<Body>, limit: &AtomicU32) -> Result<Response<Body>, BoxError> {
    let (asked, _) = request.into_parts();
    let (mut objects, mut growth) = (limit.load(Ordering::Relaxed), 2);
    loop {
        let mut parts = asked.clone();
        parts.uri = of_size(&asked.uri, objects)?;
        let response = client.send(Request::from_parts(parts, Body::from(Vec::new()))).await?;
        let (head, body) = response.into_parts();
        let most = if objects > 1 { MANY } else { ONE };
        match Limited::new(body, most).collect().await {
            Ok(read) => {
                limit.store(objects.saturating_mul(growth).min(PAGE), Ordering::Relaxed);
                return Ok(Response::from_parts(head, Body::from(read.to_bytes())));
            }
            Err(error) if objects > 1 && error.is::<LengthLimitError>() => {
                (objects, growth) = ((objects / 8).max(1), 1);
            }
            Err(error) => return Err(error),
        }
    }
}

fn asks_for_pages(uri: &Uri) -> bool {
    queries(uri).any(|query| query.starts_with(LIMIT))
}

fn of_size(uri: &Uri, objects: u32) -> Result<Uri, BoxError> {
    let queries = queries(uri).map(|query| match query.starts_with(LIMIT) {
        true => format!("{LIMIT}{objects}"),
        false => query.to_owned(),
    });
    let queries: Vec<_> = queries.collect();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{}?{}", uri.path(), queries.join("&")).parse()?);
    Ok(Uri::from_parts(parts)?)
}

fn queries(uri: &Uri) -> impl Iterator<Item = &str> {
    uri.query()
        .unwrap_or_default()
        .split('&')
        .filter(|query| !query.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;
    use kube::api::ListParams;
    use serde_json::{Value, json};

    use super::*;

    /// Lists all of so many pods of that size, and says how many were asked for each time.
    async fn listed(count: usize, bytes: usize) -> (usize, Vec<usize>) {
        let asked: Arc<Mutex<Vec<usize>>> = Arc::default();
        let log = Arc::clone(&asked);
        let server = service_fn(move |request: Request<Body>| {
            let number = |name: &str| {
                let mut queries = queries(request.uri());
                queries.find_map(|query| query.strip_prefix(name)?.parse::<usize>().ok())
            };
            let (limit, from) = (number(LIMIT).unwrap(), number("continue=").unwrap_or_default());
            log.lock().unwrap().push(limit);
            let until = count.min(from + limit);
            let pod = |at| json!({"metadata": {"name": format!("pod-{at}"), "annotations": {"a": "x".repeat(bytes)}}});
            let pods: Vec<Value> = (from..until).map(pod).collect();
            let next = if until < count {
                until.to_string()
            } else {
                String::new()
            };
            let list = json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"continue": next}, "items": pods});
            let answer = Response::new(Body::from(serde_json::to_vec(&list).unwrap()));
            std::future::ready(Ok::<_, BoxError>(answer))
        });
        let pods: Api<Pod> = Api::all(bounded(&Client::new(server, "default")));
        let (mut params, mut found) = (ListParams::default().limit(PAGE), 0);
        loop {
            let page = pods.list(&params).await.unwrap();
            found += page.items.len();
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => params.continue_token = Some(next),
                None => break,
            }
        }
        let asked = asked.lock().unwrap().clone();
        (found, asked)
    }

    #[tokio::test]
    async fn small_objects_come_many_at_a_time() {
        assert_eq!(listed(250, 1 << 10).await, (250, vec![100; 3]));
    }

    #[tokio::test]
    async fn of_large_ones_no_page_is_larger_than_may_be_and_none_is_missing() {
        let (found, asked) = listed(30, 1 << 20).await;
        assert_eq!(found, 30);
        assert_eq!(asked[..2], [100, 12]);
        assert!(asked[2..].iter().all(|objects| *objects <= 8), "{asked:?}");
        assert!(asked.len() < 40, "{asked:?}");
        // Alone, each is read.
        let (found, asked) = listed(5, 9 << 20).await;
        assert_eq!(found, 5);
        assert_eq!(asked.iter().filter(|objects| **objects == 1).count(), 5, "{asked:?}");
    }

    #[test]
    fn the_size_of_a_page_is_all_that_is_changed() {
        let uri = "/api/v1/pods?&limit=100&labelSelector=limit%3D&continue=a%2Fb"
            .parse()
            .unwrap();
        assert!(asks_for_pages(&uri));
        let smaller = of_size(&uri, 7).unwrap().to_string();
        assert_eq!(smaller, "/api/v1/pods?limit=7&labelSelector=limit%3D&continue=a%2Fb");
        let watch = "/api/v1/pods?watch=true&labelSelector=limit%3D1".parse().unwrap();
        assert!(!asks_for_pages(&watch));
    }
}
