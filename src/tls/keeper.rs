//! Keeps it true that the served certificate is the Secret's and that the registrations trust it.
//!
//! Level, not edge: any event only causes another look at everything, so a lost one costs a tick. A certificate of another CA is served
//! only when every registration has trusted that CA for a while, beside the one of before: API servers hear of it by a watch.

use std::sync::{Arc, Mutex};
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
use super::inject::{inject, trusts};
use super::secret::{Current, Store};
use super::{Names, Resolver, TlsError};
use crate::telemetry::Metrics;
use crate::webhook::{Concern, Gate, Readiness};

/// How often everything is looked at without an event. Also what notices that a renewal is due.
const TICK: Duration = Duration::from_secs(60);
/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Events in this time cause one look: our own writes come back as events too.
const SETTLE: Duration = Duration::from_millis(500);
/// How long registrations trust another CA before a certificate of it is served: longer than API servers take to hear of it.
const PROPAGATION: Duration = Duration::from_secs(5);
/// How long the CA of before is trusted after that, because other replicas may still serve a certificate of it.
const OVERLAP: Duration = Duration::from_secs(30);
/// How long an API server that is away leaves a replica ready whose certificate was right before.
const PATIENCE: Duration = Duration::from_secs(120);

/// Keeps the certificate of one replica.
pub struct Keeper {
    store: Store,
    registrations: Api<ValidatingWebhookConfiguration>,
    registration: String,
    /// Those that the operator fills with the same CA.
    others: [String; 2],
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
    /// Whether the Secret is somebody else's, and only read.
    pub is_provided: bool,
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
    /// What this replica serves.
    served: Option<Current>,
    /// What registrations still trust, and since when nothing of it is served here.
    retired: Vec<(String, Instant)>,
    /// What every registration trusts that is not served yet, and since when.
    trusted: Option<(String, Instant)>,
}

impl Progress {
    /// Whom to trust: the authority first whose certificate comes next or is served, then those before.
    fn trust(&self, first: &str) -> String {
        let served = self.served.iter().map(|served| served.trust.as_str());
        let before = served.chain(self.retired.iter().map(|(trust, _)| trust.as_str()));
        let mut all = vec![first];
        for trust in before {
            if !all.contains(&trust) {
                all.push(trust);
            }
        }
        all.concat()
    }

    fn serves_of(&self, trust: &str) -> bool {
        self.served.as_ref().is_some_and(|served| served.trust == trust)
    }

    fn retire(&mut self) {
        let before = self.served.take().map(|served| (served.trust, Instant::now()));
        self.retired.splice(..0, before);
        self.trusted = None;
    }
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
            is_provided,
            registration,
            names,
            owner,
        } = config;
        let store = Store {
            api: Api::namespaced(client.clone(), &namespace),
            name: secret,
            names,
            owner,
            is_provided,
            written: Mutex::default(),
        };
        Self {
            store,
            registrations: Api::all(client),
            others: ["bindings", "policies"].map(|ending| format!("{registration}-{ending}")),
            registration,
            resolver,
            readiness,
            metrics,
        }
    }

    /// Looks, and looks again at each event and tick, until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let named = |name: &str| crate::watch::config().fields(&format!("metadata.name={name}"));
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
        match self.make_true(progress, OffsetDateTime::now_utc()).await {
            Ok(next) => {
                progress.last_good = Some(Instant::now());
                next
            }
            Err(error) => {
                let text = error.to_string();
                let patient = error.is_transient() && progress.last_good.is_some_and(|at| at.elapsed() < PATIENCE);
                if !patient {
                    self.readiness.set(Gate::Certificate, Err(text.clone()));
                }
                progress.say(text);
                RETRY
            }
        }
    }

    /// Makes Secret, served certificate and registrations agree, and opens the gate. Returns when the next look is due.
    async fn make_true(&self, progress: &mut Progress, now: OffsetDateTime) -> Result<Duration, TlsError> {
        let is_valid = |served: &Current| served.usable.is_valid(now);
        let current = match self.store.current(now).await {
            Ok(current) => current,
            // What it held before is as good as it was, and a mistake in one Secret must not take every replica away.
            Err(error @ TlsError::Provided(..)) if progress.served.as_ref().is_some_and(is_valid) => {
                let trust = progress.trust("");
                self.trust(&trust, true).await?;
                let text = format!("{error}; until then what it held before is served");
                self.readiness.concern(Concern::Certificate, Some(text.clone()));
                progress.say(text);
                return Ok(RETRY);
            }
            Err(error) => return Err(error),
        };
        self.readiness.concern(Concern::Certificate, None);
        progress.said.clear();
        progress.retired.retain(|(_, since)| since.elapsed() < OVERLAP);
        let trust = progress.trust(&current.trust);
        if !progress.serves_of(&current.trust) && progress.served.as_ref().is_some_and(is_valid) {
            self.trust(&trust, false).await?;
            let left = self.until_served(progress, &current.trust, &trust).await?;
            if !left.is_zero() {
                return Ok(left);
            }
            tracing::info!("a certificate of another CA is served, which every registration trusts");
        }
        if !self.resolver.serves(&current.usable.certificate) {
            self.resolver.store(Arc::clone(&current.usable.certificate));
        }
        self.metrics.set_certificate_expiry(current.usable.expires);
        if !progress.serves_of(&current.trust) {
            progress.retire();
        }
        progress.served = Some(current);
        self.trust(&trust, true).await?;
        let is_alone = progress.retired.is_empty();
        Ok(if is_alone { TICK } else { OVERLAP.min(TICK) + SETTLE })
    }

    /// Has the chart's registration trust these authorities. Without trust in what is served, this replica is not ready.
    async fn trust(&self, trust: &str, is_needed: bool) -> Result<(), TlsError> {
        let not_trusted = || {
            if is_needed {
                let reason = format!(
                    "ValidatingWebhookConfiguration {} does not trust it yet",
                    self.registration
                );
                self.readiness.set(Gate::Certificate, Err(reason));
            }
        };
        inject(&self.registrations, &self.registration, trust, not_trusted).await?;
        self.readiness.set(Gate::Certificate, Ok(()));
        Ok(())
    }

    /// How long until a certificate of that authority may be served, because every registration trusts it.
    async fn until_served(&self, progress: &mut Progress, authority: &str, trust: &str) -> Result<Duration, TlsError> {
        for other in &self.others {
            if !trusts(&self.registrations, other, trust).await? {
                progress.trusted = None;
                return Ok(SETTLE);
            }
        }
        let known = progress.trusted.take().filter(|(known, _)| known == authority);
        let (known, since) = known.unwrap_or_else(|| (authority.to_owned(), Instant::now()));
        progress.trusted = Some((known, since));
        Ok(PROPAGATION.saturating_sub(since.elapsed()))
    }
}

