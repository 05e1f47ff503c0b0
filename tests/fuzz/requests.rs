//! Text where a request to the egress proxy names its host, and where it shows a token. The oracle is the reader of URLs that clients are built
//! with: whoever reads a host in what is let through reads that one, and no address.

use std::cell::Cell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use reqwest::Url;
use ringfence::egress::{Host, Target, Token};

use crate::runner;

const HOSTS: [&str; 17] = [
    "api.example.com",
    "API.Example.COM.",
    "xn--bcher-kva.example",
    "bücher.example",
    "_srv.example.com",
    "a.4chan",
    "localhost",
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f.1",
    "a.0x",
    "[::1]",
    "api.example.com@evil.example",
    "api%2eexample.com",
    "a..example.com",
    "",
];
const ENDS: [&str; 10] = [
    ":443", ":8443", "", ":", ":0", ":0443", ":+443", ":65536", ":443:80", ":443/",
];

/// A host and a port as somebody writes them, and what somebody makes of that.
fn authority() -> impl Strategy<Value = String> {
    let edits = vec(
        (
            any::<Index>(),
            select(vec![
                '.', ':', '@', '/', '\\', '?', '#', '%', ' ', '\t', '\0', '0', 'x', '\u{ff0e}',
            ]),
        ),
        0..3,
    );
    let host = prop_oneof![select(HOSTS[..3].to_vec()), select(HOSTS.to_vec())];
    let end = prop_oneof![Just(ENDS[0]), select(ENDS.to_vec())];
    (host, end, edits, any::<bool>()).prop_map(|(host, end, edits, is_edited)| {
        let mut text: Vec<char> = host.chars().chain(end.chars()).collect();
        for (at, letter) in edits.into_iter().filter(|_| is_edited) {
            text.insert(at.index(text.len() + 1), letter);
        }
        text.into_iter().collect()
    })
}

/// The host and the port that a client reads, where it reads any.
fn read_by_clients(scheme: &str, text: &str) -> Option<(Result<Host, ()>, Option<u16>)> {
    let url = Url::parse(&format!("{scheme}://{text}/")).ok()?;
    let host = Host::named(url.host_str()?).map_err(|_| ());
    let whole = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    whole.then(|| (host, url.port_or_known_default()))
}

#[test]
fn a_host_is_the_one_that_every_reader_finds() {
    let counts = Cell::new((0u32, 0u32));
    let agreed = Cell::new(0u32);
    let cases = (authority(), authority(), any::<bool>());
    let outcome = runner(8192).run(&cases, |(connect, other, is_same)| {
        let header = if is_same { connect.to_uppercase() } else { other };
        let (read, refused) = counts.get();
        match Target::of_connect(&connect) {
            Err(_) => counts.set((read, refused + 1)),
            Ok(target) => {
                counts.set((read + 1, refused));
                let theirs = read_by_clients("https", &connect);
                // What they refuse they take for no other host.
                if let Some((host, port)) = theirs {
                    prop_assert_eq!(
                        (host.as_ref(), port),
                        (Ok(&target.host), Some(target.port)),
                        "{:?}",
                        connect
                    );
                }
                prop_assert_eq!(Target::of_connect(&target.to_string()), Ok(target));
            }
        }
        if let Ok(target) = Target::of_request(&connect, [header.as_bytes()].into_iter()) {
            agreed.set(agreed.get() + 1);
            for text in [&connect, &header] {
                if let Some((host, port)) = read_by_clients("http", text) {
                    prop_assert_eq!(
                        (host.as_ref(), port),
                        (Ok(&target.host), Some(target.port)),
                        "{:?}",
                        text
                    );
                }
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let (read, refused) = counts.get();
    assert!(read > 500 && refused > 500, "{read} read, {refused} refused");
    assert!(agreed.get() > 200, "{} agreed", agreed.get());
}

#[test]
fn what_shows_a_token_is_read_to_an_end_and_printed_by_nobody() {
    let scheme = select(vec!["Bearer ", "bearer  ", "Basic ", "Basic", "Digest ", ""]);
    let text = prop_oneof![
        vec(any::<u8>(), 0..64),
        "[A-Za-z0-9+/=]{0,64}".prop_map(String::into_bytes),
        "[A-Za-z0-9_-]{0,20}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,20}".prop_map(String::into_bytes),
        Just("cG9kOmEuYi5j".as_bytes().to_vec()),
        Just(vec![b'a'; 9000]),
    ];
    let counts = Cell::new(0u32);
    let outcome = runner(4096).run(&(scheme, text, any::<bool>()), |(scheme, text, is_twice)| {
        let header = [scheme.as_bytes(), &text].concat();
        let headers = [&header[..]; 2];
        let shown = Token::of(headers.into_iter().take(1 + usize::from(is_twice)));
        let Ok(shown) = shown else { return Ok(()) };
        let token = shown.expect("one was shown");
        counts.set(counts.get() + 1);
        prop_assert!(!is_twice, "of two, somebody behind it would take the other one");
        prop_assert!(token.as_str().bytes().all(|byte| byte.is_ascii_graphic()) && token.as_str().len() <= 8192);
        prop_assert_eq!(format!("{token:?}"), "Token(…)");
        prop_assert!(!token.claims(&["uid"], "ringfence-egress"), "nobody made it for a pod");
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(counts.get() > 200, "{} were read", counts.get());
}
