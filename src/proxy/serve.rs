//! Sockets, HTTP and shutdown.
//!
//! Must never: let one connection end or hold up another.

use std::convert::Infallible;
use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::answer::{Body, NO_PLACE, Refused};
use super::connect::connect;
use super::connections::Connections;
use super::dial::{narrow, settle};
use super::forward::forward;
use super::patient::Patient;
use super::places::{Place, Places};
use super::ports::Ports;
use super::relay::{Buffers, Direction};
use super::waiting::Waiting;
use super::{Accounts, Callers, Limits, Resolver, Tokens};
use crate::egress::{Answers, ClusterDomains, Token, Used, Workflow};
use crate::telemetry::{EgressMetrics, EgressVerdict};

/// Longest head of a request. Names of hosts are short; the rest of a head of plain HTTP is cookies and tokens.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// How long no connection is taken after one could not be: mostly because files have run out.
pub(super) const REST: Duration = Duration::from_millis(50);

/// What all connections share.
pub struct Proxy {
    pub(super) limits: Limits,
    pub(super) callers: Callers,
    pub(super) resolver: Resolver,
    pub(super) answers: Answers,
    pub(super) metrics: Arc<EgressMetrics>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) buffers: Buffers,
    pub(super) starting: Arc<Places>,
    pub(super) plain: Arc<Places>,
    pub(super) look_ups: Arc<Places>,
    pub(super) names: Arc<Places>,
    pub(super) name_streams: Arc<Places>,
    pub(super) cluster_domains: ClusterDomains,
    pub(super) tokens: Option<Tokens>,
    pub(super) connections: Arc<Connections>,
    pub(super) ports: Arc<Ports>,
    pub(super) waiting: Arc<Waiting>,
    open: Arc<Places>,
    speaking: Arc<Places>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Proxy")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Proxy {
    /// A proxy that takes no connections yet.
    pub fn new(
        limits: Limits,
        callers: Callers,
        resolver: Resolver,
        answers: Answers,
        metrics: Arc<EgressMetrics>,
        accounts: Arc<Accounts>,
    ) -> Self {
        Self {
            open: Places::new(limits.most_open()),
            speaking: Places::new(limits.most_speaking()),
            starting: Places::new(limits.most_starting()),
            plain: Places::new(limits.most_plain()),
            look_ups: Places::new(limits.most_look_ups()),
            names: Places::new(limits.most_names()),
            name_streams: Places::new(limits.most_name_streams()),
            cluster_domains: ClusterDomains::default(),
            tokens: None,
            connections: Arc::default(),
            ports: Ports::of_this_machine(),
            waiting: Waiting::new(limits.waiting),
            buffers: Buffers::default(),
            limits,
            callers,
            resolver,
            answers,
            metrics,
            accounts,
        }
    }

    /// The same, which passes names below these domains on to the resolvers that it asks itself.
    pub fn with_cluster_domains(self, cluster_domains: ClusterDomains) -> Self {
        Self {
            cluster_domains,
            ..self
        }
    }

    /// The same, which heeds tokens that pods show beside their address. Without it, none is looked at.
    pub fn with_tokens(self, tokens: Option<Tokens>) -> Self {
        Self { tokens, ..self }
    }

    /// The token that a request shows, where any is heeded.
    pub(super) fn shown(&self, headers: &HeaderMap) -> Result<Option<Token>, Refused> {
        self.tokens.as_ref().map_or(Ok(None), |_| Tokens::shown(headers))
    }

    /// Whose pod has the address, as far as that is known now.
    pub(super) fn known(&self, address: IpAddr) -> Option<Arc<Workflow>> {
        self.callers.now().caller(address).ok().cloned()
    }

    pub(super) fn count(&self, used: Option<&Used>, direction: Direction, bytes: u64) {
        match direction {
            Direction::Sent => {
                self.metrics.sent(bytes);
                used.inspect(|used| used.sent(bytes));
            }
            Direction::Received => {
                self.metrics.received(bytes);
                used.inspect(|used| used.received(bytes));
            }
        }
    }
}

