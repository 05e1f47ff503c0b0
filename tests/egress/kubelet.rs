//! What a kubelet does when a port of a pod is forwarded: a WebSocket of `v4.channel.k8s.io`, two channels a port, to loopback within the pod.
//! No node runs here, and the API server asks one.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Of RFC 6455.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const DATA: u8 = 0;
const ERROR: u8 = 1;

/// A node whose kubelet this is.
pub async fn node(client: &Client, name: &str) {
    let key = KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    drop(forward(stream).await);
                }
            });
        }
    });
    let nodes: Api<Node> = Api::all(client.clone());
    let object = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    nodes.create(&PostParams::default(), &object).await.unwrap();
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }});
    let (params, patch) = (PatchParams::default(), Patch::Merge(status));
    nodes.patch_status(name, &params, &patch).await.unwrap();
}

async fn forward(mut stream: TlsStream<TcpStream>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let (_, ports) = head.split_once("port=").expect("a port");
    let port: u16 = ports
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let key = field("sec-websocket-key").expect("a WebSocket");
    let accepted = STANDARD.encode(Sha1::digest(format!("{key}{GUID}")));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accepted}\r\n\
         Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    for channel in [DATA, ERROR] {
        send(&mut stream, channel, &port.to_le_bytes()).await?;
    }
    let mut pod = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut buffer = vec![0; 16 << 10];
    loop {
        tokio::select! {
            frame = received(&mut stream) => match frame? {
                Some((DATA, bytes)) => pod.write_all(&bytes).await?,
                Some(_) => {}
                None => return Ok(()),
            },
            read = pod.read(&mut buffer) => match read? {
                0 => return stream.write_all(&[CLOSE, 0]).await,
                length => send(&mut stream, DATA, &buffer[..length]).await?,
            },
        }
    }
}

async fn send(stream: &mut TlsStream<TcpStream>, channel: u8, bytes: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(bytes.len() + 1).unwrap();
    let mut frame = vec![BINARY];
    match length {
        0..126 => frame.push(u8::try_from(length).unwrap()),
        _ => frame.extend([&[126][..], &length.to_be_bytes()].concat()),
    }
    frame.push(channel);
    frame.extend(bytes);
    stream.write_all(&frame).await?;
    stream.flush().await
}

/// Channel and bytes of a frame; `None`: the other end closes. A client sends each in one piece, and masks it.
async fn received(stream: &mut TlsStream<TcpStream>) -> std::io::Result<Option<(u8, Vec<u8>)>> {
    let kind = stream.read_u8().await?;
    let length = match stream.read_u8().await? & 0x7f {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        length => u64::from(length),
    };
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).await?;
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await?;
    for (at, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[at % 4];
    }
    if kind == CLOSE {
        return Ok(None);
    }
    let channel = payload.first().copied().unwrap_or_default();
    Ok(Some((channel, payload.split_off(payload.len().min(1)))))
}
