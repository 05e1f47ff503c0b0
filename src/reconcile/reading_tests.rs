//! What the controllers read of what others write: how much at a time, and what is said of what is too large to be read.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use kube::Client;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::plan::Child;
use crate::vetting::Vetting;

const SOON: Duration = Duration::from_secs(30);

/// What the controllers share, over this client.
pub(super) fn context(client: Client) -> Arc<Context> {
    let metrics = Arc::new(Metrics::new());
    Arc::new(Context::new(
        client.clone(),
        metrics.clone(),
        "ringfence-system".to_owned(),
        "ringfence".to_owned(),
        Vec::new(),
        BTreeSet::new(),
        Arc::new(Registry::new(client, Vetting::new().unwrap(), metrics)),
    ))
}

pub(super) fn client(
    answer: impl Fn(&Request<kube::client::Body>) -> Option<Bytes> + Clone + Send + 'static,
) -> Client {
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let answer = answer(&request);
        async move {
            match answer {
                Some(body) => Ok::<_, Infallible>(Response::new(Body::from(body))),
                // A watch on which nothing happens.
                None => std::future::pending().await,
            }
        }
    });
    Client::new(service, "default")
}

pub(super) fn list(items: &str, next: &str) -> Bytes {
    let metadata = format!(r#"{{"resourceVersion":"1","continue":"{next}"}}"#);
    format!(r#"{{"kind":"List","apiVersion":"v1","metadata":{metadata},"items":[{items}]}}"#).into()
}

/// How many lists of a kind are asked for in all, each with its pages.
fn limits(urls: &[String], plural: &str) -> Vec<u32> {
    let of_kind = urls.iter().filter(|url| {
        url.split('?')
            .next()
            .is_some_and(|path| path.ends_with(&format!("/{plural}")))
    });
    let limit = |url: &String| {
        let query = url.split('?').nth(1)?;
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix("limit="))?
            .parse()
            .ok()
    };
    of_kind.map(|url| limit(url).unwrap_or(u32::MAX)).collect()
}

/// One object may be some nine megabytes, and whatever is in a page is in memory at once.
#[tokio::test]
async fn what_others_write_is_watched_in_small_pages() {
    let urls = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&urls);
    let client = client(move |request| {
        let url = request.uri().to_string();
        if url.contains("watch=true") {
            return None;
        }
        heard.lock().unwrap().push(url);
        Some(list("", ""))
    });
    let context = context(client);
    let stop = CancellationToken::new();
    let running = tokio::spawn(run(context, stop.clone(), || {}));
    // By how many each is watched.
    let watched = [
        ("aiworkflows", 3),
        ("aiworkflowgrants", 2),
        ("regopolicyexceptions", 1),
        ("networkpolicies", 2),
        ("serviceaccounts", 1),
        ("roles", 2),
        ("rolebindings", 2),
        ("resolvednames", 2),
    ];
    let all_asked = async {
        while !watched
            .iter()
            .all(|(plural, count)| limits(&urls.lock().unwrap(), plural).len() >= *count)
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(SOON, all_asked).await;
    let urls = urls.lock().unwrap().clone();
    assert!(in_time.is_ok(), "{urls:?}");
    for (plural, _) in watched {
        let limits = limits(&urls, plural);
        assert!(limits.iter().all(|limit| *limit <= 4), "{plural}: {limits:?}");
    }
    stop.cancel();
    running.abort();
}

#[tokio::test]
async fn what_ringfence_made_is_listed_in_small_pages() {
    let urls = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&urls);
    let client = client(move |request| {
        let url = request.uri().to_string();
        let next = if url.contains("continue=") { "" } else { "more" };
        heard.lock().unwrap().push(url);
        Some(list(&owned(r#""b":"c""#), next))
    });
    let found = calls::Calls::new(client).list(Child::Role, &OWNER).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(limits(&urls.lock().unwrap(), "roles"), [4, 4]);
}

const OWNER: calls::Owner<'_> = calls::Owner {
    namespace: "ai",
    name: "triage",
    uid: Some("1"),
};

/// An object of that owner, with these further annotations.
fn owned(annotations: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"x","uid":"2","annotations":{{"ringfence.dev/owner-uid":"1",{annotations}}}}},"rules":[]}}"#
    )
}

