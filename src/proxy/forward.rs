//! Plain HTTP: one request at a time, each decided by itself.
//!
//! What goes on is written anew from what was read, so that nothing stands between the two that they read differently. Must never: hold a
//! body, or pass on what is between two hops alone.

use std::borrow::Cow;
use std::sync::Arc;

use http_body_util::Either;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::answer::{Body, Refused};
use super::dial::narrow;
use super::exchange::{Counted, Exchange};
use super::line::Line;
use super::open::{Opened, carry, open};
use super::patient::Patient;
use super::places::Place;
use super::relay::Direction;
use super::serve::Caller;
use crate::egress::{Target, Token};
use crate::telemetry::EgressVerdict;

/// What is read of a host's answer before somebody wants it; its head is no longer than that.
const BUFFER: usize = 16 << 10;
/// Port of plain HTTP, which a Host header leaves out.
const HTTP: u16 = 80;
const OURS: HeaderValue = HeaderValue::from_static("1.1 ringfence");

/// Headers between two hops (RFC 9110, 7.6.1), beside those that Connection names.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
];
/// The same where no standard ever named them.
const HOP_BY_HOP_OF_OLD: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];

/// Passes a request of plain HTTP on, and its answer back.
pub(super) async fn forward(caller: &Arc<Caller>, request: Request<Incoming>) -> Response<Body> {
    let mut line = Line::new(&caller.proxy.metrics, caller.address, "http");
    let asked = target(&request).and_then(|target| Ok((target, caller.proxy.shown(request.headers())?)));
    let made = match asked {
        Ok((target, shown)) => Box::pin(made(caller, &target, shown.as_ref(), &mut line))
            .await
            .map(|(opened, place)| (target, opened, place)),
        Err(refused) => Err(refused),
    };
    let (target, opened, place) = match made {
        Ok(made) => made,
        Err(refused) => {
            line.decided(refused.verdict, &refused.reason);
            return refused.into_response();
        }
    };
    let of = Exchange::new(caller, line, place);
    match Box::pin(exchange(caller, request, &target, opened, &of)).await {
        Ok(response) => {
            of.line().allowed();
            response.map(|body| Either::Right(Counted::new(body, Direction::Received, &of)))
        }
        Err(refused) => {
            of.line().decided(refused.verdict, &refused.reason);
            refused.into_response()
        }
    }
}

/// A connection to the host, and a place for the request: what is not read of its answer yet is held.
async fn made(
    caller: &Arc<Caller>,
    target: &Target,
    shown: Option<&Token>,
    line: &mut Line,
) -> Result<(Opened, Place), Refused> {
    let proxy = &caller.proxy;
    let crowded = || {
        Refused::too_many(
            "as many requests of plain HTTP are under way as may be, of this pod, of its namespace or in all: send fewer at a time, or use https://",
        )
    };
    let place = proxy.plain.take(caller.address, proxy.known(caller.address).as_ref());
    let place = place.ok_or_else(crowded)?;
    let opened = open(caller, target, shown, line).await?;
    match place.is_of(&opened.passed.workflow) {
        true => Ok((opened, place)),
        false => Err(crowded()),
    }
}

