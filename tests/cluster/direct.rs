//! A process asked directly, without the API server: over TLS, trusting what the registration trusts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// UID of the reviews that are sent.
pub const UID: &str = "7f0b2891-916f-4ed6-b7cd-27bff1815a8c";
const EXCHANGE: Duration = Duration::from_secs(10);

/// A TLS connection as the API server makes it: trusting the `caBundle` of a registration.
async fn connect(bundle: &str, port: u16) -> Result<TlsStream<TcpStream>> {
    let bundle: k8s_openapi::ByteString = serde_json::from_value(json!(bundle))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bundle.0) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = timeout(EXCHANGE, TcpStream::connect(("127.0.0.1", port))).await??;
    let name = ServerName::try_from("127.0.0.1")?;
    Ok(timeout(EXCHANGE, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await??)
}

/// The certificate that a process serves.
pub async fn certificate_of(bundle: &str, port: u16) -> Vec<u8> {
    let stream = connect(bundle, port).await.expect("TLS that the registration trusts");
    let (_, session) = stream.get_ref();
    session.peer_certificates().expect("a certificate")[0].to_vec()
}

/// Asks a process about the creation of a pod by `lea`.
pub async fn review(bundle: &str, port: u16, namespace: &str, object: &Value) -> Result<Value> {
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
    let mut stream = connect(bundle, port).await?;
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut answer = Vec::new();
    // A server may end the connection without TLS's farewell: what came until then is judged.
    let _ = timeout(EXCHANGE, stream.read_to_end(&mut answer)).await?;
    let answer = String::from_utf8(answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    Ok(serde_json::from_str(body)?)
}
