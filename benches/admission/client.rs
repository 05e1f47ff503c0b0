//! Asks as the API server does: by HTTP/1.1 over TLS, a connection for each request in flight, kept for the next one.
//!
//! Must never: let an answer pass that is not the right one. The first answer is read as JSON and judged; each later one must
//! be the same bytes around the uid that was sent.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::http::Request;
use axum::http::header::{CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::process::Process;
use crate::review::{Expected, UID};
use crate::server::NAME;

/// No answer takes longer, or the bench fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// The connections to one server.
pub struct Connection {
    way: Arc<Way>,
}

struct Way {
    port: u16,
    tls: TlsConnector,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

/// A review for one server, and the answer to it.
#[derive(Clone)]
pub struct Prepared {
    way: Arc<Way>,
    request: Around,
    answer: Around,
}

/// Bytes before and after the uid.
#[derive(Clone)]
struct Around {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Connection {
    pub async fn open(server: &Process) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(server.certificate().to_vec()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let way = Way {
            port: server.port(),
            tls: TlsConnector::from(Arc::new(config)),
            idle: Mutex::default(),
        };
        let first = way.connect().await?;
        way.put_back(first);
        Ok(Self { way: Arc::new(way) })
    }

    /// Asks once and judges the answer, which is then the pattern of all others.
    pub async fn prepare(&self, review: &[u8], expected: Expected) -> Result<Prepared> {
        let request = Around::split(review, UID)?;
        let uid = next_uid();
        let bytes = self.way.send(request.with(&uid)).await?;
        let answer: Value = serde_json::from_slice(&bytes)?;
        let response = answer.get("response").context("an answer without a response")?;
        ensure!(
            response["uid"].as_str() == Some(&*uid),
            "the uid was not echoed: {answer}"
        );
        expected.check(response)?;
        let answer = Around::split(&bytes, &uid)?;
        Ok(Prepared {
            way: Arc::clone(&self.way),
            request,
            answer,
        })
    }
}

impl Prepared {
    /// Asks once: how long it took from the first byte sent to the last one read.
    pub async fn ask(&mut self) -> Result<Duration> {
        let uid = next_uid();
        let body = self.request.with(&uid);
        let begin = Instant::now();
        let bytes = self.way.send(body).await?;
        let took = begin.elapsed();
        if bytes != self.answer.with(&uid) {
            bail!(
                "another answer than before, or for another uid than {uid}: {}",
                String::from_utf8_lossy(&bytes)
            );
        }
        Ok(took)
    }
}

impl Around {
    fn split(bytes: &[u8], uid: &str) -> Result<Self> {
        let mut found = bytes
            .windows(uid.len())
            .enumerate()
            .filter(|(_, window)| *window == uid.as_bytes());
        let (Some((at, _)), None) = (found.next(), found.next()) else {
            bail!("the uid is not there exactly once");
        };
        let (before, after) = bytes.split_at(at);
        let after = after.get(uid.len()..).unwrap_or_default();
        Ok(Self {
            before: before.to_vec(),
            after: after.to_vec(),
        })
    }

    fn with(&self, uid: &str) -> Vec<u8> {
        [self.before.as_slice(), uid.as_bytes(), self.after.as_slice()].concat()
    }
}

fn next_uid() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!(
        "{:08x}-0000-4000-8000-00000000cafe",
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

impl Way {
    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::try_from(NAME)?, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn put_back(&self, sender: SendRequest<Full<Bytes>>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
    }

    async fn send(&self, body: Vec<u8>) -> Result<Bytes> {
        let request = Request::post("/admit/fence?timeout=5s")
            .header(HOST, NAME)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let exchange = async {
            let mut sender = match idle {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            let status = response.status();
            let bytes = response.into_body().collect().await?.to_bytes();
            ensure!(
                status.is_success(),
                "the server answered {status}: {}",
                String::from_utf8_lossy(&bytes)
            );
            self.put_back(sender);
            Ok(bytes)
        };
        timeout(PATIENCE, exchange).await.context("no answer in time")?
    }
}
