//! When what is served counts as the newest, over an API server that is made up.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::Response;
use kube::client::Body as Asked;
use serde_json::json;

use super::*;

const AT: &str = "fail-0000000000000001";
const SHORT: Duration = Duration::from_millis(200);

/// One that has the RegoPolicy `one`, with UID `u` and that generation.
fn client(generation: i64) -> Client {
    let service = tower::service_fn(move |_: axum::http::Request<Asked>| async move {
        let list = json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "1"},
            "items": [{"metadata": {"name": "one", "uid": "u", "generation": generation}}],
        });
        Ok::<_, Infallible>(Response::new(Body::from(list.to_string())))
    });
    Client::new(service, "default")
}

/// Whether a replica decides that serves generation 1 of it and is asked by a registration of which it knows nothing.
async fn decides(there: i64, is_final: bool, synced: bool) -> bool {
    let registry = Registry::new(
        client(there),
        Vetting::new().expect("a binary"),
        Arc::new(Metrics::new()),
    );
    let outcome = Outcome {
        is_final,
        ..Outcome::of("u", 1)
    };
    registry.published.send_replace(Arc::new(Published {
        outcomes: [("one".to_owned(), outcome)].into(),
        synced,
        ..Published::default()
    }));
    let id = AT.parse().expect("an id");
    let within = Instant::now() + SHORT;
    registry.at_version(id, "unknown", within).await.is_some()
}

#[tokio::test]
async fn who_serves_the_newest_decides_whatever_the_registration_is_of() {
    assert!(decides(1, true, true).await);
    assert!(!decides(2, true, true).await, "behind the API server");
    assert!(!decides(1, false, true).await, "known, and not vetted yet");
    assert!(!decides(1, true, false).await, "not all is looked at");
}
