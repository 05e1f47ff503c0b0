//! The hosts behind the domains: HTTP with TLS, plain HTTP, and one that keeps what it is sent as it comes.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use futures::StreamExt;
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What all names of these tests are below.
pub const ZONE: &str = "ringfence.example";
/// A name in letters that DNS does not carry.
pub const BOOKS: &str = "xn--bcher-kva.ringfence.example";

/// Hosts that answer, each on a port of its own.
pub struct Hosts {
    /// HTTP/1.1 and HTTP/2 with TLS.
    pub tls: u16,
    /// The same at `::1`.
    pub tls_v6: u16,
    /// HTTP without TLS.
    pub plain: u16,
    /// Keeps what it is sent, and answers `HTTP/1.1 200` to each connection.
    pub raw: u16,
    /// Reads what it is sent, and says nothing.
    pub quiet: u16,
    pub kept: Arc<Mutex<Vec<Vec<u8>>>>,
    pub ca: PathBuf,
    client: Arc<ClientConfig>,
}

impl Hosts {
    /// At an address of this machine, and of IPv6 at `::1`.
    pub async fn start(folder: &std::path::Path, address: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A certificate whose issuer has its own name is taken for one that signed itself.
        params.distinguished_name.push(DnType::CommonName, "CA of the hosts");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let names = vec![format!("*.{ZONE}"), format!("*.wild.{ZONE}"), BOOKS.to_owned()];
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &ca).unwrap();
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let file = folder.join("hosts-ca.pem");
        std::fs::write(&file, ca.pem()).unwrap();
        let kept: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        Self {
            tls: with_tls(address, acceptor.clone()).await,
            tls_v6: with_tls("::1", acceptor).await,
            plain: listen(address, |stream| speak(TokioIo::new(stream))).await,
            raw: {
                let kept = Arc::clone(&kept);
                listen(address, move |stream| keep(stream, Arc::clone(&kept))).await
            },
            quiet: listen(address, |mut stream| async move {
                drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
            })
            .await,
            kept,
            ca: file,
            client: trusting(ca.der()),
        }
    }

    /// What a client of these hosts trusts. No ALPN: HTTP/1.1.
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }
}

fn trusting(ca: &CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).unwrap();
    Arc::new(
        ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
}

async fn with_tls(address: &str, acceptor: TlsAcceptor) -> u16 {
    listen(address, move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                speak(TokioIo::new(stream)).await;
            }
        }
    })
    .await
}

async fn listen<F>(address: &str, serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let address: IpAddr = address.parse().unwrap();
    let listener = TcpListener::bind(SocketAddr::new(address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream));
        }
    });
    port
}

async fn speak<I>(io: I)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    drop(Builder::new(TokioExecutor::new()).serve_connection(io, service).await);
}

/// `/stream` sends ten pieces, a tenth of a second apart, and `/endless` goes on; `/flood` sends as much as is taken; everything else is told what it sent.
async fn answer(request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() == "/flood" {
        let piece = || Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 64 << 10]));
        return Response::new(Body::from_stream(futures::stream::repeat_with(piece)));
    }
    let pieces = match request.uri().path() {
        "/stream" => 10,
        "/endless" => u32::MAX,
        _ => 0,
    };
    if pieces > 0 {
        let pieces = futures::stream::unfold(0u32, move |piece| async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            (piece < pieces).then(|| (Ok::<_, Infallible>(Bytes::from(format!("piece {piece}\n"))), piece + 1))
        });
        return Response::new(Body::from_stream(pieces.boxed()));
    }
    let told = format!(
        "{:?} {} {}\n",
        request.version(),
        request.method(),
        request.uri().path()
    );
    let mut headers: Vec<String> = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
        .collect();
    headers.sort();
    let body = request
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let mut response = Response::new(Body::from(format!(
        "{told}{}\n{} bytes\n",
        headers.concat(),
        body.len()
    )));
    response.headers_mut().insert("x-host", "yes".parse().unwrap());
    response
        .headers_mut()
        .insert("proxy-authenticate", "Basic".parse().unwrap());
    response
}

async fn keep(mut stream: TcpStream, kept: Arc<Mutex<Vec<Vec<u8>>>>) {
    let (mut all, mut patience) = (Vec::new(), Duration::from_secs(5));
    // What comes within a moment of the first is all of it.
    while let Ok(Ok(length)) = tokio::time::timeout(patience, stream.read_buf(&mut all)).await {
        if length == 0 {
            break;
        }
        patience = Duration::from_millis(500);
    }
    kept.lock().unwrap().push(all);
    drop(
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await,
    );
}