/// Who is at the other end of a connection, and the place that it takes for as long as anything of it goes on.
pub(super) struct Caller {
    pub(super) proxy: Arc<Proxy>,
    pub(super) address: IpAddr,
    pub(super) tasks: TaskTracker,
    pub(super) end: CancellationToken,
    place: Place,
    /// Until it is a tunnel.
    speaking: Mutex<Option<Place>>,
}

impl Caller {
    /// That it is a pod of this workflow. `false`: so many connections of its namespace are open that it may have no more.
    pub(super) fn is_of(&self, workflow: &Arc<Workflow>) -> bool {
        let speaking = self.speaking.lock().unwrap_or_else(PoisonError::into_inner);
        self.place.is_of(workflow) && speaking.as_ref().is_none_or(|speaking| speaking.is_of(workflow))
    }

    /// That HTTP is not spoken on it any more.
    pub(super) fn speaks_no_more(&self) {
        drop(self.speaking.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.proxy.metrics.closed();
    }
}

/// Takes connections until `stop`, then asks callers to leave; ends what still goes on at `end`. `tasks` holds all that goes on.
pub async fn serve(
    proxy: Arc<Proxy>,
    listener: TcpListener,
    tasks: TaskTracker,
    stop: CancellationToken,
    end: CancellationToken,
) {
    while let Some((stream, address)) = next(&listener, &stop).await {
        let whose = proxy.known(address);
        let places = (
            proxy.open.take(address, whose.as_ref()),
            proxy.speaking.take(address, whose.as_ref()),
        );
        let (Some(place), Some(speaking)) = places else {
            proxy.metrics.decided(EgressVerdict::TooMany);
            debug!(%address, "as many connections are open as may be");
            turn_away(stream);
            continue;
        };
        proxy.metrics.opened();
        let caller = Arc::new(Caller {
            proxy: Arc::clone(&proxy),
            address,
            tasks: tasks.clone(),
            end: end.clone(),
            place,
            speaking: Mutex::new(Some(speaking)),
        });
        tasks.spawn(Box::pin(speak(caller, stream, stop.clone())));
    }
}

/// The next connection, and the address that it comes from; `None` once `stop` is said.
pub(super) async fn next(listener: &TcpListener, stop: &CancellationToken) -> Option<(TcpStream, IpAddr)> {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => return Some((stream, peer.ip().to_canonical())),
            Err(error) => {
                warn!(%error, "a connection could not be taken");
                sleep(REST).await;
            }
        }
    }
}

/// Without waiting for the client, who may never read it.
fn turn_away(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        drop(stream.write(NO_PLACE));
    }
}

/// HTTP on one connection, until it ends or becomes a tunnel.
async fn speak(caller: Arc<Caller>, stream: TcpStream, stop: CancellationToken) {
    if let Err(error) = settle(&stream).and_then(|()| narrow(&stream)) {
        debug!(%error, "a connection has ended before it began");
        return;
    }
    let (limits, end) = (caller.proxy.limits.clone(), caller.end.clone());
    let io = TokioIo::new(Patient::new(stream, limits.idle));
    let asked = CancellationToken::new();
    let overdue = overdue(asked.clone(), limits.head);
    let service = service_fn(move |request| {
        asked.cancel();
        let caller = Arc::clone(&caller);
        async move { Ok::<_, Infallible>(answer(&caller, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.next_head)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop.cancelled() => None,
        () = overdue => return,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = end.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection has ended early");
    }
}

/// Ends where nothing was asked in that time.
async fn overdue(asked: CancellationToken, within: Duration) {
    if timeout(within, asked.cancelled()).await.is_ok() {
        std::future::pending().await
    }
}

async fn answer(caller: &Arc<Caller>, request: Request<Incoming>) -> Response<Body> {
    let uri = request.uri();
    match *request.method() {
        Method::CONNECT => Box::pin(connect(caller, request)).await,
        _ if uri.scheme().is_some() => Box::pin(forward(caller, request)).await,
        _ => {
            let reason = "this is a proxy and serves nothing itself: set HTTPS_PROXY and HTTP_PROXY to it, and send it CONNECT host:port, or \
                 http:// URLs in full";
            caller.proxy.metrics.decided(EgressVerdict::BadRequest);
            Refused::new(StatusCode::BAD_REQUEST, EgressVerdict::BadRequest, reason).into_response()
        }
    }
}
