//! Rolling out and renewing under load loses no request.

use axum::http::header::CONNECTION;
use ringfence::webhook::Limits;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::support::{PATIENCE, Reply, Server, allowed, http1_over, request, review};

async fn in_flight(server: &Server) {
    while server.script.seen.lock().unwrap().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn shutdown_finishes_what_is_in_flight_and_takes_nothing_new() {
    let mut server = Server::start(Limits::default());
    let mut client = server.http1().await;
    let post = || request("/admit/fence", "application/json", review("naps").to_string());
    let pending = tokio::spawn(client.send_request(post()));
    in_flight(&server).await;
    server.cancel.cancel();
    let response = timeout(PATIENCE, pending).await.unwrap().unwrap().unwrap();
    assert_eq!(Reply::of(response).await.response(), allowed());
    drop(client);
    timeout(PATIENCE, &mut server.task).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

/// A decision that hangs must not keep the process from ending.
#[tokio::test]
async fn shutdown_is_bounded() {
    let mut server = Server::start(Limits {
        grace: Duration::from_millis(300),
        ..Limits::default()
    });
    let mut client = server.http1().await;
    let post = request(
        "/admit/fence?timeout=30s",
        "application/json",
        review("sleeps").to_string(),
    );
    let _pending = tokio::spawn(client.send_request(post));
    in_flight(&server).await;
    let began = Instant::now();
    server.cancel.cancel();
    timeout(PATIENCE, &mut server.task).await.unwrap().unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

/// API servers ask by HTTP/1.1, keep the connection for the next review, and do not repeat a POST: whoever closes it first must be them.
#[tokio::test]
async fn a_replica_that_goes_down_asks_its_callers_to_leave() {
    let server = Server::start(Limits::default());
    let post = || request("/admit/fence", "application/json", review("fine").to_string());
    let mut kept = server.http1().await;
    for closes in [false, true] {
        kept.ready().await.unwrap();
        let response = timeout(PATIENCE, kept.send_request(post())).await.unwrap().unwrap();
        let asked = response
            .headers()
            .get(CONNECTION)
            .map(|value| value.as_bytes().to_vec());
        assert_eq!(asked, closes.then(|| b"close".to_vec()));
        assert_eq!(Reply::of(response).await.response(), allowed());
        server.readiness.stop();
    }
    assert!(timeout(PATIENCE, kept.ready()).await.unwrap().is_err(), "it is closed");
    // Until the Service forgets this replica, new ones come.
    assert_eq!(server.send(post()).await.response(), allowed());
}

/// A silent connection of an API server's is closed by the API server, after 90 s: of two that close at once the review is the loser.
#[tokio::test]
async fn a_connection_is_kept_for_longer_than_api_servers_keep_it() {
    assert!(Limits::default().idle > Duration::from_secs(100));
    // And is closed by nothing else: longer than any other limit of what is open, says nothing, and asks again.
    let server = Server::start(Limits::default());
    let mut kept = http1_over(server.tls("http/1.1").await.unwrap()).await;
    let ask = || request("/admit/fence", "application/json", review("fine").to_string());
    for silence in [0, 12] {
        sleep(Duration::from_secs(silence)).await;
        let response = timeout(PATIENCE, kept.send_request(ask())).await.unwrap();
        assert_eq!(Reply::of(response.unwrap()).await.response(), allowed());
    }
}

#[tokio::test]
async fn a_new_certificate_is_served_to_new_connections_and_old_ones_go_on() {
    let server = Server::start(Limits::default());
    let connect = async || {
        let stream = server.tls("http/1.1").await.unwrap();
        let met = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        (http1_over(stream).await, met)
    };
    let (mut old, before) = connect().await;
    let certificate = server.certificate();
    server.resolver.store(certificate.clone());
    let (mut new, after) = connect().await;
    assert_ne!(before, after);
    assert_eq!(after, certificate.cert[0]);
    for client in [&mut old, &mut new] {
        let response = client
            .send_request(request("/admit/fence", "application/json", review("fine").to_string()))
            .await;
        assert_eq!(Reply::of(response.unwrap()).await.response(), allowed());
    }
}
