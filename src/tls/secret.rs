//! The one Secret that all replicas share.
//!
//! Whoever comes first wins: creation by POST, renewal by PUT with the resourceVersion that was read, and the loser reads again.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use time::OffsetDateTime;

use super::TlsError;
use super::call::call;
use super::issue::{Defect, Material, Names, Usable};
use crate::api::{MANAGED_BY_LABEL, MANAGER};

/// Lost races before giving up until the next tick. Each is lost to a replica that wrote something usable.
const ATTEMPTS: usize = 5;

/// The Secret by name, and what it should hold.
pub(super) struct Store {
    pub(super) api: Api<Secret>,
    pub(super) name: String,
    pub(super) names: Names,
    pub(super) owner: Option<OwnerReference>,
}

/// What the Secret holds now.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) ca_cert: String,
    pub(super) usable: Usable,
}

impl Store {
    /// Reads the certificate; makes or renews it where it must be.
    pub(super) async fn ensure(&self, now: OffsetDateTime) -> Result<Current, TlsError> {
        let name = &self.name;
        for _ in 0..ATTEMPTS {
            let found = call(&format!("read Secret {name}"), self.api.get_opt(name)).await?;
            let written = match found {
                None => {
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
                    let renewed = match material.check(&self.names, now) {
                        Ok(usable) => {
                            return Ok(Current {
                                ca_cert: material.ca_cert,
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
                    let secret = self.secret(&renewed, secret.metadata);
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

/// What the Secret holds; `None` if it is not of ours. What is ours but broken is read as it is, and found wanting later.
fn read(secret: &Secret) -> Option<Material> {
    let data = secret.data.as_ref()?;
    let pem = |key: &str| {
        data.get(key)
            .map(|ByteString(bytes)| String::from_utf8_lossy(bytes).into_owned())
    };
    Some(Material {
        ca_cert: pem(CA_CERT)?,
        ca_key: pem(CA_KEY)?,
        cert: pem(CERT).unwrap_or_default(),
        key: pem(KEY).unwrap_or_default(),
    })
}

const CA_CERT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use serde_json::json;

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
            names: Names::new("hook", "ringfence", None),
            owner: Some(owner),
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
            assert_eq!(current.ca_cert, first.ca_cert);
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
        assert_eq!(first.ca_cert, before.ca_cert);
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
        assert_ne!(after.ca_cert, before.ca_cert);
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
