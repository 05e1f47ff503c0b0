//! Liveness, readiness and metrics of the proxy, on a port of their own.
//!
//! Must never: be ready before everything is known once, or stop being so because the API server is away: what was allowed stays allowed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use super::Callers;
use crate::telemetry::EgressMetrics;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether this replica takes connections. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Health {
    callers: Callers,
    is_stopping: Arc<AtomicBool>,
    metrics: Arc<EgressMetrics>,
}

impl Health {
    /// Ready once all callers are known.
    pub fn new(callers: Callers, metrics: Arc<EgressMetrics>) -> Self {
        Self {
            callers,
            is_stopping: Arc::default(),
            metrics,
        }
    }

    /// Says that this replica goes down: it is never ready again.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }
}

/// `/livez`, `/readyz` and `/metrics`.
pub fn health_router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(health)
}

async fn readyz(State(health): State<Health>) -> Response {
    let is_stopping = health.is_stopping.load(Ordering::Acquire);
    let pending = match health.callers.now().is_whole() {
        true => Vec::new(),
        false => vec![
            json!({"gate": "caches", "reason": "pods, networkpolicies and namespaces have not all been listed yet"}),
        ],
    };
    let is_ready = pending.is_empty() && !is_stopping;
    let status = match is_ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let report = json!({"ready": is_ready, "stopping": is_stopping, "pending": pending});
    (status, [(CONTENT_TYPE, "application/json")], report.to_string()).into_response()
}

async fn scrape(State(health): State<Health>) -> Response {
    match health.metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
