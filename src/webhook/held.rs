//! What a request's work holds until it ends, where the end is not known to who waits for the answer.
//!
//! Budgets count what is in memory. An evaluation that is left behind keeps its request there, and so keeps the budget.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Anything that gives back what it holds when it is dropped, with the room that it has for what it is told.
#[derive(Clone)]
pub(super) struct Held {
    _kept: Arc<dyn Any + Send + Sync>,
    room: Arc<Room>,
    until: Instant,
}

tokio::task_local! {
    static HELD: Held;
}

/// What a request may keep of what the API server tells about it.
pub(super) struct Room {
    taken: Mutex<Taken>,
    /// Of its namespace, and of all: more comes out of each.
    rests: [Arc<Semaphore>; 2],
}

struct Taken {
    /// What is still left of what was set aside, in KiB.
    left: usize,
    more: Vec<OwnedSemaphorePermit>,
}

impl Held {
    /// What it is told, it waits for a turn to read until then.
    pub(super) fn new(kept: impl Send + Sync + 'static, room: Room, until: Instant) -> Self {
        Self {
            _kept: Arc::new(kept),
            room: Arc::new(room),
            until,
        }
    }

    /// The same, for what goes on behind the answer: it has its own time to wait.
    pub(super) fn waiting_until(self, until: Instant) -> Self {
        Self { until, ..self }
    }
}

impl Room {
    /// So many KiB are set aside; more comes from the rest of the namespace's and of all, as long as there is some: what one namespace is told must
    /// not leave the others none.
    pub(super) fn new(set_aside: usize, of_namespace: Arc<Semaphore>, all: Arc<Semaphore>) -> Self {
        let taken = Taken {
            left: set_aside,
            more: Vec::new(),
        };
        Self {
            taken: Mutex::new(taken),
            rests: [of_namespace, all],
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let kib = bytes.div_ceil(1024);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = taken.left.checked_sub(kib) {
            taken.left = left;
            return true;
        }
        // Not waited for: what waits holds room that others need.
        let more = u32::try_from(kib - taken.left).unwrap_or(u32::MAX);
        let permits = self
            .rests
            .iter()
            .map(|rest| Arc::clone(rest).try_acquire_many_owned(more));
        let Ok(permits) = permits.collect::<Result<Vec<_>, _>>() else {
            return false;
        };
        taken.left = 0;
        taken.more.extend(permits);
        true
    }
}

/// Does the work of a request, which holds that.
pub(super) async fn holding<T>(held: Held, work: impl Future<Output = T>) -> T {
    HELD.scope(held, work).await
}

/// What the work around holds; `None` where it is no request's, such as a scan's.
pub(super) fn held() -> Option<Held> {
    HELD.try_with(Held::clone).ok()
}

/// Until when the request around waits for others to be read; `None` where there is none around.
pub(super) fn patience() -> Option<Instant> {
    HELD.try_with(|held| held.until).ok()
}

/// Whether the request around has room for so many bytes more, which then are taken until it ends. A scan keeps no budget: it looks at one
/// object after the other.
pub(super) fn has_room(bytes: usize) -> bool {
    HELD.try_with(|held| held.room.take(bytes)).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_request_is_told_comes_out_of_what_is_set_aside_and_then_of_the_rest() {
        let all = Arc::new(Semaphore::new(8));
        let of_namespace = Arc::new(Semaphore::new(100));
        let room = Room::new(2, Arc::clone(&of_namespace), Arc::clone(&all));
        let held = Held::new((), room, Instant::now());
        assert!(has_room(usize::MAX), "no request's");
        let work = async {
            assert!(has_room(1) && has_room(1 << 10));
            assert_eq!(all.available_permits(), 8);
            assert!(!has_room(9 << 10) && has_room(8 << 10));
            assert_eq!(all.available_permits(), 0);
            assert!(!has_room(1));
        };
        holding(held, work).await;
        assert_eq!(all.available_permits(), 8, "given back at the end");
        assert_eq!(of_namespace.available_permits(), 100);
    }

    #[tokio::test]
    async fn what_is_behind_the_answer_has_its_own_patience_and_the_same_room() {
        let rest = || Arc::new(Semaphore::new(1));
        let answered = Instant::now();
        let held = Held::new((), Room::new(1, rest(), rest()), answered);
        let behind = holding(held.clone(), async { self::held().expect("around") }).await;
        let later = answered + std::time::Duration::from_secs(2);
        holding(behind.waiting_until(later), async {
            assert_eq!(patience(), Some(later));
            assert!(has_room(1 << 10));
        })
        .await;
        holding(held, async {
            assert_eq!(patience(), Some(answered));
            assert!(has_room(1 << 10) && !has_room(1), "what is behind took of it");
        })
        .await;
    }

    #[tokio::test]
    async fn what_one_namespace_is_told_comes_out_of_its_part() {
        let [all, one, other] = [100, 8, 8].map(|kib| Arc::new(Semaphore::new(kib)));
        let room = |of: &Arc<Semaphore>| Room::new(0, Arc::clone(of), Arc::clone(&all));
        let (first, second, third) = (room(&one), room(&one), room(&other));
        assert!(first.take(6 << 10) && !second.take(6 << 10));
        assert_eq!(all.available_permits(), 94, "what was refused holds nothing");
        assert!(third.take(6 << 10));
    }
}
