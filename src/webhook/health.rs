//! Liveness, readiness and metrics, on a port of their own.
//!
//! Must never: be ready while something that decisions rest on is missing, or dead because the API server is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::telemetry::Metrics;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a replica waits for before it takes requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gate {
    /// The watches have listed everything once.
    Caches,
    /// Served certificate = Secret = trusted by every webhook's `caBundle`.
    Certificate,
    /// Our kinds are served.
    Crds,
    /// Every policy is compiled, or known to be broken.
    Policies,
    /// Every RegoPolicy that is there has been vetted, and this replica hears of changes.
    RegoPolicies,
}

/// What does not keep a replica from answering, and would keep the next one from starting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Concern {
    /// The Secret of somebody else's holds nothing that could be served; what it held before is.
    Certificate,
    /// The file of the CA of clients is of no use; what it held before is.
    ClientAuthentication,
}

/// What this replica still waits for. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Readiness {
    state: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    pending: Vec<(Gate, String)>,
    concerns: Vec<(Concern, String)>,
    stopping: bool,
}

impl Default for Readiness {
    fn default() -> Self {
        let pending = Gate::ALL
            .into_iter()
            .map(|gate| (gate, "not checked yet".to_owned()))
            .collect();
        Self {
            state: Arc::new(Mutex::new(Inner {
                pending,
                concerns: Vec::new(),
                stopping: false,
            })),
        }
    }
}

impl Readiness {
    /// Says that the gate is open, or why it is not.
    pub fn set(&self, gate: Gate, state: Result<(), String>) {
        let mut inner = self.lock();
        inner.pending.retain(|(pending, _)| *pending != gate);
        if let Err(reason) = state {
            inner.pending.push((gate, reason));
        }
    }

    /// Says what to mend while this replica answers all the same, or that it was mended.
    pub fn concern(&self, concern: Concern, reason: Option<String>) {
        let mut inner = self.lock();
        inner.concerns.retain(|(known, _)| *known != concern);
        inner.concerns.extend(reason.map(|reason| (concern, reason)));
    }

    /// Says that this replica goes down: it is never ready again.
    pub fn stop(&self) {
        self.lock().stopping = true;
    }

    /// Whether this replica goes down.
    pub fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Whether every gate is open.
    pub fn is_ready(&self) -> bool {
        let inner = self.lock();
        inner.pending.is_empty() && !inner.stopping
    }

    /// Each gate, and whether it is open.
    pub fn gates(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let pending: Vec<Gate> = self.lock().pending.iter().map(|(gate, _)| *gate).collect();
        let is_open = move |gate: Gate| (gate.as_str(), !pending.contains(&gate));
        Gate::ALL.into_iter().map(is_open)
    }

    fn report(&self) -> Value {
        let inner = self.lock();
        let mut pending: Vec<Value> = Vec::new();
        for gate in Gate::ALL {
            let reasons = inner.pending.iter().filter(|(pending, _)| *pending == gate);
            pending.extend(reasons.map(|(_, reason)| json!({"gate": gate.as_str(), "reason": reason})));
        }
        let mut report =
            json!({"ready": pending.is_empty() && !inner.stopping, "stopping": inner.stopping, "pending": pending});
        let concerns = inner.concerns.iter();
        let concerns: Vec<Value> = concerns
            .map(|(concern, reason)| json!({"about": concern.as_str(), "reason": reason}))
            .collect();
        if let (false, Some(report)) = (concerns.is_empty(), report.as_object_mut()) {
            report.insert("concerns".to_owned(), Value::Array(concerns));
        }
        report
    }

    /// A panic elsewhere leaves whole values behind: each is written at once.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Concern {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::ClientAuthentication => "client-authentication",
        }
    }
}

impl Gate {
    const ALL: [Self; 5] = [
        Self::Crds,
        Self::Caches,
        Self::Policies,
        Self::RegoPolicies,
        Self::Certificate,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Caches => "caches",
            Self::Certificate => "certificate",
            Self::Crds => "crds",
            Self::Policies => "policies",
            Self::RegoPolicies => "rego-policies",
        }
    }
}

/// `/livez`, `/readyz` and `/metrics`.
pub fn health_router(readiness: Readiness, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(readiness.clone()))
        .route("/metrics", get(scrape).with_state((readiness, metrics)))
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    let status = if readiness.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        [(CONTENT_TYPE, "application/json")],
        readiness.report().to_string(),
    )
        .into_response()
}

async fn scrape(State((readiness, metrics)): State<(Readiness, Arc<Metrics>)>) -> Response {
    for (gate, is_open) in readiness.gates() {
        metrics.set_gate(gate, is_open);
    }
    match metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
