//! When what is served counts as the newest, over an API server that is made up.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::Response;
use kube::client::Body as Asked;
use serde_json::json;

use super::*;
use crate::vetting::Bounds;

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

/// A registry whose children, instead of vetting, leave a mark in the folder and sleep.
fn sleeping(folder: &std::path::Path) -> Registry {
    use std::os::unix::fs::PermissionsExt as _;

    let program = folder.join("sleeps");
    let script = format!(
        "#!/bin/sh\ntouch '{}'\nexec sleep 600\n",
        folder.join("began").display()
    );
    std::fs::write(&program, script).expect("a script");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let bounds = Bounds {
        wall: Duration::from_secs(60),
        ..Bounds::default()
    };
    Registry::new(client(1), Vetting::with(program, bounds), Arc::new(Metrics::new()))
}

fn synced(registry: &Registry) {
    registry.published.send_replace(Arc::new(Published {
        synced: true,
        ..Published::default()
    }));
}

fn object() -> Declared {
    let spec = json!({
        "validationActions": ["Deny"],
        "matchConstraints": {"resourceRules": []},
        "rego": {"modules": [{"name": "one.rego", "source": "package one"}]},
    });
    Declared {
        name: "one".to_owned(),
        uid: String::new(),
        generation: 0,
        spec: serde_json::from_value(spec).expect("a RegoPolicy"),
    }
}

fn why(vetted: Result<(), NotVetted>) -> String {
    let Err(NotVetted::Unknown(error)) = vetted else {
        panic!("nothing is known of it: {vetted:?}");
    };
    error.message
}

#[tokio::test]
async fn nothing_is_vetted_at_admission_before_what_is_there_has_been_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = sleeping(folder.path());
    let said = why(registry.vet(object(), Instant::now() + Duration::from_secs(30)).await);
    assert!(said.starts_with("this replica has not read all policies yet"), "{said}");
    assert!(!folder.path().join("began").exists(), "a child was started");
}

#[tokio::test]
async fn a_child_that_nobody_waits_for_any_more_keeps_its_turn() {
    let folder = tempfile::tempdir().expect("a folder");
    let registry = sleeping(folder.path());
    synced(&registry);
    let began = async {
        while !folder.path().join("began").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        vetted = registry.vet(object(), Instant::now() + Duration::from_secs(30)) => panic!("it ended: {vetted:?}"),
        () = began => {}
    }
    let said = why(registry.vet(object(), Instant::now() + Duration::from_secs(30)).await);
    assert!(said.starts_with("as many policies are vetted as may be"), "{said}");
}
