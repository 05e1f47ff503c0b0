//! What CONNECT and the TLS handshake name: both declared, and both the same.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use rustls::ClientConfig;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::client::{self, Answer};
use crate::dns::Script;
use crate::hosts::{BOOKS, ZONE};
use crate::world::{Workflow, World, run};

#[test]
fn a_declared_host_is_reached_and_told_of() {
    run(async {
        let world = World::get().await;
        let host = world.host("api");
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        let answer = world.fetch(pod, &host, "/v1/models").await.unwrap();
        assert!(answer.contains("HTTP/1.1 GET /v1/models"), "{answer}");
        let line = world.proxy.line(&host).await;
        let expected = json!({
            "verdict": "allowed", "kind": "connect", "namespace": workflow.namespace, "workflow": "triage", "rule": "rule",
            "domain": host, "port": world.hosts.tls, "address": pod,
        });
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(line[field], *value, "{field} of {line}");
        }
        assert!(
            line["sent"].as_u64() > Some(200) && line["received"].as_u64() > Some(500),
            "{line}"
        );
        assert!(
            world
                .proxy
                .metric("ringfence_egress_connections_total{verdict=\"allowed\"}")
                .await
                >= 1.0
        );
        assert!(
            world
                .proxy
                .metric("ringfence_egress_bytes_total{direction=\"received\"}")
                .await
                > 500.0
        );
        assert!(
            world
                .proxy
                .metric("ringfence_egress_connect_duration_seconds_count")
                .await
                >= 1.0
        );
    });
}

#[rstest]
#[case::upper_case("UP", |host: &str| host.to_uppercase())]
#[case::dot_of_the_root("dot", |host: &str| format!("{host}."))]
fn a_host_may_be_spelled_otherwise(#[case] of: &str, #[case] spelled: fn(&str) -> String) {
    run(async {
        let world = World::get().await;
        let host = world.host(&of.to_lowercase());
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        let authority = format!("{}:{}", spelled(&host), world.hosts.tls);
        let stream = client::tunnel(world.proxy.address(), pod, &authority).await.unwrap();
        let mut stream = client::tls(stream, world.hosts.client(), &host).await.unwrap();
        assert!(client::get(&mut stream, &host, "/").await.contains("HTTP/1.1 GET /"));
    });
}

#[test]
fn a_wildcard_stands_for_what_is_below_it() {
    run(async {
        let world = World::get().await;
        let (below, beside) = (format!("a.wild.{ZONE}"), format!("wild.{ZONE}"));
        world.dns.script(&below, Script::of(&["127.0.0.1"]));
        let workflow = world
            .workflow(&[&format!("*.wild.{ZONE}"), BOOKS], &[world.hosts.tls])
            .await;
        let pod = world.pod(&workflow).await;
        assert!(world.fetch(pod, &below, "/").await.is_ok());
        assert_eq!(world.fetch(pod, &beside, "/").await.unwrap_err().status, 403);
        world.dns.script(BOOKS, Script::of(&["127.0.0.1"]));
        assert!(
            world.fetch(pod, BOOKS, "/").await.is_ok(),
            "a name in other letters is declared by its A-label"
        );
    });
}

#[test]
fn what_is_not_declared_is_refused_with_what_is() {
    run(async {
        let world = World::get().await;
        let (host, other) = (world.host("api"), world.host("other"));
        let workflow = world.workflow(&[&host], &[world.hosts.tls]).await;
        let pod = world.pod(&workflow).await;
        let refused = world.fetch(pod, &other, "/").await.unwrap_err();
        let port = world.hosts.tls;
        let of = format!("ringfence: workflow {}/triage may not reach", workflow.namespace);
        let expected = format!(
            "{of} {other}:{port}: its declared domains are: {host}. Declare it in spec.network.egress of the AIWorkflow.\n"
        );
        assert_eq!((refused.status, refused.body), (403, expected));
        assert!(
            refused
                .head
                .starts_with("HTTP/1.1 403 Forbidden (ringfence: not-declared)\r\n"),
            "{}",
            refused.head
        );
        assert_eq!(
            world.dns.asked(&other),
            0,
            "nobody asks for the name of what is not declared"
        );
        let refused = client::tunnel(world.proxy.address(), pod, &format!("{host}:22"))
            .await
            .unwrap_err();
        assert!(
            refused.body.contains(&format!("its declared ports there are: {port}")),
            "{refused:?}"
        );
        assert_eq!(world.proxy.line(&other).await["verdict"], "not-declared");
    });
}

