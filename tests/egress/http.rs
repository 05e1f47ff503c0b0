//! Plain HTTP: each request decided by itself, and written anew.

use std::time::Duration;

use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{self, Answer};
use crate::world::{World, run};

/// A workflow with a host of its own, to which a request goes as it is written: `{host}` and `{port}` are put in.
async fn asked(port: impl Fn(&World) -> u16, request: &str) -> (String, u16, Answer) {
    let world = World::get().await;
    let (host, port) = (world.host("plain"), port(world));
    let workflow = world.workflow(&[&host], &[port]).await;
    let pod = world.pod(&workflow).await;
    let request = request.replace("{host}", &host).replace("{port}", &port.to_string());
    let answer = client::say(world.proxy.address(), pod, request).await;
    (host, port, answer)
}

#[test]
fn a_request_is_passed_on_without_what_is_between_two_hops() {
    run(async {
        let request = "POST http://{host}:{port}/path?query HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close, x-mine\r\nX-Mine: 1\r\n\
                       Proxy-Authorization: Basic c2VjcmV0\r\nProxy-Connection: keep-alive\r\nAuthorization: Bearer t\r\nTE: trailers\r\n\
                       Content-Length: 5\r\n\r\nhello";
        let (host, port, answer) = asked(|world| world.hosts.plain, request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let expected = format!(
            "HTTP/1.1 POST /path\nauthorization: Bearer t\nconnection: close\ncontent-length: 5\nhost: {host}:{port}\nvia: 1.1 ringfence\n\n5 bytes\n"
        );
        assert!(answer.body.contains(&expected), "{answer:?}");
        assert!(
            answer.head.contains("x-host: yes") && answer.head.contains("via: 1.1 ringfence"),
            "{answer:?}"
        );
        assert!(!answer.head.contains("proxy-authenticate"), "{answer:?}");
        let line = World::get().await.proxy.line(&host).await;
        assert_eq!(
            (line["verdict"].as_str(), line["kind"].as_str()),
            (Some("allowed"), Some("http")),
            "{line}"
        );
        assert_eq!(line["sent"], 5, "{line}");
        assert!(line["received"].as_u64() > Some(50), "{line}");
    });
}

/// Clients keep a connection for a minute or more: what they send in the moment in which it closes is lost.
#[test]
fn a_connection_that_is_silent_is_kept() {
    run(async {
        let world = World::get().await;
        let (host, port) = (world.host("plain"), world.hosts.plain);
        let workflow = world.workflow(&[&host], &[port]).await;
        let pod = world.pod(&workflow).await;
        let mut stream = client::connection(world.proxy.address(), pod).await;
        let request = format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n");
        stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
        let mut first = Vec::new();
        while !first.ends_with(b"0 bytes\n") {
            assert_ne!(stream.read_buf(&mut first).await.unwrap(), 0, "it ends");
        }
        tokio::time::sleep(Duration::from_secs(17)).await;
        let last = format!("{request}Connection: close\r\n\r\n");
        stream.write_all(last.as_bytes()).await.unwrap();
        let second = client::answer(&mut stream).await;
        assert_eq!(second.status, 200, "{second:?}");
    });
}

/// A fragment is the client's own: what stands before it is a path, if an empty one.
#[test]
fn a_host_is_always_asked_for_a_path() {
    run(async {
        let request = "GET http://{host}:{port}#x HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n";
        let (_, _, answer) = asked(|world| world.hosts.plain, request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.contains("HTTP/1.1 GET /\n"), "{answer:?}");
    });
}

#[test]
fn an_answer_comes_as_it_is_made() {
    run(async {
        let request = "GET http://{host}:{port}/stream HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n";
        let (_, _, answer) = asked(|world| world.hosts.plain, request).await;
        assert!(
            answer.body.contains("piece 0\n") && answer.body.contains("piece 9\n"),
            "{answer:?}"
        );
    });
}

#[rstest]
#[case::other_host("GET http://{host}:{port}/ HTTP/1.1\r\nHost: other.example\r\n\r\n")]
#[case::other_port("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}\r\n\r\n")]
#[case::no_host("GET http://{host}:{port}/ HTTP/1.1\r\n\r\n")]
#[case::two_hosts("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nHost: {host}:{port}\r\n\r\n")]
#[case::host_folded("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n other.example\r\n\r\n")]
#[case::user("GET http://u:p@{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n")]
#[case::address("GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")]
#[case::with_tls("GET https://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n")]
#[case::lengths_that_differ(
    "POST http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"
)]
#[case::length_in_a_list(
    "POST http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 5, 6\r\n\r\nhello!"
)]
#[case::length_with_a_sign(
    "POST http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: +5\r\n\r\nhello"
)]
#[case::coding_that_ends_otherwise(
    "POST http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n"
)]
#[case::two_codings(
    "POST http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
)]
#[case::coding_before_1_1(
    "POST http://{host}:{port}/ HTTP/1.0\r\nHost: {host}:{port}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
)]
#[case::folded("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nX-A: 1\r\n 2\r\n\r\n")]
#[case::carriage_return("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nX-A: 1\rX-B: 2\r\n\r\n")]
#[case::blank_before_the_colon("GET http://{host}:{port}/ HTTP/1.1\r\nHost : {host}:{port}\r\n\r\n")]
#[case::null("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nX-A: \0\r\n\r\n")]
#[case::path_alone("GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n")]
fn what_is_read_in_two_ways_is_refused(#[case] request: &str) {
    run(async {
        let (_, _, answer) = asked(|world| world.hosts.plain, request).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(!answer.head.contains("x-host"), "{answer:?}");
    });
}

