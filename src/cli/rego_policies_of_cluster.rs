//! The cluster's RegoPolicies, for a subcommand that judges what stands: read with the caller's rights, vetted as the operator vets
//! them.
//!
//! Must never: take a policy that could not be read or vetted for one that has nothing to say. Each is a gap.

use std::{collections::BTreeSet, future::ready, sync::Arc};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use futures::future::BoxFuture;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
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
    /// The same admission, asking them too, beside policies of files, and what of them could not be had.
    pub(super) async fn beside(
        &self,
        admission: Admission,
        client: &Client,
        pool: &Pool,
        own: Vec<Registered>,
    ) -> Result<(Admission, Extent)> {
        let mut extent = Extent::default();
        let (looking, mut policies): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|policy| !policy.spec().inventory.is_empty());
        let names: BTreeSet<String> = looking
            .iter()
            .chain(&policies)
            .map(|policy| policy.name().to_owned())
            .collect();
        judged_there(looking.iter().map(Registered::name), &mut extent);
        if !self.skip_rego_policies {
            let vetting = Vetting::new().context("cannot tell which file this binary is, to vet policies with it")?;
            policies.extend(read(client, vetting, &names, &mut extent).await?);
        }
        if policies.is_empty() {
            return Ok((admission, extent));
        }
        let snapshot = Snapshot::new(policies.into_iter().map(Arc::new).collect());
        let fixed = Arc::new(Fixed(Arc::new(snapshot)));
        Ok((admission.with_objects(fixed, pool.evaluator(), BTreeSet::new()), extent))
    }
}

/// What can be had of them. `own` are names of policies of files, which decide instead.
async fn read(
    client: &Client,
    vetting: Vetting,
    own: &BTreeSet<String>,
    extent: &mut Extent,
) -> Result<Vec<Registered>> {
    let api = Api::<RegoPolicy>::all(client.clone());
    let pages = ListParams::default().limit(PAGE);
    let read = cluster::listed("read RegoPolicies", &api, &pages, MAX_READ);
    let (mut objects, are_all) = match cluster::patiently("reading RegoPolicies", read).await {
        Ok(read) => read,
        // Ringfence is older than they are.
        Err(error) if is_not_served(&error) => return Ok(Vec::new()),
        Err(error) => {
            let is_forbidden = error.status().is_some_and(kube::core::Status::is_forbidden);
            let which = if is_forbidden {
                ", which the ClusterRole ringfence-policy-view gives by a ClusterRoleBinding"
            } else {
                ""
            };
            extent.gap(format!("{}{which}; --skip-rego-policies leaves them out", told(error)));
            return Ok(Vec::new());
        }
    };
    if !are_all {
        extent.gap(format!("only {MAX_READ} of the RegoPolicies were read"));
    }
    oldest_first(&mut objects);
    objects.retain(|object| !own.contains(&object.name_any()));
    let most = MAX_POLICIES.saturating_sub(own.len());
    let beyond = objects.split_off(objects.len().min(most));
    let (looking, judged): (Vec<_>, Vec<_>) = objects
        .iter()
        .map(declared)
        .partition(|object| !object.spec.inventory.is_empty());
    judged_there(looking.iter().map(|object| object.name.as_str()), extent);
    let mut policies = vetted(judged, vetting, extent).await?;
    // They answer by their failurePolicy, in the cluster too.
    policies.extend(beyond.iter().map(|object| {
        let object = declared(object);
        let why = beyond_most(&object.name).message;
        Registered::broken(object, &why)
    }));
    Ok(policies)
}

fn judged_there<'a>(names: impl Iterator<Item = &'a str>, extent: &mut Extent) {
    let names: Vec<_> = names.collect();
    if !names.is_empty() {
        extent.gap(format!(
            "RegoPolicies with an inventory are judged in the cluster only: {}",
            names.join(", ")
        ));
    }
}

/// Those that children have survived. Of one that is wrong the operator may serve a version that was good before, which nobody
/// else knows.
async fn vetted(objects: Vec<Declared>, vetting: Vetting, extent: &mut Extent) -> Result<Vec<Registered>> {
    if objects.is_empty() {
        return Ok(Vec::new());
    }
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

    fn inventory(&self, _: &[InventoryKind], _: &str) -> Result<regorus::Value, String> {
        Err("an inventory is there in the cluster only".to_owned())
    }

    fn vet(&self, object: Declared, _: Instant) -> BoxFuture<'_, Result<(), Vec<LoadError>>> {
        let why = LoadError::file(&object.name, "only the operator vets what is written");
        Box::pin(ready(Err(vec![why])))
    }
}

#[cfg(test)]
mod tests {
    use axum::http;
    use kube::client::Body;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::vetting::Bounds;

