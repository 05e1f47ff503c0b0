//! One review from its first byte to its answer.
//!
//! Everything waits under one deadline, and nothing is read before the budget for all bodies covers it. What a request holds
//! (budget, slot) stays with its work until that ends, even after the answer went out: else stuck work would pile up.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant, timeout_at};
use tower_http::catch_panic::CatchPanicLayer;

use super::body::{End, Received, discard, receive};
use super::budget::{Budget, kib};
use super::connection::is_whole;
use super::faults::{crowded, full, internal, invalid, late, unavailable, unreadable};
use super::held::{Held, Room, holding};
use super::limits::{FACTS, SMALL_BODY, answer_within, default_answer_within};
use super::shares::{self, Full, Shares};
use super::{Admit, EntryAsked, Limits, Webhook};
use crate::decisions::{DecisionInput, Recorded, Seen};
use crate::review::{Decision, Fault, FaultCause, HEAD, Head, ParseError, Review, make_text, uid_of, weight_of};
use crate::telemetry::{Asked, DecisionLine, Metrics, resource_label};

/// Bodies above this are parsed and hashed off the threads that serve connections.
const PARSE_INLINE: usize = 128 << 10;
/// How long to look for the uid where there is no room for the body: the margin of a deadline is at least that for any timeout of 1 s or more.
const PREFIX_TIME: Duration = Duration::from_millis(100);

/// The routes of the admission server.
pub fn router(admit: Arc<dyn Admit>, limits: &Limits, metrics: Arc<Metrics>) -> Router {
    let app = App {
        admit,
        metrics,
        body: limits.body,
        arrival: limits.arrival,
        bodies: Budget::new(limits.bodies),
        small_bodies: Budget::new(limits.small_bodies),
        reviews: Budget::new(limits.reviews),
        heavy_reviews: Budget::new(limits.heavy),
        heavy_above: kib(limits.reviews_of_one),
        slots: Arc::new(Semaphore::new(limits.evaluations)),
        shares: Shares::new(limits),
    };
    Router::new()
        .route("/admit/{webhook}", post(handle))
        .route("/admit/policies/{entry}/{version}", post(handle_entry))
        .layer(CatchPanicLayer::new())
        .with_state(Arc::new(app))
}

struct App {
    admit: Arc<dyn Admit>,
    metrics: Arc<Metrics>,
    body: usize,
    arrival: Duration,
    bodies: Budget,
    small_bodies: Budget,
    reviews: Budget,
    heavy_reviews: Budget,
    /// In KiB.
    heavy_above: usize,
    slots: Arc<Semaphore>,
    shares: Shares,
}

/// What was found out about a request so far.
struct Answer {
    uid: Option<String>,
    head: Head,
    review: Option<Arc<Review>>,
    sha256: String,
    decision: Decision,
    input: Option<Recorded>,
}

/// Until when a request waits.
#[derive(Clone, Copy)]
struct Time {
    /// For room among others.
    room: Instant,
    /// For its answer.
    answer: Instant,
}

/// What a request's work holds until it ends.
struct Permits {
    _body: OwnedSemaphorePermit,
    _review: OwnedSemaphorePermit,
    _slot: OwnedSemaphorePermit,
    _share: (shares::Body, shares::Place, OwnedSemaphorePermit),
}

async fn handle(
    State(app): State<Arc<App>>,
    Path(segment): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    handle_webhook(&app, Webhook::parse(&segment), query, request).await
}

