//! Makes certificates, and tells whether one still does.
//!
//! The CA lives for ten years, so renewing the leaf (at two thirds of its year) changes no `caBundle`. When the CA itself nears its
//! end, or is spoiled, both are made anew; the keeper has the new one trusted before it serves it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;
use super::pair::{Disbelief, Pair, canonical, sans};

const CA_LIFE: Duration = Duration::days(3_650);
const LEAF_LIFE: Duration = Duration::days(365);
/// Clocks of API servers may be behind ours.
const SKEW: Duration = Duration::hours(1);
/// Names kept from the certificate before. Replicas of two settings would otherwise undo each other's work for ever.
const MAX_NAMES: usize = 16;

/// The names that the API server calls the webhook by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Names {
    all: BTreeSet<String>,
    called: String,
}

/// The content of the Secret, in PEM.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Material {
    pub(super) ca_cert: String,
    pub(super) ca_key: String,
    pub(super) cert: String,
    pub(super) key: String,
}

/// A certificate that can be served.
pub(super) struct Usable {
    pub(super) certificate: Arc<CertifiedKey>,
    pub(super) begins: i64,
    pub(super) expires: i64,
}

/// What must be made anew, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Defect {
    Ca(&'static str),
    Leaf(&'static str),
}

impl Names {
    /// The names of a Service, also below the cluster's domain, and the host of a webhook that is called by URL.
    pub fn new(service: &str, namespace: &str, cluster_domain: &str, host: Option<&str>) -> Self {
        let of_service = format!("{service}.{namespace}.svc");
        let host = host.map(|host| canonical(host.trim_start_matches('[').trim_end_matches(']')));
        let called = host.clone().unwrap_or_else(|| of_service.clone());
        let mut all = BTreeSet::from([format!("{of_service}.{cluster_domain}"), of_service]);
        all.extend(host);
        Self { all, called }
    }

    /// The one that the API server calls it by.
    pub(super) const fn called(&self) -> &String {
        &self.called
    }
}

impl Usable {
    /// Whether it may be served at that time.
    pub(super) fn is_valid(&self, now: OffsetDateTime) -> bool {
        (self.begins..self.expires).contains(&now.unix_timestamp())
    }
}

impl From<Pair> for Usable {
    fn from(pair: Pair) -> Self {
        Self {
            certificate: pair.certificate,
            begins: pair.begins,
            expires: pair.ends,
        }
    }
}

impl Material {
    /// A new CA and a leaf of it.
    pub(super) fn issue(names: &Names, now: OffsetDateTime) -> Result<Self, TlsError> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "ringfence webhook CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (now - SKEW, now + CA_LIFE);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let ca_cert = params.self_signed(&key).map_err(failed)?.pem();
        sign(ca_cert, key.serialize_pem(), &names.all, now)
    }

    /// A new leaf of the same CA. Keeps the names of the old one, as long as they are few.
    pub(super) fn renew(&self, names: &Names, now: OffsetDateTime) -> Result<Self, TlsError> {
        let mut all = names.all.clone();
        all.extend(
            CertificateDer::from_pem_slice(self.cert.as_bytes())
                .ok()
                .and_then(|leaf| sans(&leaf))
                .unwrap_or_default(),
        );
        let names = if all.len() > MAX_NAMES { &names.all } else { &all };
        sign(self.ca_cert.clone(), self.ca_key.clone(), names, now)
    }

    /// The certificate to serve, unless something must be made anew.
    pub(super) fn check(&self, names: &Names, now: OffsetDateTime) -> Result<Usable, Defect> {
        let ca = self.check_ca(now)?;
        let pair = Pair::read(&self.cert, &self.key).map_err(Defect::Leaf)?;
        if !names.all.is_subset(&pair.names) {
            return Err(Defect::Leaf("tls.crt lacks a name"));
        }
        if pair.ends.saturating_sub(now.unix_timestamp()) < pair.ends.saturating_sub(pair.begins) / 3 {
            return Err(Defect::Leaf("tls.crt has less than a third of its life left"));
        }
        let mut roots = RootCertStore::empty();
        roots.add(ca).map_err(|_| Defect::Ca("ca.crt cannot be trusted"))?;
        let believed = pair.is_believed(Arc::new(roots), &names.all, now);
        believed.map_err(|why| match why {
            Disbelief::Clock => Defect::Leaf("the clock is wrong"),
            Disbelief::NotYet => Defect::Leaf("tls.crt is not valid yet: a clock went back"),
            Disbelief::Expired | Disbelief::Name | Disbelief::Other => {
                Defect::Leaf("tls.crt is not valid under ca.crt")
            }
        })?;
        Ok(pair.into())
    }

    fn check_ca(&self, now: OffsetDateTime) -> Result<CertificateDer<'static>, Defect> {
        let mut all = CertificateDer::pem_slice_iter(self.ca_cert.as_bytes());
        let ca = all.next().and_then(Result::ok);
        let ca: CertificateDer<'static> = ca.ok_or(Defect::Ca("ca.crt is no certificate"))?;
        // All of it is trusted.
        if all.next().is_some() {
            return Err(Defect::Ca("ca.crt holds more than the one CA"));
        }
        let key = KeyPair::from_pem(&self.ca_key).map_err(|_| Defect::Ca("ca.key is no key"))?;
        let (_, parsed) = X509Certificate::from_der(&ca).map_err(|_| Defect::Ca("ca.crt cannot be read"))?;
        if !parsed.is_ca() {
            return Err(Defect::Ca("ca.crt is no CA"));
        }
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(Defect::Ca("ca.key is not the key of ca.crt"));
        }
        let validity = parsed.validity();
        // The API server looks at this of a CA too.
        if validity.not_before.timestamp() > now.unix_timestamp() {
            return Err(Defect::Ca("ca.crt is not valid yet: a clock went back"));
        }
        let left = validity.not_after.timestamp().saturating_sub(now.unix_timestamp());
        if left < LEAF_LIFE.whole_seconds() {
            return Err(Defect::Ca("ca.crt ends before a new tls.crt would"));
        }
        Ok(ca)
    }
}

