//! What the API server was asked for, as it counts that itself.
//!
//! Must never: count what somebody else asked for as Ringfence's without saying so. Ringfence's own requests have a flow schema of their own,
//! which the chart makes; writes are told apart by resource, of which nobody else writes while they are counted.

use anyhow::Result;
use axum::http::Request;
use kube::Client;
use support::calls::{series, writes};

/// Counters that only grow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    /// Requests of Ringfence's account, its Lease's included.
    pub all: f64,
    /// Writes of what Ringfence writes, by anybody; the Lease is none of it.
    pub writes: f64,
    /// Requests that were turned away with 429, of anybody.
    pub refused: f64,
}

impl Calls {
    pub async fn read(admin: &Client) -> Result<Self> {
        let metrics = admin.request_text(Request::get("/metrics").body(Vec::new())?).await?;
        let mut calls = Self {
            writes: writes(&metrics)?.into_values().sum(),
            ..Self::default()
        };
        for dispatched in series(&metrics, "apiserver_flowcontrol_dispatched_requests_total") {
            if dispatched.label("flow_schema") == Some("ringfence") {
                calls.all += dispatched.value()?;
            }
        }
        for asked in series(&metrics, "apiserver_request_total") {
            if asked.label("code") == Some("429") {
                calls.refused += asked.value()?;
            }
        }
        Ok(calls)
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            all: self.all - before.all,
            writes: self.writes - before.writes,
            refused: self.refused - before.refused,
        }
    }
}
