//! Keeps it true that the served certificate is the Secret's and that the registration trusts it.
//!
//! Level, not edge: any event only causes another look at everything, so a lost one costs a tick.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::call::call;
use super::inject::inject;
use super::secret::Store;
use super::{Names, Resolver, TlsError};
use crate::telemetry::Metrics;
use crate::webhook::{Gate, Readiness};

/// How often everything is looked at without an event. Also what notices that a renewal is due.
const TICK: Duration = Duration::from_secs(60);
/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Events in this time cause one look: our own writes come back as events too.
const SETTLE: Duration = Duration::from_millis(500);
/// How long an API server that is away leaves a replica ready whose certificate was right before.
const PATIENCE: Duration = Duration::from_secs(120);

/// Keeps the certificate of one replica.
pub struct Keeper {
    store: Store,
    registrations: Api<ValidatingWebhookConfiguration>,
    registration: String,
    resolver: Arc<Resolver>,
    readiness: Readiness,
    metrics: Arc<Metrics>,
}

/// Where the certificate lives and who trusts it.
#[derive(Clone, Debug)]
pub struct KeeperConfig {
    /// The release namespace.
    pub namespace: String,
    /// The Secret.
    pub secret: String,
    /// The ValidatingWebhookConfiguration.
    pub registration: String,
    /// Names that the certificate must serve.
    pub names: Names,
    /// Who owns the Secret, so that it goes with the release.
    pub owner: Option<OwnerReference>,
}

/// What earlier looks found.
#[derive(Default)]
struct Progress {
    last_good: Option<Instant>,
    /// The last trouble that was logged: while it lasts, once is enough.
    said: String,
}

impl Keeper {
    /// A keeper that has not looked yet.
    pub fn new(
        client: Client,
        config: KeeperConfig,
        resolver: Arc<Resolver>,
        readiness: Readiness,
        metrics: Arc<Metrics>,
    ) -> Self {
        let KeeperConfig {
            namespace,
            secret,
            registration,
            names,
            owner,
        } = config;
        let store = Store {
            api: Api::namespaced(client.clone(), &namespace),
            name: secret,
            names,
            owner,
        };
        Self {
            store,
            registrations: Api::all(client),
            registration,
            resolver,
            readiness,
            metrics,
        }
    }

    /// Looks, and looks again at each event and tick, until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let secrets = watcher::<Secret>(self.store.api.clone(), named(&self.store.name))
            .default_backoff()
            .map(drop);
        let registrations =
            watcher::<ValidatingWebhookConfiguration>(self.registrations.clone(), named(&self.registration))
                .default_backoff()
                .map(drop);
        let mut events = stream::select(secrets.boxed(), registrations.boxed());
        let mut progress = Progress::default();
        loop {
            let next = tokio::select! {
                () = cancel.cancelled() => return,
                next = self.look(&mut progress) => next,
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = sleep_until(Instant::now() + next) => {}
                Some(()) = events.next() => {
                    sleep(SETTLE).await;
                    while events.next().now_or_never().flatten().is_some() {}
                }
            }
        }
    }

    /// One look. Returns when the next is due.
    async fn look(&self, progress: &mut Progress) -> Duration {
        match self.make_true(OffsetDateTime::now_utc()).await {
            Ok(()) => {
                *progress = Progress {
                    last_good: Some(Instant::now()),
                    said: String::new(),
                };
                TICK
            }
            Err(error) => {
                let text = error.to_string();
                if progress.said != text {
                    tracing::warn!(error = text, "the webhook's certificate is not as it should be");
                }
                let patient = error.is_transient() && progress.last_good.is_some_and(|at| at.elapsed() < PATIENCE);
                if !patient {
                    self.readiness.set(Gate::Certificate, Err(text.clone()));
                }
                progress.said = text;
                RETRY
            }
        }
    }

    /// Makes Secret, served certificate and registration agree, and opens the gate.
    async fn make_true(&self, now: OffsetDateTime) -> Result<(), TlsError> {
        let current = self.store.ensure(now).await?;
        if !self.resolver.serves(&current.usable.certificate) {
            self.resolver.store(current.usable.certificate);
        }
        self.metrics.set_certificate_expiry(current.usable.expires);
        let not_trusted = || {
            let reason = format!(
                "ValidatingWebhookConfiguration {} does not trust it yet",
                self.registration
            );
            self.readiness.set(Gate::Certificate, Err(reason));
        };
        inject(&self.registrations, &self.registration, &current.ca_cert, not_trusted).await?;
        self.readiness.set(Gate::Certificate, Ok(()));
        Ok(())
    }
}