    fn object(name: &str, minute: usize, change: &Value) -> Value {
        let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]});
        let mut spec = json!({
            "validationActions": ["Deny"], "matchConstraints": {"resourceRules": [rule]},
            "rego": {"modules": [{"name": "a.rego", "source": "package a\ndeny contains \"x\""}]},
        });
        for (field, value) in change.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let created = format!("2026-01-01T{:02}:{:02}:00Z", minute / 60, minute % 60);
        json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicy", "spec": spec,
            "metadata": {"name": name, "uid": name, "generation": 1, "creationTimestamp": created},
        })
    }

    /// What is read of an API server that gives that answer, where no child can be started.
    async fn read_of(status: u16, answer: Value) -> (Snapshot, Vec<String>) {
        read_beside(&[], status, answer).await
    }

    /// The same beside policies of files by these names.
    async fn read_beside(own: &[&str], status: u16, answer: Value) -> (Snapshot, Vec<String>) {
        let service = tower::service_fn(move |_: http::Request<Body>| {
            let response = http::Response::builder()
                .status(status)
                .body(Body::from(serde_json::to_vec(&answer).unwrap()));
            ready(response)
        });
        let vetting = Vetting::with("/nowhere".into(), Bounds::default());
        let mut extent = Extent::default();
        let own = own.iter().map(|name| (*name).to_owned()).collect();
        let policies = read(&Client::new(service, "default"), vetting, &own, &mut extent)
            .await
            .unwrap();
        (Snapshot::new(policies.into_iter().map(Arc::new).collect()), extent.gaps)
    }

    fn list(items: &[Value]) -> Value {
        json!({"apiVersion": "ringfence.dev/v1alpha1", "kind": "RegoPolicyList", "metadata": {}, "items": items})
    }

    #[rstest]
    #[case::forbidden(403, "Forbidden", &["ringfence-policy-view", "--skip-rego-policies"], &[])]
    #[case::failing(500, "InternalError", &["cannot read RegoPolicies", "--skip-rego-policies"], &["ringfence-policy-view"])]
    #[tokio::test]
    async fn what_cannot_be_read_is_a_gap(
        #[case] code: u16,
        #[case] reason: &str,
        #[case] says: &[&str],
        #[case] not: &[&str],
    ) {
        let status = json!({"kind": "Status", "status": "Failure", "message": "no", "reason": reason, "code": code});
        let (snapshot, gaps) = read_of(code, status).await;
        assert!(snapshot.policies().is_empty() && gaps.len() == 1, "{gaps:?}");
        assert!(says.iter().all(|words| gaps[0].contains(words)), "{gaps:?}");
        assert!(!not.iter().any(|words| gaps[0].contains(words)), "{gaps:?}");
    }

    #[tokio::test]
    async fn where_the_kind_is_not_served_there_are_none() {
        let status = json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "NotFound", "code": 404});
        let (snapshot, gaps) = read_of(404, status).await;
        assert!(snapshot.policies().is_empty() && gaps.is_empty(), "{gaps:?}");
    }

    #[tokio::test]
    async fn what_cannot_be_judged_here_is_named_and_left_out() {
        let inventory = json!({"inventory": [{"version": "v1", "kind": "ConfigMap", "fields": ["data"]}]});
        let (snapshot, gaps) = read_of(
            200,
            list(&[object("own", 1, &json!({})), object("looks", 2, &inventory)]),
        )
        .await;
        assert!(snapshot.policies().is_empty());
        assert_eq!(
            gaps[0],
            "RegoPolicies with an inventory are judged in the cluster only: looks"
        );
        assert!(
            gaps.len() == 2 && gaps[1].starts_with("RegoPolicy own could not be vetted: "),
            "{gaps:?}"
        );
        let broken = NotVetted::Refused(vec![LoadError::at("p.rego", 2, Some(7), "expecting a rule")]);
        assert_eq!(
            unused("p", &broken),
            "RegoPolicy p is broken, and its condition Compiled says what decides instead: p.rego:2:7: expecting a rule"
        );
    }

    #[tokio::test]
    async fn one_that_has_the_name_of_a_policy_of_files_does_not_decide() {
        let inventory = json!({"inventory": [{"version": "v1", "kind": "ConfigMap", "fields": ["data"]}]});
        let objects = [object("ours", 1, &inventory), object("looks", 2, &inventory)];
        let (_, gaps) = read_beside(&["ours"], 200, list(&objects)).await;
        assert_eq!(
            gaps,
            ["RegoPolicies with an inventory are judged in the cluster only: looks"]
        );
    }

    /// As in the cluster, whatever the order of the list.
    #[tokio::test]
    async fn what_comes_after_the_oldest_answers_by_its_failure_policy() {
        let inventory = json!({"inventory": [{"version": "v1", "kind": "ConfigMap", "fields": ["data"]}]});
        let mut objects = vec![object("youngest", MAX_POLICIES, &json!({}))];
        objects.extend((0..MAX_POLICIES).map(|number| object(&format!("p{number}"), number, &inventory)));
        let (snapshot, _) = read_of(200, list(&objects)).await;
        let left: Vec<_> = snapshot
            .policies()
            .iter()
            .map(|policy| (policy.name(), policy.why_broken().is_some()))
            .collect();
        assert_eq!(left, [("youngest", true)]);
    }
}