#[rstest]
#[case::websocket(
    "GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    501
)]
#[case::long_line("GET http://{host}:{port}/{long} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n", 414)]
#[case::long_header(
    "GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\nX-A: {long}\r\n\r\n",
    431
)]
#[case::connect_long_header("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nX-A: {long}\r\n\r\n", 431)]
#[case::connect_many_headers("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{many}\r\n", 431)]
#[case::many_headers("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n{many}\r\n", 431)]
fn what_is_beyond_bounds_is_refused(#[case] request: &str, #[case] expected: u16) {
    run(async {
        let request = request
            .replace("{long}", &"a".repeat(40_000))
            .replace("{many}", &"X-A: 1\r\n".repeat(100));
        let (_, _, answer) = asked(|world| world.hosts.plain, &request).await;
        assert!(
            [expected, 431].contains(&answer.status),
            "{} {}",
            answer.status,
            answer.body
        );
    });
}

/// A length beside a coding: a host must not see both, whatever stands first.
#[rstest]
#[case::length_first("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n")]
#[case::coding_first("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n")]
fn a_host_sees_one_length(#[case] framing: &str) {
    run(async {
        let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
        let request = format!(
            "POST http://{{host}}:{{port}}/ HTTP/1.1\r\nHost: {{host}}:{{port}}\r\n{framing}Connection: close\r\n\r\n{smuggled}"
        );
        let (host, _, answer) = asked(|world| world.hosts.raw, &request).await;
        if answer.status == 400 {
            return;
        }
        let kept = World::get().await.hosts.kept.lock().unwrap().clone();
        let kept: Vec<_> = kept
            .into_iter()
            .map(|kept| String::from_utf8_lossy(&kept).into_owned())
            .collect();
        let kept: Vec<_> = kept.iter().filter(|kept| kept.contains(&host)).collect();
        assert_eq!(kept.len(), 1, "{kept:?}");
        let head = kept[0].to_lowercase();
        assert!(
            head.contains("transfer-encoding: chunked") && !head.contains("content-length"),
            "{head}"
        );
        assert!(!head.contains("smuggled"), "{head}");
    });
}

#[test]
fn each_request_of_a_connection_is_decided() {
    run(async {
        let world = World::get().await;
        let (host, other) = (world.host("first"), world.host("second"));
        let port = world.hosts.plain;
        let workflow = world.workflow(&[&host], &[port]).await;
        let pod = world.pod(&workflow).await;
        let request = |host: &str| format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        let answer = client::say(world.proxy.address(), pod, request(&host) + &request(&other)).await;
        assert_eq!(answer.status, 200);
        assert!(
            answer.body.contains("HTTP/1.1 403 Forbidden (ringfence: not-declared)"),
            "{answer:?}"
        );
        assert!(
            answer.body.contains(&format!("may not reach {other}:{port}")),
            "{answer:?}"
        );
    });
}
