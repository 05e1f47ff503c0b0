//! The operator: what one replica does at a time, and each can do.
//!
//! Must never: outlive its term, or leave figures behind that another replica keeps from then on.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    election::ElectionError,
    reconcile,
    registry::Registry,
    scan::{self, Results, Scanner},
    telemetry::Metrics,
    webhook::{Gate, Readiness},
};

/// What a term needs.
pub(super) struct Operator {
    pub(super) client: Client,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Readiness,
    /// The release namespace.
    pub(super) namespace: String,
    /// Where the chart installs an egress proxy.
    pub(super) egress_proxy: Option<String>,
    /// Whether the chart lets it write policies of Cilium.
    pub(super) writes_cilium: bool,
    /// Whether the chart lets it write ClusterNetworkPolicies.
    pub(super) writes_cluster_policies: bool,
    /// Domains below which names are the cluster's, its own first.
    pub(super) cluster_domains: Vec<String>,
    /// DNS resolvers that names of workflows are asked of; none: the DNS that each class names.
    pub(super) nameservers: Vec<SocketAddr>,
    /// The ValidatingWebhookConfiguration under which writes of our kinds are reviewed.
    pub(super) registration: String,
    /// Of this replica's own pod.
    pub(super) addresses: Vec<IpAddr>,
    /// Policies from files that exceptions may name.
    pub(super) excusable: BTreeSet<String>,
    pub(super) registry: Arc<Registry>,
    pub(super) scanner: Scanner,
    pub(super) scan_period: Duration,
    pub(super) was_ready: AtomicBool,
}

impl Operator {
    /// Another replica makes the fences, or nobody can tell: this one is ready without, because a review rests on none of it.
    pub(super) fn waits(&self, seen: Result<(), &ElectionError>) {
        match seen {
            Ok(()) => {
                self.readiness.set(Gate::Caches, Ok(()));
                self.was_ready.store(true, Ordering::Relaxed);
            }
            Err(error) if !self.was_ready.load(Ordering::Relaxed) => {
                self.readiness.set(Gate::Caches, Err(error.to_string()));
            }
            Err(_) => {}
        }
    }

    /// Makes fences, and scans, until `stop`; or until it is dropped, because the Lease is lost.
    pub(super) async fn term(&self, stop: CancellationToken) {
        let stop = stop.child_token();
        // What runs in threads ends with the term, too.
        let _ends = stop.clone().drop_guard();
        let _figures = Term::begin(&self.metrics);
        let context = reconcile::Context::new(
            self.client.clone(),
            self.metrics.clone(),
            self.namespace.clone(),
            self.registration.clone(),
            self.addresses.clone(),
            self.excusable.clone(),
            self.registry.clone(),
        )
        .with_egress_proxy(self.egress_proxy.clone())
        .with_cilium(self.writes_cilium)
        .with_cluster_policies(self.writes_cluster_policies)
        .with_cluster_domains(self.cluster_domains.clone())
        .with_nameservers(self.nameservers.clone());
        let results = context.scanned();
        let synced = || {
            self.readiness.set(Gate::Caches, Ok(()));
            self.was_ready.store(true, Ordering::Relaxed);
        };
        tokio::join!(
            reconcile::run(Arc::new(context), stop.clone(), synced),
            self.scans(results, stop.clone()),
        );
    }

    async fn scans(&self, results: Arc<Results>, stop: CancellationToken) {
        if self.scan_period.is_zero() {
            return;
        }
        let mut published = self.registry.changes();
        // A scan without the RegoPolicies would call compliant what they refuse.
        let are_served = tokio::select! {
            () = stop.cancelled() => false,
            served = published.wait_for(|published| published.synced) => served.is_ok(),
        };
        if are_served {
            scan::run(
                self.scanner.clone(),
                results,
                self.metrics.clone(),
                self.scan_period,
                stop,
            )
            .await;
        }
    }
}

/// The figures of a term.
struct Term(Arc<Metrics>);

impl Term {
    fn begin(metrics: &Arc<Metrics>) -> Self {
        metrics.set_leader(true);
        Self(Arc::clone(metrics))
    }
}

impl Drop for Term {
    fn drop(&mut self) {
        self.0.set_leader(false);
        self.0.forget_term();
    }
}
