//! Bytes that should be text: what the API server stores as it was sent may hold bytes that are none, as who wrote which field does for
//! whoever writes it. The API server and every client in Go read on; readers in Rust would stop, at the object and at all that comes with it.
//!
//! Must never: touch a byte of what is text.

use std::str::{Utf8Error, from_utf8};

/// What stands for a byte that is no text. One byte, so that nothing grows.
const REPLACED: u8 = b'?';

/// Replaces each byte that is no text.
pub fn make_text(bytes: &mut [u8]) {
    let incomplete = make_text_but_its_end(bytes);
    if let Some(end) = bytes.len().checked_sub(incomplete).and_then(|at| bytes.get_mut(at..)) {
        end.fill(REPLACED);
    }
}

/// The same of a piece. Returns how many bytes at its end, three at most, are text only if what follows goes on so.
pub fn make_text_but_its_end(bytes: &mut [u8]) -> usize {
    let mut rest = bytes;
    loop {
        let Some((valid, wrong)) = from_utf8(rest).err().map(of_error) else {
            return 0;
        };
        let (_, behind) = std::mem::take(&mut rest).split_at_mut(valid);
        let Some(wrong) = wrong else {
            return behind.len();
        };
        let (replaced, behind) = behind.split_at_mut(wrong);
        replaced.fill(REPLACED);
        rest = behind;
    }
}

fn of_error(error: Utf8Error) -> (usize, Option<usize>) {
    (error.valid_up_to(), error.error_len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[rstest::rstest]
    #[case::text("{\"ä\": \"😀\"}".as_bytes(), "{\"ä\": \"😀\"}")]
    #[case::none(b"", "")]
    #[case::no_text(b"{\"f:\xff\": \"\xc0\xaf\"}", "{\"f:?\": \"??\"}")]
    #[case::half_a_pair(b"\"\xed\xa0\x80\"", "\"???\"")]
    #[case::ends_too_early(b"a\xf0\x9f\x98", "a???")]
    fn what_is_no_text_is_replaced(#[case] bytes: &[u8], #[case] text: &str) {
        let mut bytes = bytes.to_vec();
        make_text(&mut bytes);
        assert_eq!(from_utf8(&bytes), Ok(text));
    }

    proptest! {
        #[test]
        fn it_is_text_then_and_as_long(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut text = bytes.clone();
            make_text(&mut text);
            prop_assert!(from_utf8(&text).is_ok());
            prop_assert_eq!(text.len(), bytes.len());
        }

        #[test]
        fn text_stays_as_it_is(text in ".{0,32}") {
            let mut bytes = text.clone().into_bytes();
            make_text(&mut bytes);
            prop_assert_eq!(bytes, text.into_bytes());
        }
    }
}
