//! Rolling out and renewing under load loses no request.

use ringfence::webhook::Limits;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::support::{PATIENCE, Reply, Server, allowed, request, review};

async fn in_flight(server: &Server) {
    while server.script.seen.lock().unwrap().is_empty() {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn shutdown_finishes_what_is_in_flight_and_takes_nothing_new() {
    let mut server = Server::start(Limits::default());
    let (mut client, _) = server.http2().await;
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
    let (mut client, _) = server.http2().await;
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

#[tokio::test]
async fn a_new_certificate_is_served_to_new_connections_and_old_ones_go_on() {
    let server = Server::start(Limits::default());
    let (mut old, before) = server.http2().await;
    let certificate = server.certificate();
    server.resolver.store(certificate.clone());
    let (mut new, after) = server.http2().await;
    assert_ne!(before, after);
    assert_eq!(after, certificate.cert[0]);
    for client in [&mut old, &mut new] {
        let response = client
            .send_request(request("/admit/fence", "application/json", review("fine").to_string()))
            .await;
        assert_eq!(Reply::of(response.unwrap()).await.response(), allowed());
    }
}
