//! What the proxy itself answers: one line that says what is wrong and what to do.
//!
//! Must never: repeat what a client sent, but for a host that was read as one.

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, PROXY_AUTHENTICATE, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::exchange::Counted;
use crate::telemetry::EgressVerdict;

/// What is answered: a line of our own, or what a host answers.
pub(super) type Body = Either<Full<Bytes>, Counted<Incoming>>;

/// Why a request is not carried out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) verdict: EgressVerdict,
    /// A sentence without its dot.
    pub(super) reason: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, verdict: EgressVerdict, reason: impl ToString) -> Self {
        Self {
            status,
            verdict,
            reason: reason.to_string(),
        }
    }

    pub(super) fn bad_request(reason: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, EgressVerdict::BadRequest, reason)
    }

    pub(super) fn too_many(reason: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, EgressVerdict::TooMany, reason)
    }

    /// Libraries mostly show the first line of an answer to CONNECT, and nothing else of it: the verdict is in it.
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Either::Left(Full::from(format!("ringfence: {}.\n", self.reason))));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if self.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            // Some clients send what they have once they are asked for it, and this is the one scheme that all know.
            headers.insert(
                PROXY_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"ringfence\""),
            );
        }
        if self.verdict == EgressVerdict::TooMany {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        let words = self.status.canonical_reason().unwrap_or("Refused");
        if let Ok(phrase) = ReasonPhrase::try_from(format!("{words} (ringfence: {})", self.verdict.as_str())) {
            response.extensions_mut().insert(phrase);
        }
        response
    }
}

/// That a tunnel is open.
pub(super) fn opened() -> Response<Body> {
    Response::new(Either::Left(Full::default()))
}

/// To a connection that there is no place for, before anything is read from it.
pub(super) const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable (ringfence: too-many)\r\nConnection: close\r\nRetry-After: 1\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 113\r\n\r\n\
    ringfence: as many connections are open as may be, of this pod, of its namespace or in all: close some of yours.\n";

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn what_is_written_raw_is_as_long_as_it_says() {
        let text = std::str::from_utf8(NO_PLACE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{}",
            body.len()
        );
    }

    #[tokio::test]
    async fn a_refusal_says_its_reason_in_one_line() {
        let refused = Refused::bad_request("name a host");
        let response = refused.into_response();
        let phrase = response.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(phrase.as_bytes(), b"Bad Request (ringfence: bad-request)");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "ringfence: name a host.\n");
    }
}