fn target(request: &Request<Incoming>) -> Result<Target, Refused> {
    let (uri, headers) = (request.uri(), request.headers());
    if uri.scheme() != Some(&Scheme::HTTP) {
        let reason = "only http:// goes through a proxy as it is: open a tunnel for https:// with CONNECT host:port";
        return Err(Refused::bad_request(reason));
    }
    if headers.contains_key(UPGRADE) {
        let reason = "a protocol is not changed here: open a tunnel with CONNECT host:port, and speak TLS in it";
        return Err(Refused::new(
            StatusCode::NOT_IMPLEMENTED,
            EgressVerdict::BadRequest,
            reason,
        ));
    }
    if !is_framed_once(headers) {
        let reason = "the length of the body is said in more than one way: send Content-Length, or Transfer-Encoding: chunked, once";
        return Err(Refused::bad_request(reason));
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let hosts = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    Target::of_request(authority, hosts).map_err(Refused::bad_request)
}

/// hyper refuses lengths that differ, and takes one away beside a Transfer-Encoding. What is left of doubt ends here.
fn is_framed_once(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    match (codings.next(), codings.next()) {
        (None, _) => lengths <= 1,
        (Some(coding), None) => lengths == 0 && coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

async fn exchange(
    caller: &Arc<Caller>,
    request: Request<Incoming>,
    target: &Target,
    opened: Opened,
    of: &Arc<Exchange>,
) -> Result<Response<Incoming>, Refused> {
    let failed = |error: hyper::Error| {
        let reason = format!("{target} may be reached, and its answer cannot be passed on ({error})");
        Refused::new(StatusCode::BAD_GATEWAY, EgressVerdict::Unreachable, reason)
    };
    let Opened { host, passed, starting } = opened;
    let withdrawn = carry(&caller.proxy, passed, &mut of.line())?;
    let mut sender = speak(caller, host, withdrawn, of).await.map_err(failed)?;
    drop(starting);
    let request = onward(request, target)?;
    let request = request.map(|body| Counted::new(body, Direction::Sent, of));
    let mut response = sender
        .send_request(request)
        .await
        .map_err(|error| match of.line().withdrawn() {
            Some(withdrawn) => Refused::new(StatusCode::FORBIDDEN, EgressVerdict::NotDeclared, withdrawn),
            None => failed(error),
        })?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let reason = format!("{target} changes the protocol, which it was not asked for");
        return Err(Refused::new(
            StatusCode::BAD_GATEWAY,
            EgressVerdict::Unreachable,
            reason,
        ));
    }
    *response.version_mut() = Version::HTTP_11;
    drop_hop_by_hop(response.headers_mut());
    response.headers_mut().append(VIA, OURS);
    Ok(response)
}

/// HTTP on a connection to a host, for one request. It ends when the request is through and answered, when it is withdrawn, or with the proxy.
async fn speak(
    caller: &Arc<Caller>,
    host: TcpStream,
    withdrawn: CancellationToken,
    of: &Arc<Exchange>,
) -> hyper::Result<http1::SendRequest<Counted<Incoming>>> {
    // Of plain HTTP, nobody counts what waits.
    drop(narrow(&host));
    let patient = Patient::new(host, caller.proxy.limits.idle);
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER)
        .handshake(TokioIo::new(patient))
        .await?;
    let (end, of) = (caller.end.clone(), Arc::clone(of));
    caller.tasks.spawn(async move {
        tokio::select! {
            ended = connection => drop(ended),
            () = end.cancelled() => {}
            () = withdrawn.cancelled() => {}
        }
        // Until here bytes may go, whether it was answered or not.
        drop(of);
    });
    Ok(sender)
}

/// The request as the host gets it.
fn onward(mut request: Request<Incoming>, target: &Target) -> Result<Request<Incoming>, Refused> {
    let unreadable = |_| Refused::bad_request("the path of the URL cannot be read");
    *request.uri_mut() = path_alone(request.uri()).map_err(unreadable)?;
    *request.version_mut() = Version::HTTP_11;
    let named = match target.port {
        HTTP => target.host.to_string(),
        _ => target.to_string(),
    };
    let named = HeaderValue::try_from(named).map_err(|_| Refused::bad_request("the host cannot be written"))?;
    let headers = request.headers_mut();
    drop_hop_by_hop(headers);
    headers.remove(EXPECT);
    headers.insert(HOST, named);
    headers.append(VIA, OURS);
    // A connection is for one request: the next one is decided anew.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

/// The URL without its host. An empty path is written as `/`, also where a fragment stands after the host.
fn path_alone(uri: &Uri) -> Result<Uri, hyper::http::Error> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let path = match path.starts_with('?') {
        true => Cow::Owned(format!("/{path}")),
        false => Cow::Borrowed(path),
    };
    Uri::builder().path_and_query(&*path).build()
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // How long the body is, and whose it is, is of the message and not of the hop, whatever Connection says.
        .filter(|name| *name != CONTENT_LENGTH && *name != HOST)
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP_OF_OLD {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[rstest]
    #[case::none(&[], true)]
    #[case::length(&[("content-length", "3")], true)]
    #[case::chunked(&[("transfer-encoding", "Chunked")], true)]
    #[case::both(&[("transfer-encoding", "chunked"), ("content-length", "3")], false)]
    #[case::length_twice(&[("content-length", "3"), ("content-length", "3")], false)]
    #[case::chunked_twice(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false)]
    #[case::another_coding(&[("transfer-encoding", "gzip, chunked")], false)]
    #[case::hidden(&[("transfer-encoding", "xchunked")], false)]
    fn a_body_has_one_length(#[case] lines: &[(&str, &str)], #[case] expected: bool) {
        assert_eq!(is_framed_once(&headers(lines)), expected);
    }

    #[rstest]
    #[case::nothing("http://a.example", "/")]
    #[case::slash("http://a.example/", "/")]
    #[case::fragment("http://a.example:443#x", "/")]
    #[case::query("http://a.example?q=1", "/?q=1")]
    #[case::path("http://a.example/a?q#x", "/a?q")]
    fn a_host_is_asked_for_a_path(#[case] url: &str, #[case] expected: &str) {
        assert_eq!(path_alone(&url.parse().unwrap()).unwrap().to_string(), expected);
    }

    #[test]
    fn what_is_between_two_hops_stays_there() {
        let mut headers = headers(&[
            ("connection", "close, X-Mine, content-length, host"),
            ("connection", "x-other"),
            ("x-mine", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic secret"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("content-length", "3"),
            ("host", "a.example"),
            ("authorization", "Bearer token"),
        ]);
        drop_hop_by_hop(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "content-length", "host"]);
    }
}
