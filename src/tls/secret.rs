//! The one Secret that all replicas share.
//!
//! Whoever comes first wins: creation by POST, renewal by PUT with the resourceVersion that was read, and the loser reads again. One that
//! is somebody else's is only read.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::call::{TlsError, call};
use super::issue::{Defect, Material, Names, Usable};
use super::provided::{self, ProvidedError};
use crate::api::{MANAGED_BY_LABEL, MANAGER};

/// Lost races before giving up until the next tick. Each is lost to a replica that wrote something usable.
const ATTEMPTS: usize = 5;
/// Most writes of one replica in a period: repairs need one.
const MOST_WRITES: usize = 10;
const PERIOD: Duration = Duration::from_secs(60);

/// The Secret by name, and what it should hold.
pub(super) struct Store {
    pub(super) api: Api<Secret>,
    pub(super) name: String,
    pub(super) names: Names,
    pub(super) owner: Option<OwnerReference>,
    /// Whether it is somebody else's.
    pub(super) is_provided: bool,
    /// When it was written lately.
    pub(super) written: Mutex<Vec<Instant>>,
}

/// What the Secret holds now.
#[derive(Debug)]
pub(super) struct Current {
    /// In PEM, whom the API server is to trust.
    pub(super) trust: String,
    pub(super) usable: Usable,
}

/// What stands in it, as far as it is text.
pub(super) struct Content {
    pub(super) ca_cert: Option<String>,
    pub(super) ca_key: Option<String>,
    pub(super) cert: String,
    pub(super) key: String,
}

impl Store {
    /// What is to be served; made or renewed where that is ours to do.
    pub(super) async fn current(&self, now: OffsetDateTime) -> Result<Current, TlsError> {
        if !self.is_provided {
            return self.ensure(now).await;
        }
        let name = &self.name;
        let found = call(&format!("read Secret {name}"), self.api.get_opt(name)).await?;
        let content = found.as_ref().map(Content::of).ok_or(ProvidedError::Missing);
        let current = content.and_then(|content| provided::check(&content, &self.names, now));
        current.map_err(|error| TlsError::Provided(name.clone(), error))
    }

    /// Reads the certificate; makes or renews it where it must be.
    async fn ensure(&self, now: OffsetDateTime) -> Result<Current, TlsError> {
        let name = &self.name;
        for _ in 0..ATTEMPTS {
            let found = call(&format!("read Secret {name}"), self.api.get_opt(name)).await?;
            let written = match found {
                None => {
                    self.may_write()?;
                    let secret = self.secret(&Material::issue(&self.names, now)?, ObjectMeta::default());
                    tracing::info!(secret = name, "making the webhook's certificate");
                    call(
                        &format!("create Secret {name}"),
                        self.api.create(&PostParams::default(), &secret),
                    )
                    .await
                }
                Some(secret) => {
                    let material = read(&secret).ok_or_else(|| TlsError::Foreign(name.clone()))?;
                    let type_ = secret.type_.clone();
                    let renewed = match material.check(&self.names, now) {
                        Ok(usable) => {
                            return Ok(Current {
                                trust: material.ca_cert,
                                usable,
                            });
                        }
                        Err(defect) => {
                            tracing::info!(
                                secret = name,
                                reason = defect.reason(),
                                "renewing the webhook's certificate"
                            );
                            match defect {
                                Defect::Ca(_) => Material::issue(&self.names, now)?,
                                Defect::Leaf(_) => material.renew(&self.names, now)?,
                            }
                        }
                    };
                    self.may_write()?;
                    let mut secret = self.secret(&renewed, secret.metadata);
                    // It never changes, and whoever made the Secret anew may have given it another.
                    secret.type_ = type_.or(secret.type_);
                    call(
                        &format!("replace Secret {name}"),
                        self.api.replace(name, &PostParams::default(), &secret),
                    )
                    .await
                }
            };
            match written {
                Ok(_) => {}
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
            // Read again, whoever wrote: what is served is what the Secret holds, not what this replica meant.
        }
        Err(TlsError::Contended {
            what: format!("write Secret {name}"),
        })
    }

    /// Two nodes whose clocks differ by months would renew against each other for ever.
    fn may_write(&self) -> Result<(), TlsError> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.retain(|at| at.elapsed() < PERIOD);
        if written.len() >= MOST_WRITES {
            return Err(TlsError::Contended {
                what: format!(
                    "keep Secret {}, nor do clocks of nodes that differ let it be",
                    self.name
                ),
            });
        }
        written.push(Instant::now());
        Ok(())
    }

