//! One size: fill, rest, start anew, change.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use ringfence::api::{AIWorkflow, ConditionStatus, OWNER_LABEL};
use serde_json::{Value, json};
use support::Ringfence;
use support::process::{processor_time, resident};

use crate::calls::Calls;
use crate::say;
use crate::world::{OURS, World, egress, name, namespace};

/// Longest for all of a size to be ready, and to be looked at once more.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Longest for one change.
const SOON: Duration = Duration::from_secs(30);
/// How long nothing is written where nothing is left to write, and the longest that it may take until then.
const SILENT: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(900);
/// Longest until a scan has met each workflow: two periods.
const SCANNED: Duration = Duration::from_secs(700);

#[derive(Clone, Copy, Debug)]
pub struct Size(pub usize);

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub workflows: usize,
    /// From the first declaration until all are ready, in seconds, with the review of each.
    pub filled: f64,
    /// A new process, from its start until it has looked at each workflow, in seconds.
    pub started: f64,
    /// Processor time of that, in seconds.
    pub start_processor: f64,
    /// Its requests to the API server until then.
    pub start_calls: f64,
    /// Its writes until then: nothing has changed.
    pub start_writes: f64,
    /// Requests and writes a minute while nothing changes.
    pub quiet_calls: f64,
    pub quiet_writes: f64,
    /// Of one core, while nothing changes.
    pub quiet_processor: f64,
    /// In KiB: after filling, and of the new process at rest.
    pub filled_resident: u64,
    pub resident: u64,
    /// Nanoseconds from the answer to a change until its NetworkPolicy is seen; sorted.
    pub changes: Vec<u64>,
    /// Requests that one change takes.
    pub change_calls: f64,
    pub change_writes: f64,
    /// Requests that the API server turned away in all that time.
    pub refused: f64,
}

pub async fn size(size: Size, quiet: Duration, changes: usize, began: Instant) -> Result<Row> {
    let Size(workflows) = size;
    let mut row = Row {
        workflows,
        ..Row::default()
    };
    say(began, &format!("{workflows} workflows: namespaces and pods"));
    let world = World::start().await?;
    world.before(workflows).await?;
    let binary = env!("CARGO_BIN_EXE_ringfence");
    // With its scans: they are part of what a cluster at rest costs.
    let ringfence = world.plane.start_ringfence(binary, &Value::Null).await?;
    world.fence(workflows).await?;
    say(began, &format!("{workflows} workflows: declaring"));
    let first = Calls::read(&world.admin).await?;
    let started = Instant::now();
    let ready = all_are_ready(&world, &ringfence, workflows, started, began);
    tokio::try_join!(world.declare(workflows), ready)?;
    row.filled = started.elapsed().as_secs_f64();
    settle(&world).await?;
    row.filled_resident = resident(ringfence.pid()?)?;

    say(began, &format!("{workflows} workflows: starting anew"));
    let (port, metrics_port) = (ringfence.port, ringfence.metrics_port);
    ringfence.kill();
    let before = Calls::read(&world.admin).await?;
    let started = Instant::now();
    let ringfence = world.plane.spawn_ringfence(binary, port, metrics_port).await?;
    all_were_looked_at(&ringfence, workflows, started).await?;
    row.started = started.elapsed().as_secs_f64();
    row.start_processor = processor_time(ringfence.pid()?)?;
    let calls = Calls::read(&world.admin).await?.since(before);
    (row.start_calls, row.start_writes) = (calls.all, calls.writes);
    settle(&world).await?;

    say(began, &format!("{workflows} workflows: at rest"));
    let pid = ringfence.pid()?;
    let (before, processor, started) = (Calls::read(&world.admin).await?, processor_time(pid)?, Instant::now());
    tokio::time::sleep(quiet).await;
    let seconds = started.elapsed().as_secs_f64();
    let calls = Calls::read(&world.admin).await?.since(before);
    row.quiet_calls = calls.all * 60.0 / seconds;
    row.quiet_writes = calls.writes * 60.0 / seconds;
    row.quiet_processor = (processor_time(pid)? - processor) / seconds;
    row.resident = resident(pid)?;

    say(began, &format!("{workflows} workflows: {changes} changes"));
    let (before, started) = (Calls::read(&world.admin).await?, Instant::now());
    row.changes = timed_changes(&world, workflows, changes).await?;
    // What follows a change, the status and its Event, belongs to it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let calls = Calls::read(&world.admin).await?.since(before);
    let at_rest = row.quiet_calls / 60.0 * started.elapsed().as_secs_f64();
    row.change_calls = (calls.all - at_rest) / changes as f64;
    row.change_writes = calls.writes / changes as f64;
    row.refused = Calls::read(&world.admin).await?.since(first).refused;
    Ok(row)
}

