//! Whether this replica has seen the newest RegoPolicies. A watch that is silent looks like one on which nothing happens.
//!
//! Must never: take a list that failed for one that is the same.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, ListParams, PartialObjectMeta};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Published, Registry};
use crate::api::RegoPolicy;
use crate::webhook::{Gate, Readiness};

/// How often what is served is compared with the API server.
const PERIOD: Duration = Duration::from_secs(5);
/// How often while this replica is not ready for it. After an outage of the API server none is, and fenced namespaces wait.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest that one comparison may take.
const DEADLINE: Duration = Duration::from_secs(4);
/// Differences or failures in a row after which this replica is not ready. One is what a change looks like while it is vetted.
const PATIENCE: u32 = 2;
/// A change may take that many more periods while children vet it.
const WHILE_LOADING: u32 = 12;
const PAGE: u32 = 500;

/// UID and generation by name.
pub(super) type Versions = BTreeMap<String, (String, i64)>;

pub(super) async fn run(registry: &Registry, readiness: &Readiness, stop: &CancellationToken) {
    let changes = registry.published.subscribe();
    let (mut behind, mut closed) = (0u32, false);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(if closed { AGAIN } else { PERIOD }) => {}
        }
        let published = changes.borrow().clone();
        // Before that, the gate is still closed.
        if !published.synced {
            continue;
        }
        let (state, patience) = match timeout(DEADLINE, list(&registry.client)).await {
            Ok(Ok(there)) if there == known(&published) => (Ok(()), PATIENCE),
            // What this replica knows of and has not put in force yet is being vetted.
            Ok(Ok(_)) if registry.is_loading() => (Err("RegoPolicies are still being vetted"), WHILE_LOADING),
            Ok(Ok(_)) => (
                Err("RegoPolicies have changed, and this replica was not told"),
                PATIENCE,
            ),
            Ok(Err(_)) | Err(_) => (Err("RegoPolicies cannot be listed"), PATIENCE),
        };
        match state {
            Ok(()) => {
                if closed {
                    readiness.set(Gate::RegoPolicies, Ok(()));
                }
                (behind, closed) = (0, false);
            }
            Err(why) => {
                behind = behind.saturating_add(1);
                if behind >= patience {
                    closed = true;
                    readiness.set(Gate::RegoPolicies, Err(why.to_owned()));
                }
            }
        }
    }
}

/// What the API server has, by a consistent list of metadata.
pub(super) async fn list(client: &Client) -> Result<Versions, kube::Error> {
    let api: Api<PartialObjectMeta<RegoPolicy>> = Api::all(client.clone());
    let mut versions = Versions::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list_metadata(&params).await?;
        for object in page.items {
            let metadata = object.metadata;
            let version = (
                metadata.uid.unwrap_or_default(),
                metadata.generation.unwrap_or_default(),
            );
            versions.insert(metadata.name.unwrap_or_default(), version);
        }
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => return Ok(versions),
        }
    }
}

/// What this replica has looked at.
pub(super) fn known(published: &Published) -> Versions {
    let outcomes = published.outcomes.iter();
    outcomes
        .map(|(name, outcome)| (name.clone(), (outcome.uid.clone(), outcome.generation)))
        .collect()
}