    fn secret(&self, material: &Material, metadata: ObjectMeta) -> Secret {
        let mut metadata = metadata;
        metadata.name = Some(self.name.clone());
        metadata.managed_fields = None;
        metadata
            .labels
            .get_or_insert_default()
            .insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
        if let Some(owner) = &self.owner {
            let owners = metadata.owner_references.get_or_insert_default();
            owners.retain(|other| (&other.kind, &other.name) != (&owner.kind, &owner.name));
            owners.push(owner.clone());
        }
        let entry = |key: &str, pem: &str| (key.to_owned(), ByteString(pem.as_bytes().to_vec()));
        let data = BTreeMap::from([
            entry(CA_CERT, &material.ca_cert),
            entry(CA_KEY, &material.ca_key),
            entry(CERT, &material.cert),
            entry(KEY, &material.key),
        ]);
        Secret {
            metadata,
            data: Some(data),
            type_: Some("kubernetes.io/tls".to_owned()),
            ..Secret::default()
        }
    }
}

impl Content {
    pub(super) fn of(secret: &Secret) -> Self {
        let text = |key: &str| {
            let ByteString(bytes) = secret.data.as_ref()?.get(key)?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        Self {
            ca_cert: text(CA_CERT),
            ca_key: text(CA_KEY),
            cert: text(CERT).unwrap_or_default(),
            key: text(KEY).unwrap_or_default(),
        }
    }
}

/// What the Secret holds; `None` if it is not of ours. What is ours but broken is read as it is, and found wanting later.
fn read(secret: &Secret) -> Option<Material> {
    let labels = secret.metadata.labels.as_ref();
    let is_ours = labels
        .and_then(|labels| labels.get(MANAGED_BY_LABEL))
        .is_some_and(|by| by == MANAGER);
    let content = Content::of(secret);
    // Half of ours is still ours; of somebody else's, nothing is.
    let or_empty = |pem: Option<String>| pem.or_else(|| is_ours.then(String::new));
    Some(Material {
        ca_cert: or_empty(content.ca_cert)?,
        ca_key: or_empty(content.ca_key)?,
        cert: content.cert,
        key: content.key,
    })
}

pub(super) const CA_CERT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::fake_api::FakeApi;
    use super::*;

    const PATH: &str = "/api/v1/namespaces/ringfence/secrets/tls";

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    fn store(api: &FakeApi) -> Store {
        let owner = OwnerReference {
            kind: "ServiceAccount".into(),
            name: "ringfence".into(),
            ..OwnerReference::default()
        };
        Store {
            api: Api::namespaced(api.client(), "ringfence"),
            name: "tls".into(),
            names: Names::new("hook", "ringfence", "cluster.local", None),
            owner: Some(owner),
            is_provided: false,
            written: Mutex::default(),
        }
    }

    #[tokio::test]
    async fn replicas_that_start_together_end_with_one_certificate() {
        let api = FakeApi::default();
        let stores: Vec<Store> = (0..8).map(|_| store(&api)).collect();
        let all = join_all(stores.iter().map(|store| store.ensure(now()))).await;
        let first = all[0].as_ref().unwrap();
        for current in &all {
            let current = current.as_ref().unwrap();
            assert_eq!(current.trust, first.trust);
            assert_eq!(current.usable.certificate.cert, first.usable.certificate.cert);
        }
        let secret = api.get(PATH).unwrap();
        assert_eq!(secret["type"], "kubernetes.io/tls");
        assert_eq!(secret["metadata"]["ownerReferences"][0]["name"], "ringfence");
        assert_eq!(secret["data"].as_object().unwrap().len(), 4);
    }

