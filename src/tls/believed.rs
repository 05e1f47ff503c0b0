//! Whether the API server would believe a certificate, as the doctor asks it: by what it is told to trust, and the name that it calls.
//!
//! Must never: say more of a certificate than its end.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::pair::{Disbelief, verify};

/// A certificate that is believed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Believed {
    leaf: CertificateDer<'static>,
    /// Its end, in seconds since 1970.
    pub ends: i64,
}

impl Believed {
    /// The first certificate of a PEM text, with those that follow for the way to an authority.
    pub fn of_pem(chain: &[u8], bundle: &[u8], name: &str) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
        believed(
            &chain.map_err(|_| "holds no certificate that can be read")?,
            bundle,
            name,
        )
    }

    /// Whether both are the same certificate.
    pub fn is(&self, other: &Self) -> bool {
        self.leaf == other.leaf
    }
}

/// Holds a chain against a `caBundle`.
pub fn believed(chain: &[CertificateDer<'static>], bundle: &[u8], name: &str) -> Result<Believed, String> {
    let leaf = chain.first().ok_or("holds no certificate")?;
    verify(chain, roots_of(bundle), [name], OffsetDateTime::now_utc()).map_err(|why| match why {
        Disbelief::Expired => "has expired".to_owned(),
        Disbelief::NotYet | Disbelief::Clock => "is not valid yet".to_owned(),
        Disbelief::Name => format!("is not for {name}"),
        Disbelief::Other => "was not signed by a CA that the API server trusts, or is not for servers".to_owned(),
    })?;
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| "cannot be read")?;
    Ok(Believed {
        leaf: leaf.clone(),
        ends: parsed.validity().not_after.timestamp(),
    })
}

/// The authorities of a `caBundle`. What is none verifies nothing.
pub fn roots_of(bundle: &[u8]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok));
    Arc::new(roots)
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use time::Duration;

    use super::*;

    #[test]
    fn a_certificate_is_believed_by_name_time_and_signer() {
        let ca = || {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let (ours, another) = (ca(), ca());
        let now = OffsetDateTime::now_utc();
        let leaf = |days: i64| {
            let mut params = CertificateParams::new(vec!["a.b.svc".to_owned()]).unwrap();
            params.not_before = now - Duration::days(100);
            params.not_after = now + Duration::days(days);
            params.signed_by(&KeyPair::generate().unwrap(), &ours).unwrap().pem()
        };
        let says = |chain: &str, bundle: &str, name: &str| Believed::of_pem(chain.as_bytes(), bundle.as_bytes(), name);
        let (good, old) = (leaf(10), leaf(-10));
        let both = format!("{}{}", another.pem(), ours.pem());
        let found = says(&good, &both, "a.b.svc").unwrap();
        assert_eq!(found.ends, (now + Duration::days(10)).unix_timestamp());
        assert!(found.is(&found.clone()) && !found.is(&says(&leaf(10), &both, "a.b.svc").unwrap()));
        for (chain, bundle, name, expected) in [
            (good.as_str(), ours.pem(), "c.d.svc", "is not for c.d.svc"),
            (&good, another.pem(), "a.b.svc", "was not signed by a CA"),
            (&good, String::new(), "a.b.svc", "was not signed by a CA"),
            (&old, ours.pem(), "a.b.svc", "has expired"),
            ("", ours.pem(), "a.b.svc", "holds no certificate"),
            (
                "-----BEGIN CERTIFICATE-----\nx\n",
                ours.pem(),
                "a.b.svc",
                "holds no certificate",
            ),
        ] {
            let why = says(chain, &bundle, name).unwrap_err();
            assert!(why.starts_with(expected), "{why} should begin with {expected}");
        }
    }
}
