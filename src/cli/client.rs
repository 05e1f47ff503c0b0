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
