//! How a replica that goes down takes its leave of API servers.
//!
//! They keep connections to webhooks, by HTTP/1.1, and do not repeat a POST: a review that comes where nobody listens any more is lost. The
//! Service's endpoints forget an unready replica a moment later, and on a busy cluster a longer moment. Must never: go on answering beyond
//! what the pod's grace leaves for reviews in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tokio::time::{Duration, Instant, sleep};

use super::Readiness;

/// How long a stopping replica keeps answering at the least, while its Service and whoever obeys that forget it, and API servers leave the
/// connections that they keep.
const LEAST: Duration = Duration::from_secs(10);
/// For how long nobody must have asked anything: somebody who still does has not been told.
const QUIET: Duration = Duration::from_secs(5);
/// And at the most. With what finishing takes (32 s in `ringfence run`) it is less than the chart's `terminationGracePeriodSeconds`.
const MOST: Duration = Duration::from_secs(25);

/// Asks each caller to leave its connection once this replica goes down, and knows when nobody comes any more. Clones are one.
#[derive(Clone, Debug)]
pub struct Parting {
    readiness: Readiness,
    since: Instant,
    /// When somebody last asked something, in milliseconds after `since`.
    asked: Arc<AtomicU64>,
}

impl Parting {
    /// Goes down when `readiness` says so.
    pub fn new(readiness: Readiness) -> Self {
        Self {
            readiness,
            since: Instant::now(),
            asked: Arc::default(),
        }
    }

    /// The routes whose callers are asked to leave.
    pub fn of(&self, routes: Router) -> Router {
        routes.layer(from_fn_with_state(self.clone(), part))
    }

    /// Waits until nobody has asked anything for five seconds, for ten seconds at the least and 25 at the most.
    pub async fn is_over(&self) {
        let begun = Instant::now();
        while let Some(wait) = wait(begun.elapsed(), self.silence()) {
            sleep(wait).await;
        }
    }

    fn silence(&self) -> Duration {
        let asked = Duration::from_millis(self.asked.load(Ordering::Relaxed));
        self.since.elapsed().saturating_sub(asked)
    }
}

async fn part(State(parting): State<Parting>, request: Request, next: Next) -> Response {
    let now = u64::try_from(parting.since.elapsed().as_millis()).unwrap_or(u64::MAX);
    parting.asked.fetch_max(now, Ordering::Relaxed);
    let mut response = next.run(request).await;
    if parting.readiness.is_stopping() {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// How long to wait until it is looked again, where leaving has lasted so long and nobody has asked for so long; `None`: it is over.
fn wait(lasted: Duration, silence: Duration) -> Option<Duration> {
    let least = LEAST.saturating_sub(lasted);
    let quiet = QUIET.saturating_sub(silence).min(MOST.saturating_sub(lasted));
    Some(least.max(quiet)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::begun(0, 60_000, Some(10_000))]
    #[case::nobody_came(10_000, 70_000, None)]
    #[case::somebody_came_early(9_000, 8_000, Some(1_000))]
    #[case::somebody_came_late(10_000, 1_000, Some(4_000))]
    #[case::somebody_comes_again_and_again(24_000, 0, Some(1_000))]
    #[case::for_too_long(25_000, 0, None)]
    #[case::for_much_too_long(60_000, 0, None)]
    fn a_replica_leaves_when_nobody_comes_any_more(
        #[case] lasted: u64,
        #[case] silence: u64,
        #[case] expected: Option<u64>,
    ) {
        let [lasted, silence] = [lasted, silence].map(Duration::from_millis);
        assert_eq!(wait(lasted, silence), expected.map(Duration::from_millis));
    }
}
