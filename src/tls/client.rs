//! Who may open a connection to the admission port: clients with a certificate of a CA and a name that the platform says.
//!
//! Must never: take a client while no CA is known, let a session of yesterday's CA be resumed, or go back to asking nobody when
//! the file is gone or broken: what was read last stands, without what has expired.

use std::{
    collections::BTreeSet,
    fmt,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, ring::default_provider, verify_tls12_signature, verify_tls13_signature},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime};
use thiserror::Error as ThisError;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::authorities::{Authorities, AuthoritiesError};
use crate::webhook::{Concern, Readiness};

/// How often the file is looked at. A kubelet takes a minute to bring a changed ConfigMap.
const LOOK: Duration = Duration::from_secs(5);
/// Longest that a file of authorities may be.
const MAX_FILE: u64 = 1 << 20;

/// Why clients cannot be told by this file.
#[derive(Debug, ThisError)]
pub enum ClientCaError {
    /// It cannot be read.
    #[error("cannot read {0}: {1}; mount the CA that signs the API server's client certificate there")]
    Unreadable(PathBuf, std::io::Error),
    /// It is too long.
    #[error("{0} has more than {MAX_FILE} bytes: put nothing but the CA's certificates there")]
    TooLong(PathBuf),
    /// It holds no CA that is valid.
    #[error("{0}: {1}; put the CA that signs the API server's client certificate there")]
    Useless(PathBuf, AuthoritiesError),
}

/// Verifies clients of the admission port by a file of authorities and by name.
pub struct ClientAuthentication {
    file: PathBuf,
    /// Common names and DNS names.
    names: BTreeSet<String>,
    provider: Arc<CryptoProvider>,
    now: ArcSwapOption<Known>,
}

/// Whom the file names, as it was read last.
struct Known {
    authorities: Authorities,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientAuthentication {
    /// Reads the file. `names` are those that a client's certificate may bear; whoever else the CA signs for is no client.
    ///
    /// # Errors
    /// Why nobody could be told by it.
    pub fn new(file: PathBuf, names: BTreeSet<String>) -> Result<Self, ClientCaError> {
        let new = Self {
            file,
            names,
            provider: Arc::new(default_provider()),
            now: ArcSwapOption::empty(),
        };
        new.look(OffsetDateTime::now_utc())?;
        Ok(new)
    }

    /// Looks at the file until `stop`, and says in `/readyz` and the log why it is of no use.
    pub async fn keep(&self, readiness: &Readiness, stop: CancellationToken) {
        let mut said = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let why = self
                .look(OffsetDateTime::now_utc())
                .err()
                .map(|error| error.to_string());
            if why != said {
                match &why {
                    Some(error) => tracing::warn!(error, "clients are told by the CA that was read before"),
                    None => tracing::info!("the CA of clients can be read again"),
                }
                readiness.concern(Concern::ClientAuthentication, why.clone());
                said = why;
            }
        }
    }

    /// One look: takes what the file holds; where that is of no use, what was known goes on without what has expired.
    fn look(&self, now: OffsetDateTime) -> Result<(), ClientCaError> {
        let read = read(&self.file).and_then(|pem| {
            Authorities::read(&pem, now).map_err(|error| ClientCaError::Useless(self.file.clone(), error))
        });
        match read {
            Ok(authorities) => {
                self.know(Some(authorities));
                Ok(())
            }
            Err(error) => {
                let known = self.now.load_full();
                self.know(known.and_then(|known| known.authorities.still_valid(now)));
                Err(error)
            }
        }
    }

    fn know(&self, authorities: Option<Authorities>) {
        let known = self.now.load();
        if known.as_ref().map(|known| &known.authorities) == authorities.as_ref() {
            return;
        }
        let next = authorities.and_then(|authorities| {
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities.roots(), self.provider.clone());
            let verifier = verifier.build().ok()?;
            Some(Arc::new(Known { authorities, verifier }))
        });
        tracing::info!(
            authorities = next.as_ref().map_or(0, |next| next.authorities.count()),
            "clients of the admission port are told by another CA"
        );
        self.now.store(next);
    }
}

fn read(file: &Path) -> Result<Vec<u8>, ClientCaError> {
    let unreadable = |error| ClientCaError::Unreadable(file.to_owned(), error);
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    opened.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(ClientCaError::TooLong(file.to_owned()));
    }
    Ok(bytes)
}

impl ClientCertVerifier for ClientAuthentication {
    /// None: who reads them would learn whom to ask for a certificate, and a client sends what it has without them.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let known = self.now.load_full();
        let known = known.ok_or_else(|| Error::General("no CA of clients is known".to_owned()))?;
        let verified = known.verifier.verify_client_cert(end_entity, intermediates, now)?;
        let is_named = names_of(end_entity).is_some_and(|found| !found.is_disjoint(&self.names));
        if !is_named {
            // Not in a log: anybody who has a certificate of that CA could fill it.
            return Err(Error::General("the client's name is not allowed".to_owned()));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The common names and DNS names of a certificate.
fn names_of(certificate: &CertificateDer<'_>) -> Option<BTreeSet<String>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let common = parsed.subject().iter_common_name();
    let mut names: BTreeSet<String> = common
        .filter_map(|name| name.as_str().ok().map(str::to_owned))
        .collect();
    if let Some(alternative) = parsed.subject_alternative_name().ok()? {
        names.extend(alternative.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        }));
    }
    Some(names)
}

impl fmt::Debug for ClientAuthentication {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ClientAuthentication")
            .field("file", &self.file)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}
