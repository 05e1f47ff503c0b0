//! The certificate that the webhook serves, where it can be reached from here, and the one that its Secret holds: whether the API server
//! believes them under the name that it calls.
//!
//! Must never: call good what was not seen, or read more of a Secret than its certificates.

use std::{
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};
use kube::{Api, Client};
use rustls::{ClientConfig, ClientConnection, crypto::ring::default_provider};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::{task::spawn_blocking, time::timeout};

use super::told;
use crate::{
    cli::{check::told::Told, cluster::bounded},
    tls::{Believed, believed, roots_of},
};

/// Longest that one read or write, and all of a handshake, may take.
const STEP: Duration = Duration::from_secs(3);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Most addresses of a name that are tried.
const ADDRESSES: usize = 3;
/// Where the chart's Deployment says nothing else.
const SECRET: &str = "ringfence-webhook-tls";

/// A certificate that was looked at: believed, or why not.
pub(super) type Looked = Result<Believed, String>;

/// Looks at both, by what the API server is told of the webhook: whom to call, and whom to trust.
pub(super) async fn look(
    client: &Client,
    release: &str,
    registration: &Value,
    deployment: Option<&Value>,
) -> Vec<Told> {
    let webhooks = registration.get("webhooks").and_then(Value::as_array);
    let mut clients = webhooks
        .into_iter()
        .flatten()
        .filter_map(|webhook| webhook.get("clientConfig"));
    let called = clients.find_map(|client| Some((callee(client)?, bundle(client)?)));
    let Some((callee, bundle)) = called else {
        // What is said of registrations says it.
        return Vec::new();
    };
    let secret = secret_name(deployment);
    let held = held(client, release, &secret, &callee.name, &bundle).await;
    let served = served(callee.clone(), bundle).await;
    told::served(&callee.name, &secret, served, held, Timestamp::now())
}

/// Whom the API server calls, and by what name.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Callee {
    name: String,
    port: u16,
}

fn callee(client: &Value) -> Option<Callee> {
    if let Some(url) = client.get("url").and_then(Value::as_str) {
        let url: axum::http::Uri = url.parse().ok()?;
        let name = url.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_u16().unwrap_or(443);
        return Some(Callee { name, port });
    }
    let service = client.get("service")?;
    let text = |field: &str| service.get(field).and_then(Value::as_str);
    let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
    Some(Callee {
        name: format!("{}.{}.svc", text("name")?, text("namespace")?),
        port: u16::try_from(port).ok()?,
    })
}

fn bundle(client: &Value) -> Option<Vec<u8>> {
    let ByteString(pem) = serde_json::from_value(json!(client.get("caBundle")?)).ok()?;
    Some(pem)
}

fn secret_name(deployment: Option<&Value>) -> String {
    let containers = deployment.and_then(|found| found.pointer("/spec/template/spec/containers")?.as_array());
    let args = containers
        .into_iter()
        .flatten()
        .filter_map(|container| container.get("args")?.as_array());
    let mut args = args.flatten().filter_map(Value::as_str);
    let named = args.find_map(|argument| argument.strip_prefix("--tls-secret="));
    named.unwrap_or(SECRET).to_owned()
}

/// What the Secret holds; `None` where it may not be read.
async fn held(client: &Client, release: &str, secret: &str, name: &str, bundle: &[u8]) -> Option<Looked> {
    let api = Api::<Secret>::namespaced(client.clone(), release);
    match bounded(&format!("read Secret {secret}"), api.get_opt(secret)).await {
        Ok(Some(found)) => {
            let data = found.data.unwrap_or_default();
            let chain = data
                .get("tls.crt")
                .map(|ByteString(pem)| pem.as_slice())
                .unwrap_or_default();
            Some(Believed::of_pem(chain, bundle, name))
        }
        Ok(None) => Some(Err("is not there".to_owned())),
        Err(_) => None,
    }
}

/// What is served; `None` where it cannot be reached from here, as from outside of the cluster.
async fn served(callee: Callee, bundle: Vec<u8>) -> Option<Looked> {
    let asking = spawn_blocking(move || handshake(&callee, &bundle));
    timeout(HANDSHAKE, asking).await.ok()?.ok()?
}

fn handshake(callee: &Callee, bundle: &[u8]) -> Option<Looked> {
    let addresses: Vec<SocketAddr> = (callee.name.as_str(), callee.port)
        .to_socket_addrs()
        .ok()?
        .take(ADDRESSES)
        .collect();
    let mut stream = addresses
        .iter()
        .find_map(|address| TcpStream::connect_timeout(address, STEP).ok())?;
    stream.set_read_timeout(Some(STEP)).ok()?;
    stream.set_write_timeout(Some(STEP)).ok()?;
    Some(chain(&mut stream, callee, bundle).and_then(|chain| believed(&chain, bundle, &callee.name)))
}

/// The certificates that somebody shows whom the API server believes.
fn chain(stream: &mut TcpStream, callee: &Callee, bundle: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots_of(bundle))
        .with_no_client_auth();
    let name = ServerName::try_from(callee.name.clone()).map_err(|error| error.to_string())?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    while connection.is_handshaking() {
        // An error of TLS comes as one of the stream.
        connection
            .complete_io(stream)
            .map_err(|error: io::Error| format!("is not believed: {error}"))?;
    }
    Ok(connection.peer_certificates().unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_server_calls_a_service_or_an_url() {
        for (client, expected) in [
            (
                json!({"service": {"name": "s", "namespace": "n"}}),
                Some(("s.n.svc", 443)),
            ),
            (
                json!({"service": {"name": "s", "namespace": "n", "port": 9}}),
                Some(("s.n.svc", 9)),
            ),
            (
                json!({"url": "https://127.0.0.1:8443/admit"}),
                Some(("127.0.0.1", 8443)),
            ),
            (json!({"url": "https://[::1]:8443/admit"}), Some(("::1", 8443))),
            (json!({"url": "https://a.example/admit"}), Some(("a.example", 443))),
            (json!({}), None),
        ] {
            let expected = expected.map(|(name, port)| Callee {
                name: name.to_owned(),
                port,
            });
            assert_eq!(callee(&client), expected, "{client}");
        }
    }

    #[test]
    fn the_deployment_says_which_secret() {
        let deployment =
            json!({"spec": {"template": {"spec": {"containers": [{"args": ["run", "--tls-secret=given"]}]}}}});
        assert_eq!(secret_name(Some(&deployment)), "given");
        assert_eq!(secret_name(None), SECRET);
    }
}
