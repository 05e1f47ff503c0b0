//! A client that binds to the address of a pod and says exactly what a test wants.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::ensure;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use support::eventually;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::SOON;

/// What the proxy answers.
#[derive(Debug, Eq, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: String,
}

/// A connection from a pod to the proxy.
pub async fn connection(proxy: SocketAddr, pod: IpAddr) -> TcpStream {
    let socket = if pod.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
    .unwrap();
    socket.bind(SocketAddr::new(pod, 0)).unwrap();
    socket.connect(proxy).await.unwrap()
}

/// Sends bytes, and reads the answer to its end.
pub async fn say(proxy: SocketAddr, pod: IpAddr, bytes: impl AsRef<[u8]>) -> Answer {
    let mut stream = connection(proxy, pod).await;
    // It may be refused before all of it is sent.
    drop(stream.write_all(bytes.as_ref()).await);
    answer(&mut stream).await
}

pub async fn answer(stream: &mut TcpStream) -> Answer {
    let head = head(stream).await;
    let mut body = Vec::new();
    // A refusal ends its connection, and so does an answer that was asked to.
    drop(stream.read_to_end(&mut body).await);
    answer_of(head, body)
}

fn answer_of(head: String, body: Vec<u8>) -> Answer {
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_default();
    Answer {
        status,
        head,
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}

/// The head of an answer; empty where the connection ends without one.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Waits until a proxy has heard of a pod: before that it is a stranger, which on a busy machine takes seconds.
pub async fn until_known(proxy: SocketAddr, pod: IpAddr) {
    eventually(SOON, async || {
        let refused = tunnel(proxy, pod, "undeclared.example:443").await;
        let head = refused.err().map(|answer| answer.head).unwrap_or_default();
        ensure!(!head.contains("unknown-caller"), "{head}");
        Ok(())
    })
    .await;
}

/// A tunnel, or why there is none.
pub async fn tunnel(proxy: SocketAddr, pod: IpAddr, authority: &str) -> Result<TcpStream, Answer> {
    tunnel_on(connection(proxy, pod).await, authority).await
}

/// The same on a connection that is open.
pub async fn tunnel_on(mut stream: TcpStream, authority: &str) -> Result<TcpStream, Answer> {
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    if head.starts_with("HTTP/1.1 200 ") {
        return Ok(stream);
    }
    let mut body = Vec::new();
    drop(stream.read_to_end(&mut body).await);
    Err(answer_of(head, body))
}

/// TLS in a tunnel, for a name. Of an address, no name is sent.
pub async fn tls(stream: TcpStream, config: Arc<ClientConfig>, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

/// Asks for a path by HTTP/1.1, and reads to the end.
pub async fn get(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), host: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // TLS that ends without saying so is an error, after all bytes were read.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8(answer).unwrap()
}

/// What a client sends first for a name.
pub fn hello(config: Arc<ClientConfig>, name: &str) -> Vec<u8> {
    let mut client = ClientConnection::new(config, ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}
