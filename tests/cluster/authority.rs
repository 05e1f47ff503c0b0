//! Certificate authorities of a test's own.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::direct::ClientPair;

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        // A CA without an identifier of its key is told apart by its name alone.
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a CA"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server of that name.
    pub fn server(&self, name: &str) -> ClientPair {
        self.issue(params(&[name], ExtendedKeyUsagePurpose::ServerAuth))
    }

    /// One that ended yesterday.
    pub fn expired_server(&self, name: &str) -> ClientPair {
        self.issue(ended(params(&[name], ExtendedKeyUsagePurpose::ServerAuth)))
    }

    /// A certificate for a client of that common name.
    pub fn client(&self, name: &str) -> ClientPair {
        self.issue(client(name))
    }

    /// One that ended yesterday.
    pub fn expired_client(&self, name: &str) -> ClientPair {
        self.issue(ended(client(name)))
    }

    fn issue(&self, params: CertificateParams) -> ClientPair {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

fn params(names: &[&str], usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.extended_key_usages = vec![usage];
    params
}

fn client(name: &str) -> CertificateParams {
    let mut params = params(&[], ExtendedKeyUsagePurpose::ClientAuth);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn ended(mut params: CertificateParams) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - Duration::days(30), now - Duration::days(1));
    params
}