impl Defect {
    /// Why.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Ca(reason) | Self::Leaf(reason) => reason,
        }
    }
}

/// Keeps keys out of anything that prints.
impl fmt::Debug for Material {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Material").finish_non_exhaustive()
    }
}

/// Keeps keys out of anything that prints.
impl fmt::Debug for Usable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Usable")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

fn sign(ca_cert: String, ca_key: String, names: &BTreeSet<String>, now: OffsetDateTime) -> Result<Material, TlsError> {
    let issuer = Issuer::from_ca_cert_pem(&ca_cert, KeyPair::from_pem(&ca_key).map_err(failed)?).map_err(failed)?;
    let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>()).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, "ringfence webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (now - SKEW, now + LEAF_LIFE);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let cert = params.signed_by(&key, &issuer).map_err(failed)?.pem();
    Ok(Material {
        ca_cert,
        ca_key,
        cert,
        key: key.serialize_pem(),
    })
}

fn failed(error: rcgen::Error) -> TlsError {
    TlsError::Issue(error.to_string())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    fn names() -> Names {
        Names::new("hook", "ringfence", "cluster.local", None)
    }

    #[rstest]
    #[case::service_only(None)]
    #[case::host(Some("Hook.Example.COM"))]
    #[case::ipv4(Some("192.0.2.7"))]
    #[case::ipv6(Some("[2001:db8::7]"))]
    fn a_new_certificate_serves_every_name(#[case] host: Option<&str>) {
        let names = Names::new("hook", "ringfence", "cluster.local", host);
        let usable = Material::issue(&names, now()).unwrap().check(&names, now()).unwrap();
        assert_eq!(usable.expires, (now() + LEAF_LIFE).unix_timestamp());
    }

    #[test]
    fn a_leaf_is_renewed_at_two_thirds_of_its_life_and_its_ca_stays() {
        let old = Material::issue(&names(), now()).unwrap();
        assert!(old.check(&names(), now() + Duration::days(240)).is_ok());
        let later = now() + Duration::days(250);
        assert_eq!(
            old.check(&names(), later).unwrap_err().reason(),
            "tls.crt has less than a third of its life left"
        );
        let new = old.renew(&names(), later).unwrap();
        assert!(new.check(&names(), later).is_ok());
        assert_eq!((&new.ca_cert, &new.ca_key), (&old.ca_cert, &old.ca_key));
        assert_ne!(new.key, old.key);
    }

    #[test]
    fn a_ca_that_would_end_before_its_leaf_is_replaced() {
        let material = Material::issue(&names(), now()).unwrap();
        let defect = material
            .check(&names(), now() + CA_LIFE - Duration::days(300))
            .unwrap_err();
        assert_eq!(defect, Defect::Ca("ca.crt ends before a new tls.crt would"));
    }

    /// Two replicas of different settings must come to rest, not renew against each other.
    #[test]
    fn a_renewal_for_another_name_keeps_the_names_before() {
        let other = Names::new("hook", "ringfence", "cluster.local", Some("hook.example.com"));
        let old = Material::issue(&names(), now()).unwrap();
        assert_eq!(
            old.check(&other, now()).unwrap_err(),
            Defect::Leaf("tls.crt lacks a name")
        );
        let third = Names::new("hook", "ringfence", "cluster.local", Some("192.0.2.7"));
        let new = old.renew(&other, now()).unwrap().renew(&third, now()).unwrap();
        assert!(
            [names(), other, third]
                .iter()
                .all(|names| new.check(names, now()).is_ok())
        );
    }

    #[rstest]
    #[case::ca_cert(|m: &mut Material, _: &Material| m.ca_cert = "rubbish".into(), "ca.crt is no certificate", true)]
    #[case::ca_key(|m: &mut Material, _: &Material| m.ca_key.clear(), "ca.key is no key", true)]
    #[case::other_ca_key(|m: &mut Material, o: &Material| m.ca_key.clone_from(&o.ca_key), "ca.key is not the key of ca.crt", true)]
    #[case::leaf_as_ca(|m: &mut Material, _: &Material| m.ca_cert.clone_from(&m.cert), "ca.crt is no CA", true)]
    #[case::more_cas(|m: &mut Material, o: &Material| m.ca_cert.push_str(&o.ca_cert), "ca.crt holds more than the one CA", true)]
    #[case::cert(|m: &mut Material, _: &Material| m.cert.clear(), "tls.crt holds no certificate", false)]
    #[case::key(|m: &mut Material, _: &Material| m.key = "x".into(), "tls.key is no key", false)]
    #[case::other_key(|m: &mut Material, o: &Material| m.key.clone_from(&o.key), "tls.key is not the key of tls.crt", false)]
    #[case::other_leaf(
        |m: &mut Material, o: &Material| { m.cert.clone_from(&o.cert); m.key.clone_from(&o.key); },
        "tls.crt is not valid under ca.crt", false
    )]
    fn spoiled_material_is_told_apart(
        #[case] spoil: fn(&mut Material, &Material),
        #[case] reason: &str,
        #[case] whole: bool,
    ) {
        let other = Material::issue(&names(), now()).unwrap();
        let mut material = Material::issue(&names(), now()).unwrap();
        spoil(&mut material, &other);
        let defect = material.check(&names(), now()).unwrap_err();
        assert_eq!((defect.reason(), matches!(defect, Defect::Ca(_))), (reason, whole));
    }

    #[test]
    fn keys_do_not_print() {
        let material = Material::issue(&names(), now()).unwrap();
        let usable = material.check(&names(), now()).unwrap();
        assert_eq!(format!("{material:?}"), "Material { .. }");
        assert!(!format!("{usable:?}").contains("KEY"));
    }
}