/// The reference that makes the Secret go with the service account; `None` if there is no such account.
pub async fn owner_of(client: Client, namespace: &str, account: &str) -> Result<Option<OwnerReference>, TlsError> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace);
    let found = call(&format!("read ServiceAccount {account}"), accounts.get_opt(account)).await?;
    Ok(found.and_then(|found| found.metadata.uid).map(|uid| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ServiceAccount".to_owned(),
        name: account.to_owned(),
        uid,
        ..OwnerReference::default()
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fake_api::FakeApi;
    use super::*;

    const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/ringfence";

    fn keeper(api: &FakeApi) -> Keeper {
        let config = KeeperConfig {
            namespace: "ringfence".into(),
            secret: "tls".into(),
            registration: "ringfence".into(),
            names: Names::new("hook", "ringfence", None),
            owner: None,
        };
        Keeper::new(
            api.client(),
            config,
            Arc::default(),
            ready_but_for_the_certificate(),
            Arc::default(),
        )
    }

    fn ready_but_for_the_certificate() -> Readiness {
        let readiness = Readiness::default();
        for gate in [Gate::Caches, Gate::Crds, Gate::Policies, Gate::RegoPolicies] {
            readiness.set(gate, Ok(()));
        }
        readiness
    }

    fn registered(api: &FakeApi) {
        let config = json!({"url": "https://hook.ringfence.svc/admit/fence"});
        let webhook =
            json!({"name": "f", "admissionReviewVersions": ["v1"], "sideEffects": "None", "clientConfig": config});
        api.put(
            REGISTRATION,
            json!({"metadata": {"name": "ringfence"}, "webhooks": [webhook]}),
        );
    }

    #[tokio::test]
    async fn ready_means_served_and_trusted() {
        let api = FakeApi::default();
        let keeper = keeper(&api);
        let mut progress = Progress::default();
        assert_eq!(keeper.look(&mut progress).await, RETRY);
        assert!(!keeper.readiness.is_ready(), "there is no registration yet");
        registered(&api);
        assert_eq!(keeper.look(&mut progress).await, TICK);
        assert!(keeper.readiness.is_ready());
    }

    /// An API server that is away for a moment must not take every replica out of service; a wrong Secret must.
    #[tokio::test]
    async fn a_failing_call_is_borne_for_a_while_and_a_foreign_secret_is_not() {
        let api = FakeApi::default();
        registered(&api);
        let keeper = keeper(&api);
        let mut progress = Progress::default();
        keeper.look(&mut progress).await;
        api.fail_next(3);
        assert_eq!(keeper.look(&mut progress).await, RETRY);
        assert!(keeper.readiness.is_ready());
        api.fail_next(0);
        api.put(
            "/api/v1/namespaces/ringfence/secrets/tls",
            json!({"metadata": {"name": "tls"}, "data": {}}),
        );
        keeper.look(&mut progress).await;
        assert!(!keeper.readiness.is_ready());
    }

    #[tokio::test]
    async fn a_keeper_stops_when_cancelled() {
        let api = FakeApi::default();
        registered(&api);
        let keeper = keeper(&api);
        let readiness = keeper.readiness.clone();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(keeper.run(cancel.clone()));
        tokio::time::timeout(Duration::from_secs(10), async {
            while !readiness.is_ready() {
                sleep(Duration::from_millis(5)).await;
            }
            cancel.cancel();
            task.await.unwrap();
        })
        .await
        .unwrap();
    }
}
