//! One answer of the API server, within bounds.
//!
//! Objects and lists come from whoever may write them. Must never: hold more of an answer than is allowed, or several large ones at
//! the same time; take what is too large, or no JSON, for an answer.

use axum::http::{Request, Response, StatusCode};
use futures::TryFutureExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Duration, sleep, timeout_at};

use super::held::patience;
use crate::fence::kinds::MAX_WEIGHT;
use crate::review::{Keep, is_its_writers, parse_kept, weight_of};

/// Most bytes of one answer. An object of the API server has at most 1.5 MiB in its store, in protobuf, each byte of which may be written as
/// seven (a peer of a NetworkPolicy that selects everything takes 6 there and 42 here), and a little around it.
pub(super) const MAX_BYTES: usize = 12 << 20;
/// Most that the parsed answer about one object may weigh.
pub(super) const MAX_OBJECT: usize = 8 << 20;
/// With what Ringfence writes into its status: every declaration that is taken can be read.
const _: () = assert!(MAX_OBJECT - MAX_WEIGHT >= 2 << 20);
/// What an answer may hold, and weigh, that is read without waiting for others: most are smaller.
const SMALL: usize = 128 << 10;
const SMALL_WEIGHT: usize = 1 << 20;
/// Larger answers that are read at a time in this process. The others wait, within their deadline.
pub(super) const LARGE_AT_ONCE: usize = 2;
/// Questions that are asked of the API server at a time in this process, until it begins to answer. The others wait, within their deadline: its
/// queue is for all replicas, and whoever is turned away there is a review that is refused.
const ASKED_AT_ONCE: usize = 150;
/// How long one waits that was turned away, and asks once more. The API server asks for seconds, which no review has.
const REST: Duration = Duration::from_millis(100);
/// Longest text of the API server that an error repeats.
pub(super) const MAX_REASON: usize = 200;

/// What is kept of an answer that is no.
const REFUSAL: Keep = Keep::Only(&[
    ("message", Keep::Whole),
    ("metadata", Keep::Only(&[("continue", Keep::Whole)])),
]);

static LARGE: Semaphore = Semaphore::const_new(LARGE_AT_ONCE);
static ASKED: Semaphore = Semaphore::const_new(ASKED_AT_ONCE);

/// What came, with its status.
pub(super) enum Answer {
    /// What was kept of it, and how large it was.
    Json(StatusCode, Value, Size),
    /// Larger, heavier or deeper than may be.
    TooLarge,
    /// Large, and others were read as long as the review around could wait.
    Crowded,
    /// Others were asked for as long as the review around could wait. Somebody may have sent those: it is no failure of the API server's.
    Busy,
}

/// How large an answer was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// As it came.
    pub(super) bytes: usize,
    /// What was kept of it.
    pub(super) weight: usize,
}

/// Sends a request, and keeps so much of the answer. Says why where there is none; never with a piece of it.
pub(super) async fn fetch(
    client: &Client,
    request: Request<Vec<u8>>,
    keep: Keep,
    most: usize,
) -> Result<Answer, String> {
    let Some(response) = ask(client, request).await? else {
        return Ok(Answer::Busy);
    };
    let status = response.status();
    let mut body = Limited::new(response.into_body(), MAX_BYTES);
    let (mut bytes, mut room) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                let Some(data) = frame.data_ref() else { continue };
                if room.is_none() && bytes.len() + data.len() > SMALL {
                    room = turn(&LARGE).await;
                    if room.is_none() {
                        return Ok(Answer::Crowded);
                    }
                }
                bytes.extend_from_slice(data);
            }
            Err(error) if error.is::<LengthLimitError>() => return Ok(Answer::TooLarge),
            Err(_) => return Err("the answer broke off".to_owned()),
        }
    }
    if room.is_none() && weight_of(&bytes) > SMALL_WEIGHT {
        room = turn(&LARGE).await;
        if room.is_none() {
            return Ok(Answer::Crowded);
        }
    }
    let keep = if status.is_success() { keep } else { REFUSAL };
    let parsed = parse_kept(&bytes, most, keep);
    drop(room);
    match parsed {
        Ok((value, weight)) => {
            let bytes = bytes.len();
            Ok(Answer::Json(status, value, Size { bytes, weight }))
        }
        Err(error) if status.is_success() && is_its_writers(&error) => Ok(Answer::TooLarge),
        Err(_) => Err(format!("the answer is no JSON that can be read ({status})")),
    }
}

/// What the API server answers, or `None` where it, or this process, is asked as much as may be at a time.
async fn ask(client: &Client, request: Request<Vec<u8>>) -> Result<Option<Response<Body>>, String> {
    for again in [Some(REST), None] {
        let Some(turn) = turn(&ASKED).await else { break };
        // The text of a transport error may hold anything.
        let sent = client.send(request.clone().map(Into::into));
        let response = sent.map_err(|_| "it did not answer".to_owned()).await?;
        if response.status() != StatusCode::TOO_MANY_REQUESTS {
            return Ok(Some(response));
        }
        if let Some(rest) = again {
            drop(turn);
            sleep(rest).await;
        }
    }
    Ok(None)
}

/// A turn, within the patience of the review around.
async fn turn(of: &'static Semaphore) -> Option<SemaphorePermit<'static>> {
    let turn = of.acquire();
    match patience() {
        Some(until) => timeout_at(until, turn).await.ok()?.ok(),
        None => turn.await.ok(),
    }
}

/// What the API server says of a failure.
pub(super) fn refusal(status: StatusCode, answer: &Value) -> String {
    let said = answer.get("message").and_then(Value::as_str);
    let said = said.unwrap_or("no reason given");
    short(&format!("{said} ({})", status.as_u16()))
}

pub(super) fn short(text: &str) -> String {
    text.chars().take(MAX_REASON).collect()
}
