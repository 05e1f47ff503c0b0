//! Sockets, TLS and shutdown.
//!
//! HTTP/1.1 alone. API servers ask webhooks by it, to spread over replicas, but for one on their own host; and over HTTP/2 the bodies of
//! some reviews that wait for room would use up what the connection may send, and stall all the others on it. Must never: offer HTTP/2
//! while bodies may wait unread.

use std::future::ready;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use futures::FutureExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Limits;
use super::connection::{Bounded, Guarded};

/// What is read of an HTTP/1 connection before somebody wants it.
const HTTP1_BUFFER: usize = 64 << 10;
/// What a connection may hold of what nobody wants yet: that, and what TLS keeps on the way in and out.
pub(super) const UNREAD: usize = HTTP1_BUFFER + (64 << 10);
/// Health and metrics need few connections: kubelet's and a scraper's. Whatever pods open beside them, they make room for each other.
const HEALTH_CONNECTIONS: usize = 64;
/// How long one of them may say nothing. Whoever comes again in a minute connects again.
const HEALTH_IDLE: Duration = Duration::from_secs(5);
/// How long one of them may go on once the replica stops.
const HEALTH_GRACE: Duration = Duration::from_secs(1);
/// How long no connection is taken after one could not be: mostly because files have run out.
const REST: Duration = Duration::from_millis(50);

/// The TLS side of the admission server: its certificate comes from the resolver at each handshake, and so does the verdict on a
/// client's where `clients` are told apart.
pub fn tls_config(
    resolver: Arc<dyn ResolvesServerCert>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let is_open = clients.is_none();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients),
    };
    let mut config = builder.with_cert_resolver(resolver);
    if !is_open {
        // Whoever resumes a session is not asked for a certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Serves admission until cancelled, then finishes what is in flight, for `limits.grace` at most.
pub async fn serve(
    listener: std::net::TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    limits: &Limits,
    cancel: CancellationToken,
) -> io::Result<()> {
    let (tls, patience) = (TlsAcceptor::from(tls), limits.handshake);
    let secured = move |stream: Guarded| {
        let handshake = timeout(patience, tls.accept(stream));
        handshake.map(|done| done.map_err(io::Error::from).flatten())
    };
    let serving = Serving {
        bounded: Bounded::new(limits.connections, limits.idle),
        open: secured,
        router,
        http: http(limits),
    };
    serving.until(cancel, limits.grace, listener).await
}

/// Serves health and metrics, without TLS, until cancelled.
pub async fn serve_health(
    listener: std::net::TcpListener,
    router: Router,
    limits: &Limits,
    cancel: CancellationToken,
) -> io::Result<()> {
    let limits = Limits {
        idle: limits.idle.min(HEALTH_IDLE),
        ..limits.clone()
    };
    let serving = Serving {
        bounded: Bounded::new(HEALTH_CONNECTIONS, limits.idle),
        open: |stream: Guarded| ready(Ok(stream)),
        router,
        http: http(&limits),
    };
    serving.until(cancel, HEALTH_GRACE, listener).await
}

fn http(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // It begins when a connection falls silent, not with the first byte of a head.
        .header_read_timeout(limits.idle)
        .max_buf_size(HTTP1_BUFFER)
        .max_headers(64);
    builder
}

/// What all connections of a listener share. What becomes of one is nothing to another.
#[derive(Clone)]
struct Serving<O> {
    bounded: Bounded,
    /// What a new connection needs before anything is asked on it.
    open: O,
    router: Router,
    http: http1::Builder,
}

impl<O> Serving<O> {
    /// Takes connections until cancelled. What is in flight then may go on for `grace`.
    async fn until<S, F>(
        self,
        cancel: CancellationToken,
        grace: Duration,
        listener: std::net::TcpListener,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        O: Fn(Guarded) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
    {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (going, mut tasks) = (GracefulShutdown::new(), JoinSet::new());
        let mut cancelled = pin!(cancel.cancelled());
        loop {
            let taken = tokio::select! {
                biased;
                () = &mut cancelled => break,
                Some(_) = tasks.join_next() => continue,
                taken = listener.accept() => taken,
            };
            match taken {
                Ok((stream, _)) => {
                    tasks.spawn(self.clone().one(stream, going.watcher()));
                }
                Err(error) => {
                    warn!(%error, "a connection could not be taken");
                    sleep(REST).await;
                }
            }
        }
        drop(listener);
        if timeout(grace, going.shutdown()).await.is_err() {
            warn!("connections that go on longer than stopping may take are ended");
        }
        Ok(())
    }

    async fn one<S, F>(self, stream: TcpStream, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        O: Fn(Guarded) -> F + Sync,
        F: Future<Output = io::Result<S>>,
    {
        let opened = async {
            let (stream, service) = self.bounded.admit(stream, self.router).await?;
            io::Result::Ok(((self.open)(stream).await?, service))
        };
        let (stream, service) = match opened.await {
            Ok(opened) => opened,
            Err(error) => return debug!(%error, "a connection did not come about"),
        };
        let service = TowerToHyperService::new(service);
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            debug!(%error, "a connection broke off");
        }
    }
}
