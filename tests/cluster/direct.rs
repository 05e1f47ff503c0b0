//! A process asked directly, without the API server: over TLS, trusting what the registration trusts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// UID of the reviews that are sent.
pub const UID: &str = "7f0b2891-916f-4ed6-b7cd-27bff1815a8c";
/// By which a process of tests/cluster is called.
const HOST: &str = "127.0.0.1";
const EXCHANGE: Duration = Duration::from_secs(10);

/// A client's certificate and its key, in PEM.
pub type ClientPair = (String, String);

/// A TLS connection as the API server makes it, trusting the `caBundle` of a registration, with a certificate of one's own or without.
async fn connect_as(bundle: &str, port: u16, client: Option<&ClientPair>) -> Result<TlsStream<TcpStream>> {
    connect_to(bundle, (Ipv4Addr::LOCALHOST, port).into(), HOST, client).await
}

/// The same to another address, and by another name.
async fn connect_to(
    bundle: &str,
    address: SocketAddr,
    name: &str,
    client: Option<&ClientPair>,
) -> Result<TlsStream<TcpStream>> {
    let bundle: k8s_openapi::ByteString = serde_json::from_value(json!(bundle))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bundle.0) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match client {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())?;
            config.with_client_auth_cert(vec![certificate], PrivateKeyDer::from_pem_slice(key.as_bytes())?)?
        }
    };
    let tcp = timeout(EXCHANGE, TcpStream::connect(address)).await??;
    let name = ServerName::try_from(name.to_owned())?;
    Ok(timeout(EXCHANGE, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await??)
}

/// The certificate that a process serves.
pub async fn certificate_of(bundle: &str, port: u16) -> Vec<u8> {
    let served = served(bundle, port).await;
    served.expect("TLS that the registration trusts")
}

/// The same of one that may serve what the registration does not trust.
pub async fn served(bundle: &str, port: u16) -> Result<Vec<u8>> {
    served_at(bundle, (Ipv4Addr::LOCALHOST, port).into(), HOST).await
}

/// The same at another address, which is called by that name.
pub async fn served_at(bundle: &str, address: SocketAddr, name: &str) -> Result<Vec<u8>> {
    let stream = connect_to(bundle, address, name, None).await?;
    let (_, session) = stream.get_ref();
    Ok(session.peer_certificates().context("no certificate")?[0].to_vec())
}

/// How a process ends a handshake with such a client, before a byte was asked of it; an error where it goes on to listen.
pub async fn cut_off(bundle: &str, port: u16, client: Option<&ClientPair>) -> Result<String> {
    let mut stream = match connect_as(bundle, port, client).await {
        Ok(stream) => stream,
        Err(error) => return Ok(format!("{error:#}")),
    };
    // In TLS 1.3 a client hears of it after its own part is done.
    match timeout(Duration::from_secs(2), stream.read(&mut [0; 1])).await {
        Ok(Ok(read)) => bail!("{read} bytes came"),
        Ok(Err(error)) => Ok(error.to_string()),
        Err(_) => bail!("it waits for a request"),
    }
}

/// Asks a process about the creation of a pod by `lea`.
pub async fn review(bundle: &str, port: u16, namespace: &str, object: &Value) -> Result<Value> {
    review_as(bundle, port, None, namespace, object).await
}

/// The same with a certificate of one's own.
pub async fn review_as(
    bundle: &str,
    port: u16,
    client: Option<&ClientPair>,
    namespace: &str,
    object: &Value,
) -> Result<Value> {
    let request = json!({
        "uid": UID, "operation": "CREATE", "namespace": namespace,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "userInfo": {"username": "lea", "groups": ["system:authenticated"]},
        "object": object,
    });
    let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string();
    let head = format!(
        "POST /admit/fence?timeout=5s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = connect_as(bundle, port, client).await?;
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut answer = Vec::new();
    // A server may end the connection without TLS's farewell: what came until then is judged.
    let _ = timeout(EXCHANGE, stream.read_to_end(&mut answer)).await?;
    let answer = String::from_utf8(answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    Ok(serde_json::from_str(body)?)
}
