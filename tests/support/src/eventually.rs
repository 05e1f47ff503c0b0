//! Waiting for what becomes true, with a deadline and the last reason why it was not.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

const POLL: Duration = Duration::from_millis(50);

/// Calls `check` until it succeeds and returns what it found. Panics at the deadline with the last error, because "timed
/// out" alone explains nothing.
///
/// # Panics
/// When `check` has not succeeded within `deadline`.
#[track_caller]
pub fn eventually<T, F, Fut>(deadline: Duration, mut check: F) -> impl Future<Output = T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + deadline;
        let mut last = None;
        loop {
            match timeout_at(end, check()).await {
                Ok(Ok(found)) => return found,
                Ok(Err(error)) => last = Some(error),
                Err(_) => break,
            }
            if Instant::now() + POLL >= end {
                break;
            }
            sleep(POLL).await;
        }
        match last {
            Some(error) => panic!("{caller}: not within {deadline:?}: {error:#}"),
            None => panic!("{caller}: no answer within {deadline:?}"),
        }
    }
}
