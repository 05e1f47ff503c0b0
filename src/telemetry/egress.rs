//! Metrics of the egress proxy.
//!
//! Must never: take a domain, a workflow, a namespace or a pod as a label: their number is anybody's.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Up to what a connection may take to be made.
const BUCKETS: [f64; 12] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0,
];

/// What became of a connection, or of a request of plain HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EgressVerdict {
    /// It was let through.
    Allowed,
    /// It could not be read, or is not what this proxy is for.
    BadRequest,
    /// Nobody is known by its address.
    UnknownCaller,
    /// It shows no token, and one is required.
    NoToken,
    /// The token that it shows is not its own, or nobody can tell.
    BadToken,
    /// The workflow may not reach what it asks for.
    NotDeclared,
    /// Its TLS handshake is not for the host that it asked for.
    NotForHost,
    /// The name has no address that may be connected to.
    NoAddress,
    /// No address of the name answered.
    Unreachable,
    /// As many are open, or being made, as may be.
    TooMany,
    /// It ended before anything could be said of it.
    Abandoned,
}

impl EgressVerdict {
    /// Every verdict, so that each is there from the start: a rate of what never happened is nothing, and no gap.
    const ALL: [Self; 11] = [
        Self::Allowed,
        Self::BadRequest,
        Self::UnknownCaller,
        Self::NoToken,
        Self::BadToken,
        Self::NotDeclared,
        Self::NotForHost,
        Self::NoAddress,
        Self::Unreachable,
        Self::TooMany,
        Self::Abandoned,
    ];

