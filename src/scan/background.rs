//! The operator's own scan: again and again, slowly, for as long as it runs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::access::read_roles;
use super::look::Scanner;
use super::results::Results;
use super::turns::Turns;
use crate::access::Access;
use crate::findings::{Declared, Extent, Finding, Sink, Tally};
use crate::plan::{NamespaceFacts, Tenants};
use crate::telemetry::Metrics;

/// How soon after the start the first scan begins, at the latest.
const FIRST: Duration = Duration::from_secs(10);

/// Scans each `period` until `stop`. Judging does not yield, so each scan has a thread of its own.
pub async fn run(
    scanner: Scanner,
    results: Arc<Results>,
    metrics: Arc<Metrics>,
    period: Duration,
    stop: CancellationToken,
) {
    let mut pause = FIRST.min(period / 10);
    let mut turns = Turns::new(period);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(jittered(pause)) => {}
        }
        pause = period;
        let (scanner, stopped, runtime) = (scanner.clone(), stop.clone(), Handle::current());
        let mut taken = std::mem::replace(&mut turns, Turns::new(period));
        let started = Instant::now();
        let scan = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = stopped.cancelled() => None,
                    scanned = scanned(&scanner, &mut taken) => Some((scanned, taken)),
                }
            })
        });
        match scan.await {
            Ok(Some(((tally, tenants), taken))) => {
                turns = taken;
                results.replace_tenants(tenants);
                done(tally, &results, &metrics, started.elapsed());
            }
            Ok(None) => return,
            Err(error) => warn!(%error, "the scan panicked, and is tried again"),
        }
    }
}

/// What a scan keeps: numbers, a little of each workflow, and who holds more than a tenant.
struct Kept {
    tally: Tally,
    access: Access,
}

impl Sink for Kept {
    fn found(&mut self, finding: Finding) {
        self.tally.found(finding);
    }

    fn namespace(&mut self, namespace: &NamespaceFacts) {
        self.access.namespace(namespace);
    }

    fn binding(&mut self, binding: &Value) {
        self.access.binding(binding);
    }

    fn declared(&mut self, namespace: &str, workflow: &Declared) {
        self.tally.declared(namespace, workflow);
    }

    fn looked_at_namespace(&mut self, namespace: &str, extent: &Extent) {
        self.tally.looked_at_namespace(namespace, extent);
    }

    fn refused_pod(&mut self, namespace: &str, workflow: Option<&str>, name: &str) {
        self.tally.refused_pod(namespace, workflow, name);
    }
}

async fn scanned(scanner: &Scanner, turns: &mut Turns) -> (Tally, Tenants) {
    let mut kept = Kept {
        tally: Tally::default(),
        access: Access::new(scanner.release_namespace()),
    };
    let mut unread = Extent::default();
    read_roles(scanner.lists(), &mut kept.access, true, &mut unread).await;
    let extent = scanner.scan_in_turns(None, Some(turns), &mut kept).await;
    let Kept { mut tally, access } = kept;
    for gap in &unread.gaps {
        warn!(gap, "the scan cannot tell who holds more than a tenant");
    }
    let tenants = access.tenants(unread.gaps.iter().chain(&extent.gaps).next().cloned());
    tally.gap(extent);
    (tally, tenants)
}

fn done(tally: Tally, results: &Results, metrics: &Metrics, duration: Duration) {
    let Tally {
        rules,
        workflows,
        extent,
    } = tally;
    metrics.scanned(&rules, duration, extent.gaps.is_empty());
    for gap in &extent.gaps {
        warn!(gap, "the scan could not look at everything");
    }
    info!(
        objects = extent.looked,
        refused = extent.refused,
        findings = rules.values().sum::<usize>(),
        seconds = duration.as_secs_f64(),
        "scanned what stands"
    );
    results.replace(workflows, extent.gaps.into_iter().next());
}

/// Up to a tenth longer, so that the scans of many clusters do not come together.
fn jittered(base: Duration) -> Duration {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    base + base.mul_f64(f64::from(nanos % 1000) / 10_000.0)
}
