//! Reviews as API servers send them, and the answers that they get.

use ringfence::review::Operation;
use ringfence::webhook::{Limits, Webhook};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::{Server, allowed, refused, request, review};

#[tokio::test]
async fn yes_no_and_yes_with_a_warning() {
    let server = Server::start(Limits::default());
    assert_eq!(server.post(review("fine").to_string()).await.response(), allowed());
    let denied = "ringfence refused this Pod (1 reason):\n1. [p] spec.x = \"v\": m. Fix: f.";
    assert_eq!(
        server.post(review("denied").to_string()).await.response(),
        refused(403, "Forbidden", denied)
    );
    let warned = json!({"uid": "u-1", "allowed": true, "warnings": ["ringfence: [p] spec.x = \"v\": m. Fix: f."]});
    assert_eq!(server.post(review("warned").to_string()).await.response(), warned);
}

#[rstest]
#[case("/admit/fence?timeout=10s", Webhook::Fence)]
#[case("/admit/label", Webhook::Label)]
#[case("/admit/kinds", Webhook::Kinds)]
#[case("/admit/modes", Webhook::Modes)]
#[tokio::test]
async fn each_registration_has_its_path(#[case] path: &str, #[case] webhook: Webhook) {
    let server = Server::start(Limits::default());
    let request = request(path, "application/json; charset=utf-8", review("fine").to_string());
    assert_eq!(server.send(request).await.response(), allowed());
    assert_eq!(server.script.seen.lock().unwrap()[0].0, webhook);
}

const FAIL: &str = "/admit/policies/fail-0123456789abcdef/0123456789ab";
const IGNORE: &str = "/admit/policies/ignore-0123456789abcdef/0123456789ab";

/// What the API server would let pass without an answer passes with one that says why; what was found refuses all the same.
#[rstest]
#[case::refused(IGNORE, "denied", Some("ringfence refused this Pod"), None)]
#[case::fault_that_lets_pass(
    IGNORE,
    "panics",
    None,
    Some("let pass as the policy's failurePolicy says: Ringfence failed while it decided")
)]
#[case::fault_that_refuses(
    FAIL,
    "panics",
    Some("ringfence could not review this Pod: Ringfence failed while it decided"),
    None
)]
#[case::made_unreadable(
    IGNORE,
    "deep",
    Some("ringfence could not review this object: the object nests deeper"),
    None
)]
#[tokio::test]
async fn a_webhook_of_policies_fails_as_its_policies_say(
    #[case] path: &str,
    #[case] name: &str,
    #[case] refusal: Option<&str>,
    #[case] warning: Option<&str>,
) {
    let server = Server::start(Limits::default());
    let mut review = review(name);
    if name == "deep" {
        review["request"]["object"]["spec"] = (0..200).fold(json!(1), |inner, _| json!([inner]));
    }
    let request = request(path, "application/json", review.to_string());
    let response = server.send(request).await.response();
    assert_eq!(response["allowed"], refusal.is_none(), "{response}");
    let said = response["status"]["message"].as_str();
    assert_eq!(said.is_some(), refusal.is_some());
    assert!(
        said.is_none_or(|said| said.starts_with(refusal.unwrap_or_default())),
        "{response}"
    );
    let warned = response["warnings"][0].as_str();
    assert_eq!(warned.is_some(), warning.is_some());
    assert!(
        warned.is_none_or(|warned| warned.contains(warning.unwrap_or_default())),
        "{response}"
    );
    let fault = r#"ringfence_admission_requests_total{webhook="policies",operation="CREATE",resource="pods",decision="fault"} 1"#;
    let metrics = server.metrics.encode().unwrap();
    assert_eq!(metrics.contains(fault), name == "panics", "{metrics}");
}

