//! A bound on connections, and on how long one may be silent.
//!
//! Header time-outs begin with the first byte of a request, and the choice between HTTP/1 and HTTP/2 has none: a peer that
//! opens connections and says nothing would hold them for ever. Must never: keep somebody new out for one that says nothing, or end one
//! whose peer waits for an answer.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use axum_server::accept::Accept;
use futures::future::{BoxFuture, FutureExt};
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant, Sleep, sleep, timeout};

/// How long a new connection waits until one that was told to end has ended.
const ENDS: Duration = Duration::from_secs(1);

/// Holds as many connections as the limit says. One more takes the place of the one that has said nothing for longest, among those that
/// wait for no answer.
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

/// When a peer last said something, and whether its connection is to end.
#[derive(Debug)]
struct Heard {
    /// Microseconds since the server began.
    last: AtomicU64,
    /// Whether it was the peer who spoke last: then it waits for an answer, or is about to ask.
    waits: AtomicBool,
    ended: AtomicBool,
    waker: AtomicWaker,
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
        if !self.end_the_most_silent() {
            return Err(full());
        }
        match timeout(ENDS, Arc::clone(&self.room).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(full()),
        }
    }

    /// Whether there was one that had not been told before: no more wait for room than are about to make some.
    fn end_the_most_silent(&self) -> bool {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let open = all.iter().filter_map(Weak::upgrade);
        let open = open.filter(|heard| !heard.ended.load(Ordering::Acquire) && !heard.waits.load(Ordering::Acquire));
        let Some(heard) = open.min_by_key(|heard| heard.last.load(Ordering::Relaxed)) else {
            return false;
        };
        heard.ended.store(true, Ordering::Release);
        heard.waker.wake();
        true
    }

    fn add(&self) -> Arc<Heard> {
        let heard = Arc::new(Heard {
            last: AtomicU64::new(self.now()),
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

impl<S: Send + 'static> Accept<TcpStream, S> for Bounded {
    type Stream = Guarded;
    type Service = S;
    type Future = BoxFuture<'static, io::Result<(Guarded, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let (open, idle) = (Arc::clone(&self.open), self.idle);
        async move {
            let permit = open.room().await?;
            stream.set_nodelay(true)?;
            let guarded = Guarded {
                stream,
                silence: Box::pin(sleep(idle)),
                idle,
                heard: open.add(),
                open,
                _permit: permit,
            };
            Ok((guarded, service))
        }
        .boxed()
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
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.is_open(cx)?;
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            if buf.filled().len() > before {
                this.heard.waits.store(true, Ordering::Release);
            }
            this.silence.as_mut().reset(Instant::now() + this.idle);
            this.heard.last.store(this.open.now(), Ordering::Relaxed);
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
        self.heard.waits.store(false, Ordering::Release);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        self.heard.waits.store(false, Ordering::Release);
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
