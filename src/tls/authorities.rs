//! Certificates of authorities, as a file or a Secret holds them in PEM.
//!
//! Must never: take for an authority what is no CA, or one that is not valid now.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Most of them in one place.
const MAX: usize = 64;
/// Characters in a line of PEM.
const LINE: usize = 64;

/// Why certificates are no authorities.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum AuthoritiesError {
    /// Not PEM.
    #[error("is no certificate in PEM")]
    Unreadable,
    /// Nothing is there.
    #[error("holds no certificate")]
    Empty,
    /// Somebody's leaf.
    #[error("holds a certificate that is no CA")]
    NoCa,
    /// Too many.
    #[error("holds more than {MAX} certificates")]
    TooMany,
    /// The last one's end has come.
    #[error("holds no CA that has not expired")]
    Expired,
    /// It begins later.
    #[error("holds no CA that is valid yet; see whether the clock is right")]
    NotYet,
}

/// Authorities that are valid. Two are equal that hold the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Authorities(Vec<Authority>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Authority {
    der: CertificateDer<'static>,
    begins: i64,
    ends: i64,
}

impl Authority {
    fn is_valid(&self, now: OffsetDateTime) -> bool {
        (self.begins..=self.ends).contains(&now.unix_timestamp())
    }
}

impl Authorities {
    /// Those of a PEM file that are valid now, of which there must be one.
    pub(super) fn read(pem: &[u8], now: OffsetDateTime) -> Result<Self, AuthoritiesError> {
        let mut found = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let der: CertificateDer<'static> = certificate.map_err(|_| AuthoritiesError::Unreadable)?;
            let (begins, ends) = {
                let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| AuthoritiesError::Unreadable)?;
                if !parsed.is_ca() {
                    return Err(AuthoritiesError::NoCa);
                }
                let validity = parsed.validity();
                (validity.not_before.timestamp(), validity.not_after.timestamp())
            };
            if found.len() == MAX {
                return Err(AuthoritiesError::TooMany);
            }
            found.push(Authority { der, begins, ends });
        }
        let latest = found.iter().map(|authority| authority.ends).max();
        let latest = latest.ok_or(AuthoritiesError::Empty)?;
        let is_over = latest < now.unix_timestamp();
        Self(found).still_valid(now).ok_or(if is_over {
            AuthoritiesError::Expired
        } else {
            AuthoritiesError::NotYet
        })
    }

    /// The same without those that are not valid now; none if none is left.
    pub(super) fn still_valid(&self, now: OffsetDateTime) -> Option<Self> {
        let valid: Vec<Authority> = self.0.iter().filter(|one| one.is_valid(now)).cloned().collect();
        (!valid.is_empty()).then_some(Self(valid))
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// In PEM, and nothing beside them: what was pasted in by mistake, such as a key, goes nowhere.
    pub(super) fn pem(&self) -> String {
        let mut pem = String::new();
        for authority in &self.0 {
            let text = STANDARD.encode(&authority.der);
            pem.push_str("-----BEGIN CERTIFICATE-----\n");
            for line in text.as_bytes().chunks(LINE) {
                pem.extend(line.iter().copied().map(char::from));
                pem.push('\n');
            }
            pem.push_str("-----END CERTIFICATE-----\n");
        }
        pem
    }

    /// What verifies certificates of theirs.
    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        // One that cannot be an anchor verifies nothing, and that is what it would be worth.
        roots.add_parsable_certificates(self.0.iter().map(|authority| authority.der.clone()));
        Arc::new(roots)
    }
}
