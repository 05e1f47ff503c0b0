//! The line of a connection: who, where, how much, and what was decided. One for each.
//!
//! Must never: hold a host that was not read as one, or a path, a header or a byte of what was carried.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::{Duration, Instant};
use tracing::info;

use super::accounts::now;
use super::connections::Connection;
use super::ports::Port;
use super::relay::Flow;
use crate::egress::{Target, Used, Withdrawn, Workflow};
use crate::telemetry::{EgressMetrics, EgressVerdict};

/// What is known of a connection, or of a request of plain HTTP; told when it ends.
#[derive(Debug)]
pub(super) struct Line {
    metrics: Arc<EgressMetrics>,
    began: Instant,
    address: IpAddr,
    kind: &'static str,
    pub(super) target: Option<Target>,
    pub(super) workflow: Option<Arc<Workflow>>,
    pub(super) rule: Option<String>,
    pub(super) flow: Arc<Flow>,
    /// Where it is counted, once it may be made.
    pub(super) used: Option<Arc<Used>>,
    /// By which the host is reached.
    pub(super) port: Option<Port>,
    /// Once it carries something.
    pub(super) connection: Option<Connection>,
    verdict: EgressVerdict,
    reason: String,
}

impl Line {
    pub(super) fn new(metrics: &Arc<EgressMetrics>, address: IpAddr, kind: &'static str) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            began: Instant::now(),
            address,
            kind,
            target: None,
            workflow: None,
            rule: None,
            flow: Arc::default(),
            used: None,
            port: None,
            connection: None,
            verdict: EgressVerdict::Abandoned,
            reason: String::new(),
        }
    }

    /// What was decided.
    pub(super) fn decided(&mut self, verdict: EgressVerdict, reason: impl ToString) {
        self.verdict = verdict;
        self.reason = reason.to_string();
    }

    /// The connection is open, and nothing but its end is to be told.
    pub(super) fn allowed(&mut self) {
        self.verdict = EgressVerdict::Allowed;
        self.metrics.decided(self.verdict);
        if let Some(used) = &self.used {
            used.began(now());
        }
    }

    /// How long ago the request came.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Why it was withdrawn, if it was.
    pub(super) fn withdrawn(&self) -> Option<Withdrawn> {
        self.connection.as_ref()?.withdrawn()
    }

    /// How an open connection ended, where it did not just end.
    pub(super) fn ended(&mut self, reason: impl ToString) {
        self.reason = reason.to_string();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.verdict != EgressVerdict::Allowed {
            self.metrics.decided(self.verdict);
        }
        if let Some(withdrawn) = self.withdrawn() {
            self.reason = withdrawn.to_string();
        }
        if let Some(used) = &self.used {
            match self.verdict {
                EgressVerdict::Allowed => used.ended(now()),
                EgressVerdict::NoAddress | EgressVerdict::Unreachable | EgressVerdict::NotForHost => used.failed(now()),
                _ => {}
            }
        }
        let workflow = self.workflow.as_deref();
        info!(
            kind = self.kind,
            verdict = self.verdict.as_str(),
            namespace = workflow.map(|workflow| workflow.namespace.as_str()),
            workflow = workflow.map(|workflow| workflow.name.as_str()),
            domain = self.target.as_ref().map(|target| target.host.as_str()),
            port = self.target.as_ref().map(|target| target.port),
            rule = self.rule.as_deref(),
            address = %self.address,
            sent = self.flow.sent(),
            received = self.flow.received(),
            seconds = self.began.elapsed().as_secs_f64(),
            reason = (!self.reason.is_empty()).then_some(self.reason.as_str()),
            "egress"
        );
    }
}