async fn handle_entry(
    State(app): State<Arc<App>>,
    Path((entry, version)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let webhook = EntryAsked::parse(&entry, &version).map(Webhook::Policies);
    handle_webhook(&app, webhook, query, request).await
}

async fn handle_webhook(app: &App, webhook: Option<Webhook>, query: Option<String>, request: Request) -> Response {
    let started = Instant::now();
    let Some(webhook) = webhook else {
        return (
            StatusCode::NOT_FOUND,
            "no such webhook: check the path in the registration\n",
        )
            .into_response();
    };
    let within = answer_within(query.as_deref());
    let within_or_default = within.unwrap_or_else(default_answer_within);
    let time = Time {
        // Who waits that long for room chose how much there is to wait for, and would pass a policy that has no time left.
        room: started
            + if webhook.fails_open() {
                within_or_default / 2
            } else {
                within_or_default
            },
        answer: started + within_or_default,
    };
    let mut answer = answer(app, webhook, request, time).await;
    if within.is_none() && answer.decision.fault.is_none() {
        let fault = Fault::new(
            FaultCause::Invalid,
            "the timeout parameter is no duration",
            "write it like timeout=5s",
        );
        answer.decision = Decision::from_fault(fault);
    }
    // How large and how deep an object is, its sender chose, and how much else comes from the same place: whoever could pass by that would.
    let is_chosen = |fault: &Fault| {
        matches!(
            fault.cause,
            FaultCause::Crowded | FaultCause::TooLarge | FaultCause::Unreadable
        )
    };
    let evades = answer.decision.fault.as_ref().is_some_and(is_chosen) && app.admit.denies(webhook);
    answer.decision.fails_open = webhook.fails_open() && !evades;
    respond(app, webhook, &answer, started.elapsed())
}

async fn answer(app: &App, webhook: Webhook, request: Request, time: Time) -> Answer {
    let deadline = time.answer;
    let (parts, mut body) = request.into_parts();
    let length = content_length(&parts.headers).map_or(app.body, |length| length.min(app.body));
    let is_small = length <= SMALL_BODY;
    let bodies = if is_small { &app.small_bodies } else { &app.bodies };
    let Some(body_budget) = bodies.take(kib(length), time.room).await else {
        let prefix = receive(&mut body, HEAD, Instant::now() + PREFIX_TIME).await;
        let busy = full("reviews in flight hold all the memory that reviews may");
        return Answer::fault(uid_of(&prefix.bytes), Head::of(&prefix.bytes), busy);
    };

    let arrived_by = deadline.min(Instant::now() + app.arrival);
    let Received { bytes, end } = receive(&mut body, app.body, arrived_by).await;
    // How long it was on its way says nothing of how much room there is.
    let received = Instant::now();
    let room = time
        .room
        .max(received + deadline.saturating_duration_since(received) / 2);
    let (uid, head) = (uid_of(&bytes), Head::of(&bytes));
    if end == End::TooLarge {
        discard(&mut body, app.body, deadline).await;
    }
    drop(body);
    if end == End::Complete {
        is_whole(&parts.extensions);
    }
    if let Some(fault) = unreadable(&bytes, end, &parts.headers, uid.is_some()) {
        return Answer::fault(uid, head, fault);
    }

    let share = match webhook {
        Webhook::Modes => app.shares.of_modes(&head.namespace, &head.user),
        _ => app.shares.of(&head.namespace, &head.user),
    };
    // Held here and not with the work: it is for the connection, which goes with the answer.
    let _in_flight = match share.in_flight() {
        Ok(place) => place,
        Err(full) => {
            let whose = match full {
                Full::User => "as many of your reviews of this namespace are in flight as may be of one user at a time",
                Full::Namespace => "as many reviews of this namespace are in flight as may be at a time",
            };
            return Answer::fault(uid, head, crowded(whose));
        }
    };
    // Not waited for: what waits holds room that others need.
    let of_body = match app.shares.body(&share, bytes.len()) {
        Ok(of_body) => of_body,
        Err(full) => {
            let whose = match full {
                Full::User => "your reviews of this namespace in flight hold all the memory that those of one user may",
                Full::Namespace => "the reviews of this namespace in flight hold all the memory that those of one may",
            };
            return Answer::fault(uid, head, crowded(whose));
        }
    };
    let Ok(Some(of_evaluations)) = timeout_at(room, share.evaluation()).await else {
        return Answer::fault(
            uid,
            head,
            crowded("as many reviews of this namespace, or of yours in it, are evaluated as may be at a time"),
        );
    };
    let weight = kib(webhook.copies() * weight_of(&bytes) + FACTS);
    let of_review = app.shares.weight_parsed(weight);
    let reviews = Arc::clone(&share.all.reviews).acquire_many_owned(of_review);
    let Ok(Ok(of_reviews)) = timeout_at(room, reviews).await else {
        return Answer::fault(
            uid,
            head,
            crowded("the reviews of this namespace that are being judged hold all the memory that those of one may"),
        );
    };
    let Ok(Ok(slot)) = timeout_at(room, Arc::clone(&app.slots).acquire_owned()).await else {
        return Answer::fault(uid, head, full("as many reviews are evaluated as may be at a time"));
    };
    let is_heavy = weight > app.heavy_above;
    let reviews = if is_heavy { &app.heavy_reviews } else { &app.reviews };
    let Some(review_budget) = reviews.take(weight, room).await else {
        return Answer::fault(
            uid,
            head,
            full("reviews that are being judged hold all the memory that they may"),
        );
    };
    if room <= Instant::now() {
        return Answer::fault(
            uid,
            head,
            full("half of the time for the answer went by until there was room"),
        );
    }
    let held = Permits {
        _body: body_budget,
        _review: review_budget,
        _slot: slot,
        _share: (of_body, of_evaluations, of_reviews),
    };
    let (parsed, sha256, held) = match parse(bytes, held, deadline).await {
        Ok(parsed) => parsed,
        Err(fault) => return Answer::fault(uid, head, fault),
    };
    match parsed {
        Err(error) => Answer {
            sha256,
            ..Answer::fault(error.uid.or(uid), head, invalid(&error.problem))
        },
        Ok(review) => {
            let review = Arc::new(review);
            let room = Room::new(kib(FACTS), Arc::clone(&share.all.reviews), app.reviews.room());
            let held = Held::new(held, room, time.room);
            let mut decision = decide(app, webhook, Arc::clone(&review), held, time.answer).await;
            let input = record(app, &review, decision.seen.take(), deadline).await;
            Answer {
                uid: Some(review.uid.clone()),
                head,
                review: Some(review),
                sha256,
                decision,
                input,
            }
        }
    }
}

type Parsed = (Result<Review, ParseError>, String, Permits);

async fn parse(mut bytes: Vec<u8>, held: Permits, deadline: Instant) -> Result<Parsed, Fault> {
    let large = bytes.len() > PARSE_INLINE;
    let parse = move || {
        let sha256 = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        make_text(&mut bytes);
        (Review::parse(&bytes), sha256, held)
    };
    if !large {
        return Ok(parse());
    }
    match timeout_at(deadline, tokio::task::spawn_blocking(parse)).await {
        Ok(Ok(parsed)) => Ok(parsed),
        Ok(Err(_)) => Err(internal()),
        Err(_) => Err(late()),
    }
}

/// Decides on a thread that may block: a policy that does not yield must not hold up those that serve connections and tell
/// the time, and a panic ends nothing but itself. What does yield ends at the deadline.
async fn decide(app: &App, webhook: Webhook, review: Arc<Review>, held: Held, deadline: Instant) -> Decision {
    let admit = Arc::clone(&app.admit);
    let runtime = Handle::current();
    let task = tokio::task::spawn_blocking(move || {
        let work = timeout_at(deadline, admit.admit(webhook, &review, deadline));
        runtime.block_on(holding(held, work))
    });
    let fault = match timeout_at(deadline, task).await {
        Ok(Ok(Ok(decision))) => return decision,
        Ok(Err(error)) if error.is_panic() => internal(),
        Ok(Err(_)) => unavailable("this replica is going down"),
        Ok(Ok(Err(_))) | Err(_) => late(),
    };
    Decision::from_fault(fault)
}

/// Masks what was decided about, for the line; nothing where it is not asked for, or takes longer than there is time. A review
/// can be large, so not on a thread that serves connections.
async fn record(app: &App, review: &Arc<Review>, seen: Option<Seen>, deadline: Instant) -> Option<Recorded> {
    if app.admit.records() == DecisionInput::None {
        return None;
    }
    let review = Arc::clone(review);
    let masked = tokio::task::spawn_blocking(move || Recorded::of(&review, seen.as_ref()));
    timeout_at(deadline, masked).await.ok()?.ok()
}

fn respond(app: &App, webhook: Webhook, answer: &Answer, duration: Duration) -> Response {
    let Answer {
        uid,
        head,
        review,
        sha256,
        decision,
        input,
    } = answer;
    let review = review.as_deref();
    if !review.is_some_and(|review| review.dry_run) {
        let resource = review.map_or("other", |review| resource_label(&review.resource, &review.subresource));
        let operation = review.map(|review| review.operation);
        app.metrics
            .admitted(webhook.as_str(), operation, resource, decision.outcome(), duration);
        for excuse in decision.used() {
            app.metrics.exception_used(&excuse.policy);
        }
    }
    let Some(uid) = uid else {
        // Anybody who reaches the port can cause this: a line each would let them fill the log.
        tracing::debug!(webhook = webhook.as_str(), "a request without a readable uid");
        return anonymous(decision);
    };
    let revision = decision.revision.clone().unwrap_or_else(|| app.admit.revision());
    let webhook = webhook.as_str();
    DecisionLine {
        webhook,
        uid,
        asked: review.map_or(Asked::Head(head), Asked::Review),
        decision,
        revision: &revision,
        sha256,
        duration,
        input: input.as_ref(),
    }
    .log();
    let kind = review.map_or("", |review| &review.kind.kind);
    (
        [(CONTENT_TYPE, "application/json")],
        Bytes::from(decision.render(uid, kind)),
    )
        .into_response()
}

/// Without a uid there is no AdmissionReview to send: whatever the API server gets, its `failurePolicy` decides.
fn anonymous(decision: &Decision) -> Response {
    let Some(fault) = &decision.fault else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let status = match fault.cause {
        FaultCause::Invalid | FaultCause::MediaType | FaultCause::TooLarge | FaultCause::Unreadable => {
            StatusCode::BAD_REQUEST
        }
        FaultCause::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        FaultCause::Timeout => StatusCode::GATEWAY_TIMEOUT,
        FaultCause::Crowded | FaultCause::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Body::from(format!("{}: {}\n", fault.message, fault.fix))).into_response()
}

impl Answer {
    fn fault(uid: Option<String>, head: Head, fault: Fault) -> Self {
        Self {
            uid,
            head,
            review: None,
            sha256: String::new(),
            decision: Decision::from_fault(fault),
            input: None,
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