async fn figure(ringfence: &Ringfence, series: &str) -> Result<Option<f64>> {
    let (code, text) = ringfence.get("/metrics").await?;
    ensure!(code == 200, "/metrics answers {code}");
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.map(|value| value.parse().context("a figure")).transpose()
}

/// Seen in their statuses: Ringfence's own figure of them is counted by a tick.
async fn all_are_ready(
    world: &World,
    ringfence: &Ringfence,
    workflows: usize,
    started: Instant,
    began: Instant,
) -> Result<()> {
    let seen = watcher(Api::<AIWorkflow>::all(world.admin.clone()), watcher::Config::default()).applied_objects();
    futures::pin_mut!(seen);
    let (mut ready, mut told) = (BTreeSet::new(), Instant::now());
    while ready.len() < workflows {
        if told.elapsed() > Duration::from_secs(30) {
            say(began, &format!("  {} of {workflows} are ready", ready.len()));
            told = Instant::now();
        }
        let next = tokio::time::timeout(PATIENCE.saturating_sub(started.elapsed()), seen.try_next()).await;
        let next = next.with_context(|| {
            format!(
                "{} of {workflows} are ready after {PATIENCE:?}\n{}",
                ready.len(),
                ringfence.tail()
            )
        })?;
        let workflow = next?.context("the watch ended")?;
        let conditions = workflow.status.iter().flat_map(|status| &status.conditions);
        let is_ready = conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == ConditionStatus::True);
        if is_ready {
            ready.insert(workflow.metadata.uid);
        } else {
            ready.remove(&workflow.metadata.uid);
        }
    }
    Ok(())
}

async fn all_were_looked_at(ringfence: &Ringfence, workflows: usize, started: Instant) -> Result<()> {
    loop {
        let looked = figure(ringfence, r#"ringfence_reconcile_total{controller="aiworkflow"}"#).await?;
        if looked.unwrap_or_default() >= workflows as f64 {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            bail!(
                "{looked:?} of {workflows} were looked at after {PATIENCE:?}\n{}",
                ringfence.tail()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until nothing was written for a while, and a scan has told of each workflow: those that it did not meet when it went by wait for the
/// next.
async fn settle(world: &World) -> Result<()> {
    let started = Instant::now();
    while !all_were_scanned(world).await? {
        ensure!(
            started.elapsed() < SCANNED,
            "no scan tells of some workflows after {SCANNED:?}"
        );
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let started = Instant::now();
    let (mut before, mut since) = (Calls::read(&world.admin).await?, Instant::now());
    while since.elapsed() < SILENT {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = Calls::read(&world.admin).await?;
        let writes = now.since(before).writes;
        if writes > 0.0 {
            since = Instant::now();
        }
        ensure!(
            started.elapsed() < SETTLE,
            "writes go on for {SETTLE:?} after the last change: {writes} in the last five seconds"
        );
        before = now;
    }
    Ok(())
}

async fn all_were_scanned(world: &World) -> Result<bool> {
    let api = Api::<AIWorkflow>::all(world.admin.clone());
    let mut page = ListParams::default().limit(500);
    loop {
        let found = api.list(&page).await?;
        let is_told = |workflow: &AIWorkflow| {
            let mut conditions = workflow.status.iter().flat_map(|status| &status.conditions);
            conditions.any(|condition| condition.type_ == "Compliant")
        };
        if !found.items.iter().all(is_told) {
            return Ok(false);
        }
        match found.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(true),
        }
    }
}

async fn timed_changes(world: &World, workflows: usize, changes: usize) -> Result<Vec<u64>> {
    let api = Api::<NetworkPolicy>::all(world.admin.clone());
    let seen = watcher(api, watcher::Config::default().labels(OWNER_LABEL)).applied_objects();
    futures::pin_mut!(seen);
    // The first of them are what is there: a port that no policy has is waited for.
    let mut taken = Vec::with_capacity(changes);
    for change in 0..changes {
        let workflow = change * workflows / changes;
        let port = 1024 + u16::try_from(change).context("too many changes")?;
        let path = format!(
            "{OURS}/namespaces/{}/aiworkflows/{}",
            namespace(workflow),
            name(workflow)
        );
        world
            .patch(&path, &json!({"spec": {"network": {"egress": egress(port)}}}))
            .await?;
        let asked = Instant::now();
        loop {
            let next = tokio::time::timeout(SOON, seen.try_next()).await;
            let next = next.with_context(|| format!("a change of {path} is in no NetworkPolicy after {SOON:?}"))?;
            let policy = next?.context("the watch ended")?;
            if serde_json::to_string(&policy.spec)?.contains(&format!("\"port\":{port}")) {
                break;
            }
        }
        taken.push(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    // The first one waited for the list.
    taken.remove(0);
    taken.sort_unstable();
    Ok(taken)
}
