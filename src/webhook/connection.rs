//! A bound on connections, and on how long one may be silent.
//!
//! Header time-outs begin with the first byte of a request, and the choice between HTTP/1 and HTTP/2 has none: a peer that
//! opens connections and says nothing would hold them for ever.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant, Sleep, sleep};

/// Accepts as many connections as the limit says, and closes those beyond it at once.
#[derive(Clone, Debug)]
pub(super) struct Bounded {
    connections: Arc<Semaphore>,
    idle: Duration,
}

impl Bounded {
    pub(super) fn new(connections: usize, idle: Duration) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(connections)),
            idle,
        }
    }
}

impl<S> Accept<TcpStream, S> for Bounded {
    type Stream = Guarded;
    type Service = S;
    type Future = std::future::Ready<io::Result<(Guarded, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let accepted = match Arc::clone(&self.connections).try_acquire_owned() {
            Err(_) => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "too many connections")),
            Ok(permit) => stream.set_nodelay(true).map(|()| {
                let silence = Box::pin(sleep(self.idle));
                (
                    Guarded {
                        stream,
                        silence,
                        idle: self.idle,
                        _permit: permit,
                    },
                    service,
                )
            }),
        };
        std::future::ready(accepted)
    }
}

/// A connection that ends when nothing was read for a while.
#[derive(Debug)]
pub(super) struct Guarded {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    idle: Duration,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
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
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
