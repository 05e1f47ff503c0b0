//! A certificate and its key, whoever issued them: read, and held against the authorities that are to vouch for it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What can be served.
pub(super) struct Pair {
    pub(super) certificate: Arc<CertifiedKey>,
    pub(super) names: BTreeSet<String>,
    pub(super) begins: i64,
    pub(super) ends: i64,
}

/// Why a certificate is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Disbelief {
    Expired,
    NotYet,
    Clock,
    /// For somebody else.
    Name,
    /// Nobody among the authorities signed it, or it is not for servers.
    Other,
}

impl Pair {
    pub(super) fn read(cert: &str, key: &str) -> Result<Self, &'static str> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(cert.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| "tls.crt is no certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| "tls.key is no key")?;
        let leaf = chain.first().cloned().ok_or("tls.crt holds no certificate")?;
        let certificate =
            CertifiedKey::from_der(chain, key, &default_provider()).map_err(|_| "tls.key is not the key of tls.crt")?;
        let names = sans(&leaf).ok_or("tls.crt cannot be read")?;
        let (_, parsed) = X509Certificate::from_der(&leaf).map_err(|_| "tls.crt cannot be read")?;
        let validity = parsed.validity();
        Ok(Self {
            certificate: Arc::new(certificate),
            names,
            begins: validity.not_before.timestamp(),
            ends: validity.not_after.timestamp(),
        })
    }

    /// Whether a client that trusts `roots` believes it under each of these names.
    pub(super) fn is_believed<'a>(
        &self,
        roots: Arc<RootCertStore>,
        names: impl IntoIterator<Item = &'a String>,
        now: OffsetDateTime,
    ) -> Result<(), Disbelief> {
        let names = names.into_iter().map(String::as_str);
        verify(&self.certificate.cert, roots, names, now)
    }
}

/// Whether a client that trusts `roots` believes a chain, its leaf first, under each of these names.
pub(super) fn verify<'a>(
    chain: &[CertificateDer<'_>],
    roots: Arc<RootCertStore>,
    names: impl IntoIterator<Item = &'a str>,
    now: OffsetDateTime,
) -> Result<(), Disbelief> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::new(default_provider()));
    let verifier = verifier.build().map_err(|_| Disbelief::Other)?;
    let now = u64::try_from(now.unix_timestamp()).map_err(|_| Disbelief::Clock)?;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
    let (leaf, rest) = chain.split_first().ok_or(Disbelief::Other)?;
    for name in names {
        let name = ServerName::try_from(name).map_err(|_| Disbelief::Other)?;
        let verified = verifier.verify_server_cert(leaf, rest, &name, &[], now);
        verified.map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                Disbelief::Expired
            }
            Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
                Disbelief::NotYet
            }
            Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            ) => Disbelief::Name,
            _ => Disbelief::Other,
        })?;
    }
    Ok(())
}

/// The names of a certificate, each in one spelling.
pub(super) fn sans(leaf: &CertificateDer<'_>) -> Option<BTreeSet<String>> {
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(canonical(name)),
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
            .ok()
            .map(|ip| ip.to_string()),
        _ => None,
    };
    Some(names.value.general_names.iter().filter_map(name).collect())
}

/// One spelling for each name: addresses as they print, names in lower case.
pub(super) fn canonical(host: &str) -> String {
    host.parse::<IpAddr>()
        .map_or_else(|_| host.to_ascii_lowercase(), |ip| ip.to_string())
}
