//! A server on a free port, a CA of the test, and a client that trusts only that.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Request, Response, StatusCode};
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ringfence::decisions::DecisionInput;
use ringfence::review::{Decision, Review, Violation};
use ringfence::telemetry::Metrics;
use ringfence::tls::Resolver;
use ringfence::webhook::{Admit, Limits, Parting, Readiness, Webhook, router, serve, tls_config};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

const NAME: &str = "hook.ringfence.svc";
/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Decides by the name of the object, and keeps what it was asked.
#[derive(Default)]
pub struct Script {
    pub seen: Mutex<Vec<(Webhook, Review)>>,
    /// Whether lines hold what was decided about.
    pub records: AtomicBool,
}

impl Admit for Script {
    fn admit<'a>(&'a self, webhook: Webhook, review: &'a Review, _: Instant) -> BoxFuture<'a, Decision> {
        self.seen.lock().unwrap().push((webhook, review.clone()));
        let violation = Violation {
            policy: "p".into(),
            path: "spec.x".into(),
            value: Some("v".into()),
            message: "m".into(),
            fix: "f".into(),
        };
        async move {
            match review.name() {
                "denied" => Decision {
                    denials: vec![violation],
                    ..Decision::default()
                },
                "warned" => Decision {
                    warnings: vec![violation],
                    ..Decision::default()
                },
                "panics" => panic!("scripted"),
                "sleeps" => {
                    sleep(PATIENCE).await;
                    Decision::default()
                }
                "naps" => {
                    sleep(Duration::from_millis(400)).await;
                    Decision::default()
                }
                name if name.starts_with("dozes") => {
                    sleep(Duration::from_secs(2)).await;
                    Decision::default()
                }
                "blocks" => {
                    std::thread::sleep(Duration::from_secs(4));
                    Decision::default()
                }
                _ => Decision::default(),
            }
        }
        .boxed()
    }

    fn revision(&self) -> String {
        "r1".to_owned()
    }

    fn records(&self) -> DecisionInput {
        if self.records.load(Ordering::Relaxed) {
            DecisionInput::Masked
        } else {
            DecisionInput::None
        }
    }
}

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub cancel: CancellationToken,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    pub resolver: Arc<Resolver>,
    pub script: Arc<Script>,
    pub task: JoinHandle<std::io::Result<()>>,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Server {
    pub fn start(limits: Limits) -> Self {
        // Whoever comes first installs it for the process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let resolver = Arc::new(Resolver::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (metrics, script) = (Arc::new(Metrics::new()), Arc::new(Script::default()));
        let (cancel, tls) = (CancellationToken::new(), tls_config(resolver.clone(), None).unwrap());
        let readiness = Readiness::default();
        let router = Parting::new(readiness.clone()).of(router(script.clone(), &limits, metrics.clone()));
        let stop = cancel.clone();
        let task = tokio::spawn(async move { serve(listener, tls, router, &limits, stop).await });
        let server = Self {
            address,
            cancel,
            metrics,
            readiness,
            resolver,
            script,
            task,
            ca,
        };
        server.resolver.store(server.certificate());
        server
    }

    /// A new certificate of the test's CA.
    pub fn certificate(&self) -> Arc<CertifiedKey> {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![NAME.to_owned()])
            .unwrap()
            .signed_by(&key, &self.ca)
            .unwrap();
        let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = rustls::crypto::ring::default_provider();
        Arc::new(CertifiedKey::from_der(vec![leaf.der().clone()], der, &provider).unwrap())
    }

    pub async fn tls(&self, protocol: &str) -> std::io::Result<TlsStream<TcpStream>> {
        self.tls_over(TcpStream::connect(self.address).await?, protocol).await
    }

    pub async fn tls_over(&self, stream: TcpStream, protocol: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from(NAME).unwrap(), stream)
            .await
    }

    pub async fn http1(&self) -> http1::SendRequest<Body> {
        http1_over(self.tls("http/1.1").await.unwrap()).await
    }

    /// Posts JSON to `fence` on a connection of its own, by HTTP/1.1 as API servers do.
    pub async fn post(&self, body: impl Into<Body>) -> Reply {
        self.send(request("/admit/fence", "application/json", body)).await
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        let mut client = self.http1().await;
        Reply::of(timeout(PATIENCE, client.send_request(request)).await.unwrap().unwrap()).await
    }
}

pub async fn http1_over(stream: TlsStream<TcpStream>) -> http1::SendRequest<Body> {
    let (client, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A connection from another address than everybody else's: all of 127.0.0.0/8 is this host.
pub async fn connect_from_elsewhere(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0)))?;
    socket.connect(to).await
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub content_type: String,
    pub text: String,
}

impl Reply {
    pub async fn of(response: Response<Incoming>) -> Self {
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .map_or("", |value| value.to_str().unwrap())
            .to_owned();
        let status = response.status();
        let bytes = timeout(PATIENCE, response.into_body().collect())
            .await
            .unwrap()
            .unwrap()
            .to_bytes();
        Self {
            status,
            content_type,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// The AdmissionReview's response, once all around it is as it must be.
    pub fn response(&self) -> Value {
        assert_eq!(
            (self.status, self.content_type.as_str()),
            (StatusCode::OK, "application/json"),
            "{self:?}"
        );
        let mut review: Value = serde_json::from_str(&self.text).unwrap();
        let response = review["response"].take();
        assert_eq!(
            review,
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": null})
        );
        response
    }
}

pub fn request(path: &str, content_type: &str, body: impl Into<Body>) -> Request<Body> {
    let uri = format!("https://{NAME}{path}");
    Request::post(uri)
        .header(HOST, NAME)
        .header(CONTENT_TYPE, content_type)
        .body(body.into())
        .unwrap()
}

/// A review of a Pod by this name.
pub fn review(name: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "operation": "CREATE", "name": name, "namespace": "ai",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "userInfo": {"username": "ann"}, "object": {"metadata": {"name": name}},
        },
    })
}

pub fn allowed() -> Value {
    json!({"uid": "u-1", "allowed": true})
}

pub fn refused(code: u16, reason: &str, message: &str) -> Value {
    let status = json!({"status": "Failure", "code": code, "reason": reason, "message": message});
    json!({"uid": "u-1", "allowed": false, "status": status})
}
