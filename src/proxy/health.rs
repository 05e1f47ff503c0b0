//! Liveness, readiness and metrics of the proxy, on a port of their own, and what it has counted of workflows, to whoever is within its pod.
//!
//! Must never: be ready before everything is known once, or stop being so because the API server is away: what was allowed stays allowed. Nor
//! tell a scraper, or another pod, which workflow asks for what.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use super::{Accounts, Callers};
use crate::telemetry::EgressMetrics;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const JSON: &str = "application/json";
const NOT_FROM_HERE: &str = "ringfence: this names what workflows ask for, and is told within this pod alone: ask by ringfence egress report, or by \
    kubectl port-forward and a URL of localhost.\n";

/// Whether this replica takes connections. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Health {
    callers: Callers,
    is_stopping: Arc<AtomicBool>,
    metrics: Arc<EgressMetrics>,
    accounts: Arc<Accounts>,
}

impl Health {
    /// Ready once all callers are known.
    pub fn new(callers: Callers, metrics: Arc<EgressMetrics>, accounts: Arc<Accounts>) -> Self {
        Self {
            callers,
            is_stopping: Arc::default(),
            metrics,
            accounts,
        }
    }

    /// Says that this replica goes down: it is never ready again.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }
}

/// `/livez`, `/readyz` and `/metrics`; and `/report` for those who come by loopback.
pub fn health_router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .route("/report", get(report))
        .with_state(health)
}

async fn readyz(State(health): State<Health>) -> Response {
    let is_stopping = health.is_stopping.load(Ordering::Acquire);
    let pending = match health.callers.now().is_whole() {
        true => Vec::new(),
        false => vec![
            json!({"gate": "caches", "reason": "pods, networkpolicies, namespaces and classes have not all been listed yet"}),
        ],
    };
    let is_ready = pending.is_empty() && !is_stopping;
    let status = match is_ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let report = json!({"ready": is_ready, "stopping": is_stopping, "pending": pending});
    (status, [(CONTENT_TYPE, JSON)], report.to_string()).into_response()
}

async fn scrape(State(health): State<Health>) -> Response {
    match health.metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn report(
    State(health): State<Health>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    if !is_within(peer.ip(), &headers) {
        return (StatusCode::FORBIDDEN, NOT_FROM_HERE).into_response();
    }
    match serde_json::to_string(&health.accounts.counted()) {
        Ok(text) => ([(CONTENT_TYPE, JSON)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A forwarded port comes by loopback, and takes the right to forward it. A connection that this proxy itself makes for a pod would come by
/// loopback too, where the platform lets domains lead there; but it names a domain, and no loopback address.
fn is_within(peer: IpAddr, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    let host = host.filter(|_| more.is_none()).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    let names_loopback = host.is_some_and(|host| {
        let host = host.host();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    });
    peer.to_canonical().is_loopback() && names_loopback
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::forwarded("127.0.0.1", &["localhost:8080"], true)]
    #[case::forwarded_to_an_address("127.0.0.1", &["127.0.0.1:41234"], true)]
    #[case::by_ipv6("::1", &["[::1]:8080"], true)]
    #[case::on_both_families("::ffff:127.0.0.1", &["localhost"], true)]
    #[case::scraper("10.1.2.3", &["10.1.2.3:8080"], false)]
    #[case::scraper_that_says_so("10.1.2.3", &["localhost:8080"], false)]
    #[case::on_both_families_from_afar("::ffff:10.1.2.3", &["localhost:8080"], false)]
    #[case::through_the_proxy("127.0.0.1", &["rebound.example:8080"], false)]
    #[case::below_localhost("127.0.0.1", &["a.localhost"], false)]
    #[case::no_host("127.0.0.1", &[], false)]
    #[case::two_hosts("127.0.0.1", &["localhost", "rebound.example"], false)]
    fn only_who_is_within_the_pod_is_told(#[case] peer: &str, #[case] hosts: &[&str], #[case] expected: bool) {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        assert_eq!(is_within(peer.parse().unwrap(), &headers), expected);
    }
}
