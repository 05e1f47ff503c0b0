//! Sockets, TLS and shutdown.
//!
//! HTTP/1.1 alone. API servers ask webhooks by it, to spread over replicas, but for one on their own host; and over HTTP/2 the bodies of
//! some reviews that wait for room would use up what the connection may send, and stall all the others on it. Must never: offer HTTP/2
//! while bodies may wait unread.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::connection::Bounded;

/// What is read of an HTTP/1 connection before somebody wants it.
const HTTP1_BUFFER: usize = 64 << 10;
/// What a connection may hold of what nobody wants yet: that, and what TLS keeps on the way in and out.
pub(super) const UNREAD: usize = HTTP1_BUFFER + (64 << 10);
/// Health and metrics need few connections: kubelet's and a scraper's. Whatever pods open beside them, they make room for each other.
const HEALTH_CONNECTIONS: usize = 64;
/// How long one of them may say nothing. Whoever comes again in a minute connects again.
const HEALTH_IDLE: Duration = Duration::from_secs(5);

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
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    limits: &Limits,
    cancel: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(tls))
        .handshake_timeout(limits.head)
        .acceptor(Bounded::new(limits.connections, limits.idle));
    let mut server = axum_server::from_tcp(listener)?.acceptor(acceptor).http1_only();
    bound(server.http_builder(), limits);
    let handle = stop_when(cancel, limits.grace);
    server.handle(handle).serve(router.into_make_service()).await
}

/// Serves health and metrics, without TLS, until cancelled.
pub async fn serve_health(
    listener: TcpListener,
    router: Router,
    limits: &Limits,
    cancel: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let limits = Limits {
        head: limits.head.min(HEALTH_IDLE),
        idle: limits.idle.min(HEALTH_IDLE),
        ..limits.clone()
    };
    let acceptor = Bounded::new(HEALTH_CONNECTIONS, limits.idle);
    let mut server = axum_server::from_tcp(listener)?.acceptor(acceptor).http1_only();
    bound(server.http_builder(), &limits);
    let handle = stop_when(cancel, Duration::from_secs(1));
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    server.handle(handle).serve(service).await
}

fn bound(builder: &mut Builder<TokioExecutor>, limits: &Limits) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HTTP1_BUFFER)
        .max_headers(64);
}

fn stop_when(cancel: CancellationToken, grace: Duration) -> Handle<SocketAddr> {
    let handle = Handle::new();
    let stopped = handle.clone();
    tokio::spawn(async move {
        cancel.cancelled().await;
        stopped.graceful_shutdown(Some(grace));
    });
    handle
}
