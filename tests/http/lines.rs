//! The decision line that each answer leaves: what it holds of the request, and what it never does.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use ringfence::webhook::Limits;
use rstest::rstest;
use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;

use crate::support::{Server, review};

/// What is logged on this thread, which is the one that serves: the runtime of a test has no other.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn listen() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    fn decision(&self) -> Value {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().filter(|line| line.contains("ringfence::decision"));
        let mut lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1, "{text}");
        lines.remove(0)
    }
}

fn with_a_secret(name: &str) -> Value {
    let mut review = review(name);
    review["request"]["object"]["spec"] =
        json!({"containers": [{"name": "c", "env": [{"name": "K", "value": "topsecret"}]}]});
    review
}

#[rstest]
#[case::admitted("fine", "allow")]
#[case::refused("denied", "deny")]
#[case::dry_run("warned", "warn")]
#[case::without_a_decision("panics", "fault")]
#[tokio::test]
async fn a_line_holds_its_input_where_that_is_asked_for(
    #[case] name: &str,
    #[case] verdict: &str,
    #[values(false, true)] records: bool,
) {
    let (lines, _listening) = Lines::listen();
    let server = Server::start(Limits::default());
    server.script.records.store(records, Ordering::Relaxed);
    let mut review = with_a_secret(name);
    review["request"]["dryRun"] = json!(name == "warned");
    server.post(review.to_string()).await.response();
    let line = lines.decision();
    assert_eq!(
        (&line["verdict"], &line["dry_run"]),
        (&json!(verdict), &json!(name == "warned"))
    );
    assert!(!line.to_string().contains("topsecret"), "{line}");
    assert_eq!(line.get("input").is_some(), records, "{line}");
    if records {
        let input: Value = serde_json::from_str(line["input"].as_str().unwrap()).unwrap();
        let container = json!({"name": "c", "env": [{"name": "K", "value": "(masked, 9 characters)"}]});
        // The kind is a Pod's, so what a Pod has is readable.
        assert_eq!(input["request"]["object"]["spec"]["containers"][0], container);
    }
}

/// Nobody sends what cannot be read without being named: who it was, and what for, stands ahead of the object.
#[rstest]
#[case::no_json("]")]
#[case::too_deep(&"[".repeat(10_000))]
#[case::too_large(&format!("\"{}\"", "x".repeat(33 << 20)))]
#[tokio::test]
async fn a_line_names_who_sent_what_could_not_be_read(#[case] object: &str) {
    let (lines, _listening) = Lines::listen();
    let server = Server::start(Limits::default());
    let mut review = review("web");
    review["request"]["userInfo"] = json!({"username": "mallory", "groups": ["topsecret"]});
    let mut request = review["request"].take();
    request.as_object_mut().unwrap().remove("object");
    // Keys come sorted, and the API server writes the object last.
    let mut head = request.to_string();
    assert_eq!(head.pop(), Some('}'));
    server
        .post(format!(r#"{{"request":{head},"object":{object}}}}}"#))
        .await
        .response();
    let line = lines.decision();
    assert_eq!(line["verdict"], "fault", "{line}");
    let expected = [
        ("user", "mallory"),
        ("operation", request["operation"].as_str().unwrap()),
        ("resource", request["resource"]["resource"].as_str().unwrap()),
        ("namespace", request["namespace"].as_str().unwrap_or_default()),
        ("name", "web"),
    ];
    for (field, value) in expected {
        assert_eq!(line[field], value, "{field}: {line}");
    }
    assert!(!line.to_string().contains("topsecret"), "{line}");
}

#[tokio::test]
async fn an_input_that_is_too_large_is_measured() {
    let (lines, _listening) = Lines::listen();
    let server = Server::start(Limits::default());
    server.script.records.store(true, Ordering::Relaxed);
    let mut review = with_a_secret("fine");
    let args: Vec<String> = (0..50_000).map(|number| format!("topsecret {number}")).collect();
    review["request"]["object"]["spec"]["containers"][0]["args"] = json!(args);
    server.post(review.to_string()).await.response();
    let line = lines.decision();
    assert_eq!(line.get("input"), None);
    assert!(line["input_left_out"].as_u64().unwrap() > 1_000_000, "{line}");
}
