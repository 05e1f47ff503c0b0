//! Bodies and requests that are no reviews, and decisions that go wrong: an answer each, with the uid once it can be read.

use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode};
use futures::stream;
use ringfence::webhook::Limits;
use rstest::rstest;
use serde_json::json;
use tokio::time::{Duration, Instant};

use crate::support::{Server, allowed, refused, request, review};

const AGAIN: &str = "try again; check the network to the webhook.";

#[rstest]
#[case::empty("", "the body is empty: send an AdmissionReview\n")]
#[case::brace("{", "no request.uid can be read: send an AdmissionReview of admission.k8s.io/v1\n")]
#[case::no_request(
    "{\"uid\":\"u-1\"}",
    "no request.uid can be read: send an AdmissionReview of admission.k8s.io/v1\n"
)]
#[case::form(
    "a=b",
    "no request.uid can be read: send an AdmissionReview of admission.k8s.io/v1\n"
)]
#[tokio::test]
async fn without_a_uid_there_is_only_400(#[case] body: &'static str, #[case] text: &str) {
    let server = Server::start(Limits::default());
    for content_type in ["application/json", "text/plain"] {
        let reply = server.send(request("/admit/fence", content_type, body)).await;
        assert_eq!((reply.status, reply.text.as_str()), (StatusCode::BAD_REQUEST, text));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_review_is_named() {
    let server = Server::start(Limits::default());
    let mut wrong = review("fine");
    wrong["request"]["operation"] = json!("PATCH");
    let message = "ringfence could not review this object: request.operation is missing or not what admission.k8s.io/v1 says \
        it is. Fix: send an AdmissionReview of admission.k8s.io/v1, as the registration says.";
    assert_eq!(
        server.post(wrong.to_string()).await.response(),
        refused(400, "BadRequest", message)
    );

    let mut old = review("fine");
    old["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let response = server.post(old.to_string()).await.response();
    assert_eq!(
        (&response["uid"], &response["status"]["code"]),
        (&json!("u-1"), &json!(400))
    );
    assert!(server.script.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_body_of_another_type_is_refused_by_name() {
    let server = Server::start(Limits::default());
    let reply = server
        .send(request("/admit/fence", "application/yaml", review("fine").to_string()))
        .await;
    let message = "ringfence could not review this object: the content type is not application/json. Fix: send the \
        AdmissionReview as JSON.";
    assert_eq!(reply.response(), refused(415, "UnsupportedMediaType", message));
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_by_name() {
    let server = Server::start(Limits::default());
    let body = review("fine").to_string().replace("ann", &"a".repeat(33 << 20));
    let message = "ringfence could not review this object: the review is larger than 32 MiB. Fix: make the object smaller: \
        move large data out of it, into a volume or an image.";
    let expected = refused(413, "RequestEntityTooLarge", message);
    assert_eq!(server.post(body.clone()).await.response(), expected);
    let chunks: Vec<_> = body
        .into_bytes()
        .chunks(1 << 20)
        .map(|chunk| Ok::<_, String>(Bytes::copy_from_slice(chunk)))
        .collect();
    assert_eq!(
        server.post(Body::from_stream(stream::iter(chunks))).await.response(),
        expected
    );
}

#[tokio::test]
async fn a_body_cut_off_after_the_uid_is_refused_by_name() {
    let server = Server::start(Limits::default());
    let text = review("fine").to_string();
    let cut = text
        .get(..text.find(r#""uid":"u-1""#).unwrap() + 11)
        .unwrap()
        .to_owned();
    let response = server.post(cut).await.response();
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("u-1"), &json!(false)));
    assert_eq!(response["status"]["reason"], "BadRequest");
}

/// The rest never comes: the deadline bounds the reading too.
#[tokio::test]
async fn a_body_that_never_ends_is_answered_in_time() {
    let server = Server::start(Limits::default());
    let text = review("fine").to_string();
    let start = Bytes::copy_from_slice(&text.as_bytes()[..text.len() - 1]);
    let body = stream::unfold(Some(start), |next| async move {
        match next {
            Some(bytes) => Some((Ok::<_, String>(bytes), None)),
            None => std::future::pending().await,
        }
    });
    let began = Instant::now();
    let reply = server
        .send(request(
            "/admit/fence?timeout=2s",
            "application/json",
            Body::from_stream(body),
        ))
        .await;
    let message = format!("ringfence could not review this object: the review did not arrive in time. Fix: {AGAIN}");
    assert_eq!(reply.response(), refused(504, "Timeout", &message));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[rstest]
#[case::lists("[", "]")]
#[case::maps("{\"a\":", "}")]
#[tokio::test]
async fn nesting_a_hundred_thousand_levels_deep_is_refused_by_name(#[case] open: &str, #[case] close: &str) {
    let server = Server::start(Limits::default());
    let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    let body = review("fine")
        .to_string()
        .replace(r#"{"metadata":{"name":"fine"}}"#, &deep);
    let message = "ringfence could not review this object: the object nests deeper than 128 levels. Fix: make the object simpler.";
    assert_eq!(
        server.post(body).await.response(),
        refused(413, "RequestEntityTooLarge", message)
    );
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_server_lives() {
    let server = Server::start(Limits::default());
    let message = "ringfence could not review this Pod: Ringfence failed while it decided. Fix: report it with the log of the \
        replica; the request is not at fault.";
    for _ in 0..3 {
        assert_eq!(
            server.post(review("panics").to_string()).await.response(),
            refused(500, "InternalError", message)
        );
    }
    assert_eq!(server.post(review("fine").to_string()).await.response(), allowed());
}

/// A decision that never yields cannot be stopped, but it cannot keep the answer back either.
#[rstest]
#[case::waits("sleeps")]
#[case::hogs_its_thread("blocks")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_decision_that_takes_too_long_is_an_answer_in_time(#[case] name: &str) {
    let server = Server::start(Limits::default());
    let (began, body) = (Instant::now(), review(name).to_string());
    let reply = server
        .send(request("/admit/fence?timeout=2s", "application/json", body))
        .await;
    let message = "ringfence could not review this Pod: the decision was not made in time. Fix: try again; if it persists, \
        look at ringfence_policy_evaluation_duration_seconds for a slow policy.";
    assert_eq!(reply.response(), refused(504, "Timeout", message));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_timeout_that_is_none_is_said() {
    let server = Server::start(Limits::default());
    let reply = server
        .send(request(
            "/admit/fence?timeout=soon",
            "application/json",
            review("fine").to_string(),
        ))
        .await;
    let message =
        "ringfence could not review this Pod: the timeout parameter is no duration. Fix: write it like timeout=5s.";
    assert_eq!(reply.response(), refused(400, "BadRequest", message));
}

#[rstest]
#[case::get(Method::GET, "/admit/fence", StatusCode::METHOD_NOT_ALLOWED)]
#[case::put(Method::PUT, "/admit/fence", StatusCode::METHOD_NOT_ALLOWED)]
#[case::no_such_webhook(Method::POST, "/admit/other", StatusCode::NOT_FOUND)]
#[case::no_such_path(Method::POST, "/metrics", StatusCode::NOT_FOUND)]
#[tokio::test]
async fn other_methods_and_paths_are_refused(#[case] method: Method, #[case] path: &str, #[case] status: StatusCode) {
    let server = Server::start(Limits::default());
    let mut request = request(path, "application/json", review("fine").to_string());
    *request.method_mut() = method;
    assert_eq!(server.send(request).await.status, status);
    assert!(server.script.seen.lock().unwrap().is_empty());
}
