//! A request of plain HTTP and its answer, for as long as either is on its way.
//!
//! A host may answer before it has read the request, and go on reading: an exchange is over when both directions are. Must never: end what
//! watches, bounds or tells of it while a byte of it may still pass.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};

use super::line::Line;
use super::places::Place;
use super::relay::{Direction, Flow};
use super::serve::Caller;
use crate::egress::Used;

/// What is told, watched and counted of it; over when nobody holds it any more. The connection to the host does, and what passes by it.
pub(super) struct Exchange {
    /// Whose place among all that is open it keeps, too.
    caller: Arc<Caller>,
    flow: Arc<Flow>,
    used: Option<Arc<Used>>,
    line: Mutex<Line>,
    _place: Place,
}

impl Exchange {
    pub(super) fn new(caller: &Arc<Caller>, line: Line, place: Place) -> Arc<Self> {
        Arc::new(Self {
            caller: Arc::clone(caller),
            flow: Arc::clone(&line.flow),
            used: line.used.clone(),
            line: Mutex::new(line),
            _place: place,
        })
    }

    pub(super) fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, direction: Direction, bytes: u64) {
        self.flow.add(direction, bytes);
        self.caller.proxy.count(self.used.as_deref(), direction, bytes);
    }
}

/// A body that is counted while it passes.
pub(super) struct Counted<B> {
    body: B,
    direction: Direction,
    of: Arc<Exchange>,
}

impl<B> Counted<B> {
    pub(super) fn new(body: B, direction: Direction, of: &Arc<Exchange>) -> Self {
        Self {
            body,
            direction,
            of: Arc::clone(of),
        }
    }
}

impl<B: HttpBody<Data = Bytes, Error = hyper::Error> + Unpin> HttpBody for Counted<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        frame.map(|frame| {
            let frame = frame?.map_err(io::Error::other);
            if let Ok(Some(data)) = frame.as_ref().map(Frame::data_ref) {
                self.of.count(self.direction, data.len() as u64);
            }
            Some(frame)
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
