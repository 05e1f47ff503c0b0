//! Reads a body within its bounds, and keeps what came when it breaks off: the uid stands at its start.

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

/// What was read of a body, and how it ended.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    pub(super) end: End,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Broken,
    Complete,
    Late,
    TooLarge,
}

/// Reads at most `limit` bytes until the deadline.
pub(super) async fn receive(body: &mut Body, limit: usize, deadline: Instant) -> Received {
    let mut bytes = Vec::new();
    let end = loop {
        match timeout_at(deadline, body.frame()).await {
            Err(_) => break End::Late,
            Ok(None) => break End::Complete,
            Ok(Some(Err(_))) => break End::Broken,
            Ok(Some(Ok(frame))) => {
                let Some(data) = frame.data_ref() else { continue };
                let room = limit.saturating_sub(bytes.len());
                bytes.extend_from_slice(data.get(..room).unwrap_or(data));
                if data.len() > room {
                    break End::TooLarge;
                }
            }
        }
    };
    Received { bytes, end }
}

/// Reads on without keeping anything, so that a client still writing gets to read the answer.
pub(super) async fn discard(body: &mut Body, limit: usize, deadline: Instant) {
    let mut left = limit;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, |data| data.len())) else {
            return;
        };
        left = rest;
    }
}