#[rstest]
#[case::v4("127.0.0.1:443", "it is an address")]
#[case::v4_short("127.1:443", "it is an address")]
#[case::v4_as_one_number("2130706433:443", "it is an address")]
#[case::v4_in_hexadecimal("0x7f000001:443", "it is an address")]
#[case::v6("[::1]:443", "it is an address")]
#[case::v6_mapped("[::ffff:127.0.0.1]:443", "it is an address")]
#[case::one_label("localhost:443", "it is no name")]
#[case::no_port("api.example.com", "no port")]
#[case::port_zero("api.example.com:0", "no port")]
#[case::user("api.example.com@evil.example:443", "a user before the host")]
fn what_connect_cannot_name_is_refused(#[case] authority: &str, #[case] reason: &str) {
    run(async {
        let world = World::get().await;
        let pod: IpAddr = [127, 0, 0, 1].into();
        let refused = client::tunnel(world.proxy.address(), pod, authority).await.unwrap_err();
        // hyper answers by itself what it cannot read, and says nothing.
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.body.contains(reason) || refused.body.is_empty(), "{refused:?}");
    });
}

#[rstest]
#[case::nothing_named("CONNECT  HTTP/1.1\r\n\r\n")]
#[case::no_version("CONNECT a.example:443\r\n\r\n")]
#[case::path("CONNECT /a.example:443 HTTP/1.1\r\n\r\n")]
#[case::url("CONNECT https://a.example:443/ HTTP/1.1\r\n\r\n")]
#[case::null("CONNECT a.example\0:443 HTTP/1.1\r\n\r\n")]
#[case::http_2("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")]
#[case::tls(concat!("\x16\x03\x01\x00\x05hello", "\r\n\r\n"))]
#[case::body("CONNECT a.example:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello")]
fn what_is_no_connect_is_refused(#[case] request: &str) {
    run(async {
        let world = World::get().await;
        let answer = client::say(world.proxy.address(), [127, 0, 0, 1].into(), request).await;
        // hyper ends a connection that begins as HTTP/2 without a word.
        assert!([0, 400].contains(&answer.status), "{answer:?}");
    });
}

/// What a client sends first for a name, with more behind its extensions.
fn hello(config: Arc<ClientConfig>, name: &str, more: &[u8]) -> Vec<u8> {
    let mut bytes = client::hello(config, name);
    bytes.extend(more);
    let added = more.len();
    let mut longer = |at: usize| {
        let length = u16::from_be_bytes([bytes[at], bytes[at + 1]]) as usize + added;
        bytes[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
    };
    // The record; the message, whose length has three bytes; and the extensions, behind version, random, session, suites and compressions.
    longer(3);
    longer(7);
    let session = 5 + 4 + 2 + 32;
    let at_suites = session + 1 + bytes[session] as usize;
    let suites = u16::from_be_bytes([bytes[at_suites], bytes[at_suites + 1]]) as usize;
    let at_compressions = at_suites + 2 + suites;
    let extensions = at_compressions + 1 + bytes[at_compressions] as usize;
    let length = u16::from_be_bytes([bytes[extensions], bytes[extensions + 1]]) as usize + added;
    bytes[extensions..extensions + 2].copy_from_slice(&(length as u16).to_be_bytes());
    bytes
}

const ECH: [u8; 8] = [0xfe, 0x0d, 0, 4, 0, 0, 1, 0];
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];
const ACCESS_DENIED: &[u8] = &[21, 3, 3, 0, 2, 2, 49];

