//! A bound on connections, on how long one may be silent, and on who has to go when there are too many.
//!
//! A head may be as long in coming as a connection may be silent, and a handshake has its time, too: whoever opens connections, and says
//! nothing or half a word on each, would hold them all. It stands in front of TLS, so nothing is known of a peer but its address.
//! Must never: keep somebody new out for one that has asked nothing, let one address crowd out another, or end one whose peer waits for
//! an answer.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use axum::body::HttpBody;
use axum::extract::ConnectInfo;
use axum::http::{Extensions, Request};
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant, Sleep, sleep, timeout};
use tower::Service;

/// How long a new connection waits until one that was told to end has ended.
const ENDS: Duration = Duration::from_secs(1);

/// Holds as many connections as the limit says. One more takes the place of another that waits for no answer: of the address that has most
/// of those, so that nobody loses one to somebody who has more, and there the one that has asked nothing for longest. What was ever asked
/// something, and what never was, count apart: where all come by one address, a flood of the one kind does not reach the other.
#[derive(Clone, Debug)]
pub(super) struct Bounded {
    open: Arc<Open>,
    idle: Duration,
}

#[derive(Debug)]
struct Open {
    most: usize,
    room: Arc<Semaphore>,
    since: Instant,
    all: Mutex<Vec<Weak<Heard>>>,
}

/// What a peer has asked on its connection, and whether that is to end.
#[derive(Debug)]
pub(super) struct Heard {
    address: IpAddr,
    /// When it was opened, or last answered a whole request, in microseconds since the server began. Bytes do not count: whoever sends one
    /// after the other would stay for ever.
    since: AtomicU64,
    /// Whether it ever had a whole request, body and all.
    asked: AtomicBool,
    /// Whether it has one that is not answered yet.
    waits: AtomicBool,
    ended: AtomicBool,
    waker: AtomicWaker,
}

/// How a request tells its connection that the whole of it is there. Without it a peer that says that a body will come holds its place no
/// longer than one that says nothing.
#[derive(Clone, Debug)]
struct Asker(Arc<Heard>);

/// Says that a whole request is there: its connection keeps its place until the answer is written.
pub(super) fn is_whole(of: &Extensions) {
    if let Some(Asker(heard)) = of.get() {
        heard.asked.store(true, Ordering::Release);
        heard.waits.store(true, Ordering::Release);
    }
}

impl Bounded {
    pub(super) fn new(connections: usize, idle: Duration) -> Self {
        Self {
            open: Arc::new(Open {
                most: connections,
                room: Arc::new(Semaphore::new(connections)),
                since: Instant::now(),
                all: Mutex::default(),
            }),
            idle,
        }
    }

    /// Gives a new connection its place, and each of its requests to `service` with what it came by. An error where there is no place.
    pub(super) async fn admit<S>(&self, stream: TcpStream, service: S) -> io::Result<(Guarded, Asking<S>)> {
        let (open, idle) = (Arc::clone(&self.open), self.idle);
        let peer = stream.peer_addr()?;
        let permit = open.room().await?;
        stream.set_nodelay(true)?;
        let heard = open.add(peer.ip());
        let asker = Asker(Arc::clone(&heard));
        let guarded = Guarded {
            stream,
            silence: Box::pin(sleep(idle)),
            idle,
            heard,
            open,
            _permit: permit,
        };
        Ok((guarded, Asking { service, asker, peer }))
    }
}

impl Open {
    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    async fn room(&self) -> io::Result<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
            return Ok(permit);
        }
        let full = || io::Error::new(io::ErrorKind::ConnectionRefused, "too many connections");
        if !self.end_one() {
            return Err(full());
        }
        match timeout(ENDS, Arc::clone(&self.room).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(full()),
        }
    }

    /// Whether there was one that had not been told before: no more wait for room than are about to make some.
    fn end_one(&self) -> bool {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut alike: BTreeMap<(IpAddr, bool), (usize, Arc<Heard>)> = BTreeMap::new();
        for heard in all.iter().filter_map(Weak::upgrade) {
            if heard.ended.load(Ordering::Acquire) || heard.waits.load(Ordering::Acquire) {
                continue;
            }
            let of = (heard.address, heard.asked.load(Ordering::Acquire));
            let (count, oldest) = alike.entry(of).or_insert_with(|| (0, Arc::clone(&heard)));
            *count += 1;
            if heard.since() < oldest.since() {
                *oldest = heard;
            }
        }
        // Among equals, one that never asked anything, and the oldest.
        let rank = |((_, asked), (count, oldest)): &(&(IpAddr, bool), &(usize, Arc<Heard>))| {
            (*count, !*asked, std::cmp::Reverse(oldest.since()))
        };
        let Some((_, (_, heard))) = alike.iter().max_by_key(rank) else {
            return false;
        };
        heard.ended.store(true, Ordering::Release);
        heard.waker.wake();
        true
    }

    fn add(&self, address: IpAddr) -> Arc<Heard> {
        let heard = Arc::new(Heard {
            address: address.to_canonical(),
            since: AtomicU64::new(self.now()),
            asked: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= 2 * self.most {
            all.retain(|heard| heard.strong_count() > 0);
        }
        all.push(Arc::downgrade(&heard));
        heard
    }
}

impl Heard {
    fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }
}

/// A service whose requests know their connection, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Asking<S> {
    service: S,
    asker: Asker,
    peer: SocketAddr,
}

impl<S: Service<Request<B>>, B: HttpBody> Service<Request<B>> for Asking<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(self.asker.clone());
        request.extensions_mut().insert(ConnectInfo(self.peer));
        if request.body().is_end_stream() {
            is_whole(request.extensions());
        }
        self.service.call(request)
    }
}

/// A connection that ends when nothing was read for a while.
#[derive(Debug)]
pub(super) struct Guarded {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    idle: Duration,
    heard: Arc<Heard>,
    open: Arc<Open>,
    _permit: OwnedSemaphorePermit,
}

impl Guarded {
    /// Whether somebody new takes its place; from now on, whoever says so wakes this task.
    fn is_open(&self, cx: &Context<'_>) -> io::Result<()> {
        self.heard.waker.register(cx.waker());
        if self.heard.ended.load(Ordering::Acquire) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// The answer, if there was something to answer.
    fn answers(&self) {
        if self.heard.waits.swap(false, Ordering::AcqRel) {
            self.heard.since.store(self.open.now(), Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.is_open(cx)?;
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            this.silence.as_mut().reset(Instant::now() + this.idle);
            return Poll::Ready(read);
        }
        this.silence
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.is_open(cx)?;
        self.answers();
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What nobody reads, because its body waits for room, is flushed all the same.
        self.is_open(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_open(cx)?;
        self.answers();
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