#[rstest]
#[case("/admit/policies")]
#[case("/admit/policies/fail-0123456789abcdef")]
#[case("/admit/policies/fail-0123456789abcdef/x")]
#[case("/admit/policies/maybe-0123456789abcdef/0123456789ab")]
#[case("/admit/policies/fail-0123456789abcdef/0123456789ab/more")]
#[tokio::test]
async fn a_path_of_no_registration_is_not_found(#[case] path: &str) {
    let server = Server::start(Limits::default());
    let reply = server
        .send(request(path, "application/json", review("fine").to_string()))
        .await;
    assert_eq!(reply.status, 404);
    assert!(server.script.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_kind_that_nobody_knows_is_decided_like_any_other() {
    let server = Server::start(Limits::default());
    let mut review = review("denied");
    review["request"]["kind"] = json!({"group": "argoproj.io", "version": "v9", "kind": "Wörkflow"});
    review["request"]["resource"] = json!({"group": "argoproj.io", "version": "v9", "resource": "wörkflows"});
    let denied = "ringfence refused this Wörkflow (1 reason):\n1. [p] spec.x = \"v\": m. Fix: f.";
    assert_eq!(
        server.post(review.to_string()).await.response(),
        refused(403, "Forbidden", denied)
    );
    let metrics = server.metrics.encode().unwrap();
    let line =
        r#"ringfence_admission_requests_total{webhook="fence",operation="CREATE",resource="other",decision="deny"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_delete_brings_only_the_old_object() {
    let server = Server::start(Limits::default());
    let mut review = review("fine");
    review["request"]["operation"] = json!("DELETE");
    review["request"]["oldObject"] = review["request"]["object"].take();
    assert_eq!(server.post(review.to_string()).await.response(), allowed());
    let seen = server.script.seen.lock().unwrap();
    let seen = &seen[0].1;
    assert_eq!((seen.operation, seen.object()), (Operation::Delete, None));
    assert_eq!(seen.current(), Some(&json!({"metadata": {"name": "fine"}})));
}

#[tokio::test]
async fn names_may_be_empty() {
    let server = Server::start(Limits::default());
    let mut collection = review("");
    collection["request"]["operation"] = json!("DELETE");
    collection["request"]["object"] = Value::Null;
    assert_eq!(server.post(collection.to_string()).await.response(), allowed());
    let mut generated = review("");
    generated["request"]["object"]["metadata"] = json!({"generateName": "job-"});
    assert_eq!(server.post(generated.to_string()).await.response(), allowed());
    assert!(
        server
            .script
            .seen
            .lock()
            .unwrap()
            .iter()
            .all(|(_, review)| review.name().is_empty())
    );
}

/// A field that our types do not know is one that a policy may ask for.
#[tokio::test]
async fn fields_newer_than_us_reach_the_decision() {
    let server = Server::start(Limits::default());
    let mut review = review("fine");
    review["request"]["newer"] = json!({"than": ["us"]});
    review["request"]["object"]["spec"] = json!({"newer": {"than": 1.5}, "int": 18_446_744_073_709_551_615u64});
    assert_eq!(server.post(review.to_string()).await.response(), allowed());
    assert_eq!(server.script.seen.lock().unwrap()[0].1.request, review["request"]);
}

/// 1 MB of `<`, the most that etcd takes, is 6 MB in a review; in an update twice that.
#[tokio::test]
async fn the_largest_real_review_passes() {
    let server = Server::start(Limits::default());
    let field = r"\u003c".repeat(1_000_000);
    let text = review("fine").to_string();
    let object = format!(r#"{{"metadata":{{"name":"fine"}},"data":{{"x":"{field}"}}}}"#);
    let whole = text.replace(
        r#""object":{"metadata":{"name":"fine"}}"#,
        &format!(r#""object":{object},"oldObject":{object}"#),
    );
    assert!(whole.len() > 12_000_000);
    assert_eq!(server.post(whole).await.response(), allowed());
    let seen = server.script.seen.lock().unwrap();
    let data = &seen[0].1.old_object().unwrap()["data"]["x"];
    assert_eq!(data.as_str().map(str::len), Some(1_000_000));
}

#[tokio::test]
async fn dry_run_decides_the_same_and_counts_nowhere() {
    let server = Server::start(Limits::default());
    let mut review = review("denied");
    review["request"]["dryRun"] = json!(true);
    assert_eq!(server.post(review.to_string()).await.response()["status"]["code"], 403);
    let metrics = server.metrics.encode().unwrap();
    assert!(!metrics.contains("webhook="), "{metrics}");
}
