//! Which of the replicas works as the operator: the one that holds the Lease. All of them answer reviews.
//!
//! It also is where a replica learns that the API server's storage was put back from a copy. What is watched then stays as it was, and no
//! watch tells: only revisions that are smaller than they have been.
//!
//! Must never: work on when the Lease could not be renewed for [`RENEW_WITHIN`], which is less than others wait; or leave it held when
//! this replica goes down in order.

mod turn;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use turn::{Seen, Turn};

/// Between two looks at the Lease, and two renewals of it.
const RETRY: Duration = Duration::from_secs(2);
/// How long a holder works on without a renewal that succeeded.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
/// How long one call may take: two fit before a holder has to give up.
const CALL: Duration = Duration::from_secs(4);

const _: () = assert!(RENEW_WITHIN.as_secs() + CALL.as_secs() < turn::DURATION.as_secs());

/// The Lease that replicas take in turn.
pub struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
    owner: Option<OwnerReference>,
    newest: Newest,
}

/// The API server's storage is older than this replica has seen it: whatever was read before may not be so any more, and what was watched is
/// not heard of until as much was written again.
#[derive(Debug, Error)]
#[error(
    "the API server's storage was put back from a copy: what this process has read is not what there is; a new one reads it again"
)]
pub struct WentBack;

/// Why the Lease cannot be read or written.
#[derive(Debug, Error)]
#[error("the Lease {name} cannot be {what} ({problem}): without it no replica makes fences")]
pub struct ElectionError {
    name: String,
    what: &'static str,
    problem: String,
    code: u16,
}

/// What a look at the Lease brought.
enum Look {
    Ours(Box<Lease>),
    Others(String),
}

