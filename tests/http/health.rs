//! Liveness, readiness and metrics over plain HTTP.

use std::net::TcpListener;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ringfence::telemetry::Metrics;
use ringfence::webhook::{Gate, Limits, Readiness, health_router, serve_health};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::crowds::{OF_A_REQUEST, flood};
use crate::support::{PATIENCE, Reply};

async fn get(listener: std::net::SocketAddr, path: &str) -> Reply {
    let stream = TokioIo::new(TcpStream::connect(listener).await.unwrap());
    let (mut client, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", "localhost")
        .body(Body::empty())
        .unwrap();
    Reply::of(timeout(PATIENCE, client.send_request(request)).await.unwrap().unwrap()).await
}

#[tokio::test]
async fn readiness_names_what_is_pending_and_liveness_does_not_care() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (readiness, cancel) = (Readiness::default(), CancellationToken::new());
    let (router, stop) = (
        health_router(readiness.clone(), Arc::new(Metrics::new())),
        cancel.clone(),
    );
    let task = tokio::spawn(async move { serve_health(listener, router, &Limits::default(), stop).await });

    let ready = async || {
        let reply = get(address, "/readyz").await;
        assert_eq!(reply.content_type, "application/json");
        (reply.status, serde_json::from_str::<Value>(&reply.text).unwrap())
    };
    let gate = |gate: &str, reason: &str| json!({"gate": gate, "reason": reason});
    let all = ["crds", "caches", "policies", "rego-policies", "certificate"].map(|name| gate(name, "not checked yet"));
    assert_eq!(
        ready().await,
        (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({"ready": false, "stopping": false, "pending": all})
        )
    );

    for open in [Gate::Crds, Gate::Caches, Gate::Policies, Gate::RegoPolicies] {
        readiness.set(open, Ok(()));
    }
    readiness.set(Gate::Certificate, Err("nobody trusts it".to_owned()));
    let pending = json!({"ready": false, "stopping": false, "pending": [gate("certificate", "nobody trusts it")]});
    assert_eq!(ready().await, (StatusCode::SERVICE_UNAVAILABLE, pending));
    assert_eq!(get(address, "/livez").await.status, StatusCode::OK);

    readiness.set(Gate::Certificate, Ok(()));
    assert_eq!(
        ready().await,
        (StatusCode::OK, json!({"ready": true, "stopping": false, "pending": []}))
    );
    readiness.set(Gate::Caches, Err("lost".to_owned()));
    assert_eq!(ready().await.0, StatusCode::SERVICE_UNAVAILABLE);
    readiness.set(Gate::Caches, Ok(()));
    readiness.stop();
    let stopping = json!({"ready": false, "stopping": true, "pending": []});
    assert_eq!(ready().await, (StatusCode::SERVICE_UNAVAILABLE, stopping));

    let metrics = get(address, "/metrics").await;
    assert_eq!(
        metrics.content_type,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(metrics.text.ends_with("# EOF\n"), "{}", metrics.text);
    cancel.cancel();
    timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
}

/// Kubelet asks on a connection of its own, and restarts a replica that does not answer.
#[tokio::test]
async fn connections_that_say_nothing_keep_no_probe_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let router = health_router(Readiness::default(), Arc::new(Metrics::new()));
    let stop = cancel.clone();
    let task = tokio::spawn(async move { serve_health(listener, router, &Limits::default(), stop).await });
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    for _ in 0..3 {
        assert_eq!(get(address, "/livez").await.status, StatusCode::OK);
    }
    // Those that are still there are let go, long before a minute is over.
    let began = std::time::Instant::now();
    for mut stream in silent {
        let closed = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok());
    }
    assert!(began.elapsed() < PATIENCE);
    cancel.cancel();
    timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
}

/// Half a request on each of more connections than are held, again and again: whatever pods do to the port, kubelet gets through.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_one_byte_keep_no_probe_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = CancellationToken::new();
    let router = health_router(Readiness::default(), Arc::new(Metrics::new()));
    let stop = cancel.clone();
    let task = tokio::spawn(async move { serve_health(listener, router, &Limits::default(), stop).await });
    let flood = flood(address, OF_A_REQUEST);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    for _ in 0..20 {
        assert_eq!(get(address, "/livez").await.status, StatusCode::OK);
    }
    drop(flood);
    cancel.cancel();
    timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
}
