//! Why a review is not judged, in words for who sent it: each says what to do next.
//!
//! Must never: tell anything of a review but its size and its form.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;

use super::body::End;
use crate::review::{Fault, FaultCause, Problem};

/// Why a body is no review, seen from outside it.
pub(super) fn unreadable(bytes: &[u8], end: End, headers: &HeaderMap, has_uid: bool) -> Option<Fault> {
    let (cause, message, fix) = match end {
        End::TooLarge => (
            FaultCause::TooLarge,
            "the review is larger than 32 MiB",
            "make the object smaller: move large data out of it, into a volume or an image",
        ),
        End::Late => (
            FaultCause::Timeout,
            "the review did not arrive in time",
            "try again; check the network to the webhook",
        ),
        End::Broken => (
            FaultCause::Invalid,
            "the review broke off",
            "try again; check the network to the webhook",
        ),
        End::Complete if bytes.is_empty() => (FaultCause::Invalid, "the body is empty", "send an AdmissionReview"),
        End::Complete if !has_uid => (
            FaultCause::Invalid,
            "no request.uid can be read",
            "send an AdmissionReview of admission.k8s.io/v1",
        ),
        End::Complete if !is_json(headers) => (
            FaultCause::MediaType,
            "the content type is not application/json",
            "send the AdmissionReview as JSON",
        ),
        End::Complete => return None,
    };
    Some(Fault::new(cause, message, fix))
}

pub(super) fn late() -> Fault {
    let fix = "try again; if it persists, look at ringfence_policy_evaluation_duration_seconds for a slow policy";
    Fault::new(FaultCause::Timeout, "the decision was not made in time", fix)
}

pub(super) fn internal() -> Fault {
    let fix = "report it with the log of the replica; the request is not at fault";
    Fault::new(FaultCause::Internal, "Ringfence failed while it decided", fix)
}

pub(super) fn unavailable(message: &str) -> Fault {
    Fault::new(
        FaultCause::Unavailable,
        message,
        "try again; if it persists, run more replicas",
    )
}

/// Whoever sends much chose that there is no room: what is asked then must not let pass either. `message` says of what there is too much.
pub(super) fn full(message: &str) -> Fault {
    Fault::new(
        FaultCause::Crowded,
        message,
        "try again; if it persists, run more replicas",
    )
}

/// It is not the replica's load: more replicas would take the same again. `message` says of what there is too much.
pub(super) fn crowded(message: &str) -> Fault {
    Fault::new(
        FaultCause::Crowded,
        message,
        "send fewer requests to this namespace at a time, and this one again",
    )
}

pub(super) fn invalid(problem: &Problem) -> Fault {
    let (cause, fix) = match problem {
        Problem::Field(_) => (
            FaultCause::Invalid,
            "send an AdmissionReview of admission.k8s.io/v1, as the registration says",
        ),
        Problem::Depth => (FaultCause::TooLarge, "make the object simpler"),
        Problem::Json(_) => (
            FaultCause::Invalid,
            "try again; check what stands between the API server and the webhook",
        ),
        Problem::Text(_) => (
            FaultCause::Unreadable,
            "write the object as RFC 8259 has JSON: no half of a surrogate pair, and numbers that fit into 64 bits",
        ),
        Problem::Weight => (
            FaultCause::TooLarge,
            "make the object smaller: it holds millions of fields",
        ),
    };
    Fault::new(cause, problem.to_string(), fix)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .eq_ignore_ascii_case("application/json")
}
