//! A way to the API server that can be made bad: for the operator alone.
//!
//! Requests pass as they are, with the caller's own token. Must never: make an answer up that an API server could not give.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use kube::{Client, Config};
use serde_json::json;
use support::ControlPlane;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// On every request while the way is bad.
const DELAY: Duration = Duration::from_millis(20);
/// On some.
const LONG_DELAY: Duration = Duration::from_secs(3);

const MAX_BODY: usize = 4 << 20;

/// The way, until it is dropped.
pub struct Proxy {
    pub url: String,
    pub way: Arc<Way>,
    serving: JoinHandle<()>,
}

/// How bad it is.
#[derive(Default)]
pub struct Way {
    /// One of so many requests fails, and one is slow; 0 is none.
    pub one_of: AtomicU32,
    /// Every watch is told that it asks for what is too old.
    pub expired: AtomicBool,
    /// Watches that began before are quiet for ever, and their connections stay open.
    silenced: AtomicU32,
    count: AtomicU32,
    /// What was done of each.
    pub failed: AtomicU32,
    pub told_expired: AtomicU32,
}

impl Way {
    pub fn silence(&self) {
        self.silenced.fetch_add(1, Ordering::SeqCst);
    }
}

impl Proxy {
    pub async fn start(cluster: &ControlPlane) -> Self {
        let mut config = Config::new(cluster.ready().server.parse().expect("a URL"));
        let authority = std::fs::read(&cluster.ready().ca_certificate).expect("the CA");
        config.root_cert = Some(vec![pem(&authority)]);
        config.default_retry = false;
        let client = Client::try_from(config).expect("a client");
        let way = Arc::new(Way::default());
        let routes = Router::new().fallback(forward).with_state((client, Arc::clone(&way)));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let serving = tokio::spawn(async move {
            axum::serve(listener, routes).await.expect("serving");
        });
        Self {
            url: format!("http://{address}"),
            way,
            serving,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn pem(text: &[u8]) -> Vec<u8> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(text).expect("a certificate").to_vec()
}

async fn forward(State((client, way)): State<(Client, Arc<Way>)>, request: Request) -> Response {
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    if is_watch && way.expired.load(Ordering::SeqCst) {
        way.told_expired.fetch_add(1, Ordering::SeqCst);
        let event = json!({"type": "ERROR", "object": status(410, "Expired", "too old resource version")});
        return (
            StatusCode::OK,
            [("content-type", "application/json")],
            format!("{event}\n"),
        )
            .into_response();
    }
    let one_of = way.one_of.load(Ordering::SeqCst);
    let number = way.count.fetch_add(1, Ordering::SeqCst);
    let mut is_answered = true;
    if one_of > 0 {
        sleep(DELAY).await;
        if number % one_of == 0 {
            way.failed.fetch_add(1, Ordering::SeqCst);
            match number / one_of % 5 {
                0 => return failure(500, "InternalError", "etcdserver: request timed out"),
                1 => return failure(429, "TooManyRequests", "too many requests, please try again later"),
                2 => {
                    return failure(
                        503,
                        "ServiceUnavailable",
                        "the server is currently unable to handle the request",
                    );
                }
                3 => sleep(LONG_DELAY).await,
                // It was done, and whoever asked does not know.
                _ => is_answered = false,
            }
        }
    }
    let (mut parts, body) = request.into_parts();
    parts.headers.remove("host");
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return failure(413, "RequestEntityTooLarge", "the body is too large");
    };
    let request = axum::http::Request::from_parts(parts, kube::client::Body::from(body));
    let answer = match client.send(request).await {
        Ok(answer) => answer,
        Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    let (parts, body) = answer.into_parts();
    if !is_answered && !is_watch {
        if let Err(error) = body.collect_bytes().await {
            eprintln!("survival: an answer that was to be lost was lost before: {error}");
        }
        return failure(504, "Timeout", "request did not complete within the allotted timeout");
    }
    let body = Body::new(body);
    if !is_watch {
        return Response::from_parts(parts, body);
    }
    let began = way.silenced.load(Ordering::SeqCst);
    let way_at_end = Arc::clone(&way);
    let frames = body.into_data_stream().then(move |frame| {
        let way = Arc::clone(&way);
        async move {
            if way.silenced.load(Ordering::SeqCst) > began {
                std::future::pending::<()>().await;
            }
            frame
        }
    });
    // Nor is its end heard of.
    let end = futures::stream::once(async move {
        if way_at_end.silenced.load(Ordering::SeqCst) > began {
            std::future::pending::<()>().await;
        }
    });
    let frames = frames.chain(end.filter_map(async |()| None));
    Response::from_parts(parts, Body::from_stream(frames))
}

fn status(code: u16, reason: &str, message: &str) -> serde_json::Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "message": message, "code": code})
}

fn failure(code: u16, reason: &str, message: &str) -> Response {
    let code_ = StatusCode::from_u16(code).expect("a code");
    let headers = [("content-type", "application/json"), ("retry-after", "1")];
    (code_, headers, status(code, reason, message).to_string()).into_response()
}