/// Whoever could write objects before guards stood gave them Ringfence's label, as many and as large as they liked.
#[tokio::test]
async fn what_is_held_of_objects_with_ringfences_label_is_bounded() {
    let of_others =
        r#"{"metadata":{"name":"y","annotations":{"ringfence.dev/owner-uid":"3"}}},{"metadata":{"name":"z"}}"#;
    let owners = vec![r#"{"apiVersion":"v1","kind":"A","name":"a","uid":"u"}"#; 1000].join(",");
    let fat = owned(r#""b":"c""#).replace(r#""uid":"2""#, &format!(r#""uid":"2","ownerReferences":[{owners}]"#));
    let large = owned(&format!(r#""large":"{}""#, "x".repeat(12 << 20)));
    let items = [of_others, &fat, &large, &large, &large].join(",");
    let found = calls::Calls::new(client(move |_| Some(list(&items, ""))));
    let found = found.list(Child::Role, &OWNER).await.unwrap();
    // What is beyond the bound is known, and nothing more: it is nobody's declaration.
    let annotations: Vec<_> = found
        .iter()
        .map(|object| object["metadata"]["annotations"].as_object().unwrap().len())
        .collect();
    assert_eq!(annotations, [2, 2, 2, 1]);
    assert_eq!(found[0]["metadata"]["ownerReferences"].as_array().unwrap().len(), 64);
    assert_eq!(
        (&found[3]["metadata"]["uid"], &found[3]["kind"]),
        (&json!("2"), &json!("Role"))
    );
    assert!(found[2]["rules"].is_array() && found[3]["rules"].is_null());
    let nobodys = calls::Owner { uid: None, ..OWNER };
    let found = calls::Calls::new(client(|_| Some(list(r#"{"metadata":{"name":"z"}}"#, ""))));
    assert!(found.list(Child::Role, &nobodys).await.unwrap().is_empty());
}

/// An API server with one object of that kind, which is larger than any that is read.
fn too_large(plural: &'static str) -> Reads {
    let named = r#"{"metadata":{"namespace":"bank","name":"huge"}}"#;
    let huge = format!(r#"{{"metadata":{{"name":"huge"}},"x":"{}"}}"#, "x".repeat(13 << 20));
    let (none, named, huge) = (list("", ""), list(named, ""), list(&huge, ""));
    let client = client(move |request| {
        let accepts = request.headers().get("accept").and_then(|value| value.to_str().ok());
        let names_alone = accepts.is_some_and(|accepts| accepts.contains("PartialObjectMetadata"));
        Some(match request.uri().path().ends_with(&format!("/{plural}")) {
            false => none.clone(),
            true if names_alone => named.clone(),
            true => huge.clone(),
        })
    });
    Reads::new(client, None, "ringfence".to_owned())
}

pub(super) fn workflow() -> AIWorkflow {
    let metadata =
        json!({"namespace": "ai", "name": "triage", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"});
    let object = json!({"metadata": metadata, "spec": {"launchers": [], "images": []}});
    serde_json::from_value(object).unwrap()
}

/// Whoever writes one in a namespace gives rights there alone, and holds up nobody; one of the cluster could give any.
#[tokio::test]
async fn a_binding_of_the_cluster_that_is_too_large_is_not_passed_over() {
    let error = too_large("clusterrolebindings").bound(&workflow()).await.unwrap_err();
    let said = error.explain();
    assert!(
        said.contains("ClusterRoleBinding bank/huge was not looked at"),
        "{said}"
    );
    let found = too_large("rolebindings").bound(&workflow()).await.unwrap();
    assert_eq!(found, Vec::<String>::new());
}
