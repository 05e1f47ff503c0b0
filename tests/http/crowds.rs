//! More connections than the server holds, from peers that say nothing, half a word, or anything at all: who has to go, and who stays.

use std::collections::VecDeque;
use std::net::SocketAddr;

use axum::body::Body;
use hyper::client::conn::http1::SendRequest;
use ringfence::webhook::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::support::{PATIENCE, Reply, Server, allowed, connect_from_elsewhere, http1_over, request, review};

/// The first byte of a TLS record.
const OF_A_HELLO: u8 = b'\x16';
/// The first byte of a request; one that begins none would be answered at once.
pub const OF_A_REQUEST: u8 = b'G';

/// Opens a connection after the other from an address of its own, says that byte on each, and holds the last hundred.
pub fn flood(address: SocketAddr, first: u8) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut held = VecDeque::new();
        loop {
            if let Ok(mut stream) = connect_from_elsewhere(address).await
                && stream.write_all(&[first]).await.is_ok()
            {
                held.push_back(stream);
            }
            if held.len() > 100 {
                held.pop_front();
            }
            sleep(Duration::from_micros(500)).await;
        }
    }))
}

fn post() -> axum::http::Request<Body> {
    request("/admit/fence", "application/json", review("fine").to_string())
}

async fn ask(client: &mut SendRequest<Body>) {
    timeout(PATIENCE, client.ready()).await.unwrap().expect("it is open");
    let response = timeout(PATIENCE, client.send_request(post())).await.unwrap().unwrap();
    assert_eq!(Reply::of(response).await.response(), allowed());
}

#[tokio::test(flavor = "multi_thread")]
async fn half_said_hellos_keep_no_review_out_and_end_no_connection_that_asked() {
    let server = Server::start(Limits {
        connections: 32,
        ..Limits::default()
    });
    let mut kept = server.http1().await;
    ask(&mut kept).await;
    let _flood = flood(server.address, OF_A_HELLO);
    sleep(Duration::from_millis(500)).await;
    for _ in 0..5 {
        assert_eq!(server.send(post()).await.response(), allowed());
        ask(&mut kept).await;
    }
}

/// API servers may come through a proxy, by the address by which an attacker comes too.
#[tokio::test]
async fn those_of_one_address_that_never_asked_do_not_end_the_one_that_did() {
    let server = Server::start(Limits {
        connections: 8,
        ..Limits::default()
    });
    let mut kept = server.http1().await;
    ask(&mut kept).await;
    let mut half = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&[OF_A_HELLO]).await.unwrap();
        half.push(stream);
    }
    sleep(Duration::from_millis(200)).await;
    for _ in 0..3 {
        assert_eq!(server.send(post()).await.response(), allowed());
    }
    ask(&mut kept).await;
}

/// Anybody can ask something, and be quiet for as long as the server lets them.
#[tokio::test]
async fn an_address_that_holds_many_ends_its_own() {
    let server = Server::start(Limits {
        connections: 8,
        ..Limits::default()
    });
    let mut kept = server.http1().await;
    ask(&mut kept).await;
    let mut many = Vec::new();
    for _ in 0..20 {
        let stream = connect_from_elsewhere(server.address).await.unwrap();
        let mut client = http1_over(server.tls_over(stream, "http/1.1").await.unwrap()).await;
        ask(&mut client).await;
        many.push(client);
    }
    assert_eq!(server.send(post()).await.response(), allowed());
    ask(&mut kept).await;
}

/// A whole head is no review yet.
#[tokio::test]
async fn bodies_that_do_not_come_keep_no_review_out() {
    let server = Server::start(Limits {
        connections: 4,
        arrival: Duration::from_secs(60),
        ..Limits::default()
    });
    let mut claimants = Vec::new();
    for _ in 0..4 {
        let mut claimant = server.tls("http/1.1").await.unwrap();
        let head = "POST /admit/fence?timeout=30s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{";
        claimant.write_all(head.as_bytes()).await.unwrap();
        claimant.flush().await.unwrap();
        claimants.push(claimant);
    }
    sleep(Duration::from_millis(200)).await;
    for _ in 0..3 {
        assert_eq!(server.send(post()).await.response(), allowed());
    }
}

/// Over one connection some bodies that wait for room would stall all others.
#[tokio::test]
async fn http2_is_neither_offered_nor_spoken() {
    let server = Server::start(Limits::default());
    assert!(server.tls("h2").await.is_err());
    let mut stream = server.tls("http/1.1").await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _end = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
}

/// Who holds connections and says nothing keeps nobody out.
#[tokio::test]
async fn a_connection_beyond_the_limit_takes_the_place_of_the_most_silent_one() {
    let server = Server::start(Limits {
        connections: 2,
        ..Limits::default()
    });
    let mut silent = server.tls("http/1.1").await.unwrap();
    let mut talks = server.http1().await;
    for _ in 0..3 {
        let post = || request("/admit/fence", "application/json", review("fine").to_string());
        talks.ready().await.unwrap();
        let asked = timeout(PATIENCE, talks.send_request(post())).await.unwrap().unwrap();
        assert_eq!(Reply::of(asked).await.response(), allowed(), "one that talks stays");
        let mut new = server.tls("http/1.1").await.expect("there is room for somebody new");
        let closed = timeout(Duration::from_secs(5), silent.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "the silent one has made it");
        std::mem::swap(&mut silent, &mut new);
    }
}

/// Whoever waits for a verdict is silent too, and keeps its place: an API server would take the end of its connection for a refusal.
#[tokio::test]
async fn a_connection_that_waits_for_a_verdict_is_nobody_elses() {
    let server = Server::start(Limits {
        connections: 2,
        ..Limits::default()
    });
    let mut first = server.http1().await;
    let mut second = server.http1().await;
    let post = || {
        request(
            "/admit/fence?timeout=10s",
            "application/json",
            review("dozes").to_string(),
        )
    };
    let (one, two) = (first.send_request(post()), second.send_request(post()));
    let others = async {
        sleep(Duration::from_millis(200)).await;
        for _ in 0..3 {
            assert!(
                server.tls("http/1.1").await.is_err(),
                "there is no room for somebody new"
            );
        }
    };
    let (one, two, ()) = timeout(PATIENCE, async { tokio::join!(one, two, others) })
        .await
        .unwrap();
    assert_eq!(
        (one.unwrap().status().as_u16(), two.unwrap().status().as_u16()),
        (200, 200)
    );
}
