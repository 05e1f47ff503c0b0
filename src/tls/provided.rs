//! A Secret that somebody else writes: a person, or cert-manager. Ringfence serves its pair and has its `ca.crt` trusted.
//!
//! The authority comes from the same Secret as the certificate, and from nowhere else: two places would be changed one after the
//! other, and between them nobody would trust what is served. Must never: write it, or take what the API server would not believe.

use thiserror::Error;
use time::OffsetDateTime;

use super::authorities::{Authorities, AuthoritiesError};
use super::issue::{Names, Usable};
use super::pair::{Disbelief, Pair};
use super::secret::{CA_CERT, Content, Current};

/// What is wrong with it, and what to do.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ProvidedError {
    /// It is not there.
    #[error("it does not exist: make it, or have cert-manager make it, with tls.crt, tls.key and ca.crt")]
    Missing,
    /// No authority.
    #[error("it has no {CA_CERT}: add the CA that signed tls.crt, which the API server is to trust")]
    NoCaCert,
    /// The authority is none.
    #[error("its {CA_CERT} {0}: put the CA that signed tls.crt there, and nothing else")]
    CaCert(AuthoritiesError),
    /// The pair is none.
    #[error("{0}: put a certificate and its own key there, in PEM")]
    Pair(&'static str),
    /// For somebody else.
    #[error("its tls.crt is not for {0}: have it issued with that name among its subject alternative names")]
    Name(String),
    /// Over.
    #[error("its tls.crt has expired: renew it")]
    Expired,
    /// Not yet.
    #[error("its tls.crt is not valid yet: see whether the clocks are right, or have it issued anew")]
    NotYet,
    /// Of another authority.
    #[error(
        "its tls.crt is no certificate for servers under {CA_CERT}: put the CA that signed it there, and those between into tls.crt"
    )]
    Untrusted,
}

/// What to serve, and whom the API server is to trust for it.
pub(super) fn check(content: &Content, names: &Names, now: OffsetDateTime) -> Result<Current, ProvidedError> {
    let authorities = content.ca_cert.as_deref().ok_or(ProvidedError::NoCaCert)?;
    let authorities = Authorities::read(authorities.as_bytes(), now).map_err(ProvidedError::CaCert)?;
    let pair = Pair::read(&content.cert, &content.key).map_err(ProvidedError::Pair)?;
    let called = names.called();
    if !pair.names.iter().any(|name| serves(name, called)) {
        return Err(ProvidedError::Name(called.clone()));
    }
    pair.is_believed(authorities.roots(), [called], now)
        .map_err(|why| match why {
            Disbelief::Expired => ProvidedError::Expired,
            Disbelief::NotYet | Disbelief::Clock => ProvidedError::NotYet,
            Disbelief::Name => ProvidedError::Name(called.clone()),
            Disbelief::Other => ProvidedError::Untrusted,
        })?;
    Ok(Current {
        trust: authorities.pem(),
        usable: Usable::from(pair),
    })
}

/// Whether a name of a certificate is that one, or has a wildcard for its first label.
fn serves(name: &str, called: &str) -> bool {
    let under = || called.split_once('.').map(|(_, rest)| rest);
    name == called || name.strip_prefix("*.").is_some_and(|suffix| under() == Some(suffix))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair};
    use rstest::rstest;
    use time::Duration;

    use super::*;

    struct Ca(CertifiedIssuer<'static, KeyPair>);

    impl Ca {
        fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        fn leaf(&self, names: &[&str], days: i64) -> (String, String) {
            sign(&self.0, names, days)
        }

        /// A leaf of an authority between, which comes with it.
        fn leaf_between(&self, name: &str) -> (String, String) {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let between = CertifiedIssuer::signed_by(params, key, &self.0).unwrap();
            let (leaf, key) = sign(&between, &[name], 1);
            (format!("{leaf}{}", between.pem()), key)
        }
    }

    fn sign(issuer: &Issuer<'_, KeyPair>, names: &[&str], days: i64) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let (now, days) = (OffsetDateTime::now_utc(), Duration::days(days));
        (params.not_before, params.not_after) = if days.is_negative() {
            (now + days * 2, now + days)
        } else {
            (now - Duration::hours(1), now + days)
        };
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
    }

    const NAME: &str = "hook.ringfence.svc";

    fn checked(ca_cert: Option<String>, (cert, key): (String, String)) -> Result<Current, ProvidedError> {
        let content = Content {
            ca_cert,
            ca_key: None,
            cert,
            key,
        };
        check(
            &content,
            &Names::new("hook", "ringfence", "cluster.local", None),
            OffsetDateTime::now_utc(),
        )
    }

    #[test]
    fn what_the_api_server_believes_is_served_and_only_its_authorities_are_published() {
        let (ca, other) = (Ca::new(), Ca::new());
        let both = format!("{}{}", ca.0.pem(), other.0.pem());
        for pair in [
            ca.leaf(&[NAME], 1),
            ca.leaf(&["x", "HOOK.ringfence.svc"], 1),
            ca.leaf(&["*.ringfence.svc"], 1),
            ca.leaf_between(NAME),
            other.leaf(&[NAME], 1),
        ] {
            let current = checked(Some(format!("some words\n{both}{}", pair.1)), pair).unwrap();
            assert_eq!(current.trust, both.replace('\r', ""));
        }
    }

    #[test]
    fn what_it_would_not_believe_is_named() {
        let (ca, other) = (Ca::new(), Ca::new());
        let (good, mixed) = (ca.leaf(&[NAME], 1), (ca.leaf(&[NAME], 1).0, other.leaf(&[NAME], 1).1));
        let authority = || Some(ca.0.pem());
        let not_ca = ProvidedError::CaCert(AuthoritiesError::NoCa);
        for (ca_cert, pair, why) in [
            (None, good.clone(), ProvidedError::NoCaCert),
            (
                Some(String::new()),
                good.clone(),
                ProvidedError::CaCert(AuthoritiesError::Empty),
            ),
            (Some(good.0.clone()), good.clone(), not_ca),
            (
                authority(),
                mixed,
                ProvidedError::Pair("tls.key is not the key of tls.crt"),
            ),
            (
                authority(),
                (good.0.clone(), String::new()),
                ProvidedError::Pair("tls.key is no key"),
            ),
            (
                authority(),
                ca.leaf(&["other.svc"], 1),
                ProvidedError::Name(NAME.to_owned()),
            ),
            (
                authority(),
                ca.leaf(&["*.svc"], 1),
                ProvidedError::Name(NAME.to_owned()),
            ),
            (authority(), ca.leaf(&[NAME], -1), ProvidedError::Expired),
            (authority(), other.leaf(&[NAME], 1), ProvidedError::Untrusted),
        ] {
            assert_eq!(checked(ca_cert, pair).map(drop).unwrap_err(), why);
        }
    }

    #[rstest]
    #[case::over(2, AuthoritiesError::Expired)]
    #[case::not_yet(-2, AuthoritiesError::NotYet)]
    fn an_authority_counts_while_it_is_valid(#[case] days: i64, #[case] why: AuthoritiesError) {
        let mut params = CertificateParams::default();
        let now = OffsetDateTime::now_utc();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (now - Duration::days(1), now + Duration::days(1));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        assert!(Authorities::read(pem.as_bytes(), now).is_ok());
        let then = now + Duration::days(days);
        assert_eq!(Authorities::read(pem.as_bytes(), then).unwrap_err(), why);
    }
}
