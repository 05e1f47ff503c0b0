//! The cluster's RegoPolicies, for a subcommand that judges what stands: read with the caller's rights, vetted as the operator vets
//! them.
//!
//! Must never: take a policy that could not be read or vetted for one that has nothing to say. Each is a gap.

use std::{collections::BTreeSet, future::ready, sync::Arc};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use futures::future::BoxFuture;
use kube::{Api, Client, api::ListParams};
use tokio::time::{Duration, Instant};

use super::cluster::{self, is_not_served, told};
use crate::{
    api::{InventoryKind, RegoPolicy},
    findings::Extent,
    policy::{Declared, EntryId, LoadError, Registered, Snapshot},
    registry::{MAX_POLICIES, PAGE, beyond_most, declared, oldest_first},
    vetting::{NotVetted, Vetting},
    webhook::{Pool, RegoPolicies, admit::Admission},
};

/// Most RegoPolicies that are read: which of them the operator uses is known where these are all.
const MAX_READ: usize = 2 * MAX_POLICIES;
/// How long all children may take. Nobody waits for an answer but who started the command.
const WITHIN: Duration = Duration::from_secs(120);

/// Whether to judge by the cluster's RegoPolicies.
#[derive(ClapArgs, Debug)]
pub(super) struct RegoPolicyArgs {
    /// Leave the cluster's RegoPolicies out. To judge by them takes the right to read them.
    #[arg(long)]
    skip_rego_policies: bool,
}

impl RegoPolicyArgs {
    /// The same admission, asking them too, and what of them could not be had.
    pub(super) async fn beside(
        &self,
        admission: Admission,
        client: &Client,
        pool: &Pool,
    ) -> Result<(Admission, Extent)> {
        let mut extent = Extent::default();
        if self.skip_rego_policies {
            return Ok((admission, extent));
        }
        let snapshot = read(client, &mut extent).await?;
        let fixed = Arc::new(Fixed(Arc::new(snapshot)));
        Ok((admission.with_objects(fixed, pool.evaluator(), BTreeSet::new()), extent))
    }
}

/// What can be had of them.
async fn read(client: &Client, extent: &mut Extent) -> Result<Snapshot> {
    let api = Api::<RegoPolicy>::all(client.clone());
    let pages = ListParams::default().limit(PAGE);
    let read = cluster::listed("read RegoPolicies", &api, &pages, MAX_READ);
    let (mut objects, are_all) = match cluster::patiently("reading RegoPolicies", read).await {
        Ok(read) => read,
        // Ringfence is older than they are.
        Err(error) if is_not_served(&error) => return Ok(Snapshot::default()),
        Err(error) => {
            let is_forbidden = error.status().is_some_and(kube::core::Status::is_forbidden);
            let which = if is_forbidden {
                ", which the ClusterRole ringfence-policy-view gives by a ClusterRoleBinding"
            } else {
                ""
            };
            extent.gap(format!("{}{which}; --skip-rego-policies leaves them out", told(error)));
            return Ok(Snapshot::default());
        }
    };
    if !are_all {
        extent.gap(format!("only {MAX_READ} of the RegoPolicies were read"));
    }
    oldest_first(&mut objects);
    let beyond = objects.split_off(objects.len().min(MAX_POLICIES));
    let (looking, own): (Vec<_>, Vec<_>) = objects
        .iter()
        .map(declared)
        .partition(|object| !object.spec.inventory.is_empty());
    if !looking.is_empty() {
        let names: Vec<_> = looking.iter().map(|object| object.name.as_str()).collect();
        extent.gap(format!(
            "RegoPolicies with an inventory are judged in the cluster only: {}",
            names.join(", ")
        ));
    }
    let mut policies = vetted(own, extent).await?;
    // They answer by their failurePolicy, in the cluster too.
    policies.extend(beyond.iter().map(|object| {
        let object = declared(object);
        let why = beyond_most(&object.name).message;
        Registered::broken(object, &why)
    }));
    Ok(Snapshot::new(policies.into_iter().map(Arc::new).collect()))
}

/// Those that children have survived. Of one that is wrong the operator may serve a version that was good before, which nobody
/// else knows.
async fn vetted(objects: Vec<Declared>, extent: &mut Extent) -> Result<Vec<Registered>> {
    if objects.is_empty() {
        return Ok(Vec::new());
    }
    let vetting = Vetting::new().context("cannot tell which file this binary is, to vet policies with it")?;
    let names: Vec<_> = objects.iter().map(|object| object.name.clone()).collect();
    let vetting = tokio::task::spawn_blocking(move || vetting.compile_objects(&objects, WITHIN));
    let outcomes = cluster::patiently("vetting RegoPolicies", vetting)
        .await
        .context("vetting RegoPolicies panicked")?;
    let mut policies = Vec::new();
    for (name, outcome) in names.iter().zip(outcomes) {
        match outcome {
            Ok(policy) => policies.push(policy),
            Err(not) => extent.gap(unused(name, &not)),
        }
    }
    Ok(policies)
}

fn unused(name: &str, not: &NotVetted) -> String {
    let why = not.errors().first().map(LoadError::to_string).unwrap_or_default();
    match not {
        NotVetted::Refused(_) => {
            format!("RegoPolicy {name} is broken, and its condition Compiled says what decides instead: {why}")
        }
        NotVetted::Unknown(_) => format!("RegoPolicy {name} could not be vetted: {why}"),
    }
}

/// RegoPolicies as they were read. No request of an API server is decided by them.
struct Fixed(Arc<Snapshot>);

impl RegoPolicies for Fixed {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0)
    }

    fn at_version<'a>(&'a self, _: EntryId, _: &'a str, _: Instant) -> BoxFuture<'a, Option<Arc<Snapshot>>> {
        Box::pin(ready(None))
    }

    fn inventory(&self, _: &[InventoryKind]) -> Result<regorus::Value, String> {
        Err("an inventory is there in the cluster only".to_owned())
    }

    fn vet(&self, object: Declared, _: Instant) -> BoxFuture<'_, Result<(), Vec<LoadError>>> {
        let why = LoadError::file(&object.name, "only the operator vets what is written");
        Box::pin(ready(Err(vec![why])))
    }
}
