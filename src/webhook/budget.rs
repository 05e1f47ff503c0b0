//! Room that all reviews share, in KiB.
//!
//! Must never: turn somebody away for good. Who needs more than there is takes all of it, alone.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

pub(super) struct Budget {
    room: Arc<Semaphore>,
    all: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        let all = kib(bytes);
        Self {
            room: Arc::new(Semaphore::new(all)),
            all,
        }
    }

    /// Waits for room, at most until the deadline.
    pub(super) async fn take(&self, kib: usize, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        let weight = u32::try_from(kib.clamp(1, self.all)).unwrap_or(u32::MAX);
        let taken = timeout_at(deadline, Arc::clone(&self.room).acquire_many_owned(weight)).await;
        taken.ok()?.ok()
    }

    /// For work that takes room as it goes.
    pub(super) fn room(&self) -> Arc<Semaphore> {
        Arc::clone(&self.room)
    }
}

pub(super) fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024)
}
