//! Kubernetes controllers: observe, ask `plan`, apply, say how it went.
//!
//! Must never: decide what a fence is (that is `plan`'s), leave a reconcile without a condition, wait without a deadline, or
//! touch an object whose owner annotation is not ours.

mod account;
mod apply;
mod bindings;
mod bound;
mod calls;
mod ceiling;
mod chart;
mod cilium;
mod class;
mod cluster;
mod cluster_policy;
mod events;
mod exception;
mod grant;
mod interception;
mod known;
mod lean;
mod leaving;
mod names;
mod namespace;
mod patient;
mod plugin_policy;
mod policy;
mod ranges;
mod reach;
mod reads;
mod registration;
mod resolve;
mod resolved;
mod trim;
mod trust;
mod turns;
mod watches;
mod workflow;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    ops::Deref,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::{api::core::v1::Namespace, jiff::Timestamp};
use kube::{
    Client, Resource,
    api::ObjectMeta,
    runtime::{controller::Action, reflector::Store, watcher},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use bindings::Guard;
pub use calls::{CallError, DEADLINE};
use events::Events;
use interception::Interception;
use known::Known;
pub use reads::Reads;

use crate::{
    api::{AIWorkflow, AIWorkflowClass, Condition, ConditionStatus, ConditionType, RegoPolicy, find},
    plan::{Detection, NamespaceFacts},
    registry::Registry,
    scan::Results,
    telemetry::Metrics,
};

/// How often an object is looked at when nothing happened, in case a watch lost something.
const RESYNC: Duration = Duration::from_secs(600);
/// How long to wait after a failure. Jitter is added, so that failures of many objects do not come back together.
const RETRY: Duration = Duration::from_secs(5);
/// The longest to wait for what stays as it is: a thousand objects that cannot be carried out must not keep all others waiting.
const LONGEST_RETRY: Duration = Duration::from_secs(120);
/// How often workflows are counted for the metrics.
const COUNT: Duration = Duration::from_secs(15);
/// Objects in one page of an initial list: each may be as large as an object can be, and a page is in memory at once, as text.
const PAGE: u32 = 10;
/// The same of objects that others may write: even their metadata alone may be as large.
const PAGE_OF_OTHERS: u32 = 4;
/// Reconciles of one controller that run at the same time.
const CONCURRENCY: u16 = 8;

/// What the controllers share.
pub struct Context {
    reads: Reads,
    metrics: Arc<Metrics>,
    events: Events,
    own_addresses: Vec<IpAddr>,
    /// Names of the policies from files that judge objects of namespaces.
    policies: BTreeSet<String>,
    /// The RegoPolicies in force.
    registry: Arc<Registry>,
    interception: watch::Sender<Interception>,
    guard: Guard,
    /// The cluster's own ranges; `None` until something was found out.
    ranges: watch::Sender<Option<Detection>>,
    known: Known,
    scanned: Arc<Results>,
    resolving: resolve::Resolving,
    compared: ceiling::Compared,
}

/// Whatever can be read without a context, a context reads too.
impl Deref for Context {
    type Target = Reads;

    fn deref(&self) -> &Reads {
        &self.reads
    }
}

impl Context {
    /// Builds the context of one process. `registration` names the ValidatingWebhookConfiguration under which writes of our kinds are
    /// reviewed; `own_addresses` are those of its pod, where it is one; `policies` are those from files that judge objects of namespaces.
    pub fn new(
        client: Client,
        metrics: Arc<Metrics>,
        release_namespace: String,
        registration: String,
        own_addresses: Vec<IpAddr>,
        policies: BTreeSet<String>,
        registry: Arc<Registry>,
    ) -> Self {
        Self {
            events: Events::new(client.clone()),
            reads: Reads::new(client, Some(release_namespace), registration),
            metrics,
            policies,
            registry,
            interception: watch::Sender::default(),
            guard: Guard::default(),
            own_addresses,
            ranges: watch::Sender::new(None),
            known: Known::default(),
            scanned: Arc::default(),
            resolving: resolve::Resolving::new(Vec::new()),
            compared: ceiling::Compared::default(),
        }
    }

    /// The same, where an egress proxy is installed in that namespace.
    pub fn with_egress_proxy(mut self, namespace: Option<String>) -> Self {
        self.reads = self.reads.with_egress_proxy(namespace);
        self
    }

    /// The same, where policies of Cilium are Ringfence's to write.
    pub fn with_cilium(mut self, is_allowed: bool) -> Self {
        self.reads = self.reads.with_cilium(is_allowed);
        self
    }

    /// The same, where ClusterNetworkPolicies are Ringfence's to write.
    pub fn with_cluster_policies(mut self, is_allowed: bool) -> Self {
        self.reads = self.reads.with_cluster_policies(is_allowed);
        self
    }

    /// The same, where the cluster's names are below these domains, of which the first is what its kubelets know.
    pub fn with_cluster_domains(mut self, domains: Vec<String>) -> Self {
        self.reads = self.reads.with_cluster_domains(domains);
        self
    }

    /// The same, where names are asked of these, and not of the DNS that a class has pods reach.
    pub fn with_nameservers(mut self, nameservers: Vec<SocketAddr>) -> Self {
        self.resolving = resolve::Resolving::new(nameservers);
        self
    }

    /// Where the scan leaves what it found.
    pub fn scanned(&self) -> Arc<Results> {
        Arc::clone(&self.scanned)
    }
}

/// Runs the controllers until `stop`. `synced` is called once their caches hold what the API server held, and the class
/// `default` is there.
pub async fn run(context: Arc<Context>, stop: CancellationToken, synced: impl FnOnce()) {
    let client = context.client.clone();
    let namespaces = lean::controller::<Namespace>(&client, paged());
    let workflows = trim::controller(&client, trim::workflow);
    let classes = lean::controller::<AIWorkflowClass>(&client, paged());
    let grants = trim::controller(&client, trim::grant);
    let exceptions = trim::controller(&client, trim::exception);
    let policies = lean::controller::<RegoPolicy>(&client, policy::paged());
    let resolved = resolve::controller(&client);
    let caches: [BoxFuture<'_, bool>; 7] = [
        wait(resolved.store()).boxed(),
        wait(policies.store()).boxed(),
        wait(exceptions.store()).boxed(),
        wait(grants.store()).boxed(),
        wait(namespaces.store()).boxed(),
        wait(workflows.store()).boxed(),
        wait(classes.store()).boxed(),
    ];
    let (known_workflows, known_namespaces) = (workflows.store(), namespaces.store());
    context.known.keep(classes.store(), known_workflows.clone());
    let (counted, fenced) = (known_workflows.clone(), known_namespaces.clone());
    let default_made = CancellationToken::new();
    let ready = async {
        if futures::future::join_all(caches).await.into_iter().all(|synced| synced) {
            tokio::select! {
                () = default_made.cancelled() => synced(),
                () = stop.cancelled() => {}
            }
        }
    };
    tokio::join!(
        watches::namespaces(namespaces, context.clone(), stop.clone()),
        watches::workflows(
            workflows,
            known_workflows,
            known_namespaces,
            context.clone(),
            stop.clone()
        ),
        watches::classes(classes, context.clone(), stop.clone()),
        watches::grants(grants, context.clone(), stop.clone()),
        exception::run(exceptions, context.clone(), stop.clone()),
        policy::run(policies, context.clone(), stop.clone()),
        resolve::run(resolved, context.clone(), stop.clone()),
        cluster_policy::run(context.clone(), stop.clone()),
        leaving::run(context.clone(), stop.clone()),
        interception::run(context.clone(), stop.clone()),
        bindings::run(context.clone(), fenced, stop.clone()),
        bound::run(context.clone(), stop.clone()),
        chart::run(context.clone(), stop.clone()),
        ranges::run(context.clone(), stop.clone()),
        class::keep_default(context.clone(), stop.clone(), || default_made.cancel()),
        count_workflows(counted, context, stop.clone()),
        ready,
    );
}

/// In small pages: they are in memory at once.
fn paged() -> watcher::Config {
    crate::watch::config().page_size(PAGE)
}

fn paged_of_others() -> watcher::Config {
    crate::watch::config().page_size(PAGE_OF_OTHERS)
}

async fn wait<K>(store: Store<K>) -> bool
where
    K: Resource + Clone + 'static,
    K::DynamicType: std::hash::Hash + Eq + Clone,
{
    store.wait_until_ready().await.is_ok()
}

/// Keeps the gauge of workflows by condition. By a tick, because counting at each reconcile would cost more with each workflow.
async fn count_workflows(workflows: Store<AIWorkflow>, context: Arc<Context>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(COUNT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let known = workflows.state();
        for type_ in ConditionType::ALL {
            for status in ConditionStatus::ALL {
                let holds = |workflow: &&Arc<AIWorkflow>| {
                    let conditions = workflow.status.as_ref().map_or(&[][..], |status| &status.conditions);
                    find(conditions, type_).map_or(ConditionStatus::Unknown, |condition| condition.status) == status
                };
                context
                    .metrics
                    .set_workflows(type_, status, known.iter().filter(holds).count());
            }
        }
    }
}

fn facts(metadata: &ObjectMeta, exempt: bool) -> NamespaceFacts {
    let name = metadata.name.clone().unwrap_or_default();
    NamespaceFacts {
        exempt,
        uid: metadata.uid.clone().unwrap_or_default(),
        labels: metadata.labels.clone().unwrap_or_default(),
        terminating: metadata.deletion_timestamp.is_some(),
        name,
    }
}

fn on_error<K>(_: Arc<K>, _: &CallError, _: Arc<Context>) -> Action {
    Action::requeue(jittered(RETRY))
}

/// When to look again at what cannot be carried out: after a quarter of the time for which it has stood as it stands. Its conditions tell, so
/// a new start forgets nothing.
fn retry(conditions: &[Condition], now: Timestamp) -> Duration {
    let wanting = conditions
        .iter()
        .filter(|condition| condition.status != ConditionStatus::True);
    let since = wanting
        .filter_map(|condition| condition.last_transition_time.parse::<Timestamp>().ok())
        .max();
    let age = since.map_or(Duration::ZERO, |since| {
        now.duration_since(since).try_into().unwrap_or_default()
    });
    (age / 4).clamp(RETRY, LONGEST_RETRY)
}

/// Up to half as long again, by the clock's nanoseconds: enough to spread, and no source of secrets.
fn jittered(base: Duration) -> Duration {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    base + base.mul_f64(f64::from(nanos % 1000) / 2000.0)
}

fn log<E: std::fmt::Display>(controller: &str, result: Result<(), E>) {
    if let Err(error) = result {
        warn!(controller, %error, "reconcile failed, and is tried again");
    }
}

#[cfg(test)]
mod reading_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: ConditionStatus, since: &str) -> Condition {
        Condition {
            type_: ConditionType::Ready.as_str().to_owned(),
            status,
            observed_generation: Some(1),
            last_transition_time: since.to_owned(),
            reason: "x".to_owned(),
            message: String::new(),
        }
    }

    #[test]
    fn what_is_not_ready_for_long_is_looked_at_seldom() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let (no, yes) = (ConditionStatus::False, ConditionStatus::True);
        for (status, since, seconds) in [
            (no, "2026-01-01T01:00:00Z", 5),
            (no, "2026-01-01T00:59:50Z", 5),
            (no, "2026-01-01T00:58:00Z", 30),
            (no, "2025-01-01T00:00:00Z", 120),
            (no, "2027-01-01T00:00:00Z", 5),
            (no, "soon", 5),
            (yes, "2025-01-01T00:00:00Z", 5),
        ] {
            assert_eq!(retry(&[ready(status, since)], now).as_secs(), seconds, "{since}");
        }
        assert_eq!(retry(&[], now), RETRY);
    }
}