/// What becomes of bytes in a tunnel for a host of its own: what comes back, and what reached the host.
async fn sent(world: &World, of: &str, bytes: impl Fn(&str) -> Vec<u8>) -> (Vec<u8>, String) {
    let host = world.host(of);
    let workflow: Workflow = world.workflow(&[&host], &[world.hosts.raw]).await;
    let pod = world.pod(&workflow).await;
    let authority = format!("{host}:{}", world.hosts.raw);
    let mut stream = client::tunnel(world.proxy.address(), pod, &authority).await.unwrap();
    let bytes = bytes(&host);
    stream.write_all(&bytes).await.unwrap();
    let mut back = Vec::new();
    drop(
        timeout(Duration::from_secs(15), stream.read_to_end(&mut back))
            .await
            .expect("an end"),
    );
    let line = world.proxy.line(&host).await;
    assert_eq!(line["verdict"], "not-for-host", "{line}");
    let kept = world.hosts.kept.lock().unwrap();
    assert!(
        !kept.iter().any(|kept| !kept.is_empty() && bytes.starts_with(kept)),
        "the host was told something"
    );
    (back, line["reason"].as_str().unwrap().to_owned())
}

#[test]
fn a_handshake_without_a_name_is_not_let_through() {
    run(async {
        let world = World::get().await;
        let (back, reason) = sent(world, "nameless", |_| hello(world.hosts.client(), "192.0.2.1", &[])).await;
        assert_eq!(
            (back.as_slice(), reason.as_str()),
            (UNRECOGNIZED_NAME, "its TLS handshake names no server (SNI)")
        );
    });
}

/// Also where the other name is declared: what was asked for is what is carried.
#[test]
fn a_handshake_for_another_name_is_not_let_through() {
    run(async {
        let world = World::get().await;
        let (back, reason) = sent(world, "fronted", |_| {
            hello(world.hosts.client(), "other.ringfence.example", &[])
        })
        .await;
        assert_eq!(back, UNRECOGNIZED_NAME);
        assert!(reason.contains("another server"), "{reason}");
    });
}

#[test]
fn an_encrypted_handshake_is_not_let_through() {
    run(async {
        let world = World::get().await;
        let (back, reason) = sent(world, "ech", |host| hello(world.hosts.client(), host, &ECH)).await;
        assert_eq!(back, ACCESS_DENIED);
        assert!(reason.contains("switch ECH off"), "{reason}");
    });
}

#[test]
fn what_is_no_tls_is_not_let_through() {
    run(async {
        let world = World::get().await;
        let (back, reason) = sent(world, "http", |host| {
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
        })
        .await;
        assert_eq!(
            (back.as_slice(), reason.as_str()),
            (&b""[..], "what the client sends is no TLS")
        );
    });
}

#[test]
fn a_malformed_handshake_is_not_let_through() {
    run(async {
        let world = World::get().await;
        // A second list of names.
        let twice = [0, 0, 0, 6, 0, 4, 0, 0, 1, b'a'];
        let (back, reason) = sent(world, "twice", |host| hello(world.hosts.client(), host, &twice)).await;
        assert_eq!(back, ACCESS_DENIED);
        assert!(reason.contains("malformed"), "{reason}");
    });
}

#[test]
fn a_handshake_that_does_not_come_is_not_waited_for() {
    run(async {
        let world = World::get().await;
        let (back, reason) = sent(world, "silent", |host| {
            hello(world.hosts.client(), host, &[])[..20].to_vec()
        })
        .await;
        assert_eq!(
            (back.as_slice(), reason.as_str()),
            (&b""[..], "the client sent no TLS handshake in time")
        );
    });
}

/// The handshake may come with the request, in pieces, and slowly.
#[test]
fn a_handshake_comes_as_it_likes() {
    run(async {
        let world = World::get().await;
        let host = world.host("pieces");
        let workflow = world.workflow(&[&host], &[world.hosts.raw]).await;
        let pod = world.pod(&workflow).await;
        let mut stream = client::connection(world.proxy.address(), pod).await;
        let request = format!(
            "CONNECT {host}:{0} HTTP/1.1\r\nHost: {host}:{0}\r\n\r\n",
            world.hosts.raw
        );
        let hello = hello(world.hosts.client(), &host, &[]);
        let (first, behind) = hello.split_at(7);
        stream.write_all(&[request.as_bytes(), first].concat()).await.unwrap();
        for piece in behind.chunks(100) {
            stream.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let Answer { head, .. } = client::answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let kept = world.hosts.kept.lock().unwrap();
        assert!(kept.contains(&hello), "the host gets all of it, and nothing else");
    });
}
