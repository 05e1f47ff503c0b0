//! A watch of what may not be there to be watched: not served, or not allowed.

use futures::{StreamExt, stream::BoxStream};
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use tokio::time::{Instant, sleep_until};

use super::RETRY;

/// What a watch tells.
pub(super) type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

pub(super) fn is_no(code: u16) -> bool {
    matches!(code, 403 | 404)
}

/// Whether the API server said no, rather than that it is away.
pub(super) fn is_refused<K>(event: &watcher::Result<Event<K>>) -> bool {
    use watcher::Error::{InitialListFailed, WatchStartFailed};
    matches!(event, Err(InitialListFailed(kube::Error::Api(status)) | WatchStartFailed(kube::Error::Api(status))) if is_no(status.code))
}

/// A watch that waits after every failure, longer each time.
///
/// Not kube's own back-off: that one forgets what failed with each `Init`, which comes before each list, refused or not.
pub(super) struct Patient<K> {
    /// `None` while it is to be made anew.
    events: Option<Events<K>>,
    make: Box<dyn Fn() -> Events<K> + Send + Sync>,
    backoff: DefaultBackoff,
    until: Option<Instant>,
}

impl<K> Patient<K> {
    pub(super) fn new(make: impl Fn() -> Events<K> + Send + Sync + 'static) -> Self {
        Self {
            events: None,
            make: Box::new(make),
            backoff: DefaultBackoff::default(),
            until: None,
        }
    }

    /// The next event. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> watcher::Result<Event<K>> {
        loop {
            if let Some(until) = self.until {
                sleep_until(until).await;
                self.until = None;
            }
            let event = self.events.get_or_insert_with(&self.make).next().await;
            // Where it may not be watched, a list made anew is what tells of changes, and of the right that is given back.
            if event.as_ref().is_none_or(is_refused) {
                self.events = None;
            }
            if event.as_ref().is_none_or(Result::is_err) {
                self.until = Some(Instant::now() + self.backoff.next().unwrap_or(RETRY));
            }
            if let Some(event) = event {
                return event;
            }
        }
    }
}