    #[tokio::test]
    async fn replicas_that_renew_together_end_with_one_leaf_of_the_same_ca() {
        let api = FakeApi::default();
        let before = store(&api).ensure(now()).await.unwrap();
        let later = now() + time::Duration::days(300);
        let stores: Vec<Store> = (0..4).map(|_| store(&api)).collect();
        let all = join_all(stores.iter().map(|store| store.ensure(later))).await;
        let first = all[0].as_ref().unwrap();
        assert_eq!(first.trust, before.trust);
        assert_ne!(first.usable.certificate.cert, before.usable.certificate.cert);
        assert!(
            all.iter()
                .all(|one| one.as_ref().unwrap().usable.certificate.cert == first.usable.certificate.cert)
        );
    }

    #[tokio::test]
    async fn a_broken_secret_of_ours_is_made_anew() {
        let api = FakeApi::default();
        let before = store(&api).ensure(now()).await.unwrap();
        api.edit(PATH, |secret| secret["data"]["ca.key"] = json!(""));
        let after = store(&api).ensure(now()).await.unwrap();
        assert_ne!(after.trust, before.trust);
    }

    #[rstest]
    #[case::without_ca(json!({"tls.crt": "eA==", "tls.key": "eA=="}))]
    #[case::without_anything(json!(null))]
    #[tokio::test]
    async fn half_of_ours_is_ours_and_keeps_its_type(#[case] data: Value) {
        let api = FakeApi::default();
        store(&api).ensure(now()).await.unwrap();
        api.edit(PATH, |secret| {
            secret["data"] = data;
            secret["type"] = json!("Opaque");
        });
        store(&api).ensure(now()).await.unwrap();
        let secret = api.get(PATH).unwrap();
        assert_eq!(
            (secret["data"].as_object().unwrap().len(), &secret["type"]),
            (4, &json!("Opaque"))
        );
    }

    /// A machine slept for years, or its clock was wrong and is right again.
    #[rstest]
    #[case::past_the_leaf(400, false)]
    #[case::past_the_ca(4_000, true)]
    #[tokio::test]
    async fn a_clock_that_jumps_and_comes_back_costs_a_renewal_each(#[case] days: i64, #[case] is_new_ca: bool) {
        let (api, then) = (FakeApi::default(), now() + time::Duration::days(days));
        let mut before = store(&api).ensure(now()).await.unwrap();
        for clock in [then, now()] {
            let after = store(&api).ensure(clock).await.unwrap();
            assert!(after.usable.is_valid(clock) && !before.usable.is_valid(clock));
            assert_eq!(after.trust != before.trust, is_new_ca);
            before = after;
        }
    }

    #[tokio::test]
    async fn clocks_that_differ_by_years_do_not_write_for_ever() {
        let (api, ahead) = (FakeApi::default(), now() + time::Duration::days(4_000));
        let (one, other) = (store(&api), store(&api));
        let mut results = Vec::new();
        for _ in 0..20 {
            results.push(one.ensure(now()).await);
            results.push(other.ensure(ahead).await);
        }
        let given_up = results.iter().filter_map(|result| result.as_ref().err());
        let given_up: Vec<String> = given_up.map(ToString::to_string).collect();
        assert!(given_up.len() >= 10, "{given_up:?}");
        assert!(given_up[0].contains("clocks"), "{}", given_up[0]);
    }

    /// To write over somebody's certificate would break what rests on it.
    #[tokio::test]
    async fn a_foreign_secret_is_left_alone() {
        let api = FakeApi::default();
        let foreign = json!({"metadata": {"name": "tls", "namespace": "ringfence"}, "data": {"tls.crt": "eA==", "tls.key": "eA=="}});
        api.put(PATH, foreign);
        let before = api.get(PATH);
        let error = store(&api).ensure(now()).await.unwrap_err();
        assert!(matches!(&error, TlsError::Foreign(name) if name == "tls"), "{error}");
        assert!(error.to_string().contains("--tls-secret"), "{error}");
        assert_eq!(api.get(PATH), before);
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_read_is_not_quoted() {
        let api = FakeApi::default();
        api.put(
            PATH,
            json!({"metadata": {"name": "tls"}, "data": {"ca.key": "private!"}}),
        );
        let error = store(&api).ensure(now()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read Secret tls: the API server's answer cannot be read"
        );
    }
}