impl Progress {
    fn say(&mut self, text: String) {
        if self.said != text {
            tracing::warn!(error = text, "the webhook's certificate is not as it should be");
        }
        self.said = text;
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
            is_provided: false,
            registration: "ringfence".into(),
            names: Names::new("hook", "ringfence", "cluster.local", None),
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

    /// Nothing is served before it can be believed, and a mistake in what somebody else writes is said at once.
    #[tokio::test]
    async fn a_secret_of_somebody_else_that_is_not_there_keeps_the_gate_closed() {
        let api = FakeApi::default();
        registered(&api);
        let mut keeper = keeper(&api);
        keeper.store.is_provided = true;
        assert_eq!(keeper.look(&mut Progress::default()).await, RETRY);
        assert!(!keeper.readiness.is_ready());
        assert!(
            api.get("/api/v1/namespaces/ringfence/secrets/tls").is_none(),
            "it is not ours to make"
        );
    }

    #[tokio::test]
    async fn another_ca_is_trusted_beside_the_one_before_and_only_then_served() {
        let api = FakeApi::default();
        registered(&api);
        let keeper = keeper(&api);
        let mut progress = Progress::default();
        keeper.look(&mut progress).await;
        let bundle = || {
            let encoded = api.get(REGISTRATION).unwrap()["webhooks"][0]["clientConfig"]["caBundle"].take();
            let k8s_openapi::ByteString(pem) = serde_json::from_value(encoded).unwrap();
            String::from_utf8(pem).unwrap()
        };
        let (old, before) = (bundle(), progress.served.as_ref().unwrap().usable.certificate.clone());
        api.edit("/api/v1/namespaces/ringfence/secrets/tls", |secret| {
            secret["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "ringfence"});
            secret["data"] = json!(null);
        });
        let next = keeper.look(&mut progress).await;
        assert!(next <= PROPAGATION && !next.is_zero(), "{next:?}");
        assert!(
            bundle().ends_with(&old) && bundle().len() > old.len(),
            "both are trusted"
        );
        assert!(keeper.resolver.serves(&before) && keeper.readiness.is_ready());
        let since = progress.trusted.as_mut().unwrap();
        since.1 -= PROPAGATION;
        keeper.look(&mut progress).await;
        assert!(!keeper.resolver.serves(&before) && keeper.readiness.is_ready());
        assert!(bundle().ends_with(&old), "other replicas may serve it still");
        progress.retired[0].1 -= OVERLAP;
        keeper.look(&mut progress).await;
        assert!(!bundle().contains(&old) && !bundle().is_empty());
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
