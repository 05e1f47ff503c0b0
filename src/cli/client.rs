//! A client of the API server whose answers are text: one object of anybody's that holds a byte that is none would end each list and each
//! watch that it is in, again and again, and with it all that is known of the others.
//!
//! Must never: change an answer that is text, or hold more of it than the end of a character.

use axum::body::{Bytes, HttpBody};
use axum::http::Response;
use http_body_util::BodyExt;
use http_body_util::combinators::MapFrame;
use hyper::body::Frame;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tower::util::MapResponseLayer;

use crate::review::make_text_but_its_end;

/// Makes one, which has not talked to the API server yet.
pub(super) fn client(config: Config) -> kube::Result<Client> {
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&MapResponseLayer::new(as_text)).build())
}

/// One for what somebody waits for: it does not sleep for as long as the API server says that it is busy, which is longer than anybody waits.
pub(super) fn impatient(mut config: Config) -> kube::Result<Client> {
    config.default_retry = false;
    client(config)
}

fn as_text<B: HttpBody<Data = Bytes>>(
    answer: Response<B>,
) -> Response<MapFrame<B, impl FnMut(Frame<Bytes>) -> Frame<Bytes> + Send + 'static>> {
    answer.map(|body| {
        let mut begun = Vec::new();
        body.map_frame(move |frame| frame.map_data(|data| text_of(&mut begun, data)))
    })
}

/// The text of a piece, behind what the one before ended with. Where the last ends within a character, the answer was cut off anyway.
fn text_of(begun: &mut Vec<u8>, data: Bytes) -> Bytes {
    if begun.is_empty() && std::str::from_utf8(&data).is_ok() {
        return data;
    }
    let mut bytes = std::mem::take(begun);
    bytes.extend_from_slice(&data);
    let incomplete = make_text_but_its_end(&mut bytes);
    *begun = bytes.split_off(bytes.len() - incomplete);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures::stream;

    use super::*;

    /// It asks for eight seconds, which no review has.
    #[tokio::test]
    async fn who_is_waited_for_is_told_that_the_api_server_is_busy() {
        let busy = axum::Router::new()
            .fallback(async || (axum::http::StatusCode::TOO_MANY_REQUESTS, [("Retry-After", "8")], "{}"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, busy).await });
        let request = axum::http::Request::get("/api")
            .body(kube::client::Body::empty())
            .unwrap();
        let client = impatient(Config::new(url)).unwrap();
        let answer = tokio::time::timeout(std::time::Duration::from_secs(5), client.send(request)).await;
        assert_eq!(answer.expect("an answer at once").unwrap().status(), 429);
    }

    #[rstest::rstest]
    #[case::text(&[b"{\"a\": ".as_slice(), b"1}"], "{\"a\": 1}")]
    #[case::within_a_character(&[b"\"\xf0\x9f".as_slice(), b"\x98", b"\x80\""], "\"😀\"")]
    #[case::no_text(&[b"{\"f:\xff\"".as_slice(), b":\xe2\x82", b"{}}"], "{\"f:?\":??{}}")]
    #[tokio::test]
    async fn an_answer_is_text(#[case] pieces: &[&'static [u8]], #[case] text: &str) {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, axum::Error>(Bytes::from_static(piece)))
            .collect();
        let answer = as_text(Response::new(Body::from_stream(stream::iter(pieces))));
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(std::str::from_utf8(&body), Ok(text));
    }
}