impl Election {
    /// `identity` is this replica's, and no other one's; a replica that starts anew under the same takes its Lease up again at once.
    pub fn new(client: Client, namespace: &str, name: &str, identity: String, owner: Option<OwnerReference>) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity,
            owner,
            newest: Newest::default(),
        }
    }

    /// Does `work` whenever this replica holds the Lease, until `stop`. Work is given a token of its own: it ends when asked to stop,
    /// and is dropped when the Lease is lost. `seen` is told of each look by a replica that does not hold the Lease: that somebody else
    /// does, or why it cannot tell. An error is for the whole process.
    pub async fn run<W: Future<Output = ()>>(
        &self,
        stop: CancellationToken,
        seen: impl Fn(Result<(), &ElectionError>),
        work: impl Fn(CancellationToken) -> W,
    ) -> Result<(), WentBack> {
        loop {
            let lease = tokio::select! {
                () = self.newest.passed.cancelled() => return Err(WentBack),
                lease = self.acquired(&seen) => lease,
                () = stop.cancelled() => return Ok(()),
            };
            info!(identity = self.identity, "this replica makes the fences now");
            let mut held = Held {
                lease,
                at: Instant::now(),
            };
            tokio::select! {
                () = self.newest.passed.cancelled() => return Err(WentBack),
                () = work(stop.clone()) => {
                    self.release(&held.lease).await;
                    if stop.is_cancelled() {
                        return Ok(());
                    }
                    // It starts again, here or elsewhere.
                    sleep(RETRY).await;
                }
                why = self.keep(&mut held) => warn!(identity = self.identity, why, "another replica makes the fences from now on"),
            }
        }
    }

    async fn acquired(&self, seen: &impl Fn(Result<(), &ElectionError>)) -> Lease {
        let (mut changes, mut told) = (Seen::default(), String::new());
        loop {
            let said = match self.look(&mut changes).await {
                Ok(Look::Ours(lease)) => return *lease,
                Ok(Look::Others(holder)) => {
                    seen(Ok(()));
                    format!("{holder} makes the fences")
                }
                Err(error) => {
                    seen(Err(&error));
                    error.to_string()
                }
            };
            // While it lasts, once is enough.
            if said != told {
                info!(identity = self.identity, "waiting: {said}");
                told = said;
            }
            sleep(RETRY).await;
        }
    }

    async fn look(&self, changes: &mut Seen) -> Result<Look, ElectionError> {
        let Some(lease) = self.read().await? else {
            return self.created().await;
        };
        match changes.turn(&lease, &self.identity, Instant::now()) {
            Turn::Wait(holder) => Ok(Look::Others(holder)),
            Turn::Take => match self.write(&turn::held(&lease, &self.identity, now())).await {
                Err(error) if error.code == 409 => Ok(Look::Others("another".to_owned())),
                written => written.map(|lease| Look::Ours(Box::new(lease))),
            },
        }
    }

    async fn created(&self) -> Result<Look, ElectionError> {
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                owner_references: self.owner.clone().map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: None,
        };
        let lease = turn::held(&lease, &self.identity, now());
        match self
            .call("made", self.leases.create(&PostParams::default(), &lease))
            .await
        {
            Err(error) if error.code == 409 => Ok(Look::Others("another".to_owned())),
            made => made.map(|lease| {
                self.newest.see(&lease);
                Look::Ours(Box::new(lease))
            }),
        }
    }

    /// Renews until that fails for too long, or somebody else holds the Lease; says which.
    async fn keep(&self, held: &mut Held) -> String {
        loop {
            sleep(RETRY).await;
            let left = RENEW_WITHIN.saturating_sub(held.at.elapsed());
            // From before it is written: what others see is never older than what we count from.
            let at = Instant::now();
            match timeout(left, self.renewed(&held.lease)).await {
                Ok(Ok(Look::Ours(lease))) => *held = Held { lease: *lease, at },
                Ok(Ok(Look::Others(holder))) => return format!("the Lease is held by {holder}"),
                Ok(Err(error)) => {
                    if held.at.elapsed() >= RENEW_WITHIN {
                        return error.to_string();
                    }
                }
                Err(_) => return "the Lease could not be renewed in time".to_owned(),
            }
        }
    }

    async fn renewed(&self, lease: &Lease) -> Result<Look, ElectionError> {
        let stale = match self.write(&turn::held(lease, &self.identity, now())).await {
            Ok(lease) => return Ok(Look::Ours(Box::new(lease))),
            Err(error) => error,
        };
        if !matches!(stale.code, 404 | 409) {
            return Err(stale);
        }
        // Somebody wrote something else into it, took it, or deleted it.
        let Some(lease) = self.read().await? else {
            return self.created().await;
        };
        match lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) {
            Some(holder) if holder == self.identity => {
                let lease = self.write(&turn::held(&lease, &self.identity, now())).await?;
                Ok(Look::Ours(Box::new(lease)))
            }
            holder => Ok(Look::Others(holder.unwrap_or_default().to_owned())),
        }
    }

    /// Best effort: what is not given up runs out.
    async fn release(&self, lease: &Lease) {
        if let Err(error) = self.write(&turn::given_up(lease, now())).await {
            warn!(%error, "the Lease was not given up, and runs out by itself");
        }
    }

    async fn read(&self) -> Result<Option<Lease>, ElectionError> {
        let read = self.call("read", self.leases.get_opt(&self.name)).await?;
        Ok(read.inspect(|lease| self.newest.see(lease)))
    }

    async fn write(&self, lease: &Lease) -> Result<Lease, ElectionError> {
        let params = PostParams::default();
        let written = self.call("written", self.leases.replace(&self.name, &params, lease));
        written.await.inspect(|lease| self.newest.see(lease))
    }

    async fn call<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ElectionError> {
        let (problem, code) = match timeout(CALL, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(kube::Error::Api(status))) => (format!("{} {}", status.code, status.message), status.code),
            Ok(Err(error)) => (error.to_string(), 0),
            Err(_) => ("no answer in time".to_owned(), 0),
        };
        Err(ElectionError {
            name: self.name.clone(),
            what,
            problem,
            code,
        })
    }
}

/// The newest revision of the storage that was seen. They are numbers that grow with each write, whatever it is of, and one replica reads
/// its Lease from the storage itself, one time after the other.
#[derive(Default)]
struct Newest {
    revision: AtomicU64,
    /// Told when an older one came after it.
    passed: CancellationToken,
}

impl Newest {
    fn see(&self, lease: &Lease) {
        // Whoever counts otherwise is not measured by it.
        let Some(revision) = lease
            .metadata
            .resource_version
            .as_ref()
            .and_then(|text| text.parse().ok())
        else {
            return;
        };
        if self.revision.fetch_max(revision, Ordering::Relaxed) > revision {
            self.passed.cancel();
        }
    }
}

/// What this replica holds.
struct Held {
    lease: Lease,
    /// When it was last written, by our clock.
    at: Instant,
}

fn now() -> MicroTime {
    MicroTime(Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_revision_after_a_newer_one_is_noticed() {
        let newest = Newest::default();
        let see = |revision: Option<&str>| {
            let mut lease = Lease::default();
            lease.metadata.resource_version = revision.map(str::to_owned);
            newest.see(&lease);
            newest.passed.is_cancelled()
        };
        for revision in [Some("98"), Some("98"), Some("101"), None, Some("opaque"), Some("1000")] {
            assert!(!see(revision), "{revision:?}");
        }
        assert!(see(Some("999")));
    }
}
