//! What the API server was asked for, as it counts that itself.
//!
//! Must never: count what somebody else asked for as Ringfence's without saying so. Ringfence's own requests have a flow schema of their own,
//! which the chart makes; writes are told apart by resource, of which nobody else writes while they are counted.

use anyhow::{Context, Result};
use axum::http::Request;
use kube::Client;

/// What Ringfence writes, as its ClusterRole has it. Of its own kinds it writes the status.
const WRITTEN: [&str; 7] = [
    "events",
    "networkpolicies",
    "rolebindings",
    "roles",
    "secrets",
    "serviceaccounts",
    "validatingwebhookconfigurations",
];

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
        let mut calls = Self::default();
        for line in metrics.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, rest)) = line.split_once('{') else {
                continue;
            };
            let label = |label: &str| {
                let (_, rest) = rest.split_once(&format!("{label}=\""))?;
                Some(rest.split_once('"')?.0)
            };
            let value = || -> Result<f64> {
                let (_, value) = line.rsplit_once(' ').context("a series without a value")?;
                value.parse().with_context(|| line.to_owned())
            };
            match name {
                "apiserver_flowcontrol_dispatched_requests_total" if label("flow_schema") == Some("ringfence") => {
                    calls.all += value()?;
                }
                "apiserver_request_total" => {
                    if label("code") == Some("429") {
                        calls.refused += value()?;
                    }
                    if is_write(label("verb"), label("group"), label("resource"), label(",subresource")) {
                        calls.writes += value()?;
                    }
                }
                _ => {}
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

fn is_write(verb: Option<&str>, group: Option<&str>, resource: Option<&str>, subresource: Option<&str>) -> bool {
    let verb = verb.unwrap_or_default();
    if matches!(verb, "GET" | "LIST" | "WATCH" | "CONNECT") {
        return false;
    }
    match group.unwrap_or_default() {
        "ringfence.dev" => subresource == Some("status") || verb == "POST",
        _ => WRITTEN.contains(&resource.unwrap_or_default()) && subresource.unwrap_or_default().is_empty(),
    }
}