    /// As metrics and log lines say it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::BadRequest => "bad-request",
            Self::UnknownCaller => "unknown-caller",
            Self::NoToken => "no-token",
            Self::BadToken => "bad-token",
            Self::NotDeclared => "not-declared",
            Self::NotForHost => "not-for-host",
            Self::NoAddress => "no-address",
            Self::Unreachable => "unreachable",
            Self::TooMany => "too-many",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What became of a question for a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NameVerdict {
    /// It is of the cluster, and its DNS has answered.
    PassedOn,
    /// It is none of the cluster's, or asks for what is not done here.
    NotOfCluster,
    /// It could not be read.
    BadRequest,
    /// Nobody is known by its address.
    UnknownCaller,
    /// The cluster's DNS did not answer in time.
    NoAnswer,
    /// As many are under way as may be: it was not answered.
    TooMany,
}

impl NameVerdict {
    const ALL: [Self; 6] = [
        Self::PassedOn,
        Self::NotOfCluster,
        Self::BadRequest,
        Self::UnknownCaller,
        Self::NoAnswer,
        Self::TooMany,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::PassedOn => "passed-on",
            Self::NotOfCluster => "not-of-cluster",
            Self::BadRequest => "bad-request",
            Self::UnknownCaller => "unknown-caller",
            Self::NoAnswer => "no-answer",
            Self::TooMany => "too-many",
        }
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct VerdictLabels {
    verdict: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DirectionLabels {
    direction: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct KindLabels {
    kind: &'static str,
}

/// What the egress proxy counts and measures.
#[derive(Debug)]
pub struct EgressMetrics {
    registry: Registry,
    connections: Family<VerdictLabels, Counter>,
    names: Family<VerdictLabels, Counter>,
    sent: Counter,
    received: Counter,
    open: Gauge,
    connect_seconds: Histogram,
    known: Family<KindLabels, Gauge>,
    answered: Gauge,
    withdrawn: Counter,
    stalled: Counter,
}

impl Default for EgressMetrics {
    fn default() -> Self {
        let bytes: Family<DirectionLabels, Counter> = Family::default();
        let of = |direction| bytes.get_or_create(&DirectionLabels { direction }).clone();
        let metrics = Self {
            registry: Registry::with_prefix("ringfence"),
            connections: Family::default(),
            names: Family::default(),
            sent: of("sent"),
            received: of("received"),
            open: Gauge::default(),
            connect_seconds: Histogram::new(BUCKETS),
            known: Family::default(),
            answered: Gauge::default(),
            withdrawn: Counter::default(),
            stalled: Counter::default(),
        };
        for verdict in EgressVerdict::ALL {
            drop(metrics.connections.get_or_create(&VerdictLabels {
                verdict: verdict.as_str(),
            }));
        }
        for verdict in NameVerdict::ALL {
            drop(metrics.names.get_or_create(&VerdictLabels {
                verdict: verdict.as_str(),
            }));
        }
        metrics.registered(bytes)
    }
}

impl EgressMetrics {
    /// What became of one connection, or of one request of plain HTTP.
    pub fn decided(&self, verdict: EgressVerdict) {
        let labels = VerdictLabels {
            verdict: verdict.as_str(),
        };
        self.connections.get_or_create(&labels).inc();
    }

    /// What became of one question for a name.
    pub fn named(&self, verdict: NameVerdict) {
        let labels = VerdictLabels {
            verdict: verdict.as_str(),
        };
        self.names.get_or_create(&labels).inc();
    }

    /// Bytes that pods have sent.
    pub fn sent(&self, bytes: u64) {
        self.sent.inc_by(bytes);
    }

    /// Bytes that pods have received.
    pub fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    /// One connection of a pod more.
    pub fn opened(&self) {
        self.open.inc();
    }

    /// One connection of a pod less.
    pub fn closed(&self) {
        self.open.dec();
    }

    /// One that was let through may not go on.
    pub fn withdrawn(&self) {
        self.withdrawn.inc();
    }

    /// One ended because an end of it did not take what waited for it.
    pub fn stalled(&self) {
        self.stalled.inc();
    }

    /// How long it took from the request to an open connection, names and addresses and all.
    pub fn connected(&self, duration: Duration) {
        self.connect_seconds.observe(duration.as_secs_f64());
    }

    /// How many objects of a kind decisions rest on.
    pub fn set_known(&self, kind: &'static str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.known.get_or_create(&KindLabels { kind }).set(count);
    }

    /// The API server has just answered.
    pub fn api_server_answered(&self) {
        self.answered.set(Timestamp::now().as_second());
    }

    /// All of it as OpenMetrics text.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    fn registered(mut self, bytes: Family<DirectionLabels, Counter>) -> Self {
        let registry = self.registry.sub_registry_with_prefix("egress");
        registry.register(
            "connections",
            "Connections, and requests of plain HTTP, by what became of them",
            self.connections.clone(),
        );
        registry.register(
            "names",
            "Questions for names, by what became of them",
            self.names.clone(),
        );
        registry.register(
            "withdrawn",
            "Connections that were let through, and ended because they would not be let through any more",
            self.withdrawn.clone(),
        );
        registry.register(
            "stalled",
            "Tunnels that ended because bytes waited in them for an end that took nothing, for too long or in too many",
            self.stalled.clone(),
        );
        registry.register("bytes", "Bytes that pods have sent and received", bytes);
        registry.register(
            "open_connections",
            "Connections of pods that are open",
            self.open.clone(),
        );
        registry.register(
            "connect_duration_seconds",
            "Time from a request to an open connection",
            self.connect_seconds.clone(),
        );
        registry.register("known_objects", "Objects that decisions rest on", self.known.clone());
        registry.register(
            "api_server_last_answer_timestamp_seconds",
            "When the API server last answered: since then, nothing that has changed is known for sure",
            self.answered.clone(),
        );
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_documented() {
        let metrics = EgressMetrics::default();
        metrics.decided(EgressVerdict::Allowed);
        metrics.named(NameVerdict::NotOfCluster);
        metrics.sent(3);
        metrics.opened();
        metrics.withdrawn();
        metrics.connected(Duration::from_millis(1));
        metrics.set_known("pods", 2);
        let text = metrics.encode().unwrap();
        for line in [
            "ringfence_egress_connections_total{verdict=\"allowed\"} 1",
            "ringfence_egress_connections_total{verdict=\"too-many\"} 0",
            "ringfence_egress_names_total{verdict=\"not-of-cluster\"} 1",
            "ringfence_egress_names_total{verdict=\"passed-on\"} 0",
            "ringfence_egress_bytes_total{direction=\"sent\"} 3",
            "ringfence_egress_bytes_total{direction=\"received\"} 0",
            "ringfence_egress_withdrawn_total 1",
            "ringfence_egress_stalled_total 0",
            "ringfence_egress_open_connections 1",
            "ringfence_egress_connect_duration_seconds_count 1",
            "ringfence_egress_known_objects{kind=\"pods\"} 2",
            "ringfence_egress_api_server_last_answer_timestamp_seconds 0",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
    }
}
