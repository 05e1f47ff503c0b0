//! Logs, the decision line and metrics.
//!
//! Must never: let a caller's text become a metric label, or an object, an env value or key material reach a log.

mod decision_line;
mod egress;
mod log;
mod metrics;

pub use decision_line::{Asked, DecisionLine};
pub use egress::{EgressMetrics, EgressVerdict, NameVerdict};
pub use log::{LogError, LogFormat, init};
pub use metrics::{Controller, Metrics, PolicyAction, PolicyOrigin, PolicyState, resource_label};
